#include "control/certificates/certificate_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>

#include "control/policy/key_strength.h"
#include "tests/certificates.h"

namespace sallyport::certificates {
namespace {

using test::CertificateOptions;
using test::Identity;
using test::Key;
using testing::ElementsAre;
using testing::HasSubstr;

std::string text(const std::vector<Problem>& problems) {
    std::string all;
    for (const Problem& problem : problems)
        all += problem.file.filename().string() + ": " + problem.wrong + "; " + problem.right + " [" +
               problem.requirement + "]\n";
    return all;
}

class CertificateChainTest : public testing::Test {
 protected:
    std::expected<CertificateChain, std::vector<Problem>> load(const Identity& identity, int level = 2) {
        identity.write(directory_.path(), "leaf");
        return load_certificate_chain(directory_.path() / "leaf.pem", directory_.path() / "leaf.key", level, now_);
    }
    /// What is wrong with the identity; empty when nothing is.
    std::string problems(const Identity& identity, int level = 2) {
        const auto chain = load(identity, level);
        return chain ? "" : text(chain.error());
    }
    std::string anchor_problems(const std::string& pem, int level = 2) {
        const auto anchors = load_trust_anchors(directory_.write("anchors.pem", pem), level, now_);
        return anchors ? "" : text(anchors.error());
    }

    test::TemporaryDirectory directory_;
    std::chrono::system_clock::time_point now_ = std::chrono::system_clock::now();
    Identity root_ = test::make_ca("Root");
    Identity intermediate_ = test::make_ca("Intermediate", &root_);
};

TEST_F(CertificateChainTest, GoodChain_IsLoadedWithoutItsRoot) {
    Identity identity =
        test::make_leaf({"WWW.example.org", "*.example.net", "192.0.2.1", "2001:db8::1"}, intermediate_);
    identity.chain.push_back(openssl::share(root_.certificate.get()));
    const auto chain = load(identity);
    ASSERT_TRUE(chain) << text(chain.error());
    EXPECT_EQ(chain->intermediates.size(), 1u);
    EXPECT_THAT(chain->names, ElementsAre("www.example.org", "*.example.net", "192.0.2.1", "2001:db8::1"));
    EXPECT_EQ(chain->key_type, "ECDSA P-256");
    EXPECT_TRUE(chain->ecdsa);
    EXPECT_EQ(chain->subject(), "CN=WWW.example.org");
    EXPECT_NE(chain->key, nullptr);
    const auto days = std::chrono::duration_cast<std::chrono::hours>(chain->not_after - now_).count() / 24;
    EXPECT_GE(days, 29);
    EXPECT_LE(days, 30);
    EXPECT_TRUE(chain->covers("www.EXAMPLE.org"));
    EXPECT_TRUE(chain->covers("a.example.net"));
    EXPECT_TRUE(chain->covers("2001:DB8:0::1"));
    EXPECT_FALSE(chain->covers("example.net"));
    EXPECT_FALSE(chain->covers("192.0.2.2"));
}

TEST_F(CertificateChainTest, KeyTypeAndLevel_DecideWhetherTheKeyIsStrongEnough) {
    struct Row {
        Key key;
        int strictest;  ///< level that still takes it; 0: none
    };
    for (const Row& row : {Row{Key::rsa1024, 0}, Row{Key::rsa2048, 1}, Row{Key::rsa3072, 2}, Row{Key::p224, 0},
                           Row{Key::p256, 3}, Row{Key::p384, 3}, Row{Key::p521, 2}, Row{Key::ed25519, 2}}) {
        const Identity identity = test::make_leaf({"a.example"}, intermediate_, row.key);
        for (int level = 1; level <= 3; ++level) {
            const std::string found = problems(identity, level);
            if (level <= row.strictest)
                EXPECT_EQ(found, "") << level;
            else
                EXPECT_THAT(found, HasSubstr("leaf.pem: the certificate has the key type " +
                                             policy::key_name(identity.key.get())))
                    << level;
            EXPECT_EQ(found.contains("[9.4.1 (12.1.2)]"), level > row.strictest);
        }
    }
}

TEST_F(CertificateChainTest, KeyOfAnother_IsRefused) {
    Identity identity = test::make_leaf({"a.example"}, intermediate_);
    identity.key = test::make_key(Key::p256);
    EXPECT_THAT(problems(identity), HasSubstr("leaf.key: is not the key of the certificate"));
}

TEST_F(CertificateChainTest, KeyFileThatOthersCanRead_IsRefused) {
    const Identity identity = test::make_leaf({"a.example"}, intermediate_);
    identity.write(directory_.path(), "leaf");
    for (const unsigned mode : {0640u, 0604u, 0620u}) {
        const auto key = directory_.write("open.key", identity.key_pem(), mode);
        const auto chain = load_certificate_chain(directory_.path() / "leaf.pem", key, 2, now_);
        ASSERT_FALSE(chain);
        EXPECT_THAT(text(chain.error()),
                    HasSubstr("so that others than its owner have access to the private key; mode 0600 or 0400"));
    }
}

TEST_F(CertificateChainTest, EncryptedKey_IsRefusedWithoutAskingForAPassword) {
    const Identity identity = test::make_leaf({"a.example"}, intermediate_);
    identity.write(directory_.path(), "leaf");
    const openssl::Bio bio(BIO_new(BIO_s_mem()));
    const unsigned char password[] = "secret";
    ASSERT_EQ(PEM_write_bio_PrivateKey(bio.get(), identity.key.get(), EVP_aes_256_cbc(), password, 6, nullptr, nullptr),
              1);
    char* begin = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &begin);
    const auto key = directory_.write("encrypted.key", std::string(begin, static_cast<std::size_t>(length)), 0600);
    const auto chain = load_certificate_chain(directory_.path() / "leaf.pem", key, 2, now_);
    ASSERT_FALSE(chain);
    EXPECT_THAT(text(chain.error()),
                HasSubstr("encrypted.key: is encrypted, and nobody is there to type its password"));
}

TEST_F(CertificateChainTest, OutOfDate_IsRefused) {
    CertificateOptions options{.names = {"a.example"}, .not_before_days = -9, .not_after_days = -1};
    EXPECT_THAT(problems(test::make_identity(options, &intermediate_)), HasSubstr("the certificate expired at 2"));
    options.not_before_days = 2;
    options.not_after_days = 9;
    EXPECT_THAT(problems(test::make_identity(options, &intermediate_)),
                HasSubstr("the certificate is not valid before 2"));
}

TEST_F(CertificateChainTest, ExpiredIntermediate_IsNamed) {
    const CertificateOptions options{.common_name = "Old", .ca = true, .not_before_days = -9, .not_after_days = -1};
    const Identity old = test::make_identity(options, &root_);
    EXPECT_THAT(problems(test::make_leaf({"a.example"}, old)),
                HasSubstr("certificate 2 in the file (CN=Old) expired at"));
}

TEST_F(CertificateChainTest, NoSubjectAltName_IsRefused) {
    EXPECT_THAT(problems(test::make_leaf({}, intermediate_)), HasSubstr("has no subjectAltName"));
}

TEST_F(CertificateChainTest, NotForServers_IsRefused) {
    CertificateOptions options{.names = {"a.example"}, .extended_key_usage = "clientAuth"};
    EXPECT_THAT(problems(test::make_identity(options, &intermediate_)), HasSubstr("lacks serverAuth"));
    options.extended_key_usage.clear();
    EXPECT_THAT(problems(test::make_identity(options, &intermediate_)), HasSubstr("lacks serverAuth"));
}

TEST_F(CertificateChainTest, CertificationAuthorityAsLeaf_IsRefused) {
    EXPECT_THAT(problems(intermediate_), HasSubstr("is one of a certification authority"));
}

TEST_F(CertificateChainTest, ChainInWrongOrder_IsRefused) {
    const Identity lower = test::make_ca("Lower", &intermediate_);
    Identity identity = test::make_leaf({"a.example"}, lower);
    EXPECT_EQ(problems(identity), "");
    std::swap(identity.chain[0], identity.chain[1]);
    EXPECT_THAT(problems(identity),
                HasSubstr("certificate 2 in the file (CN=Intermediate) has not signed the one before it"));
}

TEST_F(CertificateChainTest, IntermediateOfTheSameNameWithAnotherKey_IsRefused) {
    Identity identity = test::make_leaf({"a.example"}, intermediate_);
    CertificateOptions options{.common_name = "Intermediate", .ca = true};
    identity.chain[0] = std::move(test::make_identity(options, &root_).certificate);
    EXPECT_THAT(problems(identity), HasSubstr("has not signed the one before it"));
}

TEST_F(CertificateChainTest, ForgedSignature_IsRefused) {
    Identity identity = test::make_leaf({"a.example"}, intermediate_);
    unsigned char* der = nullptr;
    const int length = i2d_X509(identity.certificate.get(), &der);
    ASSERT_GT(length, 0);
    der[length - 1] ^= 1;  // the signature is what a certificate ends with
    const unsigned char* begin = der;
    identity.certificate.reset(d2i_X509(nullptr, &begin, length));
    OPENSSL_free(der);
    ASSERT_NE(identity.certificate, nullptr);
    EXPECT_THAT(problems(identity),
                HasSubstr("certificate 2 in the file (CN=Intermediate) has not signed the one before it"));
}

TEST_F(CertificateChainTest, SignatureWithSha1_IsRefused) {
    const CertificateOptions options{.names = {"a.example"}, .digest = "SHA1"};
    const std::string found = problems(test::make_identity(options, &intermediate_), 1);
    EXPECT_THAT(found, HasSubstr("the certificate is signed with ecdsa-with-SHA1"));
    EXPECT_THAT(found, HasSubstr("[9.4.1 (12.1.2)]"));
}

TEST_F(CertificateChainTest, SignaturesOfRsaAndEd25519Issuers_AreAccepted) {
    for (const Key key : {Key::rsa2048, Key::ed25519, Key::p384}) {
        const Identity issuer = test::make_ca("Issuer", &root_, key);
        EXPECT_EQ(problems(test::make_leaf({"a.example"}, issuer), 3), "");
    }
}

TEST_F(CertificateChainTest, WeakIntermediate_IsRefused) {
    const Identity weak = test::make_ca("Weak", &root_, Key::rsa1024);
    EXPECT_THAT(problems(test::make_leaf({"a.example"}, weak), 1),
                HasSubstr("certificate 2 in the file (CN=Weak) has the key type RSA 1024"));
}

TEST_F(CertificateChainTest, UnreadableFiles_AreSaidBothAtOnce) {
    directory_.write("not.pem", "hello");
    const auto chain = load_certificate_chain(directory_.path() / "not.pem", directory_.path() / "none.key", 2, now_);
    ASSERT_FALSE(chain);
    EXPECT_EQ(text(chain.error()),
              "not.pem: has no certificate in it; PEM: -----BEGIN CERTIFICATE----- []\n"
              "none.key: cannot be read: No such file or directory; a PEM file with the private key []\n");
    EXPECT_THAT(text(load_certificate_chain(directory_.path(), directory_.path(), 2, now_).error()),
                HasSubstr("is a directory"));
}

TEST_F(CertificateChainTest, DamagedCertificate_IsNotSkipped) {
    std::string pem = test::make_leaf({"a.example"}, intermediate_).certificate_pem();
    const auto second = pem.rfind("-----BEGIN CERTIFICATE-----");
    pem.replace(second + 40, 8, "!!!!!!!!");
    directory_.write("leaf.pem", pem);
    const auto chain = load_certificate_chain(directory_.path() / "leaf.pem", directory_.path() / "none.key", 2, now_);
    ASSERT_FALSE(chain);
    EXPECT_THAT(text(chain.error()), HasSubstr("has a damaged certificate, number 2 in the file"));
}

TEST_F(CertificateChainTest, TrustAnchors_AreRead) {
    const auto anchors = load_trust_anchors(
        directory_.write("both.pem", root_.certificate_pem() + intermediate_.certificate_pem()), 2, now_);
    ASSERT_TRUE(anchors) << text(anchors.error());
    EXPECT_EQ(anchors->size(), 2u);
}

TEST_F(CertificateChainTest, TrustAnchorSignedWithSha1_IsAccepted) {
    const CertificateOptions options{.common_name = "Old root", .ca = true, .digest = "SHA1"};
    EXPECT_EQ(anchor_problems(test::make_identity(options).certificate_pem()), "");
}

TEST_F(CertificateChainTest, BadTrustAnchors_AreRefused) {
    EXPECT_THAT(anchor_problems(""), HasSubstr("anchors.pem: is empty"));
    EXPECT_THAT(anchor_problems("hello"), HasSubstr("has no certificate in it"));
    const std::string leaf = test::make_leaf({"a.example"}, intermediate_).certificate_pem();
    EXPECT_THAT(anchor_problems(leaf, 1), HasSubstr("(CN=a.example) is not one of a certification authority; "
                                                    "certificates with basicConstraints CA [9.2.6 (12.3.2)]"));
    EXPECT_THAT(anchor_problems(leaf, 2), HasSubstr("[9.3.2 (12.3.4)]"));
    const CertificateOptions old{.common_name = "Old", .ca = true, .not_before_days = -9, .not_after_days = -1};
    EXPECT_THAT(anchor_problems(test::make_identity(old).certificate_pem()), HasSubstr("(CN=Old) expired at"));
    EXPECT_THAT(anchor_problems(test::make_ca("Weak", nullptr, Key::rsa1024).certificate_pem()),
                HasSubstr("(CN=Weak) has the key type RSA 1024"));
}

TEST(NameCovers, FollowsRfc9525) {
    EXPECT_TRUE(name_covers("a.example.org", "A.Example.ORG"));
    EXPECT_TRUE(name_covers("a.example.org", "a.example.org."));
    EXPECT_TRUE(name_covers("*.example.org", "a.example.org"));
    EXPECT_FALSE(name_covers("*.example.org", "example.org"));
    EXPECT_FALSE(name_covers("*.example.org", "a.b.example.org"));
    EXPECT_FALSE(name_covers("*.example.org", ".example.org"));
    EXPECT_FALSE(name_covers("*.example.org", "*.example.org"));
    EXPECT_FALSE(name_covers("w*.example.org", "www.example.org"));
    EXPECT_FALSE(name_covers("*.*.org", "a.b.org"));
    EXPECT_FALSE(name_covers("*", "org"));
    EXPECT_FALSE(name_covers("*.0.2.1", "192.0.2.1"));
    EXPECT_TRUE(name_covers("2001:db8::1", "2001:db8:0:0::1"));
    EXPECT_FALSE(name_covers("a.example.org", ""));
}

TEST(ErrorQueue, IsEmptiedIntoOneLine) {
    ERR_clear_error();
    EXPECT_EQ(openssl::error_queue(), "no reason given");
    ERR_raise(ERR_LIB_PEM, PEM_R_NO_START_LINE);
    ERR_raise(ERR_LIB_X509, X509_R_KEY_VALUES_MISMATCH);
    EXPECT_EQ(openssl::error_queue(), "no start line (PEM routines); key values mismatch (x509 certificate routines)");
    EXPECT_EQ(ERR_peek_error(), 0u);
}

}  // namespace
}  // namespace sallyport::certificates
