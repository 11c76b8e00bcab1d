#include "control/daemon/notify.h"

#include <systemd/sd-daemon.h>

#include <cstring>
#include <string>

#include "control/daemon/logging.h"

namespace sallyport::daemon {

namespace {

void tell(const std::string& state) {
    const int result = sd_notify(/*unset_environment=*/0, state.c_str());
    if (result < 0) log(Level::warning, "notify_failed", {{"error", std::strerror(-result)}});
}

}  // namespace

void notify_ready(std::string_view status) {
    tell("READY=1\nSTATUS=" + one_line(status));
}
void notify_stopping(std::string_view status) {
    tell("STOPPING=1\nSTATUS=" + one_line(status));
}
void notify_status(std::string_view status) {
    tell("STATUS=" + one_line(status));
}

Watchdog::Watchdog() {
    std::uint64_t microseconds = 0;
    if (sd_watchdog_enabled(/*unset_environment=*/0, &microseconds) > 0)
        interval_ = std::chrono::microseconds(microseconds / 2);  // as sd_watchdog_enabled(3) advises
}

bool Watchdog::tick(Clock::time_point now) {
    if (!enabled() || now < next_) return false;
    next_ = now + interval_;
    tell("WATCHDOG=1");
    return true;
}

}  // namespace sallyport::daemon
