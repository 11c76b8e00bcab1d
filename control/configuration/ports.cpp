#include "control/configuration/ports.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>

namespace sallyport::configuration {

namespace {

/// The address with the bits beyond the prefix cleared.
IpAddress network_of(const IpPrefix& prefix) {
    IpAddress result = prefix.address;
    const unsigned bits = (result.is_v4() ? 96u : 0u) + prefix.length;
    for (unsigned i = 0; i < 16; ++i) {
        const unsigned kept = std::clamp<int>(static_cast<int>(bits) - static_cast<int>(8 * i), 0, 8);
        result.octets[i] &= static_cast<std::uint8_t>(0xff00u >> kept);
    }
    return result;
}

bool is_ipv4_broadcast(const IpPrefix& prefix) {
    if (!prefix.address.is_v4() || prefix.length > 30) return false;
    IpAddress last = network_of(prefix);
    for (unsigned bit = prefix.length; bit < 32; ++bit)
        last.octets[12 + bit / 8] |= static_cast<std::uint8_t>(0x80u >> (bit % 8));
    return prefix.address == last;
}

/// RFC 791's network address; RFC 4291 2.6.1's subnet-router anycast address. Not on point-to-point links (RFC 3021,
/// RFC 6164).
bool is_network_itself(const IpPrefix& prefix) {
    const unsigned last = prefix.address.is_v4() ? 30 : 126;
    return prefix.length <= last && prefix.address == network_of(prefix);
}

bool overlap(const IpPrefix& a, const IpPrefix& b) {
    return a.length <= b.length ? a.contains(b.address) : b.contains(a.address);
}

bool is_pci_address(std::string_view text) {
    constexpr std::string_view kShape = "hhhh:hh:hh.o";
    return text.size() == kShape.size() && std::ranges::equal(text, kShape, [](unsigned char c, char shape) {
               if (shape == 'h') return std::isxdigit(c) != 0;
               if (shape == 'o') return c >= '0' && c <= '7';
               return c == static_cast<unsigned char>(shape);
           });
}

std::optional<std::array<std::uint8_t, 6>> parse_mac(std::string_view text) {
    if (text.size() != 17) return std::nullopt;
    std::array<std::uint8_t, 6> octets{};
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (i % 3 == 2) {
            if (c != ':') return std::nullopt;
            continue;
        }
        if (std::isxdigit(c) == 0) return std::nullopt;
        const int digit = std::isdigit(c) != 0 ? c - '0' : std::tolower(c) - 'a' + 10;
        octets[i / 3] = static_cast<std::uint8_t>(octets[i / 3] * 16 + digit);
    }
    return octets;
}

std::string line_text(int line) {
    return "line " + std::to_string(line);
}

}  // namespace

void check_name(Value& value, std::map<std::string, int>& seen, std::string_view of_what, Problems& problems) {
    if (!value.good) return;
    const bool plain = std::ranges::all_of(value.text, [](unsigned char c) {
        return c < 0x80 &&
               (std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == ':' || c == '[' || c == ']');
    });
    if (!plain) {
        problems.add(value, "has characters in it that a name cannot have", "letters, digits and . _ - : [ ]");
        return;
    }
    const auto [found, added] = seen.emplace(value.text, value.place.line);
    if (!added)
        problems.add(value, "is the name of another " + std::string(of_what) + " too, at " + line_text(found->second),
                     "a name of its own");
}

bool check_unicast(Value& value, const IpAddress& address, Problems& problems) {
    const auto& o = address.octets;
    const char* what = nullptr;
    if (address.is_unspecified())
        what = "is the unspecified address";
    else if (address.is_v4() ? o[12] >= 224 && o[12] <= 239 : o[0] == 0xff)
        what = "is a multicast address";
    else if (address.is_v4() ? o[12] == 127 : address == *IpAddress::parse("::1"))
        what = "is a loopback address";
    else if (address.is_v4() && (o[12] == 0 || o[12] >= 240))
        what = "is a reserved address (RFC 6890)";
    if (what == nullptr) return true;
    problems.add(value, what, "a unicast address");
    return false;
}

Ports::Ports(Value& list, const std::filesystem::path& directory, std::size_t workers, Problems& problems) : problems_(problems), workers_(workers) {
    complete_ = list.good;
    for (Value& item : list.items) port(item, directory);
}

void Ports::port(Value& value, const std::filesystem::path& directory) {
    if (!value.good) {
        complete_ = false;
        return;
    }
    channel::PortConfiguration port;
    check_name(value["name"], names_, "port", problems_);
    port.name = value["name"].text;
    port.profile = value["profile"].text;
    port.mtu = static_cast<std::uint16_t>(value["mtu"].integer);
    port.vlan = static_cast<std::uint16_t>(value["vlan"].integer);
    Value& queues = value["queues"];
    port.queues = static_cast<std::uint16_t>(queues.integer);
    if (queues.good && workers_ != 0 && port.queues > workers_)   // a queue has one worker that polls it, and that worker's buffers
        problems_.add(queues, "is more than there are workers: dataplane.cores has " + std::to_string(workers_), std::to_string(workers_) + " or less; 0: one a worker");
    Value& descriptors = value["descriptors"];
    port.descriptors = static_cast<std::uint16_t>(descriptors.integer);
    if (descriptors.good && port.descriptors != 0 && (port.descriptors < 64 || !std::has_single_bit(port.descriptors)))
        problems_.add(descriptors, "is not a length that rings can have", "a power of two from 64 to 32768, or 0");
    if (value["profile"].good) device(value, port, directory);
    mac(value["mac"], port);
    addresses(value, port);
    configurations_.push_back(std::move(port));
    routes(value["routes"], configurations_.back());
}

void Ports::device(Value& value, channel::PortConfiguration& port, const std::filesystem::path& directory) {
    Value& role = value["memif_role"];
    port.memif_server = role.text == "server";
    if (role.present && role.good && port.profile != "memif")
        problems_.add(role, "is set for a port of profile " + port.profile, "memif_role with profile = \"memif\" only");
    Value& device = value["device"];
    if (!device.good) return;
    port.device = device.text;
    if (port.profile == "pci") {
        if (!is_pci_address(device.text))
            problems_.add(device, "is not a PCI address",
                          "DOMAIN:BUS:DEVICE.FUNCTION as lspci -D prints it, such as \"0000:03:00.0\"");
        std::ranges::transform(port.device, port.device.begin(),
                               [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    } else if (port.profile == "memif" || port.profile == "virtio_user") {
        port.device = (directory / device.text).lexically_normal().string();
        if (port.device.size() > 107)
            problems_.add(device, "is too long for a UNIX socket", "a path of at most 107 octets");
    } else {
        // IFNAMSIZ counts a zero at the end.
        const bool plain = std::ranges::all_of(
            device.text, [](unsigned char c) { return c > ' ' && c < 0x7f && c != '/' && c != ':' && c != ','; });
        if (device.text.size() > 15)
            problems_.add(device, "is longer than the name of an interface can be", "at most 15 octets");
        else if (!plain || device.text == "." || device.text == "..")
            problems_.add(device, "cannot be the name of an interface", "a name as ip link prints it");
    }
    if (!device.good) return;
    const auto [found, added] = devices_.emplace(port.device, device.place.line);
    if (!added)
        problems_.add(device, "is the device of another port too, at " + line_text(found->second),
                      "one port for each device");
}

void Ports::mac(Value& value, channel::PortConfiguration& port) {
    if (!value.good || value.text.empty()) return;
    const auto octets = parse_mac(value.text);
    if (!octets)
        problems_.add(value, "is not a MAC address", "six octets in hexadecimal, such as \"02:00:00:00:00:01\"");
    else if (((*octets)[0] & 1) != 0)
        problems_.add(value, "is a group address", "an even first octet");
    else if (std::ranges::all_of(*octets, [](std::uint8_t octet) { return octet == 0; }))
        problems_.add(value, "is all zero", "an address of its own, or \"\" for the device's");
    port.mac = value.text;
}

void Ports::addresses(Value& value, channel::PortConfiguration& port) {
    complete_ = complete_ && value["addresses"].good;
    bool v6 = false;
    for (Value& item : value["addresses"].items) {
        const auto prefix =
            parse<IpPrefix>(item, problems_, "ADDRESS/LENGTH, such as \"192.0.2.1/24\" or \"2001:db8::1/64\"");
        if (prefix) {
            v6 = v6 || !prefix->address.is_v4();
            address(item, port, *prefix);
            port.addresses.push_back(*prefix);
        }
        complete_ = complete_ && item.good;
    }
    Value& mtu = value["mtu"];
    if (v6 && mtu.good && mtu.integer < 1280)
        problems_.add(mtu, "is less than IPv6 needs (RFC 8200 5), and the port has IPv6 addresses", "1280 or more");
}

void Ports::address(Value& item, const channel::PortConfiguration& port, const IpPrefix& prefix) {
    if (!check_unicast(item, prefix.address, problems_)) return;
    if (prefix.length == 0)
        return problems_.add(item, "has a prefix that is the whole Internet",
                             "the prefix of the network that the port is in");
    if (is_ipv4_broadcast(prefix))
        return problems_.add(item, "is the broadcast address of its network", "the address of a host in it");
    if (is_network_itself(prefix))
        return problems_.add(item, "is the address of the network itself", "the address of a host in it");
    if (has_address(prefix.address) || std::ranges::contains(port.addresses, prefix.address, &IpPrefix::address))
        return problems_.add(item, "is given to a port already", "each address once");
    // Two ports in one network: a packet for it could leave by either.
    for (const channel::PortConfiguration& other : configurations_)
        for (const IpPrefix& theirs : other.addresses)
            if (overlap(prefix, theirs))
                return problems_.add(item, "overlaps with " + theirs.to_string() + " of port " + in_quotes(other.name),
                                     "a network of its own for each port");
}

void Ports::routes(Value& value, channel::PortConfiguration& port) {
    complete_ = complete_ && value.good;
    for (Value& item : value.items) {
        if (!item.good) {
            complete_ = false;
            continue;
        }
        Value& to_value = item["to"];
        Value& via_value = item["via"];
        const auto to = parse<IpPrefix>(to_value, problems_,
                                        "PREFIX/LENGTH, such as \"198.51.100.0/24\", or \"0.0.0.0/0\" for all");
        const auto via = parse<IpAddress>(via_value, problems_, "address of the gateway");
        if (to && network_of(*to) != to->address)
            problems_.add(to_value, "has bits set beyond its length",
                          in_quotes(IpPrefix{network_of(*to), to->length}.to_string()));
        if (to && to_value.good) {
            const auto [found, added] = routes_.emplace(to->to_string(), to_value.place.line);
            if (!added)
                problems_.add(to_value, "has a route already, at " + line_text(found->second),
                              "one route for each destination");
        }
        if (to && via && to->address.is_v4() != via->is_v4())
            problems_.add(via_value, "is not of the same version of IP as the destination",
                          to->address.is_v4() ? "an IPv4 address" : "an IPv6 address");
        if (via && via_value.good && check_unicast(via_value, *via, problems_)) {
            if (has_address(*via))
                problems_.add(via_value, "is an address of the appliance itself", "the address of another router");
            else if (complete_ && !std::ranges::any_of(port.addresses,
                                                       [&](const IpPrefix& prefix) { return prefix.contains(*via); }))
                problems_.add(via_value, "is in no prefix of this port",
                              "a gateway in a prefix of the port's addresses");
        }
        if (to && via) port.routes.push_back({*to, *via});
        complete_ = complete_ && to_value.good && via_value.good;
    }
}

bool Ports::has_address(const IpAddress& address) const {
    return std::ranges::any_of(configurations_, [&](const auto& port) {
        return std::ranges::contains(port.addresses, address, &IpPrefix::address);
    });
}

bool Ports::reaches(const IpAddress& address) const {
    return std::ranges::any_of(configurations_, [&](const channel::PortConfiguration& port) {
        return std::ranges::any_of(port.addresses, [&](const IpPrefix& prefix) { return prefix.contains(address); }) ||
               std::ranges::any_of(
                   port.routes, [&](const channel::RouteConfiguration& route) { return route.to.contains(address); });
    });
}

std::string Ports::addresses() const {
    std::string text;
    for (const channel::PortConfiguration& port : configurations_)
        for (const IpPrefix& prefix : port.addresses) (text += text.empty() ? "" : ", ") += prefix.address.to_string();
    return text;
}

}  // namespace sallyport::configuration
