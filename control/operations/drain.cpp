#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

/// {"service"} or {"pool", "member"}; without a member all of the pool's.
Result drain(Appearance& appearance, const Request& request, bool on) {
    const auto service = request.text("service"), pool = request.text("pool"), member = request.text("member");
    for (const auto* text : {&service, &pool, &member})
        if (!*text) return std::unexpected(text->error());
    if (service->empty() == pool->empty()) return bad_argument("name either a service or a pool");
    if (pool->empty() && !member->empty()) return bad_argument("a member is of a pool: name the pool too");
    auto done = service->empty() ? appearance.running.drain(*pool, *member, on) : appearance.running.drain_service(*service, on);
    if (!done) return std::unexpected(Error{on ? "not_drained" : "not_enabled", std::move(done.error())});
    return json::object();
}

}  // namespace

void add_drain_commands(CommandTable& table, Appearance& appearance) {
    const std::vector<CommandTable::Argument> what{{"service", "refuses new connections; or:"},
                                                   {"pool", "whose members get no new flows"},
                                                   {"member", "this one of them alone"}};
    table.add("drain", "no new flows for a member or a service; those that are open go on", what,
              [&](const Request& request, const Peer&) { return drain(appearance, request, true); }, kOperator);
    table.add("enable", "undo drain", what, [&](const Request& request, const Peer&) { return drain(appearance, request, false); }, kOperator);
}

}  // namespace sallyport::operations
