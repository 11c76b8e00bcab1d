#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Network interfaces and PCI devices as the kernel has them: what must be known and set before a port is opened. Main
/// thread only, at start (link_up() later too). All of this works within the network namespace of the process.
namespace sallyport::drivers::kernel {

[[nodiscard]] bool exists(const std::string& interface);
/// Names of all interfaces, for messages.
[[nodiscard]] std::vector<std::string> interfaces();

/// A route of the host through `interface`, as text such as "default" or "10.1.0.0/16", or nothing. Link-local and
/// multicast routes do not count: the kernel gives them to every interface that is up.
[[nodiscard]] std::optional<std::string> route_through(const std::string& interface);
/// The same from the text of /proc/net/route and /proc/net/ipv6_route. Pure.
[[nodiscard]] std::optional<std::string> route_through(const std::string& interface, std::string_view routes_v4,
                                                       std::string_view routes_v6);

/// Each sets something of an interface; the error is the kernel's word for it.
[[nodiscard]] std::expected<void, std::string> set_mtu(const std::string& interface, std::uint16_t mtu);
[[nodiscard]] std::expected<void, std::string> set_mac(const std::string& interface,
                                                       const std::array<std::uint8_t, 6>& mac);
/// Up, and receiving every multicast frame (neighbour discovery).
[[nodiscard]] std::expected<void, std::string> bring_up(const std::string& interface);
/// Frames as they were on the wire: no GRO, LRO or VLAN tag taken off. What the interface does not have is left alone.
void receive_unchanged(const std::string& interface);

[[nodiscard]] std::optional<std::array<std::uint8_t, 6>> mac(const std::string& interface);
[[nodiscard]] bool link_up(const std::string& interface);
[[nodiscard]] std::uint32_t link_mbps(const std::string& interface);  ///< 0: does not say
/// Receive queues that AF_XDP can be bound to now, at least 1.
[[nodiscard]] std::uint16_t receive_queues(const std::string& interface);
/// Whether hardware is behind it (veth, bridge and the like have none).
[[nodiscard]] bool has_hardware(const std::string& interface);

/// Whether this kernel knows AF_XDP sockets and lets this process make one. An interface may still refuse (see
/// Port::open).
[[nodiscard]] bool has_af_xdp();

struct PciDevice {
    std::string driver;                   ///< bound kernel driver; empty for none
    std::vector<std::string> interfaces;  ///< kernel interfaces it provides
};
/// Nothing when there is no such device. `address` is in full: 0000:3b:00.0.
[[nodiscard]] std::optional<PciDevice> pci_device(const std::string& address);

/// Removes a UNIX socket that a dead process has left at `path`. False when a live one listens there or it is not a
/// socket.
[[nodiscard]] bool remove_stale_socket(const std::string& path);

}  // namespace sallyport::drivers::kernel
