#include "tests/bench/generator/tls_handshake.h"

#include <array>
#include <format>
#include <new>

#include "control/handshake/libssl.h"

namespace sallyport::generator {
namespace {

constexpr std::size_t kMasterSecretLength = 48;   // RFC 5246 8.1

int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

void read_secret(std::string_view hex, crypto::TrafficSecret& secret) {
    std::array<std::byte, crypto::kMaxHashLength> octets;
    const std::size_t length = hex.size() / 2;
    if (length > octets.size()) return;
    for (std::size_t i = 0; i < length; ++i) octets[i] = static_cast<std::byte>(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    secret.assign(std::span(octets).first(length));
}

bool is(std::byte type, crypto::ContentType wanted) { return std::to_integer<std::uint8_t>(type) == static_cast<std::uint8_t>(wanted); }

Handshake& of(const SSL* ssl) { return *static_cast<Handshake*>(SSL_get_app_data(ssl)); }

}  // namespace

Handshake::Handshake(TlsContext& context, openssl::Session session) : context_(context), ssl_(SSL_new(context.get())), records_(context.is_server()) {
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    if (!ssl_ || in_ == nullptr || out_ == nullptr) throw std::bad_alloc();
    BIO_set_mem_eof_return(in_, -1);   // empty means 'not yet'
    SSL_set_bio(ssl_.get(), in_, out_);
    SSL_set_app_data(ssl_.get(), this);
    if (context.is_server()) {
        SSL_set_accept_state(ssl_.get());
        return;
    }
    SSL_set_connect_state(ssl_.get());
    if (const std::string& name = context.options().server_name; !name.empty()) {
        SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
        if (!context.options().trust.empty()) SSL_set1_dnsname(ssl_.get(), name.c_str());
    }
    if (session != nullptr) SSL_set_session(ssl_.get(), session.get());
}

Handshake::~Handshake() {
    // The record layer goes on elsewhere: for libssl the connection is closed in order, so that its session stays resumable.
    if (ssl_ && done_) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

void Handshake::install(SSL_CTX* context) {
    SSL_CTX_set_keylog_callback(context, on_secret);
    SSL_CTX_set_info_callback(context, on_info);
}

void Handshake::on_secret(const SSL* ssl, const char* line) {
    // "LABEL CLIENT_RANDOM SECRET", both in hexadecimal.
    const std::string_view text(line);
    const std::string_view label = text.substr(0, text.find(' ')), secret = text.substr(text.rfind(' ') + 1);
    if (label == "CLIENT_TRAFFIC_SECRET_0") read_secret(secret, of(ssl).client_secret_);
    if (label == "SERVER_TRAFFIC_SECRET_0") read_secret(secret, of(ssl).server_secret_);
}

void Handshake::on_info(const SSL* ssl, int where, int value) {
    if ((where & SSL_CB_ALERT) != 0 && (where & SSL_CB_READ) != 0) of(ssl).alert_received_ = value & 0xff;
}

int Handshake::on_new_session(SSL* ssl, SSL_SESSION* session) {
    Handshake& handshake = of(ssl);
    handshake.context_.keep_session(openssl::Session(session));
    handshake.waits_for_ticket_ = handshake.waits_for_ticket_ && handshake.context_.wants_sessions();
    return 1;   // the reference is ours
}

Handshake::Step Handshake::start(std::vector<std::byte>& output) {
    started_ = true;
    return run({}, output);
}

Handshake::Step Handshake::feed(std::span<const std::byte>& stream, std::vector<std::byte>& output) {
    started_ = true;
    while (!stream.empty()) {
        const handshake::RecordStream::Next next = records_.take(stream);
        switch (next.kind) {
            case handshake::RecordStream::Kind::more: return Step::more;
            case handshake::RecordStream::Kind::record: break;
            case handshake::RecordStream::Kind::not_tls:
            case handshake::RecordStream::Kind::malformed: text_ = "what came is no TLS record"; return Step::failed;
        }
        if (const Step step = run(next.octets, output); step != Step::more) return step;
    }
    return Step::more;
}

Handshake::Step Handshake::run(std::span<const std::byte> record, std::vector<std::byte>& output) {
    ERR_clear_error();
    if (!record.empty()) BIO_write(in_, record.data(), static_cast<int>(record.size()));
    const int result = SSL_do_handshake(ssl_.get());
    const int error = SSL_get_error(ssl_.get(), result);
    flush(output);
    if (result != 1) return error == SSL_ERROR_WANT_READ ? Step::more : fail(result, error);
    if (!hand_over()) {
        text_ = "the keys could not be derived";
        return Step::failed;
    }
    done_ = true;
    waits_for_ticket_ = !context_.is_server() && negotiated_.version == TLS1_3_VERSION && context_.wants_sessions();
    return Step::done;
}

Handshake::Step Handshake::fail(int, int) {
    const unsigned long code = ERR_peek_error();
    if (alert_received_ >= 0) {
        failure_ = Failure::alert_received;
        text_ = "alert " + handshake::alert_name(alert_received_);
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        failure_ = Failure::certificate_refused;
        text_ = X509_verify_cert_error_string(SSL_get_verify_result(ssl_.get()));
    } else {
        text_ = openssl::error_queue();
    }
    return Step::failed;
}

/// Takes what libssl has written, and looks at its records: how many are protected, and which explicit nonce Finished of TLS 1.2 had (RFC 5288 3).
void Handshake::flush(std::vector<std::byte>& output) {
    char* data = nullptr;
    const long length = BIO_get_mem_data(out_, &data);
    protected_records_ = 0;
    if (length <= 0) return;
    const std::span flight(reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(length));
    for (auto rest = flight; rest.size() >= crypto::kRecordHeaderLength;) {
        const std::size_t fragment = std::to_integer<std::size_t>(rest[3]) << 8 | std::to_integer<std::size_t>(rest[4]);
        if (is(rest[0], crypto::ContentType::application_data)) ++protected_records_;
        if (is(rest[0], crypto::ContentType::change_cipher_spec)) change_cipher_spec_sent_ = true;
        if (is(rest[0], crypto::ContentType::handshake) && change_cipher_spec_sent_ && fragment >= 8 && SSL_version(ssl_.get()) == TLS1_2_VERSION) {
            explicit_nonce_ = 0;
            for (std::size_t i = 0; i < 8; ++i) explicit_nonce_ = explicit_nonce_ << 8 | std::to_integer<std::uint64_t>(rest[crypto::kRecordHeaderLength + i]);
            ++explicit_nonce_;
        }
        rest = rest.subspan(std::min(rest.size(), crypto::kRecordHeaderLength + fragment));
    }
    output.insert(output.end(), flight.begin(), flight.end());
    static_cast<void>(BIO_reset(out_));
}

bool Handshake::hand_over() {
    SSL* const ssl = ssl_.get();
    negotiated_.version = static_cast<std::uint16_t>(SSL_version(ssl));
    negotiated_.suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
    negotiated_.resumed = SSL_session_reused(ssl) == 1;
    if (negotiated_.version == TLS1_3_VERSION || !negotiated_.resumed)
        if (const char* group = SSL_get0_group_name(ssl); group != nullptr) negotiated_.group = group;
    const crypto::CipherSuite* const suite = crypto::find_cipher_suite(negotiated_.suite);
    if (suite == nullptr) return false;
    keys_.suite = suite->id;
    const bool server = context_.is_server();
    if (suite->version == crypto::Version::tls13) {
        const auto client = crypto::derive_traffic_key(*suite, client_secret_);
        const auto from_server = crypto::derive_traffic_key(*suite, server_secret_);
        if (!client || !from_server) return false;
        // A server's last flight is its tickets, under the application key already.
        keys_.read.install(*suite, server ? *client : *from_server, 0, 0);
        keys_.write.install(*suite, server ? *from_server : *client, server ? protected_records_ : 0, 0);
        keys_.read_secret = server ? client_secret_ : server_secret_;
        keys_.write_secret = server ? server_secret_ : client_secret_;
        return true;
    }
    std::array<std::byte, kMasterSecretLength> master{};
    std::array<std::byte, SSL3_RANDOM_SIZE> client_random{}, server_random{};
    const auto raw = [](auto& octets) { return reinterpret_cast<unsigned char*>(octets.data()); };
    SSL_SESSION_get_master_key(SSL_get_session(ssl), raw(master), master.size());
    SSL_get_client_random(ssl, raw(client_random), client_random.size());
    SSL_get_server_random(ssl, raw(server_random), server_random.size());
    const auto derived = crypto::derive_tls12_keys(*suite, master, client_random, server_random);
    crypto::wipe(master.data(), master.size());
    if (!derived) return false;
    // Finished was the first record, both ways.
    keys_.read.install(*suite, server ? derived->client_write : derived->server_write, 1, 0);
    keys_.write.install(*suite, server ? derived->server_write : derived->client_write, 1, explicit_nonce_);
    return true;
}

ConnectionKeys Handshake::take_keys() {
    ConnectionKeys taken = keys_;
    keys_ = {};
    return taken;
}

void Handshake::take_ticket(std::span<const std::byte> record) {
    ERR_clear_error();
    std::array<std::byte, 64> data;
    BIO_write(in_, record.data(), static_cast<int>(record.size()));
    const int got = SSL_read(ssl_.get(), data.data(), static_cast<int>(data.size()));
    if (SSL_get_error(ssl_.get(), got) != SSL_ERROR_WANT_READ) waits_for_ticket_ = false;
    static_cast<void>(BIO_reset(out_));
}

}  // namespace sallyport::generator
