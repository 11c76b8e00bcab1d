#include "control/channel/address.h"

#include <gtest/gtest.h>

namespace sallyport::test {
namespace {

IpAddress address(std::string_view text) { return IpAddress::parse(text).value(); }
IpPrefix prefix(std::string_view text) { return IpPrefix::parse(text).value(); }

TEST(IpAddress, FamilyIsThatOfTheText) {
    for (const char* v4 : {"0.0.0.0", "192.0.2.1", "255.255.255.255"}) EXPECT_TRUE(address(v4).is_v4()) << v4;
    // An octet other than in an IPv4-mapped address, in each place where one can be.
    for (const char* v6 : {"::", "::1", "100::ffff:c000:201", "::1:0:0:ffff:c000:201", "::1:ffff:c000:201", "::fffe:c000:201", "::feff:c000:201", "2001:db8::1"})
        EXPECT_FALSE(address(v6).is_v4()) << v6;
}

TEST(IpAddress, UnspecifiedIsTheOneOfEachFamily) {
    for (const char* none : {"0.0.0.0", "::"}) EXPECT_TRUE(address(none).is_unspecified()) << none;
    for (const char* some : {"0.0.0.1", "128.0.0.0", "::1", "8000::"}) EXPECT_FALSE(address(some).is_unspecified()) << some;
}

TEST(IpPrefix, HoldsWhatAgreesInItsFirstBits) {
    for (const auto& [text, in, out] : {std::tuple{"192.0.2.0/24", "192.0.2.255", "192.0.3.0"},
                                        {"192.0.2.128/25", "192.0.2.129", "192.0.2.127"},
                                        {"192.0.2.7/32", "192.0.2.7", "192.0.2.6"},
                                        {"128.0.0.0/1", "255.0.0.1", "127.255.255.255"},
                                        {"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
                                        {"::/0", "2001:db8::1", "203.0.113.9"},
                                        {"8000::/1", "ffff::", "7fff::"},
                                        {"2001:db8::/63", "2001:db8:0:1::5", "2001:db8:0:2::5"},
                                        {"2001:db8::/64", "2001:db8::8000:0:0:1", "2001:db8:0:1::"},
                                        {"2001:db8::/65", "2001:db8::7fff:0:0:1", "2001:db8::8000:0:0:1"},
                                        {"2001:db8::1/128", "2001:db8::1", "2001:db8::"}}) {
        EXPECT_TRUE(prefix(text).contains(address(in))) << text << " " << in;
        EXPECT_FALSE(prefix(text).contains(address(out))) << text << " " << out;
    }
}

/// The bits alone would agree.
TEST(IpPrefix, HoldsNoAddressOfTheOtherFamily) {
    EXPECT_FALSE(prefix("::/80").contains(address("192.0.2.1")));
    EXPECT_TRUE(prefix("::/80").contains(address("::1")));
}

}  // namespace
}  // namespace sallyport::test
