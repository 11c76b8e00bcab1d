#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "control/certificates/certificate_chain.h"
#include "control/certificates/request.h"
#include "tests/certificates.h"

namespace sallyport::certificates {
namespace {

using test::Identity;
using testing::ElementsAre;
using testing::HasSubstr;

std::string text_of(const openssl::Bio& bio) {
    char* begin = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &begin);
    return {begin, static_cast<std::size_t>(length)};
}

std::string contents(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

class LoaderTest : public testing::Test {
 protected:
    std::string pkcs12(const Identity& identity, const char* passphrase, bool backwards = false) {
        STACK_OF(X509)* chain = sk_X509_new_null();
        for (const auto& certificate : identity.chain) sk_X509_insert(chain, certificate.get(), backwards ? 0 : -1);
        const openssl::Owner<PKCS12, PKCS12_free> made(
            PKCS12_create(passphrase, "name", identity.key.get(), identity.certificate.get(), chain, 0, 0, 0, 0, 0));
        sk_X509_free(chain);
        const openssl::Bio bio(BIO_new(BIO_s_mem()));
        EXPECT_EQ(i2d_PKCS12_bio(bio.get(), made.get()), 1);
        return text_of(bio);
    }
    std::string encrypted(const Identity& identity) {
        const openssl::Bio bio(BIO_new(BIO_s_mem()));
        EXPECT_EQ(PEM_write_bio_PKCS8PrivateKey(bio.get(), identity.key.get(), EVP_aes_256_cbc(), "secret", 6, nullptr, nullptr), 1);
        return text_of(bio);
    }
    Loaded load(const Files& files, Purpose purpose = Purpose::server, Ask ask = {}) {
        Loader loader({.now = std::chrono::system_clock::now(), .ask = std::move(ask)});
        return loader.load(files, purpose);
    }
    static std::string text(const Loaded& loaded) {
        std::string all;
        for (const Problem& problem : loaded.problems) all += problem.wrong + "; " + problem.right + "\n";
        return all;
    }

    test::TemporaryDirectory directory_;
    Identity root_ = test::make_ca("Root"), upper_ = test::make_ca("Upper", &root_), lower_ = test::make_ca("Lower", &upper_);
    Identity leaf_ = test::make_leaf({"a.example"}, lower_);
};

TEST_F(LoaderTest, Pkcs12_IsToldByItsContentAndPutIntoOrder) {
    const auto secret = directory_.write("secret", "letmein\n", 0600);
    for (const bool backwards : {false, true}) {
        const auto file = directory_.write("bundle.pem", pkcs12(leaf_, "letmein", backwards), 0600);
        const Loaded loaded = load({file, {}, secret});
        ASSERT_TRUE(loaded.chain) << text(loaded);
        EXPECT_EQ(text(loaded), "");
        ASSERT_EQ(loaded.chain->intermediates.size(), 2u);
        EXPECT_EQ(openssl::name_text(X509_get_subject_name(loaded.chain->intermediates[0].get())), "CN=Lower");
        EXPECT_EQ(loaded.chain->issuer.get(), loaded.chain->intermediates[0].get());
    }
}

TEST_F(LoaderTest, Pkcs12_WithoutPassphraseOrWithAWrongOne) {
    EXPECT_TRUE(load({directory_.write("open.p12", pkcs12(leaf_, ""), 0600)}).chain);
    const auto file = directory_.write("closed.p12", pkcs12(leaf_, "letmein"), 0600);
    EXPECT_THAT(text(load({file})), HasSubstr("is encrypted, and nobody is there to type its password; passphrase = \"FILE\""));
    EXPECT_THAT(text(load({file, {}, directory_.write("wrong", "letmeout", 0600)})), HasSubstr("the passphrase is wrong"));
    EXPECT_THAT(text(load({directory_.write("shared.p12", pkcs12(leaf_, ""), 0644)})), HasSubstr("has mode 0644"));
    EXPECT_THAT(text(load({directory_.write("garbage.p12", "\x30\x03garbage", 0600)})), HasSubstr("is neither PEM nor PKCS #12"));
}

TEST_F(LoaderTest, EncryptedKey_IsOpenedByFileOrByAsking) {
    leaf_.write(directory_.path(), "leaf");
    const auto certificate = directory_.path() / "leaf.pem", key = directory_.write("e.key", encrypted(leaf_), 0600);
    EXPECT_TRUE(load({certificate, key, directory_.write("p", "secret\n", 0600)}).chain);
    EXPECT_THAT(text(load({certificate, key, directory_.write("readable", "secret\n", 0644)})), HasSubstr("its passphrase file"));
    std::string asked;
    const Loaded loaded = load({certificate, key}, Purpose::server, [&asked](const std::string& what) {
        asked = what;
        return std::expected<Passphrase, std::string>(Passphrase("secret"));
    });
    EXPECT_TRUE(loaded.chain) << text(loaded);
    EXPECT_EQ(asked, key.string());
    EXPECT_THAT(text(load({certificate, key}, Purpose::server, [](const std::string&) { return std::expected<Passphrase, std::string>(Passphrase("no")); })),
                HasSubstr("cannot be decrypted: the passphrase is wrong"));
}

TEST_F(LoaderTest, KeyInTheCertificatesFile_MakesThatFileASecret) {
    const std::string both = leaf_.certificate_pem() + leaf_.key_pem();
    EXPECT_TRUE(load({directory_.write("both.pem", both, 0600)}).chain);
    EXPECT_THAT(text(load({directory_.write("open.pem", both, 0644)})), HasSubstr("has mode 0644"));
}

TEST_F(LoaderTest, KeyOfAnotherUser_IsRefused) {
    if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
    leaf_.write(directory_.path(), "leaf");
    const auto key = directory_.path() / "leaf.key";
    ASSERT_EQ(chown(key.c_str(), 4711, 4711), 0);
    EXPECT_THAT(text(load({directory_.path() / "leaf.pem", key})), HasSubstr("belongs to the user 4711"));
    Loader loader({.now = std::chrono::system_clock::now(), .owners = {4711}});
    EXPECT_TRUE(loader.load({directory_.path() / "leaf.pem", key}, Purpose::server).chain);
}

TEST_F(LoaderTest, WhatOthersAsk_IsReadFromTheLeaf) {
    const Identity identity = test::make_identity({.names = {"a.example"},
                                                   .extensions = {{NID_info_access, "caIssuers;URI:http://ca/x,OCSP;URI:ldap://no/,OCSP;URI:http://ocsp.example/"},
                                                                  {NID_crl_distribution_points, "URI:ldap://no/,URI:http://crl.example/a.crl"},
                                                                  {NID_tlsfeature, "status_request"}}},
                                                  &lower_);
    identity.write(directory_.path(), "leaf");
    const Loaded loaded = load({directory_.path() / "leaf.pem", directory_.path() / "leaf.key"});
    ASSERT_TRUE(loaded.chain) << text(loaded);
    EXPECT_TRUE(loaded.chain->must_staple);
    EXPECT_EQ(loaded.chain->issuer_text, "CN=Lower");
    EXPECT_EQ(loaded.chain->fingerprint, fingerprint_of(identity.certificate.get()));
}

TEST_F(LoaderTest, NeverEnding_IsInDate) {
    // RFC 5280 4.1.2.5: 99991231235959Z is for what has no end, such as the certificate of a device.
    constexpr int kDays = 2'900'000;   // some 7,940 years: more than the clock's 64 bits of nanoseconds can say
    const Identity identity = test::make_identity({.names = {"a.example"}, .not_after_days = kDays}, &lower_);
    identity.write(directory_.path(), "leaf");
    const Loaded loaded = load({directory_.path() / "leaf.pem", directory_.path() / "leaf.key"});
    ASSERT_TRUE(loaded.chain);
    EXPECT_TRUE(loaded.problems.empty()) << text(loaded);
    EXPECT_GT(loaded.chain->not_after, std::chrono::system_clock::now() + std::chrono::days(365 * 100));
    EXPECT_GT(loaded.chain->not_after - loaded.chain->not_before, std::chrono::days(365 * 100));
}

TEST_F(LoaderTest, WeakKey_IsAProblemThatLeavesTheChain) {
    const Identity weak = test::make_leaf({"a.example"}, lower_, test::Key::rsa2048);
    weak.write(directory_.path(), "leaf");
    const Loaded loaded = load({directory_.path() / "leaf.pem", directory_.path() / "leaf.key"});
    EXPECT_TRUE(loaded.chain);
    ASSERT_EQ(loaded.problems.size(), 1u);
    EXPECT_EQ(loaded.problems[0].requirement, "9.4.1 (12.1.2)");
}

TEST_F(LoaderTest, PublicRoots_AreFoundByNameAndHashAndOnceEach) {
    std::filesystem::create_directory(directory_.path() / "roots");
    root_.write(directory_.path() / "roots", "root");
    directory_.write("roots/junk.pem", "hello");
    directory_.write("roots/leaf.crt", leaf_.certificate_pem());
    std::filesystem::create_symlink("root.pem", directory_.path() / "roots/0a1b2c3d.0");
    const auto roots = PublicRoots::load(directory_.path() / "roots");
    EXPECT_EQ(roots->why(), "");
    EXPECT_TRUE(roots->contains(root_.certificate.get()));
    EXPECT_FALSE(roots->contains(leaf_.certificate.get()));
    const auto now = std::chrono::system_clock::now();
    EXPECT_EQ(roots->verify(leaf_.certificate.get(), leaf_.chain, now), "");
    EXPECT_NE(roots->verify(test::make_leaf({"a.example"}, test::make_ca("Other")).certificate.get(), {}, now), "");
    EXPECT_EQ(roots->issuer_of(test::make_leaf({"b.example"}, root_).certificate.get()) != nullptr, true);
    EXPECT_THAT(PublicRoots::load(directory_.path() / "none")->why(), HasSubstr("cannot be read"));
}

TEST_F(LoaderTest, NewKeyAndRequest_FitAndNeverOverwrite) {
    for (const std::string& type : {std::string("ecdsa-p256"), std::string("ecdsa-p384"), std::string("rsa-3072")}) {
        const auto key = directory_.path() / (type + ".key"), request = directory_.path() / (type + ".csr");
        ASSERT_TRUE(new_key(type, key));
        struct stat status{};
        ASSERT_EQ(stat(key.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777u, 0600u);
        const std::string before = contents(key);
        EXPECT_THAT(new_key(type, key).error(), HasSubstr("exists already"));
        EXPECT_EQ(contents(key), before);
        const auto made = new_request(key, {}, {"a.example", "*.b.example", "192.0.2.1"}, true, request);
        ASSERT_TRUE(made) << made.error();
        const openssl::Bio bio(BIO_new_file(request.c_str(), "r"));
        const openssl::Owner<X509_REQ, X509_REQ_free> read(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
        ASSERT_NE(read, nullptr);
        EXPECT_EQ(X509_REQ_verify(read.get(), X509_REQ_get0_pubkey(read.get())), 1);
        STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(read.get());
        EXPECT_EQ(sk_X509_EXTENSION_num(extensions), 2);
        sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    }
    const auto key = directory_.path() / "ecdsa-p256.key";
    EXPECT_THAT(new_key("rsa-1024", directory_.path() / "weak.key").error(), HasSubstr("is no type of key; one of ecdsa-p256"));
    EXPECT_THAT(new_request(key, {}, {"a.example,DNS:evil"}, false, directory_.path() / "x.csr").error(), HasSubstr("is no name for a certificate"));
    EXPECT_THAT(new_request(key, {}, {}, false, directory_.path() / "x.csr").error(), HasSubstr("there is no name"));
}

}  // namespace
}  // namespace sallyport::certificates
