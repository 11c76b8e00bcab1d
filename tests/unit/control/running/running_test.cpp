#include "control/running.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "control/channel/object_id.h"
#include "crypto/format.h"
#include "tests/certificates.h"

namespace sallyport {
namespace {

using configuration::Configuration;
using testing::ElementsAre;
using testing::HasSubstr;

/// What may differ from one configuration of these tests to the next.
struct Text {
    std::string services = R"({ name = "www"; listen = [ "192.0.2.10:443" ]; pool = "web"; certificates = ( { certificate = "leaf.pem"; key = "leaf.key"; } ); })";
    std::string members = R"({ name = "a"; address = "198.51.100.1:443"; }, { name = "b"; address = "198.51.100.2:443"; })";
    std::string port = R"(addresses = [ "192.0.2.10/24", "198.51.100.9/24" ];)";
    std::string more{};

    [[nodiscard]] std::string whole() const {
        return sallyport::format(R"(policy = {{ level = 1; }};
dataplane = {{ cores = [ 0 ]; }};
ports = ( {{ name = "one"; profile = "tap"; device = "tap0"; {} }} );
pools = ( {{ name = "web"; members = ( {} ); tls: {{ trust = [ "ca.pem" ]; server_name = "web.internal"; }}; }} );
services = ( {} );
control = {{ state_directory = "state"; }};
{}
)",
                                 port, members, services, more);
    }
};

std::string service(const std::string& name, int port_number) {
    return sallyport::format(R"({{ name = "{}"; listen = [ "192.0.2.10:{}" ]; pool = "web"; certificates = ( {{ certificate = "leaf.pem"; key = "leaf.key"; }} ); }})", name,
                             port_number);
}

class RunningTest : public testing::Test {
 protected:
    RunningTest() {
        const test::Identity ca = test::make_ca("Test CA");
        ca.write(directory.path(), "ca");
        test::make_leaf({"www.example"}, ca).write(directory.path(), "leaf");
        std::filesystem::create_directory(directory.path() / "state");
        start(Text{});
    }
    void start(const Text& text) {
        running.reset();
        running = std::make_unique<Running>(read(text), workers);
        running->reach({.configure = [this](const channel::DataplaneConfiguration& wanted) -> std::expected<void, std::string> {
                            if (!refusal.empty()) return std::unexpected(refusal);
                            configured.push_back(wanted.generation);
                            last = wanted;
                            return {};
                        },
                        .ask = [this](const std::string& what, const nlohmann::json& arguments) -> std::expected<nlohmann::json, std::string> {
                            asked = what + " " + arguments.dump();
                            return nlohmann::json{{"ended", 3}};
                        }});
    }
    Configuration read(const Text& text) {
        auto loaded = configuration::load(directory.path() / "sallyport.conf", {.text = text.whole()});
        if (loaded) return std::move(*loaded);
        for (const auto& problem : loaded.error()) ADD_FAILURE() << problem.to_string();
        return {};
    }
    std::vector<std::string> change(const Text& text, const Running::Keep& keep = {}) {
        const auto changed = running->change(read(text), keep);
        return changed ? std::vector<std::string>() : changed.error();
    }

    test::TemporaryDirectory directory;
    Running::Workers workers;
    std::unique_ptr<Running> running;
    std::vector<std::uint32_t> configured;   ///< generations that the dataplane was given
    channel::DataplaneConfiguration last;
    std::string refusal, asked;
};

TEST_F(RunningTest, Change_IsTakenByTheDataplaneBeforeItIsKept) {
    const auto before = running->runtime();
    std::size_t configured_when_kept = 0;
    EXPECT_THAT(change({.services = service("new", 444) + ", " + service("www", 443)},
                       [&]() -> std::expected<void, std::string> {
                           configured_when_kept = configured.size();
                           EXPECT_EQ(running->runtime(), before) << "nothing is used before it is kept";
                           return {};
                       }),
                ElementsAre());
    EXPECT_EQ(configured_when_kept, 1u);
    EXPECT_EQ(running->configuration().services.size(), 2u);
    EXPECT_EQ(running->dataplane().generation, configured[0]);
    EXPECT_EQ(running->runtime()->services[1]->kept, before->services[0]->kept) << "counts go with the name";
    EXPECT_NE(running->runtime()->services[0]->kept, before->services[0]->kept);
}

TEST_F(RunningTest, MembersMove_StateGoesWithTheName) {
    const auto before = running->runtime();
    before->pools[0]->member(1).flows_now = 7;
    before->pools[0]->member(1).up = false;
    EXPECT_THAT(change({.members = R"({ name = "b"; address = "198.51.100.2:443"; weight = 2; }, { name = "c"; address = "198.51.100.1:443"; })"}), ElementsAre());
    const auto& pool = *running->runtime()->pools[0];
    EXPECT_EQ(&pool.member(0), &before->pools[0]->member(1));
    EXPECT_EQ(pool.member(1).flows_now, 0u) << "another name is another member";
    before->pools[0]->leave(1);
    EXPECT_EQ(pool.member(0).flows_now, 6u) << "what began before counts here";
}

TEST_F(RunningTest, MemberAtAnotherAddress_IsUpUntilChecked) {
    running->runtime()->pools[0]->member(0).up = false;
    EXPECT_THAT(change({.members = R"({ name = "a"; address = "198.51.100.3:443"; })"}), ElementsAre());
    EXPECT_TRUE(running->runtime()->pools[0]->member(0).up);
}

TEST_F(RunningTest, DataplaneRefuses_NothingChanges) {
    const auto before = running->runtime();
    refusal = "no such thing";
    bool kept = false;
    const auto problems = change({.services = service("other", 443), .more = "brake = { burst = 9; };"}, [&]() -> std::expected<void, std::string> {
        kept = true;
        return {};
    });
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_THAT(problems[0], HasSubstr("no such thing"));
    EXPECT_FALSE(kept);
    EXPECT_EQ(running->runtime(), before);
}

TEST_F(RunningTest, CannotBeKept_DataplaneGetsTheOldOneBack) {
    const std::uint32_t generation = running->dataplane().generation;
    running->runtime()->pools[0]->member(0).up = false;
    const auto problems = change({.services = service("other", 443), .members = R"({ name = "a"; address = "198.51.100.3:443"; })"},
                                 []() -> std::expected<void, std::string> { return std::unexpected("the disk is full"); });
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_THAT(problems[0], HasSubstr("the disk is full"));
    ASSERT_EQ(configured.size(), 2u);
    EXPECT_NE(configured[0], generation);
    EXPECT_EQ(configured[1], generation);
    EXPECT_EQ(running->dataplane().generation, generation);
    EXPECT_EQ(running->configuration().services[0].name, "www");
    EXPECT_FALSE(running->runtime()->pools[0]->member(0).up) << "what both share is as it was";
}

TEST_F(RunningTest, Refused_LeavesNoTraceInTheStateDirectory) {
    directory.write("state/revocation/crl-of-the-running-one", "kept");
    const auto files = [&] {
        std::set<std::string> names;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(directory.path() / "state"))
            if (entry.is_regular_file()) names.insert(entry.path().filename().string());
        return names;
    };
    const auto before = files();
    const Text hiding{.services = R"({ name = "www"; listen = [ "192.0.2.10:443" ]; pool = "web"; ech: { public_name = "www.example"; };
                                       certificates = ( { certificate = "leaf.pem"; key = "leaf.key"; } ); })"};
    refusal = "no such thing";
    EXPECT_EQ(change(hiding).size(), 1u);
    EXPECT_EQ(files(), before);
    refusal.clear();
    EXPECT_THAT(change(hiding), ElementsAre());
    EXPECT_TRUE(files().contains("www.pem"));
}

TEST_F(RunningTest, SecondAlarmOfARequirement_IsLoggedThoughItsStateStays) {
    using namespace std::chrono_literals;
    std::filesystem::create_directory(directory.path() / "roots");
    test::make_ca("Root").write(directory.path() / "roots", "root");
    const Text text{.more = "certificates = { public_roots = \"roots\"; };"};
    start(text);
    const auto logged = [&](const auto& act) {
        testing::internal::CaptureStderr();
        testing::internal::CaptureStdout();
        act();
        return testing::internal::GetCapturedStderr() + testing::internal::GetCapturedStdout();
    };
    const auto now = Running::Clock::now() + std::chrono::days(20);   // the certificate has 30
    EXPECT_THAT(logged([&] { (void)running->policy(now); }), HasSubstr("expires in"));
    EXPECT_THAT(logged([&] { (void)running->policy(now + 1s); }), testing::Not(HasSubstr("policy_alarm"))) << "nothing is new";
    test::make_ca("Another root").write(directory.path() / "roots", "another");
    EXPECT_THAT(logged([&] { running->turn(now + 2min); }), HasSubstr("has changed since it was loaded"));
    const std::string over = logged([&] { (void)running->policy(Running::Clock::now()); });
    EXPECT_THAT(over, HasSubstr("policy_alarm_over"));
    EXPECT_THAT(over, HasSubstr("expires in"));
    EXPECT_THAT(over, testing::Not(HasSubstr("has changed"))) << "that one stands";
}

TEST_F(RunningTest, WhatOnlyAStartChanges_IsRefusedWithItsLine) {
    const auto problems = change({.port = R"(mtu = 2000; addresses = [ "192.0.2.10/24", "198.51.100.9/24" ];)", .more = R"(management = { socket = "/run/other.sock"; };)"});
    ASSERT_EQ(problems.size(), 2u);
    const std::string file = (directory.path() / "sallyport.conf").string();
    EXPECT_THAT(problems[0], HasSubstr(file + ":7: management.socket = \"/run/other.sock\": cannot change while the appliance runs (it is \"/run/sallyport/control.sock\")"));
    EXPECT_THAT(problems[1], HasSubstr(file + ":3: ports.[0].mtu = 2000: cannot change while the appliance runs (it is 1500)"));
    EXPECT_THAT(problems[1], HasSubstr("at-restart"));
    EXPECT_TRUE(configured.empty());
}

TEST_F(RunningTest, AddressesAndRoutes_Change) {
    EXPECT_THAT(change({.port = R"(addresses = [ "192.0.2.10/24", "192.0.2.11/24", "198.51.100.9/24" ]; routes = ( { to = "0.0.0.0/0"; via = "192.0.2.1"; } );)"}), ElementsAre());
    EXPECT_EQ(last.ports[0].addresses.size(), 3u);
    EXPECT_EQ(last.ports[0].routes.size(), 1u);
}

TEST_F(RunningTest, Generation_IsThatOfTheContent) {
    const std::uint32_t generation = running->dataplane().generation;
    EXPECT_THAT(change({.more = "log = { level = \"debug\"; };"}), ElementsAre());
    EXPECT_EQ(running->dataplane().generation, generation) << "the dataplane's part is the same";
    EXPECT_THAT(change({.services = service("www", 444)}), ElementsAre());
    EXPECT_NE(running->dataplane().generation, generation);
    EXPECT_THAT(change({}), ElementsAre());
    EXPECT_EQ(running->dataplane().generation, generation);
}

TEST_F(RunningTest, DrainedMember_StaysSoOverChangesAndStarts) {
    ASSERT_TRUE(running->drain("web", "a", true));
    EXPECT_TRUE(running->runtime()->pools[0]->drains(0));
    EXPECT_FALSE(running->runtime()->pools[0]->drains(1));
    const Text turned{.members = R"({ name = "b"; address = "198.51.100.2:443"; }, { name = "a"; address = "198.51.100.1:443"; })"};
    EXPECT_THAT(change(turned), ElementsAre());
    EXPECT_TRUE(running->runtime()->pools[0]->drains(1));
    start(turned);
    EXPECT_TRUE(running->runtime()->pools[0]->drains(1));
    ASSERT_TRUE(running->drain("web", "", false));
    start(turned);
    EXPECT_FALSE(running->runtime()->pools[0]->drains(1));
    ASSERT_TRUE(running->drain("web", "", true));
    EXPECT_THAT(change({.members = R"({ name = "b"; address = "198.51.100.2:443"; })"}), ElementsAre());
    EXPECT_THAT(change({}), ElementsAre());
    EXPECT_FALSE(running->runtime()->pools[0]->drains(0)) << "it was gone: this one is new";
    EXPECT_TRUE(running->runtime()->pools[0]->drains(1));
}

TEST_F(RunningTest, DrainOfNobody_SaysWhoThereIs) {
    EXPECT_EQ(running->drain("wob", "a", true).error(), "there is no pool \"wob\"; there are web");
    EXPECT_EQ(running->drain("web", "c", true).error(), "pool \"web\" has no member \"c\"; it has a, b");
    EXPECT_THAT(running->drain_service("web", true).error(), HasSubstr("there are www"));
}

TEST_F(RunningTest, EnableOfWhatTheConfigurationDrains_SaysWhere) {
    EXPECT_THAT(change({.members = R"({ name = "a"; address = "198.51.100.1:443"; drain = true; }, { name = "b"; address = "198.51.100.2:443"; })"}), ElementsAre());
    const auto enabled = running->drain("web", "a", false);
    ASSERT_FALSE(enabled);
    EXPECT_THAT(enabled.error(), HasSubstr("sallyport.conf:4"));
    EXPECT_TRUE(running->runtime()->pools[0]->drains(0));
}

TEST_F(RunningTest, DrainedService_IsNotListenedFor) {
    const std::uint32_t generation = running->dataplane().generation;
    ASSERT_TRUE(running->drain_service("www", true));
    EXPECT_TRUE(last.listens.empty());
    EXPECT_NE(running->dataplane().generation, generation);
    EXPECT_THAT(change({.services = service("www", 443) + ", " + service("new", 444)}), ElementsAre());
    EXPECT_EQ(last.listens.size(), 1u);
    start({});
    EXPECT_TRUE(running->dataplane().listens.empty()) << "also after a start";
    refusal = "away";
    EXPECT_FALSE(running->drain_service("www", false));
    EXPECT_TRUE(running->drained().services.contains("www"));
    refusal.clear();
    ASSERT_TRUE(running->drain_service("www", false));
    EXPECT_EQ(running->dataplane().generation, generation);
    start({});
    EXPECT_EQ(running->dataplane().listens.size(), 1u);
}

TEST_F(RunningTest, EndFlows_AsksByIds) {
    EXPECT_EQ(running->end_flows({}).value(), 3u);
    EXPECT_EQ(asked, "end_flows {}");
    EXPECT_TRUE(running->end_flows({.service = "www", .pool = "web", .member = "a"}));
    const nlohmann::json wanted{{"service", channel::service_id("www")}, {"pool", channel::pool_id("web")}, {"member", channel::member_id("a")}};
    EXPECT_EQ(asked, "end_flows " + wanted.dump());
    EXPECT_TRUE(running->end_flows({.client = "[2001:db8::1]:99"}));
    EXPECT_EQ(asked, R"(end_flows {"client":"2001:db8::1/128","client_port":99})");
    EXPECT_TRUE(running->end_flows({.client = "192.0.2.0/24"}));
    EXPECT_EQ(asked, R"(end_flows {"client":"192.0.2.0/24"})");
    EXPECT_TRUE(running->end_flows({.flow = "01-00000a-0000000b"}));
    EXPECT_EQ(asked, sallyport::format("end_flows {{\"flow\":{}}}", channel::FlowId::make(1, 10, 11).value));
    EXPECT_FALSE(running->end_flows({.member = "a"}));
    EXPECT_FALSE(running->end_flows({.client = "nobody"}));
    EXPECT_FALSE(running->end_flows({.flow = "7"}));
}

}  // namespace
}  // namespace sallyport
