#include "control/revocation/crl_list.h"

#include <openssl/pem.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "control/revocation/asn1_time.h"
#include "control/revocation/signature.h"

namespace sallyport::revocation {

namespace {

using Crl = openssl::Owner<X509_CRL, X509_CRL_free>;
using IssuingDistributionPoint = openssl::Owner<ISSUING_DIST_POINT, ISSUING_DIST_POINT_free>;
using DistributionPoints = openssl::Owner<CRL_DIST_POINTS, CRL_DIST_POINTS_free>;
using KeyIdentifier = openssl::Owner<AUTHORITY_KEYID, AUTHORITY_KEYID_free>;

std::expected<Crl, std::string> decode(std::span<const std::byte> octets) {
    const std::string_view text(reinterpret_cast<const char*>(octets.data()), octets.size());
    Crl crl;
    if (text.contains("-----BEGIN ")) {
        const openssl::Bio bio(BIO_new_mem_buf(octets.data(), static_cast<int>(octets.size())));
        if (bio) crl.reset(PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr));
    } else {
        const auto* begin = reinterpret_cast<const unsigned char*>(octets.data());
        const unsigned char* end = begin;
        crl.reset(d2i_X509_CRL(nullptr, &end, static_cast<long>(octets.size())));
        if (crl && end != begin + octets.size()) return std::unexpected("something follows the CRL");
    }
    if (!crl) return std::unexpected("not a CRL (DER or PEM): " + openssl::error_queue());
    return crl;
}

/// Extensions of the list that we act on; any other that is critical makes it worthless (RFC 5280 5.2).
bool is_known(int id) {
    return id == NID_issuing_distribution_point || id == NID_crl_number || id == NID_authority_key_identifier;
}

std::string check_extensions(const STACK_OF(X509_EXTENSION) * extensions) {
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); ++i) {
        const X509_EXTENSION* extension = sk_X509_EXTENSION_value(extensions, i);
        const int id = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (id == NID_delta_crl) return "is a delta CRL; a complete one would do";
        if (X509_EXTENSION_get_critical(extension) == 1 && !is_known(id))
            return "has a critical extension that is not known";
    }
    return "";
}

std::string check_entry_extensions(const STACK_OF(X509_EXTENSION) * extensions) {
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); ++i) {
        const X509_EXTENSION* extension = sk_X509_EXTENSION_value(extensions, i);
        const int id = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (id == NID_certificate_issuer) return "lists certificates of other issuers (an indirect CRL)";
        if (X509_EXTENSION_get_critical(extension) == 1 && id != NID_crl_reason && id != NID_invalidity_date)
            return "has an entry with a critical extension that is not known";
    }
    return "";
}

/// The URIs of a distribution point's full name.
void add_uris(const DIST_POINT_NAME* name, std::vector<std::string>& uris) {
    if (name == nullptr || name->type != 0) return;
    for (int i = 0; i < sk_GENERAL_NAME_num(name->name.fullname); ++i) {
        int type = 0;
        const auto* value = static_cast<const ASN1_STRING*>(
            GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(name->name.fullname, i), &type));
        if (type == GEN_URI && value != nullptr)
            uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                              static_cast<std::size_t>(ASN1_STRING_length(value)));
    }
}

std::string read_scope(const X509_CRL* crl, CrlList& list) {
    int critical = 0;
    const IssuingDistributionPoint point(static_cast<ISSUING_DIST_POINT*>(
        X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, &critical, nullptr)));
    if (!point) return critical == -1 ? "" : "has an issuingDistributionPoint that cannot be read";
    if (point->indirectCRL > 0) return "is an indirect CRL";
    if (point->onlyattr > 0) return "is for attribute certificates only";
    if (point->onlysomereasons != nullptr) return "is for some reasons of revocation only";
    list.only_user = point->onlyuser > 0;
    list.only_ca = point->onlyCA > 0;
    list.split = point->distpoint != nullptr;
    add_uris(point->distpoint, list.locations);
    unsigned char* der = nullptr;
    const int length = i2d_ISSUING_DIST_POINT(point.get(), &der);
    if (length <= 0) return "has an issuingDistributionPoint that cannot be read";
    list.scope.assign(reinterpret_cast<char*>(der), static_cast<std::size_t>(length));
    OPENSSL_free(der);
    return "";
}

std::string check_issuer(X509_CRL* crl, X509* issuer) {
    if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0)
        return "is of another issuer (" + openssl::name_text(X509_CRL_get_issuer(crl)) + ")";
    const KeyIdentifier key_identifier(static_cast<AUTHORITY_KEYID*>(
        X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, nullptr, nullptr)));
    if (key_identifier && X509_check_akid(issuer, key_identifier.get()) != X509_V_OK)
        return "was signed with another key of its issuer (authorityKeyIdentifier)";
    const std::uint32_t usage = X509_get_key_usage(issuer);
    if (usage != UINT32_MAX && (usage & KU_CRL_SIGN) == 0)
        return "is signed by a certificate that may not sign CRLs (its keyUsage lacks cRLSign)";
    if (std::string weak = weak_signature(X509_CRL_get0_tbs_sigalg(crl)); !weak.empty()) return weak;
    EVP_PKEY* key = X509_get0_pubkey(issuer);
    if (key == nullptr || X509_CRL_verify(crl, key) != 1)
        return "has a signature that is not its issuer's: " + openssl::error_queue();
    return "";
}

std::string read_dates(const X509_CRL* crl, CrlList& list, Clock::time_point now) {
    const auto this_update = time_of(X509_CRL_get0_lastUpdate(crl));
    const auto next_update = time_of(X509_CRL_get0_nextUpdate(crl));
    if (!this_update) return "has a thisUpdate that cannot be read";
    if (!next_update) return "has no nextUpdate, which RFC 5280 5.1.2.5 asks for";
    if (*this_update > now + kClockGrace) return "is not valid before " + time_text(*this_update);
    if (*next_update <= *this_update) return "has a nextUpdate that is not after its thisUpdate";
    list.this_update = *this_update;
    list.next_update = *next_update;
    return "";
}

std::string read_entries(X509_CRL* crl, CrlList& list) {
    const auto* entries = X509_CRL_get_REVOKED(crl);
    const int count = entries == nullptr ? 0 : sk_X509_REVOKED_num(entries);
    list.revoked.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        const X509_REVOKED* revoked = sk_X509_REVOKED_value(entries, i);
        if (std::string wrong = check_entry_extensions(X509_REVOKED_get0_extensions(revoked)); !wrong.empty())
            return wrong;
        const auto serial = serial_of(X509_REVOKED_get0_serialNumber(revoked));
        if (!serial) return "lists a serial number longer than 20 octets (RFC 5280 4.1.2.2)";
        const auto at = time_of(X509_REVOKED_get0_revocationDate(revoked));
        if (!at) return "lists a revocationDate that cannot be read";
        int critical = 0;
        const openssl::Owner<ASN1_ENUMERATED, ASN1_ENUMERATED_free> reason(static_cast<ASN1_ENUMERATED*>(
            X509_REVOKED_get_ext_d2i(revoked, NID_crl_reason, &critical, nullptr)));
        const long number = reason ? ASN1_ENUMERATED_get(reason.get()) : -1;
        list.revoked.push_back({.revoked_at = Clock::to_time_t(*at),
                                .serial = *serial,
                                .reason = static_cast<std::int8_t>(number >= -1 && number <= 10 ? number : 0)});
    }
    std::ranges::sort(list.revoked, {}, &RevokedEntry::serial);
    return "";
}

}  // namespace

std::optional<Serial> serial_of(const ASN1_INTEGER* number) {
    Serial serial{};
    const int length = ASN1_STRING_length(number);
    if (length < 0 || length > 20) return std::nullopt;
    std::memcpy(serial.data(), ASN1_STRING_get0_data(number), static_cast<std::size_t>(length));
    serial[20] = static_cast<std::uint8_t>(length | (ASN1_STRING_type(number) == V_ASN1_NEG_INTEGER ? 0x80 : 0));
    return serial;
}

const RevokedEntry* CrlList::find(const Serial& serial) const {
    const auto found = std::ranges::lower_bound(revoked, serial, {}, &RevokedEntry::serial);
    return found != revoked.end() && found->serial == serial ? &*found : nullptr;
}

bool CrlList::covers(const X509* certificate) const {
    const bool ca = X509_check_ca(const_cast<X509*>(certificate)) != 0;
    if ((only_user && ca) || (only_ca && !ca)) return false;
    if (!split) return true;
    const DistributionPoints points(
        static_cast<CRL_DIST_POINTS*>(X509_get_ext_d2i(certificate, NID_crl_distribution_points, nullptr, nullptr)));
    std::vector<std::string> named;
    for (int i = 0; points && i < sk_DIST_POINT_num(points.get()); ++i) {
        const DIST_POINT* point = sk_DIST_POINT_value(points.get(), i);
        if (point->reasons == nullptr && point->CRLissuer == nullptr) add_uris(point->distpoint, named);
    }
    return std::ranges::any_of(named, [this](const std::string& uri) { return std::ranges::contains(locations, uri); });
}

std::expected<CrlList, std::string> read_crl(std::span<const std::byte> octets, X509* issuer, Clock::time_point now) {
    ERR_clear_error();
    auto crl = decode(octets);
    if (!crl) return std::unexpected(std::move(crl.error()));
    CrlList list;
    list.issuer = openssl::share(issuer);
    if (EVP_Digest(octets.data(), octets.size(), list.digest.data(), nullptr, EVP_sha256(), nullptr) != 1) return std::unexpected("out of memory");
    std::string wrong = check_issuer(crl->get(), issuer);
    if (wrong.empty()) wrong = check_extensions(X509_CRL_get0_extensions(crl->get()));
    if (wrong.empty()) wrong = read_dates(crl->get(), list, now);
    if (wrong.empty()) wrong = read_scope(crl->get(), list);
    if (wrong.empty()) wrong = read_entries(crl->get(), list);
    if (wrong.empty()) {
        int critical = 0;
        list.number.reset(
            static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(crl->get(), NID_crl_number, &critical, nullptr)));
        if (!list.number && critical != -1) wrong = "has a cRLNumber that cannot be read";
    }
    ERR_clear_error();
    if (!wrong.empty()) return std::unexpected("the CRL " + wrong);
    return list;
}

std::string reason_text(int reason) {
    static constexpr std::array<const char*, 11> kNames = {
        "unspecified", "keyCompromise",  "cACompromise",       "affiliationChanged", "superseded", "cessationOfOperation",
        "certificateHold", "7", "removeFromCRL", "privilegeWithdrawn", "aACompromise"};
    if (reason < 0 || static_cast<std::size_t>(reason) >= kNames.size()) return "no reason given";
    return kNames.at(static_cast<std::size_t>(reason));
}

}  // namespace sallyport::revocation
