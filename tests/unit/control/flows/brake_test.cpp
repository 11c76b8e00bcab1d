#include "control/flows/brake.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace sallyport::flows {
namespace {

using namespace std::chrono_literals;
using Refusal = Brake::Refusal;

const Brake::Clock::time_point kNow{1000s};

IpAddress v4(std::uint8_t last) { return IpAddress::from_v4({192, 0, 2, last}); }
IpAddress numbered(std::uint32_t i) {
    return IpAddress::from_v4({10, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)});
}
std::shared_ptr<Brake> make(std::uint32_t total, std::uint32_t per_source, std::uint32_t rate, std::uint32_t burst) {
    return Brake::make({.handshakes = total, .handshakes_per_source = per_source, .cost_per_second = rate, .burst = burst});
}
/// How many full handshakes in a row a source is let in with, each finished before the next.
int let_in(Brake& brake, const IpAddress& source, bool resumes, std::uint32_t full, Brake::Clock::time_point now) {
    int count = 0;
    while (count < 10'000 && brake.start(source, resumes, full, now)) ++count;
    return count;
}

TEST(Brake, Source_UnderWay_AreLimitedAndOthersAreNot) {
    const auto brake = make(1000, 3, 1'000'000, 1'000'000);
    std::vector<Brake::Started> under_way;
    for (int i = 0; i < 3; ++i) under_way.push_back(brake->start(v4(1), false, cost::kRsa, kNow).value());
    const auto fourth = brake->start(v4(1), true, cost::kRsa, kNow);
    ASSERT_FALSE(fourth);
    EXPECT_EQ(fourth.error(), Refusal::source);
    EXPECT_TRUE(brake->start(v4(2), false, cost::kRsa, kNow));
    EXPECT_EQ(brake->braked_by_source(), 1u);
    under_way.pop_back();
    EXPECT_TRUE(brake->start(v4(1), false, cost::kRsa, kNow));
    under_way.clear();
    EXPECT_EQ(brake->started(), 0u);
}

TEST(Brake, Connections_AreLimitedBySourceAndInAll) {
    const auto brake = Brake::make({.connections = 5, .connections_per_source = 3});
    std::vector<Brake::Connected> connections;
    for (int i = 0; i < 3; ++i) connections.push_back(brake->connect(v4(1), kNow).value());
    EXPECT_EQ(brake->connect(v4(1), kNow).error(), Refusal::source);
    for (int i = 0; i < 2; ++i) connections.push_back(brake->connect(v4(2), kNow).value());
    EXPECT_EQ(brake->connect(v4(3), kNow).error(), Refusal::total);
    EXPECT_EQ(brake->connected(), 5u);
    EXPECT_TRUE(brake->start(v4(1), false, cost::kRsa, kNow)) << "a handshake is not a connection more";
    connections.front().release();
    connections.push_back(brake->connect(v4(1), kNow).value());
    connections.clear();
    EXPECT_EQ(brake->connected(), 0u);
    EXPECT_EQ(brake->braked_by_source(), 1u);
    EXPECT_EQ(brake->braked_by_total(), 1u);
}

TEST(Brake, Connections_KeepTheirPlace) {
    const auto brake = Brake::make({.connections = 1'000'000, .connections_per_source = 1});
    const auto held = brake->connect(v4(1), kNow).value();
    for (std::uint32_t i = 0; i < 200'000; ++i) (void)brake->connect(numbered(i), kNow);
    EXPECT_EQ(brake->connect(v4(1), kNow).error(), Refusal::source);
}

TEST(Brake, Source_Budget_IsSpentByCostAndComesBack) {
    const auto brake = make(1000, 1000, 12, 120);
    EXPECT_EQ(let_in(*brake, v4(1), false, cost::kRsa, kNow), 10);
    EXPECT_EQ(let_in(*brake, v4(2), false, cost::kEcdsa, kNow), 30);
    EXPECT_EQ(let_in(*brake, v4(1), false, cost::kRsa, kNow + 1s), 1);
    EXPECT_EQ(let_in(*brake, v4(1), false, cost::kRsa, kNow + 1h), 10) << "more than the burst was saved up";
}

TEST(Brake, Source_ResumptionThatWasNone_PaysTheRest) {
    const auto brake = make(1000, 1000, 1, 24);
    for (int i = 0; i < 2; ++i) {
        auto started = brake->start(v4(1), true, cost::kRsa, kNow);
        ASSERT_TRUE(started);
        started->finish(false, kNow);
    }
    EXPECT_FALSE(brake->start(v4(1), true, cost::kRsa, kNow));
    for (int i = 0; i < 24; ++i) {
        auto started = brake->start(v4(2), true, cost::kRsa, kNow);
        ASSERT_TRUE(started) << i;
        started->finish(true, kNow);
    }
    EXPECT_FALSE(brake->start(v4(2), true, cost::kRsa, kNow));
    EXPECT_EQ(brake->started(), 0u);
}

TEST(Brake, Sources_OfIpv6_Are64Bits) {
    const auto brake = make(1000, 1, 1'000'000, 1'000'000);
    const auto first = brake->start(IpAddress::parse("2001:db8:0:1::1").value(), false, 4, kNow);
    EXPECT_TRUE(first);
    EXPECT_FALSE(brake->start(IpAddress::parse("2001:db8:0:1:ffff::2").value(), false, 4, kNow));
    EXPECT_TRUE(brake->start(IpAddress::parse("2001:db8:0:2::1").value(), false, 4, kNow));
    const auto v4_first = brake->start(v4(1), false, 4, kNow);
    EXPECT_TRUE(v4_first);
    EXPECT_TRUE(brake->start(v4(2), false, 4, kNow)) << "IPv4 addresses are sources of their own";
}

TEST(Brake, Total_LastQuarterIsForResumptions) {
    const auto brake = make(8, 100, 1'000'000, 1'000'000);
    std::vector<Brake::Started> under_way;
    EXPECT_TRUE(brake->relaxed());
    for (std::uint8_t i = 0; i < 6; ++i) {
        under_way.push_back(brake->start(v4(i), false, 4, kNow).value());
        EXPECT_EQ(brake->relaxed(), i < 1) << int{i};
    }
    const auto full = brake->start(v4(100), false, 4, kNow);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error(), Refusal::total);
    for (int i = 0; i < 2; ++i) under_way.push_back(brake->start(v4(101), true, 4, kNow).value());
    EXPECT_FALSE(brake->start(v4(102), true, 4, kNow));
    EXPECT_EQ(brake->braked_by_total(), 2u);
    EXPECT_EQ(brake->started(), 8u);
}

TEST(Brake, ManySources_MemoryIsBoundedAndWhoIsUnderWayIsNotForgotten) {
    const auto brake = make(1'000'000, 1, 1'000'000, 1'000'000);
    const auto held = brake->start(v4(1), false, 4, kNow);
    ASSERT_TRUE(held);
    for (std::uint32_t i = 0; i < 200'000; ++i) ASSERT_TRUE(brake->start(numbered(i), false, 4, kNow));
    EXPECT_FALSE(brake->start(v4(1), false, 4, kNow));
    EXPECT_EQ(brake->started(), 1u);
    // Every place held: the next are let in by the total alone.
    std::vector<Brake::Started> all;
    for (std::uint32_t i = 0; i < 200'000; ++i) all.push_back(brake->start(numbered(i), false, 4, kNow).value());
    EXPECT_GE(brake->unplaced(), 200'000 - Brake::kShards * Brake::kSets * Brake::kWays);
    all.clear();
    EXPECT_EQ(brake->started(), 1u);
}

TEST(Brake, SourceInDebt_IsNotForgottenForOneThatOwesNothing) {
    const auto brake = make(1'000'000, 100, 1, 100);
    ASSERT_GT(let_in(*brake, v4(1), false, cost::kRsa, kNow), 0);
    for (std::uint32_t i = 0; i < 100'000; ++i) (void)brake->start(numbered(i), true, cost::kEcdsa, kNow);
    EXPECT_FALSE(brake->start(v4(1), false, cost::kRsa, kNow));
}

TEST(Brake, Threads_NeverExceedTheLimitAndEndAtNought) {
    const auto brake = make(64, 1000, 1'000'000, 1'000'000);
    std::atomic<std::uint64_t> most{0};
    std::vector<std::thread> threads;
    for (std::uint8_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            std::vector<Brake::Started> mine;
            for (int i = 0; i < 20'000; ++i) {
                if (auto started = brake->start(v4(t), true, 4, kNow)) mine.push_back(std::move(*started));
                if (mine.size() > 40) mine.clear();
                std::uint64_t seen = most;
                const std::uint64_t now = mine.size();
                while (now > seen && !most.compare_exchange_weak(seen, now)) {
                }
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_LE(most, 64u);
    EXPECT_EQ(brake->started(), 0u);
}

TEST(Brake, Cost_ByKeysAndOffer) {
    handshake::Offer both, rsa;
    const handshake::Offer none;
    both.signature_schemes = {0x0804, 0x0403};
    rsa.signature_schemes = {0x0804};
    EXPECT_EQ(full_cost(both, {.ecdsa = true, .rsa = true}), cost::kEcdsa);
    EXPECT_EQ(full_cost(rsa, {.ecdsa = true, .rsa = true}), cost::kRsa);
    EXPECT_EQ(full_cost(both, {.rsa = true}), cost::kRsa);
    EXPECT_EQ(full_cost(none, {.ecdsa = true}), cost::kEcdsa);
    EXPECT_EQ(full_cost(none, {.ecdsa = true, .rsa = true}), cost::kRsa);
}

}  // namespace
}  // namespace sallyport::flows
