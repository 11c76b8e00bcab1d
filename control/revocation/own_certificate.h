#pragma once

#include <array>
#include <filesystem>
#include <span>
#include <string>

#include "control/certificates/certificate_chain.h"
#include "control/revocation/watcher.h"

/// What 9.4.3 (12.1.4) asks for an own certificate, read from the certificate itself. Any thread.
namespace sallyport::revocation {

using Fingerprint = std::array<unsigned char, 32>;   ///< SHA-256 of the whole certificate (DER)
[[nodiscard]] Fingerprint fingerprint_of(const X509* certificate);
[[nodiscard]] std::string hex(std::span<const unsigned char> octets);

struct Decision {
    Rule rule = Rule::none;
    std::string url{};    ///< that the rule needs
    std::string why{};    ///< of Rule::none and of short_lived
};
/// OCSP URL: staple; else a lifetime of at most 7 days: short_lived; else a CRL pointer: crl; else none. must-staple (RFC 7633) without an
/// OCSP URL: none. URLs that check_url refuses do not count.
[[nodiscard]] Decision decide(const certificates::CertificateChain& chain);

/// Who has signed the leaf: whom its loader has found, else an intermediate, else one of `candidates`, else one of the directory of roots. nullptr: not found.
[[nodiscard]] openssl::Certificate issuer_of(const certificates::CertificateChain& chain, std::span<X509* const> candidates,
                                             X509_STORE* roots);

}  // namespace sallyport::revocation
