#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "crypto/aead_batch.h"
#include "dataplane/saturation.h"
#include "dataplane/worker.h"
#include "tests/bench/generator/backends.h"
#include "tests/bench/generator/clients.h"
#include "tests/bench/generator/link.h"
#include "tests/bench/generator/options.h"
#include "tests/bench/generator/side.h"

namespace sallyport::generator {

/// TSC cycles of loop iterations in which there was something to do, by what was done.
struct Cycles {
    std::uint64_t network = 0;    ///< frames, IP, TCP, of both sides
    std::uint64_t clients = 0;    ///< records, messages and handshakes
    std::uint64_t backends = 0;
    std::uint64_t idle = 0;       ///< iterations in which there was nothing
    [[nodiscard]] std::uint64_t busy() const noexcept { return network + clients + backends; }
};

/// Everything that counts up, at one moment.
struct Snapshot {
    Time at{};
    double cpu_seconds = 0;       ///< that the process has had
    double monotonic = 0;         ///< seconds of CLOCK_MONOTONIC
    Cycles cycles;
    Counters clients, backends;
    tcp::Stack::Counters client_tcp, backend_tcp;
    std::uint64_t client_packets_in = 0, client_packets_out = 0, backend_packets_in = 0, backend_packets_out = 0;
};

/// What had come in at a moment of the window.
struct Mark {
    double monotonic = 0;   ///< seconds of CLOCK_MONOTONIC
    std::uint64_t messages = 0, opened = 0;
};

/// What a run has brought.
struct Result {
    Snapshot begin, end;            ///< of the window that counts
    std::vector<Mark> course;       ///< of that window, each Options::course seconds, beginning with `begin`
    Snapshot last;                  ///< when everything was closed
    std::uint64_t unsent = 0;       ///< open loop: due in the window, and no connection was free
    std::uint64_t unanswered = 0;   ///< requests and connections under way when the drain was over
    std::uint64_t not_probed = 0;   ///< mode idle: connections that did not answer
    std::uint32_t most_ready = 0;   ///< connections open at once
    double opening_seconds = 0;     ///< from the first SYN until all kept connections were open
    std::uint64_t resident = 0;     ///< octets of memory, when most connections were open
    bool stopped_early = false;     ///< by a signal
};

/// The whole program behind its options: DPDK's environment, both sides, the loop. One a process.
class Generator {
 public:
    /// The error is for a person.
    [[nodiscard]] static std::expected<std::unique_ptr<Generator>, std::string> make(const Options& options);
    ~Generator();

    /// Runs all stages on this thread. `stop`: set by a signal; the run then ends in order. The error says why it could not begin.
    [[nodiscard]] std::expected<Result, std::string> run(const volatile std::sig_atomic_t& stop);

    [[nodiscard]] const Clients* clients() const noexcept { return clients_.get(); }
    [[nodiscard]] const Backends* backends() const noexcept { return backends_.get(); }
    [[nodiscard]] const Options& options() const noexcept { return options_; }
    [[nodiscard]] Side* client_side() const noexcept { return client_side_.get(); }
    [[nodiscard]] Side* backend_side() const noexcept { return backend_side_.get(); }
    [[nodiscard]] std::uint64_t tsc_hz() const noexcept { return clock_->hz(); }

 private:
    explicit Generator(const Options& options) : options_(options) {}
    [[nodiscard]] std::expected<void, std::string> set_up();
    struct Pools {
        rte_mempool* receive = nullptr;
        rte_mempool* transmit = nullptr;
        rte_mempool* large = nullptr;   ///< for a device that cuts segments
        std::uint32_t for_connections = 0;
    };
    [[nodiscard]] std::expected<void, std::string> make_pools(const std::string& name, const SideOptions& side, Pools& pools);
    [[nodiscard]] std::expected<void, std::string> make_side(const char* name, const SideOptions& side, Pools& pools, unsigned loopback_end, std::unique_ptr<Side>& made);
    [[nodiscard]] Clients::Settings client_settings() const;

    enum class Stage : std::uint8_t { linking,
                                      settling,
                                      opening,
                                      warm_up,
                                      measuring,
                                      probing,
                                      draining,
                                      closing,
                                      over };
    [[nodiscard]] bool links_up();
    /// Goes on to the next stage when this one is over.
    [[nodiscard]] std::expected<void, std::string> control(Time now, bool stop);
    void enter(Stage stage, Time now);
    bool turn(Time now);
    [[nodiscard]] Snapshot snapshot(Time now) const;
    void progress(Time now);
    /// Adds to Result::course, when it is time.
    void mark(Time now);

    Options options_;
    Pools client_pools_, backend_pools_;
    std::unique_ptr<TscClock> clock_;
    std::unique_ptr<Loopback> loopback_;
    std::unique_ptr<crypto::AeadBatch> batch_;
    Pattern pattern_;
    std::unique_ptr<TlsContext> client_tls_, backend_tls_;
    std::unique_ptr<Side> client_side_, backend_side_;
    std::unique_ptr<Clients> clients_;
    std::unique_ptr<Backends> backends_;
    Cycles cycles_;
    Saturation saturation_;
    Stage stage_ = Stage::linking;
    Time stage_begin_{}, next_look_{}, next_progress_{}, next_mark_{};
    Snapshot last_progress_;
    Result result_;
};

}  // namespace sallyport::generator
