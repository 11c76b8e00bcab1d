// What idle connections cost, by counting: tests/bench/tcp_scale measures the same by time.

#include <malloc.h>

#include "crypto/sanitizers.h"
#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Peer;

/// From ports that none came from before.
void open(Peer& peer, std::uint16_t connections) {
    const auto first = static_cast<std::uint16_t>(peer.core.connections() + 1);
    for (std::uint16_t port = first; port < first + connections && !testing::Test::HasFatalFailure(); ++port) {
        peer.them.port = port;
        peer.snd_nxt = peer.iss + 1;
        peer.ts_echo = 0;
        peer.establish();
    }
}

#if !SALLYPORT_ASAN   // which has a heap of its own
/// Octets that the process has allocated.
std::size_t heap() {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

TEST(Scale, AnIdleConnection_HoldsNothingButItsControlBlock) {
    constexpr std::uint16_t kConnections = 20'000;
    Peer peer(Settings{.max_connections = 0xffff});
    open(peer, 1);
    const std::size_t before = heap();
    open(peer, kConnections);
    EXPECT_LE(heap(), before + 4096) << "octets allocated";
    EXPECT_EQ(peer.pool.in_use(), 0u) << "packet buffers for nothing";
    EXPECT_EQ(CoreTestAccess::transfers(peer.core), 0u) << "what only transfers need";
}
#endif

TEST(Scale, AControlBlock_IsNoLargerThanItMustBe) {
    // With the table's bucket, 8 to 16 octets, this is all that TCP holds of an idle connection.
    EXPECT_LE(sizeof(ControlBlock), 488u);
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
    // What a timer of the handshake had left, and moving from level to level of the wheel, in portions.
    EXPECT_LE(calls, 10 + 4 * 5000 / TimerWheel::kMostAtOnce);
    EXPECT_EQ(peer.core.counters.segments_out, sent);
}

}  // namespace
}  // namespace sallyport::tcp
