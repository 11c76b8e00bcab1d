#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "crypto/cipher_suite.h"

/// The key derivations of TLS 1.3 and 1.2 over OpenSSL's hashes. OpenSSL has them too, with a dozen allocations a call, and a handshake of TLS 1.3 makes twenty calls.
///
/// All of them: any thread; false, with nothing but zeros in `out`, where libcrypto refuses (out of memory as a rule). Nothing of a key stays behind in memory.
namespace sallyport::crypto {

/// A message in pieces, one after another.
using Piece = std::span<const std::byte>;
using Pieces = std::span<const Piece>;

/// HMAC-Hash(key, message) (RFC 2104); `out` is as long as the hash.
[[nodiscard]] bool hmac(Hash hash, Piece key, Pieces message, std::span<std::byte> out) noexcept;

/// Hash(message); `out` is as long as the hash.
[[nodiscard]] bool digest(Hash hash, Pieces message, std::span<std::byte> out) noexcept;

/// HKDF-Expand-Label(secret, label, context, out.size()) with another prefix than "tls13 " if need be (RFC 8446 7.1, RFC 5869 2.3). At most 255 times the hash's length; prefix and label
/// together, and context, at most 255 octets.
[[nodiscard]] bool hkdf_expand_label(Hash hash, Piece secret, std::string_view prefix, std::string_view label, Piece context, std::span<std::byte> out) noexcept;

/// PRF(secret, label + seed) of TLS 1.2, the label being a piece of `seed` (RFC 5246 5). Eight pieces at most, `out` of any length.
[[nodiscard]] bool tls12_prf(Hash hash, Piece secret, Pieces seed, std::span<std::byte> out) noexcept;

}  // namespace sallyport::crypto
