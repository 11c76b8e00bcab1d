#include "control/management/views.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sallyport::management {
namespace {

using nlohmann::json;

TEST(Views, Iso8601_IsUtcWithWholeSeconds) {
    using namespace std::chrono;
    EXPECT_EQ(iso8601(sys_days{2026y / November / 3} + 14h + 5min + 9s + 999ms), "2026-11-03T14:05:09Z");
    EXPECT_EQ(iso8601(system_clock::time_point{}), "1970-01-01T00:00:00Z");
}

TEST(Views, FlowRoundTrip_KeepsEveryMember) {
    FlowView flow;
    flow.id = "00-000001-00000007";
    flow.version = "TLS 1.3";
    flow.resumed = true;
    flow.client_in = 0xffff'ffff'ffff'ffff;  // as an unsigned 64-bit integer, not a float
    flow.client_tcp.state = "ESTABLISHED";
    flow.client_tcp.srtt_us = 1500;
    const json once = flow;
    const json again = json::parse(once.dump()).get<FlowView>();
    EXPECT_EQ(once, again);
    EXPECT_EQ(again["client_in"].get<std::uint64_t>(), 0xffff'ffff'ffff'ffff);
    EXPECT_EQ(again["client_tcp"]["srtt_us"], 1500);
}

TEST(Views, MissingMember_KeepsItsDefault) {
    const auto member = json::parse(R"({"name": "a", "added_later": 1})").get<MemberView>();
    EXPECT_EQ(member.name, "a");
    EXPECT_EQ(member.weight, 1u);
}

TEST(Views, MemberOfTheWrongType_Throws) {
    EXPECT_THROW(static_cast<void>(json::parse(R"({"name": 1})").get<MemberView>()), json::exception);
}

}  // namespace
}  // namespace sallyport::management
