#pragma once

#include <csignal>

/// Ctrl-C while a command is being carried out ends that command, not the shell.
namespace sallyport::cli {

/// Set by SIGINT; whoever waits looks at it and forgets it.
[[nodiscard]] const volatile std::sig_atomic_t& interrupted() noexcept;
void forget_interrupt() noexcept;

/// From now on SIGINT sets interrupted() and interrupts system calls. For the life of the process.
void take_interrupts() noexcept;

}  // namespace sallyport::cli
