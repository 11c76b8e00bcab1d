#include <gtest/gtest.h>

#include "crypto/format.h"
#include "tests/unit/control/flows/dataplane.h"
#include "tests/unit/control/handshake/harness.h"

/// Backends whose flight is longer than what the dataplane keeps of it: a chain of many certificates, or of large ones.
namespace sallyport::test {
namespace {

using channel::EndReason;
using channel::FlowId;
using channel::Leg;
using channel::MessageType;

const FlowId kFlow = FlowId::make(0, 1, 1);

/// The parameter: octets that the dataplane keeps unread (dataplane.receive_buffer when that is less than 64 KiB).
struct LargeFlight : testing::TestWithParam<std::size_t> {
    LargeFlight() {
        openssl::Context context = peer_context({.server = true, .identity = &identity});
        CertificateOptions large{.common_name = "an extra one"};
        for (int i = 0; i < 550; ++i) large.names.push_back(sallyport::format("{:03}.some-name-that-takes-octets.example", i));
        for (int i = 0; i < 4; ++i) SSL_CTX_add0_chain_cert(context.get(), make_identity(large, &ca).certificate.release());
        backend.emplace(context.get(), true);
    }
    /// The backend gets our ClientHello, and answers; what it says comes as fast as what the dataplane keeps allows.
    void answer(const std::vector<Dataplane::Seen>& hello) {
        ASSERT_FALSE(hello.empty());
        ASSERT_EQ(hello[0].type, MessageType::send_octets);
        flight = backend->feed(octets_of(hello[0].payload));
        ASSERT_GT(flight.size(), 80u * 1024);
        std::uint64_t sent = 0, consumed = 0;
        std::size_t told = 0;
        while (sent < flight.size()) {
            const std::uint64_t length = std::min({flight.size() - sent, std::size_t{4096}, GetParam() - (sent - consumed)});
            ASSERT_GT(length, 0u) << "no window for the rest: " << sent << " of " << flight.size() << " octets were sent, " << consumed << " are consumed";
            dataplane.tell(MessageType::stream_octets, flow, channel::StreamOctets{Leg::backend, 1, sent}, std::span(flight).subspan(sent, length));
            sent += length;
            for (Dataplane::Seen& each : dataplane.settle()) {
                if (each.type == MessageType::send_octets && each.leg == Leg::backend) {
                    EXPECT_GE(each.consumed, consumed);
                    EXPECT_LE(each.consumed, sent);
                    consumed = each.consumed;
                    ++told;
                }
                seen.push_back(std::move(each));
            }
        }
        EXPECT_LT(told, flight.size() / 4096);   // not for each message
    }
    Identity ca = make_ca("Test CA");
    Identity identity = make_leaf({"web.internal"}, ca);
    std::optional<Peer> backend;
    Octets flight;
    std::shared_ptr<flows::Runtime> runtime = small_runtime({}, ca);
    Dataplane dataplane{runtime};
    FlowId flow = kFlow;
    std::vector<Dataplane::Seen> seen;   ///< while the flight came
};

TEST_P(LargeFlight, OfAFlow_ComesToItsEnd) {
    const openssl::Context context = peer_context({});
    Peer client(context.get(), false, "www.example");
    const Octets hello = client.feed({});
    dataplane.open(kFlow, 0);
    dataplane.tell(MessageType::stream_octets, kFlow, channel::StreamOctets{Leg::client, 0, 0}, hello);
    (void)dataplane.settle();
    dataplane.tell(MessageType::backend_opened, kFlow, channel::LegEvent{Leg::backend, 1, 0});
    ASSERT_NO_FATAL_FAILURE(answer(dataplane.settle()));
    ASSERT_EQ(seen.back().type, MessageType::handoff);
    ASSERT_GE(seen.size(), 2u);
    (void)backend->feed(octets_of(seen[seen.size() - 2].payload));
    EXPECT_TRUE(backend->done());
}

TEST_P(LargeFlight, OfAHealthCheck_ComesToItsEnd) {
    configuration::HealthCheck health;
    health.interval_ms = health.timeout_ms = 60'000;
    dataplane.worker.use(runtime = small_runtime({}, ca, health));
    std::vector<Dataplane::Seen> asked;
    while (asked.empty()) asked = dataplane.settle();   // it begins in its own time
    ASSERT_EQ(asked[0].type, MessageType::open_probe);
    dataplane.tell(MessageType::probe_opened, flow, channel::ProbeOpened{asked[0].probe});
    dataplane.tell(MessageType::backend_opened, flow, channel::LegEvent{Leg::backend, 1, 0});
    ASSERT_NO_FATAL_FAILURE(answer(dataplane.settle()));
    ASSERT_EQ(seen.back().type, MessageType::end_leg);
    EXPECT_EQ(seen.back().reason, EndReason::probe_done);
    EXPECT_TRUE(runtime->failures->recent(0).failures.empty());
}

INSTANTIATE_TEST_SUITE_P(Kept, LargeFlight, testing::Values(std::size_t{64 * 1024}, std::size_t{32 * 1024}));

}  // namespace
}  // namespace sallyport::test
