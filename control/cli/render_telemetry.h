#pragma once

#include <string>

#include "control/management/views_telemetry.h"

/// Views of telemetry as text; the rules of render.h hold.
namespace sallyport::cli {

[[nodiscard]] std::string render_text(const management::AlarmsView& alarms);

}  // namespace sallyport::cli
