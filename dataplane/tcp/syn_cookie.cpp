#include "dataplane/tcp/syn_cookie.h"

#include <array>

#include "dataplane/tcp/connection_table.h"

namespace sallyport::tcp {

namespace {

// Ethernet with and without tunnels, jumbo frames, IPv6's least and IPv4's default.
constexpr std::array<std::uint16_t, 8> kMss{536, 1220, 1280, 1360, 1400, 1440, 1460, 8940};
constexpr std::uint32_t kPeriods = 32;  // five bits

// The low six bits of TSval: shift count (15: not offered), SACK permitted, ECN.
constexpr std::uint32_t kOptionBits = 0x3f, kScaleBits = 0xf, kSackBit = 0x10, kEcnBit = 0x20;

std::uint32_t period_of(Time now) noexcept {
    return static_cast<std::uint32_t>(now.time_since_epoch() / Duration{64s}) % kPeriods;
}

}  // namespace

std::uint32_t SynCookie::mac(const Tuple& tuple, SeqNum irs, std::uint32_t period, std::uint32_t mss_index) const noexcept {
    const auto words = words_of(tuple);
    return static_cast<std::uint32_t>(hash_(std::array<std::uint64_t, 6>{
        words[0], words[1], words[2], words[3], words[4] << 32 | irs.value(), std::uint64_t{period} << 8 | mss_index}));
}

SeqNum SynCookie::make(const Tuple& tuple, SeqNum irs, std::uint16_t mss, Time now) const noexcept {
    std::uint32_t index = 0;
    while (index + 1 < kMss.size() && kMss[index + 1] <= mss) ++index;
    const std::uint32_t period = period_of(now);
    // The readable part is masked, so that sequence numbers look random from outside (RFC 6528).
    const std::uint32_t mask = mac(tuple, irs, 0xffff, 0xff);
    return SeqNum(((period << 27 | index << 24) ^ (mask & 0xff000000)) | (mac(tuple, irs, period, index) & 0xffffff));
}

std::optional<std::uint16_t> SynCookie::check(const Tuple& tuple, SeqNum irs, SeqNum iss, Time now) const noexcept {
    const std::uint32_t readable = iss.value() ^ (mac(tuple, irs, 0xffff, 0xff) & 0xff000000);
    const std::uint32_t period = readable >> 27, index = readable >> 24 & 7;
    if ((period_of(now) - period) % kPeriods > 1) return std::nullopt;
    if (((mac(tuple, irs, period, index) ^ iss.value()) & 0xffffff) != 0) return std::nullopt;
    return kMss[index];
}

std::uint32_t SynCookie::encode_options(std::uint32_t ts_now, const wire::TcpOptions& syn, bool ecn) noexcept {
    const std::uint32_t bits = (syn.window_scale ? std::uint32_t{*syn.window_scale} : kScaleBits) |
                               (syn.sack_permitted ? kSackBit : 0) | (ecn ? kEcnBit : 0);
    const std::uint32_t value = (ts_now & ~kOptionBits) | bits;
    return static_cast<std::int32_t>(value - ts_now) > 0 ? value - (kOptionBits + 1) : value;
}

SynCookie::Options SynCookie::decode_options(std::uint32_t ts_echo) noexcept {
    const std::uint32_t scale = ts_echo & kScaleBits;
    return {scale == kScaleBits ? std::nullopt : std::optional(static_cast<std::uint8_t>(scale)), (ts_echo & kSackBit) != 0, (ts_echo & kEcnBit) != 0};
}

}  // namespace sallyport::tcp
