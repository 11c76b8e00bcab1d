#include "control/handshake/connection.h"

#include <algorithm>
#include <array>
#include <new>

#include "control/handshake/key_derivations.h"
#include "control/handshake/reader.h"
#include "control/policy/catalogue.h"
#include "crypto/check.h"
#include "crypto/cipher_suite.h"
#include "crypto/format.h"
#include "crypto/record_protection.h"

namespace sallyport::handshake {
namespace {

/// Octets that a peer may spend on a handshake. A server's certificate chain is the longest thing in it (libssl allows 100 KiB);
/// a ClientHello with the largest key shares, a ticket and HelloRetryRequest stays below 16 KiB.
constexpr std::uint64_t kMostFromClient = 64 * 1024;
constexpr std::uint64_t kMostFromServer = 192 * 1024;

/// RFC 5246 8.1.
constexpr std::size_t kMasterSecretLength = 48;

std::uint8_t octet(std::span<const std::byte> octets, std::size_t index) { return std::to_integer<std::uint8_t>(octets[index]); }

bool is(std::uint8_t value, crypto::ContentType type) { return value == static_cast<std::uint8_t>(type); }

int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

void read_secret(std::string_view hex, crypto::TrafficSecret& secret) {
    std::array<std::byte, crypto::kMaxHashLength> octets;
    const std::size_t length = hex.size() / 2;
    if (hex.size() % 2 != 0 || length > octets.size()) return;
    for (std::size_t i = 0; i < length; ++i) {
        const int high = hex_digit(hex[2 * i]);
        const int low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) return;
        octets[i] = static_cast<std::byte>(high << 4 | low);
    }
    secret.assign(std::span(octets).first(length));
    crypto::wipe(octets.data(), octets.size());
}

/// Whether a ServerHello message (RFC 5246 7.4.1.3) has this extension.
bool server_hello_has(std::span<const unsigned char> message, std::size_t extension) {
    constexpr std::size_t kHeader = 4, kVersionAndRandom = 2 + 32, kSuiteAndCompression = 2 + 1;
    Reader reader(message);
    std::span<const unsigned char> skipped;
    std::size_t length = 0, type = 0;
    if (!reader.octets(kHeader + kVersionAndRandom, skipped) || !reader.number(1, length) || !reader.octets(length, skipped) ||
        !reader.octets(kSuiteAndCompression, skipped) || !reader.number(2, length))
        return false;
    while (reader.number(2, type) && reader.number(2, length) && reader.octets(length, skipped))
        if (type == extension) return true;
    return false;
}

template <std::size_t Capacity, std::size_t Length>
void put(const crypto::Secret<Capacity>& secret, std::array<std::byte, Length>& field) {
    static_assert(Capacity <= Length);
    std::ranges::copy(secret.octets(), field.begin());
}

void wipe_keys(channel::Handoff& handoff) { crypto::wipe(&handoff, sizeof handoff); }

}  // namespace

Connection::Connection(SSL_CTX* context, bool server) : server_(server), ssl_(SSL_new(context)), records_(server) {
    BIO* const wire = ssl_ ? wire_.make() : nullptr;
    if (wire == nullptr) throw std::bad_alloc();
    SSL_set_bio(ssl_.get(), wire, wire);
    SSL_set_app_data(ssl_.get(), this);
    if (server_)
        SSL_set_accept_state(ssl_.get());
    else
        SSL_set_connect_state(ssl_.get());
}

Connection::~Connection() {
    free_ssl();
    wipe_keys(handed_.handoff);
}

void Connection::free_ssl() {
    if (!ssl_) return;
    // The record layer goes on elsewhere: for libssl the connection is closed in order, so that its session stays resumable.
    if (step_ == Step::done) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    ssl_.reset();
}

void Connection::install(SSL_CTX* context) {
    SSL_CTX_set_keylog_callback(context, on_secret);
    SSL_CTX_set_info_callback(context, on_info);
    SSL_CTX_set_msg_callback(context, on_message);
}

void Connection::on_secret(const SSL* ssl, const char* line) {
    // "LABEL CLIENT_RANDOM SECRET", both in hexadecimal. The line is libssl's, and wiped by it.
    const std::string_view text(line);
    if (KeyLog* const log = of(ssl).key_log()) log->add(text);
    const auto label_end = text.find(' ');
    const auto secret_begin = text.rfind(' ');
    if (label_end == std::string_view::npos || secret_begin <= label_end) return;
    const auto label = text.substr(0, label_end);
    const auto secret = text.substr(secret_begin + 1);
    if (label == "CLIENT_TRAFFIC_SECRET_0") read_secret(secret, of(ssl).client_secret_);
    if (label == "SERVER_TRAFFIC_SECRET_0") read_secret(secret, of(ssl).server_secret_);
}

void Connection::on_info(const SSL* ssl, int where, int value) {
    if ((where & SSL_CB_ALERT) == 0) return;
    Failure& failure = of(ssl).failure_;
    const bool received = (where & SSL_CB_READ) != 0;
    if (failure.alert_received && !received) return;  // what the peer said first is the cause
    failure.alert = value & 0xff;
    failure.alert_received = received;
}

void Connection::on_message(int write, int, int content_type, const void* octets, size_t length, SSL* ssl, void*) {
    if (content_type != SSL3_RT_HANDSHAKE || length == 0) return;
    Connection& connection = of(ssl);
    const auto type = *static_cast<const unsigned char*>(octets);
    const bool by_server = (write != 0) == connection.server_;
    if (!by_server && connection.server_ && type == SSL3_MT_CLIENT_HELLO) connection.hello_received({static_cast<const unsigned char*>(octets), length});
    if (by_server && type == SSL3_MT_SERVER_HELLO)
        connection.hello_extended_master_secret_ =
            server_hello_has({static_cast<const unsigned char*>(octets), length}, TLSEXT_TYPE_extended_master_secret);
    // All that is negotiated stands once the server has sent ServerHelloDone (1.2) or Finished (1.3, 1.2 resumed).
    if (by_server && (type == SSL3_MT_SERVER_DONE || type == SSL3_MT_FINISHED))
        connection.flight_written_ = true;
}

Step Connection::start(std::vector<std::byte>& output) { return run({}, output); }

Step Connection::feed(std::span<const std::byte> octets, std::vector<std::byte>& output) {
    SALLYPORT_CHECK(step_ == Step::more);
    const std::uint64_t most = server_ ? kMostFromClient : kMostFromServer;
    while (step_ == Step::more && !octets.empty()) {
        const std::size_t before = octets.size();
        const RecordStream::Next next = records_.take(octets);
        consumed_ += before - octets.size();
        if (next.kind == RecordStream::Kind::more) return step_;
        if (next.kind != RecordStream::Kind::record) return step_ = refuse_stream(next, output);
        record_taken_ = true;
        if (consumed_ > most)
            return step_ = refuse({SSL_AD_HANDSHAKE_FAILURE, sallyport::format("the handshake is longer than {} octets", most)}, output);
        step_ = run(next.octets, output);
    }
    return step_;
}

Step Connection::refuse_stream(RecordStream::Next next, std::vector<std::byte>& output) {
    if (next.kind == RecordStream::Kind::not_tls) {
        // Not a peer that could read an alert: no octet is answered (9.1.1).
        failure_.reason = channel::EndReason::client_not_tls;
        failure_.violation = policy::Violation::plain_text;
        failure_.text = sallyport::format("the first octets are no TLS handshake record: \"{}\"",
                                          printable({reinterpret_cast<const char*>(next.octets.data()), next.octets.size()}));
        free_ssl();
        return Step::failed;
    }
    // libssl finds the right alert for the header, if it objects before the rest has come.
    if (!server_ && !record_taken_) violated_ = policy::Violation::backend_not_tls;
    if (next.octets.size() == crypto::kRecordHeaderLength && run(next.octets, output) == Step::failed) return Step::failed;
    const bool no_tls = !server_ && !record_taken_;  // libssl has said nothing: what came is not even like TLS
    return refuse({SSL_AD_UNEXPECTED_MESSAGE, "a record with a header that TLS does not know",
                   no_tls ? std::optional(policy::Violation::backend_not_tls) : std::nullopt}, output);
}

Connection::Refusal Connection::refusal_of(policy::Violation violation, std::string_view more) {
    const policy::ViolationText& text = policy::text(violation);
    return {text.alert, sallyport::format("{}{}{} ({})", text.sentence, more.empty() ? "" : ": ", more, policy::text(text.requirement).both), violation};
}

void Connection::note_chain_error(X509_STORE_CTX* store) {
    if (!failure_.chain_error.empty()) return;
    const X509* current = X509_STORE_CTX_get_current_cert(store);
    const X509* leaf = X509_STORE_CTX_get0_cert(store);
    failure_.peer_subject = subject_of(leaf);
    failure_.chain_error = sallyport::format("{} (depth {}, subject \"{}\")", X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)),
                                             X509_STORE_CTX_get_error_depth(store), subject_of(current != nullptr ? current : leaf));
}

Step Connection::run(std::span<const std::byte> record, std::vector<std::byte>& output) {
    ERR_clear_error();
    wire_.give(record);
    const int result = SSL_do_handshake(ssl_.get());
    const crypto::TrafficSecret resumption = take_resumption_master_secret();   // nothing stops a handshake between that and its end
    const bool all_read = wire_.unread() == 0;   // libssl wants more only when it has read all
    wire_.give({});
    const int error = SSL_get_error(ssl_.get(), result);
    const Flight flight = written();
    if (result != 1 && error != SSL_ERROR_WANT_READ) {
        send(flight, output);
        const auto reason_in = [](unsigned long code) { return ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0; };
        const int first = reason_in(ERR_peek_error());
        const int library_reason = first != 0 ? first : reason_in(ERR_peek_last_error());
        describe_failure(openssl::error_queue(), library_reason);
        return Step::failed;
    }
    const bool first_check = (result == 1 || flight_written_) && !checked_;
    if (first_check) {
        checked_ = true;
        if (auto refusal = read_back()) return refuse(*refusal, output);
    }
    if (flight.finished_nonce) explicit_nonce_ = *flight.finished_nonce + 1;
    if (result != 1) {
        send(flight, output);
        return Step::more;
    }
    if (!all_read || SSL_has_pending(ssl_.get()) == 1)
        return refuse({SSL_AD_UNEXPECTED_MESSAGE, "octets follow the Finished message in its record"}, output);
    if (!first_check)   // else it has just been asked, and libssl has done nothing since
        if (auto refusal = read_back()) return refuse(*refusal, output);
    if (!hand_over(flight.protected_records)) return refuse({SSL_AD_INTERNAL_ERROR, "the keys could not be derived"}, output);
    send(flight, output);
    if (!send_tickets(resumption, output)) return refuse({SSL_AD_INTERNAL_ERROR, "the session tickets could not be made"}, output);
    step_ = Step::done;
    if (!lives_on()) free_ssl();
    return Step::done;
}

Connection::Flight Connection::written() {
    Flight flight;
    flight.octets = wire_.written();
    for (auto rest = flight.octets; rest.size() >= crypto::kRecordHeaderLength;) {
        const std::uint8_t type = octet(rest, 0);
        const std::size_t fragment = static_cast<std::size_t>(octet(rest, 3)) << 8 | octet(rest, 4);
        if (rest.size() < crypto::kRecordHeaderLength + fragment) break;
        if (is(type, crypto::ContentType::application_data)) {
            ++flight.protected_records;
            flight.encrypted = true;
        }
        if (is(type, crypto::ContentType::change_cipher_spec)) change_cipher_spec_sent_ = true;
        // On TLS 1.2 what follows ChangeCipherSpec is Finished; its explicit nonce leads the fragment (RFC 5288 3).
        if (is(type, crypto::ContentType::handshake) && change_cipher_spec_sent_) {
            flight.encrypted = true;
            if (SSL_version(ssl_.get()) == TLS1_2_VERSION && fragment >= 8) {
                std::uint64_t nonce = 0;
                for (std::size_t i = 0; i < 8; ++i) nonce = nonce << 8 | octet(rest, crypto::kRecordHeaderLength + i);
                flight.finished_nonce = nonce;
            }
        }
        rest = rest.subspan(crypto::kRecordHeaderLength + fragment);
    }
    return flight;
}

void Connection::send(const Flight& flight, std::vector<std::byte>& output) {
    output.insert(output.end(), flight.octets.begin(), flight.octets.end());
    encrypted_sent_ = encrypted_sent_ || flight.encrypted;
    wire_.clear();
}

Step Connection::refuse(const Refusal& refusal, std::vector<std::byte>& output) {
    failure_.alert = -1;
    failure_.alert_received = false;
    if (refusal.alert < 0) {
        // Nothing to say to this peer.
    } else if (!encrypted_sent_) {  // RFC 8446 5.1: an alert record in plain text
        for (const int value : {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, refusal.alert}) output.push_back(static_cast<std::byte>(value));
        failure_.alert = refusal.alert;
    } else if (server_ && ssl_ && finished() && seal_alert(refusal.alert, output)) {
        failure_.alert = refusal.alert;
    }
    refusal_ = refusal.text;
    violated_ = refusal.violation;
    describe_failure({}, 0);
    return Step::failed;
}

namespace {

/// Seals a record of TLS 1.3 behind `output` (RFC 8446 5.2, 5.3); its content has 2^14 octets at most.
bool seal(const crypto::CipherSuite& suite, std::span<const std::byte> key, std::span<const std::byte> iv, std::uint64_t sequence, std::uint8_t type, std::span<const std::byte> content,
          std::vector<std::byte>& output) {
    constexpr std::size_t kTag = 16;
    const EVP_CIPHER* cipher = EVP_chacha20_poly1305();
    if (suite.aead == crypto::Aead::aes_128_gcm) cipher = EVP_aes_128_gcm();
    if (suite.aead == crypto::Aead::aes_256_gcm) cipher = EVP_aes_256_gcm();
    std::array<std::byte, crypto::kAeadNonceLength> nonce{};
    std::ranges::copy(iv, nonce.begin());
    for (std::size_t i = 0; i < sizeof sequence; ++i) nonce[nonce.size() - 1 - i] ^= static_cast<std::byte>(sequence >> (8 * i));
    const auto raw = [](const std::byte* octets) { return reinterpret_cast<const unsigned char*>(octets); };
    const std::size_t begin = output.size(), length = content.size() + 1 + kTag;
    output.resize(begin + crypto::kRecordHeaderLength + length);
    auto* const record = reinterpret_cast<unsigned char*>(output.data() + begin);
    const std::array<unsigned char, crypto::kRecordHeaderLength> header{SSL3_RT_APPLICATION_DATA, 3, 3, static_cast<unsigned char>(length >> 8), static_cast<unsigned char>(length)};
    std::ranges::copy(header, record);
    unsigned char* const sealed = record + header.size();
    const openssl::Owner<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> context(EVP_CIPHER_CTX_new());
    int of_content = 0, more = 0;
    const bool done = context && EVP_EncryptInit_ex2(context.get(), cipher, raw(key.data()), raw(nonce.data()), nullptr) == 1 &&
                      EVP_EncryptUpdate(context.get(), nullptr, &more, record, static_cast<int>(header.size())) == 1 &&
                      EVP_EncryptUpdate(context.get(), sealed, &of_content, raw(content.data()), static_cast<int>(content.size())) == 1 &&
                      EVP_EncryptUpdate(context.get(), sealed + of_content, &more, &type, 1) == 1 && EVP_EncryptFinal_ex(context.get(), sealed + of_content + more, &more) == 1 &&
                      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTag, sealed + content.size() + 1) == 1;
    if (!done) output.resize(begin);
    return done;
}

}  // namespace

bool Connection::seal_alert(int alert, std::vector<std::byte>& output) {
    const crypto::CipherSuite* suite = crypto::find_cipher_suite(negotiated_.suite);
    if (suite == nullptr || suite->version != crypto::Version::tls13 || server_secret_.empty()) return false;
    const auto key = crypto::derive_traffic_key(*suite, server_secret_);
    if (!key) return false;
    const std::array content{static_cast<std::byte>(SSL3_AL_FATAL), static_cast<std::byte>(alert)};
    return seal(*suite, key->key.octets(), key->iv.octets(), 0, SSL3_RT_ALERT, content, output);   // nothing has been written under this key
}

bool Connection::send_tickets(const crypto::TrafficSecret& secret, std::vector<std::byte>& output) {
    const crypto::CipherSuite* const suite = crypto::find_cipher_suite(negotiated_.suite);
    if (!server_ || suite == nullptr || suite->version != crypto::Version::tls13) return true;
    const auto messages = tickets(*suite, secret);
    if (!messages) return false;
    constexpr std::size_t kMostContent = 1 << 14;   // RFC 8446 5.1; a client's certificates, which are in its ticket, may take more
    channel::Handoff& handoff = handed_.handoff;
    for (const std::span<const std::byte> message : *messages)
        for (auto rest = message; !rest.empty(); rest = rest.subspan(std::min(rest.size(), kMostContent)))
            if (!seal(*suite, std::span(handoff.write_key).first(crypto::key_length(suite->aead)), handoff.write_iv, handoff.write_sequence++, SSL3_RT_HANDSHAKE,
                      rest.first(std::min(rest.size(), kMostContent)), output))
                return false;
    return true;
}

void Connection::describe_failure(std::string why, int library_reason) {
    const std::string_view peer = server_ ? "client" : "backend";
    if (failure_.alert == SSL_AD_CLOSE_NOTIFY && failure_.alert_received)
        why = sallyport::format("the {} closed during the handshake: alert close_notify (0) received", peer);
    else if (failure_.alert_received)
        why = sallyport::format("the {} sent alert {}", peer, alert_name(failure_.alert));
    else if (!refusal_.empty())
        why = refusal_;
    else if (auto detail = ssl_ ? detail_of_failure() : std::string(); !detail.empty())
        why = std::move(detail);
    if (failure_.alert >= 0 && !failure_.alert_received) why += sallyport::format("; alert {} sent to the {}", alert_name(failure_.alert), peer);
    failure_.text = std::move(why);
    failure_.violation = violated_ ? violated_ : violation_of(library_reason);
    failure_.reason = reason_of_failure();
    step_ = Step::failed;
    free_ssl();
    client_secret_.clear();
    server_secret_.clear();
}

std::optional<Connection::Refusal> Connection::read_back() {
    SSL* const ssl = ssl_.get();
    negotiated_.version = static_cast<std::uint16_t>(SSL_version(ssl));
    negotiated_.resumed = SSL_session_reused(ssl) == 1;
    const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
    if (cipher == nullptr) cipher = SSL_get_pending_cipher(ssl);
    negotiated_.suite = cipher != nullptr ? SSL_CIPHER_get_protocol_id(cipher) : std::uint16_t{0};
    // A resumed TLS 1.2 session has no key exchange of its own (RFC 5246 F.1.4).
    const bool key_exchange = negotiated_.version == policy::kTls13 || !negotiated_.resumed;
    const char* group_name = key_exchange ? SSL_get0_group_name(ssl) : nullptr;
    const policy::Group* group = group_name != nullptr ? policy::find_group(group_name) : nullptr;
    negotiated_.group = group != nullptr ? group->id : std::uint16_t{0};
    const char* scheme = nullptr;
    const long have_scheme = server_ ? SSL_get0_signature_name(ssl, &scheme) : SSL_get0_peer_signature_name(ssl, &scheme);
    negotiated_.signature_scheme = !negotiated_.resumed && have_scheme == 1 && scheme != nullptr ? scheme : "";
    // libssl answers this question on TLS 1.2 only, and after the handshake only (-1 before). 1.3 has it by construction.
    const long extms = SSL_get_extms_support(ssl);
    negotiated_.extended_master_secret = negotiated_.version == policy::kTls13 || extms == 1 || (extms == -1 && hello_extended_master_secret_);
    const unsigned char* alpn = nullptr;
    unsigned alpn_length = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_length);
    negotiated_.alpn.assign(reinterpret_cast<const char*>(alpn), alpn_length);

    using policy::Violation;
    if (negotiated_.version != policy::kTls12 && negotiated_.version != policy::kTls13)
        return Refusal{SSL_AD_PROTOCOL_VERSION, sallyport::format("version {:#06x} was negotiated: 9.4.2 (12.1.1) allows TLS 1.2 and 1.3", negotiated_.version),
                       server_ ? Violation::client_version : Violation::backend_version};
    if (!policy::is_allowed_suite(negotiated_.suite, negotiated_.version))
        return Refusal{SSL_AD_HANDSHAKE_FAILURE, sallyport::format("cipher suite {:#06x} was negotiated: not in the catalogue of 9.4.1 (12.1.2)", negotiated_.suite),
                       server_ ? Violation::client_suite : Violation::backend_suite};
    if (key_exchange && !policy::is_allowed_group(negotiated_.group, negotiated_.version))
        return Refusal{SSL_AD_HANDSHAKE_FAILURE, sallyport::format("group {} was negotiated: not in the catalogue of 9.4.1 (12.1.2)", group_name != nullptr ? group_name : "none"),
                       server_ ? Violation::client_group : Violation::backend_suite};
    if (!negotiated_.resumed && !policy::is_allowed_signature_scheme(negotiated_.signature_scheme))
        return Refusal{SSL_AD_HANDSHAKE_FAILURE, sallyport::format("signature scheme \"{}\" was used: not in the catalogue of 9.4.1 (12.1.2)", negotiated_.signature_scheme),
                       server_ ? Violation::client_signature_scheme : Violation::backend_suite};
    if (!negotiated_.extended_master_secret)
        return Refusal{SSL_AD_HANDSHAKE_FAILURE, "TLS 1.2 without extended_master_secret: 9.4.1 (12.1.2) demands it (RFC 7627)",
                       Violation::no_extended_master_secret};
    return check_side();
}

bool Connection::hand_over(std::uint64_t application_records) {
    const crypto::CipherSuite* suite = crypto::find_cipher_suite(negotiated_.suite);
    if (suite == nullptr) return false;
    channel::Handoff& handoff = handed_.handoff;
    handoff.protection = channel::Protection::tls;
    handoff.suite = negotiated_.suite;
    handoff.group = negotiated_.group;
    handoff.consumed = consumed_;
    crypto::TrafficKey client_write;
    crypto::TrafficKey server_write;
    if (suite->version == crypto::Version::tls13) {
        auto client = crypto::derive_traffic_key(*suite, client_secret_);
        auto server = crypto::derive_traffic_key(*suite, server_secret_);
        if (!client || !server) return false;
        client_write = *client;
        server_write = *server;
        // The server's last flight is NewSessionTicket records, under the application key already.
        handoff.write_sequence = server_ ? application_records : 0;
        put(server_ ? client_secret_ : server_secret_, handoff.read_secret);
        put(server_ ? server_secret_ : client_secret_, handoff.write_secret);
        client_secret_.clear();
        server_secret_.clear();
    } else {
        std::array<std::byte, kMasterSecretLength> master{};
        std::array<std::byte, SSL3_RANDOM_SIZE> client_random{}, server_random{};
        const auto raw = [](auto& octets) { return reinterpret_cast<unsigned char*>(octets.data()); };
        const bool got = SSL_SESSION_get_master_key(SSL_get_session(ssl_.get()), raw(master), master.size()) == master.size() &&
                         SSL_get_client_random(ssl_.get(), raw(client_random), client_random.size()) == client_random.size() &&
                         SSL_get_server_random(ssl_.get(), raw(server_random), server_random.size()) == server_random.size();
        auto keys = crypto::derive_tls12_keys(*suite, master, client_random, server_random);
        crypto::wipe(master.data(), master.size());
        if (!got || !keys) return false;
        client_write = keys->client_write;
        server_write = keys->server_write;
        handoff.read_sequence = handoff.write_sequence = 1;  // Finished, both ways
        if (suite->aead != crypto::Aead::chacha20_poly1305) handoff.explicit_nonce = explicit_nonce_;
    }
    const crypto::TrafficKey& read = server_ ? client_write : server_write;
    const crypto::TrafficKey& write = server_ ? server_write : client_write;
    put(read.key, handoff.read_key);
    put(read.iv, handoff.read_iv);
    put(write.key, handoff.write_key);
    put(write.iv, handoff.write_iv);
    return true;
}

Handed Connection::take_handed() {
    SALLYPORT_CHECK(step_ == Step::done);
    Handed handed = handed_;
    handed.negotiated = negotiated_;
    wipe_keys(handed_.handoff);
    return handed;
}

void Connection::after_handshake(std::span<const std::byte> record) {
    if (!ssl_ || record.empty()) return;
    ERR_clear_error();
    std::array<std::byte, 256> data;
    wire_.give(record);
    const int got = SSL_read(ssl_.get(), data.data(), static_cast<int>(data.size()));
    const bool ticket = SSL_get_error(ssl_.get(), got) == SSL_ERROR_WANT_READ && wire_.unread() == 0;
    wire_.give({});
    wire_.clear();
    if (ticket) return;
    ERR_clear_error();
    crypto::wipe(data.data(), data.size());
    free_ssl();
}

}  // namespace sallyport::handshake
