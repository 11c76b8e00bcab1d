#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "drivers/port.h"

/// What each profile asks of DPDK. Pure.
namespace sallyport::drivers {

[[nodiscard]] std::string_view name(Profile profile) noexcept;  ///< as in the configuration: "af_xdp"

/// Device arguments (the text after --vdev) of a virtual profile; for `pci` the address. `queues`: what the device
/// shall be made with. `hardware`: af_xdp only, whether the interface is a real card.
[[nodiscard]] std::string device_arguments(const PortSettings& settings, std::uint16_t queues, bool hardware);

/// Descriptors of a ring when the settings leave them to the profile.
[[nodiscard]] std::uint16_t default_descriptors(Profile profile) noexcept;

}  // namespace sallyport::drivers
