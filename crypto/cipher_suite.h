#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sallyport::crypto {

/// Protocol versions as on the wire (RFC 8446 4.2.1).
enum class Version : std::uint16_t { tls12 = 0x0303, tls13 = 0x0304 };

enum class Aead : std::uint8_t { aes_128_gcm, aes_256_gcm, chacha20_poly1305 };

enum class Hash : std::uint8_t { sha256, sha384 };

constexpr std::size_t kAeadTagLength = 16;
constexpr std::size_t kAeadNonceLength = 12;
constexpr std::size_t kMaxKeyLength = 32;
constexpr std::size_t kMaxHashLength = 48;

[[nodiscard]] constexpr std::size_t key_length(Aead aead) noexcept { return aead == Aead::aes_128_gcm ? 16 : 32; }
[[nodiscard]] constexpr std::size_t hash_length(Hash hash) noexcept { return hash == Hash::sha256 ? 32 : 48; }

/// A cipher suite of the catalogue: TLS 1.3 (RFC 8446 B.4) and TLS 1.2 ECDHE with an AEAD (RFC 5289, RFC 7905).
struct CipherSuite {
    std::uint16_t id;        ///< as on the wire
    std::string_view name;   ///< IANA's name, such as TLS_AES_128_GCM_SHA256
    Version version;
    Aead aead;
    Hash hash;               ///< of HKDF (1.3) or of the PRF (1.2)
};

/// The suite with this wire id, or nullptr when it is not of the catalogue.
[[nodiscard]] const CipherSuite* find_cipher_suite(std::uint16_t id) noexcept;

}  // namespace sallyport::crypto
