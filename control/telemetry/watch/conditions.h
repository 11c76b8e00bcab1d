#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/daemon/usage.h"
#include "control/flows/runtime.h"
#include "control/management/views.h"
#include "control/running.h"
#include "control/telemetry/alarms.h"

namespace sallyport::telemetry {

/// What the dataplane said of itself last. Empty while none is attached or it does not answer.
struct DataplaneReport {
    std::vector<management::PortView> ports;
    std::vector<management::WorkerView> workers;
    std::vector<management::CounterView> counters;   ///< only when they were asked for, as is:
    std::optional<daemon::Usage> process;
};

/// The conditions that alarms tell of, looked at in one place: each function says what is wrong with the state that it is given. Pure.

/// policy_REQUIREMENT: the kind comes with it, since each requirement is one.
struct PolicyCondition {
    std::string kind;
    std::vector<Alarms::Condition> conditions;   ///< none or one
};
[[nodiscard]] std::vector<PolicyCondition> policy_conditions(const std::vector<Running::Row>& rows);
/// certificate_expires: within expiry_alarm_days, or expired already; an object for each certificate (its owner and its file).
[[nodiscard]] std::vector<Alarms::Condition> expiry_conditions(const configuration::Configuration& configuration, std::chrono::system_clock::time_point now);
/// member_down: what health checks have found.
[[nodiscard]] std::vector<Alarms::Condition> member_conditions(const flows::Runtime& runtime);
/// pool_down: no member of it takes a flow.
[[nodiscard]] std::vector<Alarms::Condition> pool_conditions(const flows::Runtime& runtime);
/// port_down.
[[nodiscard]] std::vector<Alarms::Condition> port_conditions(const DataplaneReport& report);

/// buffers_low: a worker with less than a tenth of its packet buffers free, until it has 15 % again.
class BufferWatch {
 public:
    [[nodiscard]] std::vector<Alarms::Condition> conditions(const DataplaneReport& report);

 private:
    std::set<std::uint32_t> low_;   ///< workers
};

}  // namespace sallyport::telemetry
