#pragma once

#include <cstdint>
#include <span>

#include "control/channel/address.h"

struct rte_mbuf;

/// Which worker owns a connection. The same function for devices with RSS (their key and indirection table are set to it) and
/// without (a worker that polls such a device hands frames to the owner over a ring).
namespace sallyport::steering {

/// Symmetric Toeplitz key (repeating 0x6d5a), so that both directions of a connection have one hash.
[[nodiscard]] std::span<const std::uint8_t, 40> rss_key() noexcept;

/// Toeplitz over addresses and ports, as the NIC's RSS does it for TCP over IPv4 or IPv6 (arguments as in a received packet).
[[nodiscard]] std::uint32_t rss_hash(const SocketAddress& source, const SocketAddress& destination) noexcept;

/// The worker of a connection, among `workers`: the indirection table holds 128 entries, entry i is worker i mod workers.
[[nodiscard]] unsigned worker_of(const SocketAddress& one_end, const SocketAddress& other_end, unsigned workers) noexcept;

/// The worker of a received frame (data at the Ethernet header, perhaps 802.1Q): by its TCP ports, also those quoted in an ICMP
/// error. kEveryWorker for ARP, neighbour discovery and router advertisements; worker 0 for anything else that is not TCP.
constexpr unsigned kEveryWorker = ~0u;
[[nodiscard]] unsigned worker_of_frame(const rte_mbuf* frame, unsigned workers) noexcept;

}  // namespace sallyport::steering
