#include <gtest/gtest.h>
#include <malloc.h>

#include <format>
#include <fstream>
#include <sstream>

#include "control/flows/negotiations.h"
#include "control/handshake/peer_certificate.h"
#include "crypto/sanitizers.h"
#include "tests/unit/control/flows/dataplane.h"
#include "tests/unit/control/handshake/harness.h"

/// Flows whose handshakes are done: what control keeps of them, and what it says when they end.
namespace sallyport::test {
namespace {

using channel::FlowId;
using channel::Leg;
using channel::MessageType;

FlowId flow(std::uint32_t number) { return FlowId::make(0, 1, number); }

struct Resting : testing::Test {
    Identity ca = make_ca("Test CA");
    Identity member = make_leaf({"web.internal"}, ca);
    openssl::Context clients = peer_context({.version = TLS1_3_VERSION});
    openssl::Context members = peer_context({.server = true, .version = TLS1_3_VERSION, .identity = &member, .tickets = 0});
    telemetry::FlowLog log;
    std::shared_ptr<flows::Runtime> runtime = small_runtime({.handshakes_per_source = 100'000, .cost_per_second = 1'000'000, .burst = 1'000'000}, ca);
    std::optional<Dataplane> dataplane;

    /// Both handshakes of a flow, to their ends, and the word that no ticket comes.
    void open(FlowId id) {
        Peer client(clients.get(), false, "www.example"), server(members.get(), true);
        const auto say = [&](Leg leg, std::uint64_t& offset, const Octets& octets) {
            if (octets.empty()) return;
            dataplane->tell(MessageType::stream_octets, id, channel::StreamOctets{leg, static_cast<std::uint8_t>(leg == Leg::backend), offset}, octets);
            offset += octets.size();
        };
        std::uint64_t from_client = 0, from_member = 0;
        dataplane->open(id, 0);
        say(Leg::client, from_client, client.feed({}));
        (void)hear(client, server, say, from_client, from_member);
        dataplane->tell(MessageType::backend_opened, id, channel::LegEvent{Leg::backend, 1, 0});
        while (hear(client, server, say, from_client, from_member)) {}
        ASSERT_TRUE(client.done() && server.done());
        dataplane->tell(MessageType::tickets_over, id, channel::LegEvent{Leg::backend, 1, 0});
        (void)dataplane->settle();
    }
    /// Whether anything was said.
    template <typename Say>
    bool hear(Peer& client, Peer& server, const Say& say, std::uint64_t& from_client, std::uint64_t& from_member) {
        const auto heard = dataplane->settle();
        for (const auto& seen : heard) {
            if (seen.type != MessageType::send_octets) continue;
            if (seen.leg == Leg::client)
                say(Leg::client, from_client, client.feed(octets_of(seen.payload)));
            else
                say(Leg::backend, from_member, server.feed(octets_of(seen.payload)));
        }
        return !heard.empty();
    }
};

/// Counted in octets of the C library, of all threads: a parsed certificate alone would be several thousand.
TEST_F(Resting, AFlow_TakesFewOctets) {
#if SALLYPORT_ASAN
    GTEST_SKIP() << "the sanitizer has an allocator of its own";
#endif
    constexpr std::uint32_t kBefore = 100, kFlows = 500;
    constexpr double kMost = 1024;   // 300 with its place in the table; more memory comes in portions, of up to as much as there is
    dataplane.emplace(runtime);
    const auto taken = [] {
        const auto info = mallinfo2();
        return info.uordblks + info.hblkhd;
    };
    for (std::uint32_t n = 1; n <= kBefore; ++n) ASSERT_NO_FATAL_FAILURE(open(flow(n)));
    const std::size_t before = taken();
    for (std::uint32_t n = kBefore + 1; n <= kBefore + kFlows; ++n) ASSERT_NO_FATAL_FAILURE(open(flow(n)));
    EXPECT_LT(static_cast<double>(taken()) - static_cast<double>(before), kMost * kFlows);
    EXPECT_EQ(dataplane->worker.load().sessions, kBefore + kFlows);
    EXPECT_EQ(dataplane->worker.load().handshakes, 0u);
    EXPECT_EQ(dataplane->worker.load().backend_contexts, 0u);
    const auto info = dataplane->worker.info(flow(kBefore + 1));
    ASSERT_TRUE(info);
    EXPECT_EQ(info->server_name, "www.example");
    EXPECT_EQ(info->backend_subject, "CN=web.internal");
    EXPECT_EQ(info->anchor, "CN=Test CA");
    dataplane->worker.stop();
}

TEST_F(Resting, MembersThatChangePlaces_AreNamedRightInTheRecord) {
    const TemporaryDirectory directory;
    configuration::FlowLog settings;
    settings.file = directory.path() / "flows";
    log.configure(settings, 1);
    dataplane.emplace(runtime, &log);
    ASSERT_NO_FATAL_FAILURE(open(flow(1)));
    configuration::Configuration configuration = runtime->configuration;
    auto& list = configuration.pools[0].members;
    configuration::Member other = list[0];
    other.name = "other";
    other.address = SocketAddress::parse("198.51.100.77:443").value();
    list.insert(list.begin(), other);
    flows::Materials materials;
    materials.before = runtime;
    dataplane->worker.use(std::make_shared<flows::Runtime>(std::move(configuration), materials));
    channel::FlowEnded ended{};
    ended.reason = static_cast<std::uint8_t>(channel::EndReason::finished);
    dataplane->tell(MessageType::flow_ended, flow(1), ended);
    (void)dataplane->settle();
    dataplane->worker.stop();
    log.configure({}, 1);   // what is queued is written
    std::string text;
    for (int tries = 0; tries < 500 && !text.contains('\n'); ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        std::stringstream all;
        all << std::ifstream(settings.file).rdbuf();
        text = all.str();
    }
    EXPECT_NE(text.find("\"one\""), text.npos) << text;
    EXPECT_NE(text.find("198.51.100.1:443"), text.npos) << text;
    EXPECT_EQ(text.find("\"other\""), text.npos) << text;
}

TEST(Identities, OfOneChain_AreOne) {
    const Identity ca = make_ca("Test CA"), leaf = make_leaf({"a.example"}, ca), another = make_leaf({"b.example"}, ca);
    handshake::Identities identities;
    const auto of = [&](const Identity& identity) {   // parsed anew, as it comes from the network each time
        return identities.of({handshake::SharedCertificate(X509_dup(identity.certificate.get()), X509_free), handshake::share(ca.certificate.get())});
    };
    const auto first = of(leaf);
    EXPECT_EQ(of(leaf), first);
    EXPECT_NE(of(another), first);
    EXPECT_NE(identities.of({handshake::share(leaf.certificate.get())}), first) << "the same leaf, believed for another reason";
}

TEST(ValuesInUse, WhatNobodyUses_IsForgotten) {
    handshake::ValuesInUse<int, int> values;
    const auto kept = std::make_shared<const int>(7);
    values.add(0, kept);
    for (int i = 1; i < 10'000; ++i) values.add(i, std::make_shared<const int>(i));
    EXPECT_LE(values.size(), values.kFew + 1);
    EXPECT_EQ(values.find(0), kept);
    EXPECT_EQ(values.find(9'999), nullptr);
}

TEST(Negotiations, WhatDiffers_IsNotShared) {
    flows::Negotiations negotiations;
    handshake::Negotiated one;
    one.server_name = "a.example";
    const auto first = negotiations.share(one);
    EXPECT_EQ(negotiations.share(one), first);
    one.own_key = "RSA2048";   // is in no hash
    const auto other = negotiations.share(one);
    EXPECT_NE(other, first);
    EXPECT_EQ(other->own_key, "RSA2048");
    EXPECT_EQ(first->own_key, "");
}

}  // namespace
}  // namespace sallyport::test
