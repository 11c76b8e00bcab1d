#include "control/handshake/server_context.h"

#include <algorithm>
#include <format>
#include <stdexcept>
#include <utility>

#include "control/channel/address.h"
#include "control/handshake/connection.h"
#include "control/policy/catalogue.h"

namespace sallyport::handshake {
namespace {

using certificates::CertificateChain;

void require(bool done, std::string_view what) {
    if (!done) throw std::runtime_error(std::format("libssl refuses {}: {}", what, openssl::error_queue()));
}

bool is_address(const std::string& name) { return IpAddress::parse(name).has_value(); }

/// One of a key type, which is what an SSL_CTX holds and what signature_algorithms choose among. The first one listed wins.
bool has_type(const std::vector<const CertificateChain*>& set, const CertificateChain& chain) {
    const int type = EVP_PKEY_get_base_id(chain.key.get());
    return std::ranges::any_of(set, [type](const CertificateChain* other) { return EVP_PKEY_get_base_id(other->key.get()) == type; });
}

std::vector<const CertificateChain*> set_for(const std::string& name, const std::vector<CertificateChain>& chains) {
    std::vector<const CertificateChain*> set;
    for (const CertificateChain& chain : chains)
        if (std::ranges::contains(chain.names, name) && !has_type(set, chain)) set.push_back(&chain);
    for (const CertificateChain& chain : chains)
        if (!name.starts_with('*') && chain.covers(name) && !has_type(set, chain)) set.push_back(&chain);
    return set;
}

int select_alpn(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_length, const unsigned char* offered,
                unsigned offered_length, void* argument) {
    const auto& context = *static_cast<const ServerContext*>(argument);
    static_cast<void>(ssl);
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
    auto* keys = static_cast<TicketKeys*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
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

}  // namespace

void apply_catalogue(SSL_CTX* context, bool tls12, bool tls13, bool server) {
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
    Connection::install(context);
}

ServerContext::ServerContext(const configuration::Configuration& configuration, const configuration::Service& service,
                             std::uint32_t service_index, std::shared_ptr<TicketKeys> tickets)
    : service_(service.name), alpn_(service.alpn), tickets_(std::move(tickets)), sha256_(EVP_MD_fetch(nullptr, "SHA256", nullptr)) {
    require(sha256_ != nullptr, "SHA-256");
    tls12_ = std::ranges::contains(service.versions, configuration::TlsVersion::tls12);
    tls13_ = std::ranges::contains(service.versions, configuration::TlsVersion::tls13);
    if (!tls12_ && !tls13_) throw std::runtime_error(std::format("service {}: no TLS version", service.name));

    std::vector<CertificateChain> chains;
    for (const configuration::CertificateFiles& files : service.certificates) {
        auto chain = certificates::load_certificate_chain(files.certificate, files.key, configuration.policy_level, std::chrono::system_clock::now());
        if (!chain) {
            std::string text = std::format("service {}", service.name);
            for (const certificates::Problem& problem : chain.error()) text += std::format(": {}: {}", problem.file.string(), problem.wrong);
            throw std::runtime_error(text);
        }
        chains.push_back(std::move(*chain));
    }
    if (chains.empty()) throw std::runtime_error(std::format("service {}: no certificate", service.name));
    make_identity(configuration, service_index, chains, service);

    // First of all the set of a client that names no server: what the first certificate is listed with.
    const auto& names = chains.front().names;
    const auto first_name = std::ranges::find_if_not(names, is_address);
    static_cast<void>(add(first_name != names.end() ? set_for(*first_name, chains) : std::vector{&std::as_const(chains.front())}, service));
    for (const CertificateChain& chain : chains) {
        for (const std::string& name : chain.names) {
            if (is_address(name)) continue;  // RFC 6066 3: a server name is no address
            SSL_CTX* const set = add(set_for(name, chains), service);
            if (name.starts_with("*."))
                wildcard_.emplace(name.substr(1), set);
            else
                exact_.emplace(name, set);
        }
    }
    sets_.clear();
}

void ServerContext::make_identity(const configuration::Configuration& configuration, std::uint32_t service_index,
                                  const std::vector<CertificateChain>& chains, const configuration::Service& service) {
    // Not a counter of generations: a reload that leaves the service as it is leaves its sessions as they are, and
    // any change of what a handshake depends on ends them.
    std::string text = std::format("sallyport session 1;{};{};{};{};{};{};", service.name, service_index, configuration.policy_level,
                                   tls12_, tls13_, service.pool);
    for (const std::string& protocol : service.alpn) text += std::format("{}:{};", protocol.size(), protocol);
    for (const CertificateChain& chain : chains) {
        std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
        unsigned length = 0;
        require(X509_digest(chain.leaf.get(), sha256_.get(), digest.data(), &length) == 1, "the digest of a certificate");
        text.append(reinterpret_cast<const char*>(digest.data()), length);
    }
    require(EVP_Digest(text.data(), text.size(), identity_.data(), nullptr, sha256_.get(), nullptr) == 1, "the digest of a service");
}

SSL_CTX* ServerContext::add(const std::vector<const CertificateChain*>& set, const configuration::Service& service) {
    const auto found = std::ranges::find(sets_, set);
    if (found != sets_.end()) return contexts_[static_cast<std::size_t>(found - sets_.begin())].get();
    contexts_.push_back(make(set, service));
    sets_.push_back(set);
    return contexts_.back().get();
}

openssl::Context ServerContext::make(const std::vector<const CertificateChain*>& set, const configuration::Service& service) const {
    openssl::Context context(SSL_CTX_new(TLS_server_method()));
    require(context != nullptr, "a server context");
    apply_catalogue(context.get(), tls12_, tls13_, true);
    for (const CertificateChain* chain : set) {
        std::unique_ptr<STACK_OF(X509), decltype([](STACK_OF(X509) * stack) { sk_X509_free(stack); })> intermediates(sk_X509_new_null());
        require(intermediates != nullptr, "a chain");
        for (const openssl::Certificate& certificate : chain->intermediates) require(sk_X509_push(intermediates.get(), certificate.get()) > 0, "a chain");
        require(SSL_CTX_use_cert_and_key(context.get(), chain->leaf.get(), chain->key.get(), intermediates.get(), 1) == 1,
                std::format("the certificate of {}", chain->subject()));
    }
    SSL_CTX_set_client_hello_cb(context.get(), [](SSL* ssl, int* alert, void*) { return Connection::of(ssl).client_hello(alert); }, nullptr);
    SSL_CTX_set_tlsext_servername_callback(context.get(), acknowledge_name);
    if (!alpn_.empty()) SSL_CTX_set_alpn_select_cb(context.get(), select_alpn, const_cast<ServerContext*>(this));
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    require(SSL_CTX_set_session_id_context(context.get(), identity_.data(), static_cast<unsigned>(identity_.size())) == 1, "a session-id context");
    require(SSL_CTX_set_num_tickets(context.get(), service.session_tickets) == 1, "the number of tickets");
    SSL_CTX_set_timeout(context.get(), TicketKeys::kTicketLifetime.count());
    if (service.session_tickets == 0 || !tickets_) {
        SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET);
        require(SSL_CTX_set_num_tickets(context.get(), 0) == 1, "no tickets");
    } else {
        SSL_CTX_set_app_data(context.get(), tickets_.get());
        require(SSL_CTX_set_tlsext_ticket_key_evp_cb(context.get(), ticket_key) == 1, "ticket keys");
    }
    return context;
}

SSL_CTX* ServerContext::find(std::string_view name) const {
    if (const auto found = exact_.find(name); found != exact_.end()) return found->second;
    const auto dot = name.find('.');
    if (dot == std::string_view::npos || dot == 0) return nullptr;
    const auto found = wildcard_.find(name.substr(dot));
    return found != wildcard_.end() ? found->second : nullptr;
}

bool ServerContext::bind_session(SSL* ssl, std::string_view server_name) const {
    std::string text(reinterpret_cast<const char*>(identity_.data()), identity_.size());
    text += server_name;
    std::array<unsigned char, 32> digest{};
    return EVP_Digest(text.data(), text.size(), digest.data(), nullptr, sha256_.get(), nullptr) == 1 &&
           SSL_set_session_id_context(ssl, digest.data(), static_cast<unsigned>(digest.size())) == 1;
}

std::shared_ptr<const ServerContext> make_server_context(const configuration::Configuration& configuration,
                                                         const configuration::Service& service, std::uint32_t service_index,
                                                         ServerMaterials materials) {
    return std::make_shared<const ServerContext>(configuration, service, service_index, std::move(materials.tickets));
}

}  // namespace sallyport::handshake
