#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/channel/messages.h"
#include "control/configuration/configuration.h"
#include "control/policy/requirement.h"
#include "control/revocation/crl_set.h"

/// TLS handshakes with OpenSSL 4 on BIOs in memory, by public API only. Bytes go in, bytes and an outcome come out: no I/O.
namespace sallyport::handshake {

/// What a client offered in its (inner) ClientHello: for the brake, and for the record of a handshake that fails. Wire ids. Each list is cut
/// at a length that no client in use reaches by far: who sends more pays for it, not we.
struct Offer {
    static constexpr std::size_t kMostValues = 64, kMostProtocols = 16;
    std::vector<std::uint16_t> versions, suites, groups, signature_schemes;
    std::vector<std::string> alpn;
    /// How many more of each there were.
    struct Beyond {
        std::size_t versions = 0, suites = 0, groups = 0, signature_schemes = 0, alpn = 0;
    } beyond;
    std::string server_name;           ///< printable; empty: none
    std::string ja4;                   ///< fingerprint, such as t13d1516h2_8daaf6152771_02713d6af862; see ServerHandshake::offer_with_fingerprint()
    bool resumes = false;              ///< a pre_shared_key or a ticket came with it: the cheap kind, if it can be opened
    bool early_data = false;
};

/// What became of Encrypted ClientHello (RFC 9849).
enum class EchOutcome : std::uint8_t {
    none,       ///< not offered
    grease,     ///< offered, not for any key of ours and not under the public name: served as if it had not been
    accepted,   ///< the inner ClientHello counts
    rejected,   ///< the public name was asked for: the handshake is finished, with retry configurations, and serves nothing
};

/// A verified certificate of a client or a member.
struct Identity {
    std::string subject, common_name, issuer, serial;   ///< serial in hexadecimal
    std::vector<std::string> names;                     ///< SANs: DNS, mail, URI, IP
    std::vector<std::byte> certificate;                 ///< DER
    std::vector<std::shared_ptr<X509>> chain;           ///< as verified, leaf first, anchor last; of a pinned one itself alone: for checks while the flow lives
};

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
    std::string own_key, own_signature;   ///< server: of the certificate that the client was shown, such as "EC256", "RSA-SHA256"; empty when resumed
    std::string peer_subject;          ///< client: of the backend's verified certificate; server: empty without client certificate
    std::string anchor;                ///< client: subject of the anchor that matched, or "pin"
    std::shared_ptr<const Identity> identity;   ///< server: of the client, verified (also when resumed); client: of the backend; nullptr: none
    EchOutcome ech = EchOutcome::none;
    [[nodiscard]] bool operator==(const Negotiated&) const = default;   ///< one identity is the same object
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
    std::optional<policy::Violation> violation;   ///< where it is the policy that objects
    std::string peer_subject;          ///< of a certificate that was refused
    std::string chain_error;           ///< X.509's, with its depth; empty: none
};

/// What Step::done brings. Keys are those of the application data, by direction as this side sees it.
struct Handed {
    channel::Handoff handoff{};        ///< leg, attempt and expect_tickets are filled in by the caller; consumed is set
    Negotiated negotiated;
};

class ServerContext;   ///< what the handshakes of one service share; immutable, shared by the threads that use it
class ClientContext;   ///< likewise for one pool; holds the sessions for resumption (thread-safe)
class TicketKeys;      ///< keys of session tickets, shared by all services; rotated by time (thread-safe)
class KeyLog;          ///< a handshake's secrets in lines, where a capture wants them
class EchKeys;         ///< ECH keys of one service, with those that still open; immutable snapshot

/// What a service's handshakes need beyond the configuration. All of it thread-safe.
struct ServerMaterials {
    std::shared_ptr<TicketKeys> tickets{};
    std::shared_ptr<const revocation::CrlSet> client_crls{};   ///< nullptr: none
    /// OCSP answer (DER) to staple for one of our certificates; nullptr, or answers nullptr: none.
    std::function<std::shared_ptr<const std::vector<std::byte>>(const certificates::CertificateChain&)> staple{};
    /// Whether one of our certificates has been revoked and must not be served; nullptr: never.
    std::function<bool(const certificates::CertificateChain&)> revoked{};
    std::shared_ptr<const EchKeys> ech{};                      ///< nullptr: no ECH
};
struct ClientMaterials {
    std::shared_ptr<const revocation::CrlSet> crls{};          ///< nullptr: none
    /// Whether the pool's own client certificate has been revoked and must not be shown; nullptr: never.
    std::function<bool(const certificates::CertificateChain&)> revoked{};
};

/// Asked once, when the ClientHello has been read and nothing expensive has been done: false refuses the handshake without an alert
/// (Failure::reason is client_braked).
using Admit = std::function<bool(const Offer&)>;

/// One handshake as the server. Feeds libssl one record at a time, so that nothing after the client's Finished is consumed. What libssl needs is
/// made when the first whole record has come: a client that sends nothing, or half a record, costs no more than that.
/// Used by one thread. Wipes its key material on destruction.
class ServerHandshake {
 public:
    explicit ServerHandshake(std::shared_ptr<const ServerContext> context, Admit admit = nullptr);
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
    /// Of the (inner) ClientHello, without its fingerprint; empty before it has come.
    [[nodiscard]] const Offer& offer() const;
    /// The same for the record of a handshake that fails: the fingerprint costs a twentieth of a handshake, and nobody asks for that of one which does
    /// not. It is of the first ClientHello as it came, and empty where the brake has not let that in or it was too absurd to be hashed.
    [[nodiscard]] Offer offer_with_fingerprint() const;
    /// After done, once.
    [[nodiscard]] Handed take_handed();
    /// Whether libssl is at work: the first record has come.
    [[nodiscard]] bool begun() const noexcept { return state_ != nullptr; }
    /// Before the first octet: the secrets are kept in key_log() too. Without it, and before the first record has come, that is nullptr.
    void keep_key_log();
    [[nodiscard]] KeyLog* key_log() const;

 private:
    struct State;
    std::shared_ptr<const ServerContext> context_;   ///< until it is the state's
    Admit admit_;
    std::vector<std::byte> early_;                   ///< the beginning of the first record, until the rest has come
    bool keeps_key_log_ = false;
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
    /// Before start(): as ServerHandshake's.
    void keep_key_log();
    [[nodiscard]] KeyLog* key_log() const;
    /// After done: one whole record of ciphertext that holds a NewSessionTicket; the session is kept for resumption.
    void ticket_record(std::span<const std::byte> record);

 private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Makes the context of a service; the configuration has been checked. Throws std::runtime_error saying what the library refused.
[[nodiscard]] std::shared_ptr<const ServerContext> make_server_context(const configuration::Configuration& configuration,
                                                                       const configuration::Service& service,
                                                                       ServerMaterials materials);
[[nodiscard]] std::shared_ptr<ClientContext> make_client_context(const configuration::Configuration& configuration,
                                                                 const configuration::Pool& pool, ClientMaterials materials);
[[nodiscard]] std::shared_ptr<TicketKeys> make_ticket_keys(const configuration::Tickets& settings);

}  // namespace sallyport::handshake
