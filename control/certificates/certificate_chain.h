#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/certificates/openssl.h"
#include "control/certificates/passphrase.h"
#include "control/certificates/pem_file.h"
#include "control/certificates/public_roots.h"

/// Certificates, keys and trust anchors, read from PEM and PKCS #12 files and checked. Any thread; blocks on the file system.
namespace sallyport::certificates {

/// One thing wrong with a file, for the message of the configuration that names it.
struct Problem {
    std::filesystem::path file;  ///< which of the files
    std::string wrong;           ///< never key material
    std::string right;
    std::string requirement;  ///< such as "9.4.1 (12.1.2)"; empty when it is not the policy that objects
    bool fatal = false;       ///< what was read cannot be used at all, whatever is waived
};

/// What a certificate is for, with the private key that proves it.
struct CertificateChain {
    openssl::Certificate leaf;
    std::vector<openssl::Certificate>
        intermediates;  ///< in order, each has signed the one before; as in the file, without a root
    openssl::PrivateKey key;
    std::vector<std::string>
        names;             ///< subjectAltName of the leaf: DNS names in lower case, "*.example.org", IP addresses
    std::string key_type;  ///< such as "ECDSA P-256", "RSA 3072"
    bool ecdsa = false;    ///< the key signs ECDSA or Ed25519; else RSA
    std::chrono::system_clock::time_point not_before, not_after;  ///< of the leaf
    std::string issuer_text;         ///< as in the leaf, RFC 2253
    Fingerprint fingerprint{};       ///< SHA-256 of the leaf (DER)
    openssl::Certificate issuer;     ///< whose signature on the leaf has been verified: of the file or of the public roots; may be null
    bool must_staple = false;        ///< TLS feature status_request (RFC 7633)
    [[nodiscard]] std::string subject() const;

    /// Whether a DNS name or an IP address in text form is covered (RFC 9525 6.3): exact, or a wildcard as the whole
    /// leftmost label.
    [[nodiscard]] bool covers(std::string_view name) const;
};

/// Whether `pattern`, a name of a certificate, covers `name`. Case does not matter.
[[nodiscard]] bool name_covers(std::string_view pattern, std::string_view name);

enum class Purpose : std::uint8_t { server, client };

/// Where a chain is, and what it must be fit for.
struct Files {
    std::filesystem::path certificate;   ///< PEM, leaf first; or PKCS #12
    std::filesystem::path key{};         ///< PEM; empty: in `certificate`
    std::filesystem::path passphrase{};  ///< file with it; empty: `ask`, where the key needs one
};

/// A chain as far as it could be read, and all that is wrong with it.
struct Loaded {
    std::optional<CertificateChain> chain;   ///< nullopt: a problem is fatal
    std::vector<Problem> problems;
};

/// Loads chains, many of them: intermediates that files have in common are kept and checked once. One thread.
class Loader {
 public:
    struct Settings {
        int policy_level = 2;
        std::chrono::system_clock::time_point now;
        KeyOwners owners{};              ///< whose key files are taken
        Ask ask{};                       ///< for passphrases; empty: nobody is there
        const PublicRoots* roots = nullptr;   ///< borrowed; where an issuer that no file has is looked for
    };
    explicit Loader(Settings settings) : settings_(std::move(settings)) {}

    /// The key matches; every certificate is in date; each has signed the one before; the leaf is no CA, is for the purpose, and (of a
    /// server) has a subjectAltName; keys and signatures are strong enough for the policy level. A root at the end of the file is left
    /// out (RFC 8446 4.4.2). A key file is its owner's alone.
    [[nodiscard]] Loaded load(const Files& files, Purpose purpose);

 private:
    openssl::Certificate shared(openssl::Certificate certificate);
    bool has_signed(X509* issuer, X509* subject, bool both_shared);

    Settings settings_;
    std::map<Fingerprint, openssl::Certificate> intermediates_;
    std::set<std::pair<const X509*, const X509*>> signed_;   ///< issuer, subject: both of intermediates_
};

/// One chain of PEM files for a server, by the rules of Loader; every problem is an error here.
[[nodiscard]] std::expected<CertificateChain, std::vector<Problem>> load_certificate_chain(
    const std::filesystem::path& certificate, const std::filesystem::path& key, int policy_level,
    std::chrono::system_clock::time_point now);

/// Reads the trust anchors in a PEM file: at least one, CA certificates only, in date at `now`, strong enough.
[[nodiscard]] std::expected<std::vector<openssl::Certificate>, std::vector<Problem>> load_trust_anchors(
    const std::filesystem::path& file, int policy_level, std::chrono::system_clock::time_point now);

}  // namespace sallyport::certificates
