// Several segments in one buffer, where the device cuts (TSO): how much goes into one, and that each is a segment of its own as soon as something is
// known of it that does not hold for all.

#include <numeric>

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;
using wire::kAck;
using wire::kFin;
using wire::kPsh;

constexpr std::uint32_t kMss = 1448;              // with timestamps
constexpr std::uint32_t kWhole = 11;              // segments that a large buffer holds
constexpr std::uint32_t kWeight = drivers::kLargeDataRoom / 2048;   // of one

/// The peer has a round-trip time of 1 ms and a congestion window of 400 segments; what was sent is acknowledged.
struct LargeBuffers : testing::Test {
    static Settings settings() {
        Settings result;
        result.send_buffer = result.initial_buffer = 4 << 20;
        result.pacing = false;
        return result;
    }
    Peer peer{settings(), 1500, 45, false, 31};
    SeqNum start;             // of the stream
    std::uint32_t written = 0;
    std::uint16_t window = 60000;

    void SetUp() override { open({}); }
    void open(const test::Offer& offer) {
        peer.establish(offer);
        start = peer.rcv_nxt;
        write(1);
        peer.output();
        acknowledge_all();
        CoreTestAccess::only(peer.core)->cubic.set_cwnd(400 * kMss);
        write(kMss - 1);
        peer.output();
        acknowledge_all();
    }
    /// Octets by which each place of the stream can be told from others.
    static std::uint8_t octet(std::uint32_t place) { return static_cast<std::uint8_t>(place * 7 + place / 251); }
    void write(std::uint32_t length) {
        std::vector<std::byte> octets(length);
        for (auto& each : octets) each = static_cast<std::byte>(octet(written++));
        ASSERT_TRUE(peer.connection->send(octets));
    }
    [[nodiscard]] SeqNum at(std::uint32_t segments) const { return peer.rcv_nxt + segments * kMss; }
    void acknowledge(SeqNum upto, std::vector<wire::SackBlock> sacks = {}, Duration after = 1ms) {
        peer.now += after;
        peer.ts += 1;
        if (!peer.sent.empty() && peer.sent.back().options.timestamps) peer.ts_echo = peer.sent.back().options.timestamps->value;
        peer.rcv_nxt = upto;
        peer.exchange(kAck, peer.snd_nxt, upto, {}, {.window = window, .sacks = std::move(sacks)});
        check();
    }
    void acknowledge_all() {
        SeqNum upto = peer.rcv_nxt;
        for (const auto& frame : peer.sent) upto = later_of(upto, frame.seq + static_cast<std::uint32_t>(frame.payload.size()));
        acknowledge(upto);
    }
    /// What was sent is what the stream has there.
    void check() const {
        for (const auto& frame : peer.sent) {
            const std::uint32_t place = frame.seq - start;
            for (std::uint32_t i = 0; i < frame.payload.size(); ++i) ASSERT_EQ(frame.payload[i], octet(place + i)) << "at " << place + i;
        }
    }
    [[nodiscard]] wire::SackBlock block(std::uint32_t from, std::uint32_t to) const { return {at(from).value(), at(to).value()}; }
    [[nodiscard]] const SendBuffer& buffer() { return CoreTestAccess::only(peer.core)->transfer->send_buffer; }
    [[nodiscard]] std::vector<std::uint32_t> segments_sent() const {
        std::vector<std::uint32_t> all;
        for (const auto& frame : peer.sent) all.push_back((frame.seq - start) / kMss);
        return all;
    }
};

TEST_F(LargeBuffers, WhatIsAppended_GoesIntoFew) {
    write(46 * kMss);
    EXPECT_EQ(buffer().segments(), 6u);
    EXPECT_EQ(buffer().held(), 4 * kWeight + 2) << "two segments are not worth one";
    EXPECT_EQ(peer.large->in_use(), 4u);
    const std::uint64_t before = peer.core.counters.segments_out;
    peer.output();
    check();
    ASSERT_EQ(peer.sent.size(), 2u) << "an IP packet ends at 65,535 octets";
    EXPECT_EQ(peer.sent[0].payload.size(), 45 * kMss);
    EXPECT_EQ(peer.sent[0].segment_size, kMss);
    EXPECT_EQ(peer.sent[0].buffers, 5);
    EXPECT_EQ(peer.core.counters.segments_out - before, 46u);
    acknowledge_all();
    EXPECT_EQ(peer.large->in_use() + peer.pool.in_use(), 0u);
    EXPECT_EQ(peer.core.buffers_held(), 0u);
}

TEST_F(LargeBuffers, OneBufferAlone_IsCutToo) {
    write(3 * kMss + 5);
    peer.output();
    check();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].buffers, 1);
    EXPECT_EQ(peer.sent[0].segment_size, kMss);
    EXPECT_EQ(peer.sent[0].flags, kAck | kPsh);
}

TEST_F(LargeBuffers, RoomOfTheLast_IsFilledUpToWholeSegments) {
    write(3 * kMss + 10);
    write(20 * kMss);
    EXPECT_EQ(send_segment(buffer().front()).length, kWhole * kMss);
    EXPECT_EQ(buffer().segments(), 4u);
    peer.output();
    check();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 23 * kMss + 10);
    write(10);
    EXPECT_EQ(send_segment(buffer().back()).length, 10u) << "what has left is not written to";
}

TEST_F(LargeBuffers, NoneLeft_OrdinaryOnes) {
    std::vector<rte_mbuf*> taken(30);
    ASSERT_EQ(rte_pktmbuf_alloc_bulk(peer.large->get(), taken.data(), 30), 0);
    write(20 * kMss);
    EXPECT_EQ(buffer().segments(), 1u + 9u);
    peer.output();
    check();
    acknowledge_all();
    rte_pktmbuf_free_bulk(taken.data(), 30);
}

TEST_F(LargeBuffers, OneSegment_IsInAnOrdinaryOne) {
    write(kMss);
    EXPECT_EQ(peer.large->in_use(), 0u);
}

TEST_F(LargeBuffers, Nagle_KeepsToSegments) {
    peer.connection->set_nagle(true);
    write(3 * kMss + 5);
    peer.output();
    EXPECT_EQ(peer.large->in_use(), 0u);
    EXPECT_EQ(peer.sent[0].payload.size(), 3 * kMss);
}

TEST_F(LargeBuffers, NagleLater_TheLastOneWaits) {
    write(3 * kMss + 5);
    ASSERT_EQ(peer.large->in_use(), 1u);
    peer.connection->set_nagle(true);
    peer.output();
    check();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 3 * kMss);
}

TEST_F(LargeBuffers, BlockOverSome_IsTakenSegmentBySegment) {
    write(11 * kMss);
    peer.output();
    ASSERT_EQ(buffer().segments(), 1u);
    acknowledge(at(1), {block(2, 5)});
    EXPECT_EQ(buffer().sacked_octets, 3 * kMss);
    EXPECT_EQ(buffer().sacked_segments, 3u);
    const std::uint32_t begin = (peer.rcv_nxt - start) / kMss;
    EXPECT_EQ(segments_sent(), (std::vector<std::uint32_t>{begin})) << "the hole, and it alone";
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 1u);
    acknowledge(at(10));
    EXPECT_EQ(peer.connection->outstanding(), 0u);
    EXPECT_EQ(peer.large->in_use() + peer.pool.in_use(), 0u);
}

TEST_F(LargeBuffers, BlockOverAll_CountsEach) {
    write(2 * kWhole * kMss);
    peer.output();
    ASSERT_EQ(buffer().segments(), 2u);
    peer.now += 1ms;
    peer.arrives(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = window, .sacks = {block(kWhole, 2 * kWhole)}});
    EXPECT_EQ(buffer().sacked_segments, kWhole);
    EXPECT_EQ(buffer().segments(), 2u) << "nothing has to be cut for that";
    peer.output();
    check();
    ASSERT_EQ(peer.sent.size(), kWhole) << "the first ones are sent again, one by one";
    for (const auto& frame : peer.sent) EXPECT_EQ(frame.payload.size(), kMss);
}

TEST_F(LargeBuffers, BlocksOfAFewOctets_CutNothing) {   // CVE-2019-11478: a peer that has us cut ever smaller
    write(11 * kMss);
    peer.output();
    for (std::uint32_t i = 0; i < 40; ++i) acknowledge(peer.rcv_nxt, {{(peer.rcv_nxt + 5 * kMss + 3 * i + 1).value(), (peer.rcv_nxt + 5 * kMss + 3 * i + 3).value()}}, 1us);
    EXPECT_EQ(buffer().sacked_octets, 0u);
    EXPECT_LE(buffer().segments(), 11u);
}

TEST_F(LargeBuffers, AckOfSome_IsARoundTrip) {
    write(11 * kMss);
    peer.output();
    const Duration before = peer.connection->status().srtt;
    acknowledge(at(2), {}, 8500us);   // the timestamps' clock would tell eight or nine
    EXPECT_EQ(peer.connection->status().srtt / 64ns, (before * 7 + 8500us) / 8 / 64ns);
    EXPECT_EQ(peer.connection->outstanding(), 9 * kMss);
}

TEST_F(LargeBuffers, LostTail_ProbeIsTheLastSegment) {   // RFC 8985 7.3
    write(5 * kMss + 7);
    peer.output();
    while (peer.sent.size() == 1) peer.after(1ms);
    while (peer.sent.empty()) peer.after(1ms);
    check();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt + 5 * kMss);
    EXPECT_EQ(peer.sent[0].payload.size(), 7u);
    EXPECT_EQ(peer.sent[0].segment_size, 0);
}

TEST_F(LargeBuffers, NoAnswer_SegmentBySegment) {   // RFC 6298 5
    write(8 * kMss);
    peer.output();
    peer.after(150ms);
    peer.after(2s);
    check();
    for (const auto& frame : peer.sent) EXPECT_LE(frame.payload.size(), kMss);
    acknowledge(at(8));
    EXPECT_EQ(peer.large->in_use() + peer.pool.in_use(), 0u);
}

TEST_F(LargeBuffers, DeviceStillHoldsIt_NothingOfItIsTouched) {
    write(4 * kMss);
    peer.core.output(peer.now);
    const std::vector<rte_mbuf*> held = peer.take_frames();
    ASSERT_EQ(held.size(), 1u);
    const auto* const first = rte_pktmbuf_mtod(held[0], const std::uint8_t*);
    const std::vector<std::uint8_t> octets(first, first + held[0]->data_len);
    acknowledge(at(1), {block(2, 3)});
    peer.after(5s);   // all that is missing is sent again, the rest of the buffer too
    check();
    EXPECT_EQ(std::vector<std::uint8_t>(first, first + held[0]->data_len), octets);
    EXPECT_EQ(held[0]->pkt_len, 14 + 20 + 32 + 4 * kMss);
    rte_pktmbuf_free(held[0]);
}

TEST_F(LargeBuffers, WindowForSome_WaitsForAnAckOrIsCut) {
    window = 500;   // with a scale of 7: 64,000 octets
    write(1);
    peer.output();
    acknowledge_all();
    write(60 * kMss);   // 44 of them have room; one buffer of the next does not, and a quarter of the window is 11
    peer.output();
    check();
    EXPECT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 4 * kWhole * kMss);
    acknowledge(at(2));
    EXPECT_TRUE(peer.sent.empty()) << "room for two";
    acknowledge(at(9));
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), kWhole * kMss);
    window = 24;        // 3,072 octets: less than what is in flight, and a buffer never leaves whole any more
    acknowledge(at(44));
    ASSERT_EQ(peer.sent.size(), 1u) << "what has room, though nothing else is in flight: the rest waits for the peer";
    check();
    EXPECT_EQ(peer.sent[0].payload.size(), 2 * kMss);
}

TEST_F(LargeBuffers, SmallWindows_KeepToSegments) {
    window = 40;   // 5,120 octets
    write(1);
    peer.output();
    acknowledge_all();
    write(3 * kMss);
    EXPECT_EQ(peer.large->in_use(), 0u);
}

TEST_F(LargeBuffers, Fin_IsOfTheLast) {
    write(5 * kMss);
    peer.connection->close();
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck | kPsh | kFin);
    acknowledge(at(3), {});
    peer.after(300ms);
    check();
    EXPECT_TRUE(std::ranges::any_of(peer.sent, [](const auto& frame) { return frame.payload.size() == kMss && (frame.flags & kFin) != 0; })) << "and of the probe of the tail";
}

TEST_F(LargeBuffers, PathMtuShrinks_AllIsSentAgainInShorterOnes) {
    write(11 * kMss);
    peer.output();
    peer.icmp(network::Received::IcmpError::What::packet_too_big, peer.rcv_nxt, 1400);
    peer.output();
    check();
    ASSERT_FALSE(peer.sent.empty());
    for (const auto& frame : peer.sent) EXPECT_LE(frame.payload.size(), 1348u);
}

TEST_F(LargeBuffers, PathMtuShrinks_ShorterOnesInFlightAreNotSentAgain) {   // sent while the path was thought to take less than it does (RFC 4821 7.7)
    ControlBlock* const cb = CoreTestAccess::only(peer.core);
    cb->path.mtu = 1000;
    cb->snd_mss = 948;
    write(11 * 948);
    peer.output();
    ASSERT_EQ(peer.sent[0].segment_size, 948);
    cb->path.mtu = 1500;
    cb->snd_mss = kMss;
    peer.icmp(network::Received::IcmpError::What::packet_too_big, peer.rcv_nxt, 1400);
    peer.output();
    ASSERT_EQ(peer.connection->mss(), 1348);
    EXPECT_TRUE(peer.sent.empty());
    EXPECT_EQ(buffer().lost_octets, 0u);
}

struct LargeBuffersWithoutSack : LargeBuffers {
    void SetUp() override { open({.sack = false}); }
};

TEST_F(LargeBuffersWithoutSack, ThreeDuplicateAcks_TheFirstAlone) {   // RFC 5681 3.2, RFC 6582
    write(11 * kMss);
    peer.output();
    peer.now += 1ms;
    for (int i = 0; i < 3; ++i) peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = window});
    check();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt);
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    acknowledge(at(3));   // a partial ACK: the next hole
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt);
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 2u);
}

TEST(LargeBuffersBudget, CountAsTheRoomThatTheyHave) {
    Settings settings = LargeBuffers::settings();
    settings.transmit_budget = 4000;
    Peer peer{settings, 1500, 45, false, 31};
    peer.establish();
    peer.write(8000);
    EXPECT_EQ(peer.core.buffers_held(), 6u) << "two segments are a quarter of the first window";
    peer.output();
    peer.rcv_nxt += 8000;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    CoreTestAccess::only(peer.core)->cubic.set_cwnd(400 * kMss);
    peer.write(10 * kMss);
    EXPECT_EQ(peer.core.buffers_held(), kWeight);
}

}  // namespace
}  // namespace sallyport::tcp
