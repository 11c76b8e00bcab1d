#include "drivers/port.h"

#include <rte_bus.h>
#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "crypto/check.h"
#include "crypto/format.h"
#include "dataplane/steering/steering.h"
#include "drivers/environment.h"
#include "drivers/ingress_drop.h"
#include "drivers/kernel_interface.h"
#include "drivers/memif_bursts.h"
#include "drivers/offloads.h"
#include "drivers/packet_sockets.h"
#include "drivers/port_profile.h"

namespace sallyport::drivers {

struct Port::State {
    PortSettings settings;
    std::string profile;
    std::string interface;  ///< of the kernel; empty where there is none
    std::uint16_t id = RTE_MAX_ETHPORTS;
    Negotiated negotiated;
    std::array<std::uint8_t, 6> mac{};
    std::vector<rte_mempool*> pools;  ///< of each queue
    std::unique_ptr<PacketSockets> sockets;  ///< af_packet: what carries the frames, in place of the device
    std::optional<IngressDrop> ingress_drop; ///< af_packet, where the kernel has it
    std::string seen_by_kernel;              ///< why it has not
    std::optional<MemifBursts> memif;
    bool whole_frames_only = false;   ///< the device sends only what lies in one buffer of its own
    bool link_was_up = false;
    bool started = false;
    std::atomic<std::uint64_t> refused = 0;  ///< frames that the device's checks refused, dropped
};

namespace {

using namespace std::chrono_literals;
using Error = std::unexpected<std::string>;

Error error(const PortSettings& settings, const std::string& what) {
    return Error(sallyport::format("port {} ({} {}): {}", settings.name, name(settings.profile), settings.device, what));
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}

std::expected<void, std::string> refuse_route(const std::string& interface) {
    const auto route = kernel::route_through(interface);
    if (!route) return {};
    return Error(sallyport::format(
        "interface {} carries a route of this host ({}); taking it would cut the host off. Take another one, or "
        "remove its addresses and routes first",
        interface, *route));
}

// A PCI device must be out of the kernel's hands: bound to vfio-pci. NVIDIA's cards share with their kernel driver.
std::expected<void, std::string> check_pci(const std::string& address) {
    const auto device = kernel::pci_device(address);
    if (!device)
        return Error(std::string(
            "there is no such PCI device; `dpdk-devbind.py --status-dev net` lists them, in the form 0000:3b:00.0"));
    for (const auto& interface : device->interfaces)
        if (auto free = refuse_route(interface); !free) return free;
    if (device->driver == "vfio-pci" || device->driver == "mlx5_core" || device->driver == "mlx4_core") return {};
    return Error(sallyport::format("it is bound to {}, not to vfio-pci; `dpdk-devbind.py --bind=vfio-pci {}` changes that",
                                   device->driver.empty() ? "no driver" : device->driver, address));
}

std::expected<rte_ether_addr, std::string> configured_mac(const PortSettings& settings) {
    rte_ether_addr address;
    if (rte_ether_unformat_addr(settings.mac.c_str(), &address) == 0) return address;
    return Error(sallyport::format("'{}' is not a MAC address such as 02:00:00:00:00:01", settings.mac));
}

std::expected<void, std::string> prepare_interface(const PortSettings& settings) {
    const std::string& interface = settings.device;
    if (!kernel::exists(interface))
        return Error(
            sallyport::format("there is no such interface; this network namespace has {}", joined(kernel::interfaces())));
    if (auto free = refuse_route(interface); !free) return free;
    if (settings.profile == Profile::af_xdp && !kernel::has_af_xdp())
        return Error(
            std::string("this kernel has no AF_XDP sockets, or does not let us make one; use the profile af_packet"));
    if (auto done = kernel::set_mtu(interface, settings.mtu); !done)
        return Error(sallyport::format("its MTU cannot be set to {}: {}", settings.mtu, done.error()));
    if (!settings.mac.empty()) {
        const auto address = configured_mac(settings);
        if (!address) return Error(address.error());
        if (auto done = kernel::set_mac(interface, std::to_array(address->addr_bytes)); !done)
            return Error(sallyport::format("its MAC address cannot be set to {}: {}", settings.mac, done.error()));
    }
    if (settings.profile == Profile::af_xdp) kernel::receive_unchanged(interface);
    if (auto done = kernel::bring_up(interface); !done) return Error("it cannot be set up: " + done.error());
    return {};
}

std::expected<void, std::string> set_indirection_table(std::uint16_t port, std::uint16_t entries,
                                                       std::uint16_t queues) {
    std::vector<rte_eth_rss_reta_entry64> table((entries + RTE_ETH_RETA_GROUP_SIZE - 1u) / RTE_ETH_RETA_GROUP_SIZE);
    for (unsigned i = 0; i < entries; ++i) {
        auto& group = table[i / RTE_ETH_RETA_GROUP_SIZE];
        group.mask |= std::uint64_t{1} << (i % RTE_ETH_RETA_GROUP_SIZE);
        group.reta[i % RTE_ETH_RETA_GROUP_SIZE] = static_cast<std::uint16_t>(i % steering::kTableEntries % queues);
    }
    if (const int result = rte_eth_dev_rss_reta_update(port, table.data(), entries); result != 0)
        return Error(sallyport::format("its RSS table cannot be set: {}", rte_strerror(-result)));
    return {};
}

std::expected<void, std::string> check_pools(const PortSettings& settings, std::uint16_t queues, std::span<rte_mempool* const> pool_of_queue) {
    if (pool_of_queue.size() < queues) return Error(sallyport::format("{} buffer pools for {} queues", pool_of_queue.size(), queues));
    const std::uint16_t room = data_room_for(settings);
    for (rte_mempool* pool : pool_of_queue.first(queues))
        if (rte_pktmbuf_data_room_size(pool) < room + RTE_PKTMBUF_HEADROOM)
            return Error(sallyport::format("an MTU of {} needs buffers of {} octets, the pool {} has {}", settings.mtu, room, pool->name,
                                           rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM));
    return {};
}

// A virtual device is made directly: rte_dev_probe() sends the arguments around in messages, in which no more than 127 octets have room, and the path of a socket alone may have 107.
int probe(const std::string& arguments, bool pci) {
    if (pci) return rte_dev_probe(arguments.c_str());
    const std::size_t comma = arguments.find(',');
    return rte_vdev_init(arguments.substr(0, comma).c_str(), comma == std::string::npos ? "" : arguments.c_str() + comma + 1);
}

// Data of the frame in a fresh buffer of `pool`, with what goes with it. The frame loses its reference. Null when the
// pool is empty.
rte_mbuf* copied(rte_mbuf* frame, rte_mempool* pool) noexcept {
    rte_mbuf* copy = rte_pktmbuf_alloc(pool);
    if (copy == nullptr) return nullptr;
    // A frame longer than a buffer is longer than the MTU, which is our own doing: open() has checked the pool against
    // the MTU.
    SALLYPORT_CHECK(frame->pkt_len <= rte_pktmbuf_tailroom(copy));
    char* to = rte_pktmbuf_append(copy, static_cast<std::uint16_t>(frame->pkt_len));
    for (const rte_mbuf* piece = frame; piece != nullptr; piece = piece->next) {
        std::memcpy(to, rte_pktmbuf_mtod(piece, const char*), piece->data_len);
        to += piece->data_len;
    }
    copy->ol_flags = frame->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK;
    copy->tx_offload = frame->tx_offload;
    rte_pktmbuf_free(frame);
    return copy;
}

// DPDK's vhost device tells the other side of a frame to be cut how to cut it, and says nowhere that it does; and what it has from there merged comes without being asked for.
void takes_frames_to_be_cut(Negotiated& agreed) {
    agreed.segmentation_buffers = kMostSegmentationBuffers;
    agreed.merged_receipt = true;
    for (Offload& offload : agreed.offloads)
        if (std::string_view(offload.name) == kTso || std::string_view(offload.name) == kMergedSegments) offload = {offload.name, true, true};
}

}  // namespace

std::uint16_t ring_buffers(const PortSettings& settings) {
    const std::uint16_t least = default_descriptors(settings.profile);
    if (settings.profile == Profile::af_packet) return PacketSockets::buffers_kept(data_room_for(settings));
    if (settings.descriptors == 0) return least;
    return settings.profile == Profile::af_xdp ? std::max(settings.descriptors, least) : settings.descriptors;
}

Port::Port(std::unique_ptr<State> state) : state_(std::move(state)) {}

Port::~Port() {
    if (state_->id == RTE_MAX_ETHPORTS) return;
    rte_eth_dev_info info;
    rte_device* device = rte_eth_dev_info_get(state_->id, &info) == 0 ? info.device : nullptr;
    if (state_->started) rte_eth_dev_stop(state_->id);
    if (state_->settings.profile == Profile::pci) rte_eth_dev_close(state_->id);
    if (device != nullptr) rte_dev_remove(device);  // closes a virtual one
    // The kernel lets go of an AF_XDP queue a little after its socket was closed, and until then refuses it to the next
    // port; the driver does not outlive that refusal unhurt (it keeps the buffers of the fill ring).
    if (state_->settings.profile == Profile::af_xdp) std::this_thread::sleep_for(300ms);
}

std::expected<std::unique_ptr<Port>, std::string> Port::open(const PortSettings& settings, unsigned workers,
                                                             std::span<rte_mempool* const> pool_of_queue) {
    const unsigned wanted = std::max(1u, settings.queues == 0 ? workers : settings.queues);
    auto queues = static_cast<std::uint16_t>(std::min<unsigned>(wanted, RTE_MAX_QUEUES_PER_PORT));
    bool hardware = false;
    if (settings.device.empty()) return error(settings, "it names no device");
    switch (settings.profile) {
        case Profile::pci:
            if (auto checked = check_pci(settings.device); !checked) return error(settings, checked.error());
            break;
        case Profile::af_xdp:
            hardware = kernel::exists(settings.device) && kernel::has_hardware(settings.device);
            if (auto prepared = prepare_interface(settings); !prepared) return error(settings, prepared.error());
            queues = std::min(queues, kernel::receive_queues(settings.device));
            break;
        case Profile::af_packet:
            if (auto prepared = prepare_interface(settings); !prepared) return error(settings, prepared.error());
            return open_sockets(settings, queues, pool_of_queue);
        case Profile::memif:
        case Profile::virtio_user:
            if ((settings.memif_server || settings.profile == Profile::virtio_user) && !kernel::remove_stale_socket(settings.device))
                return error(settings,
                             "another process listens on this socket, or it is not a socket; give a path of its own");
            break;
        case Profile::vhost_user:
            break;
        case Profile::tap:
            if (kernel::exists(settings.device))
                return error(settings,
                             "an interface of that name exists already; the profile makes one, give another name");
            break;
    }
    return open_device(settings, device_arguments(settings, queues, hardware), workers, pool_of_queue);
}

std::expected<std::unique_ptr<Port>, std::string> Port::open_device(const PortSettings& settings,
                                                                    const std::string& device_arguments,
                                                                    unsigned workers,
                                                                    std::span<rte_mempool* const> pool_of_queue) {
    auto state = std::make_unique<State>();
    state->settings = settings;
    state->profile = name(settings.profile);
    const std::string device_name = device_arguments.substr(0, device_arguments.find(','));
    const bool pci = settings.profile == Profile::pci;

    // A card of the allow list was probed when the EAL started.
    if (rte_eth_dev_get_port_by_name(device_name.c_str(), &state->id) != 0) {
        const int result = probe(device_arguments, pci);
        if (result != 0 || rte_eth_dev_get_port_by_name(device_name.c_str(), &state->id) != 0) {
            state->id = RTE_MAX_ETHPORTS;
            return error(
                settings,
                sallyport::format("DPDK did not take the device \"{}\": {}; its log says more. Is the profile right for it, "
                                  "and does the process run as root?",
                                  device_arguments, result != 0 ? rte_strerror(-result) : "no port came of it"));
        }
    }
    const std::uint16_t id = state->id;
    std::unique_ptr<Port> port(new Port(std::move(state)));  // closes the device on every return below
    State& own = *port->state_;

    rte_eth_dev_info info;
    if (const int result = rte_eth_dev_info_get(id, &info); result != 0)
        return error(settings, sallyport::format("it does not describe itself: {}", rte_strerror(-result)));
    const bool kernel_interface = settings.profile == Profile::af_xdp;
    if (kernel_interface || settings.profile == Profile::tap)
        own.interface = kernel::exists(settings.device) ? settings.device : std::string();

    Wanted wanted;
    wanted.workers = workers;
    wanted.queues = settings.queues;
    wanted.descriptors = settings.descriptors == 0 ? 0 : ring_buffers(settings);
    wanted.mtu = settings.mtu;
    wanted.mtu_is_firm = pci || settings.profile == Profile::af_xdp;
    wanted.allow_rss = pci;
    // net_tap cuts in software, IPv4 alone, and what it cannot cut stays at the head of its queue for ever.
    const std::string_view driver = info.driver_name;
    wanted.allow_segmentation = driver != "net_tap";
    wanted.allow_merging = driver == "net_virtio" || driver == "net_virtio_user";   // what others merge has not been tried
    if (settings.profile != Profile::pci && wanted.descriptors == 0) {
        // Of the profile's figure as much as the device takes.
        const auto most = info.rx_desc_lim.nb_max == 0 ? UINT16_MAX : info.rx_desc_lim.nb_max;
        wanted.descriptors = std::min(default_descriptors(settings.profile), static_cast<std::uint16_t>(most));
    }
    auto negotiated = negotiate(info, wanted);
    if (!negotiated) return error(settings, negotiated.error());
    own.negotiated = std::move(*negotiated);
    Negotiated& agreed = own.negotiated;
    if (settings.profile == Profile::vhost_user) takes_frames_to_be_cut(agreed);
    agreed.configuration.rx_adv_conf.rss_conf.rss_key = agreed.rss ? agreed.rss_key.data() : nullptr;
    agreed.configuration.rx_adv_conf.rss_conf.rss_key_len =
        agreed.rss ? static_cast<std::uint8_t>(agreed.rss_key.size()) : 0;

    if (auto fit = check_pools(settings, agreed.queues, pool_of_queue); !fit) return error(settings, fit.error());
    own.pools.assign(pool_of_queue.begin(), pool_of_queue.begin() + agreed.queues);
    if (settings.profile == Profile::af_xdp)
        for (rte_mempool* pool : own.pools)
            if (pool->header_size + pool->elt_size + pool->trailer_size > 4096)
                return error(
                    settings,
                    sallyport::format(
                        "af_xdp takes buffers of one page (4096 octets in all), those of the pool {} have {}; an "
                        "MTU up to about 3400 is possible",
                        pool->name, pool->header_size + pool->elt_size + pool->trailer_size));

    if (const int result = rte_eth_dev_configure(id, agreed.queues, agreed.queues, &agreed.configuration); result != 0)
        return error(settings, sallyport::format("{} does not take its configuration ({} queues): {}", info.driver_name,
                                                 agreed.queues, rte_strerror(-result)));
    const int node = rte_eth_dev_socket_id(id);
    const auto socket = static_cast<unsigned>(node);
    for (std::uint16_t queue = 0; queue < agreed.queues; ++queue) {
        rte_eth_rxconf receive = info.default_rxconf;
        receive.offloads = agreed.configuration.rxmode.offloads;
        int result = rte_eth_rx_queue_setup(id, queue, agreed.receive_descriptors, socket, &receive, own.pools[queue]);
        rte_eth_txconf transmit = info.default_txconf;
        transmit.offloads = agreed.configuration.txmode.offloads;
        if (result == 0) result = rte_eth_tx_queue_setup(id, queue, agreed.transmit_descriptors, socket, &transmit);
        if (result != 0)
            return error(
                settings,
                sallyport::format("{} does not set up queue {}: {}{}", info.driver_name, queue, rte_strerror(-result),
                                  settings.profile == Profile::af_xdp
                                      ? "; do the interface and its peer let AF_XDP in (MTU up to about "
                                        "3400, no other XDP program or user of the queue), and has the pool 2048 buffers "
                                        "to spare? The profile af_packet works on every interface"
                                      : ""));
    }
    if (pci && !settings.mac.empty()) {
        auto wanted_mac = configured_mac(settings);
        if (!wanted_mac) return error(settings, wanted_mac.error());
        if (const int result = rte_eth_dev_default_mac_addr_set(id, &*wanted_mac); result != 0)
            return error(settings,
                         sallyport::format("its MAC address cannot be set to {}: {}", settings.mac, rte_strerror(-result)));
    }
    if (settings.profile == Profile::memif) own.memif.emplace(agreed.queues);
    if (const int result = rte_eth_dev_start(id); result != 0)
        return error(settings, sallyport::format("{} does not start: {}", info.driver_name, rte_strerror(-result)));
    own.started = true;
    if (agreed.rss)
        if (auto set = set_indirection_table(id, agreed.rss_table_size, agreed.queues); !set)
            return error(settings, set.error());
    // Neighbour discovery comes by multicast. What cannot filter does not offer this either.
    if (!kernel_interface) static_cast<void>(rte_eth_allmulticast_enable(id));

    rte_ether_addr address{};
    static_cast<void>(rte_eth_macaddr_get(id, &address));
    own.mac = std::to_array(address.addr_bytes);
    if (kernel_interface)
        if (const auto mac = kernel::mac(settings.device)) own.mac = *mac;
    if (settings.profile == Profile::tap && !own.interface.empty()) {
        // The interface that the kernel keeps is the peer on this wire, and has the device's address: ours must be
        // another.
        if (auto done = kernel::set_mtu(own.interface, settings.mtu); !done)
            return error(settings, sallyport::format("its MTU cannot be set to {}: {}", settings.mtu, done.error()));
        own.mac[0] = static_cast<std::uint8_t>((own.mac[0] | 0x02) & 0xfe);
        own.mac[5] ^= 1;
    }
    // These devices take every frame, whatever its address.
    if (((settings.profile == Profile::tap && !own.interface.empty()) || settings.profile == Profile::vhost_user) && !settings.mac.empty()) {
        const auto wanted_mac = configured_mac(settings);
        if (!wanted_mac) return error(settings, wanted_mac.error());
        own.mac = std::to_array(wanted_mac->addr_bytes);
    }
    // af_xdp points the kernel at the buffer itself, by its place in the pool: one buffer, and data of its own.
    own.whole_frames_only = !agreed.multi_segment_transmit || settings.profile == Profile::af_xdp;
    bool up = false;
    static_cast<void>(port->link_changed(up));
    return port;
}

std::expected<std::unique_ptr<Port>, std::string> Port::open_sockets(const PortSettings& settings, std::uint16_t queues, std::span<rte_mempool* const> pool_of_queue) {
    if (auto fit = check_pools(settings, queues, pool_of_queue); !fit) return error(settings, fit.error());
    auto state = std::make_unique<State>();
    state->settings = settings;
    state->profile = name(settings.profile);
    state->interface = settings.device;
    state->pools.assign(pool_of_queue.begin(), pool_of_queue.begin() + queues);
    Negotiated& has = state->negotiated;
    has.queues = queues;
    has.receive_checksum = has.transmit_checksum = has.multi_segment_transmit = true;
    has.segmentation_buffers = kMostSegmentationBuffers;
    has.offloads = {
        {"receive TCP checksum", true, true},
        {"transmit TCP checksum", true, true},
        {"transmit IPv4 checksum", true, false},
        {"several buffers a frame on transmit", true, true},
        {"RSS by TCP ports", false, false},
        {kTso, true, true},
        {kMergedSegments, true, true},
    };
    const auto mac = kernel::mac(settings.device);
    if (!mac) return error(settings, "it has no MAC address");
    state->mac = *mac;
    auto sockets = PacketSockets::open(settings.device, settings.descriptors == 0 ? default_descriptors(settings.profile) : settings.descriptors, state->pools);
    if (!sockets) return error(settings, sockets.error());
    state->sockets = std::move(*sockets);
    if (auto drop = IngressDrop::make(settings.device))
        state->ingress_drop.emplace(std::move(*drop));
    else
        state->seen_by_kernel = drop.error();
    has.offloads.push_back({kKeptFromKernel, true, state->ingress_drop.has_value()});

    const std::string stand_in = device_arguments(settings, queues, false);
    if (const int result = probe(stand_in, false); result != 0 || rte_eth_dev_get_port_by_name(stand_in.c_str(), &state->id) != 0) {
        state->id = RTE_MAX_ETHPORTS;
        return error(settings, sallyport::format("DPDK did not make the device \"{}\": {}", stand_in, rte_strerror(-result)));
    }
    std::unique_ptr<Port> port(new Port(std::move(state)));
    rte_ether_addr address;
    std::ranges::copy(*mac, address.addr_bytes);
    static_cast<void>(rte_eth_dev_default_mac_addr_set(port->id(), &address));   // captures tell it
    bool up = false;
    static_cast<void>(port->link_changed(up));
    return port;
}

std::uint16_t Port::receive_queues() const noexcept {
    return state_->negotiated.queues;
}
std::uint16_t Port::transmit_queues() const noexcept {
    return state_->negotiated.queues;
}
bool Port::has_rss() const noexcept {
    return state_->negotiated.rss;
}
bool Port::transmit_checksum() const noexcept {
    return state_->negotiated.transmit_checksum;
}
bool Port::transmit_ipv4_checksum() const noexcept {
    return state_->negotiated.transmit_ipv4_checksum;
}
bool Port::receive_checksum() const noexcept {
    return state_->negotiated.receive_checksum;
}
bool Port::multi_segment_transmit() const noexcept {
    return state_->negotiated.multi_segment_transmit;
}
std::uint16_t Port::segmentation_buffers() const noexcept {
    return state_->negotiated.segmentation_buffers;
}
bool Port::cut_by_kernel() const noexcept {
    return state_->sockets != nullptr;
}

const std::string& Port::seen_by_kernel() const noexcept {
    return state_->seen_by_kernel;
}
std::array<std::uint8_t, 6> Port::mac() const noexcept {
    return state_->mac;
}
std::uint16_t Port::id() const noexcept {
    return state_->id;
}

std::uint16_t Port::receive(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept {
    if (state_->sockets != nullptr) return state_->sockets->receive(queue, frames);
    std::optional<MemifBursts::Burst> burst;
    if (state_->memif) burst.emplace(*state_->memif, queue);
    return rte_eth_rx_burst(state_->id, queue, frames.data(), static_cast<std::uint16_t>(frames.size()));
}

std::uint16_t Port::transmit(std::uint16_t queue, std::span<rte_mbuf*> frames) noexcept {
    if (state_->sockets != nullptr) return state_->sockets->transmit(queue, frames);
    auto count = static_cast<std::uint16_t>(frames.size());
    if (count == 0) return 0;  // memif's driver reads the first frame before it looks at their number
    std::optional<MemifBursts::Burst> burst;
    if (state_->memif) burst.emplace(*state_->memif, queue);
    if (state_->whole_frames_only) {
        for (std::uint16_t i = 0; i < count; ++i) {
            if (frames[i]->nb_segs == 1 && RTE_MBUF_DIRECT(frames[i])) continue;
            rte_mbuf* copy = copied(frames[i], state_->pools[queue]);
            if (copy == nullptr) {
                count = i;
                break;
            }
            frames[i] = copy;
        }
    }
    if (!state_->negotiated.transmit_checksum) return rte_eth_tx_burst(state_->id, queue, frames.data(), count);

    // Drivers want the pseudo header's sum in place and have limits of their own; tx_prepare knows. What it refuses can
    // never leave, and is dropped, as a wire drops.
    std::uint16_t done = 0;
    while (done < count) {
        const auto left = static_cast<std::uint16_t>(count - done);
        const std::uint16_t fit = rte_eth_tx_prepare(state_->id, queue, frames.data() + done, left);
        const std::uint16_t sent = rte_eth_tx_burst(state_->id, queue, frames.data() + done, fit);
        done = static_cast<std::uint16_t>(done + sent);
        if (sent < fit || fit == left) break;
        rte_pktmbuf_free(frames[done]);
        state_->refused.fetch_add(1, std::memory_order_relaxed);
        ++done;
    }
    return done;
}

void Port::reclaim(std::uint16_t queue) noexcept {
    if (state_->settings.profile == Profile::pci) {
        static_cast<void>(rte_eth_tx_done_cleanup(state_->id, queue, 0));
    } else if (state_->settings.profile == Profile::af_xdp) {
        rte_mbuf* none = nullptr;  // collects whenever it is called
        static_cast<void>(rte_eth_tx_burst(state_->id, queue, &none, 0));
    }  // the others copy a frame and let go of it within transmit()
}

bool Port::link_changed(bool& up) noexcept {
    if (!state_->interface.empty()) {
        up = kernel::link_up(state_->interface);  // the drivers of kernel interfaces report what was at their start
    } else {
        rte_eth_link link{};
        up = rte_eth_link_get_nowait(state_->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    }
    const bool changed = up != state_->link_was_up;
    state_->link_was_up = up;
    return changed;
}

PortStatus Port::status() const {
    const State& own = *state_;
    PortStatus result;
    result.name = own.settings.name;
    result.device = own.settings.device;
    result.profile = own.profile;
    result.mac = own.mac;
    result.mtu = own.settings.mtu;
    result.receive_queues = result.transmit_queues = own.negotiated.queues;
    result.offloads = own.negotiated.offloads;
    result.numa_node = rte_eth_dev_socket_id(own.id);

    rte_eth_dev_info info;
    if (rte_eth_dev_info_get(own.id, &info) == 0) result.driver = info.driver_name;
    rte_eth_link link{};
    const bool has_link = rte_eth_link_get_nowait(own.id, &link) == 0;
    if (!own.interface.empty()) {
        result.link_up = kernel::link_up(own.interface);
        result.link_mbps = kernel::link_mbps(own.interface);
    } else if (has_link) {
        result.link_up = link.link_status == RTE_ETH_LINK_UP;
        if (own.settings.profile == Profile::pci && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN)
            result.link_mbps = link.link_speed;
    }

    if (own.sockets != nullptr) {
        const PacketSockets::Counters counted = own.sockets->counters();
        result.driver = "packet sockets";
        result.packets_in = counted.packets_in;
        result.packets_out = counted.packets_out;
        result.octets_in = counted.octets_in;
        result.octets_out = counted.octets_out;
        result.missed = counted.missed;
        result.errors_in = counted.errors_in;
        result.errors_out = counted.errors_out;
        result.no_buffer = counted.no_buffer;
        result.xstats = {{"rx_merged_frames", counted.merged_in}, {"tx_frames_to_be_cut", counted.cut_out}};
        return result;
    }

    rte_eth_stats stats{};
    if (rte_eth_stats_get(own.id, &stats) == 0) {
        result.packets_in = stats.ipackets;
        result.packets_out = stats.opackets;
        result.octets_in = stats.ibytes;
        result.octets_out = stats.obytes;
        result.missed = stats.imissed;
        result.errors_in = stats.ierrors;
        result.errors_out = stats.oerrors + own.refused.load(std::memory_order_relaxed);
        result.no_buffer = stats.rx_nombuf;
    }
    const int count = rte_eth_xstats_get_names(own.id, nullptr, 0);
    if (count <= 0) return result;
    std::vector<rte_eth_xstat_name> names(static_cast<std::size_t>(count));
    std::vector<rte_eth_xstat> values(names.size());
    if (rte_eth_xstats_get_names(own.id, names.data(), static_cast<unsigned>(count)) != count ||
        rte_eth_xstats_get(own.id, values.data(), static_cast<unsigned>(count)) != count)
        return result;
    for (const rte_eth_xstat& value : values)
        if (value.id < names.size()) result.xstats.emplace_back(names[value.id].name, value.value);
    return result;
}

}  // namespace sallyport::drivers
