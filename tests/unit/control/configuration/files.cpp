#include "tests/unit/control/configuration/files.h"

#include <openssl/pem.h>

#include <fstream>
#include <iterator>

namespace sallyport::configuration {

namespace {

std::string contents(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

std::string encrypted(const test::Identity& identity) {
    const openssl::Bio bio(BIO_new(BIO_s_mem()));
    const unsigned char password[] = "secret";
    PEM_write_bio_PrivateKey(bio.get(), identity.key.get(), EVP_aes_256_cbc(), password, 6, nullptr, nullptr);
    char* begin = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &begin);
    return {begin, static_cast<std::size_t>(length)};
}

}  // namespace

Files::Files() {
    using test::CertificateOptions;
    using test::Key;
    const std::filesystem::path& here = directory_.path();
    const test::Identity root = test::make_ca("Root");
    const test::Identity upper = test::make_ca("Upper", &root);
    const test::Identity lower = test::make_ca("Lower", &upper);
    root.write(here, "ca");

    const auto leaf = [&](const char* name, const CertificateOptions& options) {
        test::make_identity(options, &lower).write(here, name);
    };
    const test::Identity www = test::make_leaf({"www.example.org"}, lower);
    www.write(here, "www");
    leaf("rsa2048", {.key = Key::rsa2048, .names = {"www.example.org"}});
    leaf("rsa3072", {.key = Key::rsa3072, .names = {"www.example.org"}});
    leaf("expired", {.names = {"www.example.org"}, .not_before_days = -9, .not_after_days = -1});
    leaf("future", {.names = {"www.example.org"}, .not_before_days = 2});
    leaf("nameless", {});
    leaf("client", {.names = {"www.example.org"}, .extended_key_usage = "clientAuth"});
    leaf("sha1", {.names = {"www.example.org"}, .digest = "SHA1"});
    test::Identity disorder = test::make_leaf({"www.example.org"}, lower);
    std::swap(disorder.chain[0], disorder.chain[1]);
    disorder.write(here, "disorder");
    directory_.write("open.key", www.key_pem(), 0644);
    directory_.write("encrypted.key", encrypted(www), 0600);
    directory_.write("empty.pem", "");

    // What the example names.
    std::filesystem::create_directories(here / "certificates");
    test::make_leaf({"www.example.org"}, lower).write(here / "certificates", "www-ecdsa");
    leaf("certificates/www-rsa", {.key = Key::rsa3072, .names = {"www.example.org"}});
    test::make_leaf({"mail.example.org"}, lower).write(here / "certificates", "mail");
    root.write(here / "certificates", "internal-ca");

    for (const char* folder : {"bad", "good"})
        for (const auto& entry :
             std::filesystem::directory_iterator(std::filesystem::path(SALLYPORT_CONFIGURATION_TESTS) / folder))
            if (entry.path().extension() == ".inc") static_cast<void>(place(entry.path()));
}

std::filesystem::path Files::place(const std::filesystem::path& configuration) const {
    return directory_.write(configuration.filename().string(), contents(configuration));
}

}  // namespace sallyport::configuration
