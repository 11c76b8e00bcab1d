#pragma once

#include <rte_ethdev.h>

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "drivers/port.h"

/// What is asked of an ethdev device, given what it says it can do. Pure: rte_eth_dev_info in, configuration out.
namespace sallyport::drivers {

struct Wanted {
    unsigned workers = 1;
    std::uint16_t queues = 0;       ///< 0: one a worker
    std::uint16_t descriptors = 0;  ///< 0: kDefaultDescriptors, within the device's limits
    std::uint16_t mtu = 1500;
    bool mtu_is_firm =
        true;  ///< false: the kernel or the peer cuts frames, what the device says about its MTU has no effect
    bool allow_segmentation = true;  ///< false: what the device says it can cut it does not cut well
    bool allow_merging = false;     ///< segments that the device has merged on receipt (LRO) are wanted
    bool allow_rss = true;  ///< false: the device's queues are filled by something else than its RSS
};

struct Negotiated {
    rte_eth_conf configuration{};
    std::uint16_t queues = 1;  ///< each way
    std::uint16_t receive_descriptors = 0, transmit_descriptors = 0;
    bool rss = false, receive_ipv4_checksum = false, transmit_checksum = false, transmit_ipv4_checksum = false, receive_checksum = false, multi_segment_transmit = false,
         merged_receipt = false;
    std::uint16_t segmentation_buffers = 0;  ///< that a frame may have which the device cuts (TSO); 0: it cuts none
    std::uint16_t rss_table_size = 0;
    std::vector<std::uint8_t> rss_key;  ///< as long as the device wants it; `configuration` does not point to it
    std::vector<Offload> offloads;
};

/// Names of Offload.
constexpr const char *kTso = "TSO", *kMergedSegments = "merged segments on receipt";
constexpr const char* kKeptFromKernel = "kept from the kernel's own protocols";   ///< af_packet: IngressDrop

constexpr std::uint16_t kDefaultDescriptors = 1024;
/// 64 KB, the most that an IP packet has, in buffers of one segment of Ethernet each.
constexpr std::uint16_t kMostSegmentationBuffers = 45;

/// The error says which figure is out of the device's range, and the range.
[[nodiscard]] std::expected<Negotiated, std::string> negotiate(const rte_eth_dev_info& device, const Wanted& wanted);

/// Whether a device whose indirection table has `table_size` entries can spread flows over `workers` as
/// steering::worker_of does.
[[nodiscard]] bool table_fits(std::uint16_t table_size, unsigned workers) noexcept;

}  // namespace sallyport::drivers
