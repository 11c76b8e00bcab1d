#pragma once

#include <cstdint>

/// Alerts that the dataplane sends or knows (RFC 8446 6, RFC 5246 7.2).
namespace sallyport::flow::alert {

constexpr std::uint8_t kCloseNotify = 0;
constexpr std::uint8_t kUnexpectedMessage = 10;
constexpr std::uint8_t kBadRecordMac = 20;
constexpr std::uint8_t kRecordOverflow = 22;
constexpr std::uint8_t kDecodeError = 50;
constexpr std::uint8_t kProtocolVersion = 70;
constexpr std::uint8_t kInternalError = 80;
constexpr std::uint8_t kUserCanceled = 90;
constexpr std::uint8_t kNoRenegotiation = 100;

/// AlertLevel: 1 warning, 2 fatal. A no_renegotiation is always a warning (RFC 5246 7.2.2).
[[nodiscard]] constexpr std::uint8_t level_of(std::uint8_t description) noexcept {
    return description == kCloseNotify || description == kUserCanceled || description == kNoRenegotiation ? 1 : 2;
}

}  // namespace sallyport::flow::alert
