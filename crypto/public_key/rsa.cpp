#include "crypto/public_key/rsa.h"

#include <algorithm>
#include <array>
#include <memory>
#include <new>

#include "crypto/public_key/multi_buffer.h"
#include "crypto/secret.h"

namespace sallyport::crypto {
namespace {

/// Appends a number as `count` words; false when it is longer.
bool append(std::vector<std::uint64_t>& words, std::span<const std::byte> octets, std::size_t count) {
    while (!octets.empty() && octets.front() == std::byte{}) octets = octets.subspan(1);
    if (octets.size() > 8 * count) return false;
    const std::size_t begin = words.size();
    words.resize(begin + count);
    for (std::size_t i = 0; i < octets.size(); ++i) words[begin + i / 8] |= std::to_integer<std::uint64_t>(octets[octets.size() - 1 - i]) << 8 * (i % 8);
    return true;
}

bool has_top_bit(std::span<const std::byte> octets, std::size_t length) {
    while (!octets.empty() && octets.front() == std::byte{}) octets = octets.subspan(1);
    return octets.size() == length && (octets.front() & std::byte{0x80}) != std::byte{};
}

const int8u* raw(const std::byte* octets) noexcept { return reinterpret_cast<const int8u*>(octets); }
int8u* raw(std::byte* octets) noexcept { return reinterpret_cast<int8u*>(octets); }

}  // namespace

std::optional<RsaPrivateKey> RsaPrivateKey::make(const Numbers& numbers) {
    for (const std::size_t length : {256, 384, 512}) {
        if (!has_top_bit(numbers.n, length)) continue;
        if (!has_top_bit(numbers.p, length / 2) || !has_top_bit(numbers.q, length / 2)) return std::nullopt;
        RsaPrivateKey key(length);
        key.words_.reserve(length / 8 * 7 / 2);   // nothing is left behind by growing
        bool good = append(key.words_, numbers.n, length / 8);
        for (const auto& half : {numbers.p, numbers.q, numbers.dp, numbers.dq, numbers.q_inverse}) good = good && append(key.words_, half, length / 16);
        if (good) return key;
        return std::nullopt;
    }
    return std::nullopt;
}

RsaPrivateKey::~RsaPrivateKey() { wipe(words_.data(), words_.size() * sizeof(std::uint64_t)); }

/// Its key's words for the library.
struct RsaLanes {
    static const int64u* modulus(const RsaPrivateKey& key) noexcept { return reinterpret_cast<const int64u*>(key.words_.data()); }
    /// 0 to 4: p, q, dp, dq, q_inverse.
    static const int64u* half(const RsaPrivateKey& key, std::size_t index) noexcept { return modulus(key) + key.length() / 8 + index * (key.length() / 16); }
};

void rsa_private(std::span<RsaOperation> operations) noexcept {
    constexpr std::size_t kLanes = RsaPrivateKey::kLanes, kLongest = 512;
    static_assert(kLanes == kMultiBufferLanes);
    SALLYPORT_CHECK(!operations.empty() && operations.size() <= kLanes);
    const MultiBuffer* const library = multi_buffer();
    const std::size_t length = operations[0].key->length();
    const int bits = static_cast<int>(8 * length);
    const mbx_RSA_Method* const private_method = library->rsa_private_method(bits);
    const mbx_RSA_Method* const public_method = library->rsa_public_method(bits);
    const auto room = static_cast<std::size_t>(std::max(library->rsa_buffer(private_method), library->rsa_buffer(public_method)));
    const std::unique_ptr<int8u[]> buffer(new (std::nothrow) int8u[room]);

    std::byte unused[kLongest], back[kLanes][kLongest];
    const int8u *inputs[kLanes], *outputs_read[kLanes];
    int8u *outputs[kLanes], *backs[kLanes];
    const int64u *moduli[kLanes], *halves[5][kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) {
        const bool used = i < operations.size();
        const RsaOperation& operation = operations[used ? i : 0];   // a lane without work repeats the first one's
        SALLYPORT_CHECK(operation.key->length() == length && operation.input.size() == length && operation.output.size() == length);
        inputs[i] = raw(operation.input.data());
        outputs[i] = used ? raw(operation.output.data()) : raw(unused);
        outputs_read[i] = outputs[i];
        backs[i] = raw(back[i]);
        moduli[i] = RsaLanes::modulus(*operation.key);
        for (std::size_t half = 0; half < 5; ++half) halves[half][i] = RsaLanes::half(*operation.key, half);
    }
    mbx_status status = MBX_SET_STS_ALL(MBX_STATUS_NULL_PARAM_ERR), checked = status;
    if (buffer) {
        status = library->rsa_private(inputs, outputs, halves[0], halves[1], halves[2], halves[3], halves[4], bits, private_method, buffer.get());
        checked = library->rsa_public(outputs_read, backs, moduli, bits, public_method, buffer.get());
        wipe(buffer.get(), room);
    }
    for (std::size_t i = 0; i < operations.size(); ++i) {
        RsaOperation& operation = operations[i];
        operation.done = MBX_GET_STS(status, static_cast<int>(i)) == MBX_STATUS_OK && MBX_GET_STS(checked, static_cast<int>(i)) == MBX_STATUS_OK &&
                         std::equal(operation.input.begin(), operation.input.end(), back[i]);
        if (!operation.done) wipe(operation.output.data(), operation.output.size());
    }
}

}  // namespace sallyport::crypto
