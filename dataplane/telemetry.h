#pragma once

#include <nlohmann/json.hpp>

/// What DPDK's telemetry socket (rte_telemetry) answers beside DPDK's own commands: /sallyport/workers, /sallyport/ports, /sallyport/flows and
/// /sallyport/drops. The socket is the EAL's, root's alone, and is asked by dpdk-telemetry.py and its exporter. Its threads see a snapshot that the
/// main thread publishes, a second old at most: they never touch a worker.
namespace sallyport::telemetry {

/// Adds the commands; once a process, after the EAL has started. False: the EAL has no telemetry (--no-telemetry).
[[nodiscard]] bool register_commands();

/// Each an object of names and integers, or of names and such objects. Main thread.
struct Snapshot {
    nlohmann::json workers = nlohmann::json::object(), ports = nlohmann::json::object(), flows = nlohmann::json::object(),
                   drops = nlohmann::json::object();
};
void publish(Snapshot snapshot);

}  // namespace sallyport::telemetry
