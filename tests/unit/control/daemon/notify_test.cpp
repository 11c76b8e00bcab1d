#include "control/daemon/notify.h"
#include "crypto/format.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

namespace sallyport::daemon {
namespace {

/// A service manager's end of the notify socket.
class Notify : public testing::Test {
 protected:
    void SetUp() override {
        path_ = sallyport::format("/tmp/sallyport_notify_{}", getpid());
        unlink(path_.c_str());
        socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strcpy(address.sun_path, path_.c_str());
        ASSERT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    }
    void TearDown() override {
        for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) unsetenv(name);
        close(socket_);
        unlink(path_.c_str());
    }
    /// The next datagram; empty when there is none.
    std::string told() {
        char buffer[512];
        const ssize_t n = recv(socket_, buffer, sizeof buffer, 0);
        return n < 0 ? "" : std::string(buffer, static_cast<std::size_t>(n));
    }
    std::string path_;
    int socket_ = -1;
};

TEST_F(Notify, StatesAndStatus_ReachTheManager) {
    notify_ready("serves 2 services");
    EXPECT_EQ(told(), "READY=1\nSTATUS=serves 2 services");
    notify_status("one\ntwo");  // a line break would be another assignment
    EXPECT_EQ(told(), "STATUS=one\\ntwo");
    notify_stopping("closing");
    EXPECT_EQ(told(), "STOPPING=1\nSTATUS=closing");
}

TEST_F(Notify, NoManager_NothingHappens) {
    unsetenv("NOTIFY_SOCKET");
    notify_ready("x");
    EXPECT_EQ(told(), "");
}

TEST_F(Notify, Watchdog_IsFedAtHalfItsInterval) {
    setenv("WATCHDOG_USEC", "2000000", 1);
    setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
    Watchdog watchdog;
    ASSERT_TRUE(watchdog.enabled());
    EXPECT_EQ(watchdog.interval(), std::chrono::seconds(1));
    const Watchdog::Clock::time_point start(std::chrono::hours(1));
    EXPECT_TRUE(watchdog.tick(start));
    EXPECT_EQ(told(), "WATCHDOG=1");
    EXPECT_FALSE(watchdog.tick(start + std::chrono::milliseconds(999)));
    EXPECT_EQ(told(), "");
    EXPECT_TRUE(watchdog.tick(start + std::chrono::milliseconds(1000)));
    EXPECT_EQ(told(), "WATCHDOG=1");
}

TEST_F(Notify, WatchdogOfAnotherProcessOrNone_IsOff) {
    EXPECT_FALSE(Watchdog().enabled());
    setenv("WATCHDOG_USEC", "2000000", 1);
    setenv("WATCHDOG_PID", std::to_string(getpid() + 1).c_str(), 1);
    Watchdog watchdog;
    EXPECT_FALSE(watchdog.enabled());
    EXPECT_FALSE(watchdog.tick(Watchdog::Clock::now()));
    EXPECT_EQ(told(), "");
}

}  // namespace
}  // namespace sallyport::daemon
