#include <openssl/ech.h>

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "control/channel/address.h"
#include "control/handshake/connection.h"
#include "control/handshake/handshake.h"
#include "control/handshake/offer.h"
#include "control/handshake/peer_certificate.h"
#include "control/handshake/reader.h"
#include "control/handshake/server_context.h"
#include "control/handshake/session_tickets.h"
#include "control/policy/catalogue.h"
#include "crypto/format.h"

namespace sallyport::handshake {

struct ServerHandshake::State final : Connection {
    State(std::shared_ptr<const ServerContext> shared, Admit may_start)
        : Connection(shared->get(), true), context(std::move(shared)), admit(std::move(may_start)) {}
    ~State() override { free_ssl(); }  // libssl may call back into this object

    /// RFC 6066 3, RFC 7627 5.2: reads the offer, chooses the certificates before libssl looks for a session, and refuses what it would let pass.
    [[nodiscard]] int client_hello(int* alert) override;
    void hello_received(std::span<const unsigned char> message) override {
        try {
            received_.assign(message.begin(), message.end());
        } catch (const std::bad_alloc&) {  // no exception may pass through libssl; without it there is no fingerprint
            received_.clear();
        }
    }
    [[nodiscard]] int staple() override;

    [[nodiscard]] std::optional<Refusal> check_side() override;
    [[nodiscard]] std::optional<policy::Violation> violation_of(int reason) const override;
    [[nodiscard]] channel::EndReason reason_of_failure() const override;
    [[nodiscard]] std::string detail_of_failure() const override;
    [[nodiscard]] std::optional<std::vector<std::vector<std::byte>>> tickets(const crypto::CipherSuite& suite, const crypto::TrafficSecret& secret) override;

    /// Fails the client-hello callback.
    [[nodiscard]] int fail(int* alert, const Refusal& refusal) {
        *alert = refusal.alert;
        refusal_ = refusal.text;
        violated_ = refusal.violation;
        return SSL_CLIENT_HELLO_ERROR;
    }
    void let_in(std::vector<unsigned char> hello);
    [[nodiscard]] Offer offer_with_fingerprint() const;
    [[nodiscard]] HelloView view() const;
    [[nodiscard]] EchOutcome ech_outcome(std::string_view name) const;
    [[nodiscard]] bool use(const ServerContext::Set& chosen);
    [[nodiscard]] std::optional<Refusal> check_client();
    [[nodiscard]] const ServerContext::Shown* shown() const;
    void describe_own_certificate();
    /// A server name for a message: one that came encrypted is not for every log (RFC 9849 10.5).
    [[nodiscard]] std::string shown_name() const { return negotiated_.ech == EchOutcome::accepted ? "(encrypted)" : negotiated_.server_name; }

    std::shared_ptr<const ServerContext> context;
    Admit admit;
    Offer offer;
    ServerContext::Set set;   ///< the certificates of the name
    std::vector<unsigned char> received_;   ///< the ClientHello on the wire, until it has been read: libssl tells only of extensions that it knows
    std::vector<unsigned char> first_hello_;   ///< the one that was let in, for its fingerprint: at most kMostKept of it
    bool asked_ = false;      ///< admit has been asked: a second ClientHello (HelloRetryRequest) does not ask again
    bool braked = false;
    bool resumes_with_dhe_ = false;   ///< the client can use a ticket of ours: psk_key_exchange_modes has psk_dhe_ke (RFC 8446 4.2.9)
};

namespace {

std::optional<std::span<const unsigned char>> extension(SSL* ssl, unsigned type) {
    const unsigned char* data = nullptr;
    std::size_t length = 0;
    if (SSL_client_hello_get0_ext(ssl, type, &data, &length) != 1) return std::nullopt;
    return std::span(data, length);
}

/// Whether the ClientHello can lead to this version (RFC 8446 4.1.2, 4.2.1).
bool offers(SSL* ssl, std::size_t version) {
    const auto versions = extension(ssl, TLSEXT_TYPE_supported_versions);
    if (!versions) return version <= TLS1_2_VERSION && SSL_client_hello_get0_legacy_version(ssl) >= version;
    Reader reader(*versions);
    std::size_t length = 0, offered = 0;
    if (!reader.number(1, length)) return false;
    while (reader.number(2, offered))
        if (offered == version) return true;
    return false;
}

/// Whether psk_key_exchange_modes has psk_dhe_ke (RFC 8446 4.2.9).
bool offers_psk_with_dhe(SSL* ssl) {
    constexpr std::size_t kPskDheKe = 1;
    const auto modes = extension(ssl, TLSEXT_TYPE_psk_kex_modes);
    if (!modes) return false;
    Reader reader(*modes);
    std::size_t length = 0, mode = 0;
    if (!reader.number(1, length)) return false;
    while (reader.number(1, mode))
        if (mode == kPskDheKe) return true;
    return false;
}

}  // namespace

HelloView ServerHandshake::State::view() const {
    HelloView hello;
    hello.legacy_version = static_cast<std::uint16_t>(SSL_client_hello_get0_legacy_version(ssl()));
    const unsigned char* suites = nullptr;
    const std::size_t suites_length = SSL_client_hello_get0_ciphers(ssl(), &suites);
    hello.suites = {suites, suites_length};
    std::size_t count = 0;
    if (SSL_client_hello_get_extension_order(ssl(), nullptr, &count) != 1) return hello;
    std::vector<std::uint16_t> order(count);
    if (count > 0 && SSL_client_hello_get_extension_order(ssl(), order.data(), &count) != 1) return hello;
    for (const std::uint16_t type : order) hello.extensions.emplace_back(type, extension(ssl(), type).value_or(std::span<const unsigned char>()));
    return hello;
}

/// Keeps what the fingerprint is made of, should anybody ask for it. A client in use says what it can in 2 KiB, key shares with it; who sends more does not
/// make us keep it while its handshake lasts.
void ServerHandshake::State::let_in(std::vector<unsigned char> hello) {
    constexpr std::size_t kMostKept = 4096;
    if (!first_hello_.empty() || !offer.ja4.empty()) return;
    if (hello.size() <= kMostKept)
        first_hello_ = std::move(hello);
    else if (const auto long_one = parse_client_hello(hello))
        offer.ja4 = ja4(*long_one);
}

Offer ServerHandshake::State::offer_with_fingerprint() const {
    Offer described = offer;
    if (const auto hello = parse_client_hello(first_hello_)) described.ja4 = ja4(*hello);
    return described;
}

EchOutcome ServerHandshake::State::ech_outcome(std::string_view name) const {
    if (!extension(ssl(), TLSEXT_TYPE_ech)) return EchOutcome::none;
    char* inner = nullptr;
    char* outer = nullptr;
    const int status = SSL_ech_get1_status(ssl(), &inner, &outer);
    OPENSSL_free(inner);
    OPENSSL_free(outer);
    if (status == SSL_ECH_STATUS_SUCCESS) return EchOutcome::accepted;
    return !context->public_name().empty() && name == context->public_name() ? EchOutcome::rejected : EchOutcome::grease;
}

bool ServerHandshake::State::use(const ServerContext::Set& chosen) {
    SSL_certs_clear(ssl());
    return std::ranges::all_of(chosen, [this](const ServerContext::Shown* each) {
        return SSL_use_cert_and_key(ssl(), each->chain->leaf.get(), each->signing.get(), each->intermediates.get(), 1) == 1;
    });
}

int ServerHandshake::State::client_hello(int* alert) try {
    using policy::Violation;
    *alert = SSL_AD_INTERNAL_ERROR;
    const HelloView hello = view();
    auto received = std::exchange(received_, {});
    const auto on_the_wire = parse_client_hello(received);
    std::string fingerprint = std::move(offer.ja4);   // after a HelloRetryRequest: of the first ClientHello, where that was long
    offer = read_offer(hello);
    offer.ja4 = std::move(fingerprint);
    // Name and ECH come first: whatever refuses the client from here on leaves a record, in which an inner name must be protected.
    negotiated_.server_name.clear();
    std::string name;
    bool malformed = false;
    if (const auto server_name = extension(ssl(), TLSEXT_TYPE_server_name)) {
        auto read = host_name(*server_name);
        malformed = !read;
        if (read) name = std::move(*read);
        negotiated_.server_name = printable(name);
    }
    negotiated_.ech = ech_outcome(name);
    if (malformed) return fail(alert, {SSL_AD_DECODE_ERROR, "the server_name extension is malformed"});
    if (is_absurd(hello) || (on_the_wire && is_absurd(*on_the_wire))) return fail(alert, {SSL_AD_ILLEGAL_PARAMETER, "the ClientHello has a list longer than any client has use for"});
    if (!asked_ && admit) {
        asked_ = true;
        if (!admit(offer)) {
            braked = true;
            refusal_ = "the source has started too many handshakes, or too costly ones";
            return SSL_CLIENT_HELLO_RETRY;  // stops libssl without an alert; it is not called again
        }
    }
    asked_ = true;
    let_in(std::move(received));
    const bool rejected = negotiated_.ech == EchOutcome::rejected;
    if (!context->public_name().empty() && name == context->public_name() && !rejected)
        return fail(alert, refusal_of(Violation::unknown_name, sallyport::format("\"{}\" is the public name of Encrypted ClientHello, under which nothing is served", shown_name())));
    set = context->find(name);
    if (set.empty())
        return fail(alert, refusal_of(Violation::unknown_name,
                                      context->knows(name) ? sallyport::format("the certificates of service {} for \"{}\" have been revoked", context->service(), shown_name())
                                                           : sallyport::format("service {} has no certificate for server name \"{}\"", context->service(), shown_name())));
    const bool tls13 = context->speaks(TLS1_3_VERSION) && offers(ssl(), TLS1_3_VERSION);
    const bool tls12 = !tls13 && context->speaks(TLS1_2_VERSION) && offers(ssl(), TLS1_2_VERSION);
    if (tls12 && !extension(ssl(), TLSEXT_TYPE_extended_master_secret))
        return fail(alert, {SSL_AD_HANDSHAKE_FAILURE, "the client offers TLS 1.2 without extended_master_secret: 9.4.1 (12.1.2) demands it (RFC 7627)",
                            Violation::no_extended_master_secret});
    if (!context->bind_session(ssl(), name, set, negotiated_.ech) || !use(set)) {
        refusal_ = sallyport::format("libssl refuses the certificates of \"{}\": {}", shown_name(), openssl::error_queue());
        return SSL_CLIENT_HELLO_ERROR;
    }
    resumes_with_dhe_ = !rejected && offers_psk_with_dhe(ssl());
    if (rejected) {
        // RFC 9849 7.1, 6.1.7: the handshake goes on with the outer ClientHello so that the client can trust the retry configurations; no
        // certificate is asked of it, and no ticket comes of it.
        SSL_set_verify(ssl(), SSL_VERIFY_NONE, nullptr);
    }
    return SSL_CLIENT_HELLO_SUCCESS;
} catch (const std::exception&) {  // no exception may pass through libssl
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

int ServerHandshake::State::staple() try {
    const ServerContext::Shown* const chosen = shown();
    if (chosen == nullptr) return SSL_TLSEXT_ERR_NOACK;
    const auto answer = context->materials().staple(*chosen->chain);
    if (!answer || answer->empty()) return SSL_TLSEXT_ERR_NOACK;
    void* const copy = OPENSSL_memdup(answer->data(), answer->size());
    if (copy == nullptr) return SSL_TLSEXT_ERR_NOACK;
    if (SSL_set_tlsext_status_ocsp_resp(ssl(), static_cast<unsigned char*>(copy), static_cast<long>(answer->size())) != 1) {
        OPENSSL_free(copy);
        return SSL_TLSEXT_ERR_NOACK;
    }
    return SSL_TLSEXT_ERR_OK;
} catch (const std::exception&) {
    return SSL_TLSEXT_ERR_NOACK;
}

/// The client's certificate once all is proven: on a full handshake at its end, on a resumed one before the server's flight goes out.
std::optional<Connection::Refusal> ServerHandshake::State::check_client() {
    using policy::Violation;
    negotiated_.identity.reset();
    const auto mode = context->client_auth().mode;
    if (mode == configuration::ClientAuthMode::off || negotiated_.ech == EchOutcome::rejected) return std::nullopt;
    if (!negotiated_.resumed && !finished()) return std::nullopt;  // it has not come yet
    X509* const leaf = SSL_get0_peer_certificate(ssl());
    if (leaf == nullptr) {
        if (mode == configuration::ClientAuthMode::required) return refusal_of(Violation::client_certificate_missing, "");
        return std::nullopt;
    }
    failure_.peer_subject = subject_of(leaf);
    if (const long verified = SSL_get_verify_result(ssl()); verified != X509_V_OK)
        return refusal_of(Violation::client_certificate_invalid, X509_verify_cert_error_string(verified));
    const auto now = Clock::now();
    std::vector<SharedCertificate> chain;
    if (negotiated_.resumed) {
        chain = context->chain_of_session(SSL_get_session(ssl()), now);
    } else if (const STACK_OF(X509)* verified = SSL_get0_verified_chain(ssl())) {
        for (int i = 0; i < sk_X509_num(verified); ++i) chain.push_back(share(sk_X509_value(verified, i)));
    }
    if (chain.empty()) return refusal_of(Violation::client_certificate_invalid, "its chain is not whole any more");
    std::vector<X509*> borrowed;
    for (const SharedCertificate& certificate : chain) borrowed.push_back(certificate.get());
    if (const auto objection = context->object_to(borrowed, now)) return refusal_of(objection->violation, objection->why);
    negotiated_.identity = context->identities().of(std::move(chain));
    negotiated_.peer_subject = negotiated_.identity->subject;
    failure_.peer_subject.clear();
    return std::nullopt;
}

/// Which of its certificates libssl has chosen; nullptr: none yet.
const ServerContext::Shown* ServerHandshake::State::shown() const {
    const X509* const chosen = SSL_get_certificate(ssl());
    const auto found = std::ranges::find_if(set, [chosen](const ServerContext::Shown* each) { return each->chain->leaf.get() == chosen; });
    return found == set.end() ? nullptr : *found;
}

void ServerHandshake::State::describe_own_certificate() {
    const ServerContext::Shown* const chosen = negotiated_.resumed ? nullptr : shown();
    negotiated_.own_key = chosen != nullptr ? chosen->key : "";
    negotiated_.own_signature = chosen != nullptr ? chosen->signature : "";
}

std::optional<Connection::Refusal> ServerHandshake::State::check_side() {
    using policy::Violation;
    describe_own_certificate();
    if (!context->speaks(negotiated_.version))
        return Refusal{SSL_AD_PROTOCOL_VERSION, sallyport::format("service {} does not speak version {:#06x} (9.4.2 (12.1.1))", context->service(), negotiated_.version),
                       Violation::client_version};
    if (!negotiated_.alpn.empty() && !std::ranges::contains(context->alpn(), negotiated_.alpn))
        return Refusal{SSL_AD_NO_APPLICATION_PROTOCOL, "a protocol was chosen that the service does not list", Violation::no_application_protocol};
    return check_client();
}

std::optional<std::vector<std::vector<std::byte>>> ServerHandshake::State::tickets(const crypto::CipherSuite& suite, const crypto::TrafficSecret& secret) {
    // RFC 8446 4.6.1 lets a resumed session bring tickets, too: one, in place of the one that was used.
    const std::size_t count = negotiated_.resumed ? std::min<std::size_t>(context->tickets(), 1) : context->tickets();
    if (count == 0 || !resumes_with_dhe_ || secret.empty()) return std::vector<std::vector<std::byte>>();
    SSL_SESSION* const session = SSL_get_session(ssl());
    const auto* const alpn = reinterpret_cast<const unsigned char*>(negotiated_.alpn.data());
    if (session == nullptr || !ServerContext::keep_chain(ssl()) || SSL_SESSION_set1_alpn_selected(session, alpn, negotiated_.alpn.size()) != 1) return std::nullopt;
    return new_session_tickets(session, suite, secret, *context->materials().tickets, count);
}

std::optional<policy::Violation> ServerHandshake::State::violation_of(int reason) const {
    using policy::Violation;
    if (braked) return std::nullopt;
    if (negotiated_.ech == EchOutcome::rejected) return Violation::ech_rejected;
    if (failure_.alert_received) return std::nullopt;
    switch (reason) {
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_VERSION_TOO_HIGH:
        case SSL_R_UNKNOWN_PROTOCOL: return Violation::client_version;
        case SSL_R_INVALID_COMPRESSION_ALGORITHM:
        case SSL_R_REQUIRED_COMPRESSION_ALGORITHM_MISSING: return Violation::compression;
        case SSL_R_NO_SUITABLE_KEY_SHARE:
        case SSL_R_NO_SUITABLE_GROUPS:
        case SSL_R_NO_SHARED_GROUPS: return Violation::client_group;
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        case SSL_R_MISSING_SIGALGS_EXTENSION: return Violation::client_signature_scheme;
        case SSL_R_NO_APPLICATION_PROTOCOL: return Violation::no_application_protocol;
        case SSL_R_INAPPROPRIATE_FALLBACK: return Violation::downgrade;
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return Violation::client_certificate_missing;
        case SSL_R_CERTIFICATE_VERIFY_FAILED: return Violation::client_certificate_invalid;
        case SSL_R_NO_SHARED_CIPHER: {
            // libssl's word for several things: on TLS 1.2 a suite needs a group and a signature scheme too.
            const auto any = [](const auto& offered, const auto& allowed) { return std::ranges::any_of(offered, [&](std::uint16_t id) { return allowed(id); }); };
            const bool tls13 = context->speaks(TLS1_3_VERSION) && std::ranges::contains(offer.versions, policy::kTls13);
            const std::uint16_t version = tls13 ? policy::kTls13 : policy::kTls12;
            if (!any(offer.suites, [version](std::uint16_t id) { return policy::is_allowed_suite(id, version); })) return Violation::client_suite;
            if (!any(offer.groups, [version](std::uint16_t id) { return policy::is_allowed_group(id, version); })) return Violation::client_group;
            if (!any(offer.signature_schemes, [](std::uint16_t id) { return policy::find_signature_scheme(id) != nullptr; }))
                return Violation::client_signature_scheme;
            return Violation::client_suite;
        }
        default: return std::nullopt;
    }
}

channel::EndReason ServerHandshake::State::reason_of_failure() const {
    if (braked) return channel::EndReason::client_braked;
    // The client has seen the retry configurations and says ech_required (121), as it should (RFC 9849 6.1.6).
    if (negotiated_.ech == EchOutcome::rejected) return channel::EndReason::ech_rejected;
    if (!failure_.alert_received) return channel::EndReason::client_handshake_refused;
    return failure_.alert == SSL_AD_CLOSE_NOTIFY ? channel::EndReason::client_handshake_closed : channel::EndReason::client_alert;
}

std::string ServerHandshake::State::detail_of_failure() const {
    return failure_.chain_error.empty() ? std::string() : sallyport::format("the client's certificate could not be verified: {} (9.4.5 (12.1.3))", failure_.chain_error);
}

namespace {

/// Whether the octets are the beginning of a handshake record (RFC 8446 5.1) of which more must come. What no record begins like, or what is
/// whole, is for RecordStream to judge.
bool is_part_of_a_record(std::span<const std::byte> octets) {
    constexpr std::size_t kHeader = 5, kMostPlain = 1 << 14;
    const auto at = [octets](std::size_t i) { return std::to_integer<std::size_t>(octets[i]); };
    if (octets.empty()) return true;
    if (at(0) != SSL3_RT_HANDSHAKE || (octets.size() > 1 && at(1) != SSL3_VERSION_MAJOR)) return false;
    if (octets.size() < kHeader) return true;
    const std::size_t length = at(3) << 8 | at(4);
    return length <= kMostPlain && octets.size() < kHeader + length;
}

const Negotiated kNothingNegotiated;
const Failure kNoFailure;
const Offer kNothingOffered;

}  // namespace

ServerHandshake::ServerHandshake(std::shared_ptr<const ServerContext> context, Admit admit) : context_(std::move(context)), admit_(std::move(admit)) {}
ServerHandshake::~ServerHandshake() = default;

Step ServerHandshake::feed(std::span<const std::byte> octets, std::vector<std::byte>& output) {
    if (state_) return state_->feed(octets, output);
    early_.insert(early_.end(), octets.begin(), octets.end());
    if (is_part_of_a_record(early_)) return Step::more;
    state_ = std::make_unique<State>(std::move(context_), std::move(admit_));
    if (keeps_key_log_) state_->keep_key_log();
    return state_->feed(std::exchange(early_, {}), output);
}

std::uint64_t ServerHandshake::consumed() const { return state_ ? state_->consumed() : early_.size(); }
bool ServerHandshake::hello_accepted() const { return state_ && state_->flight_written() && state_->negotiated().ech != EchOutcome::rejected; }
const Negotiated& ServerHandshake::negotiated() const { return state_ ? state_->negotiated() : kNothingNegotiated; }
const Failure& ServerHandshake::failure() const { return state_ ? state_->failure() : kNoFailure; }
const Offer& ServerHandshake::offer() const { return state_ ? state_->offer : kNothingOffered; }
Offer ServerHandshake::offer_with_fingerprint() const { return state_ ? state_->offer_with_fingerprint() : Offer{}; }
Handed ServerHandshake::take_handed() { return state_->take_handed(); }
void ServerHandshake::keep_key_log() { keeps_key_log_ = true; }
KeyLog* ServerHandshake::key_log() const { return state_ ? state_->key_log() : nullptr; }

}  // namespace sallyport::handshake
