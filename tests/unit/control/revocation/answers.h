#pragma once

#include <openssl/ocsp.h>

#include "control/revocation/crl_set.h"
#include "tests/certificates.h"

/// CRLs and OCSP answers as CAs and liars would make them.
namespace sallyport::revocation {

using namespace std::chrono_literals;
using test::Identity;

using Crl = openssl::Owner<X509_CRL, X509_CRL_free>;
using Time = openssl::Owner<ASN1_TIME, ASN1_TIME_free>;

inline const Clock::time_point kNow = Clock::now();

inline Time at(std::chrono::seconds from_now) { return Time(ASN1_TIME_set(nullptr, Clock::to_time_t(kNow + from_now))); }

template <typename Object>
Octets der(const Object* object, int (*encode)(const Object*, unsigned char**)) {
    Octets octets(static_cast<std::size_t>(encode(object, nullptr)));
    auto* out = reinterpret_cast<unsigned char*>(octets.data());
    encode(object, &out);
    return octets;
}

struct CrlOptions {
    std::vector<const Identity*> revoked{};
    std::chrono::seconds this_update = -1h, next_update = 24h;
    long number = 1;
    const EVP_MD* digest = EVP_sha256();
    int critical_extension = NID_undef;
};

inline Octets make_crl(const Identity& issuer, const Identity& signer, const CrlOptions& options = {}) {
    const Crl crl(X509_CRL_new());
    X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(issuer.certificate.get()));
    X509_CRL_set1_lastUpdate(crl.get(), at(options.this_update).get());
    X509_CRL_set1_nextUpdate(crl.get(), at(options.next_update).get());
    const openssl::Owner<ASN1_INTEGER, ASN1_INTEGER_free> number(ASN1_INTEGER_new());
    ASN1_INTEGER_set(number.get(), options.number);
    X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, number.get(), 0, 0);
    if (options.critical_extension != NID_undef)
        X509_CRL_add1_ext_i2d(crl.get(), options.critical_extension, number.get(), 1, 0);
    for (const Identity* identity : options.revoked) {
        X509_REVOKED* entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry,
                                      const_cast<ASN1_INTEGER*>(X509_get0_serialNumber(identity->certificate.get())));
        X509_REVOKED_set_revocationDate(entry, at(-2h).get());
        X509_CRL_add0_revoked(crl.get(), entry);
    }
    X509_CRL_sign(crl.get(), signer.key.get(), options.digest);
    return der<X509_CRL>(crl.get(), i2d_X509_CRL);
}

struct AnswerOptions {
    int status = V_OCSP_CERTSTATUS_GOOD;
    int reason = OCSP_REVOKED_STATUS_KEYCOMPROMISE;
    std::chrono::seconds this_update = -1h, next_update = 24h;
    bool has_next_update = true;
};

inline Octets make_answer(const Identity& about, const Identity& issuer, const Identity& signer, const AnswerOptions& options = {}) {
    const openssl::Owner<OCSP_BASICRESP, OCSP_BASICRESP_free> basic(OCSP_BASICRESP_new());
    const openssl::Owner<OCSP_CERTID, OCSP_CERTID_free> id(
        OCSP_cert_to_id(EVP_sha1(), about.certificate.get(), issuer.certificate.get()));
    OCSP_basic_add1_status(basic.get(), id.get(), options.status, options.reason, at(-2h).get(),
                           at(options.this_update).get(),
                           options.has_next_update ? at(options.next_update).get() : nullptr);
    OCSP_basic_sign(basic.get(), signer.certificate.get(), signer.key.get(), EVP_sha256(), nullptr, 0);
    const openssl::Owner<OCSP_RESPONSE, OCSP_RESPONSE_free> response(
        OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic.get()));
    return der<OCSP_RESPONSE>(response.get(), i2d_OCSP_RESPONSE);
}

struct World {
    Identity ca = test::make_ca("Revoking CA");
    Identity other_ca = test::make_ca("Other CA");
    Identity leaf = test::make_leaf({"a.example"}, ca);
    Identity revoked = test::make_leaf({"b.example"}, ca);
    Identity responder =
        test::make_identity({.common_name = "responder", .extended_key_usage = "OCSPSigning"}, &ca);
    Identity no_responder = test::make_identity({.common_name = "no responder"}, &ca);
};
inline const World& world() {
    static const World all;
    return all;
}

/// A certificate of the CA's that says where its revocation is told: `nid` such as info_access with "OCSP;URI:http://…".
inline Identity with_extension(Identity identity, int nid, const std::string& value) {
    const openssl::Extension extension(X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str()));
    X509_add_ext(identity.certificate.get(), extension.get(), -1);
    X509_sign(identity.certificate.get(), world().ca.key.get(), EVP_sha256());
    return identity;
}

}  // namespace sallyport::revocation
