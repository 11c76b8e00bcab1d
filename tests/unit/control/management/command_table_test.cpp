#include "control/management/command_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::management {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Request request(std::vector<std::string> command, nlohmann::json arguments = nlohmann::json::object()) {
    return {.id = 1, .command = std::move(command), .arguments = std::move(arguments)};
}

class Commands : public testing::Test {
 protected:
    Commands() {
        table_.add(
            "show flows", "lists flows", {{"limit", "at most so many"}},
            [](const Request& asked, const Peer& peer) -> Result { return nlohmann::json{asked.arguments, peer.uid}; });
        table_.add("show ports", "lists ports", {}, [](const Request&, const Peer&) -> Result { return "ports"; });
    }
    CommandTable table_;
};

TEST_F(Commands, KnownCommand_RunsWithArgumentsAndPeer) {
    const auto result = table_.handle(request({"show", "flows"}, {{"limit", 3}}), {.uid = 42});
    ASSERT_TRUE(result);
    EXPECT_EQ(*result, nlohmann::json::parse(R"([{"limit": 3}, 42])"));
}

TEST_F(Commands, UnknownCommand_NamesTheNearest) {
    const auto result = table_.handle(request({"show", "flwos"}), {});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, "unknown_command");
    EXPECT_EQ(result.error().text, R"(unknown command "show flwos"; did you mean "show flows"?)");
    EXPECT_EQ(table_.handle(request({"reboot"}), {}).error().text,
              R"(unknown command "reboot"; "help" lists the commands)");
}

TEST_F(Commands, UnknownArgument_NamesThoseThatThereAre) {
    EXPECT_EQ(table_.handle(request({"show", "flows"}, {{"limti", 3}}), {}).error().text,
              R"("show flows" has no argument "limti"; it takes "limit")");
    const auto none = table_.handle(request({"show", "ports"}, {{"x", 3}}), {});
    EXPECT_EQ(none.error().code, "unknown_argument");
    EXPECT_EQ(none.error().text, R"("show ports" has no argument "x"; it takes none)");
}

TEST_F(Commands, Help_ListsAll) {
    const auto result = table_.handle(request({"help"}), {});
    ASSERT_TRUE(result);
    ASSERT_EQ(result->size(), 3u);
    EXPECT_EQ(
        (*result)[1],
        nlohmann::json::parse(
            R"({"name": "show flows", "help": "lists flows", "arguments": [{"name": "limit", "help": "at most so many"}]})"));
}

TEST_F(Commands, SecondOfAName_IsOurBug) {
    EXPECT_DEATH(table_.add("show ports", "", {}, {}), "check failed");
}

TEST(Nearest, OrdersByDistanceAndBoundsIt) {
    const std::vector<std::string> names{"ports", "pools", "flows", "workers"};
    EXPECT_THAT(nearest("port", names), ElementsAre("ports"));
    EXPECT_THAT(nearest("p", names), ElementsAre("ports", "pools"));  // beginnings
    EXPECT_THAT(nearest("flwos", names), ElementsAre("flows"));       // a swap is one step
    EXPECT_THAT(nearest("worker5", names), ElementsAre("workers"));
    EXPECT_THAT(nearest("zebra", names), IsEmpty());
    EXPECT_THAT(nearest("", names), IsEmpty());
    EXPECT_THAT(nearest(std::string(100000, 'p'), names), IsEmpty());
    EXPECT_THAT(nearest("a", {"a1", "a2", "a3", "a4"}), ElementsAre("a1", "a2", "a3"));
}

}  // namespace
}  // namespace sallyport::management
