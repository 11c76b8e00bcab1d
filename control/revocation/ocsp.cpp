#include <openssl/ocsp.h>

#include <optional>

#include "control/certificates/openssl.h"
#include "control/revocation/asn1_time.h"
#include "control/revocation/crl_list.h"
#include "control/revocation/crl_set.h"
#include "control/revocation/signature.h"

namespace sallyport::revocation {

namespace {

using Response = openssl::Owner<OCSP_RESPONSE, OCSP_RESPONSE_free>;
using BasicResponse = openssl::Owner<OCSP_BASICRESP, OCSP_BASICRESP_free>;
using CertId = openssl::Owner<OCSP_CERTID, OCSP_CERTID_free>;
using Request = openssl::Owner<OCSP_REQUEST, OCSP_REQUEST_free>;

/// How long an answer without nextUpdate is fresh. It says that newer information is available all the time (RFC 6960 4.2.2.1), which is no
/// promise about this answer; RFC 5019 2.2.4 demands a nextUpdate. Four days is what public CAs were long bound to renew answers in.
constexpr std::chrono::hours kLifeWithoutNextUpdate{96};

/// Only the issuer, or whom it delegated itself, may speak of its certificates: the store holds it alone, at the time given.
std::string check_signature(OCSP_BASICRESP* basic, X509* issuer, Clock::time_point now) {
    if (std::string weak = weak_signature(OCSP_resp_get0_tbs_sigalg(basic)); !weak.empty()) return weak;
    const openssl::Store store(X509_STORE_new());
    const openssl::Owner<STACK_OF(X509), [](STACK_OF(X509) * stack) { sk_X509_free(stack); }> known(sk_X509_new_null());
    if (!store || !known || X509_STORE_add_cert(store.get(), issuer) != 1 || sk_X509_push(known.get(), issuer) <= 0)
        return "could not be verified: out of memory";
    X509_VERIFY_PARAM* parameters = X509_STORE_get0_param(store.get());
    X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
    X509_VERIFY_PARAM_set_time(parameters, Clock::to_time_t(now));
    // Without NOEXPLICIT an anchor with an OCSPSigning trust setting could speak for all.
    if (OCSP_basic_verify(basic, known.get(), store.get(), OCSP_NOEXPLICIT | OCSP_PARTIAL_CHAIN) != 1)
        return "is signed neither by the issuer nor by a responder that it delegated: " + openssl::error_queue();
    X509* signer = nullptr;
    if (OCSP_resp_get0_signer(basic, &signer, known.get()) != 1 || signer == nullptr)
        return "does not say who has signed it";
    if (X509_cmp(signer, issuer) == 0) return "";
    const std::uint32_t extended = X509_get_extended_key_usage(signer);
    if (extended == UINT32_MAX || (extended & XKU_OCSP_SIGN) == 0)
        return "is signed by a certificate without id-kp-OCSPSigning (RFC 6960 4.2.2.2)";
    return "";
}

/// What the answer says of the certificate; nullptr: nothing. Responders choose the hash of the CertID.
OCSP_SINGLERESP* find(OCSP_BASICRESP* basic, const X509* certificate, const X509* issuer) {
    for (int i = 0; i < OCSP_resp_count(basic); ++i) {
        OCSP_SINGLERESP* single = OCSP_resp_get0(basic, i);
        auto* id = const_cast<OCSP_CERTID*>(OCSP_SINGLERESP_get0_id(single));
        ASN1_OBJECT* hash = nullptr;
        if (OCSP_id_get0_info(nullptr, &hash, nullptr, nullptr, id) != 1) continue;
        const EVP_MD* digest = EVP_get_digestbyobj(hash);
        if (digest == nullptr) continue;
        const CertId ours(OCSP_cert_to_id(digest, certificate, issuer));
        if (ours && OCSP_id_cmp(ours.get(), id) == 0) return single;
    }
    return nullptr;
}

}  // namespace

Verdict check_ocsp(std::span<const std::byte> answer, X509* certificate, X509* issuer, Clock::time_point now) {
    ERR_clear_error();
    const auto unknown = [](std::string why) {
        ERR_clear_error();
        return Verdict{.why = std::move(why)};
    };
    const auto* begin = reinterpret_cast<const unsigned char*>(answer.data());
    const unsigned char* end = begin;
    const Response response(d2i_OCSP_RESPONSE(nullptr, &end, static_cast<long>(answer.size())));
    if (!response) return unknown("not an OCSP answer: " + openssl::error_queue());
    if (end != begin + answer.size()) return unknown("something follows the OCSP answer");
    if (const int status = OCSP_response_status(response.get()); status != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        return unknown(std::string("the responder answers ") + OCSP_response_status_str(status));
    const BasicResponse basic(OCSP_response_get1_basic(response.get()));
    if (!basic) return unknown("the OCSP answer is of a kind that is not known: " + openssl::error_queue());
    if (const std::string wrong = check_signature(basic.get(), issuer, now); !wrong.empty())
        return unknown("the OCSP answer " + wrong);
    OCSP_SINGLERESP* single = find(basic.get(), certificate, issuer);
    if (single == nullptr) return unknown("the OCSP answer is about another certificate");
    for (int i = 0; i < OCSP_SINGLERESP_get_ext_count(single); ++i)
        if (X509_EXTENSION_get_critical(OCSP_SINGLERESP_get_ext(single, i)) == 1)
            return unknown("the OCSP answer has a critical extension that is not known");
    for (int i = 0; i < OCSP_BASICRESP_get_ext_count(basic.get()); ++i)
        if (X509_EXTENSION_get_critical(OCSP_BASICRESP_get_ext(basic.get(), i)) == 1)
            return unknown("the OCSP answer has a critical extension that is not known");

    int reason = -1;
    ASN1_GENERALIZEDTIME* revoked_at = nullptr;
    ASN1_GENERALIZEDTIME* this_update = nullptr;
    ASN1_GENERALIZEDTIME* next_update = nullptr;
    const int status = OCSP_single_get0_status(single, &reason, &revoked_at, &this_update, &next_update);
    const auto since = time_of(this_update);
    if (!since) return unknown("the OCSP answer has a thisUpdate that cannot be read");
    auto until = next_update != nullptr ? time_of(next_update) : std::optional(*since + kLifeWithoutNextUpdate);
    if (!until) return unknown("the OCSP answer has a nextUpdate that cannot be read");
    if (*until < *since) return unknown("the OCSP answer has a nextUpdate before its thisUpdate");
    if (*since > now + kClockGrace) return unknown("the OCSP answer is not valid before " + time_text(*since));
    ERR_clear_error();

    Verdict verdict{.until = *until, .since = *since};
    const bool stale = *until + kClockGrace < now;
    if (status == V_OCSP_CERTSTATUS_REVOKED && !(stale && reason == OCSP_REVOKED_STATUS_CERTIFICATEHOLD)) {
        // Stale or not: nobody takes a revocation back, but for a hold.
        const auto at = time_of(revoked_at);
        verdict.standing = Standing::revoked;
        verdict.why = "revoked at " + (at ? time_text(*at) : "an unknown time") + " (" + reason_text(reason) +
                      "), says the OCSP answer of " + time_text(*since);
    } else if (stale) {
        verdict.why = "the OCSP answer is stale since " + time_text(*until);
    } else if (status == V_OCSP_CERTSTATUS_GOOD) {
        verdict.standing = Standing::good;
        verdict.why = "good, says the OCSP answer of " + time_text(*since);
    } else {
        verdict.why = "the responder does not know the certificate";
    }
    return verdict;
}

Octets ocsp_request(X509* certificate, X509* issuer) {
    const Request request(OCSP_REQUEST_new());
    CertId id(OCSP_cert_to_id(EVP_sha1(), certificate, issuer));
    if (!request || !id || OCSP_request_add0_id(request.get(), id.get()) == nullptr) return {};
    static_cast<void>(id.release());  // the request's now
    const int length = i2d_OCSP_REQUEST(request.get(), nullptr);
    if (length <= 0) return {};
    Octets octets(static_cast<std::size_t>(length));
    auto* out = reinterpret_cast<unsigned char*>(octets.data());
    i2d_OCSP_REQUEST(request.get(), &out);
    return octets;
}

}  // namespace sallyport::revocation
