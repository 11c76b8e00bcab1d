#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

/// The one list of what TLS may negotiate (9.4.1 (12.1.2), 9.4.2 (12.1.1)), strongest first. What is not here is
/// neither offered nor accepted; what was negotiated is read back and looked up here again. Constants and pure
/// functions: any thread.
namespace sallyport::policy {

/// Protocol versions as on the wire (RFC 8446 4.2.1).
constexpr std::uint16_t kTls12 = 0x0303;
constexpr std::uint16_t kTls13 = 0x0304;

struct Suite {
    std::uint16_t id;       ///< as on the wire
    std::string_view name;  ///< IANA's
    std::string_view openssl_name;
    std::uint16_t version;  ///< the only one that it belongs to
};

/// Order of preference, in each version by itself. TLS 1.3: RFC 8446 B.4; TLS 1.2: RFC 5289, RFC 7905. The server's
/// preference counts, but for a client that puts ChaCha20-Poly1305 first (SSL_OP_PRIORITIZE_CHACHA): it has no AES
/// instructions.
inline constexpr std::array<Suite, 9> kSuites{{
    {0x1302, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", kTls13},
    {0x1303, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", kTls13},
    {0x1301, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", kTls13},
    {0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", kTls12},
    {0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", kTls12},
    {0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", kTls12},
    {0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305", kTls12},
    {0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", kTls12},
    {0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", kTls12},
}};

struct Group {
    std::uint16_t id;       ///< NamedGroup as on the wire (RFC 8446 4.2.7)
    std::string_view name;  ///< IANA's
    std::string_view openssl_name;
    std::uint16_t oldest_version;  ///< hybrids exist in TLS 1.3 only
};

inline constexpr std::array<Group, 5> kGroups{{
    {0x11ec, "X25519MLKEM768", "X25519MLKEM768", kTls13},
    {0x11ed, "SecP384r1MLKEM1024", "SecP384r1MLKEM1024", kTls13},
    {0x001d, "x25519", "X25519", kTls12},
    {0x0017, "secp256r1", "P-256", kTls12},
    {0x0018, "secp384r1", "P-384", kTls12},
}};

struct SignatureScheme {
    std::uint16_t id;       ///< as on the wire (RFC 8446 4.2.3)
    std::string_view name;  ///< IANA's, which OpenSSL shares
};

inline constexpr std::array<SignatureScheme, 10> kSignatureSchemes{{
    {0x0403, "ecdsa_secp256r1_sha256"},
    {0x0503, "ecdsa_secp384r1_sha384"},
    {0x0603, "ecdsa_secp521r1_sha512"},
    {0x0807, "ed25519"},
    {0x0804, "rsa_pss_rsae_sha256"},
    {0x0805, "rsa_pss_rsae_sha384"},
    {0x0806, "rsa_pss_rsae_sha512"},
    {0x0809, "rsa_pss_pss_sha256"},
    {0x080a, "rsa_pss_pss_sha384"},
    {0x080b, "rsa_pss_pss_sha512"},
}};

// The same lists as OpenSSL wants them, made from the tables above: zero-terminated, of static lifetime.

[[nodiscard]] const char* openssl_tls13_suites() noexcept;  ///< SSL_CTX_set_ciphersuites
[[nodiscard]] const char* openssl_tls12_suites() noexcept;  ///< SSL_CTX_set_cipher_list
/// SSL_CTX_set1_groups_list of a server. Two tuples, post-quantum hybrids before the others: a client that can do a
/// hybrid but sent no share for it gets a HelloRetryRequest; inside a tuple a share that came is taken without a
/// further round trip.
[[nodiscard]] const char* openssl_server_groups() noexcept;
/// SSL_CTX_set1_groups_list of a client: as above, with key shares for X25519MLKEM768 and X25519.
[[nodiscard]] const char* openssl_client_groups() noexcept;
/// The same groups in the same order with one key share, for a server that is known to agree to `agreed` (an element of kGroups).
[[nodiscard]] const char* openssl_client_groups(const Group& agreed) noexcept;
[[nodiscard]] const char*
openssl_signature_schemes() noexcept;  ///< SSL_CTX_set1_sigalgs_list and set1_client_sigalgs_list

// What was negotiated, looked up: nullptr when it is not of the catalogue.

[[nodiscard]] const Suite* find_suite(std::uint16_t id) noexcept;
[[nodiscard]] const Group* find_group(std::uint16_t id) noexcept;
/// By IANA's or OpenSSL's name (SSL_get0_group_name), in any case.
[[nodiscard]] const Group* find_group(std::string_view name) noexcept;
[[nodiscard]] const SignatureScheme* find_signature_scheme(std::uint16_t id) noexcept;
/// By IANA's name, which is what SSL_get0_signature_name and SSL_get0_peer_signature_name give.
[[nodiscard]] const SignatureScheme* find_signature_scheme(std::string_view name) noexcept;

/// Whether the version may be negotiated at a level (9.4.2): 1.2 and 1.3. At level 3 only 1.3, unless the service's or
/// pool's configuration spells 1.2 out (`tls12_asked_for`).
[[nodiscard]] bool is_allowed_version(std::uint16_t version, int level, bool tls12_asked_for) noexcept;
/// Whether the suite is of the catalogue and belongs to the negotiated version. The catalogue is the same at every
/// level.
[[nodiscard]] bool is_allowed_suite(std::uint16_t id, std::uint16_t version) noexcept;
[[nodiscard]] bool is_allowed_group(std::uint16_t id, std::uint16_t version) noexcept;
[[nodiscard]] bool is_allowed_signature_scheme(std::string_view name) noexcept;

}  // namespace sallyport::policy
