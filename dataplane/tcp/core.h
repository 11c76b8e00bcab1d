#pragma once

#include <rte_config.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/tcp/connection_table.h"
#include "dataplane/tcp/control_block.h"
#include "dataplane/tcp/delayed_acks.h"
#include "dataplane/tcp/keyed_hash.h"
#include "dataplane/tcp/port_allocator.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/syn_cookie.h"
#include "dataplane/tcp/timer_wheel.h"
#include "dataplane/wire/tcp_header.h"
#include "dataplane/wire/tcp_options.h"

namespace sallyport::tcp {

struct BufferDeleter {
    void operator()(rte_mbuf* buffer) const noexcept { rte_pktmbuf_free(buffer); }
};
using BufferPtr = std::unique_ptr<rte_mbuf, BufferDeleter>;

constexpr Duration kDelayedAck = 40ms;             ///< RFC 9293 3.8.6.3 allows 500 ms
constexpr Duration kPersistMaximum = 60s;
constexpr Duration kPawsIdle = std::chrono::days{24};  ///< RFC 7323 5.5
constexpr std::uint32_t kMinimumMtu4 = 552;        ///< we do not cut below it whatever ICMP says (RFC 5927 7.2 allows 68)
constexpr std::uint32_t kMinimumMtu6 = 1280;       ///< RFC 8200 5
constexpr std::uint32_t kBlackHoleMtu4 = 1064;     ///< 1,024 octets of payload (RFC 4821 7.2)
constexpr std::uint32_t kIssAboveUsed = 0x20000;  ///< how far the ISS is above what an earlier connection with the same sockets has used
constexpr unsigned kBlackHoleTimeouts = 3;         ///< in a row, of the same segment
constexpr Duration kRaiseMtu = 600s;               ///< RFC 4821 7.4 leaves it open; RFC 8899 5.1.1 has the same
constexpr std::uint32_t kMaxSendSegments = 1024;   ///< buffers that a send buffer of up to a megabyte may hold, however small the segments are
constexpr Duration kPaceAhead = 1ms;               ///< the timer wheel's tick: what leaves within it may leave at once
/// Octets that a connection may hold each way while buffers are short: a whole TLS record with room for alerts and key updates (RFC 8446 5.2:
/// 2^14 + 256 and the header), since a user that moves whole records must be able to move one.
constexpr std::uint32_t kShareUnderPressure = 24 * 1024;
constexpr Duration kShortPath = 500us;             ///< the least round trip of one on which a saturated worker has connections hold less

/// Of the connection that it is for.
[[nodiscard]] inline Tuple tuple_of(const wire::Segment& segment) noexcept {
    return {{segment.ip.destination, segment.tcp.destination_port}, {segment.ip.source, segment.tcp.source_port}};
}

/// One segment on its way through SEGMENT ARRIVES. Owns the payload.
struct Arrival {
    const wire::Segment& segment;
    BufferPtr payload;
    Time now;
    wire::TcpOptions options{};
    SeqNum seq, ack;
    std::uint32_t length = 0;   ///< octets of payload, as far as it is still wanted
    std::uint8_t flags = 0;
    std::optional<SeqNum> used{};   ///< SND.NXT of an earlier connection with the same sockets, which this SYN opens again

    Arrival(const wire::Segment& from, rte_mbuf* buffer, Time at) noexcept
        : segment(from), payload(buffer), now(at), seq(from.tcp.seq), ack(from.tcp.ack), length(from.payload_length),
          flags(from.tcp.flags) {}
    [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }
    /// SEG.LEN
    [[nodiscard]] std::uint32_t sequence_length() const noexcept {
        return length + (has(wire::kSyn) ? 1u : 0u) + (has(wire::kFin) ? 1u : 0u);
    }
    [[nodiscard]] Tuple tuple() const noexcept { return tuple_of(segment); }
    /// SEG.WND in octets. That of a SYN is never scaled (RFC 7323 2.2).
    [[nodiscard]] std::uint32_t window(std::uint8_t shift) const noexcept {
        return std::uint32_t{segment.tcp.window} << ((segment.tcp.flags & wire::kSyn) != 0 ? 0 : shift);
    }
    /// Drops octets at the front or back of the payload.
    void trim_front(std::uint32_t octets) noexcept;
    void trim_back(std::uint32_t octets) noexcept;
};

/// New segments of one connection that leave as one frame, which the device cuts (TSO): buffers chained behind the first one, whose headers are those of
/// all. Exists within one send_new() only.
struct Train {
    rte_mbuf* head = nullptr;    ///< owns a reference to each buffer
    rte_mbuf* last = nullptr;
    std::byte* header = nullptr; ///< of TCP, in the first buffer
    std::uint32_t octets = 0;    ///< of payload
    bool ecn = false;
};

/// What is left to do with a segment.
enum class Verdict : std::uint8_t {
    go_on,   ///< the next check
    done,    ///< dropped, answered, or the connection is gone (and may not be touched any more)
};

/// What one acknowledgment newly told us.
struct Delivery {
    std::uint32_t acked = 0;        ///< octets by which SND.UNA moved
    std::uint32_t delivered = 0;    ///< octets newly acknowledged, selectively or not
    Time oldest_sent = Time::max(); ///< of newly acknowledged segments that were sent once
    Time newest_sent{};
    SeqNum fack;                    ///< RACK.fack before it
    bool any_sent_once = false;
    bool duplicate_report = false;  ///< a DSACK (RFC 2883)
    bool new_sack = false;
};

/// The TCP of one worker; Stack is its face. The functions are spread over files by what they do: segment_arrives.cpp,
/// fast_path.cpp, acknowledge.cpp, sack_scoreboard.cpp, rack.cpp, transmit.cpp, timers.cpp, open.cpp, icmp_error.cpp,
/// connection.cpp, memory.cpp.
class Core {
 public:
    Core(const Settings& settings, rte_mempool* transmit_buffers, network::Network& network, DropCounters& drops);
    ~Core();
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    // ---- as Stack ----
    void listen(const SocketAddress& local);
    void unlisten(const SocketAddress& local);
    void listen_at(std::vector<SocketAddress> all);
    void segment_arrives(const wire::Segment& segment, rte_mbuf* payload, Time now);
    void segments_arrive(std::span<const Stack::Arriving> burst, Time now);
    void icmp_error(const network::Received::IcmpError& error, Time now);
    [[nodiscard]] std::expected<Connection*, Stack::ConnectError> connect(const SocketAddress& remote, std::uint64_t user,
                                                                          Duration timeout, Time now, const IpAddress& from = {});
    [[nodiscard]] Stack::Ready next_ready() noexcept;
    void output(Time now);
    void advance(Time now);
    [[nodiscard]] Time next_timer() const noexcept;
    [[nodiscard]] std::uint32_t connections() const noexcept { return table_.size(); }

    // ---- as Connection ----
    [[nodiscard]] std::uint32_t send_space(ControlBlock& cb) noexcept;
    [[nodiscard]] std::size_t reserve(ControlBlock& cb, std::uint32_t length, std::span<WritePiece> pieces) noexcept;
    void give_back(ControlBlock& cb) noexcept;
    void append(ControlBlock& cb) noexcept;
    void consume(ControlBlock& cb, std::uint32_t length) noexcept;
    void set_receive_limit(ControlBlock& cb, std::uint32_t octets) noexcept;
    /// The window doubles when the user has taken more than a quarter of it within a round trip: a sender in slow start doubles, too.
    void tune_receive_space(ControlBlock& cb) noexcept;
    void hold_back(ControlBlock& cb) noexcept;
    void set_nagle(ControlBlock& cb, bool on) noexcept;
    void close(ControlBlock& cb) noexcept;
    void abort(ControlBlock& cb) noexcept;
    void release(ControlBlock& cb) noexcept;

    // ---- memory.cpp ----
    [[nodiscard]] std::uint64_t buffers_held() const noexcept { return received_held_ + sent_held_; }
    [[nodiscard]] Pressure pressure() const noexcept { return std::max(receive_pressure(), transmit_pressure()); }
    [[nodiscard]] bool shed_orphan() noexcept;
    void abort_all() noexcept;

    Stack::Counters counters;
    std::uint32_t half_open = 0;
    Stack::Fetch fetch = nullptr;
    void* fetch_context = nullptr;
    Stack::PortFilter port_filter = nullptr;
    void* port_filter_context = nullptr;
    bool saturated = false;          ///< Stack::set_saturated()
    bool fast_path_enabled = true;   ///< off only in the test that compares it with the slow path

 private:
    friend struct CoreTestAccess;

    // ---- segment_arrives.cpp: RFC 9293 3.10.7 ----
    void arrives(const wire::Segment& segment, rte_mbuf* payload, std::uint32_t hash, Time now);
    void arrives_closed(const Arrival& arrival);                        // 3.10.7.1
    void arrives_listen(Arrival& arrival);                              // 3.10.7.2
    void arrives_syn_sent(ControlBlock& cb, Arrival& arrival);          // 3.10.7.3
    void arrives_otherwise(ControlBlock& cb, Arrival& arrival);         // 3.10.7.4, in eight steps:
    [[nodiscard]] Verdict check_sequence(ControlBlock& cb, Arrival& arrival);
    [[nodiscard]] Verdict check_reset(ControlBlock& cb, Arrival& arrival);
    [[nodiscard]] Verdict check_security(ControlBlock& cb, Arrival& arrival);
    [[nodiscard]] Verdict check_syn(ControlBlock& cb, Arrival& arrival);
    [[nodiscard]] Verdict check_ack(ControlBlock& cb, Arrival& arrival);
    [[nodiscard]] Verdict check_urgent(ControlBlock& cb, Arrival& arrival);
    [[nodiscard]] Verdict take_text(ControlBlock& cb, Arrival& arrival);
    void take_fin(ControlBlock& cb, Arrival& arrival);

    [[nodiscard]] bool acceptable_in_time_wait(const ControlBlock& cb, const Arrival& arrival) const noexcept;  // RFC 6191
    void take_in_order(ControlBlock& cb, BufferPtr payload, Time now);
    void take_out_of_order(ControlBlock& cb, BufferPtr payload, SeqNum seq);
    void challenge(ControlBlock& cb, Time now, DropReason reason) noexcept;
    void take_congestion_mark(ControlBlock& cb, const Arrival& arrival) noexcept;   // RFC 3168 6.1.3
    void update_ts_recent(ControlBlock& cb, const Arrival& arrival) noexcept;

    // ---- fast_path.cpp ----
    /// In-order segments of an ESTABLISHED connection; false: not mine, nothing has changed.
    [[nodiscard]] bool fast_path(ControlBlock& cb, Arrival& arrival);

    // ---- open.cpp ----
    void open_passive(Arrival& arrival);
    void send_cookie(const Arrival& arrival, const network::Path& path);
    /// Nothing: the segment cannot complete a cookie. Null: it was dropped and counted.
    [[nodiscard]] std::optional<ControlBlock*> accept_cookie(const Arrival& arrival);
    [[nodiscard]] ControlBlock* make_connection(const Tuple& tuple, const network::Path& path, Time now);
    void take_syn_options(ControlBlock& cb, const wire::TcpOptions& options);
    void establish(ControlBlock& cb, const Arrival& arrival);
    [[nodiscard]] bool listening(const SocketAddress& local) const noexcept;
    void take_user_timeout(ControlBlock& cb, const wire::TcpOptions& options) noexcept;   // RFC 5482 3.1
    void drop_half_open_without_listener();
    [[nodiscard]] SeqNum initial_sequence_number(const Tuple& tuple, Time now) const noexcept;
    [[nodiscard]] std::uint32_t timestamp_offset(const Tuple& tuple) const noexcept;
    [[nodiscard]] std::uint16_t mss_for(const network::Path& path, const IpAddress& remote) const noexcept;
    void update_mss(ControlBlock& cb) noexcept;
    /// A path that drops long packets without a word (RFC 4821 7.7): after some timeouts in a row it is tried with short ones; and later
    /// with long ones again.
    void suspect_black_hole(ControlBlock& cb) noexcept;
    void trust_path_again(ControlBlock& cb, Time now) noexcept;

    // ---- acknowledge.cpp, sack_scoreboard.cpp, rack.cpp ----
    [[nodiscard]] Verdict acknowledge(ControlBlock& cb, Arrival& arrival);
    void drop_acknowledged(ControlBlock& cb, SeqNum ack, const Arrival& arrival, Delivery& delivery);
    void apply_sacks(ControlBlock& cb, const Arrival& arrival, Delivery& delivery);
    void apply_sack(ControlBlock& cb, const SackRange& range, const Arrival& arrival, Delivery& delivery);
    void note_delivered(ControlBlock& cb, SendSegment& segment, const Arrival& arrival, Delivery& delivery);
    void rack_update(ControlBlock& cb, const SendSegment& segment, const Arrival& arrival, const Delivery& delivery);
    void rack_detect_loss(ControlBlock& cb, Time now);
    void adapt_reordering_window(ControlBlock& cb, const Delivery& delivery) noexcept;
    [[nodiscard]] Duration reordering_window(const ControlBlock& cb) const noexcept;
    void tail_loss_probe_acknowledged(ControlBlock& cb, const Arrival& arrival, const Delivery& delivery, bool duplicate_ack);
    void recover(ControlBlock& cb, const Arrival& arrival, const Delivery& delivery, bool duplicate_ack);
    void mark_first_lost(ControlBlock& cb) noexcept;   // for peers without SACK
    void enter_recovery(ControlBlock& cb);
    [[nodiscard]] bool undo_spurious(ControlBlock& cb, const Arrival& arrival);
    void take_congestion_echo(ControlBlock& cb, const Arrival& arrival);
    /// `newer`: it acknowledges what none before it did.
    void update_send_window(ControlBlock& cb, const Arrival& arrival, bool newer) noexcept;

    // ---- transmit.cpp ----
    void flush(ControlBlock& cb, Time now);
    void send_lost(ControlBlock& cb, Time now);
    /// `force`: also less than silly-window avoidance would send.
    void send_new(ControlBlock& cb, Time now, bool force);
    /// Whether new segments may follow with which it can leave as one frame: then depart() must follow, too.
    enum class Departs : std::uint8_t { at_once, with_others };
    [[nodiscard]] bool transmit(ControlBlock& cb, rte_mbuf* buffer, Time now, Departs departs = Departs::at_once);
    /// Octets that a buffer may hold for the device to cut, a multiple of SND.MSS; SND.MSS where it cuts none.
    [[nodiscard]] std::uint16_t most_to_cut(const ControlBlock& cb) const noexcept;
    /// What the path takes within kPaceAhead, where what leaves is spread.
    [[nodiscard]] std::uint32_t leaves_at_once(const ControlBlock& cb) const noexcept;
    /// Several segments in one buffer leave whole, or wait until they can, or one is cut off.
    enum class Whole : std::uint8_t { goes, waits, cut };
    [[nodiscard]] Whole leaves_whole(const ControlBlock& cb, const SendSegment& segments) const noexcept;
    /// Whether a new segment can go behind what waits in `train_`.
    [[nodiscard]] bool joins_train(const ControlBlock& cb, const SendSegment& segment, bool ecn) const noexcept;
    /// Sends what waits in `train_`.
    void depart(ControlBlock& cb, Time now);
    void send_syn(ControlBlock& cb, Time now);
    /// SEG.SEQ of an ACK without payload: SND.NXT, but never beyond the window. A peer may take back a window that it gave (RFC 9293 3.8.6),
    /// and what lies beyond the rest is not acceptable to it (3.10.7.4): it would never see that ACK, and both would send again for ever.
    [[nodiscard]] static SeqNum sequence_of_ack(const ControlBlock& cb) noexcept;
    /// A segment without payload.
    void send_control(ControlBlock& cb, SeqNum seq, std::uint8_t flags, Time now);
    void send_reset(ControlBlock& cb) noexcept;
    void reset_peer(ControlBlock& cb) noexcept;
    /// <SEQ=seq><ACK=ack><CTL=flags> in answer to a segment of no connection.
    void answer(const Arrival& arrival, const network::Path& path, SeqNum seq, SeqNum ack, std::uint8_t flags,
                std::uint16_t window, const wire::TcpOptions& options);
    void answer_reset(const Arrival& arrival);
    [[nodiscard]] wire::TcpOptions options_for(ControlBlock& cb, Time now) noexcept;
    [[nodiscard]] std::uint16_t advertise(ControlBlock& cb) noexcept;
    /// The right edge that the receive limit asks for.
    [[nodiscard]] SeqNum window_edge(const ControlBlock& cb) const noexcept;
    void ack_sent(ControlBlock& cb) noexcept;
    /// Sends at the pace of the path what is more than an initial window; true: not before `pace_at`.
    [[nodiscard]] bool paced(ControlBlock& cb, Time now) noexcept;
    void note_pace(ControlBlock& cb, std::uint32_t octets, Time now) const noexcept;
    [[nodiscard]] bool cwnd_allows(const ControlBlock& cb, std::uint32_t length) const noexcept;

    // ---- timers.cpp ----
    void arm(ControlBlock& cb, Timer timer, Time at) noexcept;
    void delay_ack(ControlBlock& cb, Time now) noexcept;
    /// The window of a SYN, which is never scaled (RFC 7323 2.2).
    [[nodiscard]] static std::uint32_t syn_window(const ControlBlock& cb) noexcept { return cb.receive_limit < 65535 ? cb.receive_limit : 65535; }
    void disarm(ControlBlock& cb, Timer timer) noexcept;
    [[nodiscard]] bool armed(const ControlBlock& cb, Timer timer) const noexcept;
    void fired(ControlBlock& cb);
    [[nodiscard]] Verdict retransmit_fired(ControlBlock& cb);
    [[nodiscard]] Verdict retransmission_timeout(ControlBlock& cb);
    [[nodiscard]] Verdict syn_timeout(ControlBlock& cb);
    [[nodiscard]] Verdict persist_fired(ControlBlock& cb);
    void tail_loss_probe(ControlBlock& cb);
    [[nodiscard]] Verdict keepalive_fired(ControlBlock& cb);
    [[nodiscard]] Verdict linger_fired(ControlBlock& cb);
    /// Sets the retransmission timer for what is outstanding now; `restart` when an ACK moved SND.UNA (RFC 6298 5.3).
    void schedule_retransmit(ControlBlock& cb, Time now, bool restart) noexcept;
    [[nodiscard]] bool given_up(const ControlBlock& cb) const noexcept;
    [[nodiscard]] Duration user_timeout(const ControlBlock& cb) const noexcept { return Duration{1ms} * cb.user_timeout_ms; }

    // ---- memory.cpp ----
    /// Brings the sums of held buffers up to date with this connection's.
    void settle(ControlBlock& cb) noexcept;
    [[nodiscard]] Pressure receive_pressure() const noexcept;
    [[nodiscard]] Pressure transmit_pressure() const noexcept;
    /// Octets that one connection may hold at most, by what others hold.
    [[nodiscard]] std::uint32_t receive_share() const noexcept;
    [[nodiscard]] std::uint32_t transmit_share() const noexcept;
    /// Octets that a connection holds at most each way while the worker is saturated, by what all hold; no bound where that would cost throughput: on a long path, or where
    /// the kernel is to cut frames as large as can be.
    [[nodiscard]] std::uint32_t cached_share(const ControlBlock& cb, std::uint64_t held) const noexcept;
    /// Drops out-of-order octets of the connections that have waited longest for a gap to be filled until there is less pressure, but not
    /// those of `but`.
    void prune(const ControlBlock& but) noexcept;
    /// Whether payload of this connection must be dropped for want of buffers; counts it.
    [[nodiscard]] bool refuse_payload(ControlBlock& cb) noexcept;

    // ---- stack.cpp ----
    void set_state(ControlBlock& cb, State state) noexcept;
    void raise(ControlBlock& cb, std::uint8_t events) noexcept;
    void mark_dirty(ControlBlock& cb) noexcept { dirty_.push_back(cb); }
    /// The connection is over. Destroys it when no user knows it; else it stays, out of the table, until release().
    void end(ControlBlock& cb, End reason) noexcept;
    void detach(ControlBlock& cb) noexcept;
    /// Gives the connection a Transfer of its own, if it has none.
    Transfer& engage(ControlBlock& cb) noexcept;
    /// Drops all that is in the Transfer.
    void disengage(ControlBlock& cb) noexcept;
    void destroy(ControlBlock& cb) noexcept;
    void enter_time_wait(ControlBlock& cb, Time now) noexcept;
    void count(DropReason reason, std::uint64_t n = 1) noexcept { drops_.count(reason, n); }
    [[nodiscard]] std::uint32_t ts_now(const ControlBlock& cb, Time now) const noexcept {
        return static_cast<std::uint32_t>(now.time_since_epoch() / Duration{1ms}) + cb.ts_offset;
    }

    Settings settings_;
    rte_mempool* pool_;
    network::Network& network_;
    DropCounters& drops_;
    KeyedHash hash_, table_hash_, timestamp_hash_;
    ControlBlockPool blocks_;
    ConnectionTable table_;
    ObjectPool<Transfer> transfers_;
    DelayedAcks delayed_acks_;
    std::uint64_t destroyed_ = 0;   ///< connections so far
    PortAllocator ports_;
    SynCookie cookie_;
    TimerWheel wheel_;
    IntrusiveList<ControlBlock, &ControlBlock::ready> ready_;
    IntrusiveList<ControlBlock, &ControlBlock::dirty> dirty_;
    IntrusiveList<ControlBlock, &ControlBlock::waiting> time_wait_;  ///< oldest first, for reuse when memory is short
    IntrusiveList<ControlBlock, &ControlBlock::waiting> orphans_;    ///< released and not finished yet, oldest first
    IntrusiveList<ControlBlock, &ControlBlock::waiting> ended_;      ///< over, and not release()d by the user yet
    IntrusiveList<ControlBlock, &ControlBlock::reassembling> reassembling_;  ///< with octets out of order, by the age of the first gap
    IntrusiveList<ControlBlock, &ControlBlock::starved> starved_;    ///< were told that there is no space, for want of buffers
    std::uint64_t received_held_ = 0, sent_held_ = 0;                ///< buffers of all connections
    std::vector<SocketAddress> listeners_;   ///< sorted
    Train train_;
    Time now_{};
    Time last_cookie_ = Time::min();
    std::uint32_t max_send_segments_;
    std::uint32_t max_payload_;      ///< of one buffer of the pool
    std::uint32_t large_payload_;    ///< of one of Settings::large_buffers; 0: there are none
    std::uint8_t large_weight_;      ///< ordinary buffers that one of these counts as
    std::uint8_t rcv_wnd_shift_;     ///< for Settings::receive_buffer
};

struct Stack::Impl : Core {
    using Core::Core;
};

}  // namespace sallyport::tcp
