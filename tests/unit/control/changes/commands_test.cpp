#include "control/changes/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "control/cli/render_changes.h"
#include "control/management/views_changes.h"
#include "tests/certificates.h"

namespace sallyport::changes {
namespace {

using management::Request;
using management::Result;
using nlohmann::json;
using testing::HasSubstr;

class ChangeCommands : public testing::Test {
 protected:
    ChangeCommands() {
        const auto file = directory_.write("site.conf", "log = { level = \"info\"; };\n");
        Engine::Outside outside;
        outside.load = [](const std::string&) -> std::expected<configuration::Configuration, std::vector<std::string>> { return configuration::Configuration{}; };
        outside.change = [](configuration::Configuration, const Engine::Keep& keep) -> std::expected<void, std::vector<std::string>> {
            if (auto kept = keep(); !kept) return std::unexpected(std::vector{kept.error()});
            return {};
        };
        engine_ = std::move(*Engine::open({file, directory_.path() / "state"}, std::move(outside)));
        add_change_commands(table_, *engine_);
    }
    Result ask(const std::string& what, json arguments = json::object(), std::uint32_t uid = 0) {
        // As it comes over the socket: a number that is not negative is unsigned then.
        return table_.handle({.id = 1, .command = {"configuration", what}, .arguments = json::parse(arguments.dump())}, {.uid = uid, .role = management::Role::administrator});
    }
    template <typename View>
    View view(const std::string& what, json arguments = json::object()) {
        const auto result = ask(what, std::move(arguments));
        EXPECT_TRUE(result) << what << ": " << (result ? "" : result.error().code + ": " + result.error().text);
        return result ? result->template get<View>() : View{};
    }
    std::string code(const std::string& what, json arguments = json::object(), std::uint32_t uid = 0) {
        const auto result = ask(what, std::move(arguments), uid);
        return result ? "" : result.error().code;
    }
    test::TemporaryDirectory directory_;
    std::unique_ptr<Engine> engine_;
    management::CommandTable table_;
};

TEST_F(ChangeCommands, ASessionFromOpenToHistory) {
    const auto opened = view<management::OpenedView>("open");
    EXPECT_EQ(cli::render_text(opened), "A private candidate from revision 1.\n");
    const json session = {{"session", opened.session}};
    const auto with = [&](json more) {
        more.update(session);
        return more;
    };
    EXPECT_EQ(code("set", with({{"path", {"log", "level", "debug"}}})), "");
    EXPECT_EQ(code("set", with({{"path", {"log", "levle", "debug"}}})), "bad_path");
    EXPECT_EQ(code("set", with({{"path", {"log", "level", "loud"}}})), "bad_value");
    EXPECT_EQ(view<management::TextView>("show", with({{"format", "set"}})).text, "set log level debug\n");
    EXPECT_EQ(view<management::TextView>("show").text, "log = { level = \"info\"; };\n");
    EXPECT_THAT(view<management::TextView>("compare", session).text, HasSubstr("-log = { level = \"info\"; };\n+log = { level = \"debug\"; };\n"));
    EXPECT_TRUE(view<management::ProblemsView>("validate", session).problems.empty());
    const auto committed = view<management::CommitView>("commit", with({{"comment", "c"}, {"confirmed_minutes", 5}}));
    EXPECT_TRUE(committed.done);
    EXPECT_NE(committed.confirm_until, "");
    EXPECT_THAT(cli::render_text(committed), testing::StartsWith("Revision 2 runs.\nIt is taken back at 20"));
    EXPECT_EQ(code("confirm"), "");
    EXPECT_EQ(code("rollback", with({{"number", 1}})), "");
    EXPECT_TRUE(view<management::CommitView>("commit", session).done);
    const auto history = view<std::vector<management::RevisionView>>("history", {{"limit", 2}});
    ASSERT_EQ(history.size(), 2u);
    EXPECT_EQ(history[0].how, "rollback");
    EXPECT_TRUE(history[0].running);
    EXPECT_EQ(history[1].comment, "c");
    EXPECT_TRUE(history[1].confirmed);
    EXPECT_THAT(cli::render_text(history), HasSubstr("REVISION  TIME"));
    EXPECT_EQ(view<management::UpdateView>("update", session).base, 3u);
    EXPECT_EQ(code("load", with({{"text", "policy = { level = 3; };"}, {"how", "merge"}})), "");
    EXPECT_EQ(code("delete", with({{"path", {"policy"}}})), "");
    EXPECT_EQ(code("close", with({{"discard", true}})), "");
    EXPECT_EQ(code("show", with({{"source", "candidate"}})), "no_session");
}

TEST_F(ChangeCommands, Complete_NamesWhatComesNext) {
    const auto found = view<std::vector<management::CompletionView>>("complete", {{"path", {"log"}}});
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].word, "level");
    EXPECT_THAT(found[0].help, HasSubstr("default \"info\""));
    EXPECT_EQ(code("complete", {{"path", {"lgo", "x"}}}), "bad_path");
}

TEST_F(ChangeCommands, WrongArguments_AreRefused) {
    EXPECT_EQ(code("open", {{"kind", "shared"}}), "bad_argument");
    EXPECT_EQ(code("open", {{"kind", 1}}), "bad_argument");
    EXPECT_EQ(code("set", {{"path", "log"}}), "no_session");
    const auto session = view<management::OpenedView>("open").session;
    EXPECT_EQ(code("set", {{"session", session}, {"path", "log"}}), "bad_argument");
    EXPECT_EQ(code("set", {{"session", session}, {"path", {1}}}), "bad_argument");
    EXPECT_EQ(code("commit", {{"session", session}, {"confirmed_minutes", -1}}), "bad_argument");
    EXPECT_EQ(code("commit", {{"session", session}, {"check", "yes"}}), "bad_argument");
    EXPECT_EQ(code("rollback", {{"session", session}}), "bad_argument");
    EXPECT_EQ(code("rollback", {{"session", session}, {"number", 9}}), "no_revision");
    EXPECT_EQ(code("compare", {{"session", session}, {"with", "walking"}}), "bad_argument");
    EXPECT_EQ(code("load", {{"session", session}, {"how", "replace"}}), "bad_argument");
    EXPECT_EQ(code("set", {{"session", session}, {"path", {"log"}}}, 4242), "no_session");
    EXPECT_EQ(code("confirm"), "nothing_pending");
    EXPECT_EQ(code("show", {{"source", "revision"}, {"number", 77}}), "no_revision");
}

TEST(RenderChanges, Texts) {
    EXPECT_EQ(cli::render_text(management::CommitView{.problems = {"a:1: x"}, .confirm_until = "", .note = ""}), "a:1: x\nNot committed: 1 problem. Nothing has changed.\n");
    EXPECT_EQ(cli::render_text(management::TextView{"a\tb\x1b[31m\n"}), "a\tb\\x1b[31m\n");
    EXPECT_EQ(cli::coloured_difference("+a\n b\n"), "\x1b[32m+a\x1b[0m\n b\n");
    EXPECT_EQ(cli::render_text(management::UpdateView{.base = 3, .conflicts = {{"log level", "info", "debug", "warning"}}}),
              "SETTING    WAS   RUNNING  YOURS (KEPT)\nlog level  info  debug    warning\nThe candidate is based on revision 3; a commit would overwrite these.\n");
}

}  // namespace
}  // namespace sallyport::changes
