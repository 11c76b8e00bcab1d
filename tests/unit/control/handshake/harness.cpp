#include "harness.h"

#include <openssl/ocsp.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "crypto/check.h"
#include "crypto/cipher_suite.h"

namespace sallyport::test {

Peer::Peer(SSL_CTX* context, bool server, const char* server_name, SSL_SESSION* session) : ssl_(SSL_new(context)) {
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in_, -1);
    SSL_set_bio(ssl_.get(), in_, out_);
    SSL_set_app_data(ssl_.get(), this);
    SSL_set_info_callback(ssl_.get(), [](const SSL* ssl, int where, int value) {
        if (where == SSL_CB_READ_ALERT) static_cast<Peer*>(SSL_get_app_data(ssl))->alert_received_ = value & 0xff;
    });
    server ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
    if (server_name != nullptr) SSL_set_tlsext_host_name(ssl_.get(), server_name);
    if (session != nullptr) SSL_set_session(ssl_.get(), session);
}

// As if close_notify had been exchanged: libssl forgets the session of a connection that was cut off.
Peer::~Peer() { SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); }

Octets Peer::output() {
    char* data = nullptr;
    const long length = BIO_get_mem_data(out_, &data);
    const auto* begin = reinterpret_cast<const std::byte*>(data);
    Octets octets(begin, begin + length);
    static_cast<void>(BIO_reset(out_));
    return octets;
}

Octets Peer::feed(std::span<const std::byte> octets) {
    ERR_clear_error();
    if (!octets.empty()) BIO_write(in_, octets.data(), static_cast<int>(octets.size()));
    const int result = SSL_do_handshake(ssl_.get());
    done_ = result == 1;
    failed_ = result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return output();
}

Octets Peer::write(std::string_view text) {
    SALLYPORT_CHECK(SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) == static_cast<int>(text.size()));
    return output();
}

Octets Peer::write_early(std::string_view text) {
    std::size_t written = 0;
    SALLYPORT_CHECK(SSL_write_early_data(ssl_.get(), text.data(), text.size(), &written) == 1 && written == text.size());
    return output();
}

std::optional<std::string> Peer::read(std::span<const std::byte> octets) {
    ERR_clear_error();
    if (!octets.empty()) BIO_write(in_, octets.data(), static_cast<int>(octets.size()));
    std::string text;
    std::array<char, 4096> part;
    int got = 0;
    while ((got = SSL_read(ssl_.get(), part.data(), part.size())) > 0) text.append(part.data(), static_cast<std::size_t>(got));
    const bool waits = SSL_get_error(ssl_.get(), got) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    if (!waits) return std::nullopt;
    return text;
}

namespace {

struct Aead {
    const EVP_CIPHER* cipher;
    bool explicit_nonce;
    bool tls13;
    std::size_t key_length;
};

Aead aead_of(std::uint16_t id) {
    const crypto::CipherSuite* suite = crypto::find_cipher_suite(id);
    SALLYPORT_CHECK(suite != nullptr);
    const bool tls13 = suite->version == crypto::Version::tls13;
    switch (suite->aead) {
        case crypto::Aead::aes_128_gcm: return {EVP_aes_128_gcm(), !tls13, tls13, 16};
        case crypto::Aead::aes_256_gcm: return {EVP_aes_256_gcm(), !tls13, tls13, 32};
        case crypto::Aead::chacha20_poly1305: break;
    }
    return {EVP_chacha20_poly1305(), false, tls13, 32};
}

void put(Octets& octets, std::uint64_t number, int length) {
    for (int i = length - 1; i >= 0; --i) octets.push_back(static_cast<std::byte>(number >> (8 * i)));
}

Octets nonce_of(const Aead& aead, const std::array<std::byte, 12>& iv, std::uint64_t sequence, std::span<const std::byte> explicit_nonce) {
    Octets nonce(iv.begin(), iv.end());
    if (aead.explicit_nonce) {
        std::ranges::copy(explicit_nonce, nonce.begin() + 4);
        return nonce;
    }
    for (int i = 0; i < 8; ++i) nonce[static_cast<std::size_t>(11 - i)] ^= static_cast<std::byte>(sequence >> (8 * i));
    return nonce;
}

const unsigned char* raw(const auto& octets) { return reinterpret_cast<const unsigned char*>(octets.data()); }

}  // namespace

Octets RecordLayer::seal(std::string_view text) {
    const Aead aead = aead_of(handoff_.suite);
    Octets plain(octets_of(text).begin(), octets_of(text).end());
    if (aead.tls13) plain.push_back(std::byte{23});
    Octets explicit_nonce;
    if (aead.explicit_nonce) put(explicit_nonce, nonce_++, 8);
    Octets record{std::byte{23}, std::byte{3}, std::byte{3}};
    put(record, explicit_nonce.size() + plain.size() + 16, 2);
    Octets additional;
    if (aead.tls13) {
        additional = record;
    } else {
        put(additional, write_, 8);
        put(additional, 0x170303, 3);
        put(additional, plain.size(), 2);
    }
    const Octets nonce = nonce_of(aead, handoff_.write_iv, write_++, explicit_nonce);
    record.insert(record.end(), explicit_nonce.begin(), explicit_nonce.end());
    openssl::Owner<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> context(EVP_CIPHER_CTX_new());
    Octets sealed(plain.size() + 16);
    int length = 0;
    EVP_EncryptInit_ex2(context.get(), aead.cipher, raw(handoff_.write_key), raw(nonce), nullptr);
    EVP_EncryptUpdate(context.get(), nullptr, &length, raw(additional), static_cast<int>(additional.size()));
    EVP_EncryptUpdate(context.get(), reinterpret_cast<unsigned char*>(sealed.data()), &length, raw(plain), static_cast<int>(plain.size()));
    EVP_EncryptFinal_ex(context.get(), reinterpret_cast<unsigned char*>(sealed.data()) + length, &length);
    EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16, sealed.data() + plain.size());
    record.insert(record.end(), sealed.begin(), sealed.end());
    return record;
}

std::optional<std::string> RecordLayer::open(std::span<const std::byte> octets) {
    const Aead aead = aead_of(handoff_.suite);
    std::string text;
    for (const auto record : records_of(octets)) {
        auto fragment = record.subspan(5);
        Octets explicit_nonce;
        if (aead.explicit_nonce) {
            if (fragment.size() < 8) return std::nullopt;
            explicit_nonce.assign(fragment.begin(), fragment.begin() + 8);
            fragment = fragment.subspan(8);
        }
        if (fragment.size() < 16) return std::nullopt;
        const auto sealed = fragment.first(fragment.size() - 16);
        auto tag = Octets(fragment.end() - 16, fragment.end());
        Octets additional;
        if (aead.tls13) {
            additional.assign(record.begin(), record.begin() + 5);
        } else {
            put(additional, read_, 8);
            additional.insert(additional.end(), record.begin(), record.begin() + 3);
            put(additional, sealed.size(), 2);
        }
        const Octets nonce = nonce_of(aead, handoff_.read_iv, read_++, explicit_nonce);
        openssl::Owner<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> context(EVP_CIPHER_CTX_new());
        std::string plain(sealed.size(), '\0');
        int length = 0;
        EVP_DecryptInit_ex2(context.get(), aead.cipher, raw(handoff_.read_key), raw(nonce), nullptr);
        EVP_DecryptUpdate(context.get(), nullptr, &length, raw(additional), static_cast<int>(additional.size()));
        EVP_DecryptUpdate(context.get(), reinterpret_cast<unsigned char*>(plain.data()), &length, raw(sealed), static_cast<int>(sealed.size()));
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, 16, tag.data());
        std::array<unsigned char, 32> rest;
        if (EVP_DecryptFinal_ex(context.get(), rest.data(), &length) != 1) return std::nullopt;
        char type = static_cast<char>(record[0]);
        if (aead.tls13) {
            type = plain.back();
            plain.pop_back();
        }
        if (type == 23) text += plain;
    }
    return text;
}

std::vector<std::span<const std::byte>> records_of(std::span<const std::byte> octets) {
    std::vector<std::span<const std::byte>> records;
    while (octets.size() >= 5) {
        const std::size_t length = 5 + (std::to_integer<std::size_t>(octets[3]) << 8 | std::to_integer<std::size_t>(octets[4]));
        SALLYPORT_CHECK(octets.size() >= length);
        records.push_back(octets.first(length));
        octets = octets.subspan(length);
    }
    SALLYPORT_CHECK(octets.empty());
    return records;
}

openssl::Context peer_context(const PeerOptions& options) {
    openssl::Context context(SSL_CTX_new(options.server ? TLS_server_method() : TLS_client_method()));
    SSL_CTX* const c = context.get();
    SSL_CTX_set_security_level(c, 0);
    SSL_CTX_set_min_proto_version(c, options.version != 0 ? options.version : TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(c, options.version != 0 ? options.version : TLS1_3_VERSION);
    if (!options.suites12.empty()) SALLYPORT_CHECK(SSL_CTX_set_cipher_list(c, options.suites12.c_str()) == 1);
    if (!options.suites13.empty()) SALLYPORT_CHECK(SSL_CTX_set_ciphersuites(c, options.suites13.c_str()) == 1);
    if (!options.groups.empty()) SALLYPORT_CHECK(SSL_CTX_set1_groups_list(c, options.groups.c_str()) == 1);
    if (!options.schemes.empty()) SALLYPORT_CHECK(SSL_CTX_set1_sigalgs_list(c, options.schemes.c_str()) == 1);
    if (!options.extended_master_secret) SSL_CTX_set_options(c, SSL_OP_NO_EXTENDED_MASTER_SECRET);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(c, static_cast<std::size_t>(options.tickets));
    std::string list;
    for (std::size_t at = 0; at < options.alpn.size();) {
        const auto end = std::min(options.alpn.find(',', at), options.alpn.size());
        list += static_cast<char>(end - at);
        list += options.alpn.substr(at, end - at);
        at = end + 1;
    }
    if (!list.empty() && !options.server) SSL_CTX_set_alpn_protos(c, reinterpret_cast<const unsigned char*>(list.data()), static_cast<unsigned>(list.size()));
    if (!list.empty() && options.server) {
        // The first of its own, whatever was offered.
        static std::string chosen;
        chosen = options.alpn;
        SSL_CTX_set_alpn_select_cb(c, [](SSL*, const unsigned char** out, unsigned char* length, const unsigned char*, unsigned, void*) {
            *out = reinterpret_cast<const unsigned char*>(chosen.data());
            *length = static_cast<unsigned char>(chosen.size());
            return SSL_TLSEXT_ERR_OK;
        }, nullptr);
    }
    if (options.identity != nullptr) {
        openssl::Owner<STACK_OF(X509), [](STACK_OF(X509)* s) { sk_X509_free(s); }> chain(sk_X509_new_null());
        for (const auto& certificate : options.identity->chain) sk_X509_push(chain.get(), certificate.get());
        SALLYPORT_CHECK(SSL_CTX_use_cert_and_key(c, options.identity->certificate.get(), options.identity->key.get(), chain.get(), 1) == 1);
    }
    return context;
}

Served serve(const std::shared_ptr<const handshake::ServerContext>& context, Peer& client, handshake::Admit admit) {
    using handshake::Step;
    handshake::ServerHandshake server(context, std::move(admit));
    Served served;
    Octets to_server = client.feed({});
    while (served.step == Step::more && !to_server.empty()) {
        Octets to_client;
        served.step = server.feed(to_server, to_client);
        ++served.feeds;
        served.output.insert(served.output.end(), to_client.begin(), to_client.end());
        if (client.done()) {
            client.read(to_client);
            break;
        }
        to_server = client.feed(to_client);
    }
    served.failure = server.failure();
    served.negotiated = server.negotiated();
    served.offer = server.offer_with_fingerprint();
    served.hello_accepted = server.hello_accepted();
    if (served.step == Step::done) served.handed = server.take_handed();
    return served;
}

configuration::CertificateFiles loaded(const Identity& identity) {
    auto chain = std::make_shared<certificates::CertificateChain>();
    chain->leaf = openssl::share(identity.certificate.get());
    chain->key = openssl::share(identity.key.get());
    chain->fingerprint = certificates::fingerprint_of(chain->leaf.get());
    for (const auto& certificate : identity.chain) chain->intermediates.push_back(openssl::share(certificate.get()));
    const openssl::GeneralNames names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(chain->leaf.get(), NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        int type = 0;
        const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type));
        if (type == GEN_DNS) chain->names.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)), static_cast<std::size_t>(ASN1_STRING_length(value)));
    }
    configuration::CertificateFiles files;
    files.chain = std::move(chain);
    return files;
}

Octets make_crl(const Identity& issuer, const std::vector<const X509*>& revoked, int days) {
    const openssl::Owner<X509_CRL, X509_CRL_free> crl(X509_CRL_new());
    const openssl::Owner<ASN1_TIME, ASN1_TIME_free> last(ASN1_TIME_adj(nullptr, std::time(nullptr), days - 2, 0)), next(ASN1_TIME_adj(nullptr, std::time(nullptr), days, 0));
    X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(issuer.certificate.get()));
    X509_CRL_set1_lastUpdate(crl.get(), last.get());
    X509_CRL_set1_nextUpdate(crl.get(), next.get());
    for (const X509* certificate : revoked) {
        X509_REVOKED* const entry = X509_REVOKED_new();
        const openssl::Owner<ASN1_INTEGER, ASN1_INTEGER_free> serial(ASN1_INTEGER_dup(X509_get0_serialNumber(certificate)));
        X509_REVOKED_set_serialNumber(entry, serial.get());
        X509_REVOKED_set_revocationDate(entry, last.get());
        SALLYPORT_CHECK(X509_CRL_add0_revoked(crl.get(), entry) == 1);
    }
    X509_CRL_sort(crl.get());
    SALLYPORT_CHECK(X509_CRL_sign(crl.get(), issuer.key.get(), EVP_sha256()) > 0);
    unsigned char* der = nullptr;
    const int length = i2d_X509_CRL(crl.get(), &der);
    const auto* begin = reinterpret_cast<const std::byte*>(der);
    Octets octets(begin, begin + length);
    OPENSSL_free(der);
    return octets;
}

Octets make_ocsp(const Identity& issuer, X509* certificate, bool revoked) {
    const openssl::Owner<OCSP_BASICRESP, OCSP_BASICRESP_free> basic(OCSP_BASICRESP_new());
    const openssl::Owner<OCSP_CERTID, OCSP_CERTID_free> id(OCSP_cert_to_id(EVP_sha1(), certificate, issuer.certificate.get()));
    const openssl::Owner<ASN1_TIME, ASN1_TIME_free> now(ASN1_TIME_adj(nullptr, std::time(nullptr), 0, -60)), next(ASN1_TIME_adj(nullptr, std::time(nullptr), 1, 0));
    SALLYPORT_CHECK(OCSP_basic_add1_status(basic.get(), id.get(), revoked ? V_OCSP_CERTSTATUS_REVOKED : V_OCSP_CERTSTATUS_GOOD, 0, revoked ? now.get() : nullptr,
                                           now.get(), next.get()) != nullptr);
    SALLYPORT_CHECK(OCSP_basic_sign(basic.get(), issuer.certificate.get(), issuer.key.get(), EVP_sha256(), nullptr, 0) == 1);
    const openssl::Owner<OCSP_RESPONSE, OCSP_RESPONSE_free> response(OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic.get()));
    unsigned char* der = nullptr;
    const int length = i2d_OCSP_RESPONSE(response.get(), &der);
    const auto* begin = reinterpret_cast<const std::byte*>(der);
    Octets octets(begin, begin + length);
    OPENSSL_free(der);
    return octets;
}

}  // namespace sallyport::test
