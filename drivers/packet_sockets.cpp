#include "drivers/packet_sockets.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <optional>

#include "drivers/virtio_header.h"

namespace sallyport::drivers {
namespace {

/// The longest frame that the kernel hands over: an IP packet of 2^16 - 1 octets and its link layer. Longer ones (BIG TCP) must be asked for on an interface.
constexpr std::uint32_t kLongestFrame = 65535 + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
/// Of the kernel's memory for each descriptor. With 1,024 of them, 128 to 240 frames of 64 KB (merged segments lie in pages that they do not fill), which is what some sixty flows have under
/// way; or 20,000 of the shortest, which is as long as established flows should wait behind a flood of them: a few hundredths of a second.
constexpr std::uint32_t kKernelOctets = 16384;
constexpr int kSendBuffer = 4 << 20;
/// iovecs of one frame to send: the header's and one for each buffer. IOV_MAX of the kernel.
constexpr std::uint16_t kMostPieces = 1024;
/// iovecs of a whole burst.
constexpr std::size_t kBurstPieces = 2048;

std::unexpected<std::string> error(const char* what) {
    return std::unexpected(std::format("{}: {}", what, std::strerror(errno)));
}

template <typename Value>
bool set(int descriptor, int level, int option, const Value& value) {
    return setsockopt(descriptor, level, option, &value, sizeof value) == 0;
}

/// Of counters with one writer.
void add(std::atomic<std::uint64_t>& counter, std::uint64_t more) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

std::uint16_t buffers_of_frame(std::uint16_t data_room) noexcept {
    return static_cast<std::uint16_t>((kLongestFrame + data_room - 1) / data_room);
}

struct Tag {
    std::uint16_t type, control;   ///< 0x8100 or another; priority and VLAN
};
/// The tag that the kernel took off a frame, where it took one.
std::optional<Tag> tag_of(msghdr& message) noexcept {
    for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_level != SOL_PACKET || at->cmsg_type != PACKET_AUXDATA) continue;
        tpacket_auxdata told;
        std::memcpy(&told, CMSG_DATA(at), sizeof told);
        if ((told.tp_status & TP_STATUS_VLAN_VALID) == 0) return std::nullopt;
        return Tag{(told.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? told.tp_vlan_tpid : std::uint16_t{ETH_P_8021Q}, told.tp_vlan_tci};
    }
    return std::nullopt;
}

}  // namespace

struct PacketSockets::Queue {
    /// One frame to come.
    struct Slot {
        VirtioHeader header;
        std::vector<rte_mbuf*> buffers;   ///< the first `missing` are null
        std::vector<iovec> pieces;        ///< of the header, and of each buffer
        std::size_t missing = 0;
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(tpacket_auxdata))> told;
    };

    int descriptor = -1;
    rte_mempool* pool = nullptr;
    std::uint16_t room = 0;   ///< octets that a buffer takes
    std::array<Slot, kSlots> slots;
    std::array<mmsghdr, kSlots> incoming{};
    std::array<mmsghdr, kSlots> outgoing{};
    std::array<VirtioHeader, kSlots> headers{};
    std::array<iovec, kBurstPieces> pieces{};

    std::atomic<std::uint64_t> packets_in = 0, octets_in = 0, packets_out = 0, octets_out = 0, errors_in = 0, errors_out = 0, no_buffer = 0, merged_in = 0,
                               cut_out = 0, missed = 0;

    ~Queue() {
        if (descriptor >= 0) close(descriptor);
        for (Slot& slot : slots)
            for (rte_mbuf* const buffer : slot.buffers)
                if (buffer != nullptr) rte_pktmbuf_free(buffer);
    }

    std::size_t fill(Slot& slot) noexcept;
    rte_mbuf* take(Slot& slot, msghdr& message, std::uint32_t octets) noexcept;
    std::size_t describe(rte_mbuf* frame, VirtioHeader& header, std::span<iovec> to) noexcept;
    std::uint16_t send(std::span<rte_mbuf* const> frames) noexcept;
};

PacketSockets::PacketSockets() = default;
PacketSockets::~PacketSockets() = default;

std::uint16_t PacketSockets::buffers_kept(std::uint16_t data_room) noexcept {
    return static_cast<std::uint16_t>(kSlots * buffers_of_frame(data_room));
}

std::expected<std::unique_ptr<PacketSockets>, std::string> PacketSockets::open(const std::string& interface, std::uint16_t descriptors,
                                                                               std::span<rte_mempool* const> pools) {
    std::unique_ptr<PacketSockets> made(new PacketSockets);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    if (address.sll_ifindex == 0) return error("its index");
    int group = 0;
    for (rte_mempool* const pool : pools) {
        auto queue = std::make_unique<Queue>();
        // Without a protocol: nothing of other interfaces comes before it is bound.
        queue->descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        const int descriptor = queue->descriptor;
        if (descriptor < 0) return error("a packet socket (packet(7))");
        const int one = 1, room_in = static_cast<int>(std::min<std::uint64_t>(std::uint64_t{descriptors} * kKernelOctets, INT32_MAX / 2));
        if (!set(descriptor, SOL_PACKET, PACKET_VNET_HDR, one)) return error("PACKET_VNET_HDR");
        if (!set(descriptor, SOL_PACKET, PACKET_AUXDATA, one)) return error("PACKET_AUXDATA");
        if (!set(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, one)) return error("PACKET_IGNORE_OUTGOING");
        // Beyond the system's limits where we may (CAP_NET_ADMIN), up to them elsewhere.
        if (!set(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, room_in)) static_cast<void>(set(descriptor, SOL_SOCKET, SO_RCVBUF, room_in));
        if (!set(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, kSendBuffer)) static_cast<void>(set(descriptor, SOL_SOCKET, SO_SNDBUF, kSendBuffer));
        if (bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return error("binding a packet socket to it");
        if (pools.size() > 1) {
            const bool first = made->queues_.empty();
            const int fanout = group | (PACKET_FANOUT_HASH | (first ? PACKET_FANOUT_FLAG_UNIQUEID : 0)) << 16;
            if (!set(descriptor, SOL_PACKET, PACKET_FANOUT, fanout)) return error("PACKET_FANOUT");
            socklen_t length = sizeof group;
            if (first && getsockopt(descriptor, SOL_PACKET, PACKET_FANOUT, &group, &length) != 0) return error("PACKET_FANOUT");
            group &= 0xffff;
        }
        queue->pool = pool;
        queue->room = static_cast<std::uint16_t>(rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM);
        const std::size_t count = buffers_of_frame(queue->room);
        for (std::size_t i = 0; i < kSlots; ++i) {
            Queue::Slot& slot = queue->slots[i];
            slot.buffers.assign(count, nullptr);
            slot.missing = count;
            slot.pieces.resize(1 + count);
            slot.pieces[0] = {&slot.header, sizeof slot.header};
            queue->incoming[i].msg_hdr = {.msg_name = nullptr, .msg_namelen = 0, .msg_iov = slot.pieces.data(), .msg_iovlen = 0, .msg_control = slot.told.data(), .msg_controllen = 0, .msg_flags = 0};
        }
        made->queues_.push_back(std::move(queue));
    }
    return made;
}

/// Buffers that the next frame can have, from the first on.
std::size_t PacketSockets::Queue::fill(Slot& slot) noexcept {
    for (std::size_t i = 0; i < slot.missing; ++i) {
        if (slot.buffers[i] != nullptr) continue;
        rte_mbuf* const buffer = rte_pktmbuf_alloc(pool);
        if (buffer == nullptr) {
            add(no_buffer, 1);
            return i;
        }
        slot.buffers[i] = buffer;
        slot.pieces[1 + i] = {rte_pktmbuf_mtod(buffer, void*), room};
    }
    slot.missing = 0;
    return slot.buffers.size();
}

/// The frame of `octets` that has come into a slot; null when it is none that can be passed on.
rte_mbuf* PacketSockets::Queue::take(Slot& slot, msghdr& message, std::uint32_t octets) noexcept {
    if ((message.msg_flags & MSG_TRUNC) != 0 || octets <= sizeof slot.header) [[unlikely]] {
        add(errors_in, 1);
        return nullptr;
    }
    octets -= static_cast<std::uint32_t>(sizeof slot.header);
    add(octets_in, octets);
    rte_mbuf* const frame = slot.buffers[0];
    frame->pkt_len = octets;
    std::size_t used = 0;
    for (rte_mbuf* last = frame;; last = last->next) {
        slot.buffers[used++] = nullptr;
        last->data_len = static_cast<std::uint16_t>(std::min<std::uint32_t>(octets, room));
        octets -= last->data_len;
        if (octets == 0) break;
        last->next = slot.buffers[used];
    }
    frame->nb_segs = static_cast<std::uint16_t>(used);
    slot.missing = std::max(slot.missing, used);
    if ((slot.header.flags & (VirtioHeader::kNeedsChecksum | VirtioHeader::kChecksumValid)) != 0) frame->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    if (slot.header.segmentation != VirtioHeader::kWhole) add(merged_in, 1);
    if (const auto tag = tag_of(message)) [[unlikely]] {
        rte_mbuf* tagged = frame;
        frame->vlan_tci = tag->control;
        if (rte_vlan_insert(&tagged) != 0) {   // shorter than an Ethernet header
            add(errors_in, 1);
            rte_pktmbuf_free(frame);
            return nullptr;
        }
        rte_pktmbuf_mtod(frame, rte_ether_hdr*)->ether_type = htons(tag->type);
    }
    return frame;
}

std::uint16_t PacketSockets::receive(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept {
    Queue& own = *queues_[queue];
    unsigned ready = 0;
    for (; ready < std::min<std::size_t>(frames.size(), kSlots); ++ready) {
        const std::size_t buffers = own.fill(own.slots[ready]);
        if (buffers == 0) break;
        msghdr& message = own.incoming[ready].msg_hdr;
        message.msg_iovlen = 1 + buffers;
        message.msg_controllen = sizeof own.slots[ready].told;
    }
    if (ready == 0) return 0;
    const int got = recvmmsg(own.descriptor, own.incoming.data(), ready, MSG_DONTWAIT, nullptr);
    std::uint16_t count = 0;
    for (int i = 0; i < got; ++i) {
        const auto slot = static_cast<std::size_t>(i);
        rte_mbuf* const frame = own.take(own.slots[slot], own.incoming[slot].msg_hdr, own.incoming[slot].msg_len);
        if (frame != nullptr) frames[count++] = frame;
    }
    if (count > 0) add(own.packets_in, count);
    return count;
}

/// What the kernel is to do with a frame, and where its octets lie. Returns the number of pieces; 0: more than fit.
std::size_t PacketSockets::Queue::describe(rte_mbuf* frame, VirtioHeader& header, std::span<iovec> to) noexcept {
    if (frame->nb_segs + 1u > to.size()) return 0;
    header = {};
    if ((frame->ol_flags & (RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_TCP_SEG)) != 0) {
        // The kernel goes on from the sum of the pseudo header, whose length is the whole frame's also where it is to be cut. Worked out anew: a frame may come twice.
        auto* const ip = rte_pktmbuf_mtod_offset(frame, std::byte*, frame->l2_len);
        auto* const tcp = reinterpret_cast<rte_tcp_hdr*>(ip + frame->l3_len);
        const bool ipv4 = (frame->ol_flags & RTE_MBUF_F_TX_IPV4) != 0;
        tcp->cksum = ipv4 ? rte_ipv4_phdr_cksum(reinterpret_cast<const rte_ipv4_hdr*>(ip), 0) : rte_ipv6_phdr_cksum(reinterpret_cast<const rte_ipv6_hdr*>(ip), 0);
        header.flags = VirtioHeader::kNeedsChecksum;
        header.checksum_start = static_cast<std::uint16_t>(frame->l2_len + frame->l3_len);
        header.checksum_offset = offsetof(rte_tcp_hdr, cksum);
        if ((frame->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0) {
            header.segmentation = static_cast<std::uint8_t>((ipv4 ? VirtioHeader::kTcp4 : VirtioHeader::kTcp6) | ((tcp->tcp_flags & RTE_TCP_CWR_FLAG) != 0 ? VirtioHeader::kEcn : 0));
            header.segment_size = frame->tso_segsz;
            header.header_length = static_cast<std::uint16_t>(header.checksum_start + frame->l4_len);
            add(cut_out, 1);
        }
    }
    to[0] = {&header, sizeof header};
    std::size_t count = 1;
    for (rte_mbuf* piece = frame; piece != nullptr; piece = piece->next) to[count++] = {rte_pktmbuf_mtod(piece, void*), piece->data_len};
    return count;
}

/// As many of at most kSlots frames as there are pieces for.
std::uint16_t PacketSockets::Queue::send(std::span<rte_mbuf* const> frames) noexcept {
    unsigned ready = 0;
    std::size_t used = 0;
    for (; ready < frames.size(); ++ready) {
        const std::span<iovec> left = std::span(pieces).subspan(used);
        const std::size_t count = describe(frames[ready], headers[ready], left.first(std::min<std::size_t>(left.size(), kMostPieces)));
        if (count == 0) break;
        outgoing[ready].msg_hdr = {.msg_name = nullptr, .msg_namelen = 0, .msg_iov = left.data(), .msg_iovlen = count, .msg_control = nullptr, .msg_controllen = 0, .msg_flags = 0};
        used += count;
    }
    unsigned done = 0;
    const auto let_go = [&](bool sent) {
        rte_mbuf* const frame = frames[done++];
        if (sent) {
            add(packets_out, 1);
            add(octets_out, frame->pkt_len);
        } else {
            add(errors_out, 1);
        }
        rte_pktmbuf_free(frame);
    };
    if (ready == 0) let_go(false);   // in more pieces than the kernel takes
    while (done < ready) {
        const int sent = sendmmsg(descriptor, outgoing.data() + done, ready - done, MSG_DONTWAIT);
        if (sent > 0) {
            for (int i = 0; i < sent; ++i) let_go(true);
        } else if (errno == EAGAIN) {
            break;   // its buffer is full: later
        } else if (errno != EINTR) {
            let_go(false);   // the device's queue was full (ENOBUFS), it is down (ENETDOWN), or the frame is none
        }
    }
    return static_cast<std::uint16_t>(done);
}

std::uint16_t PacketSockets::transmit(std::uint16_t queue, std::span<rte_mbuf* const> frames) noexcept {
    std::uint16_t done = 0;
    while (done < frames.size()) {
        const auto left = frames.subspan(done);
        const std::uint16_t sent = queues_[queue]->send(left.first(std::min<std::size_t>(left.size(), kSlots)));
        if (sent == 0) break;
        done = static_cast<std::uint16_t>(done + sent);
    }
    return done;
}

PacketSockets::Counters PacketSockets::counters() noexcept {
    Counters sum;
    for (const auto& queue : queues_) {
        tpacket_stats told{};
        socklen_t length = sizeof told;
        // Reading it resets it.
        if (getsockopt(queue->descriptor, SOL_PACKET, PACKET_STATISTICS, &told, &length) == 0) queue->missed.fetch_add(told.tp_drops, std::memory_order_relaxed);
        const auto relaxed = std::memory_order_relaxed;
        sum.packets_in += queue->packets_in.load(relaxed);
        sum.octets_in += queue->octets_in.load(relaxed);
        sum.packets_out += queue->packets_out.load(relaxed);
        sum.octets_out += queue->octets_out.load(relaxed);
        sum.missed += queue->missed.load(relaxed);
        sum.errors_in += queue->errors_in.load(relaxed);
        sum.errors_out += queue->errors_out.load(relaxed);
        sum.no_buffer += queue->no_buffer.load(relaxed);
        sum.merged_in += queue->merged_in.load(relaxed);
        sum.cut_out += queue->cut_out.load(relaxed);
    }
    return sum;
}

}  // namespace sallyport::drivers
