#include "control/certificates/request.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

namespace sallyport::certificates {

namespace {

using Request = openssl::Owner<X509_REQ, X509_REQ_free>;

struct ExtensionsFree {
    void operator()(STACK_OF(X509_EXTENSION) * stack) const noexcept { sk_X509_EXTENSION_pop_free(stack, X509_EXTENSION_free); }
};
using Extensions = std::unique_ptr<STACK_OF(X509_EXTENSION), ExtensionsFree>;

/// O_EXCL: never overwrites, not even what a link points to.
std::expected<void, std::string> write_new(const std::filesystem::path& file, const BIO* bio, unsigned mode) {
    char* begin = nullptr;
    const long length = BIO_get_mem_data(const_cast<BIO*>(bio), &begin);
    const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return std::unexpected(file.string() + (errno == EEXIST ? ": exists already; a file that is not there yet"
                                                                : std::string(": cannot be made: ") + std::strerror(errno)));
    long have = 0;
    while (have < length) {
        const ssize_t wrote = write(fd, begin + have, static_cast<std::size_t>(length - have));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) break;
        have += wrote;
    }
    // A key that is lost with the next power cut is of no use.
    const bool good = have == length && fsync(fd) == 0;
    const int error = errno;
    close(fd);
    if (good) return {};
    unlink(file.c_str());
    return std::unexpected(file.string() + ": cannot be written: " + std::strerror(error));
}

/// The names go into a line of configuration for OpenSSL, so nothing else may be in them.
bool is_name(std::string_view name, bool& address) {
    unsigned char octets[16];
    address = inet_pton(AF_INET, std::string(name).c_str(), octets) == 1 || inet_pton(AF_INET6, std::string(name).c_str(), octets) == 1;
    if (address) return true;
    if (name.starts_with("*.")) name.remove_prefix(2);
    return !name.empty() && name.size() <= 253 && !name.starts_with('.') && !name.ends_with('.') && !name.contains("..") &&
           std::ranges::all_of(name, [](unsigned char c) { return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_'); });
}

bool add(STACK_OF(X509_EXTENSION) * extensions, int nid, const std::string& value) {
    openssl::Extension extension(X509V3_EXT_nconf_nid(nullptr, nullptr, nid, value.c_str()));
    if (!extension || sk_X509_EXTENSION_push(extensions, extension.get()) == 0) return false;
    static_cast<void>(extension.release());
    return true;
}

}  // namespace

const std::vector<std::string>& key_types() {
    static const std::vector<std::string> types{"ecdsa-p256", "ecdsa-p384", "rsa-3072", "rsa-4096"};
    return types;
}

std::expected<void, std::string> new_key(const std::string& type, const std::filesystem::path& file) {
    openssl::PrivateKey key;
    if (type == "ecdsa-p256") key.reset(EVP_EC_gen("P-256"));
    else if (type == "ecdsa-p384") key.reset(EVP_EC_gen("P-384"));
    else if (type == "rsa-3072") key.reset(EVP_RSA_gen(3072));
    else if (type == "rsa-4096") key.reset(EVP_RSA_gen(4096));
    else {
        std::string all;
        for (const std::string& known : key_types()) all += (all.empty() ? "" : ", ") + known;
        return std::unexpected("'" + type + "' is no type of key; one of " + all);
    }
    const openssl::Bio bio(BIO_new(BIO_s_secmem()));
    if (!key || !bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
        return std::unexpected("the key cannot be made: " + openssl::error_queue());
    return write_new(file, bio.get(), 0600);
}

std::expected<void, std::string> new_request(const std::filesystem::path& key_file, const KeyAccess& access, const std::vector<std::string>& names,
                                             bool must_staple, const std::filesystem::path& file) {
    if (names.empty()) return std::unexpected("there is no name; --name NAME, once for each name");
    auto key = read_private_key(key_file, access);
    if (!key) return std::unexpected(key_file.string() + ": " + key.error().wrong + "; " + key.error().right);
    std::string alternative;
    for (const std::string& name : names) {
        bool address = false;
        if (!is_name(name, address)) return std::unexpected("'" + name + "' is no name for a certificate; a DNS name, a wildcard such as *.example.org, or an address");
        alternative += (alternative.empty() ? "" : ",") + std::string(address ? "IP:" : "DNS:") + name;
    }
    const Request request(X509_REQ_new());
    const Extensions extensions(sk_X509_EXTENSION_new_null());
    const openssl::Bio bio(BIO_new(BIO_s_mem()));
    const openssl::Owner<X509_NAME, X509_NAME_free> subject(X509_NAME_new());
    // RFC 5280 A.1 ub-common-name: 64. Clients no longer look at it, authorities may want one.
    const bool common_name = names.front().size() <= 64;
    const auto* octets = reinterpret_cast<const unsigned char*>(names.front().data());
    const bool ed25519 = EVP_PKEY_is_a(key->get(), "ED25519") == 1;
    const bool good = request && extensions && bio && subject && X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
                      (!common_name || X509_NAME_add_entry_by_NID(subject.get(), NID_commonName, MBSTRING_UTF8, octets,
                                                                  static_cast<int>(names.front().size()), -1, 0) == 1) &&
                      X509_REQ_set_subject_name(request.get(), subject.get()) == 1 && X509_REQ_set_pubkey(request.get(), key->get()) == 1 &&
                      add(extensions.get(), NID_subject_alt_name, alternative) &&
                      (!must_staple || add(extensions.get(), NID_tlsfeature, "status_request")) &&
                      X509_REQ_add_extensions(request.get(), extensions.get()) == 1 &&
                      X509_REQ_sign(request.get(), key->get(), ed25519 ? nullptr : EVP_sha256()) > 0 && PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1;
    if (!good) return std::unexpected("the request cannot be made: " + openssl::error_queue());
    return write_new(file, bio.get(), 0644);
}

}  // namespace sallyport::certificates
