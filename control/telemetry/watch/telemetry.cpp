#include "control/telemetry/watch/telemetry.h"

#include "control/management/views_telemetry.h"

namespace sallyport::telemetry {

namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 1s;
constexpr auto kAsk = 2s;          ///< between two questions to the dataplane: a few hundred microseconds of it each
constexpr auto kAskAgain = 15s;    ///< after it did not answer: asking waits for two seconds each time
constexpr auto kExpiry = 60s;
constexpr auto kAway = 3s;         ///< a restart of the dataplane is no alarm

management::AlarmView view_of(const Alarm& alarm) {
    const auto time = [](Alarms::Clock::time_point at) { return at == Alarms::Clock::time_point{} ? std::string() : management::iso8601(at); };
    return {alarm.number, alarm.kind, alarm.object, std::string(name(alarm.severity)), alarm.text, time(alarm.raised), time(alarm.cleared)};
}

}  // namespace

Telemetry::Telemetry(Alarms& alarms, Running& running, DataplaneLink& link, Workers& workers)
    : alarms_(alarms), running_(running), link_(link), workers_(workers), attached_last_(Clock::now()) {}

bool Telemetry::ask(const char* what, nlohmann::json& answer) {
    auto answered = link_.ask(what);
    if (!answered) return false;
    answer = std::move(*answered);
    return true;
}

void Telemetry::turn(Clock::time_point now) {
    if (link_.attached()) attached_last_ = now;
    if (now >= next_look_ || looked_at_ != running_.runtime().get()) look(now);
}

void Telemetry::look(Clock::time_point now) {
    next_look_ = now + kLook;
    const bool changed = std::exchange(looked_at_, running_.runtime().get()) != running_.runtime().get();
    for (const PolicyCondition& policy : policy_conditions(running_.rows())) alarms_.settle(policy.kind, policy.conditions, now);
    if (changed || now >= next_expiry_) {
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
    if (!link_.attached()) {
        report_ = {};
        next_ask_ = now;
    } else if (now >= next_ask_) {
        next_ask_ = now + kAsk;
        nlohmann::json ports, workers;
        if (ask("ports", ports) && ask("workers", workers)) {
            report_.ports = ports.get<std::vector<management::PortView>>();
            report_.workers = workers.get<std::vector<management::WorkerView>>();
        } else {
            next_ask_ = now + kAskAgain;
        }
    }
    alarms_.settle("port_down", port_conditions(report_), now);
    alarms_.settle("buffers_low", buffers_.conditions(report_), now);
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
