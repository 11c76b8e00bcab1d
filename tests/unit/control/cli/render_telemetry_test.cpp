#include "control/cli/render_telemetry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::cli {
namespace {

TEST(RenderAlarms, None_SaysSo) { EXPECT_EQ(render_text(management::AlarmsView{}), "There are no alarms.\n"); }

TEST(RenderAlarms, ActiveFirst_ThenCleared_ControlCharactersEscaped) {
    management::AlarmsView view;
    view.active.push_back({.number = 2, .kind = "member_down", .object = "pool web member a", .severity = "error", .text = "no\nanswer", .raised = "2027-01-15T08:00:00Z"});
    view.recent.push_back({.number = 1, .kind = "dataplane_away", .severity = "critical", .text = "gone", .raised = "2027-01-15T07:00:00Z", .cleared = "2027-01-15T07:00:05Z"});
    EXPECT_EQ(render_text(view),
              "raised                severity  kind         object             what\n"
              "2027-01-15T08:00:00Z  error     member_down  pool web member a  no\\x0aanswer\n"
              "\nCleared:\n"
              "raised                cleared               severity  kind            object  what\n"
              "2027-01-15T07:00:00Z  2027-01-15T07:00:05Z  critical  dataplane_away  -       gone\n");
}

}  // namespace
}  // namespace sallyport::cli
