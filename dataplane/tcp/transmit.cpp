// What leaves: new segments, retransmissions, acknowledgments, resets. output() does it for all connections that changed in a burst.

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

using wire::kAck;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;

namespace {

/// Writes a TCP header with options so that it ends where the buffer's data begins, and makes it part of the data.
void prepend_header(rte_mbuf* buffer, const Tuple& tuple, SeqNum seq, SeqNum ack, std::uint8_t flags, std::uint16_t window,
                    const wire::TcpOptions& options) noexcept {
    std::array<std::byte, wire::kTcpOptionsLengthMax> option_octets;
    const std::size_t option_length = wire::write_tcp_options(options, option_octets);
    const auto length = static_cast<std::uint16_t>(wire::kTcpHeaderLength + option_length);
    auto* at = reinterpret_cast<std::byte*>(rte_pktmbuf_prepend(buffer, length));
    wire::write_tcp_header({.source_port = tuple.local.port,
                            .destination_port = tuple.remote.port,
                            .seq = seq.value(),
                            .ack = ack.value(),
                            .window = window,
                            .urgent = 0,
                            .flags = flags,
                            .length = static_cast<std::uint8_t>(length)},
                           {at, length});
    std::memcpy(at + wire::kTcpHeaderLength, option_octets.data(), option_length);
}

}  // namespace

void Core::output(Time now) {
    now_ = now;
    while (ControlBlock* cb = dirty_.pop_front()) flush(*cb, now);
}

void Core::flush(ControlBlock& cb, Time now) {
    if (cb.syn_due) {
        send_syn(cb, now);
        return;
    }
    if (!cb.synchronized() && cb.current != State::syn_received) return;
    if (cb.can_send()) {
        if (cb.closing && !cb.fin_appended) cb.fin_appended = engage(cb).send_buffer.append_fin(cb.stream_end(), pool_);
        if (cb.ack_now) cb.held_back = false;   // they leave together
        const SeqNum snd_nxt_before = cb.snd_nxt;
        const std::uint64_t retransmissions_before = cb.retransmissions;
        send_lost(cb, now);
        send_new(cb, now, false);
        // What did not send does not put off the probe either (RFC 8985 7.2).
        const bool sent = cb.snd_nxt != snd_nxt_before || cb.retransmissions != retransmissions_before;
        if (sent || !(armed(cb, Timer::retransmit) || cb.held_back)) schedule_retransmit(cb, now, false);
        if (cb.closing && !cb.fin_appended) delay_ack(cb, now);  // no buffer: soon again
    }
    // ACKs of a burst are one, but a peer without SACK counts duplicates.
    for (unsigned left = std::max<unsigned>(cb.duplicate_acks_due, 1); cb.ack_now && left > 0; --left) {
        const bool more = left > 1;
        send_control(cb, sequence_of_ack(cb), kAck, now);
        if (more) cb.ack_now = true;
    }
    cb.duplicate_acks_due = 0;
    settle(cb);
}

bool Core::cwnd_allows(const ControlBlock& cb, std::uint32_t length) const noexcept {
    const std::uint32_t pipe = cb.in_flight();
    return pipe == 0 || pipe + length <= cb.cubic.cwnd();
}

bool Core::paced(ControlBlock& cb, Time now) noexcept {
    if (!settings_.pacing || cb.transfer->pace_at <= now + kPaceAhead || cb.flight() < Cubic::initial_window(cb.snd_mss)) return false;
    arm(cb, Timer::pace, cb.transfer->pace_at - kPaceAhead);
    return true;
}

void Core::note_pace(ControlBlock& cb, std::uint32_t octets, Time now) const noexcept {
    // Faster than the window a round trip, so that the pace never is what limits: twice in slow start, which doubles, else by a fifth.
    const std::int64_t srtt = cb.rtt.srtt().count(), tenths = cb.cubic.slow_start() ? 20 : 12;
    if (!settings_.pacing || srtt * 10 <= kPaceAhead.count() * tenths) return;   // a whole window may leave at once
    cb.transfer->pace_at = std::max(cb.transfer->pace_at, now) + Duration{srtt * octets * 10 / (std::int64_t{std::max(cb.cubic.cwnd(), 1u)} * tenths)};
}

void Core::send_lost(ControlBlock& cb, Time now) {
    SendBuffer& buffer = cb.transfer->send_buffer;
    while (rte_mbuf* at = buffer.first_lost()) {
        const SendSegment& segment = send_segment(at);
        if (segment.length > cb.snd_mss) {   // they were several, or the path MTU has become smaller
            if (buffer.split(at, cb.snd_mss, pool_) == nullptr) return;
            continue;
        }
        // A peer may take back a window that it gave (RFC 9293 3.8.6: the sender must bear it), and Linux drops a segment that
        // reaches beyond it as a whole: what is sent again is cut to the window. With none at all the first segment is the probe.
        const std::uint32_t used = segment.seq - cb.snd_una;
        const std::uint32_t room = cb.snd_wnd > used ? cb.snd_wnd - used : 0;
        if (room == 0 && used > 0) return;
        if (room > 0 && segment.length > room) {
            if (buffer.split(at, static_cast<std::uint16_t>(room), pool_) == nullptr) return;
            continue;
        }
        if (!cwnd_allows(cb, segment.sequence_length()) || !transmit(cb, at, now)) return;
    }
}

void Core::send_new(ControlBlock& cb, Time now, bool force) {
    SendBuffer& buffer = cb.transfer->send_buffer;
    // RFC 5681 4.1: after an idle time the window no longer tells of the path.
    if (buffer.unsent() != nullptr && cb.flight() == 0 && now - cb.last_sent > cb.rtt.rto()) cb.cubic.on_idle(cb.snd_mss);
    bool limited = false;
    while (rte_mbuf* at = buffer.unsent()) {
        const SendSegment& segment = send_segment(at);
        const Whole whole = segment.length > cb.snd_mss ? leaves_whole(cb, segment) : Whole::goes;
        if (whole == Whole::waits) {
            limited = !cwnd_allows(cb, segment.sequence_length());
            break;
        }
        if (whole == Whole::cut) {
            if (buffer.split(at, cb.snd_mss, pool_) == nullptr) break;
            continue;
        }
        if (!cwnd_allows(cb, segment.sequence_length())) {
            limited = true;
            break;
        }
        // Nagle (RFC 9293 3.7.4)
        if (cb.nagle && !force && cb.flight() > 0 && segment.length < cb.snd_mss && segment.next == nullptr && !segment.fin) break;
        if (cb.held_back && !force && segment.length < cb.snd_mss && segment.next == nullptr && !segment.fin) break;
        if (paced(cb, now)) {
            limited = true;
            break;
        }
        const std::uint32_t used = segment.seq - cb.snd_una;
        const std::uint32_t room = cb.snd_wnd > used ? cb.snd_wnd - used : 0;
        if (segment.sequence_length() > room) {
            // Silly window avoidance (RFC 9293 3.8.6.2.1): less than a segment goes only when it is half of the largest window seen,
            // or when the persist timer says so.
            const bool worth_it = room >= cb.max_snd_wnd / 2 || (force && cb.flight() == 0);
            if (room == 0 || !worth_it || buffer.split(at, static_cast<std::uint16_t>(room), pool_) == nullptr) break;
            continue;
        }
        if (!transmit(cb, at, now, Departs::with_others)) break;
    }
    depart(cb, now);
    // RFC 9438 5.8 and RFC 7661: the window may grow only while it is what limits.
    cb.cwnd_limited = limited || (cb.cubic.slow_start() && cb.in_flight() * 2 > cb.cubic.cwnd());
}

std::uint16_t Core::most_to_cut(const ControlBlock& cb) const noexcept {
    const std::uint32_t mss = cb.snd_mss;
    if (large_payload_ == 0 || cb.nagle || network_.segmentation(cb.path) == 0) return cb.snd_mss;
    // A quarter of the windows, so that enough is in flight while one waits for room; and no more than may leave at once where bursts are spread.
    const std::uint32_t most = std::min({large_payload_, cb.cubic.cwnd() / 4, cb.snd_wnd / 4, leaves_at_once(cb)});
    return most < Cutting::kWorthALarge * mss ? cb.snd_mss : static_cast<std::uint16_t>(most / mss * mss);
}

std::uint32_t Core::leaves_at_once(const ControlBlock& cb) const noexcept {
    if (!settings_.pacing || cb.rtt.srtt() <= kPaceAhead) return UINT32_MAX;
    return static_cast<std::uint32_t>(std::uint64_t{cb.cubic.cwnd()} * static_cast<std::uint64_t>(kPaceAhead.count()) / static_cast<std::uint64_t>(cb.rtt.srtt().count()));
}

Core::Whole Core::leaves_whole(const ControlBlock& cb, const SendSegment& segments) const noexcept {
    if (network_.segmentation(cb.path) == 0 || cb.nagle) return Whole::cut;   // the route has changed, or the last one may not leave
    const std::uint32_t length = segments.sequence_length(), used = segments.seq - cb.snd_una;
    if (length > leaves_at_once(cb)) return Whole::cut;   // the path has become slower
    if (cb.in_flight() + length <= cb.cubic.cwnd() && used + length <= cb.snd_wnd) return Whole::goes;
    // What is in flight is several times as much then, so that an ACK of it comes without delay.
    return cb.flight() > 0 && length <= std::min(cb.cubic.cwnd(), cb.snd_wnd) / 4 ? Whole::waits : Whole::cut;
}

bool Core::transmit(ControlBlock& cb, rte_mbuf* buffer, Time now, Departs departs) {
    const bool again = buffer != cb.transfer->send_buffer.unsent();
    // The device has not let go of the earlier transmission, or will only when it sends something else: its headers may not be
    // overwritten. A copy takes the segment's place, so that a retransmission never has to wait for the device.
    if (rte_mbuf_refcnt_read(buffer) != 1) {
        buffer = cb.transfer->send_buffer.replace(buffer, pool_);
        if (buffer == nullptr) {
            count(DropReason::no_buffer);
            return false;
        }
    }
    SendSegment& segment = send_segment(buffer);
    // Lower layers have put their headers before ours and their wishes into the buffer: back to the bare payload.
    buffer->data_off = segment.offset;
    buffer->data_len = segment.length;
    buffer->pkt_len = segment.length;
    buffer->ol_flags = 0;
    buffer->tx_offload = 0;
    buffer->nb_segs = 1;
    buffer->next = nullptr;

    std::uint8_t flags = cb.ecn_echo ? kAck | wire::kEce : kAck;
    // Only new data is marked as ECN-capable (RFC 3168 6.1.5), and tells that the window has been reduced.
    const bool ecn = cb.ecn && !again && segment.length > 0;
    if (ecn && cb.cwr_due) flags |= wire::kCwr;
    if (ecn) cb.cwr_due = false;
    if (segment.fin) flags |= kFin;
    if (segment.next == nullptr) flags |= kPsh;  // nothing behind it (RFC 9293 3.9.1.2)
    const bool joins = !again && joins_train(cb, segment, ecn);
    if (joins) {
        train_.last->next = buffer;
        train_.last = buffer;
        train_.head->pkt_len += segment.length;
        train_.octets += segment.length;
        ++train_.head->nb_segs;
        wire::add_tcp_flags(train_.header, flags & (kFin | kPsh));   // the device leaves them to the last segment
    } else {
        depart(cb, now);
        wire::TcpOptions options;
        if (cb.timestamps) options.timestamps = {ts_now(cb, now), cb.ts_recent};
        prepend_header(buffer, cb.tuple, segment.seq, cb.rcv_nxt, flags, advertise(cb), options);
    }

    segment.sent_at = now;
    segment.cut_to = cb.snd_mss;
    if (again) {
        if (!cb.undo_possible && cb.recovery != Recovery::open) {
            cb.undo_possible = true;
            cb.transfer->undo_timestamp = ts_now(cb, now);
        }
        cb.transfer->send_buffer.sent_again(buffer);
        ++cb.retransmissions;
        ++counters.retransmitted;
    } else {
        cb.transfer->send_buffer.sent();
        cb.snd_nxt = segment.end();
    }
    if (cb.recovery == Recovery::fast) cb.transfer->prr_out += segment.sequence_length();
    note_pace(cb, segment.length, now);
    cb.last_sent = now;
    cb.octets_sent += segment.length;
    counters.octets_out += segment.length;
    counters.segments_out += segment.on_wire();
    // SACK blocks do not fit beside a full segment's payload: where there are any, an ACK of their own follows.
    const bool ack_follows = cb.ack_now && cb.transfer->reassembly.anything_to_tell();
    ack_sent(cb);
    cb.ack_now = ack_follows;

    rte_mbuf_refcnt_update(buffer, 1);
    if (joins) return true;
    train_ = {.head = buffer, .last = buffer, .header = rte_pktmbuf_mtod(buffer, std::byte*), .octets = segment.length, .ecn = ecn};
    if (departs == Departs::at_once) depart(cb, now);
    return true;
}

bool Core::joins_train(const ControlBlock& cb, const SendSegment& segment, bool ecn) const noexcept {
    if (train_.head == nullptr || train_.head->nb_segs >= network_.segmentation(cb.path)) return false;
    const SendSegment& last = send_segment(train_.last);   // all but the last have the size by which the device cuts
    constexpr std::uint32_t kMostOctets = 0xffff - 256;    // of an IP packet, with room for headers
    const bool full = last.length == cb.snd_mss || (last.length > cb.snd_mss && last.length % cb.snd_mss == 0);
    return full && !last.fin && segment.length > 0 && segment.seq == last.end() && ecn == train_.ecn &&
           train_.head->pkt_len + segment.length <= kMostOctets;
}

void Core::depart(ControlBlock& cb, Time now) {
    // Member by member, as they were written: loaded as a whole they would wait for all stores before them.
    rte_mbuf* const head = train_.head;
    if (head == nullptr) return;
    const bool ecn = train_.ecn;
    const std::uint32_t octets = train_.octets;
    train_.head = train_.last = nullptr;
    const auto size = octets > cb.snd_mss ? cb.snd_mss : std::uint16_t{0};
    if (size != 0) counters.segmented += (octets + size - 1) / size;
    network_.send_tcp(head, cb.tuple.local.address, cb.tuple.remote.address, cb.path, ecn ? wire::kEcnCapable : 0, now, size);
}

void Core::send_syn(ControlBlock& cb, Time now) {
    const bool answering = cb.current == State::syn_received;
    wire::TcpOptions options;
    options.mss = cb.our_mss;
    if (!answering || cb.window_scaling) options.window_scale = rcv_wnd_shift_;
    options.sack_permitted = !answering || cb.sack_permitted;
    if (!answering || cb.timestamps) options.timestamps = {ts_now(cb, now), answering ? cb.ts_recent : 0};
    if (settings_.user_timeout_option)
        options.user_timeout = wire::UserTimeout::of(static_cast<std::uint32_t>(settings_.user_timeout / Duration{1s}));
    // A path that drops ECN-setup SYNs must not keep us from connecting (RFC 3168 6.1.1.1).
    if (!answering && cb.syn_transmissions > 0) cb.ecn = false;
    const int ecn = !cb.ecn ? 0 : answering ? wire::kEce : wire::kEce | wire::kCwr;
    const auto window = static_cast<std::uint16_t>(syn_window(cb));
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
    if (buffer != nullptr) {
        prepend_header(buffer, cb.tuple, cb.iss, answering ? cb.rcv_nxt : SeqNum{},
                       static_cast<std::uint8_t>((answering ? kSyn | kAck : kSyn) | ecn), window, options);
        if (answering) cb.rcv_adv = later_of(cb.rcv_adv, cb.rcv_nxt + window);
        network_.send_tcp(buffer, cb.tuple.local.address, cb.tuple.remote.address, cb.path, 0, now);
        ++counters.segments_out;
        if (cb.syn_transmissions < 255) ++cb.syn_transmissions;
        if (cb.syn_transmissions > 1) ++counters.retransmitted;
    } else {
        count(DropReason::no_buffer);
    }
    cb.syn_due = false;
    cb.ack_now = false;
    cb.last_sent = now;
    cb.retransmit_timer = RetransmitTimer::timeout;
    arm(cb, Timer::retransmit, now + cb.rtt.rto(cb.backoff));
}

wire::TcpOptions Core::options_for(ControlBlock& cb, Time now) noexcept {
    wire::TcpOptions options;
    if (cb.timestamps) options.timestamps = {ts_now(cb, now), cb.ts_recent};
    if (cb.sack_permitted && cb.transfer->reassembly.anything_to_tell())
        options.sack_count = static_cast<std::uint8_t>(cb.transfer->reassembly.sack_blocks(cb.rcv_nxt, options.sack_blocks));
    return options;
}

SeqNum Core::sequence_of_ack(const ControlBlock& cb) noexcept {
    if (!cb.synchronized()) return cb.snd_nxt;  // a passive OPEN does not know the window yet
    const SeqNum edge = cb.snd_una + cb.snd_wnd;
    return edge.before(cb.snd_nxt) ? edge : cb.snd_nxt;
}

void Core::send_control(ControlBlock& cb, SeqNum seq, std::uint8_t flags, Time now) {
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
    if (buffer == nullptr) {
        count(DropReason::no_buffer);
        cb.ack_now = false;
        if ((flags & kRst) == 0) delay_ack(cb, now);
        return;
    }
    const wire::TcpOptions options = options_for(cb, now);
    if (cb.ecn_echo && (flags & kRst) == 0) flags |= wire::kEce;
    prepend_header(buffer, cb.tuple, seq, cb.rcv_nxt, flags, advertise(cb), options);
    ack_sent(cb);
    if (cb.engaged()) {
        cb.transfer->reassembly.reported();
        settle(cb);   // that may have been all that the Transfer was for
    }
    ++counters.segments_out;
    network_.send_tcp(buffer, cb.tuple.local.address, cb.tuple.remote.address, cb.path, 0, now);
}

void Core::send_reset(ControlBlock& cb) noexcept {
    ++counters.resets_out;
    send_control(cb, sequence_of_ack(cb), kRst | kAck, now_);
}

void Core::answer(const Arrival& arrival, const network::Path& path, SeqNum seq, SeqNum ack, std::uint8_t flags,
                  std::uint16_t window, const wire::TcpOptions& options) {
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
    if (buffer == nullptr) {
        count(DropReason::no_buffer);
        return;
    }
    const Tuple tuple = arrival.tuple();
    prepend_header(buffer, tuple, seq, ack, flags, window, options);
    ++counters.segments_out;
    network::Path once = path;
    network_.send_tcp(buffer, tuple.local.address, tuple.remote.address, once, 0, arrival.now);
}

void Core::answer_reset(const Arrival& arrival) {
    const auto path = network_.route(arrival.segment.ip.source, arrival.now);
    if (!path) return;
    ++counters.resets_out;
    // RFC 9293 3.5.2, group 1: the reset takes its sequence number from the ACK field, or acknowledges the segment.
    if (arrival.has(kAck)) {
        answer(arrival, *path, SeqNum(arrival.segment.tcp.ack), SeqNum{}, kRst, 0, {});
        return;
    }
    const std::uint32_t length =
        arrival.segment.payload_length + (arrival.has(kSyn) ? 1u : 0u) + (arrival.has(kFin) ? 1u : 0u);
    answer(arrival, *path, SeqNum{}, SeqNum(arrival.segment.tcp.seq) + length, kRst | kAck, 0, {});
}

SeqNum Core::window_edge(const ControlBlock& cb) const noexcept {
    const std::uint32_t queued = cb.receive_queue.octets();
    // While buffers are short nobody is promised more than a share; when there are none, only who holds nothing.
    std::uint32_t limit = cb.receive_bound();
    switch (receive_pressure()) {
        case Pressure::none: limit = std::min({limit, receive_share(), cached_share(cb, received_held_)}); break;
        case Pressure::some: limit = std::min(limit, kShareUnderPressure); break;
        case Pressure::full: limit = queued == 0 ? std::min(limit, 2u * cb.our_mss) : 0; break;
    }
    const std::uint32_t room = limit > queued ? limit - queued : 0;
    return cb.rcv_nxt + std::min(room, 0xffffu << cb.rcv_wnd_shift);
}

std::uint16_t Core::advertise(ControlBlock& cb) noexcept {
    const SeqNum wanted = window_edge(cb);
    const std::uint32_t limit = cb.receive_bound();
    SeqNum edge = later_of(cb.rcv_adv, cb.rcv_nxt);
    // Silly window avoidance of the receiver (RFC 9293 3.8.6.2.2): the edge moves by a segment or half of the buffer, or not at all.
    if (wanted.after(edge) && wanted - edge >= std::min(limit / 2, std::uint32_t{cb.our_mss})) edge = wanted;
    const std::uint32_t unit = 1u << cb.rcv_wnd_shift;
    std::uint32_t field = (edge - cb.rcv_nxt) >> cb.rcv_wnd_shift;
    if ((cb.rcv_nxt + (field << cb.rcv_wnd_shift)).before(cb.rcv_adv)) {
        // The field's granularity would take back a few octets that were promised. Promise a few more instead; but not for ever, or a
        // peer that sends single octets would move the edge along with each (then RFC 7323 2.4 allows the small retreat).
        const SeqNum above = cb.rcv_nxt + ((field + 1) << cb.rcv_wnd_shift);
        if (!above.after(wanted) || above - wanted <= limit / 8 + unit) ++field;
    }
    field = std::min(field, 0xffffu);
    cb.rcv_adv = later_of(cb.rcv_adv, cb.rcv_nxt + (field << cb.rcv_wnd_shift));
    return static_cast<std::uint16_t>(field);
}

void Core::ack_sent(ControlBlock& cb) noexcept {
    cb.last_ack_sent = cb.rcv_nxt;
    cb.ack_now = false;
    cb.unacknowledged = 0;
    disarm(cb, Timer::delayed_ack);
    if (!cb.held_back) return;
    cb.held_back = false;   // what has ended its wait was sent for another reason, a retransmission for one
    mark_dirty(cb);
}

}  // namespace sallyport::tcp
