#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>

#include "control/handshake/offer.h"

namespace sallyport::handshake {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Octets = std::vector<unsigned char>;

Octets list(std::initializer_list<int> values, int length_octets) {
    Octets octets;
    const auto put = [&](std::size_t number, int count) {
        for (int i = count - 1; i >= 0; --i) octets.push_back(static_cast<unsigned char>(number >> (8 * i)));
    };
    put(2 * values.size(), length_octets);
    for (const int value : values) put(static_cast<std::size_t>(value), 2);
    return octets;
}

Octets text(std::string_view octets) { return {octets.begin(), octets.end()}; }

/// A ClientHello made by hand; keeps what its view borrows.
struct Hello {
    Octets suites;
    std::vector<std::pair<std::uint16_t, Octets>> extensions;
    std::uint16_t legacy_version = 0x0303;
    [[nodiscard]] HelloView view() const {
        HelloView view{.legacy_version = legacy_version, .suites = suites, .extensions = {}};
        for (const auto& [type, octets] : extensions) view.extensions.emplace_back(type, octets);
        return view;
    }
};

Octets suites_of(std::initializer_list<int> values) {
    Octets octets = list(values, 2);
    octets.erase(octets.begin(), octets.begin() + 2);
    return octets;
}

/// What a browser sends: the example in the format's description, with GREASE where it puts it.
Hello browser() {
    return {.suites = suites_of({0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035}),
            .extensions = {{0x2a2a, {}}, {0x0000, text(std::string_view("\0\x0c\0\0\x09" "A.Example", 14))}, {0x0017, {}}, {0xff01, {0}}, {0x000a, list({0x3a3a, 0x001d, 0x0017, 0x0018}, 2)},
                           {0x000b, {1, 0}}, {0x0023, {}}, {0x0010, text(std::string_view("\0\x0c\x02h2\x08http/1.1", 14))}, {0x0005, {1, 0, 0, 0, 0}},
                           {0x000d, list({0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601}, 2)}, {0x0012, {}}, {0x0033, {}}, {0x002d, {1, 1}},
                           {0x002b, list({0x4a4a, 0x0304, 0x0303}, 1)}, {0x001b, {}}, {0x4469, {}}, {0x5a5a, {0}}, {0x0015, {0, 0}}}};
}

TEST(Ja4, TheFormatsOwnExample) { EXPECT_EQ(ja4(browser().view()), "t13d1516h2_8daaf6152771_e5627efa2ab1"); }

TEST(Ja4, OrderOfSuitesAndExtensionsDoesNotMatter_OfSchemesItDoes) {
    Hello hello = browser();
    std::ranges::reverse(hello.extensions);
    EXPECT_EQ(ja4(hello.view()), ja4(browser().view()));
    for (auto& [type, octets] : hello.extensions)
        if (type == 0x000d) octets = list({0x0804, 0x0403, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601}, 2);
    const std::string other = ja4(hello.view());
    EXPECT_EQ(other.substr(0, 23), "t13d1516h2_8daaf6152771");
    EXPECT_NE(other, ja4(browser().view()));
}

/// The message that a view was taken from.
Octets message_of(const HelloView& hello) {
    const auto append = [](Octets& to, std::size_t length, int length_octets, std::span<const unsigned char> octets) {
        for (int i = length_octets - 1; i >= 0; --i) to.push_back(static_cast<unsigned char>(length >> (8 * i)));
        to.insert(to.end(), octets.begin(), octets.end());
    };
    Octets body, extensions, message{1};
    append(body, hello.legacy_version, 2, Octets(32, 'r'));
    append(body, 3, 1, Octets(3, 's'));
    append(body, hello.suites.size(), 2, hello.suites);
    append(body, 1, 1, Octets{0});
    for (const auto& [type, octets] : hello.extensions) {
        append(extensions, type, 2, {});
        append(extensions, octets.size(), 2, octets);
    }
    append(body, extensions.size(), 2, extensions);
    append(message, body.size(), 3, body);
    return message;
}

TEST(ClientHello, AsItCame_WithExtensionsThatNoLibraryKnows) {
    Hello hello = browser();
    hello.extensions.push_back({0xfafb, {1, 2, 3}});
    const Octets message = message_of(hello.view());
    const auto parsed = parse_client_hello(message);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->legacy_version, 0x0303);
    EXPECT_EQ(parsed->extensions.size(), hello.extensions.size());
    EXPECT_EQ(parsed->extensions.back().first, 0xfafb);
    EXPECT_THAT(parsed->extensions.back().second, ElementsAre(1, 2, 3));
    EXPECT_EQ(ja4(*parsed), ja4(hello.view()));
    EXPECT_NE(ja4(*parsed), ja4(browser().view()));
}

TEST(ClientHello, CutAnywhereOrLonger_IsNone) {
    Octets message = message_of(browser().view());
    for (std::size_t length = 0; length < message.size(); ++length) {
        EXPECT_FALSE(parse_client_hello(std::span(message).first(length))) << length;
        // With lengths of the whole that are right, so that what is inside is looked at.
        if (length < 4) continue;
        Octets shorter(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(length));
        shorter[1] = 0;
        shorter[2] = static_cast<unsigned char>((length - 4) >> 8);
        shorter[3] = static_cast<unsigned char>(length - 4);
        const bool without_extensions = length == 4 + 2 + 32 + 1 + 3 + 2 + browser().suites.size() + 2;
        EXPECT_EQ(parse_client_hello(shorter).has_value(), without_extensions) << length;
    }
    message.push_back(0);
    EXPECT_FALSE(parse_client_hello(message));
    message = message_of(browser().view());
    message[0] = 2;
    EXPECT_FALSE(parse_client_hello(message));
}

TEST(ClientHello, ManyExtensions_AreAbsurd) {
    Hello hello;
    for (int i = 0; i < 513; ++i) hello.extensions.push_back({static_cast<std::uint16_t>(0x7000 + i), {}});
    EXPECT_TRUE(is_absurd(hello.view()));
    hello.extensions.pop_back();
    EXPECT_FALSE(is_absurd(hello.view()));
}

TEST(Ja4, NothingAtAll) { EXPECT_EQ(ja4({.legacy_version = 0x0301, .suites = {}, .extensions = {}}), "t10i000000_000000000000_000000000000"); }

TEST(Ja4, ProtocolThatIsNotAlphanumeric_InHexadecimal) {
    Hello hello{.suites = suites_of({0x1301}), .extensions = {{0x0010, text(std::string_view("\0\x05\x04\xab" "cd\xef", 7))}}};
    EXPECT_EQ(ja4(hello.view()).substr(0, 10), "t12i0101af");
    hello.extensions = {{0x0010, text(std::string_view("\0\x02\x01h", 4))}};
    EXPECT_EQ(ja4(hello.view()).substr(8, 2), "hh");
}

TEST(Ja4, MoreThan99_AreCountedAs99) {
    Hello hello;
    for (int i = 0; i < 120; ++i) {
        hello.suites.push_back(0x12);
        hello.suites.push_back(static_cast<unsigned char>(i));
    }
    EXPECT_EQ(ja4(hello.view()).substr(4, 4), "9900");
}

TEST(Offer, EverythingIsRead_WithoutGrease) {
    const Offer offer = read_offer(browser().view());
    EXPECT_THAT(offer.versions, ElementsAre(0x0304, 0x0303));
    EXPECT_EQ(offer.suites.size(), 15U);
    EXPECT_THAT(offer.groups, ElementsAre(0x001d, 0x0017, 0x0018));
    EXPECT_THAT(offer.signature_schemes, ElementsAre(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601));
    EXPECT_THAT(offer.alpn, ElementsAre("h2", "http/1.1"));
    EXPECT_EQ(offer.server_name, "a.example");
    EXPECT_FALSE(offer.resumes);
    EXPECT_FALSE(offer.early_data);
}

TEST(Offer, LongLists_AreCutAndTheRestCounted) {
    Hello hello = browser();
    Octets groups = {0x75, 0x30}, protocols = {0x75, 0x30};   // 30,000 octets each
    for (int i = 0; i < 30'000; ++i) {
        hello.suites.push_back(0x12);
        hello.suites.push_back(static_cast<unsigned char>(i));
        if (i < 15'000) {
            groups.insert(groups.end(), {0x01, static_cast<unsigned char>(i)});
            protocols.insert(protocols.end(), {1, 'x'});
        }
    }
    for (auto& [type, octets] : hello.extensions) {
        if (type == 0x000a) octets = groups;
        if (type == 0x0010) octets = protocols;
    }
    const Offer offer = read_offer(hello.view());
    EXPECT_EQ(offer.suites.size(), Offer::kMostValues);
    EXPECT_EQ(offer.beyond.suites, 30'016U - 1 - Offer::kMostValues) << "GREASE came before the cut";
    EXPECT_EQ(offer.groups.size(), Offer::kMostValues);
    EXPECT_EQ(offer.beyond.groups, 15'000 - Offer::kMostValues);
    EXPECT_EQ(offer.alpn.size(), Offer::kMostProtocols);
    EXPECT_EQ(offer.beyond.alpn, 15'000 - Offer::kMostProtocols);
    EXPECT_TRUE(is_absurd(hello.view()));
    EXPECT_FALSE(is_absurd(browser().view()));
}

TEST(HostName, LongerThanADnsNameMayBe_IsNone) {
    for (const auto& [length, good] : {std::pair(255U, true), std::pair(256U, false), std::pair(60'000U, false)}) {
        Octets octets;
        for (const unsigned number : {length + 3, length}) {
            octets.insert(octets.end(), {static_cast<unsigned char>(number >> 8), static_cast<unsigned char>(number)});
            if (octets.size() == 2) octets.push_back(0);
        }
        octets.insert(octets.end(), length, 'a');
        EXPECT_EQ(host_name(octets).has_value(), good) << length;
    }
}

TEST(Offer, Resumption_IsATicketOrAPreSharedKey) {
    EXPECT_TRUE(read_offer({.legacy_version = 0x0303, .suites = {}, .extensions = {{35, std::span<const unsigned char>(reinterpret_cast<const unsigned char*>("x"), 1)}}}).resumes);
    EXPECT_TRUE(read_offer({.legacy_version = 0x0303, .suites = {}, .extensions = {{41, {}}}}).resumes);
    EXPECT_TRUE(read_offer({.legacy_version = 0x0303, .suites = {}, .extensions = {{42, {}}}}).early_data);
    EXPECT_FALSE(read_offer({.legacy_version = 0x0303, .suites = {}, .extensions = {{35, {}}}}).resumes);
}

TEST(Offer, WithoutSupportedVersions_TheLegacyOne) {
    EXPECT_THAT(read_offer({.legacy_version = 0x0302, .suites = {}, .extensions = {}}).versions, ElementsAre(0x0302));
}

TEST(Offer, MalformedExtensions_LeaveTheirListsEmpty) {
    for (std::size_t cut = 1; cut < 4; ++cut) {
        Hello hello = browser();
        for (auto& [type, octets] : hello.extensions)
            if (octets.size() > cut) octets.resize(octets.size() - cut);
        const Offer offer = read_offer(hello.view());
        EXPECT_THAT(offer.groups, IsEmpty());
        EXPECT_THAT(offer.versions, IsEmpty());
        EXPECT_EQ(offer.server_name, "");
        EXPECT_EQ(ja4(hello.view()).size(), 36U);
    }
}

TEST(Grease, IsRecognised) {
    for (int i = 0; i < 16; ++i) EXPECT_TRUE(is_grease(static_cast<std::uint16_t>(i << 12 | 0x0a00 | i << 4 | 0x0a)));
    for (const std::uint16_t value : {0x0000, 0x1301, 0x0a1a, 0x1a0a, 0xaaab, 0xfe0d}) EXPECT_FALSE(is_grease(value));
}

}  // namespace
}  // namespace sallyport::handshake
