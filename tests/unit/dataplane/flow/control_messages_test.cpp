#include "world.h"

/// Control in each phase: slow, gone, back, refusing, broken.
namespace sallyport::flow::test {
namespace {

using channel::EndHow;
using channel::MessageType;

struct FlowControl : testing::Test {
    std::unique_ptr<World> made;
    World& make(const World::Settings& settings) {
        made = std::make_unique<World>(settings);
        return *made;
    }
    void expect_clean() {
        EXPECT_TRUE(made->run_until_empty());
        EXPECT_EQ(made->appliance_buffers_in_use(), 0u);
        EXPECT_EQ(made->engine().counters().flows_opened + made->engine().counters().probes, made->engine().counters().flows_ended);
    }
    void TearDown() override {
        made->engine().end_all(EndReason::shutdown, false, made->now());
        expect_clean();
    }
};

TEST_F(FlowControl, NoControl_ConnectionWaitsThenIsRefused) {
    World& world = make({.start_control = false});
    Session& s = world.connect();
    world.run_for(4s);
    EXPECT_EQ(world.engine().flows(), 1u);
    world.run_for(2s);
    EXPECT_EQ(world.engine().flows(), 0u);
    EXPECT_EQ(s.client.end, tcp::End::reset);
    EXPECT_EQ(world.drops(DropReason::control_away), 1u);
}

TEST_F(FlowControl, NoControl_ItComes_HandshakeIsReplayed) {
    World& world = make({.start_control = false});
    Session& s = world.connect();
    world.run_for(2s);
    world.start_control();
    ASSERT_TRUE(world.run_until([&] { return s.id.value != 0 && world.is_open(s); }, 5s));
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 5s));
}

TEST_F(FlowControl, NoControl_ClientClosesMeanwhile_ControlHearsOfIt) {
    World& world = make({.start_control = false});
    Session& s = world.connect();
    s.client.close_after_out = true;
    world.run_for(1s);
    world.intercept = [&](const channel::Message& message) { return message.type() == MessageType::stream_octets; };
    world.start_control();
    ASSERT_TRUE(world.run_until([&] { return s.client_closed; }, 1s));
}

TEST_F(FlowControl, ClientClosesWithoutAWord_ControlHearsOfTheEndAlone) {
    World& world = make({});
    Session& s = world.connect();
    s.client.out.clear();
    s.client.close_after_out = true;
    std::vector<MessageType> told;
    world.intercept = [&](const channel::Message& message) {
        told.push_back(message.type());
        return false;
    };
    std::size_t segments = 0;
    world.on_segment = [&](std::size_t to, std::size_t) { segments += to == 0 ? 1 : 0; };
    ASSERT_TRUE(world.run_until([&] { return s.ended && s.client.finished; }, 1s));
    world.intercept = nullptr;
    world.on_segment = nullptr;
    EXPECT_EQ(told, (std::vector{MessageType::flow_opened, MessageType::flow_ended}));
    EXPECT_EQ(name(s.reason()), name(EndReason::client_handshake_closed));
    EXPECT_EQ(segments, 2u) << "SYN with its acknowledgement, and FIN with that of the client's";
}

TEST_F(FlowControl, ControlLostBeforeItAnswered_HandshakeIsReplayedToTheNext) {
    World& world = make({});
    world.intercept = [](const channel::Message&) { return true; };
    Session& s = world.connect();
    world.run_for(1s);
    world.stop_control();
    world.run_for(1s);
    world.intercept = nullptr;
    world.start_control();
    ASSERT_TRUE(world.run_until([&] { return s.id.value != 0 && world.is_open(s); }, 5s));
}

TEST_F(FlowControl, AnotherControlAttachesAtOnce_HandshakeIsReplayedToIt) {
    World& world = make({});
    world.intercept = [](const channel::Message&) { return true; };
    Session& s = world.connect();
    world.run_for(1s);
    world.intercept = nullptr;
    world.start_control();
    ASSERT_TRUE(world.run_until([&] { return s.id.value != 0 && world.is_open(s); }, 5s));
}

TEST_F(FlowControl, BackendsFlightLongerThanWhatIsKept_GoesOnAsControlConsumesIt) {
    World& world = make({});
    constexpr std::size_t kFlight = 150 * 1024, kKept = 64 * 1024;
    std::uint64_t seen = 0;
    channel::FlowId id;
    world.intercept = [&](const channel::Message& message) {
        const auto* const where = message.type() == MessageType::stream_octets ? message.fixed<channel::StreamOctets>() : nullptr;
        if (where == nullptr || where->leg != Side::backend) return false;
        EXPECT_EQ(where->offset, seen);
        seen += message.payload<channel::StreamOctets>().size();
        id = message.flow();
        return true;
    };
    Session& s = world.connect();
    s.backend.send_raw(Octets(kFlight - World::kBackendFlight, std::byte{22}));
    world.run_for(5s);
    EXPECT_EQ(seen, kKept);   // nothing is consumed: no more fits
    // Without octets: there is nothing to answer before the flight's end.
    for (std::uint64_t consumed = 0; seen < kFlight && consumed < seen;) {
        consumed = seen;
        world.tell(MessageType::send_octets, id, channel::SendOctets{Side::backend, s.attempt, consumed});
        world.run_for(1s);
    }
    EXPECT_EQ(seen, kFlight);
    EXPECT_EQ(world.drops(DropReason::channel_bad_message), 0u);
    world.intercept = nullptr;
}

TEST_F(FlowControl, SessionTickets_LeaveWithTheFirstAnswer) {
    World& world = make({});
    Session& s = world.open();
    world.run_for(5ms);
    EXPECT_TRUE(s.client.preamble_seen.empty());
    s.backend.send(octets_of("answer"));
    ASSERT_TRUE(world.run_until([&] { return !s.client.data.empty(); }, 20ms));
    EXPECT_EQ(s.client.preamble_seen.size(), World::kServerFlight);
}

TEST_F(FlowControl, SessionTickets_LeaveWithoutAnAnswerToo) {
    World& world = make({});
    Session& s = world.open();
    ASSERT_TRUE(world.run_until([&] { return s.client.preamble_seen.size() == World::kServerFlight; }, 60ms));
}

TEST_F(FlowControl, LastFlightOfTls12_IsNotHeldBack) {   // the client says nothing before it has that
    World& world = make({.client_suite = 0xc02f});
    Session& s = world.open();
    ASSERT_TRUE(world.run_until([&] { return s.client.preamble_seen.size() == World::kServerFlight; }, 5ms));
}

TEST_F(FlowControl, ControlLostAfterItAnswered_FlowEnds) {
    World& world = make({});
    Session& s = world.connect();
    s.hand_off_client = s.hand_off_backend = false;
    ASSERT_TRUE(world.run_until([&] { return s.backend_seen == World::kBackendFlight; }, 5s));
    world.stop_control();
    world.run_for(10ms);
    EXPECT_EQ(world.engine().counters().ended_by[static_cast<std::size_t>(EndReason::control_lost)], 1u);
    ASSERT_TRUE(world.run_until([&] { return world.engine().flows() == 0; }, 5s));
}

TEST_F(FlowControl, ControlLostAndBack_OpenFlowGoesOnAndItsEndIsTold) {
    World& world = make({});
    Session& s = world.open();
    for (int i = 0; i < 3; ++i) {
        world.stop_control();
        s.client.send(octets_of("x"));
        world.run_for(20ms);
        world.start_control();
        world.run_for(20ms);
    }
    EXPECT_EQ(s.backend.data, octets_of("xxx"));
    const auto members = world.engine().adopted();
    ASSERT_EQ(members.size(), 1u);
    EXPECT_EQ(members[0].service, World::kServiceId);
    EXPECT_EQ(members[0].pool, 5u);
    EXPECT_EQ(members[0].member, 6u);
    EXPECT_EQ(members[0].flows, 1u);
    s.client.close_in_order();
    s.backend.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::finished);
}

TEST_F(FlowControl, ControlSilent_HandshakeTimesOut) {
    World& world = make({.handshake_timeout = 3s});
    world.intercept = [](const channel::Message& message) { return message.type() != MessageType::flow_opened && message.type() != MessageType::flow_ended; };
    Session& s = world.connect();
    world.run_for(2s);
    EXPECT_FALSE(s.ended);
    world.run_for(4s);   // lingering included
    EXPECT_TRUE(s.ended);
    EXPECT_EQ(s.reason(), EndReason::client_handshake_timeout);
}

TEST_F(FlowControl, BackendHandshakeHangs_TimesOut) {
    World& world = make({.handshake_timeout = 3s});
    Session& s = world.connect();
    s.hand_off_backend = false;
    world.run_for(6s);
    EXPECT_TRUE(s.ended);
    EXPECT_EQ(s.reason(), EndReason::backend_unreachable);
    EXPECT_TRUE(s.client.orderly());
}

TEST_F(FlowControl, ClientSpeaksNoTls_IsReset) {
    World& world = make({});
    Session& s = world.connect();
    s.client.out = octets_of("GET / HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 2s));
    world.run_for(1ms);
    EXPECT_EQ(s.reason(), EndReason::client_not_tls);
    EXPECT_EQ(s.client.end, tcp::End::reset);
    EXPECT_EQ(s.client_seen, 0u);
}

TEST_F(FlowControl, BackendRefuses_ControlHearsAndRetries) {
    World& world = make({});
    world.intercept = [&](const channel::Message& message) {
        if (message.type() != MessageType::stream_octets || message.fixed<channel::StreamOctets>()->leg != Side::client) return false;
        Session& s = world.session(0);
        s.client_consumed = World::kClientHello;
        world.send_octets(s, Side::client, World::kServerFlight);
        world.hand_off(s, Side::client);
        world.open_backend(s, 81);
        return true;
    };
    Session& s = world.connect();
    ASSERT_TRUE(world.run_until([&] { return s.backend_failed; }, 2s));
    world.open_backend(s);
    ASSERT_TRUE(world.run_until([&] { return world.is_open(s); }, 2s));
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s));
}

TEST_F(FlowControl, BackendLostDuringHandshake_ControlHearsIt) {
    World& world = make({});
    Session& s = world.connect();
    s.hand_off_backend = false;
    ASSERT_TRUE(world.run_until([&] { return s.backend_accepted; }, 2s));
    s.backend.abort();
    ASSERT_TRUE(world.run_until([&] { return s.backend_closed; }, 2s));
    EXPECT_FALSE(s.ended);
    world.end_leg(s, EndHow::close, EndReason::backend_lost);
    ASSERT_TRUE(world.run_until([&] { return s.ended && s.client.finished; }, 5s));
    EXPECT_TRUE(s.client.orderly());
    EXPECT_EQ(s.reason(), EndReason::backend_lost);
}

TEST_F(FlowControl, ClientLeavesInEachPhase_BackendIsReset) {
    for (int steps = 0; steps < 60; ++steps) {
        World& world = make({.seed = static_cast<std::uint64_t>(steps)});
        Session& s = world.connect();
        world.run_for(Duration(100us) * steps / 4);
        s.client.abort();
        world.run_for(3s);
        EXPECT_EQ(world.engine().flows(), 0u) << steps;
        EXPECT_FALSE(s.backend.has_alert(0));
        expect_clean();
    }
}

TEST_F(FlowControl, BackendLeavesInEachPhase_NothingStays) {
    for (int steps = 0; steps < 60; ++steps) {
        World& world = make({.seed = static_cast<std::uint64_t>(steps), .handshake_timeout = 1s});
        Session& s = world.connect();
        world.run_for(Duration(100us) * steps / 4);
        if (s.backend.connection != nullptr) s.backend.abort();
        world.run_for(4s);
        const bool left = s.backend_accepted && s.backend.connection == nullptr;
        EXPECT_TRUE(!left || world.engine().flows() == 0) << steps;
        world.engine().end_all(EndReason::shutdown, false, world.now());
        expect_clean();
    }
}

TEST_F(FlowControl, ControlLeavesInEachPhase_NothingStays) {
    for (int steps = 0; steps < 60; ++steps) {
        World& world = make({.seed = static_cast<std::uint64_t>(steps)});
        Session& s = world.connect();
        world.run_for(Duration(100us) * steps / 4);
        world.stop_control();
        world.run_for(1s);
        world.start_control();
        world.run_for(1s);
        if (world.engine().flows() == 1) {
            EXPECT_TRUE(world.is_open(s)) << steps;
            s.client.send(octets_of("x"));
            ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s)) << steps;
        }
        world.engine().end_all(EndReason::shutdown, false, world.now());
        expect_clean();
    }
}

TEST_F(FlowControl, LaneFull_NothingIsLost) {
    World& world = make({});
    world.control_alive = false;   // reads nothing: the lane fills up
    for (int i = 0; i < 400; ++i) {
        Session& s = world.connect();
        s.client.out = Octets(20000, std::byte{22});
        s.hand_off_client = false;
        if (i % 40 == 0) world.run_for(5ms);
    }
    world.run_for(200ms);
    EXPECT_GT(world.drops(DropReason::channel_full), 100u) << "so many wait";
    const std::uint64_t turns = world.turns, tries = world.engine().counters().told_late;
    world.run_for(200ms);
    EXPECT_LE(world.engine().counters().told_late - tries, world.turns - turns) << "those who wait behind the first cost a turn nothing";
    world.control_alive = true;
    ASSERT_TRUE(world.run_until(
        [&] {
            for (int i = 0; i < 400; ++i)
                if (world.session(static_cast<std::size_t>(i)).client_seen != 20000) return false;
            return true;
        },
        5s));
}

TEST_F(FlowControl, FlowTableFull_NewestIsRefused) {
    World& world = make({.max_flows = 3});
    for (int i = 0; i < 4; ++i) {
        world.connect();
        world.run_for(20ms);
    }
    EXPECT_EQ(world.engine().flows(), 3u);
    EXPECT_EQ(world.session(3).client.end, tcp::End::reset);
    EXPECT_EQ(world.drops(DropReason::no_flow), 1u);
}

TEST_F(FlowControl, Probe_ConnectsAndEnds) {
    World& world = make({});
    FlowId probe{};
    std::uint64_t number = 0;
    bool opened = false, ended = false;
    world.intercept = [&](const channel::Message& message) {
        if (message.type() == MessageType::probe_opened) {
            probe = message.flow();
            number = message.fixed<channel::ProbeOpened>()->probe;
        }
        if (message.type() == MessageType::backend_opened) opened = true;
        if (message.type() == MessageType::flow_ended) ended = true;
        return true;
    };
    world.tell(MessageType::open_probe, {}, channel::OpenProbe{42, {World::address(2), World::kBackendPort}, 1000});
    ASSERT_TRUE(world.run_until([&] { return opened; }, 2s));
    EXPECT_EQ(number, 42u);
    world.tell(MessageType::end_leg, probe, channel::EndLeg{Side::backend, 1, EndHow::close, static_cast<std::uint8_t>(EndReason::probe_done)});
    ASSERT_TRUE(world.run_until([&] { return ended; }, 5s));
    EXPECT_TRUE(world.engine().adopted().empty());
}

TEST_F(FlowControl, ProbeForgotten_IsEndedByItself) {
    World& world = make({});
    world.intercept = [](const channel::Message&) { return true; };
    for (std::uint64_t i = 0; i < 5; ++i)
        world.tell(MessageType::open_probe, {}, channel::OpenProbe{i, {World::address(2), static_cast<std::uint16_t>(World::kBackendPort + i)}, 1000});
    world.run_for(20s);
    EXPECT_EQ(world.engine().flows(), 0u);
}

// ---- a broken control ----

TEST_F(FlowControl, HandoffsThatCannotBe_AreCountedAndChangeNothing) {
    World& world = make({});
    Session& s = world.connect();
    s.hand_off_client = s.hand_off_backend = false;
    ASSERT_TRUE(world.run_until([&] { return s.backend_seen == World::kBackendFlight; }, 5s));
    std::uint64_t bad = 0;
    const auto refused = [&](const channel::Handoff& handoff, std::size_t payload = 0) {
        world.tell(MessageType::handoff, s.id, handoff, Octets(payload));
        world.run_for(1ms);
        EXPECT_EQ(world.drops(DropReason::channel_bad_message), ++bad);
    };
    channel::Handoff handoff = world.handoff_of(s, Side::client);
    handoff.leg = static_cast<Side>(7);
    refused(handoff);
    handoff = world.handoff_of(s, Side::client);
    handoff.suite = 0x1234;
    refused(handoff);
    handoff = world.handoff_of(s, Side::client);
    handoff.protection = channel::Protection::plain;
    refused(handoff);
    handoff.protection = static_cast<channel::Protection>(9);
    refused(handoff);
    handoff = world.handoff_of(s, Side::client);
    handoff.consumed = 101;
    refused(handoff);
    handoff = world.handoff_of(s, Side::client);
    handoff.read_sequence = ~std::uint64_t{0};
    refused(handoff);
    handoff = world.handoff_of(s, Side::client);
    handoff.write_sequence = ~std::uint64_t{0};
    refused(handoff);
    refused(world.handoff_of(s, Side::client), 5);       // octets to prepend for a client
    refused(world.handoff_of(s, Side::backend), 16385);  // more than a record holds
    EXPECT_FALSE(world.is_open(s));
    world.hand_off(s, Side::client);
    world.hand_off(s, Side::backend);
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s));
}

TEST_F(FlowControl, OpenFlow_MessagesOfItsHandshake_ChangeNothing) {
    World& world = make({});
    Session& s = world.open();
    world.hand_off(s, Side::client);
    world.hand_off(s, Side::backend);
    world.send_octets(s, Side::client, 10);
    world.send_octets(s, Side::backend, 10);
    world.open_backend(s);
    --s.attempt;
    world.end_leg(s, EndHow::retry_backend, EndReason::none);
    world.end_leg(s, static_cast<EndHow>(9), EndReason::none);
    world.tell(MessageType::flow_ended, s.id, channel::FlowEnded{});
    world.run_for(10ms);
    s.client.send(octets_of("up"));
    s.backend.send(octets_of("down"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data == octets_of("up") && s.client.data == octets_of("down"); }, 2s));
    EXPECT_EQ(world.drops(DropReason::channel_bad_message), 4u);
}

TEST_F(FlowControl, ShortAndStaleMessages_AreCounted) {
    World& world = make({});
    Session& s = world.open();
    for (int type = 0; type < 64; ++type)
        world.tell(static_cast<MessageType>(type), s.id, std::uint8_t{1});
    for (int type = 32; type < 36; ++type) world.tell(static_cast<MessageType>(type), FlowId{s.id.value ^ (std::uint64_t{1} << 32)}, channel::Handoff{});
    world.run_for(10ms);
    EXPECT_EQ(world.drops(DropReason::channel_bad_message), 64u);
    EXPECT_EQ(world.drops(DropReason::channel_stale_flow), 4u);
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s));
}

TEST_F(FlowControl, RingSpoilt_FlowsGoOn) {
    World& world = make({});
    Session& s = world.open();
    world.spoil_ring();
    world.run_for(10ms);
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s));
    world.stop_control();
    world.start_control();
    s.client.close_in_order();
    s.backend.close_in_order();
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
}

TEST_F(FlowControl, Redirect_PlainOctetsReachControlAndItsAnswerTheClient) {
    World& world = make({.redirect = true});
    std::string request;
    world.intercept = [&](const channel::Message& message) {
        if (message.type() != MessageType::stream_octets) return false;
        for (const std::byte octet : message.payload<channel::StreamOctets>()) request += static_cast<char>(octet);
        return true;
    };
    Session& s = world.connect();
    s.client.out.clear();
    s.client.send_raw(octets_of("GET / HTTP/1.1"));
    ASSERT_TRUE(world.run_until([&] { return request == "GET / HTTP/1.1"; }, 2s));
    // Neither TLS nor a backend, whatever control says.
    world.open_backend(s);
    world.hand_off(s, Side::client);
    world.run_for(10ms);
    EXPECT_FALSE(s.backend_accepted);
    EXPECT_EQ(world.drops(DropReason::channel_bad_message), 2u);
    s.client_consumed = 14;
    s.client.keys.suite = nullptr;
    s.client.preamble = 5;
    world.tell(MessageType::send_octets, s.id, channel::SendOctets{Side::client, 0, 14}, octets_of("moved"));
    world.tell(MessageType::end_leg, s.id, channel::EndLeg{Side::client, 0, EndHow::close, static_cast<std::uint8_t>(EndReason::redirected)});
    ASSERT_TRUE(world.run_until([&] { return s.ended || s.client.finished; }, 2s));
    world.run_for(3s);
    EXPECT_EQ(s.client.preamble_seen, octets_of("moved"));
    EXPECT_TRUE(s.client.finished);
    EXPECT_EQ(s.reason(), EndReason::redirected);
}

TEST_F(FlowControl, Redirect_NothingComes_EndsAsRefused) {
    World& world = make({.handshake_timeout = 1s, .redirect = true});
    Session& s = world.connect();
    s.client.out.clear();
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 6s));
    EXPECT_EQ(s.reason(), EndReason::redirect_refused);
}

TEST_F(FlowControl, Listens_ExactAddressBeforeAny) {
    World& world = make({});
    ServiceTable table = world.services();
    table.services.push_back({"exact", 30s, 10s, false, 81});
    table.services.push_back({"other port", 30s, 10s, false, 82});
    const IpAddress any = IpAddress::from_v4({0, 0, 0, 0});
    table.listens = {{{any, World::kService}, 0}, {{World::address(1), World::kService}, 1}, {{any, 80}, 2}};
    table.index();
    world.engine().serve(&table);
    std::uint64_t service = 0;
    world.intercept = [&](const channel::Message& message) {
        if (message.type() == MessageType::flow_opened) service = message.fixed<channel::FlowOpened>()->service;
        return false;
    };
    (void)world.open();
    EXPECT_EQ(service, 81u);
    ServiceTable fewer = table;
    fewer.listens = {{{any, World::kService}, 0}};
    fewer.index();
    world.engine().serve(&fewer);
    (void)world.open();
    EXPECT_EQ(service, World::kServiceId);
    world.engine().serve(&world.services());
}

TEST_F(FlowControl, ServiceRemoved_FlowsGoOnWithTheirTimeouts) {
    World& world = make({.idle_timeout = 10s});
    Session& s = world.open();
    ServiceTable none;
    none.generation = 4;
    world.engine().serve(&none);
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s));
    world.run_for(14s);
    EXPECT_EQ(s.reason(), EndReason::idle_timeout);
    world.engine().serve(nullptr);
}

TEST_F(FlowControl, IdleTimeoutShortened_HoldsForFlowsThatLive) {
    World& world = make({.idle_timeout = 3600s});
    Session& s = world.open();
    Session& other = world.open();
    ServiceTable table = world.services();
    table.services.insert(table.services.begin(), {"before", 30s, 10s, false, 80});   // where it stands says nothing
    table.services[1].idle_timeout = 5s;
    table.listens[0].service = 1;
    table.index();
    world.engine().serve(&table);
    world.run_for(3s);
    EXPECT_FALSE(s.ended);
    other.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 4500ms));
    EXPECT_EQ(s.reason(), EndReason::idle_timeout);
    EXPECT_FALSE(other.ended) << "it has had an octet since";
    ServiceTable longer = table;
    longer.services[1].idle_timeout = 100s;
    world.engine().serve(&longer);
    world.run_for(50s);
    EXPECT_FALSE(other.ended);
    world.engine().serve(&world.services());
}

TEST_F(FlowControl, ListenerMoved_FlowsGoOnAndNewOnesComeToTheNewPlace) {
    World& world = make({});
    Session& s = world.open();
    ServiceTable table = world.services();
    table.services.push_back({"new", 30s, 10s, false, 90});
    table.listens[0].service = 1;   // the same address, another service
    table.index();
    world.engine().serve(&table);
    std::uint64_t service = 0;
    world.intercept = [&](const channel::Message& message) {
        if (message.type() == MessageType::flow_opened) service = message.fixed<channel::FlowOpened>()->service;
        return false;
    };
    (void)world.open();
    EXPECT_EQ(service, 90u);
    s.client.send(octets_of("x"));
    ASSERT_TRUE(world.run_until([&] { return s.backend.data.size() == 1; }, 2s));
    world.engine().serve(&world.services());
}

TEST_F(FlowControl, OperatorEndsFlows_ThoseThatTheFilterMeans) {
    World& world = make({});
    Session& first = world.open();
    Session& second = world.open();
    const auto end = [&](const FlowEngine::Filter& filter) {
        std::uint64_t ended = 0;
        std::uint32_t next = 0;
        do ended += world.engine().end_matching(filter, next, 1, world.now());
        while (next != 0);
        return ended;
    };
    EXPECT_EQ(end({.service = 1}), 0u);
    EXPECT_EQ(end({.pool = 5, .member = 7}), 0u);
    EXPECT_EQ(end({.client = {World::address(2), 32}, .any_client = false}), 0u);
    EXPECT_EQ(end({.flow = first.id, .client_port = 1}), 0u);
    EXPECT_EQ(end({.service = World::kServiceId, .pool = 5, .member = 6, .flow = first.id, .client = {World::address(0), 24}, .any_client = false}), 1u);
    ASSERT_TRUE(world.run_until([&] { return first.ended; }, 5s));
    EXPECT_EQ(first.reason(), EndReason::operator_ended);
    EXPECT_FALSE(second.ended);
    EXPECT_EQ(end({}), 1u);
    ASSERT_TRUE(world.run_until([&] { return second.ended; }, 5s));
}

TEST_F(FlowControl, AddressGone_ItsFlowsAreReset) {
    World& world = make({});
    Session& s = world.open();
    world.engine().end_on_addresses([](const IpAddress& address) { return address == World::address(0); }, world.now());
    world.run_for(1s);
    EXPECT_FALSE(s.ended);
    world.engine().end_on_addresses([](const IpAddress& address) { return address == World::address(1); }, world.now());
    ASSERT_TRUE(world.run_until([&] { return s.ended; }, 5s));
    EXPECT_EQ(s.reason(), EndReason::address_removed);
    world.run_for(100ms);
    EXPECT_EQ(s.client.end, tcp::End::reset);
    EXPECT_EQ(s.backend.end, tcp::End::reset);
}

TEST(BackendLeg, OfTls_TheSynAckIsAcknowledgedByTheClientHello) {
    World world({.seed = 1});
    std::vector<std::size_t> to_backend;
    world.on_segment = [&](std::size_t to, std::size_t octets) {
        if (to == 2) to_backend.push_back(octets);
    };
    (void)world.open();
    ASSERT_GE(to_backend.size(), 2u);
    EXPECT_EQ(to_backend[0], 0u);   // the SYN
    EXPECT_GT(to_backend[1], 0u);
}

TEST(BackendLeg, OfPlainText_TheSynAckIsAcknowledgedAtOnce) {   // its client may wait for the backend to speak
    World world({.backend_suite = 0});
    std::vector<std::size_t> to_backend;
    world.on_segment = [&](std::size_t to, std::size_t octets) {
        if (to == 2) to_backend.push_back(octets);
    };
    (void)world.open();
    ASSERT_TRUE(world.run_until([&] { return to_backend.size() >= 2; }, 20ms));
    EXPECT_EQ(to_backend[1], 0u);
}

}  // namespace
}  // namespace sallyport::flow::test
