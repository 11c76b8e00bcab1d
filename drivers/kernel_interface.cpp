#include "drivers/kernel_interface.h"

#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "crypto/format.h"

namespace sallyport::drivers::kernel {
namespace {

namespace fs = std::filesystem;

class Socket {
 public:
    Socket() : descriptor_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}
    ~Socket() {
        if (descriptor_ >= 0) close(descriptor_);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    [[nodiscard]] int get() const { return descriptor_; }

 private:
    int descriptor_;
};

ifreq request_for(const std::string& interface) {
    ifreq request{};
    interface.copy(request.ifr_name, IFNAMSIZ - 1);
    return request;
}

std::expected<void, std::string> interface_ioctl(unsigned long what, ifreq& request) {
    const Socket socket;
    if (ioctl(socket.get(), what, &request) != 0) return std::unexpected(std::string(std::strerror(errno)));
    return {};
}

bool ethtool(const std::string& interface, void* command) {
    ifreq request = request_for(interface);
    request.ifr_data = static_cast<char*>(command);
    return interface_ioctl(SIOCETHTOOL, request).has_value();
}

std::string text_of(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// IPv4 addresses in /proc/net/route are hexadecimal numbers in the machine's own order.
std::string v4_text(unsigned long value, unsigned long mask) {
    if (mask == 0) return "default";
    char text[INET_ADDRSTRLEN] = {};
    const auto address = static_cast<std::uint32_t>(value);
    inet_ntop(AF_INET, &address, text, sizeof text);
    return sallyport::format("{}/{}", text, std::popcount(static_cast<std::uint32_t>(mask)));
}

std::optional<std::array<std::uint8_t, 16>> v6_octets(const std::string& hex) {
    if (hex.size() != 32 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return std::nullopt;
    std::array<std::uint8_t, 16> octets{};
    for (std::size_t i = 0; i < 16; ++i)
        octets[i] = static_cast<std::uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
    return octets;
}

}  // namespace

bool exists(const std::string& interface) {
    return !interface.empty() && interface.size() < IFNAMSIZ && if_nametoindex(interface.c_str()) != 0;
}

std::vector<std::string> interfaces() {
    std::vector<std::string> names;
    if (auto* list = if_nameindex(); list != nullptr) {
        for (auto* entry = list; entry->if_index != 0; ++entry) names.emplace_back(entry->if_name);
        if_freenameindex(list);
    }
    std::ranges::sort(names);
    return names;
}

std::optional<std::string> route_through(const std::string& interface) {
    return route_through(interface, text_of("/proc/thread-self/net/route"),
                         text_of("/proc/thread-self/net/ipv6_route"));
}

std::optional<std::string> route_through(const std::string& interface, std::string_view routes_v4,
                                         std::string_view routes_v6) {
    std::istringstream v4{std::string(routes_v4)};
    for (std::string line; std::getline(v4, line);) {
        std::istringstream fields(line);
        std::string name, rest[5];
        unsigned long destination = 0, gateway = 0, mask = 0;
        unsigned flags = 0;
        if (!(fields >> name >> std::hex >> destination >> gateway >> flags) || name != interface) continue;
        if (!(fields >> rest[0] >> rest[1] >> rest[2] >> std::hex >> mask)) continue;
        return v4_text(destination, mask);
    }
    std::istringstream v6{std::string(routes_v6)};
    for (std::string line; std::getline(v6, line);) {
        std::istringstream fields(line);
        std::string destination, length, skipped, name;
        fields >> destination >> length;
        for (int i = 0; i < 7; ++i) fields >> skipped;
        if (!(fields >> name) || name != interface) continue;
        const auto octets = v6_octets(destination);
        if (!octets || length.empty()) continue;
        if ((*octets)[0] == 0xff) continue;                                   // multicast
        if ((*octets)[0] == 0xfe && ((*octets)[1] & 0xc0) == 0x80) continue;  // link-local
        char text[INET6_ADDRSTRLEN] = {};
        inet_ntop(AF_INET6, octets->data(), text, sizeof text);
        return sallyport::format("{}/{}", text, std::strtoul(length.c_str(), nullptr, 16));
    }
    return std::nullopt;
}

std::expected<void, std::string> set_mtu(const std::string& interface, std::uint16_t mtu) {
    ifreq request = request_for(interface);
    if (auto done = interface_ioctl(SIOCGIFMTU, request); !done) return done;
    if (request.ifr_mtu == mtu) return {};
    request.ifr_mtu = mtu;
    return interface_ioctl(SIOCSIFMTU, request);
}

std::expected<void, std::string> set_mac(const std::string& interface, const std::array<std::uint8_t, 6>& address) {
    if (mac(interface) == address) return {};
    ifreq request = request_for(interface);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    std::memcpy(request.ifr_hwaddr.sa_data, address.data(), address.size());
    return interface_ioctl(SIOCSIFHWADDR, request);
}

std::expected<void, std::string> bring_up(const std::string& interface) {
    ifreq request = request_for(interface);
    if (auto done = interface_ioctl(SIOCGIFFLAGS, request); !done) return done;
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP | IFF_ALLMULTI);
    return interface_ioctl(SIOCSIFFLAGS, request);
}

void receive_unchanged(const std::string& interface) {
    ethtool_value merge{.cmd = ETHTOOL_SGRO, .data = 0};
    static_cast<void>(ethtool(interface, &merge));
    ethtool_value flags{.cmd = ETHTOOL_GFLAGS, .data = 0};
    if (!ethtool(interface, &flags)) return;
    flags.cmd = ETHTOOL_SFLAGS;
    flags.data &= ~static_cast<std::uint32_t>(ETH_FLAG_LRO | ETH_FLAG_RXVLAN);
    static_cast<void>(ethtool(interface, &flags));
}

std::optional<std::array<std::uint8_t, 6>> mac(const std::string& interface) {
    ifreq request = request_for(interface);
    if (!interface_ioctl(SIOCGIFHWADDR, request)) return std::nullopt;
    std::array<std::uint8_t, 6> address{};
    std::memcpy(address.data(), request.ifr_hwaddr.sa_data, address.size());
    return address;
}

bool link_up(const std::string& interface) {
    ifreq request = request_for(interface);
    return interface_ioctl(SIOCGIFFLAGS, request) && (request.ifr_flags & IFF_UP) != 0 &&
           (request.ifr_flags & IFF_RUNNING) != 0;
}

std::uint32_t link_mbps(const std::string& interface) {
    std::ifstream file(fs::path("/sys/class/net") / interface / "speed");
    long speed = 0;
    return file >> speed && speed > 0 ? static_cast<std::uint32_t>(speed) : 0;
}

std::uint16_t receive_queues(const std::string& interface) {
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    if (!ethtool(interface, &channels)) return 1;
    return static_cast<std::uint16_t>(
        std::clamp<std::uint32_t>(channels.combined_count + channels.rx_count, 1, UINT16_MAX));
}

bool has_hardware(const std::string& interface) {
    return fs::exists(fs::path("/sys/class/net") / interface / "device");
}

bool has_af_xdp() {
    const int descriptor = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return false;
    close(descriptor);
    return true;
}

std::optional<PciDevice> pci_device(const std::string& address) {
    const fs::path path = fs::path("/sys/bus/pci/devices") / address;
    std::error_code error;
    if (address.empty() || address.find('/') != std::string::npos || !fs::exists(path, error)) return std::nullopt;
    PciDevice device;
    if (const auto driver = fs::read_symlink(path / "driver", error); !error)
        device.driver = driver.filename().string();
    for (const auto& entry : fs::directory_iterator(path / "net", error))
        device.interfaces.push_back(entry.path().filename());
    return device;
}

bool remove_stale_socket(const std::string& path) {
    struct stat status{};
    if (lstat(path.c_str(), &status) != 0) return errno == ENOENT;
    if (!S_ISSOCK(status.st_mode)) return false;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return false;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const bool dead =
        connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno == ECONNREFUSED;
    close(descriptor);
    if (!dead) return false;
    return unlink(path.c_str()) == 0;
}

}  // namespace sallyport::drivers::kernel
