#include "tests/bench/generator/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace sallyport::generator {
namespace {

TEST(Histogram, Empty_IsNoughts) {
    const Histogram histogram;
    EXPECT_EQ(histogram.count(), 0u);
    EXPECT_EQ(histogram.min(), 0u);
    EXPECT_EQ(histogram.max(), 0u);
    EXPECT_EQ(histogram.percentile(99), 0u);
    EXPECT_EQ(histogram.mean(), 0);
}

// HdrHistogram's own figures for 1 to 3,600,000,000 with three digits.
TEST(Histogram, EquivalentValues_AreHdrHistograms) {
    const Histogram histogram(3'600'000'000, 3);
    EXPECT_EQ(histogram.lowest_equivalent(10'007), 10'000u);
    EXPECT_EQ(histogram.lowest_equivalent(10'009), 10'008u);
    EXPECT_EQ(histogram.highest_equivalent(8'180), 8'183u);
    EXPECT_EQ(histogram.highest_equivalent(8'191), 8'191u);
    EXPECT_EQ(histogram.highest_equivalent(8'193), 8'199u);
    EXPECT_EQ(histogram.highest_equivalent(9'995), 9'999u);
    EXPECT_EQ(histogram.highest_equivalent(10'007), 10'007u);
    EXPECT_EQ(histogram.highest_equivalent(10'008), 10'015u);
    EXPECT_EQ(histogram.lowest_equivalent(2'047), 2'047u);
    EXPECT_EQ(histogram.highest_equivalent(2'048), 2'049u) << "the first that are not told apart";
}

// HdrHistogram's test data: 10,000 values of 1 ms and one of 100 s.
TEST(Histogram, Percentiles_OfManyAndOneFarOut) {
    Histogram histogram(3'600'000'000, 3);
    histogram.record(1'000, 10'000);
    histogram.record(100'000'000);
    EXPECT_EQ(histogram.count(), 10'001u);
    for (const double percent : {30.0, 50.0, 99.0, 99.99}) EXPECT_EQ(histogram.percentile(percent), 1'000u) << percent;
    EXPECT_EQ(histogram.percentile(99.999), 100'000'000u) << "no more than the largest that was recorded";
    EXPECT_EQ(histogram.percentile(100), 100'000'000u);
    EXPECT_EQ(histogram.max(), 100'000'000u);
    EXPECT_NEAR(histogram.mean(), (10'000 * 1'000.0 + 100'000'000) / 10'001, 15);
}

TEST(Histogram, PercentilesOfAnything_AreExactToThreeDigitsAndNeverTooLow) {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> latency(11, 2);
    Histogram histogram;
    std::vector<std::uint64_t> values;
    for (int i = 0; i < 100'000; ++i) {
        values.push_back(static_cast<std::uint64_t>(latency(random)));
        histogram.record(values.back());
    }
    std::ranges::sort(values);
    for (const double percent : {0.001, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
        const auto rank = std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(values.size()) - 1e-6)));
        const std::uint64_t exact = values[rank - 1], told = histogram.percentile(percent);
        EXPECT_GE(told, exact) << percent;
        EXPECT_LE(static_cast<double>(told), static_cast<double>(exact) * 1.001 + 1) << percent;
    }
    EXPECT_EQ(histogram.min(), values.front());
    EXPECT_EQ(histogram.max(), values.back());
}

TEST(Histogram, Added_IsAsRecordedInOne) {
    Histogram both, one, other;
    for (std::uint64_t i = 0; i < 5'000; ++i) {
        (i % 3 == 1 ? one : other).record(i * i);
        both.record(i * i);
    }
    one.add(other);
    EXPECT_EQ(one.count(), both.count());
    EXPECT_EQ(one.min(), both.min());
    EXPECT_EQ(one.max(), both.max());
    for (double percent = 0; percent <= 100; percent += 0.5) EXPECT_EQ(one.percentile(percent), both.percentile(percent));
}

TEST(Histogram, AboveTheHighest_IsCountedAsIt) {
    Histogram histogram(1'000'000, 3);
    histogram.record(5'000'000'000);
    histogram.record(10);
    EXPECT_EQ(histogram.saturated(), 1u);
    EXPECT_EQ(histogram.max(), 1'000'000u);
    EXPECT_EQ(histogram.percentile(100), 1'000'000u);
    histogram.clear();
    EXPECT_EQ(histogram.count() + histogram.saturated() + histogram.max(), 0u);
}

TEST(Histogram, Print_IsWhatPlottersRead) {
    Histogram histogram;
    for (std::uint64_t i = 1; i <= 1'000; ++i) histogram.record(i * 1'000);
    std::ostringstream out;
    histogram.print(out);
    std::istringstream in(out.str());
    std::string line;
    std::getline(in, line);
    EXPECT_EQ(line, "       Value     Percentile TotalCount 1/(1-Percentile)");
    std::getline(in, line);
    EXPECT_EQ(line, "");
    double last_percentile = -1;
    std::uint64_t last_count = 0;
    int lines = 0;
    while (std::getline(in, line) && line[0] != '#') {
        std::istringstream fields(line);
        double value = 0, percentile = 0;
        std::uint64_t count = 0;
        fields >> value >> percentile >> count;
        EXPECT_GT(percentile, last_percentile) << line;
        EXPECT_NEAR(value, percentile * 1'000, 1.1) << "the values are 1 to 1000 us: " << line;
        EXPECT_NEAR(static_cast<double>(count), percentile * 1'000, 0.01) << line;
        last_percentile = percentile;
        last_count = count;
        ++lines;
    }
    EXPECT_EQ(last_percentile, 1.0);
    EXPECT_EQ(last_count, 1'000u);
    EXPECT_GT(lines, 20);
    EXPECT_NE(out.str().find("#[Max     =     1000.000, Total count    =         1000]"), std::string::npos) << out.str();
}

}  // namespace
}  // namespace sallyport::generator
