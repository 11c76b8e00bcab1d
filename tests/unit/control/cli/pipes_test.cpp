#include "control/cli/pipes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::cli {
namespace {

using testing::HasSubstr;

std::expected<Pipes, PipeFault> pipes(const std::string& text) {
    const Line line = split(text);
    return parse_pipes(line.words, text.size());
}

std::string through(const std::string& text, const std::string& line) {
    return filtered(text, *pipes(line));
}

constexpr const char* kText = "web  up\nmail  down\nold  up\n";

TEST(Pipes, Match_KeepsLines) {
    EXPECT_EQ(through(kText, "| match up"), "web  up\nold  up\n");
    EXPECT_EQ(pipes("| match ^web|^mail").error().at, 13u);   // a bar outside of quotes begins a pipe
    EXPECT_EQ(through(kText, "| match \"^web|^mail\""), "web  up\nmail  down\n");
    EXPECT_EQ(through(kText, "| except up"), "mail  down\n");
}

TEST(Pipes, AreDoneInOrder) {
    EXPECT_EQ(through(kText, "| match up | count"), "Count: 2 lines\n");
    EXPECT_EQ(through(kText, "| last 1"), "old  up\n");
    EXPECT_EQ(through(kText, "| last 1 | count"), "Count: 1 line\n");
    EXPECT_EQ(through(kText, "| last 9"), kText);
    EXPECT_EQ(through(kText, "| count | match up"), "");
    EXPECT_EQ(through(kText, "| no-more"), kText);
}

TEST(Pipes, Faults_HaveTheirPlace) {
    EXPECT_THAT(pipes("| ").error().text, HasSubstr("say what"));
    EXPECT_THAT(pipes("| mtach x").error().text, HasSubstr("did you mean \"match\""));
    EXPECT_EQ(pipes("| match ( ").error().at, 8u);
    EXPECT_THAT(pipes("| match (").error().text, HasSubstr("is not a regular expression"));
    EXPECT_THAT(pipes("| match").error().text, HasSubstr("match needs a regular expression"));
    EXPECT_THAT(pipes("| last x").error().text, HasSubstr("\"x\" is not a number"));
    EXPECT_THAT(pipes("| c").error().text, HasSubstr("ambiguous: count, compare"));
    EXPECT_THAT(pipes("| save a b").error().text, HasSubstr("takes no more words"));
    EXPECT_THAT(pipes("| save a | count").error().text, HasSubstr("behind save"));
}

TEST(Pipes, Compare_MayNameARevision) {
    EXPECT_FALSE(pipes("| compare")->compare->has_number);
    EXPECT_EQ(pipes("| compare rollback 3")->compare->number, 3u);
    EXPECT_EQ(pipes("| comp 3")->compare->number, 3u);
    EXPECT_TRUE(pipes("| display set")->as_set);
    EXPECT_TRUE(pipes("| display json")->json);
}

}  // namespace
}  // namespace sallyport::cli
