#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "dataplane/tcp/core.h"
#include "tests/unit/dataplane/tcp/core_access.h"
#include "tests/unit/eal.h"

namespace sallyport::tcp {

namespace test {

using sallyport::test::BufferPool;

/// A segment that our side sent.
struct Sent {
    std::uint8_t flags;
    SeqNum seq, ack;
    std::uint16_t window;
    wire::TcpOptions options;
    std::vector<std::uint8_t> payload;
    std::uint8_t ecn = 0;   ///< field of the IP header
    std::uint16_t segment_size = 0;   ///< by which the device is to cut it; 0: it is one segment
    std::uint16_t buffers = 1;
};

/// What a segment has beside flags, numbers and payload.
struct Extra {
    std::uint16_t window = 60000;
    std::vector<wire::SackBlock> sacks{};
    std::optional<wire::TcpOptions> options{};   ///< instead of the ordinary ones
    std::size_t chained = 0;                     ///< octets of the payload in the first mbuf segment
    std::uint8_t traffic_class = 0;
};

/// Options of the peer's SYN.
struct Offer {
    std::optional<std::uint16_t> mss = 1460;
    std::optional<std::uint8_t> window_scale = 7;
    bool sack = true;
    bool ecn = false;
    std::optional<wire::UserTimeout> user_timeout{};
};

/// The other end of one connection, spoken by hand: each segment is given and each answer looked at. IPv4, our side is 192.0.2.1:443.
class Peer {
 public:
    /// `segmentation`: buffers of a frame that the device cuts, or the kernel for it. `large_buffers`: so many, for several segments each.
    explicit Peer(Settings settings = {}, std::uint16_t mtu = 1500, std::uint16_t segmentation = 0, bool cut_by_kernel = false, std::uint32_t large_buffers = 0)
        : pool(2047), large(large_buffers == 0 ? nullptr : std::make_unique<BufferPool>(large_buffers, drivers::kLargeDataRoom)),
          network_(network_settings(mtu, segmentation, cut_by_kernel), pool.get(), drops),
          core(with_secret(settings, large.get()), pool.get(), network_, drops) {
        core.listen(us);
    }

    BufferPool pool;
    std::unique_ptr<BufferPool> large;   ///< null: none
    DropCounters drops;

 private:
    network::Network network_;

 public:
    Core core;
    Time now{100s};
    const SocketAddress us{IpAddress::from_v4({192, 0, 2, 1}), 443};
    SocketAddress them{IpAddress::from_v4({192, 0, 2, 2}), 5000};
    SocketAddress our_end = us;
    std::uint32_t ts = 1000;           ///< our (the peer's) timestamp clock; 0: no timestamps
    std::uint32_t ts_echo = 0;
    Connection* connection = nullptr;
    SeqNum iss{5000};                  ///< the peer's
    SeqNum snd_nxt{5001}, rcv_nxt;     ///< the peer's
    std::vector<Sent> sent;            ///< by the latest exchange

    /// Gives a segment to the stack without letting it answer.
    void arrives(std::uint8_t flags, SeqNum seq, SeqNum ack, std::string_view payload = {}, const Extra& extra = {}) {
        wire::TcpOptions options;
        if (extra.options) {
            options = *extra.options;
        } else {
            if (ts != 0) options.timestamps = {ts, ts_echo};
            for (const auto& block : extra.sacks) options.sack_blocks[options.sack_count++] = block;
        }
        std::array<std::byte, 40> octets;
        const std::size_t length = wire::write_tcp_options(options, octets);
        wire::Segment segment;
        segment.ip = {.source = them.address, .destination = our_end.address, .protocol = 6, .hop_limit = 64, .traffic_class = extra.traffic_class};
        segment.tcp = {.source_port = them.port, .destination_port = our_end.port, .seq = seq.value(), .ack = ack.value(),
                       .window = extra.window, .urgent = 0, .flags = flags, .length = static_cast<std::uint8_t>(20 + length)};
        segment.options = std::span(octets).first(length);
        segment.payload_length = static_cast<std::uint32_t>(payload.size());
        rte_mbuf* buffer = rte_pktmbuf_alloc(pool.get());
        const std::size_t first = extra.chained != 0 ? extra.chained : payload.size();
        std::byte* const at = reinterpret_cast<std::byte*>(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(first)));
        if (first > 0) std::memcpy(at, payload.data(), first);
        if (first < payload.size()) {
            rte_mbuf* rest = rte_pktmbuf_alloc(pool.get());
            std::memcpy(rte_pktmbuf_append(rest, static_cast<std::uint16_t>(payload.size() - first)), payload.data() + first,
                        payload.size() - first);
            rte_pktmbuf_chain(buffer, rest);
        }
        core.segment_arrives(segment, buffer, now);
    }
    /// What the stack sends now.
    const std::vector<Sent>& output() {
        sent.clear();
        core.output(now);
        collect();
        return sent;
    }
    const std::vector<Sent>& exchange(std::uint8_t flags, SeqNum seq, SeqNum ack, std::string_view payload = {},
                                      const Extra& extra = {}) {
        arrives(flags, seq, ack, payload, extra);
        return output();
    }
    /// Time passes, timers fire, the stack sends.
    const std::vector<Sent>& after(Duration duration) {
        const Time until = now + duration;
        std::vector<Sent> all;
        while (core.next_timer() <= until) {
            now = std::max(now, core.next_timer());
            core.advance(now);
            output();
            all.insert(all.end(), sent.begin(), sent.end());
        }
        now = until;
        sent = std::move(all);
        return sent;
    }

    [[nodiscard]] wire::TcpOptions syn_options(const Offer& offer) const {
        wire::TcpOptions options;
        options.mss = offer.mss;
        options.window_scale = offer.window_scale;
        options.sack_permitted = offer.sack;
        if (ts != 0) options.timestamps = {ts, ts_echo};
        options.user_timeout = offer.user_timeout;
        return options;
    }
    /// The peer opens; afterwards `connection` is the stack's side.
    void establish(const Offer& offer) {
        const int ecn = offer.ecn ? wire::kEce | wire::kCwr : 0;
        exchange(static_cast<std::uint8_t>(wire::kSyn | ecn), iss, SeqNum{}, {}, {.options = syn_options(offer)});
        ASSERT_EQ(sent.size(), 1u);
        ASSERT_EQ(sent[0].flags & ~wire::kEce, wire::kSyn | wire::kAck);
        rcv_nxt = sent[0].seq + 1;
        if (sent[0].options.timestamps) ts_echo = sent[0].options.timestamps->value;
        exchange(wire::kAck, snd_nxt, rcv_nxt);
        ASSERT_TRUE(sent.empty());
        const auto ready = core.next_ready();
        ASSERT_NE(ready.connection, nullptr);
        ASSERT_EQ(ready.events, event::kEstablished);
        connection = ready.connection;
    }
    void establish() { establish(Offer{}); }

    /// Sends octets and moves on.
    const std::vector<Sent>& data(std::string_view payload, std::uint8_t flags = wire::kAck) {
        exchange(flags, snd_nxt, rcv_nxt, payload);
        snd_nxt += static_cast<std::uint32_t>(payload.size()) + ((flags & wire::kFin) != 0 ? 1 : 0);
        return sent;
    }
    [[nodiscard]] std::string read() {
        std::array<WritePiece, 64> pieces;
        std::string result;
        const std::size_t count = connection->peek(0, connection->readable(), pieces);
        for (std::size_t i = 0; i < count; ++i) result.append(reinterpret_cast<char*>(pieces[i].data), pieces[i].length);
        connection->consume(connection->readable());
        return result;
    }
    void write(std::size_t length) {
        const std::vector<std::byte> octets(length, std::byte{'x'});
        ASSERT_TRUE(connection->send(octets));
    }
    /// The events of the only connection; 0 when it is not ready.
    std::uint8_t events() {
        const auto ready = core.next_ready();
        return ready.connection != nullptr ? ready.events : std::uint8_t{0};
    }
    /// The frames that wait to be transmitted, now the caller's.
    [[nodiscard]] std::vector<rte_mbuf*> take_frames() {
        std::vector<rte_mbuf*> frames(network_.to_transmit(0).begin(), network_.to_transmit(0).end());
        network_.taken(0);
        return frames;
    }
    void collect() {
        for (int round = 0; round < 2; ++round) {
            for (rte_mbuf* frame : take_frames()) {
                const auto* at = rte_pktmbuf_mtod(frame, const std::uint8_t*);
                if (at[12] == 0x08 && at[13] == 0x06)
                    answer_arp(at);
                else if (at[12] == 0x08 && at[23] == 6)
                    note(frame);
                rte_pktmbuf_free(frame);
            }
        }
    }
    void icmp(network::Received::IcmpError::What what, SeqNum seq, std::uint16_t mtu) {
        core.icmp_error({.local = our_end.address, .remote = them.address, .local_port = our_end.port, .remote_port = them.port,
                         .seq = seq.value(), .what = what, .mtu = mtu},
                        now);
    }

 private:
    static Settings with_secret(Settings settings, const BufferPool* large) {
        settings.large_buffers = large == nullptr ? nullptr : large->get();
        for (std::size_t i = 0; i < settings.secret.size(); ++i) settings.secret[i] += static_cast<std::uint8_t>(i * 7 + 1);
        return settings;
    }
    static network::Network::Settings network_settings(std::uint16_t mtu, std::uint16_t segmentation, bool cut_by_kernel) {
        network::Interface interface;
        interface.name = "test";
        interface.mac = {2, 0, 0, 0, 0, 1};
        interface.mtu = mtu;
        interface.segmentation_buffers = segmentation;
        interface.checksum_offload = segmentation != 0;
        interface.cut_by_kernel = cut_by_kernel;
        interface.addresses = {{IpAddress::from_v4({192, 0, 2, 1}), 24}};
        network::Network::Settings result;
        result.interfaces = {interface};
        result.random_seed = 1;
        return result;
    }
    void note(rte_mbuf* frame) {
        std::vector<std::byte> whole(frame->pkt_len);
        const auto* const read = rte_pktmbuf_read(frame, 0, frame->pkt_len, whole.data());
        const std::span octets(static_cast<const std::byte*>(read), frame->pkt_len);
        const auto tcp = octets.subspan(34);
        const auto header = wire::parse_tcp_header(tcp);
        ASSERT_TRUE(header);
        const auto options = wire::parse_tcp_options(tcp.subspan(20, header->length - 20u));
        ASSERT_TRUE(options);
        const auto payload = tcp.subspan(header->length);
        Sent segment{header->flags, SeqNum(header->seq), SeqNum(header->ack), header->window, *options, {}, static_cast<std::uint8_t>(octets[15] & std::byte{3}),
                     (frame->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0 ? static_cast<std::uint16_t>(frame->tso_segsz) : std::uint16_t{0}, frame->nb_segs};
        for (const std::byte octet : payload) segment.payload.push_back(static_cast<std::uint8_t>(octet));
        sent.push_back(std::move(segment));
    }
    void answer_arp(const std::uint8_t* request) {
        if (request[21] != 1) return;
        std::array<std::uint8_t, 4> asked;
        std::memcpy(asked.data(), request + 38, 4);
        if (asked == std::array<std::uint8_t, 4>{192, 0, 2, 1}) return;  // an announcement
        rte_mbuf* reply = rte_pktmbuf_alloc(pool.get());
        auto* at = reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(reply, 60));
        std::memset(at, 0, 60);
        std::memcpy(at, request + 6, 6);
        const std::uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
        std::memcpy(at + 6, mac, 6);
        std::memcpy(at + 12, request + 12, 10);
        at[21] = 2;
        std::memcpy(at + 22, mac, 6);
        std::memcpy(at + 28, asked.data(), 4);
        std::memcpy(at + 32, request + 22, 10);
        static_cast<void>(network_.receive(reply, 0, now));
    }
};

}  // namespace test
}  // namespace sallyport::tcp
