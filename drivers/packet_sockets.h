#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

struct rte_mbuf;
struct rte_mempool;

namespace sallyport::drivers {

/// Packet sockets (packet(7)) on a kernel interface, one a queue, whose frames come and go with the kernel's virtio header
/// (virtio_header.h). So checksums are the kernel's business in both directions, a frame from it may be many segments that it has merged
/// (or never cut, where its own TCP is the peer), and one to it may be many that it cuts as late as it can. That is why DPDK's own driver, which has none
/// of it, is not used. Short frames come through a ring shared with the kernel, without a system call; one takes up to 32 long ones, of up to 64 KB, and one sends as
/// many of any length.
///
/// Made and destroyed by the main thread; receive() and transmit() by one worker a queue; counters() by any thread.
class PacketSockets {
 public:
    struct Counters {
        std::uint64_t packets_in = 0, octets_in = 0, packets_out = 0, octets_out = 0;
        std::uint64_t missed = 0;       ///< the ring, or for a long one the kernel's socket, had no room
        std::uint64_t errors_in = 0;    ///< not what the ring said of it, or not there
        std::uint64_t errors_out = 0;   ///< refused by the kernel or its device, and dropped
        std::uint64_t no_buffer = 0;    ///< turns that took fewer frames than there may have been, for want of packet buffers
        std::uint64_t merged_in = 0;    ///< frames of several segments
        std::uint64_t cut_out = 0;      ///< frames for the kernel to cut
    };

    /// Long frames of one system call.
    static constexpr std::uint16_t kSlots = 32;
    /// Packet buffers that one queue has in its hands while it receives, with a pool of `data_room` octets a buffer.
    [[nodiscard]] static std::uint16_t buffers_kept(std::uint16_t data_room) noexcept;

    /// A queue for each of `pools`, which feeds it; with several the kernel spreads connections over them (PACKET_FANOUT_HASH). A slot of 2 KB
    /// in the ring and 4 KB of the kernel's memory for each of `descriptors` (a power of two from 64 on) hold what waits for a queue. The error is the kernel's word, and for what.
    [[nodiscard]] static std::expected<std::unique_ptr<PacketSockets>, std::string> open(const std::string& interface, std::uint16_t descriptors,
                                                                                        std::span<rte_mempool* const> pools);
    ~PacketSockets();
    PacketSockets(const PacketSockets&) = delete;
    PacketSockets& operator=(const PacketSockets&) = delete;

    /// Up to frames.size() frames, each in as many buffers as it needs. A VLAN tag that the device took off is back in its place. RTE_MBUF_F_RX_L4_CKSUM_GOOD is
    /// set where the kernel has checked the sum, or its own TCP has yet to fill it in: the frame has then crossed no wire.
    [[nodiscard]] std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept;
    /// As Port::transmit(). Copies: the buffers are let go of before it returns. Takes checksums and frames to be cut (RTE_MBUF_F_TX_TCP_SEG),
    /// and writes the sum that the kernel wants into the TCP header.
    [[nodiscard]] std::uint16_t transmit(std::uint16_t queue, std::span<rte_mbuf* const> frames) noexcept;

    [[nodiscard]] Counters counters() noexcept;

 private:
    struct Queue;
    PacketSockets();
    std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace sallyport::drivers
