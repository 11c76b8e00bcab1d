// How long a cache line takes from one core to another and back, again and again:  core_distance CORE CORE EVERY
// Prints a line each EVERY milliseconds until it is ended: seconds of CLOCK_MONOTONIC, and nanoseconds, the least of some averages; 0 where the two did not meet. It takes
// some 60 us of both cores from what polls there then, before which it comes where it may (SCHED_FIFO).
// core_distance CORE CORE hold  keeps both from being idle until it is ended, behind all others (SCHED_IDLE): the host of a virtual machine moves a core when it wakes.

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string_view>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kTrips = 20;             // of an average
constexpr double kMost = 10'000;       // nanoseconds: no machine is so large; something else ran in all averages
constexpr int kLongest = 60'000;      // milliseconds from one look to the next
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

bool number(std::string_view text, int& value, int most) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && value >= 0 && value <= most;
}

/// Two threads, one on each core, that meet for a moment and send a cache line to and fro.
class Meeting {
 public:
    /// The first core's side. Nanoseconds, of the least average, once there has been one and `enough` is over; 0 where there was none within `patience`.
    double lead(std::chrono::nanoseconds enough, std::chrono::nanoseconds patience) {
        const Clock::time_point begun = Clock::now();
        double least = 0;
        for (bool late = false; !late && !(least > 0 && least < kMost && Clock::now() - begun > enough);) {
            const Clock::time_point before = Clock::now();
            for (int trip = 0; trip < kTrips && !late; ++trip) {
                out_.value.store(++value_, std::memory_order_release);
                for (unsigned tries = 1; back_.value.load(std::memory_order_acquire) != value_ && !late; ++tries) late = tries % 1024 == 0 && Clock::now() - begun > patience;
            }
            const double each = std::chrono::duration<double, std::nano>(Clock::now() - before).count() / kTrips;
            if (!late && (least == 0 || each < least)) least = each;
        }
        met_.fetch_add(1, std::memory_order_release);
        return least < kMost ? least : 0;
    }
    /// The other core's side, until the first has had its `count`th meeting.
    void follow(unsigned count) {
        while (met_.load(std::memory_order_relaxed) < count) back_.value.store(out_.value.load(std::memory_order_acquire), std::memory_order_release);
    }

 private:
    Line out_, back_;
    alignas(128) std::atomic<unsigned> met_{0};
    unsigned value_ = 0;
};

void sleep_until(const timespec& moment) {
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, nullptr) != 0) {}
}

timespec later(timespec moment, int milliseconds) {
    const long nanoseconds = moment.tv_nsec + milliseconds % 1000 * 1'000'000L;
    return {moment.tv_sec + milliseconds / 1000 + nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
}

/// Meets again and again, and tells each time. Returns only where that is not possible.
void watch(int here, int there, int every) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static Meeting meeting;
    timespec begun;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    std::atomic<int> pinned{0};
    const auto ready = [&](int core) {
        const sched_param first{.sched_priority = 1};
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);   // else it comes when the scheduler lets it
        pinned.fetch_add(pin(core) ? 1 : -2);
    };
    std::thread other([&] {
        ready(there);
        timespec moment = begun;
        for (unsigned count = 1; pinned.load() >= 0; ++count) {
            sleep_until(moment = later(moment, every));
            meeting.follow(count);
        }
    });
    ready(here);
    for (timespec moment = begun; pinned.load() >= 0;) {
        sleep_until(moment = later(moment, every));
        const double apart = meeting.lead(kEnough, kPatience);
        std::printf("%lld.%09ld %.0f\n", static_cast<long long>(moment.tv_sec), moment.tv_nsec, apart);
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
    const bool understood = count == 4 && number(words[1], here, CPU_SETSIZE - 1) && number(words[2], there, CPU_SETSIZE - 1) && (holds || number(words[3], every, kLongest));
    if (!understood || (!holds && every == 0)) {
        std::fputs("usage: core_distance CORE CORE EVERY|hold   (EVERY: milliseconds)\n", stderr);
        return 64;
    }
    holds ? hold(here, there) : watch(here, there, every);
    std::fprintf(stderr, "core_distance: this process may not run on cores %d and %d%s\n", here, there, holds ? ", or not behind others" : "");
    return 69;
}
