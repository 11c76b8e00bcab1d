#include "tests/bench/generator/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>

#include "control/daemon/exit_code.h"
#include "crypto/format.h"
#include "tests/bench/generator/message.h"
#include "tests/bench/generator/slices.h"

namespace sallyport::generator {
namespace {

/// The words of a command line that become values only when all of it has been read.
struct Words {
    std::string client_port, backend_port;
    std::vector<std::string> client_addresses, backend_addresses, client_gateways, backend_gateways, sources, targets, listen;
    std::string versions = "1.2,1.3", backend_versions = "1.2,1.3";
    bool no_hugepages = false;
    std::optional<double> open_rate;
    std::optional<std::uint32_t> opening_at_once;
};

struct Bad {
    std::string text;
};

template <typename Number>
Number number(const std::string& name, const std::string& text, std::uint64_t least, std::uint64_t most) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
        throw Bad{sallyport::format("{} = \"{}\": a number from {} to {}", name, text, least, most)};
    return static_cast<Number>(value);
}

template <typename Value>
std::vector<Value> parsed(const char* option, const std::vector<std::string>& texts) {
    std::vector<Value> values;
    for (const std::string& text : texts) {
        auto value = Value::parse(text);
        if (!value) throw Bad{sallyport::format("{} {}: {}", option, text, value.error())};
        values.push_back(*value);
    }
    return values;
}

void set_versions(const char* option, const std::string& text, TlsOptions& tls) {
    if (text == "1.2")
        tls.most_version = 0x0303;
    else if (text == "1.3")
        tls.least_version = 0x0304;
    else if (text != "1.2,1.3" && text != "1.3,1.2")
        throw Bad{sallyport::format("{} {}: 1.2, 1.3 or 1.2,1.3", option, text)};
}

void set_side(const char* name, SideOptions& side, const std::string& port, const std::vector<std::string>& addresses, const std::vector<std::string>& gateways) {
    if (!port.empty()) {
        auto settings = parse_port(port, side.vlan);
        if (!settings) throw Bad{sallyport::format("--{}-port {}: {}", name, port, settings.error())};
        settings->name = name;
        side.port = *settings;
    }
    side.addresses = parsed<IpPrefix>(sallyport::format("--{}-address", name).c_str(), addresses);
    for (const IpAddress& gateway : parsed<IpAddress>(sallyport::format("--{}-gateway", name).c_str(), gateways)) {
        if (std::ranges::none_of(side.addresses, [&](const IpPrefix& own) { return own.contains(gateway); }))
            throw Bad{sallyport::format("--{}-gateway {}: is in the prefix of no --{}-address", name, gateway.to_string(), name)};
        (gateway.is_v4() ? side.gateway_v4 : side.gateway_v6) = gateway;
    }
}

void check(Options& options, const Words& words) {
    set_side("client", options.clients, words.client_port, words.client_addresses, words.client_gateways);
    set_side("backend", options.backends, words.backend_port, words.backend_addresses, words.backend_gateways);
    options.sources = parsed<IpPrefix>("--clients", words.sources);
    options.targets = parsed<SocketAddress>("--target", words.targets);
    options.listen = parsed<SocketAddress>("--listen", words.listen);
    set_versions("--tls", words.versions, options.clients.tls);
    set_versions("--backend-tls", words.backend_versions, options.backends.tls);
    options.hugepages = !words.no_hugepages;
    // Where opening is the load, nothing but the connections bounds it; where it only comes before it, nothing is to be flooded by it.
    options.open_rate = words.open_rate.value_or(options.mode == Mode::close ? 0 : 1000);
    options.opening_at_once = words.opening_at_once.value_or(options.mode == Mode::close ? options.connections : 64);
    options.clients.tls.server_name = options.host;

    if (options.loopback) {
        if (options.clients.port || options.backends.port) throw Bad{"--loopback needs no port: leave out --client-port and --backend-port"};
        if (options.clients.addresses.empty()) options.clients.addresses = {*IpPrefix::parse("192.0.2.1/24")};
        if (options.backends.addresses.empty()) options.backends.addresses = {*IpPrefix::parse("192.0.2.2/24")};
        if (!options.clients.gateway_v4 && !options.sources.empty()) options.clients.gateway_v4 = options.backends.addresses.front().address;
        if (!options.backends.gateway_v4 && !options.sources.empty()) options.backends.gateway_v4 = options.clients.addresses.front().address;
    }
    if (!options.has_clients() && !options.has_backends()) throw Bad{"nothing to do: give --client-port, --backend-port or both, or --loopback"};
    if (options.has_clients() && options.clients.addresses.empty()) throw Bad{"--client-address: the clients' port needs an address with its prefix, such as 192.0.2.2/24"};
    if (options.has_backends()) {
        if (options.backends.addresses.empty()) throw Bad{"--backend-address: the backends' port needs an address with its prefix, such as 198.51.100.2/24"};
        const std::uint16_t port = options.backends.plain ? 80 : 443;
        if (options.listen.empty())
            for (const IpPrefix& own : options.backends.addresses) options.listen.push_back({own.address, port});
        for (const SocketAddress& address : options.listen)
            if (!std::ranges::contains(options.backends.addresses, address.address, &IpPrefix::address))
                throw Bad{sallyport::format("--listen {}: {} is no --backend-address", address.to_string(), address.address.to_string())};
        if (!options.backends.plain && options.backends.tls.certificate.empty()) throw Bad{"backends with TLS need --backend-certificate and --backend-key (or --backend-plain)"};
    } else if (!options.listen.empty()) {
        throw Bad{"--listen: there are no backends without --backend-port"};
    }
    if (options.targets.empty()) options.targets = options.listen;
    if (options.has_clients() && options.targets.empty()) throw Bad{"--target: say what the clients are to connect to, such as 192.0.2.1:443"};
    if (!options.path.empty() && options.path.front() != '/') throw Bad{sallyport::format("--path {}: begins with /", options.path)};
    if (const auto request = RequestText::make(options.host, options.request_size, options.answer_size, options.path); !request)
        throw Bad{sallyport::format("--request-size {}: {}", options.request_size, request.error())};
    if (options.mode == Mode::idle && options.rate > 0) throw Bad{"--rate: has no meaning with --mode idle; --open-rate and --probe-rate are its rates"};
    if (options.slice > 0 && options.mode == Mode::idle) throw Bad{"--slice: has no meaning with --mode idle"};
    if (options.slice > 0 && (options.slice > options.duration || options.duration / options.slice > Slices::kMost))
        throw Bad{sallyport::format("--slice {:g}: a --duration of {:g} has 1 to {} of them", options.slice, options.duration, Slices::kMost)};
    if (options.course > 0 && options.mode == Mode::idle) throw Bad{"--course: has no meaning with --mode idle"};
    if (options.course > 0 && options.duration / options.course > Options::kMostMarks)
        throw Bad{sallyport::format("--course {:g}: a --duration of {:g} has at most {:g} of them", options.course, options.duration, Options::kMostMarks)};
    if (options.active > 0 && (options.mode != Mode::kept || options.rate > 0)) throw Bad{"--active: is for a closed loop of kept connections: --mode kept, and no --rate"};
    if (options.mode == Mode::close && options.rate > 0 && options.requests_per_connection > 1)
        throw Bad{"--requests: with --rate it is connections that are due, each with one request"};
    if (options.clients.plain && options.resume_percent > 0) throw Bad{"--resume: there are no sessions without TLS"};
    if (!options.backends.plain && options.backends.tls.tickets == 0 && options.resume_percent > 0 && options.loopback)
        throw Bad{"--resume: backends with --backend-tickets 0 give no sessions"};
}

}  // namespace

std::expected<drivers::PortSettings, std::string> parse_port(const std::string& text, std::uint16_t& vlan) {
    static const std::map<std::string, drivers::Profile> kProfiles{{"pci", drivers::Profile::pci}, {"af_xdp", drivers::Profile::af_xdp}, {"af_packet", drivers::Profile::af_packet}, {"memif", drivers::Profile::memif}, {"virtio_user", drivers::Profile::virtio_user}, {"vhost_user", drivers::Profile::vhost_user}, {"tap", drivers::Profile::tap}};
    drivers::PortSettings port;
    const std::size_t colon = text.find(':');
    const auto profile = kProfiles.find(text.substr(0, colon));
    if (colon == std::string::npos || profile == kProfiles.end()) return std::unexpected("is to be PROFILE:DEVICE with one of the profiles pci, af_xdp, af_packet, memif, virtio_user, vhost_user or tap");
    port.profile = profile->second;
    std::istringstream rest(text.substr(colon + 1));
    std::getline(rest, port.device, ',');
    if (port.device.empty()) return std::unexpected("the device is missing behind " + profile->first + ":");
    try {
        for (std::string setting; std::getline(rest, setting, ',');) {
            const std::size_t equals = setting.find('=');
            const std::string name = setting.substr(0, equals), value = equals == std::string::npos ? "" : setting.substr(equals + 1);
            if (name == "mtu") {
                port.mtu = number<std::uint16_t>(name, value, 576, 9600);
            } else if (name == "vlan") {
                vlan = number<std::uint16_t>(name, value, 1, 4094);
                port.vlan = true;
            } else if (name == "descriptors") {
                port.descriptors = number<std::uint16_t>(name, value, 64, 16384);
            } else if (name == "mac") {
                port.mac = value;
            } else if (name == "role" && port.profile == drivers::Profile::memif && (value == "server" || value == "client")) {
                port.memif_server = value == "server";
            } else {
                throw Bad{sallyport::format("\"{}\" is not understood; mtu=N, vlan=N, descriptors=N, mac=XX:XX:XX:XX:XX:XX, and with memif role=server or role=client", setting)};
            }
        }
    } catch (const Bad& bad) {
        return std::unexpected(bad.text);
    }
    return port;
}

std::expected<Options, UsageError> parse_options(int argc, const char* const* argv) {
    Options options;
    Words words;
    CLI::App app("Load for a TLS terminator on DPDK ports: plays the clients in front of it and the backends behind it. See the README of its folder.",
                 "sallyport_generator");
    app.set_version_flag("--version", std::string("sallyport_generator ") + SALLYPORT_VERSION);
    app.set_config("--config", "", "options from a file, a line each: name=value");
    app.get_formatter()->column_width(38);
    const auto positive = CLI::PositiveNumber;
    const auto not_negative = CLI::NonNegativeNumber;

    auto* const ports = app.add_option_group("Ports", "PROFILE:DEVICE[,mtu=N][,vlan=N][,descriptors=N][,mac=M][,role=server|client]");
    ports->add_option("--client-port", words.client_port, "the clients', such as memif:/run/clients.sock,role=server or af_packet:eth1");
    ports->add_option("--client-address", words.client_addresses, "our address on it, with its prefix; one of IPv4 and one of IPv6 at least, where both are used");
    ports->add_option("--client-gateway", words.client_gateways, "the next hop to everything else");
    ports->add_option("--clients", words.sources, "prefixes whose addresses are clients too; the terminator routes them to --client-address");
    ports->add_option("--backend-port", words.backend_port, "the backends'");
    ports->add_option("--backend-address", words.backend_addresses, "as --client-address");
    ports->add_option("--backend-gateway", words.backend_gateways, "as --client-gateway");
    ports->add_flag("--loopback", options.loopback, "no ports and nothing between: the clients connect to the backends (self-test)");

    auto* const load = app.add_option_group("Load");
    load->add_option("--target", words.targets, "ADDRESS:PORT that clients connect to, in turn (default: the backends themselves)");
    load->add_option("--mode", options.mode, "kept: connections stay; close: one for each request; idle: held, each probed at the end")
        ->transform(CLI::CheckedTransformer(std::map<std::string, Mode>{{"kept", Mode::kept}, {"close", Mode::close}, {"idle", Mode::idle}}))
        ->default_str("kept");
    load->add_option("--connections", options.connections, "at once")->check(CLI::Range(1u, 16'000'000u))->capture_default_str();
    load->add_option("--active", options.active, "of these, with --mode kept and without --rate, that send requests; the others are idle (default: all)")->check(CLI::Range(1u, 16'000'000u));
    load->add_option("--requests", options.requests_per_connection, "on each connection, with --mode close; 0: closed as soon as it is open")->check(CLI::Range(0u, 1'000'000'000u))->capture_default_str();
    load->add_option("--rate", options.rate, "open loop: requests (with --mode close: connections) due a second; without it each waits for the answer before")->check(positive);
    load->add_option("--spacing", options.spacing, "of an open loop: poisson or constant")
        ->transform(CLI::CheckedTransformer(std::map<std::string, Spacing>{{"poisson", Spacing::poisson}, {"constant", Spacing::constant}}))
        ->default_str("poisson");
    load->add_option("--open-rate", words.open_rate, "connections opened a second, at most; 0: no limit (default: 1000; mode close: no limit)")->check(not_negative);
    load->add_option("--opening-at-once", words.opening_at_once, "connections under way to be open, at most (default: 64; mode close: all)")->check(CLI::Range(1u, 16'000'000u));
    load->add_option("--probe-rate", options.probe_rate, "requests a second at the end of --mode idle; 0: no limit")->check(not_negative)->capture_default_str();
    load->add_option("--settle", options.settle, "seconds before the first connection, with the links up: for health checks to find the backends")->check(not_negative)->capture_default_str();
    load->add_option("--warm-up", options.warm_up, "seconds of load before those that count")->check(not_negative)->capture_default_str();
    load->add_option("--duration", options.duration, "seconds that count; with --mode idle those of holding")->check(positive)->capture_default_str();
    load->add_option("--answers", options.answers, "ends the time that counts once so many answers have come in all (default: no such bound)");
    load->add_option("--drain", options.drain, "seconds to wait for the last answers")->check(not_negative)->capture_default_str();
    load->add_option("--timeout", options.timeout, "seconds for a connection to be ready, and for a whole answer")->check(positive)->capture_default_str();
    load->add_option("--seed", options.seed, "of everything that is drawn at random")->capture_default_str();

    auto* const messages = app.add_option_group("Messages");
    messages->add_option("--host", options.host, "Host of requests, and the name that TLS asks for and verifies")->capture_default_str();
    messages->add_option("--request-size", options.request_size, "octets of a request, its head included; 0: the shortest")->capture_default_str();
    messages->add_option("--answer-size", options.answer_size, "octets of an answer's body")->check(CLI::Range(std::uint64_t{0}, std::uint64_t{9'999'999'999}))->capture_default_str();
    messages->add_option("--record-size", options.record_size, "octets of content in a TLS record, at most")->check(CLI::Range(64u, 16384u))->capture_default_str();
    messages->add_option("--key-update-every", options.key_update_every, "records after which a sender of TLS 1.3 changes its key, and asks for the peer's; 0: as seldom as AES-GCM allows")->capture_default_str();
    messages->add_option("--compare-every", options.compare_every, "compares one answer in so many octet by octet; 0: none")->capture_default_str();
    messages->add_option("--path", options.path, "asks other servers for this path: answers of any length, not compared");

    auto* const tls = app.add_option_group("Clients' TLS");
    tls->add_flag("--plain", options.clients.plain, "none");
    tls->add_option("--tls", words.versions, "1.2, 1.3 or 1.2,1.3")->capture_default_str();
    tls->add_option("--suite", options.clients.tls.suites, "IANA's names, by preference (default: all with an AEAD)")->delimiter(',');
    tls->add_option("--groups", options.clients.tls.groups, "such as x25519,X25519MLKEM768 (default: libssl's)");
    tls->add_option("--ca", options.clients.tls.trust, "PEM file of CAs: the server is verified (default: it is not)")->check(CLI::ExistingFile);
    tls->add_option("--alpn", options.clients.tls.alpn, "protocol to offer, such as http/1.1")->check(CLI::Validator([](std::string& text) { return text.size() > 255 ? std::string("255 octets at most") : std::string(); }, ""));
    tls->add_option("--client-certificate", options.clients.tls.certificate, "PEM chain to show when asked")->check(CLI::ExistingFile);
    tls->add_option("--client-key", options.clients.tls.key, "its key")->check(CLI::ExistingFile);
    tls->add_option("--resume", options.resume_percent, "percent of handshakes that offer a session, when there is one")->check(CLI::Range(0.0, 100.0))->capture_default_str();

    auto* const backends = app.add_option_group("Backends");
    backends->add_option("--listen", words.listen, "ADDRESS:PORT (default: each --backend-address, port 443, or 80 when plain)");
    backends->add_flag("--backend-plain", options.backends.plain, "no TLS");
    backends->add_option("--backend-certificate", options.backends.tls.certificate, "PEM chain")->check(CLI::ExistingFile);
    backends->add_option("--backend-key", options.backends.tls.key, "its key")->check(CLI::ExistingFile);
    backends->add_option("--backend-tls", words.backend_versions, "as --tls")->capture_default_str();
    backends->add_option("--backend-suite", options.backends.tls.suites, "as --suite")->delimiter(',');
    backends->add_option("--backend-groups", options.backends.tls.groups, "as --groups");
    backends->add_option("--backend-alpn", options.backends.tls.alpn, "protocol that is agreed to; without it ALPN is not answered");
    backends->add_option("--backend-tickets", options.backends.tls.tickets, "for each full handshake; 0: sessions cannot be resumed")->check(CLI::Range(0u, 16u))->capture_default_str();
    backends->add_option("--backend-connections", options.backend_connections, "at most (default: twice the clients' and 4096)");

    auto* const machine = app.add_option_group("Machine");
    machine->add_option("--core", options.core, "that it runs on")->capture_default_str();
    machine->add_option("--file-prefix", options.file_prefix, "of DPDK's files: one of its own for each process")->capture_default_str();
    machine->add_flag("--no-hugepages", words.no_hugepages, "for packet buffers");
    machine->add_option("--memory", options.memory_mb, "MB for packet buffers without huge pages (default: 1024)");
    machine->add_option("--buffers", options.buffers, "packet buffers of each pool (default: by connections)");
    machine->add_option("--receive-buffer", options.receive_buffer, "octets of TCP's, at most")->check(CLI::Range(16384u, 1u << 30))->capture_default_str();
    machine->add_option("--send-buffer", options.send_buffer, "octets of TCP's, at most")->check(CLI::Range(32768u, 1u << 30))->capture_default_str();

    auto* const output = app.add_option_group("Output");
    output->add_option("--json", options.json_file, "all results in a file (- for standard output, in place of the table)");
    output->add_option("--slice", options.slice, "seconds: besides, the median of what latencies were in each slice of that length, which a machine that stops now and then does not decide")->check(positive);
    output->add_option("--course", options.course, "seconds: besides, what had come in by then, each time that so many of the window were over")->check(positive);
    output->add_option("--percentiles", options.percentiles_file, "the distribution of the last octet's latency as HdrHistogram prints it, in microseconds");
    output->add_option("--most-failures", options.most_failures, "percent of connections and requests that may fail before the exit code is 1")->check(CLI::Range(0.0, 100.0))->capture_default_str();
    output->add_flag("--quiet", options.quiet, "no progress on standard error");
    try {
        app.parse(argc, argv);
        check(options, words);
    } catch (const CLI::ParseError& error) {
        std::ostringstream text;
        const int code = app.exit(error, text, text);
        return std::unexpected(UsageError{text.str(), code == 0 ? exit_code::kOk : exit_code::kUsage});
    } catch (const Bad& bad) {
        return std::unexpected(UsageError{bad.text + "\n", exit_code::kUsage});
    }
    return options;
}

}  // namespace sallyport::generator
