#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <string_view>

#include "control/channel/address.h"
#include "control/configuration/configuration.h"
#include "control/handshake/handshake.h"

namespace sallyport::flows {

/// What a handshake costs us, in units of a resumed one. Estimates of the processor's time, rounded to whole numbers: a resumed handshake is a
/// key exchange and the key schedule; an ECDSA signature and the certificates to hash and to send make it some four times that; an
/// RSA signature of 3072 bits is by far the most expensive thing that a client can make us do. Where they are somewhat off, the
/// budgets of the configuration, which are in the same units, are off by as much; nothing else.
namespace cost {
constexpr std::uint32_t kResumed = 1;
constexpr std::uint32_t kEcdsa = 4;
constexpr std::uint32_t kRsa = 12;
}  // namespace cost

/// Which keys a service can sign with.
struct SigningKeys {
    bool ecdsa = false, rsa = false;   ///< Ed25519 counts as ECDSA
};
[[nodiscard]] SigningKeys signing_keys(const configuration::Service& service);
/// Of a full handshake for this client: with ECDSA where both can do it, since that is what libssl chooses then.
[[nodiscard]] std::uint32_t full_cost(const handshake::Offer& offer, SigningKeys keys) noexcept;

/// Says which handshakes may begin, so that those that have not proven anything cannot take the time of those that have, nor of established
/// flows. Counts handshakes begun and not finished, in all and by source (an IPv4 address, an IPv6 /64), and has a token bucket for each
/// source. Sources are kept in a table of fixed size whose places a secret key determines; a source that finds no place is held to the
/// total alone. Likewise the connections whose handshake is not finished, from their first segment on: who sends no ClientHello holds a flow
/// all the same. Any thread: sixty-four shards with a lock each, held for some dozen instructions.
class Brake : public std::enable_shared_from_this<Brake> {
 public:
    using Clock = std::chrono::steady_clock;
    enum class Refusal : std::uint8_t {
        source,   ///< the source has too many handshakes under way, or has spent its budget
        total,    ///< too many in all, or three quarters of it and this one does not resume
    };

    [[nodiscard]] static std::shared_ptr<Brake> make(const configuration::Brake& settings);
    Brake(const Brake&) = delete;
    Brake& operator=(const Brake&) = delete;

    /// A connection that was let in; counted until it is destroyed or released. Any one thread.
    class Connected {
     public:
        Connected() noexcept = default;
        ~Connected() { release(); }
        Connected(Connected&& other) noexcept { *this = std::move(other); }
        Connected& operator=(Connected&& other) noexcept;
        /// Its handshake is finished, or it has ended.
        void release() noexcept;

     private:
        friend class Brake;
        std::shared_ptr<Brake> brake_;
        IpAddress source_;
        bool placed_ = false;
    };
    [[nodiscard]] std::expected<Connected, Refusal> connect(const IpAddress& source, Clock::time_point now);

    /// A handshake that was let in; counted until it is destroyed or released. Any one thread.
    class Started {
     public:
        Started() noexcept = default;
        ~Started() { release(); }
        Started(Started&& other) noexcept { *this = std::move(other); }
        Started& operator=(Started&& other) noexcept;
        [[nodiscard]] bool counted() const noexcept { return brake_ != nullptr; }
        /// It is over, well or not. If it was let in as a resumption and was none, its source pays the rest: a budget may become negative.
        void finish(bool resumed, Clock::time_point now) noexcept;
        void release() noexcept;

     private:
        friend class Brake;
        std::shared_ptr<Brake> brake_;
        IpAddress source_;
        std::uint32_t unpaid_ = 0;   ///< if it was no resumption after all
        bool placed_ = false;        ///< it is counted in the table
    };
    /// `source`: of the client. `full`: what it costs if it does not resume.
    [[nodiscard]] std::expected<Started, Refusal> start(const IpAddress& source, bool resumes, std::uint32_t full, Clock::time_point now);

    /// So few handshakes are under way that work may be done for a client that has shown no more than a ClientHello: less than a quarter.
    [[nodiscard]] bool relaxed() const noexcept { return started() < limit_.load(std::memory_order_relaxed) / 4; }
    [[nodiscard]] std::uint64_t started() const noexcept { return started_.load(std::memory_order_relaxed); }
    /// Connections without a finished handshake.
    [[nodiscard]] std::uint64_t connected() const noexcept { return connected_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t braked_by_source() const noexcept { return braked_by_source_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t braked_by_total() const noexcept { return braked_by_total_.load(std::memory_order_relaxed); }
    /// Handshakes of sources for which the table had no place.
    [[nodiscard]] std::uint64_t unplaced() const noexcept { return unplaced_.load(std::memory_order_relaxed); }
    /// New limits; handshakes under way stay counted.
    void configure(const configuration::Brake& settings) noexcept;

    static constexpr std::size_t kShards = 64, kSets = 128, kWays = 8;   ///< 65,536 sources in 2.5 MB

 private:
    explicit Brake(const configuration::Brake& settings);
    struct Entry {
        IpAddress source;                ///< unspecified: free
        double budget = 0;               ///< units at `at`
        Clock::time_point at{};
        std::uint32_t under_way = 0;     ///< handshakes
        std::uint32_t connected = 0;     ///< connections without a finished handshake, those with one under way among them
        [[nodiscard]] bool in_use() const noexcept { return under_way != 0 || connected != 0; }
    };
    struct Shard {
        std::mutex mutex;
        std::array<std::array<Entry, kWays>, kSets> sets;
    };
    [[nodiscard]] std::uint64_t hash(const IpAddress& source) const noexcept;
    [[nodiscard]] Shard& shard(std::uint64_t hash) noexcept { return shards_[hash % kShards]; }
    [[nodiscard]] static std::array<Entry, kWays>& set(Shard& shard, std::uint64_t hash) noexcept { return shard.sets[hash / kShards % kSets]; }
    [[nodiscard]] Entry* find(std::array<Entry, kWays>& set, const IpAddress& source) noexcept;
    [[nodiscard]] Entry* place(std::array<Entry, kWays>& set, const IpAddress& source, Clock::time_point now) noexcept;
    void refill(Entry& entry, Clock::time_point now) const noexcept;
    void charge(const IpAddress& source, std::uint32_t units, Clock::time_point now) noexcept;
    void leave(const IpAddress& source, bool placed, std::uint32_t Entry::* count) noexcept;

    std::atomic<std::uint32_t> connections_, connections_per_source_, limit_, per_source_, rate_, burst_;
    std::atomic<std::uint64_t> connected_{0}, started_{0}, braked_by_source_{0}, braked_by_total_{0}, unplaced_{0};
    std::array<std::uint64_t, 2> key_{};
    std::unique_ptr<std::array<Shard, kShards>> memory_;
    std::array<Shard, kShards>& shards_;
};

}  // namespace sallyport::flows
