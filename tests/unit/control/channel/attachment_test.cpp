#include "control/channel/attachment.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace sallyport::channel {
namespace {

struct AttachmentTest : testing::Test {
    AttachmentTest() {
        int ends[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        near.emplace(Descriptor(ends[0]));
        far.emplace(Descriptor(ends[1]));
    }
    /// Each its own pipe's end, so that they can be told apart.
    static std::vector<Descriptor> descriptors(std::size_t count) {
        std::vector<Descriptor> result;
        for (std::size_t i = 0; i < count; ++i) {
            int ends[2];
            EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
            result.emplace_back(ends[0]);
            Descriptor closed(ends[1]);
        }
        return result;
    }
    static std::vector<int> numbers(const std::vector<Descriptor>& from) {
        std::vector<int> result;
        for (const Descriptor& each : from) result.push_back(each.get());
        return result;
    }
    static ino_t inode(const Descriptor& of) {
        struct stat status{};
        EXPECT_EQ(fstat(of.get(), &status), 0);
        return status.st_ino;
    }
    std::optional<Attachment> near, far;
};

TEST_F(AttachmentTest, MemoryAndAnEventfdForEachOfTheMostHandshakeWorkers_AllArriveInOrder) {
    const auto sent = descriptors(1 + limits::kHandshakeWorkers.most);
    ASSERT_TRUE(near->send("{}", numbers(sent)));
    const auto frame = far->receive();
    ASSERT_TRUE(frame) << frame.error();
    ASSERT_TRUE(*frame);
    ASSERT_EQ((*frame)->descriptors.size(), sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i) EXPECT_EQ(inode((*frame)->descriptors[i]), inode(sent[i])) << i;
}

TEST_F(AttachmentTest, MoreDescriptorsThanCanGo_RefusedNotCut) {
    const auto sent = descriptors(kMaxDescriptors + 1);
    const auto done = near->send("{}", numbers(sent));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error(), "message with 66 descriptors, where 65 can go");
    EXPECT_FALSE(near->wants_to_write());
    const auto frame = far->receive();
    ASSERT_TRUE(frame) << frame.error();
    EXPECT_FALSE(*frame);   // nothing of it has left
}

}  // namespace
}  // namespace sallyport::channel
