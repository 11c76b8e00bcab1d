#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/prefetch.h"
#include "dataplane/tcp/cubic.h"
#include "dataplane/tcp/intrusive_list.h"
#include "dataplane/tcp/moment.h"
#include "dataplane/tcp/receive_queue.h"
#include "dataplane/tcp/rtt_estimator.h"
#include "dataplane/tcp/seq_num.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/timer_wheel.h"
#include "dataplane/tcp/transfer.h"

namespace sallyport::tcp {

class Core;

/// What a connection waits for; each has a deadline of its own, and the wheel holds the connection at the earliest of them.
enum class Timer : std::uint8_t {
    retransmit,   ///< as ControlBlock::retransmit_timer says
    delayed_ack,
    keepalive,
    pace,         ///< the congestion window allows more, the pace did not
    linger,       ///< TIME-WAIT, FIN-WAIT-2 without a user, limits of the handshake, release()d connections
};
constexpr std::size_t kTimers = 5;

/// What the retransmission timer does when it fires.
enum class RetransmitTimer : std::uint8_t {
    none,
    timeout,           ///< RFC 6298
    tail_loss_probe,   ///< RFC 8985 7
    reordering,        ///< RFC 8985 6.2, step 5: a segment is deemed lost when the reordering window has passed
    persist,           ///< zero-window probe (RFC 9293 3.8.6.1)
};

/// Loss recovery: open; fast recovery (RFC 6675, RFC 6582); after a timeout.
enum class Recovery : std::uint8_t { open, fast, loss };

/// The two ends of a connection, ours first.
struct Tuple {
    SocketAddress local;
    SocketAddress remote;
    bool operator==(const Tuple&) const = default;
};

constexpr std::uint32_t kNoPlace = UINT32_MAX;   ///< of ControlBlock::ack_place

/// Transmission Control Block (RFC 9293 3.3.1). Plain state: Core changes it. The members that an ordinary segment touches come first.
struct ControlBlock final : Connection, TimerEntry {
    explicit ControlBlock(Core& owner) noexcept : core(&owner) {}

    Core* core;
    State current = State::closed;
    Recovery recovery = Recovery::open;
    RetransmitTimer retransmit_timer = RetransmitTimer::none;
    std::uint8_t events = 0;             ///< not fetched by next_ready() yet
    std::uint8_t snd_wnd_shift = 0;      ///< Snd.Wind.Shift
    std::uint8_t rcv_wnd_shift = 0;      ///< Rcv.Wind.Shift
    bool timestamps : 1 = false;         ///< Snd.TS.OK
    bool sack_permitted : 1 = false;
    bool window_scaling : 1 = false;
    bool ack_now : 1 = false;            ///< an ACK leaves with the next output()
    bool syn_due : 1 = false;            ///< a SYN or SYN,ACK leaves with the next output()
    bool passive : 1 = false;
    bool user_knows : 1 = false;         ///< connect()ed, or kEstablished was raised
    bool released : 1 = false;
    bool closing : 1 = false;            ///< close(): a FIN follows what is in the send buffer
    bool fin_appended : 1 = false;       ///< it is in the send buffer, or was
    bool peer_fin_known : 1 = false;     ///< peer_fin_seq is set
    bool peer_fin_taken : 1 = false;     ///< RCV.NXT has passed it
    bool cwnd_limited : 1 = false;       ///< the last output() stopped at cwnd
    bool reordering_seen : 1 = false;    ///< RACK.reordering_seen
    bool duplicate_counted : 1 = false;  ///< RACK.dsack_round is set: reo_wnd_end
    bool tlp_retransmission : 1 = false; ///< TLP.is_retrans
    bool tlp_outstanding : 1 = false;    ///< TLP.end_seq is set
    bool undo_possible : 1 = false;
    bool listed : 1 = false;             ///< in the connection table
    bool nagle : 1 = false;
    bool ecn : 1 = false;                ///< both ends are ECN-capable; in SYN-SENT: we have asked
    bool ecn_echo : 1 = false;           ///< ACKs say ECE until the peer says CWR (RFC 3168 6.1.3)
    bool has_gaps : 1 = false;           ///< octets out of order as last told to Core: it is on its list
    bool cwr_due : 1 = false;            ///< the next new segment says CWR (6.1.2)
    bool held_back : 1 = false;          ///< less than a segment waits for what is appended next, or for an ACK
    bool speaks_first : 1 = false;       ///< the ACK of the peer's SYN waits for what our user sends

    // Receive sequence variables
    SeqNum rcv_nxt, rcv_adv;             ///< rcv_adv: right edge that the peer has been promised; RCV.WND = rcv_adv - rcv_nxt
    SeqNum last_ack_sent;                ///< Last.ACK.sent (RFC 7323 4.3)
    std::uint32_t ts_recent = 0;
    std::uint32_t receive_limit = 0;     ///< what the user allows
    std::uint32_t receive_space = 0;     ///< what the connection has shown that it needs
    SeqNum measured_from;                ///< octets consumed since then ...
    FineMoment measured_at;              ///< ... tell how much it needs
    std::uint32_t unacknowledged = 0;    ///< octets received since the last ACK
    std::uint16_t rcv_mss = 536;         ///< largest segment seen from the peer: what "full-sized" means for delayed ACKs
    std::uint16_t duplicate_acks_due = 0;///< without SACK each segment out of order wants one of its own (RFC 5681 4.2)
    std::uint32_t ack_place = kNoPlace;  ///< DelayedAcks'
    ReceiveQueue receive_queue;
    Transfer* transfer = Transfer::none();   ///< Core::engage() before anything in it is changed

    // Send sequence variables
    SeqNum snd_una, snd_nxt, snd_wl1, snd_wl2;
    std::uint32_t snd_wnd = 0;
    std::uint16_t our_mss = 536;         ///< MSS option that we sent
    std::uint8_t probes = 0;             ///< keepalive probes without an answer
    std::uint8_t backoff = 0;            ///< timeouts in a row

    std::uint32_t hash = 0;              ///< ConnectionTable's
    Tuple tuple;
    Link<ControlBlock> ready, dirty;
    CoarseMoment last_received;
    std::uint32_t ts_offset = 0;         ///< of our timestamp clock for this connection
    std::uint32_t received_held = 0, sent_held = 0;   ///< buffers, as last told to Core
    network::Path path;
    std::uint64_t octets_received = 0;
    RttEstimator rtt;
    Deadlines<kTimers> deadlines;
    FineMoment last_progress;            ///< SND.UNA moved, or the send buffer stopped being empty
    std::uint32_t max_snd_wnd = 0;
    Time last_sent{};
    std::uint16_t snd_mss = 536;         ///< payload of a segment with our usual options: what mss() tells
    std::uint16_t unproven_mtu = 0;      ///< path MTU before it was lowered because nothing came through; 0: it was not
    std::uint32_t user_timeout_ms = 0;   ///< R2 of this connection
    CoarseMoment confirmed;              ///< reachability of the next hop
    SeqNum recovery_point;               ///< RFC 6675; of the last reduction for ECN, too
    std::uint64_t octets_sent = 0;
    Cubic cubic;
    // What an ordinary segment touches ends here.

    std::uint16_t peer_mss = 536;        ///< MSS option of the peer

    // Loss detection and recovery
    std::uint8_t reo_wnd_multiplier = 1;
    std::uint8_t reo_wnd_persist = 0;
    std::uint8_t syn_transmissions = 0;
    std::uint8_t challenges = 0;         ///< sent in the current period
    CoarseMoment challenge_period;

    CoarseMoment mtu_lowered;
    End ended = End::none;
    SeqNum iss, irs, peer_fin_seq;
    Link<ControlBlock> waiting, reassembling, starved;
    std::uint32_t retransmissions = 0, timeouts = 0;

    // ---- derived ----
    /// Octets beyond what has been consumed that the peer may have sent, before what all connections together may hold is looked at.
    [[nodiscard]] std::uint32_t receive_bound() const noexcept { return receive_limit < receive_space ? receive_limit : receive_space; }
    [[nodiscard]] bool engaged() const noexcept { return transfer != Transfer::none(); }
    [[nodiscard]] std::uint32_t rcv_wnd() const noexcept { return rcv_adv.after(rcv_nxt) ? rcv_adv - rcv_nxt : 0; }
    /// FlightSize (RFC 5681 2) in sequence space.
    [[nodiscard]] std::uint32_t flight() const noexcept { return snd_nxt - snd_una; }
    /// What is believed to be in the network: RFC 6675's pipe.
    [[nodiscard]] std::uint32_t in_flight() const noexcept {
        const std::uint32_t gone = transfer->send_buffer.sacked_octets + transfer->send_buffer.lost_octets + transfer->reno_sacked;
        const std::uint32_t there = flight() + transfer->send_buffer.retransmitted_octets;
        return there > gone ? there - gone : 0;
    }
    /// Where the octet after everything in the send buffer goes, a FIN included.
    [[nodiscard]] SeqNum stream_end() const noexcept {
        const SeqNum start = current == State::syn_sent || current == State::syn_received ? iss + 1 : snd_una;
        return start + transfer->send_buffer.octets() + (fin_appended && !fin_acknowledged() ? 1 : 0);
    }
    [[nodiscard]] bool fin_acknowledged() const noexcept { return fin_appended && transfer->send_buffer.empty(); }
    /// Data and FIN may be sent.
    [[nodiscard]] bool can_send() const noexcept {
        return current == State::established || current == State::close_wait || current == State::fin_wait_1 ||
               current == State::closing || current == State::last_ack;
    }
    [[nodiscard]] bool synchronized() const noexcept {
        return current != State::closed && current != State::listen && current != State::syn_sent &&
               current != State::syn_received;
    }
};

/// Fetches what an ordinary segment touches into the cache. The block need not live any more.
inline void prefetch(const ControlBlock& cb) noexcept { prefetch_lines(&cb, &cb.peer_mss); }

}  // namespace sallyport::tcp
