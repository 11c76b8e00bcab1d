#include "tests/certificates.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace sallyport::test {

namespace {

void check(bool ok, const char* what) {
    if (ok) return;
    std::fprintf(stderr, "tests/certificates: %s: %s\n", what, openssl::error_queue().c_str());
    std::abort();
}

std::string text_of(BIO* bio) {
    char* begin = nullptr;
    const long length = BIO_get_mem_data(bio, &begin);
    return {begin, static_cast<std::size_t>(length)};
}

void add_extension(X509* certificate, X509V3_CTX* context, int nid, const std::string& value) {
    const openssl::Extension extension(X509V3_EXT_conf_nid(nullptr, context, nid, value.c_str()));
    check(extension != nullptr, value.c_str());
    check(X509_add_ext(certificate, extension.get(), -1) == 1, "X509_add_ext");
}

std::string subject_alternative_names(const std::vector<std::string>& names) {
    std::string value;
    for (const std::string& name : names) {
        std::array<unsigned char, 16> octets{};
        const bool address = inet_pton(AF_INET, name.c_str(), octets.data()) == 1 ||
                             inet_pton(AF_INET6, name.c_str(), octets.data()) == 1;
        if (!value.empty()) value += ",";
        value += (address ? "IP:" : name.contains("://") ? "URI:" : name.contains('@') ? "email:" : "DNS:") + name;
    }
    return value;
}

}  // namespace

openssl::PrivateKey make_key(Key key) {
    EVP_PKEY* made = nullptr;
    switch (key) {
        case Key::rsa1024:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{1024});
            break;
        case Key::rsa2048:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048});
            break;
        case Key::rsa3072:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{3072});
            break;
        case Key::p256:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
            break;
        case Key::p384:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-384");
            break;
        case Key::p521:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-521");
            break;
        case Key::p224:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-224");
            break;
        case Key::ed25519:
            made = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
            break;
    }
    check(made != nullptr, "EVP_PKEY_Q_keygen");
    return openssl::PrivateKey(made);
}

Identity make_identity(const CertificateOptions& options, const Identity* issuer) {
    Identity identity;
    identity.key = make_key(options.key);
    identity.certificate.reset(X509_new());
    X509* certificate = identity.certificate.get();
    check(certificate != nullptr && X509_set_version(certificate, X509_VERSION_3) == 1, "X509_new");

    static long serial = 1000;
    check(ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial) == 1, "serial number");
    check(X509_gmtime_adj(X509_getm_notBefore(certificate), 86400L * options.not_before_days) != nullptr, "notBefore");
    check(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400L * options.not_after_days) != nullptr, "notAfter");
    check(X509_set_pubkey(certificate, identity.key.get()) == 1, "X509_set_pubkey");

    const openssl::Owner<X509_NAME, X509_NAME_free> subject(X509_NAME_new());
    check(
        X509_NAME_add_entry_by_txt(subject.get(), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(options.common_name.c_str()), -1, -1, 0) == 1,
        "CN");
    check(X509_set_subject_name(certificate, subject.get()) == 1, "X509_set_subject_name");
    X509* issued_by = issuer != nullptr ? issuer->certificate.get() : certificate;
    check(X509_set_issuer_name(certificate, X509_get_subject_name(issued_by)) == 1, "X509_set_issuer_name");

    X509V3_CTX context{};
    X509V3_set_ctx(&context, issued_by, certificate, nullptr, nullptr, 0);
    add_extension(certificate, &context, NID_subject_key_identifier, "hash");
    if (issuer != nullptr) add_extension(certificate, &context, NID_authority_key_identifier, "keyid:always");
    if (options.ca) {
        add_extension(certificate, &context, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(certificate, &context, NID_key_usage, "critical,keyCertSign,cRLSign");
    } else {
        add_extension(certificate, &context, NID_basic_constraints, "critical,CA:FALSE");
        add_extension(certificate, &context, NID_key_usage, "critical,digitalSignature");
        if (!options.extended_key_usage.empty())
            add_extension(certificate, &context, NID_ext_key_usage, options.extended_key_usage);
    }
    if (!options.names.empty())
        add_extension(certificate, &context, NID_subject_alt_name, subject_alternative_names(options.names));

    for (const auto& [nid, value] : options.extensions) add_extension(certificate, &context, nid, value);

    EVP_PKEY* signer = issuer != nullptr ? issuer->key.get() : identity.key.get();
    const EVP_MD* digest =
        EVP_PKEY_is_a(signer, "ED25519") == 1 ? nullptr : EVP_get_digestbyname(options.digest.c_str());
    check(X509_sign(certificate, signer, digest) > 0, "X509_sign");
    // As one that was read from a file: one that was made here would be encoded anew whenever it is sent.
    identity.certificate.reset(X509_dup(certificate));
    check(identity.certificate != nullptr, "X509_dup");

    // A root goes into trust stores, not into chains.
    if (issuer != nullptr && X509_self_signed(issuer->certificate.get(), 0) != 1) {
        identity.chain.push_back(openssl::share(issuer->certificate.get()));
        for (const openssl::Certificate& above : issuer->chain) identity.chain.push_back(openssl::share(above.get()));
    }
    return identity;
}

Identity make_ca(const std::string& common_name, const Identity* issuer, Key key) {
    CertificateOptions options;
    options.key = key;
    options.common_name = common_name;
    options.ca = true;
    return make_identity(options, issuer);
}

Identity make_leaf(const std::vector<std::string>& names, const Identity& issuer, Key key) {
    CertificateOptions options;
    options.key = key;
    if (!names.empty()) options.common_name = names.front();
    options.names = names;
    return make_identity(options, &issuer);
}

std::string Identity::certificate_pem() const {
    const openssl::Bio bio(BIO_new(BIO_s_mem()));
    check(PEM_write_bio_X509(bio.get(), certificate.get()) == 1, "PEM_write_bio_X509");
    for (const openssl::Certificate& above : chain)
        check(PEM_write_bio_X509(bio.get(), above.get()) == 1, "PEM_write_bio_X509");
    return text_of(bio.get());
}

std::string Identity::key_pem() const {
    const openssl::Bio bio(BIO_new(BIO_s_mem()));
    check(PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "PEM_write_bio_PrivateKey");
    return text_of(bio.get());
}

void Identity::write(const std::filesystem::path& directory, const std::string& name) const {
    std::ofstream(directory / (name + ".pem")) << certificate_pem();
    const std::filesystem::path key_file = directory / (name + ".key");
    std::ofstream(key_file) << key_pem();
    check(chmod(key_file.c_str(), 0600) == 0, "chmod");
}

TemporaryDirectory::TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sallyport-test-XXXXXX").string();
    check(mkdtemp(pattern.data()) != nullptr, "mkdtemp");
    path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path TemporaryDirectory::write(const std::string& name, const std::string& text, unsigned mode) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    check(chmod(file.c_str(), mode) == 0, "chmod");
    return file;
}

}  // namespace sallyport::test
