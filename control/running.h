#pragma once

#include <atomic>
#include <chrono>
#include <expected>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/flows/handshake_worker.h"
#include "control/flows/runtime.h"
#include "control/handshake/ech_keys.h"
#include "control/policy/requirements/requirements.h"
#include "control/revocation/watcher.h"

namespace sallyport {

/// What control runs: a configuration with everything that is made from it and kept fresh while it runs (ticket and ECH keys,
/// staples, CRLs), its state by the policy, and the change from one configuration to the next. Main thread.
class Running {
 public:
    using Clock = std::chrono::system_clock;
    using Workers = std::vector<std::unique_ptr<flows::HandshakeWorker>>;

    /// Makes everything from a checked configuration. Throws std::runtime_error saying what was refused (OpenSSL, the state directory).
    Running(configuration::Configuration configuration, Workers& workers);
    ~Running();
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    /// Begins to fetch staples and CRLs. Once, after privileges have been dropped.
    void start();

    [[nodiscard]] const std::shared_ptr<flows::Runtime>& runtime() const noexcept { return runtime_; }
    [[nodiscard]] const configuration::Configuration& configuration() const noexcept { return runtime_->configuration; }
    [[nodiscard]] Clock::time_point loaded() const noexcept { return loaded_; }

    /// What is due: keys rotated, flows checked again after a CRL has changed, alarms raised. Cheap when nothing is; once a turn.
    void turn(Clock::time_point now);
    /// Reads the configuration file again and changes to it: certificates, keys, policy, revocation, client CAs, limits. New flows get the
    /// new one, flows that live go on; those whose certificate is no longer trusted or has been revoked are ended. Refused with its problems
    /// (FILE:LINE first) when it is bad, or when it changes what only a start can: ports, cores, sockets, services' listeners, pools' members.
    /// Then nothing has changed.
    [[nodiscard]] std::expected<void, std::vector<std::string>> reload();
    /// Staples and CRLs are fetched now.
    void refresh_revocation();

    /// A requirement as the auditor sees it.
    struct Row {
        policy::Requirement requirement;
        policy::Evidence evidence;
        Clock::time_point since;   ///< of its state
    };
    /// All, as of `now`.
    [[nodiscard]] const std::vector<Row>& policy(Clock::time_point now);
    [[nodiscard]] policy::RunState run_state(Clock::time_point now) const;

    /// ECH keys by service; nullptr for those that have none.
    [[nodiscard]] const std::vector<std::shared_ptr<const handshake::EchKeys>>& ech() const noexcept { return ech_; }
    [[nodiscard]] const revocation::Watcher& watcher() const noexcept { return *watcher_; }

    /// Octets of clients that went on without their TLS having been ended, as the dataplane counts them; for the report.
    void set_clear_octets(std::uint64_t octets) noexcept { clear_octets_ = octets; }

 private:
    struct Made {
        std::shared_ptr<revocation::Watcher> watcher;
        std::vector<std::shared_ptr<const handshake::EchKeys>> ech;
        std::shared_ptr<flows::Runtime> runtime;
    };
    [[nodiscard]] Made make(configuration::Configuration configuration, std::shared_ptr<const flows::Runtime> before);
    [[nodiscard]] static handshake::ServerMaterials materials_of(const std::shared_ptr<revocation::Watcher>& watcher, std::uint32_t service,
                                                                 std::shared_ptr<const handshake::EchKeys> ech);
    void watch();
    void rotate_ech(Clock::time_point now);
    void judge(Clock::time_point now);

    Workers& workers_;
    std::shared_ptr<revocation::Watcher> watcher_;
    std::vector<std::shared_ptr<const handshake::EchKeys>> ech_;
    std::shared_ptr<flows::Runtime> runtime_;
    Clock::time_point loaded_;
    bool started_ = false;
    std::shared_ptr<std::atomic<bool>> revocation_changed_ = std::make_shared<std::atomic<bool>>(false);
    Clock::time_point next_minute_{}, next_judgement_{};
    bool roots_changed_ = false;
    std::uint64_t clear_octets_ = 0;
    std::vector<Row> rows_;
};

}  // namespace sallyport
