#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <vector>

#include "dataplane/network/network.h"
#include "dataplane/tcp/stack.h"
#include "tests/unit/eal.h"

/// A network in one thread with virtual time: two hosts with the real TCP and the real layers below it, and a link between them that
/// loses, reorders, duplicates, corrupts and delays what it carries, as its seed says. The same seed gives the same run.
namespace sallyport::simulation {

struct Link {
    double loss = 0, burst_loss = 0, duplication = 0, reordering = 0, corruption = 0;  ///< probabilities of a frame
    Duration delay = 1ms, jitter{};      ///< one way; jitter alone keeps the order
    double bits_per_second = 0;          ///< 0: no limit
    std::uint32_t queue = 100;           ///< frames that wait for the link; more are dropped
    Duration device_holds{};             ///< how long the sender's device keeps a frame after it was sent
};

struct Host {
    DropCounters drops;
    network::Network network;
    tcp::Stack stack;

    Host(const network::Network::Settings& network_settings, const tcp::Settings& tcp_settings, rte_mempool* pool)
        : network(network_settings, pool, drops), stack(tcp_settings, pool, network, drops) {}
};

class World {
 public:
    struct Settings {
        std::uint64_t seed = 1;
        bool ipv6 = false;
        std::uint16_t mtu = 1500;
        Link to_server, to_client;
        tcp::Settings client, server;
        bool chained_frames = false;   ///< received frames come in several mbuf segments
    };

    World(const Settings& settings, test::BufferPool& pool)
        : settings_(settings), pool_(pool), random_(settings.seed),
          hosts_{std::make_unique<Host>(network_settings(0), tcp_settings(settings.client, 1), pool.get()),
                 std::make_unique<Host>(network_settings(1), tcp_settings(settings.server, 2), pool.get())} {}
    ~World() {
        while (!in_flight_.empty()) {
            rte_pktmbuf_free(in_flight_.top().frame);
            in_flight_.pop();
        }
        for (const auto& [until, frame] : held_) rte_pktmbuf_free(frame);
        for (auto& host : hosts_) {
            for (rte_mbuf* frame : host->network.to_transmit(0)) rte_pktmbuf_free(frame);
            host->network.taken(0);
        }
    }

    [[nodiscard]] Host& client() { return *hosts_[0]; }
    [[nodiscard]] Host& server() { return *hosts_[1]; }
    [[nodiscard]] Time now() const { return now_; }
    [[nodiscard]] std::mt19937_64& random() { return random_; }
    [[nodiscard]] SocketAddress server_address(std::uint16_t port) const { return {address(1), port}; }
    [[nodiscard]] bool chance(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }

    /// Sees every frame when it is put on the link; may say that it is to be dropped.
    std::function<bool(int from, const rte_mbuf& frame)> drop;
    /// Called for each host after its frames of a moment have arrived, before its output().
    std::function<void(int host)> application;
    /// The next moment at which the application wants to be called even if nothing happens.
    Time application_at = Time::max();

    /// Goes on to the next moment at which something happens, at most to `limit`. False when that is reached.
    bool step(Time limit) {
        Time next = std::min({application_at, hosts_[0]->stack.next_timer(), hosts_[1]->stack.next_timer(), network_at_});
        if (!in_flight_.empty()) next = std::min(next, in_flight_.top().at);
        next = std::max(next, now_);
        if (next > limit) return false;
        now_ = next;
        while (!in_flight_.empty() && in_flight_.top().at <= now_) {
            const Flying flying = in_flight_.top();
            in_flight_.pop();
            deliver(flying.to, flying.frame);
        }
        if (now_ >= network_at_) {
            for (auto& host : hosts_) host->network.advance(now_);
            network_at_ = now_ + 100ms;
        }
        if (application_at <= now_) application_at = Time::max();
        for (int i = 0; i < 2; ++i) {
            hosts_[i]->stack.advance(now_);
            if (application) application(i);
            hosts_[i]->stack.output(now_);
            transmit(i);
        }
        release_held();
        return true;
    }
    void run_until(const std::function<bool()>& done, Duration at_most) {
        const Time limit = now_ + at_most;
        while (!done() && step(limit)) {
        }
    }
    void run_for(Duration duration) {
        run_until([] { return false; }, duration);
        now_ = std::max(now_, now_);
    }
    std::uint64_t frames = 0;

 private:
    struct Flying {
        Time at;
        std::uint64_t order;
        int to;
        rte_mbuf* frame;
        bool operator<(const Flying& other) const { return at != other.at ? at > other.at : order > other.order; }
    };

    [[nodiscard]] IpAddress address(int host) const {
        if (!settings_.ipv6) return IpAddress::from_v4({192, 0, 2, static_cast<std::uint8_t>(host + 1)});
        IpAddress result;
        result.octets = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(host + 1)};
        return result;
    }
    [[nodiscard]] network::Network::Settings network_settings(int host) const {
        network::Interface interface;
        interface.name = host == 0 ? "client" : "server";
        interface.mac = {2, 0, 0, 0, 0, static_cast<std::uint8_t>(host + 1)};
        interface.mtu = settings_.mtu;
        interface.addresses = {{address(host), static_cast<std::uint8_t>(settings_.ipv6 ? 64 : 24)}};
        network::Network::Settings result;
        result.interfaces = {interface};
        result.random_seed = settings_.seed * 2 + static_cast<unsigned>(host);
        return result;
    }
    [[nodiscard]] tcp::Settings tcp_settings(tcp::Settings from, std::uint8_t host) {
        for (auto& octet : from.secret) octet = static_cast<std::uint8_t>(random_() + host);
        return from;
    }

    void deliver(int to, rte_mbuf* frame) {
        network::Received received = hosts_[to]->network.receive(frame, 0, now_);
        switch (received.kind) {
            case network::Received::Kind::tcp:
                hosts_[to]->stack.segment_arrives(received.segment, frame, now_);
                return;
            case network::Received::Kind::icmp_error:
                hosts_[to]->stack.icmp_error(received.error, now_);
                return;
            case network::Received::Kind::taken:
                return;
        }
    }

    void transmit(int from) {
        Link& link = from == 0 ? settings_.to_server : settings_.to_client;
        for (rte_mbuf* frame : hosts_[from]->network.to_transmit(0)) {
            ++frames;
            const bool dropped = (drop && drop(from, *frame)) || lost(link, from);
            if (tracing_) trace(from, *frame, dropped);
            if (!dropped) carry(link, from, frame);
            if (link.device_holds > Duration{} && chance(0.5))
                held_.emplace_back(now_ + link.device_holds, frame);
            else
                rte_pktmbuf_free(frame);
        }
        hosts_[from]->network.taken(0);
    }

    bool lost(const Link& link, int from) {
        // A burst is over after a second: timeouts that back off must not meet the same one for minutes.
        if (burst_left_[from] > 0 && now_ < burst_until_[from]) {
            --burst_left_[from];
            return true;
        }
        if (link.burst_loss > 0 && chance(link.burst_loss)) {
            burst_left_[from] = 1 + random_() % 12;
            burst_until_[from] = now_ + 1s;
            return true;
        }
        return link.loss > 0 && chance(link.loss);
    }

    void carry(const Link& link, int from, const rte_mbuf* frame) {
        Time leaves = now_;
        if (link.bits_per_second > 0) {
            const Duration one{static_cast<std::int64_t>(frame->pkt_len * 8e9 / link.bits_per_second)};
            const Time start = std::max(now_, link_free_[from]);
            if (start - now_ > one * link.queue) return;  // drop-tail
            leaves = link_free_[from] = start + one;
        }
        const int copies = link.duplication > 0 && chance(link.duplication) ? 2 : 1;
        for (int i = 0; i < copies; ++i) {
            Time at = leaves + link.delay;
            if (link.jitter > Duration{}) at += Duration{static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(link.jitter.count()))};
            if (link.reordering > 0 && chance(link.reordering))
                at += Duration{static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>((link.delay + 1ms).count()))};
            else
                at = last_arrival_[from] = std::max(at, last_arrival_[from]);
            rte_mbuf* copy = copy_of(*frame);
            if (copy == nullptr) return;
            auto* octets = rte_pktmbuf_mtod(copy, std::uint8_t*);
            const bool ip = octets[12] == 0x08 ? octets[13] == 0x00 : octets[12] == 0x86;
            // ARP has no checksum, so what it carries stays whole; nor are neighbour advertisements at stake here.
            if (ip && link.corruption > 0 && chance(link.corruption)) {
                const std::uint32_t where = 14 + static_cast<std::uint32_t>(random_() % (copy->data_len - 14u));
                octets[where] ^= static_cast<std::uint8_t>(1u << random_() % 8);
            }
            in_flight_.push({at, order_++, 1 - from, copy});
        }
    }

    /// What the other host's device would have received: new buffers, in one piece or several.
    rte_mbuf* copy_of(const rte_mbuf& frame) {
        rte_mbuf* head = rte_pktmbuf_copy(&frame, pool_.get(), 0, UINT32_MAX);
        if (head == nullptr || !settings_.chained_frames || head->data_len < 400 || head->next != nullptr) return head;
        rte_mbuf* rest = rte_pktmbuf_alloc(pool_.get());
        if (rest == nullptr) return head;
        const auto first = static_cast<std::uint16_t>(100 + random_() % (head->data_len - 200u));
        const auto second = static_cast<std::uint16_t>(head->data_len - first);
        std::memcpy(rte_pktmbuf_mtod(rest, void*), rte_pktmbuf_mtod_offset(head, void*, first), second);
        rest->data_len = second;
        head->data_len = first;
        head->next = rest;
        head->nb_segs = 2;
        return head;
    }

    /// With SALLYPORT_SIMULATION_TRACE set: a line for each segment that is put on the link.
    void trace(int from, const rte_mbuf& frame, bool dropped) const {
        const auto* at = rte_pktmbuf_mtod(&frame, const std::uint8_t*);
        const std::size_t ip_length = at[12] == 0x08 ? 20 : 40;
        if (at[12] == 0x08 ? at[13] != 0 || at[23] != 6 : at[20] != 6) return;
        const auto* tcp = at + 14 + ip_length;
        const auto word = [&](std::size_t offset) {
            std::uint32_t value;
            std::memcpy(&value, tcp + offset, 4);
            return __builtin_bswap32(value);
        };
        const std::size_t header = (tcp[12] >> 4) * 4u;
        std::string flags;
        for (int bit = 0; bit < 5; ++bit)
            if ((tcp[13] & 1 << bit) != 0) flags += "FSRPA"[bit];
        std::printf("%.6f %s %u>%u %-4s seq %u ack %u win %u len %zu%s", static_cast<double>(now_.time_since_epoch().count()) / 1e9,
                    from == 0 ? "client" : "server", word(0) >> 16, word(0) & 0xffff, flags.c_str(), word(4), word(8), word(12) & 0xffff,
                    frame.pkt_len - 14 - ip_length - header, dropped ? " LOST" : "");
        for (std::size_t i = 20; i + 1 < header && tcp[i] != 0; i += tcp[i] == 1 ? 1 : tcp[i + 1]) {
            if (tcp[i] != 5) continue;
            for (std::size_t block = i + 2; block < i + tcp[i + 1]; block += 8) std::printf(" sack %u-%u", word(block), word(block + 4));
        }
        std::printf("\n");
    }

    void release_held() {
        std::erase_if(held_, [&](const auto& entry) {
            if (entry.first > now_) return false;
            rte_pktmbuf_free(entry.second);
            return true;
        });
    }

    Settings settings_;
    test::BufferPool& pool_;
    std::mt19937_64 random_;
    std::array<std::unique_ptr<Host>, 2> hosts_;
    Time now_{1s};
    Time network_at_{1s};
    std::priority_queue<Flying> in_flight_;
    std::uint64_t order_ = 0;
    std::array<Time, 2> last_arrival_{}, link_free_{};
    std::array<std::uint64_t, 2> burst_left_{};
    std::array<Time, 2> burst_until_{};
    bool tracing_ = std::getenv("SALLYPORT_SIMULATION_TRACE") != nullptr;
    std::vector<std::pair<Time, rte_mbuf*>> held_;
};

}  // namespace sallyport::simulation
