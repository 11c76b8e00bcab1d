#pragma once

#include <chrono>
#include <memory>

#include "control/dataplane_link.h"
#include "control/management/command_table.h"
#include "control/running.h"
#include "control/telemetry/alarms.h"
#include "control/telemetry/watch/conditions.h"

namespace sallyport::telemetry {

/// Looks at what runs now and then, and raises and clears its alarms. Main thread.
class Telemetry {
 public:
    using Clock = std::chrono::system_clock;
    using Workers = std::vector<std::unique_ptr<flows::HandshakeWorker>>;

    /// All of it outlives this.
    Telemetry(Alarms& alarms, Running& running, DataplaneLink& link, Workers& workers);

    /// What is due. Cheap when nothing is; once a turn.
    void turn(Clock::time_point now);

 private:
    [[nodiscard]] bool ask(const char* what, nlohmann::json& answer);
    void look(Clock::time_point now);

    Alarms& alarms_;
    Running& running_;
    DataplaneLink& link_;
    [[maybe_unused]] Workers& workers_;
    BufferWatch buffers_;
    DataplaneReport report_;
    Clock::time_point next_look_{}, next_ask_{}, next_expiry_{}, attached_last_;
    const flows::Runtime* looked_at_ = nullptr;   ///< never dereferenced: tells that the configuration has changed
};

/// Adds `show alarms`. `alarms` outlives the table.
void add_telemetry_commands(management::CommandTable& table, Alarms& alarms);

}  // namespace sallyport::telemetry
