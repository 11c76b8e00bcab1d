#pragma once

#include <rte_config.h>
#include <rte_mbuf.h>

#include <cstring>
#include <vector>

#include "crypto/check.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/ipv4.h"
#include "dataplane/wire/octets.h"
#include "dataplane/wire/tcp_header.h"

namespace sallyport::simulation {

/// What a network card makes of a frame with wishes (DPDK's RTE_MBUF_F_TX_*): IPv4 and TCP checksums are filled in, and what is to be cut is cut, with
/// CWR in the first segment alone and FIN and PSH in the last alone, as cards have it. Empty: the frame has no wishes and goes as it is. The frame
/// stays the caller's; a piece for which `pool` has no buffer is lost.
inline std::vector<rte_mbuf*> what_leaves(const rte_mbuf& frame, rte_mempool* pool) {
    std::vector<rte_mbuf*> result;
    if ((frame.ol_flags & RTE_MBUF_F_TX_TCP_CKSUM) == 0) return result;
    const bool v4 = (frame.ol_flags & RTE_MBUF_F_TX_IPV4) != 0, cut = (frame.ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0;
    std::vector<std::byte> whole(frame.pkt_len);
    const void* const read = rte_pktmbuf_read(&frame, 0, frame.pkt_len, whole.data());
    if (read != whole.data()) std::memcpy(whole.data(), read, whole.size());
    const std::size_t ip = frame.l2_len, tcp = ip + frame.l3_len, header = (wire::load8(whole.data() + tcp + 12) >> 4) * 4u, payload = tcp + header;
    SALLYPORT_CHECK(!cut || (frame.l4_len == header && frame.tso_segsz > 0));
    const std::size_t all = whole.size() - payload, size = cut ? frame.tso_segsz : all;
    const std::size_t pieces = cut ? (all + size - 1) / size : 1;
    for (std::size_t i = 0; i < pieces; ++i) {
        const std::size_t done = i * size, here = std::min(size, all - done);
        rte_mbuf* const piece = rte_pktmbuf_alloc(pool);
        if (piece == nullptr) continue;
        auto* const at = reinterpret_cast<std::byte*>(rte_pktmbuf_append(piece, static_cast<std::uint16_t>(payload + here)));
        SALLYPORT_CHECK(at != nullptr);
        std::memcpy(at, whole.data(), payload);
        std::memcpy(at + payload, whole.data() + payload + done, here);
        std::uint8_t flags = wire::load8(at + tcp + 13);
        if (done > 0) flags &= static_cast<std::uint8_t>(~wire::kCwr);
        if (done + here < all) flags &= static_cast<std::uint8_t>(~(wire::kFin | wire::kPsh));
        wire::store8(at + tcp + 13, flags);
        wire::store32(at + tcp + 4, wire::load32(at + tcp + 4) + static_cast<std::uint32_t>(done));
        const auto length = static_cast<std::uint16_t>(header + here);
        wire::store16(at + ip + (v4 ? 2 : 4), static_cast<std::uint16_t>(v4 ? length + 20 : length));
        const std::size_t addresses = ip + (v4 ? 12 : 8), octets = v4 ? 8 : 32;
        wire::Sum pseudo = wire::sum_octets({at + addresses, octets});
        std::array<std::byte, 4> rest;   // protocol and length
        wire::store16(rest.data(), wire::kProtocolTcp);
        wire::store16(rest.data() + 2, length);
        pseudo += wire::sum_octets(rest);
        wire::store_checksum(at + tcp + wire::kTcpChecksumOffset, 0);
        wire::store_checksum(at + tcp + wire::kTcpChecksumOffset, wire::finish(pseudo + wire::sum_octets({at + tcp, length})));
        if (v4) {
            wire::store_checksum(at + ip + 10, 0);
            wire::store_checksum(at + ip + 10, wire::finish(wire::sum_octets({at + ip, 20})));
        }
        result.push_back(piece);
    }
    return result;
}

}  // namespace sallyport::simulation
