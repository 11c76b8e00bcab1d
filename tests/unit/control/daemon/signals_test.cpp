#include "control/daemon/signals.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace sallyport::daemon {
namespace {

using namespace std::chrono_literals;

TEST(StopSignals, SignalsThatCome_AreTakenOneByOne) {
    StopSignals signals;
    EXPECT_EQ(signals.take(), std::nullopt);
    EXPECT_EQ(signals.wait(0ms), std::nullopt);
    kill(getpid(), SIGTERM);
    pollfd waited{.fd = signals.fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&waited, 1, 0), 1);
    const auto signal = signals.wait(10s);
    ASSERT_EQ(signal, SIGTERM);
    EXPECT_TRUE(StopSignals::is_stop(*signal));
    kill(getpid(), SIGINT);
    EXPECT_EQ(signals.take(), SIGINT);
    EXPECT_EQ(signals.take(), std::nullopt);
}

TEST(StopSignals, Hangup_DoesNotStop) {
    StopSignals signals;
    kill(getpid(), SIGHUP);
    ASSERT_EQ(signals.take(), kReloadSignal);
    EXPECT_FALSE(StopSignals::is_stop(kReloadSignal));
}

TEST(StopSignals, WriteToAClosedSocket_ReturnsEpipe) {
    StopSignals signals;
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    close(pair[1]);
    EXPECT_EQ(write(pair[0], "x", 1), -1);
    EXPECT_EQ(errno, EPIPE);
    close(pair[0]);
}

}  // namespace
}  // namespace sallyport::daemon
