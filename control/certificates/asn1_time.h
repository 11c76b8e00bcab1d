#pragma once

#include <openssl/asn1.h>

#include <chrono>
#include <optional>
#include <string>

/// Times of certificates, CRLs and OCSP answers. Pure functions: any thread.
namespace sallyport::certificates {

/// Held between 1970 and about 2255: the system's clock counts nanoseconds in 64 bits, which ends in 2262, and a difference of two such times
/// must fit as well. ASN.1 can say 9999-12-31, and RFC 5280 4.1.2.5 has certificates say it that never expire. nullopt: unreadable.
[[nodiscard]] std::optional<std::chrono::system_clock::time_point> time_of(const ASN1_TIME* time);

/// Such as "2026-11-24 15:00:00 UTC".
[[nodiscard]] std::string time_text(std::chrono::system_clock::time_point time);

}  // namespace sallyport::certificates
