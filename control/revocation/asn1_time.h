#pragma once

#include <openssl/asn1.h>

#include <chrono>
#include <optional>
#include <string>

/// Times of certificates, CRLs and OCSP answers. Pure functions: any thread.
namespace sallyport::revocation {

/// Seconds since the epoch, held inside what the system's clock can say (about the year 2255; ASN.1 can say 9999). nullopt: unreadable.
[[nodiscard]] std::optional<std::chrono::system_clock::time_point> time_of(const ASN1_TIME* time);

/// Such as "2026-11-24 15:00:00 UTC".
[[nodiscard]] std::string time_text(std::chrono::system_clock::time_point time);

}  // namespace sallyport::revocation
