// Explicit congestion notification: RFC 3168 6.1, with the limits that RFC 8311 leaves to experiments left alone.

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Offer;
using test::Peer;
using test::Sent;
using wire::kAck;
using wire::kCwr;
using wire::kEce;
using wire::kSyn;

constexpr std::uint32_t kMss = 1448;
constexpr std::uint8_t kNotCapable = 0;

Settings with(Ecn ecn) {
    Settings settings;
    settings.ecn = ecn;
    return settings;
}

struct EcnCapable : testing::Test {
    Peer peer;
    void SetUp() override { peer.establish({.ecn = true}); }
    void acknowledge(std::uint32_t octets, std::uint8_t flags = 0) {
        peer.now += 5ms;
        peer.ts += 5;
        peer.rcv_nxt += octets;
        peer.ts_echo = peer.sent.empty() || !peer.sent.back().options.timestamps ? peer.ts_echo : peer.sent.back().options.timestamps->value;
        peer.exchange(static_cast<std::uint8_t>(kAck | flags), peer.snd_nxt, peer.rcv_nxt);
    }
};

TEST(Ecn, Listen_EcnSetupSyn_IsAnsweredWithEce) {
    Peer peer;
    peer.exchange(kSyn | kEce | kCwr, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kSyn | kAck | kEce);
    EXPECT_EQ(peer.sent[0].ecn, kNotCapable) << "a SYN,ACK must not be marked (6.1.1)";
}

TEST(Ecn, Listen_OneFlagAlone_IsNoEcnSetup) {
    for (const std::uint8_t flag : {kEce, kCwr}) {
        Peer peer;
        peer.exchange(static_cast<std::uint8_t>(kSyn | flag), peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
        ASSERT_EQ(peer.sent.size(), 1u);
        EXPECT_EQ(peer.sent[0].flags, kSyn | kAck);
    }
}

TEST(Ecn, Listen_Off_IsNotOffered) {
    Peer peer(with(Ecn::off));
    peer.exchange(kSyn | kEce | kCwr, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    EXPECT_EQ(peer.sent.at(0).flags, kSyn | kAck);
}

TEST(Ecn, SynReceived_SynAgainWithoutEcn_GivesItUp) {
    Peer peer;
    peer.exchange(kSyn | kEce | kCwr, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    EXPECT_EQ(peer.sent.at(0).flags, kSyn | kAck);
}

TEST(Ecn, Cookie_KeepsIt) {
    Settings settings;
    settings.max_half_open = 0;
    Peer peer(settings);
    peer.establish({.ecn = true});
    EXPECT_TRUE(peer.connection->status().ecn);
    Peer without(settings);
    without.establish();
    EXPECT_FALSE(without.connection->status().ecn);
}

/// Opens actively; the SYN and what the peer answers.
struct Opening {
    Peer peer;
    explicit Opening(Ecn ecn) : peer(with(ecn)) {
        const auto opened = peer.core.connect(peer.them, 7, 60s, peer.now);
        peer.connection = *opened;
        peer.our_end = peer.connection->local();
        peer.output();
    }
    void answer(std::uint8_t flags) {
        peer.ts_echo = peer.sent.at(0).options.timestamps->value;
        peer.rcv_nxt = peer.sent[0].seq + 1;
        peer.exchange(flags, peer.iss, peer.rcv_nxt, {}, {.options = peer.syn_options({})});
    }
};

TEST(Ecn, Connect_Request_SynSaysEceAndCwr) {
    Opening opening(Ecn::request);
    ASSERT_EQ(opening.peer.sent.size(), 1u);
    EXPECT_EQ(opening.peer.sent[0].flags, kSyn | kEce | kCwr);
    EXPECT_EQ(opening.peer.sent[0].ecn, kNotCapable);
    opening.answer(kSyn | kAck | kEce);
    EXPECT_TRUE(opening.peer.connection->status().ecn);
}

TEST(Ecn, Connect_Accept_DoesNotAsk) {
    Opening opening(Ecn::accept);
    EXPECT_EQ(opening.peer.sent.at(0).flags, kSyn);
    opening.answer(kSyn | kAck | kEce);
    EXPECT_FALSE(opening.peer.connection->status().ecn) << "nobody asked";
}

TEST(Ecn, Connect_FlagsReflected_IsNotCapable) {
    Opening opening(Ecn::request);
    opening.answer(kSyn | kAck | kEce | kCwr);
    EXPECT_EQ(opening.peer.connection->state(), State::established);
    EXPECT_FALSE(opening.peer.connection->status().ecn);
}

TEST(Ecn, Connect_SynLost_IsSentAgainWithout) {
    Opening opening(Ecn::request);
    opening.peer.after(1100ms);
    ASSERT_EQ(opening.peer.sent.size(), 1u);
    EXPECT_EQ(opening.peer.sent[0].flags, kSyn);
}

TEST_F(EcnCapable, NewDataIsMarked_AcksAndRetransmissionsAreNot) {
    peer.write(kMss);
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].ecn, wire::kEcnCapable);
    peer.after(2s);
    ASSERT_FALSE(peer.sent.empty());
    for (const Sent& again : peer.sent) EXPECT_EQ(again.ecn, kNotCapable) << "6.1.5";
    peer.data(std::string(kMss, 'a'));
    peer.data(std::string(kMss, 'a'));
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent.back().payload.size(), 0u);
    EXPECT_EQ(peer.sent.back().ecn, kNotCapable) << "6.1.4";
}

TEST_F(EcnCapable, NotNegotiated_NothingIsMarked) {
    Peer other;
    other.establish();
    other.write(kMss);
    EXPECT_EQ(other.output().at(0).ecn, kNotCapable);
    other.exchange(kAck, other.snd_nxt, other.rcv_nxt + kMss, std::string(10, 'a'), {.traffic_class = wire::kEcnCe});
    other.after(100ms);
    ASSERT_FALSE(other.sent.empty());
    EXPECT_EQ(other.sent.back().flags & kEce, 0);
}

TEST_F(EcnCapable, MarkedSegment_AcksSayEceUntilCwr) {
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, std::string(kMss, 'a'), {.traffic_class = wire::kEcnCe});
    peer.snd_nxt += kMss;
    std::size_t acks = 0;
    for (int i = 0; i < 6; ++i) {
        peer.data(std::string(kMss, 'a'));
        for (const Sent& ack : peer.sent) EXPECT_EQ(ack.flags, kAck | kEce) << "on every ACK";
        acks += peer.sent.size();
    }
    EXPECT_EQ(acks, 3u);
    peer.write(10);
    EXPECT_EQ(peer.output().at(0).flags & kEce, kEce) << "also with data";
    peer.exchange(kAck | kCwr, peer.snd_nxt, peer.rcv_nxt, std::string(kMss, 'a'));
    peer.snd_nxt += kMss;
    peer.data(std::string(kMss, 'a'));
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent.back().flags & kEce, 0);
    EXPECT_EQ(peer.core.counters.congestion_marks_in, 1u);
}

TEST_F(EcnCapable, CwrOnAMarkedSegment_TheNewMarkCounts) {  // 6.1.3: first CWR is looked at, then the mark
    peer.exchange(kAck | kCwr, peer.snd_nxt, peer.rcv_nxt, std::string(kMss, 'a'), {.traffic_class = wire::kEcnCe});
    peer.snd_nxt += kMss;
    peer.data(std::string(kMss, 'a'));
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent.back().flags & kEce, kEce);
}

TEST_F(EcnCapable, Ece_ReducesOnceAWindow_AndSaysCwr) {
    peer.write(10 * kMss);
    ASSERT_EQ(peer.output().size(), 10u);
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    acknowledge(2 * kMss, kEce);
    const std::uint32_t reduced = peer.connection->status().cwnd;
    EXPECT_EQ(reduced, cwnd * 7 / 10) << "RFC 9438 4.6";
    EXPECT_EQ(peer.connection->status().segments_retransmitted, 0u);
    acknowledge(2 * kMss, kEce);
    EXPECT_EQ(peer.connection->status().cwnd, reduced) << "once for the data of a window, and no growth";
    peer.write(10 * kMss);
    acknowledge(6 * kMss);
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.core.counters.congestion_echoes, 1u);
    std::size_t said = 0;
    const auto count = [&] {
        for (const Sent& segment : peer.sent) said += (segment.flags & kCwr) != 0 ? 1u : 0u;
    };
    count();
    EXPECT_EQ(said, 1u);
    for (int i = 0; i < 8 && peer.connection->outstanding() > 0; ++i) {
        acknowledge(kMss);
        count();
    }
    EXPECT_EQ(said, 1u) << "the first new segment alone";
}

TEST_F(EcnCapable, EceAfterATimeout_DoesNotWidenTheWindow) {   // one segment then, which is less than the least threshold
    peer.write(100);
    peer.output();
    peer.after(3s);
    ASSERT_GE(peer.connection->status().timeouts, 1u);
    acknowledge(100);
    peer.write(4 * kMss);
    peer.output();
    const std::uint32_t before = peer.connection->status().cwnd;
    ASSERT_LT(before, 2 * kMss);
    acknowledge(10, kEce);
    EXPECT_EQ(peer.connection->status().cwnd, before);
}

TEST_F(EcnCapable, EceAndAProbeThatRepairedALoss_ReducedOnce) {   // both tell of the same window
    peer.write(10 * kMss);
    peer.output();
    acknowledge(2 * kMss);
    peer.after(15ms);
    ASSERT_EQ(peer.sent.size(), 1u) << "the tail loss probe (RFC 8985 7.3)";
    peer.write(kMss);
    peer.output();
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    acknowledge(9 * kMss, kEce);
    EXPECT_EQ(peer.connection->status().cwnd, cwnd * 7 / 10);
}

TEST_F(EcnCapable, EceHalfTheSequenceSpaceAfterTheLatestReduction_Reduces) {
    ControlBlock& cb = *CoreTestAccess::only(peer.core);
    cb.recovery_point = cb.snd_una - (0x80000000u - 3000);
    peer.write(kMss);
    peer.output();
    acknowledge(kMss);
    peer.write(2 * kMss);
    peer.output();
    acknowledge(2 * kMss, kEce);
    EXPECT_EQ(peer.core.counters.congestion_echoes, 1u);
}

TEST_F(EcnCapable, Ece_FirstNewSegmentSaysCwr) {
    peer.write(2 * kMss);
    peer.output();
    acknowledge(2 * kMss, kEce);
    peer.write(3 * kMss);
    ASSERT_EQ(peer.output().size(), 3u);
    EXPECT_EQ(peer.sent[0].flags & kCwr, kCwr);
    EXPECT_EQ(peer.sent[1].flags & kCwr, 0);
    EXPECT_EQ(peer.sent[0].ecn, wire::kEcnCapable);
}

TEST_F(EcnCapable, LossReduces_FirstNewSegmentSaysCwr) {  // "for any reason": 6.1.2
    peer.write(8 * kMss);
    peer.output();
    const SeqNum una = peer.rcv_nxt;
    for (std::uint32_t i = 2; i <= 5; ++i)
        peer.exchange(kAck, peer.snd_nxt, una, {}, {.sacks = {{(una + kMss).value(), (una + i * kMss).value()}}});
    ASSERT_GT(peer.connection->status().segments_retransmitted, 0u);
    peer.write(4 * kMss);
    acknowledge(8 * kMss);
    ASSERT_FALSE(peer.sent.empty());
    EXPECT_EQ(peer.sent[0].flags & kCwr, kCwr);
}

}  // namespace
}  // namespace sallyport::tcp
