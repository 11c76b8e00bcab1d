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

#include "control/certificates/openssl.h"
#include "control/configuration/configuration.h"
#include "control/handshake/handshake.h"
#include "tests/certificates.h"

/// What the handshake tests share: a real SSL object as the other end, and a record layer of its own (EVP, no code of the
/// appliance's) that works with handed-off keys.
namespace sallyport::test {

using Octets = std::vector<std::byte>;

[[nodiscard]] inline std::span<const std::byte> octets_of(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// The other end: libssl on memory BIOs.
class Peer {
 public:
    /// `server_name` and `session`: a client's.
    Peer(SSL_CTX* context, bool server, const char* server_name = nullptr, SSL_SESSION* session = nullptr);
    ~Peer();
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
    /// Gives it octets, goes on with the handshake, and returns what it wrote. Errors are kept for error().
    Octets feed(std::span<const std::byte> octets);
    [[nodiscard]] bool done() const { return done_; }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] int alert_received() const { return alert_received_; }
    /// Seals application data; returns the records.
    Octets write(std::string_view text);
    /// A client's ClientHello and early data (RFC 8446 4.2.10).
    Octets write_early(std::string_view text);
    /// Gives it octets and returns the application data that it opens; nullopt when it objects.
    std::optional<std::string> read(std::span<const std::byte> octets);

 private:
    Octets output();
    openssl::Connection ssl_;
    BIO* in_ = nullptr;
    BIO* out_ = nullptr;
    bool done_ = false;
    bool failed_ = false;
    int alert_received_ = -1;
};

/// Seals and opens records with what a handoff holds, by EVP.
class RecordLayer {
 public:
    explicit RecordLayer(const channel::Handoff& handoff) : handoff_(handoff), read_(handoff.read_sequence), write_(handoff.write_sequence), nonce_(handoff.explicit_nonce) {}
    [[nodiscard]] Octets seal(std::string_view text);
    /// Opens every record in `octets`; joins the application data. nullopt when one does not open.
    [[nodiscard]] std::optional<std::string> open(std::span<const std::byte> octets);

 private:
    channel::Handoff handoff_;
    std::uint64_t read_, write_, nonce_;
};

/// The records in `octets`, each with its header.
[[nodiscard]] std::vector<std::span<const std::byte>> records_of(std::span<const std::byte> octets);

/// An SSL_CTX for the other end that takes whatever its lists say.
struct PeerOptions {
    bool server = false;
    int version = 0;                       ///< 0: both
    std::string suites12 = {}, suites13 = {}, groups = {}, schemes = {};   ///< empty: libssl's default
    std::string alpn = {};                 ///< a client's offer, such as "h2,http/1.1"
    const Identity* identity = nullptr;    ///< a server's
    bool extended_master_secret = true;
    int tickets = 2;
};
[[nodiscard]] openssl::Context peer_context(const PeerOptions& options);

/// Our server against a peer, to the end; what the client reads after it (tickets, alerts) has been read.
struct Served {
    handshake::Step step = handshake::Step::more;
    std::optional<handshake::Handed> handed;
    handshake::Failure failure;
    handshake::Negotiated negotiated;
    handshake::Offer offer;
    bool hello_accepted = false;
    std::size_t feeds = 0;
    Octets output;   ///< all that the server wrote
};
[[nodiscard]] Served serve(const std::shared_ptr<const handshake::ServerContext>& context, Peer& client, handshake::Admit admit = nullptr);

/// A certificate as the configuration brings it, loaded.
[[nodiscard]] configuration::CertificateFiles loaded(const Identity& identity);

/// A CRL of `issuer`'s (DER) that lists these certificates, and is fresh for `days` from now.
[[nodiscard]] Octets make_crl(const Identity& issuer, const std::vector<const X509*>& revoked, int days = 1);

/// An OCSP answer (DER), signed by the issuer itself: good, or revoked.
[[nodiscard]] Octets make_ocsp(const Identity& issuer, X509* certificate, bool revoked = false);

}  // namespace sallyport::test
