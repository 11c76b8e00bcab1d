#include "control/policy/catalogue.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "control/certificates/openssl.h"

namespace sallyport::policy {
namespace {

TEST(Catalogue, ListsForOpenSsl_AreInOrderOfTheTables) {
    EXPECT_STREQ(openssl_tls13_suites(), "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
    EXPECT_STREQ(openssl_tls12_suites(),
                 "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
                 "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256");
    EXPECT_STREQ(openssl_server_groups(), "X25519MLKEM768:SecP384r1MLKEM1024/X25519:P-256:P-384");
    EXPECT_STREQ(openssl_client_groups(), "*X25519MLKEM768:SecP384r1MLKEM1024/*X25519:P-256:P-384");
    EXPECT_STREQ(openssl_client_groups(*find_group("P-256")), "X25519MLKEM768:SecP384r1MLKEM1024/X25519:*P-256:P-384");
}

/// The library takes every list whole, and has exactly the suites afterwards, by our ids and in our order.
TEST(Catalogue, OpenSslTakesTheLists) {
    const openssl::Context context(SSL_CTX_new(TLS_method()));
    ASSERT_EQ(SSL_CTX_set_ciphersuites(context.get(), openssl_tls13_suites()), 1);
    ASSERT_EQ(SSL_CTX_set_cipher_list(context.get(), openssl_tls12_suites()), 1);
    EXPECT_EQ(SSL_CTX_set1_groups_list(context.get(), openssl_server_groups()), 1);
    EXPECT_EQ(SSL_CTX_set1_groups_list(context.get(), openssl_client_groups()), 1);
    EXPECT_EQ(SSL_CTX_set1_sigalgs_list(context.get(), openssl_signature_schemes()), 1);
    EXPECT_EQ(SSL_CTX_set1_client_sigalgs_list(context.get(), openssl_signature_schemes()), 1);
    const STACK_OF(SSL_CIPHER)* ciphers = SSL_CTX_get_ciphers(context.get());
    ASSERT_EQ(sk_SSL_CIPHER_num(ciphers), static_cast<int>(kSuites.size()));
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
        const SSL_CIPHER* cipher = sk_SSL_CIPHER_value(ciphers, i);
        EXPECT_EQ(SSL_CIPHER_get_protocol_id(cipher), kSuites[static_cast<std::size_t>(i)].id);
        EXPECT_EQ(SSL_CIPHER_standard_name(cipher), kSuites[static_cast<std::size_t>(i)].name);
        EXPECT_EQ(SSL_CIPHER_get_name(cipher), kSuites[static_cast<std::size_t>(i)].openssl_name);
    }
}

TEST(Catalogue, GroupIds_AreThoseOfOpenSsl) {
    const openssl::Context context(SSL_CTX_new(TLS_method()));
    const openssl::Connection connection(SSL_new(context.get()));
    for (const Group& group : kGroups) {
        const char* name = SSL_group_to_name(connection.get(), TLSEXT_nid_unknown | group.id);
        ASSERT_NE(name, nullptr) << group.name;
        EXPECT_EQ(find_group(std::string_view(name)), &group) << name;
        EXPECT_EQ(find_group(group.id), &group);
    }
}

TEST(Catalogue, Suites_BelongToOneVersion) {
    for (const Suite& suite : kSuites) {
        EXPECT_EQ(find_suite(suite.id), &suite);
        EXPECT_EQ(is_allowed_suite(suite.id, kTls13), suite.version == kTls13);
        EXPECT_EQ(is_allowed_suite(suite.id, kTls12), suite.version == kTls12);
        EXPECT_FALSE(is_allowed_suite(suite.id, 0x0302));
    }
    EXPECT_FALSE(is_allowed_suite(0x009c, kTls12));  // TLS_RSA_WITH_AES_128_GCM_SHA256: no forward secrecy
    EXPECT_FALSE(is_allowed_suite(0x009e, kTls12));  // TLS_DHE_RSA_WITH_AES_128_GCM_SHA256
    EXPECT_FALSE(is_allowed_suite(0xc027, kTls12));  // TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256
    EXPECT_FALSE(is_allowed_suite(0x1304, kTls13));  // TLS_AES_128_CCM_SHA256
    EXPECT_FALSE(is_allowed_suite(0, kTls13));
}

TEST(Catalogue, Groups) {
    EXPECT_TRUE(is_allowed_group(0x11ec, kTls13));
    EXPECT_FALSE(is_allowed_group(0x11ec, kTls12));
    EXPECT_TRUE(is_allowed_group(0x0017, kTls12));
    for (const std::uint16_t banned :
         {0x0100 /* ffdhe2048 */, 0x0015 /* secp224r1 */, 0x001e /* x448 */, 0x0019 /* secp521r1 */, 0})
        EXPECT_FALSE(is_allowed_group(banned, kTls13)) << banned;
    EXPECT_EQ(find_group("x25519"), find_group("X25519"));
    EXPECT_EQ(find_group("secp256r1"), find_group("P-256"));
    EXPECT_EQ(find_group("ffdhe2048"), nullptr);
}

TEST(Catalogue, SignatureSchemes) {
    EXPECT_TRUE(is_allowed_signature_scheme("ecdsa_secp256r1_sha256"));
    EXPECT_TRUE(is_allowed_signature_scheme("rsa_pss_rsae_sha256"));
    EXPECT_FALSE(is_allowed_signature_scheme("rsa_pkcs1_sha256"));
    EXPECT_FALSE(is_allowed_signature_scheme("ecdsa_sha1"));
    EXPECT_FALSE(is_allowed_signature_scheme(""));
    for (const SignatureScheme& scheme : kSignatureSchemes) EXPECT_EQ(find_signature_scheme(scheme.id), &scheme);
    EXPECT_EQ(find_signature_scheme(0x0401), nullptr);  // rsa_pkcs1_sha256
}

TEST(Catalogue, Versions_ByLevel) {
    for (int level = 1; level <= 3; ++level) {
        EXPECT_TRUE(is_allowed_version(kTls13, level, false));
        EXPECT_EQ(is_allowed_version(kTls12, level, false), level < 3);
        EXPECT_TRUE(is_allowed_version(kTls12, level, true));
        EXPECT_FALSE(is_allowed_version(0x0302, level, true));
        EXPECT_FALSE(is_allowed_version(0x0305, level, true));
    }
}

}  // namespace
}  // namespace sallyport::policy
