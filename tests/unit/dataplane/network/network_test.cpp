#include "dataplane/network/network.h"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <random>
#include <vector>

#include "dataplane/wire/arp.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/icmp.h"
#include "dataplane/wire/ipv4.h"
#include "dataplane/wire/ipv6.h"
#include "dataplane/wire/neighbour_discovery.h"
#include "dataplane/wire/tcp_header.h"
#include "tests/unit/dataplane/wire/octets.h"
#include "tests/unit/eal.h"

namespace sallyport::network {
namespace {

using Octets = std::vector<std::byte>;
using test::octets;
using Kind = Received::Kind;
using What = Received::IcmpError::What;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
IpPrefix prefix(const char* text) { return *IpPrefix::parse(text); }
Time at(Duration since_start) { return Time{} + since_start; }

constexpr MacAddress kMacA{2, 0, 0, 0, 0, 0xa}, kMacB{2, 0, 0, 0, 0, 0xb}, kMacC{2, 0, 0, 0, 0, 0xc};
const IpAddress kA4 = ip("192.0.2.1"), kB4 = ip("192.0.2.2"), kA6 = ip("2001:db8::a"), kB6 = ip("2001:db8::b");

Octets flat(const rte_mbuf* mbuf) {
    Octets result(mbuf->pkt_len);
    const void* data = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, result.data());
    if (!result.empty() && data != result.data()) std::memcpy(result.data(), data, result.size());
    return result;
}

/// An mbuf chain of these octets, cut at these lengths.
rte_mbuf* chain(rte_mempool* pool, std::span<const std::byte> data, std::vector<std::size_t> cuts = {}) {
    rte_mbuf* head = nullptr;
    cuts.push_back(data.size());
    for (const std::size_t cut : cuts) {
        rte_mbuf* mbuf = rte_pktmbuf_alloc(pool);
        const std::size_t length = std::min(cut, data.size());
        char* const at = rte_pktmbuf_append(mbuf, static_cast<std::uint16_t>(length));
        if (length > 0) std::memcpy(at, data.data(), length);
        data = data.subspan(length);
        if (head == nullptr)
            head = mbuf;
        else
            rte_pktmbuf_chain(head, mbuf);
    }
    return head;
}

Octets ethernet(const MacAddress& to, const MacAddress& from, std::uint16_t type, std::span<const std::byte> payload,
                std::uint16_t vlan = 0) {
    Octets frame(wire::kEthernetLengthMax);
    frame.resize(wire::write_ethernet({.destination = to, .source = from, .vlan = vlan, .type = type},
                                      std::span<std::byte, wire::kEthernetLengthMax>(frame)));
    frame.insert(frame.end(), payload.begin(), payload.end());
    return frame;
}
Octets ip_packet(const IpAddress& from, const IpAddress& to, std::uint8_t protocol, std::span<const std::byte> payload,
                 std::uint8_t hop_limit = 64) {
    const wire::IpHeader header{.source = from, .destination = to, .protocol = protocol, .hop_limit = hop_limit};
    Octets packet(from.is_v4() ? 20 : 40);
    if (from.is_v4())
        wire::write_ipv4(header, static_cast<std::uint16_t>(20 + payload.size()), true, packet.data());
    else
        wire::write_ipv6(header, static_cast<std::uint16_t>(payload.size()), packet.data());
    packet.insert(packet.end(), payload.begin(), payload.end());
    return packet;
}
/// Fills in the checksum at `offset` of a message.
Octets with_checksum(Octets message, std::size_t offset, wire::Sum pseudo) {
    wire::store_checksum(message.data() + offset, wire::finish(pseudo + wire::sum_octets(message)));
    return message;
}
Octets tcp(const IpAddress& from, const IpAddress& to, std::size_t payload) {
    Octets segment(20 + payload, std::byte{0x5a});
    wire::write_tcp_header({.source_port = 1000, .destination_port = 443, .seq = 77, .flags = wire::kAck, .length = 20}, segment);
    const auto length = static_cast<std::uint32_t>(segment.size());
    return with_checksum(std::move(segment), 16, wire::sum_pseudo_header(from, to, 6, length));
}
/// ICMP or ICMPv6, by the addresses.
Octets icmp(const IpAddress& from, const IpAddress& to, std::uint8_t type, std::uint8_t code, std::uint32_t rest,
            std::span<const std::byte> body) {
    Octets message(8);
    wire::write_icmp({type, code, rest}, message.data());
    message.insert(message.end(), body.begin(), body.end());
    const auto length = static_cast<std::uint32_t>(message.size());
    return with_checksum(std::move(message), 2, from.is_v4() ? 0 : wire::sum_pseudo_header(from, to, 58, length));
}

/// One Network with what it counts, and access to its frames.
class Node {
 public:
    Node(Network::Settings settings, rte_mempool* pool) : pool_(pool), network(settings, pool, drops) {}

    Received receive(const Octets& frame, Time now = at(1s), std::vector<std::size_t> cuts = {}, std::uint64_t flags = 0) {
        rte_mbuf* mbuf = chain(pool_, frame, std::move(cuts));
        mbuf->ol_flags |= flags;
        const Received received = network.receive(mbuf, 0, now);
        last_payload.clear();
        last_options.clear();
        if (received.kind == Kind::tcp) {
            EXPECT_EQ(mbuf->pkt_len, received.segment.payload_length);
            last_payload = flat(mbuf);
            last_options.assign(received.segment.options.begin(), received.segment.options.end());
            rte_pktmbuf_free(mbuf);
        }
        return received;
    }
    /// Frames that it wants to transmit; they are taken and freed.
    std::vector<Octets> sent(std::uint16_t interface = 0) {
        std::vector<Octets> frames;
        for (rte_mbuf* frame : network.to_transmit(interface)) {
            frames.push_back(flat(frame));
            rte_pktmbuf_free(frame);
        }
        network.taken(interface);
        return frames;
    }
    rte_mbuf* segment(std::size_t payload, std::vector<std::size_t> cuts = {}) {
        Octets data(20 + payload);
        for (std::size_t i = 20; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
        wire::write_tcp_header({.source_port = 1, .destination_port = 2, .seq = 3, .flags = wire::kAck, .length = 20}, data);
        return chain(pool_, data, std::move(cuts));
    }
    /// Sends a segment with this much payload and a wrong checksum in its header.
    void send(const IpAddress& to, std::size_t payload, Time now = at(1s), std::vector<std::size_t> cuts = {}) {
        auto path = network.route(to, now);
        ASSERT_TRUE(path);
        rte_mbuf* mbuf = segment(payload, std::move(cuts));
        wire::store16(rte_pktmbuf_mtod_offset(mbuf, std::byte*, 16), 0x1234);
        network.send_tcp(mbuf, path->source, to, *path, 2, now);
    }
    const char* state_of(const IpAddress& address) {
        for (const auto& neighbour : network.neighbours())
            if (neighbour.address == address) return neighbour.state;
        return "none";
    }
    MacAddress mac_of(const IpAddress& address) {
        for (const auto& neighbour : network.neighbours())
            if (neighbour.address == address) return neighbour.mac;
        return {};
    }
    /// Counted since the last call.
    std::uint64_t counted(DropReason reason) {
        return drops[reason] - std::exchange(before_[static_cast<std::size_t>(reason)], drops[reason]);
    }
    std::uint64_t counted_all() {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < drops.values.size(); ++i) sum += counted(static_cast<DropReason>(i));
        return sum;
    }

 private:
    rte_mempool* pool_;
    std::array<std::uint64_t, static_cast<std::size_t>(DropReason::count_)> before_{};

 public:
    DropCounters drops;
    Network network;
    Octets last_payload, last_options;
};

Interface interface_a() {
    return {.name = "a", .mac = kMacA, .addresses = {prefix("192.0.2.1/24"), prefix("2001:db8::a/64")}};
}
Interface interface_b() {
    return {.name = "b", .mac = kMacB, .addresses = {prefix("192.0.2.2/24"), prefix("2001:db8::b/64")}};
}

class NetworkTest : public testing::Test {
 protected:
    NetworkTest() : NetworkTest({.interfaces = {interface_a()}}, {.interfaces = {interface_b()}}) {}
    NetworkTest(const Network::Settings& settings_a, const Network::Settings& settings_b)
        : a(settings_a, pool.get()), b(settings_b, pool.get()) {}

    /// Carries frames both ways until there are none. The TCP segments that arrived are counted.
    void carry(Time now = at(1s)) {
        for (bool more = true; more;) {
            more = false;
            for (auto [from, to] : {std::pair{&a, &b}, {&b, &a}})
                for (const Octets& frame : from->sent()) {
                    more = true;
                    if (to->receive(frame, now).kind == Kind::tcp) ++arrived;
                }
        }
    }
    /// Has a make its announcements, which end after two seconds.
    void settle() {
        for (const Duration now : {0s, 2s}) a.network.advance(at(now));
        static_cast<void>(a.sent());
    }
    void resolve(Time now = at(1s)) {
        for (const IpAddress& address : {kB4, kB6}) EXPECT_TRUE(a.network.route(address, now));
        carry(now);
    }
    /// `frame` to b must be dropped for this reason and no other.
    void expect_drop(const Octets& frame, DropReason reason, std::uint64_t flags = 0) {
        static_cast<void>(b.counted_all());
        EXPECT_EQ(b.receive(frame, at(1s), {}, flags).kind, Kind::taken);
        EXPECT_EQ(b.counted(reason), 1u) << name(reason);
        EXPECT_EQ(b.counted_all(), 0u);
        EXPECT_TRUE(b.sent().empty());
    }

    test::BufferPool pool;
    Node a, b;
    unsigned arrived = 0;
};

Octets tcp_frame(const IpAddress& from, const IpAddress& to, std::size_t payload, const MacAddress& mac = kMacB) {
    return ethernet(mac, kMacA, from.is_v4() ? wire::kEtherTypeIpv4 : wire::kEtherTypeIpv6,
                    ip_packet(from, to, 6, tcp(from, to, payload)));
}

// --- TCP both ways

TEST_F(NetworkTest, FirstSegments_WaitForTheNeighbourAndArriveInOrder) {
    for (const IpAddress& to : {kB4, kB6}) {
        for (std::size_t payload = 1; payload <= 3; ++payload) a.send(to, payload);
        EXPECT_STREQ(a.state_of(to), "INCOMPLETE");
        const auto question = a.sent();
        ASSERT_EQ(question.size(), 1u);
        b.receive(question[0]);
        EXPECT_EQ(b.counted_all(), 0u);
        const auto answer = b.sent();
        ASSERT_EQ(answer.size(), 1u);
        a.receive(answer[0]);
        EXPECT_STREQ(a.state_of(to), "REACHABLE");
        EXPECT_EQ(a.mac_of(to), kMacB);
        const auto frames = a.sent();
        ASSERT_EQ(frames.size(), 3u);
        for (std::size_t i = 0; i < 3; ++i) {
            const auto received = b.receive(frames[i]);
            ASSERT_EQ(received.kind, Kind::tcp);
            EXPECT_EQ(received.segment.payload_length, i + 1);
            EXPECT_EQ(received.segment.ip.source, to.is_v4() ? kA4 : kA6);
            EXPECT_EQ(received.segment.ip.destination, to);
            EXPECT_EQ(received.segment.ip.traffic_class, 2);
            EXPECT_EQ(received.segment.tcp.seq, 3u);
        }
    }
}

TEST_F(NetworkTest, SentIpv4_HasDontFragmentAndItsChecksums) {
    resolve();
    a.send(kB4, 100);
    const auto frames = a.sent();
    ASSERT_EQ(frames.size(), 1u);
    const auto packet = std::span(frames[0]).subspan(14);
    EXPECT_EQ(wire::load16(packet.data() + 6), 0x4000);
    EXPECT_EQ(wire::finish(wire::sum_octets(packet.first(20))), 0);
    EXPECT_EQ(wire::finish(wire::sum_pseudo_header(kA4, kB4, 6, 120) + wire::sum_octets(packet.subspan(20))), 0);
}

TEST_F(NetworkTest, Padding_IsCutOff) {
    for (const auto& [from, to] : {std::pair{kA4, kB4}, {kA6, kB6}}) {
        auto frame = tcp_frame(from, to, 0);
        frame.resize(90, std::byte{0xee});
        const auto received = b.receive(frame);
        ASSERT_EQ(received.kind, Kind::tcp);
        EXPECT_EQ(received.segment.payload_length, 0u);
        // Padding that lies in mbuf segments of its own, and cuts through one.
        frame = tcp_frame(from, to, 30);
        const std::size_t real = frame.size();
        frame.resize(real + 40, std::byte{0xee});
        EXPECT_EQ(b.receive(frame, at(1s), {real - 10, 15, 20}).segment.payload_length, 30u);
        EXPECT_EQ(b.last_payload, Octets(30, std::byte{0x5a}));
        EXPECT_EQ(b.receive(frame, at(1s), {real, 20}).segment.payload_length, 30u);
    }
}

TEST_F(NetworkTest, ChainsOfOddSegments_SentAndReceived) {
    resolve();
    for (const IpAddress& to : {kB4, kB6}) {
        a.send(to, 1001, at(1s), {33, 0, 77, 501});
        const auto frames = a.sent();
        ASSERT_EQ(frames.size(), 1u);
        const auto received = b.receive(frames[0], at(1s), {101, 7, 333});
        ASSERT_EQ(received.kind, Kind::tcp);
        ASSERT_EQ(b.last_payload.size(), 1001u);
        for (std::size_t i = 0; i < 1001; ++i) ASSERT_EQ(b.last_payload[i], static_cast<std::byte>(i + 20));
    }
}

TEST_F(NetworkTest, Options_AreHandedOver) {
    Octets segment(20 + 12 + 5);
    wire::write_tcp_header({.source_port = 1, .destination_port = 2, .flags = wire::kAck, .length = 32}, segment);
    std::ranges::copy(octets("0101080a0000000100000002"), segment.begin() + 20);
    segment = with_checksum(segment, 16, wire::sum_pseudo_header(kA4, kB4, 6, 37));
    const auto received = b.receive(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 6, segment)));
    ASSERT_EQ(received.kind, Kind::tcp);
    EXPECT_EQ(b.last_options, octets("0101080a0000000100000002"));
    EXPECT_EQ(received.segment.payload_length, 5u);
}

TEST_F(NetworkTest, ReferenceOfTheSender_IsKept) {
    rte_mbuf* mbuf = a.segment(10, {25});
    for (rte_mbuf* part = mbuf; part != nullptr; part = part->next) rte_mbuf_refcnt_update(part, 1);
    auto path = a.network.route(kB4, at(1s));
    ASSERT_TRUE(path);
    a.network.send_tcp(mbuf, kA4, kB4, *path, 0, at(1s));
    EXPECT_EQ(rte_mbuf_refcnt_read(mbuf), 2);
    for (int i = 1; i <= 5; ++i) a.network.advance(at(1s * (i + 1)));  // resolution fails
    EXPECT_EQ(a.counted(DropReason::neighbour_unresolved), 1u);
    EXPECT_EQ(rte_mbuf_refcnt_read(mbuf), 1);
    EXPECT_EQ(rte_mbuf_refcnt_read(mbuf->next), 1);
    rte_pktmbuf_free(mbuf);
    static_cast<void>(a.sent());
}

// --- what is dropped

TEST_F(NetworkTest, BadEthernet_IsDropped) {
    expect_drop(Octets(13), DropReason::ethernet_too_short);
    expect_drop(octets("02000000000b 02000000000a 8100 0000"), DropReason::ethernet_too_short);
    expect_drop(tcp_frame(kA4, kB4, 0, kMacC), DropReason::ethernet_not_ours);
    expect_drop(ethernet(kMacB, kMacA, 0x88cc, Octets(46)), DropReason::ethernet_unknown_type);
    expect_drop(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 6, tcp(kA4, kB4, 0)), 7), DropReason::vlan_mismatch);
}

TEST_F(NetworkTest, BadIp_IsDropped) {
    const auto frame4 = tcp_frame(kA4, kB4, 0);
    const auto with = [](Octets frame, std::size_t offset, unsigned value) {
        frame[offset] = static_cast<std::byte>(value);
        return frame;
    };
    expect_drop(with(frame4, 14, 0x65), DropReason::ip_bad_header);
    expect_drop(Octets(frame4.begin(), frame4.begin() + 30), DropReason::ip_bad_header);
    expect_drop(with(frame4, 22, 63), DropReason::ip_bad_checksum);
    Octets packet = ip_packet(kA4, kB4, 6, tcp(kA4, kB4, 0));
    const auto refit = [](Octets ipv4) {  // header checksum once more
        wire::store16(ipv4.data() + 10, 0);
        wire::store_checksum(ipv4.data() + 10,
                             wire::finish(wire::sum_octets(std::span(ipv4).first((wire::load8(ipv4.data()) & 0xfu) * 4))));
        return ethernet(kMacB, kMacA, 0x0800, ipv4);
    };
    expect_drop(refit(with(packet, 6, 0x20)), DropReason::ip_fragment);
    expect_drop(refit(with(packet, 7, 0x01)), DropReason::ip_fragment);
    expect_drop(refit(with(packet, 9, 17)), DropReason::ip_unknown_protocol);
    Octets routed = with(packet, 0, 0x47);
    const auto option = octets("8307040a00000100");
    routed.insert(routed.begin() + 20, option.begin(), option.end());
    wire::store16(routed.data() + 2, static_cast<std::uint16_t>(routed.size()));
    expect_drop(refit(routed), DropReason::ip_options);
    routed[20] = std::byte{0x94};  // router alert in its place: the segment is taken
    EXPECT_EQ(b.receive(refit(routed)).kind, Kind::tcp);

    expect_drop(ethernet(kMacB, kMacA, 0x86dd, ip_packet(kA6, kB6, 44, Octets(8))), DropReason::ip_fragment);
    expect_drop(ethernet(kMacB, kMacA, 0x86dd, ip_packet(kA6, kB6, 43, Octets(8))), DropReason::ip_options);
    expect_drop(ethernet(kMacB, kMacA, 0x86dd, ip_packet(kA6, kB6, 17, Octets(8))), DropReason::ip_unknown_protocol);
    expect_drop(ethernet(kMacB, kMacA, 0x86dd, Octets(39, std::byte{0x60})), DropReason::ip_bad_header);
}

TEST_F(NetworkTest, ImpossibleAddresses_AreDropped) {
    for (const char* source : {"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.255", "192.0.2.2"})
        expect_drop(tcp_frame(ip(source), kB4, 0), DropReason::ip_martian);
    for (const char* source : {"::", "::1", "ff02::1", "2001:db8::b", "fe80::ff:fe00:b"})
        expect_drop(tcp_frame(ip(source), kB6, 0), DropReason::ip_martian);
    // IPv4-mapped addresses in IPv6 packets would pass for IPv4.
    Octets mapped = tcp_frame(kA6, kB6, 0);
    std::ranges::copy(kA4.octets, reinterpret_cast<std::uint8_t*>(mapped.data()) + 22);
    expect_drop(mapped, DropReason::ip_martian);
    for (const char* to : {"192.0.2.3", "192.0.2.255", "224.0.0.1"}) expect_drop(tcp_frame(kA4, ip(to), 0), DropReason::ip_not_ours);
    for (const char* to : {"2001:db8::c", "ff02::1", "ff02::1:2"}) expect_drop(tcp_frame(kA6, ip(to), 0), DropReason::ip_not_ours);
    // Unicast to us, but in a frame to all.
    expect_drop(tcp_frame(kA4, kB4, 0, wire::kBroadcastMac), DropReason::ip_not_ours);
    expect_drop(tcp_frame(kA6, kB6, 0, {0x33, 0x33, 0, 0, 0, 1}), DropReason::ip_not_ours);
}

TEST_F(NetworkTest, BadTcp_IsDropped) {
    for (const auto& [from, to] : {std::pair{kA4, kB4}, {kA6, kB6}}) {
        const std::size_t tcp_at = from.is_v4() ? 34 : 54;
        auto frame = tcp_frame(from, to, 5);
        frame.back() ^= std::byte{1};
        expect_drop(frame, DropReason::tcp_bad_checksum);
        frame = tcp_frame(from, to, 5);
        frame[tcp_at + 12] = std::byte{0x40};
        expect_drop(frame, DropReason::tcp_bad_header);
        frame[tcp_at + 12] = std::byte{0x70};  // options beyond the end
        expect_drop(frame, DropReason::tcp_bad_header);
        frame = ethernet(kMacB, kMacA, from.is_v4() ? 0x0800 : 0x86dd, ip_packet(from, to, 6, Octets(19)));
        expect_drop(frame, DropReason::tcp_bad_header);
        frame.resize(120);  // the octets that lack are in the padding
        expect_drop(frame, DropReason::tcp_bad_header);
    }
}

TEST_F(NetworkTest, ReceiveChecksumFlags_AreTrustedOnlyIfTheInterfaceSaysSo) {
    auto bad = tcp_frame(kA4, kB4, 5);
    bad.back() ^= std::byte{1};
    bad[24] ^= std::byte{1};
    const std::uint64_t good_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    expect_drop(bad, DropReason::ip_bad_checksum, good_flags);
    auto trusting = interface_b();
    trusting.receive_checksum_good = true;
    Node c({.interfaces = {trusting}}, pool.get());
    EXPECT_EQ(c.receive(bad, at(1s), {}, good_flags).kind, Kind::tcp);
    EXPECT_EQ(c.receive(bad).kind, Kind::taken) << "the device said nothing";
    auto unfinished = tcp_frame(kA4, kB4, 5);   // whose TCP checksum the last device on the way would have filled in
    unfinished.back() ^= std::byte{1};
    EXPECT_EQ(c.receive(unfinished, at(1s), {}, RTE_MBUF_F_RX_L4_CKSUM_NONE).kind, Kind::tcp);
    EXPECT_EQ(c.counted(DropReason::ip_bad_checksum), 1u);
    const auto good = tcp_frame(kA4, kB4, 5);
    EXPECT_EQ(c.receive(good, at(1s), {}, RTE_MBUF_F_RX_L4_CKSUM_BAD).kind, Kind::taken);
    EXPECT_EQ(c.counted(DropReason::tcp_bad_checksum), 1u);
    EXPECT_EQ(c.receive(good, at(1s), {}, RTE_MBUF_F_RX_IP_CKSUM_BAD).kind, Kind::taken);
    EXPECT_EQ(c.counted(DropReason::ip_bad_checksum), 1u);
    EXPECT_EQ(c.receive(good).kind, Kind::tcp);
}

// --- transmit offload, VLAN

TEST_F(NetworkTest, ChecksumOffload_LeavesPseudoHeaderSumsAndFlags) {
    auto interface = interface_a();
    interface.checksum_offload = true;
    interface.vlan = 9;
    Node c({.interfaces = {interface}}, pool.get());
    for (const auto& [from, to] : {std::pair{kA4, kB4}, {kA6, kB6}}) {
        c.send(to, 50);
        static_cast<void>(c.sent());
        Octets reply;
        if (to.is_v4()) {
            reply.resize(28);
            wire::write_arp({wire::ArpPacket::Operation::reply, kMacB, to, kMacA, from},
                            std::span<std::byte, wire::kArpLength>(reply));
            reply = ethernet(kMacA, kMacB, 0x0806, reply, 9);
        } else {
            std::array<std::byte, 32> message;
            wire::write_neighbour_advertisement({.target = to, .solicited = true, .target_mac = kMacB}, message);
            reply = ethernet(kMacA, kMacB, 0x86dd,
                             ip_packet(to, from, 58,
                                       with_checksum({message.begin(), message.end()}, 2, wire::sum_pseudo_header(to, from, 58, 32)), 255),
                             9);
        }
        c.receive(reply);
        ASSERT_EQ(c.network.to_transmit(0).size(), 1u);
        const rte_mbuf* mbuf = c.network.to_transmit(0)[0];
        const std::size_t l3 = to.is_v4() ? 20 : 40;
        EXPECT_EQ(mbuf->l2_len, 18u);
        EXPECT_EQ(mbuf->l3_len, l3);
        EXPECT_EQ(mbuf->ol_flags, RTE_MBUF_F_TX_TCP_CKSUM | (to.is_v4() ? RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM : RTE_MBUF_F_TX_IPV6));
        const Octets frame = c.sent()[0];
        EXPECT_EQ(wire::load16(frame.data() + 12), 0x8100);
        EXPECT_EQ(wire::load16(frame.data() + 14), 9);
        std::uint16_t sum;
        std::memcpy(&sum, frame.data() + 18 + l3 + 16, 2);
        EXPECT_EQ(sum, wire::fold(wire::sum_pseudo_header(from, to, 6, 70)));
        if (to.is_v4()) {
            EXPECT_EQ(wire::load16(frame.data() + 18 + 10), 0);
        }
    }
}

TEST_F(NetworkTest, Ipv4ChecksumThatTheDeviceLeavesToUs_IsThere) {
    auto interface = interface_a();
    interface.checksum_offload = interface.ipv4_checksum_here = true;
    Node c({.interfaces = {interface}}, pool.get());
    c.send(kB4, 50);
    static_cast<void>(c.sent());
    Octets reply(28);
    wire::write_arp({wire::ArpPacket::Operation::reply, kMacB, kB4, kMacA, kA4}, std::span<std::byte, wire::kArpLength>(reply));
    c.receive(ethernet(kMacA, kMacB, 0x0806, reply));
    ASSERT_EQ(c.network.to_transmit(0).size(), 1u);
    EXPECT_EQ(c.network.to_transmit(0)[0]->ol_flags, RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV4);
    const Octets frame = c.sent()[0];
    EXPECT_NE(wire::load16(frame.data() + 14 + 10), 0);
    EXPECT_EQ(wire::finish(wire::sum_octets({frame.data() + 14, 20})), 0) << "over a header whose checksum is right";
}

class VlanTest : public NetworkTest {
 protected:
    static Network::Settings tagged(Interface interface) {
        interface.vlan = 42;
        return {.interfaces = {interface}};
    }
    VlanTest() : NetworkTest(tagged(interface_a()), tagged(interface_b())) {}
};

TEST_F(VlanTest, EverythingIsTagged) {
    a.send(kB4, 10);
    a.send(kB6, 10);
    carry();
    EXPECT_EQ(arrived, 2u);
    EXPECT_EQ(a.counted_all() + b.counted_all(), 0u);
    expect_drop(tcp_frame(kA4, kB4, 0), DropReason::vlan_mismatch);
    EXPECT_EQ(b.receive(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 6, tcp(kA4, kB4, 1)), 42)).kind, Kind::tcp);
}

class MarkedTest : public NetworkTest {
 protected:
    static Network::Settings marked(Interface interface) { return {.interfaces = {interface}, .hop_limit = 32, .dscp = 46}; }
    MarkedTest() : NetworkTest(marked(interface_a()), {.interfaces = {interface_b()}}) {}
    int marked_segments = 0;
};

TEST_F(MarkedTest, SegmentsCarryHopLimitAndDscp) {
    resolve();
    for (const IpAddress& to : {kB4, kB6}) {
        a.send(to, 10);
        for (const auto& frame : a.sent()) {
            const auto received = b.receive(frame);
            if (received.kind != Kind::tcp) continue;
            EXPECT_EQ(received.segment.ip.traffic_class, 46 << 2 | 2);
            EXPECT_EQ(received.segment.ip.hop_limit, 32);
            ++marked_segments;
        }
    }
    EXPECT_GE(marked_segments, 1);
}

// --- ICMP

Octets echo_frame(const IpAddress& from, const IpAddress& to, std::size_t body, const MacAddress& mac = kMacB) {
    const bool v4 = from.is_v4();
    return ethernet(mac, kMacA, v4 ? 0x0800 : 0x86dd,
                    ip_packet(from, to, v4 ? 1 : 58, icmp(from, to, v4 ? 8 : 128, 0, 0x12345678, Octets(body, std::byte{7}))));
}

TEST_F(NetworkTest, Echo_IsAnswered) {
    EXPECT_TRUE(b.network.route(kA4, at(1s)) && b.network.route(kA6, at(1s)));
    carry();
    for (const auto& [from, to] : {std::pair{kA4, kB4}, {kA6, kB6}}) {
        const auto cuts = std::vector<std::size_t>{80, 51};
        EXPECT_EQ(b.receive(echo_frame(from, to, 500), at(1s), cuts).kind, Kind::taken);
        const auto frames = b.sent();
        ASSERT_EQ(frames.size(), 1u);
        const bool v4 = from.is_v4();
        const Octets expected =
            ethernet(kMacA, kMacB, v4 ? 0x0800 : 0x86dd,
                     ip_packet(to, from, v4 ? 1 : 58, icmp(to, from, v4 ? 0 : 129, 0, 0x12345678, Octets(500, std::byte{7}))));
        EXPECT_EQ(frames[0], expected);
    }
    // All-nodes is answered from the address of the interface.
    b.receive(echo_frame(kA6, wire::kAllNodes, 8, {0x33, 0x33, 0, 0, 0, 1}));
    const auto frames = b.sent();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(wire::load_ipv6(frames[0].data() + 22), kB6);
    EXPECT_EQ(b.counted_all(), 0u);
}

TEST_F(NetworkTest, EchoAboveTheLimit_IsNotAnswered) {
    EXPECT_TRUE(b.network.route(kA4, at(1s)));
    carry();
    std::size_t answers = 0;
    for (int i = 0; i < 1500; ++i) {
        b.receive(echo_frame(kA4, kB4, 0));
        answers += b.sent().size();
    }
    EXPECT_EQ(answers, 1000u);
    EXPECT_EQ(b.counted(DropReason::icmp_rate_limited), 500u);
    b.receive(echo_frame(kA4, kB4, 0), at(1s + 2ms));
    EXPECT_EQ(b.sent().size(), 1u);
}

Octets error_frame(const IpAddress& router, const IpAddress& ours, const IpAddress& peer, std::uint8_t type, std::uint8_t code,
                   std::uint32_t rest) {
    const auto quote = ip_packet(ours, peer, 6, octets("01bb c350 0a0b0c0d"));
    return ethernet(kMacB, kMacA, ours.is_v4() ? 0x0800 : 0x86dd,
                    ip_packet(router, ours, ours.is_v4() ? 1 : 58, icmp(router, ours, type, code, rest, quote)));
}

// --- echo requests of our own

TEST_F(NetworkTest, EchoRequest_ReplyIsHeard) {
    a.network.listen_for_echoes(true);
    for (const IpAddress& to : {kB4, kB6}) {
        ASSERT_TRUE(a.network.send_echo(to, 0x1234, 7, 500, at(1s)));
        carry();   // asks for the neighbour, sends, answers
        const auto heard = a.network.take_echoes();
        ASSERT_EQ(heard.size(), 1u);
        EXPECT_EQ(heard[0].what, EchoHeard::What::reply);
        EXPECT_EQ(heard[0].from, to);
        EXPECT_EQ(heard[0].to, to);
        EXPECT_EQ(heard[0].identifier, 0x1234);
        EXPECT_EQ(heard[0].sequence, 7);
        EXPECT_EQ(heard[0].at, at(1s));
        EXPECT_TRUE(a.network.is_resolved(to, at(1s)));
    }
    EXPECT_TRUE(a.network.take_echoes().empty());
    EXPECT_EQ(a.counted_all() + b.counted_all(), 0u);
}

TEST_F(NetworkTest, EchoReply_NobodyListens_IsNotKept) {
    ASSERT_TRUE(a.network.send_echo(kB4, 1, 1, 8, at(1s)));
    carry();
    a.network.listen_for_echoes(true);
    EXPECT_TRUE(a.network.take_echoes().empty());
}

TEST_F(NetworkTest, EchoReplies_AreKeptInABoundedNumber) {
    b.network.listen_for_echoes(true);
    for (int i = 0; i < 1000; ++i)
        b.receive(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 1, icmp(kA4, kB4, 0, 0, 0x00010002, octets("00")))));
    EXPECT_EQ(b.network.take_echoes().size(), 256u);
}

TEST_F(NetworkTest, EchoRequest_NoRouteAndRoom) {
    EXPECT_EQ(a.network.send_echo(ip("203.0.113.1"), 1, 1, 8, at(1s)).error(), DropReason::no_route);
    EXPECT_EQ(a.network.echo_room(ip("203.0.113.1"), at(1s)).error(), DropReason::no_route);
    EXPECT_EQ(*a.network.echo_room(kB4, at(1s)), 1500 - 28);
    EXPECT_EQ(*a.network.echo_room(kB6, at(1s)), 1500 - 48);
    EXPECT_FALSE(a.network.is_resolved(kB4, at(1s)));
}

TEST_F(NetworkTest, ErrorsThatQuoteAnEchoRequest_AreHeard) {
    struct Case {
        bool v4;
        std::uint8_t type, code;
        EchoHeard::What what;
    };
    using Heard = EchoHeard::What;
    for (const Case& c : {Case{true, 3, 1, Heard::unreachable}, {true, 3, 4, Heard::packet_too_big}, {true, 11, 0, Heard::time_exceeded}, {true, 12, 0, Heard::parameter_problem},
                          {false, 1, 3, Heard::unreachable}, {false, 2, 0, Heard::packet_too_big}, {false, 3, 0, Heard::time_exceeded}, {false, 4, 1, Heard::parameter_problem}}) {
        const IpAddress ours = c.v4 ? kB4 : kB6, router = c.v4 ? kA4 : kA6, far = ip(c.v4 ? "203.0.113.9" : "2001:db8:9::9");
        const auto request = icmp(ours, far, c.v4 ? 8 : 128, 0, 0x12340007, octets("0102"));
        const auto quote = ip_packet(ours, far, c.v4 ? 1 : 58, request);
        const auto frame = ethernet(kMacB, kMacA, c.v4 ? 0x0800 : 0x86dd, ip_packet(router, ours, c.v4 ? 1 : 58, icmp(router, ours, c.type, c.code, 0, quote)));
        EXPECT_EQ(b.receive(frame).kind, Kind::taken);
        EXPECT_EQ(b.counted(DropReason::icmp_unmatched), 1u) << "nobody listens";
        b.network.listen_for_echoes(true);
        EXPECT_EQ(b.receive(frame).kind, Kind::taken);
        EXPECT_EQ(b.counted_all(), 0u);
        const auto heard = b.network.take_echoes();
        ASSERT_EQ(heard.size(), 1u) << int{c.type};
        EXPECT_EQ(heard[0].what, c.what);
        EXPECT_EQ(heard[0].code, c.code);
        EXPECT_EQ(heard[0].from, router);
        EXPECT_EQ(heard[0].to, far);
        EXPECT_EQ(heard[0].identifier, 0x1234);
        EXPECT_EQ(heard[0].sequence, 7);
        b.network.listen_for_echoes(false);
    }
}

TEST_F(NetworkTest, IcmpErrors_AreTold) {
    struct Case {
        bool v4;
        std::uint8_t type, code;
        std::uint32_t rest;
        What what;
        std::uint16_t mtu;
    };
    for (const Case& c : {Case{true, 3, 0, 0, What::soft_unreachable, 0}, {true, 3, 1, 0, What::soft_unreachable, 0},
                          {true, 3, 2, 0, What::hard_unreachable, 0}, {true, 3, 3, 0, What::hard_unreachable, 0},
                          {true, 3, 4, 1400, What::packet_too_big, 1400}, {true, 3, 4, 0, What::packet_too_big, 0},
                          {true, 3, 13, 0, What::hard_unreachable, 0}, {true, 11, 0, 0, What::soft_unreachable, 0},
                          {false, 1, 0, 0, What::soft_unreachable, 0}, {false, 1, 4, 0, What::hard_unreachable, 0},
                          {false, 2, 0, 1280, What::packet_too_big, 1280}, {false, 2, 0, 0x12345678, What::packet_too_big, 0xffff},
                          {false, 3, 0, 0, What::soft_unreachable, 0}}) {
        const IpAddress ours = c.v4 ? kB4 : kB6, peer = c.v4 ? ip("203.0.113.5") : ip("2001:db8:9::5");
        const auto received = b.receive(error_frame(c.v4 ? kA4 : kA6, ours, peer, c.type, c.code, c.rest));
        ASSERT_EQ(received.kind, Kind::icmp_error);
        EXPECT_EQ(received.error.local, ours);
        EXPECT_EQ(received.error.remote, peer);
        EXPECT_EQ(received.error.local_port, 443);
        EXPECT_EQ(received.error.remote_port, 50000);
        EXPECT_EQ(received.error.seq, 0x0a0b0c0du);
        EXPECT_EQ(received.error.what, c.what) << int{c.type} << ' ' << int{c.code};
        EXPECT_EQ(received.error.mtu, c.mtu);
    }
    EXPECT_EQ(b.counted_all(), 0u);
}

TEST_F(NetworkTest, BadIcmp_IsDropped) {
    auto frame = error_frame(kA4, kB4, kA4, 3, 3, 0);
    frame.back() ^= std::byte{1};
    expect_drop(frame, DropReason::icmp_invalid);
    frame = error_frame(kA6, kB6, kA6, 1, 4, 0);
    frame.back() ^= std::byte{1};
    expect_drop(frame, DropReason::icmp_invalid);
    expect_drop(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 1, Octets(7))), DropReason::icmp_invalid);
    expect_drop(ethernet(kMacB, kMacA, 0x86dd, ip_packet(kA6, kB6, 58, Octets(7))), DropReason::icmp_invalid);
    // It quotes a segment that we can't have sent.
    const auto foreign = ip_packet(ip("203.0.113.9"), kA4, 6, Octets(8));
    expect_drop(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 1, icmp(kA4, kB4, 3, 3, 0, foreign))), DropReason::icmp_unmatched);
    const auto foreign6 = ip_packet(ip("2001:db8::99"), kA6, 6, Octets(8));
    expect_drop(ethernet(kMacB, kMacA, 0x86dd, ip_packet(kA6, kB6, 58, icmp(kA6, kB6, 1, 4, 0, foreign6))),
                DropReason::icmp_unmatched);
    expect_drop(ethernet(kMacB, kMacA, 0x86dd, ip_packet(ip("::"), kB6, 58, icmp(ip("::"), kB6, 128, 0, 0, {}))), DropReason::ip_martian);
    // Not for us, but nothing wrong with them: router advertisement, redirect.
    EXPECT_EQ(b.receive(ethernet(kMacB, kMacA, 0x86dd, ip_packet(kA6, kB6, 58, icmp(kA6, kB6, 134, 0, 0, Octets(8)), 255))).kind, Kind::taken);
    EXPECT_EQ(b.receive(ethernet(kMacB, kMacA, 0x0800, ip_packet(kA4, kB4, 1, icmp(kA4, kB4, 5, 0, 0, Octets(28))))).kind, Kind::taken);
    EXPECT_EQ(b.counted_all(), 0u);
}

// --- neighbours that forged sources make us ask for

struct ForgedSources : NetworkTest {
    ForgedSources() {
        auto wide = interface_a();
        wide.addresses = {prefix("10.0.0.1/8")};
        node.emplace(Network::Settings{.interfaces = {wide}, .routes = {{prefix("0.0.0.0/0"), ip("10.255.255.254")}}, .max_neighbours = 16}, pool.get());
        for (const Duration now : {0s, 2s}) node->network.advance(at(now));   // its announcements
        static_cast<void>(node->sent());
    }
    /// As many packets of sources on the link as it takes; all at one moment.
    void flood(unsigned count = 2000) {
        for (unsigned i = 0; i < count; ++i)
            EXPECT_TRUE(node->network.route(IpAddress::from_v4({10, 1, static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)}), at(3s)));
        asked = node->sent().size();
    }
    std::optional<Node> node;
    std::size_t asked = 0;
};

TEST_F(ForgedSources, UseUpTheirOwnBudget_NotThatOfGatewaysAndOfOurOwnConnections) {
    flood();
    EXPECT_EQ(asked, 1000u);
    EXPECT_TRUE(node->network.route(ip("10.2.0.1"), at(3s)));
    EXPECT_TRUE(node->sent().empty()) << "the budget is used up";
    EXPECT_TRUE(node->network.route(ip("10.3.0.1"), at(3s), Network::Use::open));
    EXPECT_EQ(node->sent().size(), 1u) << "a member";
    EXPECT_TRUE(node->network.route(ip("192.0.2.1"), at(3s)));
    EXPECT_EQ(node->sent().size(), 1u) << "the gateway";
}

TEST_F(ForgedSources, DoNotPushOutWhatWeWantToReach) {
    EXPECT_TRUE(node->network.route(ip("10.3.0.1"), at(3s), Network::Use::open));
    EXPECT_STREQ(node->state_of(ip("10.3.0.1")), "INCOMPLETE");
    flood(500);
    EXPECT_STREQ(node->state_of(ip("10.3.0.1")), "INCOMPLETE");
    node->network.advance(at(5s));   // it is asked for again, for all that was asked meanwhile
    bool again = false;
    for (const Octets& frame : node->sent()) {
        const auto arp = wire::parse_arp(std::span(frame).subspan(14));
        again |= arp && arp->target == ip("10.3.0.1");
    }
    EXPECT_TRUE(again);
}

// --- routes

TEST_F(NetworkTest, Route_LongestPrefixAndSource) {
    auto left = interface_a();
    left.addresses.push_back(prefix("192.0.2.100/32"));
    Interface right{.name = "r", .mac = kMacC, .mtu = 9000, .addresses = {prefix("10.0.0.1/8"), prefix("10.1.0.1/16"), prefix("2001:db8:2::1/64")}};
    Node c({.interfaces = {left, right},
            .routes = {{prefix("0.0.0.0/0"), ip("192.0.2.254")},
                       {prefix("172.16.0.0/12"), ip("10.1.0.254")},
                       {prefix("::/0"), ip("fe80::1")},
                       {prefix("198.51.100.0/24"), ip("203.0.113.1")}}},  // a gateway that is nowhere
           pool.get());
    const auto source = [&](const char* to) { return c.network.route(ip(to), at(1s))->source.to_string(); };
    EXPECT_EQ(source("8.8.8.8"), "192.0.2.1");
    EXPECT_EQ(source("172.20.1.1"), "10.1.0.1");
    EXPECT_EQ(source("10.200.0.1"), "10.0.0.1");
    EXPECT_EQ(source("10.1.2.3"), "10.1.0.1");
    EXPECT_EQ(source("198.51.100.1"), "192.0.2.1");
    EXPECT_EQ(source("2001:db8:2::77"), "2001:db8:2::1");
    EXPECT_EQ(source("2600::1"), "2001:db8::a") << "a global source, though the gateway is link-local";
    EXPECT_EQ(source("fe80::99"), "fe80::ff:fe00:a");
    EXPECT_EQ(c.network.route(ip("8.8.8.8"), at(1s))->next_hop, c.network.route(ip("9.9.9.9"), at(1s))->next_hop);
    EXPECT_EQ(c.network.route(ip("10.2.2.2"), at(1s))->mtu, 9000);
    EXPECT_EQ(c.network.route(ip("10.2.2.2"), at(1s))->interface, 1);
    for (const char* to : {"192.0.2.1", "192.0.2.100", "10.255.255.255", "255.255.255.255", "224.0.0.5", "0.0.0.0", "127.0.0.1", "::", "ff02::1"}) {
        const auto path = c.network.route(ip(to), at(1s));
        ASSERT_FALSE(path) << to;
        EXPECT_EQ(path.error(), DropReason::no_route);
    }
    EXPECT_FALSE(a.network.route(ip("8.8.8.8"), at(1s)));
    EXPECT_TRUE(c.network.is_local(ip("192.0.2.100")));
    EXPECT_FALSE(c.network.is_local(ip("192.0.2.255")));
    EXPECT_FALSE(c.network.is_local(wire::kAllNodes));
    static_cast<void>(c.sent(0));
    static_cast<void>(c.sent(1));
}

TEST_F(NetworkTest, PathMtu_IsRememberedForTenMinutes) {
    const auto mtu = [&](const IpAddress& to, Duration when) { return a.network.route(to, at(when))->mtu; };
    a.network.lower_mtu(kB4, 1400, at(1s));
    EXPECT_EQ(mtu(kB4, 2s), 1400);
    EXPECT_EQ(mtu(kB6, 2s), 1500);
    a.network.lower_mtu(kB4, 1450, at(2s));
    EXPECT_EQ(mtu(kB4, 3s), 1400) << "a report never raises it";
    a.network.lower_mtu(kB4, 68, at(3s));
    a.network.lower_mtu(kB6, 68, at(3s));
    EXPECT_EQ(mtu(kB4, 4s), 552);
    EXPECT_EQ(mtu(kB6, 4s), 1280);
    EXPECT_EQ(mtu(kB4, 3s + 10min - 1ms), 552);
    EXPECT_EQ(mtu(kB4, 3s + 10min), 1500);
    static_cast<void>(a.sent());
}

// --- neighbours

TEST_F(NetworkTest, SilentNeighbour_IsAskedThreeTimesThenPacketsDrop) {
    settle();
    Duration start = 10s;
    for (const IpAddress& to : {ip("192.0.2.9"), ip("2001:db8::9")}) {
        for (int i = 0; i < 10; ++i) a.send(to, 1, at(start));
        EXPECT_EQ(a.counted(DropReason::neighbour_unresolved), 2u) << "the queue holds eight";
        std::size_t questions = a.sent().size();
        for (int tenth = 0; tenth < 60; ++tenth) {
            a.network.advance(at(start + tenth * 100ms));
            questions += a.sent().size();
        }
        EXPECT_EQ(questions, 3u);
        EXPECT_EQ(a.counted(DropReason::neighbour_unresolved), 8u);
        a.send(to, 1, at(start + 50s));  // the next packet asks again
        EXPECT_EQ(a.sent().size(), 1u);
        for (int second = 51; second < 60; ++second) a.network.advance(at(start + 1s * second));
        static_cast<void>(a.sent());
        EXPECT_EQ(a.counted(DropReason::neighbour_unresolved), 1u);
        start += 100s;
    }
}

TEST_F(NetworkTest, States_StaleDelayProbeAndBack) {
    settle();
    static_cast<void>(a.network.route(kB6, at(10s)));
    carry(at(10s));
    EXPECT_STREQ(a.state_of(kB6), "REACHABLE");
    a.send(kB6, 1, at(100s));  // longer than any REACHABLE time
    EXPECT_STREQ(a.state_of(kB6), "DELAY");
    EXPECT_EQ(a.sent().size(), 1u) << "STALE entries are used at once";
    a.network.advance(at(104s));
    EXPECT_STREQ(a.state_of(kB6), "DELAY");
    static_cast<void>(a.sent());
    a.network.advance(at(105s));
    EXPECT_STREQ(a.state_of(kB6), "PROBE");
    carry(at(105s));  // a unicast question, answered
    EXPECT_STREQ(a.state_of(kB6), "REACHABLE");
    a.send(kB6, 1, at(200s));
    const auto path = a.network.route(kB6, at(201s));
    a.network.confirm(path->next_hop, at(202s));  // TCP got an ACK
    EXPECT_STREQ(a.state_of(kB6), "REACHABLE");
    static_cast<void>(a.sent());
    a.network.advance(at(210s));
    EXPECT_TRUE(a.sent().empty());
    // And silent from now on: three probes, then it is forgotten.
    a.send(kB6, 1, at(300s));
    static_cast<void>(a.sent());
    std::size_t probes = 0;
    for (int second = 301; second < 312; ++second) {
        a.network.advance(at(1s * second));
        for (const Octets& frame : a.sent()) {
            EXPECT_TRUE(std::equal(kMacB.begin(), kMacB.end(), reinterpret_cast<const std::uint8_t*>(frame.data()))) << "unicast";
            ++probes;
        }
    }
    EXPECT_EQ(probes, 3u);
    EXPECT_STREQ(a.state_of(kB6), "INCOMPLETE");
}

Octets arp_frame(wire::ArpPacket::Operation operation, const MacAddress& mac, const IpAddress& sender, const IpAddress& target,
                 const MacAddress& to = kMacB) {
    Octets packet(28);
    wire::write_arp({operation, mac, sender, {}, target}, std::span<std::byte, wire::kArpLength>(packet));
    return ethernet(to, mac, 0x0806, packet);
}
Octets advertisement_frame(const MacAddress& mac, const IpAddress& target, const IpAddress& to, bool solicited, std::uint8_t hop_limit = 255) {
    std::array<std::byte, 32> message;
    wire::write_neighbour_advertisement({.target = target, .solicited = solicited, .override_flag = true, .target_mac = mac}, message);
    const bool group = to.octets[0] == 0xff;
    return ethernet(group ? MacAddress{0x33, 0x33, 0, 0, 0, 1} : kMacB, mac, 0x86dd,
                    ip_packet(target, to, 58, with_checksum({message.begin(), message.end()}, 2, wire::sum_pseudo_header(target, to, 58, 32)),
                              hop_limit));
}

TEST_F(NetworkTest, UnaskedArpAndAdvertisements_AreRefused) {
    using enum wire::ArpPacket::Operation;
    expect_drop(arp_frame(reply, kMacA, kA4, kB4), DropReason::arp_invalid);
    expect_drop(ethernet(kMacB, kMacA, 0x0806, Octets(27)), DropReason::arp_invalid);
    expect_drop(arp_frame(request, kMacA, ip("127.0.0.1"), kB4), DropReason::arp_invalid);
    expect_drop(advertisement_frame(kMacA, kA6, kB6, true), DropReason::nd_invalid);
    EXPECT_TRUE(b.network.route(kA6, at(1s)));
    static_cast<void>(b.sent());
    expect_drop(advertisement_frame(kMacA, kA6, kB6, true, 254), DropReason::nd_invalid);
    expect_drop(advertisement_frame(kMacA, kA6, wire::kAllNodes, true), DropReason::nd_invalid);
    EXPECT_STREQ(b.state_of(kA6), "INCOMPLETE");
    EXPECT_EQ(b.state_of(kA4), std::string("none"));
}

TEST_F(NetworkTest, AnotherMac_IsBelievedOnlyWhenTheKnownOneIsSilent) {
    using enum wire::ArpPacket::Operation;
    EXPECT_TRUE(b.network.route(kA4, at(1s)) && b.network.route(kA6, at(1s)));
    carry();
    const auto poison = [&](Time now) {
        b.receive(arp_frame(reply, kMacC, kA4, kB4), now);
        b.receive(arp_frame(request, kMacC, kA4, kA4, wire::kBroadcastMac), now);
        b.receive(advertisement_frame(kMacC, kA6, kB6, true), now);
        EXPECT_EQ(b.mac_of(kA4), kMacA);
        EXPECT_EQ(b.mac_of(kA6), kMacA);
        EXPECT_STREQ(b.state_of(kA4), "PROBE");
        EXPECT_STREQ(b.state_of(kA6), "PROBE");
    };
    poison(at(2s));
    const auto questions = b.sent();
    EXPECT_EQ(questions.size(), 2u);
    for (const Octets& frame : questions) a.receive(frame, at(2s));
    carry(at(2s));
    EXPECT_STREQ(b.state_of(kA4), "REACHABLE");
    EXPECT_STREQ(b.state_of(kA6), "REACHABLE");

    poison(at(3s));
    static_cast<void>(b.sent());  // a is gone
    b.network.advance(at(4s));
    static_cast<void>(b.sent());
    b.send(kA4, 1, at(4s));
    b.send(kA6, 1, at(4s));
    EXPECT_EQ(b.sent().size(), 2u) << "both are asked for by broadcast";
    b.receive(arp_frame(reply, kMacC, kA4, kB4), at(4s));
    b.receive(advertisement_frame(kMacC, kA6, kB6, true), at(4s));
    EXPECT_EQ(b.mac_of(kA4), kMacC);
    EXPECT_EQ(b.mac_of(kA6), kMacC);
    EXPECT_EQ(b.sent().size(), 2u) << "the queued segments";
}

TEST_F(NetworkTest, OurAddressInAnothersHands_IsDefendedOnceInTenSeconds) {
    using enum wire::ArpPacket::Operation;
    const auto conflicts = [&](Time now) {
        b.receive(arp_frame(request, kMacC, kB4, kB4, wire::kBroadcastMac), now);
        return b.sent().size();
    };
    EXPECT_EQ(conflicts(at(1s)), 1u);
    EXPECT_EQ(conflicts(at(2s)), 0u);
    EXPECT_EQ(conflicts(at(11s)), 1u);
    EXPECT_EQ(b.counted(DropReason::arp_invalid), 3u);
}

TEST_F(NetworkTest, Questions_AreAnsweredUnlessAnotherWorkerDoes) {
    using enum wire::ArpPacket::Operation;
    Node quiet({.interfaces = {interface_b()}, .answer_neighbours = false}, pool.get());
    const auto arp = arp_frame(request, kMacA, kA4, kB4, wire::kBroadcastMac);
    const auto probe = arp_frame(request, kMacA, ip("0.0.0.0"), kB4, wire::kBroadcastMac);
    std::array<std::byte, 32> message;
    wire::write_neighbour_solicitation({.target = kB6, .source_mac = kMacA}, message);
    const IpAddress group = wire::solicited_node(kB6);
    const auto solicitation =
        ethernet({0x33, 0x33, 0xff, 0, 0, 0xb}, kMacA, 0x86dd,
                 ip_packet(kA6, group, 58, with_checksum({message.begin(), message.end()}, 2, wire::sum_pseudo_header(kA6, group, 58, 32)), 255));
    const auto any = ip("::");
    const auto detection = ethernet(
        {0x33, 0x33, 0xff, 0, 0, 0xb}, kMacA, 0x86dd,
        ip_packet(any, group, 58,
                  with_checksum({message.begin(), message.begin() + 24}, 2, wire::sum_pseudo_header(any, group, 58, 24)), 255));
    for (const Octets& frame : {arp, probe, solicitation, detection}) {
        b.receive(frame);
        EXPECT_EQ(b.sent().size(), 1u);
        quiet.receive(frame);
        EXPECT_TRUE(quiet.sent().empty());
    }
    b.receive(detection);
    const auto answer = b.sent();
    ASSERT_EQ(answer.size(), 1u);
    EXPECT_EQ(wire::load_ipv6(answer[0].data() + 38), wire::kAllNodes);
    EXPECT_EQ(b.counted_all(), 0u);
    b.receive(arp_frame(request, kMacA, kA4, ip("192.0.2.77"), wire::kBroadcastMac));
    EXPECT_TRUE(b.sent().empty());
    quiet.network.advance(at(1s));
    EXPECT_TRUE(quiet.sent().empty()) << "it announces nothing either";
}

TEST_F(NetworkTest, Announcements_AtStartAndWhenTheLinkComesUp) {
    a.network.advance(at(0s));
    auto frames = a.sent();
    ASSERT_EQ(frames.size(), 3u);  // IPv4, IPv6, link-local
    EXPECT_EQ(frames[0], ethernet(wire::kBroadcastMac, kMacA, 0x0806,
                                  octets("0001 0800 0604 0001 02000000000a c0000201 000000000000 c0000201")));
    for (const Octets& frame : frames) b.receive(frame, at(0s));
    EXPECT_EQ(b.state_of(kA4), std::string("none")) << "an announcement makes no entry";
    a.network.advance(at(1s));
    EXPECT_TRUE(a.sent().empty());
    a.network.advance(at(2s));
    EXPECT_EQ(a.sent().size(), 3u);
    a.network.advance(at(100s));
    EXPECT_TRUE(a.sent().empty());
    a.network.link_up(0, at(101s));
    a.network.advance(at(101s));
    EXPECT_EQ(a.sent().size(), 3u);
}

TEST_F(NetworkTest, FullTable_EvictsAndOldIndexesResolveAnew) {
    Node c({.interfaces = {interface_a()}, .max_neighbours = 16}, pool.get());
    auto path = c.network.route(kB4, at(1s));
    ASSERT_TRUE(path);
    const std::uint32_t old_index = path->next_hop;
    c.receive(arp_frame(wire::ArpPacket::Operation::reply, kMacB, kB4, kA4, kMacA));
    for (int i = 0; i < 100; ++i) {
        c.send(IpAddress::from_v4({192, 0, 2, static_cast<std::uint8_t>(100 + i)}), 1, at(2s));
        EXPECT_LE(c.network.neighbours().size(), 16u);
    }
    EXPECT_STREQ(c.state_of(kB4), "REACHABLE") << "those that answer are kept before those that don't";
    EXPECT_EQ(c.counted(DropReason::neighbour_unresolved), 100u - 15u);
    static_cast<void>(c.sent());
    // Others that answer push it out in the end.
    for (int i = 0; i < 40; ++i) {
        const auto other = IpAddress::from_v4({192, 0, 2, static_cast<std::uint8_t>(10 + i)});
        EXPECT_TRUE(c.network.route(other, at(3s + 1s * i)));
        c.receive(arp_frame(wire::ArpPacket::Operation::reply, kMacC, other, kA4, kMacA), at(3s + 1s * i));
    }
    EXPECT_EQ(c.state_of(kB4), std::string("none"));
    static_cast<void>(c.sent());
    c.network.send_tcp(c.segment(5), kA4, kB4, *path, 0, at(50s));
    EXPECT_STREQ(c.state_of(kB4), "INCOMPLETE");
    const auto frames = c.sent();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(wire::load_ipv4(frames[0].data() + 38), kB4) << "asked for its own address, not the slot's new one";
    c.network.confirm(old_index, at(51s));
    EXPECT_STREQ(c.state_of(kB4), "INCOMPLETE") << "the old index confirms nobody";
    EXPECT_NE(path->next_hop, old_index) << "the next segment finds it without a look at the routes";
}

// --- change

TEST_F(NetworkTest, AddressAdded_IsAnnouncedAndAnsweredAndConnectionsGoOn) {
    settle();
    b.network.advance(at(3s));
    static_cast<void>(b.sent());
    a.send(kB4, 10, at(4s));
    carry(at(4s));
    EXPECT_EQ(arrived, 1u);
    auto path = a.network.route(kB4, at(4s));
    ASSERT_TRUE(path);
    const IpAddress fresh = ip("192.0.2.77"), fresh6 = ip("2001:db8::77");
    const std::vector<std::vector<IpPrefix>> addresses{{prefix("192.0.2.1/24"), prefix("2001:db8::a/64"), prefix("192.0.2.77/24"), prefix("2001:db8::77/64")}};
    {
        const auto change = a.network.prepare(addresses, {});
        EXPECT_FALSE(a.network.is_local(fresh)) << "nothing changes before";
        a.network.change(*change, at(5s));
    }
    EXPECT_TRUE(a.network.is_local(fresh));
    EXPECT_TRUE(a.network.is_local(kA4));
    EXPECT_TRUE(a.network.is_local(fresh6));
    a.network.advance(at(5s));
    EXPECT_EQ(a.sent().size(), 5u) << "all of the interface's, with the link-local one";
    a.receive(arp_frame(wire::ArpPacket::Operation::request, kMacB, kB4, fresh, wire::kBroadcastMac), at(5s));
    EXPECT_EQ(a.sent().size(), 1u) << "an answer";
    a.network.send_tcp(a.segment(5), kA4, kB4, *path, 0, at(5s));
    carry(at(5s));
    EXPECT_EQ(arrived, 2u) << "the connection's path holds";
}

class HostedPrefix : public NetworkTest {
 protected:
    static Interface hosting() {
        Interface interface = interface_a();
        interface.hosted = {prefix("192.0.2.128/25"), prefix("2001:db8:1::/64")};
        return interface;
    }
    HostedPrefix() : NetworkTest({.interfaces = {hosting()}}, {.interfaces = {interface_b()}}) {}
};

TEST_F(HostedPrefix, EveryAddressIsOurs_AndNoneIsAnnouncedOrARoute) {
    a.network.advance(at(0s));
    EXPECT_EQ(a.sent().size(), 3u) << "those of the interface, with the link-local one";
    settle();
    EXPECT_TRUE(a.network.is_local(ip("192.0.2.200")));
    EXPECT_TRUE(a.network.is_local(ip("2001:db8:1::77")));
    EXPECT_FALSE(a.network.is_local(ip("192.0.2.127")));
    EXPECT_EQ(a.receive(ethernet(kMacA, kMacB, wire::kEtherTypeIpv4, ip_packet(kB4, ip("192.0.2.200"), 6, tcp(kB4, ip("192.0.2.200"), 5)))).kind, Kind::tcp);
    EXPECT_EQ(a.receive(ethernet(kMacA, kMacB, wire::kEtherTypeIpv4, ip_packet(kB4, ip("192.0.2.127"), 6, tcp(kB4, ip("192.0.2.127"), 5)))).kind, Kind::taken);
    EXPECT_EQ(a.counted(DropReason::ip_not_ours), 1u);
    a.receive(arp_frame(wire::ArpPacket::Operation::request, kMacB, kB4, ip("192.0.2.200"), wire::kBroadcastMac), at(5s));
    EXPECT_EQ(a.sent().size(), 1u) << "an answer";
    EXPECT_FALSE(a.network.route(ip("2001:db8:1::77"), at(5s)));
    EXPECT_EQ(a.network.route(kB4, at(5s))->source, kA4);
}

TEST_F(NetworkTest, AddressRemoved_IsNotOursAnyMore) {
    settle();
    const std::vector<std::vector<IpPrefix>> addresses{{prefix("192.0.2.77/24")}};
    const auto change = a.network.prepare(addresses, {});
    a.network.change(*change, at(3s));
    EXPECT_FALSE(a.network.is_local(kA4));
    static_cast<void>(a.counted_all());
    a.receive(arp_frame(wire::ArpPacket::Operation::request, kMacB, kB4, kA4, wire::kBroadcastMac), at(3s));
    EXPECT_TRUE(a.sent().empty()) << "it answers for it no more";
    EXPECT_FALSE(a.network.route(kB6, at(3s))) << "the prefix has gone with the address";
    EXPECT_TRUE(a.network.route(kB4, at(3s)));
}

TEST_F(NetworkTest, RouteChanged_NextSegmentTakesTheNewGateway) {
    const IpAddress far = ip("203.0.113.5"), first = ip("192.0.2.251"), second = ip("192.0.2.252");
    Node c({.interfaces = {interface_a()}, .routes = {{prefix("0.0.0.0/0"), first}}}, pool.get());
    for (const Duration now : {0s, 2s}) c.network.advance(at(now));
    static_cast<void>(c.sent());
    auto path = c.network.route(far, at(3s));
    ASSERT_TRUE(path);
    c.network.send_tcp(c.segment(5), kA4, far, *path, 0, at(3s));
    c.receive(arp_frame(wire::ArpPacket::Operation::reply, kMacB, first, kA4, kMacA), at(3s));
    auto frames = c.sent();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_TRUE(std::ranges::equal(std::span(frames[1]).first(6), std::as_bytes(std::span(kMacB))));
    const std::vector<std::vector<IpPrefix>> addresses{{prefix("192.0.2.1/24"), prefix("2001:db8::a/64")}};
    const std::vector<Route> routes{{prefix("0.0.0.0/0"), second}};
    const auto change = c.network.prepare(addresses, routes);
    c.network.change(*change, at(4s));
    c.network.send_tcp(c.segment(5), kA4, far, *path, 0, at(4s));
    c.receive(arp_frame(wire::ArpPacket::Operation::reply, kMacC, second, kA4, kMacA), at(4s));
    frames = c.sent();
    ASSERT_EQ(frames.size(), 2u) << "the question, and the segment; no address was new, so nothing is announced";
    EXPECT_TRUE(std::ranges::equal(std::span(frames[1]).first(6), std::as_bytes(std::span(kMacC))));
    const auto none = c.network.prepare(addresses, {});
    c.network.change(*none, at(5s));
    c.network.send_tcp(c.segment(5), kA4, far, *path, 0, at(5s));
    EXPECT_EQ(c.counted(DropReason::no_route), 1u);
    c.network.change(*none, at(6s));   // what was replaced is in it: back to the gateway
    c.network.send_tcp(c.segment(5), kA4, far, *path, 0, at(6s));
    EXPECT_EQ(c.sent().size(), 1u);
}

TEST_F(NetworkTest, FloodOfDestinations_AsksAtALimitedRate) {
    std::size_t questions = 0;
    for (int i = 0; i < 3000; ++i) {
        IpAddress to = ip("2001:db8::");
        to.octets[12] = 1;
        wire::store16(reinterpret_cast<std::byte*>(to.octets.data()) + 14, static_cast<std::uint16_t>(i));
        EXPECT_TRUE(a.network.route(to, at(1s)));
        questions += a.sent().size();
    }
    EXPECT_EQ(questions, 1000u);
}

TEST_F(NetworkTest, NoBufferForAnAnswer_IsCounted) {
    std::vector<rte_mbuf*> all;
    const auto request = arp_frame(wire::ArpPacket::Operation::request, kMacA, kA4, kB4, wire::kBroadcastMac);
    rte_mbuf* frame = chain(pool.get(), request);
    while (rte_mbuf* mbuf = rte_pktmbuf_alloc(pool.get())) all.push_back(mbuf);
    EXPECT_EQ(b.network.receive(frame, 0, at(1s)).kind, Kind::taken);
    EXPECT_EQ(b.counted(DropReason::no_buffer), 1u);
    rte_pktmbuf_free_bulk(all.data(), static_cast<unsigned>(all.size()));
}

TEST_F(NetworkTest, Jumble_NeverLeaksOrCrashes) {
    std::mt19937 random(7);
    const std::vector<Octets> seeds = {tcp_frame(kA4, kB4, 40), tcp_frame(kA6, kB6, 40), echo_frame(kA4, kB4, 30), echo_frame(kA6, kB6, 30),
                                       error_frame(kA4, kB4, kA4, 3, 4, 1400), advertisement_frame(kMacA, kA6, kB6, true)};
    for (int round = 0; round < 20000; ++round) {
        Octets frame = seeds[random() % seeds.size()];
        for (unsigned changes = random() % 4; changes > 0; --changes) frame[random() % frame.size()] = static_cast<std::byte>(random());
        if (random() % 4 == 0) frame.resize(random() % (frame.size() + 30));
        std::vector<std::size_t> cuts;
        for (unsigned pieces = random() % 3; pieces > 0; --pieces) cuts.push_back(random() % 60);
        b.receive(frame, at(round * 1ms), cuts);
        b.network.advance(at(round * 1ms));
        static_cast<void>(b.sent());
    }
}

}  // namespace
}  // namespace sallyport::network
