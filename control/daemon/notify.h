#pragma once

#include <chrono>
#include <string_view>

/// What a service manager is told (sd_notify(3)). All of it does nothing where NOTIFY_SOCKET is not set. The caller's
/// thread sends one datagram; a failure is logged and otherwise ignored. Works inside the sandbox.
namespace sallyport::daemon {

/// Start-up is over. `status`: one line for `systemctl status`.
void notify_ready(std::string_view status);
void notify_stopping(std::string_view status);
void notify_status(std::string_view status);

/// Feeds the service manager's watchdog (WatchdogSec=) at half its interval. One thread: that whose hanging is to be
/// seen. Call tick() in its loop as often as is convenient.
class Watchdog {
 public:
    using Clock = std::chrono::steady_clock;
    /// Reads the interval from the environment (WATCHDOG_USEC, WATCHDOG_PID).
    Watchdog();
    [[nodiscard]] bool enabled() const noexcept { return interval_ > Clock::duration::zero(); }
    /// How often the manager is told; zero when it does not ask. A loop must not sleep for longer.
    [[nodiscard]] Clock::duration interval() const noexcept { return interval_; }
    /// Tells the manager that we are alive if it is time to. True when it did.
    bool tick(Clock::time_point now);

 private:
    Clock::duration interval_{};
    Clock::time_point next_{};
};

}  // namespace sallyport::daemon
