#include "control/handshake/server_context.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "control/channel/address.h"
#include "control/handshake/connection.h"
#include "control/handshake/signing_keys.h"
#include "control/policy/catalogue.h"
#include "crypto/format.h"

namespace sallyport::handshake {
namespace {

void require(bool done, std::string_view what) {
    if (!done) throw std::runtime_error(sallyport::format("libssl refuses {}: {}", what, openssl::error_queue()));
}

bool is_address(const std::string& name) { return IpAddress::parse(name).has_value(); }

/// The kind of our key in the words that PROXY's TLVs are used to: "EC256", "RSA3072".
std::string key_text(const EVP_PKEY* key) {
    const int kind = EVP_PKEY_get_base_id(key);
    const std::string bits = std::to_string(EVP_PKEY_get_bits(key));
    return kind == EVP_PKEY_EC ? "EC" + bits : kind == EVP_PKEY_RSA || kind == EVP_PKEY_RSA_PSS ? "RSA" + bits : "ED25519";
}

ServerContext::Shown shown(std::shared_ptr<const certificates::CertificateChain> chain) {
    ServerContext::Shown shown;
    shown.intermediates = intermediates_of(*chain);
    shown.fingerprint = chain->fingerprint != certificates::Fingerprint{} ? chain->fingerprint : certificates::fingerprint_of(chain->leaf.get());
    shown.signing = signing_key(chain->key.get());
    shown.key_type = EVP_PKEY_get_base_id(chain->key.get());
    if (const EVP_PKEY* key = X509_get0_pubkey(chain->leaf.get())) shown.key = key_text(key);
    if (const char* name = OBJ_nid2sn(X509_get_signature_nid(chain->leaf.get()))) shown.signature = name;
    shown.chain = std::move(chain);
    return shown;
}

/// Of the service whose handshake a callback is about.

const ServerMaterials& materials_of(SSL* ssl) { return static_cast<const ServerContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)))->materials(); }

int select_alpn(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_length, const unsigned char* offered,
                unsigned offered_length, void* argument) {
    const auto& context = *static_cast<const ServerContext*>(argument);
    // The outer ClientHello offers what it likes (RFC 9849 6.1.7): its handshake leads to retry configurations and nothing else.
    if (Connection::of(ssl).negotiated().ech == EchOutcome::rejected) return SSL_TLSEXT_ERR_NOACK;
    for (const std::string& wanted : context.alpn()) {
        // libssl has checked that the list is well formed (RFC 7301 3.1).
        for (unsigned at = 0; at < offered_length; at += 1U + offered[at]) {
            const std::string_view name(reinterpret_cast<const char*>(offered + at + 1), offered[at]);
            if (name != wanted) continue;
            *chosen = offered + at + 1;
            *chosen_length = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;  // no_application_protocol, RFC 7301 3.2
}

int ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, int sealing) {
    TicketKeys* const keys = materials_of(ssl).tickets.get();
    if (sealing != 0) return keys->seal(name, iv, cipher, mac);
    constexpr int kReady = 1, kReadyAndRenew = 2;
    const int opened = keys->open(name, iv, cipher, mac);
    // A client uses a TLS 1.3 ticket once (RFC 8446 C.4): every resumption brings a new one.
    return opened == kReady && SSL_version(ssl) == TLS1_3_VERSION ? kReadyAndRenew : opened;
}

/// Makes libssl acknowledge the name (RFC 6066 3); it was chosen in the client-hello callback.
int acknowledge_name(SSL* ssl, int*, void*) {
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) != nullptr ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/// RFC 6066 8, RFC 8446 4.4.2.1: asked when the client wants a staple and the certificate has been chosen.
int staple(SSL* ssl, void*) { return Connection::of(ssl).staple(); }

/// A ticket whose client certificate is no longer good (dates, names, revocation) does not resume: a full handshake follows, where the
/// client may show a better one, or gets the alert.
SSL_TICKET_RETURN judge_ticket(SSL* ssl, SSL_SESSION* session, const unsigned char*, std::size_t, SSL_TICKET_STATUS status, void* argument) {
    const auto& context = *static_cast<const ServerContext*>(argument);
    switch (status) {
        case SSL_TICKET_SUCCESS:
        case SSL_TICKET_SUCCESS_RENEW: break;
        case SSL_TICKET_EMPTY:
        case SSL_TICKET_NO_DECRYPT: return SSL_TICKET_RETURN_IGNORE_RENEW;
        default: return SSL_TICKET_RETURN_IGNORE;
    }
    if (Connection::of(ssl).negotiated().ech == EchOutcome::rejected) return SSL_TICKET_RETURN_IGNORE;
    const auto use = status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
    if (context.client_auth().mode == configuration::ClientAuthMode::off || SSL_SESSION_get0_peer(session) == nullptr) {
        // Without a certificate nobody resumes where one is required.
        const bool missing = context.client_auth().mode == configuration::ClientAuthMode::required;
        return missing ? SSL_TICKET_RETURN_IGNORE_RENEW : use;
    }
    const auto now = Clock::now();
    const auto chain = context.chain_of_session(session, now);
    std::vector<X509*> borrowed;
    for (const SharedCertificate& certificate : chain) borrowed.push_back(certificate.get());
    return !chain.empty() && !context.object_to(borrowed, now) ? use : SSL_TICKET_RETURN_IGNORE_RENEW;
}

}  // namespace

void restrict_to_catalogue(SSL_CTX* context, bool tls12, bool tls13, bool server) {
    require(SSL_CTX_set_min_proto_version(context, tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1, "the oldest version");
    require(SSL_CTX_set_max_proto_version(context, tls13 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1, "the newest version");
    require(SSL_CTX_set_ciphersuites(context, policy::openssl_tls13_suites()) == 1, "the TLS 1.3 suites");
    require(SSL_CTX_set_cipher_list(context, policy::openssl_tls12_suites()) == 1, "the TLS 1.2 suites");
    require(SSL_CTX_set1_groups_list(context, server ? policy::openssl_server_groups() : policy::openssl_client_groups()) == 1, "the groups");
    require(SSL_CTX_set1_sigalgs_list(context, policy::openssl_signature_schemes()) == 1, "the signature schemes");
    require(SSL_CTX_set1_client_sigalgs_list(context, policy::openssl_signature_schemes()) == 1, "the client's signature schemes");
    SSL_CTX_set_security_level(context, 2);  // 112 bits: RSA from 2048 bits, no SHA-1 in a chain; the system's default may be less
    // Options may come from the system's openssl.cnf too: what it switched on is switched off first.
    SSL_CTX_clear_options(context, SSL_CTX_get_options(context));
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TX_CERTIFICATE_COMPRESSION |
                                     SSL_OP_NO_RX_CERTIFICATE_COMPRESSION | SSL_OP_ENABLE_MIDDLEBOX_COMPAT | SSL_OP_NO_ENCRYPT_THEN_MAC);
    if (server) SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(context, 0);
    // Early data is never accepted. What a client sends all the same, for a ticket that another server gave it, is skipped
    // (RFC 8446 4.2.10), up to libssl's own bound.
    SSL_CTX_set_max_early_data(context, 0);
}

void apply_catalogue(SSL_CTX* context, bool tls12, bool tls13, bool server) {
    restrict_to_catalogue(context, tls12, tls13, server);
    Connection::install(context);
}

ServerContext::ServerContext(const configuration::Configuration& configuration, const configuration::Service& service, ServerMaterials materials)
    : service_(service.name), alpn_(service.alpn), client_auth_(service.client_auth), materials_(std::move(materials)),
      sha256_(EVP_MD_fetch(nullptr, "SHA256", nullptr)) {
    require(sha256_ != nullptr, "SHA-256");
    tls12_ = std::ranges::contains(service.versions, configuration::TlsVersion::tls12);
    tls13_ = std::ranges::contains(service.versions, configuration::TlsVersion::tls13);
    const std::string owner = sallyport::format("service {}", service.name);
    if (!tls12_ && !tls13_) throw std::runtime_error(owner + ": no TLS version");
    shown_.reserve(service.certificates.size());
    for (const configuration::CertificateFiles& files : service.certificates) shown_.push_back(shown(handshake::chain_of(files, configuration.policy_level, owner)));
    if (shown_.empty()) throw std::runtime_error(owner + ": no certificate");
    revocation_must_be_known_ = configuration.policy_level >= 3;
    revocation_waived_until_ = revocation_waived_until(configuration, "clients of " + owner);
    make_names();
    if (service.ech && materials_.ech) {
        public_name_ = materials_.ech->public_name();
        if (!knows(public_name_))
            throw std::runtime_error(sallyport::format("{}: no certificate covers the public name \"{}\" of ECH (9.4.4 (12.1.5)); one that does", owner, public_name_));
    }
    make_context(configuration, service);
    make_identity(configuration, service);
}

void ServerContext::make_names() {
    exact_.reserve(shown_.size());
    for (const Shown& each : shown_) {
        for (const std::string& name : each.chain->names) {
            if (is_address(name)) continue;  // RFC 6066 3: a server name is no address
            if (default_name_.empty() && &each == &shown_.front()) default_name_ = name;
            if (name.starts_with("*."))
                wildcard_[name.substr(1)].push_back(&each);
            else
                exact_[name].push_back(&each);
        }
    }
    // A wildcard is asked for by any name that it covers.
    if (default_name_.starts_with("*.")) default_name_.replace(0, 1, "default");
}

void ServerContext::make_identity(const configuration::Configuration& configuration, const configuration::Service& service) {
    // Not a counter of generations: a reload that leaves the service as it is leaves its sessions as they are, and
    // any change of what a handshake depends on ends them. Certificates are bound by name, in bind_session.
    // By name, not by position: others that come and go beside the service change nothing for it.
    const std::string& pool = service.pool < configuration.pools.size() ? configuration.pools[service.pool].name : std::string();
    std::string text = sallyport::format("sallyport session 3;{};{};{};{};{};", service.name, configuration.policy_level, tls12_, tls13_, pool);
    const auto put = [&text](const std::vector<std::string>& list) {
        text += sallyport::format("{}:", list.size());
        for (const std::string& item : list) text += sallyport::format("{}:{};", item.size(), item);
    };
    put(service.alpn);
    text += sallyport::format("{};{};{};", static_cast<int>(client_auth_.mode), client_auth_.depth, client_auth_.forward);
    put(client_auth_.names);
    std::vector<std::string> crls;
    for (const configuration::CrlSource& source : client_auth_.crl) crls.push_back(source.file.empty() ? source.url : source.file.string());
    put(crls);
    for (const SharedCertificate& anchor : anchors_) {
        std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
        unsigned length = 0;
        require(X509_digest(anchor.get(), sha256_.get(), digest.data(), &length) == 1, "the digest of a client CA");
        text.append(reinterpret_cast<const char*>(digest.data()), length);
    }
    require(EVP_Digest(text.data(), text.size(), identity_.data(), nullptr, sha256_.get(), nullptr) == 1, "the digest of a service");
    require(SSL_CTX_set_session_id_context(context_.get(), identity_.data(), static_cast<unsigned>(identity_.size())) == 1, "a session-id context");
}

void ServerContext::demand_client_certificates(const configuration::Configuration& configuration) {
    if (client_auth_.mode == configuration::ClientAuthMode::off) return;
    SSL_CTX* const context = context_.get();
    openssl::Store store(X509_STORE_new());
    require(store != nullptr, "a certificate store");
    anchors_ = trust(store.get(), client_auth_.anchors, client_auth_.trust, configuration.policy_level, sallyport::format("service {}: client_auth", service_));
    if (anchors_.empty()) throw std::runtime_error(sallyport::format("service {}: client_auth has no CA (9.4.5 (12.1.3))", service_));
    SSL_CTX_set_cert_store(context, store.release());
    const bool required = client_auth_.mode == configuration::ClientAuthMode::required;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       [](int good, X509_STORE_CTX* chain) {
                           const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
                           if (good != 1) Connection::of(ssl).chain_error(chain);
                           return good;
                       });
    X509_VERIFY_PARAM* const parameters = SSL_CTX_get0_param(context);
    require(X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_CLIENT) == 1, "the purpose clientAuth");
    require(X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) == 1, "verification flags");
    X509_VERIFY_PARAM_set_depth(parameters, static_cast<int>(client_auth_.depth));
    openssl::Owner<STACK_OF(X509_NAME), [](STACK_OF(X509_NAME)* names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }> names(sk_X509_NAME_new_null());
    require(names != nullptr, "the names of the client CAs");
    for (const SharedCertificate& anchor : anchors_) {
        X509_NAME* const name = X509_NAME_dup(X509_get_subject_name(anchor.get()));
        require(name != nullptr && sk_X509_NAME_push(names.get(), name) > 0, "the name of a client CA");
    }
    SSL_CTX_set0_CA_list(context, names.release());
}

void ServerContext::make_context(const configuration::Configuration& configuration, const configuration::Service& service) {
    context_.reset(SSL_CTX_new(TLS_server_method()));
    SSL_CTX* const context = context_.get();
    require(context != nullptr, "a server context");
    apply_catalogue(context, tls12_, tls13_, true);
    SSL_CTX_set_app_data(context, this);
    SSL_CTX_set_client_hello_cb(context, [](SSL* ssl, int* alert, void*) { return Connection::of(ssl).client_hello(alert); }, nullptr);
    SSL_CTX_set_tlsext_servername_callback(context, acknowledge_name);
    if (!alpn_.empty()) SSL_CTX_set_alpn_select_cb(context, select_alpn, this);
    if (materials_.staple) require(SSL_CTX_set_tlsext_status_cb(context, staple) == 1, "a status callback");
    demand_client_certificates(configuration);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    require(SSL_CTX_set_num_tickets(context, 0) == 1, "no tickets");   // those of TLS 1.3 are new_session_tickets()
    if (service.session_tickets == 0 || !materials_.tickets) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    } else {
        tickets_ = service.session_tickets;
        SSL_CTX_set_timeout(context, materials_.tickets->ticket_lifetime().count());
        require(SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key) == 1, "ticket keys");
        require(SSL_CTX_set_session_ticket_cb(context, [](SSL* ssl, void*) { return keep_chain(ssl) ? 1 : 0; }, judge_ticket, this) == 1, "ticket callbacks");
    }
    if (!public_name_.empty()) require(SSL_CTX_set1_echstore(context, materials_.ech->store()) == 1, "the ECH keys");
}

void ServerContext::gather(const Set& candidates, Set& set) const {
    for (const Shown* each : candidates) {
        // The first one listed of a key type wins.
        const bool there = std::ranges::contains(set, each->key_type, &Shown::key_type);
        if (!there && !(materials_.revoked && materials_.revoked(*each->chain))) set.push_back(each);
    }
}

ServerContext::Set ServerContext::find(std::string_view name) const {
    if (name.empty()) name = default_name_;
    Set set;
    if (name.empty()) {  // the first certificate is for addresses alone
        gather({&shown_.front()}, set);
        return set;
    }
    if (const auto found = exact_.find(name); found != exact_.end()) gather(found->second, set);
    // A wildcard is for names that have nothing of their own: beside an exact certificate libssl would choose between them by kind of key.
    if (!set.empty()) return set;
    if (const auto dot = name.find('.'); dot != std::string_view::npos && dot > 0)
        if (const auto found = wildcard_.find(name.substr(dot)); found != wildcard_.end()) gather(found->second, set);
    return set;
}

bool ServerContext::knows(std::string_view name) const {
    const auto dot = name.find('.');
    return exact_.contains(name) || (dot != std::string_view::npos && dot > 0 && wildcard_.contains(name.substr(dot)));
}

std::optional<ServerContext::Objection> ServerContext::object_to(std::span<X509* const> chain, Clock::time_point now) const {
    if (chain.empty()) return Objection{policy::Violation::client_certificate_invalid, "no chain"};
    if (!name_allowed(client_auth_.names, chain.front())) return Objection{policy::Violation::client_name_not_allowed, subject_of(chain.front())};
    const auto verdict = check_revocation(chain, materials_.client_crls.get(), {}, now);
    if (verdict.standing == revocation::Standing::revoked) return Objection{policy::Violation::client_revoked, verdict.why};
    if (verdict.standing == revocation::Standing::unknown && revocation_must_be_known_ && now >= revocation_waived_until_)
        return Objection{policy::Violation::client_revocation_unknown, verdict.why};
    return std::nullopt;
}

std::vector<SharedCertificate> ServerContext::chain_of_session(SSL_SESSION* session, Clock::time_point now) const {
    std::vector<SharedCertificate> chain{share(SSL_SESSION_get0_peer(session))};
    if (!chain.front()) return {};
    void* data = nullptr;
    std::size_t length = 0;
    if (SSL_SESSION_get0_ticket_appdata(session, &data, &length) != 1) return {};
    const auto* octets = static_cast<const unsigned char*>(data);
    for (const unsigned char* const end = octets + length; octets != nullptr && octets < end;) {
        X509* const certificate = d2i_X509(nullptr, &octets, end - octets);
        if (certificate == nullptr) {
            ERR_clear_error();
            return {};
        }
        chain.emplace_back(certificate, X509_free);
    }
    const auto anchor = std::ranges::find_if(anchors_, [&](const SharedCertificate& candidate) {
        return X509_cmp(candidate.get(), chain.back().get()) == 0 || X509_check_issued(candidate.get(), chain.back().get()) == X509_V_OK;
    });
    if (anchor == anchors_.end()) return {};
    if (X509_cmp(anchor->get(), chain.back().get()) != 0) chain.push_back(*anchor);
    if (!std::ranges::all_of(chain, [now](const SharedCertificate& certificate) { return in_date(certificate.get(), now); })) return {};
    return chain;
}

/// In DER, one behind the other.
bool ServerContext::keep_chain(SSL* ssl) {
    const STACK_OF(X509)* chain = SSL_get0_verified_chain(ssl);
    SSL_SESSION* const session = SSL_get_session(ssl);
    if (SSL_get0_peer_certificate(ssl) == nullptr || session == nullptr || SSL_session_reused(ssl) == 1 || chain == nullptr) return true;
    std::vector<unsigned char> der;
    for (int i = 1; i + 1 < sk_X509_num(chain); ++i) {
        unsigned char* octets = nullptr;
        const int length = i2d_X509(sk_X509_value(chain, i), &octets);
        if (length > 0) der.insert(der.end(), octets, octets + length);
        OPENSSL_free(octets);
        if (length <= 0) return false;
    }
    return SSL_SESSION_set1_ticket_appdata(session, der.data(), der.size()) == 1;
}

bool ServerContext::bind_session(SSL* ssl, std::string_view server_name, const Set& set, EchOutcome ech) const {
    std::string text(reinterpret_cast<const char*>(identity_.data()), identity_.size());
    for (const Shown* each : set) text.append(reinterpret_cast<const char*>(each->fingerprint.data()), each->fingerprint.size());
    text += ech == EchOutcome::rejected ? '!' : '=';
    text += server_name;
    std::array<unsigned char, 32> digest{};
    return EVP_Digest(text.data(), text.size(), digest.data(), nullptr, sha256_.get(), nullptr) == 1 &&
           SSL_set_session_id_context(ssl, digest.data(), static_cast<unsigned>(digest.size())) == 1;
}

std::shared_ptr<const ServerContext> make_server_context(const configuration::Configuration& configuration,
                                                         const configuration::Service& service,
                                                         ServerMaterials materials) {
    return std::make_shared<const ServerContext>(configuration, service, std::move(materials));
}

}  // namespace sallyport::handshake
