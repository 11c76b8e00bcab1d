#pragma once

#include <openssl/core.h>

namespace sallyport::handshake {

/// For the provider (key_provider.h): the derivations of libssl's key schedules, TLS13-KDF (EVP_KDF-TLS13_KDF(7)) and TLS1-PRF (EVP_KDF-TLS1_PRF(7)), by crypto/key_derivation.h. With the
/// hashes of the catalogue's suites, SHA-256 and SHA-384, alone.
[[nodiscard]] const OSSL_ALGORITHM* key_derivations() noexcept;

}  // namespace sallyport::handshake
