#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/network/network.h"

namespace sallyport::network {

/// Connected prefixes and configured routes; longest prefix first. Looked up once a connection, so that a walk in order of length
/// will do for the handful of routes that an appliance has.
class RouteTable {
 public:
    struct Hop {
        std::uint16_t interface = 0;
        IpAddress next_hop;   ///< the gateway, or the destination itself
        IpAddress source;     ///< ours, of the same family
    };

    /// `interfaces` must outlive the table, and may be moved with it. A route whose gateway is in no connected prefix is left out.
    RouteTable(std::span<const Interface> interfaces, std::span<const Route> routes);

    /// Nothing when no prefix holds it. Link-local destinations (RFC 4291 2.5.6) belong to the first interface with IPv6.
    [[nodiscard]] std::optional<Hop> find(const IpAddress& destination) const noexcept;

    /// Our address to speak from to a neighbour of this interface: the one whose prefix holds it, else one of the same family and
    /// scope (RFC 6724 5, rules 2 and 8), else any of the family.
    [[nodiscard]] std::optional<IpAddress> source(std::uint16_t interface, const IpAddress& neighbour) const noexcept;

    /// The interface with a connected prefix that holds this address.
    [[nodiscard]] std::optional<std::uint16_t> connected(const IpAddress& address) const noexcept;

 private:
    struct Entry {
        IpPrefix to;
        std::uint16_t interface = 0;
        std::optional<IpAddress> via;
    };
    std::span<const Interface> interfaces_;
    std::vector<Entry> entries_;
};

}  // namespace sallyport::network
