#include "control/revocation/own_certificate.h"

#include <algorithm>

#include "control/revocation/fetch.h"

namespace sallyport::revocation {

namespace {

constexpr std::chrono::hours kShortLived{7 * 24};

std::string ocsp_url(const X509* certificate) {
    auto* urls = X509_get1_ocsp(certificate);
    std::string first;
    for (int i = 0; first.empty() && i < sk_OPENSSL_STRING_num(urls); ++i)
        if (check_url(sk_OPENSSL_STRING_value(urls, i)).empty()) first = sk_OPENSSL_STRING_value(urls, i);
    X509_email_free(urls);
    return first;
}

std::string crl_url(const X509* certificate) {
    const openssl::Owner<CRL_DIST_POINTS, CRL_DIST_POINTS_free> points(
        static_cast<CRL_DIST_POINTS*>(X509_get_ext_d2i(certificate, NID_crl_distribution_points, nullptr, nullptr)));
    for (int i = 0; points && i < sk_DIST_POINT_num(points.get()); ++i) {
        const DIST_POINT* point = sk_DIST_POINT_value(points.get(), i);
        if (point->reasons != nullptr || point->CRLissuer != nullptr || point->distpoint == nullptr ||
            point->distpoint->type != 0)
            continue;
        const GENERAL_NAMES* names = point->distpoint->name.fullname;
        for (int j = 0; j < sk_GENERAL_NAME_num(names); ++j) {
            int type = 0;
            const auto* value =
                static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, j), &type));
            if (type != GEN_URI || value == nullptr) continue;
            std::string url(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                            static_cast<std::size_t>(ASN1_STRING_length(value)));
            if (check_url(url).empty()) return url;
        }
    }
    return "";
}

bool has_signed(X509* issuer, X509* subject) {
    EVP_PKEY* key = X509_get0_pubkey(issuer);
    const bool result =
        key != nullptr && X509_check_issued(issuer, subject) == X509_V_OK && X509_verify(subject, key) == 1;
    ERR_clear_error();
    return result;
}

}  // namespace

Fingerprint fingerprint_of(const X509* certificate) {
    Fingerprint fingerprint{};
    unsigned length = fingerprint.size();
    X509_digest(certificate, EVP_sha256(), fingerprint.data(), &length);
    return fingerprint;
}

std::string hex(std::span<const unsigned char> octets) {
    std::string text;
    for (const unsigned char octet : octets) {
        text += "0123456789abcdef"[octet >> 4];
        text += "0123456789abcdef"[octet & 15];
    }
    return text;
}

Decision decide(const certificates::CertificateChain& chain) {
    const X509* leaf = chain.leaf.get();
    if (std::string url = ocsp_url(leaf); !url.empty()) return {.rule = Rule::staple, .url = std::move(url), .why = ""};
    if (chain.must_staple)
        return {.why = "the certificate asks for a staple (must-staple, RFC 7633) but names no OCSP responder over http"};
    if (chain.not_after - chain.not_before <= kShortLived)
        return {.rule = Rule::short_lived, .url = "", .why = "lives for at most 7 days"};
    if (std::string url = crl_url(leaf); !url.empty()) return {.rule = Rule::crl, .url = std::move(url), .why = ""};
    return {.why = "the certificate names neither an OCSP responder nor a CRL over http, and lives for more than 7 days"};
}

openssl::Certificate issuer_of(const certificates::CertificateChain& chain, std::span<X509* const> candidates,
                               X509_STORE* roots) {
    // Whoever loaded the chain has checked that signature, and there may be thousands of them.
    if (chain.issuer) return openssl::share(chain.issuer.get());
    X509* leaf = chain.leaf.get();
    for (const auto& intermediate : chain.intermediates)
        if (has_signed(intermediate.get(), leaf)) return openssl::share(intermediate.get());
    for (X509* candidate : candidates)
        if (has_signed(candidate, leaf)) return openssl::share(candidate);
    const openssl::StoreContext context(X509_STORE_CTX_new());
    X509* found = nullptr;
    if (roots != nullptr && context && X509_STORE_CTX_init(context.get(), roots, leaf, nullptr) == 1 &&
        X509_STORE_CTX_get1_issuer(&found, context.get(), leaf) != 1)
        found = nullptr;
    openssl::Certificate issuer(found);
    if (issuer && !has_signed(issuer.get(), leaf)) issuer.reset();
    ERR_clear_error();
    return issuer;
}

}  // namespace sallyport::revocation
