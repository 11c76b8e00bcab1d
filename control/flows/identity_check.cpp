#include "control/flows/identity_check.h"

#include <algorithm>

#include "control/certificates/openssl.h"
#include "control/handshake/peer_certificate.h"

namespace sallyport::flows {

std::optional<std::string> revoked(const handshake::Identity& identity, const revocation::CrlSet* crls, revocation::Clock::time_point now) {
    if (crls == nullptr) return std::nullopt;
    for (std::size_t i = 0; i + 1 < identity.chain.size(); ++i) {
        revocation::Verdict verdict = crls->check(identity.chain[i].get(), identity.chain[i + 1].get(), now);
        if (verdict.standing != revocation::Standing::revoked) continue;
        if (i == 0) return std::move(verdict.why);
        return "its issuer " + openssl::name_text(X509_get_subject_name(identity.chain[i].get())) + " is " + verdict.why;
    }
    return std::nullopt;
}

std::optional<std::string> untrusted(const handshake::Identity& identity, const std::vector<std::shared_ptr<X509>>& anchors, int purpose) {
    if (identity.chain.empty()) return std::nullopt;
    const openssl::Store store(X509_STORE_new());
    const openssl::StoreContext verification(X509_STORE_CTX_new());
    const handshake::BorrowedStack between(sk_X509_new_null());
    if (!store || !verification || !between) throw std::bad_alloc();
    for (const auto& anchor : anchors) X509_STORE_add_cert(store.get(), anchor.get());
    for (const auto& certificate : std::span(identity.chain).subspan(1)) sk_X509_push(between.get(), certificate.get());
    if (X509_STORE_CTX_init(verification.get(), store.get(), identity.chain.front().get(), between.get()) != 1) throw std::bad_alloc();
    X509_STORE_CTX_set_purpose(verification.get(), purpose);
    X509_STORE_CTX_set_flags(verification.get(), X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
    const bool good = X509_verify_cert(verification.get()) == 1;
    ERR_clear_error();
    if (good) return std::nullopt;
    return std::string("no longer verified: ") + X509_verify_cert_error_string(X509_STORE_CTX_get_error(verification.get()));
}

bool same_anchors(const std::vector<std::shared_ptr<X509>>& one, const std::vector<std::shared_ptr<X509>>& other) {
    return std::ranges::equal(one, other, [](const auto& a, const auto& b) { return X509_cmp(a.get(), b.get()) == 0; });
}

std::optional<std::string> not_named(const handshake::Identity& identity, const std::vector<std::string>& before, const std::vector<std::string>& now) {
    if (before == now || identity.chain.empty() || handshake::name_allowed(now, identity.chain.front().get())) return std::nullopt;
    return "none of its names is let in any more";
}

}  // namespace sallyport::flows
