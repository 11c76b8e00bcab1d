#pragma once

#include "control/management/view_json.h"
#include "control/management/views.h"

/// Views of telemetry. The rules of views.h hold.
namespace sallyport::management {

struct AlarmView {
    std::uint64_t number = 0;   ///< counts from control's start; as in the log
    std::string kind{};           ///< member_down, certificate_expires, ...
    std::string object{};         ///< empty: the appliance
    std::string severity{};       ///< "warning", "error", "critical"
    std::string text{};           ///< for a person
    std::string raised{};         ///< time
    std::string cleared{};        ///< time; empty: it stands
};
SALLYPORT_VIEW_JSON(AlarmView, number, kind, object, severity, text, raised, cleared)

/// `show alarms`
struct AlarmsView {
    std::vector<AlarmView> active;   ///< oldest first
    std::vector<AlarmView> recent;   ///< those that were cleared, newest first
};
SALLYPORT_VIEW_JSON(AlarmsView, active, recent)

}  // namespace sallyport::management
