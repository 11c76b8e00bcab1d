#pragma once

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "dataplane/network/network.h"
#include "dataplane/wire/tcp_options.h"
#include "tests/fuzz/input.h"
#include "tests/simulation/card.h"
#include "tests/simulation/frame.h"
#include "tests/simulation/invariants.h"
#include "tests/unit/eal.h"

namespace sallyport::fuzz {

inline void expect(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

inline std::uint16_t two_octets(Input& input) {
    const std::uint8_t high = input.octet();
    return static_cast<std::uint16_t>(high << 8 | input.octet());
}
inline std::uint32_t four_octets(Input& input) {
    const std::uint32_t high = two_octets(input);
    return high << 16 | two_octets(input);
}

/// A segment that the stack has sent, or one for it.
struct Spoken {
    std::uint16_t port = 0;   ///< the peer's
    std::uint8_t flags = 0;
    std::uint32_t seq = 0, ack = 0;
    std::uint16_t window = 0;
    std::vector<std::byte> options{}, payload{};
};

/// A stack at 192.0.2.1 or 2001:db8::1, port 443, that talks to one neighbour (2), whose frames are made here, with good checksums.
class TcpHost {
 public:
    /// `cuts`: its card cuts segments (TSO), and there are buffers for several.
    TcpHost(tcp::Settings settings, bool v4, bool cuts = false)
        : v4_(v4), cuts_(cuts), network_(network_settings(v4, cuts), pool().get(), drops_), stack(with_large_buffers(settings, cuts), pool().get(), network_, drops_) {
        static_cast<void>(network_.route(peer(), now, network::Network::Use::open));
        meet();
        stack.listen({us(), kPort});
    }
    ~TcpHost() {
        for (rte_mbuf* frame : kept_) rte_pktmbuf_free(frame);
        take_frames(nullptr);
    }
    static test::BufferPool& pool() {
        static auto* const made = new test::BufferPool(4095);
        return *made;
    }
    static test::BufferPool& large_buffers() {
        static auto* const made = new test::BufferPool(7, drivers::kLargeDataRoom);
        return *made;
    }
    /// When all is destroyed, nothing may be left.
    static void expect_nothing_left() { expect(pool().in_use() + large_buffers().in_use() == 0, "packet buffers leaked"); }

    static constexpr std::uint16_t kPort = 443;
    [[nodiscard]] IpAddress us() const { return address(1); }
    [[nodiscard]] IpAddress peer() const { return address(2); }

    /// A frame with the segment arrives; `pieces` > 1: in a chain of buffers.
    void arrives(const Spoken& segment, unsigned pieces = 1) {
        std::vector<std::byte> octets(ip_end() + 20 + (segment.options.size() + 3) / 4 * 4);
        wire::write_tcp_header({.source_port = segment.port, .destination_port = kPort, .seq = segment.seq, .ack = segment.ack,
                                .window = segment.window, .urgent = 0, .flags = segment.flags,
                                .length = static_cast<std::uint8_t>(octets.size() - ip_end())},
                               std::span(octets).subspan(ip_end()));
        std::ranges::copy(segment.options, octets.begin() + static_cast<std::ptrdiff_t>(ip_end()) + 20);
        octets.insert(octets.end(), segment.payload.begin(), segment.payload.end());
        ethernet(octets, v4_ ? 0x0800 : 0x86dd);
        std::byte* const ip = octets.data() + 14;
        if (v4_) {
            wire::store8(ip, 0x45);
            wire::store16(ip + 2, static_cast<std::uint16_t>(octets.size() - 14));
            wire::store8(ip + 8, 64);
            wire::store8(ip + 9, 6);
            wire::store32(ip + 12, 0xc0000202);
            wire::store32(ip + 16, 0xc0000201);
        } else {
            wire::store8(ip, 0x60);
            wire::store16(ip + 4, static_cast<std::uint16_t>(octets.size() - 54));
            wire::store8(ip + 6, 6);
            wire::store8(ip + 7, 64);
            std::memcpy(ip + 8, peer().octets.data(), 16);
            std::memcpy(ip + 24, us().octets.data(), 16);
        }
        simulation::FrameView::of(octets)->mend();
        const std::size_t first = pieces > 1 ? octets.size() - segment.payload.size() : octets.size();
        rte_mbuf* head = buffer_of(std::span(octets).first(first));
        for (unsigned piece = 1; head != nullptr && piece < pieces; ++piece) {
            const std::size_t each = segment.payload.size() / (pieces - 1), from = first + each * (piece - 1);
            rte_mbuf* more = buffer_of(std::span(octets).subspan(from, piece + 1 == pieces ? octets.size() - from : each));
            if (more != nullptr) rte_pktmbuf_chain(head, more);
        }
        if (head != nullptr) receive(head);
    }
    void icmp(const network::Received::IcmpError& error) { stack.icmp_error(error, now); }

    /// The stack sends; then all invariants must hold. `hear` is told of each segment. `keep`: the device does not let go of the frames yet.
    void output(const std::function<void(const Spoken&)>& hear, bool keep = false) {
        stack.output(now);
        const std::string wrong = simulation::Invariants::violated(tcp::CoreTestAccess::core(stack), simulation::Look::whole);
        expect(wrong.empty(), wrong.c_str());
        take_frames(hear, keep);
    }
    void passes(Duration duration) {
        const Time until = now + duration;
        while (stack.next_timer() <= until) {
            now = std::max(now, stack.next_timer());
            stack.advance(now);
            output(heard);
        }
        now = until;
        network_.advance(now);
        meet();
        if (kept_.size() > 64) let_go();
    }
    void let_go() {
        for (rte_mbuf* frame : kept_) rte_pktmbuf_free(frame);
        kept_.clear();
    }

    Time now{100s};
    std::function<void(const Spoken&)> heard;

 private:
    [[nodiscard]] IpAddress address(std::uint8_t last) const {
        if (v4_) return IpAddress::from_v4({192, 0, 2, last});
        IpAddress result;
        result.octets = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last};
        return result;
    }
    static tcp::Settings with_large_buffers(tcp::Settings settings, bool cuts) {
        if (cuts) settings.large_buffers = large_buffers().get();
        return settings;
    }
    static network::Network::Settings network_settings(bool v4, bool cuts) {
        network::Interface interface;
        interface.name = "fuzz";
        interface.mac = {2, 0, 0, 0, 0, 1};
        interface.addresses = {*IpPrefix::parse(v4 ? "192.0.2.1/24" : "2001:db8::1/64")};
        interface.checksum_offload = cuts;
        interface.segmentation_buffers = cuts ? 45 : 0;
        network::Network::Settings result;
        result.interfaces = {interface};
        result.max_neighbours = 4;
        return result;
    }
    [[nodiscard]] std::size_t ip_end() const { return v4_ ? 34 : 54; }
    static void ethernet(std::vector<std::byte>& octets, std::uint16_t type) {
        const std::uint8_t addresses[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
        std::memcpy(octets.data(), addresses, 12);
        wire::store16(octets.data() + 12, type);
    }
    static rte_mbuf* buffer_of(std::span<const std::byte> octets) {
        rte_mbuf* buffer = rte_pktmbuf_alloc(pool().get());
        if (buffer != nullptr) std::memcpy(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(octets.size())), octets.data(), octets.size());
        return buffer;
    }
    void receive(rte_mbuf* frame) {
        const network::Received received = network_.receive(frame, 0, now);
        if (received.kind == network::Received::Kind::tcp) stack.segment_arrives(received.segment, frame, now);
        if (received.kind == network::Received::Kind::icmp_error) stack.icmp_error(received.error, now);
    }
    /// The neighbour says where it is, asked or not.
    void meet() {
        take_frames(nullptr);
        std::vector<std::byte> octets(v4_ ? 42 : 86);
        ethernet(octets, v4_ ? 0x0806 : 0x86dd);
        std::byte* const at = octets.data() + 14;
        if (v4_) {
            wire::store32(at, 0x00010800);
            wire::store32(at + 4, 0x06040002);
            std::memcpy(at + 8, octets.data() + 6, 6);
            wire::store32(at + 14, 0xc0000202);
            std::memcpy(at + 18, octets.data(), 6);
            wire::store32(at + 24, 0xc0000201);
        } else {
            wire::store8(at, 0x60);
            wire::store16(at + 4, 32);
            wire::store8(at + 6, 58);
            wire::store8(at + 7, 255);
            std::memcpy(at + 8, peer().octets.data(), 16);
            std::memcpy(at + 24, us().octets.data(), 16);
            wire::store8(at + 40, 136);
            wire::store8(at + 44, 0x60);   // solicited, override
            std::memcpy(at + 48, peer().octets.data(), 16);
            wire::store16(at + 64, 0x0201);
            std::memcpy(at + 66, octets.data() + 6, 6);
            wire::store_checksum(at + 42, wire::finish(wire::sum_pseudo_header(peer(), us(), 58, 32) +
                                                       wire::sum_octets(std::span(octets).subspan(54))));
        }
        if (rte_mbuf* frame = buffer_of(octets)) receive(frame);
        take_frames(heard);
    }
    void tell(const rte_mbuf* frame, const std::function<void(const Spoken&)>& hear) const {
        const std::span octets(rte_pktmbuf_mtod(frame, std::byte*), frame->data_len);
        const auto view = simulation::FrameView::of(octets);
        if (!view || !hear) return;
        const std::size_t options = ip_end() + 20;
        hear({.port = view->destination_port(), .flags = view->flags(), .seq = view->seq(), .ack = view->ack(), .window = view->window(),
              .options = {octets.begin() + static_cast<std::ptrdiff_t>(options), octets.begin() + static_cast<std::ptrdiff_t>(view->headers())},
              .payload = {octets.begin() + static_cast<std::ptrdiff_t>(view->headers()), octets.end()}});
    }
    void take_frames(const std::function<void(const Spoken&)>& hear, bool keep = false) {
        for (rte_mbuf* frame : network_.to_transmit(0)) {
            const auto pieces = cuts_ ? simulation::what_leaves(*frame, pool().get()) : std::vector<rte_mbuf*>{};
            if (pieces.empty()) tell(frame, hear);
            for (rte_mbuf* const piece : pieces) {
                tell(piece, hear);
                rte_pktmbuf_free(piece);
            }
            if (keep)
                kept_.push_back(frame);
            else
                rte_pktmbuf_free(frame);
        }
        network_.taken(0);
    }

    bool v4_, cuts_;
    DropCounters drops_;
    network::Network network_;
    std::vector<rte_mbuf*> kept_;

 public:
    tcp::Stack stack;   ///< dies first
};

/// Time as the input wants it.
inline Duration some_time(Input& input) {
    const std::uint8_t octet = input.octet();
    switch (octet >> 6) {
        case 0: return Duration{1ms} * (octet & 63);
        case 1: return Duration{10ms} * (octet & 63);
        case 2: return Duration{200ms} * (octet & 63);
        default: return Duration{2s} * (octet & 63);
    }
}

inline std::vector<std::byte> options_of(const wire::TcpOptions& options) {
    std::vector<std::byte> octets(wire::kTcpOptionsLengthMax);
    octets.resize(wire::write_tcp_options(options, std::span<std::byte, wire::kTcpOptionsLengthMax>(octets)));
    return octets;
}

}  // namespace sallyport::fuzz
