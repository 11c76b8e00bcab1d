#include "world.h"

/// Octets pass from leg to leg: suites, sizes, back pressure, loss, many flows.
namespace sallyport::flow::test {
namespace {

using crypto::ContentType;

struct Suites {
    std::uint16_t client, backend;
};
class Forwarding : public testing::TestWithParam<Suites> {};

constexpr std::uint16_t kAll[] = {0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9};

std::vector<Suites> combinations() {
    std::vector<Suites> result;
    for (const std::uint16_t client : kAll)
        for (const std::uint16_t backend : kAll) result.push_back({client, backend});
    for (const std::uint16_t client : kAll) result.push_back({client, 0});
    return result;
}
INSTANTIATE_TEST_SUITE_P(Flow, Forwarding, testing::ValuesIn(combinations()), [](const auto& tested) {
    char name[16];
    std::snprintf(name, sizeof name, "%04x_%04x", tested.param.client, tested.param.backend);
    return std::string(name);
});

TEST_P(Forwarding, OpenFlow_RandomRecordsBothWays_ArriveEqual) {
    World world({.seed = std::uint64_t{GetParam().client} * 65536 + GetParam().backend, .client_suite = GetParam().client, .backend_suite = GetParam().backend});
    Session& s = world.open();
    Octets to_backend, to_client;
    for (int i = 0; i < 60; ++i) {
        const auto size = [&] { return 1 + world.random()() % (world.random()() % 4 == 0 ? 16384 : 700); };
        const Octets up = random_octets(world.random(), size()), down = random_octets(world.random(), size());
        s.client.send(up);
        s.backend.send(down);
        to_backend.insert(to_backend.end(), up.begin(), up.end());
        to_client.insert(to_client.end(), down.begin(), down.end());
        if (i % 7 == 0) {
            s.client.write_step = 1 + world.random()() % 3000;   // splits of segments that no record knows of
            world.run_for(2ms);
        }
    }
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == to_backend.size() && s.client.data.size() == to_client.size(); }, 60s));
    EXPECT_EQ(s.backend.data, to_backend);
    EXPECT_EQ(s.client.data, to_client);
    EXPECT_EQ(s.client.bad_records + s.backend.bad_records, 0u);
    s.client.close_in_order();
    s.backend.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.ended && s.client.finished && s.backend.finished; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::finished);
    EXPECT_TRUE(s.client.orderly());
    EXPECT_TRUE(s.backend.orderly());
    EXPECT_EQ(s.result.client_octets_in, to_backend.size());
    EXPECT_EQ(s.result.backend_octets_out, to_backend.size());
    EXPECT_EQ(s.result.client_octets_out, to_client.size());
    EXPECT_EQ(s.result.has_member, 1);
    EXPECT_EQ(world.engine().counters().clear_octets_to_backend, GetParam().backend == 0 ? to_backend.size() : 0);
    ASSERT_TRUE(world.run_until_empty());
    EXPECT_EQ(world.appliance_buffers_in_use(), 0u);
}

TEST(FlowForwarding, OpenFlow_RecordInSegmentsOfOneOctet_Arrives) {
    World world({});
    Session& s = world.open();
    s.client.write_step = 1;
    const Octets octets = random_octets(world.random(), 900);
    s.client.send(octets);
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 900; }, 30s));
    EXPECT_EQ(s.backend.data, octets);
}

TEST(FlowForwarding, OpenFlow_PaddedRecords_PaddingIsNotPassedOn) {
    World world({});
    Session& s = world.open();
    for (std::size_t content : {std::size_t{0}, std::size_t{1}, std::size_t{500}}) {
        // TLSInnerPlaintext by hand: content, type, zeros (RFC 8446 5.4). The type that seal() adds stands where a zero would: so one
        // octet of the content is the type, and what follows it is read as padding only when seal() adds a zero, as type 0.
        Octets inner = random_octets(world.random(), content);
        inner.push_back(std::byte{23});
        inner.resize(inner.size() + 300);
        s.client.send_record(static_cast<ContentType>(0), inner);
    }
    s.client.send(octets_of("end"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() >= 504; }, 5s));
    EXPECT_EQ(s.backend.data.size(), 504u);
    EXPECT_EQ(s.backend.records, 3u);   // the one without content is not passed on
}

TEST(FlowForwarding, HandedOff_ProxyHeader_ComesFirst) {
    for (const std::uint16_t suite : {0x1301, 0xc02b, 0}) {
        World world({.backend_suite = suite});
        Session& s = world.connect();
        s.prepend = octets_of("PROXY header");
        s.client.send(octets_of("data that the client sent early"));
        ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() >= 43; }, 5s));
        EXPECT_EQ(s.backend.data, octets_of("PROXY headerdata that the client sent early"));
    }
}

TEST(FlowForwarding, SlowReader_BulkFromBackend_BuffersStayBounded) {
    for (const std::uint16_t backend : {0x1302, 0}) {
        World world({.backend_suite = backend, .receive_buffer = 65536, .send_buffer = 65536});
        Session& s = world.open();
        s.client.read_limit = 1000;
        const Octets record = random_octets(world.random(), 16000);
        for (int i = 0; i < 60; ++i) s.backend.send(record);
        world.run_for(5s);
        const std::uint32_t held = static_cast<std::uint32_t>(world.appliance_buffers_in_use());
        EXPECT_LT(held, 250u);   // 2 x 64 KB in segments of 1448 octets, acknowledgments under way
        EXPECT_GT(s.backend.out.size() - s.backend.out_sent, 200'000u);
        EXPECT_LT(s.client.data.size(), 20'000u);
        const std::uint64_t busy = world.turns_busy;
        world.run_for(1s);
        EXPECT_LT(world.turns_busy - busy, 20u) << "a flow that cannot move keeps the worker busy";
        s.client.read_limit = ~std::size_t{0};
        ASSERT_TRUE(world.run_until([&] { return s.client.data.size() == 960'000; }, 60s));
        s.client.close_in_order();
        s.backend.close_in_order();
        ASSERT_TRUE(world.run_until([&] { return s.ended; }, 10s));
        EXPECT_EQ(s.reason(), EndReason::finished);
    }
}

TEST(FlowForwarding, SlowReaders_BothDirections_NeitherBlocksTheOther) {
    World world({.receive_buffer = 65536, .send_buffer = 65536});
    Session& s = world.open();
    s.client.read_limit = 500;   // stuck
    const Octets record = random_octets(world.random(), 8000);
    for (int i = 0; i < 40; ++i) s.backend.send(record);
    world.run_for(1s);
    for (int i = 0; i < 40; ++i) s.client.send(record);
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 320'000; }, 30s));
}

TEST(FlowForwarding, SmallestBuffers_LargestRecords_Move) {
    for (const std::uint16_t suite : {0x1301, 0xc02b}) {
        World world({.client_suite = suite, .receive_buffer = 32768, .send_buffer = 32768});
        Session& s = world.open();
        for (int i = 0; i < 10; ++i) s.client.send(Octets(16384, std::byte{1}));
        ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 163'840; }, 30s));
    }
}

class FlowLoss : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Flow, FlowLoss, testing::Range(1, 9));

TEST_P(FlowLoss, LossyNetwork_BulkBothWays_ArrivesEqual) {
    World world({.seed = static_cast<std::uint64_t>(GetParam()), .client_suite = GetParam() % 2 != 0 ? std::uint16_t{0x1303} : std::uint16_t{0xc02f},
                 .loss = 0.03});
    Session& s = world.connect();
    ASSERT_TRUE(world.run_until([&] { return s.id.value != 0 && world.is_open(s); }, 20s));
    Octets sent, sent_back;
    for (int i = 0; i < 40; ++i) {
        const Octets up = random_octets(world.random(), 1 + world.random()() % 16384), down = random_octets(world.random(), 1 + world.random()() % 9000);
        s.client.send(up);
        s.backend.send(down);
        sent.insert(sent.end(), up.begin(), up.end());
        sent_back.insert(sent_back.end(), down.begin(), down.end());
        if (s.client.keys.suite->version == crypto::Version::tls13 && i % 10 == 3) s.client.send_key_update(true);
        if (i % 10 == 6) s.backend.send_key_update(i % 20 == 6);
    }
    s.client.close_in_order();
    s.backend.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.ended && s.client.finished && s.backend.finished; }, 300s));
    EXPECT_EQ(s.backend.data, sent);
    EXPECT_EQ(s.client.data, sent_back);
    EXPECT_EQ(s.reason(), EndReason::finished);
    ASSERT_TRUE(world.run_until_empty());
    EXPECT_EQ(world.appliance_buffers_in_use(), 0u);
}

TEST(FlowForwarding, ThousandFlows_EachEchoes_AllEndAndNothingStays) {
    World world({.appliance_buffers = 32767});
    constexpr std::size_t kFlows = 1000;
    for (std::size_t i = 0; i < kFlows; ++i) {
        Session& s = world.connect();
        s.client.send(Octets(700 + i, static_cast<std::byte>(i)));
        if (i % 50 == 0) world.run_for(1ms);
    }
    ASSERT_TRUE(world.run_until(
        [&] {
            for (std::size_t i = 0; i < kFlows; ++i)
                if (world.session(i).backend.data.size() != 700 + i) return false;
            return true;
        },
        60s));
    EXPECT_EQ(world.engine().flows(), kFlows);
    for (std::size_t i = 0; i < kFlows; ++i) {
        Session& s = world.session(i);
        EXPECT_EQ(s.backend.data, Octets(700 + i, static_cast<std::byte>(i)));
        s.backend.send(octets_of("answer"));
        s.backend.close_in_order();
        s.client.close_in_order();
    }
    ASSERT_TRUE(world.run_until_empty());
    for (std::size_t i = 0; i < kFlows; ++i) {
        EXPECT_EQ(world.session(i).reason(), EndReason::finished);
        EXPECT_EQ(world.session(i).client.data, octets_of("answer"));
    }
    EXPECT_EQ(world.appliance_buffers_in_use(), 0u);
    EXPECT_EQ(world.engine().counters().flows_opened, world.engine().counters().flows_ended);
}

TEST(FlowForwarding, ManyBusyFlows_OneAmongThem_IsNotStarved) {
    World world({});
    std::vector<Session*> flows;
    for (int i = 0; i < 40; ++i) flows.push_back(&world.open());
    for (Session* s : flows)
        for (int i = 0; i < 200; ++i) s->client.send(Octets(600, std::byte{7}));
    ASSERT_TRUE(world.run_until([&] { return flows.back()->backend.data.size() == 120'000; }, 60s));
    for (Session* s : flows) EXPECT_GT(s->backend.data.size(), 20'000u);
}

TEST(FlowForwarding, NoBufferFree_ThenSome_GoesOn) {
    World world({});
    Session& s = world.open();
    world.run_for(100ms);
    std::vector<rte_mbuf*> taken;
    for (rte_mbuf* buffer = rte_pktmbuf_alloc(world.appliance_pool()); buffer != nullptr; buffer = rte_pktmbuf_alloc(world.appliance_pool()))
        taken.push_back(buffer);
    for (int i = 0; i < 8; ++i) {   // what receives, nothing to send with
        rte_pktmbuf_free(taken.back());
        taken.pop_back();
    }
    s.client.send(Octets(9000, std::byte{3}));
    world.run_for(300ms);
    for (rte_mbuf* buffer : taken) rte_pktmbuf_free(buffer);
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 9000; }, 30s));
    EXPECT_EQ(s.backend.data, Octets(9000, std::byte{3}));
}

}  // namespace
}  // namespace sallyport::flow::test
