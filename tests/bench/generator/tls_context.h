#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "control/certificates/openssl.h"

namespace sallyport::generator {

/// How one side does TLS.
struct TlsOptions {
    std::uint16_t least_version = 0x0303, most_version = 0x0304;   ///< as on the wire
    std::vector<std::string> suites;    ///< IANA's names, of the record engine's catalogue, by preference; empty: all
    std::string groups;                 ///< IANA's or OpenSSL's names with ':' or ',' between; empty: libssl's choice
    std::string certificate, key;       ///< PEM files; a server's, or what a client shows when asked
    std::string trust;                  ///< a client's: PEM file of CAs; empty: the server is not verified. The same chain again is not verified again
    std::string server_name;            ///< a client's: SNI, and what the certificate must be for
    std::string alpn;                   ///< a client's offer, and what a server agrees to; empty: none
    unsigned tickets = 2;               ///< a server's, for each full handshake of TLS 1.3; 0: none, in TLS 1.2 too
};

/// An SSL_CTX with these options, and a client's sessions for resumption. One thread.
class TlsContext {
 public:
    [[nodiscard]] static std::expected<std::unique_ptr<TlsContext>, std::string> make_client(const TlsOptions& options);
    [[nodiscard]] static std::expected<std::unique_ptr<TlsContext>, std::string> make_server(const TlsOptions& options);

    [[nodiscard]] SSL_CTX* get() const noexcept { return context_.get(); }
    [[nodiscard]] bool is_server() const noexcept { return server_; }
    [[nodiscard]] const TlsOptions& options() const noexcept { return options_; }

    /// A session to offer; nullptr when there is none. One of TLS 1.3 is given once (RFC 8446 C.4), one of TLS 1.2 again and again.
    [[nodiscard]] openssl::Session take_session();
    void keep_session(openssl::Session session);
    /// Whether more sessions are of use: kept only where a share of handshakes is to be resumed.
    [[nodiscard]] bool wants_sessions() const noexcept { return keeps_ && sessions_.size() < kMostSessions; }
    void keep_sessions(bool keep) noexcept { keeps_ = keep; }
    [[nodiscard]] std::size_t sessions() const noexcept { return sessions_.size(); }

 private:
    static constexpr std::size_t kMostSessions = 4096;
    TlsContext(TlsOptions options, bool server) : options_(std::move(options)), server_(server) {}
    [[nodiscard]] std::expected<void, std::string> set_up();
    [[nodiscard]] std::expected<void, std::string> set_suites();
    [[nodiscard]] std::expected<void, std::string> set_certificate();
    static int verify_chain(X509_STORE_CTX* store, void* context);
    static int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* length, const unsigned char* offered, unsigned offered_length, void* context);

    TlsOptions options_;
    bool server_;
    bool keeps_ = false;
    openssl::Context context_;
    std::vector<unsigned char> verified_;   ///< the server's chain that was verified last, each certificate in DER; empty: none
    std::vector<openssl::Session> sessions_;
    std::size_t next_ = 0;   ///< of the TLS 1.2 sessions, which stay
};

}  // namespace sallyport::generator
