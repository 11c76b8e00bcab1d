#include "control/cli/line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::cli {
namespace {

std::vector<std::string> texts(const Line& line) {
    std::vector<std::string> texts;
    for (const Word& word : line.words) texts.push_back(word.text);
    return texts;
}

using testing::ElementsAre;

TEST(Split, Words_HaveTheirPlaces) {
    const Line line = split("  show  flows ");
    EXPECT_THAT(texts(line), ElementsAre("show", "flows"));
    EXPECT_EQ(line.words[0].at, 2u);
    EXPECT_EQ(line.words[1].at, 8u);
    EXPECT_EQ(line.words[1].end, 13u);
    EXPECT_FALSE(line.open_word);
    EXPECT_TRUE(split("show flo").open_word);
    EXPECT_TRUE(split("").words.empty());
}

TEST(Split, Quotes_HoldBlanksAndBars) {
    const Line line = split(R"(match "a | b" 'c "d"' e\ f "say \"x\"" "")");
    EXPECT_THAT(texts(line), ElementsAre("match", "a | b", "c \"d\"", "e f", "say \"x\"", ""));
    for (std::size_t i = 1; i < line.words.size(); ++i) {
        EXPECT_TRUE(line.words[i].quoted);
        EXPECT_FALSE(line.words[i].bar);
    }
}

TEST(Split, Bar_IsAWordWithoutBlanks) {
    const Line line = split("show flows|count");
    EXPECT_THAT(texts(line), ElementsAre("show", "flows", "|", "count"));
    EXPECT_TRUE(line.words[2].bar);
    EXPECT_EQ(line.words[2].at, 10u);
}

TEST(Split, OpenQuote_IsTold) {
    const Line line = split("set a \"b c");
    ASSERT_TRUE(line.open_quote);
    EXPECT_EQ(*line.open_quote, 6u);
    EXPECT_THAT(texts(line), ElementsAre("set", "a", "b c"));
    EXPECT_TRUE(line.open_word);
}

TEST(InQuotes, IsTakenApartAgain) {
    for (const std::string word : {"a", "", "a b", "a|b", "a\"b", "a\\b", "Zürich x", "'", "\\"}) {
        const Line line = split(in_quotes(word));
        ASSERT_EQ(line.words.size(), 1u) << word;
        EXPECT_EQ(line.words[0].text, word);
    }
    EXPECT_EQ(in_quotes("192.0.2.1:443"), "192.0.2.1:443");
}

TEST(FromArguments, AreWordsOfTheTextOfThem) {
    const Line line = from_arguments({"show", "log", "match", "a b", "|", "count"});
    EXPECT_EQ(text_of(line.words), "show log match \"a b\" | count");
    const Line again = split(text_of(line.words));
    ASSERT_EQ(texts(again), texts(line));
    for (std::size_t i = 0; i < line.words.size(); ++i) {
        EXPECT_EQ(again.words[i].at, line.words[i].at);
        EXPECT_EQ(again.words[i].end, line.words[i].end);
        EXPECT_EQ(again.words[i].bar, line.words[i].bar);
    }
}

}  // namespace
}  // namespace sallyport::cli
