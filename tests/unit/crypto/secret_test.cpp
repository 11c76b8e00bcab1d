#include "crypto/secret.h"

#include <algorithm>
#include <cstring>
#include <new>

#include <gtest/gtest.h>

namespace sallyport::crypto {
namespace {

constexpr std::array<std::byte, 8> kKey{std::byte{0xde}, std::byte{0xad}, std::byte{0xbe}, std::byte{0xef},
                                        std::byte{0x12}, std::byte{0x34}, std::byte{0x56}, std::byte{0x78}};

bool contains_key(const void* memory, std::size_t length) {
    return memmem(memory, length, kKey.data(), 4) != nullptr;
}

TEST(Secret, Destroyed_MemoryIsWiped) {
    alignas(Secret<16>) std::array<std::byte, sizeof(Secret<16>)> memory{};
    auto* secret = new (memory.data()) Secret<16>(kKey);
    ASSERT_TRUE(contains_key(memory.data(), memory.size()));
    secret->~Secret<16>();
    EXPECT_FALSE(contains_key(memory.data(), memory.size()));
}

TEST(Secret, AssignedShorter_OldOctetsAreWiped) {
    Secret<16> secret(kKey);
    secret.assign(std::span(kKey).last(1));
    EXPECT_FALSE(contains_key(&secret, sizeof secret));
    EXPECT_EQ(secret.octets().size(), 1u);
    EXPECT_EQ(secret.octets()[0], std::byte{0x78});
}

TEST(Secret, Cleared_IsEmptyAndWiped) {
    Secret<16> secret(kKey);
    EXPECT_FALSE(secret.empty());
    secret.clear();
    EXPECT_TRUE(secret.empty());
    EXPECT_FALSE(contains_key(&secret, sizeof secret));
}

TEST(Secret, Copied_HasTheSameOctets) {
    const Secret<16> secret(kKey);
    Secret<16> copy;
    copy = secret;
    EXPECT_TRUE(std::ranges::equal(copy.octets(), kKey));
    const Secret<16>& same = copy;
    copy = same;
    EXPECT_TRUE(std::ranges::equal(copy.octets(), kKey));
}

TEST(Secret, TooLong_StopsTheProcess) {
    Secret<4> secret;
    EXPECT_DEATH(secret.assign(kKey), "check failed");
}

}  // namespace
}  // namespace sallyport::crypto
