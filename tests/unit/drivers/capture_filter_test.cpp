#include "drivers/capture_filter.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <vector>

namespace sallyport::drivers {
namespace {

using Octets = std::vector<std::byte>;

Octets octets(std::initializer_list<unsigned> values) {
    Octets result;
    for (const unsigned value : values) result.push_back(static_cast<std::byte>(value));
    return result;
}
void append(Octets& to, const Octets& more) { to.insert(to.end(), more.begin(), more.end()); }

/// Ethernet, perhaps a tag, IPv4, TCP from 192.0.2.1:1000 to 192.0.2.2:443, no options.
Octets tcp_frame(std::uint16_t vlan = 0) {
    Octets frame = octets({2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2});
    if (vlan != 0) append(frame, octets({0x81, 0, static_cast<unsigned>(vlan >> 8), vlan & 0xffu}));
    append(frame, octets({8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}));
    append(frame, octets({0x03, 0xe8, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0}));
    return frame;
}

bool takes(const std::string& text, const Octets& frame, std::uint16_t vlan = 0) {
    const auto filter = CaptureFilter::compile(text, vlan);
    EXPECT_TRUE(filter) << text << ": " << (filter ? "" : filter.error());
    return filter && filter->matches(frame, static_cast<std::uint32_t>(frame.size()));
}
std::string refusal(const std::string& text, std::uint16_t vlan = 0) {
    const auto filter = CaptureFilter::compile(text, vlan);
    EXPECT_FALSE(filter) << text;
    return filter ? "" : filter.error();
}

TEST(CaptureFilter, EmptyTakesEveryFrame) {
    EXPECT_TRUE(takes("", octets({1, 2, 3})));
    EXPECT_TRUE(takes("  ", tcp_frame()));
    EXPECT_TRUE(CaptureFilter().matches({}, 0));
}

TEST(CaptureFilter, LibpcapsLanguage) {
    const Octets frame = tcp_frame();
    EXPECT_TRUE(takes("tcp port 443", frame));
    EXPECT_FALSE(takes("tcp port 80", frame));
    EXPECT_TRUE(takes("host 192.0.2.1 and not udp", frame));
    EXPECT_TRUE(takes("net 192.0.2.0/24 && portrange 400-500", frame));
    EXPECT_TRUE(takes("tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)", frame));
    EXPECT_TRUE(takes("ether host 02:00:00:00:00:01 and ip[8] = 64", frame));
    EXPECT_FALSE(takes("ip6 host 2001:db8::1", frame));
    EXPECT_TRUE(takes("len - 14 >= 0x28", frame));
    EXPECT_TRUE(takes("tcp[2:2] = 443 and net 192.0", frame));
    EXPECT_FALSE(takes("host ::ffff:192.0.2.1", frame));
}

TEST(CaptureFilter, WhatOnlyLooksLikeAnAddress_IsNotLookedUp) {
    for (const char* const word : {"1.2.3.4.5", "10.", "1..2", ".1", "be.ef:1", "1.2.3.4:80", "::g", "02:00:00:00:00", "1:2:3:4:5:6:7:8:9", "dead.beef"})
        EXPECT_NE(refusal(std::string("host ") + word).find("names are not looked up"), std::string::npos) << word;
}

TEST(CaptureFilter, PortWithVlan_LooksBehindTheTag) {
    EXPECT_TRUE(takes("tcp port 443", tcp_frame(7), 7));
    EXPECT_FALSE(takes("tcp port 80", tcp_frame(7), 7));
    EXPECT_FALSE(takes("tcp port 443", tcp_frame(8), 7));
    EXPECT_TRUE(takes("", tcp_frame(7), 7));
    EXPECT_FALSE(takes("", tcp_frame(), 7));
    EXPECT_FALSE(takes("udp or tcp port 80", tcp_frame(7), 7));   // 'and' does not bind to a part of it
}

TEST(CaptureFilter, BracketsOfItsOwn_DoNotEscapeOurs) {
    refusal("tcp) or (udp", 7);
    refusal("tcp) or (udp", 0);
}

TEST(CaptureFilter, BadOnes_SayWhy) {
    EXPECT_NE(refusal("tcp port").find("syntax"), std::string::npos) << refusal("tcp port");
    EXPECT_NE(refusal("port 70000").find("70000"), std::string::npos) << refusal("port 70000");
    refusal("tcp and and udp");
    refusal("icmp6 and ip and arp and vlan 5 and (");
    refusal(std::string(CaptureFilter::kMaxText + 1, ' '));
}

TEST(CaptureFilter, Names_AreNotLookedUp) {
    for (const char* text : {"host www.example.com", "host localhost", "src foo", "port https", "net loopback", "ether host foo", "host 1a.de", "host 10.0.0.1.example.org",
                             "host 1-100", "gateway router", "proto foo", "len-20", "host \\tcp", "protochain 6", "inbound", "ifname eth0", "host be.ef"}) {
        const auto begun = std::chrono::steady_clock::now();
        const std::string why = refusal(text);
        EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(1)) << text;
        EXPECT_TRUE(why.contains("names are not looked up") || why.contains("no place")) << text << ": " << why;
    }
}

TEST(CaptureFilter, CutFrames_AreNotReadBeyondTheirEnd) {
    const Octets frame = tcp_frame();
    const auto filter = CaptureFilter::compile("tcp port 443 and ip[0:4] != 0 and tcp[((tcp[12:1] & 0xf0) >> 2):4] != 0", 0);
    ASSERT_TRUE(filter) << filter.error();
    for (std::size_t length = 0; length <= frame.size(); ++length) {
        const Octets cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(length));   // a vector of its own: a sanitizer sees the end
        EXPECT_FALSE(filter->matches(cut, static_cast<std::uint32_t>(frame.size())));
    }
}

TEST(CaptureFilter, EvilOnes_NeitherCrashNorLoop) {
    const auto repeated = [](const std::string& part, const std::string& join) {
        std::string text = part;
        while (text.size() + join.size() + part.size() <= CaptureFilter::kMaxText) text += join + part;
        return text;
    };
    const std::string nested = std::string(500, '(') + "tcp" + std::string(500, ')');
    const std::string negated = repeated("!", "") + "ip";
    const std::vector<std::string> texts = {
        repeated("arp", " or "),
        repeated("vlan", " and "),
        repeated("mpls", " and "),
        repeated("pppoes", " and "),
        repeated("ip6 proto 6", " or "),
        repeated("tcp[0]", "+") + "=1",
        repeated("portrange 1-65535", " or "),
        repeated("host 1.2.3.4", " or "),
        repeated("(port 1 or port 2)", " and "),
        repeated("1", "/0+") + "=len",
        "ip[ip[ip[ip[ip[0]]]]] = 1",
        "tcp[0xffffffff] = 1",
        "ether[4294967295:4] = 0",
        "len / 0 = 1",
        "1 << 100 = len",
        "less 4294967295",
        nested,
        negated.substr(0, CaptureFilter::kMaxText - 3),
    };
    const Octets frame = tcp_frame();
    for (const std::string& text : texts)
        for (const std::uint16_t vlan : {std::uint16_t{0}, std::uint16_t{7}}) {
            const auto begun = std::chrono::steady_clock::now();
            const auto filter = CaptureFilter::compile(text, vlan);
            if (filter) {
                EXPECT_LE(filter->instructions(), CaptureFilter::kMaxInstructions);
                static_cast<void>(filter->matches(frame, static_cast<std::uint32_t>(frame.size())));
            } else {
                EXPECT_FALSE(filter.error().empty()) << text;
            }
            EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10)) << text;
        }
}

TEST(CaptureFilter, RandomWords_NeitherCrashNorLoop) {
    constexpr const char* kParts[] = {"tcp", "udp", "ip", "ip6", "vlan", "port", "host", "net", "1", "443", "10.0.0.0/8", "fe80::1", "(", ")", "and", "or", "not", "[", "]",
                                      ":", "&", "=", "!=", "<", "+", "-", "*", "/", "len", "less", "mpls", "pppoes", "icmp", "proto", "0xff", "src", "dst", "ether", "llc"};
    std::mt19937 random(1);
    const Octets frame = tcp_frame();
    for (int i = 0; i < 20'000; ++i) {
        std::string text;
        for (unsigned words = random() % 12; words > 0; --words) text += std::string(kParts[random() % std::size(kParts)]) + " ";
        if (const auto filter = CaptureFilter::compile(text, random() % 2 == 0 ? 0 : 7)) static_cast<void>(filter->matches(frame, static_cast<std::uint32_t>(frame.size())));
    }
}

}  // namespace
}  // namespace sallyport::drivers
