#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    if (!applies(configuration, Requirement::r9_2_2)) return;
    for (const auto& pool : configuration.pools)
        if (!pool.tls)
            problems.push_back(problem_at(pool.place, "tls", "", "is missing: connections to the members would be plain text, which the policy forbids from level 2 on",
                                          "tls: { trust = [ \"ca.pem\" ]; server_name = \"NAME\"; }, or policy level 1", Requirement::r9_2_2, "pool " + pool.name));
}

/// The matrix: every kind of connection that this configuration makes or takes, one row each.
std::vector<Connection> matrix(const Configuration& configuration, const RunState& run) {
    std::vector<Connection> rows;
    for (const auto& service : configuration.services) rows.push_back({"clients", "service " + service.name, "TLS"});
    for (const auto& redirect : configuration.redirects) rows.push_back({"clients", "redirect " + redirect.name, "plain HTTP, answered with 308 to https and nothing else"});
    for (const auto& pool : configuration.pools) {
        if (pool.tls)
            rows.push_back({"us", "pool " + pool.name, pool.tls->identity ? "mutual TLS" : "TLS"});
        else
            rows.push_back({"us", "pool " + pool.name, "plain text", false});
        if (pool.health) rows.push_back({"health checks", "pool " + pool.name, pool.tls ? "TLS" : "plain text", pool.tls.has_value()});
    }
    rows.push_back({"administrators", "management", "the local socket " + configuration.management_socket.string()});
    rows.push_back({"the dataplane", "control", "the local socket " + configuration.channel_socket.string() + " and shared memory"});
    rows.push_back({"us", "OCSP responders and CRL servers", "HTTP, the one exception: what comes is signed"});
    if (configuration.metrics) rows.push_back({"Prometheus", "metrics at " + configuration.metrics->listen.to_string(), "TLS 1.3 with client certificates"});
    if (const auto& syslog = configuration.flow_log.syslog)
        rows.push_back({"us", "syslog at " + syslog->address.to_string() + " (" + syslog->server_name + ")", syslog->identity ? "mutual TLS" : "TLS"});
    rows.insert(rows.end(), run.connections.begin(), run.connections.end());
    return rows;
}

/// Plain pools are refused at load but for a waiver, which the report shows by itself: an alarm is for what has got around that.
Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    std::string evidence;
    for (const Connection& row : matrix(configuration, run)) {
        const std::string text = row.from + " to " + row.to + ": " + row.protection;
        evidence += text + "; ";
        const bool waived = std::ranges::any_of(configuration.waived, [&](const configuration::Waived& each) {
            return each.waiver.requirement == "9.2.2" && each.waiver.object == row.to;
        });
        if (!row.encrypted && !waived) alarms.push_back(text);
    }
    return conclude(evidence + refused_text(run, Requirement::r9_2_2), std::move(alarms), State::violated);
}

}  // namespace

const RequirementModule modules::r9_2_2{Requirement::r9_2_2, load, run};

}  // namespace sallyport::policy
