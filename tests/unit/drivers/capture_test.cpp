#include "drivers/capture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <map>

#include "drivers/environment.h"
#include "drivers/port.h"
#include "tests/unit/eal.h"

namespace sallyport::drivers {
namespace {

using namespace std::chrono_literals;
using Direction = PcapngFile::Direction;
using Now = std::chrono::steady_clock::time_point;

struct Block {
    std::uint32_t type = 0;
    std::vector<char> octets;   ///< whole
    [[nodiscard]] std::uint32_t word(std::size_t at) const {
        std::uint32_t value = 0;
        std::memcpy(&value, octets.data() + at, sizeof value);
        return value;
    }
};
constexpr std::uint32_t kSection = 0x0a0d0d0a, kInterface = 1, kPacket = 6, kStatistics = 5, kSecrets = 10;

/// Cuts a pcapng file into its blocks, checking both lengths of each.
std::vector<Block> blocks_of(int file) {
    std::vector<char> octets(static_cast<std::size_t>(lseek(file, 0, SEEK_END)));
    EXPECT_EQ(pread(file, octets.data(), octets.size(), 0), static_cast<ssize_t>(octets.size()));
    std::vector<Block> blocks;
    for (std::size_t at = 0; at < octets.size();) {
        std::uint32_t type = 0, length = 0, again = 0;
        if (octets.size() - at < 12) {
            ADD_FAILURE() << "a block is cut short";
            break;
        }
        std::memcpy(&type, octets.data() + at, 4);
        std::memcpy(&length, octets.data() + at + 4, 4);
        if (length < 12 || length % 4 != 0 || length > octets.size() - at) {
            ADD_FAILURE() << "a block of " << length << " octets at " << at;
            break;
        }
        std::memcpy(&again, octets.data() + at + length - 4, 4);
        EXPECT_EQ(length, again);
        blocks.push_back({type, std::vector<char>(octets.begin() + static_cast<std::ptrdiff_t>(at), octets.begin() + static_cast<std::ptrdiff_t>(at + length))});
        at += length;
    }
    return blocks;
}
std::size_t count(const std::vector<Block>& blocks, std::uint32_t type) { return static_cast<std::size_t>(std::ranges::count(blocks, type, &Block::type)); }

class CaptureTest : public testing::Test {
 protected:
    static constexpr std::uint32_t kCopies = 255;
    void SetUp() override {
        test::start_eal();
        static int number = 0;
        const std::string name = "capture" + std::to_string(number++);
        auto made = make_capture_pool(name, kCopies, 1500);
        ASSERT_TRUE(made) << made.error();
        copies = *made;
        auto pool = make_buffer_pool(name + "_frames", 600, 2048, SOCKET_ID_ANY);
        ASSERT_TRUE(pool) << pool.error();
        frames = *pool;
        PortSettings settings;
        settings.name = "outside";
        auto opened = Port::open_device(settings, "net_null_capture" + std::to_string(number), 1, {&frames, 1});
        ASSERT_TRUE(opened) << opened.error();
        port = std::move(*opened);
        ports = {{"outside", port->id(), 0}};
        file = channel::Descriptor(memfd_create("capture", MFD_CLOEXEC));
    }
    void TearDown() override {
        EXPECT_EQ(rte_mempool_avail_count(copies), kCopies) << "copies leaked";
        port.reset();
        rte_mempool_free(copies);
        rte_mempool_free(frames);
    }
    static Capture::Settings settings() {
        Capture::Settings result;
        result.packets = 1'000'000;
        result.octets = 1 << 20;
        result.duration = 60s;
        return result;
    }
    std::unique_ptr<Capture> open(const Capture::Settings& wanted, unsigned workers = 1) {
        auto opened = Capture::open(wanted, file, ports, workers, copies, Now{});
        EXPECT_TRUE(opened) << (opened ? "" : opened.error());
        return opened ? std::move(*opened) : nullptr;
    }
    /// IPv4 and UDP to this port, in as many buffers as `cuts` says.
    rte_mbuf* frame(std::uint16_t to_port, std::size_t length = 100, std::vector<std::size_t> cuts = {}) {
        std::vector<unsigned char> octets(length);
        const unsigned char head[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2};
        std::memcpy(octets.data(), head, sizeof head);
        octets[36] = static_cast<unsigned char>(to_port >> 8);
        octets[37] = static_cast<unsigned char>(to_port);
        for (std::size_t i = 42; i < length; ++i) octets[i] = static_cast<unsigned char>(i);
        cuts.push_back(length);
        rte_mbuf* result = nullptr;
        for (std::size_t from = 0; from < length;) {
            const std::size_t part = std::min(cuts.front(), length - from);
            cuts.erase(cuts.begin());
            rte_mbuf* const piece = rte_pktmbuf_alloc(frames);
            std::memcpy(rte_pktmbuf_append(piece, static_cast<std::uint16_t>(part)), octets.data() + from, part);
            from += part;
            if (result == nullptr)
                result = piece;
            else
                rte_pktmbuf_chain(result, piece);
        }
        return result;
    }
    void show(Capture& capture, rte_mbuf* each, Direction direction = Direction::in, unsigned worker = 0) {
        capture.lane(worker)->take(0, 0, direction, {&each, 1});
        rte_pktmbuf_free(each);
    }

    rte_mempool* copies = nullptr;
    rte_mempool* frames = nullptr;
    std::unique_ptr<Port> port;
    std::vector<CapturedPort> ports;
    channel::Descriptor file;
};

TEST_F(CaptureTest, WritesWhatMatches_WithDirectionAndTime) {
    auto wanted = settings();
    wanted.filter = "udp port 53";
    wanted.comment = "why it was taken";
    const auto before = std::chrono::system_clock::now();
    auto capture = open(wanted);
    show(*capture, frame(53));
    show(*capture, frame(80));
    show(*capture, frame(53, 1514, {60, 500}), Direction::out);
    EXPECT_EQ(capture->turn(Now{}), 2u);
    capture->finish(Capture::End::stopped);
    const auto after = std::chrono::system_clock::now();
    const auto counts = capture->counts();
    EXPECT_EQ(counts.seen, 2u);
    EXPECT_EQ(counts.written, 2u);
    EXPECT_EQ(counts.dropped, 0u);
    const auto blocks = blocks_of(file.get());
    EXPECT_EQ(counts.octets, static_cast<std::uint64_t>(lseek(file.get(), 0, SEEK_END)));
    ASSERT_EQ(blocks.size(), 5u);
    EXPECT_EQ(blocks[0].type, kSection);
    EXPECT_NE(std::string_view(blocks[0].octets.data(), blocks[0].octets.size()).find("why it was taken"), std::string_view::npos);
    EXPECT_EQ(blocks[1].type, kInterface);
    EXPECT_NE(std::string_view(blocks[1].octets.data(), blocks[1].octets.size()).find("outside"), std::string_view::npos);
    EXPECT_NE(std::string_view(blocks[1].octets.data(), blocks[1].octets.size()).find("udp port 53"), std::string_view::npos);
    EXPECT_EQ(blocks[4].type, kStatistics);
    std::uint64_t last = 0;
    for (std::size_t i = 2; i < 4; ++i) {
        ASSERT_EQ(blocks[i].type, kPacket);
        const std::uint64_t ns = std::uint64_t{blocks[i].word(12)} << 32 | blocks[i].word(16);
        EXPECT_GE(ns + 1'000'000'000, static_cast<std::uint64_t>(std::chrono::nanoseconds(before.time_since_epoch()).count()));
        EXPECT_LE(ns, static_cast<std::uint64_t>(std::chrono::nanoseconds(after.time_since_epoch()).count()) + 1'000'000'000);
        EXPECT_GE(ns, last);
        last = ns;
        const std::uint32_t length = i == 2 ? 100 : 1514;
        EXPECT_EQ(blocks[i].word(20), length) << "captured";
        EXPECT_EQ(blocks[i].word(24), length) << "original";
        // The first option is epb_flags (2), of four octets: the direction in its low bits.
        const std::size_t options = 28 + (length + 3) / 4 * 4;
        EXPECT_EQ(blocks[i].word(options), 0x00040002u);
        EXPECT_EQ(blocks[i].word(options + 4) & 3, i == 2 ? 1u : 2u);
    }
}

TEST_F(CaptureTest, SnapLength_CutsFrames) {
    auto wanted = settings();
    wanted.snap = 64;
    auto capture = open(wanted);
    show(*capture, frame(53, 1000));
    capture->finish(Capture::End::stopped);
    const auto blocks = blocks_of(file.get());
    ASSERT_EQ(blocks[2].type, kPacket);
    EXPECT_EQ(blocks[2].word(20), 64u);
    EXPECT_EQ(blocks[2].word(24), 1000u);
}

TEST_F(CaptureTest, MoreThanThereAreBuffers_IsCountedAsDropped) {
    auto capture = open(settings());
    for (std::uint32_t i = 0; i < kCopies + 100; ++i) show(*capture, frame(53));
    const auto before = capture->counts();
    EXPECT_EQ(before.seen, kCopies + 100);
    EXPECT_EQ(before.dropped, 100u);
    static_cast<void>(capture->turn(Now{}));
    show(*capture, frame(53));   // the buffers have come back
    capture->finish(Capture::End::stopped);
    EXPECT_EQ(capture->counts().dropped, 100u);
    const auto blocks = blocks_of(file.get());
    EXPECT_EQ(count(blocks, kPacket), kCopies + 1);
    // isb_ifrecv (4) and isb_ifdrop (5).
    const std::string_view statistics(blocks.back().octets.data(), blocks.back().octets.size());
    const auto option = [&](std::uint16_t code) {
        std::uint64_t value = 0;
        for (std::size_t at = 20; at + 12 <= statistics.size(); at += 12) {
            std::uint16_t found = 0;
            std::memcpy(&found, statistics.data() + at, 2);
            if (found == code) std::memcpy(&value, statistics.data() + at + 4, 8);
        }
        return value;
    };
    EXPECT_EQ(option(4), kCopies + 101);
    EXPECT_EQ(option(5), 100u);
}

TEST_F(CaptureTest, PacketLimit_IsExact) {
    auto wanted = settings();
    wanted.packets = 5;
    auto capture = open(wanted);
    for (int i = 0; i < 9; ++i) show(*capture, frame(53));
    static_cast<void>(capture->turn(Now{}));
    EXPECT_EQ(capture->end(), Capture::End::packets);
    capture->finish(Capture::End::stopped);
    EXPECT_EQ(capture->end(), Capture::End::packets);
    EXPECT_EQ(count(blocks_of(file.get()), kPacket), 5u);
}

TEST_F(CaptureTest, OctetLimit_HoldsForTheWholeFile) {
    auto wanted = settings();
    wanted.octets = 20'000;
    auto capture = open(wanted);
    for (int i = 0; i < 40; ++i) show(*capture, frame(53, 1000));
    static_cast<void>(capture->turn(Now{}));
    EXPECT_EQ(capture->end(), Capture::End::octets);
    capture->finish(Capture::End::stopped);
    EXPECT_LE(lseek(file.get(), 0, SEEK_END), 20'000);
    EXPECT_GE(count(blocks_of(file.get()), kPacket), 17u);
}

TEST_F(CaptureTest, TimeLimit) {
    auto capture = open(settings());
    static_cast<void>(capture->turn(Now{} + 59s));
    EXPECT_EQ(capture->end(), Capture::End::running);
    show(*capture, frame(53));
    static_cast<void>(capture->turn(Now{} + 60s));
    EXPECT_EQ(capture->end(), Capture::End::time);
    capture->finish(Capture::End::stopped);
    EXPECT_EQ(capture->end(), Capture::End::time);
    EXPECT_EQ(capture->counts().written, 1u);
}

TEST_F(CaptureTest, TwoWorkers_AreMergedByTime) {
    auto capture = open(settings(), 2);
    show(*capture, frame(1), Direction::in, 1);
    show(*capture, frame(2), Direction::in, 0);
    show(*capture, frame(3), Direction::in, 1);
    static_cast<void>(capture->turn(Now{}));
    capture->finish(Capture::End::stopped);
    std::vector<int> order;
    for (const Block& block : blocks_of(file.get()))
        if (block.type == kPacket) order.push_back(block.octets[28 + 37]);
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(CaptureTest, StrippedTag_IsSeenAndWritten) {
    ports[0].vlan = 7;
    auto wanted = settings();
    wanted.filter = "udp port 53";
    auto capture = open(wanted);
    rte_mbuf* const tagged = frame(53);
    tagged->ol_flags |= RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_VLAN;
    tagged->vlan_tci = 7;
    show(*capture, tagged);
    rte_mbuf* const other = frame(53);
    other->ol_flags |= RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_VLAN;
    other->vlan_tci = 8;
    show(*capture, other);
    capture->finish(Capture::End::stopped);
    const auto blocks = blocks_of(file.get());
    ASSERT_EQ(count(blocks, kPacket), 1u);
    EXPECT_EQ(static_cast<unsigned char>(blocks[2].octets[28 + 12]), 0x81);
    EXPECT_EQ(blocks[2].octets[28 + 15], 7);
}

TEST_F(CaptureTest, RoomForSecrets_IsAKeyLogThatSaysNothing_BeforeThePackets) {
    auto wanted = settings();
    wanted.secrets_room = 1001;
    auto capture = open(wanted);
    show(*capture, frame(53));
    const auto room = capture->secrets();
    EXPECT_EQ(room.octets, 1000u);
    const std::string line = "CLIENT_RANDOM 00 11\n";
    ASSERT_EQ(pwrite(file.get(), line.data(), line.size(), static_cast<off_t>(room.offset)), static_cast<ssize_t>(line.size()));
    capture->finish(Capture::End::stopped);
    const auto blocks = blocks_of(file.get());
    ASSERT_EQ(blocks[2].type, kSecrets);
    EXPECT_EQ(blocks[2].word(8), 0x544c534bu);
    EXPECT_EQ(blocks[2].word(12), 1000u);
    const std::string_view secrets(blocks[2].octets.data() + 16, 1000);
    EXPECT_TRUE(secrets.starts_with(line));
    EXPECT_EQ(secrets.back(), '\n');
    EXPECT_EQ(blocks[3].type, kPacket);
}

TEST_F(CaptureTest, BadFilter_NoCapture) {
    auto wanted = settings();
    wanted.filter = "udp port";
    const auto opened = Capture::open(wanted, file, ports, 1, copies, Now{});
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().find("syntax"), std::string::npos) << opened.error();
    EXPECT_EQ(lseek(file.get(), 0, SEEK_END), 0);
}

TEST_F(CaptureTest, FullFileSystem_EndsItWithWholeBlocks) {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    auto capture = open(settings());
    rlimit small = before;
    small.rlim_cur = 5000;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 40; ++i) show(*capture, frame(53, 1000));
    static_cast<void>(capture->turn(Now{}));
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_EQ(capture->end(), Capture::End::write_failed);
    EXPECT_FALSE(capture->error().empty());
    capture->finish(Capture::End::stopped);
    static_cast<void>(blocks_of(file.get()));
}

}  // namespace
}  // namespace sallyport::drivers
