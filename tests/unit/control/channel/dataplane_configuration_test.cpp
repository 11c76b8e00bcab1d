#include "control/channel/dataplane_configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace sallyport::channel {
namespace {

using nlohmann::json;

/// No member has its default.
DataplaneConfiguration example() {
    DataplaneConfiguration c;
    c.generation = UINT32_MAX;
    c.cores = {1, 3, 1023};
    c.handshake_workers = 4;
    c.eal_arguments = {"--log-level=8", "a \"quoted\" one"};
    c.hugepages = false;
    c.max_flows = 1000;
    c.buffers = 8191;
    c.receive_buffer = 65536;
    c.send_buffer = 131072;
    c.tcp = {.ecn = "request", .pacing = false, .nagle = true, .user_timeout_s = 200, .user_timeout_option = true, .keepalive_s = 0, .hop_limit = 32, .dscp = 46};
    c.control_away_ms = 1;
    PortConfiguration port;
    port.name = "outside";
    port.profile = "memif";
    port.device = "/run/memif.sock";
    port.mtu = 9000;
    port.vlan = 7;
    port.queues = 2;
    port.descriptors = 512;
    port.mac = "02:00:00:00:00:01";
    port.memif_server = true;
    port.addresses = {*IpPrefix::parse("192.0.2.1/24"), *IpPrefix::parse("2001:db8::1/64")};
    port.routes = {{*IpPrefix::parse("0.0.0.0/0"), *IpAddress::parse("192.0.2.254")}};
    c.ports = {port, port};
    c.services = {{"www", 60, 5000}, {"mail", 61, 5001}};
    c.listens = {{*SocketAddress::parse("192.0.2.1:443"), 0}, {*SocketAddress::parse("[2001:db8::1]:993"), 1}};
    return c;
}

/// What the reader says about the example after `value` has been put at `pointer`; empty when it is content.
std::string complaint(const std::string& pointer, const json& value) {
    json changed = json::parse(to_json(example()));
    changed[json::json_pointer(pointer)] = value;
    try {
        static_cast<void>(dataplane_configuration_from_json(changed.dump()));
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "";
}

TEST(DataplaneConfiguration, ThereAndBack_IsTheSame) {
    const std::string text = to_json(example());
    const DataplaneConfiguration c = dataplane_configuration_from_json(text);
    EXPECT_EQ(to_json(c), text);
    EXPECT_EQ(c.generation, UINT32_MAX);
    EXPECT_EQ(c.cores, (std::vector<std::uint32_t>{1, 3, 1023}));
    EXPECT_EQ(c.handshake_workers, 4u);
    EXPECT_EQ(c.eal_arguments, example().eal_arguments);
    EXPECT_FALSE(c.hugepages);
    EXPECT_EQ(c.max_flows, 1000u);
    EXPECT_EQ(c.buffers, 8191u);
    EXPECT_EQ(c.receive_buffer, 65536u);
    EXPECT_EQ(c.send_buffer, 131072u);
    EXPECT_EQ(c.tcp.ecn, "request");
    EXPECT_FALSE(c.tcp.pacing);
    EXPECT_TRUE(c.tcp.nagle);
    EXPECT_EQ(c.tcp.user_timeout_s, 200u);
    EXPECT_TRUE(c.tcp.user_timeout_option);
    EXPECT_EQ(c.tcp.keepalive_s, 0u);
    EXPECT_EQ(c.tcp.hop_limit, 32);
    EXPECT_EQ(c.tcp.dscp, 46);
    EXPECT_EQ(c.control_away_ms, 1u);
    ASSERT_EQ(c.ports.size(), 2u);
    const PortConfiguration& port = c.ports[1];
    EXPECT_EQ(port.name, "outside");
    EXPECT_EQ(port.profile, "memif");
    EXPECT_EQ(port.device, "/run/memif.sock");
    EXPECT_EQ(port.mtu, 9000);
    EXPECT_EQ(port.vlan, 7);
    EXPECT_EQ(port.queues, 2);
    EXPECT_EQ(port.descriptors, 512);
    EXPECT_EQ(port.mac, "02:00:00:00:00:01");
    EXPECT_TRUE(port.memif_server);
    EXPECT_EQ(port.addresses, example().ports[0].addresses);
    ASSERT_EQ(port.routes.size(), 1u);
    EXPECT_EQ(port.routes[0].to.to_string(), "0.0.0.0/0");
    EXPECT_EQ(port.routes[0].via.to_string(), "192.0.2.254");
    ASSERT_EQ(c.services.size(), 2u);
    EXPECT_EQ(c.services[1].name, "mail");
    EXPECT_EQ(c.services[1].idle_timeout_s, 61u);
    EXPECT_EQ(c.services[1].handshake_timeout_ms, 5001u);
    ASSERT_EQ(c.listens.size(), 2u);
    EXPECT_EQ(c.listens[1].address.to_string(), "[2001:db8::1]:993");
    EXPECT_EQ(c.listens[1].service, 1u);
}

TEST(DataplaneConfiguration, OutOfRange_IsNamed) {
    EXPECT_EQ(complaint("/ports/0/mtu", 575), "ports[0].mtu is 575, not from 576 to 9600");
    EXPECT_EQ(complaint("/ports/0/mtu", 576), "");
    EXPECT_EQ(complaint("/tcp/ecn", "on"), "tcp.ecn is \"on\", not off, accept or request");
    EXPECT_EQ(complaint("/tcp/user_timeout_s", 9), "tcp.user_timeout_s is 9, not from 10 to 3600");
    EXPECT_EQ(complaint("/ports/1/mtu", 65536 + 1500), "ports[1].mtu is 67036, not from 576 to 9600");
    EXPECT_EQ(complaint("/ports/0/vlan", 4095), "ports[0].vlan is 4095, not from 0 to 4094");
    EXPECT_EQ(complaint("/ports/0/queues", -1), "ports[0].queues is -1, not from 0 to 256");
    EXPECT_EQ(complaint("/generation", 1LL << 32), "generation is 4294967296, not from 0 to 4294967295");
    EXPECT_EQ(complaint("/generation", UINT64_MAX), "generation is 18446744073709551615, not from 0 to 4294967295");
    EXPECT_EQ(complaint("/max_flows", 0), "max_flows is 0, not from 1 to 16777216");
    EXPECT_EQ(complaint("/cores/1", 1024), "cores[1] is 1024, not from 0 to 1023");
    EXPECT_EQ(complaint("/cores", json::array()), "cores has 0 elements, not from 1 to 128");
    EXPECT_EQ(complaint("/handshake_workers", 0), "handshake_workers is 0, not from 1 to 64");
    EXPECT_EQ(complaint("/services/0/idle_timeout_s", 0), "services[0].idle_timeout_s is 0, not from 1 to 604800");
}

TEST(DataplaneConfiguration, ListenOfAnUnknownService_IsRefused) {
    EXPECT_EQ(complaint("/listens/0/service", 2), "listens[0].service is 2, not from 0 to 1");
    EXPECT_EQ(complaint("/services", json::array()), "listens[0].service is 0, not from 0 to -1");
}

TEST(DataplaneConfiguration, WrongType_IsNamed) {
    EXPECT_EQ(complaint("/hugepages", 1), "hugepages is not a boolean");
    EXPECT_EQ(complaint("/max_flows", 1.5), "max_flows is not an integer");
    EXPECT_EQ(complaint("/max_flows", "1"), "max_flows is not an integer");
    EXPECT_EQ(complaint("/ports", json::object()), "ports is not an array");
    EXPECT_EQ(complaint("/ports/1", 3), "ports[1] is not an object");
    EXPECT_EQ(complaint("/ports/0/name", nullptr), "ports[0].name is not a string");
    EXPECT_EQ(complaint("/eal_arguments/1", 3), "eal_arguments[1] is not a string");
    EXPECT_EQ(complaint("", json::array()), "the configuration is not an object");
}

TEST(DataplaneConfiguration, BadText_IsNamed) {
    EXPECT_EQ(complaint("/ports/0/profile", "e1000"),
              "ports[0].profile is 'e1000', not one of pci, af_xdp, af_packet, memif, virtio_user, tap");
    EXPECT_EQ(complaint("/ports/0/addresses/1", "2001:db8::1"),
              "ports[0].addresses[1]: '2001:db8::1' has no prefix length; write ADDRESS/LENGTH");
    EXPECT_EQ(complaint("/ports/0/routes/0/via", "gateway"),
              "ports[0].routes[0].via: 'gateway' is not an IPv4 or IPv6 address");
    EXPECT_EQ(complaint("/listens/0/address", "192.0.2.1"),
              "listens[0].address: '192.0.2.1' has no port; write ADDRESS:PORT");
}

TEST(DataplaneConfiguration, UnknownMember_IsRefused) {
    EXPECT_EQ(complaint("/speed", 1), "speed is not known");
    EXPECT_EQ(complaint("/ports/0/routes/0/metric", 1), "ports[0].routes[0].metric is not known");
}

TEST(DataplaneConfiguration, EveryMemberIsNeeded) {
    const json whole = json::parse(to_json(example()));
    const auto complaint_without = [&whole](const json::json_pointer& parent, const std::string& name) -> std::string {
        json changed = whole;
        changed[parent].erase(name);
        try {
            static_cast<void>(dataplane_configuration_from_json(changed.dump()));
        } catch (const std::runtime_error& error) {
            return error.what();
        }
        return "";
    };
    for (const char* parent : {"", "/ports/0", "/ports/0/routes/0", "/services/0", "/listens/0"}) {
        const json::json_pointer pointer(parent);
        for (const auto& [name, value] : whole[pointer].items())
            EXPECT_THAT(complaint_without(pointer, name), testing::EndsWith(name + " is missing")) << parent;
    }
}

TEST(DataplaneConfiguration, Garbage_IsNotJson) {
    for (const char* text : {"", "{", "null,", "\xff"})
        EXPECT_THROW(static_cast<void>(dataplane_configuration_from_json(text)), std::runtime_error) << text;
}

TEST(DataplaneConfiguration, TextThatIsNotUtf8_DoesNotStopTheWriter) {
    DataplaneConfiguration c = example();
    c.eal_arguments = {"\xff"};
    EXPECT_EQ(dataplane_configuration_from_json(to_json(c)).eal_arguments[0], "\xef\xbf\xbd");
}

}  // namespace
}  // namespace sallyport::channel
