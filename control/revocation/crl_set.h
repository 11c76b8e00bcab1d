#pragma once

#include <openssl/x509.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

/// Whether certificates have been revoked: CRLs (RFC 5280 5) and OCSP answers (RFC 6960), verified before they count.
namespace sallyport::revocation {

using Clock = std::chrono::system_clock;

enum class Standing : std::uint8_t {
    good,      ///< a fresh, verified source says so
    revoked,
    unknown,   ///< no source speaks of it, or what speaks is stale
};

struct Verdict {
    Standing standing = Standing::unknown;
    std::string why;              ///< for a person: source, dates, reason of the revocation
    Clock::time_point until{};    ///< nextUpdate of what was said; zero: nothing was
};

/// The CRLs of one trust domain (a pool's anchors, or the client CAs of a service). A set is filled by whoever polls its sources and read
/// by handshakes. Any thread.
class CrlSet {
 public:
    CrlSet();
    ~CrlSet();
    CrlSet(const CrlSet&) = delete;
    CrlSet& operator=(const CrlSet&) = delete;

    /// Takes a CRL (DER or PEM) of `issuer`'s, verified with its key; replaces an older one of the same issuer. The error says why it does not
    /// count (signature, dates, older than what we have); empty: taken. Throws nothing.
    [[nodiscard]] std::string add(std::span<const std::byte> octets, X509* issuer, Clock::time_point now);
    /// What is known of `certificate`, which `issuer` signed. A CRL whose nextUpdate has passed says unknown, but still revoked of what it lists.
    [[nodiscard]] Verdict check(const X509* certificate, X509* issuer, Clock::time_point now) const;
    [[nodiscard]] bool empty() const;
    /// The nearest nextUpdate of all; zero when there is none.
    [[nodiscard]] Clock::time_point next_update() const;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Verifies an OCSP answer (DER) about `certificate`, which `issuer` signed: signature by the issuer or by a responder that it delegated
/// (id-kp-OCSPSigning, RFC 6960 4.2.2.2), the right serial and hashes, thisUpdate and nextUpdate with five minutes of grace. Any thread.
[[nodiscard]] Verdict check_ocsp(std::span<const std::byte> answer, X509* certificate, X509* issuer, Clock::time_point now);

}  // namespace sallyport::revocation
