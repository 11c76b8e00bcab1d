#pragma once

#include <chrono>
#include <csignal>
#include <optional>

namespace sallyport::daemon {

/// Asks for the configuration to be read again. Taken by StopSignals, so that it does not end the process; nothing acts
/// on it yet.
constexpr int kReloadSignal = SIGHUP;

/// Takes SIGINT, SIGTERM and SIGHUP in a main loop instead of in handlers, and ignores SIGPIPE (writes to a closed
/// socket return EPIPE). Make it in main before any thread, so that every thread inherits the blocked signals. One of
/// it a process.
class StopSignals {
 public:
    StopSignals();   ///< stops the process (SALLYPORT_CHECK) when there is no descriptor left
    ~StopSignals();  ///< blocks remain; pending signals stay pending
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;

    /// For poll(): readable when take() has a signal.
    [[nodiscard]] int fd() const noexcept { return fd_; }
    /// The next signal that came; nullopt when there is none.
    [[nodiscard]] std::optional<int> take() noexcept;
    /// Waits for the next signal, at most `timeout`.
    [[nodiscard]] std::optional<int> wait(std::chrono::milliseconds timeout) noexcept;

    [[nodiscard]] static bool is_stop(int signal) noexcept { return signal == SIGINT || signal == SIGTERM; }

 private:
    int fd_ = -1;
};

/// While it lives, SIGINT and SIGTERM end the process at once where this thread waits for something that may never come. For a time in which there is nothing to lose.
class StoppedAtOnce {
 public:
    StoppedAtOnce();
    ~StoppedAtOnce();
    StoppedAtOnce(const StoppedAtOnce&) = delete;
    StoppedAtOnce& operator=(const StoppedAtOnce&) = delete;

 private:
    sigset_t before_;
};

}  // namespace sallyport::daemon
