#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/handshake/handshake.h"
#include "control/handshake/key_log.h"
#include "control/handshake/libssl.h"
#include "control/handshake/record_stream.h"
#include "control/handshake/wire_bio.h"
#include "crypto/key_schedule.h"

namespace sallyport::handshake {

/// What both sides' handshakes share: an SSL object on a WireBio that is given one record at a time, the policy's
/// read-back, and the handoff of its keys. A side derives from it and says how it treats what differs.
/// Used by one thread; libssl's callbacks find it with SSL_get_app_data.
class Connection {
 public:
    Connection(SSL_CTX* context, bool server);
    virtual ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// The client's first step; nothing has come yet.
    [[nodiscard]] Step start(std::vector<std::byte>& output);
    [[nodiscard]] Step feed(std::span<const std::byte> octets, std::vector<std::byte>& output);
    [[nodiscard]] Handed take_handed();
    /// After done, a client's TLS 1.3: gives libssl one record of ciphertext; what it answers is not sent.
    void after_handshake(std::span<const std::byte> record);

    [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
    [[nodiscard]] std::uint64_t consumed() const { return consumed_; }
    [[nodiscard]] bool flight_written() const { return flight_written_; }
    [[nodiscard]] const Negotiated& negotiated() const { return negotiated_; }
    [[nodiscard]] const Failure& failure() const { return failure_; }
    /// From now on the secrets are kept as lines too: a capture wants them.
    void keep_key_log() { key_log_ = std::make_unique<KeyLog>(); }
    [[nodiscard]] KeyLog* key_log() const { return key_log_.get(); }

    /// Callbacks that every SSL_CTX of a side needs: traffic secrets, alerts, handshake messages.
    static void install(SSL_CTX* context);
    /// A server's client-hello callback (SSL_CTX_set_client_hello_cb).
    [[nodiscard]] virtual int client_hello(int* alert) {
        static_cast<void>(alert);
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    /// A server's: a ClientHello as it came, with its header (RFC 8446 4), before libssl looks into it. Borrowed for the call.
    virtual void hello_received(std::span<const unsigned char> message) { static_cast<void>(message); }
    /// A client's new-session callback (SSL_CTX_sess_set_new_cb): 1 when it keeps the reference.
    [[nodiscard]] virtual int new_session(SSL_SESSION* session) {
        static_cast<void>(session);
        return 0;
    }
    /// A server's status callback (SSL_CTX_set_tlsext_status_cb): libssl's SSL_TLSEXT_ERR_*.
    [[nodiscard]] virtual int staple() { return SSL_TLSEXT_ERR_NOACK; }
    /// A verification callback's error, for the failure.
    void chain_error(X509_STORE_CTX* store) { note_chain_error(store); }
    static Connection& of(const SSL* ssl) { return *static_cast<Connection*>(SSL_get_app_data(ssl)); }

 protected:
    /// Something that the policy or a callback of ours objects to.
    struct Refusal {
        int alert;   ///< -1: none is sent
        std::string text;
        std::optional<policy::Violation> violation = std::nullopt;
    };
    /// What the policy's list says of a violation, with more about it: alert and sentence.
    [[nodiscard]] static Refusal refusal_of(policy::Violation violation, std::string_view more);
    /// What the policy objects to in a failure that libssl reports; `reason` is libssl's code (SSL_R_...), 0 when there is none.
    [[nodiscard]] virtual std::optional<policy::Violation> violation_of(int reason) const = 0;
    /// What a side has to say beyond the catalogue, asked with the catalogue.
    [[nodiscard]] virtual std::optional<Refusal> check_side() = 0;
    /// The reason for a failure that libssl reports; `alert_received` is already in failure_.
    [[nodiscard]] virtual channel::EndReason reason_of_failure() const = 0;
    /// More about it for the text, such as the chain error; empty: libssl's own words.
    [[nodiscard]] virtual std::string detail_of_failure() const { return {}; }
    /// A server's, once a handshake of TLS 1.3 is done: the NewSessionTicket messages that follow it; nullopt: they could not be made. `secret`: resumption_master_secret (RFC 8446 7.1), empty where
    /// it is not known.
    [[nodiscard]] virtual std::optional<std::vector<std::vector<std::byte>>> tickets(const crypto::CipherSuite& suite, const crypto::TrafficSecret& secret) {
        static_cast<void>(suite);
        static_cast<void>(secret);
        return std::vector<std::vector<std::byte>>();
    }
    /// Whether the SSL object must live on after done.
    [[nodiscard]] virtual bool lives_on() const { return false; }
    void free_ssl();
    /// Fails for a reason of our own. The alert is sent when the peer can read it: while nothing encrypted was sent.
    [[nodiscard]] Step refuse(const Refusal& refusal, std::vector<std::byte>& output);

    Negotiated negotiated_;
    Failure failure_;
    std::string refusal_;   ///< text of a callback that made libssl fail
    std::optional<policy::Violation> violated_;   ///< likewise; goes before what libssl says
    /// The first error of a chain that was verified, with what it was about.
    void note_chain_error(X509_STORE_CTX* store);
    /// Whether libssl has finished the handshake, so that all that the peer had to prove has been proven or not.
    [[nodiscard]] bool finished() const { return SSL_is_init_finished(ssl_.get()) == 1; }

 private:
    [[nodiscard]] Step run(std::span<const std::byte> record, std::vector<std::byte>& output);
    [[nodiscard]] Step refuse_stream(RecordStream::Next next, std::vector<std::byte>& output);
    /// A fatal alert under the server's first application traffic key (RFC 8446 5.2, 6); false when there is no such key.
    [[nodiscard]] bool seal_alert(int alert, std::vector<std::byte>& output);
    /// Puts the tickets behind the handshake, under the keys that are handed over; false where they could not be made.
    [[nodiscard]] bool send_tickets(const crypto::TrafficSecret& secret, std::vector<std::byte>& output);
    void describe_failure(std::string why, int library_reason);
    [[nodiscard]] std::optional<Refusal> read_back();
    [[nodiscard]] bool hand_over(std::uint64_t application_records);
    struct Flight {
        std::span<const std::byte> octets;   ///< in the BIO until that is cleared
        std::uint64_t protected_records = 0;
        bool encrypted = false;
        std::optional<std::uint64_t> finished_nonce;
    };
    [[nodiscard]] Flight written();
    void send(const Flight& flight, std::vector<std::byte>& output);

    static void on_secret(const SSL* ssl, const char* line);
    static void on_info(const SSL* ssl, int where, int value);
    static void on_message(int write, int version, int content_type, const void* octets, size_t length, SSL* ssl, void*);

    const bool server_;
    WireBio wire_;
    openssl::Connection ssl_;   ///< after wire_: it goes first
    RecordStream records_;
    Step step_ = Step::more;
    std::uint64_t consumed_ = 0;
    bool flight_written_ = false;      ///< the server's flight is complete: ServerHelloDone or Finished
    bool hello_extended_master_secret_ = false;   ///< the ServerHello agreed to it (RFC 7627 5.1)
    bool checked_ = false;
    bool record_taken_ = false;        ///< a whole record has come
    bool encrypted_sent_ = false;
    bool change_cipher_spec_sent_ = false;
    std::uint64_t explicit_nonce_ = 0;
    crypto::TrafficSecret client_secret_, server_secret_;
    std::unique_ptr<KeyLog> key_log_;  ///< nullptr: nobody wants the secrets
    Handed handed_;
};

}  // namespace sallyport::handshake
