#include "dataplane/tcp/connection_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "tests/unit/dataplane/tcp/peer.h"

/// Against a map, in tables that are as full as they may be, so that searches run into each other and around the end.
namespace sallyport::tcp {
namespace {

struct TableTest : testing::Test {
    static constexpr std::uint32_t kMost = 21;   // of 32 slots

    Tuple tuple(std::uint16_t port) const { return {{IpAddress::from_v4({192, 0, 2, 1}), 443}, {IpAddress::from_v4({192, 0, 2, 2}), port}}; }
    ControlBlock& add(std::uint16_t port) {
        ControlBlock* const cb = blocks.make(peer.core);
        cb->tuple = tuple(port);
        table.insert(*cb);
        return *cb;
    }
    void drop(ControlBlock& cb) {
        table.remove(cb);
        blocks.destroy(&cb);
    }

    test::Peer peer;
    ControlBlockPool blocks{kMost};
    ConnectionTable table{kMost, KeyedHash({}), blocks};
};

TEST_F(TableTest, FindsWhatIsThereAndNothingElse) {
    std::map<std::uint16_t, ControlBlock*> there;
    std::mt19937_64 random(1);
    for (int step = 0; step < 100'000; ++step) {
        const auto port = static_cast<std::uint16_t>(1 + random() % 60);
        if (const auto found = there.find(port); found != there.end()) {
            drop(*found->second);
            there.erase(found);
        } else if (there.size() < kMost) {
            there[port] = &add(port);
        }
        const auto asked = static_cast<std::uint16_t>(1 + random() % 60);
        const auto expected = there.find(asked);
        ASSERT_EQ(table.find(tuple(asked)), expected == there.end() ? nullptr : expected->second) << "step " << step;
        ASSERT_EQ(table.size(), there.size());
        if (expected != there.end()) {
            ASSERT_EQ(table.prefetch_first(static_cast<std::uint32_t>(table.hash(tuple(asked)))), expected->second);
        }
    }
    for (const auto& [port, cb] : there) drop(*cb);
}

TEST_F(TableTest, EachIsVisitedOnce_AlsoWhereSomeGoMeanwhile) {
    std::mt19937_64 random(2);
    for (int round = 0; round < 2'000; ++round) {
        std::vector<std::uint16_t> expected, visited;
        for (std::uint32_t i = 0; i < kMost; ++i) {
            std::uint16_t port;
            do port = static_cast<std::uint16_t>(random());
            while (std::ranges::find(expected, port) != expected.end());
            add(port);
            expected.push_back(port);
        }
        std::size_t dropped = 0;
        table.for_each([&](ControlBlock& cb) {
            visited.push_back(cb.tuple.remote.port);
            if (random() % 2 == 0) {
                drop(cb);
                ++dropped;
            }
        });
        std::ranges::sort(expected);
        std::ranges::sort(visited);
        ASSERT_EQ(visited, expected) << "round " << round;
        ASSERT_EQ(table.size(), kMost - dropped);
        table.for_each([&](ControlBlock& cb) { drop(cb); });
        ASSERT_EQ(table.size(), 0u);
    }
}

TEST_F(TableTest, RemovedTwice_NothingHappens) {
    ControlBlock& cb = add(1);
    table.remove(cb);
    table.remove(cb);
    EXPECT_EQ(table.size(), 0u);
    EXPECT_EQ(table.find(tuple(1)), nullptr);
}

}  // namespace
}  // namespace sallyport::tcp
