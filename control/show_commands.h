#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "control/dataplane_link.h"
#include "control/flows/handshake_worker.h"
#include "control/management/command_table.h"
#include "control/running.h"

namespace sallyport {

/// What the `show` commands read. Outlives the command table. Main thread.
struct Appearance {
    DataplaneLink& link;
    Running& running;
    std::vector<std::unique_ptr<flows::HandshakeWorker>>& workers;
    std::chrono::system_clock::time_point started;
    std::chrono::steady_clock::time_point started_steady;
};

/// Adds `show version|ports|services|pools|flows|counters|workers|neighbours|policy|ech|revocation|failures`, `report policy`,
/// `refresh revocation` and `reload`.
void add_show_commands(management::CommandTable& table, Appearance& appearance);

}  // namespace sallyport
