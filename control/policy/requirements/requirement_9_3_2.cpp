#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    if (!applies(configuration, Requirement::r9_3_2)) return;
    for (const auto& pool : configuration.pools) {
        if (!pool.tls) continue;
        if (const std::string why = why_not_private(configuration, pool.tls->trust, pool.tls->anchors); !why.empty())
            problems.push_back(problem_at(pool.tls->place, "trust", "", why, "files with internal certification authorities only, or pins", Requirement::r9_3_2,
                                          "pool " + pool.name));
    }
    if (const auto& syslog = configuration.flow_log.syslog; syslog)
        if (const std::string why = why_not_private(configuration, syslog->trust, syslog->anchors); !why.empty())
            problems.push_back(problem_at(syslog->place, "trust", "", why, "files with internal certification authorities only", Requirement::r9_3_2, ""));
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    std::uint64_t anchors = 0, pins = 0;
    bool ended = false;
    for (const auto& pool : configuration.pools) {
        if (!pool.tls) continue;
        pins += pool.tls->pins.size();
        for (const RunningPin& pin : run.pins) {
            if (pin.pool != pool.name) continue;
            const long days = days_left(pin.not_after, run.now);
            const std::string which = "pool " + pool.name + ": the pinned certificate " + pin.subject;
            if (pin.not_after < run.now) {
                ended = true;
                alarms.push_back(which + " has expired");
            } else if (days < static_cast<long>(configuration.expiry_alarm_days)) {
                alarms.push_back(which + " expires in " + std::to_string(days) + (days == 1 ? " day" : " days"));
            }
        }
        for (const auto& anchor : pool.tls->anchors) {
            ++anchors;
            int days = 0, seconds = 0;
            const std::time_t now = std::chrono::system_clock::to_time_t(run.now);
            const openssl::Owner<ASN1_TIME, ASN1_TIME_free> from(ASN1_TIME_set(nullptr, now));
            if (!from || ASN1_TIME_diff(&days, &seconds, from.get(), X509_get0_notAfter(anchor.get())) != 1) continue;
            const std::string which = "pool " + pool.name + ": the anchor " + openssl::name_text(X509_get_subject_name(anchor.get()));
            if (days < 0 || seconds < 0) {
                ended = true;
                alarms.push_back(which + " has expired");
            } else if (days < static_cast<int>(configuration.expiry_alarm_days)) {
                alarms.push_back(which + " expires in " + std::to_string(days) + (days == 1 ? " day" : " days"));
            }
        }
    }
    return conclude(count_of(anchors, "internal anchor") + " and " + count_of(pins, "pin") + ", none of them public; " + refused_text(run, Requirement::r9_3_2),
                    std::move(alarms), ended ? State::violated : State::alarm);
}

}  // namespace

const RequirementModule modules::r9_3_2{Requirement::r9_3_2, load, run};

}  // namespace sallyport::policy
