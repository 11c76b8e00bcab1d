#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result reload(Appearance& appearance, const Peer& peer) {
    auto done = appearance.reload ? appearance.reload(peer) : appearance.running.reload();
    if (done) return management::ReloadView{true, {}};
    return management::ReloadView{false, std::move(done.error())};
}

}  // namespace

void add_reload_commands(CommandTable& table, Appearance& appearance) {
    table.add("reload", "read the configuration file again and change to it", {}, [&](const Request&, const Peer& peer) { return reload(appearance, peer); },
              kAdministrator);
}

}  // namespace sallyport::operations
