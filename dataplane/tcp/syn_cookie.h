#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/tcp/control_block.h"
#include "dataplane/tcp/keyed_hash.h"
#include "dataplane/wire/tcp_options.h"

namespace sallyport::tcp {

/// SYN cookies (RFC 4987 3.6): the half-open connection is kept in our initial sequence number and, where the peer sends timestamps,
/// window scaling and SACK in the low bits of our TSval. An ACK that completes one proves that its sender received our SYN,ACK.
class SynCookie {
 public:
    explicit SynCookie(const KeyedHash& hash) noexcept : hash_(hash) {}

    /// The initial sequence number for a SYN of `tuple` with `irs` and this MSS option (rounded down to one of eight).
    [[nodiscard]] SeqNum make(const Tuple& tuple, SeqNum irs, std::uint16_t mss, Time now) const noexcept;
    /// The MSS, when `iss` is a cookie of ours not older than about two minutes.
    [[nodiscard]] std::optional<std::uint16_t> check(const Tuple& tuple, SeqNum irs, SeqNum iss, Time now) const noexcept;

    /// TSval of the SYN,ACK: the largest not after `ts_now` that carries what the SYN offered.
    [[nodiscard]] static std::uint32_t encode_options(std::uint32_t ts_now, const wire::TcpOptions& syn, bool ecn) noexcept;
    struct Options {
        std::optional<std::uint8_t> window_scale;
        bool sack_permitted;
        bool ecn;
    };
    [[nodiscard]] static Options decode_options(std::uint32_t ts_echo) noexcept;

 private:
    [[nodiscard]] std::uint32_t mac(const Tuple& tuple, SeqNum irs, std::uint32_t period, std::uint32_t mss_index) const noexcept;
    KeyedHash hash_;
};

}  // namespace sallyport::tcp
