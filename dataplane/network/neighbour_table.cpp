#include "dataplane/network/neighbour_table.h"

#include <rte_mbuf.h>

#include <algorithm>
#include <bit>

#include "dataplane/network/address_table.h"

namespace sallyport::network {

NeighbourTable::NeighbourTable(std::uint32_t most, std::uint64_t seed, DropCounters& drops)
    : slot_bits_(static_cast<std::uint32_t>(std::bit_width(std::clamp(most, 2u, 1u << 20) - 1))),
      slot_mask_((1u << slot_bits_) - 1),
      seed_(seed),
      drops_(drops),
      slots_(slot_mask_ + 1),
      queues_(slots_.size()),
      buckets_(slots_.size() * 2, kNone) {
    timed_.reserve(slots_.size());
}

NeighbourTable::~NeighbourTable() {
    std::array<rte_mbuf*, kQueueLength> packets;
    for (Neighbour& entry : slots_) rte_pktmbuf_free_bulk(packets.data(), static_cast<unsigned>(dequeue_all(entry, packets)));
}

std::uint32_t& NeighbourTable::bucket(const IpAddress& address, std::uint16_t interface) noexcept {
    return buckets_[hash(address, seed_ + interface) & (buckets_.size() - 1)];
}

Neighbour* NeighbourTable::find(const IpAddress& address, std::uint16_t interface) noexcept {
    for (std::uint32_t slot = bucket(address, interface); slot != kNone; slot = slots_[slot].next)
        if (slots_[slot].address == address && slots_[slot].interface == interface) return &slots_[slot];
    return nullptr;
}

Neighbour* NeighbourTable::find_or_make(const IpAddress& address, std::uint16_t interface, Time now) noexcept {
    if (Neighbour* entry = find(address, interface)) return entry;
    Neighbour* entry = never_used_ < slots_.size() ? &slots_[never_used_++] : evict();
    if (entry == nullptr) return nullptr;
    std::uint32_t& head = bucket(address, interface);
    // `timed` stays: it tells whether the slot is in the list, whoever owns it.
    entry->address = address;
    entry->interface = interface;
    entry->state = NeighbourState::failed;
    entry->solicitations = 0;
    entry->pinned = entry->wanted = false;
    entry->ethernet_length = 0;
    entry->until = entry->last_used = now;
    entry->next = head;
    head = static_cast<std::uint32_t>(entry - slots_.data());
    return entry;
}

Neighbour* NeighbourTable::evict() noexcept {
    const auto worth = [](const Neighbour& entry) {
        if (entry.wanted) return 3;
        switch (entry.state) {
            case NeighbourState::unused:
            case NeighbourState::failed:
                return 0;
            case NeighbourState::incomplete:
                return 1;
            case NeighbourState::stale:
                return 2;
            case NeighbourState::reachable:
            case NeighbourState::delay:
            case NeighbourState::probe:
                break;
        }
        return 3;
    };
    Neighbour* victim = nullptr;
    for (unsigned i = 0; i < 16; ++i) {
        Neighbour& entry = slots_[hand_++ & slot_mask_];
        if (entry.pinned) continue;
        if (victim == nullptr || worth(entry) < worth(*victim) ||
            (worth(entry) == worth(*victim) && entry.last_used < victim->last_used))
            victim = &entry;
    }
    if (victim == nullptr) return nullptr;
    drop_queue(*victim);
    const auto slot = static_cast<std::uint32_t>(victim - slots_.data());
    std::uint32_t* link = &bucket(victim->address, victim->interface);
    while (*link != slot) link = &slots_[*link].next;
    *link = victim->next;
    victim->generation = (victim->generation + 1) & (~0u >> slot_bits_);
    return victim;
}

void NeighbourTable::enqueue(Neighbour& entry, rte_mbuf* packet) noexcept {
    auto& queue = queues_[static_cast<std::size_t>(&entry - slots_.data())];
    if (queued_ == kMaxQueued && entry.queued == 0) {
        drops_.count(DropReason::neighbour_unresolved);
        rte_pktmbuf_free(packet);
        return;
    }
    if (entry.queued == kQueueLength || queued_ == kMaxQueued) {
        drops_.count(DropReason::neighbour_unresolved);
        rte_pktmbuf_free(queue[0]);
        std::shift_left(queue.begin(), queue.begin() + entry.queued, 1);
        --entry.queued;
        --queued_;
    }
    queue[entry.queued++] = packet;
    ++queued_;
}

std::size_t NeighbourTable::dequeue_all(Neighbour& entry, std::array<rte_mbuf*, kQueueLength>& packets) noexcept {
    const std::size_t count = entry.queued;
    std::copy_n(queues_[static_cast<std::size_t>(&entry - slots_.data())].begin(), count, packets.begin());
    entry.queued = 0;
    queued_ -= static_cast<std::uint32_t>(count);
    return count;
}

void NeighbourTable::drop_queue(Neighbour& entry) noexcept {
    std::array<rte_mbuf*, kQueueLength> packets;
    const std::size_t count = dequeue_all(entry, packets);
    drops_.count(DropReason::neighbour_unresolved, count);
    rte_pktmbuf_free_bulk(packets.data(), static_cast<unsigned>(count));
}

void NeighbourTable::set_timer(Neighbour& entry, Time until) noexcept {
    entry.until = until;
    if (entry.timed) return;
    entry.timed = true;
    timed_.push_back(static_cast<std::uint32_t>(&entry - slots_.data()));
}

}  // namespace sallyport::network
