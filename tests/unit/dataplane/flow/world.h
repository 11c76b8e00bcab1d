#pragma once

#include <gtest/gtest.h>
#include <x86intrin.h>

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "control/channel/ring.h"
#include "crypto/aead_batch.h"
#include "crypto/key_schedule.h"
#include "dataplane/flow/flow_engine.h"
#include "dataplane/network/network.h"
#include "dataplane/tcp/stack.h"
#include "tests/unit/eal.h"

/// Three hosts on one segment in one thread with virtual time: a client, the appliance with a FlowEngine, a backend. All have the real
/// TCP. Control is played by the test, over rings in plain memory, with keys that the test chose; instead of handshakes there are
/// octets of a known number.
namespace sallyport::flow::test {

using Octets = std::vector<std::byte>;
using channel::FlowId;
using Side = channel::Leg;

inline Octets octets_of(std::string_view text) {
    Octets result(text.size());
    std::memcpy(result.data(), text.data(), text.size());
    return result;
}

/// Octets that a seed determines.
inline Octets random_octets(std::mt19937_64& random, std::size_t length) {
    Octets result(length);
    for (auto& octet : result) octet = static_cast<std::byte>(random());
    return result;
}

/// The keys of a leg, as both of its ends know them.
struct LegKeys {
    const crypto::CipherSuite* suite = nullptr;   ///< null: plain
    crypto::TrafficSecret to_appliance_secret, from_appliance_secret;
    crypto::TrafficKey to_appliance, from_appliance;
    std::uint64_t to_appliance_sequence = 0, from_appliance_sequence = 0;

    static LegKeys random(std::uint16_t suite_id, std::mt19937_64& random) {
        LegKeys keys;
        keys.suite = crypto::find_cipher_suite(suite_id);
        if (keys.suite == nullptr) return keys;
        for (const bool to : {true, false}) {
            crypto::TrafficKey& key = to ? keys.to_appliance : keys.from_appliance;
            if (keys.suite->version == crypto::Version::tls13) {
                crypto::TrafficSecret& secret = to ? keys.to_appliance_secret : keys.from_appliance_secret;
                secret.assign(random_octets(random, crypto::hash_length(keys.suite->hash)));
                key = crypto::derive_traffic_key(*keys.suite, secret).value();
            } else {
                key.key.assign(random_octets(random, crypto::key_length(keys.suite->aead)));
                key.iv.assign(random_octets(random, keys.suite->aead == crypto::Aead::chacha20_poly1305 ? 12 : 4));
            }
        }
        return keys;
    }
};

/// One end of a leg: the client or the backend.
struct Peer {
    struct Record {
        crypto::ContentType type;
        Octets content;
    };
    crypto::AeadBatch* batch = nullptr;
    LegKeys keys;
    crypto::RecordProtection read, write;
    crypto::TrafficSecret read_secret, write_secret;
    tcp::Connection* connection = nullptr;
    tcp::End end = tcp::End::none;
    bool established = false, finished = false;   ///< finished: FIN received, and all before it read
    std::size_t preamble = 0;                     ///< octets to come before the first record: the appliance's part of the handshake
    Octets preamble_seen;
    Octets out;                                   ///< to be sent
    std::size_t out_sent = 0;
    bool close_after_out = false, closed = false;
    std::size_t read_limit = ~std::size_t{0};     ///< octets that it will read: a slow reader raises it now and then
    std::size_t octets_read = 0;
    std::size_t write_step = ~std::size_t{0};     ///< octets given to TCP at a time
    Octets in;
    Octets data;                                  ///< application data, in the order received
    std::vector<Record> others;                   ///< alerts and handshake records
    unsigned records = 0, bad_records = 0, key_updates = 0, key_updates_requested = 0;
    bool answers_key_updates = true;

    void install() {
        if (keys.suite == nullptr) return;
        read_secret = keys.from_appliance_secret;
        write_secret = keys.to_appliance_secret;
        write.install(*keys.suite, keys.to_appliance, keys.to_appliance_sequence, 77);
        read.install(*keys.suite, keys.from_appliance, keys.from_appliance_sequence, 0);
    }
    void send_raw(const Octets& octets) { out.insert(out.end(), octets.begin(), octets.end()); }
    [[nodiscard]] Octets sealed(crypto::ContentType type, const Octets& content) {
        Octets record(write.sealed_length(content.size()));
        const crypto::ReadPiece from{content.data(), static_cast<std::uint32_t>(content.size())};
        const crypto::WritePiece to{record.data(), static_cast<std::uint32_t>(record.size())};
        EXPECT_TRUE(batch->seal(write, type, {&from, content.empty() ? 0u : 1u}, {&to, 1}));
        batch->flush();
        return record;
    }
    void send_record(crypto::ContentType type, const Octets& content) { send_raw(sealed(type, content)); }
    void send(const Octets& content) {
        if (keys.suite == nullptr) {
            send_raw(content);
            return;
        }
        std::size_t at = 0;
        do {   // in as few records as it takes
            const std::size_t length = std::min(content.size() - at, crypto::kMaxPlaintextLength);
            send_record(crypto::ContentType::application_data, Octets(content.begin() + static_cast<std::ptrdiff_t>(at), content.begin() + static_cast<std::ptrdiff_t>(at + length)));
            at += length;
        } while (at < content.size());
    }
    void send_alert(std::uint8_t level, std::uint8_t description) {
        send_record(crypto::ContentType::alert, {std::byte{level}, std::byte{description}});
    }
    void send_key_update(bool request) {
        send_record(crypto::ContentType::handshake,
                    {std::byte{24}, std::byte{0}, std::byte{0}, std::byte{1}, request ? std::byte{1} : std::byte{0}});
        next_key(write_secret, write);
    }
    void next_key(crypto::TrafficSecret& secret, crypto::RecordProtection& protection) const {
        secret = crypto::next_traffic_secret(*keys.suite, secret).value();
        protection.install(*keys.suite, crypto::derive_traffic_key(*keys.suite, secret).value(), 0, 0);
    }
    void close_in_order() {
        if (keys.suite != nullptr) send_alert(1, 0);
        close_after_out = true;
    }
    void abort() {
        connection->abort();
        connection->release();
        connection = nullptr;
        closed = true;
    }
    [[nodiscard]] bool has_alert(std::uint8_t description) const {
        for (const Record& record : others)
            if (record.type == crypto::ContentType::alert && record.content.size() == 2 && record.content[1] == std::byte{description}) return true;
        return false;
    }
    [[nodiscard]] bool orderly() const { return finished && (keys.suite == nullptr || has_alert(0)); }
    [[nodiscard]] bool gone() const { return connection == nullptr || end != tcp::End::none; }

    void on_events(std::uint8_t events) {
        if ((events & tcp::event::kEstablished) != 0) established = true;
        if ((events & tcp::event::kEnded) != 0) end = connection->end();
    }
    void work() {
        if (connection == nullptr) return;
        write_out();
        read_in();
        write_out();
    }
    void write_out() {
        while (established && out_sent < out.size()) {
            const std::size_t length = std::min({out.size() - out_sent, std::size_t{connection->send_space()}, write_step});
            if (length == 0 || !connection->send(std::span(out).subspan(out_sent, length))) break;
            out_sent += length;
            if (write_step != ~std::size_t{0}) break;
        }
        if (out_sent == out.size()) {
            out.clear();
            out_sent = 0;
            if (close_after_out && established && !closed) {
                connection->close();
                closed = true;
            }
        }
    }
    void read_in() {
        while (connection->readable() > 0 && octets_read < read_limit) {
            crypto::WritePiece pieces[1];
            const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(connection->readable(), 64));
            if (connection->peek(0, length, pieces) != 1) {
                (void)connection->peek(0, 1, pieces);
            }
            in.insert(in.end(), pieces[0].data, pieces[0].data + pieces[0].length);
            octets_read += pieces[0].length;
            connection->consume(pieces[0].length);
        }
        if (connection->peer_finished()) finished = true;
        take_records();
    }
    void take_records() {
        std::size_t at = 0;
        const std::size_t first = std::min(preamble, in.size());
        preamble_seen.insert(preamble_seen.end(), in.begin(), in.begin() + static_cast<std::ptrdiff_t>(first));
        preamble -= first;
        at += first;
        if (preamble == 0 && keys.suite == nullptr) {
            data.insert(data.end(), in.begin() + static_cast<std::ptrdiff_t>(at), in.end());
            at = in.size();
        }
        while (preamble == 0 && keys.suite != nullptr && in.size() - at >= crypto::kRecordHeaderLength && read.installed()) {
            const auto header = crypto::parse_record_header(std::span(in).subspan(at).first<5>(), read);
            if (!header) {
                ++bad_records;
                break;
            }
            if (in.size() - at < crypto::kRecordHeaderLength + header->length) break;
            const crypto::WritePiece piece{in.data() + at + 5, header->length};
            crypto::OpenResult result;
            ASSERT_TRUE(batch->open(read, *header, {&piece, 1}, &result));
            batch->flush();
            if (result.status != crypto::OpenResult::Status::ok) {
                ++bad_records;
                break;
            }
            ++records;
            const std::byte* const content = piece.data + result.content_offset;
            if (result.type == crypto::ContentType::application_data)
                data.insert(data.end(), content, content + result.content_length);
            else
                take_other({result.type, Octets(content, content + result.content_length)});
            at += crypto::kRecordHeaderLength + header->length;
        }
        in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(at));
    }
    void take_other(Record record) {
        if (record.type == crypto::ContentType::handshake && record.content.size() == 5 && record.content[0] == std::byte{24}) {
            ++key_updates;
            next_key(read_secret, read);
            if (record.content[4] == std::byte{1}) {
                ++key_updates_requested;
                if (answers_key_updates) send_key_update(false);
            }
        }
        others.push_back(std::move(record));
    }
};

struct Host {
    DropCounters drops;
    network::Network network;
    tcp::Stack stack;
    rte_mempool* pool;
    Host(const network::Network::Settings& network_settings, const tcp::Settings& tcp_settings, rte_mempool* buffers)
        : network(network_settings, buffers, drops), stack(tcp_settings, buffers, network, drops), pool(buffers) {}
};

/// What the test knows of a flow: its two peers, and control's part.
struct Session {
    Peer client, backend;
    FlowId id;
    std::uint64_t client_consumed = 0, backend_consumed = 0;   ///< stream offsets
    std::uint64_t client_seen = 0, backend_seen = 0;
    std::uint8_t attempt = 0;
    bool backend_accepted = false, backend_failed = false, client_closed = false, backend_closed = false, tickets_over = false;
    bool ended = false;
    channel::FlowEnded result{};
    std::vector<Octets> tickets;
    Octets prepend;               ///< for the backend, at the hand-off
    bool expect_tickets = false;
    bool hand_off_client = true, hand_off_backend = true;   ///< off: the test does it itself
    [[nodiscard]] EndReason reason() const { return static_cast<EndReason>(result.reason); }
};

/// Calls of operator new in this program, as cost_test.cpp counts them.
inline std::uint64_t allocations = 0;

class World {
 public:
    static constexpr std::size_t kClientHello = 100, kServerFlight = 50, kBackendHello = 60, kBackendFlight = 80;
    static constexpr std::uint16_t kService = 443, kBackendPort = 8443;
    static constexpr std::uint64_t kServiceId = 71;
    static constexpr std::uint16_t kSegmentationBuffers = 32;   ///< of a frame of 64 KB, at most

    struct Settings {
        std::uint64_t seed = 1;
        std::uint16_t client_suite = 0x1301, backend_suite = 0x1302;   ///< 0 for the backend: plain
        double loss = 0;
        std::uint32_t receive_buffer = 262144, send_buffer = 262144;
        std::uint32_t max_flows = 4096;
        Duration idle_timeout = 30s, handshake_timeout = 10s;
        std::uint32_t appliance_buffers = 16383, peers_buffers = 32767;
        std::uint32_t receive_budget = 0, transmit_budget = 0;   ///< of the appliance's TCP
        bool start_control = true;
        bool redirect = false;
        bool offloads = false;   ///< everybody's device sums and checks, and cuts what the appliance sends in buffers for several segments
    };

    explicit World(const Settings& settings)
        : settings_(settings), pool_(settings.peers_buffers), appliance_pool_(settings.appliance_buffers), random_(settings.seed) {
        if (settings.offloads) appliance_large_pool_ = std::make_unique<sallyport::test::BufferPool>(drivers::large_buffers_for(settings.appliance_buffers), drivers::kLargeDataRoom);
        for (int i = 0; i < 3; ++i)
            hosts_[static_cast<std::size_t>(i)] = std::make_unique<Host>(network_settings(i), tcp_settings(i), i == 1 ? appliance_pool_.get() : pool_.get());
        EngineSettings engine_settings;
        engine_settings.max_flows = settings.max_flows;
        engine_settings.receive_buffer = settings.receive_buffer;
        engine_ = std::make_unique<FlowEngine>(engine_settings, appliance().stack, appliance_batch_, appliance().drops);
        services_.generation = 3;
        services_.services = {{"www", settings.idle_timeout, settings.handshake_timeout, settings.redirect, kServiceId}};
        services_.listens = {{{address(1), kService}, 0}};
        services_.index();
        engine_->serve(&services_);
        backend_host().stack.listen({address(2), kBackendPort});
        if (settings.start_control) start_control();
    }
    ~World() {
        while (!in_flight_.empty()) {
            rte_pktmbuf_free(in_flight_.top().frame);
            in_flight_.pop();
        }
        engine_->serve(nullptr);
        engine_.reset();
        hosts_ = {};
    }

    Host& client_host() { return *hosts_[0]; }
    Host& appliance() { return *hosts_[1]; }
    Host& backend_host() { return *hosts_[2]; }
    FlowEngine& engine() { return *engine_; }
    std::mt19937_64& random() { return random_; }
    Time now() const { return now_; }
    test::Session& session(std::size_t i) { return *sessions_[i]; }
    std::size_t appliance_buffers_in_use() const { return appliance_pool_.in_use(); }
    std::size_t appliance_large_buffers_in_use() const { return appliance_large_pool_ ? appliance_large_pool_->in_use() : 0; }
    rte_mempool* appliance_pool() { return appliance_pool_.get(); }
    ServiceTable& services() { return services_; }
    std::uint64_t drops(DropReason reason) { return appliance().drops[reason]; }
    static IpAddress address(int host) { return IpAddress::from_v4({192, 0, 2, static_cast<std::uint8_t>(host + 1)}); }

    // ---- control ----
    void start_control() {
        to_control_memory_.assign(channel::kRingMemory / 64 + 1, {});
        from_control_memory_.assign(channel::kRingMemory / 64 + 1, {});
        auto* const to = reinterpret_cast<std::byte*>(to_control_memory_.data());
        auto* const from = reinterpret_cast<std::byte*>(from_control_memory_.data());
        reader_ = channel::RingConsumer(to);
        writer_ = channel::RingProducer(from);
        std::vector<Lanes::Lane> lanes;
        lanes.push_back({channel::RingProducer(to), channel::RingConsumer(from), -1});
        auto next = std::make_unique<Lanes>(std::move(lanes));
        engine_->attach(next.get(), now_);
        lanes_ = std::move(next);
        control_alive = true;
    }
    void stop_control() {
        engine_->attach(nullptr, now_);
        lanes_.reset();
        control_alive = false;
        for (auto& each : sessions_) each->client_seen = each->client_consumed = 0;
    }
    /// Makes the index of the ring from control nonsense.
    void spoil_ring() { from_control_memory_.front().octets.fill(std::byte{0xee}); }
    bool control_alive = false;
    /// When set and it returns true, control does nothing more about a message.
    std::function<bool(const channel::Message&)> intercept;

    template <typename Fixed>
    void tell(channel::MessageType type, FlowId id, const Fixed& fixed, std::span<const std::byte> payload = {}) {
        EXPECT_TRUE(writer_.write(type, id, fixed, payload));
        (void)writer_.publish();
        again_ = true;
    }
    /// Without any check, and lost when the ring is full.
    void tell_raw(channel::MessageType type, FlowId id, std::span<const std::byte> fixed, std::span<const std::byte> payload) {
        (void)writer_.write(type, id, fixed, payload);
        (void)writer_.publish();
        again_ = true;
    }
    void send_octets(Session& s, Side side, std::size_t length) {
        Octets octets(length, std::byte{22});
        if (side == Side::backend) std::memcpy(octets.data() + 1, &s.id.value, 8);
        tell(channel::MessageType::send_octets, s.id,
             channel::SendOctets{side, s.attempt, side == Side::client ? s.client_consumed : s.backend_consumed}, octets);
    }
    void open_backend(Session& s, std::uint16_t port = kBackendPort) {
        s.backend_seen = s.backend_consumed = 0;
        tell(channel::MessageType::open_backend, s.id, channel::OpenBackend{{address(2), port}, ++s.attempt, static_cast<std::uint8_t>(s.backend.keys.suite != nullptr), 2000, 5, 6});
    }
    channel::Handoff handoff_of(Session& s, Side side) {
        const LegKeys& keys = side == Side::client ? s.client.keys : s.backend.keys;
        channel::Handoff handoff{};
        handoff.leg = side;
        handoff.attempt = s.attempt;
        handoff.consumed = side == Side::client ? s.client_consumed : s.backend_consumed;
        handoff.protection = keys.suite == nullptr ? channel::Protection::plain : channel::Protection::tls;
        if (keys.suite == nullptr) return handoff;
        handoff.suite = keys.suite->id;
        handoff.expect_tickets = side == Side::backend && s.expect_tickets ? 1 : 0;
        handoff.read_sequence = keys.to_appliance_sequence;
        handoff.write_sequence = keys.from_appliance_sequence;
        handoff.explicit_nonce = 5;
        const auto copy = [](auto& to, std::span<const std::byte> from) { std::ranges::copy(from, to.begin()); };
        copy(handoff.read_key, keys.to_appliance.key.octets());
        copy(handoff.read_iv, keys.to_appliance.iv.octets());
        copy(handoff.write_key, keys.from_appliance.key.octets());
        copy(handoff.write_iv, keys.from_appliance.iv.octets());
        copy(handoff.read_secret, keys.to_appliance_secret.octets());
        copy(handoff.write_secret, keys.from_appliance_secret.octets());
        return handoff;
    }
    void hand_off(Session& s, Side side) {
        tell(channel::MessageType::handoff, s.id, handoff_of(s, side), side == Side::backend ? std::span<const std::byte>(s.prepend) : std::span<const std::byte>{});
    }
    void end_leg(Session& s, channel::EndHow how, EndReason reason) {
        tell(channel::MessageType::end_leg, s.id, channel::EndLeg{Side::backend, s.attempt, how, static_cast<std::uint8_t>(reason)});
    }

    // ---- running ----
    /// Connects a client; its ClientHello is under way.
    Session& connect() {
        auto& s = *sessions_.emplace_back(std::make_unique<Session>());
        s.client.batch = s.backend.batch = &batch_;
        s.client.keys = LegKeys::random(settings_.client_suite, random_);
        s.backend.keys = LegKeys::random(settings_.backend_suite, random_);
        if (adjust_keys) adjust_keys(s);
        s.client.install();
        s.backend.install();
        s.client.preamble = kServerFlight;
        s.backend.preamble = settings_.backend_suite == 0 ? 8 : kBackendHello;
        s.client.send_raw(Octets(kClientHello, std::byte{22}));
        const auto connection = client_host().stack.connect({address(1), kService}, sessions_.size(), 5s, now_);
        EXPECT_TRUE(connection.has_value());
        s.client.connection = *connection;
        return s;
    }
    std::function<void(Session&)> adjust_keys;
    /// Each segment that arrives somewhere: at the client (0), the appliance or the backend (2), and how many octets it brings.
    std::function<void(std::size_t to, std::size_t octets)> on_segment;
    /// A flow whose both legs are open.
    Session& open() {
        Session& s = connect();
        EXPECT_TRUE(run_until([&] { return is_open(s); }, 20s)) << "no open flow";
        return s;
    }
    bool is_open(const Session& s) {
        const FlowStatus status = status_of(s);
        return status.client_phase == LegPhase::open && status.backend_phase == LegPhase::open;
    }
    FlowStatus status_of(const Session& s) {
        std::uint32_t first = 0;
        for (const auto& status : engine_->statuses(first, 100000, now_))
            if (status.id == s.id) return status;
        return {};
    }
    bool run_until(const std::function<bool()>& done, Duration at_most) {
        const Time limit = now_ + at_most;
        while (!done()) {
            if (now_ >= limit) return false;
            step(limit);
        }
        return true;
    }
    void run_for(Duration duration) {
        (void)run_until([] { return false; }, duration);
    }
    /// All connections and flows of the appliance have ended; TIME-WAIT too.
    bool run_until_empty(Duration at_most = 400s) {
        return run_until([&] { return engine_->flows() == 0 && appliance().stack.connections() == 0 && in_flight_.empty(); }, at_most);
    }
    std::uint64_t turns = 0, turns_busy = 0;
    /// Within the appliance's part of the steps: from a frame that arrives to frames to be transmitted.
    std::uint64_t appliance_allocations = 0, appliance_cycles = 0;
    const crypto::AeadBatch::Counters& appliance_records() const { return appliance_batch_.counters(); }

 private:
    struct Flying {
        Time at;
        std::uint64_t order;
        std::size_t to;
        rte_mbuf* frame;
        bool operator<(const Flying& other) const { return at != other.at ? at > other.at : order > other.order; }
    };

    /// Adds what a block takes to the appliance's part, where the host is the appliance.
    class Spent {
     public:
        Spent(World& world, std::size_t host) : world_(host == 1 ? &world : nullptr), allocations_(allocations), cycles_(__rdtsc()) {}
        ~Spent() {
            if (world_ == nullptr) return;
            world_->appliance_allocations += allocations - allocations_;
            world_->appliance_cycles += __rdtsc() - cycles_;
        }
        Spent(const Spent&) = delete;
        Spent& operator=(const Spent&) = delete;

     private:
        World* world_;
        std::uint64_t allocations_, cycles_;
    };

    void step(Time limit) {
        Time next = now_ + 50ms;
        if (!in_flight_.empty()) next = std::min(next, in_flight_.top().at);
        for (const auto& host : hosts_) next = std::min(next, host->stack.next_timer());
        if (again_) next = now_ + 10us;
        again_ = false;
        now_ = std::min(std::max(next, now_ + 1us), limit);
        while (!in_flight_.empty() && in_flight_.top().at <= now_) {
            const Flying flying = in_flight_.top();
            in_flight_.pop();
            const Spent spent(*this, flying.to);
            deliver(flying.to, flying.frame);
        }
        for (std::size_t i = 0; i < hosts_.size(); ++i) {
            {
                const Spent spent(*this, i);
                hosts_[i]->stack.advance(now_);
                if (now_ >= network_at_) hosts_[i]->network.advance(now_);
                if (i == 1) {
                    ++turns;
                    if (engine_->turn(now_)) {
                        again_ = true;
                        ++turns_busy;
                    }
                }
            }
            if (i != 1)
                peers(i);
            else if (control_alive)
                control();
            {
                const Spent spent(*this, i);
                hosts_[i]->stack.output(now_);
            }
            transmit(i);
        }
        if (now_ >= network_at_) network_at_ = now_ + 100ms;
    }

    void peers(std::size_t host) {
        for (auto ready = hosts_[host]->stack.next_ready(); ready.connection != nullptr; ready = hosts_[host]->stack.next_ready()) {
            if (host == 0) {
                sessions_[ready.connection->user - 1]->client.on_events(ready.events);
            } else if (ready.connection->user != 0) {
                sessions_[ready.connection->user - 1]->backend.on_events(ready.events);
            } else if ((ready.events & tcp::event::kEnded) != 0) {
                std::erase_if(unknown_, [&](auto* each) { return each == ready.connection; });
                ready.connection->release();
            } else if (std::ranges::find(unknown_, ready.connection) == unknown_.end()) {
                unknown_.push_back(ready.connection);
            }
        }
        if (host == 2) know();
        for (auto& each : sessions_) {
            Peer& peer = host == 0 ? each->client : each->backend;
            peer.work();
            if (peer.connection != nullptr && peer.out_sent < peer.out.size() && peer.write_step != ~std::size_t{0}) again_ = true;
        }
    }
    /// The backend learns from control's first octets whose connection it is.
    void know() {
        std::erase_if(unknown_, [&](tcp::Connection* connection) {
            std::array<std::byte, 9> hello{};
            const std::uint32_t length = settings_.backend_suite == 0 ? 8 : 9;
            if (connection->readable() < length) return false;
            crypto::WritePiece pieces[9];
            const std::size_t count = connection->peek(0, length, pieces);
            std::size_t at = 0;
            for (std::size_t i = 0; i < count; ++i) {
                std::memcpy(hello.data() + at, pieces[i].data, pieces[i].length);
                at += pieces[i].length;
            }
            FlowId id;
            std::memcpy(&id.value, hello.data() + (settings_.backend_suite == 0 ? 0 : 1), 8);
            const auto index = by_id_.find(id.value);
            if (index == by_id_.end()) return false;
            Session& s = *sessions_[index->second];
            s.backend.connection = connection;
            s.backend.established = true;
            s.backend_accepted = true;
            connection->user = index->second + 1;
            if (settings_.backend_suite != 0) {   // its part of the handshake goes before whatever the test has queued
                const Octets flight(kBackendFlight, std::byte{22});
                s.backend.out.insert(s.backend.out.begin(), flight.begin(), flight.end());
            }
            return true;
        });
    }

    void control() {
        while (reader_.read(*message_)) {
            if (intercept && intercept(*message_)) continue;
            on_message(*message_);
        }
    }
    void on_message(const channel::Message& message) {
        const auto type = message.type();
        if (type == channel::MessageType::flow_opened) {
            const auto& opened = *message.fixed<channel::FlowOpened>();
            for (std::size_t i = sessions_.size(); i-- > 0;) {   // the newest with this port
                Session& s = *sessions_[i];
                if (s.client.connection == nullptr || s.client.connection->local() != opened.client) continue;
                s.id = message.flow();
                by_id_[s.id.value] = i;
                break;
            }
            return;
        }
        const auto index = by_id_.find(message.flow().value);
        if (index == by_id_.end()) return;
        Session& s = *sessions_[index->second];
        switch (type) {
            case channel::MessageType::stream_octets: {
                const auto& where = *message.fixed<channel::StreamOctets>();
                const std::size_t length = message.payload<channel::StreamOctets>().size();
                std::uint64_t& seen = where.leg == Side::client ? s.client_seen : s.backend_seen;
                EXPECT_EQ(where.offset, seen);
                const std::uint64_t before = seen;
                seen += length;
                if (where.leg == Side::client && before < kClientHello && seen >= kClientHello) {
                    s.client_consumed = kClientHello;
                    send_octets(s, Side::client, kServerFlight);
                    open_backend(s);
                    if (s.hand_off_client) hand_off(s, Side::client);
                } else if (where.leg == Side::backend && before < kBackendFlight && seen >= kBackendFlight) {
                    s.backend_consumed = kBackendFlight;
                    if (s.hand_off_backend) hand_off(s, Side::backend);
                }
                return;
            }
            case channel::MessageType::backend_opened:
                if (settings_.backend_suite == 0) {
                    Octets id(8);
                    std::memcpy(id.data(), &s.id.value, 8);
                    id.insert(id.end(), s.prepend.begin(), s.prepend.end());
                    tell(channel::MessageType::handoff, s.id, handoff_of(s, Side::backend), id);
                } else {
                    send_octets(s, Side::backend, kBackendHello);
                }
                return;
            case channel::MessageType::backend_failed:
                s.backend_failed = true;
                return;
            case channel::MessageType::leg_closed:
                (message.fixed<channel::LegEvent>()->leg == Side::client ? s.client_closed : s.backend_closed) = true;
                return;
            case channel::MessageType::ticket_record: {
                const auto payload = message.payload<channel::StreamOctets>();
                s.tickets.emplace_back(payload.begin(), payload.end());
                return;
            }
            case channel::MessageType::tickets_over:
                s.tickets_over = true;
                return;
            case channel::MessageType::flow_ended:
                EXPECT_FALSE(s.ended) << "flow_ended came twice";
                s.ended = true;
                s.result = *message.fixed<channel::FlowEnded>();
                return;
            default:
                return;
        }
    }

    void deliver(std::size_t to, rte_mbuf* frame) {
        Host& host = *hosts_[to];
        network::Received received = host.network.receive(frame, 0, now_);
        if (received.kind == network::Received::Kind::tcp && on_segment) on_segment(to, received.segment.payload_length);
        if (received.kind == network::Received::Kind::tcp) host.stack.segment_arrives(received.segment, frame, now_);
        if (received.kind == network::Received::Kind::icmp_error) host.stack.icmp_error(received.error, now_);
    }
    void transmit(std::size_t from) {
        for (rte_mbuf* frame : hosts_[from]->network.to_transmit(0)) {
            const auto* const octets = rte_pktmbuf_mtod(frame, const std::uint8_t*);
            const bool arp = octets[12] == 8 && octets[13] == 6;
            if (arp || settings_.loss == 0 || std::uniform_real_distribution<>(0, 1)(random_) >= settings_.loss)
                for (std::size_t to = 0; to < hosts_.size(); ++to) {
                    if (to == from || ((octets[0] & 1) == 0 && octets[5] != to + 1)) continue;
                    rte_mbuf* const copy = rte_pktmbuf_copy(frame, hosts_[to]->pool, 0, UINT32_MAX);
                    if (copy != nullptr && settings_.offloads) copy->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
                    if (copy != nullptr) in_flight_.push({now_ + 100us, order_++, to, copy});
                }
            rte_pktmbuf_free(frame);
        }
        hosts_[from]->network.taken(0);
    }
    network::Network::Settings network_settings(int host) {
        network::Interface interface;
        interface.name = "host" + std::to_string(host);
        interface.mac = {2, 0, 0, 0, 0, static_cast<std::uint8_t>(host + 1)};
        interface.addresses = {{address(host), 24}};
        interface.checksum_offload = interface.receive_checksum_good = settings_.offloads;
        interface.segmentation_buffers = settings_.offloads ? kSegmentationBuffers : 0;
        network::Network::Settings result;
        result.interfaces = {interface};
        result.random_seed = settings_.seed * 3 + static_cast<unsigned>(host);
        return result;
    }
    tcp::Settings tcp_settings(int host) {
        tcp::Settings result;
        result.max_connections = 8192;
        if (host == 1) {
            result.receive_buffer = settings_.receive_buffer;
            result.send_buffer = settings_.send_buffer;
            result.receive_budget = settings_.receive_budget;
            result.transmit_budget = settings_.transmit_budget;
            if (appliance_large_pool_) result.large_buffers = appliance_large_pool_->get();
        }
        for (auto& octet : result.secret) octet = static_cast<std::uint8_t>(random_());
        return result;
    }

    struct alignas(64) Line {
        std::array<std::byte, 64> octets{};
    };
    Settings settings_;
    sallyport::test::BufferPool pool_, appliance_pool_;
    std::unique_ptr<sallyport::test::BufferPool> appliance_large_pool_;
    std::mt19937_64 random_;
    std::array<std::unique_ptr<Host>, 3> hosts_;
    crypto::AeadBatch batch_, appliance_batch_;
    ServiceTable services_;
    std::unique_ptr<FlowEngine> engine_;
    std::vector<Line> to_control_memory_, from_control_memory_;
    channel::RingConsumer reader_;
    channel::RingProducer writer_;
    std::unique_ptr<Lanes> lanes_;
    std::unique_ptr<channel::Message> message_ = std::make_unique<channel::Message>();
    std::vector<std::unique_ptr<Session>> sessions_;
    std::map<std::uint64_t, std::size_t> by_id_;
    std::vector<tcp::Connection*> unknown_;
    std::priority_queue<Flying> in_flight_;
    std::uint64_t order_ = 0;
    Time now_{1s};
    Time network_at_{1s};
    bool again_ = false;
};

}  // namespace sallyport::flow::test
