#include "control/handshake/key_provider.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/hpke.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>

#include <array>
#include <string>
#include <vector>

#include "control/handshake/libssl.h"
#include "tests/unit/control/handshake/harness.h"

namespace sallyport::handshake {
namespace {

using Octets32 = std::array<unsigned char, 32>;
constexpr const char* kOurs = "provider=sallyport";
constexpr const char* kOpenSslsOwn = "provider=default";

openssl::PrivateKey key_of(const char* properties) { return openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, properties, "X25519")); }

const char* provider_of(const EVP_PKEY* key) { return OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key)); }

Octets32 public_octets(const EVP_PKEY* key) {
    Octets32 octets{};
    std::size_t length = octets.size();
    EXPECT_EQ(EVP_PKEY_get_raw_public_key(key, octets.data(), &length), 1);
    EXPECT_EQ(length, octets.size());
    return octets;
}

openssl::PrivateKey public_key(const Octets32& octets, const char* properties) {
    return openssl::PrivateKey(EVP_PKEY_new_raw_public_key_ex(nullptr, "X25519", properties, octets.data(), octets.size()));
}

/// Empty where the agreement is refused.
std::vector<unsigned char> agreed(EVP_PKEY* own, EVP_PKEY* peer) {
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, own, nullptr));
    std::size_t length = 0;
    if (EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), peer) != 1 || EVP_PKEY_derive(context.get(), nullptr, &length) != 1) return {};
    std::vector<unsigned char> secret(length);
    if (EVP_PKEY_derive(context.get(), secret.data(), &length) != 1) secret.clear();
    return secret;
}

TEST(KeyProvider, X25519WithoutProperties_IsOursAndP256IsOpenSsls) {
    EXPECT_STREQ(provider_of(key_of(nullptr).get()), "sallyport");
    EXPECT_STREQ(provider_of(openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")).get()), "default");
    EXPECT_STREQ(provider_of(openssl::PrivateKey(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")).get()), "default");
}

TEST(KeyProvider, OursAndOpenSslsOwn_AgreeOnOneSecret) {
    for (int round = 0; round < 50; ++round) {
        const auto ours = key_of(kOurs), theirs = key_of(kOpenSslsOwn);
        ASSERT_STREQ(provider_of(ours.get()), "sallyport");
        ASSERT_STREQ(provider_of(theirs.get()), "default");
        const auto here = agreed(ours.get(), public_key(public_octets(theirs.get()), kOurs).get());
        EXPECT_EQ(here.size(), 32U);
        EXPECT_EQ(here, agreed(theirs.get(), public_key(public_octets(ours.get()), kOpenSslsOwn).get()));
        // Keys of one provider in an agreement of the other.
        EXPECT_EQ(here, agreed(ours.get(), theirs.get()));
        EXPECT_EQ(here, agreed(theirs.get(), ours.get()));
    }
}

TEST(KeyProvider, PeerOfSmallOrder_NoSecret) {   // RFC 8446 7.4.2
    Octets32 one{1};
    EXPECT_TRUE(agreed(key_of(kOurs).get(), public_key(one, kOurs).get()).empty());
    ERR_clear_error();
}

TEST(KeyProvider, KeyOfWrongLength_IsRefused) {
    const Octets32 octets{9};
    EXPECT_EQ(EVP_PKEY_new_raw_public_key_ex(nullptr, "X25519", kOurs, octets.data(), octets.size() - 1), nullptr);
    EXPECT_EQ(EVP_PKEY_new_raw_private_key_ex(nullptr, "X25519", kOurs, octets.data(), octets.size() - 1), nullptr);
    const auto key = key_of(kOurs);
    EXPECT_NE(EVP_PKEY_set1_encoded_public_key(key.get(), octets.data(), octets.size() - 1), 1);
    ERR_clear_error();
}

TEST(KeyProvider, PeersShareInPlaceOfAKey_TakesThePrivateOneAway) {
    const auto key = key_of(kOurs), peer = key_of(kOurs);
    const Octets32 octets = public_octets(peer.get());
    ASSERT_EQ(EVP_PKEY_set1_encoded_public_key(key.get(), octets.data(), octets.size()), 1);
    EXPECT_EQ(public_octets(key.get()), octets);
    EXPECT_TRUE(agreed(key.get(), peer.get()).empty());
    ERR_clear_error();
}

TEST(KeyProvider, KeyFile_IsWrittenAndReadBack) {
    const auto key = key_of(kOurs);
    const openssl::Bio file(BIO_new(BIO_s_mem()));
    ASSERT_EQ(PEM_write_bio_PrivateKey(file.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
    const openssl::PrivateKey again(PEM_read_bio_PrivateKey(file.get(), nullptr, nullptr, nullptr));
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(EVP_PKEY_eq(key.get(), again.get()), 1);
    EXPECT_EQ(EVP_PKEY_eq(key.get(), key_of(kOurs).get()), 0);
    const auto peer = key_of(kOpenSslsOwn);
    EXPECT_EQ(agreed(key.get(), peer.get()), agreed(again.get(), peer.get()));
}

TEST(KeyProvider, KeyThatIsDerived_IsNeverARandomOne) {   // RFC 9180 4.1: DeriveKeyPair
    std::array<unsigned char, 32> material{1, 2, 3};
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_DHKEM_IKM, material.data(), material.size()), OSSL_PARAM_construct_end()};
    const auto derived = [&](const char* properties) {
        const openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "X25519", properties));
        EVP_PKEY* made = nullptr;
        if (EVP_PKEY_keygen_init(context.get()) != 1 || EVP_PKEY_CTX_set_params(context.get(), params) != 1 || EVP_PKEY_generate(context.get(), &made) != 1) return openssl::PrivateKey();
        return openssl::PrivateKey(made);
    };
    EXPECT_EQ(derived(kOurs), nullptr);
    const auto one = derived(kOpenSslsOwn), other = derived(kOpenSslsOwn);
    ASSERT_NE(one, nullptr);
    EXPECT_EQ(public_octets(one.get()), public_octets(other.get()));
    ERR_clear_error();
}

TEST(KeyProvider, Hpke_SealsAndOpens) {   // what ECH is made of (RFC 9849 5)
    OSSL_HPKE_SUITE suite = OSSL_HPKE_SUITE_DEFAULT;
    std::array<unsigned char, 64> public_octets_of_receiver{};
    std::size_t public_length = public_octets_of_receiver.size();
    EVP_PKEY* made = nullptr;
    ASSERT_EQ(OSSL_HPKE_keygen(suite, public_octets_of_receiver.data(), &public_length, &made, nullptr, 0, nullptr, nullptr), 1);
    const openssl::PrivateKey receiver(made);
    const openssl::Owner<OSSL_HPKE_CTX, OSSL_HPKE_CTX_free> sealing(OSSL_HPKE_CTX_new(OSSL_HPKE_MODE_BASE, suite, OSSL_HPKE_ROLE_SENDER, nullptr, nullptr)),
        opening(OSSL_HPKE_CTX_new(OSSL_HPKE_MODE_BASE, suite, OSSL_HPKE_ROLE_RECEIVER, nullptr, nullptr));
    std::array<unsigned char, 64> encapsulated{}, sealed{}, opened{};
    std::size_t encapsulated_length = encapsulated.size(), sealed_length = sealed.size(), opened_length = opened.size();
    const std::string text = "inner ClientHello";
    ASSERT_EQ(OSSL_HPKE_encap(sealing.get(), encapsulated.data(), &encapsulated_length, public_octets_of_receiver.data(), public_length, nullptr, 0), 1);
    ASSERT_EQ(OSSL_HPKE_seal(sealing.get(), sealed.data(), &sealed_length, nullptr, 0, reinterpret_cast<const unsigned char*>(text.data()), text.size()), 1);
    ASSERT_EQ(OSSL_HPKE_decap(opening.get(), encapsulated.data(), encapsulated_length, receiver.get(), nullptr, 0), 1);
    ASSERT_EQ(OSSL_HPKE_open(opening.get(), opened.data(), &opened_length, nullptr, 0, sealed.data(), sealed_length), 1);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(opened.data()), opened_length), text);
}

}  // namespace
}  // namespace sallyport::handshake
