#define SALLYPORT_VIEWS_ARE_DEFINED_HERE
#include "control/management/views.h"

#include "control/management/views_capture.h"
#include "control/management/views_changes.h"
#include "control/management/views_operations.h"
#include "control/management/views_telemetry.h"
#include "crypto/format.h"

namespace sallyport::management {

std::string iso8601(std::chrono::system_clock::time_point time) {
    return sallyport::format("{:%FT%TZ}", std::chrono::floor<std::chrono::seconds>(time));
}

}  // namespace sallyport::management
