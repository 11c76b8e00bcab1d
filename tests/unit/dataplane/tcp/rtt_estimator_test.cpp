#include "dataplane/tcp/rtt_estimator.h"

#include <gtest/gtest.h>

namespace sallyport::tcp {
namespace {

TEST(RttEstimator, NoSample_RtoIsOneSecond) {
    EXPECT_EQ(RttEstimator{}.rto(), 1s);
    EXPECT_EQ(RttEstimator{}.rto(2), 4s);
    EXPECT_EQ(RttEstimator{}.rto(30), 60s);
}

TEST(RttEstimator, FirstSample_HalfIsVariance) {  // RFC 6298 2.2
    RttEstimator rtt;
    rtt.sample(100ms);
    EXPECT_EQ(rtt.srtt(), 100ms);
    EXPECT_EQ(rtt.rttvar(), 50ms);
    EXPECT_EQ(rtt.rto(), 300ms);
}

TEST(RttEstimator, LaterSamples_AreSmoothed) {  // RFC 6298 2.3
    RttEstimator rtt;
    rtt.sample(100ms);
    rtt.sample(180ms);
    EXPECT_NEAR(static_cast<double>(rtt.rttvar().count()), 57.5e6, 64);  // 3/4 * 50 + 1/4 * 80
    EXPECT_EQ(rtt.srtt(), 110ms);      // 7/8 * 100 + 1/8 * 180
    EXPECT_EQ(rtt.minimum(), 100ms);
}

TEST(RttEstimator, SteadyRtt_TimeoutHasItsDistance) {
    for (const Duration steady : {Duration{128us}, Duration{80ms}, Duration{300ms}}) {   // more than any minimum of the timeout itself
        RttEstimator rtt;
        for (int i = 0; i < 100; ++i) rtt.sample(steady);
        EXPECT_EQ(rtt.rto(), steady + 200ms);
    }
}

}  // namespace
}  // namespace sallyport::tcp
