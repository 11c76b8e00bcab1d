#pragma once

#include <array>
#include <cstddef>
#include <span>

/// X25519 (RFC 7748 5) with lib25519, whose code for processors with AVX2 works out four agreements in the time of two. Constant time. (Crypto Multi-Buffer's, 2021.12.1, takes that time for
/// eight, and loses carries: with a peer's coordinate of words of ones and zeros it comes to another secret.)
namespace sallyport::crypto {

inline constexpr std::size_t kX25519Length = 32;   ///< of private and public keys and of what they agree on

using X25519Octets = std::array<std::byte, kX25519Length>;

/// A private key from OpenSSL's generator for secrets, and its public key. False: no randomness; then both are zeros. The caller wipes the private key. Any thread.
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

/// Works out all of `agreements`, one to kMost; three or four cost what two cost, seven or eight twice that. Any thread.
void agree_x25519(std::span<X25519Agreement> agreements) noexcept;

}  // namespace sallyport::crypto
