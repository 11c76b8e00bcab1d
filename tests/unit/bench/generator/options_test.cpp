#include "tests/bench/generator/options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "control/daemon/exit_code.h"

namespace sallyport::generator {
namespace {

std::expected<Options, UsageError> parse(std::vector<const char*> words) {
    words.insert(words.begin(), "sallyport_generator");
    return parse_options(static_cast<int>(words.size()), words.data());
}

void refused(std::vector<const char*> words, const char* why) {
    const auto options = parse(words);
    ASSERT_FALSE(options) << why;
    EXPECT_EQ(options.error().exit_code, exit_code::kUsage);
    EXPECT_NE(options.error().text.find(why), std::string::npos) << options.error().text;
}

TEST(ParsePort, Memif) {
    std::uint16_t vlan = 0;
    const auto port = parse_port("memif:/run/a.sock,role=server,mtu=9000,vlan=7,descriptors=512", vlan);
    ASSERT_TRUE(port) << port.error();
    EXPECT_EQ(port->profile, drivers::Profile::memif);
    EXPECT_EQ(port->device, "/run/a.sock");
    EXPECT_TRUE(port->memif_server);
    EXPECT_EQ(port->mtu, 9000);
    EXPECT_EQ(vlan, 7);
    EXPECT_TRUE(port->vlan);
    EXPECT_EQ(port->descriptors, 512);
    const auto virtio = parse_port("vhost_user:/run/a.sock,mtu=9000", vlan);
    ASSERT_TRUE(virtio) << virtio.error();
    EXPECT_EQ(virtio->profile, drivers::Profile::vhost_user);
    EXPECT_EQ(virtio->device, "/run/a.sock");
    EXPECT_FALSE(parse_port("vhost_user:/run/a.sock,role=server", vlan));
}

TEST(ParsePort, PciAddressHasColons) {
    std::uint16_t vlan = 0;
    const auto port = parse_port("pci:0000:3b:00.0", vlan);
    ASSERT_TRUE(port);
    EXPECT_EQ(port->device, "0000:3b:00.0");
}

TEST(ParsePort, Refused) {
    std::uint16_t vlan = 0;
    for (const char* text : {"eth0", "veth:eth0", "memif:", "tap:t0,role=server", "memif:/a,mtu=100", "memif:/a,mtu=1500x", "memif:/a,speed=1"}) EXPECT_FALSE(parse_port(text, vlan)) << text;
}

TEST(ParseOptions, Loopback_FillsInAddressesAndTargets) {
    const auto options = parse({"--loopback", "--backend-plain", "--plain", "--connections", "5", "--mode", "close", "--rate", "10", "--spacing", "constant"});
    ASSERT_TRUE(options) << options.error().text;
    EXPECT_EQ(options->mode, Mode::close);
    EXPECT_EQ(options->spacing, Spacing::constant);
    ASSERT_EQ(options->targets.size(), 1u);
    EXPECT_EQ(options->targets[0].to_string(), "192.0.2.2:80");
}

TEST(ParseOptions, ClientsAlone_NeedATarget) {
    refused({"--client-port", "memif:/a", "--client-address", "192.0.2.2/24"}, "--target");
    const auto options = parse({"--client-port", "memif:/a", "--client-address", "192.0.2.2/24", "--target", "192.0.2.1:443", "--tls", "1.3"});
    ASSERT_TRUE(options) << options.error().text;
    EXPECT_FALSE(options->has_backends());
    EXPECT_EQ(options->clients.tls.least_version, 0x0304);
}

TEST(ParseOptions, Refused) {
    refused({}, "nothing to do");
    refused({"--client-port", "memif:/a", "--target", "192.0.2.1:443"}, "--client-address");
    refused({"--loopback"}, "--backend-certificate");
    refused({"--loopback", "--backend-plain", "--client-port", "memif:/a"}, "--loopback needs no port");
    refused({"--loopback", "--backend-plain", "--mode", "idle", "--rate", "5"}, "--mode idle");
    refused({"--loopback", "--backend-plain", "--active", "2", "--rate", "5"}, "--active");
    refused({"--loopback", "--backend-plain", "--active", "2", "--mode", "close"}, "--active");
    refused({"--loopback", "--backend-plain", "--slice", "0.1", "--mode", "idle"}, "--slice");
    refused({"--loopback", "--backend-plain", "--slice", "3", "--duration", "2"}, "--slice 3: a --duration of 2 has 1 to 1000 of them");
    refused({"--loopback", "--backend-plain", "--course", "0.1", "--mode", "idle"}, "--course");
    refused({"--loopback", "--backend-plain", "--course", "1e-6", "--duration", "2"}, "--course 1e-06: a --duration of 2 has at most 100000 of them");
    refused({"--loopback", "--backend-plain", "--slice", "0.001", "--duration", "2"}, "--slice 0.001");
    refused({"--loopback", "--backend-plain", "--plain", "--resume", "50"}, "--resume");
    refused({"--loopback", "--backend-plain", "--tls", "1.1"}, "1.2, 1.3 or 1.2,1.3");
    refused({"--loopback", "--backend-plain", "--listen", "192.0.2.9:80"}, "is no --backend-address");
    refused({"--loopback", "--backend-plain", "--request-size", "5"}, "octets at least");
    refused({"--loopback", "--backend-plain", "--client-gateway", "10.0.0.1"}, "in the prefix of no");
    refused({"--loopback", "--backend-plain", "--connections", "0"}, "--connections");
    refused({"--loopback", "--backend-plain", "--unknown"}, "--unknown");
    refused({"--loopback", "--backend-plain", "--mode", "close", "--rate", "5", "--requests", "2"}, "--requests");
}

TEST(ParseOptions, Help_IsNoError) {
    const auto options = parse({"--help"});
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().exit_code, exit_code::kOk);
    EXPECT_NE(options.error().text.find("--client-port"), std::string::npos);
}

}  // namespace
}  // namespace sallyport::generator
