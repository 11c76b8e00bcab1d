#include "control/show_commands.h"

#include <openssl/crypto.h>
#include <unistd.h>

#include <algorithm>

#include "control/certificates/certificate_chain.h"
#include "control/policy/catalogue.h"

namespace sallyport {

using management::Error;
using management::Peer;
using management::Request;
using management::Result;
using nlohmann::json;

namespace {

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
    view.configuration = appearance.runtime->configuration.file.string();
    view.generation = appearance.runtime->configuration.dataplane.generation;
    view.configuration_loaded = management::iso8601(appearance.loaded);
    view.policy_level = appearance.runtime->configuration.policy_level;
    return view;
}

Result show_services(Appearance& appearance) {
    std::vector<management::ServiceView> views;
    for (std::size_t i = 0; i < appearance.runtime->services.size(); ++i) {
        const flows::Service& service = *appearance.runtime->services[i];
        management::ServiceView view;
        view.name = service.settings.name;
        for (const auto& listen : service.settings.listen) view.listen.push_back(listen.to_string());
        view.pool = appearance.runtime->pools[service.settings.pool]->settings().name;
        view.alpn = service.settings.alpn;
        for (const auto version : service.settings.versions)
            view.versions.emplace_back(version == configuration::TlsVersion::tls13 ? "TLS 1.3" : "TLS 1.2");
        if (i < appearance.certificates.size()) view.certificates = appearance.certificates[i];
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
    for (const auto& pool : appearance.runtime->pools) {
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
            member.state = !state.up ? "down" : state.drain ? "drain" : "up";
            member.why = state.why();
            if (member.state == "drain" && member.why.empty()) member.why = "drain = true in the configuration";
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
    const auto& runtime = *appearance.runtime;
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
        } else if (each.value("generation", 0u) == runtime.configuration.dataplane.generation) {
            const auto service = each.value("service_index", std::size_t{0});
            if (service < runtime.services.size()) flow.service = runtime.services[service]->settings.name;
            const auto pool = each.value("pool_index", std::size_t{0});
            const auto member = each.value("member_index", std::size_t{0});
            if (each.value("has_member", false) && pool < runtime.pools.size()) {
                flow.pool = runtime.pools[pool]->settings().name;
                if (member < runtime.pools[pool]->size()) flow.member = runtime.pools[pool]->settings().members[member].name;
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
    return answer;
}

}  // namespace

std::vector<std::vector<management::CertificateView>> certificate_views(const configuration::Configuration& configuration) {
    std::vector<std::vector<management::CertificateView>> result;
    for (const auto& service : configuration.services) {
        auto& views = result.emplace_back();
        for (const auto& files : service.certificates) {
            const auto chain = certificates::load_certificate_chain(files.certificate, files.key, configuration.policy_level,
                                                                    std::chrono::system_clock::now());
            if (!chain) continue;   // the file has changed since it was checked
            management::CertificateView view;
            view.names = chain->names;
            view.subject = chain->subject();
            view.not_before = management::iso8601(chain->not_before);
            view.not_after = management::iso8601(chain->not_after);
            view.key = chain->key_type;
            views.push_back(std::move(view));
        }
    }
    return result;
}

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
}

}  // namespace sallyport
