#pragma once

#include <atomic>
#include <chrono>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/drained.h"
#include "control/flows/handshake_worker.h"
#include "control/flows/runtime.h"
#include "control/handshake/ech_keys.h"
#include "control/policy/requirements/requirements.h"
#include "control/revocation/watcher.h"

namespace sallyport {

/// What control runs: a configuration with everything that is made from it and kept fresh while it runs (ticket and ECH keys,
/// staples, CRLs), its state by the policy, and the change from one configuration to the next in both processes. Main thread.
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

    /// The way to the dataplane. Without one, or while none is attached, changes are control's alone, and the dataplane gets dataplane() when
    /// it attaches.
    struct Dataplane {
        /// As DataplaneLink::configure() and ask().
        std::function<std::expected<void, std::string>(const channel::DataplaneConfiguration&)> configure{};
        std::function<std::expected<nlohmann::json, std::string>(const std::string& what, const nlohmann::json& arguments)> ask{};
    };
    void reach(Dataplane dataplane) { reach_ = std::move(dataplane); }
    /// What the dataplane is to run: what is configured, without the listeners of services that operators have drained.
    [[nodiscard]] const channel::DataplaneConfiguration& dataplane() const noexcept { return dataplane_; }

    [[nodiscard]] const std::shared_ptr<flows::Runtime>& runtime() const noexcept { return runtime_; }
    [[nodiscard]] const configuration::Configuration& configuration() const noexcept { return runtime_->configuration; }
    [[nodiscard]] Clock::time_point loaded() const noexcept { return loaded_; }

    /// What is due: keys rotated, flows checked again after a CRL has changed, alarms raised. Cheap when nothing is; once a turn.
    void turn(Clock::time_point now);
    /// Writes a configuration to where a start finds it. The error is for a person.
    using Keep = std::function<std::expected<void, std::string>()>;

    /// Changes to a checked configuration, all or nothing in both processes. Services, redirects, listeners, pools, members, addresses and routes
    /// of ports, certificates, policy, timers, limits and the log's level may change; what has a name keeps its state by it (counts, health, tickets,
    /// ECH keys, what operators have drained), wherever it stands.
    ///
    /// New flows get the new configuration. Flows that live go on with what was negotiated, at most until their service's idle time-out as it is now;
    /// also those of services, listeners, pools and members that are gone, as they would when a server stops to listen: `end_flows` ends them. Ended
    /// are those whose certificate is no longer trusted or has been revoked, those on an address of ours that is gone, and those of a removed
    /// service whose handshake control had not begun.
    ///
    /// In order: everything is made; handshake workers know of it; the dataplane's workers run it; `keep` writes it down; new flows use it. When a
    /// step fails (OpenSSL refuses, the dataplane refuses or does not answer, `keep` fails) what was done is undone, and the problems say why. So
    /// are settings refused that only a start can change, with FILE:LINE: ports' devices, cores, memory, sockets, user, threads, state directory.
    [[nodiscard]] std::expected<void, std::vector<std::string>> change(configuration::Configuration next, const Keep& keep);
    /// What change() would refuse because only a start can change it; with FILE:LINE.
    [[nodiscard]] std::vector<std::string> fixed_problems(const configuration::Configuration& next) const;
    /// Reads the configuration file again and changes to it. Refused with its problems (FILE:LINE first) when it is bad. Then nothing has changed.
    [[nodiscard]] std::expected<void, std::vector<std::string>> reload();

    /// A member (all of the pool's where `member` is empty) gets no new flows from now on, or gets them again. Kept over restarts and over changes that
    /// keep the member. The error is for a person: there is no such member, the state directory is full, or it drains by the configuration.
    [[nodiscard]] std::expected<void, std::string> drain(std::string_view pool, std::string_view member, bool drain);
    /// A service or redirect refuses new connections (RST) from now on, or takes them again; its flows go on. Kept likewise.
    [[nodiscard]] std::expected<void, std::string> drain_service(std::string_view service, bool drain);
    [[nodiscard]] const Drained& drained() const noexcept { return drained_; }

    /// Which flows are meant; what is empty means any.
    struct FlowFilter {
        std::string service{};   ///< or a redirect
        std::string pool{};
        std::string member{};    ///< of the pool; needs one
        std::string client{};    ///< ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT
        std::string flow{};      ///< id as reports show it: 00-000000-00000000
    };
    /// Ends them, in order as far as their streams allow (EndReason::operator_ended); returns how many. Flows of services and pools that are no longer
    /// configured can be named too. The error is for a person: a filter that cannot be, or no dataplane.
    [[nodiscard]] std::expected<std::uint64_t, std::string> end_flows(const FlowFilter& filter);
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
    /// The same rows as of the last look, some seconds ago at most.
    [[nodiscard]] const std::vector<Row>& rows() const noexcept { return rows_; }
    /// The directory of public roots is no longer what was loaded.
    [[nodiscard]] bool roots_changed() const noexcept { return roots_changed_; }

    /// ECH keys by service; nullptr for those that have none.
    [[nodiscard]] const std::vector<std::shared_ptr<const handshake::EchKeys>>& ech() const noexcept { return ech_; }
    [[nodiscard]] const revocation::Watcher& watcher() const noexcept { return *watcher_; }

    /// What the dataplane says of itself, for the report; nullopt: it is away. Whoever asks it for a report sets this before.
    void set_dataplane(std::optional<policy::DataplaneEvidence> evidence) { dataplane_evidence_ = std::move(evidence); }

 private:
    struct Made {
        std::shared_ptr<revocation::Watcher> watcher;
        std::vector<std::shared_ptr<const handshake::EchKeys>> ech;
        std::vector<std::uint32_t> unsaved;   ///< services whose ECH keys are not what their files hold
        std::shared_ptr<flows::Runtime> runtime;
    };
    [[nodiscard]] Made make(configuration::Configuration configuration, std::shared_ptr<const flows::Runtime> before);
    /// Writes what make() has made and a later start must find. Last: a configuration that is refused leaves no trace. Throws std::runtime_error.
    static void save(const Made& made);
    [[nodiscard]] static channel::DataplaneConfiguration dataplane_of(const configuration::Configuration& configuration, const Drained& drained);
    void drop_prepared();
    void keep_drained(Drained next);
    [[nodiscard]] static handshake::ServerMaterials materials_of(const revocation::Watcher& watcher, std::uint32_t service,
                                                                 std::shared_ptr<const handshake::EchKeys> ech);
    void watch();
    void rotate_ech(Clock::time_point now);
    void judge(Clock::time_point now);

    Workers& workers_;
    Dataplane reach_;
    Drained drained_;
    channel::DataplaneConfiguration dataplane_;
    std::shared_ptr<revocation::Watcher> watcher_;
    std::vector<std::shared_ptr<const handshake::EchKeys>> ech_;
    std::shared_ptr<flows::Runtime> runtime_;
    Clock::time_point loaded_;
    bool started_ = false;
    std::shared_ptr<std::atomic<bool>> revocation_changed_ = std::make_shared<std::atomic<bool>>(false);
    Clock::time_point next_minute_{}, next_judgement_{};
    bool roots_changed_ = false;
    std::optional<policy::DataplaneEvidence> dataplane_evidence_;
    std::vector<std::string> ech_why_;   ///< by service: why its keys could not be rotated
    std::vector<Row> rows_;
};

}  // namespace sallyport
