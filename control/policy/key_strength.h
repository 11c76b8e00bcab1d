#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <optional>
#include <string>

/// How strong keys and the signatures on certificates must be, by level of the policy. Pure functions of the object:
/// any thread.
namespace sallyport::policy {

/// What is too weak and what would do, for messages.
struct Weakness {
    std::string wrong;  ///< continues a sentence whose subject is the key or the certificate: "is RSA with 1024 bits"
    std::string right;
};

/// Such as "RSA 3072", "RSA-PSS 2048", "ECDSA P-256", "Ed25519"; else OpenSSL's name of the type.
[[nodiscard]] std::string key_name(const EVP_PKEY* key);

/// Our own keys: level 1 RSA from 2048 bits, ECDSA P-256, P-384, P-521 and Ed25519; level 2 RSA from 3072 bits; level 3
/// ECDSA P-256 and P-384 only.
[[nodiscard]] std::optional<Weakness> check_own_key(const EVP_PKEY* key, int level);

/// Keys of those who sign certificates, which we cannot choose: RSA from 2048 bits, the curves as above, at each level.
[[nodiscard]] std::optional<Weakness> check_issuer_key(const EVP_PKEY* key);

/// The signature on a certificate: SHA-256 or better, or Ed25519; never MD5 or SHA-1. RSA may be PKCS #1 v1.5 here: the
/// ban on it is for signatures in the handshake. (Meaningless on a trust anchor: nobody checks its signature.)
[[nodiscard]] std::optional<Weakness> check_certificate_signature(const X509* certificate);

}  // namespace sallyport::policy
