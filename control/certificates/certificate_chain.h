#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "control/certificates/openssl.h"

/// Certificates, keys and trust anchors, read from PEM files and checked. Any thread; blocks on the file system.
namespace sallyport::certificates {

/// One thing wrong with a file, for the message of the configuration that names it.
struct Problem {
    std::filesystem::path file;  ///< which of the files
    std::string wrong;           ///< never key material
    std::string right;
    std::string requirement;  ///< such as "9.4.1 (12.1.2)"; empty when it is not the policy that objects
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
    [[nodiscard]] std::string subject() const;

    /// Whether a DNS name or an IP address in text form is covered (RFC 9525 6.3): exact, or a wildcard as the whole
    /// leftmost label.
    [[nodiscard]] bool covers(std::string_view name) const;
};

/// Whether `pattern`, a name of a certificate, covers `name`. Case does not matter.
[[nodiscard]] bool name_covers(std::string_view pattern, std::string_view name);

/// Reads a chain (PEM, leaf first) and its key (PEM, not encrypted, accessible to its owner alone), and checks them:
/// the key matches; every certificate is in date at `now`; each has signed the one before; the leaf has a
/// subjectAltName, is for serverAuth and not a CA; keys and signatures are strong enough for the policy level. A root
/// at the end of the file is left out (RFC 8446 4.4.2). Returns every problem found.
[[nodiscard]] std::expected<CertificateChain, std::vector<Problem>> load_certificate_chain(
    const std::filesystem::path& certificate, const std::filesystem::path& key, int policy_level,
    std::chrono::system_clock::time_point now);

/// Reads the trust anchors in a PEM file: at least one, CA certificates only, in date at `now`, strong enough.
[[nodiscard]] std::expected<std::vector<openssl::Certificate>, std::vector<Problem>> load_trust_anchors(
    const std::filesystem::path& file, int policy_level, std::chrono::system_clock::time_point now);

}  // namespace sallyport::certificates
