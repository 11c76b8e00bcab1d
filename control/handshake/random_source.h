#pragma once

#include <openssl/core.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "crypto/secret.h"

namespace sallyport::handshake {

/// The name of our random bit generator, as EVP_RAND_fetch() and RAND_set_DRBG_type() take it.
inline constexpr const char* kRandomSource = "SALLYPORT-AHEAD";

/// For the provider (key_provider.h): the generator behind RAND_bytes() and RAND_priv_bytes() (provider-rand(7)). It is OpenSSL's own CTR-DRBG with AES-256 (NIST SP 800-90A), seeded by the
/// system, asked for a kilobyte at a time: a request of its own for each of the dozen short values of a handshake costs a system call each (OpenSSL asks for its process id, lest a fork go
/// unseen) and a change of the DRBG's key. A fork is seen by a handler here. What is asked for in one piece of more than kLongestFromAhead octets, with prediction resistance or with additional
/// input goes to the CTR-DRBG as it is. Cannot be the parent of another generator.
[[nodiscard]] const OSSL_ALGORITHM* random_sources() noexcept;

/// Has OpenSSL take it for the whole process. Once, after the provider is loaded and before anything random is asked for. False: OpenSSL has refused, or there is no memory.
[[nodiscard]] bool use_random_source() noexcept;

/// Random octets made ahead, each given out once and wiped as it leaves. Not thread-safe.
class OctetsAhead {
 public:
    static constexpr std::size_t kAhead = 1024;             ///< some thirty requests of 32 octets
    static constexpr std::size_t kLongestFromAhead = 128;   ///< no request throws away more than an eighth of what is there

    OctetsAhead() noexcept = default;
    OctetsAhead(const OctetsAhead&) = delete;
    OctetsAhead& operator=(const OctetsAhead&) = delete;
    ~OctetsAhead() { drop(); }

    /// Fills `to`, which has kLongestFromAhead octets at most. `make(std::span<unsigned char>)` makes new ones where too few are left; false where it does: nothing has been given out.
    template <typename Make>
    [[nodiscard]] bool take(std::span<unsigned char> to, Make make) noexcept {
        SALLYPORT_CHECK(to.size() <= kLongestFromAhead);
        if (to.size() > left_) {
            drop();
            if (!make(std::span<unsigned char>(octets_))) {
                crypto::wipe(octets_.data(), octets_.size());
                return false;
            }
            left_ = octets_.size();
        }
        left_ -= to.size();
        const auto from = std::span(octets_).subspan(left_, to.size());
        std::ranges::copy(from, to.begin());
        crypto::wipe(from.data(), from.size());
        return true;
    }

    /// Wipes what is there: the next request is for new ones.
    void drop() noexcept {
        crypto::wipe(octets_.data(), left_);
        left_ = 0;
    }

 private:
    std::array<unsigned char, kAhead> octets_{};
    std::size_t left_ = 0;   ///< of octets_, from its front: they are given out from the back
};

}  // namespace sallyport::handshake
