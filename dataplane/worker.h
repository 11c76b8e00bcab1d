#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "crypto/aead_batch.h"
#include "dataplane/backlog.h"
#include "dataplane/drop_reason.h"
#include "dataplane/flow/flow_engine.h"
#include "dataplane/network/network.h"
#include "dataplane/saturation.h"
#include "dataplane/steering/crossbar.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/time.h"
#include "drivers/capture.h"
#include "drivers/port.h"

struct rte_mempool;

namespace sallyport {

/// Turns the TSC into the dataplane's time. Made once, read by every worker.
class TscClock {
 public:
    TscClock();
    [[nodiscard]] Time at(std::uint64_t tsc) const noexcept {
        // Nanoseconds = cycles * (10^9 << 32) / hz >> 32.
        return Time(Duration(static_cast<std::int64_t>((static_cast<Uint128>(tsc - start_) * scale_) >> 32)));
    }
    [[nodiscard]] Time now() const noexcept;
    [[nodiscard]] std::uint64_t hz() const noexcept { return hz_; }

 private:
    friend class Worker;
    __extension__ using Uint128 = unsigned __int128;
    std::uint64_t start_ = 0;
    std::uint64_t hz_ = 0;
    std::uint64_t scale_ = 0;
};

/// What a worker has done, in its own memory.
struct WorkerCounters {
    std::uint64_t iterations = 0, busy_iterations = 0;
    std::uint64_t interrupted_iterations = 0;          ///< busy ones in which the kernel gave the core to another thread
    std::uint64_t cycles_total = 0, cycles_busy = 0;   ///< TSC; an interrupted iteration counts as a usual busy one, for what others did in it is no work of ours
    std::uint64_t packets_in = 0, packets_out = 0;
    std::uint64_t steered_away = 0, steered_in = 0;
};

/// One core's loop, run to completion: packets in, TCP, flows and records, packets out. Everything that it touches on the way is its own.
class Worker {
 public:
    struct Settings {
        unsigned index = 0, count = 1;
        std::vector<drivers::Port*> ports;   ///< in the order of the interfaces; borrowed
        network::Network::Settings network;
        tcp::Settings tcp;
        flow::EngineSettings engine;
        rte_mempool* buffers = nullptr;      ///< for what the worker sends; borrowed
    };
    Worker(const Settings& settings, const TscClock& clock, steering::Crossbar& crossbar);
    ~Worker();

    /// The loop, until stop(). Runs on the worker's lcore.
    void run();
    void stop() noexcept { stopping_.store(true, std::memory_order_relaxed); }

    /// Runs `task` in the worker between two iterations and waits for it. Main thread only, one at a time. False when the worker did
    /// not come to it within `patience`: it never will then, and the process cannot go on. When the worker hangs within the task, which
    /// refers to what is the caller's, there is nothing to return to: the process ends with exit_code::kSoftware.
    [[nodiscard]] bool call(const std::function<void(Worker&, Time)>& task, std::chrono::milliseconds patience = std::chrono::seconds(5));

    [[nodiscard]] flow::FlowEngine& engine() noexcept { return *engine_; }
    [[nodiscard]] tcp::Stack& stack() noexcept { return *stack_; }
    [[nodiscard]] network::Network& network() noexcept { return *network_; }
    [[nodiscard]] const crypto::AeadBatch& batch() const noexcept { return batch_; }
    [[nodiscard]] const DropCounters& drops() const noexcept { return drops_; }
    [[nodiscard]] const WorkerCounters& counters() const noexcept { return counters_; }
    [[nodiscard]] const Settings& settings() const noexcept { return settings_; }
    /// Lanes whose memory control has spoilt: the main thread must attach anew.
    [[nodiscard]] bool lanes_broken() const noexcept { return lanes_broken_.load(std::memory_order_relaxed); }
    /// Between iterations (from call()): swaps the lanes, and keeps them.
    void attach(std::unique_ptr<flow::Lanes> lanes, Time now);
    [[nodiscard]] flow::Lanes* lanes() noexcept { return lanes_.get(); }
    /// Between iterations: what is received and transmitted is shown to `tap` from now on; nullptr: to nobody. Borrowed until the next call.
    void show_to(const drivers::CaptureTap* tap) noexcept { tap_ = tap; }

 private:
    static constexpr unsigned kBurst = 32;
    static constexpr std::size_t kBacklog = 4096;   ///< frames that wait for a full transmit ring, an interface

    [[nodiscard]] bool receive(Time now);
    void run_task(Time now);
    /// Frames of the interfaces that their `port` names.
    void take_frames(std::span<rte_mbuf* const> frames, Time now);
    [[nodiscard]] bool steer(rte_mbuf* frame);
    [[nodiscard]] bool transmit();
    void send_burst(std::uint16_t interface, std::span<rte_mbuf*> frames);
    [[nodiscard]] static bool port_reaches_us(void* context, const SocketAddress& local, const SocketAddress& remote);

    Settings settings_;
    const TscClock& clock_;
    steering::Crossbar& crossbar_;
    DropCounters drops_;
    WorkerCounters counters_;
    crypto::AeadBatch batch_;
    std::unique_ptr<network::Network> network_;
    std::unique_ptr<tcp::Stack> stack_;
    std::unique_ptr<flow::FlowEngine> engine_;
    std::unique_ptr<flow::Lanes> lanes_;
    const drivers::CaptureTap* tap_ = nullptr;      ///< nullptr: nothing is captured
    std::deque<Backlog> backlog_;   ///< by interface
    Time next_network_tick_{};
    Saturation saturation_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> lanes_broken_{false};
    alignas(64) std::atomic<const std::function<void(Worker&, Time)>*> task_{nullptr};
    std::atomic<bool> in_task_{false};   ///< the worker has taken it, and is not done
};

}  // namespace sallyport
