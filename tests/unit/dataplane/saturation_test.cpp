#include "dataplane/saturation.h"

#include <gtest/gtest.h>

namespace sallyport {
namespace {

struct SaturationTest : testing::Test {
    /// A thousand cycles, so many per cent of them busy.
    bool after(std::uint64_t percent) {
        busy += 10 * percent;
        total += 1000;
        return saturation.judge(busy, total);
    }
    Saturation saturation;
    std::uint64_t busy = 0, total = 0;
};

TEST_F(SaturationTest, BusyAllTheTime_Begins) {
    EXPECT_FALSE(after(0));
    EXPECT_FALSE(after(90));
    EXPECT_TRUE(after(91));
}

TEST_F(SaturationTest, LessToDoForTheSame_GoesOn) {
    EXPECT_TRUE(after(100));
    EXPECT_TRUE(after(41));
    EXPECT_FALSE(after(40));
    EXPECT_FALSE(after(41)) << "it begins anew";
}

TEST_F(SaturationTest, OnlyWhatWasSinceTheLastTimeCounts) {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(after(100));
    EXPECT_FALSE(after(0));
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(after(0));
    EXPECT_TRUE(after(100));
}

TEST_F(SaturationTest, NoCycles_ChangesNothing) {
    EXPECT_TRUE(after(100));
    EXPECT_TRUE(saturation.judge(busy, total));
}

}  // namespace
}  // namespace sallyport
