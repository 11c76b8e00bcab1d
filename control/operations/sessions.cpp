#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_sessions(Appearance& appearance, const Peer& asker) {
    std::vector<management::SessionView> views;
    for (const auto& session : appearance.server.sessions()) {
        management::SessionView view;
        view.user = session.peer.user;
        view.role = management::name_of(session.peer.role);
        view.from = session.peer.from;
        view.uid = session.peer.uid;
        view.pid = session.peer.pid;
        view.since = management::iso8601(session.since);
        view.idle_ms = static_cast<std::uint64_t>(std::max<std::int64_t>(session.idle.count(), 0));
        view.commands = session.commands;
        view.last_command = session.last_command;
        view.this_one = session.peer.pid == asker.pid && session.peer.uid == asker.uid;
        views.push_back(std::move(view));
    }
    return views;
}

}  // namespace

void add_session_commands(CommandTable& table, Appearance& appearance) {
    table.add("show sessions", "who is connected to manage the appliance", {},
              [&](const Request&, const Peer& peer) { return show_sessions(appearance, peer); });
}

}  // namespace sallyport::operations
