#pragma once

#include <chrono>
#include <cstdint>

namespace sallyport {

/// The dataplane's clock: nanoseconds since the process started. It has no now(): whoever owns the loop reads the
/// TSC once a burst and passes the time on, so that a simulation can drive the same code with virtual time.
struct Clock {
    using rep = std::int64_t;
    using period = std::nano;
    using duration = std::chrono::duration<rep, period>;
    using time_point = std::chrono::time_point<Clock>;
    static constexpr bool is_steady = true;
};
using Time = Clock::time_point;
using Duration = Clock::duration;

using namespace std::chrono_literals;

}  // namespace sallyport
