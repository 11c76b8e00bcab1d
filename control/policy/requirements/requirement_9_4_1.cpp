#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/catalogue.h"
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

/// "a 3, b 1"; "none" for nothing.
template <typename Find>
std::string counts_text(const std::vector<std::pair<std::uint16_t, std::uint64_t>>& counts, Find find) {
    std::string text;
    for (const auto& [id, count] : counts) {
        const auto* const entry = find(id);
        // A resumed session of TLS 1.2 exchanges no keys: group 0.
        text += (text.empty() ? "" : ", ") + (entry != nullptr ? std::string(entry->name) : id == 0 ? std::string("none") : "number " + std::to_string(id)) + " " + std::to_string(count);
    }
    return text.empty() ? "none" : text;
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    for (const auto& [id, count] : run.by_suite)
        if (find_suite(id) == nullptr) alarms.push_back(count_of(count, "handshake") + " with suite number " + std::to_string(id) + ", which is not of the catalogue");
    for (const auto& [id, count] : run.by_group)
        if (id != 0 && find_group(id) == nullptr) alarms.push_back(count_of(count, "handshake") + " with group number " + std::to_string(id) + ", which is not of the catalogue");
    std::vector<std::pair<std::string, std::size_t>> kinds;
    for (const RunningCertificate& certificate : run.certificates) {
        const auto found = std::ranges::find(kinds, certificate.key_type, &std::pair<std::string, std::size_t>::first);
        if (found == kinds.end()) kinds.emplace_back(certificate.key_type, 1);
        else ++found->second;
    }
    std::string keys;
    for (const auto& [kind, count] : kinds) keys += (keys.empty() ? "" : ", ") + std::to_string(count) + " " + kind;
    std::string evidence = "suites, groups and signature schemes of the catalogue only, read back from each handshake; by suite: " +
                           counts_text(run.by_suite, [](std::uint16_t id) { return find_suite(id); }) + "; by group: " +
                           counts_text(run.by_group, [](std::uint16_t id) { return find_group(id); }) + "; own keys: " + (keys.empty() ? "none" : keys) + "; ";
    // Forward secrecy ends where a capture holds the secrets: the auditor must see that it may.
    if (configuration.capture.secrets) evidence += "captures may hold TLS secrets (capture.secrets); ";
    if (run.dataplane)
        evidence += count_of(run.dataplane->key_updates, "KeyUpdate") + " sent, " + count_of(run.dataplane->key_limits, "flow") + " ended at the limit of a key, " +
                    count_of(run.dataplane->renegotiations, "renegotiation") + " refused; ";
    return conclude(evidence + refused_text(run, Requirement::r9_4_1), std::move(alarms), State::violated);
}

}  // namespace

const RequirementModule modules::r9_4_1{Requirement::r9_4_1, load, run};

}  // namespace sallyport::policy
