#include "crypto/cipher_suite.h"

#include <gtest/gtest.h>

namespace sallyport::crypto {
namespace {

TEST(CipherSuite, EveryWireId_IsFoundOnlyWhenOfTheCatalogue) {
    int found = 0;
    for (unsigned id = 0; id <= 0xffff; ++id) {
        const CipherSuite* suite = find_cipher_suite(static_cast<std::uint16_t>(id));
        if (suite == nullptr) continue;
        ++found;
        EXPECT_EQ(suite->id, id);
    }
    EXPECT_EQ(found, 9);
    EXPECT_EQ(find_cipher_suite(0x009c), nullptr);  // TLS_RSA_WITH_AES_128_GCM_SHA256: no forward secrecy
    EXPECT_EQ(find_cipher_suite(0x1304), nullptr);  // TLS_AES_128_CCM_SHA256
}

TEST(CipherSuite, NamesAgreeWithAeadAndHash) {
    for (const unsigned id : {0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9}) {
        const CipherSuite* suite = find_cipher_suite(static_cast<std::uint16_t>(id));
        ASSERT_NE(suite, nullptr);
        const std::string_view name = suite->name;
        EXPECT_EQ(name.contains("AES_128_GCM"), suite->aead == Aead::aes_128_gcm) << name;
        EXPECT_EQ(name.contains("AES_256_GCM"), suite->aead == Aead::aes_256_gcm) << name;
        EXPECT_EQ(name.contains("CHACHA20_POLY1305"), suite->aead == Aead::chacha20_poly1305) << name;
        EXPECT_EQ(name.ends_with("SHA384"), suite->hash == Hash::sha384) << name;
        EXPECT_EQ(name.starts_with("TLS_ECDHE_"), suite->version == Version::tls12) << name;
    }
}

}  // namespace
}  // namespace sallyport::crypto
