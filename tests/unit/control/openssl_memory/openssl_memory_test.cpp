#include "control/certificates/openssl_memory.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace sallyport::openssl {
namespace {

const bool kKept = keep_freed_memory();   // before anything of OpenSSL is used

class OpenSslMemory : public testing::Test {
 protected:
    void SetUp() override {
        if (!kKept) GTEST_SKIP() << "this build leaves it to the sanitizer";
    }
};

/// What malloc has given away and not got back.
std::size_t given() { return mallinfo2().uordblks; }

TEST_F(OpenSslMemory, WhatWasFreedLast_IsTakenFirst) {
    for (const auto& [length, other] : {std::pair<std::size_t, std::size_t>{1, 24}, {100, 104}, {1032, 1020}, {4424, 4456}, {16569, 16936}}) {
        void* const first = OPENSSL_malloc(length);
        void* const second = OPENSSL_malloc(length);
        OPENSSL_free(first);
        OPENSSL_free(second);
        EXPECT_EQ(OPENSSL_malloc(other), second) << length;
        EXPECT_EQ(OPENSSL_malloc(other), first) << length;
        OPENSSL_free(first);
        OPENSSL_free(second);
    }
}

TEST_F(OpenSslMemory, ABlockIsNeverTakenForMoreThanItHolds) {
    for (std::size_t length = 1; length < 21'000; length += 1 + length / 50) {
        void* const block = OPENSSL_malloc(length);
        const std::size_t size = malloc_usable_size(block);
        EXPECT_GE(size, length);
        OPENSSL_free(block);
        for (std::size_t larger = length; larger < length + 3000; larger += 7) {
            void* const other = OPENSSL_malloc(larger);
            EXPECT_GE(malloc_usable_size(other), larger) << length;
            OPENSSL_free(other);
        }
    }
}

TEST_F(OpenSslMemory, WhatIsTooMuch_GoesBackToMalloc) {
    constexpr std::size_t kBlocks = 400, kLength = 16936, kKeptBlocks = 16;
    std::vector<void*> blocks;
    const std::size_t before = given();
    for (std::size_t i = 0; i < kBlocks; ++i) blocks.push_back(OPENSSL_malloc(kLength));
    EXPECT_GE(given(), before + (kBlocks - kKeptBlocks) * kLength);
    for (void* const block : blocks) OPENSSL_free(block);
    EXPECT_LE(given(), before + (kKeptBlocks + 4) * kLength);
}

TEST_F(OpenSslMemory, WhatIsGivenBack_IsMallocsAndTheThreadGoesOn) {
    for (int round = 0; round < 3; ++round) {
        give_freed_memory_back();
        const std::size_t before = given();
        std::vector<void*> blocks;
        for (int i = 0; i < 20; ++i) blocks.push_back(OPENSSL_malloc(8000));
        for (void* const block : blocks) OPENSSL_free(block);
        EXPECT_GE(given(), before + 16 * 8000) << "nothing was kept";
        give_freed_memory_back();
        EXPECT_LE(given(), before + 1000);
    }
}

TEST_F(OpenSslMemory, AThreadThatEnds_LeavesNothingBehind) {
    const auto work = [] {
        std::vector<void*> blocks;
        for (int i = 0; i < 10; ++i)
            for (const std::size_t length : {50, 500, 5000, 16000}) blocks.push_back(OPENSSL_malloc(length));
        for (void* const block : blocks) OPENSSL_free(block);
    };
    std::thread(work).join();   // what a first thread leaves for good, such as its malloc's arena
    const std::size_t before = given();
    for (int i = 0; i < 20; ++i) std::thread(work).join();
    EXPECT_LE(given(), before + 16'000);
}

/// Blocks that go from thread to thread, grow and shrink, and keep what is in them.
TEST_F(OpenSslMemory, ContentsStay_WhateverIsDone) {
    struct Owned {
        unsigned char* memory = nullptr;
        std::size_t length = 0;
        unsigned char mark = 0;
    };
    const auto fill = [](Owned& owned) { std::memset(owned.memory, owned.mark, owned.length); };
    const auto holds = [](const Owned& owned, std::size_t length) {
        for (std::size_t i = 0; i < length; ++i)
            if (owned.memory[i] != owned.mark) return false;
        return true;
    };
    std::vector<Owned> all(300);
    for (unsigned turn = 0; turn < 12; ++turn)
        std::thread([&, turn] {
            std::mt19937 random(turn);
            for (int step = 0; step < 4000; ++step) {
                Owned& owned = all[random() % all.size()];
                const std::size_t length = 1 + random() % (random() % 8 == 0 ? 40'000 : 1200);
                if (owned.memory == nullptr) {
                    owned = {static_cast<unsigned char*>(OPENSSL_malloc(length)), length, static_cast<unsigned char>(random())};
                    fill(owned);
                    continue;
                }
                ASSERT_TRUE(holds(owned, owned.length));
                if (random() % 2 == 0) {
                    OPENSSL_free(owned.memory);
                    owned.memory = nullptr;
                } else {
                    owned.memory = static_cast<unsigned char*>(OPENSSL_realloc(owned.memory, length));
                    ASSERT_TRUE(holds(owned, std::min(owned.length, length)));
                    owned.length = length;
                    fill(owned);
                }
            }
        }).join();
    for (const Owned& owned : all) OPENSSL_free(owned.memory);
}

TEST_F(OpenSslMemory, NothingAndAllOfIt_AreAsOpenSslHasThem) {
    EXPECT_EQ(OPENSSL_malloc(0), nullptr);
    OPENSSL_free(nullptr);
    void* const block = OPENSSL_realloc(nullptr, 10);
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(OPENSSL_realloc(block, 0), nullptr);
    auto* const zeroed = static_cast<unsigned char*>(OPENSSL_zalloc(10));
    EXPECT_EQ(std::count(zeroed, zeroed + 10, 0), 10);
    OPENSSL_free(zeroed);
}

}  // namespace
}  // namespace sallyport::openssl
