#include "control/handshake/offer.h"

#include <openssl/evp.h>
#include <openssl/tls1.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>

#include "control/handshake/libssl.h"
#include "control/handshake/reader.h"
#include "crypto/format.h"

namespace sallyport::handshake {
namespace {

using Octets = std::span<const unsigned char>;

constexpr std::uint16_t kServerName = 0, kSupportedGroups = 10, kSignatureAlgorithms = 13, kAlpn = 16, kSessionTicket = 35, kPreSharedKey = 41,
                        kEarlyData = 42, kSupportedVersions = 43;

std::optional<Octets> find(const HelloView& hello, std::uint16_t type) {
    const auto found = std::ranges::find(hello.extensions, type, [](const auto& extension) { return extension.first; });
    if (found == hello.extensions.end()) return std::nullopt;
    return found->second;
}

constexpr std::size_t kAll = SIZE_MAX;

/// A list of two-octet values as far as it reaches and `most` allows, without GREASE. `beyond`: how many values follow.
std::vector<std::uint16_t> values(Octets octets, std::size_t most = kAll, std::size_t* beyond = nullptr) {
    std::vector<std::uint16_t> list;
    Reader reader(octets);
    std::size_t value = 0, read = 0;
    while (list.size() < most && reader.number(2, value)) {
        ++read;
        if (!is_grease(static_cast<std::uint16_t>(value))) list.push_back(static_cast<std::uint16_t>(value));
    }
    if (beyond != nullptr) *beyond = octets.size() / 2 - read;
    return list;
}

/// The list in an extension, behind a length of `length_octets`; empty when there is no such extension or the length is wrong.
Octets list_of(const HelloView& hello, std::uint16_t type, std::size_t length_octets) {
    const auto extension = find(hello, type);
    if (!extension) return {};
    Reader reader(*extension);
    std::size_t length = 0;
    Octets list;
    if (!reader.number(length_octets, length) || !reader.octets(length, list) || !reader.at_end()) return {};
    return list;
}

/// The protocols of ALPN, as many as `most` allows. `beyond`: how many follow.
std::vector<std::string> protocols_of(const HelloView& hello, std::size_t most, std::size_t* beyond = nullptr) {
    const auto extension = find(hello, kAlpn);
    if (!extension) return {};
    std::vector<std::string> protocols;
    Reader reader(*extension);
    std::size_t length = 0;
    Octets name;
    if (!reader.number(2, length)) return {};
    while (reader.number(1, length) && reader.octets(length, name)) {
        if (protocols.size() < most)
            protocols.emplace_back(reinterpret_cast<const char*>(name.data()), name.size());
        else if (beyond != nullptr)
            ++*beyond;
        else
            break;
    }
    return protocols;
}

constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string joined(const std::vector<std::uint16_t>& list) {
    std::string text;
    text.reserve(5 * list.size());
    for (const std::uint16_t value : list) {
        if (!text.empty()) text += ',';
        for (const int shift : {12, 8, 4, 0}) text += kHexDigits[value >> shift & 0xf];
    }
    return text;
}

/// The first 12 hexadecimal digits of SHA-256; twelve zeros for nothing.
std::string truncated_hash(const std::string& text) {
    constexpr std::size_t kOctets = 6;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    if (text.empty() || EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1) return std::string(2 * kOctets, '0');
    std::string hex;
    for (const unsigned char octet : std::span(digest).first(kOctets)) {
        hex += kHexDigits[octet >> 4];
        hex += kHexDigits[octet & 0xf];
    }
    return hex;
}

std::string version_text(std::uint16_t version) {
    switch (version) {
        case 0x0304: return "13";
        case 0x0303: return "12";
        case 0x0302: return "11";
        case 0x0301: return "10";
        case 0x0300: return "s3";
        default: return "00";
    }
}

/// First and last character of the first protocol; where one of them is neither letter nor digit, first and last of its hexadecimal form.
std::string alpn_text(const std::vector<std::string>& protocols) {
    if (protocols.empty() || protocols.front().empty()) return "00";
    const std::string& protocol = protocols.front();
    const auto first = static_cast<unsigned char>(protocol.front()), last = static_cast<unsigned char>(protocol.back());
    const auto plain = [](unsigned char c) { return c < 0x80 && std::isalnum(c) != 0; };
    if (plain(first) && plain(last)) return {protocol.front(), protocol.back()};
    return {sallyport::format("{:02x}", first).front(), sallyport::format("{:02x}", last).back()};
}

}  // namespace

std::optional<std::string> host_name(Octets server_name) {
    constexpr std::size_t kHostName = 0;
    Reader reader(server_name);
    std::size_t list = 0, type = 0, length = 0;
    Octets name;
    if (!reader.number(2, list) || !reader.number(1, type) || type != kHostName || !reader.number(2, length) || !reader.octets(length, name) ||
        !reader.at_end() || list != length + 3 || name.empty() || name.size() > TLSEXT_MAXLEN_host_name)
        return std::nullopt;
    std::string text(reinterpret_cast<const char*>(name.data()), name.size());
    std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return text;
}

std::optional<HelloView> parse_client_hello(Octets message) {
    constexpr std::size_t kClientHello = 1, kRandom = 32;
    HelloView hello;
    Reader reader(message);
    std::size_t type = 0, length = 0, version = 0;
    Octets body, skipped, extensions;
    if (!reader.number(1, type) || type != kClientHello || !reader.number(3, length) || !reader.octets(length, body) || !reader.at_end()) return std::nullopt;
    Reader fields(body);
    if (!fields.number(2, version) || !fields.octets(kRandom, skipped) || !fields.number(1, length) || !fields.octets(length, skipped) ||
        !fields.number(2, length) || !fields.octets(length, hello.suites) || !fields.number(1, length) || !fields.octets(length, skipped))
        return std::nullopt;
    hello.legacy_version = static_cast<std::uint16_t>(version);
    if (fields.at_end()) return hello;   // TLS 1.2 may have no extensions at all (RFC 5246 7.4.1.2)
    if (!fields.number(2, length) || !fields.octets(length, extensions) || !fields.at_end()) return std::nullopt;
    for (Reader list(extensions); !list.at_end();) {
        Octets content;
        if (!list.number(2, type) || !list.number(2, length) || !list.octets(length, content)) return std::nullopt;
        hello.extensions.emplace_back(static_cast<std::uint16_t>(type), content);
    }
    return hello;
}

std::string ja4(const HelloView& hello) {
    constexpr std::size_t kMostCounted = 99;
    auto suites = values(hello.suites);
    std::vector<std::uint16_t> extensions;
    for (const auto& [type, octets] : hello.extensions)
        if (!is_grease(type)) extensions.push_back(type);
    const auto versions = values(list_of(hello, kSupportedVersions, 1));
    const std::uint16_t version = versions.empty() ? hello.legacy_version : std::ranges::max(versions);
    const bool named = std::ranges::contains(extensions, kServerName);
    std::string text = sallyport::format("t{}{}{:02}{:02}{}_", version_text(version), named ? 'd' : 'i', std::min(suites.size(), kMostCounted),
                                         std::min(extensions.size(), kMostCounted), alpn_text(protocols_of(hello, 1)));
    std::ranges::sort(suites);
    text += truncated_hash(joined(suites)) + '_';
    std::erase(extensions, kServerName);
    std::erase(extensions, kAlpn);
    std::ranges::sort(extensions);
    std::string rest = joined(extensions);
    if (const auto schemes = values(list_of(hello, kSignatureAlgorithms, 2)); !schemes.empty()) rest += '_' + joined(schemes);
    return text + truncated_hash(rest);
}

bool is_absurd(const HelloView& hello) {
    // Some 370 suites are registered, 20 groups, 40 schemes, 70 extensions; GREASE and private ones on top.
    constexpr std::size_t kMost = 512;
    return hello.extensions.size() > kMost || std::ranges::any_of(std::array{hello.suites, list_of(hello, kSupportedGroups, 2), list_of(hello, kSignatureAlgorithms, 2)},
                               [](Octets list) { return list.size() / 2 > kMost; });
}

Offer read_offer(const HelloView& hello) {
    Offer offer;
    const auto read = [](Octets list, std::size_t& beyond) { return values(list, Offer::kMostValues, &beyond); };
    offer.versions = read(list_of(hello, kSupportedVersions, 1), offer.beyond.versions);
    if (!find(hello, kSupportedVersions)) offer.versions = {hello.legacy_version};
    offer.suites = read(hello.suites, offer.beyond.suites);
    offer.groups = read(list_of(hello, kSupportedGroups, 2), offer.beyond.groups);
    offer.signature_schemes = read(list_of(hello, kSignatureAlgorithms, 2), offer.beyond.signature_schemes);
    for (const std::string& protocol : protocols_of(hello, Offer::kMostProtocols, &offer.beyond.alpn)) offer.alpn.push_back(printable(protocol));
    if (const auto extension = find(hello, kServerName))
        if (const auto name = host_name(*extension)) offer.server_name = printable(*name);
    const auto ticket = find(hello, kSessionTicket);
    offer.resumes = find(hello, kPreSharedKey).has_value() || (ticket && !ticket->empty());
    offer.early_data = find(hello, kEarlyData).has_value();
    return offer;
}

}  // namespace sallyport::handshake
