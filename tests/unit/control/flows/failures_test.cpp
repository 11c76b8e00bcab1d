#include "control/flows/failures.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sallyport::flows {
namespace {

using namespace std::chrono_literals;

struct Failures : testing::Test {
    handshake::Offer offer;
    handshake::Negotiated negotiated;
    handshake::Failure failure;
    FailedHandshake failed;
    void fail(FailureLog::Clock::time_point when) {
        if (log.wants(when)) log.add(failed, when);
    }
    FailureLog log;
    const FailureLog::Clock::time_point now{1'000'000s};
    void SetUp() override {
        offer.versions = {0x0303, 0x0301};
        offer.suites = {0xc02b, 0x002f};
        offer.groups = {0x001d, 0x0100};
        offer.server_name = negotiated.server_name = "secret.example";
        failure.text = "no certificate for \"secret.example\"";
        failure.alert = 112;
        failure.violation = policy::Violation::unknown_name;
        failed.source = "192.0.2.1:1234";
        failed.offer = &offer;
        failed.negotiated = &negotiated;
        failed.failure = &failure;
        failed.reason = channel::EndReason::client_handshake_refused;
    }
};

TEST_F(Failures, View_NamesWhatIsKnownAndNumbersTheRest) {
    const auto view = view_of(failed, now);
    EXPECT_EQ(view.side, "client");
    EXPECT_EQ(view.versions, (std::vector<std::string>{"TLS 1.2", "TLS 1.0"}));
    EXPECT_EQ(view.suites, (std::vector<std::string>{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "0x002f"}));
    EXPECT_EQ(view.groups, (std::vector<std::string>{"x25519", "0x0100"}));
    EXPECT_EQ(view.violation, "unknown_name");
    EXPECT_EQ(view.requirement, "9.1.4");
    EXPECT_EQ(view.final_requirement, "12.2.2");
    EXPECT_EQ(view.alert_by, "us");
    EXPECT_EQ(view.server_name, "secret.example");
}

TEST_F(Failures, View_InnerNameIsNowhereInIt) {
    negotiated.ech = handshake::EchOutcome::accepted;
    const auto view = view_of(failed, now);
    EXPECT_EQ(view.server_name, "protected");
    EXPECT_EQ(nlohmann::json(view).dump().find("secret"), std::string::npos);
}

TEST_F(Failures, View_OfAHostileOfferIsBounded) {
    offer.suites.assign(handshake::Offer::kMostValues, 0x1234);
    offer.beyond.suites = 29'936;
    offer.alpn.assign(handshake::Offer::kMostProtocols, std::string(255 * 4, 'x'));
    failure.peer_subject = failure.chain_error = failure.text = std::string(60'000, 'x');
    const auto view = view_of(failed, now);
    EXPECT_EQ(view.suites.size(), handshake::Offer::kMostValues + 1);
    EXPECT_EQ(view.suites.back(), "and 29936 more");
    EXPECT_LT(nlohmann::json(view).dump().size(), 24'000u);
}

TEST_F(Failures, Ring_KeepsTheNewestThousand) {
    for (std::size_t i = 0; i < FailureLog::kKept + 5; ++i) {
        failed.flow = std::to_string(i);
        fail(now + std::chrono::seconds(i));
    }
    const auto all = log.recent(0);
    ASSERT_EQ(all.failures.size(), FailureLog::kKept);
    EXPECT_EQ(all.total, FailureLog::kKept + 5);
    EXPECT_EQ(all.failures.front().flow, std::to_string(FailureLog::kKept + 4));
    EXPECT_EQ(all.failures.back().flow, "5");
    EXPECT_EQ(log.recent(2).failures.size(), 2u);
}

TEST_F(Failures, Log_IsBoundedASecond) {
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    for (std::uint64_t i = 0; i < FailureLog::kLoggedASecond + 30; ++i) fail(now);
    EXPECT_EQ(log.recent(1).not_logged, 30u);
    fail(now + 1s);
    EXPECT_EQ(log.recent(1).not_logged, 30u);
    const std::string text = testing::internal::GetCapturedStderr() + testing::internal::GetCapturedStdout();
    EXPECT_NE(text.find("handshake_failures_suppressed"), std::string::npos);
    EXPECT_NE(text.find("count=30"), std::string::npos);
}

TEST_F(Failures, MoreInASecondThanTheRingHolds_AreCountedAndNotDescribed) {
    for (std::size_t i = 0; i < FailureLog::kKept; ++i) ASSERT_TRUE(log.wants(now)) << i;
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(log.wants(now));
    EXPECT_EQ(log.recent(1).total, FailureLog::kKept + 3);
    EXPECT_EQ(log.recent(1).not_logged, 3u);
    EXPECT_TRUE(log.wants(now + 1s));
}

}  // namespace
}  // namespace sallyport::flows
