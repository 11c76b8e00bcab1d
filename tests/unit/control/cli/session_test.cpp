/// Configuration mode and what else the CLI does by itself, against a management server that keeps a candidate of its own.

#include "control/cli/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "control/daemon/exit_code.h"
#include "control/management/server.h"
#include "crypto/format.h"

namespace sallyport::cli {
namespace {

using namespace std::chrono_literals;
using management::Peer;
using management::Request;
using management::Result;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class Configuring : public testing::Test {
 protected:
    void SetUp() override {
        directory_ = sallyport::format("/tmp/sallyport_session_test_{}", getpid());
        std::filesystem::create_directories(directory_);
        const auto add = [&](const char* name, std::vector<std::string> arguments, json answer) {
            std::vector<management::CommandTable::Argument> known;
            for (std::string& argument : arguments) known.push_back({std::move(argument), ""});
            table_.add(name, "", std::move(known), [this, name, answer](const Request& request, const Peer&) -> Result {
                asked_.push_back(json{{"command", name}, {"arguments", request.arguments}});
                if (!refuse_.empty() && std::string(name) == refuse_) return std::unexpected(management::Error{refuse_code_, "it was refused"});
                return answers_.contains(name) ? answers_[name] : answer;
            });
        };
        add("configuration open", {"kind", "new"}, {{"session", "token"}, {"kind", "private"}, {"resumed", false}, {"others", json::array()}});
        add("configuration close", {"session", "discard"}, json::object());
        add("configuration show", {"source", "session", "number", "path", "format"}, {{"text", "pool = \"web\";\n"}});
        add("configuration set", {"session", "path"}, json::object());
        add("configuration delete", {"session", "path"}, json::object());
        add("configuration load", {"session", "text", "how"}, {{"problems", json::array()}});
        add("configuration compare", {"session", "with"}, {{"text", "+new\n-old\n"}});
        add("configuration validate", {"session"}, {{"problems", {"x.conf:3: pools: is wrong"}}});
        add("configuration commit", {"session", "comment", "confirmed_minutes", "check", "at_restart"},
            {{"revision", 7}, {"done", true}, {"problems", json::array()}, {"confirm_until", ""}, {"note", ""}});
        add("configuration confirm", {}, json::object());
        add("configuration rollback", {"session", "number"}, json::object());
        add("configuration update", {"session"}, {{"conflicts", json::array()}});
        add("show pools", {}, json::array());
        auto server = management::Server::open(directory_ + "/control.sock", [this](const Request& r, const Peer& p) { return table_.handle(r, p); });
        ASSERT_TRUE(server) << server.error();
        server_ = std::move(*server);
        thread_ = std::thread([this] {
            while (!stop_) server_->poll(5ms);
        });
        Caller caller;
        caller.home = directory_;
        session_ = std::make_unique<Session>(Link(directory_ + "/control.sock", 5s, "tests"), Output(caller, false, false));
    }
    void TearDown() override {
        stop_ = true;
        thread_.join();
        server_.reset();
        std::filesystem::remove_all(directory_);
    }

    /// Carries out a line; what it prints is kept in out_ and error_.
    int line(const std::string& text) {
        testing::internal::CaptureStdout();
        testing::internal::CaptureStderr();
        const auto done = session_->carry_out(split(text));
        out_ = testing::internal::GetCapturedStdout();
        error_ = testing::internal::GetCapturedStderr();
        fault_ = done ? "" : done.error().text;
        return done ? *done : exit_code::kUsage;
    }
    json last() const { return asked_.empty() ? json() : asked_.back()["arguments"]; }

    std::string directory_, out_, error_, fault_, refuse_, refuse_code_ = "bad_path";
    management::CommandTable table_;
    std::unique_ptr<management::Server> server_;
    std::thread thread_;
    std::atomic<bool> stop_ = false;
    std::vector<json> asked_;
    std::map<std::string, json> answers_;
    std::unique_ptr<Session> session_;
};

TEST_F(Configuring, Configure_OpensAndExitCloses) {
    EXPECT_EQ(line("configure exclusive"), 0);
    EXPECT_EQ(last(), json({{"kind", "exclusive"}}));
    EXPECT_EQ(session_->mode(), Mode::configuration);
    EXPECT_EQ(line("exit"), 0);
    EXPECT_EQ(last(), json({{"session", "token"}, {"discard", false}}));
    EXPECT_EQ(session_->mode(), Mode::operational);
    EXPECT_FALSE(session_->over());
    EXPECT_EQ(line("exit"), 0);
    EXPECT_TRUE(session_->over());
}

TEST_F(Configuring, Refused_StaysInOperationalMode) {
    refuse_ = "configuration open";
    refuse_code_ = "forbidden";
    EXPECT_EQ(line("configure"), exit_code::kNoPermission);
    EXPECT_EQ(error_, "sallyport: it was refused\n");
    EXPECT_EQ(session_->mode(), Mode::operational);
}

TEST_F(Configuring, Paths_BeginAtTheEditedPlace) {
    line("configure");
    EXPECT_EQ(line("edit services www"), 0);
    EXPECT_THAT(session_->at(), ElementsAre("services", "www"));
    EXPECT_EQ(line("set idle_timeout_s 600"), 0);
    EXPECT_EQ(last(), json({{"session", "token"}, {"path", {"services", "www", "idle_timeout_s", "600"}}}));
    EXPECT_EQ(line("delete alpn \"h2\""), 0);
    EXPECT_EQ(last()["path"], json({"services", "www", "alpn", "h2"}));
    EXPECT_EQ(line("up"), 0);
    EXPECT_THAT(session_->at(), ElementsAre("services"));
    EXPECT_EQ(line("show"), 0);
    EXPECT_EQ(last()["path"], json({"services"}));
    EXPECT_EQ(out_, "pool = \"web\";\n");
    EXPECT_EQ(line("top"), 0);
    EXPECT_TRUE(session_->at().empty());
}

TEST_F(Configuring, Exit_GoesBackToWhereEditCameFrom) {
    line("configure");
    line("edit services");
    line("edit www");
    line("exit");
    EXPECT_THAT(session_->at(), ElementsAre("services"));
    line("exit");
    EXPECT_TRUE(session_->at().empty());
    EXPECT_EQ(session_->mode(), Mode::configuration);
    line("edit services www");
    line("exit configuration-mode");
    EXPECT_EQ(session_->mode(), Mode::operational);
}

TEST_F(Configuring, Edit_OfWhatIsNotThere_StaysWhereItWas) {
    line("configure");
    refuse_ = "configuration show";
    EXPECT_EQ(line("edit nothing"), exit_code::kFailure);
    EXPECT_TRUE(session_->at().empty());
}

TEST_F(Configuring, Compare_WithRunningOrARevision) {
    line("configure");
    EXPECT_EQ(line("show | compare"), 0);
    EXPECT_EQ(last(), json({{"session", "token"}, {"with", "running"}}));
    EXPECT_EQ(out_, "+new\n-old\n");
    line("show | compare rollback 3 | match new");
    EXPECT_EQ(last()["with"], 3);
    EXPECT_EQ(out_, "+new\n");
    line("compare rollback 4");
    EXPECT_EQ(last()["with"], 4);
    EXPECT_EQ(line("run show pools | compare"), exit_code::kUsage);
}

TEST_F(Configuring, Commit_TellsTheRevision) {
    line("configure");
    EXPECT_EQ(line("commit confirmed 5 comment \"new pool\" at-restart"), 0);
    EXPECT_EQ(last(), json({{"session", "token"}, {"comment", "new pool"}, {"confirmed_minutes", 5}, {"check", false}, {"at_restart", true}}));
    EXPECT_EQ(out_, "commit complete: revision 7\n");
    answers_["configuration commit"] = {{"revision", 8}, {"done", true}, {"problems", json::array()}, {"confirm_until", "2026-11-03T14:05:09Z"}};
    line("commit confirmed");
    EXPECT_THAT(out_, HasSubstr("taken back at 2026-11-03T14:05:09Z unless"));
    EXPECT_EQ(line("commit and-quit"), 0);
    EXPECT_EQ(session_->mode(), Mode::operational);
}

TEST_F(Configuring, CommitRefused_NamesEveryProblem) {
    line("configure");
    answers_["configuration commit"] = {{"revision", 0}, {"done", false}, {"problems", {"x.conf:3: a", "x.conf:4: b"}}};
    EXPECT_EQ(line("commit and-quit"), exit_code::kConfiguration);
    EXPECT_EQ(error_, "sallyport: x.conf:3: a\nx.conf:4: b\n");
    EXPECT_EQ(session_->mode(), Mode::configuration);
    EXPECT_EQ(line("validate"), exit_code::kConfiguration);
    EXPECT_EQ(error_, "sallyport: x.conf:3: pools: is wrong\n");
}

TEST_F(Configuring, LoadAndSave_AreOfTheCallersFiles) {
    line("configure");
    std::ofstream(directory_ + "/new.conf") << "policy = { level = 3; };\n";
    EXPECT_EQ(line("load merge " + directory_ + "/new.conf"), 0);
    EXPECT_EQ(last(), json({{"session", "token"}, {"text", "policy = { level = 3; };\n"}, {"how", "merge"}}));
    EXPECT_EQ(out_, "load complete\n");
    EXPECT_EQ(line("load override " + directory_ + "/none.conf"), exit_code::kOsError);
    EXPECT_EQ(line("save ~/saved.conf"), 0);
    std::ifstream saved(directory_ + "/saved.conf");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(saved), {}), "pool = \"web\";\n");
    EXPECT_EQ(line("show | save " + directory_ + "/shown.conf"), 0);
    EXPECT_TRUE(std::filesystem::exists(directory_ + "/shown.conf"));
    EXPECT_EQ(out_, "");
}

TEST_F(Configuring, Leaving_WithChanges_KeepsThemWhereNobodyIsAsked) {
    line("configure");
    refuse_ = "configuration close";
    refuse_code_ = "has_changes";
    EXPECT_EQ(line("exit"), 0);
    EXPECT_EQ(session_->mode(), Mode::operational);
    EXPECT_THAT(error_, HasSubstr("they are kept"));
}

TEST_F(Configuring, Run_IsOperational) {
    line("configure");
    EXPECT_EQ(line("run sh poo"), 0);
    EXPECT_EQ(out_, "There are no pools.\n");
    EXPECT_EQ(line("run show nothing"), exit_code::kUsage);
    EXPECT_EQ(line("run configure"), exit_code::kUsage);
    EXPECT_EQ(line("show pools"), 0);   // of the candidate
    EXPECT_EQ(last()["path"], json({"pools"}));
}

TEST_F(Configuring, ConfirmUpdateRollback) {
    EXPECT_EQ(line("confirm"), 0);
    EXPECT_EQ(asked_.back()["command"], "configuration confirm");
    line("configure");
    EXPECT_EQ(line("rollback 3"), 0);
    EXPECT_EQ(last()["number"], 3);
    EXPECT_EQ(line("update"), 0);
    answers_["configuration update"] = {
        {"conflicts", json::array({{{"path", "services www pool"}, {"base", "a"}, {"running", "b"}, {"candidate", "c"}}})}};
    EXPECT_EQ(line("update"), exit_code::kFailure);
    EXPECT_THAT(error_, HasSubstr("services www pool: was a, is b now, and c in your candidate"));
}

TEST_F(Configuring, ShowConfiguration_IsTheRunningOne) {
    EXPECT_EQ(line("show configuration services www | display set"), 0);
    EXPECT_EQ(last(), json({{"source", "running"}, {"path", {"services", "www"}}, {"format", "set"}}));
    EXPECT_EQ(line("show configuration revision 5"), 0);
    EXPECT_EQ(last(), json({{"source", "revision"}, {"number", 5}, {"path", json::array()}, {"format", "text"}}));
}

TEST_F(Configuring, ControlAway_IsAnAnswer_AndLaterItIsThereAgain) {
    line("configure");
    stop_ = true;
    thread_.join();
    server_.reset();
    EXPECT_EQ(line("set policy level 3"), exit_code::kControlAway);
    EXPECT_THAT(error_, HasSubstr("control is not running"));
    auto server = management::Server::open(directory_ + "/control.sock", [this](const Request& r, const Peer& p) { return table_.handle(r, p); });
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    stop_ = false;
    thread_ = std::thread([this] {
        while (!stop_) server_->poll(5ms);
    });
    EXPECT_EQ(line("set policy level 3"), 0);
    EXPECT_EQ(last()["session"], "token");
}

}  // namespace
}  // namespace sallyport::cli
