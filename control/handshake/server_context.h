#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/certificates/certificate_chain.h"
#include "control/handshake/ech_keys.h"
#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"
#include "control/handshake/peer_certificate.h"
#include "control/handshake/ticket_keys.h"

namespace sallyport::handshake {

/// What the handshakes of one service share: one SSL_CTX, and which certificates a server name has. A handshake puts the certificates of
/// its name on its own SSL object, so that their number costs no contexts and one can be replaced by making this object again.
/// Immutable after construction: any thread.
class ServerContext {
 public:
    /// A certificate with all that a handshake asks about it, worked out once.
    struct Shown {
        std::shared_ptr<const certificates::CertificateChain> chain;
        openssl::PrivateKey signing;               ///< the chain's key as handshakes sign with it
        BorrowedStack intermediates;
        certificates::Fingerprint fingerprint{};   ///< SHA-256 of the leaf
        int key_type = 0;                          ///< EVP_PKEY_EC, ...
        std::string key, signature;                ///< as Negotiated::own_key, own_signature
    };
    /// The certificates that a server name may be answered with: at most one of a key type, which signature_algorithms choose among.
    using Set = std::vector<const Shown*>;

    /// Throws std::runtime_error saying what could not be loaded or what libssl refused.
    ServerContext(const configuration::Configuration& configuration, const configuration::Service& service,
                  ServerMaterials materials);

    /// The SSL_CTX of every handshake.
    [[nodiscard]] SSL_CTX* get() const { return context_.get(); }
    /// The certificates for a server name: exact ones, or where there are none those of a wildcard for its leftmost label (RFC 9525 6.3), but
    /// none that has been revoked. Empty: none. An empty name: those of a client that names no server.
    [[nodiscard]] Set find(std::string_view lower_case_name) const;
    /// Whether a name has certificates, revoked ones too.
    [[nodiscard]] bool knows(std::string_view lower_case_name) const;
    /// RFC 6066 3: a session is resumed under the name and certificates that it began with, and never in another service, under another
    /// policy, with other client CAs, or where ECH failed.
    [[nodiscard]] bool bind_session(SSL* ssl, std::string_view server_name, const Set& set, EchOutcome ech) const;
    [[nodiscard]] bool speaks(std::uint16_t version) const { return version == TLS1_3_VERSION ? tls13_ : tls12_; }
    [[nodiscard]] const std::vector<std::string>& alpn() const { return alpn_; }
    [[nodiscard]] const std::string& service() const { return service_; }
    [[nodiscard]] const ServerMaterials& materials() const { return materials_; }
    /// Of TLS 1.3 after a full handshake; a resumed one brings one, where there are any.
    [[nodiscard]] std::size_t tickets() const { return tickets_; }
    /// Has the session of a handshake keep the intermediates of the client's verified chain, for its ticket: libssl keeps the leaf alone. False: no memory.
    [[nodiscard]] static bool keep_chain(SSL* ssl);
    /// Of ECH, in lower case; empty: the service has none.
    [[nodiscard]] const std::string& public_name() const { return public_name_; }
    [[nodiscard]] const configuration::ClientAuth& client_auth() const { return client_auth_; }

    [[nodiscard]] Identities& identities() const { return identities_; }
    /// Names and revocation of a client's verified chain (leaf first, anchor last); nullopt: good.
    struct Objection {
        policy::Violation violation;
        std::string why;
    };
    [[nodiscard]] std::optional<Objection> object_to(std::span<X509* const> chain, Clock::time_point now) const;
    /// A resumed session's chain, made whole again: the client's certificate, the intermediates that the ticket carries, the anchor. Empty
    /// when that cannot be done, or when one of them has run out.
    [[nodiscard]] std::vector<SharedCertificate> chain_of_session(SSL_SESSION* session, Clock::time_point now) const;

 private:
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view name) const noexcept { return std::hash<std::string_view>{}(name); }
    };
    using Names = std::unordered_map<std::string, Set, Hash, std::equal_to<>>;

    void make_context(const configuration::Configuration& configuration, const configuration::Service& service);
    void make_names();
    void make_identity(const configuration::Configuration& configuration, const configuration::Service& service);
    void demand_client_certificates(const configuration::Configuration& configuration);
    void gather(const Set& candidates, Set& set) const;

    std::string service_;
    std::vector<std::string> alpn_;
    bool tls12_ = false;
    bool tls13_ = false;
    configuration::ClientAuth client_auth_;
    std::vector<SharedCertificate> anchors_;   ///< of clients
    mutable Identities identities_;            ///< of clients
    bool revocation_must_be_known_ = false;
    Clock::time_point revocation_waived_until_{};
    ServerMaterials materials_;
    std::size_t tickets_ = 0;
    std::string public_name_;
    DigestPtr sha256_;
    std::array<unsigned char, 32> identity_{};   ///< digest of service and policy: what sessions are bound to
    openssl::Context context_;
    std::vector<Shown> shown_;
    Names exact_, wildcard_;   ///< wildcards by what follows "*"
    std::string default_name_;   ///< whose certificates a client gets that names no server
};

/// Sets on an SSL_CTX of either side what the catalogue allows, and nothing else. For connections that are no handshake of ours (metrics,
/// syslog). Throws std::runtime_error with libssl's reason.
void restrict_to_catalogue(SSL_CTX* context, bool tls12, bool tls13, bool server);
/// The same, and the callbacks of Connection.
void apply_catalogue(SSL_CTX* context, bool tls12, bool tls13, bool server);

}  // namespace sallyport::handshake
