#include "dataplane/backlog.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "tests/unit/eal.h"

namespace sallyport {
namespace {

TEST(Backlog, FramesLeaveInTheOrderInWhichTheyCame) {
    constexpr std::size_t kMost = 64;
    test::BufferPool pool{1023};
    Backlog backlog(kMost);
    std::deque<rte_mbuf*> expected;
    std::mt19937_64 random(1);
    for (int turn = 0; turn < 20'000; ++turn) {
        for (std::size_t left = random() % 12; left > 0; --left) {
            rte_mbuf* const frame = rte_pktmbuf_alloc(pool.get());
            ASSERT_NE(frame, nullptr);
            const bool taken = backlog.push(frame);
            ASSERT_EQ(taken, expected.size() < kMost);
            if (taken)
                expected.push_back(frame);
            else
                rte_pktmbuf_free(frame);
        }
        const std::span<rte_mbuf*> next = backlog.next(1 + random() % 10);
        ASSERT_EQ(next.empty(), expected.empty());
        ASSERT_LE(next.size(), expected.size());
        for (std::size_t i = 0; i < next.size(); ++i) ASSERT_EQ(next[i], expected[i]) << "turn " << turn;
        const std::size_t sent = next.empty() ? 0 : random() % (next.size() + 1);   // as much as the ring has room for
        for (std::size_t i = 0; i < sent; ++i) rte_pktmbuf_free(next[i]);
        backlog.taken(sent);
        expected.erase(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(sent));
        ASSERT_EQ(backlog.size(), expected.size());
        ASSERT_EQ(pool.in_use(), expected.size());
    }
}

TEST(Backlog, Next_IsAllThereIsWhereThatIsLess) {
    test::BufferPool pool{1023};
    Backlog backlog(8);
    EXPECT_TRUE(backlog.next(4).empty());
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(backlog.push(rte_pktmbuf_alloc(pool.get())));
    EXPECT_EQ(backlog.next(2).size(), 2u);
    EXPECT_EQ(backlog.next(4).size(), 3u);
}   // and gives back what nobody has taken: a pool that misses buffers fails

}  // namespace
}  // namespace sallyport
