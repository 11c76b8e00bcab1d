#include "control/handshake/random_source.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "control/handshake/libssl.h"

namespace sallyport::handshake {
namespace {

using Octets = std::array<unsigned char, 32>;

/// Octets that count up, so that each tells where it was made.
struct Counting {
    unsigned char next = 0;
    int calls = 0;
    bool refuses = false;
    bool operator()(std::span<unsigned char> to) {
        ++calls;
        for (unsigned char& octet : to) octet = next++;
        return !refuses;
    }
};

TEST(OctetsAhead, EachOctetIsGivenOnceAndOneCallMakesAKilobyte) {
    OctetsAhead ahead;
    Counting counting;
    std::array<int, 256> seen{};
    for (std::size_t i = 0; i < 2 * OctetsAhead::kAhead / 32; ++i) {
        Octets octets{};
        ASSERT_TRUE(ahead.take(octets, std::ref(counting)));
        for (const unsigned char octet : octets) ++seen[octet];
    }
    EXPECT_EQ(counting.calls, 2);
    for (const int times : seen) EXPECT_EQ(times, 2 * OctetsAhead::kAhead / 256);
}

TEST(OctetsAhead, WhatIsGivenIsWiped) {
    alignas(OctetsAhead) std::array<unsigned char, sizeof(OctetsAhead)> memory{};
    auto* const ahead = new (memory.data()) OctetsAhead;
    Octets given{};
    ASSERT_TRUE(ahead->take(given, [](std::span<unsigned char> to) {
        std::memset(to.data(), 0x5a, to.size());
        std::memset(to.data() + to.size() - 32, 0xa5, 32);
        return true;
    }));
    EXPECT_EQ(given, [] { Octets all; all.fill(0xa5); return all; }());
    EXPECT_EQ(std::ranges::count(memory, 0xa5), 0);
    EXPECT_GE(std::ranges::count(memory, 0x5a), 900);
    ahead->~OctetsAhead();
    EXPECT_EQ(std::ranges::count(memory, 0x5a), 0);
}

TEST(OctetsAhead, WhereNoneAreMade_NoneAreGivenAndTheNextRequestAsksAgain) {
    OctetsAhead ahead;
    Counting counting{.refuses = true};
    Octets octets{};
    EXPECT_FALSE(ahead.take(octets, std::ref(counting)));
    EXPECT_EQ(octets, Octets{});
    counting.refuses = false;
    EXPECT_TRUE(ahead.take(octets, std::ref(counting)));
    EXPECT_EQ(counting.calls, 2);
}

TEST(RandomSource, BothGeneratorsOfAThread_AreOurs) {
    for (EVP_RAND_CTX* const generator : {RAND_get0_public(nullptr), RAND_get0_private(nullptr)}) {
        ASSERT_NE(generator, nullptr);
        EXPECT_STREQ(EVP_RAND_get0_name(EVP_RAND_CTX_get0_rand(generator)), kRandomSource);
        EXPECT_EQ(EVP_RAND_get_state(generator), EVP_RAND_STATE_READY);
        EXPECT_EQ(EVP_RAND_get_strength(generator), 256U);
    }
}

TEST(RandomSource, OfAnyLengthAndInAnyThread_NothingComesTwice) {
    std::mutex mutex;
    std::set<std::string> seen;
    std::size_t count = 0;
    const auto ask = [&] {
        std::vector<std::string> mine;
        for (std::size_t length = 8; length < 5000; length += length < 300 ? 1 : 97)
            for (int (*const source)(unsigned char*, int) : {RAND_bytes, RAND_priv_bytes}) {
                std::vector<unsigned char> octets(length);
                ASSERT_EQ(source(octets.data(), static_cast<int>(length)), 1);
                for (std::size_t at = 0; at + 8 <= length; at += 8) mine.emplace_back(octets.begin() + static_cast<std::ptrdiff_t>(at), octets.begin() + static_cast<std::ptrdiff_t>(at) + 8);
            }
        const std::scoped_lock lock(mutex);
        count += mine.size();
        seen.insert(mine.begin(), mine.end());
    };
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back(ask);
    }
    EXPECT_GT(count, 100'000U);
    EXPECT_EQ(seen.size(), count);   // a chance of one in some ten million
}

TEST(RandomSource, Ones_AreHalfOfTheBits) {
    std::size_t ones = 0, bits = 0;
    for (int i = 0; i < 10'000; ++i) {
        Octets octets{};
        ASSERT_EQ(RAND_bytes(octets.data(), static_cast<int>(octets.size())), 1);
        for (const unsigned char octet : octets) ones += static_cast<std::size_t>(std::popcount(octet));
        bits += 8 * octets.size();
    }
    EXPECT_NEAR(static_cast<double>(ones) / static_cast<double>(bits), 0.5, 0.003);   // 9 standard deviations
}

TEST(RandomSource, AForkedChild_HasOctetsOfItsOwn) {
    Octets first{};
    ASSERT_EQ(RAND_bytes(first.data(), static_cast<int>(first.size())), 1);   // octets are there ahead
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        Octets octets{};
        const bool good = RAND_bytes(octets.data(), static_cast<int>(octets.size())) == 1 && write(ends[1], octets.data(), octets.size()) == static_cast<ssize_t>(octets.size());
        _exit(good ? 0 : 1);
    }
    Octets own{}, childs{};
    ASSERT_EQ(RAND_bytes(own.data(), static_cast<int>(own.size())), 1);
    ASSERT_EQ(read(ends[0], childs.data(), childs.size()), static_cast<ssize_t>(childs.size()));
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_NE(own, childs);
    close(ends[0]);
    close(ends[1]);
}

TEST(RandomSource, WithAdditionalInputOrAfterReseeding_ItStillGives) {
    EVP_RAND_CTX* const generator = RAND_get0_public(nullptr);
    Octets one{}, other{}, third{};
    const unsigned char more[] = {1, 2, 3};
    EXPECT_EQ(EVP_RAND_generate(generator, one.data(), one.size(), 256, 0, more, sizeof more), 1);
    EXPECT_EQ(EVP_RAND_generate(generator, other.data(), other.size(), 256, 1, nullptr, 0), 1);
    EXPECT_EQ(EVP_RAND_reseed(generator, 0, nullptr, 0, more, sizeof more), 1);
    EXPECT_EQ(RAND_bytes(third.data(), static_cast<int>(third.size())), 1);
    EXPECT_NE(one, other);
    EXPECT_NE(other, third);
    EXPECT_EQ(EVP_RAND_generate(generator, one.data(), one.size(), 512, 0, nullptr, 0), 0);   // stronger than AES-256 is
}

}  // namespace
}  // namespace sallyport::handshake
