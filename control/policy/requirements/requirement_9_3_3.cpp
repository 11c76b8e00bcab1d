#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    if (!applies(configuration, Requirement::r9_3_3)) return;
    for (const auto& pool : configuration.pools)
        if (pool.tls && !pool.tls->identity)
            problems.push_back(problem_at(pool.tls->place, "identity", "", "is missing: at level 3 we prove to the members who we are",
                                          "identity: { certificate = \"FILE\"; key = \"FILE\"; } with extendedKeyUsage clientAuth", Requirement::r9_3_3, "pool " + pool.name));
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    std::string first;
    const bool ended = check_expiry(configuration, run, "pool ", alarms, first);
    std::uint64_t identities = 0;
    for (const auto& pool : configuration.pools) identities += pool.tls && pool.tls->identity ? 1 : 0;
    std::string evidence = "a client certificate for " + std::to_string(identities) + " of " + count_of(configuration.pools.size(), "pool") + "; early data off";
    if (run.ticket_key_age) {
        evidence += "; the key of session tickets is " + count_of(static_cast<std::uint64_t>(run.ticket_key_age->count()), "second") + " old";
        // Late by half a period: rotation does not happen.
        if (*run.ticket_key_age > std::chrono::seconds(configuration.tickets.period_s + configuration.tickets.period_s / 2 + 60))
            alarms.push_back("the key of session tickets has not been rotated for more than one and a half of its periods");
    }
    if (!first.empty()) evidence += "; " + first;
    return conclude(evidence + "; " + refused_text(run, Requirement::r9_3_3), std::move(alarms), ended ? State::violated : State::alarm);
}

}  // namespace

const RequirementModule modules::r9_3_3{Requirement::r9_3_3, load, run};

}  // namespace sallyport::policy
