#include "crypto/key_schedule.h"

#include <array>
#include <string_view>

#include "crypto/key_derivation.h"

namespace sallyport::crypto {
namespace {

constexpr std::string_view kPrefix = "tls13 ";

/// The length of the static IV that the record protection of `suite` needs.
std::size_t iv_length(const CipherSuite& suite) noexcept {
    constexpr std::size_t kGcmSaltLength = 4;  // RFC 5288 3
    return suite.version == Version::tls12 && suite.aead != Aead::chacha20_poly1305 ? kGcmSaltLength : kAeadNonceLength;
}

}  // namespace

std::expected<TrafficKey, KeyScheduleError> derive_traffic_key(const CipherSuite& suite,
                                                              const TrafficSecret& secret) noexcept {
    SALLYPORT_CHECK(suite.version == Version::tls13);
    if (secret.octets().size() != hash_length(suite.hash)) return std::unexpected(KeyScheduleError::wrong_length);

    std::array<std::byte, kMaxKeyLength> key;
    std::array<std::byte, kAeadNonceLength> iv;
    const std::span key_octets = std::span(key).first(key_length(suite.aead));
    std::expected<TrafficKey, KeyScheduleError> result;
    if (hkdf_expand_label(suite.hash, secret.octets(), kPrefix, "key", {}, key_octets) && hkdf_expand_label(suite.hash, secret.octets(), kPrefix, "iv", {}, iv)) {
        result->key.assign(key_octets);
        result->iv.assign(iv);
    } else {
        result = std::unexpected(KeyScheduleError::library_failure);
    }
    wipe(key.data(), key.size());
    wipe(iv.data(), iv.size());
    return result;
}

std::expected<TrafficSecret, KeyScheduleError> next_traffic_secret(const CipherSuite& suite,
                                                                  const TrafficSecret& secret) noexcept {
    SALLYPORT_CHECK(suite.version == Version::tls13);
    if (secret.octets().size() != hash_length(suite.hash)) return std::unexpected(KeyScheduleError::wrong_length);

    std::array<std::byte, kMaxHashLength> next;
    const std::span next_octets = std::span(next).first(hash_length(suite.hash));
    std::expected<TrafficSecret, KeyScheduleError> result;
    if (hkdf_expand_label(suite.hash, secret.octets(), kPrefix, "traffic upd", {}, next_octets))
        result->assign(next_octets);
    else
        result = std::unexpected(KeyScheduleError::library_failure);
    wipe(next.data(), next.size());
    return result;
}

std::expected<Tls12Keys, KeyScheduleError> derive_tls12_keys(const CipherSuite& suite,
                                                            std::span<const std::byte> master_secret,
                                                            std::span<const std::byte> client_random,
                                                            std::span<const std::byte> server_random) noexcept {
    SALLYPORT_CHECK(suite.version == Version::tls12);
    constexpr std::size_t kMasterSecretLength = 48;  // RFC 5246 8.1
    constexpr std::size_t kRandomLength = 32;        // RFC 5246 7.4.1.2
    if (master_secret.size() != kMasterSecretLength || client_random.size() != kRandomLength ||
        server_random.size() != kRandomLength)
        return std::unexpected(KeyScheduleError::wrong_length);

    // key_block = PRF(master_secret, "key expansion", server_random + client_random); the seeds are concatenated.
    constexpr std::string_view kLabel = "key expansion";
    const std::array<Piece, 3> seed{std::as_bytes(std::span(kLabel)), server_random, client_random};
    std::array<std::byte, 2 * (kMaxKeyLength + kAeadNonceLength)> key_block;
    const std::size_t key_octets = key_length(suite.aead);
    const std::size_t iv_octets = iv_length(suite);
    const std::span used = std::span(key_block).first(2 * (key_octets + iv_octets));
    std::expected<Tls12Keys, KeyScheduleError> result;
    if (tls12_prf(suite.hash, master_secret, seed, used)) {
        // An AEAD has no MAC keys: both keys, then both IVs (RFC 5246 6.3).
        result->client_write.key.assign(used.subspan(0, key_octets));
        result->server_write.key.assign(used.subspan(key_octets, key_octets));
        result->client_write.iv.assign(used.subspan(2 * key_octets, iv_octets));
        result->server_write.iv.assign(used.subspan(2 * key_octets + iv_octets, iv_octets));
    } else {
        result = std::unexpected(KeyScheduleError::library_failure);
    }
    wipe(key_block.data(), key_block.size());
    return result;
}

}  // namespace sallyport::crypto
