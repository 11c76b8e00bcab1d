#include "dataplane/network/route_table.h"

#include <algorithm>

#include "dataplane/wire/ipv6.h"

namespace sallyport::network {

RouteTable::RouteTable(std::span<const Interface> interfaces, std::span<const Route> routes) : interfaces_(interfaces) {
    for (std::uint16_t i = 0; i < interfaces.size(); ++i)
        for (const IpPrefix& prefix : interfaces[i].addresses) entries_.push_back({prefix, i, std::nullopt});
    for (const Route& route : routes)
        if (const auto interface = connected(route.via)) entries_.push_back({route.to, *interface, route.via});
    // Stable: of equal lengths a connected prefix goes before a configured route.
    std::ranges::stable_sort(entries_, std::ranges::greater{}, [](const Entry& entry) { return entry.to.length; });
}

std::optional<std::uint16_t> RouteTable::connected(const IpAddress& address) const noexcept {
    const Entry* best = nullptr;
    for (const Entry& entry : entries_)
        if (!entry.via && entry.to.contains(address) && (best == nullptr || entry.to.length > best->to.length)) best = &entry;
    if (best == nullptr) return std::nullopt;
    return best->interface;
}

std::optional<RouteTable::Hop> RouteTable::find(const IpAddress& destination) const noexcept {
    for (const Entry& entry : entries_) {
        if (!entry.to.contains(destination)) continue;
        const IpAddress& next_hop = entry.via ? *entry.via : destination;
        // Behind a gateway the scope of the destination decides, not that of a gateway's link-local address.
        const auto from = source(entry.interface, wire::is_link_local(next_hop) ? destination : next_hop);
        if (!from) return std::nullopt;
        return Hop{entry.interface, next_hop, *from};
    }
    return std::nullopt;
}

std::optional<IpAddress> RouteTable::source(std::uint16_t interface, const IpAddress& neighbour) const noexcept {
    const IpPrefix* best = nullptr;
    int best_rank = -1;
    for (const IpPrefix& prefix : interfaces_[interface].addresses) {
        if (prefix.address.is_v4() != neighbour.is_v4()) continue;
        int rank = wire::is_link_local(prefix.address) == wire::is_link_local(neighbour) ? 1 : 0;
        if (prefix.contains(neighbour)) rank = 2 + prefix.length;
        if (rank > best_rank) {
            best = &prefix;
            best_rank = rank;
        }
    }
    if (best == nullptr) return std::nullopt;
    return best->address;
}

}  // namespace sallyport::network
