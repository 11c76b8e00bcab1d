#include "tests/bench/generator/link.h"

#include <rte_mbuf.h>

#include <algorithm>

namespace sallyport::generator {

Loopback::~Loopback() {
    for (End& end : ends_)
        for (rte_mbuf* const frame : end.waiting) rte_pktmbuf_free(frame);
}

std::uint16_t Loopback::receive(unsigned end, std::span<rte_mbuf*> frames) noexcept {
    std::vector<rte_mbuf*>& waiting = ends_[end].waiting;
    const std::size_t count = std::min(frames.size(), waiting.size());
    std::copy_n(waiting.begin(), count, frames.begin());
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
    return static_cast<std::uint16_t>(count);
}

std::uint16_t Loopback::transmit(unsigned from, std::span<rte_mbuf*> frames) noexcept {
    End& to = ends_[1 - from];
    std::uint16_t count = 0;
    for (; count < frames.size() && to.waiting.size() < kMostWaiting; ++count) {
        // TCP keeps what it has sent, and the other side decrypts in place: it needs octets of its own.
        rte_mbuf* const copy = rte_pktmbuf_copy(frames[count], to.pool, 0, UINT32_MAX);
        if (copy == nullptr) break;
        copy->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
        to.waiting.push_back(copy);
        rte_pktmbuf_free(frames[count]);
    }
    return count;
}

}  // namespace sallyport::generator
