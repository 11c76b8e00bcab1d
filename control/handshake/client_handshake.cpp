#include <limits>
#include <new>

#include "control/handshake/client_context.h"
#include "control/handshake/connection.h"
#include "control/handshake/handshake.h"
#include "crypto/format.h"

namespace sallyport::handshake {

struct ClientHandshake::State final : Connection {
    State(std::shared_ptr<ClientContext> shared, std::string_view protocol, std::string_view member);
    ~State() override { free_ssl(); }  // libssl may call back into this object

    [[nodiscard]] std::optional<Refusal> check_side() override;
    [[nodiscard]] std::optional<policy::Violation> violation_of(int reason) const override;
    [[nodiscard]] channel::EndReason reason_of_failure() const override;
    [[nodiscard]] std::string detail_of_failure() const override;
    [[nodiscard]] bool lives_on() const override { return negotiated().version == TLS1_3_VERSION; }
    [[nodiscard]] int new_session(SSL_SESSION* session) override {
        if (negotiated_.anchor.empty()) return 0;  // nothing has been proven yet
        context->keep(identity, {openssl::Session(session), proof, policy::find_group(negotiated_.group), group_learned});
        return 1;  // the reference is ours now
    }
    static int on_verify(int good, X509_STORE_CTX* store);
    [[nodiscard]] std::optional<Refusal> check_member();
    void prove(X509* leaf);
    [[nodiscard]] Step begin(std::vector<std::byte>& output);

    std::shared_ptr<ClientContext> context;
    std::string alpn;
    std::string identity;
    Proof proof;
    Clock::time_point group_learned = Clock::now();
    bool unverified = false;   ///< it is the certificate that is refused
};

ClientHandshake::State::State(std::shared_ptr<ClientContext> shared, std::string_view protocol, std::string_view member)
    : Connection(shared->get(), false), context(std::move(shared)), alpn(protocol), identity(member) {
    const std::string& name = context->server_name();
    negotiated_.server_name = name;
    // A pool that knows its members by pins alone has no name to ask for.
    bool good = name.empty() || (context->name_is_address() ? SSL_set1_ipaddr(ssl(), name.c_str()) == 1
                                                            : SSL_set1_dnsname(ssl(), name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl(), name.c_str()) == 1);
    SSL_set_verify(ssl(), SSL_VERIFY_PEER, on_verify);
    if (!alpn.empty()) {
        std::vector<unsigned char> list;
        good = good && alpn.size() <= std::numeric_limits<unsigned char>::max();
        list.push_back(static_cast<unsigned char>(alpn.size()));
        list.insert(list.end(), alpn.begin(), alpn.end());
        good = good && SSL_set_alpn_protos(ssl(), list.data(), static_cast<unsigned>(list.size())) == 0;  // 0 is success here
    }
    if (!good) throw std::bad_alloc();
    if (const auto kept = context->take(identity)) {
        SSL_set_session(ssl(), kept->session.get());
        proof = kept->proof;
        // Who has agreed to a group agrees to it again as a rule, so that one key share will do (RFC 8446 4.2.8); the others are offered still, and asked
        // for by a HelloRetryRequest. A hybrid's costs more than all the rest of a resumed handshake.
        const bool holds = kept->group != nullptr && kept->group_learned <= group_learned && group_learned < kept->group_learned + ClientContext::kGroupHolds;
        if (holds && SSL_set1_groups_list(ssl(), policy::openssl_client_groups(*kept->group)) != 1) throw std::bad_alloc();
        if (holds) group_learned = kept->group_learned;
    }
}

/// Our own certificate, once revoked, is shown to nobody: without it we are not who the members should serve, so there is no handshake.
Step ClientHandshake::State::begin(std::vector<std::byte>& output) {
    if (const auto subject = context->revoked_identity()) return refuse(refusal_of(policy::Violation::pool_identity_revoked, *subject), output);
    return start(output);
}

int ClientHandshake::State::on_verify(int good, X509_STORE_CTX* store) {
    if (good == 1) return 1;
    const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    of(ssl).chain_error(store);
    return 0;
}

/// Which violation an error of a chain is.
static policy::Violation violation_of_chain(long error) {
    using policy::Violation;
    switch (error) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH: return Violation::backend_wrong_name;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_UNTRUSTED: return Violation::backend_not_trusted;
        case X509_V_ERR_CERT_REVOKED: return Violation::backend_revoked;
        default: return Violation::backend_certificate_invalid;
    }
}

void ClientHandshake::State::prove(X509* leaf) {
    proof = {};
    std::vector<SharedCertificate> proven;
    const STACK_OF(X509)* chain = SSL_get0_verified_chain(ssl());
    if (context->pinned(leaf)) {
        proven.push_back(share(leaf));
        proof.anchor = "pin";
    } else if (chain != nullptr && sk_X509_num(chain) > 0) {
        for (int i = 0; i < sk_X509_num(chain); ++i) proven.push_back(share(sk_X509_value(chain, i)));
        proof.anchor = subject_of(proven.back().get());
    }
    if (!proven.empty()) proof.identity = context->identities().of(std::move(proven));
}

/// The member's certificate: proven by libssl on a full handshake, by what was kept with the session on a resumed one.
std::optional<Connection::Refusal> ClientHandshake::State::check_member() {
    using policy::Violation;
    // SSL_get_verify_result is X509_V_OK without a certificate too: ask for both.
    X509* const leaf = SSL_get0_peer_certificate(ssl());
    const long verified = SSL_get_verify_result(ssl());
    if (leaf == nullptr || verified != X509_V_OK) {
        unverified = true;
        failure_.peer_subject = subject_of(leaf);
        if (leaf == nullptr) return refusal_of(Violation::backend_certificate_invalid, "it sent none");
        return refusal_of(violation_of_chain(verified), sallyport::format("the backend's certificate could not be verified: {} (subject \"{}\")",
                                                                          X509_verify_cert_error_string(verified), subject_of(leaf)));
    }
    std::span<const std::byte> staple;
    if (!negotiated_.resumed) {
        // On TLS 1.2 this is asked twice, of one certificate: what it says is worked out once.
        const bool known = proof.identity && proof.identity->chain.front().get() == leaf;
        if (!known) prove(leaf);
        const unsigned char* answer = nullptr;
        if (const long length = SSL_get_tlsext_status_ocsp_resp(ssl(), &answer); answer != nullptr && length > 0)
            staple = std::as_bytes(std::span(answer, static_cast<std::size_t>(length)));
    }
    if (const auto objection = context->object_to(proof, staple, Clock::now())) {
        unverified = true;
        failure_.peer_subject = subject_of(leaf);
        return refusal_of(objection->violation, objection->why);
    }
    negotiated_.peer_subject = proof.identity->subject;
    negotiated_.anchor = proof.anchor.empty() ? "(no name)" : proof.anchor;
    negotiated_.identity = proof.identity;
    return std::nullopt;
}

std::optional<Connection::Refusal> ClientHandshake::State::check_side() {
    using policy::Violation;
    if (!context->speaks(negotiated_.version))
        return Refusal{SSL_AD_PROTOCOL_VERSION, sallyport::format("the backend chose version {:#06x}, which the pool does not allow (9.4.2 (12.1.1))", negotiated_.version),
                       Violation::backend_version};
    if (auto refusal = check_member()) return refusal;
    // A backend that knows no ALPN speaks HTTP/1.1 (RFC 9113 3.3: h2 is agreed on only so). Anything else must be agreed.
    const bool agreed = negotiated_.alpn == alpn || (negotiated_.alpn.empty() && alpn == "http/1.1");
    if (!agreed)
        return Refusal{SSL_AD_NO_APPLICATION_PROTOCOL, sallyport::format("the backend did not agree to protocol \"{}\": it chose \"{}\"", alpn, printable(negotiated_.alpn)),
                       Violation::no_application_protocol};
    return std::nullopt;
}

std::optional<policy::Violation> ClientHandshake::State::violation_of(int reason) const {
    using policy::Violation;
    if (failure_.alert_received) {
        if (failure_.alert == SSL_AD_PROTOCOL_VERSION) return Violation::backend_version;
        if (failure_.alert == SSL_AD_NO_APPLICATION_PROTOCOL) return Violation::no_application_protocol;
        // Before it has chosen anything, this is its answer to what was offered.
        const bool nothing_chosen = !flight_written() && negotiated_.suite == 0;
        return nothing_chosen && (failure_.alert == SSL_AD_HANDSHAKE_FAILURE || failure_.alert == SSL_AD_INSUFFICIENT_SECURITY)
                   ? std::optional(Violation::backend_suite)
                   : std::nullopt;
    }
    switch (reason) {
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_WRONG_SSL_VERSION:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_VERSION_TOO_HIGH: return Violation::backend_version;
        case SSL_R_WRONG_VERSION_NUMBER: return Violation::backend_not_tls;
        // Such as our own ClientHello, sent back by what echoes: no server's first message.
        case SSL_R_UNEXPECTED_MESSAGE: return negotiated_.suite == 0 && !flight_written() ? std::optional(Violation::backend_not_tls) : std::nullopt;
        case SSL_R_WRONG_CIPHER_RETURNED:
        case SSL_R_UNKNOWN_CIPHER_RETURNED:
        case SSL_R_BAD_KEY_SHARE:
        case SSL_R_WRONG_CURVE:
        case SSL_R_UNSUPPORTED_ELLIPTIC_CURVE:
        case SSL_R_WRONG_SIGNATURE_TYPE:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM: return Violation::backend_suite;
        case SSL_R_CERTIFICATE_VERIFY_FAILED: return violation_of_chain(SSL_get_verify_result(ssl()));
        default: return std::nullopt;
    }
}

channel::EndReason ClientHandshake::State::reason_of_failure() const {
    return !unverified && failure_.chain_error.empty() ? channel::EndReason::backend_handshake_failed : channel::EndReason::backend_unverified;
}

std::string ClientHandshake::State::detail_of_failure() const {
    if (failure_.chain_error.empty()) return {};
    if (context->server_name().empty()) return sallyport::format("the backend's certificate is not pinned: {}", failure_.chain_error);
    return sallyport::format("the backend's certificate could not be verified: {}, expected name \"{}\"", failure_.chain_error, context->server_name());
}

ClientHandshake::ClientHandshake(std::shared_ptr<ClientContext> context, std::string_view alpn, std::string_view identity)
    : state_(std::make_unique<State>(std::move(context), alpn, identity)) {}
ClientHandshake::~ClientHandshake() = default;
Step ClientHandshake::start(std::vector<std::byte>& output) { return state_->begin(output); }
Step ClientHandshake::feed(std::span<const std::byte> octets, std::vector<std::byte>& output) { return state_->feed(octets, output); }
std::uint64_t ClientHandshake::consumed() const { return state_->consumed(); }
const Negotiated& ClientHandshake::negotiated() const { return state_->negotiated(); }
const Failure& ClientHandshake::failure() const { return state_->failure(); }
Handed ClientHandshake::take_handed() { return state_->take_handed(); }
void ClientHandshake::keep_key_log() { state_->keep_key_log(); }
KeyLog* ClientHandshake::key_log() const { return state_->key_log(); }
void ClientHandshake::ticket_record(std::span<const std::byte> record) { state_->after_handshake(record); }

}  // namespace sallyport::handshake
