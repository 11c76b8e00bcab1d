#include "dataplane/wire/tcp_options.h"

#include <algorithm>

#include "crypto/check.h"

namespace sallyport::wire {

namespace {

// Kinds and lengths: RFC 9293 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2 and 3, RFC 5482 2.
constexpr std::uint8_t kEndOfList = 0, kNoOperation = 1, kMss = 2, kWindowScale = 3, kSackPermitted = 4, kSack = 5,
                       kTimestamps = 8, kUserTimeout = 28;

}  // namespace

namespace detail {

std::expected<TcpOptions, DropReason> parse_tcp_option_list(std::span<const std::byte> options) noexcept {
    constexpr std::unexpected malformed(DropReason::tcp_bad_header);
    TcpOptions result;
    while (!options.empty()) {
        const std::byte* at = options.data();
        const std::uint8_t kind = load8(at);
        if (kind == kEndOfList) break;
        if (kind == kNoOperation) {
            options = options.subspan(1);
            continue;
        }
        if (options.size() < 2) return malformed;
        const std::uint8_t length = load8(at + 1);
        if (length < 2 || length > options.size()) return malformed;
        switch (kind) {
            case kMss:
                if (length != 4) return malformed;
                result.mss = load16(at + 2);
                break;
            case kWindowScale:
                if (length != 3) return malformed;
                result.window_scale = std::min(load8(at + 2), kWindowScaleMax);
                break;
            case kSackPermitted:
                if (length != 2) return malformed;
                result.sack_permitted = true;
                break;
            case kTimestamps:
                if (length != 10) return malformed;
                result.timestamps = Timestamps{load32(at + 2), load32(at + 6)};
                break;
            case kSack:
                // At most 4 blocks fit into 40 octets, but the caller may have given us more than a header holds.
                if (length < 10 || length > 34 || (length - 2) % 8 != 0) return malformed;
                result.sack_count = static_cast<std::uint8_t>((length - 2) / 8);
                for (std::size_t i = 0; i < result.sack_count; ++i)
                    result.sack_blocks[i] = {load32(at + 2 + 8 * i), load32(at + 6 + 8 * i)};
                break;
            case kUserTimeout:
                if (length != 4) return malformed;
                result.user_timeout = UserTimeout{load16(at + 2)};
                break;
            default:
                break;
        }
        options = options.subspan(length);
    }
    return result;
}

}  // namespace detail

namespace {

/// SACK permitted takes the place of the two NOPs before timestamps, as other stacks do it, so that a SYN needs 20 octets.
std::size_t length_without_sack(const TcpOptions& options) noexcept {
    return (options.mss ? 4u : 0u) + (options.timestamps ? 12u : options.sack_permitted ? 4u : 0u) +
           (options.window_scale ? 4u : 0u) + (options.user_timeout ? 4u : 0u);
}

}  // namespace

std::size_t tcp_options_length(const TcpOptions& options) noexcept {
    return length_without_sack(options) + (options.sack_count > 0 ? 4u + 8u * options.sack_count : 0u);
}

std::size_t write_tcp_options(const TcpOptions& options, std::span<std::byte> out) noexcept {
    const std::size_t fixed = length_without_sack(options);
    SALLYPORT_CHECK(out.size() >= fixed);
    std::byte* at = out.data();
    if (options.mss) {
        store32(at, 0x02040000u | *options.mss);
        at += 4;
    }
    if (options.timestamps) {
        store32(at, options.sack_permitted ? 0x0402080au : 0x0101080au);
        store32(at + 4, options.timestamps->value);
        store32(at + 8, options.timestamps->echo);
        at += 12;
    } else if (options.sack_permitted) {
        store32(at, 0x01010402u);
        at += 4;
    }
    if (options.window_scale) {
        store32(at, 0x01030300u | *options.window_scale);
        at += 4;
    }
    if (options.user_timeout) {
        store32(at, 0x1c040000u | options.user_timeout->field);
        at += 4;
    }
    const std::size_t room = std::min(out.size(), kTcpOptionsLengthMax) - fixed;
    const std::size_t blocks = room < 12 ? 0 : std::min<std::size_t>(options.sack_count, (room - 4) / 8);
    if (blocks > 0) {
        store32(at, 0x01010500u | static_cast<std::uint32_t>(2 + 8 * blocks));
        at += 4;
        for (const SackBlock& block : options.sacks().first(blocks)) {
            store32(at, block.start);
            store32(at + 4, block.end);
            at += 8;
        }
    }
    return static_cast<std::size_t>(at - out.data());
}

}  // namespace sallyport::wire
