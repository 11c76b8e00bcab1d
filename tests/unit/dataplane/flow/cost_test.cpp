#include <cstdlib>
#include <new>

#include "dataplane/tcp/control_block.h"
#include "world.h"

/// What the packet path may cost, by counting: none of this depends on a clock or on the machine.

// Not inlined, or the compiler sees what new has given freed by free().
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++sallyport::flow::test::allocations;
    if (void* const memory = std::malloc(size); memory != nullptr) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    ++sallyport::flow::test::allocations;
    return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace sallyport::flow::test {
namespace {

constexpr std::size_t kFlows = 32;

/// Each client's request and then each member's answer, all at once.
void exchange(World& world, std::vector<Session*>& sessions, std::size_t length) {
    for (const bool up : {true, false}) {
        for (Session* const s : sessions) {
            s->client.data.clear();
            s->backend.data.clear();
            (up ? s->client : s->backend).send(Octets(length, std::byte{7}));
        }
        ASSERT_TRUE(world.run_until([&] { return std::ranges::all_of(sessions, [&](const Session* s) { return (up ? s->backend : s->client).data.size() == length; }); }, 5s));
    }
    world.run_for(100ms);   // ACKs
}

std::vector<Session*> open_flows(World& world) {
    std::vector<Session*> sessions;
    for (std::size_t i = 0; i < kFlows; ++i) sessions.push_back(&world.open());
    exchange(world, sessions, 1000);   // whatever grows once has grown
    return sessions;
}

// Records that arrive in one burst are opened in one batch and sealed in one, whosever they are, and each key is made ready once for each.
TEST(FlowCost, BurstOfManyFlows_TwoBatches) {
    World world({});
    auto sessions = open_flows(world);
    const auto before = world.appliance_records();
    exchange(world, sessions, 1000);
    const auto& after = world.appliance_records();
    EXPECT_EQ(after.opened - before.opened, 2 * kFlows);
    EXPECT_EQ(after.sealed - before.sealed, 2 * kFlows);
    EXPECT_EQ(after.flushes - before.flushes, 4u);
    EXPECT_EQ(after.key_expansions - before.key_expansions + after.keys_found - before.keys_found, 4 * kFlows);
}

// The keys of flows that go on are expanded no more.
TEST(FlowCost, KeysOfBusyFlows_AreNotExpandedAgain) {
    World world({});
    auto sessions = open_flows(world);
    exchange(world, sessions, 1000);
    const std::uint64_t before = world.appliance_records().key_expansions;
    for (int i = 0; i < 10; ++i) exchange(world, sessions, 1000);
    EXPECT_LT(world.appliance_records().key_expansions - before, 10 * kFlows) << "of 40 for each flow";
}

// Records and segments pass without an allocation, small ones and such as fill many buffers.
TEST(FlowCost, Records_PassWithoutAllocation) {
    World world({});
    auto sessions = open_flows(world);
    exchange(world, sessions, 60'000);
    const std::uint64_t before = world.appliance_allocations;
    for (const std::size_t length : {1u, 1000u, 16'384u, 60'000u}) exchange(world, sessions, length);
    EXPECT_EQ(world.appliance_allocations - before, 0u);
}

// A direction that has ended has nothing to look at any more, however many records came with its end: the flow rests until the other one moves.
TEST(FlowCost, HalfClosedFlow_IsLeftAlone) {
    for (int records = 0; records <= 9; ++records) {
        World world({});
        Session& s = world.open();
        for (int i = 0; i < records; ++i) s.client.send(Octets(10, std::byte{7}));
        s.client.send_alert(1, 0);
        world.run_for(1s);
        EXPECT_EQ(s.backend.data.size(), 10u * static_cast<unsigned>(records));
        EXPECT_TRUE(s.backend.has_alert(0));
        const std::uint64_t before = world.turns_busy;
        world.run_for(1s);
        EXPECT_EQ(world.turns_busy, before) << records << " records before close_notify";
    }
}

// A flow at rest holds its record, two connections and nothing else: no buffer, nothing that was made for sending.
TEST(FlowCost, IdleFlow_Octets) {
    World world({});
    auto sessions = open_flows(world);
    EXPECT_EQ(world.appliance_buffers_in_use(), 0u);
    EXPECT_LE(sizeof(tcp::ControlBlock), 512u);
    EXPECT_LE(sizeof(Flow) + 2 * sizeof(tcp::ControlBlock), 2560u);
}

}  // namespace
}  // namespace sallyport::flow::test
