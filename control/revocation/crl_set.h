#pragma once

#include <openssl/x509.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

/// Whether certificates have been revoked: CRLs (RFC 5280 5) and OCSP answers (RFC 6960), verified before they count.
namespace sallyport::revocation {

using Clock = std::chrono::system_clock;
using Octets = std::vector<std::byte>;

/// What clocks may differ by: thisUpdate may lie so much ahead, an OCSP answer's nextUpdate so much behind.
inline constexpr std::chrono::seconds kClockGrace{300};

enum class Standing : std::uint8_t {
    good,      ///< a fresh, verified source says so
    revoked,
    unknown,   ///< no source speaks of it, or what speaks is stale
};

struct Verdict {
    Standing standing = Standing::unknown;
    std::string why{};            ///< for a person: source, dates, reason of the revocation
    Clock::time_point until{};    ///< nextUpdate of what was said; zero: nothing was
    Clock::time_point since{};    ///< its thisUpdate
};

/// The CRLs of one trust domain (a pool's anchors, or the client CAs of a service). A set is filled by whoever polls its sources and read
/// by handshakes. Any thread.
///
/// Complete CRLs that their issuer signed itself, nothing else: delta and indirect ones, and those for some reasons only, are refused.
/// CRLs that an issuer split up (issuingDistributionPoint, RFC 5280 5.2.5) stand beside each other; 'good' needs the one that a
/// certificate's cRLDistributionPoints name, 'revoked' any.
class CrlSet {
 public:
    CrlSet();
    ~CrlSet();
    CrlSet(const CrlSet&) = delete;
    CrlSet& operator=(const CrlSet&) = delete;

    /// Takes one CRL (DER or PEM) of `issuer`'s, verified with its key; replaces an older one of the same issuer and scope. The error says
    /// why it does not count (signature, dates, older than what we have); empty: taken. One whose nextUpdate has passed is taken: what it
    /// lists stays revoked. `next_update`: set to that of what was taken. `changed`: set to true when it is not the very list that was there.
    /// Throws nothing.
    [[nodiscard]] std::string add(std::span<const std::byte> octets, X509* issuer, Clock::time_point now,
                                  Clock::time_point* next_update = nullptr, bool* changed = nullptr);
    /// What is known of `certificate`, which `issuer` signed. A CRL whose nextUpdate has passed says unknown, but still revoked of what it
    /// lists. No allocation but for the text; a binary search in entries of 32 octets.
    [[nodiscard]] Verdict check(const X509* certificate, X509* issuer, Clock::time_point now) const;
    [[nodiscard]] bool empty() const;
    /// The nearest nextUpdate of all; zero when there is none.
    [[nodiscard]] Clock::time_point next_update() const;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Verifies an OCSP answer (DER) about `certificate`, which `issuer` signed: signature by the issuer or by a responder that it delegated
/// (id-kp-OCSPSigning, RFC 6960 4.2.2.2), the right serial and hashes, thisUpdate and nextUpdate with five minutes of grace. What is stale
/// says unknown, but still revoked where it said so for good. Any thread.
[[nodiscard]] Verdict check_ocsp(std::span<const std::byte> answer, X509* certificate, X509* issuer, Clock::time_point now);

/// The request (DER) for check_ocsp's answer: SHA-1 hashes in the CertID and no nonce, as RFC 5019 2.1 asks of requests whose answers
/// may be cached. Empty: out of memory.
[[nodiscard]] Octets ocsp_request(X509* certificate, X509* issuer);

}  // namespace sallyport::revocation
