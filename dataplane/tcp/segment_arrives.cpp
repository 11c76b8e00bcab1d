// SEGMENT ARRIVES: RFC 9293 3.10.7, as its outline. Read it with the RFC open.

#include <algorithm>

#include "crypto/check.h"
#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

using wire::kAck;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;

void Arrival::trim_front(std::uint32_t octets) noexcept {
    octets = std::min(octets, length);
    seq += octets;
    length -= octets;
    for (rte_mbuf* piece = payload.get(); piece != nullptr && octets > 0; piece = piece->next) {
        const auto here = static_cast<std::uint16_t>(std::min<std::uint32_t>(octets, piece->data_len));
        piece->data_off = static_cast<std::uint16_t>(piece->data_off + here);
        piece->data_len = static_cast<std::uint16_t>(piece->data_len - here);
        octets -= here;
    }
}

void Arrival::trim_back(std::uint32_t octets) noexcept {
    length -= std::min(octets, length);
    std::uint32_t left = length;
    for (rte_mbuf* piece = payload.get(); piece != nullptr; piece = piece->next) {
        const auto here = static_cast<std::uint16_t>(std::min<std::uint32_t>(left, piece->data_len));
        piece->data_len = here;
        left -= here;
    }
}

void Core::segment_arrives(const wire::Segment& segment, rte_mbuf* payload, Time now) {
    arrives(segment, payload, static_cast<std::uint32_t>(table_.hash(tuple_of(segment))), now);
}

void Core::segments_arrive(std::span<const Stack::Arriving> burst, Time now) {
    SALLYPORT_CHECK(burst.size() <= Stack::kMostArriving);
    std::array<std::uint32_t, Stack::kMostArriving> hashes;
    for (std::size_t i = 0; i < burst.size(); ++i) {
        hashes[i] = static_cast<std::uint32_t>(table_.hash(tuple_of(burst[i].segment)));
        table_.prefetch_slot(hashes[i]);
    }
    // Now each block some segments before its turn, and what it leads to one after the other: a processor has some twenty lines under way from memory,
    // and forgets what more it is asked for.
    std::array<const ControlBlock*, Stack::kMostArriving> found;
    const std::uint64_t destroyed = destroyed_;
    for (std::size_t step = 0; step < burst.size() + 3; ++step) {
        const auto fetched = [&](std::size_t ago) -> const ControlBlock* {
            return step >= ago && step - ago < burst.size() && destroyed_ == destroyed ? found[step - ago] : nullptr;
        };
        if (step < burst.size()) found[step] = table_.prefetch_first(hashes[step]);
        if (const ControlBlock* const cb = fetched(1)) {
            prefetch(*cb->transfer);
            if (fetch != nullptr && cb->user != 0) fetch(fetch_context, cb->user, false);
        }
        if (const ControlBlock* const cb = fetched(2)) {
            if (const rte_mbuf* const first = cb->transfer->send_buffer.front()) prefetch_acknowledged(first);
            if (fetch != nullptr && cb->user != 0) fetch(fetch_context, cb->user, true);
        }
        if (step >= 3) arrives(burst[step - 3].segment, burst[step - 3].payload, hashes[step - 3], now);
    }
}

void Core::arrives(const wire::Segment& segment, rte_mbuf* payload, std::uint32_t hash, Time now) {
    now_ = now;
    ++counters.segments_in;
    Arrival arrival(segment, payload, now);
    const auto options = wire::parse_tcp_options(segment.options);
    if (!options) {
        count(options.error());
        return;
    }
    arrival.options = *options;
    ControlBlock* cb = table_.find(arrival.tuple(), hash);
    if (cb == nullptr) {
        if (listening(arrival.tuple().local))
            arrives_listen(arrival);
        else
            arrives_closed(arrival);
        return;
    }
    if (fast_path_enabled && fast_path(*cb, arrival)) return;
    if (cb->current == State::syn_sent)
        arrives_syn_sent(*cb, arrival);
    else
        arrives_otherwise(*cb, arrival);
}

// 3.10.7.1
void Core::arrives_closed(const Arrival& arrival) {
    count(arrival.has(kSyn) && !arrival.has(kAck) ? DropReason::tcp_no_listener : DropReason::tcp_no_connection);
    if (arrival.has(kRst)) return;
    answer_reset(arrival);
}

// 3.10.7.2
void Core::arrives_listen(Arrival& arrival) {
    if (arrival.has(kRst)) {
        count(DropReason::tcp_no_connection);
        return;
    }
    if (arrival.has(kAck)) {
        const std::optional<ControlBlock*> cb = accept_cookie(arrival);
        if (!cb) {
            count(DropReason::tcp_no_connection);
            answer_reset(arrival);
        } else if (*cb != nullptr) {
            arrives_otherwise(**cb, arrival);
        }
        return;
    }
    if (!arrival.has(kSyn) || arrival.has(kFin)) {  // SYN with FIN: nothing but scanners sends it
        count(DropReason::tcp_no_connection);
        return;
    }
    open_passive(arrival);
}

// 3.10.7.3
void Core::arrives_syn_sent(ControlBlock& cb, Arrival& arrival) {
    // first check the ACK bit
    const bool acceptable_ack = arrival.has(kAck) && arrival.ack.after(cb.iss) && arrival.ack.at_or_before(cb.snd_nxt);
    if (arrival.has(kAck) && !acceptable_ack) {
        count(DropReason::tcp_unacceptable_ack);
        if (arrival.has(kRst)) return;
        answer_reset(arrival);
        // What answers is left over from an earlier connection, and our reset has just ended it (RFC 9293 3.5.1, figure 8): the next SYN
        // need not wait for the timer. Once only, so that a liar gets no more of us.
        if (cb.syn_transmissions == 1) {
            cb.syn_due = true;
            mark_dirty(cb);
        }
        return;
    }
    // second check the RST bit
    if (arrival.has(kRst)) {
        if (!acceptable_ack) {
            count(DropReason::tcp_no_connection);
            return;
        }
        ++counters.resets_in;
        end(cb, End::refused);
        return;
    }
    // third check the security: not applicable (no compartments)
    // fourth check the SYN bit
    if (!arrival.has(kSyn)) {
        count(DropReason::tcp_no_connection);
        return;
    }
    cb.irs = arrival.seq;
    cb.rcv_nxt = cb.last_ack_sent = cb.irs + 1;
    cb.rcv_adv = cb.rcv_nxt + syn_window(cb);   // what our SYN has promised
    take_syn_options(cb, arrival.options);
    // An ECN-setup SYN,ACK says ECE alone; both flags are a peer's that reflects what it does not know (RFC 3168 6.1.1). A SYN alone begins a
    // simultaneous open, which is done without.
    cb.ecn = cb.ecn && arrival.has(kAck) && arrival.has(wire::kEce) && !arrival.has(wire::kCwr);
    // The window of a SYN is never scaled (RFC 7323 2.2).
    cb.snd_wnd = cb.max_snd_wnd = arrival.segment.tcp.window;
    cb.snd_wl1 = arrival.seq;
    cb.snd_wl2 = arrival.ack;
    if (acceptable_ack) {
        if (cb.syn_transmissions == 1) cb.rtt.sample(arrival.now - cb.last_sent);
        cb.snd_una = arrival.ack;
        ++counters.connected;
        if (cb.speaks_first)   // "Data or controls that were queued for transmission MAY be included": they come in a moment; Linux does so too
            delay_ack(cb, arrival.now);
        else
            cb.ack_now = true;
        establish(cb, arrival);
        return;  // text with a SYN,ACK is not kept (that would be RFC 7413): the peer sends it again
    }
    // Simultaneous open: SYN-RECEIVED, <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>.
    set_state(cb, State::syn_received);
    cb.backoff = 0;
    cb.syn_due = true;
    mark_dirty(cb);
}

// 3.10.7.4
void Core::arrives_otherwise(ControlBlock& cb, Arrival& arrival) {
    if (cb.current == State::time_wait && acceptable_in_time_wait(cb, arrival)) {
        // RFC 9293 3.6.1 (MAY-2), RFC 6191: the peer opens a new connection with the same ports.
        arrival.used = cb.snd_nxt;
        end(cb, End::finished);
        if (listening(arrival.tuple().local))
            arrives_listen(arrival);
        else
            arrives_closed(arrival);
        return;
    }
    cb.last_received = arrival.now;
    cb.probes = 0;
    if (check_sequence(cb, arrival) == Verdict::done) return;   // first
    if (check_reset(cb, arrival) == Verdict::done) return;      // second
    if (check_security(cb, arrival) == Verdict::done) return;   // third
    if (check_syn(cb, arrival) == Verdict::done) return;        // fourth
    if (check_ack(cb, arrival) == Verdict::done) return;        // fifth
    if (check_urgent(cb, arrival) == Verdict::done) return;     // sixth
    if (take_text(cb, arrival) == Verdict::done) return;        // seventh
    take_fin(cb, arrival);                                      // eighth
    settle(cb);
}

bool Core::acceptable_in_time_wait(const ControlBlock& cb, const Arrival& arrival) const noexcept {
    if (!arrival.has(kSyn) || arrival.has(kAck) || arrival.has(kRst)) return false;
    if (half_open >= settings_.max_half_open) return false;   // a cookie cannot be chosen above what has been used
    if (cb.timestamps && arrival.options.timestamps) {
        const auto newer = static_cast<std::int32_t>(arrival.options.timestamps->value - cb.ts_recent);
        if (newer != 0) return newer > 0;
    }
    return arrival.seq.after(cb.rcv_nxt);
}

Verdict Core::check_sequence(ControlBlock& cb, Arrival& arrival) {
    if (cb.timestamps && !arrival.has(kRst)) {
        // RFC 7323 3.2: once negotiated, a segment without timestamps is dropped.
        if (!arrival.options.timestamps) {
            count(DropReason::tcp_paws);
            return Verdict::done;
        }
        // RFC 7323 5.3, R1; 5.5: TS.Recent is no longer valid after 24 days of idleness, which keepalives prevent.
        if (static_cast<std::int32_t>(arrival.options.timestamps->value - cb.ts_recent) < 0) {
            challenge(cb, arrival.now, DropReason::tcp_paws);
            return Verdict::done;
        }
    }

    if (cb.current == State::syn_received && arrival.has(kSyn) && !arrival.has(kAck) && arrival.seq == cb.irs) {
        // The peer has not received our SYN,ACK and asks again.
        count(DropReason::tcp_duplicate_octets);
        if (!arrival.has(wire::kEce) || !arrival.has(wire::kCwr)) cb.ecn = false;   // it has given that up (RFC 3168 6.1.1.1)
        cb.syn_due = true;
        mark_dirty(cb);
        return Verdict::done;
    }
    if (cb.current == State::syn_received && arrival.has(kSyn) && arrival.has(kAck) && arrival.seq == cb.irs && arrival.ack == cb.snd_nxt) {
        // Simultaneous open (RFC 9293 3.5, figure 7): the SYN,ACK repeats the SYN that we have, which would be outside the window, for the
        // sake of its ACK. Both ends send one and nothing else, so it must be taken.
        arrival.flags = static_cast<std::uint8_t>(arrival.flags & ~kSyn);
        arrival.seq += 1;
        cb.ack_now = true;   // the peer may not have got ours
        mark_dirty(cb);
    }

    const std::uint32_t window = cb.rcv_wnd();
    const std::uint32_t length = arrival.sequence_length();
    const bool starts_inside = arrival.seq.in_window(cb.rcv_nxt, window);
    const bool ends_inside = length > 0 && (arrival.seq + (length - 1)).in_window(cb.rcv_nxt, window);
    // A peer that has filled the window acknowledges with SEG.SEQ at its edge, RCV.NXT + RCV.WND, while a segment of it is lost.
    // By the letter that is not acceptable; but then our retransmissions would go on until its own arrive. Linux takes it, too.
    const bool ack_at_edge = length == 0 && arrival.seq == cb.rcv_nxt + window && !arrival.has(kRst);
    bool acceptable = window == 0 ? arrival.seq == cb.rcv_nxt && length == 0
                                  : (length == 0 ? starts_inside || ack_at_edge : starts_inside || ends_inside);
    // A segment that begins before the window and ends behind it has octets that we want, too.
    if (!acceptable && window > 0 && length > 0)
        acceptable = arrival.seq.before(cb.rcv_nxt) && (arrival.seq + length).after(cb.rcv_nxt);
    if (!acceptable && window == 0 && arrival.seq == cb.rcv_nxt && !arrival.has(kSyn)) {
        // "If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept valid ACKs, URGs,
        // and RSTs": only text and FIN are refused.
        if (arrival.length > 0) count(DropReason::tcp_receive_full);
        arrival.trim_back(arrival.length);
        arrival.flags = static_cast<std::uint8_t>(arrival.flags & ~kFin);
        cb.ack_now = true;
        mark_dirty(cb);
        acceptable = true;
    }
    if (!acceptable) {
        if (arrival.has(kRst)) {
            count(DropReason::tcp_out_of_window);
            return Verdict::done;
        }
        const bool seen = arrival.length > 0 && arrival.seq.before(cb.rcv_nxt);
        if (seen && cb.sack_permitted) engage(cb).reassembly.duplicate(arrival.seq, arrival.seq + arrival.length);
        challenge(cb, arrival.now, seen ? DropReason::tcp_duplicate_octets : DropReason::tcp_out_of_window);
        // TIME-WAIT: the retransmission of the peer's FIN starts the 2 MSL again (eighth step). So does text, as in Linux: a peer that has not got the
        // ACK of a whole window sends its beginning again, and the FIN much later.
        if (cb.current == State::time_wait && (arrival.has(kFin) || seen)) arm(cb, Timer::linger, arrival.now + 2 * settings_.msl);
        return Verdict::done;
    }
    update_ts_recent(cb, arrival);

    // "trimming off any portions that lie outside the window (including SYN and FIN)"
    if (arrival.seq.before(cb.rcv_nxt) && !arrival.has(kSyn)) {
        const std::uint32_t before = cb.rcv_nxt - arrival.seq;
        if (arrival.length > 0) {
            count(DropReason::tcp_duplicate_octets);
            if (cb.sack_permitted)
                engage(cb).reassembly.duplicate(arrival.seq, earlier_of(cb.rcv_nxt, arrival.seq + arrival.length));
            cb.ack_now = true;
            mark_dirty(cb);
        }
        arrival.trim_front(before);
    }
    if (arrival.length > 0 && (arrival.seq + arrival.length).after(cb.rcv_adv)) {
        count(DropReason::tcp_receive_full);
        arrival.trim_back(arrival.seq + arrival.length - cb.rcv_adv);
        arrival.flags = static_cast<std::uint8_t>(arrival.flags & ~kFin);
        cb.ack_now = true;
        mark_dirty(cb);
    }
    return Verdict::go_on;
}

void Core::take_congestion_mark(ControlBlock& cb, const Arrival& arrival) noexcept {
    if (!cb.ecn) return;
    if (arrival.has(wire::kCwr)) cb.ecn_echo = false;
    if ((arrival.segment.ip.traffic_class & wire::kEcnMask) != wire::kEcnCe) return;
    ++counters.congestion_marks_in;
    cb.ecn_echo = true;
}

void Core::update_ts_recent(ControlBlock& cb, const Arrival& arrival) noexcept {
    // RFC 7323 4.3 (2): SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent.
    if (!cb.timestamps || !arrival.options.timestamps || arrival.has(kRst)) return;
    if (arrival.seq.at_or_before(cb.last_ack_sent)) cb.ts_recent = arrival.options.timestamps->value;
}

Verdict Core::check_reset(ControlBlock& cb, Arrival& arrival) {
    if (!arrival.has(kRst)) return Verdict::go_on;
    if (cb.current == State::time_wait) {  // RFC 1337 3, (F1)
        count(DropReason::tcp_no_connection);
        return Verdict::done;
    }
    // RFC 5961 3.2: only the exact sequence number resets; any other in the window is challenged.
    if (arrival.seq != cb.rcv_nxt) {
        challenge(cb, arrival.now, DropReason::tcp_challenge_ack);
        return Verdict::done;
    }
    ++counters.resets_in;
    // SYN-RECEIVED of a passive open "returns to LISTEN": no user has heard of it. Else a simultaneous open was refused.
    end(cb, cb.current == State::syn_received ? End::refused
            : cb.fin_acknowledged() && cb.peer_fin_taken ? End::finished : End::reset);
    return Verdict::done;
}

Verdict Core::check_security(ControlBlock&, Arrival&) {
    return Verdict::go_on;  // no compartments: nothing carries them today (RFC 9293 A.1)
}

Verdict Core::check_syn(ControlBlock& cb, Arrival& arrival) {
    if (!arrival.has(kSyn)) return Verdict::go_on;
    challenge(cb, arrival.now, DropReason::tcp_challenge_ack);  // RFC 5961 4.2, whatever the sequence number
    return Verdict::done;
}

Verdict Core::check_ack(ControlBlock& cb, Arrival& arrival) {
    if (!arrival.has(kAck)) {
        count(DropReason::tcp_no_ack);
        return Verdict::done;
    }
    if (cb.current == State::syn_received) {
        if (!arrival.ack.after(cb.snd_una) || arrival.ack.after(cb.snd_nxt)) {
            count(DropReason::tcp_unacceptable_ack);
            answer_reset(arrival);
            return Verdict::done;
        }
        if (cb.syn_transmissions == 1) cb.rtt.sample(arrival.now - cb.last_sent);
        cb.snd_una = arrival.ack;
        cb.snd_wnd = arrival.window(cb.snd_wnd_shift);
        cb.max_snd_wnd = cb.snd_wnd;
        cb.snd_wl1 = arrival.seq;
        cb.snd_wl2 = arrival.ack;
        ++(cb.passive ? counters.accepted : counters.connected);
        establish(cb, arrival);
    }
    if (arrival.options.user_timeout) take_user_timeout(cb, arrival.options);
    if (acknowledge(cb, arrival) == Verdict::done) return Verdict::done;

    switch (cb.current) {
        case State::fin_wait_1:
            if (cb.fin_acknowledged()) {
                set_state(cb, State::fin_wait_2);
                if (cb.released) {
                    arm(cb, Timer::linger, arrival.now + 2 * settings_.msl);
                }
            }
            break;
        case State::closing:
            if (cb.fin_acknowledged()) enter_time_wait(cb, arrival.now);
            break;
        case State::last_ack:
            if (cb.fin_acknowledged()) {
                end(cb, End::finished);
                return Verdict::done;
            }
            break;
        case State::closed:
        case State::listen:
        case State::syn_sent:
        case State::syn_received:
        case State::established:
        case State::fin_wait_2:
        case State::close_wait:
        case State::time_wait:
            break;
    }
    return Verdict::go_on;
}

Verdict Core::check_urgent(ControlBlock&, Arrival&) {
    return Verdict::go_on;  // the urgent pointer means nothing to us; its octets are delivered in line (RFC 6093 4, 6)
}

Verdict Core::take_text(ControlBlock& cb, Arrival& arrival) {
    if (arrival.length == 0) return Verdict::go_on;
    switch (cb.current) {
        case State::established:
        case State::fin_wait_1:
        case State::fin_wait_2:
            break;
        case State::closed:
        case State::listen:
        case State::syn_sent:
        case State::syn_received:
        case State::close_wait:
        case State::closing:
        case State::last_ack:
        case State::time_wait:
            count(DropReason::tcp_after_fin);  // "This should not occur"
            return Verdict::go_on;
    }
    if (cb.released) {  // "If the user's TCP has been closed": RFC 9293 3.10.7.4 before step 1, RFC 2525 2.17
        count(DropReason::tcp_data_after_close);
        send_reset(cb);
        end(cb, End::aborted);
        return Verdict::done;
    }
    if (cb.peer_fin_known && (arrival.seq + arrival.length).after(cb.peer_fin_seq)) {
        count(DropReason::tcp_after_fin);
        arrival.trim_back(arrival.seq + arrival.length - (arrival.seq.before(cb.peer_fin_seq) ? cb.peer_fin_seq : arrival.seq));
        if (arrival.length == 0) return Verdict::go_on;
    }
    if (refuse_payload(cb)) return Verdict::done;  // a FIN behind it has not arrived either
    take_congestion_mark(cb, arrival);
    cb.rcv_mss = static_cast<std::uint16_t>(std::clamp<std::uint32_t>(arrival.length, cb.rcv_mss, std::max(cb.our_mss, cb.rcv_mss)));
    if (arrival.seq == cb.rcv_nxt) {
        const bool had_gap = !cb.transfer->reassembly.empty();
        take_in_order(cb, std::move(arrival.payload), arrival.now);
        // RFC 5681 4.2: at once when a gap is filled, wholly or in part.
        if (had_gap) {
            cb.ack_now = true;
            mark_dirty(cb);
        }
        return Verdict::go_on;
    }
    ++counters.out_of_order;
    take_out_of_order(cb, std::move(arrival.payload), arrival.seq);
    return Verdict::go_on;
}

void Core::take_in_order(ControlBlock& cb, BufferPtr payload, Time now) {
    const SeqNum before = cb.rcv_nxt;
    const auto take = [&](rte_mbuf* piece) {
        cb.rcv_nxt += piece->data_len;
        cb.receive_queue.append(piece);
    };
    for (rte_mbuf* piece = payload.release(); piece != nullptr;) {
        rte_mbuf* next = piece->next;
        piece->next = nullptr;
        piece->nb_segs = 1;
        piece->pkt_len = piece->data_len;
        if (piece->data_len > 0)
            take(piece);
        else
            rte_pktmbuf_free_seg(piece);
        piece = next;
    }
    while (!cb.transfer->reassembly.empty()) {
        rte_mbuf* const piece = cb.transfer->reassembly.take(cb.rcv_nxt);
        if (piece == nullptr) break;
        take(piece);
    }
    const std::uint32_t octets = cb.rcv_nxt - before;
    cb.octets_received += octets;
    counters.octets_in += octets;
    cb.unacknowledged += octets;
    // An ACK for every second full-sized segment at least (RFC 9293 3.8.6.3, SHLD-18), else within kDelayedAck.
    if (cb.unacknowledged >= 2u * cb.rcv_mss) {
        cb.ack_now = true;
        mark_dirty(cb);
    } else if (!cb.ack_now && !armed(cb, Timer::delayed_ack)) {
        delay_ack(cb, now);
    }
    raise(cb, event::kReadable);
}

void Core::take_out_of_order(ControlBlock& cb, BufferPtr payload, SeqNum seq) {
    if (receive_pressure() != Pressure::none) {
        settle(cb);
        prune(cb);
        if (receive_pressure() != Pressure::none) {
            count(DropReason::tcp_memory_pressure);
            payload.reset();
        }
    }
    for (rte_mbuf* piece = payload.release(); piece != nullptr;) {
        rte_mbuf* next = piece->next;
        piece->next = nullptr;
        piece->nb_segs = 1;
        piece->pkt_len = piece->data_len;
        const SeqNum piece_seq = seq;
        seq += piece->data_len;
        if (piece->data_len == 0) {
            rte_pktmbuf_free_seg(piece);
        } else {
            switch (engage(cb).reassembly.insert(piece, piece_seq, settings_.max_reassembly_segments)) {
                case ReassemblyQueue::Inserted::all: break;
                case ReassemblyQueue::Inserted::duplicate: count(DropReason::tcp_duplicate_octets); break;
                case ReassemblyQueue::Inserted::full: count(DropReason::tcp_reassembly_full); break;
            }
        }
        piece = next;
    }
    // RFC 5681 4.2: an immediate duplicate ACK. With SACK one for a burst tells as much as many.
    if (!cb.sack_permitted && cb.duplicate_acks_due < 64) ++cb.duplicate_acks_due;
    cb.ack_now = true;
    mark_dirty(cb);
}

void Core::take_fin(ControlBlock& cb, Arrival& arrival) {
    if (arrival.has(kFin) && !cb.peer_fin_known) {
        cb.peer_fin_known = true;
        cb.peer_fin_seq = arrival.seq + arrival.length;
    }
    if (!cb.peer_fin_known || cb.peer_fin_taken || cb.rcv_nxt != cb.peer_fin_seq) return;
    cb.peer_fin_taken = true;
    cb.rcv_nxt += 1;
    cb.rcv_adv = later_of(cb.rcv_adv, cb.rcv_nxt);
    if (cb.engaged()) cb.transfer->reassembly.clear();
    raise(cb, event::kPeerClosed);
    const bool may_answer = cb.current == State::syn_received || cb.current == State::established;
    const bool filled_gap = !arrival.has(kFin);   // RFC 5681 4.2: it came before, and what was missing has come now
    if (!may_answer || filled_gap) {
        cb.ack_now = true;
        mark_dirty(cb);
    } else if (!cb.ack_now && !armed(cb, Timer::delayed_ack)) {
        delay_ack(cb, arrival.now);   // our user has something to say to that, or closes too: with either goes the ACK (Linux waits for it as well)
    }
    switch (cb.current) {
        case State::syn_received:
        case State::established:
            set_state(cb, State::close_wait);
            break;
        case State::fin_wait_1:
            set_state(cb, State::closing);  // had our FIN been acknowledged, the fifth step had made it FIN-WAIT-2
            break;
        case State::fin_wait_2:
            enter_time_wait(cb, arrival.now);
            break;
        case State::closed:
        case State::listen:
        case State::syn_sent:
        case State::close_wait:
        case State::closing:
        case State::last_ack:
        case State::time_wait:
            break;
    }
}

void Core::challenge(ControlBlock& cb, Time now, DropReason reason) noexcept {
    count(reason);
    // RFC 5961 7 asks for a limit. It is kept per connection, since one for all can be observed from outside (CVE-2016-5696).
    constexpr Duration kPeriod = 250ms;
    constexpr std::uint8_t kMost = 10;
    if (cb.challenge_period.ago(now) >= kPeriod) {
        cb.challenge_period = now;
        cb.challenges = 0;
    }
    if (cb.challenges >= kMost) {
        count(DropReason::tcp_challenge_limited);
        return;
    }
    ++cb.challenges;
    cb.ack_now = true;
    mark_dirty(cb);
}

}  // namespace sallyport::tcp
