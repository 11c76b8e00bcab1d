#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "dataplane/tcp/receive_queue.h"
#include "dataplane/tcp/seq_num.h"
#include "dataplane/wire/tcp_options.h"

namespace sallyport::tcp {

/// Octets that arrived ahead of RCV.NXT, and the SACK blocks that tell the peer of them (RFC 2018 4, RFC 2883).
class ReassemblyQueue {
 public:
    ReassemblyQueue() noexcept = default;
    ReassemblyQueue(const ReassemblyQueue&) = delete;
    ReassemblyQueue& operator=(const ReassemblyQueue&) = delete;

    [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
    [[nodiscard]] std::uint32_t buffers() const noexcept { return buffers_; }

    enum class Inserted : std::uint8_t { all, duplicate, full };
    /// Takes one mbuf segment whose first octet is `seq`. Octets that are there already stay as they came first, but for a buffer that
    /// the new one covers whole. At most `limit` buffers: `full` when the octets had to be dropped, `duplicate` when all were there.
    Inserted insert(rte_mbuf* buffer, SeqNum seq, std::uint32_t limit) noexcept;
    /// The next buffer that continues at rcv_nxt, trimmed to begin there; null when there is a gap. The caller owns it.
    [[nodiscard]] rte_mbuf* take(SeqNum rcv_nxt) noexcept;
    /// Remembers a range received twice for the next ACK's first block (RFC 2883 4).
    void duplicate(SeqNum start, SeqNum end) noexcept;
    /// The blocks for an ACK with RCV.NXT = rcv_nxt, most recent first; at most 4.
    [[nodiscard]] std::size_t sack_blocks(SeqNum rcv_nxt, std::span<wire::SackBlock, 4> blocks) noexcept;
    [[nodiscard]] bool anything_to_tell() const noexcept { return recent_count_ > 0 || duplicate_set_; }
    /// An ACK with the blocks has left: a duplicate is reported once.
    void reported() noexcept { duplicate_set_ = false; }
    void clear() noexcept;

 private:
    friend struct CoreTestAccess;
    struct Range {
        SeqNum start, end;
    };
    void note(SeqNum start, SeqNum end) noexcept;
    void unlink(rte_mbuf* buffer) noexcept;

    rte_mbuf* head_ = nullptr;
    rte_mbuf* tail_ = nullptr;
    std::uint32_t buffers_ = 0;
    std::uint8_t recent_count_ = 0;
    bool duplicate_set_ = false;
    std::array<Range, 4> recent_{};  ///< most recent first
    Range duplicate_{};
};

}  // namespace sallyport::tcp
