#pragma once

#include <chrono>
#include <cstdint>

namespace sallyport::daemon {

/// What this process uses. Each process says so of itself: /proc of another one may be hidden from it (hidepid, ProtectProc=).
struct Usage {
    std::uint64_t resident_octets = 0;   ///< 0: /proc does not say
    std::chrono::microseconds cpu{0};    ///< user and system time since its start
};
[[nodiscard]] Usage usage();

}  // namespace sallyport::daemon
