#pragma once

#include <cstdint>

#include "control/configuration/configuration.h"

namespace sallyport {

/// Names what the dataplane knows of a configuration by position (services, redirects, pools, members), so that a control that starts
/// anew knows whether the flows that it finds mean the same. Never 0, which is none. Any thread.
[[nodiscard]] std::uint32_t generation_of(const configuration::Configuration& configuration);

}  // namespace sallyport
