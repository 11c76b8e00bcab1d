#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// ECDSA on P-256 (FIPS 186-5 6.4) for private keys, up to eight signatures at a time. Where multi_buffer() is there.
namespace sallyport::crypto {

inline constexpr std::size_t kP256Length = 32;   ///< of a scalar, a coordinate, and the digest that is signed
inline constexpr std::size_t kP256Lanes = 8;

using P256Octets = std::array<std::byte, kP256Length>;      ///< a number, its most significant octet first
using P256Scalar = std::array<std::uint64_t, kP256Length / 8>;   ///< the same, its least significant word first

void to_scalar(const P256Octets& octets, P256Scalar& scalar) noexcept;

/// One signature. The key is borrowed for the call, and 0 < key < n (the caller's to see to).
struct P256Signature {
    const P256Scalar* private_key = nullptr;
    P256Octets digest{};   ///< SHA-256 of the message
    P256Octets r{}, s{};
    bool made = false;     ///< false: no randomness, or a digest that the library refuses: zero, or not below the order
};

/// Makes all of `signatures`, one to eight. Each has a nonce of its own, from random octets, the key and the digest together (as RFC 6979 3.6 allows): a generator that
/// repeats itself, as that of a virtual machine does which is resumed twice, gives no key away. Any thread.
void sign_p256(std::span<P256Signature> signatures) noexcept;

}  // namespace sallyport::crypto
