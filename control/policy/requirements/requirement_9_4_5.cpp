#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

/// Holds at each level as soon as clients are asked for certificates: below level 2 nobody has to ask, but who does must do it right.
void load(const Configuration& configuration, Problems& problems) {
    using configuration::ClientAuthMode;
    if (const auto& metrics = configuration.metrics; metrics)
        if (const std::string why = why_not_private(configuration, metrics->clients, metrics->anchors); !why.empty())
            problems.push_back(problem_at(metrics->place, "clients", "", why + ": whoever can buy a certificate could read the metrics",
                                          "files with private certification authorities only", Requirement::r9_4_5, ""));
    for (const auto& service : configuration.services) {
        const configuration::ClientAuth& auth = service.client_auth;
        if (auth.mode == ClientAuthMode::off) {
            if (auth.forward)
                problems.push_back(problem_at(auth.place, "forward", "true", "would forward identities that nobody has verified", "mode = \"required\" or \"optional\"",
                                              Requirement::r9_4_5, ""));
            continue;
        }
        if (auth.trust.empty())
            problems.push_back(problem_at(auth.place, "trust", "", "is missing or empty: no client could be verified", "trust = [ \"clients-ca.pem\" ] with the private authority of the clients",
                                          Requirement::r9_4_5, ""));
        if (const std::string why = why_not_private(configuration, auth.trust, auth.anchors); !why.empty())
            problems.push_back(problem_at(auth.place, "trust", "", why + ": whoever can buy a certificate would be a client", "files with private certification authorities only",
                                          Requirement::r9_4_5, "service " + service.name));
        if (!auth.forward || service.pool >= configuration.pools.size()) continue;
        const configuration::Pool& pool = configuration.pools[service.pool];
        if (!pool.tls || !pool.proxy_protocol)
            problems.push_back(problem_at(auth.place, "forward", "true",
                                          "needs a pool with tls and proxy_protocol, and \"" + pool.name + "\" has no " + (pool.tls ? "proxy_protocol" : "tls"),
                                          "proxy_protocol = true in a pool with tls, or forward = false", Requirement::r9_4_5, ""));
    }
}

Evidence run(const Configuration& configuration, const RunState& run) {
    using configuration::ClientAuthMode;
    std::uint64_t required = 0, optional = 0, forwarding = 0;
    for (const auto& service : configuration.services) {
        required += service.client_auth.mode == ClientAuthMode::required ? 1 : 0;
        optional += service.client_auth.mode == ClientAuthMode::optional ? 1 : 0;
        forwarding += service.client_auth.forward ? 1 : 0;
    }
    if (required + optional == 0) return {State::not_applicable, "no service asks for client certificates", {}};
    std::vector<std::string> alarms;
    for (const revocation::CrlStatus& crl : run.crls)
        if (crl.domain.starts_with("service ") && crl.next_update < run.now)
            alarms.push_back(crl.domain + ": clients are checked against a CRL that is not fresh, " + crl.source);
    return conclude("client certificates: required by " + count_of(required, "service") + ", optional at " + std::to_string(optional) + ", forwarded by " +
                        std::to_string(forwarding) + "; " + refused_text(run, Requirement::r9_4_5), std::move(alarms));
}

}  // namespace

const RequirementModule modules::r9_4_5{Requirement::r9_4_5, load, run};

}  // namespace sallyport::policy
