#pragma once

#include <cstdint>
#include <span>

#include "crypto/record_protection.h"
#include "dataplane/tcp/seq_num.h"
#include "dataplane/time.h"

struct rte_mbuf;
struct rte_mempool;

namespace sallyport::tcp {

using crypto::WritePiece;

/// State of one segment that we send, in the private area of the packet buffer that holds its payload; or of several, which the device cuts (TSO), as long as
/// nothing is known of them that does not hold for all.
struct SendSegment {
    rte_mbuf* next;
    rte_mbuf* previous;
    rte_mbuf* later;             ///< on the list that it is on, of what is in flight or of what waits to be sent again
    rte_mbuf* earlier;
    Time sent_at;                ///< of the latest transmission
    SeqNum seq;
    std::uint16_t offset;        ///< of the payload in the buffer: lower layers move the buffer's own offset
    std::uint16_t length;        ///< octets of payload
    std::uint16_t cut_to;        ///< octets of payload that a segment has at most on the wire, since the latest transmission; 0: never sent
    std::uint8_t transmissions;  ///< 0: never sent; saturates
    std::uint8_t weight;         ///< ordinary buffers that this one counts as
    bool fin : 1;                ///< FIN follows the payload
    bool sacked : 1;             ///< selectively acknowledged (RFC 6675)
    bool lost : 1;               ///< deemed lost, to be sent again
    bool retransmitted : 1;      ///< lost, and the retransmission is in flight
    bool large : 1;              ///< a buffer for several segments

    /// SEG.LEN: what it occupies in sequence space.
    [[nodiscard]] std::uint32_t sequence_length() const noexcept { return std::uint32_t{length} + (fin ? 1 : 0); }
    [[nodiscard]] SeqNum end() const noexcept { return seq + sequence_length(); }
    /// Segments that it is on the wire.
    [[nodiscard]] std::uint32_t on_wire() const noexcept { return length <= cut_to || cut_to == 0 ? 1u : (std::uint32_t{length} + cut_to - 1) / cut_to; }
};

/// Into which buffers goes what is appended: of `mss` octets each, from `pool`; or, where the device cuts segments itself and there are kWorthALarge of them, of
/// up to `most` octets, a multiple of that, from `large`, as long as it has any. Pools are borrowed; `large` may be null when `most` is `mss`.
struct Cutting {
    static constexpr std::uint32_t kWorthALarge = 3;
    std::uint16_t mss;
    std::uint16_t most;
    rte_mempool* pool;
    rte_mempool* large = nullptr;
    std::uint8_t weight = 1;     ///< SendSegment's, of a buffer from `large`
};
[[nodiscard]] SendSegment& send_segment(rte_mbuf* buffer) noexcept;

/// Fetches what drops a buffer once it is acknowledged.
void prefetch_acknowledged(const rte_mbuf* buffer) noexcept;

/// The retransmission queue (RFC 9293 3.3.1): octets from SND.UNA on, cut into segments, one packet buffer each; first those in flight,
/// then those not sent yet. Owns a reference to each buffer. The FIN is a segment's flag, of an empty one if need be.
class SendBuffer {
 public:
    SendBuffer() noexcept = default;
    SendBuffer(const SendBuffer&) = delete;
    SendBuffer& operator=(const SendBuffer&) = delete;

    [[nodiscard]] rte_mbuf* front() const noexcept { return head_; }
    [[nodiscard]] rte_mbuf* back() const noexcept { return tail_; }
    [[nodiscard]] rte_mbuf* unsent() const noexcept { return unsent_; }  ///< the first one never sent
    [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
    /// Of what is in flight and neither selectively acknowledged nor deemed lost: what was sent longest ago; SendSegment::later leads on.
    [[nodiscard]] rte_mbuf* oldest() const noexcept { return in_flight_.first; }
    /// Of what is lost and not sent again yet, the first in the stream; SendSegment::later leads on.
    [[nodiscard]] rte_mbuf* first_lost() const noexcept { return lost_.first; }
    /// Of what is selectively acknowledged the last in the stream, as far as that is known; null: look for it.
    [[nodiscard]] rte_mbuf* highest_sacked() const noexcept { return highest_sacked_; }
    [[nodiscard]] std::uint32_t octets() const noexcept { return octets_; }  ///< payload, sent or not
    [[nodiscard]] std::uint32_t segments() const noexcept { return segments_; }
    [[nodiscard]] std::uint32_t held() const noexcept { return held_; }      ///< buffers, by weight

    /// Of what is in flight, in sequence space (RFC 6675's and Linux's accounting).
    std::uint32_t sacked_octets = 0, lost_octets = 0, retransmitted_octets = 0;
    std::uint32_t sacked_segments = 0;   ///< on the wire

    // ---- writing ----
    /// Sets pieces for `length` octets: room of the last segment if it was never sent, then new buffers.
    /// Returns their number; 0 (and no change) when the pools are empty or `pieces` too short.
    [[nodiscard]] std::size_t reserve(std::uint32_t length, const Cutting& cutting, std::span<WritePiece> pieces) noexcept;
    void append(SeqNum seq) noexcept;  ///< `seq`: of the first octet after all that was appended before
    void give_back() noexcept;
    [[nodiscard]] bool reserved() const noexcept { return reserved_ > 0; }
    /// Marks the end of the stream at `seq`. False when a buffer was needed and none is free.
    [[nodiscard]] bool append_fin(SeqNum seq, rte_mempool* pool) noexcept;

    // ---- sending ----
    /// The first unsent segment has been sent; or one that was sent before, again.
    void sent() noexcept;
    void sent_again(rte_mbuf* buffer) noexcept;
    /// Cuts a segment in two: the first `length` octets, for which an ordinary buffer has room, are copied into a new one before it, which is returned; the rest
    /// stays where it is, also while the device still reads all of it. Null: no buffer.
    [[nodiscard]] rte_mbuf* split(rte_mbuf* buffer, std::uint16_t length, rte_mempool* pool) noexcept;
    /// Puts a copy, in an ordinary buffer, which has room for it, in the place of one that the device still holds. Null: no buffer free.
    [[nodiscard]] rte_mbuf* replace(rte_mbuf* buffer, rte_mempool* pool) noexcept;

    // ---- acknowledging ----
    /// Drops the first segment.
    void pop_front() noexcept;
    /// Drops the first `length` octets of the first segment, fewer than it has.
    void trim_front(std::uint16_t length) noexcept;
    void mark_sacked(rte_mbuf* buffer) noexcept;
    /// No effect on what is selectively acknowledged.
    void mark_lost(rte_mbuf* buffer) noexcept;
    /// All that is in flight is lost; `reneged`: also what was selectively acknowledged (RFC 2018 8).
    void mark_all_lost(bool reneged) noexcept;
    /// Nothing is lost, after all.
    void unmark_all_lost() noexcept;

    void clear() noexcept;

 private:
    /// Through SendSegment::later and earlier. A segment in flight is on one of the two, or sacked and on none.
    struct List {
        rte_mbuf* first = nullptr;
        rte_mbuf* last = nullptr;
        void insert_after(rte_mbuf* buffer, rte_mbuf* where) noexcept;   ///< null: at the front
        void remove(rte_mbuf* buffer) noexcept;
        void replace(rte_mbuf* buffer, rte_mbuf* by) noexcept;
    };
    /// The list that it is on; null: none.
    [[nodiscard]] List* list_of(const SendSegment& segment) noexcept;
    void link_after(rte_mbuf* buffer, rte_mbuf* where) noexcept;
    void forget_marks(const SendSegment& segment, std::uint32_t octets) noexcept;

    rte_mbuf* head_ = nullptr;
    rte_mbuf* tail_ = nullptr;
    rte_mbuf* unsent_ = nullptr;
    List in_flight_;                      ///< by the time of the latest transmission
    List lost_;                           ///< by sequence number
    rte_mbuf* highest_sacked_ = nullptr;
    rte_mbuf* reserved_head_ = nullptr;   ///< new buffers of a reservation, linked by `next`
    std::uint32_t reserved_ = 0;          ///< octets
    std::uint16_t reserved_in_tail_ = 0;  ///< of them in the last segment
    std::uint32_t octets_ = 0;
    std::uint32_t segments_ = 0;
    std::uint32_t held_ = 0;
};

}  // namespace sallyport::tcp
