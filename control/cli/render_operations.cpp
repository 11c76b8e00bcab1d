#include "control/cli/render_operations.h"

#include <algorithm>

#include "control/cli/render.h"
#include "control/cli/table.h"
#include "crypto/format.h"

namespace sallyport::cli {

using namespace sallyport::management;

namespace {

std::string counts(const std::vector<CountView>& list) {
    std::vector<std::string> parts;
    for (const CountView& entry : list) parts.push_back(sallyport::format("{} {}", entry.name, entry.count));
    return joined(parts);
}

std::string days(std::int64_t left) {
    return left < 0 ? std::string("run out") : sallyport::format("{} d", left);
}

std::string microseconds(std::uint64_t count) {
    return count == 0 ? std::string() : duration(count * 1000);
}

void add_tcp(std::string& text, std::string_view leg, const TcpView& tcp) {
    if (tcp.state.empty()) return;
    text += sallyport::format("\nTCP, {}\n", leg);
    Fields fields;
    fields.add("  state", tcp.state);
    fields.add("  round trip", tcp.srtt_us == 0 ? "" : sallyport::format("{}, varies by {}, time-out {}", microseconds(tcp.srtt_us), microseconds(tcp.rttvar_us), microseconds(tcp.rto_us)));
    fields.add("  windows", sallyport::format("congestion {}, peer's {}, ours {}", octets(tcp.cwnd), octets(tcp.snd_wnd), octets(tcp.rcv_wnd)));
    fields.add("  in flight", octets(tcp.in_flight));
    fields.add("  passed", sallyport::format("{} sent, {} received", octets(tcp.octets_sent), octets(tcp.octets_received)));
    fields.add("  lost", sallyport::format("{} segments sent again, {} time-outs", tcp.segments_retransmitted, tcp.timeouts));
    std::vector<std::string> options;
    if (tcp.sack) options.emplace_back("SACK");
    if (tcp.timestamps) options.emplace_back("timestamps");
    if (tcp.window_scaling) options.emplace_back("window scaling");
    if (tcp.ecn) options.emplace_back("ECN");
    fields.add("  options", sallyport::format("MSS {}{}{}", tcp.mss, options.empty() ? "" : ", ", joined(options)));
    text += fields.text();
}

std::string member_of(const nlohmann::json& entry, const char* name) {
    const auto found = entry.find(name);
    if (found == entry.end()) return {};
    return found->is_string() ? found->get<std::string>() : found->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string render_text(std::span<const InstalledCertificateView> certificates) {
    if (certificates.empty()) return "There are no certificates.\n";
    Table table{"used by", "as", ">days left", "until", "key", "names or subject", "issuer", "staple", "file"};
    for (const auto& each : certificates)
        table.row({each.used_by, each.role, days(each.days_left), each.not_after, each.key, each.names.empty() ? each.subject : joined(each.names, " "), each.issuer,
                   each.staple + (each.must_staple ? " (must staple)" : ""), each.file});
    return table.text();
}

std::string render_text(const TlsView& tls) {
    Table table{"service", ">handshakes", ">failed", ">resumed", ">share", "versions", "suites", "groups"};
    const auto add = [&](const TlsCountsView& each) {
        table.row({each.name, quantity(each.handshakes_done), quantity(each.handshakes_failed), quantity(each.resumed), percent(each.resumed_share),
                   counts(each.by_version), counts(each.by_suite), counts(each.by_group)});
    };
    for (const auto& each : tls.services) add(each);
    add(tls.all);
    Table backends{"pool", ">flows open", "protection", "versions", "suites"};
    for (const auto& each : tls.backends)
        backends.row({each.pool, std::to_string(each.flows), each.tls ? "TLS" : "plain text", counts(each.by_version), counts(each.by_suite)});
    return table.text() + (backends.empty() ? "" : "\nBackends, of the flows that are open\n" + backends.text());
}

std::string render_text(std::span<const SessionView> sessions) {
    if (sessions.empty()) return "Nobody is connected.\n";
    Table table{"user", "role", "from", ">process", "since", ">idle", ">commands", "last command"};
    for (const auto& each : sessions)
        table.row({each.user + (each.this_one ? " (you)" : ""), each.role, each.from, std::to_string(each.pid), each.since, duration(each.idle_ms * 1'000'000),
                   std::to_string(each.commands), each.last_command});
    return table.text();
}

std::string render_text(const LogView& log) {
    std::string text;
    for (const auto& line : log.lines)
        text += sallyport::format("{} {:<7} {:<9} {}\n", printable(line.time), printable(line.level), printable(line.process), printable(line.text));
    if (!log.dataplane.empty()) text += sallyport::format("The dataplane's lines are missing: {}\n", printable(log.dataplane));
    return text.empty() ? "There are no such lines.\n" : text;
}

std::string render_text(const FlowDetailView& view) {
    const FlowView& flow = view.flow;
    Fields fields;
    fields.add("flow", flow.id);
    fields.add("state", flow.state);
    fields.add("began", sallyport::format("{} ({} ago)", view.began, duration(flow.age_ns)));
    fields.add("worker", std::to_string(flow.worker));
    std::string text = fields.text() + "\nClient\n";
    Fields client;
    client.add("  from", flow.client);
    client.add("  to", flow.local);
    client.add("  service", flow.service);
    client.add("  server name", flow.server_name);
    client.add("  TLS", flow.version.empty() ? "" : sallyport::format("{} {}, {}{}", flow.version, flow.suite, flow.group, flow.resumed ? ", resumed" : ""));
    client.add("  signature", view.signature_scheme);
    if (view.negotiated_known) client.add("  master secret", view.extended_master_secret ? "extended" : "");
    client.add("  ALPN", flow.alpn);
    client.add("  ECH", view.ech);
    client.add("  identity", flow.client_identity);
    client.add("  issued by", view.client_issuer);
    client.add("  serial", view.client_serial);
    client.add("  names", joined(view.client_names));
    client.add("  octets", sallyport::format("{} in, {} out", octets(flow.client_in), octets(flow.client_out)));
    text += client.text() + "\nBackend\n";
    Fields backend;
    backend.add("  pool", flow.pool);
    backend.add("  member", flow.member.empty() ? "" : flow.member + ", " + flow.member_address);
    backend.add("  TLS", flow.backend_version.empty() ? (flow.member.empty() || flow.backend_tls ? "" : "none: plain text")
                                                      : sallyport::format("{} {}, {}", flow.backend_version, flow.backend_suite, view.backend_group));
    backend.add("  certificate", view.backend_subject);
    backend.add("  trusted by", flow.anchor);
    backend.add("  octets", sallyport::format("{} in, {} out", octets(flow.backend_in), octets(flow.backend_out)));
    text += backend.text();
    if (!view.negotiated_known) text += "\nControl was started after the flow, or its handshake is not done: what it knows of it is not all.\n";
    add_tcp(text, "client", flow.client_tcp);
    add_tcp(text, "backend", flow.backend_tcp);
    return text;
}

std::string render_text(const RatesView& totals) {
    Fields fields;
    fields.add("at", totals.time);
    fields.add("flows", sallyport::format("{} now, {} opened", totals.flows_now, quantity(totals.flows_opened)));
    fields.add("handshakes", sallyport::format("{} done, {} failed, {} resumed", quantity(totals.handshakes_done), quantity(totals.handshakes_failed), quantity(totals.resumed)));
    fields.add("octets", sallyport::format("{} to backends, {} to clients", octets(totals.octets_to_backend), octets(totals.octets_to_client)));
    fields.add("dropped", quantity(totals.drops));
    if (!totals.dataplane) fields.add("dataplane", "away: its figures are not known");
    return fields.text();
}

std::string render_text(std::span<const NameView> names) {
    Table table{"name", "what it is"};
    for (const auto& each : names) table.row({each.name, each.help});
    return table.empty() ? "There are none.\n" : table.text();
}

std::string render_text(const EndedView& ended) {
    return sallyport::format("{} {} ended\n", ended.ended, ended.ended == 1 ? "flow" : "flows");
}

std::string render_text(const AuditEntriesView& view) {
    Table table{">number", "time", "user", "role", "from", "event", "command", "arguments", "outcome"};
    for (const auto& entry : view.entries) {
        if (!entry.is_object()) continue;
        const auto from = entry.find("from");
        const auto said = from != entry.end() && from->is_object() ? member_of(*from, "said_by_client") : std::string();
        table.row({member_of(entry, "number"), member_of(entry, "time"), member_of(entry, "user"), member_of(entry, "role"), said, member_of(entry, "event"),
                   member_of(entry, "command"), member_of(entry, "arguments"), member_of(entry, "outcome")});
    }
    std::string text = table.empty() ? "There are no entries.\n" : table.text();
    if (view.lost > 0) text += sallyport::format("{} entries could not be written since control was started.\n", view.lost);
    return text;
}

std::string render_text(const AuditVerificationView& view) {
    const std::string what = sallyport::format("{} entries in {} files, from {} to {}\n", view.entries, view.files, view.first, view.last);
    if (view.ok) return what + sallyport::format("whole; the head is {}\n", printable(view.head));
    return what + sallyport::format("BROKEN: {}: {}\n", printable(view.broken_file), printable(view.why));
}

std::string render_text(const ServiceTestView& test) {
    std::string text = sallyport::format("{} as {}: {}\n({})\n", printable(test.service), printable(test.server_name), test.good ? "good" : "NOT GOOD", printable(test.how));
    for (const auto& problem : test.problems) text += sallyport::format("  {}\n", printable(problem));
    for (const auto& each : test.handshakes) {
        text += sallyport::format("\n{}\n", printable(each.offered));
        Fields fields;
        fields.add("  outcome", each.done ? "done" : each.why);
        fields.add("  negotiated", each.version.empty() ? "" : each.version + ' ' + each.suite + (each.group.empty() ? "" : ", " + each.group));
        fields.add("  signature", each.signature_scheme);
        fields.add("  ALPN", each.alpn);
        for (const auto& certificate : each.chain)
            fields.add("  certificate", sallyport::format("{}, by {}, until {}", certificate.subject, certificate.issuer, certificate.not_after));
        if (!each.chain.empty()) {
            fields.add("  trusted", each.trusted ? "yes, to a public root" : "no: " + each.trust_error);
            fields.add("  name", each.name_covered ? "covered" : "not covered");
        }
        fields.add("  OCSP staple", each.staple);
        if (each.done) fields.add("  tickets", each.tickets == 0 ? "none" : sallyport::format("{}{}", each.tickets, each.resumed ? ", and one was taken" : ", and none was taken"));
        fields.add("  ECH", each.ech);
        text += fields.text();
    }
    return text;
}

std::string render_text(const BundleView& bundle) {
    return sallyport::format("{}\n{} in {} files, SHA-256 {}\n", printable(bundle.path), octets(bundle.octets), bundle.members.size(), printable(bundle.sha256));
}

}  // namespace sallyport::cli
