#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

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

}  // namespace

void add_pool_commands(CommandTable& table, Appearance& appearance) {
    table.add("show pools", "pools and their members: state, flows, failures", {},
              [&](const Request&, const Peer&) { return show_pools(appearance); });
}

}  // namespace sallyport::operations
