#include "dataplane/tcp/seq_num.h"

#include <gtest/gtest.h>

namespace sallyport::tcp {
namespace {

TEST(SeqNum, Order_AcrossWrap_IsCircular) {
    const SeqNum low(0xfffffff0), high(0x10);
    EXPECT_TRUE(low.before(high));
    EXPECT_TRUE(high.after(low));
    EXPECT_EQ(high - low, 0x20u);
    EXPECT_EQ(low + 0x20, high);
    EXPECT_EQ(later_of(low, high), high);
    EXPECT_EQ(earlier_of(low, high), low);
    EXPECT_TRUE(low.at_or_before(low));
    EXPECT_FALSE(low.before(low));
}

TEST(SeqNum, InWindow_Edges) {
    const SeqNum start(0xfffffffe);
    EXPECT_TRUE(start.in_window(start, 1));
    EXPECT_FALSE(start.in_window(start, 0));
    EXPECT_TRUE((start + 3).in_window(start, 4));
    EXPECT_FALSE((start + 4).in_window(start, 4));
    EXPECT_FALSE((start - 1).in_window(start, 4));
}

}  // namespace
}  // namespace sallyport::tcp
