#include "dataplane/steering/crossbar.h"

#include <rte_mbuf.h>
#include <rte_ring.h>

#include <algorithm>
#include <string>

#include "crypto/check.h"

namespace sallyport::steering {

Crossbar::Crossbar(unsigned workers) : workers_(workers) {
    static unsigned crossbars = 0;   // names must be unique within the EAL
    const std::string prefix = "crossbar" + std::to_string(crossbars++);
    const auto make = [&](const char* kind, unsigned i) {
        rte_ring* const made =
            rte_ring_create((prefix + kind + std::to_string(i)).c_str(), kRingFrames, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
        SALLYPORT_CHECK(made != nullptr);
        return made;
    };
    if (workers < 2) return;
    for (unsigned i = 0; i < workers * workers; ++i) {
        received_.push_back(make("r", i));
        transmit_.push_back(make("t", i));
    }
}

Crossbar::~Crossbar() {
    for (const auto* const rings : {&received_, &transmit_})
        for (rte_ring* const each : *rings) {
            void* frame = nullptr;
            while (rte_ring_sc_dequeue(each, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
            rte_ring_free(each);
        }
}

bool Crossbar::pass_received(unsigned from, unsigned to, rte_mbuf* frame) noexcept {
    return rte_ring_sp_enqueue(ring(received_, from, to), frame) == 0;
}

bool Crossbar::pass_transmit(unsigned from, unsigned to, rte_mbuf* frame) noexcept {
    return rte_ring_sp_enqueue(ring(transmit_, from, to), frame) == 0;
}

unsigned Crossbar::take(const std::vector<rte_ring*>& rings, unsigned to, std::span<rte_mbuf*> frames) noexcept {
    if (rings.empty()) return 0;
    unsigned count = 0;
    const auto take_from = [&](unsigned from, unsigned most) {
        count += rte_ring_sc_dequeue_burst(ring(rings, from, to), reinterpret_cast<void**>(frames.data() + count), most, nullptr);
    };
    const auto room = [&] { return static_cast<unsigned>(frames.size()) - count; };
    // A share for each before anyone gets more: a worker that always has frames must not keep the others waiting.
    const unsigned share = std::max(1u, room() / (workers_ - 1));
    for (unsigned from = 0; from < workers_ && room() > 0; ++from)
        if (from != to) take_from(from, std::min(share, room()));
    for (unsigned from = 0; from < workers_ && room() > 0; ++from)
        if (from != to) take_from(from, room());
    return count;
}

unsigned Crossbar::take_received(unsigned to, std::span<rte_mbuf*> frames) noexcept { return take(received_, to, frames); }

unsigned Crossbar::take_transmit(unsigned to, std::span<rte_mbuf*> frames) noexcept { return take(transmit_, to, frames); }

}  // namespace sallyport::steering
