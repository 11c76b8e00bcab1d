#include "tests/bench/generator/address_range.h"

#include <gtest/gtest.h>

namespace sallyport::generator {
namespace {

AddressRange range(std::initializer_list<const char*> prefixes) {
    AddressRange made;
    for (const char* prefix : prefixes) made.add(*IpPrefix::parse(prefix));
    return made;
}

TEST(AddressRange, Prefix_WithoutNetworkAndBroadcast) {
    const AddressRange one = range({"10.1.7.9/16"});
    ASSERT_EQ(one.size(), 65534u);
    EXPECT_EQ(one.at(0).to_string(), "10.1.0.1");
    EXPECT_EQ(one.at(255).to_string(), "10.1.1.0");
    EXPECT_EQ(one.at(65533).to_string(), "10.1.255.254");
}

TEST(AddressRange, ShortOnes_HaveNoneToLeaveOut) {
    EXPECT_EQ(range({"192.0.2.7/32"}).size(), 1u);
    EXPECT_EQ(range({"192.0.2.7/32"}).at(0).to_string(), "192.0.2.7");
    EXPECT_EQ(range({"192.0.2.6/31"}).at(1).to_string(), "192.0.2.7");
}

TEST(AddressRange, SeveralAfterEachOther) {
    const AddressRange some = range({"192.0.2.0/30", "2001:db8::/64"});
    EXPECT_EQ(some.size(), 2u + (1u << 24));
    EXPECT_EQ(some.at(1).to_string(), "192.0.2.2");
    EXPECT_EQ(some.at(2).to_string(), "2001:db8::");
    EXPECT_EQ(some.at(2 + 0x10203).to_string(), "2001:db8::1:203");
}

}  // namespace
}  // namespace sallyport::generator
