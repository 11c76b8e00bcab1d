#include "peer.h"

#include <gtest/gtest.h>

/// What connections may hold of the packet buffers, all together.
namespace sallyport::tcp::test {
namespace {

using wire::kAck;
using wire::kSyn;

constexpr std::uint32_t kBudget = 400;

class BufferBudget : public testing::Test {
 protected:
    BufferBudget() : peer(Settings{.receive_budget = kBudget, .transmit_budget = kBudget}) {}
    /// Another connection, from a port of its own.
    void connect(std::uint16_t port) {
        while (peer.core.next_ready().connection != nullptr) {   // of the others
        }
        peer.them.port = port;
        peer.snd_nxt = peer.iss + 1;
        peer.ts_echo = 0;
        peer.establish();
    }
    /// Octets out of order, each apart from the others.
    void scatter(int count) {
        for (int i = 0; i < count; ++i) peer.exchange(kAck, peer.snd_nxt + static_cast<std::uint32_t>(2 * i + 1), peer.rcv_nxt, "x");
    }
    Peer peer;
};

TEST_F(BufferBudget, TinySegmentsOutOfOrderOnManyConnections_StayWithinTheBudget) {
    for (std::uint16_t port = 1000; port < 1020; ++port) {
        connect(port);
        scatter(200);
        EXPECT_LE(peer.core.buffers_held(), kBudget);
    }
    EXPECT_GT(peer.drops[DropReason::tcp_memory_pressure], 0u);
    connect(2000);
    peer.data("hello");
    EXPECT_EQ(peer.read(), "hello");
}

TEST_F(BufferBudget, OldestGapsMakeRoom_NewestStay) {
    connect(1000);
    Connection* const oldest = peer.connection;
    scatter(200);
    connect(1001);
    scatter(200);
    EXPECT_EQ(oldest->buffers_held(), 0u);
    EXPECT_GT(peer.connection->buffers_held(), 0u);
    peer.data("ab");   // fills the first gap; what was kept behind it is there
    EXPECT_GE(peer.read().size(), 2u);
}

TEST_F(BufferBudget, PrunedOctetsSentAgain_Arrive) {  // RFC 2018 8
    connect(1000);
    Connection* const first = peer.connection;
    const SeqNum next = peer.snd_nxt, acknowledged = peer.rcv_nxt;
    const std::uint32_t echo = peer.ts_echo;
    peer.exchange(kAck, next + 1, acknowledged, "bc");
    ASSERT_EQ(first->buffers_held(), 1u);
    for (std::uint16_t port = 1001; port < 1005; ++port) {
        connect(port);
        scatter(150);
    }
    ASSERT_EQ(first->buffers_held(), 0u);
    peer.them.port = 1000;
    peer.connection = first;
    peer.snd_nxt = next;
    peer.rcv_nxt = acknowledged;
    peer.ts_echo = echo;
    peer.data("a");
    EXPECT_EQ(peer.read(), "a");
    peer.data("bc");
    EXPECT_EQ(peer.read(), "bc");
}

TEST_F(BufferBudget, SharesBecomeSmallerBeforeBuffersAreShort) {
    connect(1000);
    std::uint32_t before = peer.connection->send_space();
    EXPECT_EQ(before, Settings{}.initial_buffer) << "less than a quarter of the buffers";
    for (std::uint16_t port = 1001; port < 1005; ++port) {
        peer.write(peer.connection->send_space());
        peer.output();
        connect(port);
        EXPECT_LT(peer.connection->send_space(), before);
        before = peer.connection->send_space();
    }
    EXPECT_EQ(peer.core.pressure(), Pressure::none);
}

TEST_F(BufferBudget, UnderPressure_WindowsDoNotGrow) {
    for (std::uint16_t port = 1000; port < 1003; ++port) {
        connect(port);
        for (int i = 0; i < 150; ++i) peer.data(std::string(1000, 'x'));
    }
    EXPECT_LE(peer.core.buffers_held(), kBudget + kBudget / 16);
    connect(2000);
    EXPECT_LE(peer.connection->status().rcv_wnd, 65535u) << "that of the SYN,ACK at most";
    peer.data("hello");
    EXPECT_EQ(peer.read(), "hello") << "one that holds nothing may still receive";
}

TEST_F(BufferBudget, BudgetToSendUsedUp_SpaceIsToldWhenThereIsSome) {
    std::vector<Connection*> connections;
    for (std::uint16_t port = 1000; port < 1030; ++port) {
        connect(port);
        connections.push_back(peer.connection);
        while (const std::uint32_t space = peer.connection->send_space()) {
            const std::vector<std::byte> octets(std::min(space, 1000u));
            if (!peer.connection->send(octets)) break;
            peer.output();
        }
    }
    EXPECT_LE(peer.core.buffers_held(), kBudget + 1);
    EXPECT_EQ(peer.core.pressure(), Pressure::full);
    Connection* const starved = connections.back();
    EXPECT_EQ(starved->send_space(), 0u);
    while (peer.core.next_ready().connection != nullptr) {
    }
    for (Connection* const each : connections)
        if (each != starved && peer.core.pressure() != Pressure::none) each->abort();
    bool told = false;
    for (auto ready = peer.core.next_ready(); ready.connection != nullptr; ready = peer.core.next_ready())
        told |= ready.connection == starved && (ready.events & event::kWritable) != 0;
    EXPECT_TRUE(told);
    EXPECT_GT(starved->send_space(), 0u);
    for (Connection* const each : connections) each->release();
}

TEST_F(BufferBudget, AnotherKeepsMostOfTheBudgetForEver_SpaceIsToldAllTheSame) {
    std::vector<Connection*> connections;
    for (std::uint16_t port = 1000; peer.core.pressure() != Pressure::full; ++port) {
        connect(port);
        connections.push_back(peer.connection);
        while (const std::uint32_t space = peer.connection->send_space()) {
            const std::vector<std::byte> octets(std::min(space, 1000u));
            if (!peer.connection->send(octets)) break;
            peer.output();
        }
    }
    connect(3000);
    Connection* const starved = peer.connection;
    ASSERT_EQ(starved->send_space(), 0u);
    connections.back()->abort();
    ASSERT_EQ(peer.core.pressure(), Pressure::some);
    bool told = false;
    for (auto ready = peer.core.next_ready(); ready.connection != nullptr; ready = peer.core.next_ready())
        told |= ready.connection == starved && (ready.events & event::kWritable) != 0;
    EXPECT_TRUE(told);
    EXPECT_GT(starved->send_space(), 0u);
    for (Connection* const each : connections) each->release();
}

TEST_F(BufferBudget, ReleasedAndUnread_ShedOldestFirst) {
    connect(1000);
    peer.write(5000);
    peer.output();
    peer.connection->release();
    EXPECT_GT(peer.core.buffers_held(), 0u);
    EXPECT_TRUE(peer.core.shed_orphan());
    EXPECT_EQ(peer.core.buffers_held(), 0u);
    EXPECT_FALSE(peer.core.shed_orphan());
}

}  // namespace
}  // namespace sallyport::tcp::test
