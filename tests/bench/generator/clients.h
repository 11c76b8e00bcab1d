#pragma once

#include <optional>
#include <random>
#include <span>

#include "dataplane/tcp/object_pool.h"
#include "tests/bench/generator/address_range.h"
#include "tests/bench/generator/exchange.h"
#include "tests/bench/generator/histogram.h"
#include "tests/bench/generator/slices.h"
#include "tests/bench/generator/schedule.h"

namespace sallyport::generator {

/// A client's connection, and what it waits for.
struct ClientEnd : Endpoint {
    Time due{};                     ///< of the request under way, or of the connection that brings it: what latency is measured from
    Time connected{};               ///< when its SYN was made
    std::uint32_t requests = 0;     ///< answered on this connection
    std::uint32_t start = 0;        ///< of the next body in the pattern
    bool ready = false;             ///< it was open once
    bool waiting = false;           ///< a request is under way
    bool answer_begun = false;
    bool resting = false;           ///< open, with nothing to do
    bool in_queue = false;          ///< its number is in the queue of the resting
    bool probed = false;            ///< has answered the probe at the end
};

static_assert(sizeof(ClientEnd) <= 448);   // and there may be a million

/// The clients: they open connections at a pace, send requests by a model of load, and measure.
///
/// Kept connections (requests_per_connection 0) are opened by hold() and used from load() on; else each connection is opened for a few requests. In
/// a closed loop each connection sends its next request when the answer to the last one is complete; in an open loop requests (or connections)
/// are due at times that nothing else decides. Latency counts from when a request was due, so that waiting for a free connection is in it.
class Clients : public Exchange<Clients, ClientEnd> {
 public:
    struct Settings {
        std::uint32_t connections = 1;             ///< at once
        std::uint32_t requests_per_connection = 0;
        bool closes_at_once = false;          ///< each connection is opened for no request at all; requests_per_connection is not 0 all the same
        std::uint32_t active = 1;                  ///< kept connections with a request under way at once, at most; in a closed loop it is always the same ones
        std::vector<SocketAddress> targets;        ///< in turn
        AddressRange sources;                      ///< in turn; empty: the route's
        RequestText request;
        std::uint64_t answer_length = 1024;
        bool own_answers = true;                   ///< our backends': the length is known and the body compared
        std::uint32_t compare_every = 1;           ///< one answer in so many; 0: none
        double open_rate = 1000;                   ///< connections a second, at most; 0: no limit
        std::uint32_t opening_at_once = 64;        ///< connections that are not ready yet, at most
        double rate = 0;                           ///< open loop: due a second; 0: closed loop
        Spacing spacing = Spacing::poisson;
        double probe_rate = 10000;
        double resume_share = 0;                   ///< of handshakes that offer a session, 0 to 1
        std::uint64_t seed = 1;
        Duration timeout = 10s;                    ///< for a connection to be ready, and for a whole answer
        RecordSettings records;
        Duration slice{};                          ///< latencies by slices of this length besides
        std::uint32_t slices = 0;
    };
    Clients(Settings settings, Side& side, crypto::AeadBatch& batch, const TscClock& clock, const Pattern& pattern, TlsContext* tls);
    ~Clients();

    /// True when there was something to do.
    bool turn(Time now);

    /// Whether all connections are to be open, and are opened again when they end.
    void hold(bool on) noexcept { holding_ = on; }
    /// Requests from now on.
    void load(Time now);
    /// No further requests. What is under way goes on.
    void stop_load() noexcept { loading_ = false; }
    /// Every open connection sends one request, at the probes' pace.
    void probe() noexcept { probing_ = true; }
    /// Closes what is open, as it comes to rest.
    void close_all() noexcept;

    /// Latencies of what is due in [from, to) are recorded from now on.
    void measure(Time from, Time to) noexcept {
        from_ = from;
        to_ = to;
    }
    /// Requests that were due before `until` in an open loop, and that no connection was free to send.
    [[nodiscard]] std::uint64_t unsent(Time until);

    [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }       ///< connections in any phase
    [[nodiscard]] std::uint32_t ready() const noexcept { return ready_; }         ///< of them open
    [[nodiscard]] std::uint32_t waiting() const noexcept { return waiting_; }     ///< requests under way, with those whose connection is being opened
    [[nodiscard]] std::uint64_t probed() const noexcept { return probed_; }
    /// All that are open have been probed.
    [[nodiscard]] bool probes_done() const noexcept { return probing_ && resting_count() == 0 && waiting_ == 0; }

    [[nodiscard]] const Histogram& setup() const noexcept { return setup_; }               ///< SYN to ready; of kept connections all
    [[nodiscard]] const Histogram& first_octet() const noexcept { return first_octet_; }   ///< due to the answer's first octet
    [[nodiscard]] const Histogram& last_octet() const noexcept { return last_octet_; }     ///< due to its last one
    /// The same, by slices of the time in which they were due.
    [[nodiscard]] const Slices& first_octet_slices() const noexcept { return first_octet_slices_; }
    [[nodiscard]] const Slices& last_octet_slices() const noexcept { return last_octet_slices_; }

 private:
    friend class Exchange<Clients, ClientEnd>;
    static constexpr int kMostATurn = 256;   ///< requests and connections that are begun in one turn
    /// Each request under way holds packet buffers: a million probes at once would leave none.
    static constexpr std::uint32_t kMostProbes = 4096;
    /// Likewise what is closed at the end; a second.
    static constexpr double kCloseRate = 40'000;

    [[nodiscard]] ClientEnd* accept() { return nullptr; }
    [[nodiscard]] openssl::Session session_to_offer();
    void opened(ClientEnd& end);
    void octets_arrived(ClientEnd& end);
    [[nodiscard]] bool head_arrived(ClientEnd& end);
    void message_arrived(ClientEnd& end);
    void write_head(ClientEnd& end, std::span<char> to) { settings_.request.write(end.out.start, to); }
    void message_sent(ClientEnd&) {}
    void peer_closed(ClientEnd& end);
    void lost(ClientEnd& end);
    void vacate(ClientEnd& end);

    [[nodiscard]] bool keeps() const noexcept { return settings_.requests_per_connection == 0; }
    [[nodiscard]] bool measured(Time due) const noexcept { return due >= from_ && due < to_; }
    void record(Histogram& whole, Slices& slices, Time due) noexcept;
    [[nodiscard]] bool open_connections();
    [[nodiscard]] bool connect(Time due);
    [[nodiscard]] bool send_due();
    /// Has it send a request in this round, or in the next one when it is activated.
    void request(ClientEnd& end, Time due);
    void rest(ClientEnd& end);
    [[nodiscard]] ClientEnd* take_resting();
    [[nodiscard]] std::uint32_t resting_count() const noexcept { return resting_; }
    void leave_rest(ClientEnd& end) noexcept;
    void not_waiting(ClientEnd& end) noexcept;
    void leave(ClientEnd& end) noexcept;
    void set_deadline(const ClientEnd& end, Duration from_now) noexcept;
    void check_deadlines();

    [[nodiscard]] std::uint32_t number_of(const ClientEnd& end) const noexcept { return static_cast<std::uint32_t>(&end - ends_); }

    const Settings settings_;
    const Side& side_;
    tcp::Region memory_;
    ClientEnd* const ends_;                    ///< settings_.connections of them
    std::vector<std::uint32_t> deadlines_;     ///< milliseconds of our clock, by number; 0: none. Apart, so that all can be looked at often
    std::vector<std::uint32_t> vacant_;        ///< numbers; last in, first out
    std::vector<std::uint32_t> queue_;         ///< numbers of the resting, a ring: first in, first out
    std::size_t queue_first_ = 0, queue_length_ = 0;
    std::uint32_t in_use_ = 0, ready_ = 0, waiting_ = 0, opening_ = 0, resting_ = 0, closing_next_ = 0, deadline_next_ = 0;
    std::uint64_t connects_ = 0, answers_ = 0, probed_ = 0;
    bool holding_ = false, loading_ = false, probing_ = false, closing_ = false;
    Pace open_pace_, probe_pace_, close_pace_;
    std::optional<Schedule> schedule_;         ///< open loop
    Time last_check_{}, connect_again_{}, from_ = Time::max(), to_ = Time::max();
    std::mt19937_64 random_;
    Histogram setup_, first_octet_, last_octet_;
    Slices first_octet_slices_, last_octet_slices_;
};

}  // namespace sallyport::generator
