#include <gtest/gtest.h>

#include "tests/unit/control/flows/dataplane.h"

/// From one configuration to the next while flows live: what is called the same is the same.
namespace sallyport::test {
namespace {

using channel::EndReason;
using channel::FlowId;
using channel::MessageType;

FlowId flow(std::uint32_t number) { return FlowId::make(0, 1, number); }

struct Changes : testing::Test {
    std::shared_ptr<flows::Runtime> first = small_runtime();
    Dataplane dataplane{first};

    /// The configuration that `edit` makes of the first one.
    [[nodiscard]] std::shared_ptr<flows::Runtime> next(const std::function<void(configuration::Configuration&)>& edit) const {
        configuration::Configuration configuration = first->configuration;
        edit(configuration);
        flows::Materials materials;
        materials.before = first;
        return std::make_shared<flows::Runtime>(std::move(configuration), materials);
    }
    void end(FlowId id, channel::FlowEnded ended = {}) {
        ended.reason = static_cast<std::uint8_t>(EndReason::finished);
        dataplane.tell(MessageType::flow_ended, id, ended);
        (void)dataplane.settle();
    }
    static configuration::Service renamed(configuration::Service service, const std::string& name) {
        service.name = name;
        return service;
    }
};

TEST_F(Changes, FlowOfAServiceThatIsOnlyPrepared_IsServed) {
    const auto second = next([](auto& configuration) { configuration.services.insert(configuration.services.begin(), renamed(configuration.services[0], "new")); });
    dataplane.open_by_id(flow(1), channel::service_id("new"));
    auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].reason, EndReason::service_removed);
    dataplane.worker.prepare(second);
    dataplane.open_by_id(flow(2), channel::service_id("new"));
    dataplane.open_by_id(flow(3), channel::service_id("www"));
    EXPECT_TRUE(dataplane.settle().empty());
    EXPECT_EQ(second->services[0]->state.flows_now, 1u);
    EXPECT_EQ(first->services[0]->state.flows_now, 1u);
    dataplane.worker.use(second);
    EXPECT_EQ(second->services[1]->state.flows_now, 1u) << "the same service, at another place";
    end(flow(2));
    end(flow(3));
    EXPECT_EQ(second->services[0]->state.flows_now, 0u);
    EXPECT_EQ(second->services[1]->state.flows_now, 0u);
}

TEST_F(Changes, PreparedAndGivenUp_IsForgotten) {
    dataplane.worker.prepare(next([](auto& configuration) { configuration.services.push_back(renamed(configuration.services[0], "new")); }));
    dataplane.worker.prepare(nullptr);
    dataplane.open_by_id(flow(1), channel::service_id("new"));
    ASSERT_EQ(dataplane.settle().size(), 1u);
}

TEST_F(Changes, ServiceRemoved_FlowsThatLiveGoOnAndLateOnesEnd) {
    dataplane.open(flow(1), 0);
    (void)dataplane.settle();
    const auto second = next([](auto& configuration) { configuration.services[0].name = "other"; });
    dataplane.worker.use(second);
    dataplane.open(flow(2), 0);   // by a worker that has not come to the new table yet
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].flow.value, flow(2).value);
    EXPECT_EQ(seen[0].reason, EndReason::service_removed);
    EXPECT_EQ(dataplane.worker.load().sessions, 1u);
    end(flow(1));
    EXPECT_EQ(first->services[0]->state.flows_now, 0u);
    EXPECT_EQ(second->services[0]->state.flows_now, 0u) << "another name is another service";
}

TEST_F(Changes, RedirectMoves_CountsGoOn) {
    dataplane.open(flow(1), 1);
    (void)dataplane.settle();
    const auto second = next([](auto& configuration) {
        configuration::Redirect redirect;
        redirect.name = "before";
        configuration.redirects.insert(configuration.redirects.begin(), redirect);
    });
    dataplane.worker.use(second);
    EXPECT_EQ(second->redirects[1]->flows_now, 1u);
    EXPECT_EQ(second->redirects[0]->flows_now, 0u);
    end(flow(1));
    EXPECT_EQ(second->redirects[1]->flows_now, 0u);
    EXPECT_EQ(second->redirects[1]->refused, 1u);
}

TEST_F(Changes, AdoptedFlows_AreTakenOffWhatTheyAreCalled) {
    first->adopt(channel::service_id("www"), channel::pool_id("web"), channel::member_id("one"), 2);
    EXPECT_EQ(first->services[0]->state.flows_now, 2u);
    EXPECT_EQ(first->pools[0]->member(0).flows_now, 2u);
    const auto second = next([](auto& configuration) {
        configuration::Member member = configuration.pools[0].members[0];
        member.name = "zero";
        configuration.pools[0].members.insert(configuration.pools[0].members.begin(), member);
    });
    dataplane.worker.use(second);
    channel::FlowEnded ended{};
    ended.adopted = ended.has_member = 1;
    ended.service = channel::service_id("www");
    ended.pool = channel::pool_id("web");
    ended.member = channel::member_id("one");
    end(flow(9), ended);
    EXPECT_EQ(second->services[0]->state.flows_now, 1u);
    EXPECT_EQ(second->pools[0]->member(0).flows_now, 0u);
    EXPECT_EQ(second->pools[0]->member(1).flows_now, 1u);
    ended.adopted = 0;
    end(flow(10), ended);
    EXPECT_EQ(second->services[0]->state.flows_now, 1u) << "one that we have refused was never counted";
}

TEST_F(Changes, ViolationsOfARemovedService_StayInTheTotal) {
    first->services[0]->state.count(policy::Violation::plain_text);
    const auto second = next([](auto& configuration) { configuration.services[0].name = "other"; });
    EXPECT_EQ(second->violations(policy::Violation::plain_text), 1u);
}

TEST_F(Changes, SharedState_IsAsItWasUntilTheChangeTakesEffect) {
    first->pools[0]->member(0).up = false;
    const auto second = next([](auto& configuration) {
        configuration.pools[0].members[0].address = SocketAddress::parse("198.51.100.9:443").value();
        configuration.brake.handshakes = 1;
    });
    EXPECT_FALSE(second->pools[0]->member(0).up);
    EXPECT_TRUE(first->brake->start(IpAddress::from_v4({192, 0, 2, 1}), true, 1, std::chrono::steady_clock::now()));
    second->take_effect();
    EXPECT_TRUE(second->pools[0]->member(0).up);
}

}  // namespace
}  // namespace sallyport::test
