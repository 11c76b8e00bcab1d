#pragma once

#include <chrono>

#include "control/audit/audit_log.h"
#include "control/running.h"
#include "control/telemetry/alarms.h"
#include "control/telemetry/flow_log.h"
#include "control/telemetry/metrics.h"
#include "control/telemetry/watch/conditions.h"

namespace sallyport::telemetry {

/// What the metrics are made from. Borrowed for the call.
struct Sources {
    const Running& running;
    const Alarms& alarms;
    const FlowLog& flow_log;
    const DataplaneReport& report;   ///< with its counters
    bool attached = false, answers = false;
    const audit::AuditLog* audit = nullptr;
    std::string dpdk;                ///< version; empty: none
    std::chrono::system_clock::time_point started;
};

/// Every metric as it is now. Main thread; reads atomics and takes short locks, and asks nobody.
[[nodiscard]] Figures gather(const Sources& sources, std::chrono::system_clock::time_point now);

}  // namespace sallyport::telemetry
