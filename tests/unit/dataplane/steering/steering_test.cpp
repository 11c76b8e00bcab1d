#include "dataplane/steering/steering.h"

#include <rte_thash.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <vector>

#include "tests/unit/eal.h"

namespace sallyport::steering {
namespace {

using Frame = std::vector<std::uint8_t>;

SocketAddress at(const char* text) {
    return SocketAddress::parse(text).value();
}

Frame operator+(Frame left, const Frame& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}
Frame word16(unsigned value) {
    return {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}
Frame octets_of(const IpAddress& address) {
    return {address.octets.begin() + (address.is_v4() ? 12 : 0), address.octets.end()};
}

Frame tcp(const SocketAddress& source, const SocketAddress& destination) {
    return word16(source.port) + word16(destination.port) + Frame(16, 0x55);
}
Frame ipv4(const SocketAddress& source, const SocketAddress& destination, std::uint8_t protocol, const Frame& payload,
           unsigned fragment = 0, unsigned options = 0) {
    return Frame{static_cast<std::uint8_t>(0x45 + options / 4), 0} +
           word16(20 + options + static_cast<unsigned>(payload.size())) + Frame{1, 2} + word16(fragment) +
           Frame{64, protocol, 0, 0} + octets_of(source.address) + octets_of(destination.address) + Frame(options, 1) +
           payload;
}
Frame ipv6(const SocketAddress& source, const SocketAddress& destination, std::uint8_t next, const Frame& payload) {
    return Frame{0x60, 0, 0, 0} + word16(static_cast<unsigned>(payload.size())) + Frame{next, 64} +
           octets_of(source.address) + octets_of(destination.address) + payload;
}
Frame ethernet(unsigned type, const Frame& payload) {
    return Frame(12, 2) + word16(type) + payload;
}
Frame tagged(unsigned type, const Frame& payload) {
    return Frame(12, 2) + word16(0x8100) + word16(7) + word16(type) + payload;
}

class Steering : public testing::Test {
 protected:
    /// The frame in mbuf segments of `piece` octets each; `piece` 0: one.
    unsigned worker(const Frame& frame, unsigned workers, std::size_t piece = 0) {
        rte_mbuf* head = nullptr;
        if (piece == 0) piece = std::max<std::size_t>(frame.size(), 1);
        std::size_t offset = 0;
        do {
            rte_mbuf* next = rte_pktmbuf_alloc(pool.get());
            const auto part = std::min(piece, frame.size() - offset);
            std::copy_n(frame.data() + offset, part,
                        reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(next, static_cast<std::uint16_t>(part))));
            offset += part;
            if (head == nullptr)
                head = next;
            else if (rte_pktmbuf_chain(head, next) != 0)
                ADD_FAILURE();
        } while (offset < frame.size());
        const unsigned result = worker_of_frame(head, workers);
        rte_pktmbuf_free(head);
        return result;
    }
    test::BufferPool pool;
    const SocketAddress a4 = at("192.0.2.1:49152"), b4 = at("198.51.100.7:443");
    const SocketAddress a6 = at("[2001:db8::1]:49153"), b6 = at("[2001:db8:1::7]:443");
    const unsigned owner4 = worker_of(a4, b4, 5), owner6 = worker_of(a6, b6, 5);
};

// rte_softrss() takes its input as 32-bit words in host order.
std::uint32_t softrss(const SocketAddress& source, const SocketAddress& destination,
                      std::span<const std::uint8_t> key) {
    Frame input =
        octets_of(source.address) + octets_of(destination.address) + word16(source.port) + word16(destination.port);
    std::array<std::uint32_t, 9> words{};
    for (std::size_t i = 0; i < input.size(); ++i) words[i / 4] = words[i / 4] << 8 | input[i];
    return rte_softrss(words.data(), static_cast<std::uint32_t>(input.size() / 4), key.data());
}

TEST(Softrss, MicrosoftVerificationSuite_GivesItsHash) {
    // Checks the test's own reference: known answers of the Toeplitz function with Microsoft's key.
    const Frame key = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                       0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                       0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
    EXPECT_EQ(softrss(at("66.9.149.187:2794"), at("161.142.100.80:1766"), key), 0x51ccc178u);
    EXPECT_EQ(softrss(at("199.92.111.2:14230"), at("65.69.140.83:4739"), key), 0xc626b0eau);
    EXPECT_EQ(softrss(at("[3ffe:2501:200:1fff::7]:2794"), at("[3ffe:2501:200:3::1]:1766"), key), 0x40207d3du);
}

TEST(RssHash, AnyTuple_IsToeplitzOfOurKeyAndSymmetric) {
    std::mt19937 random(1);
    for (unsigned i = 0; i < 20000; ++i) {
        SocketAddress one, other;
        for (auto* end : {&one, &other}) {
            if (i % 2 == 0) {
                std::array<std::uint8_t, 4> v4;
                std::ranges::generate(v4, [&] { return static_cast<std::uint8_t>(random()); });
                end->address = IpAddress::from_v4(v4);
            } else {
                std::ranges::generate(end->address.octets, [&] { return static_cast<std::uint8_t>(random()); });
            }
            end->port = static_cast<std::uint16_t>(random());
        }
        ASSERT_EQ(rss_hash(one, other), softrss(one, other, rss_key())) << one.to_string() << ' ' << other.to_string();
        ASSERT_EQ(rss_hash(one, other), rss_hash(other, one));
    }
}

TEST(WorkerOf, ManyPorts_SpreadEvenly) {
    for (unsigned workers : {1u, 2u, 3u, 7u, 16u}) {
        std::map<unsigned, unsigned> flows;
        for (unsigned port = 1024; port < 65536; ++port)
            ++flows[worker_of({at("192.0.2.1:1").address, static_cast<std::uint16_t>(port)}, at("198.51.100.7:443"),
                              workers)];
        ASSERT_EQ(flows.size(), workers);
        for (const auto& [worker, count] : flows) {
            EXPECT_LT(worker, workers);
            EXPECT_NEAR(count, 64512.0 / workers, 64512.0 / workers * 0.15) << worker << " of " << workers;
        }
    }
}

TEST_F(Steering, EndsAreNotOfWorkerZero) {
    // Else the tests below could not tell a parsed frame from one that was not understood.
    EXPECT_NE(owner4, 0u);
    EXPECT_NE(owner6, 0u);
}

TEST_F(Steering, Tcp_GoesToTheOwnerOfTheConnection) {
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4))), 5), owner4);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(b4, a4, 6, tcp(b4, a4))), 5), owner4);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4), 0x4000)), 5), owner4);  // don't fragment
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4), 0, 40)), 5), owner4);
    EXPECT_EQ(worker(tagged(0x0800, ipv4(a4, b4, 6, tcp(a4, b4))), 5), owner4);
    EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 6, tcp(a6, b6))), 5), owner6);
    EXPECT_EQ(worker(tagged(0x86dd, ipv6(b6, a6, 6, tcp(b6, a6))), 5), owner6);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4))), 1), 0u);
}

TEST_F(Steering, HeadersAcrossMbufSegments_AreRead) {
    const Frame v4 = tagged(0x0800, ipv4(a4, b4, 6, tcp(a4, b4))), v6 = ethernet(0x86dd, ipv6(a6, b6, 6, tcp(a6, b6)));
    for (std::size_t piece = 1; piece < 60; ++piece) {
        EXPECT_EQ(worker(v4, 5, piece), owner4) << piece;
        EXPECT_EQ(worker(v6, 5, piece), owner6) << piece;
    }
}

TEST_F(Steering, Ipv6ExtensionHeaders_AreSkipped) {
    const Frame hop = Frame{0, 0} + Frame(6, 0), destination = Frame{6, 1} + Frame(14, 0);
    const Frame chain = Frame{60, 0, 1, 4, 0, 0, 0, 0} + destination + tcp(a6, b6);
    EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 0, chain)), 5), owner6);
    const Frame atomic = Frame{6, 0, 0, 0, 1, 2, 3, 4} + tcp(a6, b6);
    EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 44, atomic)), 5), owner6);
    const Frame first = Frame{6, 0, 0, 1, 1, 2, 3, 4} + tcp(a6, b6);
    EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 44, first)), 5), 0u);
    Frame beyond = Frame{6, 255} + Frame(6, 0) + tcp(a6, b6);
    EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 0, beyond)), 5), 0u);
}

TEST_F(Steering, Fragments_GoToWorkerZero) {
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4), 0x2000)), 5), 0u);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4), 0x0010)), 5), 0u);
}

TEST_F(Steering, IcmpErrorAboutTcp_GoesToTheOwner) {
    const SocketAddress router4 = at("203.0.113.9:1"), router6 = at("[2001:db8:9::9]:1");
    Frame quoted4 = ipv4(b4, a4, 6, tcp(b4, a4));
    quoted4.resize(28);  // RFC 792: the header and 8 octets, though its length says more
    for (std::uint8_t type : {3, 4, 11, 12})
        EXPECT_EQ(worker(ethernet(0x0800, ipv4(router4, b4, 1, Frame{type, 4} + Frame(6, 0) + quoted4)), 5), owner4);
    for (std::uint8_t type : {0, 5, 8, 13})
        EXPECT_EQ(worker(ethernet(0x0800, ipv4(router4, b4, 1, Frame{type, 4} + Frame(6, 0) + quoted4)), 5), 0u);
    const Frame quoted6 = ipv6(b6, a6, 6, tcp(b6, a6));
    for (std::uint8_t type : {1, 2, 3, 4})
        EXPECT_EQ(worker(ethernet(0x86dd, ipv6(router6, b6, 58, Frame{type, 0} + Frame(6, 0) + quoted6)), 5), owner6);
    // An error about an ICMP error about a segment: nobody's.
    const Frame nested = ipv4(b4, router4, 1, Frame{3, 4} + Frame(6, 0) + quoted4);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(router4, b4, 1, Frame{3, 4} + Frame(6, 0) + nested)), 5), 0u);
}

TEST_F(Steering, NeighbourPackets_GoToEveryWorker) {
    EXPECT_EQ(worker(ethernet(0x0806, Frame(28, 0)), 5), kEveryWorker);
    EXPECT_EQ(worker(tagged(0x0806, Frame(28, 0)), 5), kEveryWorker);
    for (std::uint8_t type : {134, 135, 136, 137})
        EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 58, Frame{type, 0} + Frame(22, 0))), 5), kEveryWorker);
    EXPECT_EQ(worker(ethernet(0x86dd, ipv6(a6, b6, 58, Frame{128, 0} + Frame(22, 0))), 5), 0u);  // echo request
}

TEST_F(Steering, OtherAndShort_GoToWorkerZero) {
    EXPECT_EQ(worker({}, 5), 0u);
    EXPECT_EQ(worker(ethernet(0x88cc, Frame(60, 0)), 5), 0u);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 17, tcp(a4, b4))), 5), 0u);
    EXPECT_EQ(worker(ethernet(0x0800, ipv4(a4, b4, 6, word16(a4.port) + Frame{1})), 5), 0u);
    Frame wrong_version = ipv4(a4, b4, 6, tcp(a4, b4));
    wrong_version[0] = 0x65;
    EXPECT_EQ(worker(ethernet(0x0800, wrong_version), 5), 0u);
    Frame short_header = ipv4(a4, b4, 6, tcp(a4, b4));
    short_header[0] = 0x44;
    EXPECT_EQ(worker(ethernet(0x0800, short_header), 5), 0u);
    Frame padded = ipv4(a4, b4, 6, Frame{}) + Frame(20, 0x77);  // ports of the padding are nobody's
    EXPECT_EQ(worker(ethernet(0x0800, padded), 5), 0u);
}

// Frames that end where a page ends which may not be read: one octet too far is a fault.
TEST(SteeringBounds, MutatedFrames_AreNeverReadBeyondTheirEnd) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    auto* memory =
        static_cast<std::uint8_t*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory, MAP_FAILED);
    ASSERT_EQ(mprotect(memory + page, page, PROT_NONE), 0);

    const SocketAddress a4 = at("192.0.2.1:49152"), b4 = at("198.51.100.7:443");
    const SocketAddress a6 = at("[2001:db8::1]:49153"), b6 = at("[2001:db8:1::7]:443");
    const std::vector<Frame> seeds = {
        ethernet(0x0800, ipv4(a4, b4, 6, tcp(a4, b4), 0, 8)),
        tagged(0x86dd, ipv6(a6, b6, 0, Frame{60, 0, 1, 4, 0, 0, 0, 0} + Frame{6, 1} + Frame(14, 0) + tcp(a6, b6))),
        ethernet(0x0800, ipv4(a4, b4, 1, Frame{3, 4} + Frame(6, 0) + ipv4(b4, a4, 6, tcp(b4, a4)))),
        ethernet(0x86dd,
                 ipv6(a6, b6, 58,
                      Frame{2, 0} + Frame(6, 0) + ipv6(b6, a6, 44, Frame{6, 0, 0, 0, 1, 2, 3, 4} + tcp(b6, a6)))),
    };
    std::mt19937 random(7);
    for (unsigned i = 0; i < 200000; ++i) {
        Frame frame = seeds[i % seeds.size()];
        for (unsigned changes = random() % 6; changes > 0; --changes)
            frame[random() % frame.size()] = static_cast<std::uint8_t>(random());
        frame.resize(random() % (frame.size() + 1));
        rte_mbuf mbuf{};
        mbuf.nb_segs = 1;
        mbuf.data_len = static_cast<std::uint16_t>(frame.size());
        mbuf.pkt_len = mbuf.data_len;
        mbuf.buf_addr = memory + page - frame.size();
        std::ranges::copy(frame, static_cast<std::uint8_t*>(mbuf.buf_addr));
        const unsigned workers = 1 + random() % 16;
        const unsigned worker = worker_of_frame(&mbuf, workers);
        ASSERT_TRUE(worker < workers || worker == kEveryWorker);
    }
    munmap(memory, 2 * page);
}

}  // namespace
}  // namespace sallyport::steering
