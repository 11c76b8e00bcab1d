#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "control/certificates/openssl.h"

namespace sallyport::certificates {

/// SHA-256 of a certificate in DER.
using Fingerprint = std::array<std::uint8_t, 32>;
/// All zeros when it cannot be computed.
[[nodiscard]] Fingerprint fingerprint_of(const X509* certificate) noexcept;

/// The certification authorities that the public trusts (9.1.4 (12.2.2)): all of a directory of PEM files, such as Debian's
/// /etc/ssl/certs, read once. Immutable after load(): any thread.
class PublicRoots {
 public:
    /// Reads *.pem, *.crt and hashed links (HASH.N). What is no certification authority, or no certificate, is passed over; a directory
    /// that cannot be read, or has no root in it, makes an empty set whose why() says so.
    [[nodiscard]] static std::shared_ptr<const PublicRoots> load(const std::filesystem::path& directory);

    [[nodiscard]] bool contains(const X509* certificate) const;
    /// Builds and verifies a chain of `leaf` to one of the roots for serverAuth (RFC 5280 6.1). Empty: it does; else why not.
    [[nodiscard]] std::string verify(X509* leaf, std::span<const openssl::Certificate> intermediates,
                                     std::chrono::system_clock::time_point now) const;
    /// The root that has signed `certificate`; nullptr: none. Borrowed.
    [[nodiscard]] X509* issuer_of(X509* certificate) const;
    [[nodiscard]] std::size_t size() const { return roots_.size(); }
    [[nodiscard]] const std::string& why() const { return why_; }   ///< why there is none; else empty
    /// Of all roots: tells whether the set has changed.
    [[nodiscard]] const Fingerprint& digest() const { return digest_; }

 private:
    std::map<Fingerprint, openssl::Certificate> roots_;
    std::multimap<std::string, X509*> by_subject_;   ///< DER of the subject; certificates of roots_
    openssl::Store store_;
    std::string why_;
    Fingerprint digest_{};
};

}  // namespace sallyport::certificates
