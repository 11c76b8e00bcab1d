// ACKs that are put off: when they leave, and that a million of them do not move the timer wheel.

#include <algorithm>

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;
using wire::kAck;
using wire::kRst;
using wire::kSyn;

/// A core that only owns control blocks here.
struct Ring : testing::Test {
    Peer owner;
    std::vector<ControlBlock*> woken;
    /// What is woken up to `now`.
    std::vector<ControlBlock*> advance(DelayedAcks& ring, Time now) {
        woken.clear();
        ring.advance(now, [&](ControlBlock& cb) { woken.push_back(&cb); });
        return woken;
    }
    static constexpr Time at(int ms) { return Time{100s} + ms * 1ms; }
};

TEST_F(Ring, Woken_InOrderAndNotBefore) {
    DelayedAcks ring(8);
    ControlBlock a(owner.core), b(owner.core), c(owner.core);
    EXPECT_EQ(ring.next(), Time::max());
    EXPECT_TRUE(ring.push(a, at(1)));
    EXPECT_TRUE(ring.push(b, at(2)));
    EXPECT_TRUE(ring.push(c, at(5)));
    EXPECT_EQ(ring.next(), at(1));
    EXPECT_EQ(advance(ring, at(0)), std::vector<ControlBlock*>{});
    EXPECT_EQ(advance(ring, at(3)), (std::vector{&a, &b}));
    EXPECT_EQ(ring.next(), at(5));
    EXPECT_EQ(advance(ring, at(9)), std::vector{&c});
    EXPECT_EQ(ring.next(), Time::max());
}

TEST_F(Ring, PushedAgain_KeepsItsPlace) {
    DelayedAcks ring(8);
    ControlBlock a(owner.core), b(owner.core);
    EXPECT_TRUE(ring.push(a, at(1)));
    EXPECT_TRUE(ring.push(b, at(2)));
    EXPECT_TRUE(ring.push(a, at(3)));
    EXPECT_EQ(advance(ring, at(1)), std::vector{&a});
    EXPECT_EQ(advance(ring, at(9)), std::vector{&b});
}

TEST_F(Ring, Removed_IsNotWoken) {
    DelayedAcks ring(8);
    ControlBlock a(owner.core), b(owner.core);
    EXPECT_TRUE(ring.push(a, at(1)));
    EXPECT_TRUE(ring.push(b, at(1)));
    ring.remove(a);
    ring.remove(a);
    EXPECT_EQ(a.ack_place, kNoPlace);
    EXPECT_EQ(advance(ring, at(1)), std::vector{&b});
}

TEST_F(Ring, Full_SaysSo) {
    DelayedAcks ring(2);
    ControlBlock a(owner.core), b(owner.core), c(owner.core);
    EXPECT_TRUE(ring.push(a, at(1)));
    EXPECT_TRUE(ring.push(b, at(1)));
    EXPECT_FALSE(ring.push(c, at(1)));
    EXPECT_EQ(c.ack_place, kNoPlace);
    EXPECT_EQ(advance(ring, at(1)), (std::vector{&a, &b}));
    EXPECT_TRUE(ring.push(c, at(2)));
    EXPECT_EQ(advance(ring, at(2)), std::vector{&c});
}

TEST_F(Ring, Crowd_InPortions) {
    constexpr std::size_t kCrowd = DelayedAcks::kMostAtOnce + 10;
    DelayedAcks ring(kCrowd);
    std::vector<std::unique_ptr<ControlBlock>> blocks;
    for (std::size_t i = 0; i < kCrowd; ++i) {
        blocks.push_back(std::make_unique<ControlBlock>(owner.core));
        EXPECT_TRUE(ring.push(*blocks.back(), at(1)));
    }
    EXPECT_EQ(advance(ring, at(1)).size(), DelayedAcks::kMostAtOnce);
    EXPECT_LE(ring.next(), at(1)) << "the rest is due";
    EXPECT_EQ(advance(ring, at(1)).size(), 10u);
}

struct DelayedAck : testing::Test {
    Peer peer;
    void SetUp() override { peer.establish(); }
    ControlBlock& cb() { return *CoreTestAccess::only(peer.core); }
};

TEST_F(DelayedAck, LeavesAfterFortyMilliseconds_AndTheWheelIsNotMoved) {
    const Time wheel = cb().timer_at;
    EXPECT_TRUE(peer.data("text").empty());
    EXPECT_EQ(cb().timer_at, wheel);
    EXPECT_TRUE(peer.after(kDelayedAck - 1ms).empty());
    ASSERT_EQ(peer.after(2 * FineMoment::kCount + 1ms).size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
    EXPECT_EQ(cb().timer_at, wheel);
    EXPECT_TRUE(peer.after(1s).empty()) << "one is enough";
}

TEST_F(DelayedAck, PutOffAgainAfterAnAck_IsNeitherEarlyNorLate) {
    const std::string full(1448, 'x');
    EXPECT_TRUE(peer.data(full).empty());      // takes a place
    EXPECT_EQ(peer.data(full).size(), 1u);     // the second full segment is acknowledged at once
    EXPECT_TRUE(peer.after(30ms).empty());
    EXPECT_TRUE(peer.data("more").empty());    // its own deadline is 30 ms behind that of the place
    EXPECT_TRUE(peer.after(kDelayedAck - 1ms).empty()) << "early";
    ASSERT_EQ(peer.after(2 * FineMoment::kCount + 1ms).size(), 1u) << "late";
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
}

TEST_F(DelayedAck, ConnectionEndsMeanwhile_ItsPlaceIsEmpty) {
    EXPECT_TRUE(peer.data("text").empty());
    peer.exchange(kRst, peer.snd_nxt, peer.rcv_nxt);
    peer.connection->release();   // the block is free for another connection
    unsigned woken = 0;
    CoreTestAccess::delayed_acks(peer.core).advance(peer.now + 1s, [&](ControlBlock&) { ++woken; });
    EXPECT_EQ(woken, 0u);
}

TEST(DelayedAckWithoutPlaces, TheWheelDoes) {
    Peer peer(Settings{.max_connections = 1});   // a ring of one place
    peer.establish();
    EXPECT_TRUE(peer.data("text").empty());
    ControlBlock& cb = *CoreTestAccess::only(peer.core);
    ASSERT_NE(cb.ack_place, kNoPlace);
    // As if another held the place.
    CoreTestAccess::delayed_acks(peer.core).remove(cb);
    const Time wheel = cb.timer_at;
    EXPECT_EQ(peer.data(std::string(1448, 'x')).size(), 0u);
    EXPECT_EQ(peer.data(std::string(1448, 'x')).size(), 1u);
    EXPECT_TRUE(peer.data("more").empty());
    EXPECT_LT(cb.timer_at, wheel);
    EXPECT_EQ(peer.after(kDelayedAck + 3ms).size(), 1u);
}

/// Segments that arrive together are taken in their order, also where one ends the connection that the next ones find or do not find.
TEST(Burst, ASegmentEndsTheConnection_TheNextOpensItAgain) {
    Peer peer;
    peer.establish();
    const auto header = [&](std::uint8_t flags, SeqNum seq, SeqNum ack) {
        wire::Segment segment;
        segment.ip = {.source = peer.them.address, .destination = peer.us.address, .protocol = 6, .hop_limit = 64, .traffic_class = 0};
        segment.tcp = {.source_port = peer.them.port, .destination_port = peer.us.port, .seq = seq.value(), .ack = ack.value(), .window = 60000,
                       .urgent = 0, .flags = flags, .length = 20};
        return segment;
    };
    const auto buffer = [&] { return rte_pktmbuf_alloc(peer.pool.get()); };
    const std::array burst{Stack::Arriving{header(kRst, peer.snd_nxt, peer.rcv_nxt), buffer()},
                           Stack::Arriving{header(kAck, peer.snd_nxt, peer.rcv_nxt), buffer()},   // of no connection now: reset
                           Stack::Arriving{header(kSyn, SeqNum(70000), SeqNum{}), buffer()}};
    peer.core.segments_arrive(burst, peer.now);
    peer.output();
    ASSERT_EQ(peer.sent.size(), 2u);
    EXPECT_EQ(peer.sent[0].flags, kRst);
    EXPECT_EQ(peer.sent[1].flags, kSyn | kAck);
    EXPECT_EQ(peer.sent[1].ack, SeqNum(70001));
}

/// What the user keeps is asked for twice for each segment, the second time no later than the segment is taken; for a connection that nobody knows, never.
TEST(Burst, WhatTheUserKeepsIsFetchedBeforeItsSegment) {
    Peer peer;
    peer.ts = 0;
    peer.establish();
    ControlBlock& cb = *CoreTestAccess::only(peer.core);
    struct Asked {
        const ControlBlock& cb;
        SeqNum begin;
        std::vector<std::pair<std::uint32_t, bool>> calls;   // octets that had been received, and whether it was the second
    } asked{cb, cb.rcv_nxt, {}};
    peer.core.fetch_context = &asked;
    peer.core.fetch = [](void* context, std::uint64_t user, bool again) {
        auto& to = *static_cast<Asked*>(context);
        EXPECT_EQ(user, 17u);
        to.calls.emplace_back(to.cb.rcv_nxt - to.begin, again);
    };
    const auto burst = [&] {
        std::vector<Stack::Arriving> segments;
        for (std::uint32_t i = 0; i < 4; ++i) {
            rte_mbuf* const buffer = rte_pktmbuf_alloc(peer.pool.get());
            rte_pktmbuf_append(buffer, 100);
            wire::Segment segment;
            segment.ip = {.source = peer.them.address, .destination = peer.us.address, .protocol = 6, .hop_limit = 64, .traffic_class = 0};
            segment.tcp = {.source_port = peer.them.port, .destination_port = peer.us.port, .seq = (cb.rcv_nxt + 100 * i).value(), .ack = peer.rcv_nxt.value(),
                           .window = 60000, .urgent = 0, .flags = kAck, .length = 20};
            segment.payload_length = 100;
            segments.push_back({segment, buffer});
        }
        return segments;
    };
    cb.user = 0;
    peer.core.segments_arrive(burst(), peer.now);
    EXPECT_TRUE(asked.calls.empty());

    cb.user = 17;
    asked.begin = cb.rcv_nxt;
    peer.core.segments_arrive(burst(), peer.now);
    ASSERT_EQ(cb.rcv_nxt - asked.begin, 400u);
    std::vector<std::uint32_t> first, second;
    for (const auto& [received, again] : asked.calls) (again ? second : first).push_back(received);
    ASSERT_EQ(first.size(), 4u);
    ASSERT_EQ(second.size(), 4u);
    for (std::uint32_t i = 0; i < 4; ++i) {
        EXPECT_LE(second[i], 100 * i) << i;
        EXPECT_LE(first[i], second[i]) << i;
    }
    peer.output();
}

}  // namespace
}  // namespace sallyport::tcp
