#include "drivers/packet_sockets.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_memcpy.h>
#include <rte_tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "crypto/format.h"
#include "drivers/virtio_header.h"

namespace sallyport::drivers {
namespace {

/// The longest frame that the kernel hands over: an IP packet of 2^16 - 1 octets and its link layer. Longer ones (BIG TCP) must be asked for on an interface.
constexpr std::uint32_t kLongestFrame = 65535 + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
/// Of the kernel's memory for each descriptor, where frames lie that no slot of the ring takes. With 4,096 of them, 128 to 240 frames of 64 KB (merged segments lie in pages that they do not
/// fill), which is what some sixty flows have under way.
constexpr std::uint32_t kKernelOctets = 4096;
/// Of a slot of the ring: what the kernel tells of a frame, and one of 1500 octets with its tag. Longer ones come by system calls.
constexpr std::uint32_t kSlotOctets = 2048;
/// Of the kernel's pages that lie together.
constexpr std::uint32_t kBlockOctets = 64 * 1024;
constexpr int kSendBuffer = 4 << 20;
/// iovecs of one frame to send: the header's and one for each buffer. IOV_MAX of the kernel.
constexpr std::uint16_t kMostPieces = 1024;
/// iovecs of a whole burst.
constexpr std::size_t kBurstPieces = 2048;

std::unexpected<std::string> error(const char* what) {
    return std::unexpected(sallyport::format("{}: {}", what, std::strerror(errno)));
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
/// As the kernel tells of it (packet(7): tpacket_auxdata, tpacket2_hdr), where it took one off.
std::optional<Tag> tag_of(std::uint32_t status, std::uint16_t control, std::uint16_t type) noexcept {
    if ((status & TP_STATUS_VLAN_VALID) == 0) return std::nullopt;
    return Tag{(status & TP_STATUS_VLAN_TPID_VALID) != 0 ? type : std::uint16_t{ETH_P_8021Q}, control};
}

std::optional<Tag> tag_of(msghdr& message) noexcept {
    for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_level != SOL_PACKET || at->cmsg_type != PACKET_AUXDATA) continue;
        tpacket_auxdata told;
        std::memcpy(&told, CMSG_DATA(at), sizeof told);
        return tag_of(told.tp_status, told.tp_vlan_tci, told.tp_vlan_tpid);
    }
    return std::nullopt;
}

/// Memory shared with the kernel, which puts frames into its slots, one after the other, and passes each to us by its status (PACKET_RX_RING, TPACKET_V2).
class Ring {
 public:
    ~Ring() {
        if (memory_ != nullptr) munmap(memory_, octets());
    }

    /// Of a socket that is not bound yet.
    [[nodiscard]] bool open(int descriptor, std::uint32_t slots) noexcept {
        tpacket_req wanted{};
        wanted.tp_block_size = kBlockOctets;
        wanted.tp_block_nr = std::max(1u, slots / (kBlockOctets / kSlotOctets));
        wanted.tp_frame_size = kSlotOctets;
        wanted.tp_frame_nr = wanted.tp_block_nr * (kBlockOctets / kSlotOctets);
        if (!set(descriptor, SOL_PACKET, PACKET_RX_RING, wanted)) return false;
        slots_ = wanted.tp_frame_nr;
        void* const memory = mmap(nullptr, octets(), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (memory == MAP_FAILED) return false;
        memory_ = static_cast<std::byte*>(memory);
        return true;
    }

    /// The status of the slot `ahead` of the next one; with TP_STATUS_USER it is ours, and stays so until it is passed back.
    [[nodiscard]] std::uint32_t status(std::uint32_t ahead = 0) const noexcept {
        return std::atomic_ref(header(ahead)->tp_status).load(std::memory_order_acquire);
    }
    [[nodiscard]] const tpacket2_hdr& next() const noexcept { return *header(0); }
    [[nodiscard]] std::uint32_t length(std::uint32_t ahead) const noexcept { return header(ahead)->tp_len; }   ///< of the frame, more than a slot holds or not
    [[nodiscard]] std::uint32_t slots() const noexcept { return slots_; }

    void prefetch(std::uint32_t ahead) const noexcept {
        const std::byte* const slot = reinterpret_cast<const std::byte*>(header(ahead));
        __builtin_prefetch(slot);
        __builtin_prefetch(slot + 64);   // the first line of a frame
    }
    void pass_back() noexcept {
        std::atomic_ref(header(0)->tp_status).store(TP_STATUS_KERNEL, std::memory_order_release);
        next_ = next_ + 1 == slots_ ? 0 : next_ + 1;
    }

 private:
    [[nodiscard]] std::size_t octets() const noexcept { return std::size_t{slots_} * kSlotOctets; }
    [[nodiscard]] tpacket2_hdr* header(std::uint32_t ahead) const noexcept {
        return reinterpret_cast<tpacket2_hdr*>(memory_ + std::size_t{(next_ + ahead) % slots_} * kSlotOctets);
    }

    std::byte* memory_ = nullptr;
    std::uint32_t slots_ = 0, next_ = 0;
};

/// Puts the tag back in its place. Null, and the frame is gone: it is shorter than an Ethernet header.
rte_mbuf* with_tag(rte_mbuf* frame, Tag tag) noexcept {
    frame->vlan_tci = tag.control;
    if (rte_vlan_insert(&frame) != 0) {
        rte_pktmbuf_free(frame);
        return nullptr;
    }
    rte_pktmbuf_mtod(frame, rte_ether_hdr*)->ether_type = htons(tag.type);
    return frame;
}

}  // namespace

struct PacketSockets::Queue {
    /// One frame to come by a system call.
    struct Slot {
        VirtioHeader header;
        rte_mbuf* frame = nullptr;                                ///< of the frame's length, to be filled
        std::array<iovec, 2 + kLongestFrame / 1024> pieces;       ///< of the header, and of each buffer
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(tpacket_auxdata))> told;
    };

    int descriptor = -1;
    Ring ring;
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
    }

    rte_mbuf* make(std::uint32_t octets) noexcept;
    std::uint16_t receive(std::span<rte_mbuf*> frames) noexcept;
    std::uint16_t receive_long(std::uint32_t most, std::span<rte_mbuf*> frames) noexcept;
    rte_mbuf* take(Slot& slot, mmsghdr& told) noexcept;
    rte_mbuf* copy(const tpacket2_hdr& slot) noexcept;
    rte_mbuf* passed(rte_mbuf* frame, const VirtioHeader& header, std::optional<Tag> tag) noexcept;
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
        // What a slot does not take waits as a whole besides, for recvmsg.
        if (!set(descriptor, SOL_PACKET, PACKET_VERSION, int{TPACKET_V2}) || !set(descriptor, SOL_PACKET, PACKET_COPY_THRESH, one)) return error("PACKET_VERSION");
        if (!queue->ring.open(descriptor, descriptors)) return error("PACKET_RX_RING");
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
        if (queue->room < 1024) return std::unexpected(sallyport::format("buffers of {} octets are too small: 1024 is the least", queue->room));
        for (std::size_t i = 0; i < kSlots; ++i) {
            Queue::Slot& slot = queue->slots[i];
            slot.pieces[0] = {&slot.header, sizeof slot.header};
            queue->incoming[i].msg_hdr = {.msg_name = nullptr, .msg_namelen = 0, .msg_iov = slot.pieces.data(), .msg_iovlen = 0, .msg_control = slot.told.data(), .msg_controllen = 0, .msg_flags = 0};
        }
        made->queues_.push_back(std::move(queue));
    }
    return made;
}

/// A frame of so many octets. Null where there are not buffers enough.
rte_mbuf* PacketSockets::Queue::make(std::uint32_t octets) noexcept {
    rte_mbuf* frame = nullptr;
    rte_mbuf** link = &frame;
    std::uint16_t count = 0;
    for (std::uint32_t left = octets; left > 0;) {
        rte_mbuf* const buffer = rte_pktmbuf_alloc(pool);
        if (buffer == nullptr) {
            add(no_buffer, 1);
            if (frame != nullptr) rte_pktmbuf_free(frame);
            return nullptr;
        }
        buffer->data_len = static_cast<std::uint16_t>(std::min<std::uint32_t>(left, room));
        left -= buffer->data_len;
        *link = buffer;
        link = &buffer->next;
        ++count;
        frame->nb_segs = count;
    }
    frame->pkt_len = octets;
    return frame;
}

/// The frame that has come into a slot; null when it is not what its slot of the ring said.
rte_mbuf* PacketSockets::Queue::take(Slot& slot, mmsghdr& told) noexcept {
    rte_mbuf* const frame = std::exchange(slot.frame, nullptr);
    if ((told.msg_hdr.msg_flags & MSG_TRUNC) != 0 || told.msg_len != sizeof slot.header + frame->pkt_len) [[unlikely]] {
        add(errors_in, 1);
        rte_pktmbuf_free(frame);
        return nullptr;
    }
    add(octets_in, frame->pkt_len);
    return passed(frame, slot.header, tag_of(told.msg_hdr));
}

/// What the kernel said of a frame is set on it. Null, and the frame is gone: it is none.
rte_mbuf* PacketSockets::Queue::passed(rte_mbuf* frame, const VirtioHeader& header, std::optional<Tag> tag) noexcept {
    if ((header.flags & (VirtioHeader::kNeedsChecksum | VirtioHeader::kChecksumValid)) != 0) frame->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    if (header.segmentation != VirtioHeader::kWhole) add(merged_in, 1);
    if (!tag) [[likely]] return frame;
    frame = with_tag(frame, *tag);
    if (frame == nullptr) add(errors_in, 1);
    return frame;
}

/// The frame in a slot of the ring, which holds all of it. Null where there is no buffer.
rte_mbuf* PacketSockets::Queue::copy(const tpacket2_hdr& slot) noexcept {
    const std::byte* from = reinterpret_cast<const std::byte*>(&slot) + slot.tp_mac;
    rte_mbuf* const frame = make(slot.tp_snaplen);
    for (const rte_mbuf* at = frame; at != nullptr; at = at->next) {
        rte_memcpy(rte_pktmbuf_mtod(at, void*), from, at->data_len);
        from += at->data_len;
    }
    return frame;
}

/// At most `most` frames that came past the ring, whose slots are passed back.
std::uint16_t PacketSockets::Queue::receive_long(std::uint32_t most, std::span<rte_mbuf*> frames) noexcept {
    unsigned ready = 0;
    for (; ready < most; ++ready) {
        Slot& slot = slots[ready];
        slot.frame = make(std::min(ring.length(ready), kLongestFrame));
        if (slot.frame == nullptr) break;
        std::size_t used = 1;
        for (rte_mbuf* at = slot.frame; at != nullptr; at = at->next) slot.pieces[used++] = {rte_pktmbuf_mtod(at, void*), at->data_len};
        msghdr& message = incoming[ready].msg_hdr;
        message.msg_iovlen = used;
        message.msg_controllen = sizeof slot.told;
    }
    const int got = ready == 0 ? 0 : recvmmsg(descriptor, incoming.data(), ready, MSG_DONTWAIT, nullptr);
    if (got < 0 && errno == EAGAIN) [[unlikely]] {   // the kernel has queued it before it passed on the slot: it is lost, and what comes must not wait for it
        add(errors_in, 1);
        ring.pass_back();
    }
    std::uint16_t count = 0;
    for (unsigned i = 0; i < ready; ++i) {
        if (static_cast<int>(i) >= got) {
            rte_pktmbuf_free(std::exchange(slots[i].frame, nullptr));
            continue;
        }
        ring.pass_back();
        rte_mbuf* const frame = take(slots[i], incoming[i]);
        if (frame != nullptr) frames[count++] = frame;
    }
    return count;
}

/// Frames lie in the ring in the order in which they came; one that does not fit there has its beginning in its slot, and waits in the socket besides.
std::uint16_t PacketSockets::Queue::receive(std::span<rte_mbuf*> frames) noexcept {
    std::uint16_t count = 0;
    for (std::size_t turns = 0; turns < frames.size() && count < frames.size(); ++turns) {
        const std::uint32_t status = ring.status();
        if ((status & TP_STATUS_USER) == 0) break;
        if ((status & TP_STATUS_COPY) != 0) {
            const auto most = std::min<std::uint32_t>(kSlots, static_cast<std::uint32_t>(frames.size() - count));
            std::uint32_t together = 1;
            while (together < std::min(most, ring.slots()) && (ring.status(together) & (TP_STATUS_USER | TP_STATUS_COPY)) == (TP_STATUS_USER | TP_STATUS_COPY)) ++together;
            const std::uint16_t came = receive_long(together, frames.subspan(count));
            if (came == 0) break;
            count = static_cast<std::uint16_t>(count + came);
            continue;
        }
        ring.prefetch(1);
        const tpacket2_hdr& slot = ring.next();
        if (slot.tp_snaplen < slot.tp_len || slot.tp_len == 0) [[unlikely]] {   // the socket had no room for all of it
            missed.fetch_add(1, std::memory_order_relaxed);
            ring.pass_back();
            continue;
        }
        rte_mbuf* frame = copy(slot);
        if (frame == nullptr) [[unlikely]] break;
        add(octets_in, slot.tp_snaplen);
        VirtioHeader header;
        std::memcpy(&header, reinterpret_cast<const std::byte*>(&slot) + slot.tp_mac - sizeof header, sizeof header);
        frame = passed(frame, header, tag_of(status, slot.tp_vlan_tci, slot.tp_vlan_tpid));
        ring.pass_back();
        if (frame != nullptr) frames[count++] = frame;
    }
    if (count > 0) add(packets_in, count);
    return count;
}

std::uint16_t PacketSockets::receive(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept {
    return queues_[queue]->receive(frames);
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
