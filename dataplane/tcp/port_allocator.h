#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "control/channel/address.h"
#include "dataplane/tcp/keyed_hash.h"

namespace sallyport::tcp {

/// Ephemeral ports by double-hash selection (RFC 6056 3.3.4): hard to guess from outside, and a port comes back late.
class PortAllocator {
 public:
    /// Ports that are tried for one connection, so that a member to which nearly all are in use does not cost its worker a look at each of
    /// 55,001 for every flow. Were one in a hundred free, spread at random, 2,048 tries would miss them all once in 10^9 times; of 128
    /// workers each finds some 16 ports among them that lead back to it. The next connection goes on where this one has stopped.
    static constexpr std::uint32_t kMostTries = 2048;

    PortAllocator(std::uint16_t low, std::uint16_t high, const KeyedHash& hash) noexcept : hash_(hash), low_(low), high_(high) {}

    /// The first port in this pair's order that `acceptable(port)` takes; 0 when it takes none of kMostTries.
    template <typename Acceptable>
    [[nodiscard]] std::uint16_t choose(const IpAddress& local, const SocketAddress& remote, Acceptable&& acceptable) noexcept {
        const std::uint64_t both = hash_of(local, remote);
        const std::uint32_t count = std::uint32_t{high_} - low_ + 1;
        std::uint32_t& next = next_[both >> 32 & (next_.size() - 1)];
        for (std::uint32_t tries = 0; tries < std::min(count, kMostTries); ++tries) {
            const auto port = static_cast<std::uint16_t>(low_ + (static_cast<std::uint32_t>(both) + next) % count);
            ++next;
            if (acceptable(port)) return port;
        }
        return 0;
    }

 private:
    [[nodiscard]] std::uint64_t hash_of(const IpAddress& local, const SocketAddress& remote) const noexcept;

    KeyedHash hash_;
    std::uint16_t low_, high_;
    std::array<std::uint32_t, 1024> next_{};
};

}  // namespace sallyport::tcp
