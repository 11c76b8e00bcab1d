#include "control/certificates/certificate_chain.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <iterator>
#include <optional>

#include "control/certificates/asn1_time.h"
#include "control/certificates/pem_file.h"
#include "control/policy/key_strength.h"

namespace sallyport::certificates {

namespace {

using Clock = std::chrono::system_clock;

constexpr const char* kPublicCertificates = "9.1.4 (12.2.2)";
constexpr const char* kStrength = "9.4.1 (12.1.2)";
constexpr const char* kClientsValidate = "9.2.6 (12.3.2)";
constexpr const char* kInternalAnchors = "9.3.2 (12.3.4)";
constexpr const char* kMutual = "9.3.3 (12.3.5)";

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

/// "the certificate" for the leaf, else "certificate 2 in the file (CN=...)".
std::string which(std::size_t index, const X509* certificate) {
    if (index == 0) return "the certificate";
    return "certificate " + std::to_string(index + 1) + " in the file (" +
           openssl::name_text(X509_get_subject_name(certificate)) + ")";
}

/// Gathers what is wrong with one file.
class Report {
 public:
    explicit Report(std::filesystem::path file) : file_(std::move(file)) {}
    void add(std::string wrong, std::string right, std::string requirement) {
        problems_.push_back({file_, std::move(wrong), std::move(right), std::move(requirement)});
    }
    void fatal(std::string wrong, std::string right, std::string requirement) {
        problems_.push_back({file_, std::move(wrong), std::move(right), std::move(requirement), true});
    }
    void add(const FileError& error) { fatal(error.wrong, error.right, ""); }
    void add(const std::string& subject, const std::optional<policy::Weakness>& weakness) {
        if (weakness) add(subject + " " + weakness->wrong, weakness->right, kStrength);
    }
    [[nodiscard]] std::vector<Problem>& problems() { return problems_; }

 private:
    std::filesystem::path file_;
    std::vector<Problem> problems_;
};

void check_dates(Report& report, const std::string& subject, const X509* certificate, Clock::time_point now,
                 const char* requirement) {
    const auto not_before = time_of(X509_get0_notBefore(certificate));
    const auto not_after = time_of(X509_get0_notAfter(certificate));
    if (!not_before || !not_after)
        report.add(subject + " has a validity period that cannot be read",
                   "a certificate that keeps to RFC 5280 4.1.2.5", requirement);
    else if (*not_after < now)
        report.add(subject + " expired at " + time_text(*not_after), "a certificate that is in date", requirement);
    else if (*not_before > now)
        report.add(subject + " is not valid before " + time_text(*not_before),
                   "a certificate that is in date, and a clock that is right", requirement);
}

std::vector<std::string> names_of(const X509* certificate) {
    std::vector<std::string> names;
    const openssl::GeneralNames general(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; general && i < sk_GENERAL_NAME_num(general.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(general.get(), i);
        int type = 0;
        const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
        if (value == nullptr || (type != GEN_DNS && type != GEN_IPADD)) continue;
        const unsigned char* octets = ASN1_STRING_get0_data(value);
        const auto length = static_cast<std::size_t>(ASN1_STRING_length(value));
        if (type == GEN_DNS) {
            // RFC 5280 4.2.1.6: letters, digits, hyphens and dots ("_" is seen in the wild), and "*". What is not,
            // covers nothing.
            const std::string_view text(reinterpret_cast<const char*>(octets), length);
            const bool plain = std::ranges::all_of(text, [](unsigned char c) {
                return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '*';
            });
            if (!text.empty() && plain) names.push_back(lower(text));
            continue;
        }
        std::array<char, INET6_ADDRSTRLEN> text{};
        if ((length == 4 || length == 16) &&
            inet_ntop(length == 4 ? AF_INET : AF_INET6, octets, text.data(), text.size()) != nullptr)
            names.emplace_back(text.data());
    }
    return names;
}

/// An address in the one form that inet_ntop gives it; nullopt when it is a DNS name.
std::optional<std::string> canonical_address(const std::string& name) {
    std::array<unsigned char, 16> octets{};
    std::array<char, INET6_ADDRSTRLEN> text{};
    for (const int family : {AF_INET, AF_INET6})
        if (inet_pton(family, name.c_str(), octets.data()) == 1 &&
            inet_ntop(family, octets.data(), text.data(), text.size()) != nullptr)
            return text.data();
    return std::nullopt;
}

void check_leaf(Report& report, const CertificateChain& chain, int level, Purpose purpose) {
    const X509* leaf = chain.leaf.get();
    const bool server = purpose == Purpose::server;
    const char* requirement = server ? kPublicCertificates : kMutual;
    // Reading the flags caches the extensions, and tells whether they could be parsed.
    const std::uint32_t flags = X509_get_extension_flags(leaf);
    if ((flags & EXFLAG_INVALID) != 0)
        report.fatal("the certificate has extensions that cannot be read", "a certificate that keeps to RFC 5280 4.2",
                     requirement);
    if ((flags & EXFLAG_CA) != 0)
        report.fatal("the certificate is one of a certification authority",
                     std::string("the certificate of the ") + (server ? "server" : "client") + " first, then its chain", requirement);
    if (server && chain.names.empty())
        report.fatal("the certificate has no subjectAltName with a DNS name or an address",
                     "a certificate that names what it is for: clients no longer look at the common name", requirement);
    const std::uint32_t extended = X509_get_extended_key_usage(leaf);
    if (extended == UINT32_MAX || (extended & (server ? XKU_SSL_SERVER : XKU_SSL_CLIENT)) == 0) {
        const std::string wanted = server ? "serverAuth" : "clientAuth";
        report.add(std::string("the certificate is not for ") + (server ? "servers" : "clients") + ": its extendedKeyUsage lacks " + wanted,
                   "a certificate with extendedKeyUsage " + wanted, requirement);
    }
    const std::uint32_t usage = X509_get_key_usage(leaf);
    if (usage != UINT32_MAX && (usage & KU_DIGITAL_SIGNATURE) == 0)
        report.add("the certificate's key may not sign handshakes: its keyUsage lacks digitalSignature",
                   "a certificate with keyUsage digitalSignature", requirement);
    const EVP_PKEY* key = X509_get0_pubkey(leaf);
    if (key == nullptr)
        report.fatal("the certificate has a public key that cannot be read: " + openssl::error_queue(),
                     "a key of type ECDSA or RSA", kStrength);
    else
        report.add("the certificate", policy::check_own_key(key, level));
}

bool is_self_signed(const openssl::Certificate& certificate) {
    const bool result = X509_self_signed(certificate.get(), 0) == 1;
    ERR_clear_error();
    return result;
}

/// RFC 7633: the feature is a TLS extension's number, here status_request (5).
bool must_staple(const X509* certificate) {
    const openssl::Owner<TLS_FEATURE, TLS_FEATURE_free> features(
        static_cast<TLS_FEATURE*>(X509_get_ext_d2i(certificate, NID_tlsfeature, nullptr, nullptr)));
    for (int i = 0; features && i < sk_ASN1_INTEGER_num(features.get()); ++i)
        if (ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features.get(), i)) == 5) return true;
    return false;
}

/// All that others ask about the leaf.
void describe(CertificateChain& chain, const PublicRoots* roots) {
    X509* leaf = chain.leaf.get();
    chain.names = names_of(leaf);
    chain.not_before = time_of(X509_get0_notBefore(leaf)).value_or(Clock::time_point());
    chain.not_after = time_of(X509_get0_notAfter(leaf)).value_or(Clock::time_point());
    chain.issuer_text = openssl::name_text(X509_get_issuer_name(leaf));
    chain.fingerprint = fingerprint_of(leaf);
    chain.must_staple = must_staple(leaf);
    if (const EVP_PKEY* key = X509_get0_pubkey(leaf)) {
        chain.key_type = policy::key_name(key);
        chain.ecdsa = !chain.key_type.starts_with("RSA");
    }
    if (!chain.intermediates.empty())
        chain.issuer = openssl::share(chain.intermediates.front().get());
    else if (X509* root = roots != nullptr ? roots->issuer_of(leaf) : nullptr)
        chain.issuer = openssl::share(root);
    ERR_clear_error();   // extensions that are not there, or cannot be read: check_leaf() has told of those
}

}  // namespace

std::string CertificateChain::subject() const {
    return openssl::name_text(X509_get_subject_name(leaf.get()));
}

bool CertificateChain::covers(std::string_view name) const {
    return std::ranges::any_of(names, [name](const std::string& pattern) { return name_covers(pattern, name); });
}

bool name_covers(std::string_view pattern, std::string_view name) {
    const std::string have = lower(pattern);
    std::string want = lower(name);
    if (const auto address = canonical_address(want)) return canonical_address(have) == address;
    if (want.ends_with('.')) want.pop_back();  // the root of the DNS, spelled out
    if (want.empty()) return false;
    if (have == want) return !have.contains('*');
    if (!have.starts_with("*.") || have.find('*', 1) != std::string::npos) return false;
    const auto dot = want.find('.');
    return dot != std::string::npos && dot > 0 &&
           std::string_view(have).substr(1) == std::string_view(want).substr(dot);
}

openssl::Certificate Loader::shared(openssl::Certificate certificate) {
    const auto [found, added] = intermediates_.try_emplace(fingerprint_of(certificate.get()), nullptr);
    if (added) found->second = std::move(certificate);
    return openssl::share(found->second.get());
}

bool Loader::has_signed(X509* issuer, X509* subject, bool both_shared) {
    if (both_shared && signed_.contains({issuer, subject})) return true;
    EVP_PKEY* key = X509_get0_pubkey(issuer);
    const bool result = key != nullptr && X509_check_issued(issuer, subject) == X509_V_OK && X509_verify(subject, key) == 1;
    ERR_clear_error();
    if (result && both_shared) signed_.emplace(issuer, subject);
    return result;
}

Loaded Loader::load(const Files& files, Purpose purpose) {
    const std::filesystem::path& key_file = files.key.empty() ? files.certificate : files.key;
    const char* requirement = purpose == Purpose::server ? kPublicCertificates : kMutual;
    const KeyAccess access{settings_.owners, files.passphrase, settings_.ask};
    Report about_certificate(files.certificate), about_key(key_file);
    std::vector<openssl::Certificate> certificates;
    CertificateChain chain;
    if (files.key.empty()) {
        if (auto bundle = read_bundle(files.certificate, access)) {
            certificates = std::move(bundle->certificates);
            chain.key = std::move(bundle->key);
        } else {
            about_certificate.add(bundle.error());
        }
    } else {
        if (auto read = read_certificates(files.certificate))
            certificates = std::move(*read);
        else
            about_certificate.add(read.error());
        if (auto read = read_private_key(files.key, access))
            chain.key = std::move(*read);
        else
            about_key.add(read.error());
    }
    if (!certificates.empty()) {
        // A client has its root already or must not take it from us.
        if (certificates.size() > 1 && is_self_signed(certificates.back())) certificates.pop_back();
        for (std::size_t i = 0; i < certificates.size(); ++i) {
            if (i > 0) certificates[i] = shared(std::move(certificates[i]));
            X509* certificate = certificates[i].get();
            const std::string subject = which(i, certificate);
            check_dates(about_certificate, subject, certificate, settings_.now, requirement);
            about_certificate.add(subject, policy::check_certificate_signature(certificate));
            if (i == 0) continue;
            if (const EVP_PKEY* key = X509_get0_pubkey(certificate))
                about_certificate.add(subject, policy::check_issuer_key(key));
            if (!has_signed(certificate, certificates[i - 1].get(), i > 1))
                about_certificate.fatal(
                    subject + " has not signed the one before it",
                    std::string("the ") + (purpose == Purpose::server ? "server" : "client") +
                        "'s certificate first, then each followed by the one that signed it (RFC 8446 4.4.2)",
                    requirement);
            else if (X509_check_ca(certificate) != 1)
                about_certificate.fatal(subject + " signs certificates without being a certification authority",
                                        "intermediates with basicConstraints CA", requirement);
        }
        chain.leaf = std::move(certificates.front());
        certificates.erase(certificates.begin());
        chain.intermediates = std::move(certificates);
        describe(chain, settings_.roots);
        check_leaf(about_certificate, chain, settings_.policy_level, purpose);
        if (chain.key && X509_check_private_key(chain.leaf.get(), chain.key.get()) != 1) {
            ERR_clear_error();
            about_key.fatal("is not the key of the certificate " + files.certificate.string(),
                            "the private key that was made for it", requirement);
        }
    }
    Loaded loaded;
    loaded.problems = std::move(about_certificate.problems());
    std::ranges::move(about_key.problems(), std::back_inserter(loaded.problems));
    if (std::ranges::none_of(loaded.problems, &Problem::fatal)) loaded.chain = std::move(chain);
    return loaded;
}

std::expected<CertificateChain, std::vector<Problem>> load_certificate_chain(const std::filesystem::path& certificate,
                                                                             const std::filesystem::path& key,
                                                                             int policy_level, Clock::time_point now) {
    Loaded loaded = Loader({.policy_level = policy_level, .now = now}).load({certificate, key}, Purpose::server);
    if (!loaded.problems.empty()) return std::unexpected(std::move(loaded.problems));
    return std::move(*loaded.chain);
}

std::expected<std::vector<openssl::Certificate>, std::vector<Problem>> load_trust_anchors(
    const std::filesystem::path& file, int policy_level, Clock::time_point now) {
    Report report(file);
    const char* requirement = policy_level < 2 ? kClientsValidate : kInternalAnchors;
    auto certificates = read_certificates(file);
    if (!certificates) {
        report.add(certificates.error());
        return std::unexpected(std::move(report.problems()));
    }
    for (std::size_t i = 0; i < certificates->size(); ++i) {
        X509* certificate = (*certificates)[i].get();
        const std::string subject = "certificate " + std::to_string(i + 1) + " in the file (" +
                                    openssl::name_text(X509_get_subject_name(certificate)) + ")";
        // 1: basicConstraints CA. The lesser answers (a version 1 root, keyUsage alone) are what RFC 5280 6.1.4 (k)
        // leaves to us: no.
        if (X509_check_ca(certificate) != 1)
            report.add(subject + " is not one of a certification authority", "certificates with basicConstraints CA",
                       requirement);
        check_dates(report, subject, certificate, now, requirement);
        if (const EVP_PKEY* key = X509_get0_pubkey(certificate))
            report.add(subject, policy::check_issuer_key(key));
        else
            report.add(subject + " has a public key that cannot be read: " + openssl::error_queue(),
                       "a key of type ECDSA or RSA", kStrength);
    }
    if (!report.problems().empty()) return std::unexpected(std::move(report.problems()));
    return std::move(*certificates);
}

}  // namespace sallyport::certificates
