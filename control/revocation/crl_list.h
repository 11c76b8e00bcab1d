#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/certificates/openssl.h"
#include "control/revocation/crl_set.h"

/// One CRL, verified and turned into a table. X509_CRL itself is not kept: it takes several hundred octets an entry, and sorts itself
/// under a lock at the first lookup.
namespace sallyport::revocation {

/// A serial number: at most 20 octets (RFC 5280 4.1.2.2), most significant first, the rest zero; then their count, with bit 7 set when it
/// is negative.
using Serial = std::array<std::uint8_t, 21>;
[[nodiscard]] std::optional<Serial> serial_of(const ASN1_INTEGER* number);

struct RevokedEntry {
    std::int64_t revoked_at;   ///< seconds since the epoch
    Serial serial;
    std::int8_t reason;        ///< CRLReason; -1: none given
};
static_assert(sizeof(RevokedEntry) == 32, "3.2 MB for 100,000 entries");

struct CrlList {
    openssl::Certificate issuer;
    std::array<unsigned char, 32> digest{};  ///< SHA-256 of the octets that it was read from
    Clock::time_point this_update, next_update;
    openssl::Owner<ASN1_INTEGER, ASN1_INTEGER_free> number;   ///< cRLNumber; nullptr: none
    std::string scope;                       ///< issuingDistributionPoint (DER); empty: all certificates of the issuer
    std::vector<std::string> locations;      ///< URIs of the distribution point; empty: not split up by it
    bool split = false;                      ///< a distribution point is named
    bool only_user = false, only_ca = false;
    std::vector<RevokedEntry> revoked;       ///< by serial

    [[nodiscard]] const RevokedEntry* find(const Serial& serial) const;
    /// Whether a certificate of the issuer that is not listed is good by this list (RFC 5280 6.3.3 (b)(2)).
    [[nodiscard]] bool covers(const X509* certificate) const;
};

/// Reads a CRL (DER or PEM), verifies it with `issuer`'s key. The error says why it does not count. Any thread.
[[nodiscard]] std::expected<CrlList, std::string> read_crl(std::span<const std::byte> octets, X509* issuer,
                                                           Clock::time_point now);

/// The name of a CRLReason (RFC 5280 5.3.1), such as "keyCompromise"; "no reason given" for -1.
[[nodiscard]] std::string reason_text(int reason);

}  // namespace sallyport::revocation
