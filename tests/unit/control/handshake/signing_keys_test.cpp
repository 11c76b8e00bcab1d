#include "control/handshake/signing_keys.h"

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

#include <map>
#include <string>
#include <vector>

#include "control/handshake/libssl.h"
#include "control/handshake/operation_batch.h"
#include "crypto/format.h"
#include "crypto/public_key/multi_buffer.h"

namespace sallyport::handshake {
namespace {

using Octets = std::vector<unsigned char>;
using DigestContext = openssl::Owner<EVP_MD_CTX, EVP_MD_CTX_free>;

openssl::PrivateKey p256() { return openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")); }

/// Made once a length: that takes long.
EVP_PKEY* rsa(std::size_t bits) {
    static std::map<std::size_t, openssl::PrivateKey> keys;
    auto& key = keys[bits];
    if (!key) key.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", bits));
    return key.get();
}

/// As libssl signs; `pss`: with RSA's. Empty: refused.
Octets sign(EVP_PKEY* key, const char* digest, const std::string& message, bool pss) {
    const DigestContext context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* settings = nullptr;
    std::size_t length = 0;
    const auto* octets = reinterpret_cast<const unsigned char*>(message.data());
    if (EVP_DigestSignInit_ex(context.get(), &settings, digest, nullptr, nullptr, key, nullptr) != 1) return {};
    if (pss && (EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) != 1 || EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) != 1)) return {};
    if (EVP_DigestSign(context.get(), nullptr, &length, octets, message.size()) != 1) return {};
    Octets signature(length);
    if (EVP_DigestSign(context.get(), signature.data(), &length, octets, message.size()) != 1) return {};
    signature.resize(length);
    return signature;
}

bool verified(EVP_PKEY* key, const char* digest, const std::string& message, bool pss, const Octets& signature) {
    const DigestContext context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* settings = nullptr;
    if (EVP_DigestVerifyInit_ex(context.get(), &settings, digest, nullptr, nullptr, key, nullptr) != 1) return false;
    if (pss && (EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) != 1 || EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) != 1)) return false;
    return EVP_DigestVerify(context.get(), signature.data(), signature.size(), reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1;
}

struct Kind {
    const char* name;
    std::size_t rsa_bits;   ///< 0: P-256
    const char* digest;
};

class SigningKeys : public testing::TestWithParam<Kind> {
 protected:
    void SetUp() override {
        if (crypto::multi_buffer() == nullptr) GTEST_SKIP() << "this processor has no AVX-512 IFMA";
        own_ = GetParam().rsa_bits == 0 ? p256() : openssl::share(rsa(GetParam().rsa_bits));
        key_ = signing_key(own_.get());
        ASSERT_NE(key_.get(), own_.get());
    }
    [[nodiscard]] bool pss() const { return GetParam().rsa_bits != 0; }
    void expect_good(const std::string& message, const Octets& signature) {
        EXPECT_FALSE(signature.empty());
        EXPECT_TRUE(verified(own_.get(), GetParam().digest, message, pss(), signature)) << message;
        EXPECT_FALSE(verified(own_.get(), GetParam().digest, message + "!", pss(), signature));
        ERR_clear_error();
    }
    openssl::PrivateKey own_, key_;
};

TEST_P(SigningKeys, Alone_OpenSslVerifiesIt) { expect_good("alone", sign(key_.get(), GetParam().digest, "alone", pss())); }

TEST_P(SigningKeys, AnyNumberTogether_OpenSslVerifiesEach) {
    OperationBatch batch;
    for (std::size_t count = 1; count <= OperationBatch::kMost; ++count) {
        std::vector<Octets> signatures(count);
        for (std::size_t i = 0; i < count; ++i) batch.run(i, [&, i] { signatures[i] = sign(key_.get(), GetParam().digest, sallyport::format("message {} of {}", i, count), pss()); });
        EXPECT_EQ(batch.waiting(), count);
        batch.finish();
        for (std::size_t i = 0; i < count; ++i) expect_good(sallyport::format("message {} of {}", i, count), signatures[i]);
    }
    // Below a number that depends on the kind they are OpenSSL's, each alone.
    const std::size_t least = pss() ? 5 : 3;
    EXPECT_EQ(batch.counts().calls, OperationBatch::kMost - least + 1);
}

TEST_P(SigningKeys, KeyForItsCertificate_IsTheSame) {
    const openssl::PrivateKey other = GetParam().rsa_bits == 0 ? p256() : openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048}));
    EXPECT_EQ(EVP_PKEY_eq(own_.get(), key_.get()), 1);
    EXPECT_EQ(EVP_PKEY_eq(key_.get(), own_.get()), 1);
    EXPECT_NE(EVP_PKEY_eq(other.get(), key_.get()), 1);
    EXPECT_EQ(EVP_PKEY_get_bits(key_.get()), EVP_PKEY_get_bits(own_.get()));
    EXPECT_EQ(EVP_PKEY_get_size(key_.get()), EVP_PKEY_get_size(own_.get()));
    EXPECT_EQ(EVP_PKEY_get_base_id(key_.get()), EVP_PKEY_get_base_id(own_.get()));
    ERR_clear_error();
}

TEST_P(SigningKeys, PrivatePart_IsNotGivenOut) {
    const openssl::Bio file(BIO_new(BIO_s_mem()));
    EXPECT_NE(PEM_write_bio_PrivateKey(file.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
    OSSL_PARAM* params = nullptr;
    EXPECT_NE(EVP_PKEY_todata(key_.get(), EVP_PKEY_KEYPAIR, &params), 1);
    ERR_clear_error();
}

INSTANTIATE_TEST_SUITE_P(Kinds, SigningKeys,
                         testing::Values(Kind{"P256", 0, "SHA256"}, Kind{"Rsa2048", 2048, "SHA256"}, Kind{"Rsa2048Sha512", 2048, "SHA512"}, Kind{"Rsa3072", 3072, "SHA384"},
                                         Kind{"Rsa4096", 4096, "SHA256"}),
                         [](const auto& kind) { return kind.param.name; });

TEST(SigningKey, OfAnotherKind_IsItself) {
    for (const auto& key : {openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-384")), openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")),
                            openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2560}))}) {
        EXPECT_EQ(signing_key(key.get()).get(), key.get());
        EXPECT_EQ(ERR_peek_error(), 0UL);
    }
}

TEST(SigningKey, SignatureOverAnotherDigestThanItsCurves_IsOpenSsls) {
    const auto own = p256(), key = signing_key(own.get());
    OperationBatch batch;
    std::vector<Octets> signatures(OperationBatch::kMost);
    for (std::size_t i = 0; i < signatures.size(); ++i) batch.run(i, [&, i] { signatures[i] = sign(key.get(), "SHA384", "message", false); });
    batch.finish();
    for (const Octets& signature : signatures) EXPECT_TRUE(verified(own.get(), "SHA384", "message", false, signature));
    EXPECT_EQ(batch.counts().operations, 0U);
}

TEST(SigningKey, KeysOfOtherUses_AreOpenSslsOwn) {   // an EC key that nobody has asked for from us
    const openssl::Bio file(BIO_new(BIO_s_mem()));
    ASSERT_EQ(PEM_write_bio_PrivateKey(file.get(), p256().get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
    const openssl::PrivateKey read(PEM_read_bio_PrivateKey(file.get(), nullptr, nullptr, nullptr));
    EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(read.get())), "default");
    EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(rsa(2048))), "default");
}

}  // namespace
}  // namespace sallyport::handshake
