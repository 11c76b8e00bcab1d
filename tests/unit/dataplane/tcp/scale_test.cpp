// What idle connections cost, by counting: tests/bench/tcp_scale measures the same by time.

#include <malloc.h>

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;

constexpr std::uint16_t kConnections = 20'000;

[[maybe_unused]] std::size_t heap() {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

void open(Peer& peer, std::uint16_t connections) {
    for (std::uint16_t port = 1; port <= connections && !testing::Test::HasFatalFailure(); ++port) {
        peer.them.port = port;
        peer.snd_nxt = peer.iss + 1;
        peer.ts_echo = 0;
        peer.establish();
    }
}

#if !defined(__SANITIZE_ADDRESS__)   // which has a heap of its own
TEST(Scale, AnIdleConnection_HoldsAControlBlockAndAPlaceInTheTable) {
    constexpr std::uint32_t kMost = 0xffff;   // the table has 65,536 buckets then
    Peer small(Settings{.max_connections = 1});   // what the EAL and others allocate once is there then
    const std::size_t before = heap();
    Peer peer(Settings{.max_connections = kMost});
    const std::size_t ready = heap();
    EXPECT_LE(ready - before, kMost * 8 + 0x200000) << "octets: a pointer a bucket; wheel, ports, neighbours whatever the number of connections";
    open(peer, kConnections);
    EXPECT_EQ(peer.pool.in_use(), 0u) << "packet buffers for nothing";
    // Chunks of control blocks, each rounded up to whole pages by the allocator.
    EXPECT_LE(heap() - ready, (kConnections + 256) * (sizeof(ControlBlock) + 20));
}
#endif

TEST(Scale, AControlBlock_IsNoLargerThanItMustBe) {
    // With what the table takes (8 to 16 octets) this is all that TCP holds of an idle connection.
    EXPECT_LE(sizeof(ControlBlock), 1024u);
}

TEST(Scale, TimersThatNobodyNeedsYet_AreNotLookedAt) {
    Peer peer(Settings{.max_connections = 0xffff});
    open(peer, 5000);
    const std::uint64_t sent = peer.core.counters.segments_out;
    const Time until = peer.now + 110s;   // keepalive: 120 s
    unsigned calls = 0;
    for (; peer.core.next_timer() <= until && calls < 100; ++calls) {
        peer.now = std::max(peer.now, peer.core.next_timer());
        peer.core.advance(peer.now);
    }
    EXPECT_LE(calls, 10u) << "moments: what a timer of the handshake had left, and moving from level to level of the wheel";
    EXPECT_EQ(peer.core.counters.segments_out, sent);
}

}  // namespace
}  // namespace sallyport::tcp
