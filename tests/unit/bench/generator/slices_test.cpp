#include "tests/bench/generator/slices.h"

#include <gtest/gtest.h>

namespace sallyport::generator {
namespace {

TEST(Slices, WhatStopsOneSlice_DecidesTheWholeButNotTheMedianOfSlices) {
    Slices slices(1000, 5);
    Histogram whole;
    for (std::uint64_t at = 0; at < 5000; at += 10) {
        const std::uint64_t value = at >= 2000 && at < 2500 ? 1'000'000 : 100;   // a tenth of all, half of one slice
        slices.record(at, value);
        whole.record(value);
    }
    EXPECT_EQ(slices.percentile(99), 100u);
    EXPECT_GE(whole.percentile(99), 1'000'000u);
}

TEST(Slices, Median_OfTheSlicesThatHaveValues_OfTwoTheLower) {
    Slices slices(1000, 10);
    EXPECT_EQ(slices.percentile(50), 0u);
    slices.record(0, 30);
    slices.record(1000, 10);
    slices.record(9999, 20);
    EXPECT_EQ(slices.percentile(50), 20u);
    slices.record(5000, 40);
    EXPECT_EQ(slices.percentile(50), 20u);
    slices.record(999, 5);   // the first slice has two now: 5 and 30
    EXPECT_EQ(slices.percentile(50), 10u);
    EXPECT_EQ(slices.percentile(100), 20u);
}

TEST(Slices, AfterTheLast_IsLeftOut) {
    Slices slices(1000, 2);
    slices.record(2000, 7);
    EXPECT_EQ(slices.percentile(100), 0u);
    Slices none(0, 0);
    none.record(0, 7);
    EXPECT_EQ(none.count(), 0u);
    EXPECT_EQ(none.percentile(100), 0u);
}

}  // namespace
}  // namespace sallyport::generator
