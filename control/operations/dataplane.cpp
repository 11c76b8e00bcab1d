#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_workers(Appearance& appearance) {
    auto answer = ask(appearance.link, "workers");
    if (!answer) return answer;
    const std::string now = management::iso8601(std::chrono::system_clock::now());
    for (json& worker : *answer) worker["sampled"] = now;
    return answer;
}

}  // namespace

void add_dataplane_commands(CommandTable& table, Appearance& appearance) {
    table.add("show ports", "network ports: link, rates, drops, offloads", {},
              [&](const Request&, const Peer&) { return ask(appearance.link, "ports"); });
    table.add("show workers", "the dataplane's cores: load, packets, records, buffers", {},
              [&](const Request&, const Peer&) { return show_workers(appearance); });
    table.add("show neighbours", "addresses of next hops (ARP, neighbour discovery)", {},
              [&](const Request&, const Peer&) { return ask(appearance.link, "neighbours"); });
}

}  // namespace sallyport::operations
