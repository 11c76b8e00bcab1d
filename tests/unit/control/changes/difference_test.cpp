#include "control/changes/difference.h"

#include <gtest/gtest.h>

#include <random>

namespace sallyport::changes {
namespace {

std::string applied(std::string_view a, std::string_view b) {
    const auto a_lines = lines_of(a), b_lines = lines_of(b);
    std::string text;
    std::size_t at = 0;
    for (const Difference& each : differences(a_lines, b_lines)) {
        for (; at < each.a_begin; ++at) text += a_lines[at];
        for (std::size_t y = each.b_begin; y < each.b_end; ++y) text += b_lines[y];
        at = each.a_end;
    }
    for (; at < a_lines.size(); ++at) text += a_lines[at];
    return text;
}

std::size_t cost(std::string_view a, std::string_view b) {
    std::size_t sum = 0;
    for (const Difference& each : differences(lines_of(a), lines_of(b))) sum += each.a_end - each.a_begin + each.b_end - each.b_begin;
    return sum;
}

/// By dynamic programming.
std::size_t least_cost(std::string_view a, std::string_view b) {
    const auto x = lines_of(a), y = lines_of(b);
    std::vector<std::vector<std::size_t>> common(x.size() + 1, std::vector<std::size_t>(y.size() + 1));
    for (std::size_t i = 1; i <= x.size(); ++i)
        for (std::size_t j = 1; j <= y.size(); ++j)
            common[i][j] = x[i - 1] == y[j - 1] ? common[i - 1][j - 1] + 1 : std::max(common[i - 1][j], common[i][j - 1]);
    return x.size() + y.size() - 2 * common[x.size()][y.size()];
}

std::string random_text(std::mt19937& random, std::size_t lines) {
    std::string text;
    for (std::size_t i = 0; i < lines; ++i) text += std::string(1, static_cast<char>('a' + random() % 4)) + "\n";
    if (random() % 4 == 0 && !text.empty()) text.pop_back();
    return text;
}

TEST(Differences, RandomTexts_LeadFromOneToTheOtherByTheFewestLines) {
    for (unsigned seed = 0; seed < 3000; ++seed) {
        std::mt19937 random(seed);
        const std::string a = random_text(random, random() % 14), b = random_text(random, random() % 14);
        ASSERT_EQ(applied(a, b), b) << seed;
        ASSERT_EQ(cost(a, b), least_cost(a, b)) << seed << "\n" << a << "---\n" << b;
    }
}

TEST(Differences, ThousandsOfThem_AreOne) {
    std::string a, b;
    for (int i = 0; i < 5000; ++i) {
        a += "a" + std::to_string(i) + "\n";
        b += "b" + std::to_string(i) + "\n";
    }
    EXPECT_EQ(applied("x\n" + a + "y\n", "x\n" + b + "y\n"), "x\n" + b + "y\n");
    EXPECT_EQ(differences(lines_of("x\n" + a), lines_of("x\n" + b)).size(), 1u);
}

TEST(Unified, IsAsDiffWritesIt) {
    EXPECT_EQ(unified("a\n", "a\n", "old", "new"), "");
    EXPECT_EQ(unified("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n", "old", "new"),
              "--- old\n+++ new\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    EXPECT_EQ(unified("", "a\n", "old", "new"), "--- old\n+++ new\n@@ -0,0 +1 @@\n+a\n");
    EXPECT_EQ(unified("a\nb", "a\nb\n", "old", "new"), "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n");
    EXPECT_EQ(unified("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n", "old", "new"),
              "--- old\n+++ new\n@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -8,3 +9,4 @@\n 8\n 9\n 10\n+11\n");
}

TEST(MergedLines, ApartAreMerged_TogetherAreNot) {
    EXPECT_EQ(merged_lines("1\n2\n3\n", "one\n2\n3\n", "1\n2\nthree\n"), "one\n2\nthree\n");
    EXPECT_EQ(merged_lines("1\n2\n3\n", "1\n3\n", "1\n3\n"), "1\n3\n");
    EXPECT_EQ(merged_lines("1\n2\n3\n", "1\nx\n3\n", "1\ny\n3\n"), std::nullopt);
    EXPECT_EQ(merged_lines("1\n", "1\na\n", "1\nb\n"), std::nullopt);
    EXPECT_EQ(merged_lines("1\n", "1\n", "1\nb\n"), "1\nb\n");
}

}  // namespace
}  // namespace sallyport::changes
