#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// Private operations with RSA keys (RFC 8017 5.1.2), up to eight at a time. Where multi_buffer() is there.
namespace sallyport::crypto {

/// A private key in the form that the library takes, wiped on destruction: primes p and q of the same length, e = 65537.
class RsaPrivateKey {
 public:
    static constexpr std::size_t kLanes = 8;

    /// Numbers with their most significant octet first, of any length: modulus, primes, d mod (p - 1), d mod (q - 1), and the inverse of q mod p.
    struct Numbers {
        std::span<const std::byte> n, p, q, dp, dq, q_inverse;
    };
    /// nullopt: not of 2048, 3072 or 4096 bits, or with primes of different lengths.
    [[nodiscard]] static std::optional<RsaPrivateKey> make(const Numbers& numbers);
    RsaPrivateKey(RsaPrivateKey&&) noexcept = default;
    RsaPrivateKey& operator=(RsaPrivateKey&&) = delete;
    ~RsaPrivateKey();
    /// Octets of the modulus, and of what goes in and comes out.
    [[nodiscard]] std::size_t length() const noexcept { return length_; }

 private:
    friend struct RsaLanes;
    explicit RsaPrivateKey(std::size_t length) : length_(length) {}

    std::size_t length_;
    /// Words, the least significant first: n, then p, q, dp, dq and q_inverse of half its length.
    std::vector<std::uint64_t> words_;
};

/// One operation. All is borrowed for the call; `input`, below the modulus, and `output` have the key's length.
struct RsaOperation {
    const RsaPrivateKey* key = nullptr;
    std::span<const std::byte> input{};
    std::span<std::byte> output{};
    bool done = false;   ///< false: the library refused, or the result does not lead back to `input`, and `output` is wiped
};

/// Works out all of `operations`, one to kLanes, with keys of the same length. Each result is checked with the public key: a wrong one, as of a fault in the processor, would give the
/// primes away. Any thread.
void rsa_private(std::span<RsaOperation> operations) noexcept;

}  // namespace sallyport::crypto
