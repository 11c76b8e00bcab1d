#include "control/cli/fetch.h"

#include <gtest/gtest.h>

#include "control/cli/ping.h"

namespace sallyport::cli {
namespace {

using nlohmann::json;

TEST(Base64, IsOfRfc4648) {
    EXPECT_EQ(from_base64("").value(), "");
    EXPECT_EQ(from_base64("Zg==").value(), "f");
    EXPECT_EQ(from_base64("Zm8=").value(), "fo");
    EXPECT_EQ(from_base64("Zm9vYmFy").value(), "foobar");
    EXPECT_EQ(from_base64("/+8A").value(), std::string("\xff\xef\0", 3));
    for (const char* const wrong : {"Zg", "Z===", "Zm9\n", "Zg==Zg=="}) EXPECT_FALSE(from_base64(wrong)) << wrong;
}

TEST(Ping, ProbesInTheirOrder_ThenASummary) {
    const json result = json::parse(R"({"sent": 3, "received": 1, "probes": [
        {"sequence": 1, "outcome": "reply", "round_trip_us": 310, "from": "192.0.2.1"},
        {"sequence": 2, "outcome": "error", "why": "host unreachable", "from": "192.0.2.9"},
        {"sequence": 3, "outcome": "waiting"}]})");
    std::size_t shown = 0;
    EXPECT_EQ(probe_lines(result, shown), "1: reply from 192.0.2.1, 310 us\n2: error, host unreachable (from 192.0.2.9)\n");
    EXPECT_EQ(shown, 2u);
    EXPECT_EQ(probe_lines(result, shown), "");
    EXPECT_EQ(ping_summary(result), "3 sent, 1 received, 2 lost; round trip 310 us least, 310 us mean, 310 us most\n");
}

}  // namespace
}  // namespace sallyport::cli
