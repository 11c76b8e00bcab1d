#include "dataplane/tcp/reassembly_queue.h"

#include <rte_config.h>
#include <rte_mbuf.h>

#include <algorithm>

namespace sallyport::tcp {

namespace {

SeqNum end_of(rte_mbuf* buffer) noexcept { return received_piece(buffer).seq + buffer->data_len; }

void trim_front(rte_mbuf* buffer, std::uint32_t length) noexcept {
    buffer->data_off = static_cast<std::uint16_t>(buffer->data_off + length);
    buffer->data_len = static_cast<std::uint16_t>(buffer->data_len - length);
    buffer->pkt_len = buffer->data_len;
}

void trim_back(rte_mbuf* buffer, std::uint32_t length) noexcept {
    buffer->data_len = static_cast<std::uint16_t>(buffer->data_len - length);
    buffer->pkt_len = buffer->data_len;
}

}  // namespace

ReassemblyQueue::Inserted ReassemblyQueue::insert(rte_mbuf* buffer, SeqNum seq, std::uint32_t limit) noexcept {
    const SeqNum whole_start = seq;
    const SeqNum whole_end = seq + buffer->data_len;
    // Later segments are the rule: search from the end for the last buffer that begins at or before this one.
    rte_mbuf* before = tail_;
    while (before != nullptr && received_piece(before).seq.after(seq)) before = received_piece(before).previous;

    if (before != nullptr && end_of(before).after(seq)) {
        if (end_of(before).at_or_after(whole_end)) {
            duplicate(whole_start, whole_end);
            note(whole_start, whole_end);
            rte_pktmbuf_free_seg(buffer);
            return Inserted::duplicate;
        }
        duplicate(seq, end_of(before));
        trim_front(buffer, end_of(before) - seq);
        seq = end_of(before);
    }
    rte_mbuf* after = before != nullptr ? received_piece(before).next : head_;
    while (after != nullptr && end_of(after).at_or_before(whole_end)) {
        rte_mbuf* covered = after;
        after = received_piece(after).next;
        duplicate(received_piece(covered).seq, end_of(covered));
        unlink(covered);
        rte_pktmbuf_free_seg(covered);
    }
    if (after != nullptr && received_piece(after).seq.before(whole_end)) {
        duplicate(received_piece(after).seq, whole_end);
        trim_back(buffer, whole_end - received_piece(after).seq);
        if (buffer->data_len == 0) {  // the gap between two neighbours was none
            rte_pktmbuf_free_seg(buffer);
            return Inserted::duplicate;
        }
    }
    if (before != nullptr && end_of(before) == seq && coalesce(before, buffer)) {
        rte_pktmbuf_free_seg(buffer);
        note(whole_start, whole_end);
        return Inserted::all;
    }
    if (buffers_ >= limit) {
        rte_pktmbuf_free_seg(buffer);
        return Inserted::full;
    }
    ReceivedPiece& piece = received_piece(buffer);
    piece.seq = seq;
    piece.previous = before;
    piece.next = after;
    (before != nullptr ? received_piece(before).next : head_) = buffer;
    (after != nullptr ? received_piece(after).previous : tail_) = buffer;
    ++buffers_;
    note(whole_start, whole_end);
    return Inserted::all;
}

void ReassemblyQueue::unlink(rte_mbuf* buffer) noexcept {
    const ReceivedPiece& piece = received_piece(buffer);
    (piece.previous != nullptr ? received_piece(piece.previous).next : head_) = piece.next;
    (piece.next != nullptr ? received_piece(piece.next).previous : tail_) = piece.previous;
    --buffers_;
}

rte_mbuf* ReassemblyQueue::take(SeqNum rcv_nxt) noexcept {
    while (head_ != nullptr && received_piece(head_).seq.at_or_before(rcv_nxt)) {
        rte_mbuf* buffer = head_;
        unlink(buffer);
        if (end_of(buffer).after(rcv_nxt)) {
            trim_front(buffer, rcv_nxt - received_piece(buffer).seq);
            return buffer;
        }
        rte_pktmbuf_free_seg(buffer);
    }
    if (head_ == nullptr) recent_count_ = 0;
    return nullptr;
}

void ReassemblyQueue::duplicate(SeqNum start, SeqNum end) noexcept {
    duplicate_ = {start, end};
    duplicate_set_ = true;
}

void ReassemblyQueue::note(SeqNum start, SeqNum end) noexcept {
    // The block with the newest octets first, joined with all that it touches; the others keep their order (RFC 2018 4).
    std::array<Range, 4> kept{};
    std::size_t count = 0;
    for (std::size_t i = 0; i < recent_count_; ++i) {
        const Range& range = recent_[i];
        if (range.end.before(start) || range.start.after(end)) {
            kept[count++] = range;
            continue;
        }
        start = earlier_of(start, range.start);
        end = later_of(end, range.end);
    }
    recent_[0] = {start, end};
    count = std::min<std::size_t>(count, recent_.size() - 1);
    std::copy_n(kept.begin(), count, recent_.begin() + 1);
    recent_count_ = static_cast<std::uint8_t>(count + 1);
}

std::size_t ReassemblyQueue::sack_blocks(SeqNum rcv_nxt, std::span<wire::SackBlock, 4> blocks) noexcept {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < recent_count_; ++i)
        if (recent_[i].start.after(rcv_nxt)) recent_[kept++] = recent_[i];
    recent_count_ = static_cast<std::uint8_t>(kept);
    std::size_t count = 0;
    if (duplicate_set_) blocks[count++] = {duplicate_.start.value(), duplicate_.end.value()};
    for (std::size_t i = 0; i < recent_count_ && count < blocks.size(); ++i)
        blocks[count++] = {recent_[i].start.value(), recent_[i].end.value()};
    return count;
}

void ReassemblyQueue::clear() noexcept {
    while (head_ != nullptr) {
        rte_mbuf* buffer = head_;
        unlink(buffer);
        rte_pktmbuf_free_seg(buffer);
    }
    recent_count_ = 0;
    duplicate_set_ = false;
}

}  // namespace sallyport::tcp
