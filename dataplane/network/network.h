#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "control/channel/address.h"
#include "dataplane/drop_reason.h"
#include "dataplane/time.h"
#include "dataplane/wire/ethernet.h"
#include "dataplane/wire/packet.h"

struct rte_mbuf;
struct rte_mempool;

namespace sallyport::network {

using MacAddress = wire::MacAddress;

/// One port as this layer sees it.
struct Interface {
    std::string name;
    MacAddress mac{};
    std::uint16_t vlan = 0;             ///< 0: untagged
    std::uint16_t mtu = 1500;
    std::vector<IpPrefix> addresses{};
    /// Prefixes of which every address is ours too: for who speaks from thousands of addresses, as a load generator does. Neither announced nor
    /// chosen by route() to speak from, and no routes. ARP is answered for them; IPv6 ones must be routed to one of `addresses`.
    std::vector<IpPrefix> hosted{};
    bool checksum_offload = false;      ///< the device fills in IPv4 and TCP checksums on transmit (else this layer does)
    bool ipv4_checksum_here = false;    ///< with checksum_offload: but for the IPv4 header's, which virtio leaves to us
    /// Packet buffers that a frame may have which the device cuts into segments (TSO); 0: it cuts none. Only with checksum_offload.
    std::uint16_t segmentation_buffers = 0;
    bool cut_by_kernel = false;         ///< these frames go through the kernel's stack, to which a frame is dear and its length is not
    bool receive_checksum_good = false; ///< the device has checked, trust RTE_MBUF_F_RX_*_CKSUM_GOOD and _NONE; else software checks
};
struct Route {
    IpPrefix to;
    IpAddress via;
};

/// How packets to a destination leave: looked up once a connection, then kept in it.
struct Path {
    std::uint16_t interface = 0;       ///< index into the interfaces
    std::uint16_t mtu = 1500;          ///< path MTU as known now
    std::uint32_t next_hop = 0;        ///< names the neighbour; send_tcp() renews it when that has gone, or when routes have changed
};
/// A path with our address to use when none is bound.
struct PathFrom : Path {
    IpAddress source;
};

/// What became of a received frame.
struct Received {
    enum class Kind : std::uint8_t {
        tcp,        ///< `segment` is filled in; the mbuf is the caller's
        icmp_error, ///< `error` is filled in, about a TCP segment of ours; the mbuf has been freed
        taken,      ///< answered or dropped here, and counted; the mbuf is no longer the caller's
    };
    struct IcmpError {
        IpAddress local, remote;                 ///< of the segment that it quotes: ours, the peer's
        std::uint16_t local_port = 0, remote_port = 0;
        std::uint32_t seq = 0;                   ///< of the quoted segment: the receiver must check it (RFC 5927 4)
        enum class What : std::uint8_t { packet_too_big,
                                         hard_unreachable,
                                         soft_unreachable } what{};
        std::uint16_t mtu = 0;                   ///< packet_too_big: next-hop MTU, 0 when the router did not say
    };
    Kind kind = Kind::taken;
    wire::Segment segment;
    IcmpError error;
};

/// What came of an echo request of ours (RFC 792, RFC 4443 4): the reply, or an error that quotes it.
struct EchoHeard {
    enum class What : std::uint8_t { reply,
                                     packet_too_big,
                                     unreachable,
                                     time_exceeded,
                                     parameter_problem };
    What what = What::reply;
    std::uint8_t code = 0;          ///< of the error
    IpAddress from;                 ///< who says it
    IpAddress to;                   ///< whom the request asked
    std::uint16_t identifier = 0, sequence = 0;
    Time at{};
};

/// Ethernet, ARP (RFC 826), IPv4, IPv6, neighbour discovery (RFC 4861), ICMP (RFC 792, 4443) of one worker: everything below TCP.
/// Each worker has one, with the same interfaces and routes. Neighbour tables are per worker: an ARP or ND packet is handed to all
/// workers by the caller. Owning worker only; no system calls; allocation only in construction and in prepare().
class Network {
 public:
    struct Settings {
        std::vector<Interface> interfaces{};
        std::vector<Route> routes{};
        std::uint32_t max_neighbours = 4096;
        std::uint64_t random_seed = 0;
        std::uint8_t hop_limit = 64;    ///< of TCP segments: 64 as RFC 1700 has it, and every other stack
        std::uint8_t dscp = 0;          ///< of TCP segments (RFC 2474 3)
        bool answer_neighbours = true;  ///< false on all workers but one, where every worker sees every ARP request
    };
    /// `buffers`: mempool for the packets that this layer makes. Borrowed for the life of the object.
    Network(const Settings& settings, rte_mempool* buffers, DropCounters& drops);
    ~Network();

    /// Takes a received frame (data at the Ethernet header).
    [[nodiscard]] Received receive(rte_mbuf* frame, std::uint16_t interface, Time now);

    /// What a path is for: to answer a packet, whose source may be forged, or to open a connection ourselves.
    enum class Use : std::uint8_t { answer,
                                    open };
    /// How to reach `remote`; no_route when there is none. Starts neighbour resolution. Neighbours that we want to reach ourselves, and the
    /// gateways of routes, are asked for whatever forged sources make us ask for.
    [[nodiscard]] std::expected<PathFrom, DropReason> route(const IpAddress& remote, Time now, Use use = Use::answer);

    /// Sends a TCP segment: the mbuf's data starts at the TCP header (checksum field of any value), with at least 64 octets of headroom;
    /// `tcp_length` is the length of header and payload over all its mbuf segments. Prepends IP and Ethernet, fills in checksums or asks the
    /// device to. Takes the mbuf, always. When the neighbour is not resolved yet, queues it (a few a neighbour) and asks. Interface and next hop
    /// of `path` are looked up again when they are no longer what routes say.
    /// `segment_size` other than 0: more than one segment, which the device cuts into segments with so many octets of payload each (the last may have
    /// fewer); only where segmentation() allows it.
    void send_tcp(rte_mbuf* segment, const IpAddress& source, const IpAddress& destination, Path& path,
                  std::uint8_t ecn, Time now, std::uint16_t segment_size = 0);
    /// Packet buffers that one call of send_tcp() may have on this path when the device is to cut it; 0: it cuts none.
    [[nodiscard]] std::uint16_t segmentation(const Path& path) const noexcept;
    /// Whether it is the kernel that cuts them, so that they had better be as large as can be.
    [[nodiscard]] bool cut_by_kernel(const Path& path) const noexcept;

    /// New addresses of the interfaces and new routes: what change() swaps in. The tables it replaces are in it afterwards, so that who made it
    /// can free them.
    class Change {
     public:
        ~Change();
        Change(const Change&) = delete;
        Change& operator=(const Change&) = delete;

     private:
        friend class Network;
        struct Tables;
        explicit Change(std::unique_ptr<Tables> tables);
        std::unique_ptr<Tables> tables_;
    };
    /// Makes one for `addresses`, those of each interface in order, and `routes`. Any thread, while no other changes the network: reads only what
    /// never changes. All the allocation is here.
    [[nodiscard]] std::unique_ptr<Change> prepare(std::span<const std::vector<IpPrefix>> addresses, std::span<const Route> routes) const;
    /// Swaps it in. New addresses are announced; connections go on, and their next segment takes the route that holds now. What is sent from or
    /// to an address that is gone is lost: who uses such an address ends it first.
    void change(Change& change, Time now);

    /// A packet too big was believed by TCP, which lowered its path: remember it for new connections (RFC 1191, 8201), for 10 minutes.
    void lower_mtu(const IpAddress& remote, std::uint16_t mtu, Time now);

    /// Reachability confirmed by TCP's forward progress (RFC 4861 7.3.1).
    void confirm(std::uint32_t next_hop, Time now);

    /// Frames to transmit, by interface: the caller takes them after each burst (and clears by calling taken()).
    [[nodiscard]] std::span<rte_mbuf*> to_transmit(std::uint16_t interface);
    void taken(std::uint16_t interface);

    /// Resolution retries, neighbour states, gratuitous ARP and unsolicited NA at start. Call at least every 100 ms.
    void advance(Time now);

    /// The interface came up (again): announces our addresses.
    void link_up(std::uint16_t interface, Time now);

    [[nodiscard]] bool is_local(const IpAddress& address) const;

    /// Sends an echo request with `octets` octets of data after its header. Errors: no_route, no_buffer, neighbour_unresolved (no slot).
    /// Where the next hop is not resolved yet, the request waits for it. What does not fit into the path's MTU is an error of the
    /// caller's: see echo_room().
    [[nodiscard]] std::expected<void, DropReason> send_echo(const IpAddress& to, std::uint16_t identifier, std::uint16_t sequence,
                                                            std::uint16_t octets, Time now);
    /// Octets of data that an echo request to `to` can carry in one packet; no_route. Starts neighbour resolution.
    [[nodiscard]] std::expected<std::uint16_t, DropReason> echo_room(const IpAddress& to, Time now);
    /// Whether the next hop towards `to` has answered when it was asked for its link-layer address.
    [[nodiscard]] bool is_resolved(const IpAddress& to, Time now);
    /// While somebody listens, what is heard of echo requests is kept, a bounded number; whoever listens takes it often.
    void listen_for_echoes(bool listen);
    [[nodiscard]] std::vector<EchoHeard> take_echoes();

    struct NeighbourStatus {
        IpAddress address;
        MacAddress mac;
        std::uint16_t interface;
        const char* state;   ///< RFC 4861 7.3.2: INCOMPLETE, REACHABLE, STALE, DELAY, PROBE
    };
    [[nodiscard]] std::vector<NeighbourStatus> neighbours() const;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::network
