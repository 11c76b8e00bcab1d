// ICMP errors about our segments: RFC 9293 3.9.2.2, checked as RFC 5927 advises; path MTU by RFC 1191 and RFC 8201.

#include <algorithm>
#include <array>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {

/// Of routers that do not say: the next plateau below (RFC 1191 7.1).
std::uint32_t next_plateau(std::uint32_t mtu) noexcept {
    constexpr std::array<std::uint32_t, 7> kPlateaus{32000, 17914, 8166, 4352, 2002, 1492, 1006};
    for (const std::uint32_t plateau : kPlateaus)
        if (plateau < mtu) return plateau;
    return kMinimumMtu4;
}

}  // namespace

void Core::icmp_error(const network::Received::IcmpError& error, Time now) {
    using What = network::Received::IcmpError::What;
    now_ = now;
    ControlBlock* cb = table_.find({{error.local, error.local_port}, {error.remote, error.remote_port}});
    // RFC 5927 4.1: the quoted segment must be one in flight.
    if (cb == nullptr || !SeqNum(error.seq).in_window(cb->snd_una, cb->snd_nxt - cb->snd_una)) {
        count(DropReason::icmp_unmatched);
        return;
    }
    switch (error.what) {
        case What::soft_unreachable:
            return;  // the timeouts decide (RFC 9293 3.9.2.2, MUST-56)
        case What::hard_unreachable:
            // RFC 5461 4.1: only while connecting. Later it is treated as soft, or anybody could end connections (RFC 5927 5.2).
            if (cb->current == State::syn_sent) end(*cb, End::unreachable);
            return;
        case What::packet_too_big:
            break;
    }
    const bool v4 = cb->tuple.remote.address.is_v4();
    const std::uint32_t told = error.mtu != 0 ? error.mtu : next_plateau(cb->path.mtu);
    if (!v4 && told < kMinimumMtu6) {  // RFC 8201 4
        count(DropReason::icmp_unmatched);
        return;
    }
    const std::uint32_t mtu = std::max(told, v4 ? kMinimumMtu4 : kMinimumMtu6);
    if (mtu >= cb->path.mtu) return;
    cb->path.mtu = static_cast<std::uint16_t>(mtu);
    if (cb->unproven_mtu != 0) cb->unproven_mtu = cb->path.mtu;   // told is better than tried
    network_.lower_mtu(cb->tuple.remote.address, cb->path.mtu, now);
    update_mss(*cb);
    if (!cb->synchronized()) return;
    // Segments in flight that are too long have been dropped on the way: again, cut by send_lost().
    for (rte_mbuf* at = cb->transfer->send_buffer.front(); at != cb->transfer->send_buffer.unsent(); at = send_segment(at).next)
        if (std::min(send_segment(at).length, send_segment(at).cut_to) > cb->snd_mss) cb->transfer->send_buffer.mark_lost(at);
    if (cb->transfer->send_buffer.lost_octets > 0 && cb->recovery == Recovery::open) enter_recovery(*cb);
    if (cb->recovery == Recovery::fast) cb->cubic.set_cwnd(cb->in_flight() + cb->snd_mss);
    mark_dirty(*cb);
}

}  // namespace sallyport::tcp
