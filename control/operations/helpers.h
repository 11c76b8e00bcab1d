#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "control/dataplane_link.h"
#include "control/management/command_table.h"
#include "control/management/views.h"

/// What the files of commands share.
namespace sallyport::operations {

using management::Error;
using management::Peer;
using management::Request;
using management::Result;
using management::Role;
using nlohmann::json;

constexpr management::Access kOperator{.least = Role::operator_};
constexpr management::Access kAdministrator{.least = Role::administrator};
/// What a terminal asks again and again, or for completion.
constexpr management::Access kPolled{.least = Role::read_only, .audited = false};

inline constexpr const char* kEchOutcomes[] = {"none", "grease", "accepted", "rejected"};   // of handshake::EchOutcome

/// A report of the dataplane; the error is dataplane_away.
[[nodiscard]] Result ask(DataplaneLink& link, const char* what, const json& arguments = json::object());

/// Empty for never.
[[nodiscard]] std::string time_text(std::chrono::system_clock::time_point time);
/// "TLS 1.3"; empty for none.
[[nodiscard]] std::string version_name(std::uint16_t version);
[[nodiscard]] std::string suite_name(std::uint16_t id);
[[nodiscard]] std::string group_name(std::uint16_t id);
/// Of the version that a suite belongs to; 0: of none.
[[nodiscard]] std::uint16_t version_of_suite(std::uint16_t id);

/// Days from now on, whole ones; negative once it has passed.
[[nodiscard]] std::int64_t days_left(std::chrono::system_clock::time_point until, std::chrono::system_clock::time_point now);

[[nodiscard]] inline std::unexpected<Error> bad_argument(std::string text) { return std::unexpected(Error{"bad_argument", std::move(text)}); }

}  // namespace sallyport::operations
