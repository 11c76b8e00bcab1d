#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

/// What can be written is a choice of the schema; here for configurations that come from elsewhere.
void load(const Configuration& configuration, Problems& problems) {
    using configuration::TlsVersion;
    const auto check = [&](const std::vector<TlsVersion>& versions, const configuration::Place& place, const std::string& object) {
        if (versions.size() > 1 && (versions.front() != TlsVersion::tls13 || versions.size() > 2))
            problems.push_back(problem_at(place, "versions", "", "does not prefer the newest version", "[ \"1.3\", \"1.2\" ]", Requirement::r9_4_2, object));
    };
    for (const auto& service : configuration.services) check(service.versions, service.place, "");
    for (const auto& pool : configuration.pools)
        if (pool.tls) check(pool.tls->versions, pool.tls->place, "");
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::uint64_t with_tls12 = 0;
    for (const auto& service : configuration.services) with_tls12 += std::ranges::contains(service.versions, configuration::TlsVersion::tls12) ? 1 : 0;
    const std::uint64_t all = run.tls12 + run.tls13 + run.other_versions;
    std::vector<std::string> alarms;
    if (run.other_versions > 0) alarms.push_back(count_of(run.other_versions, "handshake") + " with a version that is neither TLS 1.2 nor 1.3");
    return conclude("TLS 1.3 preferred; 1.2 allowed by " + count_of(with_tls12, "service") + ", used by " + std::to_string(run.tls12) + " of " + count_of(all, "handshake") +
                        "; " + refused_text(run, Requirement::r9_4_2), std::move(alarms), State::violated);
}

}  // namespace

const RequirementModule modules::r9_4_2{Requirement::r9_4_2, load, run};

}  // namespace sallyport::policy
