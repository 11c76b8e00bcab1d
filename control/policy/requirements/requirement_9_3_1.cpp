#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    if (!applies(configuration, Requirement::r9_3_1)) return;
    for (const auto& pool : configuration.pools)
        if (!pool.tls)
            problems.push_back(problem_at(pool.place, "tls", "", "is missing: an internal service would be spoken to without TLS",
                                          "tls: { trust = [ \"ca.pem\" ]; server_name = \"NAME\"; }, or policy level 1", Requirement::r9_3_1, "pool " + pool.name));
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::uint64_t checked = 0;
    for (const auto& pool : configuration.pools) checked += pool.health && pool.tls ? 1 : 0;
    return conclude("TLS to " + std::to_string(pools_with_tls(configuration)) + " of " + count_of(configuration.pools.size(), "pool") + ", health checks through it at " +
                        std::to_string(checked) + "; " + refused_text(run, Requirement::r9_3_1), {});
}

}  // namespace

const RequirementModule modules::r9_3_1{Requirement::r9_3_1, load, run};

}  // namespace sallyport::policy
