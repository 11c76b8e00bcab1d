#include "dataplane/tcp/cubic.h"

#include <gtest/gtest.h>

namespace sallyport::tcp {
namespace {

constexpr std::uint32_t kMss = 1000;

TEST(Cubic, Start_InitialWindowOfTenSegments) {  // RFC 6928 2
    EXPECT_EQ(Cubic::initial_window(1460), 14600u);
    EXPECT_EQ(Cubic::initial_window(536), 5360u);
    EXPECT_EQ(Cubic::initial_window(8960), 17920u);
}

TEST(Cubic, SlowStart_GrowsByWhatIsAcknowledged) {
    Cubic cubic;
    cubic.start(kMss);
    cubic.on_ack(5000, kMss, 10ms, Time{1s});
    EXPECT_EQ(cubic.cwnd(), 15000u);
    EXPECT_TRUE(cubic.slow_start());
}

/// A round of acknowledgments, each with this round-trip time.
void round(Cubic& cubic, Duration rtt, int acks = 10) {
    cubic.on_round();
    for (int i = 0; i < acks; ++i) {
        cubic.on_rtt(rtt);
        cubic.on_ack(kMss, kMss, rtt, Time{1s});
    }
}

TEST(HyStart, RoundTripsThatGrow_EndSlowStartAfterFiveSlowRounds) {  // RFC 9406 4.2
    Cubic cubic;
    cubic.start(kMss);
    round(cubic, 40ms);
    round(cubic, 44ms);   // an eighth would be 5 ms
    EXPECT_FALSE(cubic.conservative());
    std::uint32_t before = cubic.cwnd();
    round(cubic, 50ms);
    EXPECT_TRUE(cubic.conservative());
    before = cubic.cwnd();
    round(cubic, 50ms);
    EXPECT_EQ(cubic.cwnd() - before, 10 * kMss / 4);
    for (int i = 0; i < 3; ++i) round(cubic, 50ms);
    EXPECT_TRUE(cubic.slow_start());
    cubic.on_round();
    EXPECT_FALSE(cubic.slow_start());
    EXPECT_EQ(cubic.ssthresh(), cubic.cwnd());
}

TEST(HyStart, GrowthOfTheMoment_IsForgiven) {
    Cubic cubic;
    cubic.start(kMss);
    round(cubic, 10ms);
    round(cubic, 20ms);
    ASSERT_TRUE(cubic.conservative());
    round(cubic, 12ms);
    EXPECT_FALSE(cubic.conservative());
    const std::uint32_t before = cubic.cwnd();
    round(cubic, 12ms);
    EXPECT_EQ(cubic.cwnd() - before, 10 * kMss);
}

TEST(HyStart, FewSamplesOrSmallGrowth_SayNothing) {
    Cubic cubic;
    cubic.start(kMss);
    round(cubic, 10ms);
    round(cubic, 30ms, 7);
    EXPECT_FALSE(cubic.conservative()) << "of seven samples";
    cubic.start(kMss);
    round(cubic, 1ms);
    round(cubic, 4ms);
    EXPECT_FALSE(cubic.conservative()) << "less than 4 ms";
    cubic.start(kMss);
    round(cubic, 400ms);
    round(cubic, 417ms);
    EXPECT_TRUE(cubic.conservative()) << "more than 16 ms";
}

TEST(HyStart, LaterSlowStarts_AreLeftAlone) {
    Cubic cubic;
    cubic.start(kMss);
    cubic.set_cwnd(100000);
    cubic.on_timeout(kMss, true);
    round(cubic, 10ms);
    round(cubic, 30ms);
    EXPECT_FALSE(cubic.conservative());
}

TEST(HyStart, LossWhileSlow_LeavesLaterSlowStartsAlone) {
    Cubic cubic;
    cubic.start(kMss);
    round(cubic, 10ms);
    round(cubic, 20ms);
    ASSERT_TRUE(cubic.conservative());
    cubic.set_cwnd(100000);
    cubic.on_timeout(kMss, true);
    EXPECT_FALSE(cubic.conservative());
    cubic.on_ack(kMss, kMss, 20ms, Time{2s});
    EXPECT_EQ(cubic.cwnd(), 2 * kMss);
}

TEST(Cubic, Congestion_SsthreshIsSevenTenths) {  // RFC 9438 4.6
    Cubic cubic;
    cubic.start(kMss);
    cubic.set_cwnd(100000);
    cubic.on_congestion(kMss);
    EXPECT_EQ(cubic.ssthresh(), 70000u);
    EXPECT_EQ(cubic.cwnd(), 100000u) << "the window is recovery's to set";
}

TEST(Cubic, Timeout_OneSegmentAndSsthreshOnce) {
    Cubic cubic;
    cubic.start(kMss);
    cubic.set_cwnd(100000);
    cubic.on_timeout(kMss, true);
    EXPECT_EQ(cubic.cwnd(), kMss);
    EXPECT_EQ(cubic.ssthresh(), 70000u);
    cubic.on_timeout(kMss, false);
    EXPECT_EQ(cubic.ssthresh(), 70000u);
}

/// Acknowledges a window a round trip for `time` and returns the window then.
std::uint32_t run(Cubic& cubic, Time& now, Duration rtt, Duration time) {
    for (const Time end = now + time; now < end; now += rtt) {
        for (std::uint32_t left = cubic.cwnd(); left >= kMss; left -= kMss) cubic.on_ack(kMss, kMss, rtt, now);
    }
    return cubic.cwnd();
}

TEST(Cubic, AfterReduction_ReturnsToWmaxAfterKSeconds) {  // RFC 9438 4.2: K = cbrt(W_max * (1 - beta) / C) = cbrt(1000 * 0.3 / 0.4) = 9.1 s
    Cubic cubic;
    cubic.start(kMss);
    cubic.set_cwnd(1000 * kMss);
    cubic.on_congestion(kMss);
    cubic.set_cwnd(cubic.ssthresh());
    Time now{10s};
    const std::uint32_t half = run(cubic, now, 100ms, 4500ms);
    EXPECT_GT(half, 920 * kMss);
    EXPECT_LT(half, 1000 * kMss);
    const std::uint32_t plateau = run(cubic, now, 100ms, 4600ms);
    EXPECT_GT(plateau, 985 * kMss);
    EXPECT_LT(plateau, 1015 * kMss);
    const std::uint32_t beyond = run(cubic, now, 100ms, 6s);
    EXPECT_GT(beyond, 1060 * kMss);
}

TEST(Cubic, ShortRoundTrip_AtLeastAsFastAsReno) {  // RFC 9438 4.3
    Cubic cubic;
    cubic.start(kMss);
    cubic.set_cwnd(20 * kMss);
    cubic.on_congestion(kMss);
    cubic.set_cwnd(cubic.ssthresh());
    Time now{10s};
    // Reno with alpha = 0.53 gains about half a segment a round trip, then one.
    EXPECT_GE(run(cubic, now, 1ms, 100ms), 60 * kMss);
}

TEST(Cubic, SecondCongestionBelowWmax_ConvergesFaster) {  // RFC 9438 4.7
    Cubic one, two;
    for (Cubic* cubic : {&one, &two}) {
        cubic->start(kMss);
        cubic->set_cwnd(1000 * kMss);
        cubic->on_congestion(kMss);
        cubic->set_cwnd(700 * kMss);
    }
    two.on_congestion(kMss);
    two.set_cwnd(700 * kMss);
    Time now{1s}, again{1s};
    EXPECT_GT(run(one, now, 100ms, 9s), run(two, again, 100ms, 9s));
}

TEST(Cubic, Restore_UndoesReduction) {
    Cubic cubic;
    cubic.start(kMss);
    cubic.set_cwnd(100000);
    const Cubic::Window before = cubic.window();
    cubic.on_timeout(kMss, true);
    cubic.restore(before);
    EXPECT_EQ(cubic.cwnd(), 100000u);
    EXPECT_EQ(cubic.ssthresh(), UINT32_MAX);
}

}  // namespace
}  // namespace sallyport::tcp
