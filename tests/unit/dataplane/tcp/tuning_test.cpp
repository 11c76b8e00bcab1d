// What adapts to the path and to the user: sizes of buffers, the pace, Nagle's switch, the user timeout.

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;
using test::Sent;
using wire::kAck;
using wire::kFin;
using wire::kSyn;

constexpr std::uint32_t kMss = 1448;

// ---- buffers ----

Settings large() {
    Settings settings;
    settings.receive_buffer = settings.send_buffer = 4 << 20;
    return settings;
}

/// The peer fills what it may of the window within a round trip; the user reads at once.
void round_trip(Peer& peer, std::uint32_t octets) {
    for (; octets > 0;) {
        const std::uint32_t now = std::min(octets, kMss);
        peer.data(std::string(now, 'a'));
        static_cast<void>(peer.read());
        octets -= now;
    }
    peer.now += 20ms;
    peer.ts += 20;
}

/// A connection whose round trips take 20 ms.
void establish_far(Peer& peer) {
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    peer.rcv_nxt = peer.sent.at(0).seq + 1;
    peer.ts_echo = peer.sent[0].options.timestamps->value;
    peer.now += 20ms;
    peer.ts += 20;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
    peer.connection = peer.core.next_ready().connection;
    ASSERT_NE(peer.connection, nullptr);
    ASSERT_EQ(peer.connection->status().srtt, 20ms);
}

TEST(ReceiveBuffer, UserTakesTheWindowEachRoundTrip_Doubles) {
    Peer peer(large());
    establish_far(peer);
    std::uint32_t window = 0;
    for (int i = 0; i < 9; ++i) {
        round_trip(peer, std::max(window, 60000u));
        window = peer.connection->status().rcv_wnd;
    }
    EXPECT_GT(window, 3u << 20);
    EXPECT_LE(window, 4u << 20) << "the most";
}

TEST(ReceiveBuffer, LittleTraffic_StaysAsItWas) {
    Peer peer(large());
    establish_far(peer);
    for (int i = 0; i < 50; ++i) round_trip(peer, 20000);
    EXPECT_LE(peer.connection->status().rcv_wnd, Settings{}.initial_buffer);
}

TEST(ReceiveBuffer, UserThatReadsSlowly_GetsNoMore) {
    Peer peer(large());
    establish_far(peer);
    for (int i = 0; i < 40; ++i) {
        peer.data(std::string(kMss, 'a'));
        peer.now += 20ms;
        peer.ts += 20;
    }
    EXPECT_LE(peer.connection->readable() + peer.connection->status().rcv_wnd, Settings{}.initial_buffer + 2 * kMss);
}

/// The peer sends until no more than `left` octets of the window are; all is acknowledged, and nothing read yet.
void fill(Peer& peer, std::uint32_t left) {
    peer.establish();
    while (peer.connection->status().rcv_wnd > left) peer.data(std::string(kMss, 'a'));
    peer.after(50ms);
}

TEST(ReceiveBuffer, ReadWhileMuchOfTheWindowIsLeft_CostsNoSegment) {
    Peer peer;
    fill(peer, Settings{}.initial_buffer / 2);
    static_cast<void>(peer.read());
    EXPECT_TRUE(peer.output().empty());
    peer.data(std::string(kMss, 'a'));
    peer.data(std::string(kMss, 'a'));
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_GE(peer.connection->status().rcv_wnd + 2 * kMss, Settings{}.initial_buffer) << "the next ACK tells it";
}

TEST(ReceiveBuffer, ReadWhileLittleOfTheWindowIsLeft_IsToldAtOnce) {
    Peer peer;
    fill(peer, Settings{}.initial_buffer / 5);
    static_cast<void>(peer.read());
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
    EXPECT_GE(peer.connection->status().rcv_wnd + 1000, Settings{}.initial_buffer);
}

/// Until the congestion window is what bounds the send buffer.
void widen(Peer& peer) {
    for (int i = 0; i < 40; ++i) {
        const std::uint32_t space = std::min(peer.connection->send_space(), 40000u);
        if (space > 0) peer.write(space);
        peer.output();
        peer.after(20ms);
        peer.ts += 20;
        peer.ts_echo = peer.sent.empty() ? peer.ts_echo : peer.sent.back().options.timestamps->value;
        const std::uint32_t flight = peer.connection->status().in_flight;
        peer.rcv_nxt += flight;
        peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = 65535});
    }
    ASSERT_GT(2 * peer.connection->status().cwnd, Settings{}.initial_buffer);
}

TEST(SendBuffer, FollowsTheCongestionWindow) {
    Peer peer(large());
    establish_far(peer);
    EXPECT_EQ(peer.connection->send_space(), Settings{}.initial_buffer);
    widen(peer);
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    EXPECT_EQ(peer.connection->send_space() + peer.connection->outstanding(), std::min(2 * cwnd, 4u << 20));
}

TEST(SendBuffer, WhatHasArrivedBehindAGap_MakesRoom) {   // else nothing is left to be sent whose arrival could tell that the retransmission is lost, too
    Peer peer(large());
    establish_far(peer);
    widen(peer);
    while (const std::uint32_t space = peer.connection->send_space()) peer.write(std::min(space, kMss));
    peer.output();
    peer.after(20ms);
    static_cast<void>(peer.events());
    const SeqNum nxt = peer.rcv_nxt + peer.connection->status().in_flight;
    ASSERT_EQ(peer.connection->send_space(), 0u);
    peer.ts += 20;
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, {}, {.window = 65535, .sacks = {{(peer.rcv_nxt + kMss).value(), nxt.value()}}});
    EXPECT_EQ(peer.core.counters.fast_retransmits, 1u);
    EXPECT_EQ(peer.events(), event::kWritable);
    EXPECT_GT(peer.connection->send_space(), 0u);
}

// ---- a saturated worker ----

/// Octets that the connection takes to send until it has no more room.
std::uint32_t fill_send_buffer(Connection& connection) {
    const std::vector<std::byte> octets(kMss, std::byte{'x'});
    while (const std::uint32_t space = connection.send_space()) EXPECT_TRUE(connection.send(std::span(octets).first(std::min(space, kMss))));
    return connection.outstanding();
}

/// Octets that the peer may send until the window is shut, with all read that came before.
std::uint32_t fill_receive_buffer(Peer& peer) {
    static_cast<void>(peer.read());
    peer.output();
    while (const std::uint32_t window = peer.connection->status().rcv_wnd) peer.data(std::string(std::min(window, kMss), 'a'));
    return peer.connection->readable();
}

constexpr std::uint32_t kRecords = 65536, kShared = 110'000;   // what a connection has room for to send at least, and alone
constexpr std::uint32_t kWindow = 140'000;                     // that the peer of one is given at most

/// Shows that it needs a larger window.
void grow_window(Peer& peer) {
    for (int i = 0; i < 3; ++i) round_trip(peer, 100'000);
    ASSERT_GT(fill_receive_buffer(peer), 2 * kWindow);
}

TEST(Saturated, ShortPath_HoldsLess) {
    Peer peer(large());
    peer.establish();
    grow_window(peer);
    peer.core.saturated = true;
    EXPECT_LT(fill_receive_buffer(peer), kWindow);
    const std::uint32_t sent = fill_send_buffer(*peer.connection);
    EXPECT_GE(sent, kRecords);
    EXPECT_LT(sent, kShared);
}

TEST(Saturated, NoLonger_HoldsAsMuchAsBefore) {
    Peer peer(large());
    peer.establish();
    grow_window(peer);
    peer.core.saturated = true;
    ASSERT_LT(fill_receive_buffer(peer), kWindow);
    ASSERT_LT(fill_send_buffer(*peer.connection), kShared);
    peer.core.saturated = false;
    EXPECT_GT(fill_receive_buffer(peer), 2 * kWindow);
    EXPECT_EQ(fill_send_buffer(*peer.connection), Settings{}.initial_buffer);
}

TEST(Saturated, ManyHoldMuch_EachHasRoomForRecords) {
    Peer peer(large());
    std::vector<Connection*> all;
    for (int i = 0; i < 12; ++i) {
        peer.them.port = static_cast<std::uint16_t>(6000 + i);
        peer.ts_echo = 0;
        peer.establish();
        all.push_back(peer.connection);
    }
    peer.core.saturated = true;
    for (Connection* const connection : all) EXPECT_GE(fill_send_buffer(*connection), kRecords);
    EXPECT_EQ(all.back()->outstanding(), kRecords) << "the others hold all of the rest";
}

TEST(Saturated, LongPath_HoldsAsMuchAsItNeeds) {
    Peer peer(large());
    establish_far(peer);
    grow_window(peer);
    peer.core.saturated = true;
    EXPECT_GT(fill_receive_buffer(peer), 2 * kWindow);
    EXPECT_EQ(fill_send_buffer(*peer.connection), Settings{}.initial_buffer);
}

TEST(Saturated, KernelCutsFrames_GetsThemAsLargeAsCanBe) {
    Peer peer(large(), 1500, 40, true);
    peer.establish();
    peer.core.saturated = true;
    EXPECT_EQ(fill_send_buffer(*peer.connection), Settings{}.initial_buffer);
}

TEST(Saturated, DeviceCutsFrames_HoldsLess) {
    Peer peer(large(), 1500, 40);
    peer.establish();
    peer.core.saturated = true;
    const std::uint32_t sent = fill_send_buffer(*peer.connection);
    EXPECT_GE(sent, kRecords);
    EXPECT_LT(sent, kShared);
}

// ---- pace ----

/// Segments with payload of a round trip, by the time at which they left.
std::vector<std::pair<Time, std::size_t>> departures(Peer& peer, Duration duration) {
    std::vector<std::pair<Time, std::size_t>> found;
    const auto note = [&] {
        std::size_t count = 0;
        for (const Sent& segment : peer.sent) count += segment.payload.empty() ? 0u : 1u;
        if (count > 0) found.emplace_back(peer.now, count);
    };
    peer.output();
    note();
    const Time until = peer.now + duration;
    while (peer.core.next_timer() <= until) {
        peer.now = std::max(peer.now, peer.core.next_timer());
        peer.core.advance(peer.now);
        peer.output();
        note();
    }
    peer.now = until;
    return found;
}

/// Grows the window to some 40 segments on a path of 20 ms, with nothing in flight in the end.
void grow(Peer& peer) {
    for (int i = 0; i < 3; ++i) {
        peer.write(std::min(peer.connection->send_space(), 100000u));
        departures(peer, 19ms);
        while (peer.connection->outstanding() > 0) {
            peer.now += 1ms;
            peer.rcv_nxt += peer.connection->status().in_flight;
            peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
        }
    }
}

TEST(Pace, WindowIsSpreadOverTheRoundTrip) {
    Peer peer(large());
    establish_far(peer);
    grow(peer);
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    ASSERT_GT(cwnd, 30 * kMss);
    peer.write(std::min(cwnd, peer.connection->send_space()));
    const auto left = departures(peer, 19ms);
    ASSERT_GE(left.size(), 5u);
    for (const auto& [at, count] : left) EXPECT_LE(count * kMss, std::max(cwnd / 3, 12 * kMss)) << "a burst";
    EXPECT_LE(left.back().first - left.front().first, 15ms) << "faster than the window a round trip, or the pace would be what limits";
    EXPECT_EQ(peer.connection->status().in_flight, peer.connection->outstanding());
}

TEST(Pace, Off_AllAtOnce) {
    Settings settings = large();
    settings.pacing = false;
    Peer peer(settings);
    establish_far(peer);
    grow(peer);
    const std::uint32_t cwnd = peer.connection->status().cwnd;
    peer.write(std::min(cwnd, peer.connection->send_space()) / kMss * kMss);
    EXPECT_EQ(departures(peer, 5ms).size(), 1u);
}

TEST(Pace, InitialWindow_LeavesAtOnce) {  // RFC 6928 3
    Peer peer;
    establish_far(peer);
    peer.write(20 * kMss);
    peer.output();
    EXPECT_EQ(peer.sent.size(), 10u);
}

TEST(Pace, ShortRoundTrip_CostsNothing) {
    Peer peer(large());
    peer.establish();
    for (int i = 0; i < 6; ++i) {
        peer.write(std::min(peer.connection->send_space(), 100000u));
        peer.output();
        while (peer.connection->outstanding() > 0) {
            peer.now += 100us;
            peer.rcv_nxt += peer.connection->status().in_flight;
            peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt);
        }
    }
    const std::uint32_t some = 60 * kMss;
    ASSERT_GT(peer.connection->status().cwnd, some);
    peer.write(some);
    EXPECT_EQ(peer.output().size(), 60u);
}

// ---- Nagle ----

TEST(Nagle, Off_SmallSegmentsLeave) {
    Peer peer;
    peer.establish();
    for (int i = 0; i < 3; ++i) {
        peer.write(10);
        EXPECT_EQ(peer.output().size(), 1u);
    }
}

TEST(Nagle, On_LessThanASegmentWaitsForTheAck) {
    Peer peer;
    peer.establish();
    peer.connection->set_nagle(true);
    peer.write(10);
    EXPECT_EQ(peer.output().size(), 1u) << "nothing is unacknowledged";
    peer.write(10);
    EXPECT_TRUE(peer.output().empty());
    peer.write(kMss);
    ASSERT_EQ(peer.output().size(), 1u) << "a full segment goes";
    EXPECT_EQ(peer.sent[0].payload.size(), kMss);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt + 10 + kMss);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 10u);
}

TEST(Nagle, On_CloseSendsTheRest) {
    Settings settings;
    settings.nagle = true;
    Peer peer(settings);
    peer.establish();
    peer.write(10);
    peer.output();
    peer.write(10);
    peer.connection->close();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].flags & kFin, kFin);
}

TEST(Nagle, SwitchedOff_WhatWaitedLeaves) {
    Peer peer;
    peer.establish();
    peer.connection->set_nagle(true);
    peer.write(10);
    peer.output();
    peer.write(10);
    EXPECT_TRUE(peer.output().empty());
    peer.connection->set_nagle(false);
    EXPECT_EQ(peer.output().size(), 1u);
}

// ---- octets held back ----

/// 100 octets that wait for what comes next.
void hold_back(Peer& peer) {
    peer.establish();
    peer.data("question");
    peer.write(100);
    peer.connection->hold_back();
    EXPECT_TRUE(peer.output().empty());
}

TEST(HoldBack, LeavesWithWhatIsAppendedNext) {
    Peer peer;
    hold_back(peer);
    peer.write(1000);
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 1100u);
    peer.write(10);
    EXPECT_EQ(peer.output().size(), 1u) << "only once";
}

TEST(HoldBack, NothingComesNext_LeavesWithTheAck) {
    Peer peer;
    hold_back(peer);
    peer.after(50ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 100u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
}

TEST(HoldBack, NothingToAcknowledge_LeavesInTimeAllTheSame) {
    Peer peer;
    peer.establish();
    peer.write(100);
    peer.connection->hold_back();
    EXPECT_TRUE(peer.output().empty());
    peer.after(50ms);
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 100u);
}

TEST(HoldBack, AckIsDueAtOnce_LeavesWithIt) {
    Peer peer;
    hold_back(peer);
    peer.data(std::string(kMss, 'a'));
    peer.data(std::string(kMss, 'a'));
    ASSERT_EQ(peer.sent.size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 100u);
    EXPECT_EQ(peer.sent[0].ack, peer.snd_nxt);
}

TEST(HoldBack, MoreThanASegment_Leaves) {
    Peer peer;
    peer.establish();
    peer.write(kMss + 100);
    peer.connection->hold_back();
    EXPECT_EQ(peer.output().size(), 2u) << "a full segment tells the ACK that the rest waits for";
}

TEST(HoldBack, Close_LeavesWithTheFin) {
    Peer peer;
    hold_back(peer);
    peer.connection->close();
    ASSERT_EQ(peer.output().size(), 1u);
    EXPECT_EQ(peer.sent[0].payload.size(), 100u);
    EXPECT_EQ(peer.sent[0].flags & kFin, kFin);
}

TEST(HoldBack, RetransmissionTellsTheAckFirst_LeavesAfterIt) {
    Peer peer;
    peer.establish();
    peer.write(500);
    peer.output();
    peer.after(180ms);   // the retransmission, or the probe before it, comes before the delayed ACK
    std::vector<Sent> all = peer.sent;
    peer.data("question");
    peer.write(100);
    peer.connection->hold_back();
    peer.output();
    all.insert(all.end(), peer.sent.begin(), peer.sent.end());
    const Time begin = peer.now;
    std::size_t held = 0;
    for (int i = 0; i < 100; ++i) {
        peer.after(1ms);
        for (const Sent& segment : peer.sent) held += segment.payload.size() == 100 ? 1u : 0u;
        if (held > 0) break;
    }
    EXPECT_EQ(held, 1u);
    EXPECT_LE(peer.now - begin, 45ms);
}

TEST(HoldBack, NothingUnsent_MeansNothing) {
    Peer peer;
    peer.establish();
    peer.connection->hold_back();
    peer.write(10);
    EXPECT_EQ(peer.output().size(), 1u);
}

// ---- user timeout option ----

Settings telling() {
    Settings settings;
    settings.user_timeout_option = true;
    settings.user_timeout = 100s;
    settings.most_user_timeout = 300s;
    return settings;
}

/// How long an octet that is never acknowledged keeps the connection.
Duration lasts(Peer& peer) {
    peer.write(1);
    peer.output();
    const Time begin = peer.now;
    while (peer.connection->end() == End::none && peer.now - begin < 1000s) {
        peer.now = std::max(peer.now, peer.core.next_timer());
        peer.core.advance(peer.now);
        peer.output();
    }
    return peer.now - begin;
}

TEST(UserTimeout, IsToldInTheSynAck) {
    Peer peer(telling());
    peer.exchange(kSyn, peer.iss, SeqNum{}, {}, {.options = peer.syn_options({})});
    ASSERT_TRUE(peer.sent.at(0).options.user_timeout);
    EXPECT_EQ(peer.sent[0].options.user_timeout->seconds(), 100u);
}

TEST(UserTimeout, OptionOff_IsNotTold_NorFollowed) {
    Peer peer;
    peer.establish({.user_timeout = wire::UserTimeout::of(200)});
    EXPECT_LT(lasts(peer), 105s);
}

TEST(UserTimeout, OfThePeer_IsFollowedBetweenOursAndTheMost) {
    struct Row {
        std::uint32_t told, expected;
    };
    for (const Row row : {Row{10, 100}, Row{200, 200}, Row{3000, 300}, Row{0, 100}}) {
        Peer peer(telling());
        peer.establish({.user_timeout = wire::UserTimeout::of(row.told)});
        const Duration lasted = lasts(peer);
        EXPECT_GE(lasted + 2ms, std::chrono::seconds(row.expected)) << row.told;
        EXPECT_LT(lasted, std::chrono::seconds(row.expected + 5)) << row.told;
    }
}

TEST(UserTimeout, OnALaterSegment_IsFollowed) {  // RFC 5482 3: "may be sent ... at any time"
    Peer peer(telling());
    peer.establish();
    wire::TcpOptions options;
    options.timestamps = {peer.ts, peer.ts_echo};
    options.user_timeout = wire::UserTimeout::of(250);
    peer.exchange(kAck, peer.snd_nxt, peer.rcv_nxt, "x", {.options = options});
    peer.snd_nxt += 1;
    const Duration lasted = lasts(peer);
    EXPECT_GE(lasted + 2ms, 250s);
    EXPECT_LT(lasted, 255s);
}

TEST(UserTimeout, MinutesWhereSecondsDoNotFit) {
    EXPECT_EQ(wire::UserTimeout::of(32767).seconds(), 32767u);
    EXPECT_EQ(wire::UserTimeout::of(40000).seconds(), 40000u / 60 * 60);
    EXPECT_EQ(wire::UserTimeout{0x8002}.seconds(), 120u);
}

}  // namespace
}  // namespace sallyport::tcp
