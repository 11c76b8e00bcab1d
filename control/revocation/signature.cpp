#include "control/revocation/signature.h"

#include <openssl/objects.h>
#include <openssl/rsa.h>

#include "control/certificates/openssl.h"

namespace sallyport::revocation {

namespace {

/// The hash of RSASSA-PSS stands in the parameters; SHA-1 where it is left out (RFC 8017 A.2.3).
int pss_digest(const X509_ALGOR* algorithm) {
    int type = 0;
    const void* value = nullptr;
    X509_ALGOR_get0(nullptr, &type, &value, algorithm);
    if (type != V_ASN1_SEQUENCE) return NID_sha1;
    const openssl::Owner<RSA_PSS_PARAMS, RSA_PSS_PARAMS_free> parameters(static_cast<RSA_PSS_PARAMS*>(
        ASN1_item_unpack(static_cast<const ASN1_STRING*>(value), ASN1_ITEM_rptr(RSA_PSS_PARAMS))));
    ERR_clear_error();
    if (!parameters || parameters->hashAlgorithm == nullptr) return NID_sha1;
    const ASN1_OBJECT* object = nullptr;
    X509_ALGOR_get0(&object, nullptr, nullptr, parameters->hashAlgorithm);
    return OBJ_obj2nid(object);
}

}  // namespace

std::string weak_signature(const X509_ALGOR* algorithm) {
    const ASN1_OBJECT* object = nullptr;
    if (algorithm != nullptr) X509_ALGOR_get0(&object, nullptr, nullptr, algorithm);
    const int id = object != nullptr ? OBJ_obj2nid(object) : NID_undef;
    int digest = NID_undef;
    int key = NID_undef;
    if (id == NID_rsassaPss) {
        digest = pss_digest(algorithm);
    } else if (id == NID_undef || OBJ_find_sigid_algs(id, &digest, &key) != 1) {
        return "is signed with an algorithm that is not known";
    }
    switch (digest) {
        case NID_sha256:
        case NID_sha384:
        case NID_sha512:
        case NID_sha3_256:
        case NID_sha3_384:
        case NID_sha3_512:
            return "";
        case NID_undef:  // EdDSA and ML-DSA hash inside
            return "";
        default:
            return std::string("is signed with ") + OBJ_nid2sn(digest) + ", which is too weak";
    }
}

}  // namespace sallyport::revocation
