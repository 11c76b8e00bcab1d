#include "control/operations/helpers.h"
#include "control/operations/subjects.h"
#include "control/policy/report_file.h"

namespace sallyport::operations {

namespace {

/// What the policy asks of the dataplane; nullopt: it is away.
std::optional<policy::DataplaneEvidence> dataplane_evidence(Appearance& appearance) {
    const auto counters = appearance.link.ask("counters");
    const auto listeners = appearance.link.ask("listeners");
    if (!counters || !listeners) return std::nullopt;
    policy::DataplaneEvidence evidence;
    const auto count = [&](std::string_view name) {
        std::uint64_t sum = 0;
        for (const auto& counter : *counters)
            if (counter.value("name", "") == name) sum += counter.value("value", std::uint64_t{0});
        return sum;
    };
    evidence.clear_octets = count("clear_octets_from_client");
    evidence.key_updates = count("key_updates_sent");
    evidence.key_limits = count("ended_key_limit");
    evidence.renegotiations = count("renegotiations_refused");
    const configuration::Configuration& configuration = appearance.running.configuration();
    for (const auto& listener : *listeners) {
        const std::string address = listener.value("address", ""), service = listener.value("service", ""), kind = listener.value("kind", "");
        const auto listens = [&](const auto& list) {
            return std::ranges::any_of(list, [&](const auto& each) {
                return each.name == service && std::ranges::any_of(each.listen, [&](const SocketAddress& own) { return own.to_string() == address; });
            });
        };
        if (kind == "tls" && listens(configuration.services))
            evidence.tls.push_back(address);
        else if (kind == "redirect" && listens(configuration.redirects))
            evidence.redirects.push_back(address);
        else
            evidence.others.push_back(address);
    }
    return evidence;
}

std::vector<management::PolicyView> policy_views(Appearance& appearance, std::chrono::system_clock::time_point now) {
    appearance.running.set_dataplane(dataplane_evidence(appearance));
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
                         {"waived", waived},
                         // Who cuts the audit log after this cannot make it end here: `sallyport-control verify-audit --head` looks.
                         {"audit_head", appearance.audit.head().to_string()}};
    const auto written = policy::write_signed_report(configuration.state_directory / "reports", report.dump(2) + "\n", now);
    if (!written) return std::unexpected(Error{"report_not_written", written.error()});
    return management::ReportView{written->report.string(), written->signature.string(), written->public_key.string()};
}

}  // namespace

void add_policy_commands(CommandTable& table, Appearance& appearance) {
    table.add("show policy", "the policy, requirement by requirement: state and evidence", {},
              [&](const Request&, const Peer&) -> Result { return policy_views(appearance, std::chrono::system_clock::now()); });
    table.add("report policy", "write the policy's table to a dated file with a signature", {},
              [&](const Request&, const Peer&) { return report_policy(appearance); }, kOperator);
}

}  // namespace sallyport::operations

void sallyport::watch_policy(Appearance& appearance, std::chrono::steady_clock::time_point now) {
    if (now < appearance.next_evidence) return;
    appearance.next_evidence = now + std::chrono::seconds(10);
    appearance.running.set_dataplane(operations::dataplane_evidence(appearance));
}
