#include "dataplane/wire/checksum.h"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <random>
#include <vector>

#include "dataplane/wire/octets.h"
#include "tests/unit/dataplane/wire/octets.h"
#include "tests/unit/eal.h"

namespace sallyport::wire {
namespace {

/// RFC 1071 4.1, word by word in network order: slow and plain.
std::uint16_t plain_checksum(std::span<const std::byte> data) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < data.size(); i += 2) sum += load16(data.data() + i);
    if (data.size() % 2 != 0) sum += load8(data.data() + data.size() - 1) << 8;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}
std::uint16_t on_the_wire(std::uint16_t checksum) { return __builtin_bswap16(checksum); }

TEST(Checksum, Rfc1071Example) {
    const auto data = test::octets("0001 f203 f4f5 f6f7");
    EXPECT_EQ(on_the_wire(finish(sum_octets(data))), 0xffff - 0xddf2);
}

TEST(Checksum, EveryLengthAndAlignment_MatchesPlainLoop) {
    std::mt19937 random(1);
    std::vector<std::byte> data(2000);
    for (auto& octet : data) octet = static_cast<std::byte>(random());
    for (std::size_t offset = 0; offset < 5; ++offset)
        for (std::size_t length = 0; length < 400; ++length) {
            const auto part = std::span(data).subspan(offset, length);
            ASSERT_EQ(on_the_wire(finish(sum_octets(part))), plain_checksum(part)) << offset << ' ' << length;
        }
    EXPECT_EQ(on_the_wire(finish(sum_octets(data))), plain_checksum(data));
}

TEST(Checksum, AllOnes_LosesNoCarry) {
    const std::vector<std::byte> data(65535, std::byte{0xff});
    EXPECT_EQ(on_the_wire(finish(sum_octets(data))), plain_checksum(data));
}

TEST(Checksum, PseudoHeader) {
    const auto v4 = test::octets("c0000201 c6336401 0006 0123");
    EXPECT_EQ(fold(sum_pseudo_header(IpAddress::from_v4({192, 0, 2, 1}), IpAddress::from_v4({198, 51, 100, 1}), 6, 0x123)),
              fold(sum_octets(v4)));
    const auto v6 = test::octets("20010db8000000000000000000000001 20010db8000000000000000000000002 00012345 0000003a");
    EXPECT_EQ(fold(sum_pseudo_header(*IpAddress::parse("2001:db8::1"), *IpAddress::parse("2001:db8::2"), 58, 0x12345)),
              fold(sum_octets(v6)));
}

TEST(Checksum, Updated_IsThatOfTheChangedData) {
    auto data = test::octets("4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7");
    const std::uint16_t before = finish(sum_octets(data));
    EXPECT_EQ(on_the_wire(before), 0xb861);
    std::uint16_t old_field, new_field;
    std::memcpy(&old_field, data.data() + 8, 2);
    data[8] = std::byte{0x3f};
    std::memcpy(&new_field, data.data() + 8, 2);
    EXPECT_EQ(updated_checksum(before, old_field, new_field), finish(sum_octets(data)));
}

TEST(Checksum, MbufChainWithOddSegments_MatchesFlatData) {
    test::BufferPool pool;
    std::mt19937 random(2);
    for (int round = 0; round < 200; ++round) {
        std::vector<std::byte> flat;
        rte_mbuf* head = nullptr;
        for (unsigned segments = 1 + random() % 5; segments > 0; --segments) {
            rte_mbuf* mbuf = rte_pktmbuf_alloc(pool.get());
            ASSERT_NE(mbuf, nullptr);
            const auto length = static_cast<std::uint16_t>(random() % 150);  // 0 too
            auto* data = reinterpret_cast<std::byte*>(rte_pktmbuf_append(mbuf, length));
            for (unsigned i = 0; i < length; ++i) flat.push_back(data[i] = static_cast<std::byte>(random()));
            if (head == nullptr)
                head = mbuf;
            else
                rte_pktmbuf_chain(head, mbuf);
        }
        const std::size_t offset = flat.empty() ? 0 : random() % flat.size();
        const std::size_t length = flat.empty() ? 0 : random() % (flat.size() - offset + 1);
        EXPECT_EQ(finish(sum_mbuf(head, static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(length))),
                  finish(sum_octets(std::span(flat).subspan(offset, length))));
        rte_pktmbuf_free(head);
    }
}

}  // namespace
}  // namespace sallyport::wire
