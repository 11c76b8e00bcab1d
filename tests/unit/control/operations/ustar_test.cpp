#include "control/operations/ustar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::operations {
namespace {

using testing::ElementsAre;

TEST(Ustar, Members_StandInBlocksWithTheirHeaders) {
    Ustar archive(std::chrono::system_clock::time_point(std::chrono::seconds(1'800'000'000)));
    archive.add("show/version.json", "{}\n");
    archive.add("empty", "");
    archive.add("whole-block", std::string(512, 'x'));
    EXPECT_THAT(archive.names(), ElementsAre("show/version.json", "empty", "whole-block"));
    const std::string octets = std::move(archive).finish();
    ASSERT_EQ(octets.size(), 512u * (2 + 1 + 2 + 2));
    EXPECT_STREQ(octets.c_str(), "show/version.json");
    EXPECT_EQ(octets.substr(100, 8), std::string("0000600\0", 8));
    EXPECT_EQ(octets.substr(124, 12), std::string("00000000003\0", 12));
    EXPECT_EQ(octets.substr(136, 12), std::string("15322351000\0", 12));
    EXPECT_EQ(octets.substr(257, 8), std::string("ustar\0" "00", 8));
    EXPECT_EQ(octets.substr(512, 3), "{}\n");
    EXPECT_EQ(octets.substr(512 * 4, 512), std::string(512, 'x'));
    EXPECT_EQ(octets.substr(512 * 5), std::string(1024, '\0'));
    // POSIX: the sum of the header's octets with the checksum's own taken as spaces.
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(octets[i]);
    EXPECT_EQ(std::stoull(octets.substr(148, 6), nullptr, 8), sum);
}

TEST(Ustar, NameThatIsTooLong_IsOurBug) {
    Ustar archive({});
    EXPECT_DEATH(archive.add(std::string(101, 'n'), ""), "check failed");
}

}  // namespace
}  // namespace sallyport::operations
