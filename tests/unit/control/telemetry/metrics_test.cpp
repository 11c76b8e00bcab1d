#include "control/telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

namespace sallyport::telemetry {
namespace {

using testing::HasSubstr;

std::string contents(const char* file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

std::set<std::string> names() {
    std::set<std::string> result;
    const Figures figures;
    for (const auto& family : figures.families()) result.insert(family.name);
    return result;
}

TEST(Metrics, Names_ArePrometheusManners) {
    const Figures figures;
    for (const auto& family : figures.families()) {
        EXPECT_TRUE(std::regex_match(family.name, std::regex("sallyport_[a-z0-9_]+"))) << family.name;
        EXPECT_EQ(family.name.ends_with("_total"), family.type == prometheus::MetricType::Counter) << family.name;
        EXPECT_FALSE(family.help.empty());
        // OpenMetrics names a counter's family without _total: nothing else may be called so.
        if (family.name.ends_with("_total")) { EXPECT_FALSE(names().contains(family.name.substr(0, family.name.size() - 6))) << family.name; }
        EXPECT_FALSE(std::regex_search(family.name, std::regex("octets|cycles|_(ms|us|ns|bits)(_|$)"))) << family.name;   // base units
    }
    EXPECT_EQ(names().size(), static_cast<std::size_t>(Metric::count_));
}

TEST(Metrics, Text_HasLabelsInOrder_AndEscapesThem) {
    Figures figures;
    figures.add(Metric::member_failures, std::uint64_t{7}, {"po\"ol", "a\\b\nc\xff"});
    const std::string text = prometheus_text(figures);
    EXPECT_THAT(text, HasSubstr("# TYPE sallyport_member_failures_total counter\n"));
    EXPECT_THAT(text, HasSubstr("sallyport_member_failures_total{pool=\"po\\\"ol\",member=\"a\\\\b\\nc?\"} 7\n"));
}

TEST(Metrics, OpenMetrics_NamesFamiliesWithoutTotal_AndEnds) {
    Figures figures;
    figures.add(Metric::brake_unplaced, std::uint64_t{1});
    const std::string text = openmetrics_text(figures);
    EXPECT_THAT(text, HasSubstr("# TYPE sallyport_brake_unplaced counter\nsallyport_brake_unplaced_total 1\n"));
    EXPECT_TRUE(text.ends_with("# EOF\n"));
}

/// With SALLYPORT_UPDATE set, the table is written anew.
TEST(Metrics, Readme_HasTheTable) {
    std::string readme = contents(SALLYPORT_TELEMETRY_README);
    constexpr std::string_view kBegin = "<!-- metrics: made from metrics.h -->\n", kEnd = "<!-- end of metrics -->\n";
    const auto begin = readme.find(kBegin), end = readme.find(kEnd);
    ASSERT_NE(begin, std::string::npos);
    ASSERT_NE(end, std::string::npos);
    const auto at = begin + kBegin.size();
    if (std::getenv("SALLYPORT_UPDATE") != nullptr) {
        readme.replace(at, end - at, metrics_table());
        std::ofstream(SALLYPORT_TELEMETRY_README) << readme;
        return;
    }
    EXPECT_EQ(readme.substr(at, end - at), metrics_table());
}

TEST(Metrics, Dashboard_UsesNamesThatThereAre) {
    const std::string dashboard = contents(SALLYPORT_DASHBOARD);
    ASSERT_TRUE(nlohmann::json::accept(dashboard));
    const std::regex name("sallyport_[a-z0-9_]+");
    std::size_t count = 0;
    for (std::sregex_iterator found(dashboard.begin(), dashboard.end(), name), none; found != none; ++found, ++count)
        EXPECT_TRUE(names().contains(found->str())) << found->str();
    EXPECT_GT(count, 20u);
}

}  // namespace
}  // namespace sallyport::telemetry
