#pragma once

#include <array>
#include <cstdint>

#include "dataplane/prefetch.h"
#include "dataplane/tcp/cubic.h"
#include "dataplane/tcp/reassembly_queue.h"
#include "dataplane/tcp/send_buffer.h"
#include "dataplane/tcp/seq_num.h"
#include "dataplane/time.h"

namespace sallyport::tcp {

/// A block of a SACK option (RFC 2018 3).
struct SackRange {
    SeqNum start, end;
    [[nodiscard]] bool holds(const SackRange& other) const noexcept {
        return other.start.at_or_after(start) && other.end.at_or_before(end);
    }
};

/// What a connection needs only while it has octets to send, octets in flight, or octets ahead of a gap. Most connections have none of these at
/// any time, and share an empty one that nobody may change: it lies in memory that cannot be written.
struct Transfer {
    constexpr Transfer() noexcept = default;
    /// `snd_una`: of the connection that it is for.
    explicit Transfer(SeqNum snd_una) noexcept { begin(snd_una); }
    void begin(SeqNum snd_una) noexcept { rack_end = rack_fack = reo_wnd_end = round_end = snd_una; }

    [[nodiscard]] static Transfer* none() noexcept;
    [[nodiscard]] bool idle() const noexcept {
        return send_buffer.empty() && !send_buffer.reserved() && reassembly.empty() && !reassembly.anything_to_tell();
    }

    SendBuffer send_buffer;
    Time pace_at{};                      ///< what was sent so far would have left by then, at the pace of the path
    SeqNum rack_end, rack_fack;          ///< RACK.end_seq, RACK.fack
    Time rack_sent_at{};                 ///< RACK.xmit_ts
    Duration rack_rtt{};
    SeqNum round_end;                    ///< SND.NXT when this round trip began (RFC 9406 4.2)
    std::uint32_t reno_sacked = 0;       ///< octets that duplicate ACKs stand for, without SACK
    std::uint8_t duplicate_acks = 0;     ///< without SACK
    ReassemblyQueue reassembly;
    // What an ordinary segment touches ends here.

    SeqNum tlp_end;
    SeqNum reo_wnd_end;                  ///< RACK.dsack_round: a duplicate is counted once a round trip (RFC 8985 6.2, step 4)
    std::uint32_t prr_delivered = 0, prr_out = 0, recover_flight = 0;  ///< RFC 6937
    std::uint32_t undo_timestamp = 0;    ///< our timestamp clock at the first retransmission of this recovery
    Cubic::Window undo_window;           ///< before this recovery
    static constexpr std::size_t kSacksSeen = 3;
    std::array<SackRange, kSacksSeen> sacks_seen{};   ///< of the last ACK with blocks: what they cover has been looked at
};

/// As that of a ControlBlock.
inline void prefetch(const Transfer& transfer) noexcept { prefetch_lines(&transfer, &transfer.tlp_end); }

}  // namespace sallyport::tcp
