#include "control/cli/pager.h"
#include "crypto/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>


namespace sallyport::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string numbered(int lines) {
    std::string text;
    for (int i = 1; i <= lines; ++i) text += sallyport::format("line {}.\n", i);
    return text;
}

constexpr Size kSmall{.rows = 5, .columns = 20};

TEST(Pager, ShortText_IsShownAtOnce) {
    Pager pager("a\nb\n", kSmall);
    EXPECT_EQ(pager.start(), "a\nb\n");
    EXPECT_TRUE(pager.done());
    Pager empty("", kSmall);
    EXPECT_EQ(empty.start(), "");
    EXPECT_TRUE(empty.done());
}

TEST(Pager, Space_ShowsAScreen_Enter_ALine) {
    Pager pager(numbered(12), kSmall);
    const std::string first = pager.start();
    EXPECT_THAT(first, HasSubstr("line 4.\n"));
    EXPECT_THAT(first, Not(HasSubstr("line 5.")));
    EXPECT_FALSE(pager.done());
    EXPECT_THAT(pager.key('\r'), HasSubstr("line 5.\n"));
    const std::string screen = pager.key(' ');
    EXPECT_THAT(screen, HasSubstr("line 9.\n"));
    EXPECT_THAT(screen, Not(HasSubstr("line 10.")));
    EXPECT_THAT(pager.key(' '), HasSubstr("line 12.\n"));
    EXPECT_TRUE(pager.done());
}

TEST(Pager, LongLines_TakeTheirRows) {
    Pager pager(std::string(50, 'x') + "\n" + numbered(3), kSmall);   // 3 rows and 3
    EXPECT_FALSE(pager.fits());
    EXPECT_THAT(pager.start(), Not(HasSubstr("line 2.")));
    Pager coloured("\x1b[32m" + std::string(18, 'x') + "\x1b[0m\nb\nc\nd\n", kSmall);   // colours take no room
    EXPECT_TRUE(coloured.fits());
    Pager wide("äöüäöüäöüäöüäöüäöü\nb\nc\nd\n", kSmall);
    EXPECT_TRUE(wide.fits());
}

TEST(Pager, Q_EndsAndLeavesNothingOfThePrompt) {
    for (const int key : {int{'q'}, 3, -1}) {
        Pager pager(numbered(12), kSmall);
        static_cast<void>(pager.start());
        EXPECT_EQ(pager.key(key), "\r\x1b[K");
        EXPECT_TRUE(pager.done());
    }
}

TEST(Pager, Search_GoesOn) {
    Pager pager(numbered(40), {.rows = 5, .columns = 80});
    static_cast<void>(pager.start());
    for (const char c : std::string_view("/line [23]0")) static_cast<void>(pager.key(c));
    EXPECT_THAT(pager.key('\r'), HasSubstr("line 20.\n"));
    EXPECT_THAT(pager.key('n'), HasSubstr("line 30.\n"));
    EXPECT_THAT(pager.key('n'), HasSubstr("not found"));
    static_cast<void>(pager.key('/'));
    static_cast<void>(pager.key('x'));
    static_cast<void>(pager.key(127));
    static_cast<void>(pager.key('('));
    EXPECT_THAT(pager.key('\r'), HasSubstr("not a regular"));
    EXPECT_FALSE(pager.done());
}

TEST(Pager, Back_ShowsTheScreenBefore) {
    Pager pager(numbered(40), kSmall);
    static_cast<void>(pager.start());
    static_cast<void>(pager.key(' '));
    const std::string back = pager.key('b');
    EXPECT_THAT(back, HasSubstr("line 1.\n"));
    EXPECT_THAT(back, Not(HasSubstr("line 5.")));
    EXPECT_THAT(pager.key(' '), HasSubstr("line 5.\n"));
    EXPECT_THAT(pager.key('g'), HasSubstr("line 1.\n"));
    EXPECT_THAT(pager.key('G'), HasSubstr("line 40.\n"));
    EXPECT_TRUE(pager.done());
}

TEST(Pager, Resized_ScreensAreOfTheNewSize) {
    Pager pager(numbered(40), kSmall);
    static_cast<void>(pager.start());
    EXPECT_THAT(pager.resized({.rows = 11, .columns = 80}), HasSubstr("--- 10 % ---"));
    EXPECT_THAT(pager.key(' '), HasSubstr("line 14.\n"));
}

TEST(Colours, MeanStatesAndDifferences) {
    EXPECT_EQ(coloured("web1  up  upper\n", Paint::states), "web1  \x1b[32mup\x1b[0m  upper\n");
    EXPECT_EQ(coloured("+a\n-b\n c\n", Paint::difference), "\x1b[32m+a\x1b[0m\n\x1b[31m-b\x1b[0m\n c\n");
    EXPECT_EQ(coloured("up", Paint::none), "up");
}

}  // namespace
}  // namespace sallyport::cli
