#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>

#include "control/daemon/sandbox.h"
#include "crypto/format.h"

namespace sallyport::daemon {

namespace {

using Names = std::span<const char* const>;

constexpr const char* kFiles[] = {
    "read",     "write",     "readv",      "writev",    "pread64",    "pwrite64",   "preadv",      "pwritev",
    "preadv2",  "pwritev2",  "lseek",      "open",      "openat",     "close",      "close_range", "fcntl",
    "dup",      "dup2",      "dup3",       "fsync",     "fdatasync",  "ftruncate",  "fallocate",   "fadvise64",
    "flock",    "stat",      "lstat",      "fstat",     "newfstatat", "statx",      "statfs",      "fstatfs",
    "access",   "faccessat", "faccessat2", "readlink",  "readlinkat", "getdents64", "getcwd",      "unlink",
    "unlinkat", "rename",    "renameat",   "renameat2", "mkdir",      "mkdirat",    "rmdir",       "chmod",
    "fchmod",   "fchmodat",  "umask"};
constexpr const char* kMemory[] = {"munmap",  "mremap",       "madvise",   "brk",      "msync",
                                   "mlock",   "mlock2",       "munlock",   "mlockall", "munlockall",
                                   "mincore", "memfd_create", "membarrier"};
constexpr const char* kThreads[] = {"futex",
                                    "futex_waitv",
                                    "set_robust_list",
                                    "get_robust_list",
                                    "rseq",
                                    "set_tid_address",
                                    "gettid",
                                    "getpid",
                                    "getppid",
                                    "sched_yield",
                                    "sched_getaffinity",
                                    "sched_setaffinity",
                                    "sched_getparam",
                                    "sched_getscheduler",
                                    "sched_get_priority_min",
                                    "sched_get_priority_max",
                                    "getcpu",
                                    "exit",
                                    "exit_group"};
constexpr const char* kSignals[] = {"rt_sigaction",    "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait",
                                    "rt_sigpending",   "rt_sigsuspend",  "sigaltstack",  "signalfd4",
                                    "restart_syscall", "pause"};
constexpr const char* kTime[] = {"clock_gettime", "clock_getres",   "clock_nanosleep", "nanosleep",      "gettimeofday",
                                 "time",          "timerfd_create", "timerfd_settime", "timerfd_gettime"};
constexpr const char* kWaiting[] = {"poll",          "ppoll",     "select",     "pselect6",    "epoll_create",
                                    "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
                                    "eventfd",       "eventfd2",  "pipe",       "pipe2"};
constexpr const char* kSockets[] = {"bind",        "connect",    "listen",     "accept",  "accept4", "getsockname",
                                    "getpeername", "getsockopt", "setsockopt", "sendto",  "sendmsg", "sendmmsg",
                                    "recvfrom",    "recvmsg",    "recvmmsg",   "shutdown"};
constexpr const char* kInformation[] = {"uname",     "sysinfo",   "getrandom", "getuid",    "geteuid",
                                        "getgid",    "getegid",   "getgroups", "getresuid", "getresgid",
                                        "getrlimit", "getrusage", "times",     "capget"};
/// Files that change on disk (certificates, staples) are noticed by inotify.
constexpr const char* kControlOnly[] = {"inotify_init1", "inotify_add_watch", "inotify_rm_watch"};
/// DPDK places memory on NUMA nodes and sets its threads' scheduling.
constexpr const char* kDataplaneOnly[] = {"mbind", "get_mempolicy", "set_mempolicy", "move_pages",
                                          "sched_setscheduler"};

/// What no part of either program calls, at start or later, and what gives an intruder more than the process has.
constexpr const char* kKill[] = {"execve",
                                 "execveat",
                                 "ptrace",
                                 "process_vm_readv",
                                 "process_vm_writev",
                                 "process_madvise",
                                 "pidfd_getfd",
                                 "kcmp",
                                 "init_module",
                                 "finit_module",
                                 "delete_module",
                                 "kexec_load",
                                 "kexec_file_load",
                                 "reboot",
                                 "mount",
                                 "umount2",
                                 "pivot_root",
                                 "chroot",
                                 "move_mount",
                                 "open_tree",
                                 "fsopen",
                                 "fsconfig",
                                 "fsmount",
                                 "fspick",
                                 "mount_setattr",
                                 "setns",
                                 "unshare",
                                 "open_by_handle_at",
                                 "name_to_handle_at",
                                 "swapon",
                                 "swapoff",
                                 "acct",
                                 "quotactl",
                                 "keyctl",
                                 "add_key",
                                 "request_key",
                                 "perf_event_open",
                                 "userfaultfd",
                                 "settimeofday",
                                 "clock_settime",
                                 "adjtimex"};
/// What the sanitizers do of these.
constexpr std::array<std::string_view, 2> kSanitizerCalls = {"execve", "ptrace"};

/// Collects rules; keeps the first error.
class Filter {
 public:
    Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
        if (context_ == nullptr) fail("seccomp_init", -ENOMEM);
    }
    ~Filter() {
        if (context_ != nullptr) seccomp_release(context_);
    }
    Filter(const Filter&) = delete;
    Filter& operator=(const Filter&) = delete;

    void set(scmp_filter_attr attribute, std::uint32_t value, const char* name) {
        if (error_.empty()) check(name, seccomp_attr_set(context_, attribute, value));
    }
    void add(std::uint32_t action, const char* name, std::span<const scmp_arg_cmp> comparisons = {}) {
        if (!error_.empty()) return;
        const int number = seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR) return fail(name, -ENOSYS);
        check(name, seccomp_rule_add_array(context_, action, number, static_cast<unsigned>(comparisons.size()),
                                           comparisons.data()));
    }
    void allow(Names names) {
        for (const char* name : names) add(SCMP_ACT_ALLOW, name);
    }
    void allow_if(const char* name, const scmp_arg_cmp& comparison) { add(SCMP_ACT_ALLOW, name, {&comparison, 1}); }
    [[nodiscard]] std::expected<void, std::string> load() {
        if (error_.empty()) check("seccomp_load", seccomp_load(context_));
        if (!error_.empty()) return std::unexpected(error_);
        return {};
    }

 private:
    void check(const char* what, int result) {
        if (result != 0) fail(what, result);
    }
    void fail(const char* what, int result) {
        error_ = sallyport::format("system call filter: {}: {}", what, std::strerror(-result));
    }
    scmp_filter_ctx context_;
    std::string error_;
};

/// libseccomp's SCMP_A macros are C; the same as a value. 32-bit arguments are compared as such: the kernel ignores the
/// rest.
scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = 0xffff'ffff, .datum_b = value};
}
scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t value) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

}  // namespace

std::expected<void, std::string> apply_seccomp(Profile profile) {
    const bool dataplane = profile != Profile::control;
    Filter filter;
    filter.set(SCMP_FLTATR_CTL_TSYNC, 1, "TSYNC");
    filter.set(SCMP_FLTATR_CTL_NNP, 1, "NNP");
    filter.set(SCMP_FLTATR_CTL_LOG, 1, "LOG");
    filter.set(SCMP_FLTATR_CTL_OPTIMIZE, 2, "OPTIMIZE");  // a binary tree: about eight comparisons a call
    filter.set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS, "BADARCH");  // 32-bit calls have other numbers

    for (const Names names : {Names(kFiles), Names(kMemory), Names(kThreads), Names(kSignals), Names(kTime),
                              Names(kWaiting), Names(kSockets), Names(kInformation)})
        filter.allow(names);
    filter.allow(dataplane ? Names(kDataplaneOnly) : Names(kControlOnly));

    // Threads, no processes. A filter cannot look behind clone3's pointer: ENOSYS makes the C library use clone.
    filter.add(SCMP_ACT_ERRNO(ENOSYS), "clone3");
    filter.allow_if("clone", masked(0, CLONE_THREAD, CLONE_THREAD));
    // Signals to ourselves alone: abort(), pthread_kill().
    filter.allow_if("tgkill", equals(0, static_cast<std::uint64_t>(getpid())));
    // No new code.
    filter.allow_if("mmap", masked(2, PROT_EXEC, 0));
    filter.allow_if("mprotect", masked(2, PROT_EXEC, 0));
    // Limits of our own only; 0 is the caller.
    filter.allow_if("prlimit64", equals(0, 0));
    for (const int option :
         {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS, PR_CAPBSET_READ, PR_SET_VMA})
        filter.allow_if("prctl", equals(0, static_cast<std::uint64_t>(option)));

    for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK})
        filter.allow_if("socket", equals(0, static_cast<std::uint64_t>(family)));
    filter.allow_if("socketpair", equals(0, AF_UNIX));
    if (dataplane) {
        for (const int family : {AF_PACKET, AF_XDP})
            filter.allow_if("socket", equals(0, static_cast<std::uint64_t>(family)));
        filter.add(SCMP_ACT_ALLOW, "ioctl");
    } else {
        for (const std::uint64_t request : {std::uint64_t{FIONREAD}, std::uint64_t{FIONBIO}, std::uint64_t{TCGETS}})
            filter.allow_if("ioctl", equals(1, request));
    }

    for (const char* name : kKill) {
        if (kSanitizerBuild && (std::ranges::find(kSanitizerCalls, std::string_view(name)) != kSanitizerCalls.end()))
            continue;
        filter.add(SCMP_ACT_KILL_PROCESS, name);
    }
    switch (profile) {
        case Profile::control:
            filter.add(SCMP_ACT_KILL_PROCESS, "bpf");
            break;
        case Profile::dataplane:
            break;  // EPERM: libbpf probes when a port is closed
        case Profile::dataplane_xdp:
            filter.add(SCMP_ACT_ALLOW, "bpf");
            break;
    }
    if (kSanitizerBuild)
        for (const char* name :
             {"clone", "fork", "vfork", "wait4", "kill", "ptrace", "execve", "mmap", "mprotect", "prctl"})
            filter.add(SCMP_ACT_ALLOW, name);
    return filter.load();
}

}  // namespace sallyport::daemon
