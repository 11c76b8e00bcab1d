#pragma once

#include "control/changes/engine.h"
#include "control/management/command_table.h"

namespace sallyport::changes {

/// Who a peer of the management socket is: its uid's name, "uid N" where it has none.
[[nodiscard]] Who who_of(const management::Peer& peer);

/// Adds `configuration open|close|show|set|delete|load|compare|validate|commit|confirm|rollback|update|history|complete`. The engine outlives
/// the table. Server's thread.
void add_change_commands(management::CommandTable& table, Engine& engine);

}  // namespace sallyport::changes
