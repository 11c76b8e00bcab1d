// Loss detection by time and tail loss probes: RFC 8985. Names are the RFC's.

#include <algorithm>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {

constexpr std::uint8_t kReorderingPersists = 16;   // recoveries without a duplicate report (6.2, step 4)

/// RACK_sent_after (6.1)
bool sent_after(Time a, SeqNum a_end, Time b, SeqNum b_end) noexcept { return a > b || (a == b && a_end.after(b_end)); }

}  // namespace

void Core::rack_update(ControlBlock& cb, const SendSegment& segment, const Arrival& arrival, const Delivery& delivery) {
    const Duration rtt = arrival.now - segment.sent_at;
    if (segment.transmissions > 1) {
        // 6.2, step 1: an ACK that came too soon, or echoes an earlier time, is of an earlier transmission.
        if (cb.timestamps && arrival.options.timestamps &&
            static_cast<std::int32_t>(arrival.options.timestamps->echo - ts_now(cb, segment.sent_at)) < 0)
            return;
        if (rtt < cb.rtt.minimum()) return;
    }
    // Step 3: reordering is when something sent before arrives after. What one ACK tells has no order: it is looked at newest block first.
    if (segment.end().before(delivery.fack) && segment.transmissions == 1) cb.reordering_seen = true;
    cb.transfer->rack_fack = later_of(cb.transfer->rack_fack, segment.end());
    // Step 2
    cb.transfer->rack_rtt = rtt;
    if (sent_after(segment.sent_at, segment.end(), cb.transfer->rack_sent_at, cb.transfer->rack_end)) {
        cb.transfer->rack_sent_at = segment.sent_at;
        cb.transfer->rack_end = segment.end();
    }
}

void Core::adapt_reordering_window(ControlBlock& cb, const Delivery& delivery) noexcept {  // 6.2, step 4: RACK_update_reo_wnd()
    if (cb.duplicate_counted && cb.snd_una.at_or_after(cb.transfer->reo_wnd_end)) cb.duplicate_counted = false;
    if (!delivery.duplicate_report || cb.duplicate_counted || cb.tlp_outstanding) return;   // a probe may well arrive twice
    cb.duplicate_counted = true;
    cb.transfer->reo_wnd_end = cb.snd_nxt;
    if (cb.reo_wnd_multiplier < UINT8_MAX) ++cb.reo_wnd_multiplier;
    cb.reo_wnd_persist = kReorderingPersists;
}

Duration Core::reordering_window(const ControlBlock& cb) const noexcept {  // 6.2, step 4
    if (!cb.reordering_seen && (cb.recovery != Recovery::open || cb.transfer->send_buffer.sacked_segments >= 3)) return Duration{};
    return std::min(cb.rtt.minimum() * cb.reo_wnd_multiplier / 4, cb.rtt.srtt());
}

void Core::rack_detect_loss(ControlBlock& cb, Time now) {  // 6.2, step 5
    if (cb.transfer->rack_sent_at == Time{}) return;
    const Duration window = reordering_window(cb);
    Duration timeout{};
    for (rte_mbuf *at = cb.transfer->send_buffer.oldest(), *later = nullptr; at != nullptr; at = later) {
        const SendSegment& segment = send_segment(at);
        later = segment.later;
        if (!sent_after(cb.transfer->rack_sent_at, cb.transfer->rack_end, segment.sent_at, segment.end())) break;
        timeout = std::max(Duration{}, segment.sent_at + cb.transfer->rack_rtt + window - now);
        if (timeout > Duration{}) break;   // what was sent later is due later
        cb.transfer->send_buffer.mark_lost(at);
    }
    if (timeout > Duration{} && cb.transfer->send_buffer.lost_octets == cb.transfer->send_buffer.retransmitted_octets) {
        cb.retransmit_timer = RetransmitTimer::reordering;
        arm(cb, Timer::retransmit, now + timeout);
    }
}

void Core::tail_loss_probe(ControlBlock& cb) {  // 7.3
    if (cb.flight() == 0) return;
    SendBuffer& buffer = cb.transfer->send_buffer;
    bool sent_new = false;
    if (rte_mbuf* next = buffer.unsent()) {
        const SendSegment& segment = send_segment(next);
        const std::uint32_t used = segment.seq - cb.snd_una;
        if (segment.length > cb.snd_mss && used + cb.snd_mss <= cb.snd_wnd) next = buffer.split(next, cb.snd_mss, pool_);
        if (next != nullptr && send_segment(next).length <= cb.snd_mss && used + send_segment(next).sequence_length() <= cb.snd_wnd)
            sent_new = transmit(cb, next, now_);
    }
    if (!sent_new) {
        rte_mbuf* last = buffer.unsent() != nullptr ? send_segment(buffer.unsent()).previous : buffer.back();
        while (last != nullptr && send_segment(last).length > cb.snd_mss)   // the last one of several
            if (buffer.split(last, cb.snd_mss, pool_) == nullptr) return;
        if (last == nullptr || !transmit(cb, last, now_)) return;
    }
    cb.tlp_retransmission = !sent_new;
    cb.transfer->tlp_end = cb.snd_nxt;
    cb.tlp_outstanding = true;
}

void Core::tail_loss_probe_acknowledged(ControlBlock& cb, const Arrival& arrival, const Delivery& delivery,
                                        bool duplicate_ack) {  // 7.4.2
    if (arrival.ack.before(cb.transfer->tlp_end)) return;
    if (!cb.tlp_retransmission || delivery.duplicate_report) {
        cb.tlp_outstanding = false;
    } else if (arrival.ack.after(cb.transfer->tlp_end)) {
        // The probe repaired a loss: react to that, without retransmitting anything.
        cb.tlp_outstanding = false;
        // Where an echo has told of that window's congestion, the window is reduced (RFC 3168 6.1.2).
        if (cb.recovery != Recovery::open || cb.recovery_point.after(cb.transfer->tlp_end)) return;
        cb.recovery_point = cb.snd_nxt;
        cb.cubic.on_congestion(cb.snd_mss);
        cb.cubic.set_cwnd(std::min(cb.cubic.cwnd(), cb.cubic.ssthresh()));
        cb.cwr_due = cb.ecn;
    } else if (duplicate_ack && !delivery.new_sack) {
        cb.tlp_outstanding = false;
    }
}

}  // namespace sallyport::tcp
