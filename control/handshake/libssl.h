#pragma once

#include <string>
#include <string_view>

#include "control/certificates/openssl.h"

/// What libssl says, as text for a person.
namespace sallyport::handshake {

using DigestPtr = openssl::Owner<EVP_MD, EVP_MD_free>;
using CipherPtr = openssl::Owner<EVP_CIPHER, EVP_CIPHER_free>;

/// RFC 8446 6's name with its number, such as "handshake_failure (40)".
[[nodiscard]] std::string alert_name(int alert);

/// The subject of a certificate; empty without one.
[[nodiscard]] std::string subject_of(const X509* certificate);

/// Octets of a peer for a log line: what is not printable ASCII is escaped, long text is cut.
[[nodiscard]] std::string printable(std::string_view octets);

}  // namespace sallyport::handshake
