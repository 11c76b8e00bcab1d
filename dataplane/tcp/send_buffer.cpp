#include "dataplane/tcp/send_buffer.h"

#include <rte_config.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>

#include "crypto/check.h"
#include "drivers/environment.h"

namespace sallyport::tcp {

static_assert(sizeof(SendSegment) <= drivers::kBufferPrivateSize);

SendSegment& send_segment(rte_mbuf* buffer) noexcept { return *static_cast<SendSegment*>(rte_mbuf_to_priv(buffer)); }

void prefetch_acknowledged(const rte_mbuf* buffer) noexcept {
    __builtin_prefetch(buffer, 1);
    __builtin_prefetch(&buffer->next, 1);
    __builtin_prefetch(rte_mbuf_to_priv(const_cast<rte_mbuf*>(buffer)));
}

namespace {

std::byte* payload_of(rte_mbuf* buffer) noexcept {
    return static_cast<std::byte*>(buffer->buf_addr) + send_segment(buffer).offset;
}

rte_mbuf* make_segment(rte_mempool* pool) noexcept {
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool);
    if (buffer != nullptr) {
        send_segment(buffer) = SendSegment{};
        send_segment(buffer).offset = RTE_PKTMBUF_HEADROOM;
        send_segment(buffer).weight = 1;
    }
    return buffer;
}

rte_mbuf* make_large_segment(const Cutting& cutting) noexcept {
    rte_mbuf* buffer = make_segment(cutting.large);
    if (buffer != nullptr) {
        send_segment(buffer).large = true;
        send_segment(buffer).weight = cutting.weight;
    }
    return buffer;
}

}  // namespace

std::size_t SendBuffer::reserve(std::uint32_t length, const Cutting& cutting, std::span<WritePiece> pieces) noexcept {
    SALLYPORT_CHECK(reserved_ == 0);
    if (length == 0) return 0;
    std::uint32_t left = length;
    std::size_t count = 0;
    if (unsent_ != nullptr && !send_segment(tail_).fin) {
        const SendSegment& last = send_segment(tail_);
        const std::uint32_t most = last.large ? cutting.most : cutting.mss;
        const std::uint32_t buffer_room = std::uint32_t{tail_->buf_len} - last.offset - last.length;
        const std::uint32_t room = last.length < most ? std::min({most - last.length, buffer_room, left}) : 0;
        if (room > 0) {
            if (pieces.empty()) return 0;
            pieces[count++] = {payload_of(tail_) + last.length, room};
            reserved_in_tail_ = static_cast<std::uint16_t>(room);
            left -= room;
        }
    }
    rte_mbuf** link = &reserved_head_;
    while (left > 0) {
        rte_mbuf* buffer = nullptr;
        if (count < pieces.size()) {
            if (cutting.most > cutting.mss && left >= Cutting::kWorthALarge * cutting.mss) buffer = make_large_segment(cutting);
            if (buffer == nullptr) buffer = make_segment(cutting.pool);
        }
        if (buffer == nullptr) {
            give_back();
            return 0;
        }
        SendSegment& segment = send_segment(buffer);
        segment.length = static_cast<std::uint16_t>(std::min<std::uint32_t>(left, segment.large ? cutting.most : cutting.mss));
        left -= segment.length;
        pieces[count++] = {payload_of(buffer), segment.length};
        *link = buffer;
        link = &segment.next;
    }
    reserved_ = length;
    return count;
}

void SendBuffer::append(SeqNum seq) noexcept {
    if (reserved_ == 0) return;
    if (reserved_in_tail_ > 0) {
        send_segment(tail_).length = static_cast<std::uint16_t>(send_segment(tail_).length + reserved_in_tail_);
        seq += reserved_in_tail_;
    }
    for (rte_mbuf* buffer = reserved_head_; buffer != nullptr;) {
        SendSegment& segment = send_segment(buffer);
        rte_mbuf* next = segment.next;
        segment.seq = seq;
        seq += segment.length;
        link_after(buffer, tail_);
        if (unsent_ == nullptr) unsent_ = buffer;
        buffer = next;
    }
    octets_ += reserved_;
    reserved_ = 0;
    reserved_in_tail_ = 0;
    reserved_head_ = nullptr;
}

void SendBuffer::give_back() noexcept {
    for (rte_mbuf* buffer = reserved_head_; buffer != nullptr;) {
        rte_mbuf* next = send_segment(buffer).next;
        rte_pktmbuf_free_seg(buffer);
        buffer = next;
    }
    reserved_head_ = nullptr;
    reserved_ = 0;
    reserved_in_tail_ = 0;
}

bool SendBuffer::append_fin(SeqNum seq, rte_mempool* pool) noexcept {
    if (unsent_ == nullptr) {
        rte_mbuf* buffer = make_segment(pool);
        if (buffer == nullptr) return false;
        send_segment(buffer).seq = seq;
        link_after(buffer, tail_);
        unsent_ = buffer;
    }
    send_segment(tail_).fin = true;
    return true;
}

void SendBuffer::link_after(rte_mbuf* buffer, rte_mbuf* where) noexcept {
    SendSegment& segment = send_segment(buffer);
    segment.previous = where;
    segment.next = where != nullptr ? send_segment(where).next : head_;
    (where != nullptr ? send_segment(where).next : head_) = buffer;
    (segment.next != nullptr ? send_segment(segment.next).previous : tail_) = buffer;
    ++segments_;
    held_ += segment.weight;
}

void SendBuffer::List::insert_after(rte_mbuf* buffer, rte_mbuf* where) noexcept {
    SendSegment& segment = send_segment(buffer);
    segment.earlier = where;
    segment.later = where != nullptr ? send_segment(where).later : first;
    (where != nullptr ? send_segment(where).later : first) = buffer;
    (segment.later != nullptr ? send_segment(segment.later).earlier : last) = buffer;
}

void SendBuffer::List::remove(rte_mbuf* buffer) noexcept {
    const SendSegment& segment = send_segment(buffer);
    (segment.earlier != nullptr ? send_segment(segment.earlier).later : first) = segment.later;
    (segment.later != nullptr ? send_segment(segment.later).earlier : last) = segment.earlier;
}

void SendBuffer::List::replace(rte_mbuf* buffer, rte_mbuf* by) noexcept {
    const SendSegment& segment = send_segment(buffer);
    (segment.earlier != nullptr ? send_segment(segment.earlier).later : first) = by;
    (segment.later != nullptr ? send_segment(segment.later).earlier : last) = by;
}

SendBuffer::List* SendBuffer::list_of(const SendSegment& segment) noexcept {
    if (segment.transmissions == 0 || segment.sacked) return nullptr;
    return segment.lost && !segment.retransmitted ? &lost_ : &in_flight_;
}

void SendBuffer::sent() noexcept {
    send_segment(unsent_).transmissions = 1;
    in_flight_.insert_after(unsent_, in_flight_.last);
    unsent_ = send_segment(unsent_).next;
}

void SendBuffer::sent_again(rte_mbuf* buffer) noexcept {
    SendSegment& segment = send_segment(buffer);
    List* const list = list_of(segment);
    if (segment.transmissions < 255) ++segment.transmissions;
    if (list == nullptr) return;
    list->remove(buffer);
    if (segment.lost && !segment.retransmitted) {
        segment.retransmitted = true;
        retransmitted_octets += segment.sequence_length();
    }
    in_flight_.insert_after(buffer, in_flight_.last);
}

rte_mbuf* SendBuffer::split(rte_mbuf* buffer, std::uint16_t length, rte_mempool* pool) noexcept {
    rte_mbuf* front = make_segment(pool);
    if (front == nullptr) return nullptr;
    SALLYPORT_CHECK(length <= rte_pktmbuf_tailroom(front));
    SendSegment& rest = send_segment(buffer);
    SendSegment& first = send_segment(front);
    if (rest.sacked) sacked_segments -= rest.on_wire();
    first = rest;
    first.offset = RTE_PKTMBUF_HEADROOM;
    first.length = length;
    first.weight = 1;
    first.large = first.fin = false;
    std::memcpy(payload_of(front), payload_of(buffer), length);
    rest.seq += length;
    rest.offset = static_cast<std::uint16_t>(rest.offset + length);
    rest.length = static_cast<std::uint16_t>(rest.length - length);
    link_after(front, rest.previous);
    if (rest.sacked) sacked_segments += first.on_wire() + rest.on_wire();
    if (List* const list = list_of(rest)) list->insert_after(front, rest.earlier);
    if (unsent_ == buffer) unsent_ = front;
    return front;
}

rte_mbuf* SendBuffer::replace(rte_mbuf* buffer, rte_mempool* pool) noexcept {
    rte_mbuf* copy = make_segment(pool);
    if (copy == nullptr) return nullptr;
    SendSegment& segment = send_segment(copy);
    segment = send_segment(buffer);
    SALLYPORT_CHECK(segment.length <= rte_pktmbuf_tailroom(copy));
    held_ -= segment.weight - 1u;
    segment.weight = 1;
    segment.large = false;
    segment.offset = RTE_PKTMBUF_HEADROOM;
    std::memcpy(payload_of(copy), payload_of(buffer), segment.length);
    (segment.previous != nullptr ? send_segment(segment.previous).next : head_) = copy;
    (segment.next != nullptr ? send_segment(segment.next).previous : tail_) = copy;
    if (unsent_ == buffer) unsent_ = copy;
    if (highest_sacked_ == buffer) highest_sacked_ = copy;
    if (List* const list = list_of(segment)) list->replace(buffer, copy);
    rte_pktmbuf_free_seg(buffer);
    return copy;
}

void SendBuffer::forget_marks(const SendSegment& segment, std::uint32_t octets) noexcept {
    if (segment.sacked) sacked_octets -= octets;
    if (segment.lost) lost_octets -= octets;
    if (segment.retransmitted) retransmitted_octets -= octets;
}

void SendBuffer::pop_front() noexcept {
    rte_mbuf* buffer = head_;
    SendSegment& segment = send_segment(buffer);
    forget_marks(segment, segment.sequence_length());
    if (segment.sacked) sacked_segments -= segment.on_wire();
    if (List* const list = list_of(segment)) list->remove(buffer);
    if (highest_sacked_ == buffer) highest_sacked_ = nullptr;
    octets_ -= segment.length;
    --segments_;
    held_ -= segment.weight;
    head_ = segment.next;
    (head_ != nullptr ? send_segment(head_).previous : tail_) = nullptr;
    if (unsent_ == buffer) unsent_ = head_;
    rte_pktmbuf_free_seg(buffer);
}

void SendBuffer::trim_front(std::uint16_t length) noexcept {
    SendSegment& segment = send_segment(head_);
    forget_marks(segment, length);
    if (segment.sacked) sacked_segments -= segment.on_wire();
    segment.seq += length;
    segment.offset = static_cast<std::uint16_t>(segment.offset + length);
    segment.length = static_cast<std::uint16_t>(segment.length - length);
    if (segment.sacked) sacked_segments += segment.on_wire();
    octets_ -= length;
}

void SendBuffer::mark_sacked(rte_mbuf* buffer) noexcept {
    SendSegment& segment = send_segment(buffer);
    if (segment.sacked) return;
    list_of(segment)->remove(buffer);
    forget_marks(segment, segment.sequence_length());
    segment.lost = segment.retransmitted = false;
    segment.sacked = true;
    sacked_octets += segment.sequence_length();
    sacked_segments += segment.on_wire();
    if (highest_sacked_ == nullptr || segment.seq.after(send_segment(highest_sacked_).seq)) highest_sacked_ = buffer;
}

void SendBuffer::mark_lost(rte_mbuf* buffer) noexcept {
    SendSegment& segment = send_segment(buffer);
    if (segment.sacked || (segment.lost && !segment.retransmitted)) return;
    in_flight_.remove(buffer);
    if (segment.retransmitted) {
        segment.retransmitted = false;
        retransmitted_octets -= segment.sequence_length();
    } else {
        segment.lost = true;
        lost_octets += segment.sequence_length();
    }
    rte_mbuf* where = lost_.last;
    while (where != nullptr && send_segment(where).seq.after(segment.seq)) where = send_segment(where).earlier;
    lost_.insert_after(buffer, where);
}

void SendBuffer::mark_all_lost(bool reneged) noexcept {
    in_flight_ = lost_ = {};
    retransmitted_octets = lost_octets = 0;
    if (reneged) {
        sacked_octets = sacked_segments = 0;
        highest_sacked_ = nullptr;
    }
    for (rte_mbuf* buffer = head_; buffer != unsent_; buffer = send_segment(buffer).next) {
        SendSegment& segment = send_segment(buffer);
        if (segment.sacked && !reneged) continue;
        segment.sacked = segment.retransmitted = false;
        segment.lost = true;
        lost_octets += segment.sequence_length();
        lost_.insert_after(buffer, lost_.last);
    }
}

void SendBuffer::unmark_all_lost() noexcept {
    for (rte_mbuf* buffer = head_; buffer != unsent_; buffer = send_segment(buffer).next) {
        SendSegment& segment = send_segment(buffer);
        segment.lost = segment.retransmitted = false;
    }
    lost_octets = retransmitted_octets = 0;
    // What was lost is by sequence number, and so nearly by the time of its transmission: the place is seldom far from the last one's.
    rte_mbuf* where = nullptr;
    for (rte_mbuf *buffer = lost_.first, *next = nullptr; buffer != nullptr; buffer = next) {
        next = send_segment(buffer).later;
        while (where != nullptr && send_segment(where).sent_at > send_segment(buffer).sent_at) where = send_segment(where).earlier;
        rte_mbuf* after = where != nullptr ? send_segment(where).later : in_flight_.first;
        while (after != nullptr && send_segment(after).sent_at <= send_segment(buffer).sent_at) {
            where = after;
            after = send_segment(after).later;
        }
        in_flight_.insert_after(buffer, where);
        where = buffer;
    }
    lost_ = {};
}

void SendBuffer::clear() noexcept {
    give_back();
    for (rte_mbuf* buffer = head_; buffer != nullptr;) {
        rte_mbuf* next = send_segment(buffer).next;
        rte_pktmbuf_free_seg(buffer);
        buffer = next;
    }
    head_ = tail_ = unsent_ = highest_sacked_ = nullptr;
    in_flight_ = lost_ = {};
    octets_ = segments_ = held_ = 0;
    sacked_octets = lost_octets = retransmitted_octets = sacked_segments = 0;
}

}  // namespace sallyport::tcp
