#pragma once

#include <openssl/x509.h>

#include <string>

namespace sallyport::revocation {

/// What is wrong with the algorithm that a CRL or an OCSP answer is signed with: MD5, SHA-1, or one that we do not know. Empty: nothing.
/// Any thread.
[[nodiscard]] std::string weak_signature(const X509_ALGOR* algorithm);

}  // namespace sallyport::revocation
