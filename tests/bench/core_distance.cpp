// How long a cache line takes from one core to another and back, and how fast the first is, again and again:  core_distance CORE CORE EVERY
// Prints a line each EVERY milliseconds until it is ended: seconds of CLOCK_MONOTONIC; nanoseconds of the way, the least of some averages, 0 where the two did not meet; and
// nanoseconds of a thousand additions on the first core, each of which waits for the one before: a matter of its clock, and of what else the host of a virtual machine
// has there. It takes some 60 us of both cores from what polls there then, before which it comes where it may (SCHED_FIFO).
// core_distance CORE CORE hold  keeps both from being idle until it is ended, behind all others (SCHED_IDLE): the host of a virtual machine moves a core when it wakes.

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kTrips = 20;             // of an average
constexpr int kAverages = 3, kAdditions = 5000;
constexpr double kMost = 10'000;       // nanoseconds: no machine is so large; something else ran in all averages
constexpr int kShortest = 10, kLongest = 60'000;   // milliseconds from one look to the next
constexpr std::chrono::microseconds kPatience{2000}, kEnough{50};   // of a meeting

struct alignas(128) Line {
    std::atomic<unsigned> value{0};
};

bool pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<unsigned>(core), &cores);
    return pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0;
}

bool number(std::string_view text, int& value, int least, int most) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && value >= least && value <= most;
}

/// Nanoseconds of a thousand additions, one after the other: the least of some averages, since an interrupt may come in between.
double pace() {
    double least = 0;
    for (int average = 0; average < kAverages; ++average) {
        const Clock::time_point before = Clock::now();
        std::uint64_t sum = 0;
        for (int addition = 0; addition < kAdditions; ++addition) asm volatile("add $1, %0" : "+r"(sum));
        const double each = std::chrono::duration<double, std::nano>(Clock::now() - before).count() * 1000 / kAdditions;
        if (least == 0 || each < least) least = each;
    }
    return least;
}

/// Two threads, one on each core, that meet for a moment and send a cache line to and fro.
class Meeting {
 public:
    /// The first core's side. Nanoseconds, of the least average; 0 where there was none within kPatience.
    double lead() {
        const Clock::time_point begun = Clock::now();
        double least = 0;
        for (bool late = false; !late && !(least > 0 && least < kMost && Clock::now() - begun > kEnough);) {
            const Clock::time_point before = Clock::now();
            for (int trip = 0; trip < kTrips && !late; ++trip) {
                out_.value.store(++value_, std::memory_order_release);
                for (unsigned tries = 1; back_.value.load(std::memory_order_acquire) != value_ && !late; ++tries) late = tries % 1024 == 0 && Clock::now() - begun > kPatience;
            }
            const double each = std::chrono::duration<double, std::nano>(Clock::now() - before).count() / kTrips;
            if (!late && (least == 0 || each < least)) least = each;
        }
        met_.fetch_add(1, std::memory_order_release);
        return least < kMost ? least : 0;
    }
    /// The other core's side, until the first has had what it wants, and no longer than that would wait: it may hang in telling what it has found.
    void follow() {
        const Clock::time_point begun = Clock::now();
        const unsigned met = met_.load(std::memory_order_relaxed);
        bool late = false;
        for (unsigned tries = 1; met_.load(std::memory_order_relaxed) == met && !late; ++tries) {
            back_.value.store(out_.value.load(std::memory_order_acquire), std::memory_order_release);
            late = tries % 1024 == 0 && Clock::now() - begun > kPatience;
        }
    }

 private:
    Line out_, back_;
    alignas(128) std::atomic<unsigned> met_{0};
    unsigned value_ = 0;
};

/// The moments of the meetings, the same on both sides.
class Moments {
 public:
    explicit Moments(std::chrono::milliseconds every) : every_(every) {}
    /// Waits for the next that is not over yet.
    Clock::time_point wait() {
        do moment_ += every_;
        while (moment_ < Clock::now());
        std::this_thread::sleep_until(moment_);
        return moment_;
    }

 private:
    Clock::time_point moment_ = Clock::now();
    std::chrono::milliseconds every_;
};

/// Meets again and again, and tells each time. Returns only where that is not possible.
void watch(int here, int there, int every) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static Meeting meeting;
    const Moments moments{std::chrono::milliseconds(every)};
    std::atomic<int> pinned{0};
    const auto ready = [&](int core) {
        const sched_param first{.sched_priority = 1};
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);   // else it comes when the scheduler lets it
        pinned.fetch_add(pin(core) ? 1 : -2);
    };
    std::thread other([&] {
        ready(there);
        for (Moments own = moments; pinned.load() >= 0;) {
            own.wait();
            meeting.follow();
        }
    });
    ready(here);
    for (Moments own = moments; pinned.load() >= 0;) {
        const std::chrono::duration<double> moment = own.wait().time_since_epoch();
        const double own_pace = pace(), apart = meeting.lead();
        std::printf("%.6f %.0f %.0f\n", moment.count(), apart, own_pace);
        std::fflush(stdout);
    }
    other.join();
}

/// Returns only where that is not possible.
void hold(int here, int there) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Where the kernel shares out time by sessions first, a thread is behind others of its own session alone: one of its own, which is behind (sched(7)).
    setsid();
    if (std::FILE* const group = std::fopen("/proc/self/autogroup", "w")) {
        std::fputs("19", group);
        std::fclose(group);
    }
    setpriority(PRIO_PROCESS, 0, 19);   // its time is told apart in /proc/stat
    std::atomic<bool> pinned{true};
    const auto keep = [&](int core) {
        const sched_param last{.sched_priority = 0};
        if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &last) != 0 || !pin(core)) pinned = false;
        while (pinned.load(std::memory_order_relaxed)) __builtin_ia32_pause();
    };
    std::thread other(keep, there);
    keep(here);
    other.join();
}

}  // namespace

int main(int count, char** words) {
    int here = 0, there = 0, every = 0;
    const bool holds = count == 4 && std::string_view(words[3]) == "hold";
    const bool understood = count == 4 && number(words[1], here, 0, CPU_SETSIZE - 1) && number(words[2], there, 0, CPU_SETSIZE - 1) && (holds || number(words[3], every, kShortest, kLongest));
    if (!understood) {
        std::fprintf(stderr, "usage: core_distance CORE CORE EVERY|hold   (EVERY: %d to %d milliseconds)\n", kShortest, kLongest);
        return 64;
    }
    holds ? hold(here, there) : watch(here, there, every);
    std::fprintf(stderr, "core_distance: this process may not run on cores %d and %d%s\n", here, there, holds ? ", or not behind others" : "");
    return 69;
}
