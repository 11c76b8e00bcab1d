#pragma once

#include <openssl/core.h>
#include <openssl/core_dispatch.h>

#include "control/certificates/openssl.h"

/// Private keys of certificates whose signatures several handshakes have made together (OperationBatch). P-256 and RSA of 2048, 3072 or 4096 bits, where the processor has AVX-512 IFMA
/// (crypto::multi_buffer()): an RSA signature takes half of OpenSSL's time then, one on P-256 a third.
namespace sallyport::handshake {

/// A key that signs with others when it is asked for a signature inside OperationBatch::run(), and is OpenSSL's own in all else. For another kind of key, and where there is
/// nothing to be gained: `key` itself. load_key_provider() comes before. Any thread.
[[nodiscard]] openssl::PrivateKey signing_key(EVP_PKEY* key);

/// For the provider: what keys there are, and what signs with them.
[[nodiscard]] const OSSL_ALGORITHM* signing_key_management() noexcept;
[[nodiscard]] const OSSL_ALGORITHM* signatures() noexcept;

}  // namespace sallyport::handshake
