#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "control/handshake/handshake.h"
#include "control/certificates/certificate_chain.h"
#include "control/handshake/libssl.h"
#include "control/handshake/values_in_use.h"

/// What both sides ask of a peer's certificate once its chain has been verified: names, revocation, dates. Any thread.
namespace sallyport::handshake {

using Clock = std::chrono::system_clock;
using SharedCertificate = std::shared_ptr<X509>;

/// Another owner of the same certificate; nullptr stays so.
[[nodiscard]] SharedCertificate share(X509* certificate);

/// The identity in the leaf of a verified chain (leaf first, anchor last; not empty).
[[nodiscard]] Identity identity_of(std::vector<SharedCertificate> chain);

/// The identities that flows have: one for each chain, however many handshakes it came in. A certificate that libcrypto has parsed takes several times what all
/// else of a flow does. Any thread.
class Identities {
 public:
    /// As identity_of().
    [[nodiscard]] std::shared_ptr<const Identity> of(std::vector<SharedCertificate> chain);

 private:
    std::mutex mutex_;
    ValuesInUse<certificates::Fingerprint, Identity> known_;   ///< by their leaf
};

/// Whether one of the certificate's SANs is on a list: patterns with "@" are mail addresses (the domain in any case), with "://" URIs
/// (exactly), else DNS names, where "*." covers one label; kinds are never mixed. An empty list allows all.
[[nodiscard]] bool name_allowed(std::span<const std::string> patterns, const X509* leaf);

/// Whether the certificate's validity includes `now` (RFC 5280 4.1.2.5).
[[nodiscard]] bool in_date(const X509* certificate, Clock::time_point now);

/// What the sources say of a chain, leaf first, anchor last: the worst of what they say of each certificate but the anchor. `staple` is an
/// OCSP answer about the leaf, empty without one. Verdict::until is the earliest of what was said.
[[nodiscard]] revocation::Verdict check_revocation(std::span<X509* const> chain, const revocation::CrlSet* crls, std::span<const std::byte> staple,
                                                   Clock::time_point now);

/// Until when 'unknown' passes although the level is 3: the end of a waiver of 9.4.3 for the object ("pool NAME": its members;
/// "clients of service NAME"); else the beginning of time.
[[nodiscard]] Clock::time_point revocation_waived_until(const configuration::Configuration& configuration, const std::string& object);

/// Puts the anchors on a store: those that have been loaded, else what the files hold. Returns them. Throws std::runtime_error naming `owner`.
[[nodiscard]] std::vector<SharedCertificate> trust(X509_STORE* store, const std::vector<SharedCertificate>& loaded,
                                                   const std::vector<std::filesystem::path>& files, int policy_level, const std::string& owner);

/// The certificate of a configuration: what was loaded, else what its files hold. Throws std::runtime_error naming `owner`.
[[nodiscard]] std::shared_ptr<const certificates::CertificateChain> chain_of(const configuration::CertificateFiles& files, int policy_level,
                                                                             const std::string& owner);

/// The intermediates of a chain as a stack that borrows them.
inline void free_borrowed(STACK_OF(X509) * stack) { sk_X509_free(stack); }
using BorrowedStack = openssl::Owner<STACK_OF(X509), free_borrowed>;
[[nodiscard]] BorrowedStack intermediates_of(const certificates::CertificateChain& chain);

}  // namespace sallyport::handshake
