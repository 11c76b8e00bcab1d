#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "control/channel/address.h"
#include "dataplane/network/address_table.h"
#include "dataplane/time.h"

namespace sallyport::network {

/// Path MTUs that routers told of (RFC 1191, RFC 8201), by destination. 1024 sets of 4: a new one takes the place of the one of its set
/// that expires first.
class PathMtuCache {
 public:
    /// RFC 1191 6.3 asks for 5 minutes at least before a larger one is tried, and proposes 10.
    static constexpr Duration kLifetime = 10min;
    /// Below these a report is an attack or an error: TCP over IPv4 with 552 as Linux has it (RFC 1191 allows 68); RFC 8201 4.
    static constexpr std::uint16_t kLeastIpv4 = 552, kLeastIpv6 = 1280;

    explicit PathMtuCache(std::uint64_t seed) : sets_(kSets), seed_(seed) {}

    /// Remembers it, raised to the least allowed. A report never raises what is known.
    void lower(const IpAddress& destination, std::uint16_t mtu, Time now) noexcept {
        const std::uint16_t least = destination.is_v4() ? kLeastIpv4 : kLeastIpv6;
        if (mtu < least) mtu = least;
        Set& set = sets_[hash(destination, seed_) % kSets];
        Entry* chosen = &set[0];
        for (Entry& entry : set) {
            if (entry.destination == destination && entry.expires > now) {
                if (mtu > entry.mtu) return;
                chosen = &entry;
                break;
            }
            if (entry.expires < chosen->expires) chosen = &entry;
        }
        *chosen = {destination, mtu, now + kLifetime};
    }

    /// `otherwise` when nothing smaller is known.
    [[nodiscard]] std::uint16_t find(const IpAddress& destination, std::uint16_t otherwise, Time now) const noexcept {
        for (const Entry& entry : sets_[hash(destination, seed_) % kSets])
            if (entry.destination == destination && entry.expires > now && entry.mtu < otherwise) return entry.mtu;
        return otherwise;
    }

 private:
    static constexpr std::size_t kSets = 1024;
    struct Entry {
        IpAddress destination;
        std::uint16_t mtu = 0;
        Time expires = Time::min();
    };
    using Set = std::array<Entry, 4>;
    std::vector<Set> sets_;
    std::uint64_t seed_;
};

}  // namespace sallyport::network
