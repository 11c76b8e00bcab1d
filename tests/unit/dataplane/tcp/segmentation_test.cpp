// Segments that the device cuts (TSO): what leaves as one frame, and that each of its segments has a life of its own afterwards.

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;
using wire::kAck;
using wire::kFin;
using wire::kPsh;

constexpr std::uint32_t kMss = 1448;   // with timestamps

struct Segmentation : testing::Test {
    Peer peer{Settings{}, 1500, 8};
    void SetUp() override { peer.establish(); }
    /// Octets of the stream from `seq` on, as write() makes them, in `sent` frame `i`.
    void all_of(std::size_t i, std::size_t octets) {
        EXPECT_EQ(peer.sent[i].payload, std::vector<std::uint8_t>(octets, 'x'));
    }
    void acknowledge(SeqNum upto, std::vector<wire::SackBlock> sacks = {}) {
        peer.exchange(kAck, peer.snd_nxt, upto, {}, {.sacks = std::move(sacks)});
    }
};

TEST_F(Segmentation, WhatLeavesTogether_IsOneFrame) {
    peer.write(5 * kMss + 100);
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].segment_size, kMss);
    EXPECT_EQ(peer.sent[0].buffers, 6);
    EXPECT_EQ(peer.sent[0].flags, kAck | kPsh) << "nothing is behind it";
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt);
    all_of(0, 5 * kMss + 100);
    EXPECT_EQ(peer.core.counters.segments_out, 1u + 6u) << "each counts, the SYN,ACK too";
    acknowledge(peer.rcv_nxt + 5 * kMss + 100);
    EXPECT_EQ(peer.pool.in_use(), 0u);
}

TEST_F(Segmentation, OneSegment_IsNotCut) {
    peer.write(kMss);
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].segment_size, 0);
    EXPECT_EQ(peer.sent[0].buffers, 1);
}

TEST_F(Segmentation, MoreThanTheDeviceTakes_AreSeveralFrames) {
    peer.write(10 * kMss);
    peer.output();
    ASSERT_EQ(peer.sent.size(), 2u);
    EXPECT_EQ(peer.sent[0].buffers, 8);
    EXPECT_EQ(peer.sent[1].buffers, 2);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[1].flags, kAck | kPsh);
    EXPECT_EQ(peer.sent[1].seq, peer.rcv_nxt + 8 * kMss);
}

TEST_F(Segmentation, CongestionWindow_IsKept) {
    peer.write(20 * kMss);
    peer.output();
    std::size_t octets = 0;
    for (const auto& frame : peer.sent) octets += frame.payload.size();
    EXPECT_EQ(octets, 10 * kMss) << "IW10, RFC 6928";
}

TEST_F(Segmentation, AShortOneInTheMiddle_EndsTheFrame) {
    peer.write(kMss);
    peer.write(100);
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    peer.write(200);   // behind what has left already
    peer.write(2 * kMss);
    peer.output();
    // Wherever it was cut, only the last segment of a frame may be shorter than the others.
    for (const auto& frame : peer.sent)
        if (frame.segment_size != 0) {
            EXPECT_EQ(frame.segment_size, kMss);
            EXPECT_GT(frame.payload.size(), (frame.buffers - 1u) * kMss);
            EXPECT_LE(frame.payload.size(), frame.buffers * kMss);
        }
    std::size_t octets = 0;
    for (const auto& frame : peer.sent) octets += frame.payload.size();
    EXPECT_EQ(octets, 200 + 2 * kMss);
}

TEST_F(Segmentation, Fin_IsOfTheLast) {
    peer.write(3 * kMss);
    peer.connection->close();
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck | kPsh | kFin);
    EXPECT_EQ(peer.sent[0].buffers, 3);
}

TEST_F(Segmentation, OneIsLost_ItAloneIsSentAgain) {
    peer.write(6 * kMss);
    peer.output();
    const SeqNum start = peer.rcv_nxt;
    peer.now += 10ms;
    acknowledge(start + kMss, {{(start + 2 * kMss).value(), (start + 6 * kMss).value()}});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].seq, start + kMss);
    EXPECT_EQ(peer.sent[0].segment_size, 0);
    EXPECT_EQ(peer.sent[0].buffers, 1);
    all_of(0, kMss);
    acknowledge(start + 6 * kMss);
    EXPECT_EQ(peer.pool.in_use(), 0u);
}

TEST_F(Segmentation, DeviceStillHoldsTheFrame_WhatIsSentAgainIsACopy) {
    peer.write(6 * kMss);
    peer.core.output(peer.now);
    std::vector<rte_mbuf*> held = peer.take_frames();   // as a device does whose ring is full
    ASSERT_EQ(held.size(), 1u);
    ASSERT_EQ(held[0]->nb_segs, 6);
    const SeqNum start = peer.rcv_nxt;
    peer.now += 10ms;
    acknowledge(start + kMss, {{(start + 2 * kMss).value(), (start + 6 * kMss).value()}});
    ASSERT_EQ(peer.sent.size(), 1u);
    all_of(0, kMss);
    acknowledge(start + 6 * kMss);
    EXPECT_EQ(peer.pool.in_use(), 6u) << "those of the device";
    EXPECT_EQ(held[0]->nb_segs, 6) << "nobody has touched the chain";
    EXPECT_EQ(held[0]->pkt_len, 14 + 20 + 32 + 6 * kMss);
    rte_pktmbuf_free(held[0]);
    EXPECT_EQ(peer.pool.in_use(), 0u);
}

TEST_F(Segmentation, TailLossProbeOfNewData_LeavesAtOnce) {
    for (int i = 0; i < 2; ++i) {   // a round trip is known, and the window is full
        peer.write(10 * kMss);
        peer.output();
        peer.now += 10ms;
        if (i == 0) acknowledge(peer.rcv_nxt + 10 * kMss);
    }
    peer.write(20 * kMss);
    peer.output();
    std::vector<rte_mbuf*> frames;
    while (frames.empty()) {
        peer.now = std::max(peer.now, peer.core.next_timer());
        peer.core.advance(peer.now);   // and no output()
        frames = peer.take_frames();
    }
    EXPECT_EQ(frames.size(), 1u);
    for (rte_mbuf* const frame : frames) rte_pktmbuf_free(frame);
}

TEST_F(Segmentation, PathMtuShrinks_FramesAreCutByTheNewOne) {
    peer.write(4 * kMss);
    peer.output();
    peer.icmp(network::Received::IcmpError::What::packet_too_big, peer.rcv_nxt, 1000);
    peer.output();
    acknowledge(peer.rcv_nxt + 4 * kMss);
    peer.write(4 * 948);
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].segment_size, 948);
    EXPECT_EQ(peer.sent[0].buffers, 4);
}

}  // namespace
}  // namespace sallyport::tcp
