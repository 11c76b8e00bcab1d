#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/key_strength.h"
#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

/// Suites, groups and signature schemes are no settings: the catalogue is all there is. Own keys are.
void load(const Configuration& configuration, Problems& problems) {
    const auto check = [&](const configuration::CertificateFiles& files, const std::string& object) {
        if (!files.chain) return;
        if (const auto weakness = check_own_key(files.chain->key.get(), configuration.policy_level))
            problems.push_back(certificate_problem(files, (files.place.setting.ends_with("certificate_directory") ? files.certificate.filename().string() + ": " : "") + "the certificate " + weakness->wrong, weakness->right, Requirement::r9_4_1, object));
    };
    for (const auto& service : configuration.services)
        for (const auto& files : service.certificates) check(files, "service " + service.name);
    for (const auto& pool : configuration.pools)
        if (pool.tls && pool.tls->identity) check(*pool.tls->identity, "pool " + pool.name);
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::pair<std::string, std::size_t>> kinds;
    for (const RunningCertificate& certificate : run.certificates) {
        const auto found = std::ranges::find(kinds, certificate.key_type, &std::pair<std::string, std::size_t>::first);
        if (found == kinds.end()) kinds.emplace_back(certificate.key_type, 1);
        else ++found->second;
    }
    std::string keys;
    for (const auto& [kind, count] : kinds) keys += (keys.empty() ? "" : ", ") + std::to_string(count) + " " + kind;
    // Forward secrecy ends where a capture holds the secrets: the auditor must see that it may.
    const std::string captures = configuration.capture.secrets ? "; captures may hold TLS secrets (capture.secrets)" : "";
    return conclude("suites, groups and signature schemes of the catalogue only, read back from each handshake; own keys: " + (keys.empty() ? "none" : keys) + captures + "; " +
                        refused_text(run, Requirement::r9_4_1), {});
}

}  // namespace

const RequirementModule modules::r9_4_1{Requirement::r9_4_1, load, run};

}  // namespace sallyport::policy
