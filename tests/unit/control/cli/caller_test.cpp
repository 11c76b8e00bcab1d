#include "control/cli/caller.h"
#include "crypto/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace sallyport::cli {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class Files : public testing::Test {
 protected:
    void SetUp() override {
        home_ = sallyport::format("/tmp/sallyport_caller_test_{}", getpid());
        fs::create_directories(home_ / "dir");
        caller_.home = home_;
        caller_.restricted = true;
        std::ofstream(home_ / "a.conf") << "text";
    }
    void TearDown() override { fs::remove_all(home_); }
    fs::path home_;
    Caller caller_;
};

TEST_F(Files, Restricted_ReadsAndWritesAtHome) {
    EXPECT_EQ(read_file(caller_, "a.conf").value(), "text");
    EXPECT_EQ(read_file(caller_, "~/a.conf").value(), "text");
    EXPECT_EQ(read_file(caller_, (home_ / "a.conf").string()).value(), "text");
    ASSERT_TRUE(write_file(caller_, "dir/new", "more"));
    EXPECT_EQ(read_file(caller_, "dir/new").value(), "more");
    struct stat status{};
    ASSERT_EQ(stat((home_ / "dir/new").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(Files, Restricted_GoesNowhereElse) {
    fs::create_symlink("/etc", home_ / "link");
    fs::create_symlink("/etc/passwd", home_ / "passwd");
    for (const char* const path : {"/etc/passwd", "../x", "dir/../../x", "link/passwd", "passwd", "~/../x", "/proc/self/environ", ""}) {
        EXPECT_FALSE(read_file(caller_, path)) << path;
        EXPECT_FALSE(write_file(caller_, path, "x")) << path;
    }
    EXPECT_THAT(read_file(caller_, "/etc/passwd").error(), HasSubstr("only be in your home directory"));
}

TEST_F(Files, Restricted_TouchesNothingHidden) {
    fs::create_directories(home_ / ".ssh");
    for (const char* const path : {".ssh/authorized_keys", ".profile", "dir/.x", "./.ssh/rc"}) EXPECT_FALSE(write_file(caller_, path, "x")) << path;
    EXPECT_TRUE(fs::is_empty(home_ / ".ssh"));
}

TEST_F(Files, Restricted_TakesNoPipes) {
    ASSERT_EQ(mkfifo((home_ / "pipe").c_str(), 0600), 0);
    EXPECT_THAT(read_file(caller_, "pipe").error(), HasSubstr("not an ordinary file"));
}

TEST_F(Files, Unrestricted_GoesAnywhere) {
    caller_.restricted = false;
    EXPECT_TRUE(read_file(caller_, "/etc/passwd"));
    EXPECT_EQ(read_file(caller_, "~/a.conf").value(), "text");
    EXPECT_THAT(read_file(caller_, "/etc").error(), HasSubstr("is a directory"));
}

TEST_F(Files, Like_ListsWhatCanBe) {
    EXPECT_THAT(files_like(caller_, ""), ElementsAre("a.conf", "dir/"));
    EXPECT_THAT(files_like(caller_, "a"), ElementsAre("a.conf"));
    EXPECT_TRUE(files_like(caller_, "/etc/pass").empty());
    EXPECT_TRUE(files_like(caller_, ".").empty());
}

TEST_F(Files, TooLong_IsRefused) {
    std::ofstream(home_ / "long") << std::string(kLongestFile + 1, 'x');
    EXPECT_THAT(read_file(caller_, "long").error(), HasSubstr("more than"));
}

TEST(ThisCaller, SaysWhereFrom) {
    setenv("SSH_CONNECTION", "192.0.2.7 51234 192.0.2.1 22", 1);
    EXPECT_EQ(this_caller(false).from, "ssh 192.0.2.7 port 51234");
    unsetenv("SSH_CONNECTION");
    EXPECT_FALSE(this_caller(true).user.empty());
}

}  // namespace
}  // namespace sallyport::cli
