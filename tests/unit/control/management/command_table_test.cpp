#include "control/management/command_table.h"
#include "crypto/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>


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
        const auto done = [](const Request&, const Peer&) -> Result { return "done"; };
        table_.add("drain", "", {}, done, {.least = Role::operator_});
        table_.add("reload", "", {}, done, {.least = Role::administrator});
    }
    /// Whether someone with this role may.
    bool may(Role role, const char* word) {
        const auto result = table_.handle(request({word}), {.role = role, .user = "ann"});
        EXPECT_TRUE(result || result.error().code == "forbidden") << result.error().code;
        return result.has_value();
    }
    static inline const Peer kReader{.role = Role::read_only};
    CommandTable table_;
};

TEST_F(Commands, KnownCommand_RunsWithArgumentsAndPeer) {
    const auto result = table_.handle(request({"show", "flows"}, {{"limit", 3}}), {.uid = 42, .role = Role::read_only});
    ASSERT_TRUE(result);
    EXPECT_EQ(*result, nlohmann::json::parse(R"([{"limit": 3}, 42])"));
}

TEST_F(Commands, UnknownCommand_NamesTheNearest) {
    const auto result = table_.handle(request({"show", "flwos"}), kReader);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, "unknown_command");
    EXPECT_EQ(result.error().text, R"(unknown command "show flwos"; did you mean "show flows"?)");
    EXPECT_EQ(table_.handle(request({"reboot"}), kReader).error().text,
              R"(unknown command "reboot"; "help" lists the commands)");
}

TEST_F(Commands, UnknownArgument_NamesThoseThatThereAre) {
    EXPECT_EQ(table_.handle(request({"show", "flows"}, {{"limti", 3}}), kReader).error().text,
              R"("show flows" has no argument "limti"; it takes "limit")");
    const auto none = table_.handle(request({"show", "ports"}, {{"x", 3}}), kReader);
    EXPECT_EQ(none.error().code, "unknown_argument");
    EXPECT_EQ(none.error().text, R"("show ports" has no argument "x"; it takes none)");
}

TEST_F(Commands, Help_ListsAll) {
    const auto result = table_.handle(request({"help"}), kReader);
    ASSERT_TRUE(result);
    ASSERT_EQ(result->size(), 5u);
    EXPECT_EQ((*result)[2]["role"], "administrator");
    EXPECT_EQ(
        (*result)[3],
        nlohmann::json::parse(
            R"({"name": "show flows", "help": "lists flows", "arguments": [{"name": "limit", "help": "at most so many"}], "role": "read-only"})"));
}

TEST_F(Commands, Role_OpensWhatNeedsItAndWhatNeedsLess) {
    EXPECT_FALSE(may(Role::none, "help"));
    EXPECT_TRUE(may(Role::read_only, "help"));
    EXPECT_FALSE(may(Role::read_only, "drain"));
    EXPECT_TRUE(may(Role::operator_, "help"));
    EXPECT_TRUE(may(Role::operator_, "drain"));
    EXPECT_FALSE(may(Role::operator_, "reload"));
    EXPECT_TRUE(may(Role::administrator, "help"));
    EXPECT_TRUE(may(Role::administrator, "drain"));
    EXPECT_TRUE(may(Role::administrator, "reload"));
}

TEST_F(Commands, Role_MayDependOnTheArguments) {
    table_.add("capture", "", {{"secrets", ""}}, [](const Request&, const Peer&) -> Result { return "done"; },
               {.least = Role::operator_, .least_with = [](const nlohmann::json& arguments) { return arguments.contains("secrets") ? Role::administrator : Role::none; }});
    std::vector<std::string> told;
    table_.audit_by({.before = [&](const Request&, const Peer&, const Access& access) -> std::expected<void, Error> {
                         told.push_back(sallyport::format("before {}", name_of(access.least)));
                         return {};
                     },
                     .after = [&](const Request&, const Peer&, const Access& access, const Result& result) { told.push_back(sallyport::format("{} {}", result ? "done" : result.error().code, name_of(access.least))); }});
    const auto code = [&](Role role, const nlohmann::json& arguments) {
        const auto result = table_.handle(request({"capture"}, arguments), {.role = role});
        return result ? std::string() : result.error().code;
    };
    EXPECT_EQ(code(Role::read_only, nlohmann::json::object()), "forbidden");   // never less than `least`
    EXPECT_EQ(code(Role::operator_, nlohmann::json::object()), "");
    EXPECT_EQ(code(Role::operator_, {{"secrets", true}}), "forbidden");
    EXPECT_EQ(code(Role::administrator, {{"secrets", true}}), "");
    EXPECT_EQ(told, (std::vector<std::string>{"forbidden operator", "before operator", "done operator", "forbidden administrator", "before administrator",
                                              "done administrator"}));
}

TEST_F(Commands, Forbidden_NamesBothRoles) {
    EXPECT_EQ(table_.handle(request({"reload"}), {.role = Role::operator_}).error().text,
              "needs the role administrator; you are operator");
    EXPECT_EQ(table_.handle(request({"show", "ports"}), {.user = "bob"}).error().text,
              "needs the role read-only; bob has none: it is in no group that management.readers, operators or "
              "administrators names");
}

TEST_F(Commands, NobodyWithoutRole_LearnsWhichCommandsThereAre) {
    EXPECT_EQ(table_.handle(request({"show", "flwos"}), {}).error().code, "forbidden");
}

TEST(RoleGroups, HighestOfTheGroupsCounts) {
    const RoleGroups groups{.administrators = 100, .operators = 200, .readers = 300};
    const std::uint32_t none[] = {4, 5}, reader[] = {4, 300}, both[] = {300, 200}, all[] = {300, 200, 100};
    EXPECT_EQ(groups.role_of(1, 1, none), Role::none);
    EXPECT_EQ(groups.role_of(1, 1, reader), Role::read_only);
    EXPECT_EQ(groups.role_of(1, 1, both), Role::operator_);
    EXPECT_EQ(groups.role_of(1, 1, all), Role::administrator);
    EXPECT_EQ(groups.role_of(1, 200, none), Role::operator_);  // the group of the process itself
    EXPECT_EQ(groups.role_of(0, 1, {}), Role::administrator);
    EXPECT_EQ(groups.role_of(geteuid(), 1, {}), Role::administrator);
    EXPECT_EQ(RoleGroups{}.role_of(1, 0, {}), Role::none);
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
