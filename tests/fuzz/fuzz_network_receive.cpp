// A sequence of frames into Network::receive(). Each frame: two octets (flags and the low bits of the length, below), then its octets.
#include <rte_config.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "crypto/check.h"
#include "dataplane/network/network.h"
#include "dataplane/wire/checksum.h"

using namespace sallyport;

namespace {

constexpr unsigned kBuffers = 255;

rte_mempool* pool() {
    static rte_mempool* const made = [] {
        static const char* arguments[] = {"fuzz", "--no-huge", "--no-pci", "--no-shconf",   "-m",          "64",
                                          "-l",   "0",         "--no-telemetry", "--log-level", "error"};
        if (rte_eal_init(static_cast<int>(std::size(arguments)), const_cast<char**>(arguments)) < 0) std::abort();
        return rte_pktmbuf_pool_create("fuzz", kBuffers, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
    }();
    return made;
}

/// Most changes break a checksum; this mends those of ICMP, so that what lies behind is reached. (TCP's are switched off by flags.)
void mend_icmp(std::span<std::byte> frame) {
    if (frame.size() < 14) return;
    const auto type = wire::load16(frame.data() + 12);
    const auto packet = frame.subspan(14);
    if (type == 0x0800 && packet.size() >= 28) {
        wire::store16(packet.data() + 10, 0);
        const std::size_t header = (wire::load8(packet.data()) & 0xfu) * 4;
        if (header < 20 || header + 8 > packet.size()) return;
        wire::store_checksum(packet.data() + 10, wire::finish(wire::sum_octets(packet.first(header))));
        const std::size_t total = wire::load16(packet.data() + 2);
        if (wire::load8(packet.data() + 9) != 1 || total < header + 8 || total > packet.size()) return;
        const auto message = packet.subspan(header, total - header);
        wire::store16(message.data() + 2, 0);
        wire::store_checksum(message.data() + 2, wire::finish(wire::sum_octets(message)));
    } else if (type == 0x86dd && packet.size() >= 48) {
        const std::size_t length = wire::load16(packet.data() + 4);
        if (wire::load8(packet.data() + 6) != 58 || length < 8 || length + 40 > packet.size()) return;
        const auto message = packet.subspan(40, length);
        IpAddress from, to;
        std::memcpy(from.octets.data(), packet.data() + 8, 16);
        std::memcpy(to.octets.data(), packet.data() + 24, 16);
        if (from.is_v4() != to.is_v4()) return;
        wire::store16(message.data() + 2, 0);
        wire::store_checksum(message.data() + 2, wire::finish(wire::sum_pseudo_header(from, to, 58, static_cast<std::uint32_t>(length)) +
                                                              wire::sum_octets(message)));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    rte_mempool* const buffers = pool();
    {
        DropCounters drops;
        network::Network::Settings settings;
        settings.interfaces = {{.name = "fuzz",
                                .mac = {2, 0, 0, 0, 0, 0xb},
                                .addresses = {*IpPrefix::parse("192.0.2.2/24"), *IpPrefix::parse("2001:db8::b/64")},
                                .receive_checksum_good = true}};
        settings.max_neighbours = 4;
        network::Network network(settings, buffers, drops);
        network.listen_for_echoes(true);
        Time now{};
        for (const char* neighbour : {"192.0.2.1", "2001:db8::a"}) static_cast<void>(network.route(*IpAddress::parse(neighbour), now));
        while (size >= 2) {
            const std::uint8_t flags = data[0];
            const std::size_t length = std::min<std::size_t>(data[1] | (flags & 0x70u) << 4, size - 2);  // up to 2047
            std::vector<std::byte> frame(length);
            std::copy_n(reinterpret_cast<const std::byte*>(data + 2), length, frame.begin());
            data += 2 + length;
            size -= 2 + length;
            if ((flags & 1) != 0) mend_icmp(frame);
            rte_mbuf* mbuf = nullptr;
            const std::size_t first = (flags & 8) != 0 ? std::min<std::size_t>(length, 70) : length;
            for (const auto part : {std::span(frame).first(first), std::span(frame).subspan(first)}) {
                if (mbuf != nullptr && part.empty()) break;
                rte_mbuf* next = rte_pktmbuf_alloc(buffers);
                SALLYPORT_CHECK(next != nullptr);
                std::ranges::copy(part, reinterpret_cast<std::byte*>(rte_pktmbuf_append(next, static_cast<std::uint16_t>(part.size()))));
                if (mbuf == nullptr)
                    mbuf = next;
                else
                    rte_pktmbuf_chain(mbuf, next);
            }
            if ((flags & 2) != 0) mbuf->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD;
            if ((flags & 4) != 0) now += 900ms;
            const auto received = network.receive(mbuf, 0, now);
            if (received.kind == network::Received::Kind::tcp) {
                SALLYPORT_CHECK(mbuf->pkt_len == received.segment.payload_length);
                SALLYPORT_CHECK(received.segment.options.size() <= 40);
                std::uint32_t octets = 0;
                for (const rte_mbuf* part = mbuf; part != nullptr; part = part->next) octets += part->data_len;
                SALLYPORT_CHECK(octets == mbuf->pkt_len);
                rte_pktmbuf_free(mbuf);
            }
            static_cast<void>(network.take_echoes());
            network.advance(now);
            for (rte_mbuf* sent : network.to_transmit(0)) rte_pktmbuf_free(sent);
            network.taken(0);
        }
    }
    SALLYPORT_CHECK(rte_mempool_avail_count(buffers) == kBuffers);
    return 0;
}
