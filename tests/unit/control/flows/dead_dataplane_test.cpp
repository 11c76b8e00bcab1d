#include <gtest/gtest.h>

#include <chrono>

#include "tests/unit/control/flows/dataplane.h"

/// A dataplane that lives no more, but whose memory and socket are still there: it empties no ring.
namespace sallyport::test {
namespace {

using channel::FlowId;
using channel::MessageType;
using namespace std::chrono_literals;

constexpr std::uint32_t kRefused = 6;   ///< a service that there is none of: each flow is answered by one end_leg

struct DeadDataplane : testing::Test {
    Dataplane dataplane{small_runtime()};
    std::uint32_t next = 1;

    void tell_some() {
        for (int i = 0; i < 1000; ++i) dataplane.open(FlowId::make(0, 1, next++), kRefused);
        dataplane.publish();
    }
    /// Flows until the ring to the dataplane is full and more messages are there than the worker takes at a time.
    void fill() {
        constexpr std::uint64_t kAnswer = channel::RingProducer::aligned(sizeof(channel::MessageHeader) + sizeof(channel::EndLeg));
        while ((next + 1000) * kAnswer <= channel::kRingOctets) {
            tell_some();
            while (dataplane.untaken() != 0) std::this_thread::sleep_for(1ms);
        }
        ASSERT_FALSE(dataplane.worker.broken());
        tell_some();
        tell_some();
    }
    void wait_until_broken() {
        while (!dataplane.worker.broken()) std::this_thread::sleep_for(1ms);
    }
};

TEST_F(DeadDataplane, FullRing_IsGivenUpOnce) {
    fill();
    wait_until_broken();
    const std::uint64_t left = dataplane.untaken();
    // Were each of the messages that wait worth a wait of its own, these would take minutes. They do not wait even for the first's.
    const auto begun = std::chrono::steady_clock::now();
    (void)dataplane.worker.load();
    (void)dataplane.worker.info(FlowId::make(0, 1, 1));
    dataplane.worker.use(small_runtime());
    EXPECT_GT(left, 0u);
    EXPECT_EQ(dataplane.untaken(), left);
    dataplane.worker.detach();
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
}

TEST_F(DeadDataplane, Detach_DoesNotWaitForRoom) {
    fill();
    const auto begun = std::chrono::steady_clock::now();
    dataplane.worker.detach();
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
    EXPECT_EQ(dataplane.worker.load().sessions, 0u);
}

TEST_F(DeadDataplane, AnotherDataplane_IsServed) {
    fill();
    wait_until_broken();
    dataplane.worker.detach();
    dataplane.attach_anew();
    EXPECT_FALSE(dataplane.worker.broken());
    dataplane.open(FlowId::make(0, 1, 1), kRefused);
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].type, MessageType::end_leg);
}

}  // namespace
}  // namespace sallyport::test
