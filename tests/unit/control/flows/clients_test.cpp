#include <gtest/gtest.h>

#include <algorithm>

#include "control/handshake/peer_certificate.h"
#include "tests/unit/control/flows/dataplane.h"
#include "tests/unit/control/handshake/harness.h"

namespace sallyport::test {
namespace {

using channel::EndReason;
using channel::FlowId;
using channel::MessageType;

constexpr std::uint32_t kService = 0, kRedirect = 1;

FlowId flow(std::uint32_t number) { return FlowId::make(0, 1, number); }

/// What a source may hold that sends nothing, or half a ClientHello.
struct Connections : testing::Test {
    std::shared_ptr<flows::Runtime> runtime = small_runtime({.connections = 10, .connections_per_source = 3});
    Dataplane dataplane{runtime};
    void end(std::uint32_t number) {
        channel::FlowEnded ended{};
        ended.reason = static_cast<std::uint8_t>(EndReason::client_handshake_timeout);
        dataplane.tell(MessageType::flow_ended, flow(number), ended);
    }
};

TEST_F(Connections, OneSource_HoldsSoManyWithoutAHandshake) {
    for (std::uint32_t i = 1; i <= 2; ++i) dataplane.open(flow(i), kService);
    dataplane.octets(flow(2), 0, std::string_view("\x16\x03\x01\x02\x00\x01", 6));   // begins, and goes no further
    dataplane.open(flow(3), kRedirect);
    EXPECT_TRUE(dataplane.settle().empty());
    for (const std::uint32_t service : {kService, kRedirect}) {
        dataplane.open(flow(4), service);
        const auto seen = dataplane.settle();
        ASSERT_EQ(seen.size(), 1u);
        EXPECT_EQ(seen[0].type, MessageType::end_leg);
        EXPECT_EQ(seen[0].reason, EndReason::client_braked);
    }
    EXPECT_EQ(dataplane.worker.load().sessions, 2u);
    EXPECT_EQ(runtime->services[0]->state.handshakes_failed, 1u);
    end(1);
    dataplane.open(flow(5), kService);
    EXPECT_TRUE(dataplane.settle().empty());
    for (const std::uint32_t i : {2u, 3u, 5u}) end(i);
    (void)dataplane.settle();
    EXPECT_EQ(runtime->brake->connected(), 0u);
}

/// No octet of it came, so that there is no handshake to ask what went wrong.
TEST_F(Connections, ClientGoesWithoutAWord_IsAFailedHandshakeWithItsReason) {
    dataplane.open(flow(1), kService);
    (void)dataplane.settle();
    EXPECT_EQ(dataplane.worker.load().handshakes, 1u);
    end(1);
    (void)dataplane.settle();
    EXPECT_EQ(dataplane.worker.load().sessions, 0u);
    EXPECT_EQ(runtime->brake->connected(), 0u);
    EXPECT_EQ(runtime->services[0]->state.handshakes_failed, 1u);
    const auto failures = runtime->failures->recent(0).failures;
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].reason, channel::name(EndReason::client_handshake_timeout));
    EXPECT_EQ(failures[0].text, channel::sentence(EndReason::client_handshake_timeout));
    EXPECT_EQ(failures[0].source, "192.0.2.1:1234");
}

TEST_F(Connections, ClientClosesWithoutAWord_IsAnsweredOnce) {
    dataplane.open(flow(1), kService);
    channel::LegEvent closed{};
    closed.leg = channel::Leg::client;
    dataplane.tell(MessageType::leg_closed, flow(1), closed);
    dataplane.octets(flow(1), 0, std::string_view("\x16\x03\x01", 3));   // of a dataplane out of order: nothing begins any more
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].type, MessageType::end_leg);
    EXPECT_EQ(seen[0].reason, EndReason::client_handshake_closed);
    EXPECT_EQ(dataplane.worker.load().handshakes, 0u);
    end(1);
    (void)dataplane.settle();
    EXPECT_EQ(runtime->services[0]->state.handshakes_failed, 1u) << "counted once";
}

TEST_F(Connections, DataplaneGone_NoneIsHeld) {
    for (std::uint32_t i = 1; i <= 3; ++i) dataplane.open(flow(i), kService);
    (void)dataplane.settle();
    EXPECT_EQ(runtime->brake->connected(), 3u);
    dataplane.worker.detach();
    EXPECT_EQ(runtime->brake->connected(), 0u);
}

/// More clients than can be served at once: what the dataplane says of all of them is there at once.
struct Crowd : testing::Test {
    static constexpr std::uint32_t kClients = 400;
    std::shared_ptr<flows::Runtime> runtime = small_runtime({.connections = 1000, .connections_per_source = 1000, .handshakes = 1000, .handshakes_per_source = 1000, .cost_per_second = 1'000'000, .burst = 1'000'000});
    Dataplane dataplane{runtime};
    Crowd() {
        const auto context = peer_context({});
        const Octets hello = Peer(context.get(), false, "www.example").feed({});
        for (std::uint32_t i = 1; i <= kClients; ++i) {
            dataplane.open(flow(i), kService);
            dataplane.octets(flow(i), 0, {reinterpret_cast<const char*>(hello.data()), hello.size()});
        }
    }
    /// Numbers of the flows whose clients are answered, in turn.
    std::vector<std::uint32_t> answered() {
        std::vector<std::uint32_t> result;
        for (const auto& seen : dataplane.settle())
            if (seen.type == MessageType::send_octets && seen.leg == channel::Leg::client && !std::ranges::contains(result, seen.flow.index())) result.push_back(seen.flow.index());
        return result;
    }
};

TEST_F(Crowd, ThoseThatHaveGoneMeanwhile_CostNoHandshake) {
    constexpr std::uint32_t kPatient = 10;
    for (std::uint32_t i = 1; i <= kClients - kPatient; ++i) {
        channel::FlowEnded ended{};
        ended.reason = static_cast<std::uint8_t>(EndReason::client_reset);
        dataplane.tell(MessageType::flow_ended, flow(i), ended);
    }
    const auto served = answered();
    for (std::uint32_t i = kClients - kPatient + 1; i <= kClients; ++i) EXPECT_TRUE(std::ranges::contains(served, i)) << i;
    EXPECT_LT(served.size(), kPatient + 15 * handshake::OperationBatch::kMost) << "as many as are begun together for every portion of messages that is read before it has read that they have gone";
    EXPECT_EQ(dataplane.worker.load().sessions, kPatient);
}

TEST_F(Crowd, TooMany_TheLastAndTheFirstAreServedInTurn) {
    const auto served = answered();
    ASSERT_EQ(served.size(), kClients);
    const auto turn = [&](std::uint32_t client) { return std::ranges::find(served, client) - served.begin(); };
    // Not compared with another's turn: any may have been the last for the moment in which it was chosen.
    EXPECT_LT(turn(kClients), kClients / 2) << "who came last has the most of its time-out left";
    for (const std::uint32_t client : {1, 5}) EXPECT_LT(turn(client), 20) << "who came first is not left to its time-out";
}

TEST_F(Crowd, DataplaneGone_NoneWaits) {
    (void)dataplane.settle();
    dataplane.worker.detach();
    EXPECT_EQ(dataplane.worker.load().waiting, 0u);
    EXPECT_EQ(dataplane.worker.load().sessions, 0u);
}

/// A client with a certificate, whose handshake is under way while the configuration changes.
struct UnderWay : testing::Test {
    Identity ca = make_ca("Clients"), other_ca = make_ca("Others");
    Identity client = make_identity({.common_name = "client", .names = {"c.example"}, .extended_key_usage = "clientAuth"}, &ca);
    std::shared_ptr<flows::Runtime> first = trusting({&ca}, {});

    /// A runtime of the same generation whose service trusts these CAs for clients, with these names.
    static std::shared_ptr<flows::Runtime> trusting(const std::vector<const Identity*>& authorities, const std::vector<std::string>& names) {
        return small_runtime({}, make_ca("Test CA"), {}, [&](configuration::Configuration& configuration) {
            auto& auth = configuration.services[0].client_auth;
            auth.mode = configuration::ClientAuthMode::required;
            for (const Identity* authority : authorities) auth.anchors.push_back(handshake::share(authority->certificate.get()));
            auth.names = names;
        });
    }
    static std::string_view view(const Octets& octets) { return {reinterpret_cast<const char*>(octets.data()), octets.size()}; }

    /// The client's whole handshake with a change to `second` before its last flight; what the dataplane is told then.
    std::vector<Dataplane::Seen> finish(const std::shared_ptr<flows::Runtime>& second) {
        Dataplane dataplane(first);
        const auto context = peer_context({.version = TLS1_3_VERSION, .identity = &client});
        Peer peer(context.get(), false, "www.example");
        const Octets hello = peer.feed({});
        dataplane.open(flow(1), kService);
        dataplane.octets(flow(1), 0, view(hello));
        Octets flight;
        for (const auto& seen : dataplane.settle()) {
            const auto octets = octets_of(seen.payload);
            flight.insert(flight.end(), octets.begin(), octets.end());
        }
        const Octets last = peer.feed(flight);
        EXPECT_TRUE(peer.done());
        dataplane.worker.use(second);
        dataplane.worker.recheck(second);
        dataplane.octets(flow(1), hello.size(), view(last));
        auto seen = dataplane.settle();
        dataplane.worker.stop();
        return seen;
    }
    static bool has(const std::vector<Dataplane::Seen>& seen, MessageType type, EndReason reason = EndReason::none) {
        return std::ranges::any_of(seen, [&](const auto& each) { return each.type == type && each.reason == reason; });
    }
};

TEST_F(UnderWay, NothingChanged_IsHandedOff) {
    const auto seen = finish(trusting({&ca}, {}));
    EXPECT_TRUE(has(seen, MessageType::handoff));
    EXPECT_FALSE(has(seen, MessageType::end_leg, EndReason::identity_revoked));
}

TEST_F(UnderWay, AnotherCa_IsNotHandedOff) {
    const auto seen = finish(trusting({&other_ca}, {}));
    EXPECT_FALSE(has(seen, MessageType::handoff));
    EXPECT_TRUE(has(seen, MessageType::end_leg, EndReason::identity_revoked));
    EXPECT_EQ(first->violations(policy::Violation::client_certificate_invalid), 1u);
}

TEST_F(UnderWay, NameNoLongerLetIn_IsNotHandedOff) {
    const auto seen = finish(trusting({&ca}, {"d.example"}));
    EXPECT_FALSE(has(seen, MessageType::handoff));
    EXPECT_TRUE(has(seen, MessageType::end_leg, EndReason::identity_revoked));
}

/// A flow of a service that is only prepared has a pool of the same name as before, which trusts another CA.
TEST(Prepared, BackendHandshake_IsHeldToTheConfigurationThatItBeganUnder) {
    const Identity ca = make_ca("Before"), next_ca = make_ca("After");
    const auto first = small_runtime({}, ca);
    configuration::Configuration configuration = first->configuration;
    configuration.services[0].name = "new";
    configuration.pools[0].tls->anchors = {handshake::share(next_ca.certificate.get())};
    flows::Materials materials;
    materials.before = first;
    const auto second = std::make_shared<flows::Runtime>(std::move(configuration), materials);
    Dataplane dataplane(first);
    dataplane.worker.prepare(second);

    const auto client_context = peer_context({.version = TLS1_3_VERSION});
    Peer client(client_context.get(), false, "www.example");
    const Octets hello = client.feed({});
    dataplane.open_by_id(flow(1), channel::service_id("new"));
    dataplane.octets(flow(1), 0, {reinterpret_cast<const char*>(hello.data()), hello.size()});
    (void)dataplane.settle();
    dataplane.tell(MessageType::backend_opened, flow(1), channel::LegEvent{channel::Leg::backend, 1, 0});
    Octets to_member;
    for (const auto& seen : dataplane.settle())
        if (seen.type == MessageType::send_octets && seen.leg == channel::Leg::backend) to_member = Octets(octets_of(seen.payload).begin(), octets_of(seen.payload).end());
    const Identity member = make_leaf({"web.internal"}, next_ca);
    const auto member_context = peer_context({.server = true, .version = TLS1_3_VERSION, .identity = &member});
    Peer server(member_context.get(), true);
    const Octets flight = server.feed(to_member);
    ASSERT_FALSE(flight.empty());
    dataplane.tell(MessageType::stream_octets, flow(1), channel::StreamOctets{channel::Leg::backend, 1, 0}, flight);
    const auto seen = dataplane.settle();
    EXPECT_TRUE(std::ranges::any_of(seen, [](const auto& each) { return each.type == MessageType::handoff; }));
    EXPECT_EQ(second->violations(policy::Violation::backend_not_trusted), 0u);
    dataplane.worker.stop();
}

/// Members that have sent nothing since their handshake, so that tickets may still come: libssl's objects wait for them, but not one a flow.
TEST(IdleFlows, FewKeepAHandshakeForTickets) {
    constexpr std::uint32_t kFlows = 300;
    const Identity ca = make_ca("Test CA"), member = make_leaf({"web.internal"}, ca);
    Dataplane dataplane(small_runtime({.handshakes_per_source = 1000, .cost_per_second = 1'000'000, .burst = 1'000'000}, ca));
    const auto client_context = peer_context({.version = TLS1_3_VERSION}), member_context = peer_context({.server = true, .version = TLS1_3_VERSION, .identity = &member});
    std::size_t handed_off = 0;
    for (std::uint32_t n = 1; n <= kFlows; ++n) {
        Peer client(client_context.get(), false, "www.example"), server(member_context.get(), true);
        const Octets hello = client.feed({});
        dataplane.open(flow(n), kService);
        dataplane.octets(flow(n), 0, {reinterpret_cast<const char*>(hello.data()), hello.size()});
        (void)dataplane.settle();
        dataplane.tell(MessageType::backend_opened, flow(n), channel::LegEvent{channel::Leg::backend, 1, 0});
        Octets flight;
        for (const auto& seen : dataplane.settle())
            if (seen.type == MessageType::send_octets && seen.leg == channel::Leg::backend) flight = server.feed(octets_of(seen.payload));
        ASSERT_FALSE(flight.empty()) << "flow " << n;
        dataplane.tell(MessageType::stream_octets, flow(n), channel::StreamOctets{channel::Leg::backend, 1, 0}, flight);
        for (const auto& seen : dataplane.settle()) handed_off += seen.type == MessageType::handoff ? 1 : 0;
    }
    EXPECT_EQ(handed_off, kFlows);
    EXPECT_EQ(dataplane.worker.load().sessions, kFlows);
    EXPECT_EQ(dataplane.worker.load().backend_contexts, 256u);
    dataplane.worker.stop();
}

/// The gate: what the load check would have refused is not spoken to either.
TEST(PlainText, IsNeverHandedOffFromLevel2On) {
    const auto until = [](int level, std::vector<configuration::Waiver> waivers) {
        const auto runtime = small_runtime({}, make_ca("Test CA"), {}, [&](configuration::Configuration& configuration) {
            configuration.policy_level = level;
            configuration.waivers = std::move(waivers);
            configuration.pools[0].tls.reset();
        });
        return runtime->pools[0]->may_be_plain(std::chrono::system_clock::now());
    };
    const auto waiver = [](const char* requirement, int days) {
        return configuration::Waiver{requirement, "pool web", "it will change", std::chrono::system_clock::now() + std::chrono::days(days), {}};
    };
    EXPECT_TRUE(until(1, {}));
    EXPECT_FALSE(until(2, {}));
    EXPECT_FALSE(until(2, {waiver("9.2.2", 5)}));
    EXPECT_TRUE(until(2, {waiver("9.2.2", 5), waiver("9.3.1", 5)}));
    EXPECT_FALSE(until(2, {waiver("9.2.2", 5), waiver("9.3.1", -1)}));
}

TEST_F(Connections, PlainTextBackend_IsRefusedByTheGate) {
    const auto plain = small_runtime({}, make_ca("Test CA"), {}, [](configuration::Configuration& configuration) {
        configuration.policy_level = 2;
        configuration.pools[0].tls.reset();
    });
    Dataplane other(plain);
    const auto context = peer_context({.version = TLS1_3_VERSION});
    Peer peer(context.get(), false, "www.example");
    const Octets hello = peer.feed({});
    other.open(flow(1), kService);
    other.octets(flow(1), 0, {reinterpret_cast<const char*>(hello.data()), hello.size()});
    (void)other.settle();
    other.tell(MessageType::backend_opened, flow(1), channel::LegEvent{channel::Leg::backend, 1, 0});
    const auto seen = other.settle();
    ASSERT_FALSE(seen.empty());
    for (const auto& each : seen) EXPECT_NE(each.type, MessageType::handoff);
    EXPECT_EQ(plain->violations(policy::Violation::backend_plain_text), 1u);
    other.worker.stop();
}

}  // namespace
}  // namespace sallyport::test
