#include <gtest/gtest.h>

#include "tests/unit/control/flows/dataplane.h"

namespace sallyport::test {
namespace {

using channel::EndReason;
using channel::FlowId;
using channel::MessageType;

const FlowId kFlow = FlowId::make(0, 1, 1);
constexpr std::uint32_t kService = 0, kRedirect = 1;

struct Redirects : testing::Test {
    std::shared_ptr<flows::Runtime> runtime = small_runtime();
    Dataplane dataplane{runtime};
    flows::Redirect& counts() { return *runtime->redirects[0]; }
    void end(EndReason reason) {
        channel::FlowEnded ended{};
        ended.reason = static_cast<std::uint8_t>(reason);
        dataplane.tell(MessageType::flow_ended, kFlow, ended);
        (void)dataplane.settle();
    }
};

TEST_F(Redirects, Request_IsAnsweredAndTheFlowEnded) {
    dataplane.open(kFlow, kRedirect);
    dataplane.octets(kFlow, 0, "GET /x?y HTTP/1.1\r\nHost: exam");
    EXPECT_TRUE(dataplane.settle().empty());
    EXPECT_EQ(counts().flows_now, 1u);
    dataplane.octets(kFlow, 29, "ple.com:80\r\n\r\n");
    dataplane.octets(kFlow, 43, "GET / HTTP/1.1\r\nHost: second.example\r\n\r\n");
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_TRUE(seen[0].payload.starts_with("HTTP/1.1 308 "));
    EXPECT_NE(seen[0].payload.find("\r\nLocation: https://example.com/x?y\r\n"), std::string::npos);
    EXPECT_EQ(seen[1].type, MessageType::end_leg);
    EXPECT_EQ(seen[1].reason, EndReason::redirected);
    end(EndReason::redirected);
    EXPECT_EQ(counts().redirected, 1u);
    EXPECT_EQ(counts().refused, 0u);
    EXPECT_EQ(counts().flows_now, 0u);
    EXPECT_EQ(dataplane.worker.load().redirects, 0u);
}

TEST_F(Redirects, Garbage_400) {
    dataplane.open(kFlow, kRedirect);
    dataplane.octets(kFlow, 0, "\x16\x03\x01");
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_TRUE(seen[0].payload.starts_with("HTTP/1.1 400 "));
    EXPECT_EQ(seen[1].reason, EndReason::redirect_refused);
    end(EndReason::redirect_refused);
    EXPECT_EQ(counts().refused, 1u);
}

TEST_F(Redirects, ClosedOrTooSlow_CountedOnce) {
    dataplane.open(kFlow, kRedirect);
    dataplane.octets(kFlow, 0, "GET /");
    dataplane.tell(MessageType::leg_closed, kFlow, channel::LegEvent{channel::Leg::client, 0, 0});
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].reason, EndReason::redirect_refused);
    end(EndReason::redirect_refused);
    EXPECT_EQ(counts().refused, 1u);
    dataplane.open(kFlow, kRedirect);
    end(EndReason::redirect_refused);
    EXPECT_EQ(counts().refused, 2u);
}

TEST_F(Redirects, NoSuchService_Refused) {
    dataplane.open(kFlow, 2);
    const auto seen = dataplane.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].reason, EndReason::service_removed);
}

TEST_F(Redirects, TlsService_GarbageLeavesOneRecordAndItsCounters) {
    dataplane.open(kFlow, kService);
    dataplane.octets(kFlow, 0, "GET / HTTP/1.1\r\n\r\n");
    (void)dataplane.settle();
    end(EndReason::client_not_tls);
    const auto failures = runtime->failures->recent(0);
    ASSERT_EQ(failures.failures.size(), 1u);
    EXPECT_EQ(failures.failures[0].reason, "client_not_tls");
    EXPECT_EQ(failures.failures[0].violation, "plain_text");
    EXPECT_EQ(failures.failures[0].service, "www");
    EXPECT_EQ(runtime->violations(policy::Violation::plain_text), 1u);
    EXPECT_EQ(runtime->services[0]->state.handshakes_failed, 1u);
    EXPECT_EQ(runtime->services[0]->state.flows_now, 0u);
    EXPECT_EQ(runtime->brake->started(), 0u);
}

}  // namespace
}  // namespace sallyport::test
