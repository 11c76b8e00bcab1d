#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "crypto/cipher_suite.h"
#include "crypto/secret.h"

namespace sallyport::crypto {

enum class KeyScheduleError : std::uint8_t {
    wrong_length,    ///< a secret that does not have the length of the suite's hash
    library_failure  ///< libcrypto refused; out of memory as a rule
};

using TrafficSecret = Secret<kMaxHashLength>;

/// Key and static IV of one direction. TLS 1.3: RFC 8446 7.3, iv is 12 octets. TLS 1.2: RFC 5246 6.3; with AES-GCM the
/// iv is the 4-octet salt (RFC 5288 3), with ChaCha20-Poly1305 12 octets (RFC 7905 2).
struct TrafficKey {
    Secret<kMaxKeyLength> key;
    Secret<kAeadNonceLength> iv;
};

/// HKDF-Expand-Label(secret, "key"/"iv", "") (RFC 8446 7.3). Not for the fast path: it uses libcrypto.
[[nodiscard]] std::expected<TrafficKey, KeyScheduleError> derive_traffic_key(const CipherSuite& suite,
                                                                            const TrafficSecret& secret) noexcept;

/// application_traffic_secret_N+1 (RFC 8446 7.2).
[[nodiscard]] std::expected<TrafficSecret, KeyScheduleError> next_traffic_secret(const CipherSuite& suite,
                                                                                const TrafficSecret& secret) noexcept;

struct Tls12Keys {
    TrafficKey client_write;
    TrafficKey server_write;
};

/// The TLS 1.2 key block (RFC 5246 6.3) from the 48-octet master secret and both 32-octet randoms.
[[nodiscard]] std::expected<Tls12Keys, KeyScheduleError> derive_tls12_keys(const CipherSuite& suite,
                                                                          std::span<const std::byte> master_secret,
                                                                          std::span<const std::byte> client_random,
                                                                          std::span<const std::byte> server_random) noexcept;

}  // namespace sallyport::crypto
