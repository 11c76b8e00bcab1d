#include <algorithm>
#include <format>

#include "control/channel/address.h"
#include "control/handshake/connection.h"
#include "control/handshake/handshake.h"
#include "control/handshake/reader.h"
#include "control/handshake/server_context.h"
#include "crypto/check.h"

namespace sallyport::handshake {

struct ServerHandshake::State final : Connection {
    State(std::shared_ptr<const ServerContext> shared, Admit may_start)
        : Connection(shared->first(), true), context(std::move(shared)), admit(std::move(may_start)) {}

    /// RFC 6066 3, RFC 7627 5.2: chooses the certificate set before libssl looks for a session, and refuses what it would let pass.
    [[nodiscard]] int client_hello(int* alert) override;

    [[nodiscard]] std::optional<Refusal> check_side() override;
    [[nodiscard]] channel::EndReason reason_of_failure() const override;

    std::shared_ptr<const ServerContext> context;
    Admit admit;
    Offer offer;
};

namespace {

std::optional<std::span<const unsigned char>> extension(SSL* ssl, unsigned type) {
    const unsigned char* data = nullptr;
    std::size_t length = 0;
    if (SSL_client_hello_get0_ext(ssl, type, &data, &length) != 1) return std::nullopt;
    return std::span(data, length);
}

/// The host_name of a server_name extension (RFC 6066 3): nullopt when it is malformed.
std::optional<std::string> host_name(std::span<const unsigned char> octets) {
    constexpr std::size_t kHostName = 0;
    Reader reader(octets);
    std::size_t list = 0, type = 0, length = 0;
    std::span<const unsigned char> name;
    if (!reader.number(2, list) || !reader.number(1, type) || type != kHostName || !reader.number(2, length) ||
        !reader.octets(length, name) || !reader.at_end() || list != length + 3 || name.empty())
        return std::nullopt;
    std::string text(reinterpret_cast<const char*>(name.data()), name.size());
    std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return text;
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

}  // namespace

int ServerHandshake::State::client_hello(int* alert) {
    SSL_CTX* set = context->first();
    negotiated_.server_name.clear();
    if (const auto server_name = extension(ssl(), TLSEXT_TYPE_server_name)) {
        auto name = host_name(*server_name);
        if (!name) {
            *alert = SSL_AD_DECODE_ERROR;
            refusal_ = "the server_name extension is malformed";
            return SSL_CLIENT_HELLO_ERROR;
        }
        set = context->find(*name);
        negotiated_.server_name = printable(*name);
        if (set == nullptr) {
            *alert = SSL_AD_UNRECOGNIZED_NAME;
            refusal_ = std::format("service {} has no certificate for server name \"{}\" (9.1.4 (12.2.2))", context->service(), negotiated_.server_name);
            return SSL_CLIENT_HELLO_ERROR;
        }
        if (!context->bind_session(ssl(), *name)) return SSL_CLIENT_HELLO_ERROR;
    }
    const bool tls13 = context->speaks(TLS1_3_VERSION) && offers(ssl(), TLS1_3_VERSION);
    const bool tls12 = !tls13 && context->speaks(TLS1_2_VERSION) && offers(ssl(), TLS1_2_VERSION);
    if (tls12 && !extension(ssl(), TLSEXT_TYPE_extended_master_secret)) {
        *alert = SSL_AD_HANDSHAKE_FAILURE;
        refusal_ = "the client offers TLS 1.2 without extended_master_secret: 9.4.1 (12.1.2) demands it (RFC 7627)";
        return SSL_CLIENT_HELLO_ERROR;
    }
    // Where the set is another one its certificates replace those of the first; nothing else differs between sets.
    if (SSL_get_SSL_CTX(ssl()) != set && SSL_set_SSL_CTX(ssl(), set) != set) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

std::optional<Connection::Refusal> ServerHandshake::State::check_side() {
    if (!context->speaks(negotiated_.version))
        return Refusal{SSL_AD_PROTOCOL_VERSION, std::format("service {} does not speak version {:#06x} (9.4.2 (12.1.1))", context->service(), negotiated_.version)};
    if (!negotiated_.alpn.empty() && !std::ranges::contains(context->alpn(), negotiated_.alpn))
        return Refusal{SSL_AD_NO_APPLICATION_PROTOCOL, "a protocol was chosen that the service does not list"};
    return std::nullopt;
}

channel::EndReason ServerHandshake::State::reason_of_failure() const {
    if (!failure_.alert_received) return channel::EndReason::client_handshake_refused;
    return failure_.alert == SSL_AD_CLOSE_NOTIFY ? channel::EndReason::client_handshake_closed : channel::EndReason::client_alert;
}

ServerHandshake::ServerHandshake(std::shared_ptr<const ServerContext> context, Admit admit)
    : state_(std::make_unique<State>(std::move(context), std::move(admit))) {}
ServerHandshake::~ServerHandshake() = default;
Step ServerHandshake::feed(std::span<const std::byte> octets, std::vector<std::byte>& output) { return state_->feed(octets, output); }
std::uint64_t ServerHandshake::consumed() const { return state_->consumed(); }
bool ServerHandshake::hello_accepted() const { return state_->flight_written(); }
const Negotiated& ServerHandshake::negotiated() const { return state_->negotiated(); }
const Failure& ServerHandshake::failure() const { return state_->failure(); }
const Offer& ServerHandshake::offer() const { return state_->offer; }
Handed ServerHandshake::take_handed() { return state_->take_handed(); }

}  // namespace sallyport::handshake
