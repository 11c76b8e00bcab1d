#pragma once

#include <crypto_mb/ec_nistp256.h>
#include <crypto_mb/rsa.h>

/// Intel's Crypto Multi-Buffer library: public-key operations eight at a time, on processors with AVX-512 IFMA. It is opened when the program runs: where it is of no use it is not
/// there either, and with it OpenSSL 3.5, to which it is linked for functions that are not called here.
namespace sallyport::crypto {

inline constexpr unsigned kMultiBufferLanes = 8;   ///< a call costs nearly the same for one as for eight

struct MultiBuffer {
    decltype(&mbx_nistp256_ecdsa_sign_mb8) sign_p256;
    decltype(&mbx_rsa_private_crt_mb8) rsa_private;
    decltype(&mbx_rsa_public_mb8) rsa_public;
    decltype(&mbx_RSA_private_crt_Method) rsa_private_method;
    decltype(&mbx_RSA_pub65537_Method) rsa_public_method;
    decltype(&mbx_RSA_Method_BufSize) rsa_buffer;
};

/// nullptr where this processor has not what it takes, or the library (libcrypto-mb11) is not installed. The first call opens it: not in a sandbox, which does not let code be loaded.
/// Any thread; for the life of the process.
[[nodiscard]] const MultiBuffer* multi_buffer() noexcept;

/// Why it is not there, for a log: what is missing and what would bring it. Empty where it is.
[[nodiscard]] const char* why_no_multi_buffer() noexcept;

}  // namespace sallyport::crypto
