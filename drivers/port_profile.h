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

/// Octets of one af_packet ring slot: a frame behind the kernel's header. A multiple of 1024. The driver wants packet buffers as large.
[[nodiscard]] std::uint32_t packet_slot(std::uint16_t mtu) noexcept;

}  // namespace sallyport::drivers
