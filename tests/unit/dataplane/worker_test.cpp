#include "dataplane/worker.h"

#include <gtest/gtest.h>

#include <thread>

#include "control/daemon/exit_code.h"
#include "tests/unit/eal.h"

namespace sallyport {
namespace {

/// A worker without ports, in a thread of its own once run() is called.
struct WorkerTest : testing::Test {
    WorkerTest() {
        Worker::Settings settings;
        settings.buffers = pool.get();
        settings.engine.max_flows = 16;
        settings.tcp.max_connections = 16;
        worker.emplace(settings, *clock, *crossbar);
    }
    ~WorkerTest() override { stop(); }
    void run() {
        thread = std::thread([this] { worker->run(); });
    }
    void stop() {
        worker->stop();
        if (thread.joinable()) thread.join();
    }
    test::BufferPool pool{1023};
    std::unique_ptr<TscClock> clock = std::make_unique<TscClock>();
    std::unique_ptr<steering::Crossbar> crossbar = std::make_unique<steering::Crossbar>(1);
    std::optional<Worker> worker;
    std::thread thread;
};

TEST_F(WorkerTest, Call_RunsInTheWorkerBeforeItReturns) {
    run();
    for (int i = 0; i < 100; ++i) {
        std::thread::id where;
        ASSERT_TRUE(worker->call([&](Worker&, Time) { where = std::this_thread::get_id(); }));
        EXPECT_EQ(where, thread.get_id());
    }
}

TEST_F(WorkerTest, TaskThatWasNotTakenInTime_IsNeverRun) {
    int ran = 0;
    EXPECT_FALSE(worker->call([&](Worker&, Time) { ++ran; }, std::chrono::milliseconds(1)));   // as if it hung: it does not run at all
    run();
    ASSERT_TRUE(worker->call([](Worker&, Time) {}));
    EXPECT_EQ(ran, 0);
}

TEST_F(WorkerTest, TaskThatDoesNotEnd_EndsTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            run();
            (void)worker->call(
                [](Worker&, Time) {
                    while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
                },
                std::chrono::milliseconds(100));
        },
        testing::ExitedWithCode(exit_code::kSoftware), "");
}

}  // namespace
}  // namespace sallyport
