#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "dataplane/wire/tcp_header.h"
#include "dataplane/wire/tcp_options.h"
#include "tests/unit/dataplane/wire/octets.h"

namespace sallyport::wire {
namespace {

using test::octets;

TEST(TcpHeader, RoundTrip) {
    const TcpHeader header{.source_port = 443,
                           .destination_port = 50000,
                           .seq = 0xdeadbeef,
                           .ack = 0x01020304,
                           .window = 0xfffe,
                           .urgent = 7,
                           .flags = kAck | kPsh | kCwr,
                           .length = 32};
    std::vector<std::byte> out(32, std::byte{0xaa});
    write_tcp_header(header, out);
    EXPECT_EQ(std::vector(out.begin(), out.begin() + 20),
              octets("01bb c350 deadbeef 01020304 80 98 fffe 0000 0007"));
    const auto parsed = parse_tcp_header(out);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->source_port, 443);
    EXPECT_EQ(parsed->destination_port, 50000);
    EXPECT_EQ(parsed->seq, 0xdeadbeef);
    EXPECT_EQ(parsed->ack, 0x01020304u);
    EXPECT_EQ(parsed->window, 0xfffe);
    EXPECT_EQ(parsed->urgent, 7);
    EXPECT_EQ(parsed->flags, kAck | kPsh | kCwr);
    EXPECT_EQ(parsed->length, 32);
}

TEST(TcpHeader, BadLengths_AreErrors) {
    auto header = octets("01bb c350 deadbeef 01020304 60 10 ffff 0000 0000 01010101");
    EXPECT_TRUE(parse_tcp_header(header));
    EXPECT_FALSE(parse_tcp_header(std::span(header).first(23)));  // data offset beyond the end
    EXPECT_FALSE(parse_tcp_header(std::span(header).first(19)));
    header[12] = std::byte{0x40};  // less than the fixed header
    EXPECT_EQ(parse_tcp_header(header).error(), DropReason::tcp_bad_header);
}

TEST(TcpOptions, SynOfLinux) {
    const auto options = parse_tcp_options(octets("020405b4 0402 080a 00000001 00000000 01 030307"));
    ASSERT_TRUE(options);
    EXPECT_EQ(options->mss, 1460);
    EXPECT_TRUE(options->sack_permitted);
    EXPECT_EQ(options->timestamps, (Timestamps{1, 0}));
    EXPECT_EQ(options->window_scale, 7);
}

TEST(TcpOptions, TimestampsOnly_FastPathAgreesWithTheList) {
    const auto aligned = parse_tcp_options(octets("0101080a 11223344 55667788"));
    const auto other = parse_tcp_options(octets("080a 11223344 55667788 0000"));
    ASSERT_TRUE(aligned && other);
    EXPECT_EQ(*aligned, *other);
    EXPECT_EQ(aligned->timestamps, (Timestamps{0x11223344, 0x55667788}));
}

TEST(TcpOptions, SackBlocks) {
    const auto options = parse_tcp_options(octets("0101 0512 00000001 00000002 00000003 00000004"));
    ASSERT_TRUE(options);
    ASSERT_EQ(options->sacks().size(), 2u);
    EXPECT_EQ(options->sacks()[1], (SackBlock{3, 4}));
}

TEST(TcpOptions, UnknownAndEndOfList_AreSkipped) {
    const auto options = parse_tcp_options(octets("fd04abcd 01 030309 00 ff"));  // what follows the end is padding
    ASSERT_TRUE(options);
    EXPECT_EQ(options->window_scale, 9);
}

TEST(TcpOptions, ShiftAbove14_Is14) { EXPECT_EQ(parse_tcp_options(octets("0303ff00"))->window_scale, 14); }

TEST(TcpOptions, Malformed_AreErrors) {
    for (const char* text : {"02", "0200", "0201", "02060000", "0203 05", "0205 05b4 00", "0304 0700", "0403 00", "0809 00000000 000000",
                             "080b 00000000 00000000 00", "0502 0000", "0509 00000000000000", "0511 000000000000000000000000000000",
                             "052a 0000000000000000000000000000000000000000000000000000000000000000000000000000000000", "fd00 0000",
                             "fd01 0000", "fd05 0000", "0101 01 08"}) {
        const auto options = parse_tcp_options(octets(text));
        ASSERT_FALSE(options) << text;
        EXPECT_EQ(options.error(), DropReason::tcp_bad_header);
    }
}

TEST(TcpOptions, AnyOptions_RoundTrip) {
    std::mt19937 random(3);
    for (int round = 0; round < 2000; ++round) {
        TcpOptions options;
        if (random() % 2 != 0) options.mss = static_cast<std::uint16_t>(random());
        if (random() % 2 != 0) options.window_scale = static_cast<std::uint8_t>(random() % 15);
        if (random() % 2 != 0) options.timestamps = Timestamps{static_cast<std::uint32_t>(random()), 5};
        options.sack_permitted = random() % 2 != 0;
        options.sack_count = static_cast<std::uint8_t>(random() % 5);
        for (unsigned i = 0; i < options.sack_count; ++i)
            options.sack_blocks[i] = {static_cast<std::uint32_t>(random()), static_cast<std::uint32_t>(random())};
        std::vector<std::byte> out(kTcpOptionsLengthMax);
        const std::size_t length = write_tcp_options(options, out);
        ASSERT_EQ(length % 4, 0u);
        const auto parsed = parse_tcp_options(std::span(out).first(length));
        ASSERT_TRUE(parsed);
        if (tcp_options_length(options) <= kTcpOptionsLengthMax) {
            EXPECT_EQ(length, tcp_options_length(options));
            EXPECT_EQ(*parsed, options);
        } else {  // the first blocks only
            ASSERT_LT(parsed->sack_count, options.sack_count);
            for (unsigned i = 0; i < parsed->sack_count; ++i) EXPECT_EQ(parsed->sack_blocks[i], options.sack_blocks[i]);
            EXPECT_GT(length + 8, kTcpOptionsLengthMax) << "room for another block was left";
        }
    }
}

}  // namespace
}  // namespace sallyport::wire
