#include "dataplane/tcp/receive_queue.h"

#include <rte_config.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>

#include "crypto/check.h"
#include "drivers/environment.h"

namespace sallyport::tcp {

static_assert(sizeof(ReceivedPiece) <= drivers::kBufferPrivateSize);

ReceivedPiece& received_piece(rte_mbuf* buffer) noexcept { return *static_cast<ReceivedPiece*>(rte_mbuf_to_priv(buffer)); }

bool coalesce(rte_mbuf* to, const rte_mbuf* from) noexcept {
    const std::uint16_t length = from->data_len;
    if (length > kCopyAtMost || length > rte_pktmbuf_tailroom(to) || rte_mbuf_refcnt_read(to) != 1 || !RTE_MBUF_DIRECT(to))
        return false;
    std::memcpy(rte_pktmbuf_mtod_offset(to, std::byte*, to->data_len), rte_pktmbuf_mtod(from, const std::byte*), length);
    to->data_len = static_cast<std::uint16_t>(to->data_len + length);
    to->pkt_len = to->data_len;
    return true;
}

void ReceiveQueue::append(rte_mbuf* buffer) noexcept {
    octets_ += buffer->data_len;
    if (tail_ != nullptr && coalesce(tail_, buffer)) {
        rte_pktmbuf_free_seg(buffer);
        return;
    }
    received_piece(buffer).next = nullptr;
    (tail_ != nullptr ? received_piece(tail_).next : head_) = buffer;
    tail_ = buffer;
    ++buffers_;
}

std::size_t ReceiveQueue::peek(std::uint32_t offset, std::uint32_t length, std::span<WritePiece> pieces) const noexcept {
    SALLYPORT_CHECK(length <= octets_ && offset <= octets_ - length);
    std::size_t count = 0;
    for (rte_mbuf* buffer = head_; length > 0; buffer = received_piece(buffer).next) {
        if (offset >= buffer->data_len) {
            offset -= buffer->data_len;
            continue;
        }
        if (count == pieces.size()) return 0;
        const std::uint32_t here = std::min<std::uint32_t>(length, buffer->data_len - offset);
        pieces[count++] = {rte_pktmbuf_mtod_offset(buffer, std::byte*, offset), here};
        length -= here;
        offset = 0;
    }
    return count;
}

void ReceiveQueue::consume(std::uint32_t length) noexcept {
    SALLYPORT_CHECK(length <= octets_);
    octets_ -= length;
    while (length > 0) {
        rte_mbuf* buffer = head_;
        if (length < buffer->data_len) {
            buffer->data_off = static_cast<std::uint16_t>(buffer->data_off + length);
            buffer->data_len = static_cast<std::uint16_t>(buffer->data_len - length);
            buffer->pkt_len = buffer->data_len;
            return;
        }
        length -= buffer->data_len;
        head_ = received_piece(buffer).next;
        if (head_ == nullptr) tail_ = nullptr;
        --buffers_;
        rte_pktmbuf_free_seg(buffer);
    }
}

void ReceiveQueue::clear() noexcept { consume(octets_); }

}  // namespace sallyport::tcp
