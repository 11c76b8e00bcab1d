#include "tests/bench/generator/tls_context.h"

#include <algorithm>

#include "control/handshake/signing_keys.h"
#include "control/policy/catalogue.h"
#include "crypto/format.h"
#include "tests/bench/generator/tls_handshake.h"

namespace sallyport::generator {

std::expected<std::unique_ptr<TlsContext>, std::string> TlsContext::make_client(const TlsOptions& options) {
    std::unique_ptr<TlsContext> made(new TlsContext(options, false));
    if (auto done = made->set_up(); !done) return std::unexpected(done.error());
    SSL_CTX* const context = made->get();
    if (!options.trust.empty()) {
        if (SSL_CTX_load_verify_file(context, options.trust.c_str()) != 1)
            return std::unexpected(sallyport::format("{}: no CA certificates in PEM: {}", options.trust, openssl::error_queue()));
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    }
    SSL_CTX_set_cert_verify_callback(context, verify_chain, made.get());
    if (!options.alpn.empty()) {
        std::vector<unsigned char> list{static_cast<unsigned char>(options.alpn.size())};
        list.insert(list.end(), options.alpn.begin(), options.alpn.end());
        SSL_CTX_set_alpn_protos(context, list.data(), static_cast<unsigned>(list.size()));
    }
    // Sessions come to us, and stay with us: libssl keeps none.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, Handshake::on_new_session);
    return made;
}

std::expected<std::unique_ptr<TlsContext>, std::string> TlsContext::make_server(const TlsOptions& options) {
    std::unique_ptr<TlsContext> made(new TlsContext(options, true));
    if (options.certificate.empty()) return std::unexpected("a TLS server needs a certificate and its key");
    if (auto done = made->set_up(); !done) return std::unexpected(done.error());
    SSL_CTX* const context = made->get();
    // Tickets without a cache: any number of sessions costs nothing here.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, options.tickets);
    if (options.tickets == 0) SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    if (!options.alpn.empty()) SSL_CTX_set_alpn_select_cb(context, choose_protocol, made.get());
    return made;
}

std::expected<void, std::string> TlsContext::set_up() {
    context_.reset(SSL_CTX_new(server_ ? TLS_server_method() : TLS_client_method()));
    SSL_CTX* const context = context_.get();
    if (context == nullptr) return std::unexpected("libssl: " + openssl::error_queue());
    SSL_CTX_set_app_data(context, this);
    SSL_CTX_set_min_proto_version(context, options_.least_version);
    SSL_CTX_set_max_proto_version(context, options_.most_version);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    if (auto done = set_suites(); !done) return done;
    if (!options_.groups.empty()) {
        std::string list;
        for (std::size_t at = 0; at <= options_.groups.size();) {
            const std::size_t end = std::min(options_.groups.find_first_of(",:", at), options_.groups.size());
            const std::string_view name = std::string_view(options_.groups).substr(at, end - at);
            const auto known = std::ranges::find(policy::kGroups, name, &policy::Group::name);
            list += (list.empty() ? "" : ":") + std::string(known != policy::kGroups.end() ? known->openssl_name : name);
            at = end + 1;
        }
        if (SSL_CTX_set1_groups_list(context, list.c_str()) != 1)
            return std::unexpected(sallyport::format("groups \"{}\": libssl does not know them all: {}", options_.groups, openssl::error_queue()));
    }
    if (auto done = set_certificate(); !done) return done;
    Handshake::install(context);
    return {};
}

/// Only suites of the record engine's catalogue are offered and accepted: others could not be carried on after the handshake.
std::expected<void, std::string> TlsContext::set_suites() {
    std::string tls12, tls13;
    const auto add = [&](const policy::Suite& suite) {
        std::string& list = suite.version == policy::kTls13 ? tls13 : tls12;
        list += (list.empty() ? "" : ":") + std::string(suite.openssl_name);
    };
    if (options_.suites.empty()) std::ranges::for_each(policy::kSuites, add);
    for (const std::string& name : options_.suites) {
        const auto known = std::ranges::find(policy::kSuites, name, &policy::Suite::name);
        if (known == policy::kSuites.end()) {
            std::string all;
            for (const policy::Suite& suite : policy::kSuites) all += (all.empty() ? "" : ", ") + std::string(suite.name);
            return std::unexpected(sallyport::format("suite \"{}\" is not known; one of {}", name, all));
        }
        add(*known);
    }
    const bool wants12 = options_.least_version <= policy::kTls12, wants13 = options_.most_version >= policy::kTls13;
    if ((!wants12 || tls12.empty()) && (!wants13 || tls13.empty())) return std::unexpected("none of the suites belongs to one of the versions");
    // A version without a suite is left out, or libssl would offer it with its own.
    if (tls12.empty()) SSL_CTX_set_min_proto_version(context_.get(), policy::kTls13);
    if (tls13.empty()) SSL_CTX_set_max_proto_version(context_.get(), policy::kTls12);
    if ((!tls12.empty() && SSL_CTX_set_cipher_list(context_.get(), tls12.c_str()) != 1) || (!tls13.empty() && SSL_CTX_set_ciphersuites(context_.get(), tls13.c_str()) != 1))
        return std::unexpected("libssl does not take the suites: " + openssl::error_queue());
    if (server_) SSL_CTX_set_options(context_.get(), SSL_OP_CIPHER_SERVER_PREFERENCE);
    return {};
}

std::expected<void, std::string> TlsContext::set_certificate() {
    if (options_.certificate.empty() && options_.key.empty()) return {};
    if (options_.certificate.empty() || options_.key.empty()) return std::unexpected("a certificate needs its key, and a key its certificate");
    if (SSL_CTX_use_certificate_chain_file(context_.get(), options_.certificate.c_str()) != 1)
        return std::unexpected(sallyport::format("{}: no certificate chain in PEM: {}", options_.certificate, openssl::error_queue()));
    if (SSL_CTX_use_PrivateKey_file(context_.get(), options_.key.c_str(), SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context_.get()) != 1)
        return std::unexpected(sallyport::format("{}: not the private key of {}: {}", options_.key, options_.certificate, openssl::error_queue()));
    // Signs together with the keys of other handshakes, where that is faster.
    const openssl::PrivateKey signing = handshake::signing_key(SSL_CTX_get0_privatekey(context_.get()));
    if (SSL_CTX_use_PrivateKey(context_.get(), signing.get()) != 1) return std::unexpected("libssl does not take the private key: " + openssl::error_queue());
    return {};
}

/// A certificate's signature costs a client as much as the handshake's own, so a chain that has been verified is not verified once more. Where no CA is trusted none is verified (libssl would do it,
/// and go on whatever came of it).
int TlsContext::verify_chain(X509_STORE_CTX* store, void* of) {
    TlsContext& context = *static_cast<TlsContext*>(of);
    if (context.options_.trust.empty()) return 1;
    const STACK_OF(X509)* const chain = X509_STORE_CTX_get0_untrusted(store);
    std::vector<unsigned char> shown;
    for (int i = 0; i < sk_X509_num(chain); ++i) {
        const int length = i2d_X509(sk_X509_value(chain, i), nullptr);
        if (length <= 0) return X509_verify_cert(store);
        const std::size_t at = shown.size();
        shown.resize(at + static_cast<std::size_t>(length));
        unsigned char* to = shown.data() + at;
        static_cast<void>(i2d_X509(sk_X509_value(chain, i), &to));
    }
    if (!shown.empty() && shown == context.verified_) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    const int verified = X509_verify_cert(store);
    if (verified == 1) context.verified_ = std::move(shown);
    return verified;
}

int TlsContext::choose_protocol(SSL*, const unsigned char** chosen, unsigned char* length, const unsigned char* offered, unsigned offered_length, void* context) {
    const std::string& wanted = static_cast<TlsContext*>(context)->options_.alpn;
    for (unsigned at = 0; at < offered_length && at + 1u + offered[at] <= offered_length; at += 1u + offered[at]) {
        if (std::string_view(reinterpret_cast<const char*>(offered + at + 1), offered[at]) != wanted) continue;
        *chosen = offered + at + 1;
        *length = offered[at];
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;   // RFC 7301 3.2
}

openssl::Session TlsContext::take_session() {
    if (sessions_.empty()) return nullptr;
    if (SSL_SESSION_get_protocol_version(sessions_.back().get()) == TLS1_3_VERSION) {
        openssl::Session session = std::move(sessions_.back());
        sessions_.pop_back();
        return session;
    }
    SSL_SESSION* const shared = sessions_[next_++ % sessions_.size()].get();
    SSL_SESSION_up_ref(shared);
    return openssl::Session(shared);
}

void TlsContext::keep_session(openssl::Session session) {
    if (wants_sessions() && SSL_SESSION_is_resumable(session.get()) == 1) sessions_.push_back(std::move(session));
}

}  // namespace sallyport::generator
