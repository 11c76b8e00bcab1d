#include "tests/bench/generator/report.h"

#include <cmath>
#include <format>
#include <iterator>

#include "control/policy/catalogue.h"
#include "crypto/format.h"

namespace sallyport::generator {
namespace {

using nlohmann::json;

std::string suite_name(std::uint16_t id) {
    for (const policy::Suite& suite : policy::kSuites)
        if (suite.id == id) return std::string(suite.name);
    return sallyport::format("{:#06x}", id);
}

constexpr std::pair<const char*, double> kPercentiles[] = {{"p50", 50.0}, {"p90", 90.0}, {"p99", 99.0}, {"p99.9", 99.9}, {"p99.99", 99.99}};

json latency(const Histogram& histogram) {
    json of{{"count", histogram.count()}, {"min", histogram.min()}, {"mean", std::round(histogram.mean())}, {"max", histogram.max()}};
    for (const auto& [name, percent] : kPercentiles) of[name] = histogram.percentile(percent);
    if (histogram.saturated() > 0) of["saturated"] = histogram.saturated();
    return of;
}

/// The medians of the slices' percentiles.
json latency(const Slices& slices) {
    json of;
    for (const auto& [name, percent] : kPercentiles) of[name] = slices.percentile(percent);
    return of;
}

/// Of a side, over all of the run.
json side(const Statistics& statistics, const tcp::Stack::Counters& tcp, const DropCounters& drops, std::uint64_t packets_in, std::uint64_t packets_out) {
    const Counters& c = statistics.counters;
    json negotiated = json::array();
    for (const auto& [what, count] : statistics.negotiated)
        negotiated.push_back({{"version", what.version == 0x0304 ? "1.3" : "1.2"}, {"suite", suite_name(what.suite)}, {"group", what.group}, {"resumed", what.resumed}, {"count", count}});
    json failures = json::object();
    for (std::size_t i = 0; i < statistics.failures.values.size(); ++i)
        if (statistics.failures.values[i] > 0) failures[name(static_cast<Failure>(i))] = statistics.failures.values[i];
    json dropped = json::object();
    for (std::size_t i = 0; i < drops.values.size(); ++i)
        if (drops.values[i] > 0) dropped[name(static_cast<DropReason>(i))] = drops.values[i];
    return {{"opened", c.opened}, {"closed", c.closed}, {"closed_by_peer", c.closed_by_peer}, {"handshakes", c.handshakes}, {"resumed", c.resumed}, {"tickets", c.tickets}, {"messages_out", c.messages_out}, {"messages_in", c.messages_in}, {"octets_out", c.octets_out}, {"octets_in", c.octets_in}, {"records_out", c.records_out}, {"records_in", c.records_in}, {"key_updates_out", c.key_updates_out}, {"key_updates_in", c.key_updates_in}, {"mismatched_octets", c.mismatched_octets}, {"bad_status", c.bad_status}, {"negotiated", negotiated}, {"failed", statistics.failures.sum()}, {"failures", failures}, {"first_failures", statistics.first_failures}, {"packets_in", packets_in}, {"packets_out", packets_out}, {"dropped", dropped}, {"tcp", {{"retransmitted", tcp.retransmitted}, {"timeouts", tcp.timeouts}, {"resets_in", tcp.resets_in}, {"resets_out", tcp.resets_out}, {"out_of_order", tcp.out_of_order}}}};
}

json port(Side* of, const SideOptions& options) {
    json made{{"addresses", json::array()}};
    for (const IpPrefix& address : options.addresses) made["addresses"].push_back(address.to_string());
    if (const drivers::Port* const behind = of->link().port(); behind != nullptr) {
        const drivers::PortStatus status = behind->status();
        made.update({{"profile", status.profile}, {"driver", status.driver}, {"device", status.device}, {"mtu", status.mtu}, {"missed", status.missed}, {"no_buffer", status.no_buffer}});
    } else {
        made["profile"] = "loopback";
    }
    return made;
}

json window(const Result& result, double hz, bool has_clients) {
    const Snapshot &a = result.begin, &b = result.end;
    const double seconds = std::chrono::duration<double>(b.at - a.at).count();
    if (seconds <= 0) return {{"seconds", 0}};
    const Counters& from = has_clients ? a.clients : a.backends;
    const Counters& to = has_clients ? b.clients : b.backends;
    const auto rate = [&](std::uint64_t before, std::uint64_t after) { return static_cast<double>(after - before) / seconds; };
    const std::uint64_t messages = to.messages_in - from.messages_in;
    const auto each = [&](std::uint64_t cycles) { return messages > 0 ? std::round(static_cast<double>(cycles) / static_cast<double>(messages)) : 0; };
    const std::uint64_t busy = b.cycles.busy() - a.cycles.busy();
    const std::uint64_t libssl = b.clients.handshake_cycles - a.clients.handshake_cycles + b.backends.handshake_cycles - a.backends.handshake_cycles;
    return {{"seconds", seconds}, {"began", a.monotonic}, {"ended", b.monotonic}, {"messages", messages}, {"messages_per_second", rate(from.messages_in, to.messages_in)}, {"opened_per_second", rate(from.opened, to.opened)}, {"handshakes_per_second", rate(from.handshakes, to.handshakes)}, {"resumed_per_second", rate(from.resumed, to.resumed)}, {"backend_handshakes_per_second", rate(a.backends.handshakes, b.backends.handshakes)}, {"octets_in", to.octets_in - from.octets_in}, {"octets_out", to.octets_out - from.octets_out}, {"gbps_in", rate(from.octets_in, to.octets_in) * 8e-9}, {"gbps_out", rate(from.octets_out, to.octets_out) * 8e-9}, {"busy_share", static_cast<double>(busy) / (hz * seconds)}, {"cpu_share", (b.cpu_seconds - a.cpu_seconds) / seconds}, {"cycles_per_message", {{"all", each(busy)}, {"network", each(b.cycles.network - a.cycles.network)}, {"clients", each(b.cycles.clients - a.cycles.clients)}, {"backends", each(b.cycles.backends - a.cycles.backends)}, {"of_these_handshakes", each(libssl)}}}};
}

template <typename... Arguments>
void line(std::string& text, std::format_string<Arguments...> format, Arguments&&... arguments) {
    std::format_to(std::back_inserter(text), format, std::forward<Arguments>(arguments)...);
    text += '\n';
}

void add_side(std::string& text, const char* title, const json& of) {
    line(text, "{}", title);
    line(text, "  connections     {} opened, {} closed in order ({} by the peer first), {} failed", of["opened"].get<std::uint64_t>(), of["closed"].get<std::uint64_t>(),
         of["closed_by_peer"].get<std::uint64_t>(), of["failed"].get<std::uint64_t>());
    for (const auto& [name, count] : of["failures"].items()) line(text, "    {:<20} {}", name, count.template get<std::uint64_t>());
    for (const json& failure : of["first_failures"]) line(text, "    such as           {}", failure.get<std::string>());
    for (const json& n : of["negotiated"])
        line(text, "  handshakes      {} TLS {} {} {}{}", n["count"].get<std::uint64_t>(), n["version"].get<std::string>(), n["suite"].get<std::string>(), n["group"].get<std::string>(),
             n["resumed"].get<bool>() ? " resumed" : "");
    line(text, "  messages        {} out, {} in; octets {} out, {} in; mismatched {}", of["messages_out"].get<std::uint64_t>(), of["messages_in"].get<std::uint64_t>(),
         of["octets_out"].get<std::uint64_t>(), of["octets_in"].get<std::uint64_t>(), of["mismatched_octets"].get<std::uint64_t>());
    const json& tcp = of["tcp"];
    line(text, "  packets         {} out, {} in; retransmitted {}, timeouts {}, resets {} out, {} in", of["packets_out"].get<std::uint64_t>(), of["packets_in"].get<std::uint64_t>(),
         tcp["retransmitted"].get<std::uint64_t>(), tcp["timeouts"].get<std::uint64_t>(), tcp["resets_out"].get<std::uint64_t>(), tcp["resets_in"].get<std::uint64_t>());
    for (const auto& [name, count] : of["dropped"].items()) line(text, "    dropped           {} {}", name, count.template get<std::uint64_t>());
}

}  // namespace

json report(const Generator& generator, const Result& result) {
    const Options& o = generator.options();
    constexpr const char* kModes[] = {"kept", "close", "idle"};
    json made{{"version", SALLYPORT_VERSION},
              {"load", {{"mode", kModes[static_cast<std::size_t>(o.mode)]}, {"model", o.rate > 0 ? "open" : "closed"}, {"rate", o.rate}, {"spacing", o.spacing == Spacing::poisson ? "poisson" : "constant"}, {"connections", o.connections}, {"requests_per_connection", o.mode == Mode::close ? o.requests_per_connection : 0}, {"request_size", o.request_size}, {"answer_size", o.answer_size}, {"record_size", o.record_size}, {"resume_percent", o.resume_percent}, {"seed", o.seed}, {"compare_every", o.compare_every}, {"client_plain", o.clients.plain}, {"backend_plain", o.backends.plain}}},
              {"tsc_hz", generator.tsc_hz()},
              {"stopped_early", result.stopped_early},
              {"most_failures", o.most_failures},
              {"window", window(result, static_cast<double>(generator.tsc_hz()), generator.clients() != nullptr)}};
    for (const Mark& mark : result.course) made["window"]["course"].push_back({{"monotonic", mark.monotonic}, {"messages", mark.messages}, {"opened", mark.opened}});
    if (const Clients* const clients = generator.clients(); clients != nullptr) {
        made["clients"] = side(clients->statistics(), result.last.client_tcp, generator.client_side()->drops(), result.last.client_packets_in, result.last.client_packets_out);
        made["clients"]["port"] = port(generator.client_side(), o.clients);
        made["latency"] = {{"setup", latency(clients->setup())}, {"first_octet", latency(clients->first_octet())}, {"last_octet", latency(clients->last_octet())}};
        if (o.slice > 0) made["latency"]["slices"] = {{"seconds", o.slice}, {"count", clients->last_octet_slices().count()}, {"first_octet", latency(clients->first_octet_slices())}, {"last_octet", latency(clients->last_octet_slices())}};
        made["unsent"] = result.unsent;
        made["unanswered"] = result.unanswered;
        made["most_ready"] = result.most_ready;
        made["opening_seconds"] = result.opening_seconds;
        made["resident_octets"] = result.resident;
        if (o.mode == Mode::idle) {
            made["probed"] = clients->probed();
            made["not_probed"] = result.not_probed;
        }
    }
    if (const Backends* const backends = generator.backends(); backends != nullptr)
        made["backends"] = side(backends->statistics(), result.last.backend_tcp, generator.backend_side()->drops(), result.last.backend_packets_in, result.last.backend_packets_out);
    if (generator.backends() != nullptr) made["backends"]["port"] = port(generator.backend_side(), o.backends);
    std::string why;
    made["good"] = good(made, why);
    if (!why.empty()) made["why"] = why;
    return made;
}

bool good(const json& report, std::string& why) {
    std::uint64_t mismatched = 0, failed = 0, done = 0;
    for (const char* name : {"clients", "backends"}) {
        if (!report.contains(name)) continue;
        const json& of = report[name];
        mismatched += of["mismatched_octets"].get<std::uint64_t>();
        // A connection that fails on our clients' side as a rule fails on the backends' too: who has both counts the clients'.
        if (name == std::string_view("backends") && report.contains("clients")) continue;
        failed += of["failed"].get<std::uint64_t>() + of["bad_status"].get<std::uint64_t>();
        done += of["opened"].get<std::uint64_t>() + of["messages_in"].get<std::uint64_t>();
    }
    failed += report.value("not_probed", std::uint64_t{0}) + report.value("unanswered", std::uint64_t{0});
    if (mismatched > 0) why = sallyport::format("{} octets differ from what was sent", mismatched);
    else if (done == 0) why = "nothing was opened and nothing answered";
    else if (const double percent = 100.0 * static_cast<double>(failed) / static_cast<double>(done + failed); percent > report["most_failures"].get<double>())
        why = sallyport::format("{} failures are {:.4f} % of connections and requests; --most-failures allows {:g} %", failed, percent, report["most_failures"].get<double>());
    return why.empty();
}

std::string table(const json& report) {
    std::string text;
    const json& load = report["load"];
    const json& window = report["window"];
    line(text, "load              {} connections, mode {}, {} loop{}; requests of {} octets (0: the shortest), answers of {}", load["connections"].get<std::uint64_t>(), load["mode"].get<std::string>(),
         load["model"].get<std::string>(), load["rate"].get<double>() > 0 ? sallyport::format(" at {:g} a second, {}", load["rate"].get<double>(), load["spacing"].get<std::string>()) : "",
         load["request_size"].get<std::uint64_t>(), load["answer_size"].get<std::uint64_t>());
    if (report.contains("clients")) add_side(text, "clients", report["clients"]);
    if (report.contains("backends")) add_side(text, "backends", report["backends"]);
    if (window["seconds"].get<double>() > 0) {
        line(text, "window            {:.3f} s{}", window["seconds"].get<double>(), report["stopped_early"].get<bool>() ? ", stopped early" : "");
        line(text, "  messages        {:.0f} a second", window["messages_per_second"].get<double>());
        line(text, "  content         {:.4f} Gb/s in, {:.4f} Gb/s out", window["gbps_in"].get<double>(), window["gbps_out"].get<double>());
        line(text, "  connections     {:.0f} opened a second; handshakes {:.0f} ({:.0f} resumed), backends' {:.0f}", window["opened_per_second"].get<double>(), window["handshakes_per_second"].get<double>(),
             window["resumed_per_second"].get<double>(), window["backend_handshakes_per_second"].get<double>());
        const json& cycles = window["cycles_per_message"];
        line(text, "  generator       busy {:.1f} % of the time, had {:.1f} % of a core; {:.0f} cycles a message: network {:.0f}, clients {:.0f}, backends {:.0f} (handshakes, of these: {:.0f})", 100 * window["busy_share"].get<double>(), 100 * window["cpu_share"].get<double>(),
             cycles["all"].get<double>(), cycles["network"].get<double>(), cycles["clients"].get<double>(), cycles["backends"].get<double>(), cycles["of_these_handshakes"].get<double>());
    }
    if (report.contains("latency")) {
        line(text, "{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "latency, us", "count", "min", "p50", "p90", "p99", "p99.9", "p99.99", "max");
        for (const auto& [name, title] : {std::pair{"setup", "  setup"}, {"first_octet", "  first octet"}, {"last_octet", "  last octet"}}) {
            const json& of = report["latency"][name];
            if (of["count"].get<std::uint64_t>() == 0) continue;
            std::string row = sallyport::format("{:<18}{:>10}", title, of["count"].get<std::uint64_t>());
            for (const char* which : {"min", "p50", "p90", "p99", "p99.9", "p99.99", "max"}) row += sallyport::format("{:>10.1f}", of[which].get<double>() / 1000);
            line(text, "{}", row);
        }
        if (report["latency"].contains("slices")) {
            const json& slices = report["latency"]["slices"];
            line(text, "medians of {} slices of {:g} s", slices["count"].get<std::uint64_t>(), slices["seconds"].get<double>());
            for (const auto& [name, title] : {std::pair{"first_octet", "  first octet"}, {"last_octet", "  last octet"}}) {
                std::string row = sallyport::format("{:<38}", title);
                for (const auto& [which, percent] : kPercentiles) row += sallyport::format("{:>10.1f}", slices[name][which].get<double>() / 1000);
                line(text, "{}", row);
            }
        }
        if (report["unsent"].get<std::uint64_t>() > 0) line(text, "unsent            {} requests were due and no connection was free: latencies would be longer still", report["unsent"].get<std::uint64_t>());
        if (report["unanswered"].get<std::uint64_t>() > 0) line(text, "unanswered        {} when the drain was over", report["unanswered"].get<std::uint64_t>());
        line(text, "open at once      {}, in {:.2f} s; resident memory then {} MB", report["most_ready"].get<std::uint64_t>(), report["opening_seconds"].get<double>(), report["resident_octets"].get<std::uint64_t>() >> 20);
    }
    if (report.contains("probed")) line(text, "probes            {} answered, {} not", report["probed"].get<std::uint64_t>(), report["not_probed"].get<std::uint64_t>());
    line(text, "{}", report["good"].get<bool>() ? "good" : "NOT GOOD: " + report["why"].get<std::string>());
    return text;
}

}  // namespace sallyport::generator
