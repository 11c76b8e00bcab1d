#include "control/daemon/sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "crypto/sanitizers.h"
#if SALLYPORT_ASAN
#include <sanitizer/lsan_interface.h>
#endif

namespace sallyport::daemon {
namespace {

/// How a child process ended.
struct Ended {
    int exit_code = -1;  ///< -1: by a signal
    int signal = 0;
};

/// Runs `body` in a child, which exits with what it returns (0 to 125).
Ended in_child(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) _exit(body());
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? Ended{.exit_code = WEXITSTATUS(status)} : Ended{.signal = WTERMSIG(status)};
}

/// Exit codes of children.
constexpr int kFine = 0, kNoSandbox = 100;

Ended in_sandbox(Profile profile, const std::function<int()>& body) {
    return in_child([&] {
        if (const auto applied = apply_seccomp(profile); !applied) {
            dprintf(2, "%s\n", applied.error().c_str());
            return kNoSandbox;
        }
        return body();
    });
}

/// 0 when the call fails with EPERM, else 1.
int refused(long result) {
    return result == -1 && errno == EPERM ? kFine : 1;
}

class EachProfile : public testing::TestWithParam<Profile> {};
INSTANTIATE_TEST_SUITE_P(Profiles, EachProfile,
                         testing::Values(Profile::control, Profile::dataplane, Profile::dataplane_xdp));

TEST_P(EachProfile, WhatTheProgramsNeed_IsAllowed) {
    const Ended ended = in_sandbox(GetParam(), [] {
        int step = 0;
        const auto ok = [&](bool condition) {
            ++step;
            if (!condition) dprintf(2, "step %d: %s\n", step, strerror(errno));
            return condition;
        };
        const int file = open("/tmp/sallyport_sandbox_test", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (!ok(file >= 0) || !ok(write(file, "x", 1) == 1) || !ok(unlink("/tmp/sallyport_sandbox_test") == 0))
            return step;
        void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!ok(memory != MAP_FAILED) || !ok(mprotect(memory, 4096, PROT_READ) == 0) || !ok(munmap(memory, 4096) == 0))
            return step;
        const int memfd = memfd_create("test", MFD_CLOEXEC);
        if (!ok(memfd >= 0) || !ok(ftruncate(memfd, 4096) == 0)) return step;
        const int event = eventfd(0, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, 0),
                  epoll = epoll_create1(0);
        if (!ok(event >= 0) || !ok(timer >= 0) || !ok(epoll >= 0)) return step;
        epoll_event watched{.events = EPOLLIN, .data = {.fd = event}};
        if (!ok(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &watched) == 0) || !ok(epoll_wait(epoll, &watched, 1, 0) == 0))
            return step;
        int pair[2];
        if (!ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) || !ok(send(pair[0], "x", 1, 0) == 1)) return step;
        const int udp = socket(AF_INET6, SOCK_DGRAM, 0);
        if (!ok(udp >= 0)) return step;
        bool ran = false;
        std::thread([&] { ran = true; }).join();
        if (!ok(ran)) return step;
        if (!ok(pthread_setname_np(pthread_self(), "renamed") == 0)) return step;
        int waiting = -1;
        if (!ok(ioctl(pair[1], FIONREAD, &waiting) == 0 && waiting == 1)) return step;
        DIR* directory = opendir("/proc/self/task");
        if (!ok(directory != nullptr) || !ok(readdir(directory) != nullptr)) return step;
        return kFine;
    });
    EXPECT_EQ(ended.exit_code, kFine) << "signal " << ended.signal;
}

TEST_P(EachProfile, CallsOfIntruders_KillTheProcess) {
    struct Call {
        const char* name;
        std::function<void()> make;
    };
    std::vector<Call> calls = {
        {"mount", [] { mount("none", "/tmp", "tmpfs", 0, nullptr); }},
        {"open_by_handle_at", [] { syscall(SYS_open_by_handle_at, AT_FDCWD, nullptr, O_RDONLY); }},
        {"unshare", [] { unshare(CLONE_NEWUSER); }},
        {"setns", [] { setns(0, 0); }},
        {"process_vm_readv", [] { syscall(SYS_process_vm_readv, getpid(), nullptr, 0, nullptr, 0, 0); }},
        {"finit_module", [] { syscall(SYS_finit_module, -1, "", 0); }},
        {"keyctl", [] { syscall(SYS_keyctl, 0, 0, 0, 0, 0); }},
    };
    if (!kSanitizerBuild) {
        calls.push_back({"execve", [] { execl("/bin/true", "true", nullptr); }});
        calls.push_back({"execveat", [] { syscall(SYS_execveat, AT_FDCWD, "/bin/true", nullptr, nullptr, 0); }});
        calls.push_back({"ptrace", [] { ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }});
    }
    for (const Call& call : calls) {
        const Ended ended = in_sandbox(GetParam(), [&] {
            call.make();
            return kFine;
        });
        EXPECT_EQ(ended.signal, SIGSYS) << call.name << ": exit code " << ended.exit_code;
    }
}

TEST_P(EachProfile, OtherCalls_GetEperm) {
    struct Call {
        const char* name;
        std::function<int()> make;
    };
    std::vector<Call> calls = {
        {"setuid", [] { return refused(syscall(SYS_setuid, 0)); }},
        {"sethostname", [] { return refused(syscall(SYS_sethostname, "x", 1)); }},
        {"chown", [] { return refused(chown("/tmp", 0, 0)); }},
        {"io_uring_setup", [] { return refused(syscall(SYS_io_uring_setup, 1, nullptr)); }},
        {"socket AF_ALG", [] { return refused(socket(AF_ALG, SOCK_SEQPACKET, 0)); }},
        {"socket AF_VSOCK", [] { return refused(socket(AF_VSOCK, SOCK_STREAM, 0)); }},
        {"tgkill of another", [] { return refused(syscall(SYS_tgkill, getppid(), getppid(), 0)); }},
        {"prlimit of another",
         [] { return refused(syscall(SYS_prlimit64, getppid(), RLIMIT_CORE, nullptr, nullptr)); }},
    };
    if (!kSanitizerBuild) {
        calls.push_back({"fork", [] { return refused(syscall(SYS_fork)); }});
        calls.push_back({"vfork", [] { return refused(syscall(SYS_vfork)); }});
        calls.push_back({"clone of a process", [] { return refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }});
        calls.push_back({"kill", [] { return refused(kill(getppid(), 0)); }});
        calls.push_back({"executable memory", [] {
                             return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                                                MAP_FAILED &&
                                            errno == EPERM
                                        ? kFine
                                        : 1;
                         }});
        calls.push_back({"mprotect to executable", [] {
                             void* memory =
                                 mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                             return refused(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
                         }});
        calls.push_back({"prctl PR_SET_DUMPABLE", [] { return refused(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }});
    }
    for (const Call& call : calls) {
        const Ended ended = in_sandbox(GetParam(), call.make);
        EXPECT_EQ(ended.exit_code, kFine) << call.name << ": signal " << ended.signal;
    }
}

TEST_P(EachProfile, Clone3_IsNotThere) {
    const Ended ended =
        in_sandbox(GetParam(), [] { return syscall(SYS_clone3, nullptr, 0) == -1 && errno == ENOSYS ? kFine : 1; });
    EXPECT_EQ(ended.exit_code, kFine);
}

TEST_P(EachProfile, Abort_StillEndsWithSigabrt) {
    const Ended ended = in_sandbox(GetParam(), []() -> int { std::abort(); });
    EXPECT_EQ(ended.signal, SIGABRT);
}

TEST(Seccomp, ProfilesDiffer_InPacketSocketsAndBpf) {
    // Without CAP_NET_RAW the kernel's own answer is EPERM too.
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    const auto packet = [] { return refused(socket(AF_PACKET, SOCK_RAW, 0)); };
    EXPECT_EQ(in_sandbox(Profile::control, packet).exit_code, kFine);
    EXPECT_EQ(in_sandbox(Profile::dataplane, packet).exit_code, 1);

    const auto bpf = [] {
        const long result = syscall(SYS_bpf, -1, nullptr, 0);
        return result == -1 && errno == EPERM ? 1 : 2;
    };
    EXPECT_EQ(in_sandbox(Profile::control, bpf).signal, SIGSYS);
    EXPECT_EQ(in_sandbox(Profile::dataplane, bpf).exit_code, 1);
    EXPECT_EQ(in_sandbox(Profile::dataplane_xdp, bpf).exit_code, 2);

    const auto inject = [] {
        char c = 'x';
        return refused(ioctl(0, TIOCSTI, &c));
    };
    EXPECT_EQ(in_sandbox(Profile::control, inject).exit_code, kFine);
}

TEST(Seccomp, ThreadsThatRunAlready_AreCovered) {
    const Ended ended = in_child([] {
        std::atomic<bool> applied = false, done = false;
        std::atomic<int> result = -1;
        std::thread other([&] {
            while (!applied) std::this_thread::yield();
            result = refused(syscall(SYS_sethostname, "x", 1));
            done = true;
        });
        if (!apply_seccomp(Profile::dataplane)) return kNoSandbox;
        applied = true;
        other.join();
        return result.load();
    });
    EXPECT_EQ(ended.exit_code, kFine) << "signal " << ended.signal;
}

TEST(Seccomp, ForbiddenCallOfOneThread_EndsTheWholeProcess) {
    const Ended ended = in_sandbox(Profile::control, [] {
        std::thread([] { mount("none", "/tmp", "tmpfs", 0, nullptr); }).join();
        return kFine;
    });
    EXPECT_EQ(ended.signal, SIGSYS);
}

// ---- privileges ----

std::string status_of_self(const std::string& key) {
    std::ifstream file("/proc/thread-self/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key + ":\t")) return line.substr(key.size() + 2);
    return "missing";
}

constexpr uid_t kNobody = 65534;

class Privileges : public testing::Test {
 protected:
    void SetUp() override {
        if (geteuid() != 0) GTEST_SKIP() << "needs root";
    }
};

TEST_F(Privileges, Drop_ChangesUserGroupsAndKeepsNothing) {
    const Ended ended = in_child([] {
        const auto dropped = drop_privileges("nobody");
        if (!dropped) {
            dprintf(2, "%s\n", dropped.error().c_str());
            return 1;
        }
        uid_t real, effective, saved;
        if (getresuid(&real, &effective, &saved) != 0 || real != kNobody || effective != kNobody || saved != kNobody)
            return 2;
        gid_t groups[32];
        const int count = getgroups(32, groups);
        for (int i = 0; i < count; ++i)
            if (groups[i] == 0) return 3;
        if (getgid() == 0 || getegid() == 0) return 4;
        for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
            if (status_of_self(set) != "0000000000000000") return 5;
        if (status_of_self("NoNewPrivs") != "1") return 6;
        if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != (kSanitizerBuild ? 1 : 0)) return 7;
        rlimit core{.rlim_cur = 1, .rlim_max = 1};
        if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) return 8;
        if (setuid(0) == 0) return 9;
        if (open("/etc/shadow", O_RDONLY) >= 0) return 10;
        return kFine;
    });
    EXPECT_EQ(ended.exit_code, kFine);
}

TEST_F(Privileges, Drop_KeepsOnlyTheNamedCapability) {
    const Ended ended = in_child([] {
        constexpr std::string_view keep[] = {"net_raw"};
        const auto dropped = drop_privileges("nobody", keep);
        if (!dropped) {
            dprintf(2, "%s\n", dropped.error().c_str());
            return 1;
        }
        constexpr const char* kNetRaw = "0000000000002000";  // bit 13
        if (status_of_self("CapEff") != kNetRaw || status_of_self("CapPrm") != kNetRaw) return 2;
        if (status_of_self("CapAmb") != "0000000000000000" || status_of_self("CapBnd") != "0000000000000000") return 3;
        if (socket(AF_PACKET, SOCK_RAW, 0) < 0) return 4;
        if (mount("none", "/tmp", "tmpfs", 0, nullptr) == 0) return 5;
        return kFine;
    });
    EXPECT_EQ(ended.exit_code, kFine);
}

TEST_F(Privileges, DropWithThreadsRunning_CoversThem) {
    const Ended ended = in_child([] {
        std::atomic<bool> dropped = false;
        std::string uid, capabilities;
        std::thread other([&] {
            while (!dropped) std::this_thread::yield();
            uid = status_of_self("Uid");
            capabilities = status_of_self("CapEff");
        });
        constexpr std::string_view keep[] = {"net_raw"};
        const auto result = drop_privileges("nobody", keep);
        dropped = true;
        other.join();
        if (!result) return 1;
        if (uid != "65534\t65534\t65534\t65534") return 2;
        return capabilities == "0000000000000000" ? kFine : 3;
    });
    EXPECT_EQ(ended.exit_code, kFine);
}

TEST_F(Privileges, DropThenFilter_BothHold) {
    const Ended ended = in_child([] {
        if (!drop_privileges("nobody")) return 1;
        if (!apply_seccomp(Profile::control)) return 2;
        return refused(syscall(SYS_setuid, 0));
    });
    EXPECT_EQ(ended.exit_code, kFine);
}

#if SALLYPORT_ASAN
TEST_F(Privileges, LeakCheckInTheSandbox_StillWorks) {
    for (const Profile profile : {Profile::control, Profile::dataplane}) {
        const Ended ended = in_child([&] {
            if (!drop_privileges("nobody") || !apply_seccomp(profile)) return 1;
            return __lsan_do_recoverable_leak_check() == 0 ? kFine : 2;
        });
        EXPECT_EQ(ended.exit_code, kFine) << "signal " << ended.signal;
    }
}
#endif

TEST_F(Privileges, StartedAsTheUserAlready_DropsTheRest) {
    const Ended ended = in_child([] {
        if (!drop_privileges("nobody")) return 1;
        if (const auto again = drop_privileges("nobody"); !again) {
            dprintf(2, "%s\n", again.error().c_str());
            return 2;
        }
        constexpr std::string_view keep[] = {"net_raw"};
        const auto impossible = drop_privileges("nobody", keep);
        if (impossible || !impossible.error().contains("AmbientCapabilities=CAP_net_raw")) return 3;
        const auto other = drop_privileges("daemon");
        if (other || !other.error().contains("cannot change to \"daemon\"")) return 4;
        return kFine;
    });
    EXPECT_EQ(ended.exit_code, kFine);
}

TEST_F(Privileges, RefusedUsersAndCapabilities_AreNamed) {
    const auto error_of = [](const std::string& user, std::string_view capability) {
        const std::string_view keep[] = {capability};
        const auto result = drop_privileges(user, keep);
        return result ? std::string() : result.error();
    };
    EXPECT_THAT(error_of("no-such-user", "net_raw"), testing::HasSubstr("there is no user \"no-such-user\""));
    EXPECT_THAT(error_of("root", "net_raw"), testing::HasSubstr("\"root\" is the superuser"));
    EXPECT_THAT(error_of("nobody", "net_rwa"), testing::HasSubstr("there is no capability \"net_rwa\""));
    EXPECT_EQ(geteuid(), 0u);  // nothing was changed
}

}  // namespace
}  // namespace sallyport::daemon
