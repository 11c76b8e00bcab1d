// send_buffer, receive_queue, reassembly_queue

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "dataplane/tcp/reassembly_queue.h"
#include "dataplane/tcp/receive_queue.h"
#include "dataplane/tcp/send_buffer.h"
#include "tests/unit/eal.h"

namespace sallyport::tcp {
namespace {

/// A buffer with octets `from`, from + 1, ... (mod 251).
rte_mbuf* buffer_of(test::BufferPool& pool, std::uint32_t from, std::uint16_t length, int salt = 0) {
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool.get());
    auto* at = reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(buffer, length));
    for (std::uint16_t i = 0; i < length; ++i) at[i] = static_cast<std::uint8_t>((from + i) % 251 + static_cast<std::uint32_t>(salt));
    return buffer;
}

TEST(ReceiveQueue, SmallSegments_ShareABuffer) {
    test::BufferPool pool;
    ReceiveQueue queue;
    for (std::uint32_t i = 0; i < 1000; ++i) queue.append(buffer_of(pool, i, 1));
    EXPECT_EQ(queue.octets(), 1000u);
    EXPECT_EQ(queue.buffers(), 1u);
    EXPECT_EQ(pool.in_use(), 1u);
    queue.clear();
}

TEST(ReceiveQueue, BufferHeldElsewhere_IsNotWrittenTo) {
    test::BufferPool pool;
    ReceiveQueue queue;
    rte_mbuf* shared = buffer_of(pool, 0, 10);
    rte_mbuf_refcnt_update(shared, 1);
    queue.append(shared);
    queue.append(buffer_of(pool, 10, 10));
    EXPECT_EQ(queue.buffers(), 2u);
    queue.clear();
    rte_pktmbuf_free(shared);
}

TEST(ReceiveQueue, PeekAndConsume_AtAnyOffset) {
    test::BufferPool pool;
    ReceiveQueue queue;
    std::uint32_t total = 0;
    for (const std::uint16_t length : {700, 1448, 3, 1448, 600}) {
        queue.append(buffer_of(pool, total, length));
        total += length;
    }
    std::mt19937 random(3);
    std::uint32_t base = 0;
    while (queue.octets() > 0) {
        const std::uint32_t offset = random() % queue.octets();
        const std::uint32_t length = random() % (queue.octets() - offset + 1);
        std::array<WritePiece, 8> pieces;
        const std::size_t count = queue.peek(offset, length, pieces);
        std::uint32_t at = base + offset;
        for (std::size_t i = 0; i < count; ++i)
            for (std::uint32_t j = 0; j < pieces[i].length; ++j) ASSERT_EQ(static_cast<std::uint32_t>(pieces[i].data[j]), at++ % 251);
        ASSERT_EQ(at, base + offset + length);
        const std::uint32_t eaten = 1 + random() % std::min<std::uint32_t>(queue.octets(), 900);
        queue.consume(eaten);
        base += eaten;
    }
    EXPECT_EQ(queue.buffers(), 0u);
}

TEST(ReceiveQueue, PeekWithTooFewPieces_IsZero) {
    test::BufferPool pool;
    ReceiveQueue queue;
    queue.append(buffer_of(pool, 0, 1000));
    queue.append(buffer_of(pool, 1000, 1000));
    std::array<WritePiece, 1> one;
    EXPECT_EQ(queue.peek(0, 1001, one), 0u);
    EXPECT_EQ(queue.peek(0, 1000, one), 1u);
    queue.clear();
}

TEST(ReassemblyQueue, RandomOverlaps_DeliverEachOctetOnceAndRight) {
    test::BufferPool pool;
    std::mt19937 random(5);
    for (int round = 0; round < 60; ++round) {
        const SeqNum start(0xffffff00);
        constexpr std::uint32_t kTotal = 6000;
        ReassemblyQueue queue;
        SeqNum next = start;
        std::vector<bool> seen(kTotal);
        std::uint32_t got = 0;
        while (got < kTotal) {
            const std::uint32_t from = random() % kTotal;
            const auto length = static_cast<std::uint16_t>(1 + random() % std::min<std::uint32_t>(kTotal - from, 1 + random() % 1400));
            if (SeqNum(start + from).at_or_before(next)) {
                const std::uint32_t skip = next - (start + from);
                if (skip < length) {
                    for (std::uint32_t i = from + skip; i < from + length; ++i) seen[i] = true;
                    got += length - skip;
                    next += length - skip;
                }
            } else {
                static_cast<void>(queue.insert(buffer_of(pool, from, length), start + from, 64));
            }
            while (rte_mbuf* buffer = queue.take(next)) {
                const auto* at = rte_pktmbuf_mtod(buffer, const std::uint8_t*);
                bool right = true;
                for (std::uint32_t i = 0; i < buffer->data_len; ++i) {
                    right = right && at[i] == (got + i) % 251 && !seen[got + i];
                    seen[got + i] = true;
                }
                ASSERT_TRUE(right);
                got += buffer->data_len;
                next += buffer->data_len;
                rte_pktmbuf_free(buffer);
            }
        }
        ASSERT_TRUE(queue.empty());
        ASSERT_EQ(pool.in_use(), 0u);
    }
}

TEST(ReassemblyQueue, OverlapWithOtherOctets_FirstOnesStay) {
    test::BufferPool pool;
    ReassemblyQueue queue;
    static_cast<void>(queue.insert(buffer_of(pool, 0, 100), SeqNum(1000), 10));
    static_cast<void>(queue.insert(buffer_of(pool, 50, 100, 1), SeqNum(1050), 10));
    EXPECT_EQ(queue.insert(buffer_of(pool, 0, 100, 2), SeqNum(1000), 10), ReassemblyQueue::Inserted::duplicate);
    rte_mbuf* first = queue.take(SeqNum(1000));
    ASSERT_NE(first, nullptr);
    const auto* at = rte_pktmbuf_mtod(first, const std::uint8_t*);
    EXPECT_EQ(at[60], 60);
    ASSERT_EQ(first->data_len, 150u);
    EXPECT_EQ(at[100], 101);
    rte_pktmbuf_free(first);
}

TEST(ReassemblyQueue, SackBlocks_NewestFirstAndJoined) {  // RFC 2018 4
    test::BufferPool pool;
    ReassemblyQueue queue;
    const auto insert = [&](std::uint32_t from, std::uint16_t length) {
        static_cast<void>(queue.insert(buffer_of(pool, from, length), SeqNum(from), 10));
    };
    insert(2000, 100);
    insert(4000, 100);
    insert(6000, 100);
    std::array<wire::SackBlock, 4> blocks;
    ASSERT_EQ(queue.sack_blocks(SeqNum(1000), blocks), 3u);
    EXPECT_EQ(blocks[0], (wire::SackBlock{6000, 6100}));
    EXPECT_EQ(blocks[1], (wire::SackBlock{4000, 4100}));
    EXPECT_EQ(blocks[2], (wire::SackBlock{2000, 2100}));
    insert(2100, 50);
    ASSERT_EQ(queue.sack_blocks(SeqNum(1000), blocks), 3u);
    EXPECT_EQ(blocks[0], (wire::SackBlock{2000, 2150}));
    insert(4000, 50);  // received before: reported first, once (RFC 2883 4)
    ASSERT_EQ(queue.sack_blocks(SeqNum(1000), blocks), 4u);
    EXPECT_EQ(blocks[0], (wire::SackBlock{4000, 4050}));
    EXPECT_EQ(blocks[1], (wire::SackBlock{4000, 4100}));
    queue.reported();
    ASSERT_EQ(queue.sack_blocks(SeqNum(1000), blocks), 3u);
    queue.clear();
}

TEST(ReassemblyQueue, AtItsBound_DropsTheNew) {
    test::BufferPool pool;
    ReassemblyQueue queue;
    for (std::uint32_t i = 0; i < 4; ++i)
        EXPECT_EQ(queue.insert(buffer_of(pool, 0, 10), SeqNum(1000 + i * 100), 4), ReassemblyQueue::Inserted::all);
    EXPECT_EQ(queue.insert(buffer_of(pool, 0, 10), SeqNum(2000), 4), ReassemblyQueue::Inserted::full);
    EXPECT_EQ(queue.insert(buffer_of(pool, 0, 10), SeqNum(1010), 4), ReassemblyQueue::Inserted::all) << "joins its neighbour";
    EXPECT_EQ(queue.buffers(), 4u);
    queue.clear();
}

/// Reserves and fills `length` octets that continue at `from`.
bool write(SendBuffer& buffer, test::BufferPool& pool, SeqNum seq, std::uint32_t from, std::uint32_t length, std::uint16_t mss) {
    std::array<WritePiece, 64> pieces;
    const std::size_t count = buffer.reserve(length, {.mss = mss, .most = mss, .pool = pool.get()}, pieces);
    if (count == 0) return false;
    for (std::size_t i = 0; i < count; ++i)
        for (std::uint32_t j = 0; j < pieces[i].length; ++j) pieces[i].data[j] = static_cast<std::byte>(from++ % 251);
    buffer.append(seq);
    return true;
}

std::vector<std::uint8_t> contents(const SendBuffer& buffer) {
    std::vector<std::uint8_t> result;
    for (rte_mbuf* at = buffer.front(); at != nullptr; at = send_segment(at).next) {
        const auto* data = static_cast<const std::uint8_t*>(at->buf_addr) + send_segment(at).offset;
        result.insert(result.end(), data, data + send_segment(at).length);
    }
    return result;
}

TEST(SendBuffer, Reserve_FillsUpTheUnsentSegmentFirst) {
    test::BufferPool pool;
    SendBuffer buffer;
    ASSERT_TRUE(write(buffer, pool, SeqNum(0), 0, 300, 1000));
    ASSERT_TRUE(write(buffer, pool, SeqNum(300), 300, 1000, 1000));
    EXPECT_EQ(buffer.segments(), 2u);
    EXPECT_EQ(send_segment(buffer.front()).length, 1000u);
    EXPECT_EQ(send_segment(buffer.back()).length, 300u);
    EXPECT_EQ(send_segment(buffer.back()).seq, SeqNum(1000));
    buffer.sent();
    buffer.sent();
    ASSERT_TRUE(write(buffer, pool, SeqNum(1300), 1300, 10, 1000));
    EXPECT_EQ(buffer.segments(), 3u) << "what was sent is not written to";
    const auto octets = contents(buffer);
    for (std::size_t i = 0; i < octets.size(); ++i) ASSERT_EQ(octets[i], i % 251);
    buffer.clear();
}

TEST(SendBuffer, ReserveFails_NothingChanges) {
    test::BufferPool pool(4);
    SendBuffer buffer;
    std::array<WritePiece, 64> pieces;
    EXPECT_EQ(buffer.reserve(5000, {.mss = 1000, .most = 1000, .pool = pool.get()}, pieces), 0u) << "no buffers";
    EXPECT_EQ(pool.in_use(), 0u);
    EXPECT_EQ(buffer.reserve(3000, {.mss = 1000, .most = 1000, .pool = pool.get()}, std::span(pieces).first(2)), 0u) << "too few pieces";
    EXPECT_EQ(buffer.reserve(3000, {.mss = 1000, .most = 1000, .pool = pool.get()}, pieces), 3u);
    buffer.give_back();
    EXPECT_EQ(pool.in_use(), 0u);
    EXPECT_TRUE(buffer.empty());
}

TEST(SendBuffer, SplitTrimReplace_KeepOctets) {
    test::BufferPool pool;
    SendBuffer buffer;
    ASSERT_TRUE(write(buffer, pool, SeqNum(0), 0, 2500, 1000));
    ASSERT_TRUE(buffer.append_fin(SeqNum(2500), pool.get()));
    ASSERT_NE(buffer.split(buffer.back(), 200, pool.get()), nullptr);
    EXPECT_TRUE(send_segment(buffer.back()).fin);
    EXPECT_EQ(send_segment(buffer.back()).seq, SeqNum(2200));
    ASSERT_NE(buffer.replace(buffer.front(), pool.get()), nullptr);
    buffer.sent();
    buffer.mark_lost(buffer.front());
    buffer.trim_front(100);
    EXPECT_EQ(buffer.lost_octets, 900u);
    const auto octets = contents(buffer);
    ASSERT_EQ(octets.size(), 2400u);
    for (std::size_t i = 0; i < octets.size(); ++i) ASSERT_EQ(octets[i], (i + 100) % 251);
    buffer.pop_front();
    EXPECT_EQ(buffer.lost_octets, 0u);
    EXPECT_EQ(buffer.octets(), 1500u);
    buffer.clear();
    EXPECT_EQ(pool.in_use(), 0u);
}

/// Sequence numbers of a list of the buffer's, in its order.
std::vector<std::uint32_t> order(rte_mbuf* at) {
    std::vector<std::uint32_t> found;
    for (; at != nullptr; at = send_segment(at).later) found.push_back(send_segment(at).seq.value());
    return found;
}

TEST(SendBuffer, InFlightByTime_LostBySequence) {
    test::BufferPool pool;
    SendBuffer buffer;
    ASSERT_TRUE(write(buffer, pool, SeqNum(0), 0, 6000, 1000));
    std::array<rte_mbuf*, 6> at{};
    for (std::size_t i = 0; i < 6; ++i) at[i] = i == 0 ? buffer.front() : send_segment(at[i - 1]).next;
    using Order = std::vector<std::uint32_t>;
    for (std::size_t i = 0; i < 5; ++i) {
        send_segment(at[i]).sent_at = Time{Duration{i}};
        buffer.sent();
    }
    EXPECT_EQ(order(buffer.oldest()), (Order{0, 1000, 2000, 3000, 4000}));
    buffer.mark_sacked(at[3]);
    buffer.mark_lost(at[2]);
    buffer.mark_lost(at[0]);
    EXPECT_EQ(order(buffer.oldest()), (Order{1000, 4000}));
    EXPECT_EQ(order(buffer.first_lost()), (Order{0, 2000}));
    EXPECT_EQ(buffer.highest_sacked(), at[3]);
    send_segment(at[0]).sent_at = Time{Duration{10}};
    buffer.sent_again(at[0]);
    EXPECT_EQ(order(buffer.oldest()), (Order{1000, 4000, 0}));
    EXPECT_EQ(buffer.retransmitted_octets, 1000u);
    ASSERT_NE(buffer.split(at[2], 400, pool.get()), nullptr);
    EXPECT_EQ(order(buffer.first_lost()), (Order{2000, 2400}));
    buffer.mark_lost(at[0]);
    EXPECT_EQ(order(buffer.first_lost()), (Order{0, 2000, 2400})) << "first what is first in the stream";

    buffer.unmark_all_lost();
    EXPECT_EQ(order(buffer.oldest()), (Order{1000, 2000, 2400, 4000, 0})) << "by the times of their transmission";
    EXPECT_EQ(buffer.lost_octets, 0u);
    buffer.mark_all_lost(false);
    EXPECT_EQ(order(buffer.oldest()), Order{});
    EXPECT_EQ(order(buffer.first_lost()), (Order{0, 1000, 2000, 2400, 4000}));
    EXPECT_EQ(buffer.sacked_octets, 1000u);
    buffer.mark_all_lost(true);
    EXPECT_EQ(order(buffer.first_lost()), (Order{0, 1000, 2000, 2400, 3000, 4000}));
    EXPECT_EQ(buffer.sacked_octets + buffer.sacked_segments, 0u);
    buffer.pop_front();
    EXPECT_EQ(order(buffer.first_lost()), (Order{1000, 2000, 2400, 3000, 4000}));
    buffer.clear();
    EXPECT_EQ(pool.in_use(), 0u);
}

}  // namespace
}  // namespace sallyport::tcp
