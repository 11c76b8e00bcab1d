#include "control/daemon/signals.h"

#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "crypto/check.h"

namespace sallyport::daemon {

StopSignals::StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, kReloadSignal}) sigaddset(&set, signal);
    SALLYPORT_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    SALLYPORT_CHECK(fd_ >= 0);
    std::signal(SIGPIPE, SIG_IGN);
}

StopSignals::~StopSignals() {
    close(fd_);
}

std::optional<int> StopSignals::take() noexcept {
    signalfd_siginfo info;
    if (read(fd_, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
}

std::optional<int> StopSignals::wait(std::chrono::milliseconds timeout) noexcept {
    pollfd waited{.fd = fd_, .events = POLLIN, .revents = 0};
    if (poll(&waited, 1, static_cast<int>(timeout.count())) <= 0) return std::nullopt;
    return take();
}

StoppedAtOnce::StoppedAtOnce() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM}) sigaddset(&set, signal);
    SALLYPORT_CHECK(pthread_sigmask(SIG_UNBLOCK, &set, &before_) == 0);
}

StoppedAtOnce::~StoppedAtOnce() { SALLYPORT_CHECK(pthread_sigmask(SIG_SETMASK, &before_, nullptr) == 0); }

}  // namespace sallyport::daemon
