#include <gtest/gtest.h>

#include <vector>

#include "dataplane/wire/arp.h"
#include "dataplane/wire/ethernet.h"
#include "dataplane/wire/icmp.h"
#include "dataplane/wire/ipv4.h"
#include "dataplane/wire/ipv6.h"
#include "dataplane/wire/neighbour_discovery.h"
#include "tests/unit/dataplane/wire/octets.h"

namespace sallyport::wire {
namespace {

using test::octets;

const IpAddress kV4A = IpAddress::from_v4({192, 0, 2, 1}), kV4B = IpAddress::from_v4({198, 51, 100, 7});
const IpAddress kV6A = *IpAddress::parse("2001:db8::1"), kV6B = *IpAddress::parse("2001:db8:1::abcd:ef01");
constexpr MacAddress kMac{2, 0, 0, 0, 0, 5};

TEST(Ethernet, RoundTripWithAndWithoutTag) {
    for (const std::uint16_t vlan : {0, 1, 4094}) {
        const EthernetHeader header{.destination = kBroadcastMac, .source = kMac, .vlan = vlan, .type = kEtherTypeArp};
        std::array<std::byte, kEthernetLengthMax> out{};
        const std::size_t length = write_ethernet(header, out);
        EXPECT_EQ(length, vlan == 0 ? 14u : 18u);
        const auto parsed = parse_ethernet(std::span(out).first(length));
        ASSERT_TRUE(parsed);
        EXPECT_EQ(parsed->destination, kBroadcastMac);
        EXPECT_EQ(parsed->source, kMac);
        EXPECT_EQ(parsed->vlan, vlan);
        EXPECT_EQ(parsed->type, kEtherTypeArp);
        EXPECT_EQ(parsed->length, length);
        EXPECT_EQ(parse_ethernet(std::span(out).first(length - 1)).error(), DropReason::ethernet_too_short);
    }
}

TEST(Arp, RoundTripAndErrors) {
    std::array<std::byte, kArpLength> out;
    write_arp({ArpPacket::Operation::reply, kMac, kV4A, kBroadcastMac, kV4B}, out);
    EXPECT_EQ(std::vector(out.begin(), out.end()),
              octets("0001 0800 06 04 0002 020000000005 c0000201 ffffffffffff c6336407"));
    const auto parsed = parse_arp(out);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->operation, ArpPacket::Operation::reply);
    EXPECT_EQ(parsed->sender, kV4A);
    EXPECT_EQ(parsed->sender_mac, kMac);
    EXPECT_EQ(parsed->target, kV4B);
    EXPECT_EQ(parsed->target_mac, kBroadcastMac);
    EXPECT_FALSE(parse_arp(std::span(out).first(27)));
    for (const auto& [at, value] : {std::pair{1, 6}, {2, 9}, {4, 8}, {5, 6}, {7, 3}, {8, 1}}) {
        auto broken = out;
        broken[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
        ASSERT_FALSE(parse_arp(broken)) << at;
        EXPECT_EQ(parse_arp(broken).error(), DropReason::arp_invalid);
    }
}

std::vector<std::byte> ipv4(std::size_t payload, const std::vector<std::byte>& options = {}) {
    std::vector<std::byte> packet(20 + options.size() + payload);
    const auto total = static_cast<std::uint16_t>(packet.size());
    write_ipv4({.source = kV4A, .destination = kV4B, .protocol = 6, .hop_limit = 64, .traffic_class = 3}, total, true,
               packet.data());
    std::ranges::copy(options, packet.begin() + 20);
    packet[0] = static_cast<std::byte>(0x45 + options.size() / 4);
    store16(packet.data() + 10, 0);
    store_checksum(packet.data() + 10, finish(sum_octets(std::span(packet).first(20 + options.size()))));
    return packet;
}
DropReason ipv4_error(const std::vector<std::byte>& packet, bool verify = true) {
    const auto parsed = parse_ipv4(packet, packet.size(), verify);
    return parsed ? DropReason::count_ : parsed.error();
}

TEST(Ipv4, RoundTrip) {
    std::vector<std::byte> packet(24);
    write_ipv4({.source = kV4A, .destination = kV4B, .protocol = 6, .hop_limit = 64, .traffic_class = 2}, 24, true, packet.data());
    EXPECT_EQ(std::vector(packet.begin(), packet.begin() + 10), octets("45 02 0018 0000 4000 40 06"));
    const auto parsed = parse_ipv4(packet, packet.size(), true);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->ip.source, kV4A);
    EXPECT_EQ(parsed->ip.destination, kV4B);
    EXPECT_EQ(parsed->ip.protocol, 6);
    EXPECT_EQ(parsed->ip.hop_limit, 64);
    EXPECT_EQ(parsed->ip.traffic_class, 2);
    EXPECT_EQ(parsed->header_length, 20);
    EXPECT_EQ(parsed->total_length, 24);
}

TEST(Ipv4, Options_AreSkippedButSourceRoutes) {
    const auto parsed = parse_ipv4(ipv4(8, octets("94040000 01 00 ffff")), 100, true);  // router alert, NOP, end
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->header_length, 28);
    EXPECT_EQ(ipv4_error(ipv4(8, octets("01 8307 04 c0000201"))), DropReason::ip_options);
    EXPECT_EQ(ipv4_error(ipv4(8, octets("8907 04 c0000201 00"))), DropReason::ip_options);
    EXPECT_EQ(ipv4_error(ipv4(8, octets("94010000"))), DropReason::ip_bad_header);
    EXPECT_EQ(ipv4_error(ipv4(8, octets("94050000"))), DropReason::ip_bad_header);
    EXPECT_EQ(ipv4_error(ipv4(8, octets("01010194"))), DropReason::ip_bad_header);
}

TEST(Ipv4, Errors) {
    auto packet = ipv4(8);
    EXPECT_EQ(ipv4_error({packet.begin(), packet.begin() + 19}), DropReason::ip_bad_header);
    EXPECT_EQ(ipv4_error({packet.begin(), packet.begin() + 27}), DropReason::ip_bad_header);  // total length beyond the end
    packet[8] = std::byte{1};
    EXPECT_EQ(ipv4_error(packet), DropReason::ip_bad_checksum);
    EXPECT_EQ(ipv4_error(packet, false), DropReason::count_);
    for (const std::uint16_t fragment : {0x2000, 0x0001, 0x1fff}) {
        packet = ipv4(8);
        store16(packet.data() + 6, fragment);
        EXPECT_EQ(ipv4_error(packet, false), DropReason::ip_fragment);
    }
    packet = ipv4(8);
    packet[0] = std::byte{0x65};
    EXPECT_EQ(ipv4_error(packet, false), DropReason::ip_bad_header);
    packet[0] = std::byte{0x44};
    EXPECT_EQ(ipv4_error(packet, false), DropReason::ip_bad_header);
    packet[0] = std::byte{0x4f};
    EXPECT_EQ(ipv4_error(packet, false), DropReason::ip_bad_header);
    packet = ipv4(8);
    store16(packet.data() + 2, 19);  // shorter than its header
    EXPECT_EQ(ipv4_error(packet, false), DropReason::ip_bad_header);
}

std::vector<std::byte> ipv6(std::uint8_t next_header, const std::vector<std::byte>& payload) {
    std::vector<std::byte> packet(40);
    write_ipv6({.source = kV6A, .destination = kV6B, .protocol = next_header, .hop_limit = 255, .traffic_class = 0x21},
               static_cast<std::uint16_t>(payload.size()), packet.data());
    packet.insert(packet.end(), payload.begin(), payload.end());
    return packet;
}
DropReason ipv6_error(const std::vector<std::byte>& packet) {
    const auto parsed = parse_ipv6(packet, packet.size());
    return parsed ? DropReason::count_ : parsed.error();
}

TEST(Ipv6, RoundTrip) {
    const auto parsed = parse_ipv6(ipv6(6, std::vector<std::byte>(20)), 60);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->ip.source, kV6A);
    EXPECT_EQ(parsed->ip.destination, kV6B);
    EXPECT_EQ(parsed->ip.protocol, 6);
    EXPECT_EQ(parsed->ip.hop_limit, 255);
    EXPECT_EQ(parsed->ip.traffic_class, 0x21);
    EXPECT_EQ(parsed->header_length, 40);
    EXPECT_EQ(parsed->total_length, 60u);
}

TEST(Ipv6, ExtensionHeaders) {
    // Hop-by-hop with router alert and PadN, destination options of 16 octets with Pad1 and PadN, then TCP.
    const auto parsed = parse_ipv6(
        ipv6(0, octets("3c00 05020000 0100  0601 00 010b 0000000000000000000000  aabb")), 66);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->ip.protocol, 6);
    EXPECT_EQ(parsed->header_length, 64);
    EXPECT_EQ(ipv6_error(ipv6(44, octets("06000000 00000000"))), DropReason::ip_fragment);
    EXPECT_EQ(ipv6_error(ipv6(60, octets("2c00 0104 00000000 0600000000000000"))), DropReason::ip_fragment);
    EXPECT_EQ(ipv6_error(ipv6(43, octets("06000000 00000000"))), DropReason::ip_options);
    EXPECT_EQ(ipv6_error(ipv6(60, octets("0600 c204 00000000"))), DropReason::ip_bad_header);  // jumbo: must not be skipped
    EXPECT_EQ(ipv6_error(ipv6(60, octets("0600 0105 00000000"))), DropReason::ip_bad_header);  // option beyond the header
    EXPECT_EQ(ipv6_error(ipv6(60, octets("0601 0104 00000000"))), DropReason::ip_bad_header);  // header beyond the packet
    EXPECT_EQ(ipv6_error(ipv6(60, octets("0600 0104"))), DropReason::ip_bad_header);
    EXPECT_EQ(ipv6_error(ipv6(60, octets("0000 0104 00000000 0600 0104 00000000"))), DropReason::ip_bad_header);
    std::vector<std::byte> many;
    for (int i = 0; i < 5; ++i) std::ranges::copy(octets(i < 4 ? "3c00 0104 00000000" : "0600 0104 00000000"), std::back_inserter(many));
    EXPECT_EQ(ipv6_error(ipv6(60, many)), DropReason::ip_bad_header);
    many.erase(many.begin(), many.begin() + 8);
    EXPECT_EQ(ipv6_error(ipv6(60, many)), DropReason::count_);
}

TEST(Ipv6, Errors) {
    auto packet = ipv6(6, std::vector<std::byte>(20));
    EXPECT_EQ(ipv6_error({packet.begin(), packet.begin() + 39}), DropReason::ip_bad_header);
    EXPECT_EQ(ipv6_error({packet.begin(), packet.begin() + 59}), DropReason::ip_bad_header);
    packet[0] = std::byte{0x40};
    EXPECT_EQ(ipv6_error(packet), DropReason::ip_bad_header);
    packet = ipv6(6, {});
    store_ipv6(packet.data() + 8, kV4A);
    EXPECT_EQ(ipv6_error(packet), DropReason::ip_martian);
    packet = ipv6(6, {});
    store_ipv6(packet.data() + 24, kV4A);
    EXPECT_EQ(ipv6_error(packet), DropReason::ip_martian);
}

TEST(Ipv6, SolicitedNode) {
    EXPECT_EQ(solicited_node(*IpAddress::parse("2001:db8::1234:5678")), *IpAddress::parse("ff02::1:ff34:5678"));
}

TEST(Icmp, Quotes) {
    const auto tcp = octets("01bb c350 0a0b0c0d");
    auto packet = ipv4(0, octets("01010101"));
    packet.insert(packet.end(), tcp.begin(), tcp.end());
    const auto quoted = parse_quote_ipv4(packet);
    ASSERT_TRUE(quoted);
    EXPECT_EQ(quoted->source, kV4A);
    EXPECT_EQ(quoted->destination, kV4B);
    EXPECT_EQ(quoted->source_port, 443);
    EXPECT_EQ(quoted->destination_port, 50000);
    EXPECT_EQ(quoted->seq, 0x0a0b0c0du);
    EXPECT_FALSE(parse_quote_ipv4(std::span(packet).first(31)));
    store16(packet.data() + 6, 1);
    EXPECT_FALSE(parse_quote_ipv4(packet)) << "a later fragment has no ports";
    store16(packet.data() + 6, 0);
    packet[9] = std::byte{17};
    EXPECT_FALSE(parse_quote_ipv4(packet));

    auto packet6 = ipv6(6, tcp);
    const auto quoted6 = parse_quote_ipv6(packet6);
    ASSERT_TRUE(quoted6);
    EXPECT_EQ(quoted6->destination, kV6B);
    EXPECT_EQ(quoted6->seq, 0x0a0b0c0du);
    EXPECT_FALSE(parse_quote_ipv6(std::span(packet6).first(47)));
    packet6[6] = std::byte{17};
    EXPECT_FALSE(parse_quote_ipv6(packet6));
}

TEST(NeighbourDiscovery, RoundTripAndErrors) {
    std::array<std::byte, kNeighbourMessageLength> out;
    write_neighbour_advertisement({.target = kV6A, .solicited = true, .override_flag = true, .target_mac = kMac}, out);
    EXPECT_EQ(std::vector(out.begin(), out.end()),
              octets("88 00 0000 60000000 20010db8000000000000000000000001 0201 020000000005"));
    const auto advertisement = parse_neighbour_advertisement(out);
    ASSERT_TRUE(advertisement);
    EXPECT_EQ(advertisement->target, kV6A);
    EXPECT_TRUE(advertisement->solicited && advertisement->override_flag && !advertisement->router);
    EXPECT_EQ(advertisement->target_mac, kMac);

    write_neighbour_solicitation({.target = kV6A, .source_mac = kMac}, out);
    const auto solicitation = parse_neighbour_solicitation(out);
    ASSERT_TRUE(solicitation);
    EXPECT_EQ(solicitation->target, kV6A);
    EXPECT_EQ(solicitation->source_mac, kMac);
    EXPECT_FALSE(parse_neighbour_solicitation(std::span(out).first(24))->source_mac);
    EXPECT_FALSE(parse_neighbour_solicitation(std::span(out).first(23)));
    EXPECT_FALSE(parse_neighbour_solicitation(std::span(out).first(31)));
    // Code, multicast target, option lengths 0 and too long, a group address as link-layer address.
    for (const auto& [at, value] : {std::pair{1, 1}, {8, 0xff}, {25, 0}, {25, 2}, {26, 1}}) {
        auto broken = out;
        broken[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
        ASSERT_FALSE(parse_neighbour_solicitation(broken)) << at;
        EXPECT_EQ(parse_neighbour_solicitation(broken).error(), DropReason::nd_invalid);
    }
}

}  // namespace
}  // namespace sallyport::wire
