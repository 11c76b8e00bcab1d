#pragma once

#include <cstring>
#include <memory>
#include <shared_mutex>
#include <unordered_map>

#include "control/revocation/own_certificate.h"

/// What is known of own certificates, for those who serve or show them.
namespace sallyport::revocation {

/// Filled by a watcher, read by handshakes: they hold this and not the watcher, which ends when a configuration does, while flows of it may
/// live on with what was known last. A lock is held for a look-up or an assignment, never over a verification. Any thread.
class OwnAnswers {
 public:
    /// The fresh OCSP answer (DER) for a certificate; nullptr: none.
    [[nodiscard]] std::shared_ptr<const Octets> staple(const certificates::CertificateChain& chain) const;
    /// Whether it has been found revoked: it must not be served, nor shown to members.
    [[nodiscard]] bool revoked(const certificates::CertificateChain& chain) const;
    void set(const Fingerprint& certificate, std::shared_ptr<const Octets> staple, bool revoked);

 private:
    struct Answer {
        std::shared_ptr<const Octets> staple;
        bool revoked = false;
    };
    /// A fingerprint is a hash already.
    struct Hash {
        std::size_t operator()(const Fingerprint& certificate) const noexcept {
            std::size_t hash = 0;
            std::memcpy(&hash, certificate.data(), sizeof hash);
            return hash;
        }
    };
    [[nodiscard]] Answer find(const certificates::CertificateChain& chain) const;
    mutable std::shared_mutex mutex_;
    std::unordered_map<Fingerprint, Answer, Hash> answers_;
};

}  // namespace sallyport::revocation
