#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

struct rte_mbuf;
struct rte_mempool;

namespace sallyport::drivers {

/// How a device is set up. See the README of this folder.
enum class Profile : std::uint8_t { pci, af_xdp, af_packet, memif, virtio_user, vhost_user, tap };

struct PortSettings {
    std::string name;                ///< of the configuration, for messages
    Profile profile = Profile::af_packet;
    std::string device;              ///< PCI address, kernel interface, path of the socket of memif, virtio_user and vhost_user, or TAP interface name
    std::uint16_t mtu = 1500;        ///< octets of an IP packet
    bool vlan = false;               ///< frames carry an 802.1Q tag (4 octets more)
    std::uint16_t queues = 0;        ///< wanted; 0: one a worker
    std::uint16_t descriptors = 0;   ///< a ring; 0: the profile's default
    std::string mac;                 ///< empty: the device's own
    bool memif_server = false;
};

/// One offload: what we would use, and whether the device has it (else software does it).
struct Offload {
    const char* name;    ///< such as "receive TCP checksum", "RSS", "TSO"
    bool wanted = false;
    bool got = false;
};

struct PortStatus {
    std::string name, driver, device, profile;
    std::array<std::uint8_t, 6> mac{};
    bool link_up = false;
    std::uint32_t link_mbps = 0;      ///< 0: the device does not say
    std::uint16_t mtu = 0, receive_queues = 0, transmit_queues = 0;
    int numa_node = -1;
    std::uint64_t packets_in = 0, packets_out = 0, octets_in = 0, octets_out = 0;
    std::uint64_t missed = 0, errors_in = 0, errors_out = 0, no_buffer = 0;
    std::vector<Offload> offloads;
    std::vector<std::pair<std::string, std::uint64_t>> xstats;
};

/// Buffers that a receive queue of this port takes from its pool and keeps; as many may wait in its transmit queue.
[[nodiscard]] std::uint16_t ring_buffers(const PortSettings& settings);

/// A started port: an ethdev, or packet sockets on a kernel interface. Construction and control calls: main thread. receive() and transmit(): one worker a queue.
class Port {
 public:
    /// Probes or creates the device, negotiates offloads, sets up queues and starts it. `pool_of_queue[q]` feeds receive queue q.
    /// The error names port, device and what is wrong, and what would be right (driver bound? interface exists? hugepages?).
    [[nodiscard]] static std::expected<std::unique_ptr<Port>, std::string> open(const PortSettings& settings, unsigned workers,
                                                                               std::span<rte_mempool* const> pool_of_queue);
    /// The same for a device by its DPDK device arguments, such as "net_null0"; settings.profile and settings.device are not looked at.
    /// For DPDK's test devices.
    [[nodiscard]] static std::expected<std::unique_ptr<Port>, std::string> open_device(const PortSettings& settings,
                                                                                      const std::string& device_arguments, unsigned workers,
                                                                                      std::span<rte_mempool* const> pool_of_queue);
    ~Port();   ///< stops and closes the device
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;

    [[nodiscard]] std::uint16_t receive_queues() const noexcept;
    [[nodiscard]] std::uint16_t transmit_queues() const noexcept;
    /// Whether the device spreads flows over its queues by RSS with our key; else steer in software.
    [[nodiscard]] bool has_rss() const noexcept;
    /// Device fills in TCP checksums on transmit, and IPv4's, too; tells of each received frame what it has checked (RTE_MBUF_F_RX_*_CKSUM_*).
    [[nodiscard]] bool transmit_checksum() const noexcept;
    [[nodiscard]] bool transmit_ipv4_checksum() const noexcept;
    [[nodiscard]] bool receive_checksum() const noexcept;
    [[nodiscard]] bool multi_segment_transmit() const noexcept;
    /// Packet buffers that a frame may have which the device cuts into TCP segments (TSO); 0: it cuts none.
    [[nodiscard]] std::uint16_t segmentation_buffers() const noexcept;
    /// Whether that is the kernel's work (af_packet).
    [[nodiscard]] bool cut_by_kernel() const noexcept;
    /// Why the kernel's own protocols see what comes, too (af_packet without IngressDrop); empty where they do not.
    [[nodiscard]] const std::string& seen_by_kernel() const noexcept;
    [[nodiscard]] std::array<std::uint8_t, 6> mac() const noexcept;
    [[nodiscard]] std::uint16_t id() const noexcept;

    /// Up to frames.size() frames; returns how many. Hot path.
    [[nodiscard]] std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept;
    /// Returns how many were taken, from the front; the rest stays the caller's. Hot path. A queue has one user at a time.
    /// A taken frame costs one reference to each of its buffers, dropped once the device has read them; the caller may hold others, but
    /// must not write to the buffers while the device's reference stands. Where the device cannot send a frame as it lies (several
    /// buffers, or data of another buffer), it is copied first: then `frames` holds the copy of what was not taken.
    [[nodiscard]] std::uint16_t transmit(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept;

    /// Gives back buffers of frames that have left. transmit() does so as it goes; a queue that has fallen silent needs this once in a
    /// while, else its last frames stay referenced. May make a system call (af_xdp).
    void reclaim(std::uint16_t queue) noexcept;

    /// True once after each change of the link since the last call (or open()); `up` tells the state. Main thread or one worker; makes a system
    /// call.
    [[nodiscard]] bool link_changed(bool& up) noexcept;
    [[nodiscard]] PortStatus status() const;

 private:
    struct State;
    [[nodiscard]] static std::expected<std::unique_ptr<Port>, std::string> open_sockets(const PortSettings& settings, std::uint16_t queues,
                                                                                       std::span<rte_mempool* const> pool_of_queue);
    explicit Port(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::drivers
