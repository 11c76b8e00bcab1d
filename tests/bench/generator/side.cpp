#include "tests/bench/generator/side.h"

#include <rte_mbuf.h>
#include <rte_prefetch.h>

namespace sallyport::generator {

Side::Settings Side::with_link(Settings settings, const Link& link) {
    network::Interface& interface = settings.network.interfaces.front();
    interface.mac = link.mac();
    interface.checksum_offload = link.transmit_checksum();
    interface.ipv4_checksum_here = !link.transmit_ipv4_checksum();
    interface.segmentation_buffers = link.segmentation_buffers();
    interface.cut_by_kernel = link.cut_by_kernel();
    interface.receive_checksum_good = link.receive_checksum();
    return settings;
}

Side::Side(Settings settings, std::unique_ptr<Link> link)
    : link_(std::move(link)), network_(with_link(settings, *link_).network, settings.buffers, drops_), stack_(settings.tcp, settings.buffers, network_, drops_) {
    backlog_.reserve(kBacklog);
}

Side::~Side() {
    for (rte_mbuf* const frame : backlog_) rte_pktmbuf_free(frame);
}

bool Side::receive(Time now) {
    rte_mbuf* frames[kBurst];
    const std::uint16_t count = link_->receive(frames);
    packets_in_ += count;
    for (std::uint16_t i = 0; i < count; ++i) rte_prefetch0(rte_pktmbuf_mtod(frames[i], void*));
    for (std::uint16_t i = 0; i < count; ++i) {
        const network::Received received = network_.receive(frames[i], 0, now);
        if (received.kind == network::Received::Kind::tcp) stack_.segment_arrives(received.segment, frames[i], now);
        if (received.kind == network::Received::Kind::icmp_error) stack_.icmp_error(received.error, now);
    }
    return count > 0;
}

bool Side::send(Time now) {
    if (now >= stack_.next_timer()) stack_.advance(now);
    if (now >= next_tick_) {
        network_.advance(now);
        link_->reclaim();
        next_tick_ = now + 50ms;
    }
    stack_.output(now);
    const bool any = !network_.to_transmit(0).empty();
    if (any || !backlog_.empty()) transmit();
    return any;
}

/// Sends what waits and then what is new; what the link does not take waits, up to a bound.
void Side::transmit() {
    const std::span<rte_mbuf*> frames = network_.to_transmit(0);
    if (!backlog_.empty()) {
        const std::uint16_t sent = link_->transmit(backlog_);
        packets_out_ += sent;
        backlog_.erase(backlog_.begin(), backlog_.begin() + sent);
    }
    std::size_t sent = 0;
    while (backlog_.empty() && sent < frames.size()) {
        const std::uint16_t taken = link_->transmit(frames.subspan(sent));
        packets_out_ += taken;
        sent += taken;
        if (taken == 0) break;
    }
    for (; sent < frames.size(); ++sent) {
        if (backlog_.size() < kBacklog) {
            backlog_.push_back(frames[sent]);
        } else {
            drops_.count(DropReason::transmit_ring_full);
            rte_pktmbuf_free(frames[sent]);
        }
    }
    network_.taken(0);
}

}  // namespace sallyport::generator
