#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

/// No waiver: without them nothing could be verified.
void load(const Configuration& configuration, Problems& problems) {
    for (const auto& pool : configuration.pools) {
        if (!pool.tls) continue;
        if (pool.tls->trust.empty() && pool.tls->pins.empty())
            problems.push_back(problem_at(pool.tls->place, "trust", "", "is missing or empty, and there are no pins: no member could be verified",
                                          "trust = [ \"ca.pem\" ] with server_name, or pins", Requirement::r9_2_6, ""));
        // A pin names its certificate by itself: where there is nothing else, no name is needed.
        if (pool.tls->server_name.empty() && (!pool.tls->trust.empty() || pool.tls->pins.empty()))
            problems.push_back(problem_at(pool.tls->place, "server_name", "", "is missing: any certificate of the authorities would do",
                                          "server_name = \"NAME\", or pins and no trust", Requirement::r9_2_6, ""));
    }
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::uint64_t pinned = 0;
    for (const auto& pool : configuration.pools) pinned += pool.tls && !pool.tls->pins.empty() ? 1 : 0;
    return conclude(count_of(pools_with_tls(configuration), "pool") + " with verified members, " + std::to_string(pinned) + " of them with pins; " +
                        refused_text(run, Requirement::r9_2_6), {});
}

}  // namespace

const RequirementModule modules::r9_2_6{Requirement::r9_2_6, load, run};

}  // namespace sallyport::policy
