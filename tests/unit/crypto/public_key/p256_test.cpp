#include "crypto/public_key/p256.h"

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "crypto/public_key/multi_buffer.h"

namespace sallyport::crypto {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

unsigned char* raw(P256Octets& octets) { return reinterpret_cast<unsigned char*>(octets.data()); }
const unsigned char* raw(const P256Octets& octets) { return reinterpret_cast<const unsigned char*>(octets.data()); }

P256Scalar scalar_of(const P256Octets& octets) {
    P256Scalar scalar{};
    to_scalar(octets, scalar);
    return scalar;
}

P256Octets private_octets(const EVP_PKEY* key) {
    BIGNUM* number = nullptr;
    EXPECT_EQ(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &number), 1);
    P256Octets octets{};
    EXPECT_EQ(BN_bn2binpad(number, raw(octets), static_cast<int>(octets.size())), static_cast<int>(octets.size()));
    BN_clear_free(number);
    return octets;
}

bool verified_by_openssl(EVP_PKEY* key, const P256Signature& signature) {
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> pair(ECDSA_SIG_new(), ECDSA_SIG_free);
    ECDSA_SIG_set0(pair.get(), BN_bin2bn(raw(signature.r), 32, nullptr), BN_bin2bn(raw(signature.s), 32, nullptr));
    unsigned char* der = nullptr;
    const int length = i2d_ECDSA_SIG(pair.get(), &der);
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(key, nullptr), EVP_PKEY_CTX_free);
    EVP_PKEY_verify_init(context.get());
    const bool good = EVP_PKEY_verify(context.get(), der, static_cast<std::size_t>(length), raw(signature.digest), signature.digest.size()) == 1;
    OPENSSL_free(der);
    return good;
}

class P256 : public testing::Test {
 protected:
    void SetUp() override {
        if (multi_buffer() == nullptr) GTEST_SKIP() << "this processor has no AVX-512 IFMA";
    }
};

TEST_F(P256, EveryNumberOfSignatures_OpenSslVerifiesEachAndNoOther) {
    for (std::size_t count = 1; count <= kP256Lanes; ++count) {
        std::vector<Key> keys;
        std::vector<P256Scalar> scalars;
        std::vector<P256Signature> signatures(count);
        for (std::size_t i = 0; i < count; ++i) {
            keys.emplace_back(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), EVP_PKEY_free);
            scalars.push_back(scalar_of(private_octets(keys.back().get())));
            RAND_bytes(raw(signatures[i].digest), 32);
        }
        for (std::size_t i = 0; i < count; ++i) signatures[i].private_key = &scalars[i];
        sign_p256(signatures);
        for (std::size_t i = 0; i < count; ++i) {
            EXPECT_TRUE(signatures[i].made);
            EXPECT_TRUE(verified_by_openssl(keys[i].get(), signatures[i])) << i << " of " << count;
            signatures[i].digest[0] ^= std::byte{1};
            EXPECT_FALSE(verified_by_openssl(keys[i].get(), signatures[i]));
        }
    }
}

TEST_F(P256, DigestsThatTheLibraryRefuses_AreToldAndOthersBesideThemAreSigned) {
    const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), EVP_PKEY_free);
    const P256Scalar scalar = scalar_of(private_octets(key.get()));
    std::array<P256Signature, 3> signatures{};
    for (auto& signature : signatures) signature.private_key = &scalar;
    signatures[0].digest.fill(std::byte{0});
    signatures[1].digest.fill(std::byte{0xff});   // not below the order
    signatures[2].digest.fill(std::byte{0x5a});
    sign_p256(signatures);
    EXPECT_FALSE(signatures[0].made);
    EXPECT_FALSE(signatures[1].made);
    EXPECT_TRUE(signatures[2].made);
    EXPECT_TRUE(verified_by_openssl(key.get(), signatures[2]));
}

TEST_F(P256, SmallestAndLargestKey_Sign) {
    P256Octets one{}, largest{};
    one.back() = std::byte{1};
    const unsigned char order_less_one[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                            0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x50};
    std::copy_n(order_less_one, 32, raw(largest));
    std::array<P256Signature, 2> signatures{};
    const P256Scalar first = scalar_of(one), second = scalar_of(largest);
    for (auto& signature : signatures) signature.digest.fill(std::byte{0x5a});
    signatures[0].private_key = &first;
    signatures[1].private_key = &second;
    sign_p256(signatures);
    EXPECT_TRUE(signatures[0].made && signatures[1].made);
}

TEST_F(P256, SameMessageAndKey_NoNonceComesTwice) {
    const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), EVP_PKEY_free);
    const P256Scalar scalar = scalar_of(private_octets(key.get()));
    std::set<P256Octets> seen;   // r is the nonce's image
    for (int round = 0; round < 100; ++round) {
        std::array<P256Signature, kP256Lanes> signatures{};
        for (auto& signature : signatures) {
            signature.private_key = &scalar;
            signature.digest.fill(std::byte{0x5a});
        }
        sign_p256(signatures);
        for (const auto& signature : signatures) EXPECT_TRUE(seen.insert(signature.r).second);
    }
}

TEST(P256Scalar, Octets_BecomeWordsFromTheEnd) {
    P256Octets octets{};
    octets[31] = std::byte{0x01};
    octets[24] = std::byte{0x80};
    octets[0] = std::byte{0x7f};
    EXPECT_EQ(scalar_of(octets), (P256Scalar{0x8000000000000001, 0, 0, 0x7f00000000000000}));
}

}  // namespace
}  // namespace sallyport::crypto
