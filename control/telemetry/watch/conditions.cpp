#include "control/telemetry/watch/conditions.h"

#include "control/policy/requirement.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

std::vector<PolicyCondition> policy_conditions(const std::vector<Running::Row>& rows) {
    std::vector<PolicyCondition> result;
    for (const Running::Row& row : rows) {
        const policy::RequirementText& about = policy::text(row.requirement);
        PolicyCondition& found = result.emplace_back();
        found.kind = sallyport::format("policy_{}", about.id);
        const bool violated = row.evidence.state == policy::State::violated;
        if (!violated && row.evidence.state != policy::State::alarm) continue;
        std::string text = row.evidence.alarms.empty() ? row.evidence.evidence : row.evidence.alarms.front();
        if (row.evidence.alarms.size() > 1) text += sallyport::format(" (and {} more: show policy)", row.evidence.alarms.size() - 1);
        found.conditions.push_back({std::string(about.both), violated ? Severity::critical : Severity::error, std::move(text)});
    }
    return result;
}

std::vector<Alarms::Condition> expiry_conditions(const configuration::Configuration& configuration, std::chrono::system_clock::time_point now) {
    std::vector<Alarms::Condition> result;
    const auto look = [&](const std::string& owner, const configuration::CertificateFiles& files) {
        if (!files.chain) return;
        const auto days = std::chrono::floor<std::chrono::days>(files.chain->not_after - now).count();
        if (days >= static_cast<long>(configuration.expiry_alarm_days)) return;
        const bool expired = files.chain->not_after < now;
        result.push_back({sallyport::format("{} certificate {}", owner, files.certificate.string()), expired ? Severity::critical : Severity::warning,
                          sallyport::format("{} {}", files.chain->subject(),
                                            expired     ? "has expired"
                                            : days == 0 ? std::string("expires within a day")
                                                        : sallyport::format("expires in {} day{}", days, days == 1 ? "" : "s"))});
    };
    for (const auto& service : configuration.services)
        for (const auto& files : service.certificates) look("service " + service.name, files);
    for (const auto& pool : configuration.pools)
        if (pool.tls && pool.tls->identity) look("pool " + pool.name, *pool.tls->identity);
    if (configuration.metrics) look("telemetry.metrics", configuration.metrics->identity);
    if (configuration.flow_log.syslog && configuration.flow_log.syslog->identity) look("flow_log.syslog", *configuration.flow_log.syslog->identity);
    return result;
}

std::vector<Alarms::Condition> member_conditions(const flows::Runtime& runtime) {
    std::vector<Alarms::Condition> result;
    for (const auto& pool : runtime.pools)
        for (std::uint32_t i = 0; i < pool->size(); ++i) {
            const flows::MemberState& member = pool->member(i);
            if (member.up) continue;
            const std::string why = member.why();
            result.push_back({sallyport::format("pool {} member {}", pool->settings().name, pool->settings().members[i].name), Severity::error,
                              why.empty() ? "its health checks fail" : why});
        }
    return result;
}

std::vector<Alarms::Condition> pool_conditions(const flows::Runtime& runtime) {
    std::vector<Alarms::Condition> result;
    for (const auto& pool : runtime.pools) {
        std::uint32_t usable = 0, down = 0;
        for (std::uint32_t i = 0; i < pool->size(); ++i) {
            const flows::MemberState& member = pool->member(i);
            if (!member.up) ++down;
            if (member.up && !pool->drains(i) && pool->settings().members[i].weight != 0) ++usable;
        }
        if (usable == 0)
            result.push_back({"pool " + pool->settings().name, Severity::critical,
                              sallyport::format("no member takes flows: {} of {} down, the others drained or without weight", down, pool->size())});
    }
    return result;
}

std::vector<Alarms::Condition> port_conditions(const DataplaneReport& report) {
    std::vector<Alarms::Condition> result;
    for (const auto& port : report.ports)
        if (!port.link) result.push_back({"port " + port.name, Severity::critical, sallyport::format("{} ({}) has no link", port.device, port.profile)});
    return result;
}

std::vector<Alarms::Condition> BufferWatch::conditions(const DataplaneReport& report) {
    std::vector<Alarms::Condition> result;
    std::set<std::uint32_t> low;
    for (const auto& worker : report.workers) {
        const std::uint64_t share = worker.pool_size == 0 ? 100 : worker.pool_free * 100 / worker.pool_size;
        if (share >= (low_.contains(worker.index) ? 15u : 10u)) continue;
        low.insert(worker.index);
        result.push_back({sallyport::format("worker {}", worker.index), Severity::error,
                          sallyport::format("{} of {} packet buffers are free; more of them by dataplane.buffers", worker.pool_free, worker.pool_size)});
    }
    low_ = std::move(low);
    return result;
}

}  // namespace sallyport::telemetry
