#include "drivers/port_profile.h"

#include <algorithm>
#include <bit>
#include <cctype>

#include "crypto/format.h"

namespace sallyport::drivers {
namespace {

// DPDK tells devices apart by name and finds the driver by its beginning.
std::string device_name(std::string_view driver, const std::string& port) {
    std::string result(driver);
    result += '_';
    for (const char c : port) result += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
    constexpr std::size_t kLongest = 60;  // RTE_ETH_NAME_MAX_LEN is 64
    return result.substr(0, kLongest);
}

}  // namespace

std::string_view name(Profile profile) noexcept {
    switch (profile) {
        case Profile::pci:
            return "pci";
        case Profile::af_xdp:
            return "af_xdp";
        case Profile::af_packet:
            return "af_packet";
        case Profile::memif:
            return "memif";
        case Profile::virtio_user:
            return "virtio_user";
        case Profile::vhost_user:
            return "vhost_user";
        case Profile::tap:
            return "tap";
    }
    return "?";
}

std::uint16_t default_descriptors(Profile profile) noexcept {
    switch (profile) {
        case Profile::pci:
            return 1024;
        case Profile::af_xdp:
            return 2048;  // what the driver's umem rings are made with; it takes no fewer
        case Profile::af_packet:
            return 4096;  // what comes in the time slice of another thread on the same core
        case Profile::memif:
            return 1024;
        case Profile::virtio_user:
        case Profile::vhost_user:
            return 256;  // what is received stays in its buffers until it has left: with more of them it would not stay in the core's cache
        case Profile::tap:
            return 512;
    }
    return 0;
}

std::string device_arguments(const PortSettings& settings, std::uint16_t queues, bool hardware) {
    const std::uint16_t slots =
        settings.descriptors != 0 ? settings.descriptors : default_descriptors(settings.profile);
    switch (settings.profile) {
        case Profile::pci:
            return settings.device;
        case Profile::af_xdp:
            // Without hardware there is only the copying mode, and busy polling would make a system call of each empty
            // poll. With hardware it must stay on: without it the driver waits in poll(2) for a second when the fill
            // ring asks for a wake-up.
            return sallyport::format("{},iface={},start_queue=0,queue_count={}{}", device_name("net_af_xdp", settings.name),
                                     settings.device, queues, hardware ? "" : ",force_copy=1,busy_budget=0");
        case Profile::af_packet:
            // The frames go by packet sockets of our own (packet_sockets.h). What DPDK's libraries know of a port, they know of a device: this one stands for it, and carries nothing.
            return device_name("net_null", settings.name);
        case Profile::memif: {
            // One ring slot holds a frame; the driver chains slots for a longer one. Rings are powers of two of at most
            // 2^14.
            const std::uint32_t slot =
                std::clamp<std::uint32_t>((settings.mtu + 14u + 4u + 63u) / 64 * 64, 2048, 65472);
            const int log2_slots = std::clamp(static_cast<int>(std::bit_width<unsigned>(slots)) - 1, 5, 14);
            return sallyport::format("{},role={},id=0,socket={},socket-abstract=no,bsize={},rsize={}{}",
                                     device_name("net_memif", settings.name), settings.memif_server ? "server" : "client",
                                     settings.device, slot, log2_slots, settings.mac.empty() ? "" : ",mac=" + settings.mac);
        }
        case Profile::virtio_user:
            // The switch connects to our socket, so that each side may end and come again. Buffers that are merged carry frames that are longer than one. Not packed rings: when
            // the other side comes again, the driver's interrupt thread makes them anew, and gives a worker that is in them one millisecond to leave.
            return sallyport::format("{},path={},server=1,queues={},queue_size={},mrg_rxbuf=1,in_order=1{}", device_name("net_virtio_user", settings.name), settings.device,
                                     queues, slots, settings.mac.empty() ? "" : ",mac=" + settings.mac);
        case Profile::vhost_user:
            return sallyport::format("{},iface={},client=1,queues={},tso=1", device_name("net_vhost", settings.name), settings.device, queues);
        case Profile::tap:
            return sallyport::format("{},iface={}", device_name("net_tap", settings.name), settings.device);
    }
    return {};
}

}  // namespace sallyport::drivers
