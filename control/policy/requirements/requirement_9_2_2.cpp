#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    if (!applies(configuration, Requirement::r9_2_2)) return;
    for (const auto& pool : configuration.pools)
        if (!pool.tls)
            problems.push_back(problem_at(pool.place, "tls", "", "is missing: connections to the members would be plain text, which the policy forbids from level 2 on",
                                          "tls: { trust = [ \"ca.pem\" ]; server_name = \"NAME\"; }, or policy level 1", Requirement::r9_2_2, "pool " + pool.name));
}

Evidence run(const Configuration& configuration, const RunState&) {
    const std::uint64_t with_tls = pools_with_tls(configuration);
    const std::uint64_t plain = configuration.pools.size() - with_tls;
    std::string telemetry;
    if (configuration.metrics) telemetry += "; metrics: HTTPS with client certificates at " + configuration.metrics->listen.to_string();
    if (const auto& syslog = configuration.flow_log.syslog; syslog)
        telemetry += "; log records and alarms: syslog over TLS to " + syslog->address.to_string() + " (" + syslog->server_name + ")";
    return conclude("clients: TLS for " + count_of(configuration.services.size(), "service") + "; members: TLS for " + count_of(with_tls, "pool") + ", plain text for " +
                        std::to_string(plain) + "; management: the local socket " + configuration.management_socket.string() +
                        telemetry + "; the one listed exception, OCSP and CRLs over HTTP: signed data", {});
}

}  // namespace

const RequirementModule modules::r9_2_2{Requirement::r9_2_2, load, run};

}  // namespace sallyport::policy
