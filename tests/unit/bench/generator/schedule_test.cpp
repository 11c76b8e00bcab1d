#include "tests/bench/generator/schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace sallyport::generator {
namespace {

Time at(Duration since) { return Time{} + since; }

TEST(Schedule, Constant_DoesNotDrift) {
    Schedule schedule(3, Spacing::constant, 1, at(10s));
    EXPECT_EQ(schedule.due(), at(10s + 333'333'333ns));
    for (int i = 0; i < 2'999'999; ++i) schedule.next();
    EXPECT_NEAR(std::chrono::duration<double>(schedule.due() - at(10s)).count(), 1e6, 1e-6);
}

TEST(Schedule, Poisson_HasTheRateAndTheSpreadAndTheSeed) {
    constexpr int kCount = 200'000;
    Schedule schedule(1'000, Spacing::poisson, 5, at(0s)), same(1'000, Spacing::poisson, 5, at(0s)), other(1'000, Spacing::poisson, 6, at(0s));
    double sum = 0, squares = 0;
    bool different = false;
    Time before = at(0s);
    for (int i = 0; i < kCount; ++i) {
        EXPECT_EQ(schedule.due(), same.due());
        EXPECT_GE(schedule.due(), before);
        different = different || schedule.due() != other.due();
        const double gap = std::chrono::duration<double>(schedule.due() - before).count();
        sum += gap;
        squares += gap * gap;
        before = schedule.due();
        schedule.next();
        same.next();
        other.next();
    }
    const double mean = sum / kCount, deviation = std::sqrt(squares / kCount - mean * mean);
    EXPECT_NEAR(mean, 0.001, 0.00001);
    EXPECT_NEAR(deviation, mean, 0.00001) << "as of an exponential distribution";
    EXPECT_TRUE(different);
}

// Nobody could serve it: what was due stays due, with its time.
TEST(Schedule, Late_NothingIsForgotten) {
    Schedule schedule(1'000, Spacing::constant, 1, at(0s));
    int due = 0;
    for (; schedule.due() <= at(1s); schedule.next()) ++due;
    EXPECT_EQ(due, 1'000);
}

TEST(Pace, TakesNoMoreThanItsRate_AndSavesLittleUp) {
    Pace pace(1'000);
    int taken = 0;
    for (Duration now = 0us; now < 1s; now += 100us) taken += pace.take(at(now)) ? 1 : 0;
    EXPECT_NEAR(taken, 1'000, 8);
    taken = 0;
    for (int i = 0; i < 1'000; ++i) taken += pace.take(at(20s)) ? 1 : 0;
    EXPECT_LE(taken, 7) << "after 19 s in which nobody asked";
    EXPECT_GE(taken, 1);
}

TEST(Pace, WithoutRate_TakesAll) {
    Pace pace(0);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(pace.take(at(0s)));
}

}  // namespace
}  // namespace sallyport::generator
