#include "tests/bench/generator/message.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace sallyport::generator {
namespace {

const Pattern& pattern() {
    static const Pattern the_pattern;
    return the_pattern;
}

std::string body(std::uint32_t start, std::size_t length) {
    std::string octets;
    for (std::size_t i = 0; i < length; ++i) octets += static_cast<char>(pattern().at(Pattern::position(start, i), 1)[0]);
    return octets;
}

std::string text_of(const RequestText& request, std::uint32_t start) {
    std::string text(request.head_length(), '?');
    request.write(start, text);
    return text;
}

std::span<const std::byte> octets(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Pattern, RepeatsAfterItsPeriodOnly) {
    const auto begin = pattern().at(0, Pattern::kPeriod);
    EXPECT_TRUE(std::ranges::equal(pattern().at(5, 100), begin.subspan(5, 100)));
    EXPECT_EQ(Pattern::position(Pattern::kPeriod - 1, 1), 0u);
    EXPECT_EQ(pattern().at(Pattern::kPeriod - 1, 2)[1], begin[0]);
    // Neighbouring full records differ, and so do swapped ones.
    EXPECT_FALSE(std::ranges::equal(pattern().at(Pattern::position(0, 0), 1024), pattern().at(Pattern::position(0, 16384), 1024)));
}

TEST(RequestText, EverySize_IsExactAndIsParsedAgain) {
    const auto least = RequestText::make("www.example.com", 0, 1024);
    ASSERT_TRUE(least);
    for (std::uint64_t size = least->head_length(); size < 1'000; ++size) {
        const auto request = RequestText::make("www.example.com", size, 1024);
        ASSERT_TRUE(request);
        EXPECT_EQ(request->head_length() + request->body_length(), size);
        const auto head = parse_head(text_of(*request, 0x1a2b));
        ASSERT_TRUE(head) << head.error() << '\n'
                          << text_of(*request, 0x1a2b);
        EXPECT_EQ(head->status, 0);
        EXPECT_EQ(head->answer_length, 1024u);
        EXPECT_EQ(head->content_length, request->body_length());
        EXPECT_EQ(head->start, 0x1a2bu);
    }
    EXPECT_FALSE(RequestText::make("www.example.com", least->head_length() - 1, 1024));
}

TEST(RequestText, HeadsAreBounded) {
    EXPECT_TRUE(RequestText::make("h", 0, 0, "/" + std::string(700, 'x')));
    EXPECT_FALSE(RequestText::make("h", 0, 0, "/" + std::string(800, 'x')));
    for (std::uint64_t size = 740; size < 2'000; ++size) EXPECT_LE(RequestText::make("h", size, 0, "/" + std::string(700, 'x'))->head_length(), kLongestRequestHead);
}

TEST(RequestText, AnotherPath_StaysAsItIs) {
    const auto request = RequestText::make("h", 0, 0, "/1k?x=y");
    ASSERT_TRUE(request);
    EXPECT_EQ(text_of(*request, 7), "GET /1k?x=y HTTP/1.1\r\nHost: h\r\n\r\n");
}

TEST(ParseHead, Answers) {
    std::array<char, kLongestAnswerHead> own;
    const std::size_t length = write_answer_head(12'345'678'901, own);
    const auto head = parse_head({own.data(), length});
    ASSERT_TRUE(head);
    EXPECT_EQ(head->status, 200);
    EXPECT_EQ(head->content_length, 12'345'678'901u);
    EXPECT_FALSE(head->close);
    const auto other = parse_head("HTTP/1.1 404 Not Found\r\nServer: nginx\r\ncontent-LENGTH:  10 \r\nConnection: Close\r\n\r\n");
    ASSERT_TRUE(other);
    EXPECT_EQ(other->status, 404);
    EXPECT_EQ(other->content_length, 10u);
    EXPECT_TRUE(other->close);
}

TEST(ParseHead, WhatIsNotUnderstood_IsRefused) {
    for (const char* text : {"\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/2 200\r\n\r\n",
                             "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /octets/10/zz HTTP/1.1\r\n\r\n",
                             "GET /octets/10/00003ffd HTTP/1.1\r\n\r\n", "GET /octets/10/00000000 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"})
        EXPECT_FALSE(parse_head(text)) << text;
}

/// Feeds a stream in pieces of these lengths; bodies are compared from the start that each head (a request) names.
struct Fed {
    std::vector<Head> heads;
    int done = 0;
    std::uint64_t mismatched = 0;
    bool malformed = false;
};
Fed feed(Incoming& incoming, std::string_view stream, std::mt19937& random, std::size_t most) {
    Fed fed;
    while (!stream.empty() && !fed.malformed) {
        const std::size_t length = std::min<std::size_t>(stream.size(), 1 + random() % most);
        // A buffer of its own for each piece: one octet too far is seen by sanitizers.
        const std::vector<char> piece(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(length));
        stream.remove_prefix(length);
        auto left = octets({piece.data(), piece.size()});
        for (bool more = false; !more && !fed.malformed;) switch (incoming.take(left, pattern(), fed.mismatched)) {
                case Incoming::Step::more: more = true; break;
                case Incoming::Step::head:
                    fed.heads.push_back(incoming.head());
                    incoming.expect_body(incoming.head().content_length, true, incoming.head().start);
                    break;
                case Incoming::Step::done: ++fed.done; break;
                case Incoming::Step::malformed: fed.malformed = true; break;
            }
        EXPECT_TRUE(left.empty() || fed.malformed);
    }
    return fed;
}

TEST(Incoming, MessagesInAnyPieces) {
    std::string stream;
    constexpr std::array<std::uint64_t, 6> kSizes{0, 100, 600, 40'000, 0, 20'000};
    for (std::uint32_t i = 0; i < kSizes.size(); ++i) {
        const auto request = RequestText::make("h", kSizes[i], i);
        ASSERT_TRUE(request) << request.error();
        stream += text_of(*request, i * 3'000) + body(i * 3'000, request->body_length());
    }
    std::mt19937 random(3);
    for (const std::size_t most : {1u, 3u, 100u, 20'000u, 1'000'000u}) {
        Incoming incoming;
        const Fed fed = feed(incoming, stream, random, most);
        EXPECT_FALSE(fed.malformed);
        ASSERT_EQ(fed.heads.size(), kSizes.size());
        EXPECT_EQ(fed.done, static_cast<int>(kSizes.size()));
        EXPECT_EQ(fed.mismatched, 0u);
        EXPECT_TRUE(incoming.at_rest());
        for (std::uint32_t i = 0; i < kSizes.size(); ++i) EXPECT_EQ(fed.heads[i].answer_length, i);
    }
}

TEST(Incoming, OctetsThatDiffer_AreCounted) {
    const auto request = RequestText::make("h", 50'000, 0);
    std::string octets_sent = body(77, request->body_length());
    for (const std::size_t at : {0u, 20'000u, 20'001u, static_cast<unsigned>(octets_sent.size() - 1)}) octets_sent[at] = static_cast<char>(octets_sent[at] ^ 1);
    std::mt19937 random(3);
    Incoming incoming;
    const Fed fed = feed(incoming, text_of(*request, 77) + octets_sent, random, 5'000);
    EXPECT_EQ(fed.done, 1);
    EXPECT_EQ(fed.mismatched, 4u);
}

// Two records of the largest size, the wrong way round.
TEST(Incoming, RecordsThatAreSwapped_AreSeen) {
    const auto request = RequestText::make("h", 60'000, 0);
    std::string octets_sent = body(0, request->body_length());
    std::swap_ranges(octets_sent.begin(), octets_sent.begin() + 16384, octets_sent.begin() + 16384);
    std::mt19937 random(3);
    Incoming incoming;
    EXPECT_GT(feed(incoming, text_of(*request, 0) + octets_sent, random, 5'000).mismatched, 30'000u);
}

TEST(Incoming, HeadWithoutEnd_IsMalformed) {
    std::mt19937 random(3);
    Incoming incoming;
    EXPECT_TRUE(feed(incoming, std::string(100'000, 'x'), random, 1'000).malformed);
    incoming.reset();
    EXPECT_TRUE(incoming.at_rest());
}

}  // namespace
}  // namespace sallyport::generator
