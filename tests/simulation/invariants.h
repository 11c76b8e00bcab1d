#pragma once

#include <rte_config.h>
#include <rte_mbuf.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/unit/dataplane/tcp/core_access.h"

/// What holds of a Core whenever its output() has returned, whatever peers, users and the network do.
namespace sallyport::simulation {

/// How much to look at: the sums and timers of every connection, or every buffer of every queue, too.
enum class Look : std::uint8_t { quick, whole };

class Invariants {
 public:
    /// What is wrong; empty when nothing is. `first` names the connection in the trace: "local port > remote port: ...". `saturates`: its worker is saturated at times.
    [[nodiscard]] static std::string violated(tcp::Core& core, Look look, bool saturates = false) {
        Invariants check(core, look, saturates);
        check.all();
        return std::move(check.problem_);
    }
    /// Of a network in which no receiver takes back what it reported (RFC 2018 8): what `core` believes to be received is with `peer`.
    [[nodiscard]] static std::string sacked_in_vain(tcp::Core& core, tcp::Core& peer) {
        std::string problem;
        Access::each(core, [&](ControlBlock& ours) {
            if (ours.transfer->send_buffer.sacked_segments == 0) return;
            Access::each(peer, [&](ControlBlock& theirs) {
                if (theirs.tuple.local != ours.tuple.remote || theirs.tuple.remote != ours.tuple.local || theirs.irs != ours.iss) return;
                if (!theirs.synchronized() || theirs.released || theirs.peer_fin_taken) return;
                for (rte_mbuf* at = ours.transfer->send_buffer.front(); at != nullptr; at = tcp::send_segment(at).next) {
                    const tcp::SendSegment& segment = tcp::send_segment(at);
                    if (segment.sacked && !there(theirs, segment.seq, segment.seq + segment.length))
                        problem = std::to_string(ours.tuple.local.port) + ": a segment is sacked that the peer does not have";
                }
            });
        });
        return problem;
    }

 private:
    using Access = tcp::CoreTestAccess;
    using State = tcp::State;
    using SeqNum = tcp::SeqNum;
    using ControlBlock = tcp::ControlBlock;

    /// Buffers that may be held beyond the receive budget: the share of connections that hold nothing (a sixteenth), and what one segment in
    /// many pieces brings. Beyond the transmit budget: what one connection may append at once while there is a little left, in the smallest
    /// segments; FINs; segments cut again.
    static constexpr std::uint32_t kOverReceive = 64, kOverTransmit = tcp::kShareUnderPressure / 76 + 64;

    Invariants(tcp::Core& core, Look look, bool saturates) : core_(core), settings_(Access::settings(core)), look_(look), saturates_(saturates) {}

    void expect(bool good, std::string_view what) {
        if (good || !problem_.empty()) return;
        if (cb_ != nullptr)
            problem_ = std::to_string(cb_->tuple.local.port) + " > " + std::to_string(cb_->tuple.remote.port) + ", " + tcp::name(cb_->current) + ": ";
        problem_ += what;
    }

    void all() {
        std::uint64_t received = 0, sent = 0;
        std::uint32_t half_open = 0, there = 0, listed = 0;
        Access::each(core_, [&](ControlBlock& cb) {
            cb_ = &cb;
            received += cb.received_held;
            sent += cb.sent_held;
            half_open += cb.current == State::syn_received ? 1 : 0;
            ++there;
            listed += cb.listed ? 1 : 0;
            expect(cb.listed == (cb.current != State::closed), "a CLOSED connection is in the table, or another is not");
            held(cb);
            timers(cb);
            sequence(cb);
            if (look_ == Look::whole) {
                send_buffer(cb);
                reassembly(cb);
                receive_queue(cb);
            }
        });
        cb_ = nullptr;
        expect(!Access::anything_dirty(core_), "a connection is marked for output() right after it");
        expect(there == Access::blocks(core_), "control blocks that are in no list");
        expect(listed == core_.connections(), "the table's size is not the number of its connections");
        expect(half_open == core_.half_open, "half_open is not the number of connections in SYN-RECEIVED");
        expect(received == Access::received_held(core_), "received buffers: the sum over connections is not what Core counts");
        expect(sent == Access::sent_held(core_), "buffers to send: the sum over connections is not what Core counts");
        if (const std::uint64_t budget = settings_.receive_budget; budget != 0)
            expect(received <= budget + budget / 16 + kOverReceive, "more received buffers are held than the budget allows");
        if (const std::uint64_t budget = settings_.transmit_budget; budget != 0)
            expect(sent <= budget + kOverTransmit, "more buffers to send are held than the budget allows");
        if (Access::anyone_starved(core_))
            expect(Access::transmit_pressure(core_) != tcp::Pressure::none, "a user waits for buffers, and there are some");
    }

    void held(const ControlBlock& cb) {
        expect(cb.received_held == cb.receive_queue.buffers() + cb.transfer->reassembly.buffers(), "received_held is not settled");
        expect(cb.sent_held == cb.transfer->send_buffer.held(), "sent_held is not settled");
        expect(cb.transfer->reassembly.buffers() <= settings_.max_reassembly_segments, "more segments out of order than allowed");
        expect(cb.transfer->send_buffer.octets() <= settings_.send_buffer, "more to send than allowed");
        expect(cb.receive_queue.octets() <= settings_.receive_buffer + settings_.receive_buffer / 8 + 2u * (1u << cb.rcv_wnd_shift) + 2u * cb.our_mss,
               "more octets to read than were promised room for");
        expect(!cb.released || cb.received_held == 0, "received octets are kept for nobody");
        expect(!cb.engaged() || !cb.transfer->idle() || cb.tlp_outstanding, "idle, and holds what only transfers need");
    }

    [[nodiscard]] static bool armed(const ControlBlock& cb, tcp::Timer timer) { return cb.deadlines.armed(static_cast<std::size_t>(timer)); }

    /// No state without a timer: whatever waits for the peer also waits for a time.
    void timers(const ControlBlock& cb) {
        using tcp::RetransmitTimer;
        using tcp::Timer;
        for (std::size_t which = 0; which < tcp::kTimers; ++which) {
            const bool in_ring = which == static_cast<std::size_t>(Timer::delayed_ack) && cb.ack_place != tcp::kNoPlace;
            expect(in_ring || cb.timer_at <= cb.deadlines.at(which, Access::now(core_)), "the wheel wakes it later than a deadline");
        }
        expect((cb.retransmit_timer != RetransmitTimer::none) == armed(cb, Timer::retransmit), "retransmit_timer says other than its deadline");
        switch (cb.current) {
            case State::closed:
                expect(cb.timer_at == Time::max() && cb.ended != tcp::End::none, "over, and in the wheel or without a reason");
                return;
            case State::listen:
                expect(false, "a connection in LISTEN");
                return;
            case State::syn_sent:
            case State::syn_received:
                expect(armed(cb, Timer::retransmit) && armed(cb, Timer::linger), "half open without a timer");
                return;
            case State::time_wait:
                expect(armed(cb, Timer::linger), "TIME-WAIT without a timer");
                return;
            case State::established:
            case State::fin_wait_1:
            case State::fin_wait_2:
            case State::close_wait:
            case State::closing:
            case State::last_ack:
                break;
        }
        expect(cb.transfer->send_buffer.empty() || armed(cb, Timer::retransmit), "something is to send or to acknowledge, without a timer");
        expect(!cb.transfer->send_buffer.empty() || !armed(cb, Timer::retransmit), "a retransmission timer for nothing");
        expect(cb.retransmit_timer != RetransmitTimer::persist || cb.flight() == 0, "persist timer with something in flight");
        // RFC 6298 5.3, of the moment in which SND.UNA moved.
        if (cb.retransmit_timer == RetransmitTimer::timeout && cb.last_progress == tcp::FineMoment(Access::now(core_)))
            expect(cb.deadlines.at(static_cast<std::size_t>(Timer::retransmit), Access::now(core_)) + 2 * tcp::FineMoment::kCount >=
                       Access::now(core_) + std::min(cb.rtt.rto(cb.backoff), settings_.user_timeout),
                   "the retransmission timer was not restarted");
        expect(cb.unacknowledged == 0 || armed(cb, Timer::delayed_ack), "octets to acknowledge, without a timer");
        expect(!cb.ack_now || armed(cb, Timer::delayed_ack), "an ACK that is due, without a timer");
        expect(!cb.closing || cb.fin_appended || armed(cb, Timer::delayed_ack), "a FIN that is due, without a timer");
        expect(!cb.released || armed(cb, Timer::linger), "released without a limit");
        expect(settings_.keepalive_idle == Duration{} || armed(cb, Timer::keepalive), "without a keepalive timer");
        expect(cb.probes <= settings_.keepalive_probes, "more keepalive probes than configured");
        expect(settings_.pacing || !armed(cb, Timer::pace), "paced, and nobody has asked for it");
        const Duration user_timeout{std::chrono::milliseconds(cb.user_timeout_ms)};
        expect(user_timeout >= settings_.user_timeout &&
                   user_timeout <= (settings_.user_timeout_option ? std::max(settings_.most_user_timeout, settings_.user_timeout) : settings_.user_timeout),
               "a user timeout outside of its limits");
        expect(!may_send(cb), "what may be sent was not");
    }

    /// Whether the first segment that was never sent may leave now, by windows, Nagle's algorithm and the pace.
    [[nodiscard]] static bool may_send(const ControlBlock& cb) {
        rte_mbuf* const at = cb.transfer->send_buffer.unsent();
        if (at == nullptr || !cb.can_send() || armed(cb, tcp::Timer::pace)) return false;
        const tcp::SendSegment& segment = tcp::send_segment(at);
        if (segment.length > cb.snd_mss && !segment.large) return false;   // it is cut first, and there may be no buffer for that
        if (cb.nagle && cb.flight() > 0 && segment.length < cb.snd_mss && segment.next == nullptr && !segment.fin) return false;
        const std::uint32_t pipe = cb.in_flight(), length = segment.sequence_length(), used = segment.seq - cb.snd_una;
        const auto allowed = [&](std::uint32_t octets) { return (pipe == 0 || pipe + octets <= cb.cubic.cwnd()) && used + octets <= cb.snd_wnd; };
        if (segment.length <= cb.snd_mss) return allowed(length);
        // Several in one buffer: whole, or one of them, unless they wait for the ACK of several times as much.
        const bool waits = !cb.nagle && cb.flight() > 0 && length <= std::min(cb.cubic.cwnd(), cb.snd_wnd) / 4;
        return (pipe + length <= cb.cubic.cwnd() && used + length <= cb.snd_wnd) || (!waits && allowed(cb.snd_mss));
    }

    void sequence(const ControlBlock& cb) {
        const tcp::SendBuffer& buffer = cb.transfer->send_buffer;
        expect(buffer.sacked_octets + buffer.lost_octets <= cb.flight(), "more is sacked or lost than is in flight");
        expect(buffer.retransmitted_octets <= buffer.lost_octets, "more was retransmitted than was lost");
        expect(cb.in_flight() <= cb.flight(), "more in flight than FlightSize");
        if (!cb.synchronized()) return;
        expect(cb.rcv_nxt.at_or_before(cb.rcv_adv), "RCV.NXT is beyond the window that was promised");
        // RFC 9293 3.8.6.2.2: a window that has grown enough is told, to a peer that may be waiting for it: one that has a first flight's room learns it from the ACK of that. Another
        // connection's buffers may open it, too, without a word, and on a short path a worker that is no longer saturated.
        if ((!saturates_ || cb.rtt.minimum() > tcp::kShortPath) && cb.rcv_wnd() < tcp::Cubic::initial_window(cb.our_mss) && cb.octets_received > 0 && cb.unacknowledged == 0 && !cb.ack_now && !cb.peer_fin_taken && !cb.released && settings_.receive_budget == 0) {
            const SeqNum edge = Access::window_edge(core_, cb);
            const std::uint32_t enough = std::min(cb.receive_limit / 2, 2u * cb.our_mss) + (2u << cb.rcv_wnd_shift);
            expect(!edge.after(cb.rcv_adv) || edge - cb.rcv_adv < enough, "the window has grown, and the peer was not told");
        }
        expect(cb.snd_una.at_or_before(cb.snd_nxt), "SND.UNA is beyond SND.NXT");
        expect(!buffer.empty() || cb.flight() == 0, "nothing is kept of what is in flight");
        expect(cb.snd_mss >= 64, "SND.MSS of a few octets");
        expect(!cb.can_send() || cb.cubic.cwnd() >= cb.snd_mss || cb.recovery != tcp::Recovery::open, "a congestion window of less than a segment");
    }

    void send_buffer(const ControlBlock& cb) {
        const tcp::SendBuffer& buffer = cb.transfer->send_buffer;
        std::uint32_t octets = 0, segments = 0, held = 0, sacked = 0, sacked_segments = 0, lost = 0, retransmitted = 0;
        SeqNum next = cb.synchronized() ? cb.snd_una : cb.iss + 1;
        bool unsent = false;
        const rte_mbuf* previous = nullptr;
        for (rte_mbuf* at = buffer.front(); at != nullptr && problem_.empty(); at = tcp::send_segment(at).next) {
            const tcp::SendSegment& segment = tcp::send_segment(at);
            if (at == buffer.unsent()) {
                unsent = true;
                expect(segment.seq == cb.snd_nxt, "the first unsent segment does not begin at SND.NXT");
            }
            expect(segment.seq == next, "the segments to send do not follow each other");
            expect(segment.previous == previous, "the list of segments is broken");
            expect(segment.sequence_length() > 0, "a segment of nothing");
            expect(unsent == (segment.transmissions == 0), "a segment on the wrong side of unsent()");
            expect(!segment.fin || segment.next == nullptr, "a segment behind the FIN");
            expect(!segment.sacked || !segment.lost, "sacked, and lost");
            expect(!segment.retransmitted || segment.lost, "retransmitted, and not lost");
            expect(!unsent || (!segment.sacked && !segment.lost), "never sent, and sacked or lost");
            next = segment.end();
            octets += segment.length;
            ++segments;
            held += segment.weight;
            expect(segment.on_wire() == 1 || segment.transmissions <= 1, "several segments were sent again at once");
            expect(segment.large || segment.weight == 1, "an ordinary buffer counts as several");
            if (segment.sacked) sacked += segment.sequence_length(), sacked_segments += segment.on_wire();
            if (segment.lost) lost += segment.sequence_length();
            if (segment.retransmitted) retransmitted += segment.sequence_length();
            previous = at;
        }
        expect(buffer.back() == previous, "the list of segments does not end at its end");
        expect(unsent || !cb.synchronized() || next == cb.snd_nxt, "what is in flight does not end at SND.NXT");
        expect(octets == buffer.octets() && segments == buffer.segments() && held == buffer.held(), "the send buffer counts wrongly");
        expect(sacked == buffer.sacked_octets && sacked_segments == buffer.sacked_segments, "sacked octets are counted wrongly");
        expect(lost == buffer.lost_octets, "lost octets are counted wrongly");
        expect(retransmitted == buffer.retransmitted_octets, "retransmitted octets are counted wrongly");
        expect(!buffer.reserved(), "a reservation was left");
    }

    void reassembly(const ControlBlock& cb) {
        std::uint32_t buffers = 0;
        SeqNum next = cb.rcv_nxt + 1;   // what continues at RCV.NXT is not out of order
        rte_mbuf* previous = nullptr;
        for (rte_mbuf* at = Access::first(cb.transfer->reassembly); at != nullptr && problem_.empty(); at = tcp::received_piece(at).next) {
            const tcp::ReceivedPiece& piece = tcp::received_piece(at);
            expect(piece.previous == previous, "the reassembly queue's list is broken");
            expect(at->data_len > 0 && at->next == nullptr, "a piece out of order is empty, or several");
            expect(piece.seq.at_or_after(next), "pieces out of order overlap, or are in order");
            next = piece.seq + at->data_len;
            expect(next.at_or_before(cb.rcv_adv), "a piece out of order reaches beyond the window");
            ++buffers;
            previous = at;
        }
        expect(buffers == cb.transfer->reassembly.buffers() && previous == Access::last(cb.transfer->reassembly), "the reassembly queue counts wrongly");
    }

    /// Whether octets have been received, in order or not.
    [[nodiscard]] static bool there(const ControlBlock& cb, SeqNum start, SeqNum end) {
        start = tcp::later_of(start, cb.rcv_nxt);
        for (rte_mbuf* at = Access::first(cb.transfer->reassembly); at != nullptr && start.before(end); at = tcp::received_piece(at).next) {
            const SeqNum seq = tcp::received_piece(at).seq;
            if (seq.after(start)) break;
            start = tcp::later_of(start, seq + at->data_len);
        }
        return start.at_or_after(end);
    }

    void receive_queue(const ControlBlock& cb) {
        std::uint32_t buffers = 0, octets = 0;
        for (rte_mbuf* at = Access::first(cb.receive_queue); at != nullptr && buffers <= cb.receive_queue.buffers(); at = tcp::received_piece(at).next) {
            expect(at->data_len > 0, "an empty buffer to read");
            octets += at->data_len;
            ++buffers;
        }
        expect(buffers == cb.receive_queue.buffers() && octets == cb.receive_queue.octets(), "the receive queue counts wrongly");
    }

    tcp::Core& core_;
    const tcp::Settings& settings_;
    Look look_;
    bool saturates_;
    const ControlBlock* cb_ = nullptr;
    std::string problem_;
};

}  // namespace sallyport::simulation
