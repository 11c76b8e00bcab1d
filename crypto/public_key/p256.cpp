#include "crypto/public_key/p256.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>

#include "crypto/public_key/multi_buffer.h"
#include "crypto/secret.h"

namespace sallyport::crypto {
namespace {

/// The order of the base point (SEC 2 2.4.2), its least significant word first.
constexpr P256Scalar kOrder{0xf3b9cac2fc632551, 0xbce6faada7179e84, 0xffffffffffffffff, 0xffffffff00000000};

/// Fetched once for the process and never freed.
const EVP_MD* sha512() noexcept {
    static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA2-512", nullptr);
    return fetched;
}

bool is_below_order(const P256Scalar& scalar) noexcept {
    // A subtraction whose borrow is looked at last: takes the same time for all.
    unsigned borrow = 0;
    for (std::size_t i = 0; i < scalar.size(); ++i) {
        unsigned long long difference = 0;
        const unsigned below = __builtin_sub_overflow(scalar[i], kOrder[i], &difference);
        const unsigned borrowed = __builtin_sub_overflow(difference, borrow, &difference);
        borrow = below | borrowed;
    }
    return borrow != 0;
}

bool is_zero(const P256Scalar& scalar) noexcept {
    std::uint64_t any = 0;
    for (const std::uint64_t word : scalar) any |= word;
    return any == 0;
}

/// 0 < nonce < n, evenly spread: what is not below the order, one of four thousand million, is thrown away (FIPS 186-5 A.3.2).
bool make_nonce(const P256Scalar& key, const P256Octets& digest, P256Scalar& nonce) noexcept {
    struct {
        std::array<std::byte, kP256Length> random;
        P256Scalar key;
        P256Octets digest;
    } seed{{}, key, digest};
    std::array<std::byte, 64> hash;
    bool made = false;
    for (int attempt = 0; attempt < 8 && !made; ++attempt) {
        unsigned length = 0;
        if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(seed.random.data()), static_cast<int>(seed.random.size())) != 1 ||
            EVP_Digest(&seed, sizeof seed, reinterpret_cast<unsigned char*>(hash.data()), &length, sha512(), nullptr) != 1)
            break;
        P256Octets first;
        std::copy_n(hash.begin(), first.size(), first.begin());
        to_scalar(first, nonce);
        wipe(first.data(), first.size());
        made = is_below_order(nonce) && !is_zero(nonce);
    }
    wipe(&seed, sizeof seed);
    wipe(hash.data(), hash.size());
    return made;
}

const int64u* words(const P256Scalar& scalar) noexcept { return reinterpret_cast<const int64u*>(scalar.data()); }

}  // namespace

void to_scalar(const P256Octets& octets, P256Scalar& scalar) noexcept {
    scalar = {};
    for (std::size_t i = 0; i < octets.size(); ++i) scalar[(octets.size() - 1 - i) / 8] |= std::to_integer<std::uint64_t>(octets[i]) << 8 * ((octets.size() - 1 - i) % 8);
}

void sign_p256(std::span<P256Signature> signatures) noexcept {
    static_assert(kP256Lanes == kMultiBufferLanes);
    SALLYPORT_CHECK(!signatures.empty() && signatures.size() <= kP256Lanes);
    std::array<P256Scalar, kP256Lanes> nonces;
    P256Octets unused_r, unused_s;
    int8u *r[kP256Lanes], *s[kP256Lanes];
    const int8u* digests[kP256Lanes];
    const int64u *keys[kP256Lanes], *ephemeral[kP256Lanes];
    bool have = true;
    for (std::size_t i = 0; i < kP256Lanes; ++i) {
        const bool used = i < signatures.size();
        P256Signature& signature = signatures[used ? i : 0];
        // A lane without work repeats the first one's, with its nonce and digest: the same signature once more, which gives nothing away.
        if (used) have = have && make_nonce(*signature.private_key, signature.digest, nonces[i]);
        ephemeral[i] = words(nonces[used ? i : 0]);
        keys[i] = words(*signature.private_key);
        digests[i] = reinterpret_cast<const int8u*>(signature.digest.data());
        r[i] = reinterpret_cast<int8u*>(used ? signature.r.data() : unused_r.data());
        s[i] = reinterpret_cast<int8u*>(used ? signature.s.data() : unused_s.data());
    }
    const mbx_status status = have ? multi_buffer()->sign_p256(r, s, digests, ephemeral, keys, nullptr) : MBX_SET_STS_ALL(MBX_STATUS_NULL_PARAM_ERR);
    wipe(nonces.data(), sizeof nonces);
    for (std::size_t i = 0; i < signatures.size(); ++i) signatures[i].made = MBX_GET_STS(status, static_cast<int>(i)) == MBX_STATUS_OK;
}

}  // namespace sallyport::crypto
