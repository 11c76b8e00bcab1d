#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/dataplane/flow/world.h"
#include "tests/unit/dataplane/sharing/recorder.h"

/// No cache line that one worker writes is touched by another: what workers of the dataplane do above their devices, two of them side by side in threads of their own, every load
/// and store of theirs recorded. Writes of libraries and of IPsec-MB's assembler are not seen.
namespace sallyport::flow::test {
namespace {

using sallyport::test::Recorder;
using sallyport::test::Shared;

/// Two threads that do the same at the same time.
class Two {
 public:
    Two() { sallyport::test::start_eal(); }
    /// `prepare` in each thread, then `work` recorded.
    template <typename Prepare, typename Work>
    void run(Prepare prepare, Work work) {
        std::barrier together(2);
        std::array<std::jthread, 2> threads;
        for (unsigned i = 0; i < threads.size(); ++i)
            threads[i] = std::jthread([&, i] {
                if (i == 1) together.arrive_and_wait();   // DPDK makes pools one after another
                auto state = prepare(i);
                if (i == 0) together.arrive_and_wait();
                together.arrive_and_wait();
                recorders_[i].on();
                work(*state);
                recorders_[i].off();
                together.arrive_and_wait();
                if (i == 1) together.arrive_and_wait();   // and frees them so
                state.reset();
                if (i == 0) together.arrive_and_wait();
            });
    }
    [[nodiscard]] std::vector<Shared> shared() const { return sallyport::test::shared_lines(recorders_[0], recorders_[1]); }
    [[nodiscard]] std::size_t touched(std::size_t which) const { return recorders_[which].touched().size(); }

 private:
    std::array<Recorder, 2> recorders_;
};

/// A worker with clients and backends of its own.
struct Load {
    static constexpr std::size_t kFlows = 32;
    explicit Load(unsigned seed) : world({.seed = seed + 1}) {
        for (std::size_t i = 0; i < kFlows; ++i) sessions.push_back(&world.open());
    }
    /// A request and an answer of each flow.
    void exchange(std::size_t octets) {
        for (const bool up : {true, false}) {
            for (Session* const s : sessions) {
                s->client.data.clear();
                s->backend.data.clear();
                (up ? s->client : s->backend).send(Octets(octets, std::byte{7}));
            }
            const auto arrived = [&](const Session* s) { return (up ? s->backend : s->client).data.size() == octets; };
            ASSERT_TRUE(world.run_until([&] { return std::ranges::all_of(sessions, arrived); }, 30s));
        }
    }
    World world;
    std::vector<Session*> sessions;
};

void print(const std::vector<Shared>& shared) {
    for (std::size_t i = 0; i < std::min<std::size_t>(shared.size(), 20); ++i) ADD_FAILURE() << shared[i].what;
}

TEST(SharedLines, RequestsAndAnswers_WorkersTouchNothingThatAnotherWrites) {
    Two two;
    two.run([](unsigned i) { return std::make_unique<Load>(i); },
            [](Load& load) {
                for (int i = 0; i < 20; ++i) load.exchange(1024);
            });
    EXPECT_GT(two.touched(0), 1000U);
    EXPECT_GT(two.touched(1), 1000U);
    const auto shared = two.shared();
    EXPECT_EQ(shared.size(), 0U);
    print(shared);
}

TEST(SharedLines, Bulk_WorkersTouchNothingThatAnotherWrites) {
    Two two;
    two.run([](unsigned i) { return std::make_unique<Load>(i); }, [](Load& load) { load.exchange(50'000); });
    const auto shared = two.shared();
    EXPECT_EQ(shared.size(), 0U);
    print(shared);
}

/// That the recorder sees what it is there for.
std::atomic<std::uint64_t> counted{0};
std::uint64_t plain = 0;
[[gnu::noinline]] std::uint64_t look() { return *const_cast<volatile std::uint64_t*>(&plain); }

TEST(SharedLines, LineThatBothWrite_IsFound) {
    Two two;
    two.run([](unsigned) { return std::make_unique<int>(); }, [](int&) { counted.fetch_add(1); });
    ASSERT_EQ(two.shared().size(), 1U);
    EXPECT_EQ(two.shared()[0].line, reinterpret_cast<std::uintptr_t>(&counted) / sallyport::test::kLine);
}

TEST(SharedLines, LineThatOneWritesAndTheOtherReads_IsFound) {
    Two two;
    two.run([](unsigned i) { return std::make_unique<unsigned>(i); },
            [](unsigned& which) {
                if (which == 0)
                    plain = 1;
                else
                    (void)look();
            });
    ASSERT_EQ(two.shared().size(), 1U);
    EXPECT_EQ(two.shared()[0].line, reinterpret_cast<std::uintptr_t>(&plain) / sallyport::test::kLine);
}

TEST(SharedLines, LineThatBothOnlyRead_IsNone) {
    Two two;
    two.run([](unsigned i) { return std::make_unique<unsigned>(i); }, [](unsigned&) { (void)look(); });
    EXPECT_EQ(two.shared().size(), 0U);
}

}  // namespace
}  // namespace sallyport::flow::test
