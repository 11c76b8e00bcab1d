#pragma once

#include <sys/signalfd.h>

#include <csignal>

namespace sallyport::lab {

/// A descriptor that can be read when this process has been told to end (SIGTERM or SIGINT, which end it no longer by themselves), for the caller to close.
/// Call it before another thread begins: the signals are blocked for the calling one and those that it makes.
inline int end_signal() {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, nullptr);
    return signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
}

}  // namespace sallyport::lab
