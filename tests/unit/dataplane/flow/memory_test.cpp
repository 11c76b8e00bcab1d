#include "world.h"

/// Packet buffers are bounded over all flows: whoever holds them without need does not stop the others.
namespace sallyport::flow::test {
namespace {

constexpr std::uint32_t kBudget = 1200;

/// Moves octets both ways on a fresh flow and closes it.
void expect_service(World& world) {
    Session& s = world.open();
    const Octets up = random_octets(world.random(), 100'000), down = random_octets(world.random(), 100'000);
    s.client.send(up);
    s.backend.send(down);
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == up.size() && s.client.data.size() == down.size(); }, 60s));
    EXPECT_EQ(s.backend.data, up);
    EXPECT_EQ(s.client.data, down);
    s.client.close_in_order();
    s.backend.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::finished);
}

std::uint64_t shed(World& world) { return world.engine().counters().ended_by[static_cast<std::size_t>(EndReason::out_of_memory)]; }

TEST(FlowMemory, ClientsThatNeverRead_OthersAreServed) {
    World world({.idle_timeout = 3600s, .receive_budget = kBudget, .transmit_budget = kBudget});
    for (int i = 0; i < 100; ++i) {
        Session& s = world.open();
        s.client.read_limit = 0;
        s.backend.send(Octets(400'000, std::byte{1}));
        world.run_for(20ms);
        ASSERT_LE(world.appliance().stack.buffers_held(), 2 * kBudget + kBudget / 16);
    }
    world.run_for(5s);
    EXPECT_GT(shed(world), 0u) << "a hundred at 17 segments each, the least that a flow may hold, are more than there is";
    EXPECT_LT(shed(world), 80u) << "those that are left have what they may hold";
    expect_service(world);
}

TEST(FlowMemory, BackendsThatNeverRead_OthersAreServed) {
    World world({.idle_timeout = 3600s, .receive_budget = kBudget, .transmit_budget = kBudget});
    for (int i = 0; i < 100; ++i) {
        Session& s = world.open();
        s.backend.read_limit = 0;
        s.client.send(Octets(600'000, std::byte{1}));
        world.run_for(20ms);
        ASSERT_LE(world.appliance().stack.buffers_held(), 2 * kBudget + kBudget / 16);
    }
    world.run_for(5s);
    expect_service(world);
}

TEST(FlowMemory, FewStuckFlows_NobodyIsShed) {
    World world({.idle_timeout = 3600s, .receive_budget = kBudget, .transmit_budget = kBudget});
    for (int i = 0; i < 12; ++i) {   // full windows of four would be all there is
        Session& s = world.open();
        s.client.read_limit = 0;
        s.backend.send(Octets(400'000, std::byte{1}));
        world.run_for(20ms);
    }
    world.run_for(5s);
    EXPECT_EQ(shed(world), 0u);
    expect_service(world);
    for (std::size_t i = 0; i < 12; ++i) {   // and what waited arrives
        Session& s = world.session(i);
        s.client.read_limit = ~std::size_t{0};
    }
    ASSERT_TRUE(world.run_until([&] {
        for (std::size_t i = 0; i < 12; ++i)
            if (world.session(i).client.data.size() != 400'000) return false;
        return true;
    }, 120s));
}

/// Slow readers make some progress all the time; a handshake makes none while control thinks, and holds less than any of them.
TEST(FlowMemory, SlowReadersHoldAll_HandshakeThatWaitsIsNotShedInTheirPlace) {
    World world({.handshake_timeout = 60s, .receive_budget = kBudget, .transmit_budget = kBudget});
    std::vector<Session*> readers;
    const auto another = [&] {
        Session& s = world.open();
        s.client.read_limit = s.client.octets_read;
        s.backend.send(Octets(128 * 1024 + 60'000, std::byte{1}));   // what its TCP takes, and what stays with us
        readers.push_back(&s);
    };
    const auto read_slowly = [&] {
        for (Session* const s : readers) s->client.read_limit = s->client.octets_read + 3000;
        world.run_for(1s);
    };
    while (shed(world) == 0 && readers.size() < 100) {
        another();
        world.run_for(20ms);
    }
    ASSERT_GT(shed(world), 0u);

    Session& waiting = world.connect();
    waiting.client.send_raw(Octets(20'000, std::byte{22}));   // a long certificate message, say
    world.intercept = [&](const channel::Message& message) {
        return waiting.id != FlowId{} && message.flow() == waiting.id && message.type() == channel::MessageType::stream_octets;
    };
    const std::uint64_t before = shed(world);
    for (int i = 0; i < 10; ++i) {
        for (int j = 0; j < 4; ++j) another();
        read_slowly();
    }
    EXPECT_GT(shed(world), before + 5) << "more slow readers than there is memory for";
    EXPECT_FALSE(waiting.client.gone()) << "it holds less than any of them";
}

TEST(FlowMemory, ClientsThatLeaveWithoutReading_TheirRestIsShedFirst) {
    World world({.idle_timeout = 3600s, .receive_budget = kBudget, .transmit_budget = kBudget});
    for (int i = 0; i < 60; ++i) {
        Session& s = world.open();
        s.client.read_limit = 0;
        s.backend.send(Octets(200'000, std::byte{1}));
        s.backend.close_in_order();
        s.client.close_in_order();
        world.run_for(3s);   // lingers, then is TCP's alone
    }
    expect_service(world);
}

}  // namespace
}  // namespace sallyport::flow::test
