// What is sent and when: transmit.cpp, timers.cpp, acknowledge.cpp, rack.cpp, sack_scoreboard.cpp, icmp_error.cpp

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Extra;
using test::Peer;
using wire::kAck;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;

class Sender : public testing::Test {
 protected:
    void SetUp() override { peer.establish(); }
    /// The peer acknowledges `octets` of ours, `after` later; its timestamp echoes what it last saw.
    const std::vector<test::Sent>& acknowledge(std::uint32_t octets, Duration after = 10ms, Extra extra = {}) {
        peer.now += after;
        peer.ts += static_cast<std::uint32_t>(after / 1ms);
        if (!peer.sent.empty() && peer.sent.back().options.timestamps) peer.ts_echo = peer.sent.back().options.timestamps->value;
        peer.rcv_nxt += octets;
        return peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, extra);
    }
    wire::SackBlock block(std::uint32_t from, std::uint32_t to) const {
        return {(peer.rcv_nxt + from).value(), (peer.rcv_nxt + to).value()};
    }
    /// A first exchange, so that the round-trip time is known (10 ms).
    void warm_up() {
        peer.write(100);
        peer.output();
        acknowledge(100);
        peer.events();
    }
    Peer peer;
    static constexpr std::uint32_t kMss = 1448;
};

TEST_F(Sender, InitialWindow_TenSegmentsThenGrows) {  // RFC 6928
    peer.write(40000);
    ASSERT_EQ(peer.output().size(), 10u);
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(acknowledge(2 * kMss).size(), 4u);  // slow start: two were acknowledged, four go
    EXPECT_EQ(peer.events(), event::kWritable);
}

TEST_F(Sender, NewSegmentWithAnAck_TimeoutStillRunsFromTheAck) {  // RFC 6298 5.3
    for (int i = 0; i < 40; ++i) {
        peer.write(100);
        peer.output();
        acknowledge(100, 150ms);
    }
    ASSERT_LT(peer.connection->status().rto, 352ms);
    peer.write(3 * kMss);
    peer.output();
    peer.write(100);
    ASSERT_EQ(acknowledge(kMss, 150ms).size(), 1u);
    EXPECT_TRUE(peer.after(290ms).empty()) << "its timeout after the segment, but not after the ACK";
    EXPECT_EQ(peer.after(20ms).size(), 1u) << "the tail loss probe";
    EXPECT_EQ(peer.core.counters.timeouts, 0u);
}

TEST_F(Sender, LastSegment_Pushes) {
    peer.write(kMss + 10);
    ASSERT_EQ(peer.output().size(), 2u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[1].flags, kAck | kPsh);
}

TEST_F(Sender, DataCarriesTheAck_NoSeparateOne) {
    peer.arrives(kAck, peer.snd_nxt, peer.rcv_nxt, std::string(1448, 'a'));
    peer.arrives(kAck, peer.snd_nxt + 1448, peer.rcv_nxt, std::string(1448, 'a'));
    peer.write(10);
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt + 2896);
    EXPECT_TRUE(peer.after(100ms).size() <= 1) << "nothing but a probe";
}

TEST_F(Sender, SendBuffer_IsBounded) {
    const std::uint32_t space = peer.connection->send_space();
    EXPECT_EQ(space, Settings{}.initial_buffer);
    peer.write(space);
    EXPECT_EQ(peer.connection->send_space(), 0u);
    EXPECT_EQ(peer.connection->outstanding(), space);
    const std::byte one{};
    EXPECT_FALSE(peer.connection->send({&one, 1}));
}

TEST_F(Sender, ReserveGiveBack_ChangesNothing) {
    std::array<WritePiece, 8> pieces;
    const std::uint32_t before = peer.pool.in_use();
    EXPECT_EQ(peer.connection->reserve(3000, pieces), 3u);
    peer.connection->give_back();
    EXPECT_EQ(CoreTestAccess::transfers(peer.core), 0u);
    EXPECT_EQ(peer.pool.in_use(), before);
    EXPECT_TRUE(peer.output().empty());
}

TEST_F(Sender, ThreeSegmentsSacked_FirstIsSentAgain) {  // RFC 8985 6.2, RFC 6675 5
    warm_up();
    peer.write(10 * kMss);
    ASSERT_EQ(peer.output().size(), 10u);
    const SeqNum first = peer.sent[0].seq;
    acknowledge(0, 10ms, {.sacks = {block(kMss, 4 * kMss)}});
    ASSERT_GE(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].seq, first);
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    EXPECT_EQ(peer.core.counters.fast_retransmits, 1u);
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 1u);
    const std::uint32_t before = peer.connection->status().cwnd;
    acknowledge(10 * kMss);
    EXPECT_EQ(peer.connection->outstanding(), 0u);
    EXPECT_LE(peer.connection->status().cwnd, 11 * kMss);
    EXPECT_GT(before, 0u);
}

TEST_F(Sender, AckAndBlocksAtOnce_AreNoReordering) {  // RFC 8985 6.2, step 3
    warm_up();
    peer.write(10 * kMss);
    ASSERT_EQ(peer.output().size(), 10u);
    const SeqNum first = peer.sent[0].seq;
    acknowledge(kMss, 10ms, {.sacks = {block(5 * kMss, 10 * kMss), block(2 * kMss, 4 * kMss)}});
    ASSERT_EQ(peer.sent.size(), 2u) << "both holes, without a wait for what may be late";
    EXPECT_EQ(peer.sent[0].seq, first + kMss);
    EXPECT_EQ(peer.sent[1].seq, first + 4 * kMss);
}

TEST_F(Sender, ReorderingOnly_NothingIsSentAgain) {
    warm_up();
    peer.write(4 * kMss);
    peer.output();
    EXPECT_TRUE(acknowledge(0, 10ms, {.sacks = {block(kMss, 2 * kMss)}}).empty()) << "a quarter of the round-trip time to arrive";
    EXPECT_TRUE(acknowledge(2 * kMss, 1ms).empty());
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 0u);
}

TEST_F(Sender, ReorderingWindowOver_SegmentIsSentAgain) {
    warm_up();
    peer.write(4 * kMss);
    peer.output();
    const SeqNum first = peer.sent[0].seq;
    acknowledge(0, 10ms, {.sacks = {block(kMss, 2 * kMss)}});
    peer.after(6ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].seq, first);
}

TEST_F(Sender, ReorderingWindowOver_AnySegmentOfThePeerHasItSentAgain) {   // the ACK field need not tell anything new
    warm_up();
    peer.write(4 * kMss);
    peer.output();
    const SeqNum first = peer.sent[0].seq;
    acknowledge(0, 10ms, {.sacks = {block(kMss, 2 * kMss)}});
    peer.now += 6ms;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "text");
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent[0].seq, first);
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
}

/// Ten segments of which the first is late: the fourth SACK has it sent again, and then the original arrives.
class ReorderedSender : public Sender {
 protected:
    void SetUp() override {
        Sender::SetUp();
        CoreTestAccess::only(peer.core)->rtt = {};   // the handshake took no time
        warm_up();
        peer.write(10 * kMss);
        peer.output();
        original = peer.sent.back().options.timestamps->value;
        cwnd = peer.connection->status().cwnd;
        acknowledge(0, 10ms, {.sacks = {block(kMss, 4 * kMss)}});
        ASSERT_EQ(peer.connection->status().segments_retransmitted, 1u);
        peer.now += 2ms;
        peer.ts_echo = original;
        peer.rcv_nxt += 10 * kMss;
        peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
        EXPECT_GE(peer.connection->status().cwnd, cwnd) << "undone";
    }
    std::uint32_t original = 0, cwnd = 0;
};

TEST_F(ReorderedSender, LateAgain_NothingIsSentAgainWithinTheWindow) {
    peer.write(10 * kMss);
    peer.output();
    EXPECT_TRUE(acknowledge(0, 10ms, {.sacks = {block(kMss, 6 * kMss)}}).empty()) << "now that the path is known to reorder";
    EXPECT_TRUE(peer.after(2ms).empty());
    acknowledge(10 * kMss, 0ms);
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 1u);
}

TEST_F(ReorderedSender, DuplicateReport_WidensTheWindow) {  // RFC 8985 6.2, step 4
    peer.write(10 * kMss);
    peer.output();
    acknowledge(0, 9ms, {.sacks = {block(0u - kMss, 0)}});  // the needless retransmission arrived, too
    acknowledge(0, 1ms, {.sacks = {block(kMss, 6 * kMss)}});
    EXPECT_TRUE(peer.after(4ms).empty()) << "a quarter of the least round trip was 2.5 ms, and now it is twice that";
    EXPECT_EQ(peer.after(2ms).size(), 1u);
}

TEST_F(Sender, OriginalArrivesBeforeItIsSentAgain_Undone) {
    warm_up();
    peer.write(10 * kMss);
    peer.output();
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    peer.now += 10ms;
    peer.ts_echo = peer.sent.back().options.timestamps->value;
    // Both in one burst: nothing is sent between them.
    peer.arrives(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.sacks = {block(kMss, 4 * kMss)}});
    EXPECT_EQ(peer.core.counters.fast_retransmits, 1u);
    peer.rcv_nxt += 4 * kMss;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    EXPECT_GE(peer.connection->status().cwnd, cwnd);
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 0u);
}

TEST_F(Sender, LostTail_ProbeBeforeTheTimeout) {  // RFC 8985 7
    warm_up();
    peer.write(4 * kMss);
    peer.output();
    peer.after(30ms);  // 2 * SRTT + 2 ms
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt + 3 * kMss);
    EXPECT_EQ(peer.connection->status().timeouts, 0u);
}

TEST_F(Sender, NoAnswer_TimeoutsBackOffAndResendTheFirst) {  // RFC 6298 5
    warm_up();
    peer.write(4 * kMss);
    peer.output();
    peer.after(1s);
    // The probe, then RTO = 200 ms after it, then doubled. The third makes the path suspect: BlackHole.
    ASSERT_GE(peer.sent.size(), 3u);
    for (std::size_t i = 1; i < peer.sent.size(); ++i) EXPECT_EQ(peer.sent[i].seq, peer.rcv_nxt);
    EXPECT_LE(peer.sent.size(), 6u);
    EXPECT_EQ(peer.connection->status().cwnd, kMss);
    acknowledge(kMss, 1ms);
    EXPECT_EQ(peer.sent.size(), 2u) << "slow start after a timeout";
}

TEST_F(Sender, FirstIsSentOnceMore_HasATimeoutOfItsOwn) {
    warm_up();
    peer.write(40 * kMss);
    ASSERT_EQ(peer.output().size(), 10u);
    const SeqNum first = peer.sent[0].seq;
    acknowledge(0, 10ms, {.sacks = {block(kMss, 10 * kMss)}});
    ASSERT_GE(peer.sent.size(), 2u) << "the first again, and some new ones";
    ASSERT_EQ(peer.sent[0].seq, first);
    peer.after(100ms);
    acknowledge(0, 0ms, {.sacks = {block(kMss, 11 * kMss)}});   // one that was sent after it, so that it is lost as well
    ASSERT_GE(peer.sent.size(), 1u);
    ASSERT_EQ(peer.sent[0].seq, first);
    const Duration rto = peer.connection->status().rto;
    peer.after(rto - 20ms);
    EXPECT_EQ(peer.connection->status().timeouts, 0u);
    peer.after(40ms);
    EXPECT_EQ(peer.connection->status().timeouts, 1u);
}

TEST_F(Sender, NoAnswerForUserTimeout_TimedOut) {  // R2
    warm_up();
    peer.write(10);
    peer.output();
    peer.after(120s);
    EXPECT_EQ(peer.events(), event::kEnded);
    EXPECT_EQ(peer.connection->end(), End::timed_out);
    EXPECT_EQ(peer.core.buffers_held(), 0u);
    peer.connection->release();
}

TEST_F(Sender, SpuriousTimeout_IsUndone) {  // RFC 3522, RFC 4015
    warm_up();
    peer.write(10 * kMss);
    peer.output();
    const std::uint32_t original = peer.sent.back().options.timestamps->value;
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    peer.after(400ms);
    ASSERT_GE(peer.connection->status().timeouts, 1u);
    EXPECT_EQ(peer.connection->status().cwnd, kMss);
    peer.ts_echo = original;
    peer.rcv_nxt += 2 * kMss;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    EXPECT_GE(peer.connection->status().cwnd, cwnd);
}

TEST_F(Sender, BufferStillInTheDevice_RetransmissionIsACopy) {
    warm_up();
    peer.write(kMss);
    ControlBlock* cb = CoreTestAccess::only(peer.core);
    rte_mbuf* buffer = cb->transfer->send_buffer.front();
    rte_mbuf_refcnt_update(buffer, 1);  // as a transmit ring holds it
    peer.output();
    peer.after(1s);
    ASSERT_GE(peer.sent.size(), 2u);
    EXPECT_NE(cb->transfer->send_buffer.front(), buffer);
    for (const auto& segment : peer.sent) EXPECT_EQ(segment.payload, std::vector<std::uint8_t>(kMss, 'x'));
    rte_pktmbuf_free(buffer);
}

TEST_F(Sender, PeerWithoutSack_ThreeDuplicateAcks) {  // RFC 5681 3.2, RFC 6582
    Peer reno;
    reno.establish({.sack = false});
    reno.write(10 * kMss);
    ASSERT_EQ(reno.output().size(), 10u);
    const SeqNum first = reno.sent[0].seq;
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(reno.exchange(kAck, reno.snd_nxt, reno.rcv_nxt).empty());
    reno.exchange(kAck, reno.snd_nxt, reno.rcv_nxt);
    ASSERT_EQ(reno.sent.size(), 1u);
    EXPECT_EQ(reno.sent[0].seq, first);
    reno.rcv_nxt += 3 * kMss;  // a partial ACK: the next hole
    reno.now += 10ms;
    reno.ts_echo = reno.sent[0].options.timestamps->value;
    reno.exchange(kAck, reno.snd_nxt, reno.rcv_nxt);
    ASSERT_GE(reno.sent.size(), 1u);
    EXPECT_EQ(reno.sent[0].seq, first + 3 * kMss);
}

TEST_F(Sender, NoSack_EachOutOfOrderSegmentHasItsAck) {
    Peer reno;
    reno.establish({.sack = false});
    for (std::uint32_t i = 1; i <= 3; ++i) reno.arrives(kAck, reno.snd_nxt + i * 100, reno.rcv_nxt, std::string(100, 'a'));
    EXPECT_EQ(reno.output().size(), 3u);
}

// ---- windows ----

TEST_F(Sender, ZeroWindow_ProbedUntilItOpens) {  // RFC 9293 3.8.6.1
    acknowledge(0, 10ms, {.window = 0});
    peer.write(5000);
    EXPECT_TRUE(peer.output().empty());
    peer.after(10s);
    ASSERT_GE(peer.sent.size(), 2u);
    EXPECT_LE(peer.sent.size(), 6u) << "with backoff";
    for (const auto& probe : peer.sent) {
        EXPECT_EQ(probe.seq, peer.rcv_nxt - 1);
        EXPECT_TRUE(probe.payload.empty());
    }
    acknowledge(0, 1ms, {.window = 60000});
    ASSERT_EQ(peer.sent.size(), 4u);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt);
}

TEST_F(Sender, ZeroWindowAndSilence_TimedOut) {
    acknowledge(0, 10ms, {.window = 0});
    peer.write(5000);
    peer.output();
    peer.after(300s);
    EXPECT_EQ(peer.connection->end(), End::timed_out);
    peer.connection->release();
}

TEST(SenderWindow, LessThanASegment_WaitsThenSendsWhatFits) {  // RFC 9293 3.8.6.2.1
    Peer peer;
    peer.establish({.window_scale = 0});
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = 100});
    peer.write(1448);
    EXPECT_TRUE(peer.output().empty()) << "silly window";
    for (int i = 0; i < 100 && peer.after(20ms).empty(); ++i) {
    }
    ASSERT_GE(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 100u);
    EXPECT_EQ(peer.core.buffers_held(), 2u) << "the rest of the segment that was cut has a buffer of its own";
}

TEST(SenderWindow, AckOfARetransmission_DoesNotMoveTheRightEdge) {
    Peer peer;
    peer.establish({.window_scale = 0});
    peer.exchange(kAck, peer.snd_nxt + 5, peer.rcv_nxt, "world", {.window = 2896});
    peer.write(8000);
    ASSERT_EQ(peer.output().size(), 2u);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 1448, "hello", {.window = 1448});   // what was lost, sent again with the ACK of now
    for (const auto& segment : peer.sent) EXPECT_TRUE(segment.payload.empty()) << "beyond what was offered";
    EXPECT_EQ(peer.connection->status().snd_wnd, 1448u);
}

TEST(SenderWindow, TakenBackBelowASegmentInFlight_RetransmissionIsCutToIt) {  // RFC 9293 3.8.6, and what Linux accepts
    Peer peer;
    peer.establish({.window_scale = 0});
    peer.write(1448);
    ASSERT_EQ(peer.output().size(), 1u);
    const SeqNum first = peer.sent[0].seq;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = 1000});
    bool cut = false;
    for (int i = 0; i < 5; ++i) {
        peer.after(1s);
        for (const auto& segment : peer.sent) cut |= segment.seq == first && segment.payload.size() == 1000;
    }
    EXPECT_TRUE(cut) << "a segment that reaches beyond the window is dropped as a whole, for ever";
    peer.rcv_nxt += 1000;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = 60000});
    peer.after(3s);
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent.back().seq, first + 1000);
    EXPECT_EQ(peer.sent.back().payload.size(), 448u);
}

TEST(SenderWindow, TakenBackWithSegmentsInFlight_AcksStayInside) {  // RFC 9293 3.8.6, 3.10.7.4: what lies outside is dropped, its ACK unseen
    Peer peer;
    peer.establish({.window_scale = 0});
    peer.write(4344);
    ASSERT_EQ(peer.output().size(), 3u);
    const SeqNum first = peer.sent[0].seq;
    const auto acknowledged_at = [&](std::uint16_t window) {
        peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = window});
        peer.exchange(kAck, peer.snd_nxt + 1448, peer.rcv_nxt, std::string(1448, 'b'), {.window = window});   // a gap: an ACK at once
        EXPECT_FALSE(peer.sent.empty());
        return peer.sent.empty() ? SeqNum{} : peer.sent.back().seq;
    };
    EXPECT_EQ(acknowledged_at(60000), first + 4344);
    EXPECT_EQ(acknowledged_at(1000), first + 1000);
    EXPECT_EQ(acknowledged_at(0), first);
    peer.connection->abort();
    ASSERT_FALSE(peer.output().empty());
    EXPECT_EQ(peer.sent.back().flags, kRst | kAck);
    EXPECT_EQ(peer.sent.back().seq, first) << "a reset outside the window would be ignored";
}

TEST(SenderWindow, TakenBackWithSegmentsInFlight_NoTimeOutWhileThePeerAnswers) {  // RFC 9293 3.8.6, SHLD-17
    Peer peer;
    peer.establish({.window_scale = 0});
    peer.write(1448);
    ASSERT_EQ(peer.output().size(), 1u);
    for (int i = 0; i < 20; ++i) {
        peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = 0});
        peer.after(20s);
    }
    EXPECT_EQ(peer.connection->end(), End::none);
    peer.after(300s);
    EXPECT_EQ(peer.connection->end(), End::timed_out) << "silence is another matter";
    peer.connection->release();
}

TEST_F(Sender, ReceiveLimit_WindowFollowsWithoutShrinking) {
    const std::uint32_t unit = 8;
    peer.data(std::string(1448, 'a'));
    peer.data(std::string(1448, 'a'));
    const SeqNum edge = peer.sent[0].ack + peer.sent[0].window * unit;
    peer.connection->set_receive_limit(10000);
    peer.data(std::string(1448, 'a'));
    peer.data(std::string(1448, 'a'));
    const SeqNum later = peer.sent[0].ack + peer.sent[0].window * unit;
    EXPECT_TRUE(later.at_or_after(edge));
    EXPECT_LT(later - edge, unit);
    static_cast<void>(peer.read());
    EXPECT_TRUE(peer.output().empty()) << "the edge is far beyond the new limit";
}

TEST(ReceiverWindow, LimitRisesWhileThereIsRoom_NextAckTellsIt) {
    constexpr std::uint32_t kUnit = 8;
    Peer peer;
    peer.establish();
    peer.connection->set_receive_limit(40'000);
    EXPECT_TRUE(peer.output().empty());
    peer.connection->set_receive_limit(120'000);
    EXPECT_TRUE(peer.output().empty()) << "the peer has room for more than a first flight: it waits for nothing";
    peer.data("a");
    peer.after(50ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_GT(peer.sent[0].window * kUnit, 110'000u);
}

TEST(ReceiverWindow, LimitRisesWhereThePeerMayWait_IsToldAtOnce) {
    Peer peer;
    peer.establish();
    peer.connection->set_receive_limit(40'000);
    for (int i = 0; i < 45; ++i) peer.data(std::string(1448, 'a'));   // nearly all of the 64 KiB that the SYN,ACK told
    peer.connection->set_receive_limit(120'000);
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
}

TEST(ReceiverWindow, SlowReader_UpdateWhenItMatters) {
    Settings settings;
    settings.receive_buffer = 10000;
    Peer peer(settings);
    peer.establish();
    for (int i = 0; i < 6; ++i) peer.data(std::string(1448, 'a'));
    peer.data(std::string(1312, 'a'));
    peer.after(50ms);
    EXPECT_EQ(peer.sent.back().window, 0u);
    peer.connection->consume(1000);
    EXPECT_TRUE(peer.output().empty()) << "silly window (RFC 9293 3.8.6.2.2)";
    peer.connection->consume(2000);
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].window, 3000u);
    // Into the closed window: refused and answered, but the ACK field counts.
    static_cast<void>(peer.read());
}

// ---- the path ----

TEST_F(Sender, PacketTooBig_CutsWhatIsInFlight) {  // RFC 1191, RFC 5927
    using What = network::Received::IcmpError::What;
    warm_up();
    peer.write(4 * kMss);
    peer.output();
    peer.icmp(What::packet_too_big, peer.rcv_nxt - 1, 1400);
    EXPECT_EQ(peer.connection->mss(), kMss) << "quotes a segment that is not in flight";
    EXPECT_EQ(peer.drops[DropReason::icmp_unmatched], 1u);
    peer.icmp(What::packet_too_big, peer.rcv_nxt, 1400);
    EXPECT_EQ(peer.connection->mss(), 1348);
    peer.after(1s);
    ASSERT_GE(peer.sent.size(), 2u);
    for (const auto& segment : peer.sent) EXPECT_LE(segment.payload.size(), 1348u);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt);
    peer.icmp(What::packet_too_big, peer.rcv_nxt, 68);
    EXPECT_EQ(peer.connection->mss(), kMinimumMtu4 - 52) << "not below our least";
}

TEST_F(Sender, RoundTrips_BeginWithTheConnection) {  // whatever its initial sequence number
    const ControlBlock* cb = CoreTestAccess::only(peer.core);
    peer.write(1);
    EXPECT_EQ(cb->transfer->round_end, cb->snd_una);
}

TEST_F(Sender, BlackHole_ShortSegmentsAfterThreeTimeoutsAndLongOnesLater) {  // RFC 4821 7.7
    warm_up();
    constexpr std::uint32_t kShort = kBlackHoleMtu4 - 52;
    // The path takes nothing that is longer, and says nothing.
    const auto through = [&] {
        std::size_t octets = 0;
        bool all = true;
        for (const auto& segment : peer.sent) {
            if (segment.payload.size() > kShort) all = false;
            else if (all && segment.seq == peer.rcv_nxt + static_cast<std::uint32_t>(octets)) octets += segment.payload.size();
        }
        return octets;
    };
    peer.write(3 * kMss);
    peer.output();
    std::size_t arrived = 0;
    for (int i = 0; i < 100 && arrived == 0; ++i) {
        EXPECT_LT(i, 99) << "it never came to short segments";
        peer.after(100ms);
        arrived = through();
    }
    EXPECT_EQ(peer.connection->mss(), kShort);
    EXPECT_EQ(peer.core.counters.black_holes, 1u);
    std::size_t total = 0;
    for (int i = 0; i < 20 && total < 3u * kMss; ++i) {
        ASSERT_GT(arrived, 0u);
        total += arrived;
        peer.ts_echo = peer.sent.back().options.timestamps->value;   // of a short one: the timeouts were real
        peer.rcv_nxt += static_cast<std::uint32_t>(arrived);
        peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
        arrived = through();
        if (arrived == 0 && total < 3u * kMss) {
            peer.after(2s);
            arrived = through();
        }
    }
    EXPECT_EQ(total, 3u * kMss);
    EXPECT_EQ(peer.connection->mss(), kShort);
    for (int i = 0; i < 10; ++i) {
        peer.after(kRaiseMtu / 10);
        peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);   // a sign of life
    }
    peer.write(kShort);
    ASSERT_EQ(peer.output().size(), 1u);
    peer.rcv_nxt += kShort;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    EXPECT_EQ(peer.connection->mss(), kMss) << "tried again";
}

TEST_F(Sender, ShortSegmentsThatAreLost_AreNoBlackHole) {
    warm_up();
    peer.write(500);
    peer.output();
    peer.after(10s);
    EXPECT_EQ(peer.connection->mss(), kMss);
    EXPECT_EQ(peer.core.counters.black_holes, 0u);
}

TEST_F(Sender, Keepalive_TellsOfADuplicate_NothingIsKeptForIt) {
    peer.data("hello");
    static_cast<void>(peer.read());
    peer.after(100ms);
    for (int i = 0; i < 12; ++i) peer.exchange(kAck, peer.snd_nxt - 5, peer.rcv_nxt, "hello");   // the last are beyond the limit of challenges
    EXPECT_EQ(CoreTestAccess::transfers(peer.core), 1u) << "a duplicate is to be told of (RFC 2883)";
    peer.after(121s);
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent[0].options.sack_count, 1) << "the probe tells of it";
    EXPECT_EQ(CoreTestAccess::transfers(peer.core), 0u);
}

TEST_F(Sender, Keepalive_ProbesThenGivesUp) {  // RFC 9293 3.8.4
    peer.after(121s);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt - 1);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    peer.after(100s);
    EXPECT_TRUE(peer.sent.empty()) << "it answered";
    peer.after(200s);
    EXPECT_EQ(peer.connection->end(), End::timed_out);
    EXPECT_EQ(peer.sent.size(), 6u);  // five probes and a reset
    EXPECT_EQ(peer.sent.back().flags & kRst, kRst);
    peer.connection->release();
}

TEST_F(Sender, Close_FinRidesOnTheLastSegment) {
    peer.write(10);
    peer.connection->close();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck | kPsh | kFin);
    EXPECT_EQ(peer.connection->send_space(), 0u);
}

TEST_F(Sender, FinLost_IsSentAgain) {
    warm_up();
    peer.connection->close();
    peer.output();
    peer.after(1s);
    ASSERT_GE(peer.sent.size(), 1u);
    for (const auto& segment : peer.sent) EXPECT_EQ(segment.flags & kFin, kFin);
    acknowledge(1);
    EXPECT_EQ(peer.connection->state(), State::fin_wait_2);
}

TEST_F(Sender, NoBuffers_SendIsRefusedAndNothingBreaks) {
    std::vector<rte_mbuf*> all;
    while (rte_mbuf* buffer = rte_pktmbuf_alloc(peer.pool.get())) all.push_back(buffer);
    const std::byte octet{};
    EXPECT_FALSE(peer.connection->send({&octet, 1}));
    peer.connection->close();
    peer.output();
    for (rte_mbuf* buffer : all) rte_pktmbuf_free(buffer);
    peer.after(100ms);
    ASSERT_GE(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags & kFin, kFin);
}

// ---- ports and reuse ----

TEST(Connect, EveryPortOnce_ThenNone) {
    Settings settings;
    settings.port_low = 20000;
    settings.port_high = 20009;
    Peer peer(settings);
    std::vector<std::uint16_t> ports;
    for (int i = 0; i < 10; ++i) {
        const auto opened = peer.core.connect(peer.them, 0, 1s, peer.now);
        ASSERT_TRUE(opened);
        ports.push_back((*opened)->local().port);
    }
    std::sort(ports.begin(), ports.end());
    EXPECT_EQ(std::unique(ports.begin(), ports.end()), ports.end());
    EXPECT_EQ(peer.core.connect(peer.them, 0, 1s, peer.now).error(), Stack::ConnectError::no_port);
    peer.output();
}

TEST(Connect, FromAnAddressThatIsGiven) {
    Settings settings;
    settings.port_low = settings.port_high = 20000;
    Peer peer(settings);
    const IpAddress other = IpAddress::from_v4({10, 1, 2, 3});
    const auto opened = peer.core.connect(peer.them, 0, 1s, peer.now, other);
    ASSERT_TRUE(opened);
    EXPECT_EQ((*opened)->local().address, other);
    EXPECT_TRUE(peer.core.connect(peer.them, 0, 1s, peer.now)) << "the one port is free at the route's own address";
    peer.output();
}

TEST(Connect, NearlyAllPortsInUse_TriesAreBounded_AndTheNextGoesOnWhereTheLastStopped) {
    Peer peer;   // 55,001 ports
    struct Seen {
        std::uint32_t tries = 0, free_from = 3000;
        std::vector<std::uint16_t> ports;
    } seen;
    peer.core.port_filter_context = &seen;
    peer.core.port_filter = [](void* context, const SocketAddress& local, const SocketAddress&) {
        auto& own = *static_cast<Seen*>(context);
        own.ports.push_back(local.port);
        return ++own.tries > own.free_from;
    };
    EXPECT_EQ(peer.core.connect(peer.them, 0, 1s, peer.now).error(), Stack::ConnectError::no_port);
    EXPECT_EQ(seen.tries, PortAllocator::kMostTries);
    EXPECT_EQ(peer.drops[DropReason::no_port], 1u);
    ASSERT_TRUE(peer.core.connect(peer.them, 0, 1s, peer.now));
    EXPECT_EQ(seen.tries, 3001u);
    std::sort(seen.ports.begin(), seen.ports.end());
    EXPECT_EQ(std::unique(seen.ports.begin(), seen.ports.end()), seen.ports.end()) << "a port was tried twice";
    EXPECT_EQ(peer.drops[DropReason::no_port], 1u);
    peer.output();
}

TEST(Connect, PortFilter_IsObeyed) {
    Peer peer;
    peer.core.port_filter = [](void*, const SocketAddress& local, const SocketAddress&) { return local.port % 16 == 3; };
    for (int i = 0; i < 5; ++i) {
        const auto opened = peer.core.connect(peer.them, 0, 1s, peer.now);
        ASSERT_TRUE(opened);
        EXPECT_EQ((*opened)->local().port % 16, 3);
    }
    peer.output();
}

TEST(Connect, NoRoute) {
    Peer peer;
    peer.them.address = IpAddress::from_v4({198, 51, 100, 1});
    EXPECT_EQ(peer.core.connect(peer.them, 0, 1s, peer.now).error(), Stack::ConnectError::no_route);
}

TEST(Memory, TableFull_OldestTimeWaitMakesRoom) {
    Settings settings;
    settings.max_connections = 1;
    Peer peer(settings);
    peer.establish();
    peer.connection->close();
    peer.output();
    peer.exchange(kFin | kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    peer.connection->release();
    ASSERT_EQ(peer.core.connections(), 1u);
    peer.them.port = 6000;
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kSyn | kAck);
    peer.them.port = 6001;
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    EXPECT_TRUE(peer.sent.empty());
    EXPECT_EQ(peer.drops[DropReason::tcp_connection_limit], 1u);
}

}  // namespace
}  // namespace sallyport::tcp
