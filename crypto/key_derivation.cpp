#include "crypto/key_derivation.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <utility>

#include "crypto/check.h"
#include "crypto/secret.h"

namespace sallyport::crypto {
namespace {

constexpr std::size_t kMaxBlockLength = 128;
constexpr std::size_t block_length(Hash hash) noexcept { return hash == Hash::sha256 ? 64 : kMaxBlockLength; }

/// Fetched once for the process and never freed: a fetch takes a lock and a search through the providers, and a worker may still derive keys while the process's static objects are being
/// destroyed.
EVP_MD* algorithm(Hash hash) noexcept {
    static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
    static EVP_MD* const sha384 = EVP_MD_fetch(nullptr, "SHA2-384", nullptr);
    return hash == Hash::sha256 ? sha256 : sha384;
}

/// A computation of a hash that a thread keeps for its next one: to make one takes as long as to hash a block.
class Hasher {
 public:
    Hasher() noexcept = default;
    ~Hasher() { EVP_MD_CTX_free(context_); }
    Hasher(const Hasher&) = delete;
    Hasher& operator=(const Hasher&) = delete;

    /// To be called before each computation. One for which there was no memory is tried again.
    void begin(Hash hash) noexcept {
        if (context_ != nullptr) return;
        context_ = EVP_MD_CTX_new();
        if (context_ != nullptr && EVP_DigestInit_ex2(context_, algorithm(hash), nullptr) != 1) EVP_MD_CTX_free(std::exchange(context_, nullptr));
    }
    [[nodiscard]] bool take(Piece octets) noexcept { return context_ != nullptr && (octets.empty() || EVP_DigestUpdate(context_, octets.data(), octets.size()) == 1); }
    [[nodiscard]] bool take(Pieces pieces) noexcept {
        return std::ranges::all_of(pieces, [this](Piece piece) { return take(piece); });
    }
    /// Ends it, and begins the next one, which overwrites what it has hashed.
    [[nodiscard]] bool finish(std::byte* out) noexcept {
        if (context_ == nullptr) return false;
        const bool done = EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(out), nullptr) == 1;
        return EVP_DigestInit_ex2(context_, nullptr, nullptr) == 1 && done;
    }

 private:
    EVP_MD_CTX* context_ = nullptr;   ///< begun, once there was memory for one
};

Hasher& hasher(Hash hash) noexcept {
    thread_local Hasher sha256, sha384;
    Hasher& one = hash == Hash::sha256 ? sha256 : sha384;
    one.begin(hash);
    return one;
}

bool hash_keyed(Hash hash, Pieces message, const std::array<std::byte, kMaxBlockLength>& pad, std::span<std::byte> out) noexcept {
    Hasher& hashing = hasher(hash);
    const bool taken = hashing.take(std::span(pad).first(block_length(hash))) && hashing.take(message);
    return hashing.finish(out.data()) && taken;
}

bool failed(std::span<std::byte> out) noexcept {
    wipe(out.data(), out.size());
    return false;
}

}  // namespace

bool digest(Hash hash, Pieces message, std::span<std::byte> out) noexcept {
    SALLYPORT_CHECK(out.size() == hash_length(hash));
    Hasher& hashing = hasher(hash);
    const bool taken = hashing.take(message);
    return (hashing.finish(out.data()) && taken) || failed(out);
}

bool hmac(Hash hash, Piece key, Pieces message, std::span<std::byte> out) noexcept {
    SALLYPORT_CHECK(out.size() == hash_length(hash));
    std::array<std::byte, kMaxBlockLength> pad{};
    bool good = true;
    if (key.size() > block_length(hash))
        good = digest(hash, {&key, 1}, std::span(pad).first(hash_length(hash)));
    else
        std::ranges::copy(key, pad.begin());
    constexpr std::byte kInner{0x36}, kOuter{0x5c};
    for (std::byte& octet : pad) octet ^= kInner;
    good = good && hash_keyed(hash, message, pad, out);
    for (std::byte& octet : pad) octet ^= kInner ^ kOuter;
    const Piece inner = out;
    good = good && hash_keyed(hash, {&inner, 1}, pad, out);
    wipe(pad.data(), pad.size());
    return good || failed(out);
}

bool hkdf_expand_label(Hash hash, Piece secret, std::string_view prefix, std::string_view label, Piece context, std::span<std::byte> out) noexcept {
    constexpr std::size_t kMost = 255;
    const std::size_t step = hash_length(hash);
    SALLYPORT_CHECK(prefix.size() + label.size() <= kMost && context.size() <= kMost && out.size() <= kMost * step);
    const auto number = [](std::size_t value) { return static_cast<std::byte>(value); };
    const std::array begin{number(out.size() >> 8), number(out.size()), number(prefix.size() + label.size())};
    const std::array context_length{number(context.size())};
    std::array<std::byte, 1> count{};
    std::array<std::byte, kMaxHashLength> block{};
    // T(n) = HMAC-Hash(secret, T(n - 1) | HkdfLabel | n)
    std::array<Piece, 7> message{Piece{}, begin, std::as_bytes(std::span(prefix)), std::as_bytes(std::span(label)), context_length, context, count};
    bool good = true;
    for (std::size_t at = 0; good && at < out.size(); at += step) {
        count[0] = number(at / step + 1);
        good = hmac(hash, secret, message, std::span(block).first(step));
        std::ranges::copy(std::span(block).first(std::min(step, out.size() - at)), out.subspan(at).begin());
        message[0] = std::span(block).first(step);
    }
    wipe(block.data(), block.size());
    return good || failed(out);
}

bool tls12_prf(Hash hash, Piece secret, Pieces seed, std::span<std::byte> out) noexcept {
    constexpr std::size_t kMostPieces = 8;
    SALLYPORT_CHECK(seed.size() <= kMostPieces);
    const std::size_t step = hash_length(hash);
    std::array<std::byte, kMaxHashLength> a{}, next{}, block{};
    std::array<Piece, 1 + kMostPieces> message{std::span(a).first(step)};
    std::ranges::copy(seed, message.begin() + 1);
    const Pieces a_alone = std::span(message).first(1), a_and_seed = std::span(message).first(1 + seed.size());
    // A(1) = HMAC(secret, seed), A(n) = HMAC(secret, A(n - 1)); P_hash = HMAC(secret, A(1) + seed) + HMAC(secret, A(2) + seed) + ...
    bool good = hmac(hash, secret, seed, std::span(a).first(step));
    for (std::size_t at = 0; good && at < out.size(); at += step) {
        good = hmac(hash, secret, a_and_seed, std::span(block).first(step));
        std::ranges::copy(std::span(block).first(std::min(step, out.size() - at)), out.subspan(at).begin());
        if (good && at + step < out.size()) {
            good = hmac(hash, secret, a_alone, std::span(next).first(step));
            a = next;
        }
    }
    for (auto* const each : {&a, &next, &block}) wipe(each->data(), each->size());
    return good || failed(out);
}

}  // namespace sallyport::crypto
