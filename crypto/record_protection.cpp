#include "crypto/record_protection.h"

#include <algorithm>
#include <limits>

#include "crypto/check.h"

namespace sallyport::crypto {
namespace {

constexpr std::size_t kExplicitNonceLength = 8;  // RFC 5288 3
constexpr std::size_t kGcmSaltLength = kAeadNonceLength - kExplicitNonceLength;

bool has_explicit_nonce(Version version, Aead aead) noexcept {
    return version == Version::tls12 && aead != Aead::chacha20_poly1305;
}

}  // namespace

// One cache line, when it is aligned to one: a worker touches one of them for each record.
static_assert(sizeof(RecordProtection) == 64);

void RecordProtection::install(const CipherSuite& suite, const TrafficKey& key, std::uint64_t sequence,
                               std::uint64_t explicit_nonce) noexcept {
    const std::size_t iv_octets = has_explicit_nonce(suite.version, suite.aead) ? kGcmSaltLength : kAeadNonceLength;
    SALLYPORT_CHECK(key.key.octets().size() == key_length(suite.aead));
    SALLYPORT_CHECK(key.iv.octets().size() == iv_octets);
    clear();
    std::ranges::copy(key.key.octets(), key_.begin());
    std::ranges::copy(key.iv.octets(), iv_.begin());
    version_ = suite.version;
    aead_ = suite.aead;
    sequence_ = sequence;
    explicit_nonce_ = explicit_nonce;
    installed_ = true;
}

void RecordProtection::clear() noexcept {
    wipe(key_.data(), key_.size());
    wipe(iv_.data(), iv_.size());
    sequence_ = 0;
    explicit_nonce_ = 0;
    installed_ = false;
}

std::size_t RecordProtection::overhead() const noexcept {
    const std::size_t nonce = has_explicit_nonce(version_, aead_) ? kExplicitNonceLength : 0;
    const std::size_t content_type = version_ == Version::tls13 ? 1 : 0;
    return kRecordHeaderLength + nonce + content_type + kAeadTagLength;
}

std::expected<RecordHeader, RecordError> parse_record_header(std::span<const std::byte, kRecordHeaderLength> header,
                                                             const RecordProtection& protection) noexcept {
    const bool tls13 = protection.version() == Version::tls13;
    const auto type = static_cast<ContentType>(header[0]);
    // 0x0303 in every protected record of both versions (RFC 8446 5.2, RFC 5246 6.2.1).
    if (header[1] != std::byte{3} || header[2] != std::byte{3}) return std::unexpected(RecordError::bad_header);
    const auto length = static_cast<std::uint16_t>(std::to_integer<unsigned>(header[3]) << 8 |
                                                   std::to_integer<unsigned>(header[4]));
    switch (type) {
        case ContentType::application_data:
            break;
        case ContentType::change_cipher_spec:
            // On TLS 1.3 it is never protected and always the one octet 0x01 (RFC 8446 5).
            if (!tls13) break;
            if (length != 1) return std::unexpected(RecordError::bad_header);
            return RecordHeader{type, length};
        case ContentType::alert:
        case ContentType::handshake:
            if (tls13) return std::unexpected(RecordError::bad_header);
            break;
        default:  // any other octet that a peer may send
            return std::unexpected(RecordError::bad_header);
    }
    if (length > (tls13 ? kMaxTls13CiphertextLength : kMaxTls12CiphertextLength))
        return std::unexpected(RecordError::record_overflow);
    const std::size_t shortest =
        kAeadTagLength + (has_explicit_nonce(protection.version(), protection.aead()) ? kExplicitNonceLength : 0);
    if (length < shortest) return std::unexpected(RecordError::too_short);
    return RecordHeader{type, length};
}

bool key_exhausted(const RecordProtection& protection) noexcept {
    switch (protection.aead()) {
        case Aead::aes_128_gcm:
        case Aead::aes_256_gcm:
            return protection.sequence() >= kAesGcmRecordLimit;
        case Aead::chacha20_poly1305:
            // Only that the sequence number must not wrap (RFC 8446 5.3).
            return protection.sequence() == std::numeric_limits<std::uint64_t>::max();
    }
    return true;
}

}  // namespace sallyport::crypto
