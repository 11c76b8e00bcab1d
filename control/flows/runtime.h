#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/handshake/handshake.h"

/// What control runs from one configuration, shared by its threads.
namespace sallyport::flows {

/// A member of a pool as it is now. Counters by any thread; health by the thread that checks it.
struct MemberState {
    std::atomic<bool> up{true};
    std::atomic<bool> drain{false};
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
    Pool(const configuration::Configuration& configuration, std::uint32_t index);

    [[nodiscard]] const configuration::Pool& settings() const noexcept { return settings_; }
    /// nullptr for a plain-text pool.
    [[nodiscard]] const std::shared_ptr<handshake::ClientContext>& context() const noexcept { return context_; }
    [[nodiscard]] MemberState& member(std::uint32_t index) noexcept { return *members_[index]; }
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
    std::shared_ptr<handshake::ClientContext> context_;
    std::vector<std::unique_ptr<MemberState>> members_;
    std::vector<std::uint32_t> schedule_;   ///< round robin: members as often as their weight, interleaved
    std::atomic<std::uint64_t> next_{0};
};

/// Counts of one service's handshakes. Any thread.
struct ServiceState {
    std::atomic<std::uint64_t> flows_now{0}, flows_total{0}, handshakes_done{0}, handshakes_failed{0}, resumed{0};

    void count_done(const handshake::Negotiated& negotiated);
    void count_failed(channel::EndReason reason);
    struct Counts {
        std::vector<std::pair<std::uint16_t, std::uint64_t>> by_version, by_suite, by_group;
        std::vector<std::pair<channel::EndReason, std::uint64_t>> by_failure;
    };
    [[nodiscard]] Counts counts() const;

 private:
    mutable std::mutex mutex_;
    Counts counts_;
};

struct Service {
    configuration::Service settings;
    std::shared_ptr<const handshake::ServerContext> context;
    ServiceState state;
};

/// Everything made from one configuration. The configuration was checked when it was loaded.
struct Runtime {
    /// Throws std::runtime_error when OpenSSL refuses something that the check let pass.
    explicit Runtime(configuration::Configuration loaded);

    configuration::Configuration configuration;
    std::vector<std::unique_ptr<Service>> services;
    std::vector<std::unique_ptr<Pool>> pools;
    std::shared_ptr<handshake::TicketKeys> tickets;

    /// Lets old ticket keys die on time, also when no handshake comes. Any thread; once a minute will do.
    void rotate_tickets();
};

}  // namespace sallyport::flows
