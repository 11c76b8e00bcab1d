#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "crypto/cipher_suite.h"
#include "crypto/key_schedule.h"

namespace sallyport::crypto {

enum class ContentType : std::uint8_t {
    change_cipher_spec = 20,
    alert = 21,
    handshake = 22,
    application_data = 23,
};

constexpr std::size_t kRecordHeaderLength = 5;
constexpr std::size_t kMaxPlaintextLength = 1 << 14;           ///< RFC 8446 5.1
constexpr std::size_t kMaxTls13CiphertextLength = (1 << 14) + 256;   ///< RFC 8446 5.2
constexpr std::size_t kMaxTls12CiphertextLength = (1 << 14) + 2048;  ///< RFC 5246 6.2.3

/// Octets to read, or to read and overwrite: one piece of a record that lies scattered over packet buffers.
struct ReadPiece {
    const std::byte* data;
    std::uint32_t length;
};
struct WritePiece {
    std::byte* data;
    std::uint32_t length;
};

/// One direction of one TLS connection after the handshake: raw key, static IV, sequence number.
/// The expanded key is not kept: AeadBatch expands per batch. Wiped on destruction. Owning worker only.
class RecordProtection {
 public:
    RecordProtection() noexcept = default;
    /// `sequence` is the number of records already protected with this key in this direction. For TLS 1.2 AES-GCM
    /// `explicit_nonce` is the first explicit nonce to use when sealing (counts up; RFC 5288 3); otherwise ignored.
    void install(const CipherSuite& suite, const TrafficKey& key, std::uint64_t sequence,
                 std::uint64_t explicit_nonce) noexcept;
    void clear() noexcept;

    [[nodiscard]] bool installed() const noexcept { return installed_; }
    [[nodiscard]] Version version() const noexcept { return version_; }
    [[nodiscard]] Aead aead() const noexcept { return aead_; }
    [[nodiscard]] std::uint64_t sequence() const noexcept { return sequence_; }

    /// Octets that a record has beyond its content: header, explicit nonce (1.2 AES-GCM: 8), content type (1.3: 1), tag.
    [[nodiscard]] std::size_t overhead() const noexcept;
    /// Octets of a whole sealed record with `content_length` octets of content and no padding.
    [[nodiscard]] std::size_t sealed_length(std::size_t content_length) const noexcept {
        return content_length + overhead();
    }

 private:
    friend class AeadBatch;
    friend struct RecordProtectionTestAccess;
    std::array<std::byte, kMaxKeyLength> key_{};
    std::array<std::byte, kAeadNonceLength> iv_{};
    Version version_ = Version::tls13;
    Aead aead_ = Aead::aes_128_gcm;
    bool installed_ = false;
    std::uint64_t sequence_ = 0;
    std::uint64_t explicit_nonce_ = 0;

 public:
    RecordProtection(const RecordProtection&) noexcept = default;
    RecordProtection& operator=(const RecordProtection&) noexcept = default;
    ~RecordProtection() { clear(); }
};

enum class RecordError : std::uint8_t {
    bad_header,        ///< not a record of this version: alert unexpected_message or protocol_version
    record_overflow,   ///< longer than the version allows: alert record_overflow
    too_short,         ///< shorter than its tag (and nonce): alert decode_error (1.2) or bad_record_mac
};

struct RecordHeader {
    ContentType type;
    std::uint16_t length;  ///< of the fragment that follows the header
};

/// Checks a record header of a protected record (RFC 8446 5.1, 5.2; RFC 5246 6.2.1). On TLS 1.3 the outer type must be
/// application_data, or change_cipher_spec (which the caller treats: after the handshake it is an error).
[[nodiscard]] std::expected<RecordHeader, RecordError> parse_record_header(
    std::span<const std::byte, kRecordHeaderLength> header, const RecordProtection& protection) noexcept;

/// AES-GCM may protect 2^24.5 full-size records with one key (RFC 8446 5.5); ChaCha20-Poly1305 has no such limit.
/// The sender changes keys (1.3) or closes (1.2) when a direction reaches it.
constexpr std::uint64_t kAesGcmRecordLimit = 23'726'566;
[[nodiscard]] bool key_exhausted(const RecordProtection& protection) noexcept;

}  // namespace sallyport::crypto
