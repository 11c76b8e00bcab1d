#include "control/telemetry/alarms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace sallyport::telemetry {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;

const Alarms::Clock::time_point kNow{std::chrono::seconds(1'800'000'000)};

TEST(Alarms, Raise_IsActiveUntilCleared_ThenRecent) {
    Alarms alarms;
    alarms.raise("member_down", "pool web member a", Severity::error, "no answer", kNow);
    ASSERT_THAT(alarms.active(), ElementsAre(Field(&Alarm::object, "pool web member a")));
    EXPECT_EQ(alarms.active()[0].raised, kNow);
    EXPECT_THAT(alarms.recent(), IsEmpty());
    alarms.clear("member_down", "pool web member a", kNow + 5s);
    EXPECT_THAT(alarms.active(), IsEmpty());
    ASSERT_THAT(alarms.recent(), ElementsAre(Field(&Alarm::kind, "member_down")));
    EXPECT_EQ(alarms.recent()[0].cleared, kNow + 5s);
    EXPECT_EQ(alarms.recent()[0].text, "no answer");
}

TEST(Alarms, Raise_Again_KeepsItsTimeAndNumber_RenewsItsText) {
    Alarms alarms;
    alarms.raise("port_down", "port a", Severity::warning, "first", kNow);
    alarms.raise("port_down", "port a", Severity::error, "second", kNow + 1s);
    const auto active = alarms.active();
    ASSERT_EQ(active.size(), 1u);
    EXPECT_EQ(active[0].raised, kNow);
    EXPECT_EQ(active[0].number, 1u);
    EXPECT_EQ(active[0].text, "second");
    EXPECT_EQ(active[0].severity, Severity::error);
}

TEST(Alarms, Clear_OfNone_DoesNothing) {
    Alarms alarms;
    alarms.clear("port_down", "port a", kNow);
    EXPECT_THAT(alarms.recent(), IsEmpty());
}

TEST(Alarms, Settle_RaisesWhatIsNew_ClearsWhatIsGone_LeavesOtherKinds) {
    Alarms alarms;
    alarms.raise("port_down", "port a", Severity::error, "", kNow);
    const Alarms::Condition first[] = {{"a", Severity::error, "x"}, {"b", Severity::error, "y"}};
    alarms.settle("member_down", first, kNow);
    const Alarms::Condition second[] = {{"b", Severity::error, "z"}, {"c", Severity::error, ""}};
    alarms.settle("member_down", second, kNow + 1s);
    EXPECT_THAT(alarms.active(), ElementsAre(Field(&Alarm::object, "port a"), Field(&Alarm::object, "b"), Field(&Alarm::object, "c")));
    EXPECT_THAT(alarms.recent(), ElementsAre(Field(&Alarm::object, "a")));
    alarms.settle("member_down", {}, kNow + 2s);
    EXPECT_THAT(alarms.active(), ElementsAre(Field(&Alarm::kind, "port_down")));
}

TEST(Alarms, Recent_IsBounded_NewestFirst) {
    Alarms alarms;
    for (std::size_t i = 0; i <= Alarms::kRecent; ++i) {
        alarms.raise("member_down", std::to_string(i), Severity::warning, "", kNow);
        alarms.clear("member_down", std::to_string(i), kNow);
    }
    ASSERT_EQ(alarms.recent().size(), Alarms::kRecent);
    EXPECT_EQ(alarms.recent().front().object, std::to_string(Alarms::kRecent));
}

TEST(Alarms, Changes_AreTold_OnceEach) {
    Alarms alarms;
    std::vector<std::string> told;
    alarms.on_change([](void* list, const Alarm& alarm) {
        static_cast<std::vector<std::string>*>(list)->push_back((alarm.cleared == Alarms::Clock::time_point{} ? "+" : "-") + alarm.object);
    },
                     &told);
    alarms.raise("pool_down", "p", Severity::critical, "", kNow);
    alarms.raise("pool_down", "p", Severity::critical, "", kNow);
    alarms.clear("pool_down", "p", kNow);
    alarms.clear("pool_down", "p", kNow);
    EXPECT_THAT(told, ElementsAre("+p", "-p"));
}

TEST(Alarms, ManyThreads_EachAlarmOnce) {
    Alarms alarms;
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 100; ++i) alarms.raise("member_down", std::to_string(i), Severity::warning, "", kNow);
        });
    threads.clear();
    EXPECT_EQ(alarms.active().size(), 100u);
}

}  // namespace
}  // namespace sallyport::telemetry
