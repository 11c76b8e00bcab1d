#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/channel/messages.h"
#include "control/configuration/configuration.h"

/// TLS handshakes with OpenSSL 4 on memory BIOs, by public API only. Bytes go in, bytes and an outcome come out: no I/O.
namespace sallyport::handshake {

/// What was negotiated, read back from the library after the handshake and compared with the catalogue.
struct Negotiated {
    std::uint16_t version = 0;         ///< 0x0303, 0x0304
    std::uint16_t suite = 0;           ///< wire id
    std::uint16_t group = 0;           ///< wire id, RFC 8446 4.2.7; 0 on a resumed TLS 1.2 session, which exchanges no keys
    std::string signature_scheme;      ///< of the peer that signed, such as ecdsa_secp256r1_sha256; empty when resumed
    std::string server_name;           ///< SNI
    std::string alpn;                  ///< protocol chosen; empty: none
    bool resumed = false;
    bool extended_master_secret = false;   ///< RFC 7627; TLS 1.3 has its effect by construction: true
    std::string peer_subject;          ///< client: of the backend's verified certificate; server: empty without client certificate
};

enum class Step : std::uint8_t {
    more,      ///< not enough yet: transmit `output`, then feed what comes
    done,      ///< transmit `output`, then hand the leg off
    failed,    ///< transmit `output` (an alert, perhaps empty), then end the leg
};

/// Why a handshake failed, for the log and the counters.
struct Failure {
    channel::EndReason reason = channel::EndReason::none;
    std::string text;                  ///< for a person: alert or library error, certificate subject, chain error
    int alert = -1;                    ///< sent or received, RFC 8446 6; -1: none
    bool alert_received = false;
};

/// What Step::done brings. Keys are those of the application data, by direction as this side sees it.
struct Handed {
    channel::Handoff handoff{};        ///< leg, attempt and expect_tickets are filled in by the caller; consumed is set
    Negotiated negotiated;
};

class ServerContext;   ///< what the handshakes of one service share; immutable, shared by the threads that use it
class ClientContext;   ///< likewise for one pool; holds the sessions for resumption (thread-safe)
class TicketKeys;      ///< keys of session tickets, shared by all services; rotated by time (thread-safe)

/// One handshake as the server. Feeds libssl one record at a time, so that nothing after the client's Finished is consumed.
/// Used by one thread. Wipes its key material on destruction.
class ServerHandshake {
 public:
    explicit ServerHandshake(std::shared_ptr<const ServerContext> context);
    ~ServerHandshake();
    /// Takes the next octets of the client's stream (any length, any split) and goes on as far as they reach.
    /// `output` is appended to. After done or failed it must not be called again.
    [[nodiscard]] Step feed(std::span<const std::byte> octets, std::vector<std::byte>& output);
    /// Stream offset up to which octets have been consumed: while more comes, all that was fed (the beginning of a record is
    /// kept here); when done, the end of the record with the peer's Finished.
    [[nodiscard]] std::uint64_t consumed() const;
    /// Known as soon as the ClientHello has been processed and accepted: ALPN and server name; then the backend's leg may begin.
    [[nodiscard]] bool hello_accepted() const;
    [[nodiscard]] const Negotiated& negotiated() const;
    [[nodiscard]] const Failure& failure() const;
    /// After done, once.
    [[nodiscard]] Handed take_handed();

 private:
    struct State;
    std::unique_ptr<State> state_;
};

/// One handshake as the client of a pool member; verifies chain, name, purpose and dates before it is done.
class ClientHandshake {
 public:
    /// `alpn`: the one protocol to offer, or empty. `identity` separates sessions for resumption (member).
    ClientHandshake(std::shared_ptr<ClientContext> context, std::string_view alpn, std::string_view identity);
    ~ClientHandshake();
    /// The ClientHello.
    [[nodiscard]] Step start(std::vector<std::byte>& output);
    [[nodiscard]] Step feed(std::span<const std::byte> octets, std::vector<std::byte>& output);
    [[nodiscard]] std::uint64_t consumed() const;
    [[nodiscard]] const Negotiated& negotiated() const;
    [[nodiscard]] const Failure& failure() const;
    [[nodiscard]] Handed take_handed();
    /// After done: one whole record of ciphertext that holds a NewSessionTicket; the session is kept for resumption.
    void ticket_record(std::span<const std::byte> record);

 private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Makes the context of a service; the configuration has been checked. Throws std::runtime_error saying what the library refused.
[[nodiscard]] std::shared_ptr<const ServerContext> make_server_context(const configuration::Configuration& configuration,
                                                                       const configuration::Service& service,
                                                                       std::uint32_t service_index,
                                                                       std::shared_ptr<TicketKeys> tickets);
[[nodiscard]] std::shared_ptr<ClientContext> make_client_context(const configuration::Configuration& configuration,
                                                                 const configuration::Pool& pool);
[[nodiscard]] std::shared_ptr<TicketKeys> make_ticket_keys();

}  // namespace sallyport::handshake
