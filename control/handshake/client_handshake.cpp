#include <format>
#include <limits>
#include <new>

#include "control/handshake/client_context.h"
#include "control/handshake/connection.h"
#include "control/handshake/handshake.h"

namespace sallyport::handshake {

struct ClientHandshake::State final : Connection {
    State(std::shared_ptr<ClientContext> shared, std::string_view protocol, std::string_view member);
    ~State() override { free_ssl(); }  // libssl may call back into this object

    [[nodiscard]] std::optional<Refusal> check_side() override;
    [[nodiscard]] channel::EndReason reason_of_failure() const override;
    [[nodiscard]] std::string detail_of_failure() const override;
    [[nodiscard]] bool lives_on() const override { return negotiated().version == TLS1_3_VERSION; }
    [[nodiscard]] int new_session(SSL_SESSION* session) override {
        context->keep(identity, openssl::Session(session));
        return 1;  // the reference is ours now
    }
    static int on_verify(int good, X509_STORE_CTX* store);

    std::shared_ptr<ClientContext> context;
    std::string alpn;
    std::string identity;
    std::string unverified;   ///< the first error of the chain
};

ClientHandshake::State::State(std::shared_ptr<ClientContext> shared, std::string_view protocol, std::string_view member)
    : Connection(shared->get(), false), context(std::move(shared)), alpn(protocol), identity(member) {
    const std::string& name = context->server_name();
    negotiated_.server_name = name;
    bool good = context->name_is_address() ? SSL_set1_ipaddr(ssl(), name.c_str()) == 1
                                           : SSL_set1_dnsname(ssl(), name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl(), name.c_str()) == 1;
    SSL_set_verify(ssl(), SSL_VERIFY_PEER, on_verify);
    if (!alpn.empty()) {
        std::vector<unsigned char> list;
        good = good && alpn.size() <= std::numeric_limits<unsigned char>::max();
        list.push_back(static_cast<unsigned char>(alpn.size()));
        list.insert(list.end(), alpn.begin(), alpn.end());
        good = good && SSL_set_alpn_protos(ssl(), list.data(), static_cast<unsigned>(list.size())) == 0;  // 0 is success here
    }
    if (!good) throw std::bad_alloc();
    if (const openssl::Session session = context->take(identity)) SSL_set_session(ssl(), session.get());
}

int ClientHandshake::State::on_verify(int good, X509_STORE_CTX* store) {
    if (good == 1) return 1;
    const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto& state = static_cast<State&>(of(ssl));
    if (state.unverified.empty())
        state.unverified = std::format("the backend's certificate could not be verified: {} (depth {}, subject \"{}\", expected name \"{}\")",
                                       X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)), X509_STORE_CTX_get_error_depth(store),
                                       subject_of(X509_STORE_CTX_get_current_cert(store)), state.context->server_name());
    return 0;
}

std::optional<Connection::Refusal> ClientHandshake::State::check_side() {
    if (!context->speaks(negotiated_.version))
        return Refusal{SSL_AD_PROTOCOL_VERSION, std::format("the backend chose version {:#06x}, which the pool does not allow (9.4.2 (12.1.1))", negotiated_.version)};
    // SSL_get_verify_result is X509_V_OK without a certificate too: ask for both.
    const X509* peer = SSL_get0_peer_certificate(ssl());
    const long verified = SSL_get_verify_result(ssl());
    if (peer == nullptr || verified != X509_V_OK) {
        unverified = peer == nullptr ? "the backend sent no certificate"
                                     : std::format("the backend's certificate could not be verified: {} (subject \"{}\")", X509_verify_cert_error_string(verified), subject_of(peer));
        return Refusal{SSL_AD_BAD_CERTIFICATE, unverified};
    }
    negotiated_.peer_subject = subject_of(peer);
    // A backend that knows no ALPN speaks HTTP/1.1 (RFC 9113 3.3: h2 is agreed on only so). Anything else must be agreed.
    const bool agreed = negotiated_.alpn == alpn || (negotiated_.alpn.empty() && alpn == "http/1.1");
    if (!agreed)
        return Refusal{SSL_AD_NO_APPLICATION_PROTOCOL, std::format("the backend did not agree to protocol \"{}\": it chose \"{}\"", alpn, printable(negotiated_.alpn))};
    return std::nullopt;
}

channel::EndReason ClientHandshake::State::reason_of_failure() const {
    return unverified.empty() ? channel::EndReason::backend_handshake_failed : channel::EndReason::backend_unverified;
}

std::string ClientHandshake::State::detail_of_failure() const { return unverified; }

ClientHandshake::ClientHandshake(std::shared_ptr<ClientContext> context, std::string_view alpn, std::string_view identity)
    : state_(std::make_unique<State>(std::move(context), alpn, identity)) {}
ClientHandshake::~ClientHandshake() = default;
Step ClientHandshake::start(std::vector<std::byte>& output) { return state_->start(output); }
Step ClientHandshake::feed(std::span<const std::byte> octets, std::vector<std::byte>& output) { return state_->feed(octets, output); }
std::uint64_t ClientHandshake::consumed() const { return state_->consumed(); }
const Negotiated& ClientHandshake::negotiated() const { return state_->negotiated(); }
const Failure& ClientHandshake::failure() const { return state_->failure(); }
Handed ClientHandshake::take_handed() { return state_->take_handed(); }
void ClientHandshake::ticket_record(std::span<const std::byte> record) { state_->after_handshake(record); }

}  // namespace sallyport::handshake
