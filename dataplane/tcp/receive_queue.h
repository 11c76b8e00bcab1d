#pragma once

#include <cstdint>
#include <span>

#include "crypto/record_protection.h"
#include "dataplane/tcp/seq_num.h"

struct rte_mbuf;

namespace sallyport::tcp {

using crypto::WritePiece;

/// State of a received packet buffer, in its private area. Queues hold single mbuf segments: chains are taken apart on arrival.
struct ReceivedPiece {
    rte_mbuf* next;
    rte_mbuf* previous;  ///< reassembly queue only
    SeqNum seq;          ///< of its first octet; reassembly queue only
};
[[nodiscard]] ReceivedPiece& received_piece(rte_mbuf* buffer) noexcept;

/// Payload of no more than this is copied into the room behind an earlier buffer's, where it fits: a peer that sends one octet a
/// segment must not tie up a buffer of 2 KB for each. 512 keeps the worst case at a quarter of the buffers' size.
constexpr std::uint32_t kCopyAtMost = 512;
/// Appends `from`'s payload to `to`'s. False (nothing changed) when it is too long or `to` has no room that is ours alone.
[[nodiscard]] bool coalesce(rte_mbuf* to, const rte_mbuf* from) noexcept;

/// Octets in order that the user has not consumed yet, in the buffers in which they were received.
class ReceiveQueue {
 public:
    ReceiveQueue() noexcept = default;
    ReceiveQueue(const ReceiveQueue&) = delete;
    ReceiveQueue& operator=(const ReceiveQueue&) = delete;

    [[nodiscard]] std::uint32_t octets() const noexcept { return octets_; }
    [[nodiscard]] std::uint32_t buffers() const noexcept { return buffers_; }
    /// Takes one mbuf segment (next is null) with at least one octet.
    void append(rte_mbuf* buffer) noexcept;
    /// As Connection::peek().
    [[nodiscard]] std::size_t peek(std::uint32_t offset, std::uint32_t length, std::span<WritePiece> pieces) const noexcept;
    void consume(std::uint32_t length) noexcept;
    void clear() noexcept;

 private:
    friend struct CoreTestAccess;
    rte_mbuf* head_ = nullptr;
    rte_mbuf* tail_ = nullptr;
    std::uint32_t octets_ = 0;
    std::uint32_t buffers_ = 0;
};

}  // namespace sallyport::tcp
