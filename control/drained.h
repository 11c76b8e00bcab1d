#pragma once

#include <expected>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "control/configuration/configuration.h"

namespace sallyport {

/// What operators have drained while the appliance runs: services (and redirects) that refuse new connections, members that get no new flows.
/// By name, beside the configuration, until it is enabled again; kept in the state directory, so that neither a restart nor a change of
/// the configuration that keeps the object undoes it. Main thread.
struct Drained {
    std::set<std::string> services;
    std::map<std::string, std::set<std::string>> members;   ///< by pool; no set is empty

    [[nodiscard]] static std::filesystem::path file(const configuration::Configuration& configuration) { return configuration.state_directory / "drained.json"; }
    /// A file that is not there holds nothing. The error says what is wrong with one that is.
    [[nodiscard]] static std::expected<Drained, std::string> load(const std::filesystem::path& file);
    /// Whole or not at all, and on the disk when it returns.
    [[nodiscard]] std::expected<void, std::string> save(const std::filesystem::path& file) const;

    /// Without what the configuration does not have.
    [[nodiscard]] Drained kept_by(const configuration::Configuration& configuration) const;
    [[nodiscard]] bool has(const std::string& pool, const std::string& member) const;
    bool operator==(const Drained&) const = default;
};

}  // namespace sallyport
