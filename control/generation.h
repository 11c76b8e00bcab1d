#pragma once

#include <cstdint>

#include "control/channel/dataplane_configuration.h"

namespace sallyport {

/// Names what the dataplane is to run, by its content: the same configuration has the same number over restarts, another has another. What
/// `configuration.generation` is does not count. Never 0, which is none. Any thread.
[[nodiscard]] std::uint32_t generation_of(channel::DataplaneConfiguration configuration);

}  // namespace sallyport
