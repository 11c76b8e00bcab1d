#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "control/channel/address.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/octets.h"
#include "dataplane/wire/tcp_header.h"

/// Frames as what lies between two hosts sees and changes them.
namespace sallyport::simulation {

/// A TCP segment in a frame of one piece. Borrows the octets.
class FrameView {
 public:
    /// Nothing when the frame carries something else.
    static std::optional<FrameView> of(std::span<std::byte> frame) {
        if (frame.size() < 54) return std::nullopt;
        FrameView view(frame);
        const std::uint16_t type = wire::load16(frame.data() + 12);
        if (type == 0x0800 && wire::load8(frame.data() + 23) == 6)
            view.tcp_ = 14 + (wire::load8(frame.data() + 14) & 15u) * 4;
        else if (type == 0x86dd && frame.size() >= 74 && wire::load8(frame.data() + 20) == 6)
            view.tcp_ = 54;
        else
            return std::nullopt;
        view.v4_ = type == 0x0800;
        if (view.header() < 20 || view.tcp_ + view.header() > frame.size()) return std::nullopt;
        return view;
    }

    [[nodiscard]] std::uint16_t source_port() const { return wire::load16(at(0)); }
    [[nodiscard]] std::uint16_t destination_port() const { return wire::load16(at(2)); }
    [[nodiscard]] std::uint32_t seq() const { return wire::load32(at(4)); }
    [[nodiscard]] std::uint32_t ack() const { return wire::load32(at(8)); }
    [[nodiscard]] std::uint8_t flags() const { return wire::load8(at(13)); }
    [[nodiscard]] bool has(std::uint8_t flag) const { return (flags() & flag) != 0; }
    [[nodiscard]] std::uint16_t window() const { return wire::load16(at(14)); }
    [[nodiscard]] std::size_t header() const { return (wire::load8(at(12)) >> 4) * 4u; }
    [[nodiscard]] std::uint32_t payload() const { return static_cast<std::uint32_t>(octets_.size() - tcp_ - header()); }
    [[nodiscard]] std::uint32_t sequence_length() const { return payload() + (has(wire::kSyn) ? 1 : 0) + (has(wire::kFin) ? 1 : 0); }
    [[nodiscard]] std::span<const std::byte> octets() const { return octets_; }
    [[nodiscard]] std::size_t headers() const { return tcp_ + header(); }   ///< from the beginning of the frame

    void set_seq(std::uint32_t value) { wire::store32(at(4), value); }
    void set_ack(std::uint32_t value) { wire::store32(at(8), value); }
    void set_flags(std::uint8_t value) { wire::store8(at(13), value); }
    void set_window(std::uint16_t value) { wire::store16(at(14), value); }

    /// The option of that kind, its two first octets included; empty when there is none.
    [[nodiscard]] std::span<std::byte> option(std::uint8_t kind) const {
        for (std::size_t i = 20; i < header();) {
            const std::uint8_t here = wire::load8(at(i));
            if (here == 0) break;
            const std::size_t length = here == 1 ? 1 : i + 1 < header() ? wire::load8(at(i + 1)) : 0;
            if (length == 0 || i + length > header()) break;
            if (here == kind) return {at(i), length};
            i += length;
        }
        return {};
    }
    /// Puts no-operations in its place.
    void remove_option(std::uint8_t kind) {
        for (std::byte& octet : option(kind)) octet = std::byte{1};
    }
    /// ECN field (RFC 3168 5).
    [[nodiscard]] std::uint8_t ecn() const { return (v4_ ? wire::load8(octets_.data() + 15) : wire::load8(octets_.data() + 15) >> 4) & 3; }
    void set_ecn(std::uint8_t value) {
        std::byte* const field = octets_.data() + 15;
        const unsigned shift = v4_ ? 0 : 4;
        wire::store8(field, static_cast<std::uint8_t>((wire::load8(field) & ~(3u << shift)) | unsigned{value} << shift));
    }
    /// The checksums, after any of these changes.
    void mend() {
        IpAddress source, destination;
        std::byte* const ip = octets_.data() + 14;
        if (v4_) {
            wire::store16(ip + 10, 0);
            wire::store_checksum(ip + 10, wire::finish(wire::sum_octets({ip, 20})));
            source = v4(ip + 12);
            destination = v4(ip + 16);
        } else {
            std::memcpy(source.octets.data(), ip + 8, 16);
            std::memcpy(destination.octets.data(), ip + 24, 16);
        }
        const auto segment = octets_.subspan(tcp_);
        wire::store16(at(16), 0);
        wire::store_checksum(at(16), wire::finish(wire::sum_pseudo_header(source, destination, 6, static_cast<std::uint32_t>(segment.size())) +
                                                  wire::sum_octets(segment)));
    }

 private:
    explicit FrameView(std::span<std::byte> octets) : octets_(octets) {}
    [[nodiscard]] std::byte* at(std::size_t offset) const { return octets_.data() + tcp_ + offset; }
    static IpAddress v4(const std::byte* at) {
        return IpAddress::from_v4({wire::load8(at), wire::load8(at + 1), wire::load8(at + 2), wire::load8(at + 3)});
    }

    std::span<std::byte> octets_;
    std::size_t tcp_ = 0;
    bool v4_ = false;
};

/// What a router answers to the sender of a packet that is longer than the next link takes: RFC 1191 4, RFC 4443 3.2.
inline std::vector<std::byte> packet_too_big(std::span<const std::byte> frame, std::uint16_t mtu) {
    const bool v4 = wire::load16(frame.data() + 12) == 0x0800;
    const std::size_t ip = v4 ? 20 : 40;
    const std::size_t quoted = std::min<std::size_t>(frame.size() - 14, v4 ? 20 + 8 : 1280 - 48);
    std::vector<std::byte> error(14 + ip + 8 + quoted);
    std::byte* at = error.data();
    std::memcpy(at, frame.data() + 6, 6);
    std::memcpy(at + 6, frame.data(), 6);
    std::memcpy(at + 12, frame.data() + 12, 2);
    std::byte* const header = at + 14;
    std::byte* const icmp = header + ip;
    std::memcpy(icmp + 8, frame.data() + 14, quoted);
    wire::store8(icmp, v4 ? 3 : 2);
    wire::store8(icmp + 1, v4 ? 4 : 0);
    wire::store32(icmp + 4, mtu);
    const auto message = std::span(error).subspan(14 + ip);
    wire::Sum pseudo{};
    if (v4) {
        wire::store8(header, 0x45);
        wire::store16(header + 2, static_cast<std::uint16_t>(error.size() - 14));
        wire::store8(header + 8, 64);
        wire::store8(header + 9, 1);
        wire::store32(header + 12, 0xc00002fe);   // the router, 192.0.2.254
        std::memcpy(header + 16, frame.data() + 14 + 12, 4);
        wire::store_checksum(header + 10, wire::finish(wire::sum_octets({header, 20})));
    } else {
        IpAddress router, to;
        std::memcpy(router.octets.data(), frame.data() + 14 + 24, 16);
        router.octets[15] = 0xfe;
        std::memcpy(to.octets.data(), frame.data() + 14 + 8, 16);
        wire::store8(header, 0x60);
        wire::store16(header + 4, static_cast<std::uint16_t>(message.size()));
        wire::store8(header + 6, 58);
        wire::store8(header + 7, 64);
        std::memcpy(header + 8, router.octets.data(), 16);
        std::memcpy(header + 24, to.octets.data(), 16);
        pseudo = wire::sum_pseudo_header(router, to, 58, static_cast<std::uint32_t>(message.size()));
    }
    wire::store_checksum(icmp + 2, wire::finish(pseudo + wire::sum_octets(message)));
    return error;
}

}  // namespace sallyport::simulation
