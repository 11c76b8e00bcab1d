// The load from which the compiler learns what of the dataplane is often run (scripts/build tuned): what a worker does above its device, in one thread and virtual time, so that no
// device, no other process and no speed of the machine has a part in it.
//
//   training_load [PARTS]      the work in PARTS hundredths; 100 unless told
//
// Clients and backends are those of the flow engine's tests (tests/unit/dataplane/flow/world.h). Each load says how many messages were answered; one that is not stops the program.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "crypto/check.h"
#include "tests/unit/dataplane/flow/world.h"

namespace sallyport::flow::test {
namespace {

constexpr std::uint16_t kAes128 = 0x1301, kAes256 = 0x1302, kChaCha = 0x1303, kTls12 = 0xc02f, kPlain = 0;

constexpr std::size_t kBulk = 100'000;   ///< what takes many segments

struct Load {
    const char* name;
    std::uint16_t client_suite, backend_suite;
    std::size_t flows, request, answer;
    unsigned rounds;        ///< of a message each way on each flow
    unsigned generations;   ///< so many times all flows are opened, and closed in order
};

/// About as much work in small messages, in bulk and in flows that come and go.
constexpr Load kLoads[] = {
    {"1 KB, TLS to TLS", kAes128, kAes128, 64, 256, 1024, 300, 1},
    {"1 KB, AES-256 and TLS 1.2", kAes256, kTls12, 64, 256, 1024, 60, 1},
    {"1 KB, ChaCha20 to plain text", kChaCha, kPlain, 64, 256, 1024, 60, 1},
    {"16 KB, TLS to TLS", kAes128, kAes128, 64, 256, 16384, 30, 1},
    {"bulk, TLS to TLS", kAes128, kAes128, 8, 256, 1'000'000, 3, 1},
    {"bulk, TLS to plain text", kAes256, kPlain, 8, 256, 1'000'000, 2, 1},
    {"uploads, ChaCha20 to TLS", kChaCha, kAes128, 8, 300'000, 1024, 2, 1},
    {"opened for a request", kAes128, kAes128, 32, 256, 1024, 1, 30},
    {"opened for a request, plain text behind", kAes128, kPlain, 32, 256, 1024, 1, 30},
};

class Training {
 public:
    Training(const Load& load, bool offloads, std::uint64_t seed)
        : load_(load), world_({.seed = seed, .client_suite = load.client_suite, .backend_suite = load.backend_suite, .offloads = offloads}) {
        for (std::size_t i = 0; i < load.flows; ++i) sessions_.push_back(&world_.open());
    }
    void exchange() {
        const Octets request(load_.request, std::byte{7}), answer(load_.answer, std::byte{8});
        for (const bool up : {true, false}) {
            for (Session* const s : sessions_) {
                s->client.data.clear();
                s->backend.data.clear();
                up ? s->client.send(request) : s->backend.send(answer);
            }
            const auto arrived = [&](const Session* s) { return (up ? s->backend : s->client).data.size() == (up ? request : answer).size(); };
            SALLYPORT_CHECK(world_.run_until([&] {
                large_buffers_met_ |= world_.appliance_large_buffers_in_use() > 0;
                return std::ranges::all_of(sessions_, arrived);
            }, 60s));
        }
    }
    void close() {
        for (Session* const s : sessions_) {
            s->client.close_in_order();
            s->backend.close_in_order();
        }
        SALLYPORT_CHECK(world_.run_until_empty());
    }
    /// Whether what was sent has lain in buffers for several segments.
    [[nodiscard]] bool large_buffers_met() const noexcept { return large_buffers_met_; }

 private:
    const Load& load_;
    World world_;
    std::vector<Session*> sessions_;
    bool large_buffers_met_ = false;
};

int run(unsigned parts) {
    const auto part_of = [&](unsigned whole) { return std::max(1u, whole * parts / 100); };
    for (const bool offloads : {false, true})
        for (const Load& load : kLoads) {
            const unsigned generations = part_of(load.generations), rounds = part_of(load.rounds);
            for (unsigned generation = 0; generation < generations; ++generation) {
                Training training(load, offloads, generation + 1);
                for (unsigned round = 0; round < rounds; ++round) training.exchange();
                training.close();
                // With the device's offloads bulk takes another path: it has been trained.
                if (std::max(load.request, load.answer) > kBulk) SALLYPORT_CHECK(training.large_buffers_met() == offloads);
            }
            std::printf("%s%s: %zu messages\n", load.name, offloads ? ", with the device's offloads" : "", std::size_t{generations} * rounds * load.flows * 2);
        }
    return testing::Test::HasFailure() ? 1 : 0;
}

}  // namespace
}  // namespace sallyport::flow::test

int main(int argc, char** argv) {
    const int parts = argc > 1 ? std::atoi(argv[1]) : 100;
    if (parts < 1) {
        std::fprintf(stderr, "usage: training_load [PARTS]   (hundredths of the work, from 1)\n");
        return 2;
    }
    return sallyport::flow::test::run(static_cast<unsigned>(parts));
}
