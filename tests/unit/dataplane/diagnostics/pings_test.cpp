#include "dataplane/pings.h"

#include <gtest/gtest.h>

namespace sallyport {
namespace {

using What = network::EchoHeard::What;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
Time at(Duration since) { return Time{} + since; }

network::EchoHeard heard(const Pings::Due& probe, Time when, What what = What::reply, std::uint8_t code = 0) {
    return {.what = what, .code = code, .from = what == What::reply ? probe.to : ip("192.0.2.254"), .to = probe.to, .identifier = probe.identifier, .sequence = probe.sequence, .at = when};
}

class PingsTest : public testing::Test {
 protected:
    std::uint64_t start(std::uint32_t count, const char* to = "192.0.2.1", std::uint16_t identifier = 77) {
        const auto id = pings.start({.to = ip(to), .count = count, .interval = 1s, .patience = 500ms, .octets = 56}, identifier, at(0s));
        EXPECT_TRUE(id);
        return *id;
    }
    nlohmann::json probe(std::uint64_t id, std::size_t index) { return (*pings.read(id))["probes"][index]; }
    Pings pings;
};

TEST_F(PingsTest, RequestsAreDueByTheInterval) {
    const auto id = start(2);
    EXPECT_EQ(pings.due(at(0s)).size(), 1u);
    EXPECT_TRUE(pings.due(at(999ms)).empty());
    const auto second = pings.due(at(1s));
    ASSERT_EQ(second.size(), 1u);
    EXPECT_EQ(second[0].sequence, 1);
    EXPECT_TRUE(pings.due(at(5s)).empty());
    EXPECT_EQ((*pings.read(id))["sent"], 2);
}

TEST_F(PingsTest, Reply_IsMatchedAndTimed) {
    const auto id = start(1);
    const auto due = pings.due(at(0s));
    pings.heard(heard(due[0], at(1500us)));
    EXPECT_EQ(probe(id, 0)["outcome"], "reply");
    EXPECT_EQ(probe(id, 0)["round_trip_us"], 1500);
    EXPECT_EQ(probe(id, 0)["from"], "192.0.2.1");
    EXPECT_TRUE((*pings.read(id))["done"].get<bool>());
    EXPECT_FALSE(pings.running());
    pings.heard(heard(due[0], at(9s)));   // a second one changes nothing
    EXPECT_EQ(probe(id, 0)["round_trip_us"], 1500);
}

TEST_F(PingsTest, OthersReplies_AreNotTaken) {
    const auto id = start(1);
    const auto due = pings.due(at(0s));
    auto wrong = heard(due[0], at(1ms));
    wrong.identifier = 78;
    pings.heard(wrong);
    wrong = heard(due[0], at(1ms));
    wrong.sequence = 1;   // never sent
    pings.heard(wrong);
    wrong = heard(due[0], at(1ms));
    wrong.to = ip("192.0.2.9");
    pings.heard(wrong);
    EXPECT_EQ(probe(id, 0)["outcome"], "waiting");
}

TEST_F(PingsTest, Errors_SayWhatAndWho) {
    const auto id = start(3);
    pings.heard(heard(pings.due(at(0s))[0], at(1ms), What::unreachable, 1));
    EXPECT_EQ(probe(id, 0)["outcome"], "error");
    EXPECT_EQ(probe(id, 0)["why"], "host unreachable");
    EXPECT_EQ(probe(id, 0)["from"], "192.0.2.254");
    pings.heard(heard(pings.due(at(1s))[0], at(1s), What::time_exceeded));
    EXPECT_NE(probe(id, 1)["why"].get<std::string>().find("hop limit"), std::string::npos);
    pings.not_sent(pings.due(at(2s))[0], "no route to the destination");
    EXPECT_EQ(probe(id, 2)["outcome"], "error");
    EXPECT_EQ((*pings.read(id))["received"], 0);
    EXPECT_FALSE(pings.running());
}

TEST_F(PingsTest, Silence_TimesOut) {
    const auto id = start(1);
    static_cast<void>(pings.due(at(0s)));
    EXPECT_TRUE(pings.overdue(at(499ms)).empty());
    const auto late = pings.overdue(at(500ms));
    ASSERT_EQ(late.size(), 1u);
    pings.timed_out(late[0], "no reply");
    EXPECT_EQ(probe(id, 0)["outcome"], "timeout");
    EXPECT_TRUE(pings.overdue(at(9s)).empty());
    pings.heard(heard(late[0], at(600ms)));   // too late
    EXPECT_EQ(probe(id, 0)["outcome"], "timeout");
}

TEST_F(PingsTest, ManyAtATime_AreRefused_EndedOnesGiveWay) {
    for (std::size_t i = 0; i < Pings::kMost; ++i) start(1);
    EXPECT_FALSE(pings.start({.to = ip("192.0.2.1")}, 1, at(0s)));
    const auto due = pings.due(at(0s));
    pings.heard(heard(due[0], at(1ms)));
    EXPECT_TRUE(pings.start({.to = ip("192.0.2.1")}, 1, at(0s)));
    EXPECT_FALSE(pings.read(due[0].ping));
}

}  // namespace
}  // namespace sallyport
