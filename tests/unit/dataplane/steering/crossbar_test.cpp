#include "dataplane/steering/crossbar.h"

#include <array>

#include "tests/unit/eal.h"

namespace sallyport::steering {
namespace {

class CrossbarTest : public testing::Test {
 protected:
    rte_mbuf* frame(std::uint16_t port) {
        rte_mbuf* const made = rte_pktmbuf_alloc(pool_.get());
        made->port = port;
        return made;
    }
    /// How many of `count` taken frames came from each port; frees them.
    std::array<unsigned, 8> ports(std::span<rte_mbuf*> frames) {
        std::array<unsigned, 8> result{};
        for (rte_mbuf* each : frames) {
            ++result[each->port];
            rte_pktmbuf_free(each);
        }
        return result;
    }
    sallyport::test::BufferPool pool_{8191};
};

TEST_F(CrossbarTest, OneWorker_HasNothing) {
    Crossbar crossbar(1);
    std::array<rte_mbuf*, 4> frames{};
    EXPECT_EQ(crossbar.take_received(0, frames), 0u);
    EXPECT_EQ(crossbar.take_transmit(0, frames), 0u);
}

TEST_F(CrossbarTest, PassedFrames_ComeInOrderAndOnlyToTheirWorker) {
    Crossbar crossbar(3);
    for (std::uint16_t i = 0; i < 5; ++i) ASSERT_TRUE(crossbar.pass_received(0, 2, frame(i)));
    ASSERT_TRUE(crossbar.pass_transmit(0, 2, frame(7)));
    std::array<rte_mbuf*, 32> frames{};
    EXPECT_EQ(crossbar.take_received(1, frames), 0u);
    ASSERT_EQ(crossbar.take_received(2, frames), 5u);
    for (std::uint16_t i = 0; i < 5; ++i) EXPECT_EQ(frames[i]->port, i);
    (void)ports(std::span(frames).first(5));
    ASSERT_EQ(crossbar.take_transmit(2, frames), 1u);
    EXPECT_EQ(ports(std::span(frames).first(1))[7], 1u);
}

TEST_F(CrossbarTest, BusyWorker_DoesNotKeepOthersWaiting) {
    Crossbar crossbar(4);
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(crossbar.pass_received(0, 3, frame(0)));
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(crossbar.pass_received(1, 3, frame(1)));
    ASSERT_TRUE(crossbar.pass_received(2, 3, frame(2)));
    std::array<rte_mbuf*, 30> frames{};
    ASSERT_EQ(crossbar.take_received(3, frames), 30u);
    const auto by_port = ports(frames);
    EXPECT_EQ(by_port[2], 1u);
    EXPECT_GE(by_port[1], 10u);
    EXPECT_EQ(by_port[0] + by_port[1] + by_port[2], 30u);
    std::array<rte_mbuf*, 1> one{};   // fewer than there are workers: whoever comes first
    EXPECT_EQ(crossbar.take_received(3, one), 1u);
    (void)ports(one);
}

TEST_F(CrossbarTest, FullRing_KeepsTheFrameTheCallers) {
    Crossbar crossbar(2);
    unsigned passed = 0;
    for (rte_mbuf* next = frame(0);; next = frame(0), ++passed)
        if (!crossbar.pass_transmit(0, 1, next)) {
            rte_pktmbuf_free(next);
            break;
        }
    EXPECT_EQ(passed, Crossbar::kRingFrames - 1);   // what is left in it goes back with it: the pool's destructor looks
}

}  // namespace
}  // namespace sallyport::steering
