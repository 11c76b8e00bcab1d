#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "control/dataplane_link.h"
#include "control/flows/handshake_worker.h"
#include "control/management/command_table.h"
#include "control/management/views.h"

namespace sallyport {

/// What the `show` commands read. Outlives the command table. Main thread.
struct Appearance {
    DataplaneLink& link;
    std::shared_ptr<flows::Runtime> runtime;
    std::vector<std::unique_ptr<flows::HandshakeWorker>>& workers;
    std::chrono::system_clock::time_point started;
    std::chrono::steady_clock::time_point started_steady;
    std::chrono::system_clock::time_point loaded;
    std::vector<std::vector<management::CertificateView>> certificates{};   ///< by service
};

/// Adds `show version|ports|services|pools|flows|counters|workers|neighbours`.
void add_show_commands(management::CommandTable& table, Appearance& appearance);

/// The certificates of every service, as they were loaded.
[[nodiscard]] std::vector<std::vector<management::CertificateView>> certificate_views(const configuration::Configuration& configuration);

}  // namespace sallyport
