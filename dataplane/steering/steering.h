#pragma once

#include <cstdint>
#include <span>

#include "control/channel/address.h"

struct rte_mbuf;

/// Which worker owns a connection. The same function for devices with RSS (their key and indirection table are set to it) and
/// without (a worker that polls such a device hands frames to the owner over a ring).
namespace sallyport::steering {

/// Symmetric Toeplitz key (repeating 0x6d5a), so that both directions of a connection have one hash. The price of the
/// symmetry: the hash is a function of the xor of the 16-bit words, so a client that chooses its ports chooses its worker.
[[nodiscard]] std::span<const std::uint8_t, 40> rss_key() noexcept;

/// Entries of the RSS indirection table, as most cards have it. Entry i is worker i mod workers.
constexpr unsigned kTableEntries = 128;

/// Toeplitz over addresses and ports, as the NIC's RSS does it for TCP over IPv4 or IPv6 (arguments as in a received packet).
[[nodiscard]] std::uint32_t rss_hash(const SocketAddress& source, const SocketAddress& destination) noexcept;

/// The worker of a connection, among `workers`: the entry of the indirection table is the hash modulo kTableEntries. `workers` is at
/// least 1.
[[nodiscard]] unsigned worker_of(const SocketAddress& one_end, const SocketAddress& other_end, unsigned workers) noexcept;

/// The worker of a received frame (data at the Ethernet header, perhaps 802.1Q): by its TCP ports, also those quoted in an ICMP
/// error. kEveryWorker for ARP, neighbour discovery and router advertisements; worker 0 for anything else that is not TCP, for fragments
/// (they must meet in one place) and for what is malformed. Never reads beyond the mbuf, whatever the lengths in the frame say.
/// A card with RSS puts on queue 0 what it does not hash (ICMP errors, neighbour discovery, fragments): those frames come without
/// RTE_MBUF_F_RX_RSS_HASH, and the worker of queue 0 hands them on by this function.
constexpr unsigned kEveryWorker = ~0u;
[[nodiscard]] unsigned worker_of_frame(const rte_mbuf* frame, unsigned workers) noexcept;

}  // namespace sallyport::steering
