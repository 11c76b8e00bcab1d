#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/policy/requirement.h"
#include "control/revocation/watcher.h"

/// The requirements one by one: what each refuses in a configuration, and what it says of a running appliance. Pure functions of
/// their arguments: any thread.
namespace sallyport::policy {

/// An own certificate that is being served, or shown to members.
struct RunningCertificate {
    std::string object;    ///< "service NAME" or "pool NAME"
    std::string subject, file;
    std::string key_type;
    std::chrono::system_clock::time_point not_after;
};

/// A pinned certificate that a member has shown: of the others nothing but their hash is known.
struct RunningPin {
    std::string pool, subject;
    std::chrono::system_clock::time_point not_after;
};

/// The ECH keys of a service as they stand.
struct RunningEch {
    std::string service;
    std::size_t keys = 0;                 ///< that open, the published one among them
    std::chrono::seconds age{0};          ///< of the published one
    std::uint64_t accepted = 0, grease = 0, rejected = 0;
    std::string why{};                    ///< why the last rotation failed; empty: it did not
};

/// What the dataplane counts and listens at, asked of it for a report.
struct DataplaneEvidence {
    std::uint64_t clear_octets = 0;      ///< of clients, forwarded without their TLS having been ended: must stay 0
    std::uint64_t key_updates = 0;       ///< sent, most of them since a key came near its limit
    std::uint64_t key_limits = 0;        ///< flows ended since a key had reached its limit
    std::uint64_t renegotiations = 0;    ///< refused
    std::vector<std::string> tls, redirects;   ///< listeners' addresses, by what becomes of their octets
    std::vector<std::string> others;     ///< listeners that are neither, or not of this configuration
};

/// A row of the matrix of connections (9.2.2): what speaks with what, and how that is protected.
struct Connection {
    std::string from, to, protection;
    bool encrypted = true;               ///< or never leaves the machine; else the one exception, or a violation
};

/// What runs, gathered by whoever makes the report. A part that is not known stays empty; the evidence then says so or is silent.
struct RunState {
    std::chrono::system_clock::time_point now;
    std::vector<RunningCertificate> certificates{};
    std::vector<revocation::OwnStatus> staples{};
    std::vector<revocation::CrlStatus> crls{};
    std::optional<std::chrono::seconds> ticket_key_age{}; ///< of the key that encrypts; nullopt: no tickets
    std::vector<RunningEch> ech{};
    std::vector<RunningPin> pins{};
    std::array<std::uint64_t, static_cast<std::size_t>(Violation::count_)> violations{};   ///< flows refused or noted, by Violation
    std::optional<DataplaneEvidence> dataplane{};   ///< nullopt: it was not asked, or is away
    std::vector<Connection> connections{};   ///< of parts that have no configuration here: rows of the matrix beyond those of services and pools
    std::uint64_t tls12 = 0, tls13 = 0, other_versions = 0;   ///< handshakes with clients that were completed
    std::vector<std::pair<std::uint16_t, std::uint64_t>> by_suite{}, by_group{};   ///< likewise, by wire id
    std::uint64_t ech_required = 0;       ///< clients that said ech_required (121): their ECH was rejected, and they know
    bool roots_changed = false;           ///< the directory of public roots is no longer what was loaded
};

/// The certificates of a configuration, for RunState.
[[nodiscard]] std::vector<RunningCertificate> running_certificates(const configuration::Configuration& configuration);

enum class State : std::uint8_t { ok, violated, alarm, waived, not_applicable };
/// "ok", "violated", "alarm", "waived", "not applicable".
[[nodiscard]] std::string_view name_of(State state) noexcept;

struct Evidence {
    State state = State::ok;
    std::string evidence;              ///< one sentence or a few, for an auditor
    std::vector<std::string> alarms;   ///< what is wrong now, one each; empty when the state is ok
};

/// One requirement.
struct RequirementModule {
    Requirement requirement;
    /// Adds what a configuration violates. Gates by level itself; a part that could not be read is passed over.
    void (*load)(const configuration::Configuration&, std::vector<configuration::Problem>&);
    /// The running state, at a level where the requirement applies and without regard to waivers.
    Evidence (*run)(const configuration::Configuration&, const RunState&);
};

/// A module for each of SALLYPORT_REQUIREMENTS, defined in requirement_ID.cpp. One without its module does not link.
namespace modules {
#define SALLYPORT_X(name, draft, final, level, title) extern const RequirementModule name;
SALLYPORT_REQUIREMENTS(SALLYPORT_X)
#undef SALLYPORT_X
}  // namespace modules

/// All, in the order of Requirement.
[[nodiscard]] std::span<const RequirementModule* const> requirements() noexcept;

/// The load checks of all: for configuration::LoadOptions::check.
void check_load(const configuration::Configuration& configuration, std::vector<configuration::Problem>& problems);

/// A requirement as the report shows it: "not applicable" below its level; violated when a waiver that it needs has run out; else waived
/// when there is one; else what run() says, where violated comes before waived. Every waiver in force is in the evidence.
[[nodiscard]] Evidence evaluate(const RequirementModule& module, const configuration::Configuration& configuration,
                                const RunState& run);

/// The longest validity that CAs may give to a certificate that begins at `not_before` (CA/Browser Forum, Baseline Requirements 6.3.2).
[[nodiscard]] std::chrono::days longest_validity(std::chrono::system_clock::time_point not_before) noexcept;

}  // namespace sallyport::policy
