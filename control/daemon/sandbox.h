#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "crypto/sanitizers.h"

/// What a process can still do once it has started: a user without privileges, and a list of system calls.
/// Order: open what needs privileges, drop_privileges(), apply_seccomp(), then serve. Threads may run already.
namespace sallyport::daemon {

/// Changes to `user` with its groups, keeps of the capabilities only those named (such as "net_admin"; in the calling
/// thread alone: other threads that run already keep none), clears the bounding and ambient sets, and sets
/// no_new_privs. Makes the process undumpable (no core file, no ptrace by its own user; but see kSanitizerBuild) and
/// RLIMIT_CORE 0: keys are in its memory. A process that was started as `user` already (User= in its unit) changes no
/// id and does the rest. Then it reads back what every thread has: user and group, no group of root, capabilities. The
/// error says what was refused and what would be right: an unknown user, user "root", an unknown capability, a
/// capability that the process does not have, or errno's text. After an error the process may be half changed: end it.
[[nodiscard]] std::expected<void, std::string> drop_privileges(
    const std::string& user, std::span<const std::string_view> keep_capabilities = {});

enum class Profile : std::uint8_t {
    control,  ///< files, sockets of the UNIX, INET, INET6 and NETLINK families, threads, epoll, eventfd, timerfd, memfd
    dataplane,      ///< likewise, with sockets of the PACKET and XDP families, any ioctl (DPDK's TAP, AF_PACKET, VFIO),
                    ///< NUMA
    dataplane_xdp,  ///< likewise with bpf(2), which the AF_XDP driver needs to take its program off again; the kernel
                    ///< still asks for capabilities there
};

/// Lets every thread of the process, now and later, make only the profile's system calls (seccomp(2), TSYNC). Cannot be
/// undone. Three answers to a call that is not in it:
///   kill the process  for calls that only an intruder would make: execve, ptrace, reading other processes' memory,
///   mount and
///                     namespaces, kernel modules, kexec, file handles, keyrings, perf_event_open, bpf (control). The
///                     kernel logs it.
///   EPERM             for all others, clone without CLONE_THREAD (fork), memory that is executable, a socket family or
///   ioctl
///                     outside of the profile: a library that tries something new and can do without must not end the
///                     service. The kernel's audit log has them.
///   ENOSYS            for clone3, whose flags a filter cannot see; the C library falls back to clone.
/// After this nothing can be loaded with dlopen(). In builds with a sanitizer its own needs (fork, ptrace for the leak
/// check, execve for the symbolizer, executable memory) are allowed: see kSanitizerBuild. The error is the kernel's or
/// the library's refusal.
[[nodiscard]] std::expected<void, std::string> apply_seccomp(Profile profile);

constexpr bool kSanitizerBuild = SALLYPORT_ASAN || SALLYPORT_TSAN;

}  // namespace sallyport::daemon
