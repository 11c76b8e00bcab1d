#include "control/policy/key_strength.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/objects.h>

#include <array>
#include <cstdint>

namespace sallyport::policy {

namespace {

enum class Type { rsa, ec, ed25519, other };

Type type_of(const EVP_PKEY* key) {
    if (EVP_PKEY_is_a(key, "RSA") == 1 || EVP_PKEY_is_a(key, "RSA-PSS") == 1) return Type::rsa;
    if (EVP_PKEY_is_a(key, "EC") == 1) return Type::ec;
    if (EVP_PKEY_is_a(key, "ED25519") == 1) return Type::ed25519;
    return Type::other;
}

/// NID of an elliptic-curve key's group; NID_undef for one with explicit parameters.
int curve_of(const EVP_PKEY* key) {
    std::array<char, 80> name{};
    std::size_t length = 0;
    if (EVP_PKEY_get_group_name(key, name.data(), name.size(), &length) != 1) return NID_undef;
    const int nid = OBJ_sn2nid(name.data());
    return nid != NID_undef ? nid : EC_curve_nist2nid(name.data());
}

std::optional<Weakness> check(const EVP_PKEY* key, int rsa_bits, const std::string& right) {
    const Weakness weakness{"has the key type " + key_name(key), right};
    switch (type_of(key)) {
        case Type::rsa:
            if (EVP_PKEY_get_bits(key) < rsa_bits) return weakness;
            return std::nullopt;
        case Type::ec: {
            const int curve = curve_of(key);
            if (curve != NID_X9_62_prime256v1 && curve != NID_secp384r1 && curve != NID_secp521r1) return weakness;
            return std::nullopt;
        }
        case Type::ed25519:
            return std::nullopt;
        case Type::other:
            break;
    }
    return weakness;
}

}  // namespace

std::string key_name(const EVP_PKEY* key) {
    switch (type_of(key)) {
        case Type::rsa:
            return (EVP_PKEY_is_a(key, "RSA") == 1 ? "RSA " : "RSA-PSS ") + std::to_string(EVP_PKEY_get_bits(key));
        case Type::ec: {
            const int curve = curve_of(key);
            if (curve == NID_undef) return "ECDSA with explicit parameters";
            const char* nist = EC_curve_nid2nist(curve);
            return std::string("ECDSA ") + (nist != nullptr ? nist : OBJ_nid2sn(curve));
        }
        case Type::ed25519:
            return "Ed25519";
        case Type::other:
            break;
    }
    const char* name = EVP_PKEY_get0_type_name(key);
    return name != nullptr ? name : "unknown";
}

std::optional<Weakness> check_own_key(const EVP_PKEY* key, int level) {
    if (level < 3) {
        const int bits = level < 2 ? 2048 : 3072;
        return check(
            key, bits,
            "ECDSA P-256 or P-384, or RSA from " + std::to_string(bits) + " bits, at level " + std::to_string(level));
    }
    const int curve = type_of(key) == Type::ec ? curve_of(key) : NID_undef;
    if (curve == NID_X9_62_prime256v1 || curve == NID_secp384r1) return std::nullopt;
    return Weakness{"has the key type " + key_name(key), "ECDSA P-256 or P-384 at level 3"};
}

std::optional<Weakness> check_issuer_key(const EVP_PKEY* key) {
    return check(key, 2048, "ECDSA from P-256, Ed25519, or RSA from 2048 bits");
}

std::optional<Weakness> check_certificate_signature(const X509* certificate) {
    const std::string right = "a certificate signed with SHA-256 or better";
    int digest = NID_undef, key = NID_undef, bits = 0;
    std::uint32_t flags = 0;
    if (X509_get_signature_info(certificate, &digest, &key, &bits, &flags) != 1 && digest == NID_undef &&
        key == NID_undef)
        return Weakness{"has a signature of unknown kind", right};
    switch (digest) {
        case NID_sha256:
        case NID_sha384:
        case NID_sha512:
            return std::nullopt;
        default:
            break;
    }
    if (digest == NID_undef && key == NID_ED25519) return std::nullopt;
    const int signature = X509_get_signature_nid(certificate);
    return Weakness{std::string("is signed with ") + OBJ_nid2ln(signature), right};
}

}  // namespace sallyport::policy
