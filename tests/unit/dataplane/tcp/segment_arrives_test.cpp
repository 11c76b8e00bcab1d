#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;
using wire::kAck;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;

const std::string kFull(1448, 'f');  // a full-sized segment with timestamps

// ---- CLOSED, LISTEN ----

TEST(SegmentArrives, Closed_SynToNoListener_SendsReset) {
    Peer peer;
    peer.core.unlisten(peer.us);
    peer.exchange(kSyn, SeqNum(5000), SeqNum{});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kRst | kAck);
    EXPECT_EQ(peer.sent[0].seq, SeqNum(0));
    EXPECT_EQ(peer.sent[0].ack, SeqNum(5001));
    EXPECT_EQ(peer.drops[DropReason::tcp_no_listener], 1u);
}

TEST(SegmentArrives, Closed_AckOfNoConnection_ResetTakesItsSeqFromTheAck) {
    Peer peer;
    peer.exchange(kAck, SeqNum(5000), SeqNum(77777), "abc");
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kRst);
    EXPECT_EQ(peer.sent[0].seq, SeqNum(77777));
}

TEST(SegmentArrives, Closed_Reset_IsNotAnswered) {
    Peer peer;
    peer.exchange(kRst, SeqNum(5000), SeqNum{});
    EXPECT_TRUE(peer.sent.empty());
}

TEST(SegmentArrives, Listen_Syn_SynAckWithWhatWasOffered) {
    Peer peer;
    peer.exchange(kSyn, SeqNum(5000), SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.sent.size(), 1u);
    const auto& answer = peer.sent[0];
    EXPECT_EQ(answer.flags, kSyn | kAck);
    EXPECT_EQ(answer.ack, SeqNum(5001));
    EXPECT_EQ(answer.options.mss, 1460);
    EXPECT_EQ(answer.options.window_scale, 3);  // 262144 >> 3 fits into 16 bits
    EXPECT_TRUE(answer.options.sack_permitted);
    EXPECT_EQ(answer.options.timestamps->echo, 1000u);
    EXPECT_EQ(peer.core.half_open, 1u);
}

TEST(SegmentArrives, Listen_SynWithoutOptions_NoneAreUsed) {
    Peer peer;
    peer.ts = 0;
    peer.exchange(kSyn, SeqNum(5000), SeqNum{}, {}, {.options = wire::TcpOptions{}});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_FALSE(peer.sent[0].options.window_scale);
    EXPECT_FALSE(peer.sent[0].options.sack_permitted);
    EXPECT_FALSE(peer.sent[0].options.timestamps);
    peer.rcv_nxt = peer.sent[0].seq + 1;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    EXPECT_EQ(peer.core.next_ready().connection->mss(), 536);  // RFC 9293 3.7.1
}

TEST(SegmentArrives, Listen_SynFin_IsDropped) {
    Peer peer;
    EXPECT_TRUE(peer.exchange(kSyn | kFin, SeqNum(5000), SeqNum{}).empty());
    EXPECT_EQ(peer.core.connections(), 0u);
}

// ---- SYN-SENT ----

class SynSent : public testing::Test {
 protected:
    void SetUp() override {
        const auto opened = peer.core.connect(peer.them, 42, 20s, peer.now);
        ASSERT_TRUE(opened);
        peer.connection = *opened;
        peer.our_end = peer.connection->local();
        peer.output();
        ASSERT_EQ(peer.sent.size(), 1u);
        ASSERT_EQ(peer.sent[0].flags, kSyn);
        iss = peer.sent[0].seq;
        peer.ts_echo = peer.sent[0].options.timestamps->value;
    }
    Peer peer;
    SeqNum iss;
};

TEST_F(SynSent, SynAck_Establishes) {
    peer.exchange(kSyn | kAck, peer.iss, iss + 1, {}, {.options = peer.syn_options({.mss = 1000})});
    EXPECT_EQ(peer.connection->state(), State::established);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[0].ack, peer.iss + 1);
    EXPECT_EQ(peer.events(), event::kEstablished);
    EXPECT_EQ(peer.connection->mss(), 988);
    EXPECT_EQ(peer.connection->user, 42u);
}

TEST_F(SynSent, SynAckToOneThatSpeaksFirst_ItsOctetsAcknowledge) {
    peer.connection->speak_first();
    peer.exchange(kSyn | kAck, peer.iss, iss + 1, {}, {.options = peer.syn_options({.mss = 1000})});
    EXPECT_EQ(peer.connection->state(), State::established);
    EXPECT_EQ(peer.events(), event::kEstablished);
    EXPECT_TRUE(peer.sent.empty());
    ASSERT_TRUE(peer.connection->send(std::as_bytes(std::span("hello", 5))));
    peer.output();
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 5u);
    EXPECT_EQ(peer.sent[0].ack, peer.iss + 1);
    peer.after(1s);
    for (const auto& segment : peer.sent) EXPECT_FALSE(segment.payload.empty()) << "an ACK of its own";
}

TEST_F(SynSent, SynAckToOneThatWouldSpeakFirstAndDoesNot_IsAcknowledgedInTime) {   // RFC 9293 3.8.6.3: less than half a second
    peer.connection->speak_first();
    peer.exchange(kSyn | kAck, peer.iss, iss + 1, {}, {.options = peer.syn_options({.mss = 1000})});
    EXPECT_TRUE(peer.sent.empty());
    peer.after(50ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[0].ack, peer.iss + 1);
}

TEST_F(SynSent, AckOfUnsentData_SendsResetAndSynAgain) {
    peer.exchange(kAck, peer.iss, iss + 2);  // a TIME-WAIT of an earlier connection answers our SYN so (RFC 9293 3.5.1)
    ASSERT_EQ(peer.sent.size(), 2u);
    EXPECT_EQ(peer.sent[0].flags, kRst);
    EXPECT_EQ(peer.sent[0].seq, iss + 2);
    EXPECT_EQ(peer.sent[1].flags, kSyn);
    EXPECT_EQ(peer.sent[1].seq, iss);
    EXPECT_EQ(peer.connection->state(), State::syn_sent);
    peer.exchange(kAck, peer.iss, iss + 2);
    ASSERT_EQ(peer.sent.size(), 1u) << "once only: the timer has the rest";
    EXPECT_EQ(peer.sent[0].flags, kRst);
}

TEST_F(SynSent, AfterARestart_TimestampsGoOn) {
    // RFC 6191 2: a TIME-WAIT of before takes the SYN for a new connection when its timestamp is later.
    const auto later_than_before = [&](std::uint16_t port, std::uint32_t base, std::uint8_t secret) {
        Settings settings;
        settings.secret[0] = secret;
        settings.timestamp_secret[0] = 7;
        settings.timestamp_base = base;
        settings.port_low = settings.port_high = port;
        Peer restarted(settings);
        EXPECT_TRUE(restarted.core.connect(restarted.them, 1, 20s, restarted.now));
        restarted.output();
        return restarted.sent.at(0).options.timestamps->value;
    };
    for (std::uint16_t port = 20000; port < 20032; ++port) {
        const std::uint32_t before = later_than_before(port, 4'294'000'000u, 1);
        EXPECT_EQ(later_than_before(port, 4'294'000'000u + 5'000'000u, 2), before + 5'000'000u);
    }
}

TEST_F(SynSent, ResetWithAck_Refused) {
    peer.exchange(kRst | kAck, SeqNum(0), iss + 1);
    EXPECT_EQ(peer.events(), event::kEnded);
    EXPECT_EQ(peer.connection->end(), End::refused);
    peer.connection->release();
}

TEST_F(SynSent, ResetWithoutAck_IsDropped) {
    peer.exchange(kRst, SeqNum(0), SeqNum{});
    EXPECT_EQ(peer.connection->state(), State::syn_sent);
}

TEST_F(SynSent, Syn_SimultaneousOpen) {  // RFC 9293 3.5, figure 7
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    EXPECT_EQ(peer.connection->state(), State::syn_received);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kSyn | kAck);
    EXPECT_EQ(peer.sent[0].seq, iss);
    // Their SYN,ACK begins before the window: our ACK of it lets them go on, as theirs of ours does with us.
    peer.exchange(kSyn | kAck, peer.iss, iss + 1, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[0].ack, peer.iss + 1);
    peer.exchange(kAck, peer.iss + 1, iss + 1);
    EXPECT_EQ(peer.connection->state(), State::established);
}

TEST_F(SynSent, SynThenSynAck_SimultaneousOpenOfTwoLikeUs) {  // RFC 9293 3.5, figure 7, line 6: its SYN,ACK is the only ACK that the peer sends
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.connection->state(), State::syn_received);
    peer.exchange(kSyn | kAck, peer.iss, iss + 1, {}, {.window = 1000, .options = peer.syn_options({})});
    EXPECT_EQ(peer.connection->state(), State::established);
    EXPECT_EQ(peer.connection->status().snd_wnd, 1000u) << "the window of a SYN is not scaled";
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[0].ack, peer.iss + 1);
    EXPECT_EQ(peer.sent[0].seq, iss + 1);
}

TEST_F(SynSent, SynThenSynAckOfSomethingElse_IsNotBelieved) {
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    peer.exchange(kSyn | kAck, peer.iss, iss + 2, {}, {.options = peer.syn_options({})});
    EXPECT_EQ(peer.connection->state(), State::syn_received);
}

TEST_F(SynSent, NoAnswer_SynAgainThenTimedOut) {
    peer.after(19s);
    ASSERT_GE(peer.sent.size(), 3u);  // after 1, 3, 7, 15 s
    for (const auto& segment : peer.sent) EXPECT_EQ(segment.flags, kSyn);
    peer.after(2s);
    EXPECT_EQ(peer.events(), event::kEnded);
    EXPECT_EQ(peer.connection->end(), End::timed_out);
    peer.connection->release();
    EXPECT_EQ(peer.core.connections(), 0u);
}

TEST_F(SynSent, IcmpHardError_Unreachable) {
    using What = network::Received::IcmpError::What;
    peer.icmp(What::hard_unreachable, iss + 5, 0);
    EXPECT_EQ(peer.connection->state(), State::syn_sent) << "outside the window: forged";
    peer.icmp(What::soft_unreachable, iss, 0);
    EXPECT_EQ(peer.connection->state(), State::syn_sent);
    peer.icmp(What::hard_unreachable, iss, 0);
    EXPECT_EQ(peer.connection->end(), End::unreachable);
    peer.connection->release();
}

// ---- SYN-RECEIVED ----

TEST(SegmentArrives, SynReceived_SynAgain_SynAckAgain) {
    Peer peer;
    const auto options = peer.syn_options({});
    const SeqNum first = peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = options})[0].seq;
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = options});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kSyn | kAck);
    EXPECT_EQ(peer.sent[0].seq, first);
}

TEST(SegmentArrives, SynReceived_WrongAck_Reset) {
    Peer peer;
    const SeqNum iss = peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})})[0].seq;
    peer.exchange(kAck, peer.snd_nxt, iss + 2);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kRst);
    EXPECT_EQ(peer.core.half_open, 1u);
}

TEST(SegmentArrives, SynReceived_Unacceptable_IsAcknowledged) {  // RFC 9293 3.10.7.4, first, second and fourth step
    Peer peer;
    const SeqNum iss = peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})})[0].seq;
    peer.rcv_nxt = iss + 1;
    struct {
        std::uint8_t flags;
        std::uint32_t beyond;
    } const segments[] = {{kAck, 0x10000000}, {kRst, 1}, {kSyn, 500}};
    for (const auto& [flags, beyond] : segments) {
        peer.exchange(flags, peer.snd_nxt + beyond, peer.rcv_nxt);
        ASSERT_EQ(peer.sent.size(), 1u);
        EXPECT_EQ(peer.sent[0].flags, kAck);
        EXPECT_EQ(peer.sent[0].seq, iss + 1);
        EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
        EXPECT_EQ(peer.core.half_open, 1u);
    }
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    EXPECT_EQ(peer.events(), event::kEstablished);
}

TEST(SegmentArrives, SynReceived_Reset_GoneWithoutAWord) {
    Peer peer;
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    peer.exchange(kRst, peer.snd_nxt, SeqNum{});
    EXPECT_EQ(peer.core.connections(), 0u);
    EXPECT_EQ(peer.core.half_open, 0u);
    EXPECT_EQ(peer.events(), 0);
}

TEST(SegmentArrives, SynReceived_NoAck_GoneAfterTimeout) {
    Peer peer;
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    peer.after(21s);
    EXPECT_EQ(peer.core.connections(), 0u);
}

TEST(SegmentArrives, SynReceived_AckWithData_EstablishedAndReadable) {
    Peer peer;
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    peer.arrives(kAck | kPsh, peer.snd_nxt, peer.sent[0].seq + 1, "hello");
    const auto ready = peer.core.next_ready();
    ASSERT_NE(ready.connection, nullptr);
    EXPECT_EQ(ready.events, event::kEstablished | event::kReadable);
    peer.connection = ready.connection;
    EXPECT_EQ(peer.read(), "hello");
}

TEST(SegmentArrives, Listen_TooManyHalfOpen_CookieKeepsOptions) {
    Settings settings;
    settings.max_half_open = 0;
    Peer peer(settings);
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({.mss = 1400, .window_scale = 5})});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.core.connections(), 0u);
    peer.rcv_nxt = peer.sent[0].seq + 1;
    peer.ts_echo = peer.sent[0].options.timestamps->value;
    // A guess does nothing, and gets no answer.
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    EXPECT_TRUE(peer.sent.empty());
    EXPECT_EQ(peer.drops[DropReason::tcp_bad_cookie], 1u);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "x", {.window = 1000});
    peer.connection = peer.core.next_ready().connection;
    ASSERT_NE(peer.connection, nullptr);
    EXPECT_EQ(peer.connection->mss(), 1388);
    EXPECT_EQ(peer.connection->status().snd_wnd, 1000u << 5);
    EXPECT_TRUE(peer.connection->status().sack);
    EXPECT_EQ(peer.core.counters.cookies_accepted, 1u);
}

TEST(SegmentArrives, Listen_OldCookie_IsRefused) {
    Settings settings;
    settings.max_half_open = 0;
    Peer peer(settings);
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    const SeqNum ack = peer.sent[0].seq + 1;
    peer.now += 200s;
    peer.exchange(kAck, peer.snd_nxt, ack);
    EXPECT_EQ(peer.core.connections(), 0u);
}

// ---- ESTABLISHED: sequence, RST, SYN, ACK ----

class Established : public testing::Test {
 protected:
    void SetUp() override { peer.establish(); }
    /// The connection was aborted: all that is sent is a reset, and its user hears nothing.
    void expect_reset() {
        peer.sent.clear();
        peer.collect();
        ASSERT_EQ(peer.sent.size(), 1u);
        EXPECT_EQ(peer.sent[0].flags, kRst | kAck);
        EXPECT_EQ(peer.connection->end(), End::aborted);
        EXPECT_EQ(peer.events(), 0);
    }
    Peer peer;
};

TEST_F(Established, InOrderData_ReadableAndAcknowledgedLater) {
    EXPECT_TRUE(peer.data("hello").empty());
    EXPECT_EQ(peer.events(), event::kReadable);
    peer.after(45ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
    EXPECT_EQ(peer.read(), "hello");
}

TEST_F(Established, TwoFullSegments_AcknowledgedAtOnce) {
    EXPECT_TRUE(peer.data(kFull).empty());
    ASSERT_EQ(peer.data(kFull).size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
}

TEST_F(Established, BurstOfSegments_OneAck) {
    for (int i = 0; i < 10; ++i) peer.arrives(kAck, peer.snd_nxt + static_cast<std::uint32_t>(i) * 1448, peer.rcv_nxt, kFull);
    EXPECT_EQ(peer.output().size(), 1u);
}

TEST_F(Established, ChainedBuffers_AreTakenApart) {
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "hello world", {.chained = 4});
    EXPECT_EQ(peer.read(), "hello world");
}

TEST_F(Established, OutOfOrder_SackedAndDeliveredWhenTheGapIsFilled) {
    const SeqNum start = peer.snd_nxt;
    peer.exchange(kAck, start + 5, peer.rcv_nxt, "world");
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, start);
    ASSERT_EQ(peer.sent[0].options.sack_count, 1);
    EXPECT_EQ(peer.sent[0].options.sack_blocks[0], (wire::SackBlock{(start + 5).value(), (start + 10).value()}));
    EXPECT_EQ(peer.events(), 0);
    peer.exchange(kAck, start, peer.rcv_nxt, "hello");
    ASSERT_EQ(peer.sent.size(), 1u) << "at once (RFC 5681 4.2)";
    EXPECT_EQ(peer.sent[0].ack, start + 10);
    EXPECT_EQ(peer.sent[0].options.sack_count, 0);
    EXPECT_EQ(peer.read(), "helloworld");
}

TEST_F(Established, OldSegment_AckWithDuplicateReport) {  // RFC 2883 4
    peer.data("hello");
    peer.exchange(kAck, peer.snd_nxt - 5, peer.rcv_nxt, "hello");
    ASSERT_EQ(peer.sent.size(), 1u);
    ASSERT_EQ(peer.sent[0].options.sack_count, 1);
    EXPECT_EQ(peer.sent[0].options.sack_blocks[0].end, peer.snd_nxt.value());
    EXPECT_EQ(peer.read(), "hello");
}

TEST_F(Established, PartlyOldSegment_OnlyTheNewOctets) {
    peer.data("hello");
    peer.exchange(kAck, peer.snd_nxt - 3, peer.rcv_nxt, "llo world");
    EXPECT_EQ(peer.read(), "hello world");
}

TEST_F(Established, BeyondTheWindow_IsCut) {
    peer.connection->set_receive_limit(0);
    const std::uint32_t window = peer.connection->status().rcv_wnd;
    const std::string big(1000, 'b');
    peer.exchange(kAck, peer.snd_nxt + window - 10, peer.rcv_nxt, big);
    EXPECT_EQ(peer.drops[DropReason::tcp_receive_full], 1u);
    EXPECT_EQ(peer.sent[0].options.sack_blocks[0].end, (peer.snd_nxt + window).value());
    peer.exchange(kAck, peer.snd_nxt + window, peer.rcv_nxt, big);
    EXPECT_EQ(peer.drops[DropReason::tcp_out_of_window], 1u);
    EXPECT_EQ(peer.sent.size(), 1u);
}

TEST_F(Established, AckAtTheEdgeOfTheWindow_IsTaken) {  // so acknowledges a peer that has filled the window, with a hole in it
    peer.write(6);
    ASSERT_EQ(peer.output().size(), 1u);
    peer.rcv_nxt += 6;
    const std::uint32_t window = peer.connection->status().rcv_wnd;
    peer.exchange(kAck, peer.snd_nxt + window + 1, peer.rcv_nxt);
    EXPECT_EQ(peer.drops[DropReason::tcp_out_of_window], 1u);
    EXPECT_EQ(peer.connection->status().in_flight, 6u);
    peer.exchange(kAck, peer.snd_nxt + window, peer.rcv_nxt);
    EXPECT_EQ(peer.drops[DropReason::tcp_out_of_window], 1u);
    EXPECT_EQ(peer.connection->status().in_flight, 0u);
}

TEST_F(Established, Reset_OnlyWithTheExactSeq) {  // RFC 5961 3.2
    peer.exchange(kRst, peer.snd_nxt + 1, SeqNum{});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.connection->state(), State::established);
    peer.exchange(kRst, peer.snd_nxt - 1, SeqNum{});
    EXPECT_TRUE(peer.sent.empty());
    peer.exchange(kRst, peer.snd_nxt, SeqNum{});
    EXPECT_TRUE(peer.sent.empty());
    EXPECT_EQ(peer.events(), event::kEnded);
    EXPECT_EQ(peer.connection->end(), End::reset);
    peer.connection->release();
}

TEST_F(Established, ResetAfterData_DataIsStillReadable) {
    peer.data("hello");
    peer.exchange(kRst, peer.snd_nxt, SeqNum{});
    EXPECT_EQ(peer.events(), event::kReadable | event::kEnded);
    EXPECT_EQ(peer.read(), "hello");
    peer.connection->release();
}

TEST_F(Established, Syn_ChallengeAck) {  // RFC 5961 4.2
    peer.exchange(kSyn, peer.snd_nxt + 10, SeqNum{});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    EXPECT_EQ(peer.sent[0].seq, peer.rcv_nxt);
    EXPECT_EQ(peer.connection->state(), State::established);
}

TEST_F(Established, FloodOfChallenges_IsLimited) {
    std::size_t answers = 0;
    for (int i = 0; i < 100; ++i) answers += peer.exchange(kSyn, peer.snd_nxt + 10, SeqNum{}).size();
    EXPECT_EQ(answers, 10u);
    EXPECT_EQ(peer.drops[DropReason::tcp_challenge_limited], 90u);
    peer.now += 300ms;
    EXPECT_EQ(peer.exchange(kSyn, peer.snd_nxt + 10, SeqNum{}).size(), 1u);
}

TEST_F(Established, AckOfUnsent_AckAndDrop) {
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 1, "hello");
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.connection->readable(), 0u);
}

TEST_F(Established, AckFarInThePast_IsAnInjection) {  // RFC 5961 5.2
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt - 20'000'000, "hello");
    EXPECT_EQ(peer.drops[DropReason::tcp_unacceptable_ack], 1u);
    EXPECT_EQ(peer.connection->readable(), 0u);
}

TEST_F(Established, NoAckBit_IsDropped) {
    EXPECT_TRUE(peer.exchange(0, peer.snd_nxt, SeqNum{}, "hello").empty());
    EXPECT_EQ(peer.drops[DropReason::tcp_no_ack], 1u);
}

TEST_F(Established, OldTimestamp_Paws) {  // RFC 7323 5.3
    peer.ts = 2000;
    peer.data("hello");
    peer.ts = 1999;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "again");
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.drops[DropReason::tcp_paws], 1u);
    EXPECT_EQ(peer.read(), "hello");
}

TEST_F(Established, SegmentWithoutTimestamp_IsDropped) {  // RFC 7323 3.2
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "hello", {.options = wire::TcpOptions{}});
    EXPECT_EQ(peer.connection->readable(), 0u);
}

TEST_F(Established, UrgentPointer_OctetsInLine) {  // RFC 6093
    peer.data("hello", kAck | wire::kUrg);
    EXPECT_EQ(peer.read(), "hello");
}

// ---- closing ----

TEST_F(Established, PeerFinWithData_CloseWait) {
    peer.data("bye", kAck | kFin);
    EXPECT_EQ(peer.events(), event::kReadable | event::kPeerClosed);
    EXPECT_TRUE(peer.sent.empty()) << "our user may answer or close at once";
    peer.after(50ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
    EXPECT_EQ(peer.connection->state(), State::close_wait);
    EXPECT_FALSE(peer.connection->peer_finished());
    EXPECT_EQ(peer.read(), "bye");
    EXPECT_TRUE(peer.connection->peer_finished());
    peer.write(10);  // half-closed: we still may send
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 10u);
    peer.connection->close();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kFin | kAck | kPsh);
    EXPECT_EQ(peer.connection->state(), State::last_ack);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 11);
    EXPECT_EQ(peer.events() & event::kEnded, event::kEnded);
    EXPECT_EQ(peer.connection->end(), End::finished);
    EXPECT_EQ(peer.core.connections(), 0u);
    peer.connection->release();
}

TEST_F(Established, PeerFinAndWeCloseAtOnce_OurFinAcknowledgesIt) {
    peer.data({}, kAck | kFin);
    EXPECT_EQ(peer.connection->state(), State::close_wait);
    peer.connection->close();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].flags & (kFin | kAck), kFin | kAck);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
    EXPECT_EQ(peer.connection->state(), State::last_ack);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    peer.connection->release();
}

TEST_F(Established, WeCloseFirst_TimeWaitForTwoMsl) {
    peer.connection->close();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.connection->state(), State::fin_wait_1);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    EXPECT_EQ(peer.connection->state(), State::fin_wait_2);
    peer.rcv_nxt += 1;
    peer.data("late", kAck | kFin);
    EXPECT_EQ(peer.connection->state(), State::time_wait);
    EXPECT_EQ(peer.read(), "late");
    EXPECT_EQ(peer.connection->end(), End::finished);
    peer.connection->release();
    EXPECT_EQ(peer.core.connections(), 1u);
    peer.exchange(kRst, peer.snd_nxt, SeqNum{});  // RFC 1337
    EXPECT_EQ(peer.core.connections(), 1u);
    peer.after(59s);
    EXPECT_EQ(peer.core.connections(), 1u);
    peer.after(2s);
    EXPECT_EQ(peer.core.connections(), 0u);
}

TEST_F(Established, TimeWait_FinOrTextComesAgain_TwoMslBeginAnew) {   // RFC 9293 3.10.7.4, eighth
    peer.connection->close();
    peer.output();
    peer.rcv_nxt += 1;
    peer.data("late", kAck | kFin);
    ASSERT_EQ(peer.connection->state(), State::time_wait);
    peer.connection->release();
    peer.after(50s);
    peer.exchange(kAck | kFin, peer.snd_nxt - 5, peer.rcv_nxt, "late");
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
    peer.after(50s);
    EXPECT_EQ(peer.core.connections(), 1u) << "two MSL after the FIN that came again";
    peer.exchange(kAck, peer.snd_nxt - 5, peer.rcv_nxt, "late");   // the first of several segments that were not acknowledged
    peer.after(50s);
    EXPECT_EQ(peer.core.connections(), 1u);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);               // an ACK asks for nothing
    peer.after(11s);
    EXPECT_EQ(peer.core.connections(), 0u);
}

TEST_F(Established, SimultaneousClose_Closing) {
    peer.connection->close();
    peer.output();
    peer.exchange(kFin | kAck, peer.snd_nxt, peer.rcv_nxt);
    EXPECT_EQ(peer.connection->state(), State::closing);
    peer.exchange(kAck, peer.snd_nxt + 1, peer.rcv_nxt + 1);
    EXPECT_EQ(peer.connection->state(), State::time_wait);
    peer.connection->release();
}

TEST_F(Established, FinOutOfOrder_IsTakenWhenTheGapIsFilled) {
    peer.exchange(kFin | kAck, peer.snd_nxt + 5, peer.rcv_nxt, "world");
    EXPECT_EQ(peer.connection->state(), State::established);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "hello");
    EXPECT_EQ(peer.connection->state(), State::close_wait);
    EXPECT_EQ(peer.sent.back().ack, peer.snd_nxt + 11);
    EXPECT_EQ(peer.read(), "helloworld");
}

TEST_F(Established, BareFinOutOfOrder_IsAcknowledgedWhenTheGapIsFilled) {   // RFC 5681 4.2: at once
    peer.exchange(kFin | kAck, peer.snd_nxt + 5, peer.rcv_nxt);
    EXPECT_EQ(peer.connection->state(), State::established);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "hello");
    EXPECT_EQ(peer.connection->state(), State::close_wait);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt + 6);
}

TEST_F(Established, ReleasedThenData_Reset) {  // RFC 9293 3.10.7.4, RFC 2525 2.17
    peer.connection->release();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].flags & kFin, kFin);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "hello");
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags & kRst, kRst);
    EXPECT_EQ(peer.core.connections(), 0u);
}

TEST_F(Established, ReleasedAndPeerSilent_GoneAfterUserTimeout) {
    peer.connection->release();
    peer.after(200s);
    EXPECT_EQ(peer.core.connections(), 0u);
    EXPECT_EQ(peer.core.buffers_held(), 0u);
}

TEST_F(Established, Abort_SendsReset) {
    peer.write(100);
    peer.connection->abort();
    expect_reset();
    peer.connection->release();
}

TEST_F(Established, AbortAll_SendsResetAndLeavesTheConnectionToItsUser) {
    peer.write(100);
    peer.core.abort_all();
    expect_reset();
    peer.connection->release();
    EXPECT_EQ(peer.core.connections(), 0u);
    EXPECT_EQ(peer.core.buffers_held(), 0u);
}

TEST_F(Established, AbortAll_ReleasedOnesAreGone) {
    peer.write(100);
    peer.connection->release();
    peer.core.abort_all();
    EXPECT_EQ(peer.core.connections(), 0u);
    EXPECT_EQ(peer.core.buffers_held(), 0u);
}

TEST_F(Established, AbortAll_TimeWaitStays) {
    peer.connection->close();
    peer.output();
    peer.exchange(kFin | kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    ASSERT_EQ(peer.connection->state(), State::time_wait);
    peer.sent.clear();
    peer.core.abort_all();
    peer.collect();
    EXPECT_TRUE(peer.sent.empty());
    EXPECT_EQ(peer.core.connections(), 1u);
    peer.connection->release();
}

TEST_F(Established, TimeWait_NewSyn_OpensAgain) {  // RFC 6191
    peer.connection->close();
    peer.output();
    peer.exchange(kFin | kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    ASSERT_EQ(peer.connection->state(), State::time_wait);
    peer.connection->release();
    peer.exchange(kSyn, SeqNum(1), SeqNum{}, {}, {.options = peer.syn_options({})});  // same timestamp, older sequence number
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    peer.ts += 1;
    peer.exchange(kSyn, SeqNum(1), SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kSyn | kAck);
    EXPECT_TRUE(peer.sent[0].seq.after(peer.rcv_nxt + 1)) << "above what has been used, wherever the clock of ISNs is (RFC 9293 3.6.1)";
    EXPECT_EQ(peer.core.connections(), 1u);
}

TEST_F(Established, TimeWait_NewSynUnderPressure_StaysTimeWait) {  // a cookie would be anywhere
    peer.connection->close();
    peer.output();
    peer.exchange(kFin | kAck, peer.snd_nxt, peer.rcv_nxt + 1);
    peer.connection->release();
    peer.core.half_open = Settings{}.max_half_open;
    peer.ts += 1;
    peer.exchange(kSyn, SeqNum(1), SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].flags, kAck);
    peer.core.half_open = 0;
}

}  // namespace
}  // namespace sallyport::tcp
