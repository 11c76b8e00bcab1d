#include <intel-ipsec-mb.h>
#include <rte_mempool.h>
#include <rte_version.h>

#include <algorithm>
#include <cstdio>

#include "control/daemon/logging.h"
#include "control/daemon/usage.h"
#include "dataplane/appliance.h"
#include "drivers/environment.h"

/// Answers to control's questions. The member names are those of the views that the CLI shows; control fills in what it knows.
namespace sallyport {

using nlohmann::json;

namespace {

std::string mac_text(const std::array<std::uint8_t, 6>& mac) {
    char text[18];
    std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    return text;
}

json tcp_view(bool known, const tcp::Connection::Status& status) {
    if (!known) return json::object();
    const auto microseconds = [](Duration duration) { return std::chrono::duration_cast<std::chrono::microseconds>(duration).count(); };
    return {{"state", tcp::name(status.state)},
            {"srtt_us", microseconds(status.srtt)},
            {"rttvar_us", microseconds(status.rttvar)},
            {"rto_us", microseconds(status.rto)},
            {"cwnd", status.cwnd},
            {"ssthresh", status.ssthresh},
            {"snd_wnd", status.snd_wnd},
            {"rcv_wnd", status.rcv_wnd},
            {"in_flight", status.in_flight},
            {"octets_sent", status.octets_sent},
            {"octets_received", status.octets_received},
            {"segments_retransmitted", status.segments_retransmitted},
            {"timeouts", status.timeouts},
            {"mss", status.mss},
            {"sack", status.sack},
            {"timestamps", status.timestamps},
            {"window_scaling", status.window_scaling},
            {"ecn", status.ecn}};
}

const char* state_of(const flow::FlowStatus& status) {
    using flow::LegPhase;
    if (status.ending) return "closing";
    if (status.client_phase == LegPhase::open && status.backend_phase == LegPhase::open) return "open";
    if (status.client_phase != LegPhase::open) return "client handshake";
    return status.backend_phase == LegPhase::handshake ? "backend handshake" : "backend connecting";
}

json flow_view(const flow::FlowStatus& status) {
    char id[32];
    std::snprintf(id, sizeof id, "%02x-%06x-%08x", status.id.worker(), status.id.generation(), status.id.index());
    return {{"id", id},
            {"flow", status.id.value},
            {"service_id", status.service},
            {"generation", status.generation},
            {"client", status.client.to_string()},
            {"local", status.local.to_string()},
            {"state", state_of(status)},
            {"client_suite", status.client_suite},
            {"client_group", status.client_group},
            {"backend_suite_id", status.backend_suite},
            {"backend_group_id", status.backend_group},
            {"has_member", status.has_member},
            {"pool_id", status.pool},
            {"member_id", status.member},
            {"member_address", status.has_member ? status.backend.to_string() : ""},
            {"backend_tls", status.has_member && !status.backend_plain},
            {"client_in", status.client_in},
            {"client_out", status.client_out},
            {"backend_in", status.backend_in},
            {"backend_out", status.backend_out},
            {"age_ns", status.age.count()},
            {"worker", status.id.worker()},
            {"client_tcp", tcp_view(status.client_tcp_known, status.client_tcp)},
            {"backend_tcp", tcp_view(status.backend_tcp_known, status.backend_tcp)}};
}

/// Lines of our log, for control's `show log`.
json log_report(const json& arguments) {
    const auto least = daemon::parse_level(arguments.value("level", "trace"));
    json lines = json::array();
    for (const auto& line : daemon::kept_lines(arguments.value("limit", std::size_t{100}), least.value_or(daemon::Level::trace), arguments.value("match", "")))
        lines.push_back({{"time", daemon::time_of_line(line.time)}, {"level", daemon::level_name(line.level)}, {"text", line.text}});
    return lines;
}

}  // namespace

std::expected<json, std::string> Appliance::answer(const std::string& what, const json& arguments,
                                                   const std::vector<channel::Descriptor>& descriptors) {
    if (what == "ports") return ports_report();
    if (what == "workers") return workers_report(arguments.value("sample", true));
    if (what == "flows") return flows_report(arguments.value("limit", std::size_t{1000}));
    if (what == "flow") return flow_report(channel::FlowId{arguments.value("flow", std::uint64_t{0})});
    if (what == "log") return log_report(arguments);
    if (what == "counters") return counters_report();
    if (what == "neighbours") return neighbours_report();
    if (what == "end_flows") return end_matching(arguments);
    if (what == "listeners") return listeners_report();
    if (what == "process") {
        const daemon::Usage usage = daemon::usage();
        return json{{"resident_octets", usage.resident_octets}, {"cpu_us", usage.cpu.count()}};
    }
    if (what == "version") return json{{"dpdk", rte_version()}, {"ipsec_mb", imb_get_version_str()}, {"eal", drivers::environment_line()}};
    return diagnose(what, arguments, descriptors);
}

/// Every address that a SYN is answered at, and what becomes of its octets: TLS that control ends, or plain HTTP that control answers.
json Appliance::listeners_report() const {
    json result = json::array();
    if (!services_) return result;
    for (const auto& listen : services_->listens) {   // what the workers look at, not what they should
        const auto& service = services_->services[listen.service];
        result.push_back({{"address", listen.address.to_string()}, {"service", service.name}, {"kind", service.redirect ? "redirect" : "tls"}});
    }
    return result;
}

json Appliance::ports_report() const {
    json result = json::array();
    for (std::size_t i = 0; i < ports_.size(); ++i) {
        const drivers::PortStatus status = ports_[i]->status();
        json offloads = json::array();
        for (const auto& offload : status.offloads)
            offloads.push_back({{"name", offload.name}, {"wanted", offload.wanted}, {"got", offload.got}});
        json addresses = json::array();
        for (const auto& address : configuration_.ports[i].addresses) addresses.push_back(address.to_string());
        json xstats = json::object();
        for (const auto& [name, value] : status.xstats) xstats[name] = value;
        result.push_back({{"name", status.name},
                          {"profile", status.profile},
                          {"driver", status.driver},
                          {"device", status.device},
                          {"mac", mac_text(status.mac)},
                          {"link", status.link_up},
                          {"mbps", status.link_mbps},
                          {"mtu", status.mtu},
                          {"receive_queues", status.receive_queues},
                          {"transmit_queues", status.transmit_queues},
                          {"numa_node", status.numa_node},
                          {"addresses", addresses},
                          {"packets_in", status.packets_in},
                          {"packets_out", status.packets_out},
                          {"octets_in", status.octets_in},
                          {"octets_out", status.octets_out},
                          {"missed", status.missed},
                          {"errors_in", status.errors_in},
                          {"errors_out", status.errors_out},
                          {"no_buffer", status.no_buffer},
                          {"offloads", offloads},
                          {"xstats", xstats}});
    }
    return result;
}

json Appliance::workers_report(bool sample) {
    json result = json::array();
    (void)on_every_worker([&](Worker& worker, Time) {
        const unsigned index = worker.settings().index;
        const WorkerCounters& counters = worker.counters();
        const flow::EngineCounters& engine = worker.engine().counters();
        const tcp::Stack::Counters& tcp = worker.stack().counters();
        const crypto::AeadBatch::Counters& batch = worker.batch().counters();
        Sample& last = samples_[index];   // kept for who shows busy_share; who reads the totals alone leaves it
        const std::uint64_t total = counters.cycles_total - last.total, busy = counters.cycles_busy - last.busy;
        if (sample) last = {counters.cycles_total, counters.cycles_busy};
        const std::uint64_t packets = counters.packets_in + counters.packets_out;
        const std::uint64_t octets = engine.octets_to_backend + engine.octets_to_client;
        double to_control = 0, from_control = 0;
        if (flow::Lanes* const lanes = worker.lanes())
            for (std::size_t i = 0; i < lanes->size(); ++i) {
                to_control = std::max(to_control, static_cast<double>(lanes->at(i).to_control.used()) / channel::kRingOctets);
                from_control = std::max(from_control, static_cast<double>(lanes->at(i).from_control.used()) / channel::kRingOctets);
            }
        const auto ratio = [](std::uint64_t a, std::uint64_t b) { return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b); };
        rte_mempool* const receive = receive_pools_[index];
        rte_mempool* const transmit = transmit_pools_[index];
        result.push_back({{"index", index},
                          {"core", configuration_.cores[index]},
                          {"busy_share", ratio(busy, total)},
                          {"cycles_busy", counters.cycles_busy},
                          {"cycles_total", counters.cycles_total},
                          {"tsc_hz", clock_->hz()},
                          {"iterations", counters.iterations},
                          {"interrupted", counters.interrupted_iterations},
                          {"packets_in", counters.packets_in},
                          {"packets_out", counters.packets_out},
                          {"cycles_per_packet", ratio(counters.cycles_busy, packets)},
                          {"cycles_per_octet", ratio(counters.cycles_busy, octets)},
                          {"flows", worker.engine().flows()},
                          {"connections", worker.stack().connections()},
                          {"half_open", worker.stack().half_open()},
                          {"buffers_held", worker.stack().buffers_held()},
                          {"pool_free", rte_mempool_avail_count(receive) + rte_mempool_avail_count(transmit)},
                          {"pool_size", receive->size + transmit->size},
                          {"lane_to_control_used", to_control},
                          {"lane_to_dataplane_used", from_control},
                          {"records_opened", batch.opened},
                          {"records_sealed", batch.sealed},
                          {"records_failed", batch.failed},
                          {"octets_passed", octets},
                          {"retransmitted", tcp.retransmitted},
                          {"timeouts", tcp.timeouts}});
    });
    return result;
}

json Appliance::flows_report(std::size_t limit) {
    json flows = json::array();
    std::uint64_t total = 0;
    limit = std::min<std::size_t>(limit, 100'000);
    for (auto& each : workers_) {
        std::uint32_t next = 0;
        bool first = true;
        // In portions, so that packets do not wait long.
        while (first || (next != 0 && flows.size() < limit)) {
            std::vector<flow::FlowStatus> statuses;
            const std::size_t portion = std::min<std::size_t>(64, limit - std::min(limit, flows.size()));
            const std::uint64_t flows_before = first ? 1 : 0;
            if (!each->call([&](Worker& worker, Time now) {
                    statuses = worker.engine().statuses(next, portion, now);
                    if (flows_before != 0) total += worker.engine().flows();
                })) {
                hung_ = true;
                break;
            }
            first = false;
            for (const auto& status : statuses) flows.push_back(flow_view(status));
            if (portion == 0) break;
        }
    }
    return {{"flows", flows}, {"total", total}};
}

json Appliance::flow_report(channel::FlowId id) {
    if (id.index() == 0) return nullptr;
    for (auto& each : workers_) {
        if (each->settings().index != id.worker()) continue;
        std::vector<flow::FlowStatus> statuses;
        std::uint32_t first = id.index() - 1;   // ids count records from 1
        if (!each->call([&](Worker& worker, Time now) { statuses = worker.engine().statuses(first, 1, now); })) {
            hung_ = true;
            break;
        }
        if (!statuses.empty() && statuses.front().id == id) return flow_view(statuses.front());
    }
    return nullptr;
}

json Appliance::counters_report() {
    DropCounters drops;
    flow::EngineCounters engine;
    tcp::Stack::Counters tcp;
    WorkerCounters loop;
    crypto::AeadBatch::Counters batch;
    (void)on_every_worker([&](Worker& worker, Time) {
        for (std::size_t i = 0; i < drops.values.size(); ++i) drops.values[i] += worker.drops().values[i];
        const auto& e = worker.engine().counters();
        engine.flows_opened += e.flows_opened;
        engine.flows_ended += e.flows_ended;
        engine.probes += e.probes;
        engine.octets_to_backend += e.octets_to_backend;
        engine.octets_to_client += e.octets_to_client;
        engine.clear_octets_to_backend += e.clear_octets_to_backend;
        engine.clear_octets_from_client += e.clear_octets_from_client;
        engine.renegotiations_refused += e.renegotiations_refused;
        engine.key_updates_received += e.key_updates_received;
        engine.key_updates_sent += e.key_updates_sent;
        engine.alerts_received += e.alerts_received;
        engine.alerts_sent += e.alerts_sent;
        engine.tickets_passed += e.tickets_passed;
        engine.control_restarts_survived += e.control_restarts_survived;
        engine.told_late += e.told_late;
        for (std::size_t i = 0; i < engine.ended_by.size(); ++i) engine.ended_by[i] += e.ended_by[i];
        const auto& t = worker.stack().counters();
        tcp.segments_in += t.segments_in;
        tcp.segments_out += t.segments_out;
        tcp.octets_in += t.octets_in;
        tcp.octets_out += t.octets_out;
        tcp.retransmitted += t.retransmitted;
        tcp.fast_retransmits += t.fast_retransmits;
        tcp.segmented += t.segmented;
        tcp.black_holes += t.black_holes;
        tcp.congestion_marks_in += t.congestion_marks_in;
        tcp.congestion_echoes += t.congestion_echoes;
        tcp.timeouts += t.timeouts;
        tcp.resets_in += t.resets_in;
        tcp.resets_out += t.resets_out;
        tcp.accepted += t.accepted;
        tcp.connected += t.connected;
        tcp.cookies_sent += t.cookies_sent;
        tcp.cookies_accepted += t.cookies_accepted;
        tcp.out_of_order += t.out_of_order;
        const auto& b = worker.batch().counters();
        batch.opened += b.opened;
        batch.sealed += b.sealed;
        batch.failed += b.failed;
        batch.flushes += b.flushes;
        batch.key_expansions += b.key_expansions;
        batch.keys_found += b.keys_found;
        loop.packets_in += worker.counters().packets_in;
        loop.packets_out += worker.counters().packets_out;
        loop.steered_away += worker.counters().steered_away;
    });
    json result = json::array();
    const auto add = [&](const char* group, std::string name, const char* sentence, std::uint64_t value) {
        result.push_back({{"name", std::move(name)}, {"group", group}, {"sentence", sentence}, {"value", value}});
    };
    add("packets", "packets_in", "packets received", loop.packets_in);
    add("packets", "packets_out", "packets transmitted", loop.packets_out);
    add("packets", "packets_steered", "packets handed to another worker", loop.steered_away);
    add("tcp", "tcp_segments_in", "segments received", tcp.segments_in);
    add("tcp", "tcp_segments_out", "segments sent", tcp.segments_out);
    add("tcp", "tcp_segmented", "of these, segments in frames that the device cut (TSO)", tcp.segmented);
    add("tcp", "tcp_octets_in", "octets of payload received in order", tcp.octets_in);
    add("tcp", "tcp_octets_out", "octets of payload sent", tcp.octets_out);
    add("tcp", "tcp_accepted", "connections accepted", tcp.accepted);
    add("tcp", "tcp_connected", "connections made to pool members", tcp.connected);
    add("tcp", "tcp_retransmitted", "segments sent again", tcp.retransmitted);
    add("tcp", "tcp_fast_retransmits", "recoveries that needed no time-out", tcp.fast_retransmits);
    add("tcp", "tcp_congestion_marks", "segments received that a router had marked instead of dropping them (RFC 3168)", tcp.congestion_marks_in);
    add("tcp", "tcp_congestion_echoes", "reductions of a congestion window because a peer told of marks (RFC 3168)", tcp.congestion_echoes);
    add("tcp", "tcp_black_holes", "connections that took to short segments because long ones vanished without a word (RFC 4821)", tcp.black_holes);
    add("tcp", "tcp_timeouts", "retransmission time-outs", tcp.timeouts);
    add("tcp", "tcp_out_of_order", "segments that came out of order", tcp.out_of_order);
    add("tcp", "tcp_resets_in", "resets received", tcp.resets_in);
    add("tcp", "tcp_resets_out", "resets sent", tcp.resets_out);
    add("tcp", "tcp_cookies_sent", "SYN cookies sent", tcp.cookies_sent);
    add("tcp", "tcp_cookies_accepted", "connections made from a SYN cookie", tcp.cookies_accepted);
    add("records", "records_opened", "records decrypted", batch.opened);
    add("records", "records_sealed", "records encrypted", batch.sealed);
    add("records", "records_failed", "records that failed authentication", batch.failed);
    add("records", "record_batches", "batches of records", batch.flushes);
    add("records", "key_expansions", "keys expanded for a batch", batch.key_expansions);
    add("records", "keys_found", "keys of busy connections that were still expanded", batch.keys_found);
    add("records", "key_updates_received", "KeyUpdate messages received", engine.key_updates_received);
    add("records", "key_updates_sent", "KeyUpdate messages sent", engine.key_updates_sent);
    add("records", "alerts_received", "alerts received after the handshake", engine.alerts_received);
    add("records", "alerts_sent", "alerts sent after the handshake", engine.alerts_sent);
    add("records", "tickets_passed", "session tickets of backends passed to control", engine.tickets_passed);
    add("flows", "flows_opened", "flows opened by clients", engine.flows_opened);
    add("flows", "flows_ended", "flows ended, health checks included", engine.flows_ended);
    add("flows", "health_checks", "connections made for health checks", engine.probes);
    add("flows", "octets_to_backend", "application octets passed on to backends", engine.octets_to_backend);
    add("flows", "octets_to_client", "application octets passed on to clients", engine.octets_to_client);
    add("flows", "clear_octets_to_backend", "of them to backends without TLS", engine.clear_octets_to_backend);
    add("flows", "clear_octets_from_client", "of them of clients whose TLS was not ended here; anything but 0 is a fault of ours", engine.clear_octets_from_client);
    add("records", "renegotiations_refused", "renegotiations of TLS 1.2 that a peer asked for", engine.renegotiations_refused);
    add("flows", "control_told_late", "tries to tell control of a flow whose ring had been full", engine.told_late);
    add("flows", "flows_kept_over_control_restart", "flows that went on when control was started again", engine.control_restarts_survived);
    for (std::size_t i = 1; i < engine.ended_by.size(); ++i)
        add("flows ended", std::string("ended_") + channel::name(static_cast<flow::EndReason>(i)),
            channel::sentence(static_cast<flow::EndReason>(i)), engine.ended_by[i]);
    for (std::size_t i = 0; i < drops.values.size(); ++i)
        add("drops", std::string("drop_") + name(static_cast<DropReason>(i)), sentence(static_cast<DropReason>(i)), drops.values[i]);
    return result;
}

json Appliance::neighbours_report() {
    json result = json::array();
    (void)on_every_worker([&](Worker& worker, Time) {
        for (const auto& neighbour : worker.network().neighbours())
            result.push_back({{"address", neighbour.address.to_string()},
                              {"mac", mac_text(neighbour.mac)},
                              {"port", neighbour.interface < configuration_.ports.size() ? configuration_.ports[neighbour.interface].name : ""},
                              {"state", neighbour.state},
                              {"worker", worker.settings().index}});
    });
    return result;
}

}  // namespace sallyport
