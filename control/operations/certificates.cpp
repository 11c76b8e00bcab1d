#include <openssl/x509.h>

#include <map>

#include "control/certificates/openssl.h"
#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"
#include "control/policy/key_strength.h"
#include "control/revocation/asn1_time.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

using certificates::CertificateChain;
using management::InstalledCertificateView;

std::string hexadecimal(std::span<const std::uint8_t> octets) {
    std::string text;
    for (const std::uint8_t octet : octets) text += sallyport::format("{:02x}", octet);
    return text;
}

std::string serial_of(const X509* certificate) {
    const openssl::Owner<BIGNUM, BN_free> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
    if (!number) return {};
    char* const text = BN_bn2hex(number.get());
    std::string result = text == nullptr ? "" : text;
    OPENSSL_free(text);
    return result;
}

std::string name_text(const X509_NAME* name) {
    const openssl::Owner<BIO, BIO_free_all> bio(BIO_new(BIO_s_mem()));
    if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return {};
    char* text = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &text);
    return length > 0 ? std::string(text, static_cast<std::size_t>(length)) : std::string();
}

/// What the watcher of revocation says of a server's certificate.
std::string staple_text(const std::map<std::string, revocation::OwnStatus>& standings, const std::string& file) {
    const auto found = standings.find(file);
    if (found == standings.end()) return "not looked at";
    const revocation::OwnStatus& own = found->second;
    if (own.standing == revocation::Standing::revoked) return "revoked";
    switch (own.rule) {
        case revocation::Rule::staple:
            if (own.standing == revocation::Standing::good) return "good until " + time_text(own.next_update);
            return "none: " + (own.why.empty() ? std::string("not fetched yet") : own.why);
        case revocation::Rule::short_lived:
            return "not needed: short-lived";
        case revocation::Rule::crl:
            return own.standing == revocation::Standing::good ? "by CRL, good until " + time_text(own.next_update) : "by CRL: " + own.why;
        case revocation::Rule::none:
            break;
    }
    return "none";
}

InstalledCertificateView view_of(const CertificateChain& chain, std::chrono::system_clock::time_point now) {
    InstalledCertificateView view;
    view.names = chain.names;
    view.subject = chain.subject();
    view.issuer = chain.issuer_text;
    view.serial = serial_of(chain.leaf.get());
    view.key = chain.key_type;
    view.sha256 = hexadecimal(chain.fingerprint);
    view.not_before = management::iso8601(chain.not_before);
    view.not_after = management::iso8601(chain.not_after);
    view.days_left = days_left(chain.not_after, now);
    view.must_staple = chain.must_staple;
    return view;
}

InstalledCertificateView view_of(X509* anchor, std::chrono::system_clock::time_point now) {
    InstalledCertificateView view;
    view.subject = name_text(X509_get_subject_name(anchor));
    view.issuer = name_text(X509_get_issuer_name(anchor));
    view.key = policy::key_name(X509_get0_pubkey(anchor));
    view.serial = serial_of(anchor);
    view.sha256 = hexadecimal(certificates::fingerprint_of(anchor));
    const auto not_before = revocation::time_of(X509_get0_notBefore(anchor)), not_after = revocation::time_of(X509_get0_notAfter(anchor));
    if (not_before) view.not_before = management::iso8601(*not_before);
    if (not_after) {
        view.not_after = management::iso8601(*not_after);
        view.days_left = days_left(*not_after, now);
    }
    return view;
}

std::string listed(const std::vector<std::filesystem::path>& files) {
    std::string text;
    for (const auto& file : files) text += (text.empty() ? "" : ", ") + file.string();
    return text;
}

Result show_certificates(Appearance& appearance) {
    const auto now = std::chrono::system_clock::now();
    const configuration::Configuration& configuration = appearance.running.configuration();
    std::map<std::string, revocation::OwnStatus> standings;
    for (auto& own : appearance.running.watcher().own()) standings.emplace(own.file, own);
    std::vector<InstalledCertificateView> views;
    const auto add = [&](InstalledCertificateView view, std::string used_by, const char* role, std::string file) -> InstalledCertificateView& {
        view.used_by = std::move(used_by);
        view.role = role;
        view.file = std::move(file);
        return views.emplace_back(std::move(view));
    };
    for (const auto& service : configuration.services) {
        const std::string used_by = "service " + service.name;
        for (const auto& files : service.certificates) {
            auto& view = add(view_of(*files.chain, now), used_by, "server", files.certificate.string());
            view.staple = staple_text(standings, view.file);
        }
        for (const auto& anchor : service.client_auth.anchors) add(view_of(anchor.get(), now), used_by, "client CA", listed(service.client_auth.trust));
    }
    for (const auto& pool : configuration.pools) {
        if (!pool.tls) continue;
        const std::string used_by = "pool " + pool.name;
        if (pool.tls->identity) add(view_of(*pool.tls->identity->chain, now), used_by, "identity", pool.tls->identity->certificate.string());
        for (const auto& anchor : pool.tls->anchors) add(view_of(anchor.get(), now), used_by, "member CA", listed(pool.tls->trust));
    }
    return views;
}

}  // namespace

void add_certificate_commands(CommandTable& table, Appearance& appearance) {
    table.add("show certificates", "every certificate: of services, ours towards members, and the CAs that are trusted; days left, staples", {},
              [&](const Request&, const Peer&) { return show_certificates(appearance); });
}

}  // namespace sallyport::operations
