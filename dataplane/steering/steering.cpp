#include "dataplane/steering/steering.h"

#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <cstddef>

namespace sallyport::steering {
namespace {

constexpr std::uint16_t kKeyWord = 0x6d5a;

constexpr auto kKey = [] {
    std::array<std::uint8_t, 40> key{};
    for (std::size_t i = 0; i < key.size(); i += 2) {
        key[i] = kKeyWord >> 8;
        key[i + 1] = kKeyWord & 0xff;
    }
    return key;
}();

// Toeplitz xors, for each bit of the input that is set, the 32 key bits that begin at the bit's place. This key repeats
// every 16 bits, so a bit's share depends on its place within its 16-bit word only: the hash of an input is that of the
// xor of its words, and its two halves are equal. What is left is a linear map of 16 bits, tabulated here for each
// octet of the word.
constexpr std::uint16_t share_of_bit(unsigned place) {
    return static_cast<std::uint16_t>((kKeyWord << place) | (kKeyWord >> ((16 - place) % 16)));
}
constexpr std::array<std::uint16_t, 256> table_of_octet(unsigned first_place) {
    std::array<std::uint16_t, 256> table{};
    for (unsigned octet = 0; octet < 256; ++octet)
        for (unsigned bit = 0; bit < 8; ++bit)
            if ((octet & (0x80u >> bit)) != 0) table[octet] ^= share_of_bit(first_place + bit);
    return table;
}
constexpr auto kHighOctet = table_of_octet(0);
constexpr auto kLowOctet = table_of_octet(8);

constexpr std::uint32_t hash_of_word(std::uint16_t word) noexcept {
    const std::uint32_t half = kHighOctet[word >> 8] ^ kLowOctet[word & 0xff];
    return half << 16 | half;
}

using Octets = std::span<const std::uint8_t>;

std::uint16_t load16(Octets octets, std::size_t offset) noexcept {
    return static_cast<std::uint16_t>(octets[offset] << 8 | octets[offset + 1]);
}

std::uint16_t xor_of_words(Octets octets) noexcept {
    std::uint16_t sum = 0;
    for (std::size_t i = 0; i + 1 < octets.size(); i += 2) sum ^= load16(octets, i);
    return sum;
}

unsigned worker_of_hash(std::uint32_t hash, unsigned workers) noexcept {
    return hash % kTableEntries % workers;
}

constexpr unsigned kOther = 0;  // worker of what is neither TCP nor for everyone
constexpr std::uint16_t kEtherTypeIpv4 = 0x0800, kEtherTypeArp = 0x0806, kEtherTypeVlan = 0x8100,
                        kEtherTypeIpv6 = 0x86dd;
constexpr std::uint8_t kHopByHop = 0, kIcmp = 1, kTcp = 6, kRouting = 43, kFragment = 44, kIcmpV6 = 58,
                       kDestinationOptions = 60;

// Whether the packet is that of a frame, or the one that an ICMP error quotes. A quoted packet is cut short, and quotes
// no further one.
enum class Depth : bool { outer, quoted };

unsigned worker_of_ipv4(Octets packet, unsigned workers, Depth depth) noexcept;
unsigned worker_of_ipv6(Octets packet, unsigned workers, Depth depth) noexcept;

// `addresses` are source and destination, adjacent in both IP headers. The ports are the first four octets of a TCP
// header.
unsigned worker_of_tcp(Octets addresses, Octets tcp, unsigned workers) noexcept {
    if (tcp.size() < 4) return kOther;
    const std::uint16_t word = xor_of_words(addresses) ^ xor_of_words(tcp.first(4));
    return worker_of_hash(hash_of_word(word), workers);
}

unsigned worker_of_icmp(Octets message, unsigned workers) noexcept {
    constexpr std::size_t kHeader = 8;
    if (message.size() < kHeader) return kOther;
    const std::uint8_t type = message[0];
    const bool error = type == 3 || type == 4 || type == 11 || type == 12;  // RFC 792; source quench included
    return error ? worker_of_ipv4(message.subspan(kHeader), workers, Depth::quoted) : kOther;
}

unsigned worker_of_icmpv6(Octets message, unsigned workers) noexcept {
    constexpr std::size_t kHeader = 8;
    if (message.size() < kHeader) return kOther;
    const std::uint8_t type = message[0];
    if (type >= 134 && type <= 137) return kEveryWorker;  // RFC 4861 4: advertisements, solicitation, redirect
    const bool error = type >= 1 && type <= 4;            // RFC 4443 2.1
    return error ? worker_of_ipv6(message.subspan(kHeader), workers, Depth::quoted) : kOther;
}

unsigned worker_of_ipv4(Octets packet, unsigned workers, Depth depth) noexcept {
    constexpr std::size_t kHeader = 20;
    if (packet.size() < kHeader || packet[0] >> 4 != 4) return kOther;
    const std::size_t header = (packet[0] & 0x0fu) * 4u;
    const std::size_t length =
        std::min<std::size_t>(load16(packet, 2), packet.size());  // less: padding; more: cut short
    if (header < kHeader || length < header) return kOther;
    // More fragments, or an offset: only the first one has ports, and all must meet in one place.
    if ((load16(packet, 6) & 0x3fff) != 0) return kOther;
    const Octets payload = packet.subspan(header, length - header);
    if (packet[9] == kTcp) return worker_of_tcp(packet.subspan(12, 8), payload, workers);
    if (packet[9] == kIcmp && depth == Depth::outer) return worker_of_icmp(payload, workers);
    return kOther;
}

unsigned worker_of_ipv6(Octets packet, unsigned workers, Depth depth) noexcept {
    constexpr std::size_t kHeader = 40;
    if (packet.size() < kHeader || packet[0] >> 4 != 6) return kOther;
    Octets rest = packet.subspan(kHeader, std::min<std::size_t>(load16(packet, 4), packet.size() - kHeader));
    std::uint8_t next = packet[6];
    // Each turn takes 8 octets or more, so this ends.
    while (next == kHopByHop || next == kRouting || next == kDestinationOptions || next == kFragment) {
        if (rest.size() < 8) return kOther;
        if (next == kFragment && (load16(rest, 2) & 0xfff9) != 0) return kOther;  // RFC 6946: an atomic one is whole
        const std::size_t length = next == kFragment ? 8 : (rest[1] + 1u) * 8u;
        if (rest.size() < length) return kOther;
        next = rest[0];
        rest = rest.subspan(length);
    }
    if (next == kTcp) return worker_of_tcp(packet.subspan(8, 32), rest, workers);
    if (next == kIcmpV6 && depth == Depth::outer) return worker_of_icmpv6(rest, workers);
    return kOther;
}

unsigned worker_of_octets(Octets frame, unsigned workers) noexcept {
    constexpr std::size_t kHeader = 14, kTag = 4;
    if (frame.size() < kHeader) return kOther;
    std::uint16_t type = load16(frame, 12);
    Octets packet = frame.subspan(kHeader);
    if (type == kEtherTypeVlan) {
        if (packet.size() < kTag) return kOther;
        type = load16(packet, 2);
        packet = packet.subspan(kTag);
    }
    switch (type) {
        case kEtherTypeIpv4:
            return worker_of_ipv4(packet, workers, Depth::outer);
        case kEtherTypeIpv6:
            return worker_of_ipv6(packet, workers, Depth::outer);
        case kEtherTypeArp:
            return kEveryWorker;
        default:
            return kOther;
    }
}

}  // namespace

std::span<const std::uint8_t, 40> rss_key() noexcept {
    return kKey;
}

std::uint32_t rss_hash(const SocketAddress& source, const SocketAddress& destination) noexcept {
    // Two IPv4 addresses are held with the same prefix, which the xor cancels: one sum serves both families.
    const auto word =
        static_cast<std::uint16_t>(xor_of_words(source.address.octets) ^ xor_of_words(destination.address.octets) ^
                                   source.port ^ destination.port);
    return hash_of_word(word);
}

unsigned worker_of(const SocketAddress& one_end, const SocketAddress& other_end, unsigned workers) noexcept {
    return worker_of_hash(rss_hash(one_end, other_end), workers);
}

unsigned worker_of_frame(const rte_mbuf* frame, unsigned workers) noexcept {
    if (frame->nb_segs == 1)
        return worker_of_octets({rte_pktmbuf_mtod(frame, const std::uint8_t*), frame->data_len}, workers);
    // Headers may be cut by a buffer's end. This holds every header of an ordinary packet, and the headers within an
    // ICMP error.
    std::array<std::uint8_t, 512> head;
    std::size_t length = 0;
    for (const rte_mbuf* piece = frame; piece != nullptr && length < head.size(); piece = piece->next) {
        const auto* data = rte_pktmbuf_mtod(piece, const std::uint8_t*);
        const std::size_t part = std::min<std::size_t>(piece->data_len, head.size() - length);
        std::copy_n(data, part, head.begin() + static_cast<std::ptrdiff_t>(length));
        length += part;
    }
    return worker_of_octets(Octets(head).first(length), workers);
}

}  // namespace sallyport::steering
