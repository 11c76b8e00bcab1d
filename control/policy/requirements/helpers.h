#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "control/policy/requirements/requirements.h"

/// What the modules have in common. For requirement_*.cpp only.
namespace sallyport::policy {

using configuration::Configuration;
using configuration::Problem;
using Problems = std::vector<Problem>;

[[nodiscard]] inline bool applies(const Configuration& configuration, Requirement requirement) {
    return configuration.policy_level >= text(requirement).level;
}

/// A problem with `setting`, a member of the group at `place`, or the group itself when it is empty.
[[nodiscard]] inline Problem problem_at(const configuration::Place& place, std::string_view setting, std::string value, std::string wrong,
                                        std::string right, Requirement requirement, std::string object) {
    std::string path = place.setting;
    if (!setting.empty()) (path += path.empty() ? "" : ".") += setting;
    return {place, std::move(path), std::move(value), std::move(wrong), std::move(right), std::string(text(requirement).both), std::move(object)};
}

/// About an own certificate, wherever it was named.
[[nodiscard]] inline Problem certificate_problem(const configuration::CertificateFiles& files, std::string wrong, std::string right,
                                                 Requirement requirement, std::string object) {
    const bool of_directory = files.place.setting.ends_with("certificate_directory");
    return problem_at(files.place, of_directory ? "" : "certificate", "\"" + files.certificate.filename().string() + "\"", std::move(wrong), std::move(right),
                      requirement, std::move(object));
}

/// "1 pool", "2 pools", "2 addresses".
[[nodiscard]] inline std::string count_of(std::unsigned_integral auto count, std::string_view what) {
    return std::to_string(count) + " " + std::string(what) + (count == 1 ? "" : what.ends_with('s') ? "es" : "s");
}

/// Flows that one of the requirement's violations has ended.
[[nodiscard]] inline std::uint64_t refused(const RunState& run, Requirement requirement) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < run.violations.size(); ++i)
        if (text(static_cast<Violation>(i)).requirement == requirement) sum += run.violations[i];
    return sum;
}

[[nodiscard]] inline std::string refused_text(const RunState& run, Requirement requirement) {
    return count_of(refused(run, requirement), "flow") + " refused";
}

[[nodiscard]] inline std::uint64_t pools_with_tls(const Configuration& configuration) {
    std::uint64_t count = 0;
    for (const auto& pool : configuration.pools) count += pool.tls ? 1 : 0;
    return count;
}

/// ok without alarms, else `otherwise`.
[[nodiscard]] inline Evidence conclude(std::string evidence, std::vector<std::string> alarms, State otherwise = State::alarm) {
    const State state = alarms.empty() ? State::ok : otherwise;
    return {state, std::move(evidence), std::move(alarms)};
}

/// Whole days from now; negative when it has passed.
[[nodiscard]] inline long days_left(std::chrono::system_clock::time_point until, std::chrono::system_clock::time_point now) {
    return static_cast<long>(std::chrono::floor<std::chrono::days>(until - now).count());
}

/// Whether a path lies in a store that the system fills: such a list of anchors is nobody's decision.
[[nodiscard]] bool is_system_store(const Configuration& configuration, const std::filesystem::path& file);

/// Why a list of private anchors is none: the first public root or system path in it. Empty: it is good.
[[nodiscard]] std::string why_not_private(const Configuration& configuration, const std::vector<std::filesystem::path>& files,
                                          const std::vector<std::shared_ptr<X509>>& anchors);

/// Alarms about the end of own certificates whose object begins with `kind` ("service ", "pool "). `first` becomes a clause about the one
/// that ends first. Returns whether one has ended.
bool check_expiry(const Configuration& configuration, const RunState& run, std::string_view kind, std::vector<std::string>& alarms, std::string& first);

}  // namespace sallyport::policy
