// What an engineer asks of a running dataplane to find a fault: captures, pings, DPDK's telemetry socket.
#include <sys/random.h>

#include <algorithm>

#include "control/daemon/logging.h"
#include "crypto/format.h"
#include "dataplane/appliance.h"
#include "dataplane/telemetry.h"

namespace sallyport {

using nlohmann::json;

namespace {

std::string leg_filter(const SocketAddress& one, const SocketAddress& other) {
    return sallyport::format("(tcp and host {} and host {} and port {} and port {})", one.address.to_string(), other.address.to_string(), one.port, other.port);
}

}  // namespace

void Appliance::start_diagnostics(rte_mempool* capture_pool) {
    std::vector<drivers::CapturedPort> ports;
    for (std::size_t i = 0; i < ports_.size(); ++i)
        ports.push_back({configuration_.ports[i].name, ports_[i]->id(), configuration_.ports[i].vlan});
    captures_ = std::make_unique<Captures>(std::move(ports), workers(), capture_pool, [this](unsigned w, const drivers::CaptureTap* tap) {
        const bool shown = workers_[w]->call([&](Worker& worker, Time) { worker.show_to(tap); });
        if (!shown) hung_ = true;
        return shown;
    });
    if (!telemetry::register_commands()) daemon::log(daemon::Level::warning, "no_dpdk_telemetry", {{"why", "the EAL takes no telemetry commands"}});
}

/// The filter that holds both legs of a flow, by their addresses and ports. The error says that it is gone.
std::expected<std::string, std::string> Appliance::filter_of_flow(channel::FlowId id) {
    std::string filter;
    if (id.worker() < workers_.size() && id.index() != 0) {
        const bool called = workers_[id.worker()]->call([&](Worker& worker, Time now) {
            std::uint32_t at = id.index() - 1;   // of its record
            const auto found = worker.engine().statuses(at, 1, now);
            if (found.empty() || found[0].id != id) return;
            filter = leg_filter(found[0].client, found[0].local);
            if (found[0].backend_local.port != 0) filter += " or " + leg_filter(found[0].backend_local, found[0].backend);
        });
        if (!called) hung_ = true;
    }
    if (filter.empty()) return std::unexpected("there is no such flow, or it has ended; `show flows` lists them");
    return filter;
}

std::expected<json, std::string> Appliance::start_capture(json arguments, const std::vector<channel::Descriptor>& descriptors) {
    if (descriptors.size() != 1) return std::unexpected("no file came with the capture");
    std::string filter = arguments.value("filter", std::string());
    if (const auto flow = arguments.value("flow", std::uint64_t{0}); flow != 0) {
        // By itself first: what closes a bracket of ours would change what it means.
        if (auto good = drivers::CaptureFilter::compile(filter, 0); !good) return std::unexpected("the filter is not good: " + good.error());
        const auto legs = filter_of_flow({flow});
        if (!legs) return std::unexpected(legs.error());
        filter = filter.empty() ? *legs : sallyport::format("({}) and ({})", *legs, filter);
        arguments["filter"] = filter;
    }
    auto started = captures_->start(arguments, descriptors[0], std::chrono::steady_clock::now());
    if (started) (*started)["filter"] = filter;
    return started;
}

std::expected<json, std::string> Appliance::start_ping(const json& arguments) {
    const auto address = IpAddress::parse(arguments.at("address").get<std::string>());
    if (!address) return std::unexpected(address.error());
    Pings::Settings settings;
    settings.to = *address;
    settings.count = arguments.at("count").get<std::uint32_t>();
    settings.interval = std::chrono::milliseconds(arguments.at("interval_ms").get<std::uint32_t>());
    settings.patience = std::chrono::milliseconds(arguments.at("timeout_ms").get<std::uint32_t>());
    settings.octets = arguments.at("size").get<std::uint16_t>();
    std::uint16_t identifier = 0;
    SALLYPORT_CHECK(getrandom(&identifier, sizeof identifier, 0) == sizeof identifier);
    std::expected<std::uint64_t, std::string> started = std::unexpected("a worker hangs");
    // Worker 0: what is neither TCP nor for everyone comes to it (steering.h).
    const bool called = workers_[0]->call([&](Worker& worker, Time now) {
        worker.network().listen_for_echoes(true);
        started = pings_.start(settings, identifier, now);
    });
    if (!called) hung_ = true;
    listening_ = true;
    if (!started) return std::unexpected(started.error());
    return json{{"id", *started}};
}

void Appliance::run_pings() {
    if (!listening_) return;
    const auto send = [&](network::Network& network, const Pings::Due& probe, Time now) {
        const auto room = network.echo_room(probe.to, now);
        if (!room) return pings_.not_sent(probe, sentence(room.error()));
        if (probe.octets > *room) return pings_.not_sent(probe, sallyport::format("{} octets of data do not fit into one packet; {} do", probe.octets, *room));
        if (const auto sent = network.send_echo(probe.to, probe.identifier, probe.sequence, probe.octets, now); !sent)
            pings_.not_sent(probe, sentence(sent.error()));
    };
    const bool called = workers_[0]->call([&](Worker& worker, Time now) {
        network::Network& network = worker.network();
        for (const auto& echo : network.take_echoes()) pings_.heard(echo);
        for (const auto& probe : pings_.overdue(now))
            pings_.timed_out(probe, network.is_resolved(probe.to, now) ? "no reply" : "the next hop did not answer when it was asked for its link-layer address");
        for (const auto& probe : pings_.due(now)) send(network, probe, now);
        listening_ = pings_.running();
        if (!listening_) network.listen_for_echoes(false);
    });
    if (!called) hung_ = true;
}

void Appliance::turn() {
    const auto now = std::chrono::steady_clock::now();
    captures_->turn(now);
    run_pings();
    if (now >= next_publication_) {
        next_publication_ = now + std::chrono::seconds(1);
        publish_telemetry();
    }
}

std::chrono::milliseconds Appliance::patience() const noexcept {
    using std::chrono::milliseconds;
    return captures_->running() ? milliseconds(1) : listening_ ? milliseconds(10)
                                                               : milliseconds(100);
}

void Appliance::publish_telemetry() {
    telemetry::Snapshot snapshot;
    std::uint64_t now = 0, opened = 0, ended = 0, to_backend = 0, to_client = 0;
    DropCounters drops;
    const bool called = on_every_worker([&](Worker& worker, Time) {
        const WorkerCounters& counters = worker.counters();
        const auto& engine = worker.engine().counters();
        snapshot.workers[std::to_string(worker.settings().index)] = {{"packets_in", counters.packets_in},
                                                                     {"packets_out", counters.packets_out},
                                                                     {"cycles_total", counters.cycles_total},
                                                                     {"cycles_busy", counters.cycles_busy},
                                                                     {"flows", worker.engine().flows()},
                                                                     {"connections", worker.stack().connections()},
                                                                     {"records_opened", worker.batch().counters().opened},
                                                                     {"records_sealed", worker.batch().counters().sealed}};
        now += worker.engine().flows();
        opened += engine.flows_opened;
        ended += engine.flows_ended;
        to_backend += engine.octets_to_backend;
        to_client += engine.octets_to_client;
        for (std::size_t i = 0; i < drops.values.size(); ++i) drops.values[i] += worker.drops().values[i];
    });
    if (!called) return;
    snapshot.flows = {{"now", now}, {"opened", opened}, {"ended", ended}, {"octets_to_backend", to_backend}, {"octets_to_client", to_client}};
    for (std::size_t i = 0; i < drops.values.size(); ++i) snapshot.drops[name(static_cast<DropReason>(i))] = drops.values[i];
    for (const auto& port : ports_) {
        const drivers::PortStatus status = port->status();
        snapshot.ports[status.name] = {{"packets_in", status.packets_in}, {"packets_out", status.packets_out}, {"octets_in", status.octets_in}, {"octets_out", status.octets_out}, {"missed", status.missed}, {"errors_in", status.errors_in}, {"errors_out", status.errors_out}, {"no_buffer", status.no_buffer}, {"link_up", status.link_up ? 1 : 0}};
    }
    telemetry::publish(std::move(snapshot));
}

std::expected<json, std::string> Appliance::diagnose(const std::string& what, const json& arguments, const std::vector<channel::Descriptor>& descriptors) {
    if (what == "capture start") return start_capture(arguments, descriptors);
    if (what == "capture stop") return captures_->stop(arguments.at("id").get<std::uint64_t>());
    if (what == "captures") return captures_->report();
    if (what == "ping start") return start_ping(arguments);
    if (what == "ping read") return pings_.read(arguments.at("id").get<std::uint64_t>());
    return std::unexpected("the dataplane knows no report '" + what + "'");
}

}  // namespace sallyport
