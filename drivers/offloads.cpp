#include "drivers/offloads.h"

#include <algorithm>
#include <bit>

#include "crypto/format.h"
#include "dataplane/steering/steering.h"

namespace sallyport::drivers {
namespace {

// The largest MTU that rte_eth_dev_configure() accepts from the device.
std::uint32_t largest_mtu(const rte_eth_dev_info& device) {
    const bool says_both = device.max_mtu != UINT16_MAX && device.max_rx_pktlen > device.max_mtu;
    const std::uint32_t overhead =
        says_both ? device.max_rx_pktlen - device.max_mtu : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
    const std::uint32_t by_frame = device.max_rx_pktlen > overhead ? device.max_rx_pktlen - overhead : 0;
    return std::min<std::uint32_t>(device.max_mtu, by_frame);
}

std::expected<std::uint16_t, std::string> descriptors(const rte_eth_desc_lim& limit, std::uint16_t wanted,
                                                      const char* what) {
    const std::uint16_t highest = limit.nb_max == 0 ? UINT16_MAX : limit.nb_max;
    const std::uint16_t step = std::max<std::uint16_t>(limit.nb_align, 1);
    if (wanted != 0 && (wanted < limit.nb_min || wanted > highest || wanted % step != 0))
        return std::unexpected(
            sallyport::format("{} {} descriptors are not possible: the device takes {} to {} in steps of {}", wanted, what,
                              limit.nb_min, highest, step));
    const std::uint16_t count = wanted != 0 ? wanted : std::clamp(kDefaultDescriptors, limit.nb_min, highest);
    return static_cast<std::uint16_t>(count / step * step);
}

}  // namespace

bool table_fits(std::uint16_t table_size, unsigned workers) noexcept {
    // The card takes the hash modulo its table's size, worker_of() modulo 128 first. With a multiple of 128 the two
    // agree for any number of workers; with less, only where `workers` divides both.
    if (table_size == 0) return false;
    if (table_size % steering::kTableEntries == 0) return true;
    return std::has_single_bit(table_size) && std::has_single_bit(workers) && workers <= table_size;
}

std::expected<Negotiated, std::string> negotiate(const rte_eth_dev_info& device, const Wanted& wanted) {
    Negotiated result;

    const std::uint16_t most_queues = std::min(device.max_rx_queues, device.max_tx_queues);
    if (most_queues == 0) return std::unexpected(std::string("the device has no queue pair"));
    const unsigned asked = wanted.queues == 0 ? wanted.workers : wanted.queues;
    result.queues = static_cast<std::uint16_t>(std::clamp<unsigned>(asked, 1, most_queues));

    const std::uint32_t highest_mtu = largest_mtu(device);
    if (wanted.mtu_is_firm && (wanted.mtu < device.min_mtu || wanted.mtu > highest_mtu))
        return std::unexpected(sallyport::format("an MTU of {} is not possible: the device takes {} to {}", wanted.mtu,
                                                 device.min_mtu, highest_mtu));
    rte_eth_conf& configuration = result.configuration;
    configuration.rxmode.mtu = std::min<std::uint32_t>(wanted.mtu, highest_mtu);

    const auto receive = descriptors(device.rx_desc_lim, wanted.descriptors, "receive");
    if (!receive) return std::unexpected(receive.error());
    const auto transmit = descriptors(device.tx_desc_lim, wanted.descriptors, "transmit");
    if (!transmit) return std::unexpected(transmit.error());
    result.receive_descriptors = *receive;
    result.transmit_descriptors = *transmit;

    const auto receives = [&](std::uint64_t all) { return (device.rx_offload_capa & all) == all; };
    const auto transmits = [&](std::uint64_t all) { return (device.tx_offload_capa & all) == all; };

    // TCP's are what costs. The IPv4 header's costs next to nothing in software, and virtio has only TCP's; each received frame tells which of both were checked.
    result.receive_checksum = receives(RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
    result.receive_ipv4_checksum = result.receive_checksum && receives(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
    if (result.receive_checksum) configuration.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    if (result.receive_ipv4_checksum) configuration.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
    // A merged frame has no checksum of its own, and lies in as many buffers as it needs.
    result.merged_receipt = wanted.allow_merging && result.receive_checksum && receives(RTE_ETH_RX_OFFLOAD_TCP_LRO);
    if (result.merged_receipt) configuration.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_LRO | (device.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER);
    result.transmit_checksum = transmits(RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
    result.transmit_ipv4_checksum = result.transmit_checksum && transmits(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
    if (result.transmit_checksum) configuration.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    if (result.transmit_ipv4_checksum) configuration.txmode.offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    result.multi_segment_transmit = transmits(RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
    if (result.multi_segment_transmit) configuration.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    // Each piece of a frame to be cut lies in a buffer of its own, and the cut ones need new checksums.
    constexpr std::uint64_t kCuts = RTE_ETH_TX_OFFLOAD_TCP_TSO;
    if (transmits(kCuts) && result.transmit_checksum && result.multi_segment_transmit && wanted.allow_segmentation) {
        configuration.txmode.offloads |= kCuts;
        result.segmentation_buffers =
            device.tx_desc_lim.nb_seg_max == 0 ? kMostSegmentationBuffers
                                               : std::min(device.tx_desc_lim.nb_seg_max, kMostSegmentationBuffers);
    }
    // Never RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE: it promises a reference count of one, and TCP keeps a reference until
    // the peer acknowledges.

    constexpr std::uint64_t kHashed = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;
    constexpr std::size_t kLongestKey = 128;
    const bool rss_wanted = wanted.workers > 1 && wanted.allow_rss;
    result.rss = rss_wanted && result.queues == wanted.workers &&
                 (device.flow_type_rss_offloads & kHashed) == kHashed && table_fits(device.reta_size, wanted.workers) &&
                 device.hash_key_size <= kLongestKey;
    if (result.rss) {
        configuration.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        configuration.rx_adv_conf.rss_conf.rss_hf = kHashed;
        result.rss_table_size = device.reta_size;
        const auto key = steering::rss_key();
        result.rss_key.resize(device.hash_key_size == 0 ? key.size() : device.hash_key_size);
        for (std::size_t i = 0; i < result.rss_key.size(); ++i)
            result.rss_key[i] = key[i % key.size()];  // its period divides 40
        if (receives(RTE_ETH_RX_OFFLOAD_RSS_HASH)) configuration.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_RSS_HASH;
    }

    result.offloads = {
        {"receive TCP checksum", true, result.receive_checksum},
        {"receive IPv4 checksum", true, result.receive_ipv4_checksum},
        {"transmit TCP checksum", true, result.transmit_checksum},
        {"transmit IPv4 checksum", true, result.transmit_ipv4_checksum},
        {"several buffers a frame on transmit", true, result.multi_segment_transmit},
        {"RSS by TCP ports", rss_wanted, result.rss},
        {kTso, wanted.allow_segmentation, result.segmentation_buffers != 0},
        {kMergedSegments, wanted.allow_merging, result.merged_receipt},
    };
    return result;
}

}  // namespace sallyport::drivers
