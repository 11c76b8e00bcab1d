#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/audit/audit_log.h"
#include "control/dataplane_link.h"
#include "control/flows/handshake_worker.h"
#include "control/management/command_table.h"
#include "control/management/server.h"
#include "control/running.h"

namespace sallyport {

/// What the operational commands read and act on. Outlives the command table. Main thread.
struct Appearance {
    DataplaneLink& link;
    Running& running;
    std::vector<std::unique_ptr<flows::HandshakeWorker>>& workers;
    management::Server& server;
    audit::AuditLog& audit;
    std::chrono::system_clock::time_point started;
    std::chrono::steady_clock::time_point started_steady;
    /// What `show counters` counts from: values at the last `clear counters`, by name. Telemetry never does.
    std::map<std::string, std::uint64_t> counters_cleared_at{};
    std::chrono::system_clock::time_point counters_cleared{};  ///< the epoch: never
    /// Takes in the configuration file as it stands, and keeps the history of it; empty: Running::reload().
    std::function<std::expected<void, std::vector<std::string>>(const management::Peer&)> reload{};
    std::chrono::steady_clock::time_point next_evidence{};   ///< see watch_policy()
    /// Somebody has seen what the audit log is like.
    std::function<void()> audit_verified = [] {};
};

/// Adds every operational command: what is shown (`show ...`), what acts on what runs (`drain`, `enable`, `clear`, `test`, `refresh`, `reload`),
/// and what is taken out (`report policy`, `audit verify`, `support bundle`). Each with the least role that may use it.
void add_operations(management::CommandTable& table, Appearance& appearance);

/// Gives Running what the policy's state is judged by and only the dataplane knows: its listeners, and octets forwarded in the clear. Once a
/// turn; asks the dataplane every ten seconds.
void watch_policy(Appearance& appearance, std::chrono::steady_clock::time_point now);

}  // namespace sallyport
