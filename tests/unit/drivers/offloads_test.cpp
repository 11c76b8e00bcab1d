#include "drivers/offloads.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "dataplane/steering/steering.h"

namespace sallyport::drivers {
namespace {

// A card with everything; each test takes something away.
rte_eth_dev_info card() {
    rte_eth_dev_info info{};
    info.min_mtu = 68;
    info.max_mtu = 9702;
    info.max_rx_pktlen = 9728;
    info.max_rx_queues = info.max_tx_queues = 64;
    info.reta_size = 512;
    info.hash_key_size = 52;
    info.flow_type_rss_offloads =
        RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP;
    info.rx_offload_capa = ~std::uint64_t{0};
    info.tx_offload_capa = ~std::uint64_t{0};
    info.rx_desc_lim = {.nb_max = 4096, .nb_min = 64, .nb_align = 32, .nb_seg_max = 0, .nb_mtu_seg_max = 0};
    info.tx_desc_lim = info.rx_desc_lim;
    info.tx_desc_lim.nb_seg_max = 40;
    return info;
}
Wanted workers(unsigned count) {
    Wanted wanted;
    wanted.workers = count;
    return wanted;
}
const Offload& offload(const Negotiated& agreed, std::string_view name) {
    return *std::ranges::find(agreed.offloads, name, [](const Offload& one) { return std::string_view(one.name); });
}

TEST(Negotiate, CardWithEverything_GetsWhatIsOfUseAndNoMore) {
    const auto agreed = negotiate(card(), workers(4));
    ASSERT_TRUE(agreed) << agreed.error();
    EXPECT_EQ(agreed->queues, 4);
    EXPECT_EQ(agreed->receive_descriptors, kDefaultDescriptors);
    EXPECT_TRUE(agreed->rss && agreed->receive_checksum && agreed->transmit_checksum && agreed->multi_segment_transmit);
    EXPECT_EQ(agreed->configuration.rxmode.mq_mode, RTE_ETH_MQ_RX_RSS);
    EXPECT_EQ(agreed->configuration.rx_adv_conf.rss_conf.rss_hf,
              RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP);
    EXPECT_EQ(agreed->configuration.rxmode.offloads,
              RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_RSS_HASH);
    // No MBUF_FAST_FREE: TCP holds references to what it has sent.
    EXPECT_EQ(agreed->configuration.txmode.offloads,
              RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_MULTI_SEGS |
                  RTE_ETH_TX_OFFLOAD_TCP_TSO);
    EXPECT_TRUE(offload(*agreed, "TSO").wanted);
    EXPECT_EQ(agreed->segmentation_buffers, 40) << "as many as a descriptor chain of this card has";
    EXPECT_TRUE(offload(*agreed, "TSO").got);
}

TEST(Negotiate, Segmentation_OnlyWithChecksumsAndSeveralBuffers) {
    const auto without = [](std::uint64_t what) {
        rte_eth_dev_info device = card();
        device.tx_offload_capa &= ~what;
        const auto agreed = negotiate(device, workers(1));
        EXPECT_TRUE(agreed);
        return agreed->segmentation_buffers;
    };
    EXPECT_EQ(without(0), 40);
    EXPECT_EQ(without(RTE_ETH_TX_OFFLOAD_TCP_TSO), 0);
    EXPECT_EQ(without(RTE_ETH_TX_OFFLOAD_TCP_CKSUM), 0);
    EXPECT_EQ(without(RTE_ETH_TX_OFFLOAD_MULTI_SEGS), 0);
    rte_eth_dev_info no_limit = card();
    no_limit.tx_desc_lim.nb_seg_max = 0;
    EXPECT_EQ(negotiate(no_limit, workers(1))->segmentation_buffers, kMostSegmentationBuffers);
}

TEST(Negotiate, DeviceWithNothing_IsTakenWithSoftwareForAll) {
    rte_eth_dev_info bare = card();
    bare.rx_offload_capa = bare.tx_offload_capa = bare.flow_type_rss_offloads = 0;
    bare.reta_size = 0;
    const auto agreed = negotiate(bare, workers(2));
    ASSERT_TRUE(agreed);
    EXPECT_FALSE(agreed->rss || agreed->receive_checksum || agreed->transmit_checksum ||
                 agreed->multi_segment_transmit);
    EXPECT_EQ(agreed->configuration.rxmode.offloads, 0u);
    EXPECT_EQ(agreed->configuration.txmode.offloads, 0u);
    EXPECT_EQ(agreed->configuration.rxmode.mq_mode, RTE_ETH_MQ_RX_NONE);
    for (const Offload& one : agreed->offloads) EXPECT_FALSE(one.got) << one.name;
}

TEST(Negotiate, HalfOfTheChecksums_IsTcpsOrNone) {
    rte_eth_dev_info half = card();
    half.rx_offload_capa = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
    half.tx_offload_capa = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    const auto agreed = negotiate(half, workers(1));
    ASSERT_TRUE(agreed);
    EXPECT_FALSE(agreed->receive_checksum || agreed->receive_ipv4_checksum || agreed->transmit_ipv4_checksum);
    EXPECT_TRUE(agreed->transmit_checksum) << "virtio has no more";
    EXPECT_EQ(agreed->configuration.rxmode.offloads, 0u);
    EXPECT_EQ(agreed->configuration.txmode.offloads, RTE_ETH_TX_OFFLOAD_TCP_CKSUM);

    half.tx_offload_capa = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    const auto without_tcp = negotiate(half, workers(1));
    EXPECT_FALSE(without_tcp->transmit_checksum || without_tcp->transmit_ipv4_checksum);
    EXPECT_EQ(without_tcp->configuration.txmode.offloads, 0u);

    half.rx_offload_capa = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    const auto virtio = negotiate(half, workers(1));
    EXPECT_TRUE(virtio->receive_checksum);
    EXPECT_FALSE(virtio->receive_ipv4_checksum);
    EXPECT_EQ(virtio->configuration.rxmode.offloads, RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
}

TEST(Negotiate, MergedSegments_OnlyWhereWantedAndWithChecksums) {
    constexpr std::uint64_t kMerges = RTE_ETH_RX_OFFLOAD_TCP_LRO;
    Wanted wanted = workers(1);
    EXPECT_FALSE(negotiate(card(), wanted)->merged_receipt);
    EXPECT_FALSE(offload(*negotiate(card(), wanted), kMergedSegments).wanted);
    wanted.allow_merging = true;
    rte_eth_dev_info device = card();
    const auto merges = negotiate(device, wanted);
    EXPECT_TRUE(merges->merged_receipt);
    EXPECT_EQ(merges->configuration.rxmode.offloads & (kMerges | RTE_ETH_RX_OFFLOAD_SCATTER), kMerges | RTE_ETH_RX_OFFLOAD_SCATTER);
    device.rx_offload_capa = kMerges | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    EXPECT_EQ(negotiate(device, wanted)->configuration.rxmode.offloads, device.rx_offload_capa) << "virtio has no more";
    device.rx_offload_capa = kMerges | RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
    EXPECT_FALSE(negotiate(device, wanted)->merged_receipt);
    EXPECT_EQ(negotiate(device, wanted)->configuration.rxmode.offloads, 0u);
}

TEST(Negotiate, RssKey_IsAsLongAsTheCardWantsAndSymmetric) {
    const auto agreed = negotiate(card(), workers(2));
    ASSERT_EQ(agreed->rss_key.size(), 52u);
    for (std::size_t i = 0; i < 52; ++i) EXPECT_EQ(agreed->rss_key[i], i % 2 == 0 ? 0x6d : 0x5a);
    EXPECT_TRUE(std::equal(steering::rss_key().begin(), steering::rss_key().end(), agreed->rss_key.begin()));
}

TEST(Negotiate, RssThatWouldSpreadOtherwiseThanSteering_IsNotUsed) {
    EXPECT_FALSE(negotiate(card(), workers(1))->rss);  // nothing to spread
    Wanted fewer_queues = workers(4);
    fewer_queues.queues = 2;
    EXPECT_FALSE(negotiate(card(), fewer_queues)->rss);
    Wanted not_allowed = workers(4);
    not_allowed.allow_rss = false;
    EXPECT_FALSE(negotiate(card(), not_allowed)->rss);
    rte_eth_dev_info v4_only = card();
    v4_only.flow_type_rss_offloads = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
    EXPECT_FALSE(negotiate(v4_only, workers(4))->rss);
    rte_eth_dev_info small_table = card();
    small_table.reta_size = 64;
    EXPECT_TRUE(negotiate(small_table, workers(4))->rss);
    EXPECT_FALSE(negotiate(small_table, workers(3))->rss);
}

TEST(TableFits, AgreesWithSteeringForEveryHash) {
    for (const std::uint16_t size : {16, 32, 64, 100, 128, 256, 384, 512, 2048})
        for (unsigned count = 1; count <= 16; ++count) {
            bool agrees = true;  // what Port::open writes into the table, read as the card reads it
            for (std::uint32_t hash = 0; hash < 65536; ++hash)
                agrees &= hash % size % steering::kTableEntries % count == hash % steering::kTableEntries % count;
            if (table_fits(size, count))
                EXPECT_TRUE(agrees) << size << ' ' << count;
            else
                EXPECT_TRUE(!agrees || size == 100) << size << ' ' << count;
        }
    EXPECT_FALSE(table_fits(0, 1));
}

TEST(Negotiate, Queues_AreBoundByTheDevice) {
    rte_eth_dev_info narrow = card();
    narrow.max_rx_queues = 8;
    narrow.max_tx_queues = 3;
    EXPECT_EQ(negotiate(narrow, workers(16))->queues, 3);
    narrow.max_tx_queues = 0;
    EXPECT_THAT(negotiate(narrow, workers(1)).error(), testing::HasSubstr("no queue pair"));
}

TEST(Negotiate, Mtu_IsCheckedWhereTheDeviceCuts) {
    Wanted wanted = workers(1);
    wanted.mtu = 9000;
    EXPECT_EQ(negotiate(card(), wanted)->configuration.rxmode.mtu, 9000u);
    rte_eth_dev_info small = card();
    small.max_mtu = 1500;
    small.max_rx_pktlen = 1518;
    EXPECT_EQ(negotiate(small, wanted).error(), "an MTU of 9000 is not possible: the device takes 68 to 1500");
    wanted.mtu_is_firm = false;
    EXPECT_EQ(negotiate(small, wanted)->configuration.rxmode.mtu, 1500u);
}

TEST(Negotiate, Descriptors_KeepToTheDevicesLimits) {
    rte_eth_dev_info small = card();
    small.rx_desc_lim.nb_max = 512;
    EXPECT_EQ(negotiate(small, workers(1))->receive_descriptors, 512);
    EXPECT_EQ(negotiate(small, workers(1))->transmit_descriptors, kDefaultDescriptors);
    Wanted wanted = workers(1);
    wanted.descriptors = 1000;
    EXPECT_EQ(negotiate(card(), wanted).error(),
              "1000 receive descriptors are not possible: the device takes 64 to 4096 in steps of 32");
    wanted.descriptors = 2048;
    EXPECT_EQ(negotiate(card(), wanted)->receive_descriptors, 2048);
}

}  // namespace
}  // namespace sallyport::drivers
