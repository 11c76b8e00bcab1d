#include "control/show_commands.h"

#include <openssl/crypto.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "control/certificates/certificate_chain.h"
#include "control/policy/catalogue.h"
#include "control/policy/report_file.h"

namespace sallyport {

using management::Error;
using management::Peer;
using management::Request;
using management::Result;
using nlohmann::json;

namespace {

constexpr const char* kEchOutcomes[] = {"none", "grease", "accepted", "rejected"};   // of handshake::EchOutcome

management::CertificateView view_of(const certificates::CertificateChain& chain) {
    management::CertificateView view;
    view.names = chain.names;
    view.subject = chain.subject();
    view.issuer = chain.issuer_text;
    view.not_before = management::iso8601(chain.not_before);
    view.not_after = management::iso8601(chain.not_after);
    view.key = chain.key_type;
    return view;
}

/// Empty for never.
std::string time_text(std::chrono::system_clock::time_point time) {
    return time == std::chrono::system_clock::time_point{} ? std::string() : management::iso8601(time);
}

std::string version_name(std::uint16_t version) {
    return version == policy::kTls13 ? "TLS 1.3" : version == policy::kTls12 ? "TLS 1.2" : "";
}
std::string suite_name(std::uint16_t id) {
    const auto* const suite = policy::find_suite(id);
    return suite == nullptr ? "" : std::string(suite->name);
}
std::string group_name(std::uint16_t id) {
    const auto* const group = policy::find_group(id);
    return group == nullptr ? "none" : std::string(group->name);
}
std::uint16_t version_of_suite(std::uint16_t id) {
    const auto* const suite = policy::find_suite(id);
    return suite == nullptr ? std::uint16_t{0} : suite->version;
}

Result ask(DataplaneLink& link, const char* what, const json& arguments = json::object()) {
    auto answer = link.ask(what, arguments);
    if (!answer) return std::unexpected(Error{"dataplane_away", answer.error()});
    return std::move(*answer);
}

Result show_version(Appearance& appearance) {
    management::VersionView view;
    view.version = SALLYPORT_VERSION;
    view.openssl = OpenSSL_version(OPENSSL_VERSION);
    view.started = management::iso8601(appearance.started);
    view.uptime_ns = static_cast<std::uint64_t>(
        std::chrono::nanoseconds(std::chrono::steady_clock::now() - appearance.started_steady).count());
    view.control_pid = getpid();
    view.dataplane_attached = appearance.link.attached();
    view.dataplane_pid = appearance.link.pid();
    if (view.dataplane_attached) {
        view.dataplane_attached_at = management::iso8601(appearance.link.attached_at());
        if (const auto answer = appearance.link.ask("version")) {
            view.dpdk = answer->value("dpdk", "");
            view.ipsec_mb = answer->value("ipsec_mb", "");
        }
    }
    view.configuration = appearance.running.runtime()->configuration.file.string();
    view.generation = appearance.running.dataplane().generation;
    view.configuration_loaded = management::iso8601(appearance.running.loaded());
    view.policy_level = appearance.running.runtime()->configuration.policy_level;
    return view;
}

Result show_services(Appearance& appearance) {
    std::vector<management::ServiceView> views;
    for (std::size_t i = 0; i < appearance.running.runtime()->services.size(); ++i) {
        const flows::Service& service = *appearance.running.runtime()->services[i];
        management::ServiceView view;
        view.name = service.settings.name;
        for (const auto& listen : service.settings.listen) view.listen.push_back(listen.to_string());
        view.pool = appearance.running.runtime()->pools[service.settings.pool]->settings().name;
        view.alpn = service.settings.alpn;
        for (const auto version : service.settings.versions)
            view.versions.emplace_back(version == configuration::TlsVersion::tls13 ? "TLS 1.3" : "TLS 1.2");
        for (const auto& files : service.settings.certificates) view.certificates.push_back(view_of(*files.chain));
        for (std::size_t v = 0; v < service.state.violations.size(); ++v)
            if (const auto count = service.state.violations[v].load(); count != 0)
                view.by_violation.push_back({std::string(policy::text(static_cast<policy::Violation>(v)).name), count});
        for (std::size_t e = 0; e < service.state.ech.size(); ++e)
            view.by_ech.push_back({kEchOutcomes[e], service.state.ech[e].load()});
        view.flows_now = service.state.flows_now;
        view.flows_total = service.state.flows_total;
        view.handshakes_done = service.state.handshakes_done;
        view.handshakes_failed = service.state.handshakes_failed;
        view.resumed = service.state.resumed;
        const auto counts = service.state.counts();
        for (const auto& [version, count] : counts.by_version) view.by_version.push_back({version_name(version), count});
        for (const auto& [suite, count] : counts.by_suite) view.by_suite.push_back({suite_name(suite), count});
        for (const auto& [group, count] : counts.by_group) view.by_group.push_back({group_name(group), count});
        for (const auto& [reason, count] : counts.by_failure) view.by_failure.push_back({channel::name(reason), count});
        views.push_back(std::move(view));
    }
    return views;
}

Result show_pools(Appearance& appearance) {
    std::vector<management::PoolView> views;
    for (const auto& pool : appearance.running.runtime()->pools) {
        management::PoolView view;
        const configuration::Pool& settings = pool->settings();
        view.name = settings.name;
        view.tls = settings.tls.has_value();
        if (settings.tls) view.server_name = settings.tls->server_name;
        view.balance = settings.balance == configuration::Balance::round_robin ? "round_robin" : "least_connections";
        view.proxy_protocol = settings.proxy_protocol;
        for (std::uint32_t i = 0; i < pool->size(); ++i) {
            flows::MemberState& state = pool->member(i);
            management::MemberView member;
            member.name = settings.members[i].name;
            member.address = settings.members[i].address.to_string();
            member.state = !state.up ? "down" : pool->drains(i) ? "drain" : "up";
            member.why = state.why();
            if (member.state == "drain" && member.why.empty()) member.why = state.drain ? "drained by an operator" : "drain = true in the configuration";
            member.weight = settings.members[i].weight;
            member.flows_now = state.flows_now;
            member.flows_total = state.flows_total;
            member.failures = state.failures;
            if (const std::int64_t checked = state.last_check; checked != 0)
                member.last_check = management::iso8601(std::chrono::system_clock::time_point(std::chrono::seconds(checked)));
            view.members.push_back(std::move(member));
        }
        views.push_back(std::move(view));
    }
    return views;
}

Result show_flows(Appearance& appearance, const Request& request) {
    constexpr std::uint64_t kMost = 100'000;
    const auto limit = request.number("limit", 1000, 0, kMost);
    if (!limit) return std::unexpected(limit.error());
    auto answer = ask(appearance.link, "flows", {{"limit", *limit == 0 ? kMost : *limit}});
    if (!answer) return answer;
    management::FlowsView view;
    view.total = answer->value("total", std::uint64_t{0});
    const auto& runtime = *appearance.running.runtime();
    for (const json& each : answer->at("flows")) {
        auto flow = each.get<management::FlowView>();
        const auto suite = each.value("client_suite", std::uint16_t{0});
        flow.version = version_name(version_of_suite(suite));
        flow.suite = suite_name(suite);
        flow.group = suite == 0 ? "" : group_name(each.value("client_group", std::uint16_t{0}));
        const auto backend_suite = each.value("backend_suite_id", std::uint16_t{0});
        flow.backend_version = version_name(version_of_suite(backend_suite));
        flow.backend_suite = suite_name(backend_suite);
        const channel::FlowId id{each.value("flow", std::uint64_t{0})};
        // Control's handshake worker of this flow knows the rest, unless it was started after the flow.
        const auto& worker = appearance.workers[id.index() % appearance.workers.size()];
        if (const auto info = worker->info(id)) {
            flow.service = info->service;
            flow.server_name = info->server_name;
            flow.alpn = info->alpn;
            flow.resumed = info->resumed;
            flow.pool = info->pool;
            flow.member = info->member;
            flow.client_identity = info->client_identity;
            flow.anchor = info->anchor;
        } else {
            const auto service = runtime.find_service(each.value("service_id", std::uint64_t{0}));
            if (service && *service < runtime.services.size())
                flow.service = runtime.services[*service]->settings.name;
            else if (service)
                flow.service = runtime.redirects[*service - runtime.services.size()]->settings.name;
            const auto pool = each.value("has_member", false) ? runtime.find_pool(each.value("pool_id", std::uint64_t{0})) : std::nullopt;
            if (pool) {
                flow.pool = runtime.pools[*pool]->settings().name;
                if (const auto member = runtime.pools[*pool]->find_member(each.value("member_id", std::uint64_t{0})))
                    flow.member = runtime.pools[*pool]->settings().members[*member].name;
            }
        }
        view.flows.push_back(std::move(flow));
    }
    return view;
}

Result show_workers(Appearance& appearance) {
    auto answer = ask(appearance.link, "workers");
    if (!answer) return answer;
    const std::string now = management::iso8601(std::chrono::system_clock::now());
    for (json& worker : *answer) worker["sampled"] = now;
    return answer;
}

Result show_counters(Appearance& appearance) {
    auto answer = ask(appearance.link, "counters");
    if (!answer) return answer;
    std::size_t sessions = 0, handshakes = 0, contexts = 0;
    for (const auto& worker : appearance.workers) {
        const auto load = worker->load();
        sessions += load.sessions;
        handshakes += load.handshakes;
        contexts += load.backend_contexts;
    }
    const auto add = [&](const char* name, const char* sentence, std::uint64_t value) {
        answer->push_back(management::CounterView{name, "control", sentence, value});
    };
    add("control_sessions", "flows that control knows now", sessions);
    add("control_handshakes", "of them with a client's handshake that is not done", handshakes);
    add("control_backend_handshakes", "of them with a backend's TLS context alive", contexts);
    const flows::Runtime& runtime = *appearance.running.runtime();
    add("handshakes_under_way", "handshakes begun and not finished", runtime.brake->started());
    add("braked_by_source", "handshakes refused: their source had too many under way or had spent its budget", runtime.brake->braked_by_source());
    add("braked_by_total", "handshakes refused: too many were under way in all", runtime.brake->braked_by_total());
    add("brake_unplaced", "handshakes of sources for which the brake's table had no place", runtime.brake->unplaced());
    std::uint64_t redirected = 0, refused = 0;
    for (const auto& redirect : runtime.redirects) {
        redirected += redirect->redirected;
        refused += redirect->refused;
    }
    add("redirects_answered", "plain HTTP requests answered with 308 to https", redirected);
    add("redirects_refused", "what came to a redirect and was no request, or took too long", refused);
    for (std::size_t v = 0; v < static_cast<std::size_t>(policy::Violation::count_); ++v) {
        const auto violation = static_cast<policy::Violation>(v);
        const auto& text = policy::text(violation);
        answer->push_back(management::CounterView{"policy_" + std::string(text.name), "policy",
                                                  std::string(text.sentence) + " [" + std::string(policy::text(text.requirement).both) + "]",
                                                  runtime.violations(violation)});
    }
    return answer;
}

std::vector<management::PolicyView> policy_views(Appearance& appearance, std::chrono::system_clock::time_point now) {
    if (const auto counters = appearance.link.ask("counters"))
        for (const auto& counter : *counters)
            if (counter.value("name", "") == "clear_client_octets") appearance.running.set_clear_octets(counter.value("value", std::uint64_t{0}));
    std::vector<management::PolicyView> views;
    for (const Running::Row& row : appearance.running.policy(now)) {
        const auto& text = policy::text(row.requirement);
        views.push_back({std::string(text.id), std::string(text.final_id), text.level, std::string(text.title),
                         std::string(policy::name_of(row.evidence.state)), row.evidence.evidence, management::iso8601(row.since), row.evidence.alarms});
    }
    return views;
}

/// For auditors: the table with what it is about, written to the state directory with a signature beside it.
Result report_policy(Appearance& appearance) {
    const auto now = std::chrono::system_clock::now();
    const configuration::Configuration& configuration = appearance.running.configuration();
    json waivers = json::array();
    for (const auto& waiver : configuration.waivers)
        waivers.push_back({{"requirement", waiver.requirement},
                           {"object", waiver.object},
                           {"reason", waiver.reason},
                           {"until", management::iso8601(waiver.until)}});
    json waived = json::array();
    for (const auto& each : configuration.waived) waived.push_back(each.problem.to_string());
    const json report = {{"report", "OWASP V9 Secure Communication (ASVS 5.0.0 V12)"},
                         {"product", "Sallyport " SALLYPORT_VERSION},
                         {"time", management::iso8601(now)},
                         {"configuration", configuration.file.string()},
                         {"configuration_loaded", management::iso8601(appearance.running.loaded())},
                         {"level", configuration.policy_level},
                         {"requirements", policy_views(appearance, now)},
                         {"waivers", waivers},
                         {"capture_secrets_allowed", configuration.capture.secrets},
                         {"waived", waived}};
    const auto written = policy::write_signed_report(configuration.state_directory / "reports", report.dump(2) + "\n", now);
    if (!written) return std::unexpected(Error{"report_not_written", written.error()});
    return management::ReportView{written->report.string(), written->signature.string(), written->public_key.string()};
}

Result show_ech(Appearance& appearance) {
    std::vector<management::EchView> views;
    const flows::Runtime& runtime = *appearance.running.runtime();
    for (std::size_t i = 0; i < runtime.services.size(); ++i) {
        const auto& keys = appearance.running.ech()[i];
        if (!keys) continue;
        const auto file = handshake::ech_file(runtime.configuration, runtime.configuration.services[i]);
        management::EchView view;
        view.service = runtime.services[i]->settings.name;
        view.public_name = keys->public_name();
        view.config_list = keys->dns_value();
        view.dns = "ech=\"" + view.config_list + "\"";
        view.dns_file = std::filesystem::path(file).replace_extension(".dns").string();
        for (const auto& key : keys->keys())
            view.keys.push_back({key.config_id, management::iso8601(key.made),
                                 key.dies == std::chrono::system_clock::time_point::max() ? std::string() : management::iso8601(key.dies)});
        const auto& counts = runtime.services[i]->state.ech;
        view.grease = counts[static_cast<std::size_t>(handshake::EchOutcome::grease)];
        view.accepted = counts[static_cast<std::size_t>(handshake::EchOutcome::accepted)];
        view.rejected = counts[static_cast<std::size_t>(handshake::EchOutcome::rejected)];
        views.push_back(std::move(view));
    }
    return views;
}

Result show_revocation(Appearance& appearance) {
    constexpr const char* kRules[] = {"staple", "short_lived", "crl", "none"};     // of revocation::Rule
    constexpr const char* kStandings[] = {"good", "revoked", "unknown"};           // of revocation::Standing
    management::RevocationView view;
    for (const auto& own : appearance.running.watcher().own())
        view.own.push_back({own.subject, own.file, kRules[static_cast<std::size_t>(own.rule)], kStandings[static_cast<std::size_t>(own.standing)], own.why,
                            own.url, time_text(own.this_update), time_text(own.next_update), time_text(own.last_attempt), time_text(own.next_attempt),
                            own.fetched, own.failed});
    for (const auto& crl : appearance.running.watcher().crls())
        view.crls.push_back({crl.domain, crl.source, crl.why, time_text(crl.next_update), time_text(crl.last_attempt), time_text(crl.next_attempt),
                             crl.fetched, crl.failed});
    return view;
}

Result show_failures(Appearance& appearance, const Request& request) {
    const auto limit = request.number("limit", 100, 0, flows::FailureLog::kKept);
    if (!limit) return std::unexpected(limit.error());
    return appearance.running.runtime()->failures->recent(*limit);
}

Result reload(Appearance& appearance) {
    auto done = appearance.running.reload();
    if (done) return management::ReloadView{true, {}};
    return management::ReloadView{false, std::move(done.error())};
}

}  // namespace

void add_show_commands(management::CommandTable& table, Appearance& appearance) {
    table.add("show version", "programs, libraries, configuration", {},
              [&](const Request&, const Peer&) { return show_version(appearance); });
    table.add("show ports", "network ports: link, rates, drops, offloads", {},
              [&](const Request&, const Peer&) { return ask(appearance.link, "ports"); });
    table.add("show services", "what clients reach: addresses, certificates, handshakes", {},
              [&](const Request&, const Peer&) { return show_services(appearance); });
    table.add("show pools", "pools and their members: state, flows, failures", {},
              [&](const Request&, const Peer&) { return show_pools(appearance); });
    table.add("show flows", "flows now: both legs, what was negotiated, octets", {{"limit", "at most so many (to 100000; 0: all that; otherwise 1000)"}},
              [&](const Request& request, const Peer&) { return show_flows(appearance, request); });
    table.add("show counters", "every counter with its sentence", {},
              [&](const Request&, const Peer&) { return show_counters(appearance); });
    table.add("show workers", "the dataplane's cores: load, packets, records, buffers", {},
              [&](const Request&, const Peer&) { return show_workers(appearance); });
    table.add("show neighbours", "addresses of next hops (ARP, neighbour discovery)", {},
              [&](const Request&, const Peer&) { return ask(appearance.link, "neighbours"); });
    table.add("show policy", "the policy, requirement by requirement: state and evidence", {},
              [&](const Request&, const Peer&) -> Result { return policy_views(appearance, std::chrono::system_clock::now()); });
    table.add("show ech", "Encrypted ClientHello: keys, what to publish in the DNS, outcomes", {},
              [&](const Request&, const Peer&) { return show_ech(appearance); });
    table.add("show revocation", "own certificates and CRLs: what answers for them, since when, until when", {},
              [&](const Request&, const Peer&) { return show_revocation(appearance); });
    table.add("show failures", "handshakes that failed, newest first", {{"limit", "at most so many (to 1000; 0: all that are kept; otherwise 100)"}},
              [&](const Request& request, const Peer&) { return show_failures(appearance, request); });
    table.add("report policy", "write the policy's table to a dated file with a signature", {},
              [&](const Request&, const Peer&) { return report_policy(appearance); });
    table.add("refresh revocation", "fetch OCSP answers and CRLs now", {}, [&](const Request&, const Peer&) -> Result {
        appearance.running.refresh_revocation();
        return json::object();
    });
    table.add("reload", "read the configuration file again and change to it", {}, [&](const Request&, const Peer&) { return reload(appearance); });
}

}  // namespace sallyport
