#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/flows/brake.h"
#include "control/flows/failures.h"
#include "control/handshake/handshake.h"
#include "control/policy/requirement.h"

/// What control runs from one configuration, shared by its threads.
namespace sallyport::flows {

/// Takes one from a count that never falls below nought, whatever the dataplane says twice.
inline void take_one(std::atomic<std::uint64_t>& count) noexcept {
    std::uint64_t now = count;
    while (now != 0 && !count.compare_exchange_weak(now, now - 1)) {
    }
}

/// A member of a pool as it is now; it is the same in every runtime that has a member of this name in a pool of this name. Counters by any
/// thread; health by the thread that checks it.
struct MemberState {
    std::atomic<bool> up{true};
    std::atomic<bool> drain{false};            ///< by an operator, whatever the configuration says; see Pool::drains()
    std::atomic<std::uint64_t> flows_now{0};
    std::atomic<std::uint64_t> flows_total{0};
    std::atomic<std::uint64_t> failures{0};
    std::atomic<std::int64_t> last_check{0};   ///< system clock, seconds since the epoch; 0: never

    void set_why(std::string why) {
        const std::lock_guard lock(mutex_);
        why_ = std::move(why);
    }
    [[nodiscard]] std::string why() const {
        const std::lock_guard lock(mutex_);
        return why_;
    }

 private:
    mutable std::mutex mutex_;
    std::string why_;   ///< what went wrong last, for a person
};

/// A pool: its configuration, its TLS context, and which member the next flow gets. Any thread.
class Pool {
 public:
    /// `before`: the pool of the same name that this one is to take over from; nullptr: none. Members of the same name keep counts and health.
    /// What both share is not changed before take_effect().
    Pool(const configuration::Configuration& configuration, std::uint32_t index, handshake::ClientMaterials materials = {},
         const Pool* before = nullptr);
    /// From now on this pool is the one of its name: a member that nobody checks, or that stands at another address now, is up.
    void take_effect();

    [[nodiscard]] const configuration::Pool& settings() const noexcept { return settings_; }
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }   ///< channel::pool_id()
    [[nodiscard]] std::uint64_t member_id(std::uint32_t index) const noexcept { return member_ids_[index]; }
    [[nodiscard]] std::optional<std::uint32_t> find_member(std::uint64_t id) const noexcept;
    /// The member gets no new flows, by the configuration or by an operator.
    [[nodiscard]] bool drains(std::uint32_t index) const noexcept { return settings_.members[index].drain || members_[index]->drain; }
    /// nullptr for a plain-text pool.
    [[nodiscard]] const std::shared_ptr<handshake::ClientContext>& context() const noexcept { return context_; }
    /// The gate of connections to members (9.2.2 (12.3.1)): whether one without TLS may be used at `now`. Below level 2, or while waivers of both
    /// 9.2.2 and 9.3.1 for the pool are in force; whatever the check at load has let pass.
    [[nodiscard]] bool may_be_plain(std::chrono::system_clock::time_point now) const noexcept { return now <= plain_until_; }
    /// What its members' certificates are checked against while flows live; nullptr: none.
    [[nodiscard]] const std::shared_ptr<const revocation::CrlSet>& crls() const noexcept { return crls_; }
    [[nodiscard]] MemberState& member(std::uint32_t index) noexcept { return *members_[index]; }
    [[nodiscard]] const MemberState& member(std::uint32_t index) const noexcept { return *members_[index]; }
    [[nodiscard]] std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(members_.size()); }

    /// The member for a new flow: up, not draining, none of `tried`; by weighted round robin, or with the fewest flows for its
    /// weight. Counts the flow on it. nullopt when there is none.
    [[nodiscard]] std::optional<std::uint32_t> choose(std::span<const std::uint32_t> tried);
    /// A flow that choose() counted is gone.
    void leave(std::uint32_t member) noexcept;
    /// Flows that another control had counted (they outlived it).
    void adopt(std::uint32_t member, std::uint64_t flows) noexcept;

 private:
    configuration::Pool settings_;
    std::uint64_t id_;
    std::vector<std::uint64_t> member_ids_;
    std::vector<bool> moved_;   ///< members that stood at another address before
    std::chrono::system_clock::time_point plain_until_;
    std::shared_ptr<const revocation::CrlSet> crls_;
    std::shared_ptr<handshake::ClientContext> context_;
    std::vector<std::shared_ptr<MemberState>> members_;   ///< shared with the pool that takes over, while flows of both live
    std::vector<std::uint32_t> schedule_;   ///< round robin: members as often as their weight, interleaved
    std::atomic<std::uint64_t> next_{0};
};

/// Counts of one service's handshakes. Any thread.
struct ServiceState {
    std::atomic<std::uint64_t> flows_now{0}, flows_total{0}, handshakes_done{0}, handshakes_failed{0}, resumed{0};

    void count_done(const handshake::Negotiated& negotiated);
    void count_failed(channel::EndReason reason);
    /// A client that ended its handshake because its Encrypted ClientHello was rejected.
    void count_rejected_ech() noexcept { ++ech[static_cast<std::size_t>(handshake::EchOutcome::rejected)]; }
    void count(policy::Violation violation) noexcept { ++violations[static_cast<std::size_t>(violation)]; }
    /// A flow that was counted in flows_now is gone.
    void leave() noexcept { take_one(flows_now); }
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(policy::Violation::count_)> violations{};
    std::array<std::atomic<std::uint64_t>, 4> ech{};   ///< handshakes done, by handshake::EchOutcome
    std::atomic<std::uint64_t> ech_required{0};        ///< of those rejected: the client said ech_required (RFC 9849 11.2: alert 121)
    /// What a handshake that was done agreed on.
    struct Kind {
        std::uint16_t version = 0, suite = 0, group = 0;
        bool resumed = false;
        bool operator==(const Kind&) const = default;
    };
    struct Counts {
        std::vector<std::pair<Kind, std::uint64_t>> by_kind;
        std::vector<std::pair<std::uint16_t, std::uint64_t>> by_version, by_suite, by_group;
        std::vector<std::pair<channel::EndReason, std::uint64_t>> by_failure;
    };
    [[nodiscard]] Counts counts() const;

 private:
    mutable std::mutex mutex_;
    Counts counts_;
};

struct Service {
    explicit Service(std::shared_ptr<ServiceState> counts = std::make_shared<ServiceState>()) : kept(std::move(counts)), state(*kept) {}
    configuration::Service settings;
    std::uint64_t id = 0;   ///< channel::service_id()
    std::atomic<std::shared_ptr<const handshake::ServerContext>> context;   ///< replaced when its ECH keys are; a handshake keeps what it began with
    std::shared_ptr<const revocation::CrlSet> client_crls;   ///< nullptr: none
    SigningKeys keys;
    std::shared_ptr<ServiceState> kept;   ///< shared with the runtime that takes over
    ServiceState& state;
};

/// Counts of one redirect. Any thread.
struct RedirectState {
    std::atomic<std::uint64_t> flows_now{0}, flows_total{0};
    std::atomic<std::uint64_t> redirected{0};   ///< answered with 308
    std::atomic<std::uint64_t> refused{0};      ///< answered with 400, too slow, or closed before there was a request
};

/// A listener for plain HTTP.
struct Redirect {
    explicit Redirect(std::shared_ptr<RedirectState> counts = std::make_shared<RedirectState>())
        : kept(std::move(counts)), flows_now(kept->flows_now), flows_total(kept->flows_total), redirected(kept->redirected), refused(kept->refused) {}
    configuration::Redirect settings;
    std::shared_ptr<RedirectState> kept;   ///< shared with the runtime that takes over
    std::atomic<std::uint64_t>&flows_now, &flows_total, &redirected, &refused;
};

struct Runtime;

/// What a runtime is made of beyond its configuration. What is empty is made anew, or left out.
struct Materials {
    std::function<handshake::ServerMaterials(std::uint32_t service)> of_service;
    std::function<handshake::ClientMaterials(std::uint32_t pool)> of_pool;
    /// The runtime before: what it has counted and knows of the members' health goes on for services, redirects, pools and members of the same
    /// name, wherever they stand; handshakes under way stay counted, tickets stay good where their settings are the same. nullptr: none.
    std::shared_ptr<const Runtime> before;
};

/// Everything made from one configuration. The configuration was checked when it was loaded.
struct Runtime {
    /// Throws std::runtime_error when OpenSSL refuses something that the check let pass. Changes nothing of the runtime before.
    explicit Runtime(configuration::Configuration loaded, const Materials& materials = {});
    /// What is shared with the runtime before (brake, members' health) follows this one's settings from now on.
    void take_effect();

    /// Positions by id; redirects are numbered after the services. nullopt: there is none here.
    [[nodiscard]] std::optional<std::uint32_t> find_service(std::uint64_t id) const noexcept;
    [[nodiscard]] std::optional<std::uint32_t> find_pool(std::uint64_t id) const noexcept;
    /// Flows of a service (and of a pool's member, where ids are not 0) that another control had counted; and one of them is gone.
    void adopt(std::uint64_t service, std::uint64_t pool, std::uint64_t member, std::uint64_t flows) noexcept;
    void leave_adopted(std::uint64_t service, std::uint64_t pool, std::uint64_t member) noexcept;

    configuration::Configuration configuration;
    std::vector<std::unique_ptr<Service>> services;
    std::vector<std::shared_ptr<Redirect>> redirects;   ///< for the dataplane numbered after the services
    std::vector<std::unique_ptr<Pool>> pools;
    std::shared_ptr<handshake::TicketKeys> tickets;
    std::shared_ptr<Brake> brake;
    std::shared_ptr<FailureLog> failures;

    /// Of all services, and of health checks.
    [[nodiscard]] std::uint64_t violations(policy::Violation violation) const noexcept;
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(policy::Violation::count_)> violations_of_checks{};
    std::array<std::uint64_t, static_cast<std::size_t>(policy::Violation::count_)> violations_of_removed{};   ///< of services that are gone

    /// Makes a service's context anew with other materials (new ECH keys); handshakes under way keep theirs. Throws as the constructor.
    void remake_context(std::uint32_t service, handshake::ServerMaterials materials);

    /// Lets old ticket keys die on time, also when no handshake comes. Any thread; once a minute will do.
    void rotate_tickets();

 private:
    std::unordered_map<std::uint64_t, std::uint32_t> service_by_id_, pool_by_id_;
};

}  // namespace sallyport::flows
