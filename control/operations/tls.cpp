#include <map>

#include "control/management/views_operations.h"
#include "control/channel/object_id.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

using management::CountView;
using management::TlsCountsView;

void add_to(std::vector<CountView>& counts, const std::string& name, std::uint64_t count) {
    const auto found = std::ranges::find(counts, name, &CountView::name);
    if (found == counts.end())
        counts.push_back({name, count});
    else
        found->count += count;
}

void add_to(TlsCountsView& view, const flows::ServiceState& state) {
    view.handshakes_done += state.handshakes_done;
    view.handshakes_failed += state.handshakes_failed;
    view.resumed += state.resumed;
    const auto counts = state.counts();
    for (const auto& [version, count] : counts.by_version) add_to(view.by_version, version_name(version), count);
    for (const auto& [suite, count] : counts.by_suite) add_to(view.by_suite, suite_name(suite), count);
    for (const auto& [group, count] : counts.by_group) add_to(view.by_group, group_name(group), count);
    view.resumed_share = view.handshakes_done == 0 ? 0 : static_cast<double>(view.resumed) / static_cast<double>(view.handshakes_done);
}

Result show_tls(Appearance& appearance) {
    const flows::Runtime& runtime = *appearance.running.runtime();
    management::TlsView view;
    view.all.name = "all";
    for (const auto& service : runtime.services) {
        add_to(view.all, service->state);
        TlsCountsView& counts = view.services.emplace_back();
        counts.name = service->settings.name;
        add_to(counts, service->state);
    }
    // Control counts no backend handshakes by parameter: the flows that are open say what they have.
    std::map<std::uint64_t, std::size_t> by_id;
    for (const auto& pool : runtime.pools) {
        by_id[channel::pool_id(pool->settings().name)] = view.backends.size();
        view.backends.push_back({.pool = pool->settings().name, .tls = pool->settings().tls.has_value(), .flows = 0, .by_version = {}, .by_suite = {}});
    }
    if (const auto answer = appearance.link.ask("flows", {{"limit", 10'000}}))
        for (const json& flow : answer->at("flows")) {
            if (!flow.value("has_member", false)) continue;
            const auto found = by_id.find(flow.value("pool_id", std::uint64_t{0}));
            if (found == by_id.end()) continue;
            management::BackendTlsView& backend = view.backends[found->second];
            ++backend.flows;
            ++view.backend_flows_seen;
            const auto suite = flow.value("backend_suite_id", std::uint16_t{0});
            if (suite == 0) continue;
            add_to(backend.by_version, version_name(version_of_suite(suite)), 1);
            add_to(backend.by_suite, suite_name(suite), 1);
        }
    return view;
}

}  // namespace

void add_tls_commands(CommandTable& table, Appearance& appearance) {
    table.add("show tls", "versions, suites, groups and resumption, by service and in all; backends by the flows that are open", {},
              [&](const Request&, const Peer&) { return show_tls(appearance); });
}

}  // namespace sallyport::operations
