#include "drivers/kernel_interface.h"

#include <gtest/gtest.h>

namespace sallyport::drivers::kernel {
namespace {

constexpr const char* kV4 =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth1\t0003000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
constexpr const char* kV6 =
    "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 "
    "00000001 00000000 00000001     eth2\n"
    "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 "
    "00000001 00000000 00000001     eth3\n"
    "ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 "
    "00000003 00000000 00000001     eth3\n";

TEST(RouteThrough, RoutesOfTheHost_AreFound) {
    EXPECT_EQ(route_through("eth0", kV4, kV6), "default");
    EXPECT_EQ(route_through("eth1", kV4, kV6), "10.0.3.0/24");
    EXPECT_EQ(route_through("eth2", kV4, kV6), "2001:db8::/64");
}

TEST(RouteThrough, LinkLocalMulticastOrOthers_AreNone) {
    EXPECT_EQ(route_through("eth3", kV4, kV6), std::nullopt);
    EXPECT_EQ(route_through("eth", kV4, kV6), std::nullopt);
    EXPECT_EQ(route_through("eth0", "", "rubbish\n\n20010db8 40 eth0\n"), std::nullopt);
}

TEST(PciDevice, UnknownAddress_IsNone) {
    EXPECT_FALSE(pci_device("ffff:ff:1f.7"));
    EXPECT_FALSE(pci_device("../../.."));
    EXPECT_FALSE(pci_device(""));
}

}  // namespace
}  // namespace sallyport::drivers::kernel
