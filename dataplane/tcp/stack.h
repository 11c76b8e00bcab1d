#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <vector>

#include "control/channel/address.h"
#include "crypto/record_protection.h"
#include "dataplane/drop_reason.h"
#include "dataplane/network/network.h"
#include "dataplane/time.h"
#include "dataplane/wire/packet.h"

struct rte_mbuf;
struct rte_mempool;

/// TCP (RFC 9293) of one worker. The user of this interface is flow/. Owning worker only. Time is an argument.
namespace sallyport::tcp {

using crypto::ReadPiece;
using crypto::WritePiece;

/// Explicit congestion notification (RFC 3168).
enum class Ecn : std::uint8_t {
    off,
    accept,    ///< when the peer of a passive open asks for it
    request,   ///< and active opens ask for it; a SYN that is sent again does not (6.1.1.1)
};

struct Settings {
    std::uint32_t max_connections = 65536;
    /// Octets that a connection's buffers may grow to (see initial_buffer): the most that is advertised to a peer; what is unsent and
    /// unacknowledged together.
    std::uint32_t receive_buffer = 262144, send_buffer = 262144;
    /// What both begin with. The receive buffer doubles when the user has taken more than a quarter of it within a round trip; the send buffer is
    /// twice the congestion window, and what has arrived behind a gap.
    std::uint32_t initial_buffer = 131072;
    std::uint32_t max_half_open = 4096;      ///< above it SYNs are answered with cookies (RFC 4987)
    Duration msl = 30s;                      ///< TIME-WAIT lasts two (RFC 9293 3.4.2); 60 s in all as Linux has it
    Duration keepalive_idle = 120s, keepalive_interval = 15s;
    unsigned keepalive_probes = 5;
    Duration user_timeout = 100s;            ///< R2 (RFC 9293 3.8.3)
    /// Tells peers of ours and follows theirs, between ours and `most_user_timeout` (RFC 5482 3.1).
    bool user_timeout_option = false;
    Duration most_user_timeout = 600s;
    Ecn ecn = Ecn::accept;
    bool nagle = false;                      ///< as Connection::set_nagle(), for new connections
    bool pacing = true;                      ///< spreads what the congestion window allows over a round trip
    Duration syn_timeout = 20s;
    std::uint32_t max_reassembly_segments = 256;  ///< out-of-order mbufs a connection
    /// Packet buffers that all connections together may hold: received ones, in order or not, and ones to be sent or acknowledged. What
    /// the pools hold beyond is for rings, bursts, and segments without payload, which therefore always find a buffer. 0: no bound.
    std::uint32_t receive_budget = 0, transmit_budget = 0;
    /// For several segments at once, on paths whose device cuts them (TSO): a pool with a larger data room, borrowed; null: none. Where it is empty, ordinary
    /// buffers do. One counts in `transmit_budget` as the ordinary ones whose room it has.
    rte_mempool* large_buffers = nullptr;
    std::uint16_t port_low = 10000, port_high = 65000;   ///< ephemeral ports for connect()
    std::array<std::uint8_t, 32> secret{};   ///< of ISNs (RFC 6528), ports (RFC 6056), cookies; anew at each start
    /// Of timestamp offsets: the same after a restart, as the clock goes on from `timestamp_base`. A peer that still holds a connection of
    /// before in TIME-WAIT takes our SYN for a new one only when its timestamp is later than the last that it saw (RFC 6191 2).
    std::array<std::uint8_t, 16> timestamp_secret{};
    std::uint32_t timestamp_base = 0;        ///< milliseconds that the timestamp clock shows at time zero
};

enum class State : std::uint8_t {
    closed, listen, syn_sent, syn_received, established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack, time_wait
};
[[nodiscard]] const char* name(State state) noexcept;   ///< RFC 9293 spelling: SYN-RECEIVED

/// Why a connection is gone, or going.
enum class End : std::uint8_t {
    none,
    finished,      ///< both FINs exchanged
    reset,         ///< RST from the peer
    refused,       ///< RST in answer to our SYN
    timed_out,     ///< R2, keepalive or SYN retries exhausted
    unreachable,   ///< ICMP hard error while connecting (RFC 9293 3.9.2.2, RFC 5461)
    aborted,       ///< our own abort()
};

/// What the user has not looked at yet; or-ed bits.
namespace event {
constexpr std::uint8_t kEstablished = 1;   ///< handshake complete; for a passive open: the connection is new
constexpr std::uint8_t kReadable = 2;      ///< in-order octets arrived
constexpr std::uint8_t kWritable = 4;      ///< octets were acknowledged, or selectively: send space grew
constexpr std::uint8_t kPeerClosed = 8;    ///< the peer's FIN is next to read (all octets before it are readable)
constexpr std::uint8_t kEnded = 16;        ///< see end(); no more octets either way, release() it
}  // namespace event

/// How far connections have used up the buffers that they may hold (the worse of both budgets).
enum class Pressure : std::uint8_t {
    none,
    some,   ///< three quarters: windows no longer grow, out-of-order octets make room, oldest first; small shares to send
    full,   ///< all: payload is dropped, nothing can be appended; only ending connections helps
};

class Stack;

/// One TCP connection as its user sees it. Made by the stack, used until release(). Not copyable, does not move.
class Connection {
 public:
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    [[nodiscard]] const SocketAddress& local() const noexcept;
    [[nodiscard]] const SocketAddress& remote() const noexcept;
    [[nodiscard]] State state() const noexcept;
    [[nodiscard]] End end() const noexcept;

    /// The user's own value: given to connect(), or set for a passive open. Survives until release().
    std::uint64_t user = 0;

    // ---- receiving: in-order octets stay in the received buffers until they are consumed ----
    [[nodiscard]] std::uint32_t readable() const noexcept;
    /// Pieces of the octets [offset, offset + length) of what is readable, writable in place. Returns how many pieces were
    /// written to `pieces`, or 0 when `pieces` is too short. offset + length must not pass readable().
    [[nodiscard]] std::size_t peek(std::uint32_t offset, std::uint32_t length, std::span<WritePiece> pieces) noexcept;
    /// Drops the first `length` readable octets, frees buffers that became empty. Does not by itself open the window: see credit().
    void consume(std::uint32_t length) noexcept;
    /// Back pressure: how many octets beyond what has been consumed the peer may have sent in all, at most. The advertised
    /// window follows it (never shrinking, RFC 9293 3.8.6; with silly-window avoidance). Default: Settings::receive_buffer.
    void set_receive_limit(std::uint32_t octets) noexcept;
    /// Of one that is being opened by connect(): its user sends as soon as it is open, so that the ACK of the peer's SYN waits for that (as long as any ACK may) and costs
    /// no segment of its own.
    void speak_first() noexcept;
    /// True when every octet before the peer's FIN has been consumed.
    [[nodiscard]] bool peer_finished() const noexcept;

    // ---- sending: octets are written straight into transmit buffers, which are kept until acknowledged ----
    /// Octets that may be appended now: buffer limit less what is unsent or unacknowledged. 0 after close(). Less under pressure; when it is
    /// 0 for that alone, kWritable tells that there are buffers again.
    [[nodiscard]] std::uint32_t send_space() noexcept;
    /// Octets not yet acknowledged by the peer, sent or not.
    [[nodiscard]] std::uint32_t outstanding() const noexcept;
    /// Space for the next `length` octets of the stream, in pieces cut for segments (fills up an unsent last one first).
    /// Returns the number of pieces, or 0 when no buffers are free, `length` is more than send_space(), or `pieces` is too short:
    /// then nothing has changed. Valid until append() or give_back(), one of which must follow before anything else.
    [[nodiscard]] std::size_t reserve(std::uint32_t length, std::span<WritePiece> pieces) noexcept;
    /// Makes the reserved octets part of the stream. They are sent by the stack's next output().
    void append() noexcept;
    void give_back() noexcept;
    /// Whether less than a full segment waits while anything is unacknowledged (Nagle, RFC 9293 3.7.4).
    void set_nagle(bool on) noexcept;
    /// Less than a segment of what has been appended waits for what is appended next, or for the next ACK (as long as any may wait): for octets whose reader
    /// needs them only later, and that are to cost no segment of their own.
    void hold_back() noexcept;
    /// Copies octets into the stream. All or nothing, as reserve().
    [[nodiscard]] bool send(std::span<const std::byte> octets) noexcept;
    /// CLOSE (RFC 9293 3.10.4): FIN after all that was appended. Receiving goes on.
    void close() noexcept;
    /// ABORT (3.10.5): RST, drops everything. kEnded is not raised; release() it.
    void abort() noexcept;
    /// The user is done with it for good: the stack finishes on its own (FIN, retransmission, TIME-WAIT); octets that still arrive
    /// are answered with RST (RFC 9293 3.10.7.4, RFC 2525 2.17). The pointer is dead afterwards.
    void release() noexcept;

    /// Packet buffers that it holds now, received and to be sent or acknowledged.
    [[nodiscard]] std::uint32_t buffers_held() const noexcept;
    /// Effective send MSS in octets of payload (RFC 9293 3.7.1), options taken off.
    [[nodiscard]] std::uint16_t mss() const noexcept;

    /// For reports. Durations are zero when not measured yet.
    struct Status {
        State state;
        Duration srtt, rttvar, rto;
        std::uint32_t cwnd, ssthresh, snd_wnd, rcv_wnd, in_flight;
        std::uint64_t octets_sent, octets_received, segments_retransmitted, timeouts;
        std::uint16_t mss;
        bool sack, timestamps, window_scaling, ecn;
    };
    [[nodiscard]] Status status() const noexcept;

 protected:
    Connection() = default;
    ~Connection() = default;
};

class Stack {
 public:
    /// `transmit_buffers`: mempool whose data room holds headroom, headers and the largest MTU. `network` sends. Both borrowed.
    Stack(const Settings& settings, rte_mempool* transmit_buffers, network::Network& network, DropCounters& drops);
    ~Stack();

    /// Accepts connections to this address from now on. An unspecified address listens on all of ours.
    void listen(const SocketAddress& local);
    /// Stops accepting; half-open connections of this address are dropped, others go on.
    void unlisten(const SocketAddress& local);
    /// Accepts connections to exactly these from now on, as listen() and unlisten() of each that is new or gone would.
    void listen_at(std::vector<SocketAddress> all);

    /// SEGMENT ARRIVES (RFC 9293 3.10.7). Takes the mbuf (trimmed to the payload, see wire::Segment), always.
    void segment_arrives(const wire::Segment& segment, rte_mbuf* payload, Time now);
    /// A segment and its mbuf.
    struct Arriving {
        wire::Segment segment;
        rte_mbuf* payload;
    };
    /// As segment_arrives() of each in turn, at most kMostArriving; cheaper when the connections of a burst are in no cache.
    static constexpr std::size_t kMostArriving = 64;
    void segments_arrive(std::span<const Arriving> burst, Time now);
    /// Fetches into the cache what the user keeps for a connection of which a segment is about to arrive: segments_arrive() calls it while it processes those before,
    /// first with again = false, and some hundred nanoseconds later again, for what the first has led to. It changes nothing. May be null.
    using Fetch = void (*)(void* context, std::uint64_t user, bool again);
    void set_fetch(Fetch fetch, void* context) noexcept;
    /// An ICMP error about a segment of ours; checked against the window first (RFC 5927).
    void icmp_error(const network::Received::IcmpError& error, Time now);

    /// Chooses whether a source port is acceptable for a connection (so that replies reach this worker). May be null.
    using PortFilter = bool (*)(void* context, const SocketAddress& local, const SocketAddress& remote);
    void set_port_filter(PortFilter filter, void* context) noexcept;

    enum class ConnectError : std::uint8_t { no_route, no_port, no_memory };
    /// Active OPEN. `user` as in Connection. `timeout` bounds SYN-SENT. `from` is an address of ours to speak from; unspecified: the route's
    /// (RFC 9293 3.9.1.1, MUST-43). The SYN leaves with the next output().
    [[nodiscard]] std::expected<Connection*, ConnectError> connect(const SocketAddress& remote, std::uint64_t user,
                                                                   Duration timeout, Time now, const IpAddress& from = {});

    /// The next connection with something that its user has not looked at, and what (event bits); they are cleared by this.
    /// Null when there is none. A connection is on the list once however many events it has.
    struct Ready {
        Connection* connection = nullptr;
        std::uint8_t events = 0;
    };
    [[nodiscard]] Ready next_ready() noexcept;
    /// Fetches what an ordinary segment or octets to be sent touch of a connection into the cache.
    static void prefetch(const Connection& connection) noexcept;

    /// Transmits what the windows allow on every connection that changed since the last call, and ACKs that are due, through the network.
    void output(Time now);
    /// Whether the worker has been busy all the time. Then connections on short paths hold less of what is under way: more of it would bring no throughput, which the worker
    /// bounds, and what comes back to a buffer would no longer be in its caches.
    void set_saturated(bool saturated) noexcept;
    /// Timers: retransmission, delayed ACK, persist, keepalive, TIME-WAIT. Cheap when none is due.
    void advance(Time now);
    /// When advance() must be called next at the latest; Time::max() for never.
    [[nodiscard]] Time next_timer() const noexcept;

    struct Counters {
        std::uint64_t segments_in = 0, segments_out = 0, octets_in = 0, octets_out = 0;
        std::uint64_t retransmitted = 0, fast_retransmits = 0, timeouts = 0, resets_in = 0, resets_out = 0;
        std::uint64_t accepted = 0, connected = 0, cookies_sent = 0, cookies_accepted = 0, out_of_order = 0;
        std::uint64_t segmented = 0;     ///< of segments_out: in frames that the device cuts
        std::uint64_t black_holes = 0;   ///< connections that took to short segments because long ones vanished
        std::uint64_t congestion_marks_in = 0;   ///< segments that a router marked instead of dropping them (RFC 3168 5)
        std::uint64_t congestion_echoes = 0;     ///< reductions of a congestion window because a peer told of marks
    };
    [[nodiscard]] const Counters& counters() const noexcept;
    /// Connections in the table, TIME-WAIT included; and of them half open.
    [[nodiscard]] std::uint32_t connections() const noexcept;
    [[nodiscard]] std::uint32_t half_open() const noexcept;
    /// Packet buffers that connections hold now (received, out of order, to be sent or acknowledged).
    [[nodiscard]] std::uint64_t buffers_held() const noexcept;
    [[nodiscard]] Pressure pressure() const noexcept;
    /// Under pressure: resets the connection that was release()d longest ago and is not finished (its peer does not take what is left to send).
    /// False when there is none.
    [[nodiscard]] bool shed_orphan() noexcept;
    /// Resets every connection but those in TIME-WAIT, before the stack goes: else the peers would find out only when they next send something. User's connections are
    /// as after abort(). The resets leave through the network at once.
    void abort_all() noexcept;

 private:
    friend class Connection;
    friend struct CoreTestAccess;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::tcp
