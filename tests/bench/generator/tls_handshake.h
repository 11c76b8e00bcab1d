#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "control/handshake/record_stream.h"
#include "crypto/key_schedule.h"
#include "crypto/record_protection.h"
#include "tests/bench/generator/failure.h"
#include "tests/bench/generator/tls_context.h"

namespace sallyport::generator {

/// What a handshake agreed on.
struct Negotiated {
    std::uint16_t version = 0, suite = 0;   ///< as on the wire
    std::string group;                      ///< empty: no key exchange (a resumed session of TLS 1.2)
    bool resumed = false;
    auto operator<=>(const Negotiated&) const = default;
};

/// The keys of a connection after its handshake, as this side sees them.
struct ConnectionKeys {
    std::uint16_t suite = 0;
    crypto::RecordProtection read, write;
    crypto::TrafficSecret read_secret, write_secret;   ///< TLS 1.3: for KeyUpdate
};

/// One TLS handshake by libssl on memory BIOs. It is given a record at a time, so that what follows the peer's Finished stays where it is; then
/// the keys are taken and libssl is done, but for the tickets that a server of TLS 1.3 sends next. One thread.
class Handshake {
 public:
    enum class Step : std::uint8_t { more,
                                     done,
                                     failed };

    /// `session`: a client's, to offer; may be nullptr.
    Handshake(TlsContext& context, openssl::Session session);
    ~Handshake();
    Handshake(const Handshake&) = delete;
    Handshake& operator=(const Handshake&) = delete;

    /// The client's first flight; once, before feed().
    [[nodiscard]] Step start(std::vector<std::byte>& output);
    [[nodiscard]] bool started() const noexcept { return started_; }
    /// Takes octets from the front of `stream`, up to the end of the record that brings done or failed. `output` is appended to and is to be sent
    /// in each case: an alert, when it failed.
    [[nodiscard]] Step feed(std::span<const std::byte>& stream, std::vector<std::byte>& output);

    /// After done, once.
    [[nodiscard]] ConnectionKeys take_keys();
    [[nodiscard]] const Negotiated& negotiated() const noexcept { return negotiated_; }
    /// After failed.
    [[nodiscard]] Failure failure() const noexcept { return failure_; }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

    /// After done, a client's TLS 1.3: whether a ticket is still of use.
    [[nodiscard]] bool waits_for_ticket() const noexcept { return waits_for_ticket_; }
    /// One whole record of ciphertext that holds NewSessionTicket messages.
    void take_ticket(std::span<const std::byte> record);

    /// What every SSL_CTX of ours needs.
    static void install(SSL_CTX* context);
    static int on_new_session(SSL* ssl, SSL_SESSION* session);

 private:
    [[nodiscard]] Step run(std::span<const std::byte> record, std::vector<std::byte>& output);
    [[nodiscard]] Step fail(int result, int error);
    void flush(std::vector<std::byte>& output);
    [[nodiscard]] bool hand_over();
    static void on_secret(const SSL* ssl, const char* line);
    static void on_info(const SSL* ssl, int where, int value);

    TlsContext& context_;
    openssl::Connection ssl_;
    BIO* in_ = nullptr;    ///< owned by ssl_
    BIO* out_ = nullptr;
    handshake::RecordStream records_;
    bool started_ = false, done_ = false, waits_for_ticket_ = false;
    bool change_cipher_spec_sent_ = false;
    std::uint64_t protected_records_ = 0;   ///< of the last flight
    std::uint64_t explicit_nonce_ = 0;
    int alert_received_ = -1;
    Failure failure_ = Failure::handshake_failed;
    std::string text_;
    Negotiated negotiated_;
    crypto::TrafficSecret client_secret_, server_secret_;
    ConnectionKeys keys_;
};

}  // namespace sallyport::generator
