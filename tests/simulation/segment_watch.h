#pragma once

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <optional>

#include "dataplane/wire/tcp_options.h"
#include "tests/simulation/frame.h"
#include "tests/unit/dataplane/tcp/core_access.h"

/// What a host makes of each segment that arrives, and of each that it sends, beside what it must make of them: explicit congestion
/// notification (RFC 3168), Nagle (RFC 9293 3.7.4), the pace, keepalive probes (3.8.4), TIME-WAIT (3.10.7.4), user timeouts (RFC 5482).
/// Where it can, it keeps a state of its own instead of believing the connection's.
namespace sallyport::simulation {

class SegmentWatch {
 public:
    /// Of how much there was to watch: a check that has never had anything to look at proves nothing.
    struct Seen {
        std::uint64_t ecn_capable = 0, marks = 0, echoes = 0, reductions = 0, small_with_nagle = 0, keepalive_probes = 0, fins_in_time_wait = 0, user_timeouts = 0;
        Seen& operator+=(const Seen& more) {
            ecn_capable += more.ecn_capable, marks += more.marks, echoes += more.echoes, reductions += more.reductions;
            small_with_nagle += more.small_with_nagle, keepalive_probes += more.keepalive_probes;
            fins_in_time_wait += more.fins_in_time_wait, user_timeouts += more.user_timeouts;
            return *this;
        }
    };

    SegmentWatch(std::array<tcp::Core*, 2> cores, std::array<IpAddress, 2> addresses, Duration last_acks_lost)
        : cores_(cores), addresses_(addresses), last_acks_lost_(last_acks_lost) {}

    [[nodiscard]] const Seen& seen() const { return seen_; }

    /// A frame is about to arrive.
    void arrives(int to, const rte_mbuf& frame) {
        const auto segment = read(frame);
        arriving_ = segment;
        if (!segment) return;
        const ControlBlock* const cb = find(to, segment->destination_port, segment->source_port);
        before_ = cb != nullptr ? std::optional(of(*cb)) : std::nullopt;
        out_of_order_before_ = cores_[to]->counters.out_of_order;
        if (cb != nullptr) note(flow(to, *cb), *cb);
    }

    /// It was a good segment, and SEGMENT ARRIVES has ended; nothing has been sent yet but resets.
    void arrived(int to, Time now) {
        if (!arriving_) return;
        const Segment& segment = *arriving_;
        const ControlBlock* const cb = find(to, segment.destination_port, segment.source_port);
        if (cb == nullptr) return;
        if (before_ && before_->iss != cb->iss) before_.reset();
        Flow& flow = this->flow(to, *cb);
        if (segment.has(wire::kSyn)) {
            user_timeout(to, segment, *cb);
        } else if (!segment.has(wire::kRst)) {
            if (segment.payload > 0 && cb->ecn) congestion_mark(to, segment, *cb, flow);
            if (before_ && cb->ecn && segment.has(wire::kEce)) congestion_echo(segment, *cb, flow);
        }
        if (before_ && before_->state == tcp::State::time_wait && cb->current == tcp::State::time_wait) comes_again_in_time_wait(to, segment, *cb, now);
        if (before_ && before_->tlp_outstanding && !cb->tlp_outstanding) flow.may_tell = true;   // it may have repaired a loss
        note(flow, *cb);
    }

    /// A frame leaves. True: it is to be lost.
    bool leaves(int from, const rte_mbuf& frame, Time now) {
        const auto segment = read(frame);
        if (!segment) return false;
        const tcp::Settings& settings = Access::settings(*cores_[from]);
        const bool ect = segment->ecn != 0, ece = segment->has(wire::kEce), cwr = segment->has(wire::kCwr);
        EXPECT_NE(segment->ecn, wire::kEcnCe) << "a mark of our own making";
        if (segment->has(wire::kSyn)) {
            EXPECT_FALSE(ect) << "RFC 3168 6.1.1: an ECN-capable SYN";
            if (segment->has(wire::kAck)) {
                EXPECT_FALSE(cwr || (ece && settings.ecn == tcp::Ecn::off)) << "RFC 3168 6.1.1: not a SYN,ACK of what is configured";
            } else {
                EXPECT_EQ(ece, cwr) << "RFC 3168 6.1.1: neither an ECN-setup SYN nor another";
                EXPECT_FALSE(ece && settings.ecn != tcp::Ecn::request) << "an ECN-setup SYN that nobody has asked for";
            }
            return false;
        }
        if (segment->payload == 0) {
            EXPECT_FALSE(ect) << "RFC 3168 6.1.4: an ECN-capable segment without payload";
            EXPECT_FALSE(cwr) << "RFC 3168 6.1.2: CWR without new data";
        }
        const ControlBlock* const cb = find(from, segment->source_port, segment->destination_port);
        if (cb == nullptr || segment->has(wire::kRst)) {
            EXPECT_FALSE(ece || cwr || ect) << "ECN of a segment without a connection, or with RST";
            return false;
        }
        Flow& flow = this->flow(from, *cb);
        note(flow, *cb);
        const tcp::SeqNum seq(segment->seq), end = seq + segment->sequence_length();
        const bool fresh = segment->payload > 0 && (!flow.sent || seq.at_or_after(*flow.sent));
        EXPECT_EQ(ece, flow.echo) << "RFC 3168 6.1.3: an ACK tells of a mark until the peer says CWR, and no longer";
        EXPECT_EQ(ect, cb->ecn && fresh) << "RFC 3168 6.1.5: new data is ECN-capable, what is sent again is not";
        if (ect) {
            EXPECT_TRUE(!flow.must_tell || cwr) << "RFC 3168 6.1.2: the first new data after a reduction does not say CWR";
            EXPECT_TRUE(!cwr || flow.may_tell) << "CWR, and nothing was reduced";
            flow.must_tell = flow.may_tell = false;
            ++seen_.ecn_capable;
        }
        seen_.echoes += ece ? 1 : 0;
        if (fresh) nagle(*segment, *cb);
        if (fresh) pace(settings, *segment, *cb, flow, now);
        if (segment->sequence_length() == 0 && seq + 1 == cb->snd_una) probe(settings, *cb, now);
        if (segment->sequence_length() > 0) flow.sent = flow.sent ? tcp::later_of(*flow.sent, end) : end;
        if (cb->current != tcp::State::time_wait) return false;
        if (!flow.time_wait_since) flow.time_wait_since = now;
        return now - *flow.time_wait_since < last_acks_lost_;
    }

 private:
    using Access = tcp::CoreTestAccess;
    using ControlBlock = tcp::ControlBlock;

    struct Segment {
        std::uint16_t source_port, destination_port;
        std::uint8_t flags, ecn;
        std::uint32_t seq, ack, payload;
        wire::TcpOptions options;
        [[nodiscard]] bool has(std::uint8_t flag) const { return (flags & flag) != 0; }
        [[nodiscard]] std::uint32_t sequence_length() const { return payload + (has(wire::kSyn) ? 1 : 0) + (has(wire::kFin) ? 1 : 0); }
    };
    struct Before {
        tcp::State state;
        tcp::Recovery recovery;
        tcp::SeqNum iss, rcv_nxt, snd_una;
        std::uint32_t cwnd, ssthresh, ts_recent;
        std::uint64_t octets_received;
        bool tlp_outstanding;
    };
    struct Flow {
        tcp::SeqNum iss;
        bool known = false;
        bool echo = false;                    ///< marks have come that no CWR has answered
        bool may_tell = false, must_tell = false;   ///< CWR with the next new data
        std::optional<tcp::SeqNum> sent;      ///< behind all that was sent
        tcp::SeqNum reduced;                  ///< SND.NXT at the latest reduction for an echo
        tcp::SeqNum perhaps;                  ///< SND.NXT at the latest reduction, restoration or recovery, or later
        std::uint32_t ssthresh = UINT32_MAX, timeouts = 0;
        tcp::Recovery recovery = tcp::Recovery::open;
        tcp::SeqNum recovery_point;
        std::optional<Time> time_wait_since{};
        Time burst_at = Time::min();
        double burst = 0, burst_allowed = 0;
    };

    static Before of(const ControlBlock& cb) {
        return {.state = cb.current, .recovery = cb.recovery, .iss = cb.iss, .rcv_nxt = cb.rcv_nxt, .snd_una = cb.snd_una, .cwnd = cb.cubic.cwnd(),
                .ssthresh = cb.cubic.ssthresh(), .ts_recent = cb.ts_recent, .octets_received = cb.octets_received, .tlp_outstanding = cb.tlp_outstanding};
    }

    static std::optional<Segment> read(const rte_mbuf& frame) {
        std::array<std::byte, 160> copy;   // the longest headers there are; they may lie in two pieces
        const std::uint32_t length = std::min<std::uint32_t>(frame.pkt_len, copy.size());
        const auto* at = static_cast<const std::byte*>(rte_pktmbuf_read(&frame, 0, length, copy.data()));
        if (at == nullptr) return std::nullopt;
        if (at != copy.data()) std::memcpy(copy.data(), at, length);
        const auto view = FrameView::of({copy.data(), length});
        if (!view) return std::nullopt;
        Segment segment{.source_port = view->source_port(), .destination_port = view->destination_port(), .flags = view->flags(), .ecn = view->ecn(),
                        .seq = view->seq(), .ack = view->ack(), .payload = view->payload() + frame.pkt_len - length, .options = {}};
        const auto options = std::span(copy).subspan(view->headers() - view->header() + 20, view->header() - 20);
        if (const auto parsed = wire::parse_tcp_options(options)) segment.options = *parsed;
        return segment;
    }

    [[nodiscard]] const ControlBlock* find(int host, std::uint16_t local, std::uint16_t remote) const {
        return Access::find(*cores_[host], {{addresses_[host], local}, {addresses_[1 - host], remote}});
    }

    Flow& flow(int host, const ControlBlock& cb) {
        Flow& flow = flows_[{host, cb.tuple.local.port, cb.tuple.remote.port}];
        if (flow.iss == cb.iss && flow.known) return flow;
        flow = {};
        flow.iss = cb.iss;
        flow.known = true;
        flow.reduced = flow.perhaps = cb.iss + 1;
        return flow;
    }

    /// The congestion window has been reduced, for whatever reason.
    static void note(Flow& flow, const ControlBlock& cb) {
        const bool reduced = cb.cubic.ssthresh() != flow.ssthresh ||   // it may be higher than before, after growth
                             cb.timeouts != flow.timeouts ||
                             (cb.recovery != tcp::Recovery::open && (cb.recovery != flow.recovery || cb.recovery_point != flow.recovery_point));
        flow.ssthresh = cb.cubic.ssthresh();
        flow.timeouts = cb.timeouts;
        flow.recovery = cb.recovery;
        flow.recovery_point = cb.recovery_point;
        if (!reduced) return;
        flow.may_tell = true;
        if (cb.synchronized()) flow.perhaps = cb.snd_nxt;
    }

    /// RFC 3168 6.1.3; of payload that was taken, in order or not (6.1.5: not of what lies outside the window).
    void congestion_mark(int to, const Segment& segment, const ControlBlock& cb, Flow& flow) {
        const bool taken = cb.octets_received != (before_ ? before_->octets_received : 0) || cores_[to]->counters.out_of_order != out_of_order_before_;
        if (!taken) return;
        if (segment.ecn == wire::kEcnCe) {
            flow.echo = true;
            ++seen_.marks;
        } else if (segment.has(wire::kCwr)) {
            flow.echo = false;
        }
    }

    /// RFC 3168 6.1.2: one reduction for what was sent in a window, and no growth meanwhile.
    void congestion_echo(const Segment& segment, const ControlBlock& cb, Flow& flow) {
        const bool news = cb.snd_una != before_->snd_una && before_->recovery == tcp::Recovery::open && cb.recovery == tcp::Recovery::open;
        if (!news) {   // it may have been taken, or not
            flow.may_tell = true;
            flow.perhaps = cb.snd_nxt;
            return;
        }
        const std::uint32_t cwnd = cb.cubic.cwnd(), least = 2u * cb.snd_mss;
        const tcp::SeqNum ack(segment.ack);
        bool reduces = cwnd < before_->cwnd || cb.cubic.ssthresh() != before_->ssthresh;
        if (ack.before(flow.reduced)) {
            EXPECT_FALSE(reduces) << "RFC 3168 6.1.2: reduced twice for what was sent in one window";
        } else if (ack.at_or_after(flow.perhaps)) {
            EXPECT_LE(cwnd, std::max(before_->cwnd / 4 * 3 + 4, least)) << "RFC 3168 6.1.2: ECE, and the window is not reduced";
            reduces = true;
        }
        EXPECT_LE(cwnd, std::max(before_->cwnd, least)) << "RFC 3168 6.1.2: ECE, and the window grows";
        EXPECT_GE(cwnd, before_->cwnd / 3 * 2) << "RFC 3168 6.1.2: reduced twice at once";
        if (!reduces) return;
        flow.must_tell = flow.may_tell = true;
        flow.reduced = cb.snd_nxt;
        ++seen_.reductions;
    }

    /// RFC 5482 3.1: USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT)).
    void user_timeout(int to, const Segment& segment, const ControlBlock& cb) {
        const tcp::Settings& settings = Access::settings(*cores_[to]);
        if (!segment.options.user_timeout || !settings.user_timeout_option || before_.has_value() == (cb.passive && cb.current == tcp::State::syn_received))
            return;
        if (cb.irs != tcp::SeqNum(segment.seq) || (before_ && before_->state != tcp::State::syn_sent)) return;
        const Duration theirs = std::chrono::seconds(segment.options.user_timeout->seconds());
        const Duration expected = std::min(std::max(theirs, settings.user_timeout), std::max(settings.most_user_timeout, settings.user_timeout));
        EXPECT_EQ(Duration{std::chrono::milliseconds(cb.user_timeout_ms)}, expected) << "RFC 5482 3.1";
        ++seen_.user_timeouts;
    }

    /// RFC 9293 3.10.7.4, eighth: "TIME-WAIT STATE: Remain in the TIME-WAIT state. Restart the 2 MSL time-wait timeout." Of text that comes again,
    /// too: whoever sends it has not got our last ACK.
    void comes_again_in_time_wait(int to, const Segment& segment, const ControlBlock& cb, Time now) {
        if (segment.sequence_length() == 0 || segment.has(wire::kSyn | wire::kRst)) return;
        if ((tcp::SeqNum(segment.seq) + segment.payload).after(cb.peer_fin_seq)) return;
        const bool late = cb.timestamps && (!segment.options.timestamps || static_cast<std::int32_t>(segment.options.timestamps->value - before_->ts_recent) < 0);
        if (late) return;   // a duplicate that was under way (RFC 7323 5.3)
        EXPECT_GE(cb.deadlines.at(static_cast<std::size_t>(tcp::Timer::linger), now), now + 2 * Access::settings(*cores_[to]).msl)
            << "RFC 9293 3.10.7.4, eighth: a FIN or text has come again, and TIME-WAIT does not begin anew";
        ++seen_.fins_in_time_wait;
    }

    /// RFC 9293 3.7.4, as stack.h promises it: the end of what there is to send, if it is less than a segment, waits while anything is
    /// unacknowledged; but not with a FIN, nor as a tail loss probe (RFC 8985 7.3). What has a successor has no PSH.
    void nagle(const Segment& segment, const ControlBlock& cb) {
        if (!cb.nagle || !segment.has(wire::kPsh) || segment.has(wire::kFin) || segment.payload >= cb.snd_mss) return;
        const tcp::SeqNum end = tcp::SeqNum(segment.seq) + segment.payload;
        if (cb.tlp_outstanding && cb.transfer->tlp_end == end) return;
        EXPECT_TRUE(tcp::SeqNum(segment.seq).at_or_before(cb.snd_una)) << "RFC 9293 3.7.4: a small segment behind what is unacknowledged";
        ++seen_.small_with_nagle;
    }

    /// What leaves in one moment: an initial window, and what is due within a tick at a little more than the window a round trip.
    static void pace(const tcp::Settings& settings, const Segment& segment, const ControlBlock& cb, Flow& flow, Time now) {
        const double srtt = std::chrono::duration<double>(cb.rtt.srtt()).count();
        if (!settings.pacing || srtt < 0.01) return;
        if (flow.burst_at != now) flow.burst = flow.burst_allowed = 0;
        flow.burst_at = now;
        flow.burst += segment.payload;
        const double window = std::max<double>(cb.cubic.cwnd(), cb.snd_mss), tick = std::chrono::duration<double>(tcp::kPaceAhead).count();
        flow.burst_allowed = std::max(flow.burst_allowed, tcp::Cubic::initial_window(cb.snd_mss) + 2 * window * tick / srtt + 2.0 * cb.snd_mss);
        EXPECT_LE(flow.burst, flow.burst_allowed) << "more than the pace allows has left at once";
    }

    /// RFC 9293 3.8.4: only of an idle connection.
    void probe(const tcp::Settings& settings, const ControlBlock& cb, Time now) {
        if (!cb.transfer->send_buffer.empty() || !cb.synchronized()) return;   // a zero-window probe
        EXPECT_NE(settings.keepalive_idle, Duration{}) << "a keepalive probe, and they are off";
        EXPECT_GE(cb.last_received.ago(now) + 2 * tcp::CoarseMoment::kCount, settings.keepalive_idle) << "a keepalive probe of what is not idle";
        ++seen_.keepalive_probes;
    }

    std::array<tcp::Core*, 2> cores_;
    std::array<IpAddress, 2> addresses_;
    Duration last_acks_lost_;
    std::map<std::tuple<int, std::uint16_t, std::uint16_t>, Flow> flows_;
    std::optional<Segment> arriving_;
    std::optional<Before> before_;
    std::uint64_t out_of_order_before_ = 0;
    Seen seen_;
};

}  // namespace sallyport::simulation
