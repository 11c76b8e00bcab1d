#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/certificates/certificate_chain.h"
#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"
#include "control/handshake/ticket_keys.h"

namespace sallyport::handshake {

/// What the handshakes of one service share: an SSL_CTX for each *certificate set* (the certificates, at most one of a key type,
/// that a server name may be answered with), and which name has which. Immutable after construction: any thread.
class ServerContext {
 public:
    /// Throws std::runtime_error saying what could not be loaded or what libssl refused.
    ServerContext(const configuration::Configuration& configuration, const configuration::Service& service,
                  std::uint32_t service_index, std::shared_ptr<TicketKeys> tickets);

    /// For a new SSL object; also the set of a client that names no server.
    [[nodiscard]] SSL_CTX* first() const { return contexts_.front().get(); }
    /// The set for a server name: exact, else by a wildcard for its leftmost label (RFC 9525 6.3); nullptr: no certificate.
    [[nodiscard]] SSL_CTX* find(std::string_view lower_case_name) const;
    /// RFC 6066 3: a session is resumed under the name that it began with, and never in another service or under another policy.
    [[nodiscard]] bool bind_session(SSL* ssl, std::string_view server_name) const;
    [[nodiscard]] bool speaks(std::uint16_t version) const { return version == TLS1_3_VERSION ? tls13_ : tls12_; }
    [[nodiscard]] const std::vector<std::string>& alpn() const { return alpn_; }
    [[nodiscard]] std::size_t context_count() const { return contexts_.size(); }
    [[nodiscard]] const std::string& service() const { return service_; }

 private:
    [[nodiscard]] openssl::Context make(const std::vector<const certificates::CertificateChain*>& set, const configuration::Service& service) const;
    /// Makes the set for a name and returns its SSL_CTX, which is shared by all names that have the same set.
    [[nodiscard]] SSL_CTX* add(const std::vector<const certificates::CertificateChain*>& set, const configuration::Service& service);
    void make_identity(const configuration::Configuration& configuration, std::uint32_t service_index,
                       const std::vector<certificates::CertificateChain>& chains, const configuration::Service& service);

    std::string service_;
    std::vector<std::string> alpn_;
    bool tls12_ = false;
    bool tls13_ = false;
    std::shared_ptr<TicketKeys> tickets_;
    DigestPtr sha256_;
    std::array<unsigned char, 32> identity_{};   ///< digest of service and policy: what sessions are bound to
    std::vector<openssl::Context> contexts_;
    std::vector<std::vector<const certificates::CertificateChain*>> sets_;   ///< while being made
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view name) const noexcept { return std::hash<std::string_view>{}(name); }
    };
    std::unordered_map<std::string, SSL_CTX*, Hash, std::equal_to<>> exact_;
    std::unordered_map<std::string, SSL_CTX*, Hash, std::equal_to<>> wildcard_;   ///< by what follows "*"
};

/// Sets on an SSL_CTX of either side what the catalogue allows, and nothing else.
/// Throws std::runtime_error with libssl's reason.
void apply_catalogue(SSL_CTX* context, bool tls12, bool tls13, bool server);

}  // namespace sallyport::handshake
