#include "control/handshake/client_context.h"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "control/certificates/asn1_time.h"
#include "control/certificates/certificate_chain.h"
#include "control/channel/address.h"
#include "control/handshake/connection.h"
#include "control/handshake/server_context.h"
#include "control/policy/catalogue.h"
#include "crypto/format.h"

namespace sallyport::handshake {
namespace {

void require(bool done, std::string_view what) {
    if (!done) throw std::runtime_error(sallyport::format("libssl refuses {}: {}", what, openssl::error_queue()));
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

/// A pinned certificate is taken as it is when it is in date; anything else must lead to an anchor.
int verify(X509_STORE_CTX* store, void* argument) {
    auto& context = *static_cast<ClientContext*>(argument);
    X509* const leaf = X509_STORE_CTX_get0_cert(store);
    if (leaf == nullptr || !context.pinned(leaf)) return X509_verify_cert(store);
    context.saw_pin(leaf);   // also one that has run out: that is what the alarm is for
    const bool good = in_date(leaf, Clock::now());
    const bool early = ASN1_TIME_cmp_time_t(X509_get0_notBefore(leaf), Clock::to_time_t(Clock::now())) > 0;
    X509_STORE_CTX_set_error(store, good ? X509_V_OK : early ? X509_V_ERR_CERT_NOT_YET_VALID : X509_V_ERR_CERT_HAS_EXPIRED);
    X509_STORE_CTX_set_error_depth(store, 0);
    if (!good) {
        const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
        Connection::of(ssl).chain_error(store);
    }
    return good ? 1 : 0;
}

}  // namespace

ClientContext::ClientContext(const configuration::Configuration& configuration, const configuration::Pool& pool, ClientMaterials materials)
    : context_(SSL_CTX_new(TLS_client_method())), materials_(std::move(materials)) {
    if (!pool.tls) throw std::runtime_error(sallyport::format("pool {}: has no tls", pool.name));
    require(context_ != nullptr, "a client context");
    server_name_ = pool.tls->server_name;
    name_is_address_ = IpAddress::parse(server_name_).has_value();
    tls12_ = std::ranges::contains(pool.tls->versions, configuration::TlsVersion::tls12);
    tls13_ = std::ranges::contains(pool.tls->versions, configuration::TlsVersion::tls13);
    if (!tls12_ && !tls13_) throw std::runtime_error(sallyport::format("pool {}: no TLS version", pool.name));
    SSL_CTX* const context = context_.get();
    apply_catalogue(context, tls12_, tls13_, false);
    require(SSL_CTX_add_custom_ext(context, kSignatureAlgorithmsCert, SSL_EXT_CLIENT_HELLO, add_certificate_schemes, nullptr, nullptr, nullptr, nullptr) == 1,
            "signature_algorithms_cert");

    openssl::Store store(X509_STORE_new());
    require(store != nullptr, "a certificate store");
    const std::string owner = sallyport::format("pool {}", pool.name);
    pins_ = pool.tls->pins;
    names_ = pool.tls->names;
    anchors_ = trust(store.get(), pool.tls->anchors, pool.tls->trust, configuration.policy_level, owner);
    if (anchors_.empty() && pins_.empty()) throw std::runtime_error(owner + ": neither anchors nor pins to verify its members with (9.2.6 (12.3.2))");
    // Under an anchor any certificate would do without a name; a pin names its certificate by itself.
    if (server_name_.empty() && !anchors_.empty()) throw std::runtime_error(owner + ": anchors, and no name that its members' certificates must cover (9.2.6 (12.3.2))");
    revocation_must_be_known_ = configuration.policy_level >= 3;
    revocation_waived_until_ = revocation_waived_until(configuration, owner);
    if (pool.tls->identity) {
        own_ = chain_of(*pool.tls->identity, configuration.policy_level, owner + ": identity");
        const auto intermediates = intermediates_of(*own_);
        require(SSL_CTX_use_cert_and_key(context, own_->leaf.get(), own_->key.get(), intermediates.get(), 1) == 1, "the pool's client certificate");
    }
    SSL_CTX_set_cert_store(context, store.release());

    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_cert_verify_callback(context, verify, this);
    require(SSL_CTX_set_tlsext_status_type(context, TLSEXT_STATUSTYPE_ocsp) == 1, "to ask for a stapled OCSP answer");
    X509_VERIFY_PARAM* const parameters = SSL_CTX_get0_param(context);
    require(X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER) == 1, "the purpose serverAuth");
    // Whatever is on the list is an anchor, an intermediate CA too: nothing above it need be trusted.
    require(X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) == 1, "verification flags");
    // RFC 9525: a whole leftmost label or nothing, and never the subject's common name.
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);

    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, [](SSL* ssl, SSL_SESSION* session) { return Connection::of(ssl).new_session(session); });
}

bool ClientContext::pinned(const X509* certificate) const {
    if (pins_.empty()) return false;
    std::array<std::uint8_t, 32> digest{};
    std::array<unsigned char, EVP_MAX_MD_SIZE> octets{};
    unsigned length = 0;
    if (X509_digest(certificate, EVP_sha256(), octets.data(), &length) != 1 || length != digest.size()) return false;
    std::copy_n(octets.begin(), digest.size(), digest.begin());
    return std::ranges::contains(pins_, digest);
}

std::vector<ClientContext::SeenPin> ClientContext::pins_seen() const {
    const std::scoped_lock lock(mutex_);
    std::vector<SeenPin> seen;
    for (const auto& [fingerprint, pin] : pins_seen_) seen.push_back(pin);
    return seen;
}

void ClientContext::saw_pin(const X509* certificate) {
    const auto not_after = certificates::time_of(X509_get0_notAfter(certificate));
    if (!not_after || !pinned(certificate)) return;
    const auto fingerprint = certificates::fingerprint_of(certificate);
    const std::scoped_lock lock(mutex_);
    pins_seen_.try_emplace(fingerprint, SeenPin{subject_of(certificate), *not_after});
}

std::optional<std::string> ClientContext::revoked_identity() const {
    if (!own_ || !materials_.revoked || !materials_.revoked(*own_)) return std::nullopt;
    return own_->subject();
}

std::optional<ClientContext::Objection> ClientContext::object_to(Proof& proof, std::span<const std::byte> staple, Clock::time_point now) const {
    using revocation::Standing;
    if (!proof.identity || proof.identity->chain.empty()) return Objection{policy::Violation::backend_certificate_invalid, "no chain"};
    const auto& proven = proof.identity->chain;
    X509* const leaf = proven.front().get();
    if (!name_allowed(names_, leaf)) return Objection{policy::Violation::backend_name_not_allowed, subject_of(leaf)};
    // Who pins a certificate vouches for it: nobody else could revoke it, and the pin is taken out instead.
    if (pinned(leaf)) return std::nullopt;
    std::vector<X509*> chain;
    for (const SharedCertificate& certificate : proven) chain.push_back(certificate.get());
    auto verdict = check_revocation(chain, materials_.crls.get(), staple, now);
    if (verdict.standing == Standing::revoked) return Objection{policy::Violation::backend_revoked, verdict.why};
    if (verdict.standing == Standing::good) {
        if (!staple.empty()) proof.stapled_until = verdict.until;
        return std::nullopt;
    }
    const bool stapled = now < proof.stapled_until;   // a resumed session: the answer that came when it began still holds
    if (stapled || !revocation_must_be_known_ || now < revocation_waived_until_) return std::nullopt;
    return Objection{policy::Violation::backend_revocation_unknown, verdict.why};
}

bool ClientContext::still_good(KeptSession& kept) const {
    SSL_SESSION* const session = kept.session.get();
    const auto now = Clock::now();
    if (SSL_SESSION_is_resumable(session) != 1) return false;
    if (SSL_SESSION_get_time_ex(session) + SSL_SESSION_get_timeout(session) <= Clock::to_time_t(now)) return false;
    // The certificate was verified when the session began, and is not sent again: it must not have run out or been revoked meanwhile.
    return kept.proof.identity && SSL_SESSION_get0_peer(session) != nullptr &&
           std::ranges::all_of(kept.proof.identity->chain, [now](const SharedCertificate& certificate) { return in_date(certificate.get(), now); }) &&
           !object_to(kept.proof, {}, now);
}

void ClientContext::keep(const std::string& identity, KeptSession session) {
    const std::scoped_lock lock(mutex_);
    if (!sessions_.contains(identity) && sessions_.size() >= kIdentities) return;
    auto& kept = sessions_[identity];
    kept.push_back(std::move(session));
    if (kept.size() > kSessionsPerIdentity) kept.pop_front();
}

std::unique_ptr<KeptSession> ClientContext::take(const std::string& identity) {
    const std::scoped_lock lock(mutex_);
    const auto found = sessions_.find(identity);
    if (found == sessions_.end()) return nullptr;
    auto& kept = found->second;
    while (!kept.empty()) {
        auto newest = std::make_unique<KeptSession>(std::move(kept.back()));
        kept.pop_back();
        if (!still_good(*newest)) continue;
        if (SSL_SESSION_get_protocol_version(newest->session.get()) == TLS1_2_VERSION && SSL_SESSION_up_ref(newest->session.get()) == 1)
            kept.push_back({openssl::Session(newest->session.get()), newest->proof, newest->group, newest->group_learned});
        return newest;
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
                                                   ClientMaterials materials) {
    return std::make_shared<ClientContext>(configuration, pool, std::move(materials));
}

}  // namespace sallyport::handshake
