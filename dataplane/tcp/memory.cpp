// What connections may hold of the packet buffers, all together: so that a few of them, however they behave, leave enough for the others, and
// for what TCP itself has to say.

#include <algorithm>
#include <climits>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {

constexpr unsigned kWokenAtOnce = 64;
// Of a saturated worker: what its second-level cache has room for each way, and what a connection has room for even so (four records).
constexpr std::uint32_t kCachedBuffers = 384, kLeastCached = 65536;

Pressure pressure_of(std::uint64_t held, std::uint32_t budget) noexcept {
    if (budget == 0 || held < budget / 4 * 3) return Pressure::none;
    return held < budget ? Pressure::some : Pressure::full;
}

}  // namespace

Pressure Core::receive_pressure() const noexcept { return pressure_of(received_held_, settings_.receive_budget); }
Pressure Core::transmit_pressure() const noexcept { return pressure_of(sent_held_, settings_.transmit_budget); }

namespace {

/// A quarter of what is left, so that a few connections on long paths have much and many share what there is, long before it is scarce.
std::uint32_t share_of(std::uint64_t held, std::uint32_t budget) noexcept {
    if (budget == 0) return UINT32_MAX;
    constexpr std::uint64_t kOctets = 1400;   // of payload in a buffer, where segments of Ethernet are full
    const std::uint64_t left = budget > held ? budget - held : 0;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(left / 4 * kOctets, kShareUnderPressure, UINT32_MAX));
}

}  // namespace

std::uint32_t Core::receive_share() const noexcept { return share_of(received_held_, settings_.receive_budget); }
std::uint32_t Core::transmit_share() const noexcept { return share_of(sent_held_, settings_.transmit_budget); }

std::uint32_t Core::cached_share(const ControlBlock& cb, std::uint64_t held) const noexcept {
    if (!saturated || cb.rtt.minimum() == Duration{} || cb.rtt.minimum() > kShortPath || network_.cut_by_kernel(cb.path)) return UINT32_MAX;
    return std::max(share_of(held, kCachedBuffers), kLeastCached);
}

void Core::settle(ControlBlock& cb) noexcept {
    const std::uint32_t received = cb.receive_queue.buffers() + cb.transfer->reassembly.buffers();
    const std::uint32_t sent = cb.transfer->send_buffer.held();
    received_held_ += received;
    received_held_ -= cb.received_held;
    sent_held_ += sent;
    sent_held_ -= cb.sent_held;
    const bool freed = sent < cb.sent_held;
    cb.received_held = received;
    cb.sent_held = sent;
    if (const bool gaps = !cb.transfer->reassembly.empty(); gaps != cb.has_gaps) {
        cb.has_gaps = gaps;
        gaps ? reassembling_.push_back(cb) : reassembling_.remove(cb);
    }
    // A tail loss probe is judged by what is acknowledged after it (RFC 8985 7.4.2).
    if (cb.engaged() && cb.transfer->idle() && !cb.tlp_outstanding && cb.current != State::syn_sent) disengage(cb);
    // Some of those that were told that there is nothing, as soon as there is something: who holds most of the budget may do so for ever. Not
    // all, or each acknowledged segment would wake thousands for one buffer.
    if (freed && transmit_pressure() != Pressure::full) {
        unsigned left = transmit_pressure() == Pressure::none ? UINT_MAX : kWokenAtOnce;
        for (; left > 0 && starved_.front() != nullptr; --left) raise(*starved_.pop_front(), event::kWritable);
    }
}

void Core::prune(const ControlBlock& but) noexcept {
    // What was reported as received out of order may be dropped again: the peer keeps it until it is acknowledged (RFC 2018 8).
    for (ControlBlock* oldest = reassembling_.front(); oldest != nullptr && receive_pressure() != Pressure::none;) {
        ControlBlock* const next = oldest->reassembling.next;
        if (oldest != &but) {
            count(DropReason::tcp_memory_pressure, oldest->transfer->reassembly.buffers());
            oldest->transfer->reassembly.clear();
            settle(*oldest);
        }
        oldest = next;
    }
}

bool Core::shed_orphan() noexcept {
    ControlBlock* const oldest = orphans_.front();
    if (oldest == nullptr) return false;
    count(DropReason::tcp_memory_pressure, oldest->sent_held);
    send_reset(*oldest);
    end(*oldest, End::aborted);
    return true;
}

bool Core::refuse_payload(ControlBlock& cb) noexcept {
    if (receive_pressure() != Pressure::full) return false;
    // A connection that holds nothing may take a segment even now, from what is kept beyond the budget: handshakes and short requests go on
    // while whoever holds the rest is found.
    if (cb.received_held == 0 && received_held_ < settings_.receive_budget + settings_.receive_budget / 16) return false;
    count(DropReason::tcp_memory_pressure);
    cb.ack_now = true;  // tells the window, so that the peer does not take it for loss on the path alone
    mark_dirty(cb);
    return true;
}

}  // namespace sallyport::tcp
