#include "tests/bench/generator/generator.h"

#include <rte_cycles.h>
#include <rte_mempool.h>
#include <rte_pause.h>
#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "control/handshake/key_provider.h"
#include "crypto/format.h"
#include "drivers/environment.h"

namespace sallyport::generator {
namespace {

constexpr Duration kLinkPatience = 60s, kClosingPatience = 5s;
constexpr Duration kAnnouncing = 60ms;   ///< longer than Side's tick
/// Turns without work before the core is offered to others; as the dataplane's workers.
constexpr unsigned kIdleTurns = 64;

Duration seconds(double value) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value)); }

void eal_log(int level, const char* line) {
    constexpr int kError = 4;   // rte_log.h
    if (level <= kError) std::fprintf(stderr, "DPDK: %s\n", line);
}

void fill_random(std::span<std::uint8_t> octets) {
    SALLYPORT_CHECK(getrandom(octets.data(), octets.size(), 0) == static_cast<ssize_t>(octets.size()));
}

/// The driver would draw one at random, and whoever remembers that of the run before would speak to nobody for a while. A locally administered one
/// (IEEE 802) of the address, which differs where the addresses do.
std::string lasting_mac(const IpAddress& address) {
    const auto& octets = address.octets;
    return sallyport::format("02:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", octets[11] ^ octets[3], octets[12] ^ octets[5], octets[13] ^ octets[7], octets[14], octets[15]);
}

/// A memif client does not start before its server has made the socket: waits for that.
std::expected<std::unique_ptr<drivers::Port>, std::string> open_port(const drivers::PortSettings& port, std::span<rte_mempool* const> receive) {
    if (port.profile != drivers::Profile::memif || port.memif_server) return drivers::Port::open(port, 1, receive);
    const auto until = std::chrono::steady_clock::now() + kLinkPatience;
    for (; std::chrono::steady_clock::now() < until; std::this_thread::sleep_for(std::chrono::milliseconds(200)))
        if (std::filesystem::exists(port.device))
            if (auto opened = drivers::Port::open(port, 1, receive)) return opened;
    return std::unexpected(sallyport::format("port {}: nobody has made {} for 60 s who accepts connections on it: is the other side of the memif running, as its server?", port.name, port.device));
}

double seconds_of(clockid_t clock) {
    timespec read{};
    clock_gettime(clock, &read);
    return static_cast<double>(read.tv_sec) + static_cast<double>(read.tv_nsec) * 1e-9;
}

std::uint64_t resident_octets() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t total = 0, pages = 0;
    file >> total >> pages;
    return pages * 4096;
}

}  // namespace

std::expected<std::unique_ptr<Generator>, std::string> Generator::make(const Options& options) {
    std::unique_ptr<Generator> made(new Generator(options));
    if (auto done = made->set_up(); !done) return std::unexpected(done.error());
    return made;
}

Generator::~Generator() {
    clients_.reset();
    backends_.reset();
    client_side_.reset();
    backend_side_.reset();
    loopback_.reset();
    for (const Pools& pools : {client_pools_, backend_pools_})
        for (rte_mempool* const pool : {pools.receive, pools.transmit, pools.large})
            if (pool != nullptr) drivers::free_buffer_pool(pool);
}

std::expected<void, std::string> Generator::set_up() {
    drivers::EnvironmentSettings environment;
    environment.main_core = options_.core;   // the loop runs on the main thread
    environment.hugepages = options_.hugepages;
    environment.memory_mb = options_.memory_mb;
    environment.file_prefix = options_.file_prefix;
    for (const SideOptions* side : {&options_.clients, &options_.backends})
        if (side->port) environment.ports.push_back(*side->port);
    if (auto started = drivers::start_environment(environment, &eal_log); !started) return started;
    clock_ = std::make_unique<TscClock>();
    batch_ = std::make_unique<crypto::AeadBatch>();

    // What a handshake costs us, the device under test has not to do: the cheaper it is, the more of it one core asks for.
    const bool tls_clients = options_.has_clients() && !options_.clients.plain, tls_backends = options_.has_backends() && !options_.backends.plain;
    if (tls_clients || tls_backends) handshake::load_key_provider();
    if (options_.has_clients() && !options_.clients.plain) {
        auto tls = TlsContext::make_client(options_.clients.tls);
        if (!tls) return std::unexpected("clients' TLS: " + tls.error());
        client_tls_ = std::move(*tls);
    }
    if (options_.has_backends() && !options_.backends.plain) {
        auto tls = TlsContext::make_server(options_.backends.tls);
        if (!tls) return std::unexpected("backends' TLS: " + tls.error());
        backend_tls_ = std::move(*tls);
    }
    if (options_.has_clients())
        if (auto made = make_pools("client", options_.clients, client_pools_); !made) return made;
    if (options_.has_backends())
        if (auto made = make_pools("backend", options_.backends, backend_pools_); !made) return made;
    if (options_.loopback) loopback_ = std::make_unique<Loopback>(client_pools_.receive, backend_pools_.receive);
    // Where a port of ours is the server of a memif whose client is our other one, it must be there first.
    const auto make_client_side = [&] { return make_side("client", options_.clients, client_pools_, 0, client_side_); };
    const auto make_backend_side = [&] { return make_side("backend", options_.backends, backend_pools_, 1, backend_side_); };
    const bool clients_first = options_.clients.port && options_.clients.port->memif_server;
    if (auto made = clients_first ? make_client_side() : make_backend_side(); !made) return made;
    if (auto made = clients_first ? make_backend_side() : make_client_side(); !made) return made;
    if (backend_side_) {
        Backends::Settings settings;
        settings.listen = options_.listen;
        settings.most_connections = options_.backend_connections != 0 ? options_.backend_connections : 2 * options_.connections + 4096;
        settings.records = {options_.record_size, options_.key_update_every};
        backends_ = std::make_unique<Backends>(settings, *backend_side_, *batch_, *clock_, pattern_, backend_tls_.get());
    }
    if (client_side_) clients_ = std::make_unique<Clients>(client_settings(), *client_side_, *batch_, *clock_, pattern_, client_tls_.get());
    return {};
}

std::expected<void, std::string> Generator::make_pools(const std::string& name, const SideOptions& side, Pools& pools) {
    const drivers::PortSettings port = side.port.value_or(drivers::PortSettings{});
    constexpr std::uint32_t kBusy = 4096;   // most of a million connections hold nothing
    const std::uint32_t descriptors = side.port ? drivers::ring_buffers(port) : 1024;
    const std::uint32_t count = options_.buffers != 0 ? options_.buffers : drivers::buffers_for_worker(descriptors, descriptors, std::min(options_.connections, kBusy));
    pools.for_connections = drivers::buffers_for_connections(count, descriptors);
    for (const auto& [what, pool] : {std::pair{"_receive", &pools.receive}, {"_transmit", &pools.transmit}}) {
        const auto made = drivers::make_buffer_pool(name + what, count, drivers::data_room_for(port), SOCKET_ID_ANY);
        if (!made) return std::unexpected(made.error());
        *pool = *made;
    }
    return {};
}

/// Nothing is made, and that is no error, where there is no such side.
std::expected<void, std::string> Generator::make_side(const char* name, const SideOptions& side, Pools& pools, unsigned loopback_end, std::unique_ptr<Side>& made) {
    if (!side.port && !options_.loopback) return {};
    std::unique_ptr<Link> link;
    if (side.port) {
        rte_mempool* const receive[] = {pools.receive};
        drivers::PortSettings port = *side.port;
        port.queues = 1;
        if (port.profile == drivers::Profile::memif && port.mac.empty()) port.mac = lasting_mac(side.addresses.front().address);
        auto opened = open_port(port, receive);
        if (!opened) return std::unexpected(opened.error());
        link = std::make_unique<Link>(std::move(*opened));
    } else {
        link = std::make_unique<Link>(*loopback_, loopback_end, std::array<std::uint8_t, 6>{2, 0, 0, 0, 0, static_cast<std::uint8_t>(loopback_end + 1)});
    }
    if (link->segmentation_buffers() > 0) {
        const auto large = drivers::make_buffer_pool(std::string(name) + "_large", drivers::large_buffers_for(pools.transmit->size), drivers::kLargeDataRoom, SOCKET_ID_ANY);
        if (!large) return std::unexpected(large.error());
        pools.large = *large;
    }
    network::Interface interface;
    interface.name = name;
    interface.vlan = side.vlan;
    interface.mtu = side.port ? side.port->mtu : drivers::PortSettings{}.mtu;
    interface.addresses = side.addresses;
    if (&side == &options_.clients) interface.hosted = options_.sources;
    Side::Settings settings;
    settings.network.interfaces = {interface};
    if (side.gateway_v4) settings.network.routes.push_back({*IpPrefix::parse("0.0.0.0/0"), *side.gateway_v4});
    if (side.gateway_v6) settings.network.routes.push_back({*IpPrefix::parse("::/0"), *side.gateway_v6});
    fill_random({reinterpret_cast<std::uint8_t*>(&settings.network.random_seed), sizeof settings.network.random_seed});
    const std::uint32_t connections = &side == &options_.backends && options_.backend_connections != 0 ? options_.backend_connections : options_.connections;
    settings.tcp.max_connections = 2 * connections + 65536;   // with those in TIME-WAIT
    settings.tcp.max_half_open = 65536;
    settings.tcp.receive_buffer = options_.receive_buffer;
    settings.tcp.send_buffer = options_.send_buffer;
    settings.tcp.initial_buffer = std::min({settings.tcp.initial_buffer, options_.receive_buffer, options_.send_buffer});
    settings.tcp.msl = 1s;   // nothing is under way for longer in a laboratory, and ports are wanted back
    settings.tcp.port_low = 1024;
    settings.tcp.port_high = 65535;
    settings.tcp.receive_budget = settings.tcp.transmit_budget = pools.for_connections;
    fill_random(settings.tcp.secret);
    fill_random(settings.tcp.timestamp_secret);
    settings.buffers = pools.transmit;
    settings.tcp.large_buffers = pools.large;
    made = std::make_unique<Side>(std::move(settings), std::move(link));
    return {};
}

Clients::Settings Generator::client_settings() const {
    Clients::Settings settings;
    settings.connections = options_.connections;
    settings.active = options_.active != 0 ? options_.active : options_.connections;
    settings.requests_per_connection = options_.mode == Mode::close ? std::max(options_.requests_per_connection, 1u) : 0;
    settings.closes_at_once = options_.mode == Mode::close && options_.requests_per_connection == 0;
    settings.targets = options_.targets;
    for (const IpPrefix& prefix : options_.sources) settings.sources.add(prefix);
    settings.request = *RequestText::make(options_.host, options_.request_size, options_.answer_size, options_.path);
    settings.answer_length = options_.answer_size;
    settings.own_answers = options_.path.empty();
    settings.compare_every = options_.compare_every;
    settings.slice = seconds(options_.slice);
    if (options_.slice > 0) settings.slices = static_cast<std::uint32_t>(options_.duration / options_.slice);
    settings.open_rate = options_.open_rate;
    settings.opening_at_once = options_.opening_at_once;
    settings.rate = options_.rate;
    settings.spacing = options_.spacing;
    settings.probe_rate = options_.probe_rate;
    settings.resume_share = options_.resume_percent / 100;
    settings.seed = options_.seed;
    settings.timeout = seconds(options_.timeout);
    settings.records = {options_.record_size, options_.key_update_every};
    return settings;
}

// --- the loop

std::expected<Result, std::string> Generator::run(const volatile std::sig_atomic_t& stop) {
    unsigned idle_turns = 0;
    enter(Stage::linking, clock_->now());
    while (stage_ != Stage::over) {
        const Time now = clock_->now();
        if (auto going = control(now, stop != 0); !going) return std::unexpected(going.error());
        if (turn(now)) {
            idle_turns = 0;
        } else if (++idle_turns < kIdleTurns) {
            rte_pause();
        } else {
            std::this_thread::yield();   // who shares our core would wait for the end of our time slice
        }
    }
    return result_;
}

bool Generator::turn(Time now) {
    const std::uint64_t begin = rte_rdtsc();
    bool busy = false;
    for (Side* const side : {client_side_.get(), backend_side_.get()})
        if (side != nullptr) busy |= side->receive(now);
    const std::uint64_t received = rte_rdtsc();
    if (clients_) busy |= clients_->turn(now);
    const std::uint64_t client = rte_rdtsc();
    if (backends_) busy |= backends_->turn(now);
    const std::uint64_t backend = rte_rdtsc();
    for (Side* const side : {client_side_.get(), backend_side_.get()})
        if (side != nullptr) busy |= side->send(now);
    const std::uint64_t end = rte_rdtsc();
    if (!busy) {
        cycles_.idle += end - begin;
        return false;
    }
    cycles_.network += received - begin + (end - backend);
    cycles_.clients += client - received;
    cycles_.backends += backend - client;
    return true;
}

// --- stages

bool Generator::links_up() {
    for (Side* const side : {client_side_.get(), backend_side_.get()})
        if (side != nullptr && !side->link().is_up()) return false;
    return true;
}

void Generator::enter(Stage stage, Time now) {
    stage_ = stage;
    stage_begin_ = now;
    switch (stage) {
        case Stage::linking: break;
        case Stage::settling:
            for (Side* const side : {client_side_.get(), backend_side_.get()})
                if (side != nullptr) side->network().link_up(0, now);
            break;
        case Stage::opening:
            if (clients_ && options_.mode != Mode::close) clients_->hold(true);
            break;
        case Stage::warm_up:
            if (clients_ && options_.mode != Mode::idle) clients_->load(now);
            if (options_.warm_up == 0) enter(Stage::measuring, now);   // at the same time, so that all that is due is measured
            break;
        case Stage::measuring:
            result_.begin = snapshot(now);
            next_mark_ = now;
            mark(now);
            if (clients_ && options_.mode != Mode::idle) clients_->measure(now, now + seconds(options_.duration));
            break;
        case Stage::probing:
            clients_->hold(false);
            clients_->measure(now, Time::max());
            clients_->probe();
            break;
        case Stage::draining:
            if (clients_) {
                clients_->hold(false);
                clients_->stop_load();
            }
            break;
        case Stage::closing:
            if (clients_) {
                result_.unanswered = clients_->waiting();
                clients_->close_all();
            }
            break;
        case Stage::over:
            result_.last = snapshot(now);
            // Whoever keeps connections to our backends would use them again.
            for (Side* const side : {client_side_.get(), backend_side_.get()})
                if (side != nullptr) {
                    side->stack().abort_all();
                    static_cast<void>(side->send(now));
                }
            break;
    }
}

std::expected<void, std::string> Generator::control(Time now, bool stop) {
    const Duration since = now - stage_begin_;
    if (now >= next_look_) {
        next_look_ = now + 20ms;
        const bool saturated = saturation_.judge(cycles_.busy(), cycles_.busy() + cycles_.idle);
        for (Side* const side : {client_side_.get(), backend_side_.get()})
            if (side != nullptr) side->stack().set_saturated(saturated);
        if (clients_ && clients_->ready() > result_.most_ready) {
            result_.most_ready = clients_->ready();
            result_.resident = resident_octets();
        }
        progress(now);
    }
    if (stop && stage_ < Stage::draining) {
        result_.stopped_early = true;
        if (stage_ == Stage::measuring || stage_ == Stage::probing) result_.end = snapshot(now);
        enter(Stage::draining, now);
        return {};
    }
    switch (stage_) {
        case Stage::linking: {
            if (now != next_look_ - 20ms) return {};   // asking costs a system call
            if (links_up()) enter(Stage::settling, now);
            else if (since > kLinkPatience) return std::unexpected("a port's link did not come up within 60 s: is the other side of the memif running, with the other role, and the cable in?");
            return {};
        }
        case Stage::settling:
            // Our addresses are announced before anything else is sent, for neighbours that remember another MAC address of them.
            if (since >= std::max(seconds(options_.settle), kAnnouncing)) enter(Stage::opening, now);
            return {};
        case Stage::opening: {
            if (!clients_ || options_.mode == Mode::close || clients_->ready() == options_.connections) {
                result_.opening_seconds = std::chrono::duration<double>(since).count();
                enter(Stage::warm_up, now);
                return {};
            }
            const double allowed = 10 * options_.timeout + (options_.open_rate > 0 ? 3 * options_.connections / options_.open_rate : options_.connections / 100.0);
            const auto& failures = clients_->statistics().first_failures;
            const bool hopeless = clients_->ready() == 0 && !failures.empty() && since > seconds(options_.timeout);
            if (hopeless || since > seconds(allowed)) {
                return std::unexpected(sallyport::format("only {} of {} connections were open after {:.1f} s{}{}", clients_->ready(), options_.connections, std::chrono::duration<double>(since).count(),
                                                         failures.empty() ? "" : "; the first failure was ", failures.empty() ? "" : failures.front()));
            }
            return {};
        }
        case Stage::warm_up:
            if (since >= seconds(options_.warm_up)) enter(Stage::measuring, now);
            return {};
        case Stage::measuring:
            mark(now);
            if (since < seconds(options_.duration) && !(options_.answers != 0 && clients_ && clients_->statistics().counters.messages_in >= options_.answers)) return {};
            if (options_.mode == Mode::idle && clients_) {
                result_.begin = snapshot(now);   // what counts is the probes
                enter(Stage::probing, now);
                return {};
            }
            result_.end = snapshot(now);
            if (clients_) result_.unsent = clients_->unsent(std::min(now, stage_begin_ + seconds(options_.duration)));
            enter(Stage::draining, now);
            return {};
        case Stage::probing: {
            const double allowed = options_.timeout + (options_.probe_rate > 0 ? 3 * options_.connections / options_.probe_rate : options_.connections / 1000.0);
            if (!clients_->probes_done() && since <= seconds(allowed)) return {};
            result_.end = snapshot(now);
            result_.not_probed = options_.connections - std::min<std::uint64_t>(options_.connections, clients_->probed());
            enter(Stage::draining, now);
            return {};
        }
        case Stage::draining:
            if (!clients_ || clients_->waiting() == 0 || since >= seconds(options_.drain)) enter(Stage::closing, now);
            return {};
        case Stage::closing:
            if (clients_ && clients_->in_use() > 0 && since < kClosingPatience + options_.connections * 50us) return {};
            enter(Stage::over, now);
            return {};
        case Stage::over: return {};
    }
    return {};
}

void Generator::mark(Time now) {
    if (options_.course == 0 || now < next_mark_) return;
    next_mark_ = now + seconds(options_.course);
    const Counters& counters = clients_ ? clients_->statistics().counters : backends_->statistics().counters;
    result_.course.push_back({seconds_of(CLOCK_MONOTONIC), counters.messages_in, counters.opened});
}

Snapshot Generator::snapshot(Time now) const {
    Snapshot taken;
    taken.at = now;
    taken.cpu_seconds = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    taken.monotonic = seconds_of(CLOCK_MONOTONIC);
    taken.cycles = cycles_;
    if (clients_) {
        taken.clients = clients_->statistics().counters;
        taken.client_tcp = client_side_->stack().counters();
        taken.client_packets_in = client_side_->packets_in();
        taken.client_packets_out = client_side_->packets_out();
    }
    if (backends_) {
        taken.backends = backends_->statistics().counters;
        taken.backend_tcp = backend_side_->stack().counters();
        taken.backend_packets_in = backend_side_->packets_in();
        taken.backend_packets_out = backend_side_->packets_out();
    }
    return taken;
}

void Generator::progress(Time now) {
    if (options_.quiet || now < next_progress_) return;
    next_progress_ = now + 1s;
    constexpr const char* kNames[] = {"waiting for links", "settling", "opening", "warm-up", "measuring", "probing", "draining", "closing", "over"};
    const Snapshot current = snapshot(now);
    const Counters& before = clients_ ? last_progress_.clients : last_progress_.backends;
    const Counters& after = clients_ ? current.clients : current.backends;
    const double elapsed = std::chrono::duration<double>(current.at - last_progress_.at).count();
    const auto rate = [&](std::uint64_t from, std::uint64_t to) { return elapsed > 0 ? static_cast<double>(to - from) / elapsed : 0; };
    const std::uint64_t failed = (clients_ ? clients_->statistics().failures.sum() : 0) + (backends_ ? backends_->statistics().failures.sum() : 0);
    std::fprintf(stderr, "%-18s %9u open %9.0f opened/s %9.0f messages/s %8.3f Gb/s in %8llu failed\n", kNames[static_cast<std::size_t>(stage_)],
                 clients_ ? clients_->ready() : backends_->connections(), rate(before.opened, after.opened), rate(before.messages_in, after.messages_in),
                 rate(before.octets_in, after.octets_in) * 8e-9, static_cast<unsigned long long>(failed));
    last_progress_ = current;
}

}  // namespace sallyport::generator
