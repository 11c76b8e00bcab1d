#include "dataplane/appliance.h"

#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>

#include "control/channel/object_id.h"
#include "control/daemon/exit_code.h"
#include "control/daemon/logging.h"
#include "control/daemon/signals.h"
#include "drivers/environment.h"

namespace sallyport {

namespace {

std::expected<drivers::Profile, std::string> profile_of(const std::string& name) {
    if (name == "pci") return drivers::Profile::pci;
    if (name == "af_xdp") return drivers::Profile::af_xdp;
    if (name == "af_packet") return drivers::Profile::af_packet;
    if (name == "memif") return drivers::Profile::memif;
    if (name == "virtio_user") return drivers::Profile::virtio_user;
    if (name == "tap") return drivers::Profile::tap;
    return std::unexpected("unknown port profile '" + name + "'");
}

void eal_log(int level, const char* line) {
    // DPDK's levels: 1 emergency to 8 debug (rte_log.h).
    const auto ours = level <= 4 ? daemon::Level::error : level == 5 ? daemon::Level::warning
                                                      : level <= 7   ? daemon::Level::info
                                                                     : daemon::Level::debug;
    daemon::log(ours, "eal", {{"text", line}});
}

int run_worker(void* worker) {
    static_cast<Worker*>(worker)->run();
    return 0;
}

void fill_random(std::span<std::uint8_t> octets) {
    SALLYPORT_CHECK(getrandom(octets.data(), octets.size(), 0) == static_cast<ssize_t>(octets.size()));
}

/// What this machine has and no other, restarts or not: its id (machine-id(5)), of which only a keyed hash is ever seen outside. Without
/// one, noughts: timestamps then start at the time of day, which is no secret, and everything else that must not be guessed has its own.
std::array<std::uint8_t, 16> machine_secret() {
    std::array<std::uint8_t, 16> secret{};
    std::ifstream file("/etc/machine-id");
    std::string text;
    if (!(file >> text) || text.size() != 2 * secret.size()) return secret;
    for (std::size_t i = 0; i < secret.size(); ++i) {
        const char* const from = text.data() + 2 * i;
        if (std::from_chars(from, from + 2, secret[i], 16).ptr != from + 2) return {};
    }
    return secret;
}

}  // namespace

std::shared_ptr<const flow::ServiceTable> Appliance::service_table(const channel::DataplaneConfiguration& configuration) {
    auto table = std::make_shared<flow::ServiceTable>();
    table->generation = configuration.generation;
    for (const auto& service : configuration.services)
        table->services.push_back({service.name, std::chrono::seconds(service.idle_timeout_s),
                                   std::chrono::milliseconds(service.handshake_timeout_ms), service.redirect,
                                   service.redirect ? channel::redirect_id(service.name) : channel::service_id(service.name)});
    for (const auto& listen : configuration.listens)
        if (listen.service < table->services.size()) table->listens.push_back({listen.address, listen.service});
    table->index();
    return table;
}

std::expected<std::unique_ptr<Appliance>, std::string> Appliance::start(const channel::DataplaneConfiguration& configuration,
                                                                        const std::string& file_prefix) {
    std::unique_ptr<Appliance> appliance(new Appliance());
    appliance->configuration_ = configuration;
    drivers::EnvironmentSettings environment;
    environment.cores.assign(configuration.cores.begin(), configuration.cores.end());
    if (environment.cores.empty()) return std::unexpected("the configuration names no core for a worker");
    environment.hugepages = configuration.hugepages;
    environment.file_prefix = file_prefix;
    environment.extra = configuration.eal_arguments;
    for (const auto& port : configuration.ports) {
        const auto profile = profile_of(port.profile);
        if (!profile) return std::unexpected("port " + port.name + ": " + profile.error());
        drivers::PortSettings settings;
        settings.name = port.name;
        settings.profile = *profile;
        settings.device = port.device;
        settings.mtu = port.mtu;
        settings.vlan = port.vlan != 0;
        settings.queues = port.queues;
        settings.descriptors = port.descriptors;
        settings.mac = port.mac;
        settings.memif_server = port.memif_server;
        environment.ports.push_back(settings);
    }
    if (auto started = drivers::start_environment(environment, &eal_log); !started) return std::unexpected(started.error());
    daemon::log(daemon::Level::info, "eal_started", {{"arguments", drivers::environment_line()}});
    const auto workers = static_cast<unsigned>(environment.cores.size());

    std::uint16_t data_room = 0;
    std::uint32_t descriptors = 0;
    for (const auto& port : environment.ports) {
        data_room = std::max(data_room, drivers::data_room_for(port));
        descriptors += drivers::ring_buffers(port);
    }
    // Most flows are idle at any time and hold no buffer; a pool that is larger than the processor's caches costs speed. Where
    // thousands of flows are slow at once, dataplane.buffers says so.
    constexpr std::uint32_t kBusyFlows = 4096;
    const std::uint32_t flows = std::clamp(configuration.max_flows / workers, 1u, kBusyFlows);
    const std::uint32_t count = configuration.buffers != 0
                                    ? configuration.buffers
                                    : drivers::buffers_for_worker(descriptors, descriptors, flows);
    appliance->connection_buffers_ = drivers::buffers_for_connections(count, descriptors);
    for (unsigned w = 0; w < workers; ++w) {
        const auto receive = drivers::make_buffer_pool("receive" + std::to_string(w), count, data_room, SOCKET_ID_ANY);
        if (!receive) return std::unexpected(receive.error());
        appliance->receive_pools_.push_back(*receive);
        const auto transmit = drivers::make_buffer_pool("transmit" + std::to_string(w), count, data_room, SOCKET_ID_ANY);
        if (!transmit) return std::unexpected(transmit.error());
        appliance->transmit_pools_.push_back(*transmit);
    }
    const auto largest = std::ranges::max(environment.ports, {}, &drivers::PortSettings::mtu).mtu;
    const auto copies = drivers::make_capture_pool("capture", drivers::kCaptureBuffers, largest);
    if (!copies) return std::unexpected(copies.error());
    appliance->capture_pool_ = *copies;
    for (const auto& settings : environment.ports) {
        std::optional<daemon::StoppedAtOnce> meanwhile;
        if (settings.profile == drivers::Profile::virtio_user) {
            daemon::log(daemon::Level::info, "port_waits", {{"port", settings.name}, {"text", "the start goes on when a switch has connected to " + settings.device}});
            meanwhile.emplace();
        }
        auto port = drivers::Port::open(settings, workers, appliance->receive_pools_);
        if (!port) return std::unexpected(port.error());
        // Everything works all the same, at a higher price.
        if (const std::string& why = (*port)->seen_by_kernel(); !why.empty()) daemon::log(daemon::Level::warning, "kernel_sees_frames", {{"port", settings.name}, {"text", why}});
        appliance->ports_.push_back(std::move(*port));
    }
    if (std::ranges::any_of(appliance->ports_, [](const auto& port) { return port->segmentation_buffers() > 0; }))
        appliance->make_large_pools(workers, drivers::large_buffers_for(count));
    appliance->start_workers(workers);
    appliance->start_diagnostics(appliance->capture_pool_);
    return appliance;
}

void Appliance::make_large_pools(unsigned workers, std::uint32_t count) {
    for (unsigned w = 0; w < workers; ++w) {
        const auto made = drivers::make_buffer_pool("large" + std::to_string(w), count, drivers::kLargeDataRoom, SOCKET_ID_ANY);
        // Everything works without them, at a higher price.
        if (!made) daemon::log(daemon::Level::warning, "no_large_buffers", {{"text", made.error()}});
        large_pools_.push_back(made.value_or(nullptr));
    }
}

void Appliance::start_workers(unsigned workers) {
    clock_ = std::make_unique<TscClock>();
    crossbar_ = std::make_unique<steering::Crossbar>(workers);
    services_ = service_table(configuration_);
    samples_.resize(workers);
    Worker::Settings settings;
    settings.count = workers;
    for (std::size_t i = 0; i < ports_.size(); ++i) {
        const auto& configured = configuration_.ports[i];
        settings.ports.push_back(ports_[i].get());
        network::Interface interface;
        interface.name = configured.name;
        interface.mac = ports_[i]->mac();
        interface.vlan = configured.vlan;
        interface.mtu = configured.mtu;
        interface.addresses = configured.addresses;
        interface.checksum_offload = ports_[i]->transmit_checksum();
        interface.ipv4_checksum_here = !ports_[i]->transmit_ipv4_checksum();
        interface.segmentation_buffers = ports_[i]->segmentation_buffers();
        interface.cut_by_kernel = ports_[i]->cut_by_kernel();
        interface.receive_checksum_good = ports_[i]->receive_checksum();
        settings.network.interfaces.push_back(std::move(interface));
        for (const auto& route : configured.routes) settings.network.routes.push_back({route.to, route.via});
    }
    settings.tcp.max_connections = 2 * configuration_.max_flows / workers + 1024;
    settings.tcp.receive_buffer = configuration_.receive_buffer;
    settings.tcp.send_buffer = configuration_.send_buffer;
    const auto& tcp = configuration_.tcp;
    settings.tcp.ecn = tcp.ecn == "off" ? tcp::Ecn::off : tcp.ecn == "request" ? tcp::Ecn::request : tcp::Ecn::accept;
    settings.tcp.pacing = tcp.pacing;
    settings.tcp.nagle = tcp.nagle;
    settings.tcp.user_timeout = std::chrono::seconds(tcp.user_timeout_s);
    settings.tcp.user_timeout_option = tcp.user_timeout_option;
    settings.network.hop_limit = tcp.hop_limit;
    settings.network.dscp = tcp.dscp;
    settings.tcp.keepalive_idle = std::chrono::seconds(tcp.keepalive_s);
    settings.tcp.receive_budget = settings.tcp.transmit_budget = connection_buffers_;
    settings.tcp.max_half_open = std::clamp(configuration_.max_flows / workers / 8, 256u, 65536u);
    fill_random(settings.tcp.secret);
    settings.tcp.timestamp_secret = machine_secret();
    // The time of day, which goes on while we are away; read as late as our own clock.
    const auto of_day = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
    settings.tcp.timestamp_base = static_cast<std::uint32_t>(of_day.count() - clock_->now().time_since_epoch() / Duration{1ms});
    settings.engine.max_flows = std::max(1u, configuration_.max_flows / workers);
    settings.engine.receive_buffer = configuration_.receive_buffer;
    settings.engine.control_away = std::chrono::milliseconds(configuration_.control_away_ms);
    for (unsigned w = 0; w < workers; ++w) {
        settings.index = w;
        settings.engine.worker = static_cast<std::uint8_t>(w);
        settings.network.answer_neighbours = w == 0;
        fill_random({reinterpret_cast<std::uint8_t*>(&settings.network.random_seed), sizeof settings.network.random_seed});
        settings.buffers = transmit_pools_[w];
        settings.tcp.large_buffers = large_pools_.empty() ? nullptr : large_pools_[w];
        workers_.push_back(std::make_unique<Worker>(settings, *clock_, *crossbar_));
        workers_.back()->engine().serve(services_.get());
    }
    for (unsigned w = 0; w < workers; ++w)
        SALLYPORT_CHECK(rte_eal_remote_launch(&run_worker, workers_[w].get(), drivers::worker_lcore(w)) == 0);
}

void Appliance::end_process() {
    daemon::log(daemon::Level::error, "worker_hangs");
    _exit(exit_code::kSoftware);
}

Appliance::~Appliance() {
    if (!alive()) end_process();
    captures_.reset();   // while the workers still run: they let go of its taps
    for (auto& worker : workers_) worker->stop();
    for (unsigned w = 0; w < workers_.size(); ++w) rte_eal_wait_lcore(drivers::worker_lcore(w));
    workers_.clear();
    crossbar_.reset();
    ports_.clear();
    for (rte_mempool* const pool : receive_pools_) drivers::free_buffer_pool(pool);
    for (rte_mempool* const pool : transmit_pools_) drivers::free_buffer_pool(pool);
    for (rte_mempool* const pool : large_pools_) drivers::free_buffer_pool(pool);
    drivers::free_buffer_pool(capture_pool_);
}

bool Appliance::on_every_worker(const std::function<void(Worker&, Time)>& task) {
    for (auto& worker : workers_)
        if (!worker->call(task)) {
            hung_ = true;
            return false;
        }
    return true;
}

std::expected<void, std::string> Appliance::apply(const channel::DataplaneConfiguration& configuration) {
    const auto fixed_part = [](channel::DataplaneConfiguration copy) {
        copy.generation = copy.handshake_workers = copy.control_away_ms = 0;
        copy.services.clear();
        copy.listens.clear();
        for (auto& port : copy.ports) {
            port.addresses.clear();
            port.routes.clear();
        }
        return to_json(copy);
    };
    if (fixed_part(configuration) != fixed_part(configuration_))
        return std::unexpected("ports' devices, cores, memory or limits differ from those that run: restart sallyport-dataplane to change them");
    const auto places = [](const channel::DataplaneConfiguration& of) {
        channel::DataplaneConfiguration copy;
        copy.ports = of.ports;
        return to_json(copy);
    };
    std::vector<std::vector<IpPrefix>> addresses;
    std::vector<network::Route> routes;
    std::set<IpAddress> gone;
    for (const auto& port : configuration_.ports)
        for (const IpPrefix& address : port.addresses) gone.insert(address.address);
    for (const auto& port : configuration.ports) {
        addresses.push_back(port.addresses);
        for (const auto& route : port.routes) routes.push_back({route.to, route.via});
        for (const IpPrefix& address : port.addresses) gone.erase(address.address);
    }
    // Everything is made here, immutable, and swapped by every worker between two iterations; the old goes when all have.
    const auto next = service_table(configuration);
    std::vector<std::unique_ptr<network::Network::Change>> changes(workers_.size());
    if (places(configuration) != places(configuration_))
        for (std::size_t i = 0; i < workers_.size(); ++i) changes[i] = workers_[i]->network().prepare(addresses, routes);
    const bool done = on_every_worker([&](Worker& worker, Time now) {
        worker.engine().set_control_away(std::chrono::milliseconds(configuration.control_away_ms));
        worker.engine().serve(next.get());
        if (!gone.empty()) worker.engine().end_on_addresses([&](const IpAddress& address) { return gone.contains(address); }, now);
        if (const auto& change = changes[worker.settings().index]) worker.network().change(*change, now);
    });
    if (!done) end_process();   // some have the new, some the old
    services_ = next;
    configuration_ = configuration;
    return {};
}

std::expected<nlohmann::json, std::string> Appliance::attach(channel::SharedMemory memory, std::vector<channel::Descriptor> wakes) {
    const auto handshake_workers = static_cast<unsigned>(wakes.size());
    nlohmann::json adopted = nlohmann::json::array();
    const bool done = on_every_worker([&](Worker& worker, Time now) {
        std::unique_ptr<flow::Lanes> lanes;
        if (handshake_workers != 0) {
            std::vector<flow::Lanes::Lane> each;
            for (unsigned h = 0; h < handshake_workers; ++h) {
                const unsigned lane = worker.settings().index * handshake_workers + h;
                each.push_back({channel::RingProducer(memory.ring_to_control(lane)),
                                channel::RingConsumer(memory.ring_to_dataplane(lane)), wakes[h].get()});
            }
            lanes = std::make_unique<flow::Lanes>(std::move(each));
        }
        worker.attach(std::move(lanes), now);
        if (handshake_workers == 0) return;
        for (const auto& entry : worker.engine().adopted())
            adopted.push_back({{"service", entry.service}, {"pool", entry.pool}, {"member", entry.member}, {"flows", entry.flows}});
    });
    if (!done) end_process();   // some have the new, some the old
    memory_ = std::move(memory);   // the old one is unmapped now that no worker uses it
    wakes_ = std::move(wakes);
    return adopted;
}

void Appliance::end_flows(std::chrono::milliseconds patience) {
    const auto begun = std::chrono::steady_clock::now();
    if (!on_every_worker([](Worker& worker, Time) { worker.engine().serve(nullptr); })) return;
    while (true) {
        const auto waited = std::chrono::steady_clock::now() - begun;
        if (waited >= patience) return;
        const bool resting_only = waited < patience / 3;   // those that never rest need time to end, too
        std::uint64_t left = 0;
        const bool done = on_every_worker([&](Worker& worker, Time now) {
            worker.engine().end_all(flow::EndReason::shutdown, resting_only, now);
            left += worker.engine().flows();
        });
        if (!done || left == 0) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

std::expected<nlohmann::json, std::string> Appliance::end_matching(const nlohmann::json& arguments) {
    flow::FlowEngine::Filter filter;
    filter.service = arguments.value("service", std::uint64_t{0});
    filter.pool = arguments.value("pool", std::uint64_t{0});
    filter.member = arguments.value("member", std::uint64_t{0});
    filter.flow.value = arguments.value("flow", std::uint64_t{0});
    filter.client_port = arguments.value("client_port", std::uint16_t{0});
    if (const std::string client = arguments.value("client", std::string()); !client.empty()) {
        const auto prefix = IpPrefix::parse(client);
        if (!prefix) return std::unexpected(prefix.error());
        filter.client = *prefix;
        filter.any_client = false;
    }
    // In portions, so that packets do not wait long.
    constexpr std::uint32_t kRecordsATime = 256;
    std::uint64_t ended = 0;
    for (auto& each : workers_) {
        std::uint32_t next = 0;
        do {
            if (each->call([&](Worker& worker, Time now) { ended += worker.engine().end_matching(filter, next, kRecordsATime, now); })) continue;
            hung_ = true;
            return std::unexpected("a worker hangs");
        } while (next != 0);
    }
    return nlohmann::json{{"ended", ended}};
}

void Appliance::tick() {
    for (std::size_t i = 0; i < ports_.size(); ++i) {
        bool up = false;
        if (!ports_[i]->link_changed(up)) continue;
        daemon::log(up ? daemon::Level::info : daemon::Level::warning, up ? "link_up" : "link_down",
                    {{"port", configuration_.ports[i].name}});
        if (up)
            (void)on_every_worker([&](Worker& worker, Time now) { worker.network().link_up(static_cast<std::uint16_t>(i), now); });
    }
}

bool Appliance::lanes_broken() const {
    return std::ranges::any_of(workers_, [](const auto& worker) { return worker->lanes_broken(); });
}

bool Appliance::uses(const std::string& profile) const {
    return std::ranges::any_of(configuration_.ports, [&](const auto& port) { return port.profile == profile; });
}

bool Appliance::alive() {
    return !hung_ && on_every_worker([](Worker&, Time) {});
}

}  // namespace sallyport
