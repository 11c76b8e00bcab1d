#include "control/operations/client_view.h"

#include <openssl/ech.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <optional>

#include "control/channel/address.h"
#include "control/handshake/libssl.h"
#include "control/handshake/server_context.h"
#include "control/management/views.h"
#include "control/operations/helpers.h"
#include "control/revocation/asn1_time.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

using management::TestedHandshakeView;
using Octets = std::vector<std::byte>;

/// A kind of client: what it can verify decides which certificate it is shown.
struct Kind {
    const char* name;
    bool ecdsa;
    const char* schemes;
    const char* suites12;
};
constexpr Kind kKinds[] = {
    {"ECDSA", true, "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519",
     "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"RSA", false, "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512",
     "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256"},
};

std::string name_text(const X509_NAME* name) {
    const openssl::Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return {};
    char* text = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &text);
    return length > 0 ? std::string(text, static_cast<std::size_t>(length)) : std::string();
}

/// The client: libssl on memory BIOs.
class Client {
 public:
    Client(const TestedService& service, const std::string& server_name, int version, const Kind& kind, SSL_SESSION* session)
        : context_(SSL_CTX_new(TLS_client_method())) {
        SSL_CTX* const c = context_.get();
        SSL_CTX_set_min_proto_version(c, version);
        SSL_CTX_set_max_proto_version(c, version);
        SSL_CTX_set_cipher_list(c, kind.suites12);
        SSL_CTX_set1_sigalgs_list(c, kind.schemes);
        SSL_CTX_set_verify(c, SSL_VERIFY_NONE, nullptr);   // looked at afterwards, so that all of it can be told
        SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(c, [](SSL* ssl, SSL_SESSION* fresh) {
            auto& self = *static_cast<Client*>(SSL_get_app_data(ssl));
            ++self.tickets_;
            self.session_.reset(fresh);
            return 1;
        });
        std::string list;
        for (const std::string& protocol : service.alpn) {
            list += static_cast<char>(protocol.size());
            list += protocol;
        }
        if (!list.empty()) SSL_CTX_set_alpn_protos(c, reinterpret_cast<const unsigned char*>(list.data()), static_cast<unsigned>(list.size()));
        ssl_.reset(SSL_new(c));
        in_ = BIO_new(BIO_s_mem());
        out_ = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(in_, -1);
        SSL_set_bio(ssl_.get(), in_, out_);
        SSL_set_app_data(ssl_.get(), this);
        SSL_set_connect_state(ssl_.get());
        SSL_set_info_callback(ssl_.get(), [](const SSL* ssl, int where, int value) {
            if (where == SSL_CB_READ_ALERT) static_cast<Client*>(SSL_get_app_data(ssl))->alert_ = value & 0xff;
        });
        if (!IpAddress::parse(server_name)) SSL_set_tlsext_host_name(ssl_.get(), server_name.c_str());
        SSL_set_tlsext_status_type(ssl_.get(), TLSEXT_STATUSTYPE_ocsp);
        if (session != nullptr) SSL_set_session(ssl_.get(), session);
        if (service.ech && version == TLS1_3_VERSION) {
            const auto& configurations = service.ech->config_list();
            ech_offered_ = SSL_set1_ech_config_list(ssl_.get(), reinterpret_cast<const std::uint8_t*>(configurations.data()), configurations.size()) == 1;
        }
    }
    // As if it had been closed in order: libssl forgets the session of a connection that was cut off.
    ~Client() { SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    Octets feed(std::span<const std::byte> octets) {
        ERR_clear_error();
        if (!octets.empty()) BIO_write(in_, octets.data(), static_cast<int>(octets.size()));
        const int result = SSL_do_handshake(ssl_.get());
        done_ = result == 1;
        if (result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) note_error();
        return written();
    }
    /// What comes after the handshake: tickets, and the alert of a server that refuses in the end.
    void read_rest(std::span<const std::byte> octets) {
        ERR_clear_error();
        if (!octets.empty()) BIO_write(in_, octets.data(), static_cast<int>(octets.size()));
        std::array<char, 4096> part;
        int got = 0;
        while ((got = SSL_read(ssl_.get(), part.data(), part.size())) > 0) {
        }
        if (SSL_get_error(ssl_.get(), got) != SSL_ERROR_WANT_READ) note_error();
    }

    [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
    [[nodiscard]] bool done() const { return done_; }
    [[nodiscard]] std::uint64_t tickets() const { return tickets_; }
    [[nodiscard]] SSL_SESSION* session() const { return session_.get(); }
    [[nodiscard]] bool ech_offered() const { return ech_offered_; }
    /// What it objected to, or the alert that it was sent; empty: nothing.
    [[nodiscard]] std::string complaint() const {
        if (alert_ >= 0) return "the server sent the alert " + handshake::alert_name(alert_);
        return error_;
    }

 private:
    Octets written() {
        char* data = nullptr;
        const long length = BIO_get_mem_data(out_, &data);
        const auto* const begin = reinterpret_cast<const std::byte*>(data);
        Octets octets(begin, begin + length);
        static_cast<void>(BIO_reset(out_));
        return octets;
    }
    void note_error() {
        const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
        error_ = reason == nullptr ? "the handshake ended" : reason;
        ERR_clear_error();
    }

    openssl::Context context_;
    openssl::Session session_;
    openssl::Connection ssl_;   // goes before the session that its callback fills in
    BIO* in_ = nullptr;         // owned by ssl_
    BIO* out_ = nullptr;
    bool done_ = false, ech_offered_ = false;
    int alert_ = -1;
    std::uint64_t tickets_ = 0;
    std::string error_;
};

struct Outcome {
    handshake::Step step = handshake::Step::more;
    std::string failure;
};

Outcome shake(const TestedService& service, Client& client) {
    handshake::ServerHandshake server(service.context);
    Outcome outcome;
    Octets to_server = client.feed({});
    while (outcome.step == handshake::Step::more && !to_server.empty()) {
        Octets to_client;
        outcome.step = server.feed(to_server, to_client);
        if (client.done()) {
            client.read_rest(to_client);
            break;
        }
        to_server = client.feed(to_client);
    }
    outcome.failure = server.failure().text;
    return outcome;
}

std::string staple_of(SSL* ssl) {
    const unsigned char* octets = nullptr;
    const long length = SSL_get_tlsext_status_ocsp_resp(ssl, &octets);
    if (octets == nullptr || length <= 0) return "none";
    const openssl::Owner<OCSP_RESPONSE, OCSP_RESPONSE_free> response(d2i_OCSP_RESPONSE(nullptr, &octets, length));
    if (!response || OCSP_response_status(response.get()) != OCSP_RESPONSE_STATUS_SUCCESSFUL) return "unreadable";
    const openssl::Owner<OCSP_BASICRESP, OCSP_BASICRESP_free> basic(OCSP_response_get1_basic(response.get()));
    if (!basic || OCSP_resp_count(basic.get()) < 1) return "unreadable";
    int reason = 0;
    ASN1_GENERALIZEDTIME *revoked = nullptr, *this_update = nullptr, *next_update = nullptr;
    const int status = OCSP_single_get0_status(OCSP_resp_get0(basic.get(), 0), &reason, &revoked, &this_update, &next_update);
    if (status == V_OCSP_CERTSTATUS_REVOKED) return "revoked";
    if (status != V_OCSP_CERTSTATUS_GOOD) return "unknown";
    const auto until = next_update == nullptr ? std::nullopt : revocation::time_of(next_update);
    return until ? "good until " + management::iso8601(*until) : "good";
}

void look_at_chain(TestedHandshakeView& view, const TestedService& service, const std::string& server_name, SSL* ssl,
                   std::chrono::system_clock::time_point now) {
    const STACK_OF(X509)* const sent = SSL_get_peer_cert_chain(ssl);
    std::vector<openssl::Certificate> intermediates;
    X509* leaf = nullptr;
    for (int i = 0; i < (sent == nullptr ? 0 : sk_X509_num(sent)); ++i) {
        X509* const certificate = sk_X509_value(sent, i);
        const auto until = revocation::time_of(X509_get0_notAfter(certificate));
        view.chain.push_back({name_text(X509_get_subject_name(certificate)), name_text(X509_get_issuer_name(certificate)),
                              until ? management::iso8601(*until) : std::string()});
        if (i == 0)
            leaf = certificate;
        else if (X509_up_ref(certificate) == 1)
            intermediates.emplace_back(certificate);
    }
    if (leaf == nullptr) return;
    view.trust_error = service.roots == nullptr ? "no public roots are known" : service.roots->verify(leaf, intermediates, now);
    view.trusted = view.trust_error.empty();
    view.name_covered = IpAddress::parse(server_name) ? X509_check_ip_asc(leaf, server_name.c_str(), 0) == 1
                                                      : X509_check_host(leaf, server_name.c_str(), server_name.size(), 0, nullptr) == 1;
}

TestedHandshakeView test_one(const TestedService& service, const std::string& server_name, int version, const Kind& kind,
                             std::chrono::system_clock::time_point now) {
    TestedHandshakeView view;
    view.offered = sallyport::format("{}, {}", version == TLS1_3_VERSION ? "TLS 1.3" : "TLS 1.2", kind.name);
    Client client(service, server_name, version, kind, nullptr);
    const Outcome outcome = shake(service, client);
    view.done = outcome.step == handshake::Step::done && client.done() && client.complaint().empty();
    SSL* const ssl = client.ssl();
    if (!view.done) {
        view.why = client.complaint().empty() ? "the connection ended" : client.complaint();
        if (!outcome.failure.empty()) view.why += "; the server's side: " + outcome.failure;
    }
    look_at_chain(view, service, server_name, ssl, now);
    if (const SSL_CIPHER* const suite = SSL_get_current_cipher(ssl)) {
        view.version = SSL_version(ssl) == TLS1_3_VERSION ? "TLS 1.3" : "TLS 1.2";
        view.suite = suite_name(static_cast<std::uint16_t>(SSL_CIPHER_get_protocol_id(suite)));
    }
    if (!client.done()) return view;
    if (const char* const group = SSL_get0_group_name(ssl)) view.group = group;
    const char* scheme = nullptr;
    if (SSL_get0_peer_signature_name(ssl, &scheme) == 1 && scheme != nullptr) view.signature_scheme = scheme;
    const unsigned char* protocol = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl, &protocol, &length);
    view.alpn.assign(reinterpret_cast<const char*>(protocol), protocol == nullptr ? 0 : length);
    view.staple = staple_of(ssl);
    view.tickets = client.tickets();
    view.ech = "not offered";
    if (client.ech_offered()) {
        char *inner = nullptr, *outer = nullptr;
        const int status = SSL_ech_get1_status(ssl, &inner, &outer);
        // BAD_NAME: it was accepted, and libssl has not verified the certificate; we do that ourselves, and tell it apart.
        view.ech = status == SSL_ECH_STATUS_SUCCESS || status == SSL_ECH_STATUS_BAD_NAME ? "accepted" : "rejected";
        OPENSSL_free(inner);
        OPENSSL_free(outer);
    }
    if (view.done && client.session() != nullptr) {
        Client again(service, server_name, version, kind, client.session());
        view.resumed = shake(service, again).step == handshake::Step::done && again.done() && SSL_session_reused(again.ssl()) == 1;
    }
    return view;
}

/// What a client, or who runs the service, would complain of.
void judge(management::ServiceTestView& view, const TestedService& service, const TestedHandshakeView& seen) {
    const auto complain = [&](const std::string& what) { view.problems.push_back(seen.offered + ": " + what); };
    if (!seen.done && !service.client_certificate_required) complain(seen.why);
    if (seen.chain.empty()) return;
    if (!seen.trusted) complain("the certificate is not trusted: " + seen.trust_error);
    if (!seen.name_covered) complain("the certificate does not cover " + view.server_name);
    if (!seen.done) return;
    if (service.staple_expected && !seen.staple.starts_with("good")) complain("the OCSP staple: " + seen.staple);
    if (service.ech && seen.version == "TLS 1.3" && seen.ech != "accepted") complain("Encrypted ClientHello was " + seen.ech);
    if (service.tickets > 0 && !seen.resumed) complain(seen.tickets == 0 ? "no session ticket came" : "a session ticket was not taken");
}

}  // namespace

management::ServiceTestView test_handshakes(const TestedService& service, const std::string& server_name, std::chrono::system_clock::time_point now) {
    management::ServiceTestView view;
    view.service = service.context->service();
    view.server_name = server_name;
    view.how = "handshakes made inside control, with the service's own certificates and settings, against a client of the same library: neither a "
               "packet, nor the dataplane, nor a pool was part of it";
    std::string lower = server_name;
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto set = service.context->find(lower);
    if (set.empty()) {
        view.problems.push_back(sallyport::format("no certificate of the service covers {}, or it has been revoked: clients get unrecognized_name", server_name));
        return view;
    }
    for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION})
        for (const Kind& kind : kKinds) {
            if (!service.context->speaks(static_cast<std::uint16_t>(version)) ||
                std::ranges::none_of(set, [&](const auto* each) { return each->chain->ecdsa == kind.ecdsa; }))
                continue;
            view.handshakes.push_back(test_one(service, server_name, version, kind, now));
            judge(view, service, view.handshakes.back());
        }
    if (service.client_certificate_required)
        view.how += "; the service requires a client certificate, and this client has none: it is refused where others go on";
    view.good = view.problems.empty();
    return view;
}

}  // namespace sallyport::operations
