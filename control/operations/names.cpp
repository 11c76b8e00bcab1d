#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

constexpr std::size_t kMostFlows = 50;   // nobody reads more in a list of completions

/// For completion: what can be named, and what it is.
Result show_names(Appearance& appearance, const Request& request) {
    const auto kind = request.text("kind"), pool_name = request.text("pool");
    if (!kind) return std::unexpected(kind.error());
    if (!pool_name) return std::unexpected(pool_name.error());
    std::vector<management::NameView> names;
    const flows::Runtime& runtime = *appearance.running.runtime();
    if (*kind == "services") {
        for (const auto& service : runtime.services) {
            std::string help;
            for (const auto& listen : service->settings.listen) help += (help.empty() ? "" : ", ") + listen.to_string();
            names.push_back({service->settings.name, std::move(help)});
        }
        return names;
    }
    if (*kind == "pools") {
        for (const auto& pool : runtime.pools)
            names.push_back({pool->settings().name, std::to_string(pool->size()) + (pool->size() == 1 ? " member" : " members")});
        return names;
    }
    if (*kind == "members") {
        for (const auto& pool : runtime.pools)
            for (const auto& member : pool->settings().members)
                if (pool_name->empty() || pool->settings().name == *pool_name)
                    names.push_back({member.name, member.address.to_string() + " of " + pool->settings().name});
        return names;
    }
    if (*kind == "ports") {
        for (const auto& port : runtime.configuration.dataplane.ports) names.push_back({port.name, port.device});
        return names;
    }
    if (*kind == "flows") {
        const auto answer = appearance.link.ask("flows", {{"limit", kMostFlows}});
        if (answer)   // completion of nothing is better than an error in the middle of a line
            for (const json& flow : answer->at("flows")) names.push_back({flow.value("id", ""), flow.value("client", "") + " " + flow.value("state", "")});
        return names;
    }
    return bad_argument("kind must be one of services, pools, members, ports, flows");
}

}  // namespace

void add_name_commands(CommandTable& table, Appearance& appearance) {
    table.add("show names", "names for completion", {{"kind", "services, pools, members, ports or flows"}, {"pool", "only this one's members"}},
              [&](const Request& request, const Peer&) { return show_names(appearance, request); }, kPolled);
}

}  // namespace sallyport::operations
