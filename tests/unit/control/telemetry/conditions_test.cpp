#include "control/telemetry/watch/conditions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::telemetry {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;

DataplaneReport with_buffers(std::uint64_t free, std::uint64_t all) {
    DataplaneReport report;
    report.workers.emplace_back();
    report.workers[0].index = 3;
    report.workers[0].pool_free = free;
    report.workers[0].pool_size = all;
    return report;
}

TEST(PortConditions, PortWithoutLink_IsOne) {
    DataplaneReport report;
    report.ports.resize(2);
    report.ports[0].name = "outside";
    report.ports[0].link = true;
    report.ports[1].name = "inside";
    EXPECT_THAT(port_conditions(report), ElementsAre(Field(&Alarms::Condition::object, "port inside")));
    EXPECT_THAT(port_conditions({}), IsEmpty());
}

/// It must not come and go with each buffer.
TEST(BufferWatch, RaisedBelowTenPercent_UntilFifteen) {
    BufferWatch watch;
    EXPECT_THAT(watch.conditions(with_buffers(120, 1000)), IsEmpty());
    EXPECT_THAT(watch.conditions(with_buffers(99, 1000)), ElementsAre(Field(&Alarms::Condition::object, "worker 3")));
    EXPECT_THAT(watch.conditions(with_buffers(120, 1000)), ElementsAre(Field(&Alarms::Condition::object, "worker 3")));
    EXPECT_THAT(watch.conditions(with_buffers(150, 1000)), IsEmpty());
    EXPECT_THAT(watch.conditions(with_buffers(120, 1000)), IsEmpty());
    EXPECT_THAT(watch.conditions(with_buffers(0, 0)), IsEmpty());
}

TEST(PolicyConditions, AlarmAndViolation_AreRaised_TheRestIsSettled) {
    std::vector<Running::Row> rows(3);
    rows[0].requirement = policy::Requirement::r9_1_4;
    rows[0].evidence = {policy::State::alarm, "", {"one", "two", "three"}};
    rows[1].requirement = policy::Requirement::r9_4_3;
    rows[1].evidence = {policy::State::violated, "why", {}};
    rows[2].requirement = policy::Requirement::r9_4_4;
    rows[2].evidence = {policy::State::not_applicable, "", {}};
    const auto found = policy_conditions(rows);
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[0].kind, "policy_9.1.4");
    ASSERT_EQ(found[0].conditions.size(), 1u);
    EXPECT_EQ(found[0].conditions[0].text, "one (and 2 more: show policy)");
    EXPECT_EQ(found[0].conditions[0].severity, Severity::error);
    EXPECT_EQ(found[1].conditions.at(0).severity, Severity::critical);
    EXPECT_EQ(found[1].conditions.at(0).object, "9.4.3 (12.1.4)");
    EXPECT_THAT(found[2].conditions, IsEmpty());
}

}  // namespace
}  // namespace sallyport::telemetry
