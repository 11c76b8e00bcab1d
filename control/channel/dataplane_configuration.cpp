#include "control/channel/dataplane_configuration.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace sallyport::channel {

namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 6> kProfiles{"pci", "af_xdp", "af_packet", "memif", "virtio_user", "tap"};
constexpr Range kAny32{0, UINT32_MAX};

/// A JSON object of which every member is asked for by name, once; what nobody asked for is an error.
class Object {
 public:
    Object(const json& object, std::string path) : object_(object), path_(std::move(path)) {
        if (!object_.is_object())
            throw std::runtime_error((path_.empty() ? "the configuration" : path_) + " is not an object");
    }

    template <std::integral Number>
    void read(const char* name, Number& to, Range range) {
        to = static_cast<Number>(number(member(name), path_of(name), range));
    }
    void read(const char* name, bool& to) {
        const json& value = member(name);
        if (!value.is_boolean()) wrong_type(name, "a boolean");
        to = value.get<bool>();
    }
    void read(const char* name, std::string& to) {
        const json& value = member(name);
        if (!value.is_string()) wrong_type(name, "a string");
        to = value.get<std::string>();
    }
    /// An address, a prefix: what has parse().
    template <typename Parsed>
    void read_parsed(const char* name, Parsed& to) {
        std::string text;
        read(name, text);
        to = parse<Parsed>(text, path_of(name));
    }
    /// `element(json, path)` makes each element of an array.
    template <typename Element>
    void read_array(const char* name, std::vector<Element>& to, auto element) {
        const json& value = member(name);
        if (!value.is_array()) wrong_type(name, "an array");
        to.clear();
        for (std::size_t i = 0; i < value.size(); ++i)
            to.push_back(element(value[i], path_of(name) + "[" + std::to_string(i) + "]"));
    }
    void read_object(const char* name, auto& to, auto element) { to = element(member(name), path_of(name)); }
    [[nodiscard]] std::string path_of(std::string_view name) const {
        return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
    }

    /// Call last.
    void refuse_unknown() const {
        for (const auto& [name, value] : object_.items())
            if (std::ranges::find(known_, name) == known_.end())
                throw std::runtime_error(path_of(name) + " is not known");
    }

    static std::int64_t number(const json& value, const std::string& path, Range range) {
        if (!value.is_number_integer()) throw std::runtime_error(path + " is not an integer");
        // An unsigned number beyond 2^63 turns negative here; no range goes below 0, so that it is out of range as
        // well.
        const auto as_signed = value.get<std::int64_t>();
        if (as_signed < range.least || as_signed > range.most)
            throw std::runtime_error(path + " is " + value.dump() + ", not from " + std::to_string(range.least) +
                                     " to " + std::to_string(range.most));
        return as_signed;
    }
    template <typename Parsed>
    static Parsed parse(const std::string& text, const std::string& path) {
        const auto parsed = Parsed::parse(text);
        if (!parsed) throw std::runtime_error(path + ": " + parsed.error());
        return *parsed;
    }

 private:
    const json& member(const char* name) {
        known_.emplace_back(name);
        const auto found = object_.find(name);
        if (found == object_.end()) throw std::runtime_error(path_of(name) + " is missing");
        return *found;
    }
    [[noreturn]] void wrong_type(const char* name, const char* wanted) const {
        throw std::runtime_error(path_of(name) + " is not " + wanted);
    }

    const json& object_;
    std::string path_;
    std::vector<std::string> known_;
};

json to_value(const PortConfiguration& port) {
    json addresses = json::array(), routes = json::array();
    for (const IpPrefix& address : port.addresses) addresses.push_back(address.to_string());
    for (const RouteConfiguration& route : port.routes)
        routes.push_back({{"to", route.to.to_string()}, {"via", route.via.to_string()}});
    return {{"name", port.name},
            {"profile", port.profile},
            {"device", port.device},
            {"mtu", port.mtu},
            {"vlan", port.vlan},
            {"queues", port.queues},
            {"descriptors", port.descriptors},
            {"mac", port.mac},
            {"memif_server", port.memif_server},
            {"addresses", std::move(addresses)},
            {"routes", std::move(routes)}};
}

std::string string_of(const json& value, const std::string& path) {
    if (!value.is_string()) throw std::runtime_error(path + " is not a string");
    return value.get<std::string>();
}

RouteConfiguration route_of(const json& value, const std::string& path) {
    RouteConfiguration route;
    Object object(value, path);
    object.read_parsed("to", route.to);
    object.read_parsed("via", route.via);
    object.refuse_unknown();
    return route;
}

PortConfiguration port_of(const json& value, const std::string& path) {
    PortConfiguration port;
    Object object(value, path);
    object.read("name", port.name);
    object.read("profile", port.profile);
    if (std::ranges::find(kProfiles, port.profile) == kProfiles.end())
        throw std::runtime_error(object.path_of("profile") + " is '" + port.profile +
                                 "', not one of pci, af_xdp, af_packet, memif, virtio_user, tap");
    object.read("device", port.device);
    object.read("mtu", port.mtu, limits::kMtu);
    object.read("vlan", port.vlan, limits::kVlan);
    object.read("queues", port.queues, limits::kQueues);
    object.read("descriptors", port.descriptors, limits::kDescriptors);
    object.read("mac", port.mac);
    object.read("memif_server", port.memif_server);
    object.read_array("addresses", port.addresses, [](const json& item, const std::string& at) {
        return Object::parse<IpPrefix>(string_of(item, at), at);
    });
    object.read_array("routes", port.routes, route_of);
    object.refuse_unknown();
    return port;
}

TcpConfiguration tcp_of(const json& value, const std::string& path) {
    TcpConfiguration tcp;
    Object object(value, path);
    object.read("ecn", tcp.ecn);
    if (tcp.ecn != "off" && tcp.ecn != "accept" && tcp.ecn != "request")
        throw std::runtime_error(path + ".ecn is \"" + tcp.ecn + "\", not off, accept or request");
    object.read("pacing", tcp.pacing);
    object.read("nagle", tcp.nagle);
    object.read("user_timeout_s", tcp.user_timeout_s, limits::kUserTimeoutS);
    object.read("user_timeout_option", tcp.user_timeout_option);
    object.read("keepalive_s", tcp.keepalive_s, limits::kKeepaliveS);
    object.read("hop_limit", tcp.hop_limit, limits::kHopLimit);
    object.read("dscp", tcp.dscp, limits::kDscp);
    object.refuse_unknown();
    return tcp;
}

ServiceConfiguration service_of(const json& value, const std::string& path) {
    ServiceConfiguration service;
    Object object(value, path);
    object.read("name", service.name);
    object.read("idle_timeout_s", service.idle_timeout_s, limits::kIdleTimeoutS);
    object.read("handshake_timeout_ms", service.handshake_timeout_ms, limits::kHandshakeTimeoutMs);
    object.read("redirect", service.redirect);
    object.refuse_unknown();
    return service;
}

}  // namespace

std::string to_json(const DataplaneConfiguration& configuration) {
    json ports = json::array(), services = json::array(), listens = json::array();
    for (const PortConfiguration& port : configuration.ports) ports.push_back(to_value(port));
    for (const ServiceConfiguration& service : configuration.services)
        services.push_back({{"name", service.name},
                            {"idle_timeout_s", service.idle_timeout_s},
                            {"handshake_timeout_ms", service.handshake_timeout_ms},
                            {"redirect", service.redirect}});
    for (const ListenConfiguration& listen : configuration.listens)
        listens.push_back({{"address", listen.address.to_string()}, {"service", listen.service}});
    const json value{{"generation", configuration.generation},
                     {"cores", configuration.cores},
                     {"handshake_workers", configuration.handshake_workers},
                     {"eal_arguments", configuration.eal_arguments},
                     {"hugepages", configuration.hugepages},
                     {"max_flows", configuration.max_flows},
                     {"buffers", configuration.buffers},
                     {"receive_buffer", configuration.receive_buffer},
                     {"send_buffer", configuration.send_buffer},
                     {"tcp",
                      {{"ecn", configuration.tcp.ecn},
                       {"pacing", configuration.tcp.pacing},
                       {"nagle", configuration.tcp.nagle},
                       {"user_timeout_s", configuration.tcp.user_timeout_s},
                       {"user_timeout_option", configuration.tcp.user_timeout_option},
                       {"keepalive_s", configuration.tcp.keepalive_s},
                       {"hop_limit", configuration.tcp.hop_limit},
                       {"dscp", configuration.tcp.dscp}}},
                     {"control_away_ms", configuration.control_away_ms},
                     {"ports", std::move(ports)},
                     {"services", std::move(services)},
                     {"listens", std::move(listens)}};
    // The strings are paths and names that a person typed: octets that are not UTF-8 become U+FFFD rather than an
    // exception.
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

DataplaneConfiguration dataplane_configuration_from_json(const std::string& text) {
    json value;
    try {
        value = json::parse(text);
    } catch (const json::parse_error& error) {
        throw std::runtime_error(std::string("not JSON: ") + error.what());
    }
    DataplaneConfiguration configuration;
    Object object(value, "");
    object.read("generation", configuration.generation, kAny32);
    object.read_array("cores", configuration.cores, [](const json& item, const std::string& at) {
        return static_cast<std::uint32_t>(Object::number(item, at, limits::kCore));
    });
    if (std::cmp_less(configuration.cores.size(), limits::kWorkers.least) ||
        std::cmp_greater(configuration.cores.size(), limits::kWorkers.most))
        throw std::runtime_error("cores has " + std::to_string(configuration.cores.size()) + " elements, not from " +
                                 std::to_string(limits::kWorkers.least) + " to " +
                                 std::to_string(limits::kWorkers.most));
    object.read("handshake_workers", configuration.handshake_workers, limits::kHandshakeWorkers);
    if (configuration.cores.size() * configuration.handshake_workers > limits::kLanes)
        throw std::runtime_error(std::to_string(configuration.cores.size()) + " cores by " + std::to_string(configuration.handshake_workers) +
                                 " handshake workers are more lanes than " + std::to_string(limits::kLanes));
    object.read_array("eal_arguments", configuration.eal_arguments, string_of);
    object.read("hugepages", configuration.hugepages);
    object.read("max_flows", configuration.max_flows, limits::kMaxFlows);
    object.read("buffers", configuration.buffers, limits::kBuffers);
    object.read("receive_buffer", configuration.receive_buffer, limits::kBufferOctets);
    object.read("send_buffer", configuration.send_buffer, limits::kBufferOctets);
    object.read_object("tcp", configuration.tcp, tcp_of);
    object.read("control_away_ms", configuration.control_away_ms, limits::kControlAwayMs);
    object.read_array("ports", configuration.ports, port_of);
    object.read_array("services", configuration.services, service_of);
    object.read_array("listens", configuration.listens, [&](const json& item, const std::string& at) {
        ListenConfiguration listen;
        Object inner(item, at);
        inner.read_parsed("address", listen.address);
        inner.read("service", listen.service, {0, static_cast<std::int64_t>(configuration.services.size()) - 1});
        inner.refuse_unknown();
        return listen;
    });
    object.refuse_unknown();
    return configuration;
}

}  // namespace sallyport::channel
