// Random connections through random networks. A failure names its seed; SALLYPORT_SIMULATION_SEED=N runs that one alone, and
// SALLYPORT_SIMULATION_COUNT=N as many as wanted.

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "tests/simulation/world.h"

namespace sallyport::simulation {
namespace {

using tcp::Connection;

/// Octet `offset` of what a side of a connection sends.
class Stream {
 public:
    explicit Stream(std::uint64_t seed) : shift_(seed * 7919 % kTable) {}
    void fill(std::uint64_t offset, std::byte* at, std::size_t length) const {
        for (std::size_t i = 0; i < length; ++i) at[i] = octet(offset + i);
    }
    [[nodiscard]] bool equals(std::uint64_t offset, const std::byte* at, std::size_t length) const {
        for (std::size_t i = 0; i < length; ++i)
            if (at[i] != octet(offset + i)) return false;
        return true;
    }

 private:
    static constexpr std::size_t kTable = 65521;  // prime, so that no segment size divides it
    [[nodiscard]] std::byte octet(std::uint64_t offset) const { return table()[(offset + shift_) % kTable]; }
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
    Duration read_pause{};                     ///< a slow reader
    Time read_at{};
    bool closed = false, peer_closed = false, over = false, established = false;
    tcp::End end = tcp::End::none;
};

struct Case {
    std::uint64_t seed;
    World::Settings world;
    bool rough = false;      ///< some sides abort
    std::vector<std::array<Side, 2>> sides;
};

double uniform(std::mt19937_64& random, double low, double high) { return std::uniform_real_distribution<>(low, high)(random); }

Link random_link(std::mt19937_64& random) {
    Link link;
    if (random() % 4 != 0) link.loss = std::pow(10, uniform(random, -4, -1));
    if (random() % 5 == 0) link.burst_loss = 0.003;
    if (random() % 3 == 0) link.duplication = uniform(random, 0, 0.05);
    if (random() % 3 == 0) link.reordering = uniform(random, 0, 0.2);
    if (random() % 4 == 0) link.corruption = uniform(random, 0, 0.02);
    link.delay = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 4, 8)))};  // 10 us to 100 ms
    if (random() % 3 == 0) link.jitter = link.delay / 2 + 1us;
    if (random() % 3 != 0) link.bits_per_second = std::pow(10, uniform(random, 6, 10));
    link.queue = 5 + random() % 200;
    if (random() % 3 == 0) link.device_holds = Duration{static_cast<std::int64_t>(std::pow(10, uniform(random, 4, 9)))};
    return link;
}

std::uint64_t random_size(std::mt19937_64& random) {
    return random() % 8 == 0 ? 0 : static_cast<std::uint64_t>(std::pow(10, uniform(random, 0, 5.6)));
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
    world.chained_frames = random() % 4 == 0;
    for (tcp::Settings* settings : {&world.client, &world.server}) {
        settings->max_connections = 64;
        settings->syn_timeout = 600s;
        settings->user_timeout = 600s;
        settings->max_half_open = random() % 4 == 0 ? 0 : 64;  // cookies only
        settings->receive_buffer = 4096 + static_cast<std::uint32_t>(random() % 400000);
        settings->send_buffer = 4096 + static_cast<std::uint32_t>(random() % 400000);
        settings->max_reassembly_segments = random() % 4 == 0 ? 4 + random() % 20 : 256;
    }
    result.rough = random() % 6 == 0;
    const std::size_t connections = 1 + random() % 4;
    for (std::size_t i = 0; i < connections; ++i) {
        std::array<Side, 2> sides;
        for (auto& side : sides) {
            side.to_send = random_size(random);
            side.write_size = 1 + random() % (random() % 3 == 0 ? 100 : 30000);
            if (side.write_size < 100) side.to_send = std::min<std::uint64_t>(side.to_send, 20000);
            if (random() % 5 == 0) side.read_pause = Duration{static_cast<std::int64_t>(random() % 300'000'000)};
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
    return result;
}

/// Watches the wire: the right edge of no window moves back by more than the window field cannot express (RFC 7323 2.4).
class WindowWatch {
 public:
    void see(const rte_mbuf& frame) {
        const auto* at = rte_pktmbuf_mtod(&frame, const std::uint8_t*);
        std::size_t tcp;
        if (at[12] == 0x08 && at[13] == 0x00 && at[23] == 6)
            tcp = 14 + (at[14] & 15) * 4;
        else if (at[12] == 0x86 && at[20] == 6)
            tcp = 14 + 40;
        else
            return;
        const auto word = [&](std::size_t offset) {
            std::uint32_t value;
            std::memcpy(&value, at + tcp + offset, 4);
            return __builtin_bswap32(value);
        };
        const std::uint8_t flags = at[tcp + 13];
        const std::uint32_t window = word(12) & 0xffff;
        Flow& flow = flows_[{at[6 + 5], word(0)}];
        if ((flags & 2) != 0) {  // SYN: find its window scale
            flow.shift = -1;
            const std::size_t end = tcp + (at[tcp + 12] >> 4) * 4;
            for (std::size_t i = tcp + 20; i < end && at[i] != 0;) {
                if (at[i] == 3) flow.shift = at[i + 2];
                i += at[i] == 1 ? 1 : at[i + 1];
            }
            flow.known = false;
            return;
        }
        if ((flags & 4) != 0 || flow.shift < 0) return;
        const std::uint32_t edge = word(8) + (window << flow.shift);
        if (flow.known) {
            const auto moved = static_cast<std::int32_t>(edge - flow.edge);
            EXPECT_GT(moved, -(1 << flow.shift)) << "window shrunk";
            if (moved < 0) ++retreats;
        }
        if (!flow.known || static_cast<std::int32_t>(edge - flow.edge) > 0) flow.edge = edge;
        flow.known = true;
    }
    std::uint64_t retreats = 0;

 private:
    struct Flow {
        int shift = -1;
        std::uint32_t edge = 0;
        bool known = false;
    };
    std::map<std::pair<std::uint8_t, std::uint32_t>, Flow> flows_;
};

class Execution {
 public:
    Execution(Case& test, test::BufferPool& pool) : case_(test), world_(test.world, pool) {
        world_.drop = [this](int, const rte_mbuf& frame) {
            watch_.see(frame);
            return false;
        };
        world_.application = [this](int host) { serve(host); };
        world_.server().stack.listen(world_.server_address(443));
    }

    void go() {
        for (std::size_t i = 0; i < case_.sides.size(); ++i) {
            const auto connection = world_.client().stack.connect(world_.server_address(443), i, 600s, world_.now());
            ASSERT_TRUE(connection);
            case_.sides[i][0].connection = *connection;
            by_port_[(*connection)->local().port] = i;
        }
        world_.application_at = world_.now();
        const Time limit = world_.now() + std::chrono::hours(3);
        while (!all_over() && world_.step(limit) && !testing::Test::HasFailure()) {
        }
        if (testing::Test::HasFailure()) return;
        for (const auto& sides : case_.sides)
            for (const Side& side : sides) {
                if (case_.rough) continue;
                EXPECT_EQ(side.received, side.expected);
                EXPECT_EQ(side.end, tcp::End::finished);
            }
        EXPECT_TRUE(all_over()) << "a connection has no end; " << world_.client().stack.connections() << " and "
                                << world_.server().stack.connections() << " are left";
        EXPECT_EQ(world_.client().stack.buffers_held(), 0u);
        EXPECT_EQ(world_.server().stack.buffers_held(), 0u);
        EXPECT_EQ(world_.client().stack.half_open() + world_.server().stack.half_open(), 0u);
    }

 private:
    bool all_over() {
        for (const auto& sides : case_.sides)
            if (!sides[0].over || (sides[1].established && !sides[1].over)) return false;
        return world_.client().stack.connections() == 0 && world_.server().stack.connections() == 0;
    }

    void serve(int host) {
        tcp::Stack& stack = (host == 0 ? world_.client() : world_.server()).stack;
        while (true) {
            const auto ready = stack.next_ready();
            if (ready.connection == nullptr) break;
            if (host == 1 && (ready.events & tcp::event::kEstablished) != 0) {
                const auto found = by_port_.find(ready.connection->remote().port);
                ASSERT_NE(found, by_port_.end());
                if (case_.sides[found->second][1].established) {
                    // A retransmission completed the cookie again after the server had given up the connection.
                    ASSERT_TRUE(case_.rough);
                    ready.connection->abort();
                    ready.connection->release();
                    continue;
                }
                ready.connection->user = found->second;
                case_.sides[found->second][1].connection = ready.connection;
            }
            Side& side = case_.sides[ready.connection->user][host];
            if ((ready.events & tcp::event::kEstablished) != 0) side.established = true;
            if ((ready.events & tcp::event::kPeerClosed) != 0) side.peer_closed = true;
            read(side);
            if (side.connection == nullptr) continue;
            if ((ready.events & tcp::event::kEnded) != 0) {
                drain(side);
                side.end = side.connection->end();
                side.over = true;
                side.connection->release();
                side.connection = nullptr;
            }
        }
        for (auto& sides : case_.sides) {
            Side& side = sides[host];
            if (side.connection == nullptr || !side.established) continue;
            read(side);
            if (side.connection != nullptr) write(side, (host == 0 ? case_.world.client : case_.world.server).send_buffer);
        }
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
        if (side.read_pause > Duration{} && world_.now() < side.read_at) return;
        std::uint32_t length = side.connection->readable();
        if (side.read_pause > Duration{} && length > 0) {
            length = std::min<std::uint32_t>(length, 1 + world_.random()() % 20000);
            side.read_at = world_.now() + side.read_pause;
            world_.application_at = std::min(world_.application_at, side.read_at);
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
        std::vector<std::byte> octets;
        while (side.sent < side.to_send) {
            const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(side.write_size, side.to_send - side.sent));
            if (side.connection->send_space() < std::min<std::size_t>(length, buffer / 4)) break;
            const std::size_t now = std::min<std::size_t>(length, side.connection->send_space());
            octets.resize(now);
            side.out.fill(side.sent, octets.data(), now);
            if (!side.connection->send(octets)) break;
            side.sent += now;
        }
        if (side.sent == side.to_send && !side.closed) {
            side.closed = true;
            side.connection->close();
        }
    }

    Case& case_;
    World world_;
    WindowWatch watch_;
    std::map<std::uint16_t, std::size_t> by_port_;
};

std::uint64_t variable(const char* name, std::uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

/// Names the seed also when the run crashes.
volatile std::uint64_t current_seed = 0;
void name_seed(int signal) {
    std::fprintf(stderr, "seed %llu: signal %d\n", static_cast<unsigned long long>(current_seed), signal);
    std::_Exit(128 + signal);
}

TEST(Simulation, RandomConnectionsThroughRandomNetworks_EndWithEveryOctetInOrder) {
    test::BufferPool pool(16383);
    const std::uint64_t only = variable("SALLYPORT_SIMULATION_SEED", 0);
    const std::uint64_t first = only != 0 ? only : 1;
    const std::uint64_t last = only != 0 ? only : variable("SALLYPORT_SIMULATION_COUNT", 1000);
    std::uint64_t connections = 0;
    std::signal(SIGSEGV, name_seed);
    std::signal(SIGABRT, name_seed);
    for (std::uint64_t seed = first; seed <= last; ++seed) {
        current_seed = seed;
        Case test = make_case(seed);
        connections += test.sides.size();
        {
            Execution run(test, pool);
            run.go();
        }
        EXPECT_EQ(pool.in_use(), 0u) << "packet buffers leaked";
        if (HasFailure()) FAIL() << "seed " << seed << ": run it alone with SALLYPORT_SIMULATION_SEED=" << seed;
    }
    RecordProperty("connections", std::to_string(connections));
}

}  // namespace
}  // namespace sallyport::simulation
