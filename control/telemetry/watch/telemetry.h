#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "control/audit/audit_log.h"
#include "control/dataplane_link.h"
#include "control/management/command_table.h"
#include "control/running.h"
#include "control/telemetry/alarms.h"
#include "control/telemetry/flow_log.h"
#include "control/telemetry/metrics_server.h"
#include "control/telemetry/watch/conditions.h"

namespace sallyport::telemetry {

/// What control tells the world: looks at what runs once a second and raises and clears its alarms; answers the metrics' endpoint; keeps the
/// endpoints and the flow log as the running configuration says. Main thread.
class Telemetry {
 public:
    using Clock = std::chrono::system_clock;

    /// All of it outlives this. The flow log begins at once, so that nothing that happens from here on is missed.
    Telemetry(Alarms& alarms, FlowLog& flow_log, Running& running, DataplaneLink& link);

    /// Watches whether entries of the audit log can be written, and counts them. Once; `log` outlives every turn().
    void watch(const audit::AuditLog& log) noexcept { audit_ = &log; }

    /// What is due. Cheap when nothing is; once a turn.
    void turn(Clock::time_point now);
    /// Readable when somebody scrapes: turn() answers. -1: there is no endpoint.
    [[nodiscard]] int fd() const noexcept { return server_ ? server_->fd() : -1; }

 private:
    void configure(Clock::time_point now);
    void look(Clock::time_point now);
    void look_at_logs(Clock::time_point now);
    void look_at_audit(Clock::time_point now);
    void follow_configuration();
    void publish(Clock::time_point now);
    /// Asks for ports and workers, and for counters and what the process uses if all is wanted; false when the dataplane does not answer.
    bool ask(bool all, Clock::time_point now);

    Alarms& alarms_;
    FlowLog& flow_log_;
    Running& running_;
    DataplaneLink& link_;
    const audit::AuditLog* audit_ = nullptr;
    std::uint64_t audit_written_ = 0, audit_lost_ = 0;   ///< when it was looked at last
    BufferWatch buffers_;
    DataplaneReport report_;
    bool answers_ = false;
    std::string dpdk_;
    std::int32_t dpdk_of_ = 0;        ///< process that said so
    std::unique_ptr<MetricsServer> server_;
    std::shared_ptr<const Figures> figures_;      ///< as they were published last
    std::shared_ptr<flows::Runtime> looked_at_;   ///< tells that the configuration has changed
    std::uint64_t shed_ = 0;          ///< by the flow log, when it was looked at last
    Clock::time_point shed_last_{};
    Clock::time_point started_, attached_last_, next_look_{}, next_ask_{}, next_expiry_{}, next_server_{}, next_figures_{};
};

/// Adds `show alarms`. `alarms` outlives the table.
void add_telemetry_commands(management::CommandTable& table, Alarms& alarms);

}  // namespace sallyport::telemetry
