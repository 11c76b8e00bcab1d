#include "world.h"

/// Ends of legs and flows: in order, half, truncated, reset, alerts, bad records, deadlines.
namespace sallyport::flow::test {
namespace {

using crypto::ContentType;

/// The same from both sides, on both versions.
struct Case {
    std::uint16_t suite;
    bool from_client;
};
class FlowEnding : public testing::TestWithParam<Case> {
 protected:
    World world_{World::Settings{.client_suite = GetParam().suite, .backend_suite = GetParam().suite}};
    Session& s_ = world_.open();
    Peer& from_ = GetParam().from_client ? s_.client : s_.backend;
    Peer& to_ = GetParam().from_client ? s_.backend : s_.client;
    [[nodiscard]] bool tls13() const { return crypto::find_cipher_suite(GetParam().suite)->version == crypto::Version::tls13; }
    [[nodiscard]] EndReason by(EndReason client, EndReason backend) const { return GetParam().from_client ? client : backend; }
    void expect_ends(EndReason reason) {
        EXPECT_TRUE(world_.run_until([&] { return s_.ended; }, 5s)) << "the flow does not end";
        world_.run_for(10ms);
        EXPECT_EQ(name(s_.reason()), name(reason));
    }
    /// The other side gets no orderly end, and the sender the alert.
    void expect_failed(std::uint8_t alert, EndReason reason) {
        expect_ends(reason);
        EXPECT_TRUE(from_.has_alert(alert)) << "no alert " << int{alert};
        EXPECT_FALSE(from_.has_alert(0));
        EXPECT_FALSE(to_.has_alert(0)) << "an abnormal end became an orderly one";
        EXPECT_TRUE(to_.has_alert(80));
    }
    void TearDown() override {
        EXPECT_TRUE(world_.run_until_empty());
        EXPECT_EQ(world_.appliance_buffers_in_use(), 0u);
    }
};
INSTANTIATE_TEST_SUITE_P(Flow, FlowEnding,
                         testing::Values(Case{0x1301, true}, Case{0x1301, false}, Case{0x1303, true}, Case{0xc02b, true}, Case{0xc02c, false},
                                         Case{0xcca9, false}),
                         [](const auto& tested) {
                             char name[24];
                             std::snprintf(name, sizeof name, "%04x_%s", tested.param.suite, tested.param.from_client ? "client" : "backend");
                             return std::string(name);
                         });

TEST_P(FlowEnding, OpenFlow_CloseNotify_HalfClosesAndOtherDirectionGoesOn) {
    from_.send(octets_of("last words"));
    from_.close_in_order();
    ASSERT_TRUE(world_.run_until([&] { return to_.orderly(); }, 5s));
    EXPECT_EQ(to_.data, octets_of("last words"));
    const std::uint64_t busy = world_.turns_busy;
    world_.run_for(3s);
    EXPECT_LT(world_.turns_busy - busy, 10u) << "a half-closed flow keeps the worker busy";
    EXPECT_FALSE(s_.ended);
    for (int i = 0; i < 50; ++i) to_.send(Octets(5000, std::byte{4}));
    to_.close_in_order();
    ASSERT_TRUE(world_.run_until([&] { return from_.orderly(); }, 20s));
    EXPECT_EQ(from_.data.size(), 250'000u);
    expect_ends(EndReason::finished);
}

TEST_P(FlowEnding, OpenFlow_DataAfterCloseNotify_IsIgnored) {
    from_.send_alert(1, 0);
    from_.send(octets_of("too late"));
    ASSERT_TRUE(world_.run_until([&] { return to_.orderly(); }, 5s));
    world_.run_for(100ms);
    EXPECT_TRUE(to_.data.empty());
    to_.close_in_order();
    from_.close_after_out = true;
    expect_ends(EndReason::finished);
}

TEST_P(FlowEnding, OpenFlow_FinWithoutCloseNotify_StaysVisible) {
    from_.send(octets_of("cut"));
    from_.close_after_out = true;
    ASSERT_TRUE(world_.run_until([&] { return to_.finished; }, 5s));
    EXPECT_EQ(to_.data, octets_of("cut"));
    EXPECT_FALSE(to_.has_alert(0));
    to_.send(octets_of("answer"));
    to_.close_in_order();
    expect_ends(by(EndReason::client_truncated, EndReason::backend_truncated));
    EXPECT_EQ(from_.data, octets_of("answer"));
}

TEST_P(FlowEnding, OpenFlow_FinWithinRecord_TruncatesAfterWholeRecords) {
    from_.send(octets_of("whole"));
    Octets record = from_.sealed(ContentType::application_data, octets_of("not whole"));
    record.resize(record.size() - 1);
    from_.send_raw(record);
    from_.close_after_out = true;
    ASSERT_TRUE(world_.run_until([&] { return to_.finished; }, 5s));
    EXPECT_EQ(to_.data, octets_of("whole"));
    EXPECT_FALSE(to_.has_alert(0));
    to_.close_in_order();
    expect_ends(by(EndReason::client_truncated, EndReason::backend_truncated));
}

TEST_P(FlowEnding, OpenFlow_FinWithinHeader_Truncates) {
    from_.send_raw({std::byte{23}, std::byte{3}});
    from_.close_after_out = true;
    ASSERT_TRUE(world_.run_until([&] { return to_.finished; }, 5s));
    EXPECT_FALSE(to_.has_alert(0));
    to_.close_in_order();
    expect_ends(by(EndReason::client_truncated, EndReason::backend_truncated));
}

TEST_P(FlowEnding, OpenFlow_Reset_ResetsTheOtherLeg) {
    from_.send(octets_of("x"));
    world_.run_for(5ms);
    from_.abort();
    expect_ends(by(EndReason::client_reset, EndReason::backend_reset));
    EXPECT_EQ(to_.end, tcp::End::reset);
    EXPECT_FALSE(to_.has_alert(0));
}

TEST_P(FlowEnding, OpenFlow_BothReset_EndsOnce) {
    from_.abort();
    to_.abort();
    EXPECT_TRUE(world_.run_until([&] { return s_.ended; }, 5s));
    EXPECT_EQ(world_.engine().counters().flows_ended, 1u);
}

TEST_P(FlowEnding, HalfClosed_ResetOfTheOther_Ends) {
    from_.close_in_order();
    ASSERT_TRUE(world_.run_until([&] { return to_.orderly(); }, 5s));
    to_.abort();
    expect_ends(by(EndReason::backend_reset, EndReason::client_reset));
    EXPECT_FALSE(from_.has_alert(0));
    EXPECT_EQ(from_.end, tcp::End::reset);
}

TEST_P(FlowEnding, OpenFlow_CorruptedRecord_PassesNoOctetOn) {
    for (int i = 0; i < 3; ++i) from_.send(octets_of("good"));
    Octets record = from_.sealed(ContentType::application_data, octets_of("evil"));
    record[record.size() / 2] ^= std::byte{1};
    from_.send_raw(record);
    from_.send(octets_of("behind"));
    expect_failed(20, by(EndReason::client_bad_record, EndReason::backend_bad_record));
    EXPECT_EQ(to_.data, octets_of("goodgoodgood"));
}

TEST_P(FlowEnding, OpenFlow_RecordTooLong_RecordOverflow) {
    const auto raw = [](std::size_t length) {
        return Octets{std::byte{23}, std::byte{3}, std::byte{3}, static_cast<std::byte>(length >> 8), static_cast<std::byte>(length)};
    };
    from_.send(octets_of("good"));
    from_.send_raw(raw(18433));
    expect_failed(22, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
    EXPECT_EQ(to_.data, octets_of("good"));
}

TEST_P(FlowEnding, OpenFlow_ChangeCipherSpec_UnexpectedMessage) {
    if (tls13())   // never protected (RFC 8446 5)
        from_.send_raw({std::byte{20}, std::byte{3}, std::byte{3}, std::byte{0}, std::byte{1}, std::byte{1}});
    else
        from_.send_record(ContentType::change_cipher_spec, {std::byte{1}});
    expect_failed(10, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, OpenFlow_UnknownRecordType_UnexpectedMessage) {
    from_.send_raw({std::byte{99}, std::byte{3}, std::byte{3}, std::byte{0}, std::byte{100}});
    expect_failed(10, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, OpenFlow_OtherMajorVersion_ProtocolVersion) {
    from_.send_raw(octets_of("GET / HTTP/1.1"));
    expect_ends(by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
    EXPECT_FALSE(to_.has_alert(0));
}

TEST_P(FlowEnding, OpenFlow_RecordTooShortForItsTag_Fails) {
    from_.send_raw({std::byte{23}, std::byte{3}, std::byte{3}, std::byte{0}, std::byte{3}, std::byte{1}, std::byte{1}, std::byte{1}});
    expect_failed(tls13() ? 20 : 50, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, OpenFlow_FatalAlert_IsNoOrderlyEndForTheOther) {
    from_.send(octets_of("before"));
    from_.send_alert(2, 40);
    expect_ends(by(EndReason::client_alert, EndReason::backend_alert));
    EXPECT_EQ(to_.data, octets_of("before"));
    EXPECT_TRUE(to_.has_alert(80));
    EXPECT_FALSE(to_.has_alert(0));
}

TEST_P(FlowEnding, OpenFlow_AlertOfOddLength_DecodeError) {
    from_.send_record(ContentType::alert, {std::byte{1}});
    expect_failed(50, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, OpenFlow_UserCanceled_WaitsForCloseNotify) {
    from_.send_alert(1, 90);
    world_.run_for(100ms);
    EXPECT_FALSE(s_.ended);
    from_.close_in_order();
    to_.close_in_order();
    expect_ends(EndReason::finished);
}

TEST_P(FlowEnding, OpenFlow_EmptyRecords_AreTakenUpToABound) {
    for (int i = 0; i < 30; ++i) from_.send_record(ContentType::application_data, {});
    from_.send(octets_of("between"));
    for (int i = 0; i < 30; ++i) from_.send_record(ContentType::application_data, {});
    from_.send(octets_of("them"));
    ASSERT_TRUE(world_.run_until([&] { return to_.data == octets_of("betweenthem"); }, 5s));
    EXPECT_EQ(to_.records, 2u);
    for (int i = 0; i < 65; ++i) from_.send_record(ContentType::application_data, {});
    expect_failed(10, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, OpenFlow_RenegotiationOrUnknownHandshake_Refused) {
    from_.send_record(ContentType::handshake, {std::byte{1}, std::byte{0}, std::byte{0}, std::byte{1}, std::byte{3}});
    expect_failed(tls13() ? 10 : 100, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, OpenFlow_HandshakeWithoutContent_Refused) {
    from_.send_record(ContentType::handshake, {});
    expect_failed(10, by(EndReason::client_protocol_error, EndReason::backend_protocol_error));
}

TEST_P(FlowEnding, RestingFlow_Shutdown_EndsBothInOrder) {
    from_.send(octets_of("x"));
    world_.run_for(100ms);
    world_.engine().end_all(EndReason::shutdown, false, world_.now());
    expect_ends(EndReason::shutdown);
    EXPECT_TRUE(from_.orderly());
    EXPECT_TRUE(to_.orderly());
    EXPECT_EQ(to_.data, octets_of("x"));
}

TEST_P(FlowEnding, MovingFlow_Shutdown_StreamDoesNotLookComplete) {
    for (int i = 0; i < 7; ++i) from_.send(Octets(16'000, std::byte{1}));   // more than can be under way and acknowledged
    ASSERT_TRUE(world_.run_until([&] { return !to_.data.empty(); }, 1s));
    world_.engine().end_all(EndReason::shutdown, false, world_.now());
    expect_ends(EndReason::shutdown);
    EXPECT_FALSE(to_.has_alert(0));
}

TEST_P(FlowEnding, MovingFlow_ShutdownOfThoseThatRest_GoesOnUntilItRests) {
    from_.send(octets_of("x"));
    ASSERT_TRUE(world_.run_until([&] { return !to_.data.empty(); }, 1s));   // delivered; the acknowledgment is still to come
    world_.engine().end_all(EndReason::shutdown, true, world_.now());
    EXPECT_FALSE(s_.ended);
    world_.run_for(500ms);
    world_.engine().end_all(EndReason::shutdown, true, world_.now());
    expect_ends(EndReason::shutdown);
    EXPECT_TRUE(from_.orderly());
    EXPECT_TRUE(to_.orderly());
}

TEST_P(FlowEnding, HalfClosed_Shutdown_WhatHadEndedStaysComplete) {
    from_.close_in_order();
    ASSERT_TRUE(world_.run_until([&] { return to_.orderly(); }, 5s));
    world_.run_for(100ms);   // what was held back has left
    world_.engine().end_all(EndReason::shutdown, false, world_.now());
    expect_ends(EndReason::shutdown);
    EXPECT_FALSE(to_.has_alert(80));
    EXPECT_TRUE(from_.orderly()) << "nothing was under way to it";
}

TEST_P(FlowEnding, OpenFlow_ControlEndsIt_ClosesBothInOrder) {
    from_.send(octets_of("x"));
    world_.run_for(100ms);
    world_.end_leg(s_, channel::EndHow::close, EndReason::identity_revoked);
    expect_ends(EndReason::identity_revoked);
    EXPECT_TRUE(from_.orderly());
    EXPECT_TRUE(to_.orderly());
    EXPECT_EQ(to_.data, octets_of("x"));
}

TEST_P(FlowEnding, OpenFlow_ShutdownWithDataNotPassedOn_IsNoOrderlyEnd) {
    Octets record = from_.sealed(ContentType::application_data, octets_of("half of a record"));
    record.resize(20);
    from_.send_raw(record);
    world_.run_for(100ms);
    world_.engine().end_all(EndReason::shutdown, false, world_.now());
    expect_ends(EndReason::shutdown);
    EXPECT_FALSE(to_.has_alert(0));
    EXPECT_TRUE(to_.has_alert(80));
    EXPECT_TRUE(from_.orderly()) << "of the other direction nothing is missing";
}

TEST_P(FlowEnding, OpenFlow_IdleTimeout_NeitherStreamLooksComplete) {
    world_.run_for(20s);
    from_.send(octets_of("still here"));
    world_.run_for(20s);
    EXPECT_FALSE(s_.ended);
    world_.run_for(11s);
    expect_ends(EndReason::idle_timeout);
    for (const Peer* const peer : {&from_, &to_}) {
        EXPECT_TRUE(peer->finished);
        EXPECT_TRUE(peer->has_alert(80));
        EXPECT_FALSE(peer->has_alert(0));
    }
}

TEST_P(FlowEnding, Lingering_PeerKeepsSending_IsFreed) {
    world_.engine().end_all(EndReason::shutdown, false, world_.now());
    for (int i = 0; i < 100; ++i) {
        if (!from_.gone()) from_.send(Octets(1000, std::byte{1}));
        world_.run_for(50ms);
    }
    EXPECT_EQ(world_.engine().flows(), 0u);
    expect_ends(EndReason::shutdown);
}

TEST(FlowPlain, PlainBackend_FinOfClientWithoutCloseNotify_Resets) {
    World world({.backend_suite = 0});
    Session& s = world.open();
    s.client.send(octets_of("part of it"));
    s.client.close_after_out = true;
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    world.run_for(10ms);
    EXPECT_EQ(s.reason(), EndReason::client_truncated);
    EXPECT_EQ(s.backend.end, tcp::End::reset);
    EXPECT_FALSE(s.backend.finished);
    EXPECT_FALSE(s.client.has_alert(0));
}

TEST(FlowPlain, PlainBackend_CorruptedRecord_ResetsIt) {
    World world({.backend_suite = 0});
    Session& s = world.open();
    Octets record = s.client.sealed(ContentType::application_data, octets_of("evil"));
    record.back() ^= std::byte{1};
    s.client.send_raw(record);
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    world.run_for(10ms);
    EXPECT_TRUE(s.client.has_alert(20));
    EXPECT_EQ(s.backend.end, tcp::End::reset);
    EXPECT_TRUE(s.backend.data.empty());
}

TEST(FlowPlain, PlainBackend_FinOfBackend_IsCloseNotifyForTheClient) {
    World world({.backend_suite = 0});
    Session& s = world.open();
    s.backend.send(octets_of("all"));
    s.backend.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.client.orderly(); }, 5s));
    EXPECT_EQ(s.client.data, octets_of("all"));
    s.client.send(octets_of("more"));
    s.client.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.ended && s.backend.finished; }, 5s));
    EXPECT_EQ(s.backend.data, octets_of("more"));
    EXPECT_EQ(s.reason(), EndReason::finished);
}

TEST(FlowNoBuffers, BothRecordsFailWhileNothingCanBeSent_NoQueuedRecordOutlivesItsBuffers) {
    World world({});
    Session& s = world.open();
    world.run_for(100ms);
    s.client.send(Octets(5000, std::byte{1}));
    s.backend.send_raw({std::byte{99}, std::byte{3}, std::byte{3}, std::byte{0}, std::byte{100}});
    std::vector<rte_mbuf*> taken;
    for (rte_mbuf* buffer = rte_pktmbuf_alloc(world.appliance_pool()); buffer != nullptr; buffer = rte_pktmbuf_alloc(world.appliance_pool()))
        taken.push_back(buffer);
    for (int i = 0; i < 6; ++i) {
        rte_pktmbuf_free(taken.back());
        taken.pop_back();
    }
    world.run_for(2ms);
    for (rte_mbuf* buffer : taken) rte_pktmbuf_free(buffer);
    ASSERT_TRUE(world.run_until_empty());
    EXPECT_FALSE(s.backend.has_alert(0));
    EXPECT_FALSE(s.client.has_alert(0));
}

}  // namespace
}  // namespace sallyport::flow::test
