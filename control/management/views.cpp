#include "control/management/views.h"

#include <format>

namespace sallyport::management {

std::string iso8601(std::chrono::system_clock::time_point time) {
    return std::format("{:%FT%TZ}", std::chrono::floor<std::chrono::seconds>(time));
}

}  // namespace sallyport::management
