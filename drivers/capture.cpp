#include "drivers/capture.h"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::drivers {

namespace {

using Error = std::unexpected<std::string>;

constexpr std::size_t kBatch = 512;        // frames of each worker in one turn
constexpr std::size_t kEthernetAddresses = 12;
constexpr std::uint64_t kStatisticsBlock = 128;   // of each interface, at the end: what the limit leaves room for

}  // namespace

std::expected<rte_mempool*, std::string> make_capture_pool(const std::string& name, std::uint32_t count, std::uint16_t largest_mtu) {
    const std::uint16_t room = pcapng_data_room(largest_mtu);
    rte_mempool* const pool = rte_pktmbuf_pool_create_by_ops(name.c_str(), count, std::min<std::uint32_t>(64, count / 8), 0,
                                                             static_cast<std::uint16_t>(room + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY, "lf_stack");
    if (pool != nullptr) return pool;
    return Error(sallyport::format("the buffers of captures, {} of {} octets, were not made: {}", count, room, rte_strerror(rte_errno)));
}

CaptureLane::CaptureLane(std::vector<CapturedPort> ports, std::vector<std::optional<CaptureFilter>> filters, std::uint32_t snap, rte_mempool* pool)
    : ports_(std::move(ports)), filters_(std::move(filters)), snap_(snap), pool_(pool), counts_(std::make_unique<Seen[]>(ports_.size())) {
    // In memory of our own: the EAL's may be gone once privileges are.
    const ssize_t size = rte_ring_get_memsize(kRing);
    SALLYPORT_CHECK(size > 0);
    std::size_t room = static_cast<std::size_t>(size) + RTE_CACHE_LINE_SIZE;
    ring_memory_ = std::make_unique<std::byte[]>(room);
    void* at = ring_memory_.get();
    SALLYPORT_CHECK(std::align(RTE_CACHE_LINE_SIZE, static_cast<std::size_t>(size), at, room) != nullptr);
    ring_ = static_cast<rte_ring*>(at);
    SALLYPORT_CHECK(rte_ring_init(ring_, "capture", kRing, RING_F_SP_ENQ | RING_F_SC_DEQ) == 0);
}

CaptureLane::~CaptureLane() {
    std::array<rte_mbuf*, 64> left;
    while (const std::size_t count = drain(left)) rte_pktmbuf_free_bulk(left.data(), static_cast<unsigned>(count));
}

bool CaptureLane::matches(const CaptureFilter& filter, const rte_mbuf* frame, PcapngFile::Direction direction) noexcept {
    const auto* const data = rte_pktmbuf_mtod(frame, const std::byte*);
    const bool tag_taken_off = direction == PcapngFile::Direction::in ? (frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0
                                                                      : (frame->ol_flags & RTE_MBUF_F_TX_VLAN) != 0;
    if (frame->nb_segs == 1 && !tag_taken_off) [[likely]]
        return filter.matches({data, frame->data_len}, frame->pkt_len);
    // In one piece, with the tag where it was on the wire.
    std::size_t length = 0;
    const auto append = [&](const std::byte* from, std::size_t count) {
        count = std::min(count, scratch_.size() - length);
        std::memcpy(scratch_.data() + length, from, count);
        length += count;
    };
    std::uint32_t whole = frame->pkt_len;
    std::size_t skip = 0;
    if (tag_taken_off && frame->data_len >= kEthernetAddresses) {
        const std::array<std::byte, 4> tag{std::byte{0x81}, std::byte{0}, static_cast<std::byte>(frame->vlan_tci >> 8),
                                           static_cast<std::byte>(frame->vlan_tci)};
        append(data, kEthernetAddresses);
        append(tag.data(), tag.size());
        skip = kEthernetAddresses;
        whole += static_cast<std::uint32_t>(tag.size());
    }
    for (const rte_mbuf* piece = frame; piece != nullptr; piece = piece->next) {
        append(rte_pktmbuf_mtod(piece, const std::byte*) + skip, piece->data_len - skip);
        skip = 0;
    }
    return filter.matches({scratch_.data(), length}, whole);
}

void CaptureLane::take(std::uint16_t interface, std::uint16_t queue, PcapngFile::Direction direction, std::span<rte_mbuf* const> frames) noexcept {
    if (interface >= filters_.size() || !filters_[interface]) return;
    const CaptureFilter& filter = *filters_[interface];
    std::uint64_t seen = 0, dropped = 0;
    for (const rte_mbuf* const frame : frames) {
        if (!matches(filter, frame, direction)) continue;
        ++seen;
        rte_mbuf* const copy = rte_ring_full(ring_) != 0 ? nullptr : PcapngFile::copy(frame, ports_[interface].id, queue, direction, snap_, pool_);
        if (copy == nullptr) {
            ++dropped;
        } else if (rte_ring_sp_enqueue(ring_, copy) != 0) {
            rte_pktmbuf_free(copy);
            ++dropped;
        }
    }
    Seen& counts = counts_[interface];
    if (seen != 0) counts.seen.store(counts.seen.load(std::memory_order_relaxed) + seen, std::memory_order_relaxed);
    if (dropped != 0) counts.dropped.store(counts.dropped.load(std::memory_order_relaxed) + dropped, std::memory_order_relaxed);
}

std::size_t CaptureLane::drain(std::span<rte_mbuf*> copies) noexcept {
    return rte_ring_sc_dequeue_burst(ring_, reinterpret_cast<void**>(copies.data()), static_cast<unsigned>(copies.size()), nullptr);
}

CaptureLane::Counts CaptureLane::counts(std::uint16_t interface) const noexcept {
    const Seen& counts = counts_[interface];
    return {counts.seen.load(std::memory_order_relaxed), counts.dropped.load(std::memory_order_relaxed)};
}

std::expected<std::unique_ptr<Capture>, std::string> Capture::open(const Settings& settings, const channel::Descriptor& descriptor,
                                                                   const std::vector<CapturedPort>& ports, unsigned workers, rte_mempool* pool,
                                                                   std::chrono::steady_clock::time_point now) {
    std::vector<std::optional<CaptureFilter>> filters(ports.size());
    for (std::size_t i = 0; i < ports.size(); ++i) {
        if (!settings.interfaces.empty() && !settings.interfaces[i]) continue;
        auto filter = CaptureFilter::compile(settings.filter, ports[i].vlan);
        if (!filter) return Error("the filter is not good: " + filter.error());
        filters[i] = std::move(*filter);
    }
    auto file = PcapngFile::open(descriptor, settings.comment);
    if (!file) return Error(file.error());
    std::unique_ptr<Capture> capture(new Capture(settings, std::move(*file), ports));
    for (std::size_t i = 0; i < ports.size(); ++i) {
        if (!filters[i]) continue;
        if (auto added = capture->file_.add_interface(ports[i].id, ports[i].name, settings.filter); !added) return Error(added.error());
    }
    if (settings.secrets_room != 0) {
        const auto room = capture->file_.reserve_secrets(settings.secrets_room);
        if (!room) return Error(room.error());
        capture->secrets_ = *room;
    }
    for (unsigned w = 0; w < workers; ++w) capture->lanes_.push_back(std::make_unique<CaptureLane>(ports, filters, settings.snap, pool));
    capture->until_ = now + settings.duration;
    return capture;
}

Capture::~Capture() = default;

std::size_t Capture::drain() {
    const std::size_t workers = lanes_.size();
    batch_.resize(kBatch * workers);
    std::size_t taken = 0;
    for (const auto& lane : lanes_) taken += lane->drain(std::span(batch_).subspan(taken, kBatch));
    const auto frames = std::span(batch_).first(taken);
    if (workers > 1) std::ranges::stable_sort(frames, {}, &PcapngFile::time_of);
    // As many as the limits allow.
    std::size_t fit = 0;
    std::uint64_t octets = file_.octets() + kStatisticsBlock * ports_.size();
    while (end_ == End::running && fit < frames.size()) {
        octets += PcapngFile::octets_of(frames[fit]);
        if (written_ + fit >= settings_.packets) {
            end_ = End::packets;
        } else if (octets > settings_.octets) {
            end_ = End::octets;
        } else {
            ++fit;
        }
    }
    rte_pktmbuf_free_bulk(frames.data() + fit, static_cast<unsigned>(frames.size() - fit));
    if (auto done = file_.write(frames.first(fit)); !done) {
        end_ = End::write_failed;
        error_ = done.error();
        return taken;
    }
    written_ += fit;
    if (end_ == End::running && written_ >= settings_.packets) end_ = End::packets;
    return taken;
}

std::size_t Capture::turn(std::chrono::steady_clock::time_point now) {
    if (end_ != End::running) return 0;
    const std::size_t taken = drain();
    if (end_ == End::running && now >= until_) end_ = End::time;
    return taken;
}

void Capture::finish(End why) {
    // What came before the end is written; each lane has at most a ring of it.
    const End before = end_;
    if (before == End::running || before == End::time || before == End::stopped) {
        end_ = End::running;
        while (end_ == End::running && drain() > 0) {
        }
        if (end_ == End::running) end_ = before == End::running ? why : before;
    }
    for (std::uint16_t i = 0; end_ != End::write_failed && i < ports_.size(); ++i) {
        if (!settings_.interfaces.empty() && !settings_.interfaces[i]) continue;
        CaptureLane::Counts sum;
        for (const auto& lane : lanes_) {
            sum.seen += lane->counts(i).seen;
            sum.dropped += lane->counts(i).dropped;
        }
        static_cast<void>(file_.write_statistics(ports_[i].id, sum.seen, sum.dropped));
    }
}

Capture::Counts Capture::counts() const noexcept {
    Counts result;
    for (const auto& lane : lanes_)
        for (std::uint16_t i = 0; i < ports_.size(); ++i) {
            result.seen += lane->counts(i).seen;
            result.dropped += lane->counts(i).dropped;
        }
    result.written = written_;
    result.octets = file_.octets();
    return result;
}

const char* name(Capture::End end) noexcept {
    switch (end) {
        case Capture::End::running: return "running";
        case Capture::End::stopped: return "stopped";
        case Capture::End::packets: return "packets";
        case Capture::End::octets: return "octets";
        case Capture::End::time: return "time";
        case Capture::End::write_failed: return "write_failed";
        case Capture::End::control_lost: return "control_lost";
    }
    return "";
}

}  // namespace sallyport::drivers
