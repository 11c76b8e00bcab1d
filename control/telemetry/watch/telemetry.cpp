#include "control/telemetry/watch/telemetry.h"

#include <exception>

#include "control/daemon/logging.h"
#include "control/management/views_telemetry.h"
#include "control/telemetry/watch/gather.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 1s;
constexpr auto kAsk = 2s;          ///< between two questions to the dataplane: a few hundred microseconds of it each
constexpr auto kAskAgain = 15s;    ///< after it did not answer: asking waits for two seconds each time
constexpr auto kExpiry = 60s;
constexpr auto kAway = 3s;         ///< a restart of the dataplane is no alarm
constexpr auto kFigures = 1s;
constexpr auto kServerAgain = 5s;
constexpr auto kShedOver = 30s;    ///< without another record being shed

management::AlarmView view_of(const Alarm& alarm) {
    const auto time = [](Alarms::Clock::time_point at) { return at == Alarms::Clock::time_point{} ? std::string() : management::iso8601(at); };
    return {alarm.number, alarm.kind, alarm.object, std::string(name(alarm.severity)), alarm.text, time(alarm.raised), time(alarm.cleared)};
}

}  // namespace

Telemetry::Telemetry(Alarms& alarms, FlowLog& flow_log, Running& running, DataplaneLink& link)
    : alarms_(alarms), flow_log_(flow_log), running_(running), link_(link), started_(Clock::now()), attached_last_(started_) {
    follow_configuration();
}

void Telemetry::follow_configuration() {
    looked_at_ = running_.runtime();
    flow_log_.configure(looked_at_->configuration.flow_log, looked_at_->configuration.policy_level);
    server_.reset();
    next_server_ = next_look_ = next_expiry_ = Clock::time_point{};
}

void Telemetry::turn(Clock::time_point now) {
    if (link_.attached()) attached_last_ = now;
    if (looked_at_ != running_.runtime()) follow_configuration();
    if (now >= next_server_) configure(now);
    if (now >= next_look_) look(now);
    if (server_ && server_->wanted()) publish(now);
}

/// The endpoint is made again and again until it can be: its address may come later than we do.
void Telemetry::configure(Clock::time_point now) {
    next_server_ = now + kServerAgain;
    const auto& metrics = running_.configuration().metrics;
    if (server_ || !metrics) {
        alarms_.clear("metrics_away", "", now);
        return;
    }
    try {
        server_ = std::make_unique<MetricsServer>(*metrics, running_.configuration().policy_level);
        daemon::log(daemon::Level::info, "metrics_served", {{"at", metrics->listen.to_string()}});
        alarms_.clear("metrics_away", "", now);
    } catch (const std::exception& error) {
        alarms_.raise("metrics_away", "", Severity::error, error.what(), now);
    }
}

bool Telemetry::ask(bool all, Clock::time_point now) {
    next_ask_ = now + kAsk;
    answers_ = false;
    if (!link_.attached()) {
        report_ = {};
        next_ask_ = now;
        return false;
    }
    try {
        const auto ports = link_.ask("ports");
        const auto workers = ports ? link_.ask("workers", {{"sample", false}}) : ports;   // `show workers` counts from when it was asked last
        const auto counted = !workers || !all ? workers : link_.ask("counters");
        const auto process = !counted || !all ? counted : link_.ask("process");
        if (process) {
            report_.ports = ports->get<std::vector<management::PortView>>();
            report_.workers = workers->get<std::vector<management::WorkerView>>();
            if (all) {
                report_.counters = counted->get<std::vector<management::CounterView>>();
                report_.process = daemon::Usage{process->value("resident_octets", std::uint64_t{0}), std::chrono::microseconds(process->value("cpu_us", std::int64_t{0}))};
            }
            answers_ = true;
        }
    } catch (const nlohmann::json::exception& error) {
        daemon::log(daemon::Level::error, "dataplane_report_unreadable", {{"why", error.what()}});
    }
    if (!answers_) {
        report_ = {};
        next_ask_ = now + kAskAgain;
    }
    return answers_;
}

void Telemetry::look(Clock::time_point now) {
    next_look_ = now + kLook;
    for (const PolicyCondition& policy : policy_conditions(running_.rows())) alarms_.settle(policy.kind, policy.conditions, now);
    if (now >= next_expiry_) {
        next_expiry_ = now + kExpiry;
        alarms_.settle("certificate_expires", expiry_conditions(running_.configuration(), now), now);
    }
    alarms_.settle("member_down", member_conditions(*running_.runtime()), now);
    alarms_.settle("pool_down", pool_conditions(*running_.runtime()), now);
    if (running_.roots_changed())
        alarms_.raise("roots_changed", "", Severity::warning,
                      running_.configuration().public_roots.string() + " is no longer what was loaded: reload to judge by what is there now", now);
    else
        alarms_.clear("roots_changed", "", now);
    if (now - attached_last_ >= kAway)
        alarms_.raise("dataplane_away", "", Severity::critical,
                      link_.refusal().empty() ? "no dataplane is attached" : "the dataplane refuses the configuration: " + link_.refusal(), now);
    else if (link_.attached())
        alarms_.clear("dataplane_away", "", now);
    if (now >= next_ask_) (void)ask(false, now);
    // What is not known is left as it was: a dataplane that is away has an alarm of its own.
    if (answers_) {
        alarms_.settle("port_down", port_conditions(report_), now);
        alarms_.settle("buffers_low", buffers_.conditions(report_), now);
    } else if (!link_.attached()) {
        alarms_.settle("port_down", {}, now);
        alarms_.settle("buffers_low", {}, now);
    }
    look_at_logs(now);
    look_at_audit(now);
}

void Telemetry::look_at_audit(Clock::time_point now) {
    if (audit_ == nullptr) return;
    if (audit_->lost() != audit_lost_)
        alarms_.raise("audit_not_written", "", Severity::critical,
                      sallyport::format("{} entries of the audit log could not be written since the start; administrators' commands are refused meanwhile", audit_->lost()), now);
    else if (audit_->written() != audit_written_)
        alarms_.clear("audit_not_written", "", now);
    audit_lost_ = audit_->lost();
    audit_written_ = audit_->written();
}

void Telemetry::look_at_logs(Clock::time_point now) {
    std::uint64_t shed = 0;
    for (const FlowLog::Status& status : flow_log_.status()) {
        shed += status.shed + status.lost;
        const std::string kind = status.sink == "syslog" ? "syslog_away" : "flow_log_failed";
        const std::string object = status.sink == "syslog" ? "" : status.sink;
        if (status.trouble.empty())
            alarms_.clear(kind, object, now);
        else
            alarms_.raise(kind, object, Severity::error, status.trouble, now);
    }
    if (shed > shed_) {
        alarms_.raise("flow_log_shed", "", Severity::warning, std::to_string(shed) + " records of flows have not been written since the start", now);
        shed_last_ = now;
    } else if (now - shed_last_ >= kShedOver) {
        alarms_.clear("flow_log_shed", "", now);
    }
    shed_ = shed;
}

void Telemetry::publish(Clock::time_point now) {
    // Whoever came while values were being published gets those.
    if (figures_ && now < next_figures_) return server_->publish(figures_);
    next_figures_ = now + kFigures;
    // A dataplane that has not answered is not waited for at each scrape.
    if (answers_ || now >= next_ask_ || !link_.attached()) (void)ask(true, now);
    if (answers_ && dpdk_of_ != link_.pid()) {
        dpdk_of_ = link_.pid();
        if (const auto version = link_.ask("version")) dpdk_ = version->value("dpdk", "");
    }
    const Sources sources{running_, alarms_, flow_log_, report_, link_.attached(), answers_, audit_, answers_ ? dpdk_ : "", started_};
    figures_ = std::make_shared<const Figures>(gather(sources, now));
    server_->publish(figures_);
}

void add_telemetry_commands(management::CommandTable& table, Alarms& alarms) {
    table.add("show alarms", "what is wrong now, and what was", {}, [&alarms](const management::Request&, const management::Peer&) -> management::Result {
        management::AlarmsView view;
        for (const Alarm& alarm : alarms.active()) view.active.push_back(view_of(alarm));
        for (const Alarm& alarm : alarms.recent()) view.recent.push_back(view_of(alarm));
        return view;
    });
}

}  // namespace sallyport::telemetry
