#include "dataplane/interruptions.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace sallyport {
namespace {

TEST(Interruptions, CoreGivenAway_IsSeen) {
    Interruptions interruptions;
    if (!interruptions.seen()) GTEST_SKIP() << "the C library does not register threads for restartable sequences";
    for (int time = 0; time < 10; ++time) {
        interruptions.begin();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));   // another thread runs, if only the idle one
        EXPECT_TRUE(interruptions.any());
    }
}

TEST(Interruptions, CoreKept_IsNone) {
    Interruptions interruptions;
    bool kept = false;
    for (int time = 0; time < 1000 && !kept; ++time) {   // the machine may do other work
        interruptions.begin();
        kept = !interruptions.any();
    }
    EXPECT_TRUE(kept);
}

TEST(Interruptions, OfAnotherThread_AreItsOwn) {
    Interruptions ours;
    bool seen = false;
    std::thread other([&] {
        Interruptions its;
        its.begin();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        seen = !its.seen() || its.any();
    });
    other.join();
    EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace sallyport
