#pragma once

#include <array>
#include <cstddef>
#include <span>

/// X25519 (RFC 7748 5), constant time. One alone is lib25519's (26 us); several at once are Crypto Multi-Buffer's where multi_buffer() is there (51 us for two to eight), and else
/// lib25519's too, whose code for processors with AVX2 works out four in the time of two.
namespace sallyport::crypto {

inline constexpr std::size_t kX25519Length = 32;   ///< of private and public keys and of what they agree on

using X25519Octets = std::array<std::byte, kX25519Length>;

/// A private key from OpenSSL's generator for secrets, and its public key. False: no randomness; then both are zeros. The caller wipes the private key. Any thread. Where multi_buffer() is
/// there, eight are made at once (4 us each, 7.5 alone), and the thread keeps those to come: each is given once, and wiped. A process that forks must not go on using it on both sides.
[[nodiscard]] bool make_x25519_key(X25519Octets& private_key, X25519Octets& public_key) noexcept;

/// The public key of a private one. Any thread.
[[nodiscard]] X25519Octets x25519_public_key(const X25519Octets& private_key) noexcept;

/// One key agreement (RFC 7748 6.1). Keys are borrowed for the call; the caller wipes `shared`.
struct X25519Agreement {
    static constexpr std::size_t kMost = 8;   ///< at once
    const X25519Octets* private_key = nullptr;
    const X25519Octets* peer = nullptr;
    X25519Octets shared{};
    bool agreed = false;   ///< false: `shared` is zeros, which a peer can bring about and which is no secret (RFC 8446 7.4.2)
};

/// Works out all of `agreements`, one to kMost. Any thread.
void agree_x25519(std::span<X25519Agreement> agreements) noexcept;

}  // namespace sallyport::crypto
