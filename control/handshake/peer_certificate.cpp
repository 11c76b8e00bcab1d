#include "control/handshake/peer_certificate.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <stdexcept>
#include <string_view>

#include "crypto/format.h"

namespace sallyport::handshake {
namespace {

struct Name {
    int type;   ///< GEN_DNS, GEN_EMAIL, GEN_URI or GEN_IPADD
    std::string text;
};

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

/// The domain of a mail address in lower case; what is before it is the owner's affair (RFC 5321 2.4).
std::string mail_text(std::string_view address) {
    const auto at = address.rfind('@');
    if (at == std::string_view::npos) return std::string(address);
    return std::string(address.substr(0, at)) + lower(address.substr(at));
}

std::vector<Name> names_of(const X509* certificate) {
    std::vector<Name> names;
    const openssl::GeneralNames general(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; general && i < sk_GENERAL_NAME_num(general.get()); ++i) {
        int type = 0;
        const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(general.get(), i), &type));
        if (value == nullptr || (type != GEN_DNS && type != GEN_EMAIL && type != GEN_URI && type != GEN_IPADD)) continue;
        const unsigned char* octets = ASN1_STRING_get0_data(value);
        const auto length = static_cast<std::size_t>(ASN1_STRING_length(value));
        if (type == GEN_IPADD) {
            std::array<char, INET6_ADDRSTRLEN> text{};
            if ((length == 4 || length == 16) && inet_ntop(length == 4 ? AF_INET : AF_INET6, octets, text.data(), text.size()) != nullptr)
                names.push_back({type, text.data()});
            continue;
        }
        const std::string_view text(reinterpret_cast<const char*>(octets), length);
        // A name with control characters, a NUL among them, names nobody.
        if (text.empty() || !std::ranges::all_of(text, [](unsigned char c) { return c > 0x20 && c < 0x7f; })) continue;
        names.push_back({type, type == GEN_DNS ? lower(text) : type == GEN_EMAIL ? mail_text(text) : std::string(text)});
    }
    return names;
}

bool covers(std::string_view pattern, const Name& name) {
    if (pattern.contains("://")) return name.type == GEN_URI && name.text == pattern;
    if (pattern.contains('@')) return name.type == GEN_EMAIL && name.text == mail_text(pattern);
    return name.type == GEN_DNS && certificates::name_covers(pattern, name.text);
}

std::string serial_of(const X509* certificate) {
    const openssl::Owner<BIGNUM, BN_free> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
    char* hex = number ? BN_bn2hex(number.get()) : nullptr;
    std::string text = hex != nullptr ? lower(hex) : "";
    OPENSSL_free(hex);
    return text;
}

std::string common_name_of(const X509* certificate) {
    const X509_NAME* subject = X509_get_subject_name(certificate);
    const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0) return "";
    unsigned char* utf8 = nullptr;
    const int length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    std::string text = length > 0 ? printable({reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(length)}) : "";
    OPENSSL_free(utf8);
    return text;
}

std::string problems_text(const std::string& owner, const std::vector<certificates::Problem>& problems) {
    std::string text = owner;
    for (const certificates::Problem& problem : problems) text += sallyport::format(": {}: {}", problem.file.string(), problem.wrong);
    return text;
}

}  // namespace

SharedCertificate share(X509* certificate) {
    if (certificate == nullptr || X509_up_ref(certificate) != 1) return nullptr;
    return {certificate, X509_free};
}

Identity identity_of(std::vector<SharedCertificate> chain) {
    Identity identity;
    X509* const leaf = chain.front().get();
    identity.subject = subject_of(leaf);
    identity.common_name = common_name_of(leaf);
    identity.issuer = openssl::name_text(X509_get_issuer_name(leaf));
    identity.serial = serial_of(leaf);
    for (Name& name : names_of(leaf)) identity.names.push_back(std::move(name.text));
    unsigned char* der = nullptr;
    if (const int length = i2d_X509(leaf, &der); length > 0)
        identity.certificate.assign(reinterpret_cast<const std::byte*>(der), reinterpret_cast<const std::byte*>(der) + length);
    OPENSSL_free(der);
    identity.chain = std::move(chain);
    return identity;
}

std::shared_ptr<const Identity> Identities::of(std::vector<SharedCertificate> chain) {
    const certificates::Fingerprint leaf = certificates::fingerprint_of(chain.front().get());
    const auto same = [](const SharedCertificate& one, const SharedCertificate& other) { return X509_cmp(one.get(), other.get()) == 0; };
    const std::scoped_lock lock(mutex_);
    if (auto known = known_.find(leaf); known && std::ranges::equal(known->chain, chain, same)) return known;
    auto identity = std::make_shared<const Identity>(identity_of(std::move(chain)));
    known_.add(leaf, identity);
    return identity;
}

bool name_allowed(std::span<const std::string> patterns, const X509* leaf) {
    if (patterns.empty()) return true;
    const auto names = names_of(leaf);
    return std::ranges::any_of(patterns, [&](const std::string& pattern) { return std::ranges::any_of(names, [&](const Name& name) { return covers(pattern, name); }); });
}

bool in_date(const X509* certificate, Clock::time_point now) {
    const std::time_t seconds = Clock::to_time_t(now);
    return ASN1_TIME_cmp_time_t(X509_get0_notBefore(certificate), seconds) <= 0 && ASN1_TIME_cmp_time_t(X509_get0_notAfter(certificate), seconds) >= 0;
}

revocation::Verdict check_revocation(std::span<X509* const> chain, const revocation::CrlSet* crls, std::span<const std::byte> staple, Clock::time_point now) {
    using revocation::Standing;
    revocation::Verdict worst{.standing = Standing::good, .why = {}, .until = {}};
    for (std::size_t i = 0; i + 1 < chain.size(); ++i) {
        revocation::Verdict verdict;
        if (crls != nullptr) verdict = crls->check(chain[i], chain[i + 1], now);
        if (i == 0 && !staple.empty() && verdict.standing != Standing::revoked) {
            auto stapled = revocation::check_ocsp(staple, chain[0], chain[1], now);
            if (stapled.standing != Standing::unknown || verdict.standing == Standing::unknown) verdict = std::move(stapled);
        }
        if (verdict.standing == Standing::revoked) return verdict;
        if (verdict.standing == Standing::unknown && worst.standing == Standing::good) {
            worst = verdict;
            if (worst.why.empty()) worst.why = sallyport::format("no source speaks of \"{}\"", subject_of(chain[i]));
        }
        if (worst.standing == Standing::good && (worst.until == Clock::time_point{} || verdict.until < worst.until)) worst.until = verdict.until;
    }
    return worst;
}

Clock::time_point revocation_waived_until(const configuration::Configuration& configuration, const std::string& object) {
    auto until = Clock::time_point::min();
    for (const configuration::Waiver& waiver : configuration.waivers)
        if (waiver.requirement == policy::text(policy::Requirement::r9_4_3).id && waiver.object == object) until = std::max(until, waiver.until);
    return until;
}

std::vector<SharedCertificate> trust(X509_STORE* store, const std::vector<SharedCertificate>& loaded, const std::vector<std::filesystem::path>& files,
                                     int policy_level, const std::string& owner) {
    std::vector<SharedCertificate> anchors = loaded;
    if (anchors.empty())
        for (const auto& file : files) {
            auto read = certificates::load_trust_anchors(file, policy_level, Clock::now());
            if (!read) throw std::runtime_error(problems_text(owner, read.error()));
            for (const openssl::Certificate& anchor : *read) anchors.push_back(share(anchor.get()));
        }
    for (const SharedCertificate& anchor : anchors)
        if (X509_STORE_add_cert(store, anchor.get()) != 1) throw std::runtime_error(sallyport::format("{}: libcrypto refuses an anchor: {}", owner, openssl::error_queue()));
    return anchors;
}

std::shared_ptr<const certificates::CertificateChain> chain_of(const configuration::CertificateFiles& files, int policy_level, const std::string& owner) {
    if (files.chain) return files.chain;
    auto chain = certificates::load_certificate_chain(files.certificate, files.key, policy_level, Clock::now());
    if (!chain) throw std::runtime_error(problems_text(owner, chain.error()));
    return std::make_shared<const certificates::CertificateChain>(std::move(*chain));
}

BorrowedStack intermediates_of(const certificates::CertificateChain& chain) {
    BorrowedStack stack(sk_X509_new_null());
    if (!stack) throw std::bad_alloc();
    for (const openssl::Certificate& certificate : chain.intermediates)
        if (sk_X509_push(stack.get(), certificate.get()) <= 0) throw std::bad_alloc();
    return stack;
}

}  // namespace sallyport::handshake
