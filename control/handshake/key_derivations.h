#pragma once

#include <openssl/core.h>

#include "crypto/key_schedule.h"

namespace sallyport::handshake {

/// For the provider (key_provider.h): the derivations of libssl's key schedules, TLS13-KDF (EVP_KDF-TLS13_KDF(7)) and TLS1-PRF (EVP_KDF-TLS1_PRF(7)), by crypto/key_derivation.h. With the
/// hashes of the catalogue's suites, SHA-256 and SHA-384, alone.
[[nodiscard]] const OSSL_ALGORITHM* key_derivations() noexcept;

/// The resumption_master_secret (RFC 8446 7.1) that this thread has derived last: libssl derives it as the last secret of a handshake, on either side, and tells nobody. Empty: none since this was
/// asked for; whoever asks has it alone.
[[nodiscard]] crypto::TrafficSecret take_resumption_master_secret() noexcept;

}  // namespace sallyport::handshake
