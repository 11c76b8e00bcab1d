#include "control/cli/render_any.h"

#include <gtest/gtest.h>

namespace sallyport::cli {
namespace {

using nlohmann::json;

TEST(RenderAny, ArrayOfObjects_IsATable) {
    const json rows = json::parse(R"([{"why": "", "name": "a", "octets": 1500, "up": true, "age_ns": 1500000000},
                                      {"name": "b\u001b", "octets": 0, "up": false, "age_ns": 0, "names": ["x", "y"]}])");
    EXPECT_EQ(render_any(rows),
              "name      age  names   octets  up\n"
              "a      1.50 s  -      1.50 kB  yes\n"
              "b\\x1b    0 ns  x, y       0 B  no\n");
}

TEST(RenderAny, Object_IsFieldsAndTables) {
    const json object = json::parse(R"({"file": "/x", "id": 7, "inner": {"a": 1}, "list": [{"name": "n"}], "empty": "", "none": null})");
    EXPECT_EQ(render_any(object),
              "id    7\n"
              "file  /x\n"
              "\n"
              "inner\n"
              "  a  1\n"
              "\n"
              "list\n"
              "  name\n"
              "  n\n");
}

TEST(RenderAny, Simple) {
    EXPECT_EQ(render_any(json::object()), "done\n");
    EXPECT_EQ(render_any(json::array()), "There are none.\n");
    EXPECT_EQ(render_any(json({{"text", "a\nb"}})), "text\n  a\n  b\n");
    EXPECT_EQ(render_any(json({"a", "b"})), "a\nb\n");
    EXPECT_EQ(render_any(json(7)), "7\n");
    EXPECT_EQ(render_any(json(nullptr)), "");
}

}  // namespace
}  // namespace sallyport::cli
