#include "drivers/port.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "crypto/format.h"
#include "drivers/environment.h"
#include "drivers/ingress_drop.h"
#include "drivers/kernel_interface.h"
#include "drivers/offloads.h"
#include "drivers/virtio_header.h"
#include "tests/unit/eal.h"

namespace sallyport::drivers {
namespace {

using namespace std::chrono_literals;
using Frame = std::vector<std::uint8_t>;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint16_t kOurType =
    0x88b5;  // local experimental (IEEE 802): tells the test's frames from the kernel's own

Frame frame_of(std::size_t length, std::uint8_t seed) {
    Frame frame(length);
    for (std::size_t i = 0; i < length; ++i) frame[i] = static_cast<std::uint8_t>(seed + i * 7);
    std::fill_n(frame.begin(), 6, 0xff);
    const std::uint8_t rest[] = {2, 0, 0, 0, 0, 9, kOurType >> 8, kOurType & 0xff};
    std::copy(std::begin(rest), std::end(rest), frame.begin() + 6);
    return frame;
}
Frame octets_of(const rte_mbuf* mbuf) {
    Frame octets;
    for (; mbuf != nullptr; mbuf = mbuf->next) {
        const auto* data = rte_pktmbuf_mtod(mbuf, const std::uint8_t*);
        octets.insert(octets.end(), data, data + mbuf->data_len);
    }
    return octets;
}

// The other end of the wire, as the kernel has it.
class RawSocket {
 public:
    explicit RawSocket(const std::string& interface, std::uint16_t type = kOurType)
        : descriptor_(socket(AF_PACKET, SOCK_RAW, htons(type))) {
        // Long frames wait whole.
        constexpr int kRoom = 8 << 20;
        setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUFFORCE, &kRoom, sizeof kRoom);
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(type);
        address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
        EXPECT_EQ(bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0)
            << std::strerror(errno);
    }
    ~RawSocket() { close(descriptor_); }
    void send(const Frame& frame) {
        EXPECT_EQ(::send(descriptor_, frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()))
            << std::strerror(errno);
    }
    /// From here on each frame, both ways, has a VirtioHeader before it.
    void with_headers() {
        constexpr int kOn = 1;
        EXPECT_EQ(setsockopt(descriptor_, SOL_PACKET, PACKET_VNET_HDR, &kOn, sizeof kOn), 0);
    }
    /// Empty when nothing came within five seconds.
    Frame receive() {
        for (;;) {
            pollfd waiting{.fd = descriptor_, .events = POLLIN, .revents = 0};
            if (poll(&waiting, 1, 5000) <= 0) return {};
            Frame frame(65536 + 64);
            sockaddr_ll from{};
            socklen_t length = sizeof from;
            const ssize_t size =
                recvfrom(descriptor_, frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
            if (size < 0) return {};
            if (from.sll_pkttype == PACKET_OUTGOING) continue;  // our own
            frame.resize(static_cast<std::size_t>(size));
            return frame;
        }
    }

 private:
    int descriptor_;
};

bool run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

PortSettings settings_of(Profile profile, const std::string& device) {
    static int number = 0;
    PortSettings settings;
    settings.name = "port" + std::to_string(number++);
    settings.profile = profile;
    settings.device = device;
    return settings;
}

class PortTest : public testing::Test {
 protected:
    void SetUp() override { test::start_eal(); }
    void TearDown() override {
        for (rte_mempool* pool : pools) rte_mempool_free(pool);
    }
    rte_mempool* pool(std::uint16_t room = 2048, std::uint32_t count = 5000) {
        static int number = 0;
        auto made = make_buffer_pool("port_pool" + std::to_string(number++), count, room, SOCKET_ID_ANY);
        EXPECT_TRUE(made) << made.error();
        pools.push_back(*made);
        return *made;
    }
    static rte_mbuf* mbuf_of(rte_mempool* from, const Frame& frame) {
        rte_mbuf* mbuf = rte_pktmbuf_alloc(from);
        std::memcpy(rte_pktmbuf_append(mbuf, static_cast<std::uint16_t>(frame.size())), frame.data(), frame.size());
        return mbuf;
    }
    /// The next frame of the test's own type; empty when none came within five seconds.
    static Frame receive(Port& port, std::uint16_t queue = 0) {
        for (const auto end = std::chrono::steady_clock::now() + 5s; std::chrono::steady_clock::now() < end;) {
            rte_mbuf* mbuf = nullptr;
            if (port.receive(queue, {&mbuf, 1}) == 0) {
                std::this_thread::sleep_for(100us);
                continue;
            }
            Frame frame = octets_of(mbuf);
            rte_pktmbuf_free(mbuf);
            if (frame.size() > 14 && frame[12] == kOurType >> 8 && frame[13] == (kOurType & 0xff)) return frame;
        }
        return {};
    }
    static bool transmit(Port& port, rte_mbuf*& mbuf) {
        for (int i = 0; i < 1000; ++i) {
            if (port.transmit(0, {&mbuf, 1}) == 1) return true;
            std::this_thread::sleep_for(1ms);
        }
        return false;
    }

    /// What TCP relies on: a second reference keeps a transmitted buffer whole and ours, and the device drops its own.
    template <typename ReceiveAtPeer>
    static void check_references(Port& port, rte_mempool* from, std::size_t length,
                                 const ReceiveAtPeer& receive_at_peer) {
        for (std::uint8_t i = 0; i < 20; ++i) {
            const Frame frame = frame_of(length, i);
            rte_mbuf* mbuf = mbuf_of(from, frame);
            rte_mbuf_refcnt_update(mbuf, 1);
            rte_mbuf* const kept = mbuf;
            ASSERT_TRUE(transmit(port, mbuf));
            ASSERT_EQ(receive_at_peer(), frame) << int{i};
            for (int wait = 0; wait < 1000 && rte_mbuf_refcnt_read(kept) != 1; ++wait) {
                port.reclaim(0);
                std::this_thread::sleep_for(1ms);
            }
            ASSERT_EQ(rte_mbuf_refcnt_read(kept), 1);
            EXPECT_EQ(octets_of(kept), frame);
            ASSERT_TRUE(transmit(port, mbuf = kept));  // once more, as a retransmission
            ASSERT_EQ(receive_at_peer(), frame);
        }
        port.reclaim(0);
    }
    template <typename ReceiveAtPeer>
    static void check_several_buffers(Port& port, rte_mempool* from, const ReceiveAtPeer& receive_at_peer) {
        const Frame frame = frame_of(900, 3);
        rte_mbuf* head = mbuf_of(from, Frame(frame.begin(), frame.begin() + 54));
        ASSERT_EQ(rte_pktmbuf_chain(head, mbuf_of(from, Frame(frame.begin() + 54, frame.begin() + 500))), 0);
        ASSERT_EQ(rte_pktmbuf_chain(head, mbuf_of(from, Frame(frame.begin() + 500, frame.end()))), 0);
        ASSERT_TRUE(transmit(port, head));
        EXPECT_EQ(receive_at_peer(), frame);

        rte_mbuf* whole = mbuf_of(from, frame);
        rte_mbuf* clone = rte_pktmbuf_clone(whole, from);
        ASSERT_TRUE(transmit(port, clone));
        EXPECT_EQ(receive_at_peer(), frame);
        rte_pktmbuf_free(whole);
    }

    /// A frame that `from` is to cut arrives as it is, with the sizes to cut it by: what a card would be told, seen from the other side.
    static void check_frame_to_be_cut(Port& from, Port& to, rte_mempool* buffers, std::uint16_t pieces) {
        ASSERT_GE(from.segmentation_buffers(), pieces);
        for (const bool ipv4 : {true, false}) {
            SCOPED_TRACE(ipv4);
            constexpr std::uint16_t kSize = 1000;
            const std::uint16_t l3 = ipv4 ? 20 : 40, headers = static_cast<std::uint16_t>(14 + l3 + 20);
            Frame frame = frame_of(headers + std::size_t{kSize} * pieces, 1);
            std::fill(frame.begin() + 12, frame.begin() + headers, std::uint8_t{0});
            frame[12] = ipv4 ? 0x08 : 0x86;
            frame[13] = ipv4 ? 0x00 : 0xdd;
            frame[14] = ipv4 ? 0x45 : 0x60;
            frame[static_cast<std::size_t>(ipv4 ? 23 : 20)] = 6;
            frame[static_cast<std::size_t>(14 + l3 + 12)] = 0x50;
            rte_mbuf* head = mbuf_of(buffers, Frame(frame.begin(), frame.begin() + headers + kSize));
            for (int i = 1; i < pieces; ++i)
                ASSERT_EQ(rte_pktmbuf_chain(head, mbuf_of(buffers, Frame(frame.begin() + headers + i * kSize, frame.begin() + headers + (i + 1) * kSize))), 0);
            head->ol_flags = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM |
                             (ipv4 ? RTE_MBUF_F_TX_IPV4 | (from.transmit_ipv4_checksum() ? RTE_MBUF_F_TX_IP_CKSUM : 0) : RTE_MBUF_F_TX_IPV6);
            head->l2_len = 14;
            head->l3_len = l3;
            head->l4_len = 20;
            head->tso_segsz = kSize;
            ASSERT_TRUE(transmit(from, head));
            rte_mbuf* got = nullptr;
            for (int i = 0; i < 5000 && to.receive(0, {&got, 1}) == 0; ++i) std::this_thread::sleep_for(1ms);
            ASSERT_NE(got, nullptr);
            const Frame octets = octets_of(got);
            EXPECT_EQ(Frame(octets.begin() + headers, octets.end()), Frame(frame.begin() + headers, frame.end()));
            EXPECT_NE(got->ol_flags & RTE_MBUF_F_RX_LRO, 0u);
            EXPECT_EQ(got->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_NONE);
            EXPECT_EQ(got->tso_segsz, kSize);
            rte_pktmbuf_free(got);
        }
    }

    /// `port` opened on one end of a veth pair, or a tap: everything that must work with the kernel on the other side.
    static void check_against_kernel(Port& port, rte_mempool* from, const std::string& peer, std::uint16_t mtu) {
        RawSocket socket(peer);
        for (const std::size_t length : {std::size_t{60}, std::size_t{61}, std::size_t{1000}, std::size_t{mtu} + 14}) {
            const Frame in = frame_of(length, 1);
            socket.send(in);
            EXPECT_EQ(receive(port), in) << length;
            const Frame out = frame_of(length, 2);
            rte_mbuf* mbuf = mbuf_of(from, out);
            ASSERT_TRUE(transmit(port, mbuf));
            EXPECT_EQ(socket.receive(), out) << length;
        }
        check_references(port, from, 1000, [&] { return socket.receive(); });
        check_several_buffers(port, from, [&] { return socket.receive(); });
        const PortStatus status = port.status();
        EXPECT_TRUE(status.link_up);
        EXPECT_GE(status.packets_in, 4u);
        EXPECT_GE(status.packets_out, 44u);
        EXPECT_EQ(status.errors_out, 0u);
        EXPECT_FALSE(status.xstats.empty());
    }
    static void check_link(Port& port, const std::string& peer) {
        bool up = false;
        EXPECT_FALSE(port.link_changed(up));
        EXPECT_TRUE(up);
        ASSERT_TRUE(run("ip link set " + peer + " down"));
        // The kernel tells of the carrier a little later.
        bool changed = false;
        for (int i = 0; i < 5000 && !(changed = port.link_changed(up)); ++i) std::this_thread::sleep_for(1ms);
        EXPECT_TRUE(changed);
        EXPECT_FALSE(up);
        EXPECT_FALSE(port.link_changed(up));
        ASSERT_TRUE(run("ip link set " + peer + " up"));
        for (int i = 0; i < 5000 && !port.link_changed(up); ++i) std::this_thread::sleep_for(1ms);
        EXPECT_TRUE(up);
        RawSocket socket(peer);
        const Frame in = frame_of(100, 1);
        socket.send(in);
        EXPECT_EQ(receive(port), in);
    }

    std::vector<rte_mempool*> pools;
};

class VethTest : public PortTest {
 protected:
    void SetUp() override {
        PortTest::SetUp();
        if (!run("ip link add spt0 type veth peer name spt1"))
            GTEST_SKIP() << "no veth pair can be made here (root only)";
        ASSERT_TRUE(run("ip link set spt1 up"));
        made = true;
    }
    void TearDown() override {
        if (made) run("ip link del spt0");
        PortTest::TearDown();
    }
    bool made = false;
};

TEST_F(PortTest, NullDevice_OpensWithWhatItHas) {
    rte_mempool* buffers = pool();
    auto port = Port::open_device(settings_of(Profile::tap, "none"), "net_null0", 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    EXPECT_EQ((*port)->receive_queues(), 1);
    EXPECT_FALSE((*port)->has_rss());
    rte_mbuf* mbuf = nullptr;
    ASSERT_EQ((*port)->receive(0, {&mbuf, 1}), 1);  // it makes frames of 64 octets out of nothing
    EXPECT_EQ(mbuf->pkt_len, 64u);
    ASSERT_EQ((*port)->transmit(0, {&mbuf, 1}), 1);
    const PortStatus status = (*port)->status();
    EXPECT_EQ(status.driver, "net_null");
    EXPECT_EQ(status.packets_in, 1u);
    EXPECT_EQ(status.packets_out, 1u);
    EXPECT_EQ(status.offloads.size(), 8u);
    port->reset();
    EXPECT_EQ(rte_eth_dev_count_avail(), 0);
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
}

TEST_F(PortTest, RingDevice_LoopsFramesAndKeepsThePlaceOfWhatDidNotFit) {
    rte_mempool* buffers = pool();
    auto port = Port::open_device(settings_of(Profile::tap, "none"), "net_ring0", 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    const Frame frame = frame_of(200, 9);
    rte_mbuf* mbuf = mbuf_of(buffers, frame);
    ASSERT_EQ((*port)->transmit(0, {&mbuf, 1}), 1);
    EXPECT_EQ(receive(**port), frame);
    EXPECT_EQ((*port)->status().driver, "net_ring");
}

TEST_F(PortTest, SeveralWorkersOnADeviceWithoutRss_GetQueuesAndSteerThemselves) {
    std::vector<rte_mempool*> buffers = {pool(), pool()};
    auto port = Port::open_device(settings_of(Profile::tap, "none"), "net_null1", 2, buffers);
    ASSERT_TRUE(port) << port.error();
    EXPECT_EQ((*port)->receive_queues(), (*port)->transmit_queues());
    EXPECT_FALSE((*port)->has_rss());
}

TEST_F(PortTest, BadDevices_AreRefusedWithTheReason) {
    rte_mempool* buffers = pool();
    const auto refusal = [&](Profile profile, const std::string& device) {
        auto port = Port::open(settings_of(profile, device), 1, {&buffers, 1});
        return port ? std::string("opened") : port.error();
    };
    for (const Profile profile : {Profile::af_packet, Profile::af_xdp})
        EXPECT_THAT(refusal(profile, "nosuch0"),
                    AllOf(HasSubstr("nosuch0): there is no such interface"), HasSubstr("lo")));
    EXPECT_THAT(refusal(Profile::af_packet, ""), HasSubstr("it names no device"));
    EXPECT_THAT(refusal(Profile::pci, "0000:ff:1f.7"),
                AllOf(HasSubstr("(pci 0000:ff:1f.7): there is no such PCI device"), HasSubstr("dpdk-devbind")));
    EXPECT_THAT(refusal(Profile::tap, "lo"), HasSubstr("exists already"));
    EXPECT_EQ(rte_eth_dev_count_avail(), 0);
}

TEST_F(VethTest, InterfaceWithARoute_IsRefused) {
    ASSERT_TRUE(run("ip addr add 192.0.2.1/24 dev spt0 && ip link set spt0 up"));
    rte_mempool* buffers = pool();
    const auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_FALSE(port);
    EXPECT_THAT(port.error(), AllOf(HasSubstr("spt0"), HasSubstr("carries a route of this host (192.0.2.0/24)")));
}

TEST_F(VethTest, PoolsThatDoNotFit_AreRefused) {
    rte_mempool* small = pool(2048);
    PortSettings jumbo = settings_of(Profile::af_packet, "spt0");
    jumbo.mtu = 9000;
    auto port = Port::open(jumbo, 1, {&small, 1});
    ASSERT_FALSE(port);
    EXPECT_THAT(port.error(), HasSubstr("an MTU of 9000 needs buffers of"));
    rte_mempool* large = pool(9088, 4000);
    port = Port::open(settings_of(Profile::af_xdp, "spt0"), 1, {&large, 1});
    ASSERT_FALSE(port);
    EXPECT_THAT(port.error(), HasSubstr("af_xdp takes buffers of one page"));
    EXPECT_THAT(Port::open(settings_of(Profile::af_packet, "spt0"), 2, {&small, 1}).error(),
                HasSubstr("1 buffer pools for 2 queues"));
    EXPECT_EQ(rte_eth_dev_count_avail(), 0);
}

TEST_F(VethTest, AfPacket_FramesGoBothWays) {
    rte_mempool* buffers = pool();
    const auto settings = settings_of(Profile::af_packet, "spt0");
    auto port = Port::open(settings, 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    EXPECT_EQ((*port)->mac(), kernel::mac("spt0"));
    check_against_kernel(**port, buffers, "spt1", 1500);
    check_link(**port, "spt1");
    port->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
}

TEST_F(VethTest, AfPacketWithJumboFrames_FramesGoBothWays) {
    ASSERT_TRUE(run("ip link set spt1 mtu 9000"));
    auto settings = settings_of(Profile::af_packet, "spt0");
    settings.mtu = 9000;
    rte_mempool* buffers = pool(data_room_for(settings), 4000);
    auto port = Port::open(settings, 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    check_against_kernel(**port, buffers, "spt1", 9000);
}

TEST_F(VethTest, AfPacketWithTwoQueues_TheyShareTheFrames) {
    std::vector<rte_mempool*> buffers = {pool(), pool()};
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 2, buffers);
    ASSERT_TRUE(port) << port.error();
    ASSERT_EQ((*port)->receive_queues(), 2);
    RawSocket socket("spt1");
    for (int i = 0; i < 50; ++i) socket.send(frame_of(100, static_cast<std::uint8_t>(i)));
    int got = 0;
    for (const auto end = std::chrono::steady_clock::now() + 5s; got < 50 && std::chrono::steady_clock::now() < end;)
        for (std::uint16_t queue = 0; queue < 2; ++queue) {
            rte_mbuf* mbuf = nullptr;
            if ((*port)->receive(queue, {&mbuf, 1}) == 0) continue;
            const Frame frame = octets_of(mbuf);
            got += frame.size() == 100 && frame[12] == kOurType >> 8;
            rte_pktmbuf_free(mbuf);
        }
    EXPECT_EQ(got, 50);
}

/// A TCP segment of `payload` octets between 192.0.2.1 and .2, or 2001:db8::1 and ::2, checksums 0.
Frame segment_of(bool ipv4, std::size_t payload) {
    const std::size_t l3 = ipv4 ? 20 : 40, octets = 14 + l3 + 20 + payload;
    Frame frame = frame_of(octets, 1);
    std::fill(frame.begin() + 12, frame.begin() + static_cast<std::ptrdiff_t>(14 + l3 + 20), std::uint8_t{0});
    if (ipv4) {
        rte_ipv4_hdr ip{};
        ip.version_ihl = 0x45;
        ip.total_length = htons(static_cast<std::uint16_t>(octets - 14));
        ip.time_to_live = 64;
        ip.next_proto_id = IPPROTO_TCP;
        ip.src_addr = htonl(0xc0000201);
        ip.dst_addr = htonl(0xc0000202);
        ip.hdr_checksum = rte_ipv4_cksum(&ip);
        frame[12] = 0x08;
        std::memcpy(frame.data() + 14, &ip, sizeof ip);
    } else {
        rte_ipv6_hdr ip{};
        ip.vtc_flow = htonl(6u << 28);
        ip.payload_len = htons(static_cast<std::uint16_t>(octets - 54));
        ip.proto = IPPROTO_TCP;
        ip.hop_limits = 64;
        const std::uint8_t address[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
        std::memcpy(&ip.src_addr, address, 16);
        std::memcpy(&ip.dst_addr, address, 16);
        frame[12] = 0x86;
        frame[13] = 0xdd;
        std::memcpy(frame.data() + 14, &ip, sizeof ip);
    }
    frame[14 + l3 + 12] = 0x50;   // a header of 20 octets
    frame[14 + l3 + 13] = 0x10;   // ACK
    return frame;
}
rte_mbuf* to_be_cut(rte_mempool* from, const Frame& frame, bool ipv4, std::uint16_t size) {
    const std::size_t headers = ipv4 ? 54 : 74;
    rte_mbuf* head = nullptr;
    for (std::size_t at = 0; at < frame.size();) {
        const std::size_t here = std::min<std::size_t>(frame.size() - at, at == 0 ? headers + size : size);
        rte_mbuf* piece = rte_pktmbuf_alloc(from);
        std::memcpy(rte_pktmbuf_append(piece, static_cast<std::uint16_t>(here)), frame.data() + at, here);
        if (head == nullptr) head = piece;
        else EXPECT_EQ(rte_pktmbuf_chain(head, piece), 0);
        at += here;
    }
    head->ol_flags |= RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM | (ipv4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
    head->l2_len = 14;
    head->l3_len = ipv4 ? 20 : 40;
    head->l4_len = 20;
    head->tso_segsz = size;
    return head;
}
bool checksum_right(const Frame& frame, bool ipv4) {
    const std::uint8_t* at = frame.data() + 14;
    if (ipv4) {
        const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(at);
        return rte_ipv4_cksum(ip) == 0 && rte_ipv4_udptcp_cksum_verify(ip, at + 20) == 0;
    }
    return rte_ipv6_udptcp_cksum_verify(reinterpret_cast<const rte_ipv6_hdr*>(at), at + 40) == 0;
}

TEST_F(VethTest, AfPacket_FrameToBeCut_CrossesTheVethWholeAndKeepsItsSizes) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    ASSERT_EQ((*port)->segmentation_buffers(), 45);
    for (const auto& [ipv4, tagged] : {std::pair{true, false}, {false, false}, {true, true}, {false, true}}) {
        SCOPED_TRACE(sallyport::format("IPv{}{}", ipv4 ? 4 : 6, tagged ? " with a VLAN tag" : ""));
        RawSocket socket("spt1", ipv4 ? ETH_P_IP : ETH_P_IPV6);
        socket.with_headers();
        const Frame frame = segment_of(ipv4, 45 * 1400);
        rte_mbuf* mbuf = to_be_cut(buffers, frame, ipv4, 1400);
        if (tagged) {
            mbuf->vlan_tci = 7;
            ASSERT_EQ(rte_vlan_insert(&mbuf), 0);
            mbuf->l2_len = 18;
        }
        ASSERT_TRUE(transmit(**port, mbuf));
        Frame got;
        VirtioHeader told{};
        do {   // the kernel says a word of its own on a new interface
            got = socket.receive();
            ASSERT_GE(got.size(), sizeof told);
            std::memcpy(&told, got.data(), sizeof told);
        } while (got.size() < 1000);
        EXPECT_EQ(told.segmentation, ipv4 ? VirtioHeader::kTcp4 : VirtioHeader::kTcp6);
        EXPECT_EQ(told.segment_size, 1400);
        EXPECT_EQ(told.flags, VirtioHeader::kNeedsChecksum);
        ASSERT_EQ(got.size(), frame.size() + sizeof told);   // the kernel keeps the tag elsewhere
        EXPECT_TRUE(std::equal(got.end() - 45 * 1400, got.end(), frame.end() - 45 * 1400));
    }
    EXPECT_THAT((*port)->status().xstats, testing::Contains(testing::Pair("tx_frames_to_be_cut", 4u)));
    port->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
}

TEST_F(VethTest, AfPacket_FrameToBeCutForADeviceThatDoesNot_IsCutWithRightChecksums) {
    if (!run("ethtool -K spt0 tx off tso off gso off sg off")) GTEST_SKIP() << "no ethtool";
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    for (const bool ipv4 : {true, false}) {
        SCOPED_TRACE(ipv4);
        RawSocket socket("spt1", ipv4 ? ETH_P_IP : ETH_P_IPV6);
        const Frame frame = segment_of(ipv4, 5 * 1000 + 500);
        const std::size_t headers = ipv4 ? 54 : 74;
        rte_mbuf* mbuf = to_be_cut(buffers, frame, ipv4, 1000);
        ASSERT_TRUE(transmit(**port, mbuf));
        std::size_t at = headers;
        while (at < frame.size()) {
            const Frame got = socket.receive();
            ASSERT_FALSE(got.empty());
            if (got.size() < headers + 500) continue;
            ASSERT_LE(got.size(), headers + 1000);
            EXPECT_TRUE(checksum_right(got, ipv4)) << at;
            EXPECT_TRUE(std::equal(got.begin() + static_cast<std::ptrdiff_t>(headers), got.end(), frame.begin() + static_cast<std::ptrdiff_t>(at))) << at;
            at += got.size() - headers;
        }
    }
}

/// As the kernel's TCP sends it to a port of this machine: to be cut into segments of 1400 octets, which nobody does.
Frame merged_frame(std::size_t octets, std::uint8_t seed) {
    Frame frame = segment_of(true, octets);
    std::fill(frame.begin() + 54, frame.end(), seed);
    const VirtioHeader header{.flags = VirtioHeader::kNeedsChecksum, .segmentation = VirtioHeader::kTcp4, .header_length = 54, .segment_size = 1400, .checksum_start = 34, .checksum_offset = 16};
    Frame sent(sizeof header);
    std::memcpy(sent.data(), &header, sizeof header);
    sent.insert(sent.end(), frame.begin(), frame.end());
    return sent;
}

TEST_F(VethTest, AfPacket_MergedFrame_ComesInSeveralBuffersWithItsChecksumTakenAsGood) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    RawSocket socket("spt1", ETH_P_IP);   // what the kernel takes its frames for
    socket.with_headers();
    for (int time = 0; time < 100; ++time) {   // more often than one system call takes
        const Frame sent = merged_frame(45 * 1400, static_cast<std::uint8_t>(time));
        const Frame frame(sent.begin() + sizeof(VirtioHeader), sent.end());
        socket.send(sent);
        rte_mbuf* mbuf = nullptr;
        const auto end = std::chrono::steady_clock::now() + 5s;
        while ((*port)->receive(0, {&mbuf, 1}) == 0 || mbuf->pkt_len < 1000) {
            if (mbuf != nullptr) rte_pktmbuf_free(std::exchange(mbuf, nullptr));
            ASSERT_LT(std::chrono::steady_clock::now(), end);
        }
        EXPECT_EQ(mbuf->nb_segs, (frame.size() + 2047) / 2048);
        EXPECT_EQ(mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_GOOD);
        EXPECT_EQ(rte_mbuf_check(mbuf, 1, nullptr), 0);
        const Frame got = octets_of(mbuf);
        ASSERT_EQ(got.size(), frame.size());
        EXPECT_TRUE(std::equal(got.begin() + 54, got.end(), frame.begin() + 54));
        rte_pktmbuf_free(mbuf);
    }
    EXPECT_THAT((*port)->status().xstats, testing::Contains(testing::Pair("rx_merged_frames", 100u)));
    port->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
}

TEST_F(VethTest, AfPacket_TagThatTheKernelTookOff_IsBackInItsPlace) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    RawSocket socket("spt1");
    for (const std::uint16_t type : {0x8100, 0x88a8}) {
        Frame tagged = frame_of(200, 4);
        const std::uint8_t tag[] = {static_cast<std::uint8_t>(type >> 8), static_cast<std::uint8_t>(type), 0xa0, 7};
        tagged.insert(tagged.begin() + 12, std::begin(tag), std::end(tag));
        socket.send(tagged);
        rte_mbuf* mbuf = nullptr;
        const auto end = std::chrono::steady_clock::now() + 5s;
        Frame got;
        while (got.size() != tagged.size() && std::chrono::steady_clock::now() < end) {
            if ((*port)->receive(0, {&mbuf, 1}) == 0) continue;
            got = octets_of(mbuf);
            rte_pktmbuf_free(mbuf);
        }
        EXPECT_EQ(got, tagged);
    }
}

/// Packets with an impossible header that the kernel's IPv4 has met in this network namespace; nobody else sends any.
std::uint64_t bad_headers_met_by_kernel() {
    std::ifstream file("/proc/net/snmp");
    std::string names, values, name, value;
    while (std::getline(file, names) && std::getline(file, values)) {
        std::istringstream in_names(names), in_values(values);
        while (in_names >> name && in_values >> value)
            if (name == "InHdrErrors") return std::stoull(value);
    }
    ADD_FAILURE() << "/proc/net/snmp has no InHdrErrors";
    return 0;
}

TEST_F(VethTest, AfPacket_FramesAreKeptFromTheKernelsOwnProtocolsWhileThePortIsOpen) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    const auto offloads = (*port)->status().offloads;
    const auto kept = std::ranges::find(offloads, std::string_view(kKeptFromKernel), &Offload::name);
    ASSERT_NE(kept, offloads.end());
    EXPECT_EQ(kept->got, (*port)->seen_by_kernel().empty());
    if (!kept->got) GTEST_SKIP() << "this kernel has no BPF_TCX_INGRESS, or does not let us use it";
    RawSocket socket("spt1");
    Frame bad = frame_of(60, 1);
    bad[12] = ETH_P_IP >> 8;
    bad[13] = ETH_P_IP & 0xff;
    bad[14] = 0xf0;   // version 15
    const std::uint64_t before = bad_headers_met_by_kernel();
    socket.send(bad);
    // Frames keep their order: when this one is here, that one has been through.
    socket.send(frame_of(60, 2));
    EXPECT_EQ(receive(**port), frame_of(60, 2));
    EXPECT_EQ(bad_headers_met_by_kernel(), before);
    port->reset();
    socket.send(bad);
    for (int wait = 0; wait < 5000 && bad_headers_met_by_kernel() == before; ++wait) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(bad_headers_met_by_kernel(), before + 1);
}

TEST_F(PortTest, IngressDropOfNoInterface_SaysWhy) {
    const auto made = IngressDrop::make("spt9");
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error(), AllOf(HasSubstr("the interface's index"), HasSubstr("No such device")));
}

/// Of 64 slots, and a quarter of a megabyte of the kernel's memory for what does not fit into them.
auto with_short_ring(rte_mempool* buffers) {
    auto settings = settings_of(Profile::af_packet, "spt0");
    settings.descriptors = 64;
    return Port::open(settings, 1, {&buffers, 1});
}

TEST_F(VethTest, AfPacket_ShortAndLongFramesInTurn_ComeInTheirOrder) {
    rte_mempool* buffers = pool();
    auto port = with_short_ring(buffers);
    ASSERT_TRUE(port) << port.error();
    RawSocket socket("spt1", ETH_P_IP);
    socket.with_headers();
    std::uint8_t next = 0;
    for (int time = 0; time < 40; ++time) {   // over the end of the ring, at different places
        std::vector<Frame> sent;
        for (const std::size_t octets : {1, 5000, 40000, 1400, 1880, 1910, 1911, 1912, 1930, 2000, 60000, 8, 9, 3000}) {
            const Frame frame = merged_frame(octets, ++next);
            socket.send(frame);
            sent.emplace_back(frame.begin() + sizeof(VirtioHeader), frame.end());
        }
        std::vector<Frame> got;
        for (const auto end = std::chrono::steady_clock::now() + 5s; got.size() < sent.size() && std::chrono::steady_clock::now() < end;) {
            std::array<rte_mbuf*, 5> frames;
            const std::uint16_t count = (*port)->receive(0, frames);
            for (rte_mbuf* const frame : std::span(frames).first(count)) {
                EXPECT_EQ(rte_mbuf_check(frame, 1, nullptr), 0);
                EXPECT_EQ(frame->pkt_len, octets_of(frame).size());
                if (octets_of(frame)[12] == 8) got.push_back(octets_of(frame));   // IPv4: the kernel may say something of its own
                rte_pktmbuf_free(frame);
            }
        }
        ASSERT_EQ(got.size(), sent.size());
        for (std::size_t i = 0; i < sent.size(); ++i) {
            ASSERT_EQ(got[i].size(), sent[i].size()) << i;
            EXPECT_TRUE(std::equal(got[i].begin() + 54, got[i].end(), sent[i].begin() + 54)) << i;
        }
    }
    EXPECT_EQ((*port)->status().missed, 0u);
    port->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
}

TEST_F(VethTest, AfPacket_MoreThanTheKernelKeeps_IsMissedAndCountedAndWhatFollowsIsWhole) {
    rte_mempool* buffers = pool(2048, 20000);
    auto port = with_short_ring(buffers);
    ASSERT_TRUE(port) << port.error();
    RawSocket socket("spt1", ETH_P_IP);
    socket.with_headers();
    constexpr std::size_t kLong = 40;   // fewer than slots, more than the kernel's memory for what does not fit into them
    for (std::size_t i = 0; i < kLong; ++i) socket.send(merged_frame(60000, static_cast<std::uint8_t>(i)));
    std::size_t got = 0;
    const auto drain = [&] {
        rte_mbuf* frame = nullptr;
        for (int empty = 0; empty < 1000;) {
            if ((*port)->receive(0, {&frame, 1}) == 0) {
                ++empty;
                continue;
            }
            if (frame->pkt_len == 60054) ++got;
            rte_pktmbuf_free(frame);
        }
    };
    drain();
    EXPECT_GT(got, 0u);
    EXPECT_LT(got, kLong);
    EXPECT_EQ((*port)->status().missed, kLong - got);
    socket.send(merged_frame(60000, 99));
    got = 0;
    drain();
    EXPECT_EQ(got, 1u);
    // As many short ones as there are slots, and half as many again.
    const std::uint64_t before = (*port)->status().missed;
    for (int i = 0; i < 96; ++i) socket.send(merged_frame(100, 1));
    EXPECT_EQ((*port)->status().missed - before, 32u);
    drain();
}

/// Of this process, the packet socket that has something long to read; takes it away.
bool take_away_from_a_packet_socket() {
    for (int descriptor = 3; descriptor < 1024; ++descriptor) {
        int domain = 0;
        socklen_t length = sizeof domain;
        if (getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 || domain != AF_PACKET) continue;
        Frame frame(65536 + 64);
        if (recv(descriptor, frame.data(), frame.size(), MSG_DONTWAIT) > 5000) return true;
    }
    return false;
}

TEST_F(VethTest, AfPacketWhoseLongFrameIsLost_CountsItAndGoesOn) {
    rte_mempool* buffers = pool();
    auto port = with_short_ring(buffers);
    ASSERT_TRUE(port) << port.error();
    {
        RawSocket socket("spt1", ETH_P_IP);   // closed below: it hears what it sends
        socket.with_headers();
        socket.send(merged_frame(20000, 1));
    }
    ASSERT_TRUE(take_away_from_a_packet_socket());
    RawSocket socket("spt1");
    socket.send(frame_of(1000, 6));
    EXPECT_EQ(receive(**port), frame_of(1000, 6));
    EXPECT_EQ((*port)->status().errors_in, 1u);
}

TEST_F(VethTest, AfPacketWithoutBuffers_FramesWaitUntilThereAreSome) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    RawSocket socket("spt1");
    std::vector<rte_mbuf*> taken;
    while (rte_mbuf* const buffer = rte_pktmbuf_alloc(buffers)) taken.push_back(buffer);
    socket.send(frame_of(1000, 6));
    rte_mbuf* mbuf = nullptr;
    EXPECT_EQ((*port)->receive(0, {&mbuf, 1}), 0);
    EXPECT_GT((*port)->status().no_buffer, 0u);
    rte_pktmbuf_free(taken.back());   // one is enough for a short frame
    taken.pop_back();
    EXPECT_EQ(receive(**port), frame_of(1000, 6));
    for (rte_mbuf* const buffer : taken) rte_pktmbuf_free(buffer);
}

TEST_F(VethTest, AfPacketWhoseInterfaceIsDown_DropsWhatIsSentAndCountsIt) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::af_packet, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    ASSERT_TRUE(run("ip link set spt0 down"));
    rte_mbuf* mbuf = mbuf_of(buffers, frame_of(100, 1));
    EXPECT_EQ((*port)->transmit(0, {&mbuf, 1}), 1);
    EXPECT_EQ((*port)->status().errors_out, 1u);
    port->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
}

TEST_F(VethTest, AfXdp_FramesGoBothWays) {
    if (!kernel::has_af_xdp()) GTEST_SKIP() << "this kernel has no AF_XDP";
    rte_mempool* buffers = pool();
    for (int time = 0; time < 2; ++time) {  // the second one finds a clean interface
        const auto settings = settings_of(Profile::af_xdp, "spt0");
        auto port = Port::open(settings, 2, {&buffers, 1});
        ASSERT_TRUE(port) << port.error();
        EXPECT_EQ((*port)->receive_queues(), 1);  // veth has one, whatever is wanted
        check_against_kernel(**port, buffers, "spt1", 1500);
        check_link(**port, "spt1");
        port->reset();
        rte_mempool_free(buffers);
        pools.pop_back();
        buffers = pool();  // what was in the rings stays there: a pool of its own each time
    }
}

TEST_F(VethTest, AfXdpFromAnotherPool_FramesGoOut) {
    if (!kernel::has_af_xdp()) GTEST_SKIP() << "this kernel has no AF_XDP";
    rte_mempool* buffers = pool();
    rte_mempool* other = pool(2048, 64);
    auto port = Port::open(settings_of(Profile::af_xdp, "spt0"), 1, {&buffers, 1});
    ASSERT_TRUE(port) << port.error();
    RawSocket socket("spt1");
    check_references(**port, other, 1000, [&] { return socket.receive(); });
    check_several_buffers(**port, other, [&] { return socket.receive(); });
    EXPECT_EQ(rte_mempool_avail_count(other), 64u);
}

TEST_F(PortTest, Tap_FramesGoBothWays) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::tap, "spttap"), 1, {&buffers, 1});
    if (!port && geteuid() != 0) GTEST_SKIP() << port.error();
    ASSERT_TRUE(port) << port.error();
    EXPECT_NE((*port)->mac(), kernel::mac("spttap"));
    ASSERT_TRUE(run("ip link set spttap up"));
    check_against_kernel(**port, buffers, "spttap", 1500);
    port->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
    EXPECT_FALSE(kernel::exists("spttap"));
}

TEST_F(PortTest, TapFillsInChecksums_InBuffersThatTcpStillHolds) {
    rte_mempool* buffers = pool();
    auto port = Port::open(settings_of(Profile::tap, "spttap"), 1, {&buffers, 1});
    if (!port && geteuid() != 0) GTEST_SKIP() << port.error();
    ASSERT_TRUE(port) << port.error();
    ASSERT_TRUE(run("ip link set spttap up"));
    ASSERT_TRUE((*port)->transmit_checksum());
    RawSocket socket("spttap", ETH_P_IP);
    Frame frame = frame_of(14 + 20 + 20 + 333, 1);
    const std::uint8_t headers[] = {0x08, 0, 0x45, 0,   (373 >> 8), 373 & 0xff, 0, 1,   0x40, 0, 64,
                                    6,    0, 0,    192, 0,          2,          1, 192, 0,    2, 2};
    std::copy(std::begin(headers), std::end(headers), frame.begin() + 12);
    frame[46] = 0x50;  // a TCP header of 20 octets
    frame[50] = frame[51] = 0;
    for (int time = 0; time < 2; ++time) {
        rte_mbuf* mbuf = mbuf_of(buffers, Frame(frame.begin(), frame.begin() + 54));
        ASSERT_EQ(rte_pktmbuf_chain(mbuf, mbuf_of(buffers, Frame(frame.begin() + 54, frame.end()))), 0);
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM;
        mbuf->l2_len = 14;
        mbuf->l3_len = 20;
        mbuf->l4_len = 20;
        rte_mbuf_refcnt_update(mbuf, 1);
        rte_mbuf_refcnt_update(mbuf->next, 1);
        rte_mbuf* kept = mbuf;
        ASSERT_TRUE(transmit(**port, mbuf));
        const Frame got = socket.receive();
        ASSERT_EQ(got.size(), frame.size());
        const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(got.data() + 14);
        EXPECT_EQ(rte_ipv4_cksum(ip), 0);  // over a header whose checksum is right
        EXPECT_EQ(rte_ipv4_udptcp_cksum_verify(ip, got.data() + 34), 0);
        ASSERT_EQ(rte_mbuf_refcnt_read(kept), 1);
        rte_pktmbuf_free(kept);
    }
}

/// Until both ends say so; a virtio port learns of the other side when it asks.
void wait_for_link(Port& port) {
    bool up = false;
    for (int i = 0; i < 10000 && !up; ++i) {
        static_cast<void>(port.link_changed(up));
        std::this_thread::sleep_for(1ms);
    }
    ASSERT_TRUE(up) << "the two ends did not meet";
}

// A port of a software switch, and the switch: short and long frames both ways, what is cut and what is merged among them, also when the port comes again.
TEST_F(PortTest, VirtioUserAndVhostUser_FramesGoBothWaysAgainAndAgain) {
    std::string path = testing::TempDir() + "/sallyport-virtio." + std::to_string(getpid()) + '.';
    path.resize(107, 'x');   // as long as it can be
    rte_mempool* buffers = pool();
    const auto open = [&](Profile profile) {
        auto settings = settings_of(profile, path);
        settings.mac = profile == Profile::virtio_user ? "02:00:00:00:00:07" : "02:00:00:00:00:08";
        auto port = Port::open(settings, 1, {&buffers, 1});
        EXPECT_TRUE(port) << port.error();
        return port ? std::move(*port) : nullptr;
    };
    auto peer = open(Profile::vhost_user), own = open(Profile::virtio_user);   // the latter waits for the former
    ASSERT_TRUE(own && peer);
    EXPECT_EQ(own->mac(), (std::array<std::uint8_t, 6>{2, 0, 0, 0, 0, 7}));
    EXPECT_EQ(peer->mac(), (std::array<std::uint8_t, 6>{2, 0, 0, 0, 0, 8}));
    for (const bool last : {false, true}) {
        wait_for_link(*own);
        wait_for_link(*peer);
        EXPECT_TRUE(own->receive_checksum() && own->transmit_checksum() && own->multi_segment_transmit());
        for (const auto& [from, to] : {std::pair{own.get(), peer.get()}, std::pair{peer.get(), own.get()}}) {
            for (const std::size_t length : {60, 1000, 1514}) {
                const Frame frame = frame_of(length, 5);
                rte_mbuf* mbuf = mbuf_of(buffers, frame);
                ASSERT_TRUE(transmit(*from, mbuf));
                ASSERT_EQ(receive(*to), frame) << length;
            }
            check_several_buffers(*from, buffers, [receiver = to] { return receive(*receiver); });
            check_frame_to_be_cut(*from, *to, buffers, 40);
            // What TCP keeps a reference to stays as it was; the port's own is dropped by the time that the ring has come round.
            const Frame frame = frame_of(1400, 9);
            rte_mbuf* const kept = mbuf_of(buffers, frame);
            rte_mbuf_refcnt_update(kept, 1);
            rte_mbuf* mbuf = kept;
            ASSERT_TRUE(transmit(*from, mbuf));
            for (int i = 0; i < 600; ++i) {
                mbuf = mbuf_of(buffers, frame_of(60, 1));
                ASSERT_TRUE(transmit(*from, mbuf));
                ASSERT_FALSE(receive(*to).empty());
            }
            EXPECT_EQ(rte_mbuf_refcnt_read(kept), 1);
            EXPECT_EQ(octets_of(kept), frame);
            rte_pktmbuf_free(kept);
            ASSERT_FALSE(receive(*to).empty());
        }
        own.reset();
        if (last) break;
        own = open(Profile::virtio_user);
        ASSERT_TRUE(own);
    }
    peer.reset();   // not before the other: DPDK's driver forgets, if it is closed in that moment, to take its socket off the interrupt thread's list
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
    EXPECT_NE(access(path.c_str(), F_OK), 0) << "the socket is left behind";
}

TEST_F(PortTest, VirtioUser_SocketOfAnotherProcessIsRefused) {
    const std::string path = testing::TempDir() + "/sallyport-virtio-busy." + std::to_string(getpid());
    rte_mempool* buffers = pool();
    auto peer = Port::open(settings_of(Profile::vhost_user, path), 1, {&buffers, 1});
    ASSERT_TRUE(peer) << peer.error();
    auto first = Port::open(settings_of(Profile::virtio_user, path), 1, {&buffers, 1});
    ASSERT_TRUE(first) << first.error();
    const auto second = Port::open(settings_of(Profile::virtio_user, path), 1, {&buffers, 1});
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error(), HasSubstr("another process listens on this socket"));
}

TEST_F(PortTest, MemifOfTwoPorts_FramesGoBothWays) {
    const std::string path = testing::TempDir() + "/sallyport-memif." + std::to_string(getpid());
    auto settings = settings_of(Profile::memif, path);
    settings.memif_server = true;
    rte_mempool* buffers = pool();
    auto server = Port::open(settings, 1, {&buffers, 1});
    ASSERT_TRUE(server) << server.error();
    auto client_settings = settings_of(Profile::memif, path);
    auto client = Port::open(client_settings, 1, {&buffers, 1});
    ASSERT_TRUE(client) << client.error();
    wait_for_link(**client);
    // A client offers buffers to the server as it polls.
    const auto poll_client = [&] {
        rte_mbuf* none = nullptr;
        EXPECT_EQ((*client)->receive(0, {&none, 1}), 0);
    };
    for (const std::size_t length : {60, 1000, 1514}) {
        const Frame frame = frame_of(length, 5);
        rte_mbuf* mbuf = mbuf_of(buffers, frame);
        ASSERT_TRUE(transmit(**client, mbuf));
        EXPECT_EQ(receive(**server), frame);
        poll_client();
        mbuf = mbuf_of(buffers, frame);
        ASSERT_TRUE(transmit(**server, mbuf));
        EXPECT_EQ(receive(**client), frame);
    }
    check_references(**client, buffers, 1400, [&] { return receive(**server); });
    check_references(**server, buffers, 1400, [&] { return receive(**client); });
    check_several_buffers(**client, buffers, [&] { return receive(**server); });
    check_several_buffers(**server, buffers, [&] { return receive(**client); });
    client->reset();
    server->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
    unlink(path.c_str());
}

TEST_F(PortTest, MemifServerInUse_TheClientMayGoAtAnyMoment) {
    const std::string path = testing::TempDir() + "/sallyport-memif-goes." + std::to_string(getpid());
    auto settings = settings_of(Profile::memif, path);
    settings.memif_server = true;
    rte_mempool* buffers = pool();
    auto server = Port::open(settings, 1, {&buffers, 1});
    ASSERT_TRUE(server) << server.error();
    rte_mbuf* frame = mbuf_of(buffers, frame_of(1514, 7));
    std::atomic<unsigned> sent = 0;
    std::jthread worker([&](const std::stop_token& stop) {
        ASSERT_EQ(rte_thread_register(), 0);
        while (!stop.stop_requested()) {
            std::array<rte_mbuf*, 32> burst;
            burst.fill(frame);
            rte_mbuf_refcnt_update(frame, burst.size());
            const std::uint16_t taken = (*server)->transmit(0, burst);
            rte_mbuf_refcnt_update(frame, static_cast<std::int16_t>(taken - static_cast<int>(burst.size())));
            sent += taken;
            rte_pktmbuf_free_bulk(burst.data(), (*server)->receive(0, burst));
        }
        rte_thread_unregister();
    });
    for (int i = 0; i < 50; ++i) {
        auto client = Port::open(settings_of(Profile::memif, path), 1, {&buffers, 1});
        ASSERT_TRUE(client) << client.error();
        wait_for_link(**client);
        const unsigned before = sent;
        while (sent < before + 5'000) {   // in the midst of it
            std::array<rte_mbuf*, 32> burst;
            rte_pktmbuf_free_bulk(burst.data(), (*client)->receive(0, burst));
        }
    }
    worker = {};
    rte_pktmbuf_free(frame);
    server->reset();
    EXPECT_EQ(rte_mempool_avail_count(buffers), 5000u);
    unlink(path.c_str());
}

}  // namespace
}  // namespace sallyport::drivers
