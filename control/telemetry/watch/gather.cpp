#include "control/telemetry/watch/gather.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>

#include <map>

#include "control/policy/catalogue.h"
#include "control/policy/requirement.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

namespace {

using Clock = std::chrono::system_clock;

constexpr const char* kEchOutcomes[] = {"none", "grease", "accepted", "rejected"};   // of handshake::EchOutcome

double since_epoch(Clock::time_point time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }
double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

template <typename Entry>
std::string name_or_number(const Entry* entry, std::uint16_t id) {
    return entry == nullptr ? sallyport::format("{:#06x}", id) : std::string(entry->name);
}

std::string serial_of(const X509* certificate) {
    const openssl::Owner<BIGNUM, BN_free> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
    char* const text = number ? BN_bn2hex(number.get()) : nullptr;
    std::string serial = text == nullptr ? "" : text;
    OPENSSL_free(text);
    return serial;
}

void add_alarms(Figures& to, const Alarms& alarms) {
    std::map<Severity, std::uint64_t> count{{Severity::warning, 0}, {Severity::error, 0}, {Severity::critical, 0}};
    for (const Alarm& alarm : alarms.active()) {
        to.add(Metric::alarm, 1.0, {alarm.kind, alarm.object, name(alarm.severity)});
        ++count[alarm.severity];
    }
    for (const auto& [severity, number] : count) to.add(Metric::alarms, number, {name(severity)});
}

void add_policy(Figures& to, const Running& running) {
    to.add(Metric::policy_level, static_cast<double>(running.configuration().policy_level));
    for (const Running::Row& row : running.rows()) {
        const auto& about = policy::text(row.requirement);
        to.add(Metric::policy_state, 1.0, {about.id, about.final_id, policy::name_of(row.evidence.state)});
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(policy::Violation::count_); ++i) {
        const auto violation = static_cast<policy::Violation>(i);
        const auto& about = policy::text(policy::text(violation).requirement);
        to.add(Metric::policy_violations, running.runtime()->violations(violation), {about.id, about.final_id, policy::text(violation).name});
    }
}

void add_services(Figures& to, const flows::Runtime& runtime) {
    for (const auto& service : runtime.services) {
        const std::string& name = service->settings.name;
        const flows::ServiceState& state = service->state;
        to.add(Metric::flows_open, state.flows_now.load(), {name});
        to.add(Metric::flows_opened, state.flows_total.load(), {name});
        const auto counts = state.counts();
        for (const auto& [kind, count] : counts.by_kind)
            to.add(Metric::handshakes, count,
                   {name, kind.version == policy::kTls13 ? "TLS 1.3" : "TLS 1.2", name_or_number(policy::find_suite(kind.suite), kind.suite),
                    kind.group == 0 ? "none" : name_or_number(policy::find_group(kind.group), kind.group), kind.resumed ? "yes" : "no"});
        for (const auto& [reason, count] : counts.by_failure) to.add(Metric::handshake_failures, count, {name, channel::name(reason)});
        for (std::size_t i = 0; i < state.ech.size(); ++i) to.add(Metric::ech_handshakes, state.ech[i].load(), {name, kEchOutcomes[i]});
    }
    for (const auto& redirect : runtime.redirects) {
        to.add(Metric::redirects, redirect->redirected.load(), {redirect->settings.name, "redirected"});
        to.add(Metric::redirects, redirect->refused.load(), {redirect->settings.name, "refused"});
    }
    to.add(Metric::handshakes_under_way, runtime.brake->started());
    to.add(Metric::braked, runtime.brake->braked_by_source(), {"source"});
    to.add(Metric::braked, runtime.brake->braked_by_total(), {"total"});
    to.add(Metric::brake_unplaced, runtime.brake->unplaced());
    to.add(Metric::log_suppressed, runtime.failures->recent(1).not_logged);
}

void add_pools(Figures& to, const flows::Runtime& runtime) {
    for (const auto& pool : runtime.pools) {
        const std::string& name = pool->settings().name;
        std::uint64_t up = 0;
        for (std::uint32_t i = 0; i < pool->size(); ++i) {
            const flows::MemberState& member = pool->member(i);
            const std::string& who = pool->settings().members[i].name;
            if (member.up && !pool->drains(i)) ++up;
            to.add(Metric::member_up, member.up ? 1.0 : 0.0, {name, who});
            to.add(Metric::member_draining, pool->drains(i) ? 1.0 : 0.0, {name, who});
            to.add(Metric::member_flows_open, member.flows_now.load(), {name, who});
            to.add(Metric::member_flows_opened, member.flows_total.load(), {name, who});
            to.add(Metric::member_failures, member.failures.load(), {name, who});
        }
        to.add(Metric::pool_members, std::uint64_t{pool->size()}, {name});
        to.add(Metric::pool_members_up, up, {name});
    }
}

void add_certificates(Figures& to, const configuration::Configuration& configuration) {
    // One certificate may stand in several files of one owner: a metric must not be there twice.
    std::map<std::tuple<std::string, std::string, std::string>, double> ends;
    const auto look = [&](const std::string& owner, const configuration::CertificateFiles& files) {
        if (!files.chain || !files.chain->leaf) return;
        ends[{owner, files.chain->names.empty() ? files.chain->subject() : files.chain->names.front(), serial_of(files.chain->leaf.get())}] =
            since_epoch(files.chain->not_after);
    };
    for (const auto& service : configuration.services)
        for (const auto& files : service.certificates) look("service " + service.name, files);
    for (const auto& pool : configuration.pools)
        if (pool.tls && pool.tls->identity) look("pool " + pool.name, *pool.tls->identity);
    if (configuration.metrics) look("telemetry.metrics", configuration.metrics->identity);
    if (configuration.flow_log.syslog && configuration.flow_log.syslog->identity) look("flow_log.syslog", *configuration.flow_log.syslog->identity);
    for (const auto& [which, end] : ends) to.add(Metric::certificate_not_after, end, {std::get<0>(which), std::get<1>(which), std::get<2>(which)});
}

void add_revocation(Figures& to, const Running& running, Clock::time_point now) {
    const policy::RunState state = running.run_state(now);
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> fetches;
    for (const auto& own : state.staples) {
        if (own.rule == revocation::Rule::staple && own.this_update != Clock::time_point{}) {
            to.add(Metric::staple_age, seconds(now - own.this_update), {own.file});
            to.add(Metric::staple_next_update, since_epoch(own.next_update), {own.file});
        }
        if (own.url.empty()) continue;
        fetches[own.url].first += own.fetched;
        fetches[own.url].second += own.failed;
    }
    for (const auto& crl : state.crls) {
        if (crl.next_update != Clock::time_point{}) to.add(Metric::crl_next_update, since_epoch(crl.next_update), {crl.domain, crl.source});
        fetches[crl.source].first += crl.fetched;
        fetches[crl.source].second += crl.failed;
    }
    for (const auto& [source, counts] : fetches) {
        to.add(Metric::revocation_fetches, counts.first, {source, "fetched"});
        to.add(Metric::revocation_fetches, counts.second, {source, "failed"});
    }
    for (const auto& ech : state.ech) to.add(Metric::ech_key_age, seconds(ech.age), {ech.service});
    if (state.ticket_key_age) to.add(Metric::ticket_key_age, seconds(*state.ticket_key_age));
}

void add_ports(Figures& to, const DataplaneReport& report) {
    for (const auto& port : report.ports) {
        to.add(Metric::port_up, port.link ? 1.0 : 0.0, {port.name});
        if (port.mbps != 0) to.add(Metric::port_speed, port.mbps * 1e6 / 8, {port.name});
        to.add(Metric::port_packets, port.packets_in, {port.name, "in"});
        to.add(Metric::port_packets, port.packets_out, {port.name, "out"});
        to.add(Metric::port_bytes, port.octets_in, {port.name, "in"});
        to.add(Metric::port_bytes, port.octets_out, {port.name, "out"});
        to.add(Metric::port_errors, port.errors_in, {port.name, "in"});
        to.add(Metric::port_errors, port.errors_out, {port.name, "out"});
        to.add(Metric::port_missed, port.missed, {port.name});
        to.add(Metric::port_no_buffer, port.no_buffer, {port.name});
    }
}

void add_workers(Figures& to, const DataplaneReport& report) {
    for (const auto& worker : report.workers) {
        const std::string index = std::to_string(worker.index);
        const double hz = worker.tsc_hz == 0 ? 1 : static_cast<double>(worker.tsc_hz);
        to.add(Metric::worker_busy, static_cast<double>(worker.cycles_busy) / hz, {index});
        to.add(Metric::worker_total, static_cast<double>(worker.cycles_total) / hz, {index});
        to.add(Metric::worker_interrupted, worker.interrupted, {index});
        to.add(Metric::worker_packets, worker.packets_in, {index, "in"});
        to.add(Metric::worker_packets, worker.packets_out, {index, "out"});
        to.add(Metric::worker_flows, worker.flows, {index});
        to.add(Metric::worker_connections, worker.connections, {index});
        to.add(Metric::worker_half_open, worker.half_open, {index});
        to.add(Metric::worker_buffers, worker.pool_size, {index});
        to.add(Metric::worker_buffers_free, worker.pool_free, {index});
        to.add(Metric::worker_lane_used, worker.lane_to_control_used, {index});
    }
}

/// The dataplane's counters by their names; those whose name begins so are one metric by what follows.
void add_counters(Figures& to, const DataplaneReport& report) {
    struct Fixed {
        std::string_view counter;
        Metric metric;
        std::initializer_list<std::string_view> labels;
    };
    static const Fixed kFixed[] = {
        {"octets_to_backend", Metric::passed, {"client", "backend"}},
        {"octets_to_client", Metric::passed, {"backend", "client"}},
        {"records_opened", Metric::records, {"opened"}},
        {"records_sealed", Metric::records, {"sealed"}},
        {"records_failed", Metric::records, {"failed"}},
        {"key_updates_received", Metric::key_updates, {"in"}},
        {"key_updates_sent", Metric::key_updates, {"out"}},
        {"tcp_accepted", Metric::tcp_connections, {"in"}},
        {"tcp_connected", Metric::tcp_connections, {"out"}},
        {"tcp_segments_in", Metric::tcp_segments, {"in"}},
        {"tcp_segments_out", Metric::tcp_segments, {"out"}},
        {"tcp_retransmitted", Metric::tcp_retransmitted, {}},
        {"tcp_timeouts", Metric::tcp_timeouts, {}},
        {"tcp_resets_in", Metric::tcp_resets, {"in"}},
        {"tcp_resets_out", Metric::tcp_resets, {"out"}},
        {"tcp_cookies_sent", Metric::syn_cookies, {"sent"}},
        {"tcp_cookies_accepted", Metric::syn_cookies, {"accepted"}},
    };
    for (const auto& counter : report.counters) {
        const std::string_view name = counter.name;
        if (name.starts_with("ended_")) to.add(Metric::flow_ends, counter.value, {name.substr(6)});
        if (name.starts_with("drop_")) to.add(Metric::drops, counter.value, {name.substr(5)});
        for (const Fixed& fixed : kFixed)
            if (name == fixed.counter) to.add(fixed.metric, counter.value, fixed.labels);
    }
}

void add_flow_log(Figures& to, const FlowLog& log) {
    for (const FlowLog::Status& status : log.status()) {
        if (!status.on && status.trouble.empty() && status.written + status.shed + status.lost == 0) continue;
        to.add(Metric::flow_log_records, status.written, {status.sink});
        to.add(Metric::flow_log_shed, status.shed, {status.sink, "queue_full"});
        to.add(Metric::flow_log_shed, status.lost, {status.sink, "lost"});
        to.add(Metric::flow_log_waiting, std::uint64_t{status.waiting}, {status.sink});
        to.add(Metric::flow_log_up, status.on && status.trouble.empty() ? 1.0 : 0.0, {status.sink});
    }
}

void add_process(Figures& to, std::string_view name, const daemon::Usage& usage) {
    if (usage.resident_octets != 0) to.add(Metric::process_memory, usage.resident_octets, {name});
    to.add(Metric::process_cpu, seconds(usage.cpu), {name});
}

}  // namespace

Figures gather(const Sources& sources, Clock::time_point now) {
    Figures figures;
    const Running& running = sources.running;
    figures.add(Metric::build_info, 1.0, {SALLYPORT_VERSION, OpenSSL_version(OPENSSL_VERSION_STRING), sources.dpdk});
    figures.add(Metric::start_time, since_epoch(sources.started));
    figures.add(Metric::configuration_loaded, since_epoch(running.loaded()));
    figures.add(Metric::dataplane_attached, sources.attached ? 1.0 : 0.0);
    figures.add(Metric::dataplane_answers, sources.answers ? 1.0 : 0.0);
    add_alarms(figures, sources.alarms);
    add_policy(figures, running);
    add_services(figures, *running.runtime());
    add_pools(figures, *running.runtime());
    add_certificates(figures, running.configuration());
    add_revocation(figures, running, now);
    if (sources.answers) {
        add_ports(figures, sources.report);
        add_workers(figures, sources.report);
        add_counters(figures, sources.report);
    }
    add_flow_log(figures, sources.flow_log);
    if (sources.audit != nullptr) {
        figures.add(Metric::audit_entries, sources.audit->written(), {"written"});
        figures.add(Metric::audit_entries, sources.audit->lost(), {"lost"});
    }
    add_process(figures, "control", daemon::usage());
    if (sources.report.process) add_process(figures, "dataplane", *sources.report.process);
    return figures;
}

}  // namespace sallyport::telemetry
