#include "control/cli/render.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "control/cli/table.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using namespace sallyport::management;

/// "1.50" and the prefix's index: three significant digits, rounded to the nearest, of a value in units of 1000^prefix.
std::string scaled(std::uint64_t count, std::span<const char* const> units) {
    if (count < 1000) return sallyport::format("{}{}", count, units[0]);
    double value = static_cast<double>(count);
    std::size_t prefix = 0;
    // 999.5 would be printed as 1000: it is 1.00 of the next prefix.
    while (value >= 999.5 && prefix + 1 < units.size()) {
        value /= 1000;
        ++prefix;
    }
    const int digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return sallyport::format("{:.{}f}{}", value, digits, units[prefix]);
}

std::string mbps(std::uint32_t megabits) {
    if (megabits == 0) return "unknown";
    if (megabits >= 1000 && megabits % 100 == 0) return sallyport::format("{:g} Gbit/s", megabits / 1000.0);
    return sallyport::format("{} Mbit/s", megabits);
}

std::string counts(const std::vector<CountView>& list) {
    std::string text;
    for (const CountView& entry : list) {
        if (!text.empty()) text += ", ";
        text += sallyport::format("{} {}", entry.name, entry.count);
    }
    return text;
}

std::string ratio(double cycles, std::uint64_t tsc_hz) {
    if (cycles <= 0 || tsc_hz == 0) return {};
    const double nanoseconds = cycles * 1e9 / static_cast<double>(tsc_hz);
    return sallyport::format("{:.{}f} ns", nanoseconds, nanoseconds < 10 ? 2 : nanoseconds < 100 ? 1
                                                                                                 : 0);
}

std::string none(std::string_view what) {
    return sallyport::format("There are no {}.\n", what);
}

std::string backend_protection(const FlowView& flow) {
    if (!flow.backend_tls) return flow.member.empty() ? "" : "plain text";
    return flow.backend_version.empty() ? "" : flow.backend_version + ' ' + flow.backend_suite;
}

}  // namespace

std::string octets(std::uint64_t count) {
    static constexpr std::array units = {" B", " kB", " MB", " GB", " TB", " PB", " EB"};
    return scaled(count, units);
}

std::string quantity(std::uint64_t count) {
    static constexpr std::array units = {"", " k", " M", " G", " T", " P", " E"};
    return scaled(count, units);
}

std::string duration(std::uint64_t nanoseconds) {
    const std::uint64_t seconds = nanoseconds / 1'000'000'000;
    if (seconds < 60) {
        static constexpr std::array units = {" ns", " us", " ms", " s"};
        return scaled(nanoseconds, units);
    }
    const std::uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
    if (minutes < 60) return sallyport::format("{} min {} s", minutes, seconds % 60);
    if (hours < 24) return sallyport::format("{} h {} min", hours, minutes % 60);
    return sallyport::format("{} d {} h", days, hours % 24);
}

std::string percent(double share) {
    return sallyport::format("{:.1f} %", share * 100);
}

std::string printable(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto octet = static_cast<unsigned char>(text[i]);
        const bool c1 = octet == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
        if (octet >= 0x20 && octet != 0x7f && !c1) {
            out += text[i];
            continue;
        }
        out += sallyport::format("\\x{:02x}", octet);
        if (c1) out += sallyport::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    }
    return out;
}

std::string render_text(const VersionView& version) {
    Fields fields;
    fields.add("Sallyport", version.version);
    fields.add("OpenSSL", version.openssl);
    fields.add("DPDK", version.dpdk);
    fields.add("IPsec-MB", version.ipsec_mb);
    fields.add("control", sallyport::format("process {}, since {} ({})", version.control_pid, version.started,
                                            duration(version.uptime_ns)));
    fields.add("dataplane",
               version.dataplane_attached
                   ? sallyport::format("process {}, attached since {}", version.dataplane_pid, version.dataplane_attached_at)
                   : "not attached: no new connections are served");
    fields.add("configuration", sallyport::format("{}, generation {}, loaded {}", version.configuration, version.generation,
                                                  version.configuration_loaded));
    if (version.policy_level != 0) fields.add("policy", sallyport::format("OWASP V9 level {}", version.policy_level));
    return fields.text();
}

std::string render_text(std::span<const PortView> ports) {
    if (ports.empty()) return none("ports");
    Table table{"port",        "profile",      "device",     "link",        "speed",   ">mtu",    "queues",    "mac",
                ">packets in", ">packets out", ">octets in", ">octets out", ">missed", ">errors", ">no buffer"};
    for (const PortView& port : ports)
        table.row({port.name, port.profile, port.device, port.link ? "up" : "down", mbps(port.mbps),
                   std::to_string(port.mtu), sallyport::format("{} in, {} out", port.receive_queues, port.transmit_queues),
                   port.mac, quantity(port.packets_in), quantity(port.packets_out), octets(port.octets_in),
                   octets(port.octets_out), quantity(port.missed), quantity(port.errors_in + port.errors_out),
                   quantity(port.no_buffer)});
    std::string text = table.text();
    for (const PortView& port : ports) {
        std::vector<std::string> device, software;
        for (const OffloadView& offload : port.offloads)
            if (offload.wanted) (offload.got ? device : software).push_back(offload.name);
        text += sallyport::format("\n{} ({}{})\n", printable(port.name), printable(port.driver),
                                  port.numa_node < 0 ? "" : sallyport::format(", NUMA node {}", port.numa_node));
        Fields fields;
        fields.add("  addresses", joined(port.addresses));
        fields.add("  in the device", device.empty() ? "nothing" : joined(device));
        fields.add("  in software", software.empty() ? "nothing" : joined(software));
        text += fields.text();
    }
    return text;
}

std::string render_text(std::span<const ServiceView> services) {
    if (services.empty()) return none("services");
    Table table{"service", "pool", ">flows now", ">flows", ">handshakes", ">failed", ">resumed"};
    for (const ServiceView& service : services)
        table.row({service.name, service.pool, std::to_string(service.flows_now), quantity(service.flows_total),
                   quantity(service.handshakes_done), quantity(service.handshakes_failed), quantity(service.resumed)});
    std::string text = table.text();
    for (const ServiceView& service : services) {
        text += sallyport::format("\n{}\n", printable(service.name));
        Fields fields;
        fields.add("  listens on", joined(service.listen));
        fields.add("  versions", joined(service.versions));
        fields.add("  ALPN", joined(service.alpn));
        for (const CertificateView& certificate : service.certificates)
            fields.add("  certificate", sallyport::format("{}, {}, valid until {}", joined(certificate.names, " "),
                                                          certificate.key, certificate.not_after));
        fields.add("  by version", counts(service.by_version));
        fields.add("  by suite", counts(service.by_suite));
        fields.add("  by group", counts(service.by_group));
        fields.add("  failed by reason", counts(service.by_failure));
        text += fields.text();
    }
    return text;
}

std::string render_text(std::span<const PoolView> pools) {
    if (pools.empty()) return none("pools");
    std::string text;
    for (const PoolView& pool : pools) {
        if (!text.empty()) text += '\n';
        text += sallyport::format("{}: {}{}, {}{}\n", printable(pool.name), pool.tls ? "TLS" : "plain text",
                                  pool.server_name.empty() ? "" : " to " + printable(pool.server_name),
                                  printable(pool.balance), pool.proxy_protocol ? ", PROXY protocol" : "");
        Table table{"member", "address", "state", ">weight", ">flows now", ">flows", ">failures", "last check", "why"};
        for (const MemberView& member : pool.members)
            table.row({member.name, member.address, member.state, std::to_string(member.weight),
                       std::to_string(member.flows_now), quantity(member.flows_total), quantity(member.failures),
                       member.last_check, member.why});
        text += table.text();
    }
    return text;
}

std::string render_text(const FlowsView& view) {
    if (view.flows.empty() && view.total == 0) return none("flows");
    Table table{"client", "service", "state",        "version",    "suite",         "group",       "server name",
                "member", "backend", ">from client", ">to client", ">from backend", ">to backend", ">age"};
    for (const FlowView& flow : view.flows)
        table.row({flow.client, flow.service, flow.state, flow.version + (flow.resumed ? " resumed" : ""), flow.suite,
                   flow.group, flow.server_name, flow.member, backend_protection(flow), octets(flow.client_in),
                   octets(flow.client_out), octets(flow.backend_in), octets(flow.backend_out), duration(flow.age_ns)});
    std::string text = table.text();
    if (view.flows.size() < view.total)
        text += sallyport::format("{} of {} flows are shown; --limit N shows more, --limit 0 all.\n", view.flows.size(),
                                  view.total);
    return text;
}

std::string render_text(std::span<const CounterView> counters, bool zeroes) {
    std::vector<std::string> groups;
    for (const CounterView& counter : counters)
        if ((zeroes || counter.value != 0) && !std::ranges::contains(groups, counter.group))
            groups.push_back(counter.group);
    if (groups.empty()) return counters.empty() ? none("counters") : "Every counter is 0; --all shows them.\n";
    std::string text;
    for (const std::string& group : groups) {
        Table table{">value", "counter", "what it counts"};
        for (const CounterView& counter : counters)
            if (counter.group == group && (zeroes || counter.value != 0))
                table.row({std::to_string(counter.value), counter.name, counter.sentence});
        if (!text.empty()) text += '\n';
        text += printable(group) + '\n' + table.text();
    }
    return text;
}

std::string render_text(std::span<const WorkerView> workers) {
    if (workers.empty()) return none("workers");
    Table table{">worker",  ">core",      ">busy",           ">interrupted",  ">packets in", ">packets out",  ">time/packet",
                ">time/kB", ">flows",     ">connections",    ">half open",  ">buffers held", ">buffers free",
                ">buffers", ">lane used", ">records opened", ">sealed",     ">failed"};
    for (const WorkerView& worker : workers)
        table.row({std::to_string(worker.index), std::to_string(worker.core), percent(worker.busy_share),
                   quantity(worker.interrupted), quantity(worker.packets_in), quantity(worker.packets_out),
                   ratio(worker.cycles_per_packet, worker.tsc_hz), ratio(worker.cycles_per_octet * 1000, worker.tsc_hz),
                   std::to_string(worker.flows), std::to_string(worker.connections), std::to_string(worker.half_open),
                   std::to_string(worker.buffers_held), std::to_string(worker.pool_free),
                   std::to_string(worker.pool_size), percent(worker.lane_to_control_used),
                   quantity(worker.records_opened), quantity(worker.records_sealed), quantity(worker.records_failed)});
    std::string text = table.text();
    if (!workers.front().sampled.empty()) text += sallyport::format("Read at {}.\n", printable(workers.front().sampled));
    return text;
}

std::string render_text(std::span<const NeighbourView> neighbours) {
    if (neighbours.empty()) return none("neighbours");
    Table table{"address", "mac", "port", "state", ">worker"};
    for (const NeighbourView& neighbour : neighbours)
        table.row(
            {neighbour.address, neighbour.mac, neighbour.port, neighbour.state, std::to_string(neighbour.worker)});
    return table.text();
}

std::string render_text(std::span<const PolicyView> requirements) {
    if (requirements.empty()) return none("requirements");
    Table table{"id", "ASVS 5.0.0", ">level", "state", "since", "requirement", "evidence"};
    for (const PolicyView& row : requirements)
        table.row({row.id, row.final_id, std::to_string(row.level), row.state, row.since, row.title, row.evidence});
    std::string text = table.text();
    for (const PolicyView& row : requirements)
        for (const std::string& alarm : row.alarms) text += sallyport::format("{} ({}): {}\n", printable(row.id), printable(row.final_id), printable(alarm));
    return text;
}

std::string render_text(std::span<const EchView> services) {
    if (services.empty()) return none("services with ECH");
    std::string text;
    for (const EchView& service : services) {
        if (!text.empty()) text += '\n';
        text += printable(service.service) + '\n';
        Fields fields;
        fields.add("  public name", service.public_name);
        fields.add("  DNS (HTTPS)", service.dns);
        fields.add("  written to", service.dns_file);
        for (const EchKeyView& key : service.keys)
            fields.add("  key", sallyport::format("config id {}, made {}, {}", key.config_id, key.made,
                                                  key.dies.empty() ? "published" : "opens until " + key.dies));
        fields.add("  ClientHellos", sallyport::format("{} accepted, {} GREASE, {} rejected", service.accepted, service.grease, service.rejected));
        text += fields.text();
    }
    return text;
}

std::string render_text(const RevocationView& view) {
    if (view.own.empty() && view.crls.empty()) return none("certificates");
    Table own{"certificate", "rule", "standing", "since", "until", "asked next", ">fetched", ">failed", "why"};
    for (const OwnRevocationView& each : view.own)
        own.row({each.subject, each.rule, each.standing, each.this_update, each.next_update, each.next_attempt, quantity(each.fetched), quantity(each.failed), each.why});
    std::string text = own.text();
    if (view.crls.empty()) return text;
    Table crls{"list of", "source", "until", "asked next", ">fetched", ">failed", "why"};
    for (const CrlView& each : view.crls)
        crls.row({each.domain, each.source, each.next_update, each.next_attempt, quantity(each.fetched), quantity(each.failed), each.why});
    return text + '\n' + crls.text();
}

std::string render_text(const FailuresView& view) {
    if (view.failures.empty()) return none("failed handshakes");
    std::string text;
    for (const FailureView& failure : view.failures) {
        const bool client = failure.side == "client";
        text += sallyport::format("{}  {}  {}\n", printable(failure.time), client ? "client " + printable(failure.source) : "backend " + printable(failure.address),
                                  printable(failure.text));
        Fields fields;
        fields.add("  service", failure.service);
        fields.add("  pool", failure.pool.empty() ? std::string() : failure.pool + ", member " + failure.member);
        fields.add("  server name", failure.server_name);
        fields.add("  reason", failure.reason);
        if (!failure.violation.empty())
            fields.add("  violates", sallyport::format("{} ({}): {}", failure.requirement, failure.final_requirement, failure.violation));
        if (failure.alert >= 0) fields.add("  alert", sallyport::format("{} by {}", failure.alert, failure.alert_by));
        fields.add("  certificate", failure.peer_subject);
        fields.add("  chain", failure.chain_error);
        fields.add("  versions", joined(failure.versions));
        fields.add("  suites", joined(failure.suites));
        fields.add("  groups", joined(failure.groups));
        fields.add("  schemes", joined(failure.signature_schemes));
        fields.add("  JA4", failure.ja4);
        text += fields.text();
    }
    text += sallyport::format("{} of {} since the start", view.failures.size(), view.total);
    return text + (view.not_logged == 0 ? ".\n" : sallyport::format("; {} were not logged one by one.\n", view.not_logged));
}

std::string render_text(const ReportView& report) {
    return sallyport::format("{}\nsigned in {}; the key that checks it is {}\n", printable(report.report), printable(report.signature), printable(report.public_key));
}

std::string render_text(const ReloadView& reload) {
    if (reload.done) return "reloaded\n";
    std::string text = "refused; what was running goes on:\n";
    for (const std::string& problem : reload.problems) text += printable(problem) + '\n';
    return text;
}

}  // namespace sallyport::cli
