#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

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

}  // namespace

void add_service_commands(CommandTable& table, Appearance& appearance) {
    table.add("show services", "what clients reach: addresses, certificates, handshakes", {},
              [&](const Request&, const Peer&) { return show_services(appearance); });
}

}  // namespace sallyport::operations
