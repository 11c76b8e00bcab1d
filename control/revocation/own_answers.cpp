#include "control/revocation/own_answers.h"

#include <mutex>

namespace sallyport::revocation {

OwnAnswers::Answer OwnAnswers::find(const certificates::CertificateChain& chain) const {
    if (!chain.leaf) return {};
    const Fingerprint certificate = chain.fingerprint != Fingerprint{} ? chain.fingerprint : fingerprint_of(chain.leaf.get());
    const std::shared_lock lock(mutex_);
    const auto found = answers_.find(certificate);
    return found == answers_.end() ? Answer{} : found->second;
}

std::shared_ptr<const Octets> OwnAnswers::staple(const certificates::CertificateChain& chain) const { return find(chain).staple; }
bool OwnAnswers::revoked(const certificates::CertificateChain& chain) const { return find(chain).revoked; }

void OwnAnswers::set(const Fingerprint& certificate, std::shared_ptr<const Octets> staple, bool revoked) {
    const std::unique_lock lock(mutex_);
    answers_[certificate] = {std::move(staple), revoked};
}

}  // namespace sallyport::revocation
