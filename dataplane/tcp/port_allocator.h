#pragma once

#include <array>
#include <cstdint>

#include "control/channel/address.h"
#include "dataplane/tcp/keyed_hash.h"

namespace sallyport::tcp {

/// Ephemeral ports by double-hash selection (RFC 6056 3.3.4): hard to guess from outside, and a port comes back late.
class PortAllocator {
 public:
    PortAllocator(std::uint16_t low, std::uint16_t high, const KeyedHash& hash) noexcept : hash_(hash), low_(low), high_(high) {}

    /// The first port in this pair's order that `acceptable(port)` takes; 0 when it takes none.
    template <typename Acceptable>
    [[nodiscard]] std::uint16_t choose(const IpAddress& local, const SocketAddress& remote, Acceptable&& acceptable) noexcept {
        const std::uint64_t both = hash_of(local, remote);
        const std::uint32_t count = std::uint32_t{high_} - low_ + 1;
        std::uint32_t& next = next_[both >> 32 & (next_.size() - 1)];
        for (std::uint32_t tries = 0; tries < count; ++tries) {
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
