#include "control/cli/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/management/views.h"

namespace sallyport::cli {
namespace {

using nlohmann::json;
using namespace sallyport::management;

std::vector<Sample> ports(std::uint64_t packets, std::uint64_t octets) {
    PortView port;
    port.name = "outside";
    port.link = true;
    port.packets_in = packets;
    port.octets_in = octets;
    return find_monitored("ports")->samples(json(std::vector{port}));
}

TEST(Monitor, Rates_AreASecond) {
    const Monitored& monitored = *find_monitored("ports");
    EXPECT_EQ(rates_text(monitored, ports(100, 0), ports(300, 3000), 2, 10),
              "port     packets in/s  packets out/s  octets in/s  octets out/s  missed/s  errors/s  no buffer/s  link\n"
              "outside           100              0      1.50 kB           0 B         0         0            0  up\n");
    const json rates = rates_json(monitored, ports(100, 0), ports(300, 3000), 2);
    EXPECT_EQ(rates[0]["packets_in_per_s"], 100.0);
    EXPECT_EQ(rates[0]["name"], "outside");
}

TEST(Monitor, CounterThatFell_HasBegunAnew) {
    EXPECT_EQ(rates_json(*find_monitored("ports"), ports(1000, 0), ports(10, 0), 1)[0]["packets_in_per_s"], 10.0);
}

TEST(Monitor, Flows_BusiestFirst_OnlySoMany) {
    const Monitored& monitored = *find_monitored("flows");
    std::vector<Sample> before, now;
    for (int i = 0; i < 5; ++i) {
        before.push_back({std::to_string(i), {0, 0, 0, 0}, {"c", "s", "m", "open"}});
        now.push_back({std::to_string(i), {static_cast<std::uint64_t>(i) * 100, 0, 0, 0}, {"c", "s", "m", "open"}});
    }
    const std::string text = rates_text(monitored, before, now, 1, 2);
    EXPECT_LT(text.find("\n4 "), text.find("\n3 "));
    EXPECT_THAT(text, testing::HasSubstr("3 more\n"));
    EXPECT_EQ(rates_text(monitored, {}, {}, 1, 2), "There are no flows.\n");
}

TEST(Monitor, Everything_IsInTheTree) {
    for (const Command& command : commands(Mode::operational))
        if (command.action == Action::monitor) {
            const std::string what = std::string(command.words).substr(8);
            ASSERT_NE(find_monitored(what), nullptr) << what;
            EXPECT_EQ(command.asks, "show " + what);
        }
    EXPECT_EQ(find_monitored("weather"), nullptr);
}

}  // namespace
}  // namespace sallyport::cli
