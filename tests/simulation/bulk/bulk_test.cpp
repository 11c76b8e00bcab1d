// One connection that carries as much as it can for some seconds, through a path whose queue slow start overruns.

#include <ostream>

#include "crypto/sanitizers.h"
#include "tests/simulation/world.h"

namespace sallyport::simulation {
namespace {

constexpr std::uint16_t kPort = 443;

struct Path {
    double megabits;
    Duration round_trip;
    double queue;   ///< in bandwidth-delay products
    double loss;
    std::uint64_t seed;
};
std::ostream& operator<<(std::ostream& out, const Path& path) {
    return out << path.megabits << " Mbit/s, " << path.round_trip / 1ms << " ms, a queue of " << path.queue << " products, loss " << path.loss << ", seed " << path.seed;
}

/// The server sends, the client takes all as it comes.
class Bulk {
 public:
    Bulk(const Path& path, test::BufferPool& pool) : world_(settings(path), pool) {
        world_.application = [this](int host) { serve(host); };
        world_.server().stack.listen(world_.server_address(kPort));
    }
    /// Timeouts of the sender in a connection of so long.
    std::uint64_t timeouts(Duration time) {
        if (!opened(2s)) return 0;   // the first connection is for the hosts to find each other: to it the path seems longer than it is
        sender_->abort();
        sender_->release();
        sender_ = nullptr;
        run(2s);
        sends_ = true;
        return opened(time) ? sender_->status().timeouts : 0;
    }
    [[nodiscard]] std::uint64_t not_queued() const { return world_.not_queued[1]; }

 private:
    static World::Settings settings(const Path& path) {
        World::Settings settings;
        settings.seed = path.seed;
        const double product = path.megabits * 1e6 / 8 * std::chrono::duration<double>(path.round_trip).count() / (settings.mtu + 14);
        for (Link* link : {&settings.to_server, &settings.to_client}) {
            link->bits_per_second = path.megabits * 1e6;
            link->queue = static_cast<std::uint32_t>(product * path.queue);
            link->jitter = path.round_trip / 50;
            link->delay = (path.round_trip - link->jitter) / 2;
        }
        settings.to_client.loss = path.loss;
        settings.client.max_reassembly_segments = 16384;
        settings.client.initial_buffer = settings.client.receive_buffer = settings.server.send_buffer = 8 << 20;   // no window but that of congestion
        return settings;
    }

    /// Opens a connection that then has so long. False, and a failure of the test: it has not opened.
    bool opened(Duration time) {
        EXPECT_TRUE(world_.client().stack.connect(world_.server_address(kPort), 0, 10s, world_.now()));
        world_.application_at = world_.now();
        run(time);
        EXPECT_NE(sender_, nullptr) << "no connection after " << time / 1ms << " ms";
        return sender_ != nullptr;
    }

    void run(Duration time) {
        for (const Time until = world_.now() + time; world_.step(until);) {
        }
    }

    void serve(int host) {
        tcp::Stack& stack = (host == 0 ? world_.client() : world_.server()).stack;
        for (auto ready = stack.next_ready(); ready.connection != nullptr; ready = stack.next_ready()) {
            if (host == 1 && (ready.events & tcp::event::kEstablished) != 0)
                sender_ = ready.connection;
            else if (host == 1)
                continue;
            else if ((ready.events & tcp::event::kEnded) != 0)
                ready.connection->release();
            else
                ready.connection->consume(ready.connection->readable());
        }
        while (host == 1 && sends_ && sender_ != nullptr && sender_->send_space() >= octets_.size() && sender_->send(octets_)) {
        }
    }

    const std::vector<std::byte> octets_{16384};
    World world_;
    tcp::Connection* sender_ = nullptr;
    bool sends_ = false;
};

/// A sanitizer makes a connection cost ten times as much.
#if SALLYPORT_ASAN || SALLYPORT_TSAN
constexpr std::uint64_t kSeeds = 1, kLeastNotQueued = 3000;
constexpr double kLosses[] = {0.0005};
#else
constexpr std::uint64_t kSeeds = 2, kLeastNotQueued = 10000;
constexpr double kLosses[] = {0, 0.0005, 0.002};
#endif

/// Whatever is lost, a retransmission as well, is found by what arrives after it.
TEST(Bulk, NothingIsFoundByATimeout) {
    test::BufferPool pool(32767);
    std::uint64_t not_queued = 0;
    for (const double loss : kLosses)
        for (const double queue : {0.5, 1.0, 2.0})
            for (std::uint64_t seed = 1; seed <= kSeeds; ++seed)
                for (const auto& [megabits, round_trip] : {std::pair{100, 100ms}, {100, 50ms}, {20, 100ms}, {100, 200ms}, {60, 70ms}, {100, 10ms}}) {
                    const Path path{static_cast<double>(megabits), round_trip, queue, loss, seed};
                    Bulk bulk(path, pool);
                    EXPECT_EQ(bulk.timeouts(4s), 0u) << path;
                    not_queued += bulk.not_queued();
                }
    EXPECT_GT(not_queued, kLeastNotQueued) << "no queue was overrun, so that nothing was shown";
}

}  // namespace
}  // namespace sallyport::simulation
