#include "world.h"

/// KeyUpdate both ways, limits of keys, tickets.
namespace sallyport::flow::test {
namespace {

using crypto::ContentType;

class FlowKeys : public testing::TestWithParam<std::uint16_t> {
 protected:
    World world_{World::Settings{.client_suite = GetParam(), .backend_suite = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(Flow, FlowKeys, testing::Values(0x1301, 0x1302, 0x1303),
                         [](const auto& tested) { return std::string(crypto::find_cipher_suite(tested.param)->name); });

TEST_P(FlowKeys, OpenFlow_KeyUpdatesInTheMiddleOfABurst_AllDataArrives) {
    Session& s = world_.open();
    Octets sent;
    // Everything at once: a burst of records under several keys lies in the receive queue together.
    for (int i = 0; i < 120; ++i) {
        const Octets octets = random_octets(world_.random(), 1 + world_.random()() % 900);
        s.client.send(octets);
        sent.insert(sent.end(), octets.begin(), octets.end());
        if (i % 5 == 4) s.client.send_key_update(i % 2 == 0);
        if (i % 30 == 7) s.client.send_record(ContentType::application_data, {});
    }
    ASSERT_TRUE(world_.run_until([&] { return s.backend.data.size() == sent.size(); }, 10s));
    EXPECT_EQ(s.backend.data, sent);
    EXPECT_EQ(world_.engine().counters().key_updates_received, 24u);
    EXPECT_GE(s.client.key_updates, 1u);    // the answers, one for all that came before it
    EXPECT_LE(s.client.key_updates, 12u);
    EXPECT_EQ(s.backend.key_updates, 0u);   // each leg has its own keys
    s.backend.send(octets_of("answer"));
    ASSERT_TRUE(world_.run_until([&] { return s.client.data == octets_of("answer"); }, 5s));
}

TEST_P(FlowKeys, OpenFlow_KeyUpdateRequested_IsAnsweredBeforeTheNextData) {
    Session& s = world_.open();
    s.backend.send_key_update(true);
    ASSERT_TRUE(world_.run_until([&] { return s.backend.key_updates == 1; }, 5s));   // without any data to send
    EXPECT_EQ(s.backend.key_updates_requested, 0u);
    s.client.send(octets_of("under the new key"));
    ASSERT_TRUE(world_.run_until([&] { return s.backend.data == octets_of("under the new key"); }, 5s));
    s.backend.send_key_update(false);
    s.backend.send(octets_of("x"));
    ASSERT_TRUE(world_.run_until([&] { return s.client.data.size() == 1; }, 5s));
    EXPECT_EQ(s.backend.key_updates, 1u);
}

TEST_P(FlowKeys, OpenFlow_KeyUpdateAfterOurCloseNotify_IsNotAnswered) {
    Session& s = world_.open();
    s.backend.close_in_order();
    ASSERT_TRUE(world_.run_until([&] { return s.client.orderly(); }, 5s));
    s.client.send_key_update(true);
    s.client.send(octets_of("goes on"));
    ASSERT_TRUE(world_.run_until([&] { return s.backend.data == octets_of("goes on"); }, 5s));
    EXPECT_EQ(s.client.key_updates, 0u);
}

TEST_P(FlowKeys, OpenFlow_KeyUpdateFlood_Ends) {
    Session& s = world_.open();
    for (int i = 0; i < 32; ++i) s.client.send_key_update(true);
    s.client.send(octets_of("so many are taken"));
    ASSERT_TRUE(world_.run_until([&] { return !s.backend.data.empty(); }, 5s));
    for (int i = 0; i < 33; ++i) s.client.send_key_update(false);
    ASSERT_TRUE(world_.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::key_update_flood);
    EXPECT_FALSE(s.backend.has_alert(0));
}

TEST_P(FlowKeys, OpenFlow_KeyUpdateFloodOfTheBackend_Ends) {
    Session& s = world_.open();
    for (int i = 0; i < 33; ++i) s.backend.send_key_update(true);
    ASSERT_TRUE(world_.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::key_update_flood);
    EXPECT_FALSE(s.client.has_alert(0));
}

TEST_P(FlowKeys, OpenFlow_MalformedKeyUpdates_UnexpectedMessage) {
    const auto update = [](std::initializer_list<int> octets) {
        Octets result;
        for (const int octet : octets) result.push_back(static_cast<std::byte>(octet));
        return result;
    };
    for (const Octets& message : {update({24, 0, 0, 1, 2}), update({24, 0, 0, 2, 0, 0}), update({24, 0, 0, 1}), update({24, 0, 0, 1, 0, 24, 0, 0, 1, 0}),
                                  update({24, 0, 0}), update({4, 0, 0, 1, 0})}) {   // the last: a ticket, from a client
        Session& s = world_.open();
        s.client.send_record(ContentType::handshake, message);
        ASSERT_TRUE(world_.run_until([&] { return s.ended; }, 5s));
        world_.run_for(5ms);
        EXPECT_EQ(s.reason(), EndReason::client_protocol_error);
        EXPECT_TRUE(s.client.has_alert(10));
    }
}

TEST_P(FlowKeys, SlowReader_KeyUpdatesRequested_AreAnsweredWhenThereIsRoom) {
    Session& s = world_.open();
    s.client.read_limit = 0;
    for (int i = 0; i < 40; ++i) s.backend.send(Octets(16000, std::byte{1}));
    world_.run_for(2s);
    s.client.send_key_update(true);
    world_.run_for(1s);
    s.client.read_limit = ~std::size_t{0};
    ASSERT_TRUE(world_.run_until([&] { return s.client.data.size() == 640'000; }, 30s));
    EXPECT_EQ(s.client.key_updates, 1u);
}

/// AES-GCM alone has a limit that can be reached.
class FlowKeyLimit : public testing::TestWithParam<std::uint16_t> {};
INSTANTIATE_TEST_SUITE_P(Flow, FlowKeyLimit, testing::Values(0x1301, 0x1302),
                         [](const auto& tested) { return std::string(crypto::find_cipher_suite(tested.param)->name); });

TEST_P(FlowKeyLimit, OurKeyReachesItsLimit_KeyUpdateIsSentInTime) {
    World world({.client_suite = GetParam(), .backend_suite = GetParam()});
    world.adjust_keys = [](Session& s) { s.backend.keys.from_appliance_sequence = crypto::kAesGcmRecordLimit - 5; };
    Session& s = world.open();
    for (int i = 0; i < 20; ++i) s.client.send(octets_of("record"));   // one burst across the limit
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 120; }, 5s));
    EXPECT_EQ(s.backend.key_updates, 1u);
    EXPECT_EQ(s.backend.key_updates_requested, 0u);
    EXPECT_EQ(s.backend.records, 21u);
}

TEST_P(FlowKeyLimit, PeersKeyReachesItsLimit_PeerIsAskedEvenWithoutDataToIt) {
    World world({.client_suite = GetParam(), .backend_suite = GetParam()});
    world.adjust_keys = [](Session& s) { s.client.keys.to_appliance_sequence = crypto::kAesGcmRecordLimit - kKeyUpdateAskedAhead - 5; };
    Session& s = world.open();
    for (int i = 0; i < 20; ++i) s.client.send(octets_of("record"));
    ASSERT_TRUE(world.run_until([&] { return s.client.key_updates_requested == 1 && s.backend.data.size() == 120; }, 5s));
    s.client.send(octets_of("under the new key"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 137; }, 5s));
    EXPECT_EQ(s.client.key_updates, 1u);
    EXPECT_EQ(world.engine().counters().key_updates_received, 1u);
}

TEST_P(FlowKeyLimit, PeersKeyReachesItsLimitAndItDoesNotAnswer_IsAskedOnce) {
    World world({.client_suite = GetParam(), .backend_suite = GetParam()});
    world.adjust_keys = [](Session& s) { s.client.keys.to_appliance_sequence = crypto::kAesGcmRecordLimit - kKeyUpdateAskedAhead; };
    Session& s = world.open();
    s.client.answers_key_updates = false;
    for (int i = 0; i < 20; ++i) {
        s.client.send(octets_of("record"));
        world.run_for(5ms);
    }
    EXPECT_EQ(s.client.key_updates_requested, 1u);
    EXPECT_FALSE(s.ended);
}

TEST_P(FlowKeyLimit, PeerThatNeverChangesItsKey_IsCutOffAtTheLimit) {
    for (const bool of_client : {true, false}) {
        World world({.client_suite = GetParam(), .backend_suite = GetParam()});
        world.adjust_keys = [&](Session& s) {
            (of_client ? s.client : s.backend).keys.to_appliance_sequence = crypto::kAesGcmRecordLimit - 3;
        };
        Session& s = world.open();
        Peer& from = of_client ? s.client : s.backend;
        Peer& to = of_client ? s.backend : s.client;
        from.answers_key_updates = false;
        for (int i = 0; i < 20; ++i) from.send(octets_of("record"));   // one burst across the limit
        ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
        world.run_for(10ms);
        EXPECT_EQ(s.reason(), EndReason::key_limit);
        EXPECT_EQ(to.data.size(), 18u) << "a record beyond the limit was opened";
        EXPECT_TRUE(from.has_alert(10));
        EXPECT_FALSE(to.has_alert(0));
        EXPECT_TRUE(to.has_alert(80));
    }
}

TEST(FlowKeyLimit12, EitherKeyReachesItsLimit_FlowIsClosed) {
    for (const bool ours : {true, false}) {
        World world({.client_suite = 0xc02b, .backend_suite = 0x1301});
        world.adjust_keys = [&](Session& s) {
            (ours ? s.client.keys.from_appliance_sequence : s.client.keys.to_appliance_sequence) = crypto::kAesGcmRecordLimit - 3;
        };
        Session& s = world.open();
        Peer& from = ours ? s.backend : s.client;
        Peer& to = ours ? s.client : s.backend;
        for (int i = 0; i < 3; ++i) from.send(octets_of("record"));
        ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
        EXPECT_EQ(s.reason(), EndReason::key_limit);
        EXPECT_EQ(to.data.size(), 18u);
        EXPECT_TRUE(to.orderly());
    }
}

TEST(FlowKeyLimit12, LimitWithDataThatCannotBePassedOn_IsNoOrderlyEnd) {
    World world({.client_suite = 0xc02b, .backend_suite = 0x1301});
    world.adjust_keys = [&](Session& s) { s.client.keys.from_appliance_sequence = crypto::kAesGcmRecordLimit - 3; };
    Session& s = world.open();
    for (int i = 0; i < 20; ++i) s.backend.send(octets_of("record"));
    ASSERT_TRUE(world.run_until([&] { return s.ended && s.client.finished; }, 5s));
    EXPECT_EQ(s.client.data.size(), 18u);
    EXPECT_FALSE(s.client.has_alert(0));
    EXPECT_TRUE(s.client.has_alert(80));
}

// ---- tickets ----

Octets ticket(std::size_t length, std::byte fill) {
    Octets message{std::byte{4}, std::byte{0}, static_cast<std::byte>(length >> 8), static_cast<std::byte>(length)};
    message.resize(4 + length, fill);
    return message;
}

struct FlowTickets : testing::Test {
    World world;
    FlowTickets() : world({}) {}
    Session& connect() {
        Session& s = world.connect();
        s.expect_tickets = true;
        return s;
    }
    void open(Session& s) {
        ASSERT_TRUE(world.run_until([&] { return s.id.value != 0 && world.is_open(s); }, 5s));
    }
};

TEST_F(FlowTickets, BeforeData_ArePassedInSequence_ThenOver) {
    Session& s = connect();
    const Octets first = s.backend.sealed(ContentType::handshake, ticket(200, std::byte{1}));
    const Octets second = s.backend.sealed(ContentType::handshake, ticket(300, std::byte{2}));
    s.backend.send_raw(first);
    s.backend.send_raw(second);
    s.backend.send(octets_of("data"));
    s.backend.send_record(ContentType::handshake, ticket(100, std::byte{3}));
    s.backend.send(octets_of("more"));
    ASSERT_TRUE(world.run_until([&] { return s.client.data == octets_of("datamore"); }, 5s));
    ASSERT_EQ(s.tickets.size(), 2u);
    EXPECT_EQ(s.tickets[0], first);
    EXPECT_EQ(s.tickets[1], second);
    EXPECT_TRUE(s.tickets_over);
    EXPECT_EQ(world.engine().counters().tickets_passed, 2u);
}

TEST_F(FlowTickets, TooLongForUs_EndsTickets) {
    Session& s = connect();
    s.backend.send_record(ContentType::handshake, ticket(5000, std::byte{1}));
    s.backend.send_record(ContentType::handshake, ticket(100, std::byte{2}));
    s.backend.send(octets_of("data"));
    ASSERT_TRUE(world.run_until([&] { return s.client.data == octets_of("data"); }, 5s));
    EXPECT_TRUE(s.tickets.empty());
    EXPECT_TRUE(s.tickets_over);
}

TEST_F(FlowTickets, KeyUpdateBetween_EndsTickets) {
    Session& s = connect();
    s.backend.send_record(ContentType::handshake, ticket(100, std::byte{1}));
    s.backend.send_key_update(false);
    s.backend.send_record(ContentType::handshake, ticket(100, std::byte{2}));
    s.backend.send(octets_of("data"));
    ASSERT_TRUE(world.run_until([&] { return s.client.data == octets_of("data"); }, 5s));
    EXPECT_EQ(s.tickets.size(), 1u);
    EXPECT_TRUE(s.tickets_over);
}

TEST_F(FlowTickets, SplitOverRecords_AreTaken) {
    Session& s = connect();
    const Octets whole = ticket(700, std::byte{1});
    s.backend.send_record(ContentType::handshake, Octets(whole.begin(), whole.begin() + 512));
    Octets rest(whole.begin() + 512, whole.end());
    const Octets next = ticket(10, std::byte{2});
    rest.insert(rest.end(), next.begin(), next.end());   // two messages in one record
    s.backend.send_record(ContentType::handshake, rest);
    s.backend.send(octets_of("data"));
    ASSERT_TRUE(world.run_until([&] { return s.client.data == octets_of("data"); }, 5s));
    EXPECT_EQ(s.tickets.size(), 2u);
}

TEST_F(FlowTickets, DataWithinOne_UnexpectedMessage) {
    Session& s = connect();
    const Octets whole = ticket(700, std::byte{1});
    s.backend.send_record(ContentType::handshake, Octets(whole.begin(), whole.begin() + 512));
    s.backend.send(octets_of("data"));
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::backend_protocol_error);
    EXPECT_TRUE(s.client.data.empty());
}

TEST_F(FlowTickets, ControlGone_AreNotPassed) {
    Session& s = connect();
    open(s);
    world.stop_control();
    s.backend.send_record(ContentType::handshake, ticket(100, std::byte{1}));
    s.backend.send(octets_of("data"));
    ASSERT_TRUE(world.run_until([&] { return s.client.data == octets_of("data"); }, 5s));
    EXPECT_EQ(world.engine().counters().tickets_passed, 0u);
}

TEST_F(FlowTickets, Endless_AreBounded) {
    Session& s = connect();
    for (int i = 0; i < 70; ++i) s.backend.send_record(ContentType::handshake, ticket(100, std::byte{1}));
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::backend_protocol_error);
    EXPECT_LE(s.tickets.size(), 65u);
}

}  // namespace
}  // namespace sallyport::flow::test
