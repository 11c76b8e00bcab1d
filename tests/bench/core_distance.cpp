// How long a cache line takes from one core to another and back: core_distance CORE CORE
// Prints nanoseconds: the least of many averages, so that what else runs on the cores does not count; 0 where the two hardly ever ran at once.

#include <pthread.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kTrips = 20;             // of an average
constexpr double kMost = 10'000;       // nanoseconds: no machine is so large; something else ran in all averages
constexpr std::chrono::milliseconds kPatience{100}, kEnough{5};

struct alignas(128) Line {
    std::atomic<unsigned> value{0};
};

bool pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<unsigned>(core), &cores);
    return pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0;
}

bool number(std::string_view text, int& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && value >= 0 && value < CPU_SETSIZE;
}

}  // namespace

int main(int count, char** words) {
    int here = 0, there = 0;
    if (count != 3 || !number(words[1], here) || !number(words[2], there)) {
        std::fputs("usage: core_distance CORE CORE\n", stderr);
        return 64;
    }
    static Line out, back;
    static std::atomic<bool> over{false}, pinned{true};
    std::thread other([&] {
        if (!pin(there)) pinned = false;
        while (!over.load(std::memory_order_relaxed)) back.value.store(out.value.load(std::memory_order_acquire), std::memory_order_release);
    });
    if (!pin(here)) pinned = false;
    const Clock::time_point begun = Clock::now();
    double least = 0;
    unsigned value = 0;
    for (bool late = false; !late && !(least > 0 && least < kMost && Clock::now() - begun > kEnough);) {
        const Clock::time_point before = Clock::now();
        for (int trip = 0; trip < kTrips && !late; ++trip) {
            out.value.store(++value, std::memory_order_release);
            for (unsigned tries = 1; back.value.load(std::memory_order_acquire) != value && !late; ++tries) late = tries % 1024 == 0 && Clock::now() - begun > kPatience;
        }
        const double each = std::chrono::duration<double, std::nano>(Clock::now() - before).count() / kTrips;
        if (!late && (least == 0 || each < least)) least = each;
    }
    over = true;
    other.join();
    if (!pinned) {
        std::fprintf(stderr, "core_distance: this process may not run on cores %d and %d\n", here, there);
        return 69;
    }
    std::printf("%.0f\n", least < kMost ? least : 0);
    return 0;
}
