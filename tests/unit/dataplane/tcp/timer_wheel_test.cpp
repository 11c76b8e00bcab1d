#include "dataplane/tcp/timer_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace sallyport::tcp {
namespace {

constexpr Duration kTick{std::int64_t{1} << TimerWheel::kTickShift};

struct Numbered : TimerEntry {
    int number = 0;
};

std::vector<int> fired(TimerWheel& wheel, Time now) {
    std::vector<int> result;
    wheel.advance(now, [&](TimerEntry& entry) { result.push_back(static_cast<Numbered&>(entry).number); });
    return result;
}

TEST(TimerWheel, Empty_NextIsNever) {
    TimerWheel wheel;
    EXPECT_EQ(wheel.next(), Time::max());
    EXPECT_TRUE(fired(wheel, Time{std::chrono::hours(1000)}).empty());
}

TEST(TimerWheel, Entry_NeverEarlyAndAtMostATickLate) {
    TimerWheel wheel;
    Numbered entry;
    for (const Duration delay : std::initializer_list<Duration>{1ns, 1ms, 40ms, 300ms, 1s, 70s, 3600s, std::chrono::hours(500)}) {
        const Time start = Time{std::chrono::hours(3)};
        TimerWheel fresh(start);
        fresh.set(entry, start + delay);
        EXPECT_TRUE(fired(fresh, start + delay - 1ns).empty()) << delay.count();
        EXPECT_EQ(fired(fresh, start + delay + kTick).size(), 1u) << delay.count();
        EXPECT_EQ(entry.timer_at, Time::max());
    }
}

TEST(TimerWheel, Clear_DoesNotFire) {
    TimerWheel wheel;
    Numbered a, b;
    a.number = 1;
    b.number = 2;
    wheel.set(a, Time{5ms});
    wheel.set(b, Time{5ms});
    wheel.clear(a);
    EXPECT_EQ(fired(wheel, Time{10ms}), std::vector<int>{2});
    EXPECT_EQ(wheel.next(), Time::max());
}

TEST(TimerWheel, SetAgainWhileFiring_FiresInTheSameAdvance) {
    TimerWheel wheel;
    Numbered entry;
    wheel.set(entry, Time{10ms});
    int count = 0;
    wheel.advance(Time{100ms}, [&](TimerEntry& at) {
        if (++count < 3) wheel.set(at, Time{10ms + 10ms * count});
    });
    EXPECT_EQ(count, 3);
}

TEST(TimerWheel, Crowd_IsMovedAndFiredInPortions) {
    constexpr std::size_t kMany = 5000;
    static_assert(kMany > TimerWheel::kMostAtOnce);
    TimerWheel wheel;
    std::vector<Numbered> entries(kMany);
    for (Numbered& entry : entries) wheel.set(entry, Time{100s});   // two levels up
    std::size_t count = 0, calls = 0;
    const Time now{200s};
    for (; wheel.next() <= now; ++calls) {
        ASSERT_LT(calls, 100u);
        const std::size_t here = fired(wheel, now).size();
        ASSERT_LE(here, TimerWheel::kMostAtOnce);
        count += here;
    }
    EXPECT_EQ(count, kMany);
    EXPECT_GE(calls, kMany / TimerWheel::kMostAtOnce);
    EXPECT_EQ(wheel.next(), Time::max());
}

TEST(TimerWheel, CrowdHalfMoved_EntriesCanBeClearedAndSet) {
    TimerWheel wheel;
    std::vector<Numbered> entries(3 * TimerWheel::kMostAtOnce);
    for (Numbered& entry : entries) wheel.set(entry, Time{100s});
    EXPECT_TRUE(fired(wheel, Time{99s}).empty());
    for (std::size_t i = 0; i < entries.size(); i += 2) wheel.clear(entries[i]);
    wheel.set(entries[0], Time{99500ms});
    std::size_t count = 0;
    while (wheel.next() <= Time{101s}) count += fired(wheel, Time{101s}).size();
    EXPECT_EQ(count, entries.size() / 2 + 1);
}

TEST(TimerWheel, RandomEntries_MatchSortedMap) {
    std::mt19937_64 random(1);
    TimerWheel wheel;
    std::vector<Numbered> entries(200);
    std::map<int, Time> expected;
    Time now{};
    for (int i = 0; i < 200; ++i) entries[static_cast<std::size_t>(i)].number = i;
    for (int step = 0; step < 20000; ++step) {
        const int which = static_cast<int>(random() % entries.size());
        Numbered& entry = entries[static_cast<std::size_t>(which)];
        switch (random() % 4) {
            case 0:
            case 1: {
                const Time at = now + Duration{static_cast<std::int64_t>(random() % (std::uint64_t{1} << (10 + random() % 34)))};
                wheel.set(entry, at);
                expected[which] = at;
                break;
            }
            case 2:
                wheel.clear(entry);
                expected.erase(which);
                break;
            default: {
                const Time next = wheel.next();
                Time earliest = Time::max();
                for (const auto& [number, at] : expected) earliest = std::min(earliest, at);
                ASSERT_EQ(next == Time::max(), expected.empty());
                if (!expected.empty()) {
                    ASSERT_LE(next, earliest + kTick);
                }
                now += Duration{static_cast<std::int64_t>(random() % (std::uint64_t{1} << (10 + random() % 34)))};
                for (const int number : fired(wheel, now)) {
                    ASSERT_TRUE(expected.contains(number));
                    ASSERT_LE(expected[number], now);
                    expected.erase(number);
                }
                for (const auto& [number, at] : expected) ASSERT_GT(at + kTick, now);
            }
        }
    }
}

}  // namespace
}  // namespace sallyport::tcp
