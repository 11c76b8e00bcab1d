// One stack with many idle connections: octets a connection, what a segment costs, and what timers cost that nobody needs yet.
//
//   tcp_scale_bench [CONNECTIONS ...]      1000 and 1000000 unless told; the last column compares with the first of them
//
// A segment has 100 octets in order, of a connection drawn at random, in bursts of 32; its cost is that of segments_arrive(), of the user's
// look and consume(), of the ACKs and of advance(), in TSC cycles, of the best of five rounds. Layers below TCP are not in it but for what
// sending an ACK needs. Each connection gets a segment every 0.6 s, however many there are, so that a segment has the same work to do: nearly each has
// an ACK of its own, which waits for 40 ms first. The column of ACKs says how many that are.

#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "crypto/check.h"
#include "dataplane/tcp/core.h"
#include "tests/unit/eal.h"

namespace sallyport::tcp {
namespace {

constexpr std::size_t kBurst = 32, kRoundSegments = 400'000;
constexpr Duration kInterval = 600ms;   ///< between segments of a connection

/// Octets of memory that the process has touched.
std::size_t resident() {
    std::ifstream statm("/proc/self/statm");
    std::size_t total = 0, pages = 0;
    statm >> total >> pages;
    return pages * 4096;
}

class Scale {
 public:
    Scale(std::uint32_t connections, test::BufferPool& pool)
        : pool_(pool), network_(network_settings(), pool.get(), drops_), next_(connections, SeqNum(5001)), acked_(connections) {
        const std::size_t before = resident();
        core_ = std::make_unique<Core>(settings(connections), pool.get(), network_, drops_);
        core_->listen({IpAddress::from_v4({192, 0, 2, 1}), 443});
        const std::uint64_t start = __rdtsc();
        for (std::uint32_t i = 0; i < connections; ++i) open(i);
        opening = static_cast<double>(__rdtsc() - start) / connections;
        octets = static_cast<double>(resident() - before) / connections;
    }

    /// Cycles a segment.
    double round() {
        std::uint64_t cycles = 0;
        const std::uint64_t acks_before = core_->counters.segments_out;
        for (std::size_t done = 0; done < kRoundSegments; done += kBurst) {
            struct Item {
                std::uint32_t connection;
                rte_mbuf* buffer;
            };
            std::array<Item, kBurst> burst;
            for (Item& item : burst) {
                item = {static_cast<std::uint32_t>(random_() % next_.size()), rte_pktmbuf_alloc(pool_.get())};
                rte_pktmbuf_append(item.buffer, 100);
            }
            now_ += Duration{kInterval} / static_cast<std::int64_t>(next_.size()) * static_cast<std::int64_t>(kBurst);
            std::array<Stack::Arriving, kBurst> arriving;
            for (std::size_t i = 0; i < kBurst; ++i) {
                const Item& item = burst[i];
                arriving[i] = {header(item.connection, wire::kAck, next_[item.connection], acked_[item.connection], 100), item.buffer};
                next_[item.connection] += 100;
            }
            const std::uint64_t start = __rdtsc();
            core_->segments_arrive(arriving, now_);
            for (auto ready = core_->next_ready(); ready.connection != nullptr; ready = core_->next_ready())
                ready.connection->consume(ready.connection->readable());
            core_->advance(now_);
            core_->output(now_);
            cycles += __rdtsc() - start;
            take();
        }
        acks = static_cast<double>(core_->counters.segments_out - acks_before) / kRoundSegments;
        return static_cast<double>(cycles) / kRoundSegments;
    }

    struct Idle {
        double cycles_a_call;       ///< of advance(), every millisecond
        std::uint64_t worst_call;   ///< cycles
    };
    /// A minute and a half in which nothing happens: less than the 120 s of keepalive.
    Idle idle() {
        Idle result{0, 0};
        constexpr int kCalls = 90'000;
        for (int i = 0; i < kCalls; ++i) {
            now_ += 1ms;
            const std::uint64_t start = __rdtsc();
            core_->advance(now_);
            const std::uint64_t cycles = __rdtsc() - start;
            result.cycles_a_call += static_cast<double>(cycles) / kCalls;
            result.worst_call = std::max(result.worst_call, cycles);
        }
        core_->output(now_);
        take();
        return result;
    }

    double octets = 0, opening = 0, acks = 0;   ///< acks: for each segment of the last round

 private:
    static Settings settings(std::uint32_t connections) {
        Settings result;
        result.max_connections = connections;
        for (std::size_t i = 0; i < result.secret.size(); ++i) result.secret[i] = static_cast<std::uint8_t>(i * 7 + 1);
        return result;
    }
    static network::Network::Settings network_settings() {
        network::Interface interface;
        interface.name = "bench";
        interface.mac = {2, 0, 0, 0, 0, 1};
        interface.addresses = {*IpPrefix::parse("192.0.2.1/24")};
        interface.checksum_offload = true;
        network::Network::Settings result;
        result.interfaces = {interface};
        result.routes = {{*IpPrefix::parse("0.0.0.0/0"), IpAddress::from_v4({192, 0, 2, 2})}};
        return result;
    }
    static wire::Segment header(std::uint32_t connection, std::uint8_t flags, SeqNum seq, SeqNum ack, std::uint32_t length) {
        wire::Segment segment;
        segment.ip = {.source = IpAddress::from_v4({10, static_cast<std::uint8_t>(connection >> 16), static_cast<std::uint8_t>(connection >> 8),
                                                    static_cast<std::uint8_t>(connection)}),
                      .destination = IpAddress::from_v4({192, 0, 2, 1}), .protocol = 6, .hop_limit = 64, .traffic_class = 0};
        segment.tcp = {.source_port = 5000, .destination_port = 443, .seq = seq.value(), .ack = ack.value(), .window = 60000, .urgent = 0,
                       .flags = flags, .length = 20};
        segment.payload_length = length;
        return segment;
    }
    void segment(std::uint32_t connection, std::uint8_t flags, SeqNum seq, SeqNum ack, rte_mbuf* buffer, std::uint32_t length) {
        core_->segment_arrives(header(connection, flags, seq, ack, length), buffer, now_);
    }
    void open(std::uint32_t connection) {
        segment(connection, wire::kSyn, SeqNum(5000), SeqNum{}, rte_pktmbuf_alloc(pool_.get()), 0);
        core_->output(now_);
        if (!hear(connection)) {   // the gateway is not known yet: it answers, and the SYN,ACK leaves
            rte_mbuf* reply = rte_pktmbuf_alloc(pool_.get());
            auto* at = reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(reply, 60));
            const std::uint8_t answer[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 2, 192, 0, 2, 2,
                                           2, 0, 0, 0, 0, 1, 192, 0, 2, 1};
            std::memcpy(at, answer, sizeof answer);
            static_cast<void>(network_.receive(reply, 0, now_));
            SALLYPORT_CHECK(hear(connection));
        }
        segment(connection, wire::kAck, SeqNum(5001), acked_[connection], rte_pktmbuf_alloc(pool_.get()), 0);
        static_cast<void>(core_->next_ready());
        core_->output(now_);
        take();
        if (connection % 64 == 0) now_ += 1ms;   // a million in sixteen seconds
        if (connection % 64 == 0) core_->advance(now_);
    }
    /// The SYN,ACK. False: it has not left.
    bool hear(std::uint32_t connection) {
        bool heard = false;
        for (rte_mbuf* frame : network_.to_transmit(0)) {
            const auto* at = rte_pktmbuf_mtod(frame, const std::byte*);
            if (wire::load16(at + 12) != 0x0800) continue;
            acked_[connection] = SeqNum(wire::load32(at + 14 + 20 + 4)) + 1;
            heard = true;
        }
        take();
        return heard;
    }
    void take() {
        for (rte_mbuf* frame : network_.to_transmit(0)) rte_pktmbuf_free(frame);
        network_.taken(0);
    }

    test::BufferPool& pool_;
    DropCounters drops_;
    network::Network network_;
    std::unique_ptr<Core> core_;
    std::vector<SeqNum> next_, acked_;   ///< of each connection: the peer's SND.NXT, and ours
    Time now_{100s};
    std::mt19937 random_{1};
};

}  // namespace
}  // namespace sallyport::tcp

int main(int argc, char** argv) {
    using namespace sallyport;
    std::vector<std::uint32_t> counts;
    for (int i = 1; i < argc; ++i) counts.push_back(static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10)));
    if (counts.empty()) counts = {1000, 1'000'000};
    test::BufferPool pool(8191);
    std::printf("a ControlBlock has %zu octets\n", sizeof(tcp::ControlBlock));
    std::printf("%12s %10s %14s %16s %8s %18s %18s %8s\n", "connections", "octets", "open, cycles", "segment, cycles", "ACKs", "advance(), cycles", "worst advance()", "ratio");
    double first = 0;
    for (const std::uint32_t count : counts) {
        tcp::Scale scale(count, pool);
        double best = 1e18;
        for (int round = 0; round < 5; ++round) best = std::min(best, scale.round());
        const auto idle = scale.idle();
        if (first == 0) first = best;
        std::printf("%12u %10.1f %14.0f %16.0f %8.2f %18.1f %18llu %8.2f\n", count, scale.octets, scale.opening, best, scale.acks, idle.cycles_a_call,
                    static_cast<unsigned long long>(idle.worst_call), best / first);
        std::fflush(stdout);
    }
}
