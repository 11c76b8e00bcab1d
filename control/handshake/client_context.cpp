#include "control/handshake/client_context.h"

#include <algorithm>
#include <ctime>
#include <format>
#include <stdexcept>
#include <vector>

#include "control/certificates/certificate_chain.h"
#include "control/channel/address.h"
#include "control/handshake/connection.h"
#include "control/handshake/server_context.h"
#include "control/policy/catalogue.h"

namespace sallyport::handshake {
namespace {

void require(bool done, std::string_view what) {
    if (!done) throw std::runtime_error(std::format("libssl refuses {}: {}", what, openssl::error_queue()));
}

/// signature_algorithms_cert (RFC 8446 4.2.3). Without it a backend may take signature_algorithms, which has no PKCS#1 v1.5, for
/// its certificates too, and those of most internal CAs are signed so. libssl does not send it by itself.
constexpr unsigned kSignatureAlgorithmsCert = 50;
constexpr std::uint16_t kCertificateOnlySchemes[] = {0x0401, 0x0501, 0x0601};  // rsa_pkcs1_sha256, _sha384, _sha512

std::vector<unsigned char> certificate_schemes() {
    std::vector<std::uint16_t> schemes;
    for (const policy::SignatureScheme& scheme : policy::kSignatureSchemes) schemes.push_back(scheme.id);
    schemes.insert(schemes.end(), std::begin(kCertificateOnlySchemes), std::end(kCertificateOnlySchemes));
    std::vector<unsigned char> octets;
    const auto put = [&](std::size_t number) {
        octets.push_back(static_cast<unsigned char>(number >> 8));
        octets.push_back(static_cast<unsigned char>(number));
    };
    put(schemes.size() * 2);
    for (const std::uint16_t scheme : schemes) put(scheme);
    return octets;
}

int add_certificate_schemes(SSL*, unsigned, unsigned, const unsigned char** out, std::size_t* length, X509*, std::size_t, int*, void*) {
    static const std::vector<unsigned char> octets = certificate_schemes();
    *out = octets.data();
    *length = octets.size();
    return 1;
}

bool still_good(SSL_SESSION* session) {
    const std::time_t now = std::time(nullptr);
    if (SSL_SESSION_is_resumable(session) != 1) return false;
    if (SSL_SESSION_get_time_ex(session) + SSL_SESSION_get_timeout(session) <= now) return false;
    // The certificate was verified when the session began, and is not sent again: it must not have run out meanwhile.
    const X509* peer = SSL_SESSION_get0_peer(session);
    return peer != nullptr && ASN1_TIME_cmp_time_t(X509_get0_notAfter(peer), now) > 0;
}

}  // namespace

ClientContext::ClientContext(const configuration::Configuration& configuration, const configuration::Pool& pool)
    : context_(SSL_CTX_new(TLS_client_method())) {
    if (!pool.tls) throw std::runtime_error(std::format("pool {}: has no tls", pool.name));
    require(context_ != nullptr, "a client context");
    server_name_ = pool.tls->server_name;
    name_is_address_ = IpAddress::parse(server_name_).has_value();
    tls12_ = std::ranges::contains(pool.tls->versions, configuration::TlsVersion::tls12);
    tls13_ = std::ranges::contains(pool.tls->versions, configuration::TlsVersion::tls13);
    if (server_name_.empty() || (!tls12_ && !tls13_)) throw std::runtime_error(std::format("pool {}: no server name or no TLS version", pool.name));
    SSL_CTX* const context = context_.get();
    apply_catalogue(context, tls12_, tls13_, false);
    require(SSL_CTX_add_custom_ext(context, kSignatureAlgorithmsCert, SSL_EXT_CLIENT_HELLO, add_certificate_schemes, nullptr, nullptr, nullptr, nullptr) == 1,
            "signature_algorithms_cert");

    openssl::Store store(X509_STORE_new());
    require(store != nullptr, "a certificate store");
    for (const auto& file : pool.tls->trust) {
        auto anchors = certificates::load_trust_anchors(file, configuration.policy_level, std::chrono::system_clock::now());
        if (!anchors) {
            std::string text = std::format("pool {}", pool.name);
            for (const certificates::Problem& problem : anchors.error()) text += std::format(": {}: {}", problem.file.string(), problem.wrong);
            throw std::runtime_error(text);
        }
        for (const openssl::Certificate& anchor : *anchors) require(X509_STORE_add_cert(store.get(), anchor.get()) == 1, "a trust anchor");
    }
    SSL_CTX_set_cert_store(context, store.release());

    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    X509_VERIFY_PARAM* const parameters = SSL_CTX_get0_param(context);
    require(X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER) == 1, "the purpose serverAuth");
    // Whatever is on the list is an anchor, an intermediate CA too: nothing above it need be trusted.
    require(X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) == 1, "verification flags");
    // RFC 9525: a whole leftmost label or nothing, and never the subject's common name.
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);

    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, [](SSL* ssl, SSL_SESSION* session) { return Connection::of(ssl).new_session(session); });
}

void ClientContext::keep(const std::string& identity, openssl::Session session) {
    const std::scoped_lock lock(mutex_);
    if (!sessions_.contains(identity) && sessions_.size() >= kIdentities) return;
    auto& kept = sessions_[identity];
    kept.push_back(std::move(session));
    if (kept.size() > kSessionsPerIdentity) kept.pop_front();
}

openssl::Session ClientContext::take(const std::string& identity) {
    const std::scoped_lock lock(mutex_);
    const auto found = sessions_.find(identity);
    if (found == sessions_.end()) return nullptr;
    auto& kept = found->second;
    while (!kept.empty()) {
        openssl::Session session = std::move(kept.back());
        kept.pop_back();
        if (!still_good(session.get())) continue;
        if (SSL_SESSION_get_protocol_version(session.get()) == TLS1_2_VERSION && SSL_SESSION_up_ref(session.get()) == 1)
            kept.emplace_back(session.get());
        return session;
    }
    sessions_.erase(found);
    return nullptr;
}

std::size_t ClientContext::sessions() const {
    const std::scoped_lock lock(mutex_);
    std::size_t count = 0;
    for (const auto& [identity, kept] : sessions_) count += kept.size();
    return count;
}

std::shared_ptr<ClientContext> make_client_context(const configuration::Configuration& configuration, const configuration::Pool& pool,
                                                   ClientMaterials /*materials*/) {
    return std::make_shared<ClientContext>(configuration, pool);
}

}  // namespace sallyport::handshake
