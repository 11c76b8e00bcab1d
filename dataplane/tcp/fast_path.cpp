// The ordinary case: ESTABLISHED, the next octets in order, nothing lost. Whatever is not ordinary is left to segment_arrives.cpp
// untouched; fast_path_test.cpp feeds both the same segments and compares all that they change.

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

bool Core::fast_path(ControlBlock& cb, Arrival& arrival) {
    // Header prediction: which state, which flags, which sequence number.
    if (cb.current != State::established || cb.released) return false;
    if ((arrival.flags & ~wire::kPsh) != wire::kAck) return false;
    if (arrival.seq != cb.rcv_nxt || arrival.length > cb.rcv_wnd()) return false;
    if (arrival.length == 0 && cb.rcv_wnd() == 0) return false;
    if (!cb.transfer->reassembly.empty() || cb.peer_fin_known || arrival.options.sack_count > 0) return false;
    if (arrival.options.user_timeout || (cb.ecn && (arrival.segment.ip.traffic_class & wire::kEcnMask) == wire::kEcnCe)) return false;
    if (cb.timestamps && (!arrival.options.timestamps ||
                          static_cast<std::int32_t>(arrival.options.timestamps->value - cb.ts_recent) < 0))
        return false;
    // Any ACK may matter to a recovery or to a probe.
    if (cb.recovery != Recovery::open || cb.transfer->send_buffer.sacked_octets > 0 || cb.transfer->send_buffer.lost_octets > 0 || cb.tlp_outstanding)
        return false;
    // Only an ACK that is no news, with the window as it was; others go through all of the fifth step.
    const bool same_ack = arrival.ack == cb.snd_una;
    if (!same_ack || arrival.length == 0) return false;
    if (receive_pressure() == Pressure::full) return false;
    if (cb.snd_wl1.after(arrival.seq) || (cb.snd_wl1 == arrival.seq && cb.snd_wl2.after(arrival.ack))) return false;
    if (std::uint32_t{arrival.segment.tcp.window} << cb.snd_wnd_shift != cb.snd_wnd) return false;

    cb.last_received = arrival.now;
    cb.probes = 0;
    update_ts_recent(cb, arrival);
    cb.snd_wl1 = arrival.seq;
    cb.snd_wl2 = arrival.ack;
    if (arrival.length > cb.rcv_mss)
        cb.rcv_mss = static_cast<std::uint16_t>(std::min<std::uint32_t>(arrival.length, std::max(cb.our_mss, cb.rcv_mss)));
    take_in_order(cb, std::move(arrival.payload), arrival.now);
    settle(cb);
    return true;
}

}  // namespace sallyport::tcp
