#include "crypto/cipher_suite.h"

#include <algorithm>
#include <array>

namespace sallyport::crypto {
namespace {

constexpr std::array kCatalogue{
    CipherSuite{0x1301, "TLS_AES_128_GCM_SHA256", Version::tls13, Aead::aes_128_gcm, Hash::sha256},
    CipherSuite{0x1302, "TLS_AES_256_GCM_SHA384", Version::tls13, Aead::aes_256_gcm, Hash::sha384},
    CipherSuite{0x1303, "TLS_CHACHA20_POLY1305_SHA256", Version::tls13, Aead::chacha20_poly1305, Hash::sha256},
    CipherSuite{0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Version::tls12, Aead::aes_128_gcm, Hash::sha256},
    CipherSuite{0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Version::tls12, Aead::aes_256_gcm, Hash::sha384},
    CipherSuite{0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Version::tls12, Aead::aes_128_gcm, Hash::sha256},
    CipherSuite{0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Version::tls12, Aead::aes_256_gcm, Hash::sha384},
    CipherSuite{0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Version::tls12, Aead::chacha20_poly1305,
                Hash::sha256},
    CipherSuite{0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Version::tls12, Aead::chacha20_poly1305,
                Hash::sha256},
};

}  // namespace

const CipherSuite* find_cipher_suite(std::uint16_t id) noexcept {
    const auto* suite = std::ranges::find(kCatalogue, id, &CipherSuite::id);
    return suite == kCatalogue.end() ? nullptr : suite;
}

}  // namespace sallyport::crypto
