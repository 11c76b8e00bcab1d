// Whether workers get in each other's way: what one costs alone, and what it costs while another works on the next core.
//
//   two_workers_bench [ROUNDS]      7 unless told; takes cores 0 and 1
//
// Each worker is what a worker of the dataplane is above its device: network, TCP, flows, record engine and buffer pool of its own, in a thread of its own. The generator
// is inside: the clients and backends of 64 flows, in the same thread and in virtual time (tests/unit/dataplane/flow/world.h), so that no device, no third core and no other
// process has a part in it. A request and an answer of 1 KB each, TLS to TLS. Counted are the TSC cycles of the worker's part alone, while both threads run all the time.
// The last line is JSON: requests a second of a core for one worker and for each of two, and how many times one worker's rate two have.

#include <pthread.h>
#include <sched.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "crypto/check.h"
#include "tests/unit/dataplane/flow/world.h"

namespace sallyport::flow::test {
namespace {

constexpr std::size_t kFlows = 64, kOctets = 1024;
constexpr auto kWindow = std::chrono::milliseconds(700);

/// One worker with its clients and backends.
class Load {
 public:
    explicit Load(std::uint64_t seed) : world_({.seed = seed}) {
        for (std::size_t i = 0; i < kFlows; ++i) sessions_.push_back(&world_.open());
        exchange();
    }
    /// Each client's request, then each backend's answer.
    void exchange() {
        for (const bool up : {true, false}) {
            for (Session* const s : sessions_) {
                s->client.data.clear();
                s->backend.data.clear();
                (up ? s->client : s->backend).send(content_);
            }
            const auto arrived = [&](const Session* s) { return (up ? s->backend : s->client).data.size() == kOctets; };
            SALLYPORT_CHECK(world_.run_until([&] { return std::ranges::all_of(sessions_, arrived); }, 5s));
        }
    }
    /// Cycles of the worker's part a request, until `over`.
    double run(const std::atomic<bool>& over) {
        const std::uint64_t before = world_.appliance_cycles;
        std::uint64_t requests = 0;
        for (; !over.load(std::memory_order_relaxed); requests += kFlows) exchange();
        return static_cast<double>(world_.appliance_cycles - before) / static_cast<double>(std::max<std::uint64_t>(requests, 1));
    }

 private:
    World world_;
    std::vector<Session*> sessions_;
    const Octets content_ = Octets(kOctets, std::byte{7});
};

void pin(unsigned core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    SALLYPORT_CHECK(pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0);
}

/// Cycles a request of each of the first `count` workers, all at the same time.
std::array<double, 2> measure(std::array<std::unique_ptr<Load>, 2>& loads, unsigned count) {
    std::array<double, 2> cycles{};
    std::atomic<bool> over = false;
    std::barrier begin(count + 1);
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < count; ++i)
        threads.emplace_back([&, i] {
            pin(i);
            begin.arrive_and_wait();
            cycles[i] = loads[i]->run(over);
        });
    begin.arrive_and_wait();
    std::this_thread::sleep_for(kWindow);
    over = true;
    threads.clear();
    return cycles;
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

/// TSC cycles a second, as far as the steady clock tells.
double frequency() {
    const auto begun = std::chrono::steady_clock::now();
    const std::uint64_t before = __rdtsc();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const std::uint64_t after = __rdtsc();
    return static_cast<double>(after - before) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

int main_of(int rounds) {
    if (std::thread::hardware_concurrency() < 2) {
        std::fprintf(stderr, "two_workers_bench: it takes two cores\n");
        return 1;
    }
    const double hz = frequency();
    std::array<std::unique_ptr<Load>, 2> loads{std::make_unique<Load>(1), std::make_unique<Load>(2)};
    (void)measure(loads, 2);   // warm-up
    std::vector<double> alone, each, ratios;
    for (int round = 0; round < rounds; ++round) {
        const double one = measure(loads, 1)[0];
        const auto two = measure(loads, 2);
        alone.push_back(hz / one);
        each.push_back((hz / two[0] + hz / two[1]) / 2);
        ratios.push_back(2 * each.back() / alone.back());
        std::printf("round %d: %.0f cycles a request alone, %.0f and %.0f side by side: %.2f times\n", round + 1, one, two[0], two[1], ratios.back());
    }
    std::printf("{\"one\": %.0f, \"each\": %.0f, \"ratio\": %.3f}\n", median(alone), median(each), median(ratios));
    return 0;
}

}  // namespace
}  // namespace sallyport::flow::test

int main(int argc, char** argv) {
    return sallyport::flow::test::main_of(argc > 1 ? std::max(1, std::atoi(argv[1])) : 7);
}
