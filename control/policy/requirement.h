#pragma once

#include <cstdint>
#include <string_view>

/// The requirements of OWASP's V9 'Secure Communication', and what can violate them in a flow: the one list that checks, counters,
/// reports and tests are made of. Constants and pure functions: any thread.
namespace sallyport::policy {

/// Name, id of the draft of December 2024, id in ASVS 5.0.0, level from which it is enforced (the stricter of the two), title.
#define SALLYPORT_REQUIREMENTS(X)                                                                           \
    X(r9_1_1, "9.1.1", "12.2.1", 1, "TLS for all external HTTP services, without fall-back")                \
    X(r9_1_4, "9.1.4", "12.2.2", 1, "external services use publicly trusted certificates")                  \
    X(r9_2_2, "9.2.2", "12.3.1", 2, "every inbound and outbound connection is encrypted")                   \
    X(r9_2_6, "9.2.6", "12.3.2", 1, "TLS clients validate certificates")                                    \
    X(r9_3_1, "9.3.1", "12.3.3", 2, "TLS between internal HTTP services too")                               \
    X(r9_3_2, "9.3.2", "12.3.4", 2, "internal services trust only named internal CAs or pinned certificates") \
    X(r9_3_3, "9.3.3", "12.3.5", 3, "mutual TLS between services, without replay")                          \
    X(r9_4_1, "9.4.1", "12.1.2", 1, "only recommended suites, strongest first, with forward secrecy")       \
    X(r9_4_2, "9.4.2", "12.1.1", 1, "only TLS 1.2 and 1.3, newest preferred")                               \
    X(r9_4_3, "9.4.3", "12.1.4", 2, "certificate revocation, such as OCSP stapling, is on")                 \
    X(r9_4_4, "9.4.4", "12.1.5", 3, "Encrypted ClientHello")                                                \
    X(r9_4_5, "9.4.5", "12.1.3", 2, "client certificates are validated before their identity is used")

enum class Requirement : std::uint8_t {
#define SALLYPORT_X(name, draft, final, level, title) name,
    SALLYPORT_REQUIREMENTS(SALLYPORT_X)
#undef SALLYPORT_X
    count_
};

struct RequirementText {
    std::string_view id;         ///< "9.1.1"
    std::string_view final_id;   ///< "12.2.1"
    int level;
    std::string_view title;
    std::string_view both;       ///< "9.1.1 (12.2.1)", as in messages
};
[[nodiscard]] const RequirementText& text(Requirement requirement) noexcept;

/// What a flow can do against the policy: name, requirement, the alert that we answer with (RFC 8446 6; -1: none), sentence. Counted by
/// service and in all under `policy_NAME`.
#define SALLYPORT_VIOLATIONS(X)                                                                                                     \
    X(plain_text, r9_1_1, -1, "the client's first octets were no TLS record")                                                      \
    X(unknown_name, r9_1_4, 112, "the client asked for a server name that no certificate covers")                                  \
    X(client_version, r9_4_2, 70, "the client offered no version of TLS that the service speaks")                                  \
    X(client_suite, r9_4_1, 40, "the client offered no cipher suite of the catalogue")                                             \
    X(client_group, r9_4_1, 40, "the client offered no group of the catalogue")                                                    \
    X(client_signature_scheme, r9_4_1, 40, "the client offered no signature scheme of the catalogue that a key of ours can do")    \
    X(no_extended_master_secret, r9_4_1, 40, "TLS 1.2 without extended_master_secret")                                             \
    X(compression, r9_4_1, 47, "the client offered TLS 1.3 with compression")                                                      \
    X(no_application_protocol, r9_4_1, 120, "no application protocol in common")                                                   \
    X(early_data, r9_3_3, -1, "a client sent early data, which was skipped")                                                       \
    X(downgrade, r9_4_2, 86, "the client signals a fall-back to a version older than it could have (RFC 7507)")                    \
    X(client_certificate_missing, r9_4_5, 116, "the client sent no certificate where one is required")                             \
    X(client_certificate_invalid, r9_4_5, 42, "the client's certificate could not be verified")                                    \
    X(client_name_not_allowed, r9_4_5, 49, "the client's certificate has none of the names that are let in")                       \
    X(client_revoked, r9_4_3, 44, "the client's certificate has been revoked")                                                     \
    X(client_revocation_unknown, r9_4_3, 46, "whether the client's certificate has been revoked is not known")                     \
    X(pool_identity_revoked, r9_4_3, -1, "our own certificate for the pool's members has been revoked, and is not shown")          \
    X(ech_rejected, r9_4_4, -1, "a client's Encrypted ClientHello could not be opened; it got retry configurations")               \
    X(backend_version, r9_4_2, 70, "the backend speaks no version of TLS that the pool allows")                                    \
    X(backend_suite, r9_4_1, 40, "the backend agreed to no suite, group or signature scheme of the catalogue")                     \
    X(backend_plain_text, r9_2_2, -1, "the pool has no TLS, which nothing allows any more: a connection to a member was not used")  \
    X(backend_not_tls, r9_3_1, -1, "the backend did not speak TLS")                                                                \
    X(backend_certificate_invalid, r9_2_6, 42, "the backend's certificate could not be verified")                                  \
    X(backend_wrong_name, r9_2_6, 42, "the backend's certificate does not cover the expected name")                                \
    X(backend_not_trusted, r9_3_2, 48, "the backend's certificate leads to no anchor and no pin of the pool")                      \
    X(backend_name_not_allowed, r9_3_3, 49, "the backend's certificate has none of the names of the pool's list")                  \
    X(backend_revoked, r9_4_3, 44, "the backend's certificate has been revoked")                                                   \
    X(backend_revocation_unknown, r9_4_3, 46, "whether the backend's certificate has been revoked is not known")

enum class Violation : std::uint8_t {
#define SALLYPORT_X(name, requirement, alert, sentence) name,
    SALLYPORT_VIOLATIONS(SALLYPORT_X)
#undef SALLYPORT_X
    count_
};

struct ViolationText {
    std::string_view name;       ///< as in the counter
    Requirement requirement;
    int alert;
    std::string_view sentence;
};
[[nodiscard]] const ViolationText& text(Violation violation) noexcept;

}  // namespace sallyport::policy
