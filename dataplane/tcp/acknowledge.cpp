// The fifth step of SEGMENT ARRIVES (RFC 9293 3.10.7.4): what an acknowledgment means for what we have sent.

#include <algorithm>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {
constexpr std::uint32_t kMostGrowth = 8;   // segments an ACK where bursts are not paced (RFC 9406 4.3)
}  // namespace

Verdict Core::acknowledge(ControlBlock& cb, Arrival& arrival) {
    const SeqNum ack = arrival.ack;
    if (ack.after(cb.snd_nxt)) {  // "If the ACK acks something not yet sent, then send an ACK, drop the segment"
        challenge(cb, arrival.now, DropReason::tcp_unacceptable_ack);
        return Verdict::done;
    }
    if (ack.before(cb.snd_una) && cb.snd_una - ack > std::max(cb.max_snd_wnd, 65535u)) {
        // RFC 5961 5.2: SND.UNA - MAX.SND.WND =< SEG.ACK, else it is an injection.
        challenge(cb, arrival.now, DropReason::tcp_unacceptable_ack);
        return Verdict::done;
    }

    // RFC 5681 2: what counts as a duplicate ACK.
    const bool outstanding = cb.snd_nxt != cb.snd_una;
    const std::uint32_t window = arrival.window(cb.snd_wnd_shift);
    const bool duplicate_ack = outstanding && ack == cb.snd_una && arrival.segment.payload_length == 0 &&
                               !arrival.has(wire::kFin) && window == cb.snd_wnd;

    Delivery delivery{.fack = cb.transfer->rack_fack};
    const bool sacks = cb.sack_permitted && arrival.options.sack_count > 0;
    if (sacks && outstanding) apply_sacks(cb, arrival, delivery);
    if (ack.after(cb.snd_una)) drop_acknowledged(cb, ack, arrival, delivery);
    const std::uint32_t window_before = cb.snd_wnd;
    if (ack.at_or_after(cb.snd_una)) update_send_window(cb, arrival, delivery.acked > 0);

    if (outstanding) {
        if (delivery.acked > 0) {
            cb.backoff = 0;
            cb.last_progress = arrival.now;
            if (cb.unproven_mtu != 0) trust_path_again(cb, arrival.now);
            if (delivery.any_sent_once) {
                cb.rtt.sample(arrival.now - delivery.oldest_sent);
                cb.cubic.on_rtt(arrival.now - delivery.newest_sent);
            }
            if (!delivery.any_sent_once && cb.timestamps && arrival.options.timestamps->echo != 0)  // all were retransmitted: RFC 7323 4
                cb.rtt.sample(Duration{1ms} * std::max<std::int32_t>(
                    1, static_cast<std::int32_t>(ts_now(cb, arrival.now) - arrival.options.timestamps->echo)));
        }
        if (cb.snd_una.at_or_after(cb.transfer->round_end)) {
            cb.cubic.on_round();
            cb.transfer->round_end = cb.snd_nxt;
        }
        if (cb.ecn && arrival.has(wire::kEce)) take_congestion_echo(cb, arrival);
        if (cb.sack_permitted) adapt_reordering_window(cb, delivery);
        if (cb.tlp_outstanding) tail_loss_probe_acknowledged(cb, arrival, delivery, duplicate_ack);
        recover(cb, arrival, delivery, duplicate_ack);
        if (delivery.acked > 0) {
            // A point that stayed behind by half of the sequence space would seem to lie ahead: take_congestion_echo() asks for it.
            if (cb.recovery == Recovery::open) cb.recovery_point = later_of(cb.recovery_point, cb.snd_una);
            schedule_retransmit(cb, arrival.now, true);
            if (cb.confirmed.ago(arrival.now) > 1s) {
                cb.confirmed = arrival.now;
                network_.confirm(cb.path.next_hop, arrival.now);
            }
        }
        if (delivery.acked > 0 || delivery.new_sack) raise(cb, event::kWritable);
        settle(cb);
    }
    // What is lost by now is sent again now, whatever the ACK itself tells.
    const bool news = delivery.acked > 0 || delivery.new_sack || duplicate_ack || cb.snd_wnd != window_before ||
                      cb.transfer->send_buffer.first_lost() != nullptr;
    if (news && !cb.transfer->send_buffer.empty()) mark_dirty(cb);
    return Verdict::go_on;
}

void Core::take_congestion_echo(ControlBlock& cb, const Arrival& arrival) {
    // RFC 3168 6.1.2: as for a dropped segment, but nothing is sent again; once for the data of a window (RFC 8311 leaves that as it is).
    if (cb.recovery != Recovery::open || arrival.ack.before(cb.recovery_point)) return;
    cb.recovery_point = cb.snd_nxt;
    cb.cubic.on_congestion(cb.snd_mss);
    cb.cubic.set_cwnd(std::min(cb.cubic.cwnd(), cb.cubic.ssthresh()));   // which is two segments at least, and may be more than there is after a timeout
    cb.cwr_due = true;
    ++counters.congestion_echoes;
}

void Core::update_send_window(ControlBlock& cb, const Arrival& arrival, bool newer) noexcept {
    // "If SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK), set SND.WND". By the letter the ACK of a retransmission moves
    // SND.UNA and leaves SND.WND, and with them the right edge moves beyond what was offered. A segment that acknowledges more was sent
    // later, whatever its SEG.SEQ, so that its window is the newer one; Linux takes it, too.
    if (!newer && !cb.snd_wl1.before(arrival.seq) && !(cb.snd_wl1 == arrival.seq && cb.snd_wl2.at_or_before(arrival.ack))) return;
    const std::uint32_t window = arrival.window(cb.snd_wnd_shift);
    if (window > cb.snd_wnd && cb.retransmit_timer == RetransmitTimer::persist) {
        cb.retransmit_timer = RetransmitTimer::none;
        disarm(cb, Timer::retransmit);
        cb.backoff = 0;
    }
    cb.snd_wnd = window;
    cb.max_snd_wnd = std::max(cb.max_snd_wnd, window);
    cb.snd_wl1 = arrival.seq;
    cb.snd_wl2 = arrival.ack;
}

void Core::note_delivered(ControlBlock& cb, SendSegment& segment, const Arrival& arrival, Delivery& delivery) {
    delivery.delivered += segment.sequence_length();
    if (segment.transmissions == 1) {
        delivery.any_sent_once = true;
        delivery.oldest_sent = std::min(delivery.oldest_sent, segment.sent_at);
        delivery.newest_sent = std::max(delivery.newest_sent, segment.sent_at);
    }
    if (cb.sack_permitted) rack_update(cb, segment, arrival, delivery);
}

void Core::drop_acknowledged(ControlBlock& cb, SeqNum ack, const Arrival& arrival, Delivery& delivery) {
    delivery.acked = ack - cb.snd_una;
    while (rte_mbuf* buffer = cb.transfer->send_buffer.front()) {
        if (buffer == cb.transfer->send_buffer.unsent()) break;
        SendSegment& segment = send_segment(buffer);
        if (segment.end().after(ack)) {
            if (ack.after(segment.seq)) {
                const std::uint32_t part = ack - segment.seq;
                if (!segment.sacked && segment.length > segment.cut_to && part >= segment.cut_to) {   // of several, some
                    SendSegment arrived = segment;
                    arrived.length = static_cast<std::uint16_t>(part);
                    arrived.fin = false;
                    note_delivered(cb, arrived, arrival, delivery);
                } else if (!segment.sacked) {
                    delivery.delivered += part;
                }
                cb.transfer->send_buffer.trim_front(static_cast<std::uint16_t>(part));
            }
            break;
        }
        if (!segment.sacked) note_delivered(cb, segment, arrival, delivery);
        cb.transfer->send_buffer.pop_front();
    }
    cb.snd_una = ack;
}

bool Core::undo_spurious(ControlBlock& cb, const Arrival& arrival) {
    // Eifel (RFC 3522 3.2, step 4): the ACK echoes a timestamp older than the first retransmission, so the original had arrived.
    const bool original = cb.undo_possible && cb.timestamps &&
                          static_cast<std::int32_t>(arrival.options.timestamps->echo - cb.transfer->undo_timestamp) < 0;
    // All that was believed lost has arrived before any of it was sent again.
    const bool nothing_lost = cb.recovery == Recovery::fast && !cb.undo_possible && cb.transfer->send_buffer.lost_octets == 0;
    if (!original && !nothing_lost) return false;
    cb.transfer->send_buffer.unmark_all_lost();
    cb.cubic.restore(cb.transfer->undo_window);
    if (cb.recovery == Recovery::fast) cb.reordering_seen = true;   // RFC 8985 6.2, step 3, learns nothing from what was sent again
    cb.recovery = Recovery::open;
    cb.undo_possible = false;
    cb.transfer->reno_sacked = 0;
    cb.transfer->duplicate_acks = 0;
    return true;
}

void Core::mark_first_lost(ControlBlock& cb) noexcept {
    SendBuffer& buffer = cb.transfer->send_buffer;
    rte_mbuf* first = buffer.front();
    const SendSegment& segment = send_segment(first);
    // Of several it is the first one; all of them, which is too much and no harm, where there is no buffer.
    if (segment.length > segment.cut_to)
        if (rte_mbuf* const cut = buffer.split(first, segment.cut_to, pool_)) first = cut;
    buffer.mark_lost(first);
}

void Core::enter_recovery(ControlBlock& cb) {
    cb.recovery = Recovery::fast;
    cb.recovery_point = cb.snd_nxt;
    cb.transfer->undo_window = cb.cubic.window();
    cb.cubic.on_congestion(cb.snd_mss);
    cb.cwr_due = cb.ecn;
    cb.undo_possible = false;  // set by the first retransmission
    cb.transfer->prr_delivered = cb.transfer->prr_out = 0;
    cb.transfer->recover_flight = std::max(cb.flight(), 1u);
    ++counters.fast_retransmits;
}

void Core::recover(ControlBlock& cb, const Arrival& arrival, const Delivery& delivery, bool duplicate_ack) {
    SendBuffer& buffer = cb.transfer->send_buffer;
    if (cb.recovery != Recovery::open && delivery.acked > 0 && undo_spurious(cb, arrival)) return;

    // Leaving: all that was outstanding when recovery began is acknowledged.
    if (cb.recovery != Recovery::open && cb.snd_una.at_or_after(cb.recovery_point)) {
        if (cb.recovery == Recovery::fast) cb.cubic.set_cwnd(std::max(cb.cubic.ssthresh(), cb.snd_mss + 0u));
        if (cb.reo_wnd_persist > 0 && --cb.reo_wnd_persist == 0) cb.reo_wnd_multiplier = 1;   // RFC 8985 6.2, step 4
        cb.recovery = Recovery::open;
        cb.undo_possible = false;
        cb.transfer->reno_sacked = 0;
        cb.transfer->duplicate_acks = 0;
    }

    // What is lost?
    std::uint32_t delivered = delivery.delivered;
    if (cb.sack_permitted) {
        if (buffer.sacked_octets > 0 || buffer.lost_octets > 0 || cb.recovery != Recovery::open)
            rack_detect_loss(cb, arrival.now);
    } else if (cb.recovery != Recovery::loss) {  // RFC 6582
        rte_mbuf* first = buffer.front();
        const bool in_flight = first != nullptr && first != buffer.unsent();
        if (delivery.acked > 0) {
            cb.transfer->reno_sacked = 0;
            cb.transfer->duplicate_acks = 0;
            if (cb.recovery == Recovery::fast && in_flight) mark_first_lost(cb);  // 3.2, step 3, partial
        } else if (duplicate_ack) {
            if (cb.transfer->duplicate_acks < 255) ++cb.transfer->duplicate_acks;
            const std::uint32_t rest = cb.flight() - std::min(cb.flight(), buffer.lost_octets + cb.transfer->reno_sacked);
            const std::uint32_t segment = std::min<std::uint32_t>(cb.snd_mss, rest);
            cb.transfer->reno_sacked += segment;  // each stands for a segment that has left the network
            delivered += segment;
            if (cb.recovery == Recovery::open && cb.transfer->duplicate_acks == 3 && in_flight) mark_first_lost(cb);
        }
    }

    if (cb.recovery == Recovery::open && buffer.lost_octets > 0) enter_recovery(cb);

    switch (cb.recovery) {
        case Recovery::open:
        case Recovery::loss:
            if (delivery.acked == 0) break;
            if (cb.ecn && arrival.has(wire::kEce)) break;   // "SHOULD NOT increase the congestion window": RFC 3168 6.1.2
            if (cb.cwnd_limited || cb.recovery == Recovery::loss)
                cb.cubic.on_ack(settings_.pacing ? delivery.acked : std::min(delivery.acked, kMostGrowth * cb.snd_mss), cb.snd_mss, cb.rtt.srtt(),
                                arrival.now);
            else
                cb.cubic.on_application_limited(arrival.now);
            break;
        case Recovery::fast: {
            // Proportional rate reduction with the slow-start bound (RFC 6937 3). An ACK that delivers nothing allows nothing, as in Linux.
            if (delivered == 0 && cb.transfer->prr_out > 0) break;
            cb.transfer->prr_delivered += delivered;
            const std::uint32_t pipe = cb.in_flight();
            const std::uint32_t ssthresh = cb.cubic.ssthresh();
            std::int64_t room;
            if (pipe > ssthresh) {
                const std::uint64_t share = (std::uint64_t{cb.transfer->prr_delivered} * ssthresh + cb.transfer->recover_flight - 1) / cb.transfer->recover_flight;
                room = static_cast<std::int64_t>(share) - cb.transfer->prr_out;
            } else {
                const std::int64_t bound =
                    std::max<std::int64_t>(std::int64_t{cb.transfer->prr_delivered} - cb.transfer->prr_out, delivered) + cb.snd_mss;
                room = std::min<std::int64_t>(std::int64_t{ssthresh} - pipe, bound);
            }
            // The first retransmission is sent at once, whatever the pipe holds (RFC 6675 5, step 4.3).
            room = std::max<std::int64_t>(room, cb.transfer->prr_out == 0 ? cb.snd_mss : 0);
            cb.cubic.set_cwnd(pipe + static_cast<std::uint32_t>(room));
            break;
        }
    }
}

}  // namespace sallyport::tcp
