#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "control/channel/address.h"
#include "dataplane/drop_reason.h"
#include "dataplane/time.h"
#include "dataplane/wire/ethernet.h"

struct rte_mbuf;

namespace sallyport::network {

/// RFC 4861 7.3.2; used for ARP as well. `failed` is ours: the entry that the RFC would delete is kept, so that connections may go
/// on holding its index; the next packet starts resolution anew.
enum class NeighbourState : std::uint8_t { unused,
                                           failed,
                                           incomplete,
                                           reachable,
                                           stale,
                                           delay,
                                           probe };

/// What is known of one address on one link.
struct Neighbour {
    IpAddress address;
    std::array<std::byte, wire::kEthernetLengthMax> ethernet{};  ///< header of every frame to it; set from the MAC address
    std::uint8_t ethernet_length = 0;
    NeighbourState state = NeighbourState::unused;
    std::uint16_t interface = 0;
    std::uint8_t solicitations = 0;  ///< sent in this state
    std::uint8_t queued = 0;         ///< packets in its queue
    bool pinned = false;             ///< gateway of a route: never evicted
    bool wanted = false;             ///< we open connections to it: not evicted for what others make us ask for
    bool timed = false;              ///< in timed()
    std::uint32_t generation = 0;    ///< how often the slot has changed its owner
    std::uint32_t next = 0;          ///< chain of its hash bucket
    Time until;                      ///< end of the state: REACHABLE, DELAY, or the next solicitation
    Time last_used;

    [[nodiscard]] wire::MacAddress mac() const noexcept {
        wire::MacAddress result;
        std::memcpy(result.data(), ethernet.data(), result.size());
        return result;
    }
    [[nodiscard]] bool has_mac() const noexcept { return state >= NeighbourState::reachable; }
};

/// Neighbours by address and by identifier, bounded, with a short queue of packets for each. It holds state and knows no protocol.
///
/// An identifier holds the slot and the slot's generation: when a slot has been given to another address, identifiers of the
/// former one no longer find anything, and their holder asks for the address anew. The generation wraps after 2^(32 - bits of the
/// slot) evictions of one slot; with 4096 slots a stale identifier would have to outlive 2^20 of them to hit another's entry.
class NeighbourTable {
 public:
    static constexpr std::size_t kQueueLength = 8;   ///< packets a neighbour (RFC 4861 7.2.2: at least one)
    static constexpr std::uint32_t kMaxQueued = 1024;  ///< packets in all queues

    NeighbourTable(std::uint32_t most, std::uint64_t seed, DropCounters& drops);
    ~NeighbourTable();  ///< frees the queues
    NeighbourTable(const NeighbourTable&) = delete;
    NeighbourTable& operator=(const NeighbourTable&) = delete;

    /// Null when the slot has another owner by now.
    [[nodiscard]] Neighbour* get(std::uint32_t identifier) noexcept {
        Neighbour& entry = slots_[identifier & slot_mask_];
        return entry.generation == identifier >> slot_bits_ && entry.state != NeighbourState::unused ? &entry : nullptr;
    }
    [[nodiscard]] std::uint32_t identifier(const Neighbour& entry) const noexcept {
        return entry.generation << slot_bits_ | static_cast<std::uint32_t>(&entry - slots_.data());
    }
    /// Null when there is none.
    [[nodiscard]] Neighbour* find(const IpAddress& address, std::uint16_t interface) noexcept;
    /// Finds it, or makes one in state `failed`. When the table is full, of a sample of 16 the one least worth keeping goes: failed
    /// before INCOMPLETE before STALE before the rest (RFC 6583 7.1) and those that are wanted, then the longest unused. Null when those are
    /// all pinned.
    [[nodiscard]] Neighbour* find_or_make(const IpAddress& address, std::uint16_t interface, Time now) noexcept;

    /// Appends a packet; when the queue is full the oldest is dropped for it (RFC 4861 7.2.2). Takes the packet. Counts neighbour_unresolved.
    void enqueue(Neighbour& entry, rte_mbuf* packet) noexcept;
    /// Takes all packets out, oldest first; returns how many. They are the caller's.
    [[nodiscard]] std::size_t dequeue_all(Neighbour& entry, std::array<rte_mbuf*, kQueueLength>& packets) noexcept;
    void drop_queue(Neighbour& entry) noexcept;

    /// Slots of the neighbours in a state that ends by a timer. Those for which `expire` returns false leave the list.
    void set_timer(Neighbour& entry, Time until) noexcept;
    template <typename Expire>
    void for_each_timed(Expire&& expire) {
        for (std::size_t i = 0; i < timed_.size();) {
            Neighbour& entry = slots_[timed_[i]];
            if (expire(entry)) {
                ++i;
                continue;
            }
            entry.timed = false;
            timed_[i] = timed_.back();
            timed_.pop_back();
        }
    }

    /// Makes every identifier find nothing, so that its holder asks for the address, and with it for the route, anew. The entries stay.
    void renew_identifiers() noexcept {
        for (Neighbour& entry : slots_) entry.generation = (entry.generation + 1) & (~0u >> slot_bits_);
    }

    [[nodiscard]] const std::vector<Neighbour>& slots() const noexcept { return slots_; }
    [[nodiscard]] std::vector<Neighbour>& slots() noexcept { return slots_; }

 private:
    static constexpr std::uint32_t kNone = ~0u;
    [[nodiscard]] std::uint32_t& bucket(const IpAddress& address, std::uint16_t interface) noexcept;
    [[nodiscard]] Neighbour* evict() noexcept;

    std::uint32_t slot_bits_;
    std::uint32_t slot_mask_;
    std::uint64_t seed_;
    DropCounters& drops_;
    std::vector<Neighbour> slots_;
    std::vector<std::array<rte_mbuf*, kQueueLength>> queues_;
    std::vector<std::uint32_t> buckets_;
    std::vector<std::uint32_t> timed_;
    std::uint32_t never_used_ = 0;   ///< slots from here on are unused
    std::uint32_t hand_ = 0;         ///< where the next sample for eviction begins
    std::uint32_t queued_ = 0;
};

}  // namespace sallyport::network
