#include "control/certificates/public_roots.h"

#include <openssl/x509_vfy.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "control/certificates/pem_file.h"

namespace sallyport::certificates {

namespace {

namespace fs = std::filesystem;

struct ViewFree {
    void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_free(stack); }
};
/// A stack of certificates that others own.
using View = std::unique_ptr<STACK_OF(X509), ViewFree>;

std::string octets_of(const X509_NAME* name) {
    unsigned char* der = nullptr;
    const int length = i2d_X509_NAME(name, &der);
    if (length <= 0) return "";
    std::string octets(reinterpret_cast<const char*>(der), static_cast<std::size_t>(length));
    OPENSSL_free(der);
    return octets;
}

/// *.pem, *.crt, or a hashed link: eight hexadecimal digits, a dot and a number (openssl-rehash(1)).
bool is_wanted(const fs::path& file) {
    const std::string extension = file.extension().string();
    if (extension == ".pem" || extension == ".crt") return true;
    const std::string stem = file.stem().string();
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto is_hexadecimal = [&](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); };
    return stem.size() == 8 && std::ranges::all_of(stem, is_hexadecimal) && extension.size() > 1 &&
           std::ranges::all_of(extension.substr(1), is_digit);
}

}  // namespace

Fingerprint fingerprint_of(const X509* certificate) noexcept {
    Fingerprint digest{};
    unsigned int length = 0;
    if (X509_digest(certificate, EVP_sha256(), digest.data(), &length) != 1 || length != digest.size()) digest.fill(0);
    return digest;
}

std::shared_ptr<const PublicRoots> PublicRoots::load(const fs::path& directory) {
    auto result = std::make_shared<PublicRoots>();
    std::error_code error;
    std::set<std::string> seen;   // Debian has each root twice, by name and by hash, both links to one file
    fs::directory_iterator entries(directory, error);
    if (error) {
        result->why_ = "cannot be read: " + error.message();
        return result;
    }
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
        if (!is_wanted(entries->path())) continue;
        std::error_code ignored;
        const fs::path file = fs::canonical(entries->path(), ignored);
        if (ignored || !seen.insert(file.string()).second || !fs::is_regular_file(file, ignored)) continue;
        auto certificates = read_certificates(file);
        if (!certificates) continue;
        for (openssl::Certificate& certificate : *certificates)
            if (X509_check_ca(certificate.get()) == 1)
                result->roots_.try_emplace(fingerprint_of(certificate.get()), std::move(certificate));
    }
    result->store_.reset(X509_STORE_new());
    if (error) result->why_ = "cannot be read: " + error.message();
    else if (!result->store_) result->why_ = "cannot be kept: " + openssl::error_queue();
    else if (result->roots_.empty()) result->why_ = "has no PEM file with a certification authority in it";
    if (!result->why_.empty()) {
        result->roots_.clear();
        return result;
    }
    std::vector<unsigned char> fingerprints;
    for (const auto& [fingerprint, certificate] : result->roots_) {
        X509_STORE_add_cert(result->store_.get(), certificate.get());
        result->by_subject_.emplace(octets_of(X509_get_subject_name(certificate.get())), certificate.get());
        fingerprints.insert(fingerprints.end(), fingerprint.begin(), fingerprint.end());
    }
    std::size_t length = 0;
    if (EVP_Q_digest(nullptr, "SHA256", nullptr, fingerprints.data(), fingerprints.size(), result->digest_.data(), &length) != 1)
        result->digest_.fill(0);
    ERR_clear_error();
    return result;
}

bool PublicRoots::contains(const X509* certificate) const {
    if (roots_.contains(fingerprint_of(certificate))) return true;
    // The same authority under another certificate (cross-signed, or renewed with the same key) is as public.
    const auto [begin, end] = by_subject_.equal_range(octets_of(X509_get_subject_name(certificate)));
    const EVP_PKEY* key = X509_get0_pubkey(certificate);
    return key != nullptr && std::any_of(begin, end, [key](const auto& entry) {
        const EVP_PKEY* theirs = X509_get0_pubkey(entry.second);
        return theirs != nullptr && EVP_PKEY_eq(key, theirs) == 1;
    });
}

std::string PublicRoots::verify(X509* leaf, std::span<const openssl::Certificate> intermediates,
                                std::chrono::system_clock::time_point now) const {
    if (!why_.empty()) return "there are no public roots";
    const View untrusted(sk_X509_new_null());
    const openssl::StoreContext context(X509_STORE_CTX_new());
    if (!untrusted || !context) return openssl::error_queue();
    for (const openssl::Certificate& certificate : intermediates)
        if (sk_X509_push(untrusted.get(), certificate.get()) == 0) return openssl::error_queue();
    if (X509_STORE_CTX_init(context.get(), store_.get(), leaf, untrusted.get()) != 1) return openssl::error_queue();
    X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_time(parameters, std::chrono::system_clock::to_time_t(now));
    X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
    std::string why;
    if (X509_verify_cert(context.get()) != 1) why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
    ERR_clear_error();
    return why;
}

X509* PublicRoots::issuer_of(X509* certificate) const {
    const auto [begin, end] = by_subject_.equal_range(octets_of(X509_get_issuer_name(certificate)));
    for (auto entry = begin; entry != end; ++entry) {
        EVP_PKEY* key = X509_get0_pubkey(entry->second);
        const bool has_signed = key != nullptr && X509_check_issued(entry->second, certificate) == X509_V_OK && X509_verify(certificate, key) == 1;
        ERR_clear_error();
        if (has_signed) return entry->second;
    }
    return nullptr;
}

}  // namespace sallyport::certificates
