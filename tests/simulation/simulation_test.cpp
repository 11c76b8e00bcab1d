// Random connections through random networks: README.md tells how to run more of them, or one alone.

#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "crypto/sanitizers.h"
#include "tests/simulation/invariants.h"
#include "tests/simulation/segment_watch.h"
#include "tests/simulation/world.h"

namespace sallyport::simulation {
namespace {

using tcp::Connection;

/// What a side of a connection sends.
class Stream {
 public:
    explicit Stream(std::uint64_t seed) : shift_(seed * 7919 % kTable) {}
    void fill(std::uint64_t offset, std::byte* at, std::size_t length) const {
        pieces(offset, length, [&](const std::byte* octets, std::size_t done, std::size_t here) { std::memcpy(at + done, octets, here); });
    }
    [[nodiscard]] bool equals(std::uint64_t offset, const std::byte* at, std::size_t length) const {
        bool equal = true;
        pieces(offset, length,
               [&](const std::byte* octets, std::size_t done, std::size_t here) { equal = equal && std::memcmp(at + done, octets, here) == 0; });
        return equal;
    }

 private:
    static constexpr std::size_t kTable = 65521;  // prime, so that no segment size divides it
    template <typename Visit>
    void pieces(std::uint64_t offset, std::size_t length, Visit&& visit) const {
        std::size_t at = (offset + shift_) % kTable;
        for (std::size_t done = 0; done < length;) {
            const std::size_t here = std::min(length - done, kTable - at);
            visit(table().data() + at, done, here);
            done += here;
            at = 0;
        }
    }
    static const std::vector<std::byte>& table() {
        static const std::vector<std::byte> octets = [] {
            std::vector<std::byte> result(kTable);
            std::mt19937_64 random(4711);
            for (auto& octet : result) octet = static_cast<std::byte>(random());
            return result;
        }();
        return octets;
    }
    std::uint64_t shift_;
};

/// One side of one connection, and what its application means to do.
struct Side {
    Connection* connection = nullptr;
    Stream out{0}, in{0};
    std::uint64_t to_send = 0, sent = 0, expected = 0, received = 0;
    std::uint64_t abort_after = UINT64_MAX;    ///< octets received after which it gives up
    bool release_instead = false;
    std::size_t write_size = 4096;
    bool mixed_writes = false;                 ///< of one octet up to write_size
    Duration write_pause{};                    ///< at most so long between two writes: what Nagle's algorithm is for
    Time write_at = Time::min();
    Duration read_pause{};                     ///< a slow reader
    Time wake_at = Time::max();
    std::uint64_t stall_after = UINT64_MAX;    ///< octets received after which it reads nothing for a while
    Duration stall{};
    bool stalls = false;                       ///< now
    bool closes_window = false;                ///< meanwhile it reads what comes, and lets nothing more come
    std::vector<Time> nagle_changes;           ///< when it switches Nagle's algorithm on or off
    bool nagle = false;
    bool readable = false, writable = false;   ///< as the stack has told
    bool closed = false, peer_closed = false, over = false, established = false;
    tcp::End end = tcp::End::none;
};

enum class Opening : std::uint8_t {
    client,       ///< all at once
    both,         ///< simultaneous open (RFC 9293 3.5, figure 7)
    same_ports,   ///< one after the other, with the same ports: over TIME-WAIT of either side
};

struct Case {
    std::uint64_t seed;
    World::Settings world;
    bool rough = false;      ///< some sides abort
    Time dead_at = Time::max();   ///< from then on nothing passes: all must give up by themselves
    Duration last_acks_lost{};    ///< of what a connection in TIME-WAIT says, for so long
    Opening opening = Opening::client;
    std::array<bool, 2> large_buffers{};   ///< for several segments at once, which each host's card cuts, if it does
    std::vector<std::array<Side, 2>> sides;
};

constexpr std::uint16_t kClientPort = 6000, kServerPort = 443;

double uniform(std::mt19937_64& random, double low, double high) { return std::uniform_real_distribution<>(low, high)(random); }

bool one_in(std::mt19937_64& random, unsigned n) { return random() % n == 0; }

Link random_link(std::mt19937_64& random) {
    Link link;
    if (!one_in(random, 4)) link.loss = std::pow(10, uniform(random, -4, -1));
    if (one_in(random, 5)) link.burst_loss = 0.003;
    if (one_in(random, 3)) link.duplication = uniform(random, 0, 0.05);
    if (one_in(random, 3)) link.reordering = uniform(random, 0, 0.2);
    if (one_in(random, 4)) link.corruption = uniform(random, 0, 0.02);
    link.delay = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 4, 8)))};  // 10 us to 100 ms
    if (one_in(random, 3)) link.jitter = link.delay / 2 + 1us;
    if (!one_in(random, 3)) link.bits_per_second = std::pow(10, uniform(random, 6, 10));
    link.queue = 5 + random() % 200;
    if (one_in(random, 3)) link.device_holds = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 4, 9)))};
    return link;
}

std::uint64_t random_size(std::mt19937_64& random) {
    return one_in(random, 8) ? 0 : static_cast<std::uint64_t>(std::pow(10, uniform(random, 0, 5.6)));
}

/// A moment in the life of most connections: 1 ms to 10 s after the start.
Time random_moment(std::mt19937_64& random) { return Time{1s} + Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 6, 10)))}; }

/// What happens to a network now and then.
void random_events(std::mt19937_64& random, World::Settings& world) {
    if (one_in(random, 6)) {   // a hop's MTU falls, and may rise again
        Link& link = one_in(random, 2) ? world.to_server : world.to_client;
        link.black_hole = one_in(random, 2);
        const unsigned least = world.ipv6 ? 1280 : link.black_hole ? 1064 : 552;   // below them TCP does not go: icmp_error.cpp, open.cpp
        if (world.mtu > least) {
            link.hops.push_back({random_moment(random), static_cast<std::uint16_t>(least + random() % (world.mtu - least))});
            if (one_in(random, 3)) link.hops.push_back({link.hops[0].at + 5s, world.mtu});
        }
    }
    if (one_in(random, 8)) {   // one way or both are cut for a while
        const Time from = random_moment(random);
        const Duration length{static_cast<std::int64_t>(std::pow(10, uniform(random, 8.5, 10.5)))};   // 0.3 s to 30 s
        if (!one_in(random, 3)) world.to_server.outages.push_back({from, from + length});
        if (!one_in(random, 3)) world.to_client.outages.push_back({from, from + length});
    }
    if (one_in(random, 6)) {
        for (const std::uint8_t kind : {3, 4, 8, 28})   // window scale, SACK permitted, timestamps, user timeout
            if (one_in(random, 2)) world.to_server.stripped.push_back(kind);
        // Of these the server goes by what the client said, which a peer must bear. Without the others nobody could.
        if (one_in(random, 2)) world.to_client.stripped.push_back(4);
        world.to_server.strips_ecn = one_in(random, 2);
        world.to_client.strips_ecn = one_in(random, 2);
    }
    for (Link* link : {&world.to_server, &world.to_client})
        if (one_in(random, 3)) link->congestion_marks = one_in(random, 4) ? 1 : uniform(random, 0, 0.2);
    for (Link* link : {&world.to_server, &world.to_client}) link->marks_instead = one_in(random, 3);
    if (one_in(random, 8)) {
        std::vector<WindowTaker::Step>& steps = world.takes_windows_back[random() % 2];
        for (std::size_t count = 1 + random() % 5; count > 0; --count)
            steps.push_back({random_moment(random), one_in(random, 3) ? 0 : static_cast<std::uint32_t>(std::pow(10, uniform(random, 2, 5)))});
        std::ranges::sort(steps, {}, &WindowTaker::Step::at);
        steps.push_back({steps.back().at + Duration{static_cast<std::int64_t>(random() % 60'000'000'000)}, UINT32_MAX});
    }
}

/// Which of its manners TCP is to have. None of the times may end a connection through a network that only loses much.
void random_manners(std::mt19937_64& random, tcp::Settings& settings) {
    settings.ecn = static_cast<tcp::Ecn>(random() % 3);
    settings.nagle = one_in(random, 3);
    settings.pacing = !one_in(random, 4);
    settings.user_timeout = std::chrono::seconds(300 + random() % 300);
    settings.user_timeout_option = one_in(random, 2);
    settings.most_user_timeout = std::chrono::seconds(100 + random() % 900);
    if (one_in(random, 3)) {
        settings.keepalive_idle = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 9, 11.3)))};   // 1 s to 200 s
        settings.keepalive_interval = Duration{5s} + Duration{random() % 10'000'000'000};
        settings.keepalive_probes = 12;
    }
}

Case make_case(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Case result{.seed = seed, .world = {}, .sides = {}};
    World::Settings& world = result.world;
    world.seed = seed;
    world.ipv6 = random() % 2 == 0;
    world.mtu = random() % 4 == 0 ? 1280 + random() % 700 : 1500;
    world.to_server = random_link(random);
    world.to_client = random_link(random);
    world.chained_frames = one_in(random, 4);
    random_events(random, world);
    if (one_in(random, 4)) result.opening = one_in(random, 2) ? Opening::both : Opening::same_ports;
    const bool short_of_buffers = one_in(random, 5);
    for (tcp::Settings* settings : {&world.client, &world.server}) {
        settings->max_connections = 64;
        settings->syn_timeout = 600s;
        random_manners(random, *settings);
        settings->max_half_open = random() % 4 == 0 ? 0 : 64;  // cookies only
        settings->receive_buffer = 4096 + static_cast<std::uint32_t>(random() % 400000);
        settings->send_buffer = 4096 + static_cast<std::uint32_t>(random() % 400000);
        settings->max_reassembly_segments = random() % 4 == 0 ? 4 + random() % 20 : 256;
        if (short_of_buffers) {
            settings->receive_budget = 24 + static_cast<std::uint32_t>(random() % 200);
            settings->transmit_budget = 24 + static_cast<std::uint32_t>(random() % 200);
        }
        if (result.opening == Opening::same_ports) {   // an ACK left over could complete a cookie of the connection before
            settings->max_half_open = 64;
            settings->port_low = settings->port_high = kClientPort;
        }
    }
    if (result.opening == Opening::both) {
        world.to_client.stripped = world.to_server.stripped;   // each goes by the other's SYN; one way alone nobody could bear
        world.client.port_low = world.client.port_high = kClientPort;
        world.server.port_low = world.server.port_high = kServerPort;
    }
    result.rough = result.opening == Opening::client && one_in(random, 6);
    if (one_in(random, 12)) {   // else all is well, so that TIME-WAIT outlasts the longest time between two FINs
        result.last_acks_lost = Duration{35s} + Duration{random() % 10'000'000'000};
        for (Link* link : {&world.to_server, &world.to_client}) {
            link->loss = link->burst_loss = link->corruption = 0;
            link->queue = 10000;
            link->outages.clear();
            link->hops.clear();
        }
        world.takes_windows_back = {};
    } else if (result.opening == Opening::client && one_in(random, 12)) {
        result.dead_at = Time{1s} + Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 6, 9.5)))};   // 1 ms to 3 s
        for (Link* link : {&world.to_server, &world.to_client}) link->outages.push_back({result.dead_at, Time::max()});
    }
    if (!result.rough && result.dead_at == Time::max())   // else a peer may be gone without a word
        for (tcp::Settings* settings : {&world.client, &world.server})
            if (one_in(random, 8)) settings->keepalive_idle = {};
    const std::size_t connections = result.opening == Opening::both ? 1 : 1 + random() % 4;
    for (std::size_t i = 0; i < connections; ++i) {
        std::array<Side, 2> sides;
        for (auto& side : sides) {
            side.to_send = random_size(random);
            side.write_size = 1 + random() % (random() % 3 == 0 ? 100 : 30000);
            if (side.write_size < 100) side.to_send = std::min<std::uint64_t>(side.to_send, 20000);
            side.mixed_writes = one_in(random, 4);
            if (side.mixed_writes) side.to_send = std::min<std::uint64_t>(side.to_send, 100000);
            if (one_in(random, 6)) {
                side.write_pause = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 4, 8)))};   // 10 us to 100 ms
                side.write_size = 1 + random() % 400;
                side.to_send = std::min<std::uint64_t>(side.to_send, 20 * side.write_size);
            }
            if (one_in(random, 5)) side.read_pause = Duration{static_cast<std::int64_t>(random() % 300'000'000)};
            if (one_in(random, 10)) {
                side.stall_after = random_size(random);
                side.stall = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 8, 11.3)))};   // 0.1 s to 200 s
                side.closes_window = one_in(random, 2);
            }
            if (one_in(random, 6)) {
                side.nagle = one_in(random, 2);
                for (std::size_t count = 1 + random() % 6; count > 0; --count) side.nagle_changes.push_back(random_moment(random));
                std::ranges::sort(side.nagle_changes, std::greater{});   // the next one last
            }
            if (result.rough && random() % 2 == 0) {
                side.abort_after = random_size(random);
                side.release_instead = random() % 2 == 0;
            }
        }
        for (int j = 0; j < 2; ++j) {
            sides[j].out = Stream(seed * 100 + i * 2 + j);
            sides[j].in = Stream(seed * 100 + i * 2 + 1 - j);
            sides[j].expected = sides[1 - j].to_send;
        }
        result.sides.push_back(std::move(sides));
    }
    for (std::uint16_t& buffers : world.segmentation)
        if (one_in(random, 3)) buffers = static_cast<std::uint16_t>(2 + random() % 44);
    for (bool& large : result.large_buffers) large = one_in(random, 2);
    return result;
}

/// Watches the wire: the right edge of no window moves back by more than the window field cannot express (RFC 7323 2.4), and nobody sends
/// beyond what the other end has ever promised.
class WindowWatch {
 public:
    void forget(int from, std::uint16_t source, std::uint16_t destination) {
        Flow& flow = flows_[{from, source, destination}];
        const int shift = flow.shift;
        flow = {};
        flow.shift = shift;
    }
    void see(int from, const rte_mbuf& octets) {
        const auto frame = FrameView::of({rte_pktmbuf_mtod(&octets, std::byte*), octets.data_len});
        if (!frame) return;
        Flow& flow = flows_[{from, frame->source_port(), frame->destination_port()}];
        const Flow& other = flows_[{1 - from, frame->destination_port(), frame->source_port()}];
        if (frame->has(wire::kSyn)) {
            const auto scale = frame->option(3);
            if (!frame->has(wire::kAck)) flow.promised.reset();
            flow.shift = scale.size() == 3 ? static_cast<int>(scale[2]) : -1;
            flow.known = false;
            if (frame->has(wire::kAck)) flow.promised = frame->ack() + frame->window();
            return;
        }
        if (frame->has(wire::kRst)) return;
        if (frame->sequence_length() > 0 && other.promised) {
            const std::uint32_t end = frame->seq() + frame->sequence_length();
            EXPECT_LE(static_cast<std::int32_t>(end - *other.promised), 0) << "sent beyond the window";
        }
        const int shift = flow.shift >= 0 && other.shift >= 0 ? flow.shift : 0;
        const std::uint32_t edge = frame->ack() + (std::uint32_t{frame->window()} << shift);
        const auto moved = static_cast<std::int32_t>(edge - flow.edge);
        if (flow.known) {
            EXPECT_GT(moved, -(1 << shift)) << "window shrunk";
        }
        if (!flow.known || moved > 0) flow.edge = edge;
        flow.known = true;
        if (!flow.promised || static_cast<std::int32_t>(edge - *flow.promised) > 0) flow.promised = edge;
    }

 private:
    struct Flow {
        int shift = -1;
        std::uint32_t edge = 0;
        bool known = false;
        std::optional<std::uint32_t> promised;
    };
    std::map<std::tuple<int, std::uint16_t, std::uint16_t>, Flow> flows_;
};

class Execution {
 public:
    /// `trace` may be null. With it every buffer is looked at after every event.
    Execution(Case& test, test::BufferPool& pool, Trace* trace)
        : case_(test), world_(test.world, pool), thorough_(trace != nullptr),
          segments_({&core(0), &core(1)}, {world_.client_address(0).address, world_.server_address(0).address}, test.last_acks_lost) {
        world_.trace = trace;
        world_.drop = [this](int from, const rte_mbuf& frame) {
            watch_.see(from, frame);
            return segments_.leaves(from, frame, world_.now());
        };
        world_.arrives = [this](int to, const rte_mbuf& frame) { segments_.arrives(to, frame); };
        world_.arrived = [this](int to) { segments_.arrived(to, world_.now()); };
        world_.application = [this](int host) { serve(host); };
        world_.after_output = [this](int host) { check(host); };
        if (test.opening != Opening::both) world_.server().stack.listen(world_.server_address(kServerPort));
    }

    void go() {
        for (std::size_t i = 0; i < case_.sides.size() && (i == 0 || case_.opening == Opening::client); ++i) open(i);
        if (case_.opening == Opening::both) {
            const auto connection = world_.server().stack.connect(world_.client_address(kClientPort), 0, 600s, world_.now());
            ASSERT_TRUE(connection);
            case_.sides[0][1].connection = *connection;
        }
        world_.application_at = world_.now();
        const Time limit = case_.dead_at != Time::max() ? case_.dead_at + patience() : world_.now() + std::chrono::hours(3);
        while (!all_over() && world_.step(limit) && !failed()) {
        }
        if (failed()) return;
        for (const auto& sides : case_.sides)
            for (const Side& side : sides) {
                if (case_.rough || case_.dead_at != Time::max()) continue;
                EXPECT_EQ(side.received, side.expected);
                EXPECT_FALSE(case_.last_acks_lost > Duration{} && reset_at_the_end(side)) << "TIME-WAIT did not last until the last ACK was there";
                resets_at_the_end += reset_at_the_end(side) ? 1 : 0;
                EXPECT_TRUE(side.end == tcp::End::finished || reset_at_the_end(side)) << static_cast<int>(side.end);
            }
        EXPECT_TRUE(all_over()) << "a connection has no end; " << world_.client().stack.connections() << " and "
                                << world_.server().stack.connections() << " are left";
        EXPECT_EQ(world_.client().stack.buffers_held(), 0u);
        EXPECT_EQ(world_.server().stack.buffers_held(), 0u);
        EXPECT_EQ(world_.client().stack.half_open() + world_.server().stack.half_open(), 0u);
    }

    std::uint64_t resets_at_the_end = 0, given_up = 0;
    [[nodiscard]] std::uint64_t cut() const { return world_.cut; }
    [[nodiscard]] const SegmentWatch::Seen& seen() const { return segments_.seen(); }

 private:
    [[nodiscard]] tcp::Core& core(int host) { return tcp::CoreTestAccess::core((host == 0 ? world_.client() : world_.server()).stack); }

    /// How long a connection may take to find out that nobody is there: a user timeout or keepalive's (RFC 9293 3.8.3, 3.8.4), whatever its
    /// user was waiting for before, and TIME-WAIT.
    [[nodiscard]] Duration patience() const {
        Duration most{};
        for (const tcp::Settings* settings : {&case_.world.client, &case_.world.server})
            most = std::max({most, settings->syn_timeout, settings->user_timeout, settings->user_timeout_option ? settings->most_user_timeout : Duration{},
                             settings->keepalive_idle + (settings->keepalive_probes + 1) * settings->keepalive_interval});
        return most + 200s + 60s + 2 * case_.world.client.msl;
    }

    void open(std::size_t i) {
        const auto connection = world_.client().stack.connect(world_.server_address(kServerPort), i, 600s, world_.now());
        if (!connection && case_.opening == Opening::same_ports) {   // in TIME-WAIT, and not reusable yet
            open_at_ = world_.now() + 500ms;
            return;
        }
        ASSERT_TRUE(connection);
        open_at_ = Time::max();
        opened_ = i + 1;
        case_.sides[i][0].connection = *connection;
        by_port_[(*connection)->local().port] = i;
    }

    /// All ACKs of our FIN were lost, and the peer's TIME-WAIT over before it came again: by time, or by a new connection with these ports.
    [[nodiscard]] static bool reset_at_the_end(const Side& side) {
        return side.end == tcp::End::reset && side.closed && side.peer_closed && side.sent == side.to_send;
    }

    [[nodiscard]] static int failures() { return testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count(); }
    [[nodiscard]] bool failed() const { return failures() > failures_before_; }

    bool all_over() {
        for (const auto& sides : case_.sides)
            if (!sides[0].over || (sides[1].established && !sides[1].over)) return false;
        return world_.client().stack.connections() == 0 && world_.server().stack.connections() == 0;
    }

    void check(int host) {
        const auto look = thorough_ || ++events_ % 16 == 0 ? Look::whole : Look::quick;
        std::string wrong = Invariants::violated(core(host), look, saturates());
        if (wrong.empty() && look == Look::whole && case_.world.client.receive_budget == 0)
            wrong = Invariants::sacked_in_vain(core(host), core(1 - host));
        if (wrong.empty()) return;
        ADD_FAILURE() << (host == 0 ? "client, " : "server, ") << std::chrono::duration<double>(world_.now().time_since_epoch()).count() << " s, "
                      << wrong;
    }

    /// Whether workers are saturated at times; if they never are, more of the invariants hold.
    [[nodiscard]] bool saturates() const { return case_.seed % 2 == 0; }

    void serve(int host) {
        tcp::Stack& stack = (host == 0 ? world_.client() : world_.server()).stack;
        stack.set_saturated(saturates() && (world_.now().time_since_epoch() / 7ms + host) % 3 == 0);   // it comes and goes
        while (true) {
            const auto ready = stack.next_ready();
            if (ready.connection == nullptr) break;
            if (host == 1 && case_.opening != Opening::both && (ready.events & tcp::event::kEstablished) != 0) {
                const auto found = by_port_.find(ready.connection->remote().port);
                ASSERT_NE(found, by_port_.end());
                if (case_.sides[found->second][1].established) {
                    // A segment that came late completed the cookie again after the server was done with the connection.
                    ASSERT_EQ(case_.world.server.max_half_open, 0u);
                    watch_.forget(host, kServerPort, ready.connection->remote().port);
                    ready.connection->abort();
                    ready.connection->release();
                    continue;
                }
                ready.connection->user = found->second;
                case_.sides[found->second][1].connection = ready.connection;
            }
            Side& side = case_.sides[ready.connection->user][host];
            if ((ready.events & tcp::event::kEstablished) != 0) side.established = side.writable = true;
            if ((ready.events & tcp::event::kPeerClosed) != 0) side.peer_closed = true;
            if ((ready.events & tcp::event::kReadable) != 0) side.readable = true;
            if ((ready.events & tcp::event::kWritable) != 0) side.writable = true;
            if (side.readable) read(side);
            if (side.connection == nullptr) continue;
            if ((ready.events & tcp::event::kEnded) != 0) {
                drain(side);
                side.end = side.connection->end();
                given_up += side.end == tcp::End::timed_out ? 1 : 0;
                side.over = true;
                side.connection->release();
                side.connection = nullptr;
            }
        }
        // Only what the stack has told, or a time that we chose, moves an application: a lost event is a connection without an end.
        for (auto& sides : case_.sides) {
            Side& side = sides[host];
            if (side.connection == nullptr || !side.established) continue;
            change_nagle(side);
            if (side.wake_at <= world_.now()) read(side);
            if (side.connection != nullptr && side.writable && side.write_at <= world_.now()) write(side, (host == 0 ? case_.world.client : case_.world.server).send_buffer);
            world_.application_at = std::min(world_.application_at, side.wake_at);
            if (side.write_at > world_.now()) world_.application_at = std::min(world_.application_at, side.write_at);
        }
        if (host == 0 && case_.opening == Opening::same_ports && opened_ < case_.sides.size()) {
            const std::array<Side, 2>& before = case_.sides[opened_ - 1];
            if (before[0].over && before[1].over && open_at_ == Time::max()) open_at_ = world_.now() + Duration{1 + world_.random()() % 3'000'000'000};
            if (open_at_ <= world_.now()) open(opened_);
            world_.application_at = std::min(world_.application_at, open_at_);
        }
    }

    void change_nagle(Side& side) {
        while (!side.nagle_changes.empty() && side.nagle_changes.back() <= world_.now()) {
            side.nagle_changes.pop_back();
            side.connection->set_nagle(side.nagle);
            side.nagle = !side.nagle;
        }
        if (!side.nagle_changes.empty()) world_.application_at = std::min(world_.application_at, side.nagle_changes.back());
    }

    void take(Side& side, std::uint32_t length) {
        if (length == 0) return;
        std::array<tcp::WritePiece, 512> pieces;
        const std::size_t count = side.connection->peek(0, length, pieces);
        ASSERT_GT(count, 0u);
        std::uint64_t offset = side.received;
        for (std::size_t i = 0; i < count; ++i) {
            ASSERT_TRUE(side.in.equals(offset, pieces[i].data, pieces[i].length)) << "other octets than were sent, at " << offset;
            std::memset(pieces[i].data, 0xdd, pieces[i].length);  // as decryption in place overwrites them
            offset += pieces[i].length;
        }
        ASSERT_EQ(offset, side.received + length);
        side.received += length;
        side.connection->consume(length);
        ASSERT_LE(side.received, side.expected);
    }

    void read(Side& side) {
        const bool woken = side.wake_at <= world_.now();
        if (woken && side.stalls) {
            side.stalls = false;
            if (side.closes_window) side.connection->set_receive_limit(UINT32_MAX);
        }
        if (woken) side.wake_at = Time::max();
        if (side.wake_at != Time::max() && !(side.stalls && side.closes_window)) return;   // pauses
        if (!side.stalls && side.received >= side.stall_after) {
            side.stall_after = UINT64_MAX;
            side.stalls = true;
            side.wake_at = world_.now() + side.stall;
            if (!side.closes_window) return;
            side.connection->set_receive_limit(0);
        }
        std::uint32_t length = side.connection->readable();
        side.readable = false;
        if (side.read_pause > Duration{} && length > 0 && !side.stalls) {
            length = std::min<std::uint32_t>(length, 1 + world_.random()() % 20000);
            side.wake_at = world_.now() + side.read_pause;
        }
        take(side, length);
        if (side.received >= side.abort_after) {
            side.abort_after = UINT64_MAX;
            if (!side.release_instead) side.connection->abort();
            side.connection->release();
            side.connection = nullptr;
            side.over = true;
        }
    }

    void drain(Side& side) { take(side, side.connection->readable()); }

    void write(Side& side, std::uint32_t buffer) {
        std::vector<std::byte>& octets = octets_;
        while (side.sent < side.to_send) {
            const std::size_t most = side.mixed_writes && one_in(world_.random(), 2) ? 1 + world_.random()() % 20 : side.write_size;
            const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(most, side.to_send - side.sent));
            const std::uint32_t space = side.connection->send_space();
            // Under pressure nobody gets more than a share, and waiting for more would be in vain.
            if (space < std::min({length, std::size_t{buffer / 4}, std::size_t{tcp::kShareUnderPressure}})) {
                side.writable = false;
                break;
            }
            const std::size_t now = std::min<std::size_t>(length, space);
            octets.resize(now);
            side.out.fill(side.sent, octets.data(), now);
            if (!side.connection->send(octets)) break;
            side.sent += now;
            if (side.write_pause > Duration{}) {
                side.write_at = world_.now() + Duration{1 + static_cast<std::int64_t>(world_.random()() % static_cast<std::uint64_t>(side.write_pause.count()))};
                break;
            }
        }
        if (side.sent == side.to_send && !side.closed) {
            side.closed = true;
            side.connection->close();
        }
    }

    Case& case_;
    World world_;
    bool thorough_;
    WindowWatch watch_;
    SegmentWatch segments_;
    std::map<std::uint16_t, std::size_t> by_port_;
    std::size_t opened_ = 0;
    Time open_at_ = Time::max();
    std::uint64_t events_ = 0;
    int failures_before_ = failures();
    std::vector<std::byte> octets_;
};

std::uint64_t variable(const char* name, std::uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

const std::filesystem::path& program() {
    static const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe");
    return path;
}
std::string trace_of(std::uint64_t seed) { return (program().parent_path() / ("seed-" + std::to_string(seed) + ".pcapng")).string(); }

/// A crash, too, leaves its trace: the seed runs again, alone.
volatile std::uint64_t current_seed = 0;
volatile bool alone = false;
char program_path[4096];
extern "C" char** environ;
void crashed(int signal) {
    const auto seed = static_cast<unsigned long long>(current_seed);
    std::fprintf(stderr, "seed %llu: signal %d\n", seed, signal);
    if (alone) std::_Exit(128 + signal);
    std::array<char, 64> variable;
    std::snprintf(variable.data(), variable.size(), "SALLYPORT_SIMULATION_SEED=%llu", seed);
    static std::array<char*, 1024> environment;
    std::size_t count = 0;
    environment[count++] = variable.data();
    for (char** at = environ; *at != nullptr && count + 1 < environment.size(); ++at) environment[count++] = *at;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    char* arguments[] = {program_path, nullptr};
    execve(program_path, arguments, environment.data());
    std::_Exit(128 + signal);
}

/// Of all processes together. A sanitizer makes a connection cost ten times as much.
#if SALLYPORT_ASAN || SALLYPORT_TSAN
constexpr std::uint64_t kConnections = 20'000;
#else
constexpr std::uint64_t kConnections = 200'000;
#endif

TEST(Simulation, RandomConnectionsThroughRandomNetworks_EndWithEveryOctetInOrder) {
    test::BufferPool pool(8191), large(63, drivers::kLargeDataRoom);   // few of these, so that at times there is none
    const std::uint64_t only = variable("SALLYPORT_SIMULATION_SEED", 0);
    alone = only != 0;
    // Seeds are dealt out to the processes in turn.
    const std::uint64_t shards = alone ? 1 : variable("SALLYPORT_SIMULATION_SHARDS", 1), shard = alone ? only : variable("SALLYPORT_SIMULATION_SHARD", 1);
    const std::uint64_t wanted = alone ? 1 : variable("SALLYPORT_SIMULATION_CONNECTIONS", kConnections) / shards;
    const std::uint64_t base = alone ? 0 : variable("SALLYPORT_SIMULATION_BASE", 0);
    std::snprintf(program_path, sizeof program_path, "%s", program().c_str());
    for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, crashed);
    std::uint64_t connections = 0, resets_at_the_end = 0, given_up = 0, cut = 0;
    SegmentWatch::Seen seen;
    for (std::uint64_t seed = base + shard; connections < wanted; seed += shards) {
        current_seed = seed;
        const auto run = [&](const std::string& file) {
            const std::unique_ptr<Trace> trace = file.empty() ? nullptr : std::make_unique<Trace>(file);
            Case test = make_case(seed);
            if (test.large_buffers[0]) test.world.client.large_buffers = large.get();
            if (test.large_buffers[1]) test.world.server.large_buffers = large.get();
            connections += test.sides.size();
            Execution execution(test, pool, trace.get());
            execution.go();
            resets_at_the_end += execution.resets_at_the_end;
            given_up += execution.given_up;
            cut += execution.cut();
            seen += execution.seen();
        };
        if (alone) std::cout << "trace: " << trace_of(seed) << '\n';
        run(alone ? trace_of(seed) : "");
        EXPECT_EQ(pool.in_use() + large.in_use(), 0u) << "packet buffers leaked";
        if (!HasFailure()) continue;
        if (!alone) {
            std::cout << "seed " << seed << " failed; once more, for its trace\n";
            run(trace_of(seed));
        }
        FAIL() << "seed " << seed << "\n  its packets:       " << trace_of(seed) << "\n  to run it alone:   SALLYPORT_SIMULATION_SEED=" << seed << ' '
               << program().string();
    }
    if (!alone) {
        EXPECT_LE(resets_at_the_end, 10 + connections / 10000);
        for (const std::uint64_t each : {seen.ecn_capable, seen.marks, seen.echoes, seen.reductions, seen.small_with_nagle, seen.keepalive_probes,
                                         seen.fins_in_time_wait, seen.user_timeouts, given_up, cut})
            EXPECT_GT(each, connections / 1000) << "what was to be watched did not happen";
    }
    RecordProperty("connections", std::to_string(connections));
    std::cout << connections << " connections, " << resets_at_the_end << " of them reset after all was said; given up " << given_up << ", frames cut by cards " << cut << ", ECN-capable " << seen.ecn_capable << ", marks " << seen.marks << ", echoes "
              << seen.echoes << ", reductions " << seen.reductions << ", Nagle " << seen.small_with_nagle << ", keepalive probes " << seen.keepalive_probes
              << ", FINs in TIME-WAIT " << seen.fins_in_time_wait << ", user timeouts " << seen.user_timeouts << '\n';
}

}  // namespace
}  // namespace sallyport::simulation
