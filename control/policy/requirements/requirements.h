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

/// The ECH keys of a service as they stand.
struct RunningEch {
    std::string service;
    std::size_t keys = 0;                 ///< that open, the published one among them
    std::chrono::seconds age{0};          ///< of the published one
    std::uint64_t accepted = 0, grease = 0, rejected = 0;
};

/// What runs, gathered by whoever makes the report. A part that is not known stays empty; the evidence then says so or is silent.
struct RunState {
    std::chrono::system_clock::time_point now;
    std::vector<RunningCertificate> certificates{};
    std::vector<revocation::OwnStatus> staples{};
    std::vector<revocation::CrlStatus> crls{};
    std::optional<std::chrono::seconds> ticket_key_age{}; ///< of the key that encrypts; nullopt: no tickets
    std::vector<RunningEch> ech{};
    std::array<std::uint64_t, static_cast<std::size_t>(Violation::count_)> violations{};   ///< flows refused or noted, by Violation
    std::uint64_t clear_octets = 0;       ///< of clients, forwarded without their TLS having been ended: must stay 0
    std::uint64_t tls12 = 0, tls13 = 0;   ///< handshakes with clients that were completed
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
/// when there is one; else what run() says, where violated comes before waived.
[[nodiscard]] Evidence evaluate(const RequirementModule& module, const configuration::Configuration& configuration,
                                const RunState& run);

/// Which rule of 9.4.3 (12.1.4) answers for an own certificate; none: it must not be served.
[[nodiscard]] revocation::Rule revocation_rule(const certificates::CertificateChain& chain) noexcept;

/// The longest validity that CAs may give to a certificate that begins at `not_before` (CA/Browser Forum, Baseline Requirements 6.3.2).
[[nodiscard]] std::chrono::days longest_validity(std::chrono::system_clock::time_point not_before) noexcept;

}  // namespace sallyport::policy
