#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <vector>

#include "dataplane/network/network.h"
#include "dataplane/tcp/stack.h"
#include "tests/simulation/card.h"
#include "tests/simulation/frame.h"
#include "tests/simulation/pcapng.h"
#include "tests/simulation/window_taker.h"
#include "tests/unit/eal.h"

/// A network in one thread with virtual time: two hosts with the real TCP and the real layers below it, and a link between them that
/// loses, reorders, duplicates, corrupts, delays and rewrites what it carries, as its seed says. The same seed gives the same run.
namespace sallyport::simulation {

struct Link {
    double loss = 0, burst_loss = 0, duplication = 0, reordering = 0, corruption = 0;  ///< probabilities of a frame
    Duration delay = 1ms, jitter{};      ///< one way; jitter alone keeps the order
    double bits_per_second = 0;          ///< 0: no limit
    std::uint32_t queue = 100;           ///< full frames that wait for the link; more are dropped
    Duration device_holds{};             ///< how long the sender's device keeps a frame after it was sent

    /// From a time on a hop takes packets of no more than `mtu` octets. It answers those that are longer with an ICMP error, or swallows
    /// them without a word (a black hole).
    struct Hop {
        Time at;
        std::uint16_t mtu;
    };
    std::vector<Hop> hops{};
    bool black_hole = false;
    /// Nothing passes in between.
    struct Outage {
        Time from, until;
    };
    std::vector<Outage> outages{};
    std::vector<std::uint8_t> stripped{};   ///< option kinds that a middlebox takes out of SYN segments
    bool strips_ecn = false;                ///< and ECE and CWR
    double congestion_marks = 0;            ///< of ECN-capable packets (RFC 3168); 1 or more: the ECN field is cleared instead
    bool marks_instead = false;             ///< where others would be lost, alone or at the end of the queue, ECN-capable packets are marked
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
        std::array<std::uint16_t, 2> segmentation{};   ///< buffers of a frame that the card of each host cuts; 0: it cuts none, and fills in no checksum
        bool chained_frames = false;   ///< received frames come in several mbuf segments
        std::array<std::vector<WindowTaker::Step>, 2> takes_windows_back{};   ///< of each host; empty: it does not
    };

    World(const Settings& settings, test::BufferPool& pool)
        : settings_(settings), pool_(pool), random_(settings.seed),
          hosts_{std::make_unique<Host>(network_settings(0), tcp_settings(settings.client, 1), pool.get()),
                 std::make_unique<Host>(network_settings(1), tcp_settings(settings.server, 2), pool.get())} {
        for (std::size_t host = 0; host < 2; ++host)
            if (!settings.takes_windows_back[host].empty()) takers_[host].emplace(settings.takes_windows_back[host]);
    }
    ~World() {
        while (!in_flight_.empty()) {
            rte_pktmbuf_free(in_flight_.top().frame);
            in_flight_.pop();
        }
        for (const auto& held : held_) rte_pktmbuf_free(held.second);
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
    [[nodiscard]] SocketAddress client_address(std::uint16_t port) const { return {address(0), port}; }
    [[nodiscard]] bool chance(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }

    /// Sees every frame when it is put on the link; may say that it is to be dropped.
    std::function<bool(int from, const rte_mbuf& frame)> drop;
    /// Called for each frame right before a host takes it in, and again when its TCP has taken it as a good segment.
    std::function<void(int to, const rte_mbuf& frame)> arrives;
    std::function<void(int to)> arrived;
    /// Where all frames are written; may be null.
    Trace* trace = nullptr;
    /// Called for each host after its frames of a moment have arrived, before its output().
    std::function<void(int host)> application;
    /// Called for each host after its output().
    std::function<void(int host)> after_output;
    /// The next moment at which the application wants to be called even if nothing happens.
    Time application_at = Time::max();

    /// Goes on to the next moment at which something happens, at most to `limit`. False when that is reached.
    bool step(Time limit) {
        Time next = std::min({application_at, hosts_[0]->stack.next_timer(), hosts_[1]->stack.next_timer(), network_at_});
        if (!in_flight_.empty()) next = std::min(next, in_flight_.top().at);
        next = std::max(next, now_);
        if (next > limit) return false;
        now_ = next;
        bool something = application_at <= now_;
        while (!in_flight_.empty() && in_flight_.top().at <= now_) {
            const Flying flying = in_flight_.top();
            in_flight_.pop();
            deliver(flying.to, flying.frame);
            something = true;
        }
        if (now_ >= network_at_) {
            for (auto& host : hosts_) host->network.advance(now_);
            network_at_ = now_ + (in_flight_.empty() ? 1s : 100ms);
        }
        if (application_at <= now_) application_at = Time::max();
        for (int i = 0; i < 2; ++i) {
            if (!something && hosts_[i]->stack.next_timer() > now_) {
                transmit(i);   // what the network itself has to say
                continue;
            }
            hosts_[i]->stack.advance(now_);
            if (application) application(i);
            hosts_[i]->stack.output(now_);
            if (after_output) after_output(i);
            transmit(i);
        }
        release_held();
        return true;
    }
    std::uint64_t frames = 0, cut = 0;   ///< cut: frames that a card has cut
    std::array<std::uint64_t, 2> not_queued{};   ///< frames of each host that its link's queue had no room for

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
        interface.segmentation_buffers = settings_.segmentation[static_cast<std::size_t>(host)];
        interface.checksum_offload = interface.segmentation_buffers != 0;
        interface.addresses = {{address(host), static_cast<std::uint8_t>(settings_.ipv6 ? 64 : 24)}};
        network::Network::Settings result;
        result.interfaces = {interface};
        result.max_neighbours = 16;
        result.random_seed = settings_.seed * 2 + static_cast<unsigned>(host);
        return result;
    }
    [[nodiscard]] tcp::Settings tcp_settings(tcp::Settings from, std::uint8_t host) {
        for (auto& octet : from.secret) octet = static_cast<std::uint8_t>(random_() + host);
        return from;
    }

    void deliver(int to, rte_mbuf* frame) {
        if (auto& taker = takers_[to]) {
            const auto view = FrameView::of(octets_of(*frame));
            if (view && frame->nb_segs == 1 && !taker->arrives(*view)) {
                if (trace != nullptr) trace->write(to, Trace::Direction::in, now_, view->octets(), "beyond the window that was taken back");
                put_on_link(1 - to, taker->answer(*view, now_), (to == 0 ? settings_.to_server : settings_.to_client).delay);
                rte_pktmbuf_free(frame);
                return;
            }
        }
        if (trace != nullptr) {
            std::vector<std::byte> whole(frame->pkt_len);
            const void* octets = rte_pktmbuf_read(frame, 0, frame->pkt_len, whole.data());
            trace->write(to, Trace::Direction::in, now_, {static_cast<const std::byte*>(octets), whole.size()}, nullptr);
        }
        if (arrives) arrives(to, *frame);
        network::Received received = hosts_[to]->network.receive(frame, 0, now_);
        switch (received.kind) {
            case network::Received::Kind::tcp:
                hosts_[to]->stack.segment_arrives(received.segment, frame, now_);
                if (arrived) arrived(to);
                return;
            case network::Received::Kind::icmp_error:
                hosts_[to]->stack.icmp_error(received.error, now_);
                return;
            case network::Received::Kind::taken:
                return;
        }
    }

    void transmit(int from) {
        const Link& link = from == 0 ? settings_.to_server : settings_.to_client;
        for (rte_mbuf* frame : hosts_[from]->network.to_transmit(0)) {
            if (settings_.segmentation[static_cast<std::size_t>(from)] == 0) {
                leave(link, from, frame);
            } else {
                const auto pieces = what_leaves(*frame, pool_.get());
                if (pieces.empty()) leave(link, from, frame);
                cut += pieces.size() > 1;
                for (rte_mbuf* const piece : pieces) {
                    leave(link, from, piece);
                    rte_pktmbuf_free(piece);
                }
            }
            if (link.device_holds > Duration{} && chance(0.5))
                held_.emplace_back(now_ + link.device_holds, frame);
            else
                rte_pktmbuf_free(frame);
        }
        hosts_[from]->network.taken(0);
    }

    void leave(const Link& link, int from, rte_mbuf* frame) {
        ++frames;
        marked_ = false;
        const char* const fate = fate_of(link, from, *frame);
        if (trace != nullptr) trace->write(from, Trace::Direction::out, now_, octets_of(*frame), fate);
        if (fate == nullptr) carry(link, from, frame);
    }

    static std::span<std::byte> octets_of(const rte_mbuf& frame) { return {rte_pktmbuf_mtod(&frame, std::byte*), frame.data_len}; }

    /// Null: it goes on its way.
    const char* fate_of(const Link& link, int from, const rte_mbuf& frame) {
        if (drop && drop(from, frame)) return "dropped by the test";
        for (const Link::Outage& outage : link.outages)
            if (outage.from <= now_ && now_ < outage.until) return "lost: the link is away";
        std::uint32_t mtu = UINT32_MAX;
        for (const Link::Hop& hop : link.hops)
            if (hop.at <= now_) mtu = hop.mtu;
        if (frame.pkt_len - 14 > mtu) {
            if (link.black_hole) return "swallowed: too long for a hop";
            if (chance(0.9)) put_on_link(from, packet_too_big(octets_of(frame), static_cast<std::uint16_t>(mtu)), link.delay / 2);
            return "dropped with an ICMP error: too long for a hop";
        }
        if (!lost(link, from)) return nullptr;
        marked_ = may_mark(link, frame);
        return marked_ ? nullptr : "lost";
    }

    /// A frame of something between the hosts.
    void put_on_link(int to, const std::vector<std::byte>& frame, Duration delay) {
        rte_mbuf* buffer = rte_pktmbuf_alloc(pool_.get());
        if (buffer == nullptr) return;
        std::memcpy(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(frame.size())), frame.data(), frame.size());
        in_flight_.push({now_ + delay, order_++, to, buffer});
    }

    /// RFC 3168 5: a router may mark an ECN-capable packet where it would drop another.
    static bool may_mark(const Link& link, const rte_mbuf& frame) {
        const auto view = link.marks_instead ? FrameView::of(octets_of(frame)) : std::nullopt;
        return view && view->ecn() != 0;
    }

    bool lost(const Link& link, int from) {
        if (burst_left_[from] > 0 && now_ < burst_until_[from]) {
            --burst_left_[from];
            return true;
        }
        if (link.burst_loss > 0 && chance(link.burst_loss)) {
            burst_left_[from] = 1 + random_() % 12;
            burst_until_[from] = now_ + 500ms;
            return true;
        }
        return link.loss > 0 && chance(link.loss);
    }

    /// What lies between the hosts and reads more than it should.
    void rewrite(const Link& link, int from, FrameView frame) {
        if (auto& taker = takers_[from]) taker->leaves(frame, now_);
        bool changed = false;
        if (frame.has(wire::kSyn)) {
            for (const std::uint8_t kind : link.stripped) frame.remove_option(kind);
            if (link.strips_ecn) frame.set_flags(frame.flags() & static_cast<std::uint8_t>(~(wire::kEce | wire::kCwr)));
            changed = !link.stripped.empty() || link.strips_ecn;
        }
        const std::uint8_t ecn = frame.ecn();
        if (link.congestion_marks > 0 && ecn != 0) {
            if (link.congestion_marks >= 1)
                frame.set_ecn(0);
            else if (ecn != 3 && chance(link.congestion_marks))
                frame.set_ecn(3);
            changed = true;
        }
        if (marked_ && frame.ecn() != 0) {
            frame.set_ecn(wire::kEcnCe);
            changed = true;
        }
        if (changed) frame.mend();
    }

    void carry(const Link& link, int from, const rte_mbuf* frame) {
        Time leaves = now_;
        if (link.bits_per_second > 0) {
            const auto takes = [&](std::uint32_t octets) { return Duration{static_cast<std::int64_t>(octets * 8e9 / link.bits_per_second)}; };
            const Duration one = takes(frame->pkt_len), most = takes(settings_.mtu + 14u) * link.queue;
            const Time start = std::max(now_, link_free_[from]);
            if (start - now_ > most) {
                if (!may_mark(link, *frame) || start - now_ > 2 * most) {   // drop-tail
                    ++not_queued[from];
                    return;
                }
                marked_ = true;
            }
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
            rte_mbuf* copy = rte_pktmbuf_copy(frame, pool_.get(), 0, UINT32_MAX);
            if (copy == nullptr) return;
            if (const auto view = FrameView::of(octets_of(*copy)); view && copy->nb_segs == 1) rewrite(link, from, *view);
            auto* octets = rte_pktmbuf_mtod(copy, std::uint8_t*);
            const bool ip = octets[12] == 0x08 ? octets[13] == 0x00 : octets[12] == 0x86;
            // ARP has no checksum, so what it carries stays whole; nor are neighbour advertisements at stake here.
            if (ip && link.corruption > 0 && chance(link.corruption)) {
                const std::uint32_t where = 14 + static_cast<std::uint32_t>(random_() % (copy->data_len - 14u));
                octets[where] ^= static_cast<std::uint8_t>(1u << random_() % 8);
            }
            if (settings_.chained_frames) chain(copy);
            in_flight_.push({at, order_++, 1 - from, copy});
        }
    }

    /// What the other host's device would have received: one piece or several.
    void chain(rte_mbuf* head) {
        if (head->data_len < 400 || head->next != nullptr || takers_[0] || takers_[1]) return;
        rte_mbuf* rest = rte_pktmbuf_alloc(pool_.get());
        if (rest == nullptr) return;
        const auto first = static_cast<std::uint16_t>(100 + random_() % (head->data_len - 200u));
        const auto second = static_cast<std::uint16_t>(head->data_len - first);
        std::memcpy(rte_pktmbuf_mtod(rest, void*), rte_pktmbuf_mtod_offset(head, void*, first), second);
        rest->data_len = second;
        head->data_len = first;
        head->next = rest;
        head->nb_segs = 2;
    }

    void release_held() {
        if (held_.empty()) return;
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
    std::array<Time, 2> last_arrival_{}, link_free_{}, burst_until_{};
    std::array<std::uint64_t, 2> burst_left_{};
    std::array<std::optional<WindowTaker>, 2> takers_;
    bool marked_ = false;   ///< the frame that is being sent: a router marks it
    std::vector<std::pair<Time, rte_mbuf*>> held_;
};

}  // namespace sallyport::simulation
