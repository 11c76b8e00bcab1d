#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "control/channel/address.h"

namespace sallyport::network {

/// A hash that a peer who chooses addresses cannot predict: `seed` is secret.
[[nodiscard]] inline std::uint64_t hash(const IpAddress& address, std::uint64_t seed) noexcept {
    std::uint64_t high, low;
    std::memcpy(&high, address.octets.data(), 8);
    std::memcpy(&low, address.octets.data() + 8, 8);
    // Multiply and fold, twice: each input bit reaches each output bit.
    constexpr std::uint64_t a = 0x9e3779b97f4a7c15, b = 0xd6e8feb86659fd93;
    __extension__ using Wide = unsigned __int128;
    const auto first = static_cast<Wide>(high ^ seed ^ a) * (low ^ std::rotl(seed, 32) ^ b);
    const std::uint64_t mixed = static_cast<std::uint64_t>(first) ^ static_cast<std::uint64_t>(first >> 64);
    const auto second = static_cast<Wide>(mixed ^ low ^ a) * (seed | 1);
    return static_cast<std::uint64_t>(second) ^ static_cast<std::uint64_t>(second >> 64);
}

/// Our own addresses and the multicast groups that we listen to: filled once, then read for every packet; a change is another table.
class AddressTable {
 public:
    enum class Kind : std::uint8_t {
        none,         ///< not in the table
        local,        ///< an address of ours
        group,        ///< all-nodes, or the solicited-node group of an address of ours
        broadcast,    ///< directed broadcast of a connected IPv4 prefix
    };

    AddressTable(std::size_t most, std::uint64_t seed)
        : entries_(std::bit_ceil(most * 2 + 2)), seed_(seed) {}

    /// The first kind of an address stays. At most `most` addresses.
    void add(const IpAddress& address, Kind kind) noexcept {
        Entry& entry = entries_[slot(address)];
        if (entry.kind == Kind::none) entry = {address, kind};
    }
    /// Every address of the prefix that is not in the table otherwise is local.
    void add_hosted(const IpPrefix& prefix) { hosted_.push_back(prefix); }
    [[nodiscard]] Kind find(const IpAddress& address) const noexcept {
        const Kind kind = entries_[slot(address)].kind;
        if (kind != Kind::none || hosted_.empty()) return kind;
        for (const IpPrefix& prefix : hosted_)
            if (prefix.contains(address)) return Kind::local;
        return Kind::none;
    }

 private:
    struct Entry {
        IpAddress address;
        Kind kind = Kind::none;
    };
    /// Of the address, or the empty one where it would be. Half of the entries at least are empty: it ends.
    [[nodiscard]] std::size_t slot(const IpAddress& address) const noexcept {
        std::size_t at = hash(address, seed_) & (entries_.size() - 1);
        while (entries_[at].kind != Kind::none && entries_[at].address != address) at = (at + 1) & (entries_.size() - 1);
        return at;
    }
    std::vector<Entry> entries_;
    std::vector<IpPrefix> hosted_;
    std::uint64_t seed_;
};

}  // namespace sallyport::network
