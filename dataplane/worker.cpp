#include "dataplane/worker.h"

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "control/daemon/exit_code.h"
#include "control/daemon/logging.h"
#include "dataplane/interruptions.h"
#include "dataplane/steering/steering.h"

namespace sallyport {

TscClock::TscClock() : start_(rte_rdtsc()), hz_(rte_get_tsc_hz()) {
    scale_ = static_cast<std::uint64_t>((static_cast<Uint128>(1'000'000'000) << 32) / hz_);
}

Time TscClock::now() const noexcept { return at(rte_rdtsc()); }

namespace {

/// Turns without work before the core is offered to others: some ten microseconds, longer than the gaps within a burst of packets.
constexpr unsigned kIdleTurns = 64;
/// Busy turns that tell what is usual.
constexpr unsigned kUsualOf = 64;

}  // namespace

Worker::Worker(const Settings& settings, const TscClock& clock, steering::Crossbar& crossbar)
    : settings_(settings), clock_(clock), crossbar_(crossbar) {
    network_ = std::make_unique<network::Network>(settings_.network, settings_.buffers, drops_);
    stack_ = std::make_unique<tcp::Stack>(settings_.tcp, settings_.buffers, *network_, drops_);
    if (settings_.count > 1) stack_->set_port_filter(&Worker::port_reaches_us, this);
    engine_ = std::make_unique<flow::FlowEngine>(settings_.engine, *stack_, batch_, drops_);
    for (std::size_t i = 0; i < settings_.ports.size(); ++i) backlog_.emplace_back(kBacklog);
}

Worker::~Worker() = default;

bool Worker::port_reaches_us(void* context, const SocketAddress& local, const SocketAddress& remote) {
    const auto* const self = static_cast<const Worker*>(context);
    return steering::worker_of(local, remote, self->settings_.count) == self->settings_.index;
}

void Worker::run() {
    std::uint64_t before = rte_rdtsc();
    unsigned idle_turns = 0;
    std::uint64_t usual = 0;   // cycles of a busy turn
    Interruptions interruptions;
    while (!stopping_.load(std::memory_order_relaxed)) {
        interruptions.begin();
        const std::uint64_t begin = before;
        const Time now = clock_.at(begin);
        bool busy = receive(now);
        if (task_.load(std::memory_order_relaxed) != nullptr) {
            run_task(now);
            busy = true;
        }
        busy |= engine_->turn(now);
        if (now >= stack_->next_timer()) stack_->advance(now);
        if (now >= next_network_tick_) {
            network_->advance(now);
            next_network_tick_ = now + 50ms;
            stack_->set_saturated(saturation_.judge(counters_.cycles_busy, counters_.cycles_total));
            for (drivers::Port* const port : settings_.ports)   // else the last frames of a burst stay referenced
                if (settings_.index < port->transmit_queues()) port->reclaim(static_cast<std::uint16_t>(settings_.index));
            if (lanes_ != nullptr && lanes_->broken()) lanes_broken_.store(true, std::memory_order_relaxed);
        }
        stack_->output(now);
        busy |= transmit();
        ++counters_.iterations;
        before = rte_rdtsc();
        counters_.cycles_total += before - begin;
        if (busy) {
            std::uint64_t own = before - begin;
            if (interruptions.any()) [[unlikely]] {
                ++counters_.interrupted_iterations;
                own = std::min(own, usual);
            } else {
                usual = (usual * (kUsualOf - 1) + own) / kUsualOf;
            }
            ++counters_.busy_iterations;
            counters_.cycles_busy += own;
            idle_turns = 0;
        } else if (++idle_turns < kIdleTurns) {
            rte_pause();
        } else {
            // Where the core is shared (control on it too, the kernel's softirq thread of a veth), the others would wait for the
            // end of our time slice with nothing gained. On a core of our own it costs a system call while there is no work.
            std::this_thread::yield();
            // What others ran meanwhile is neither work of ours, nor may the next turn believe that it is earlier than it is.
            const std::uint64_t back = rte_rdtsc();
            counters_.cycles_total += back - before;
            before = back;
        }
    }
}

bool Worker::receive(Time now) {
    rte_mbuf* frames[kBurst];
    bool any = false;
    for (std::uint16_t interface = 0; interface < settings_.ports.size(); ++interface) {
        drivers::Port& port = *settings_.ports[interface];
        // A device with fewer queues than there are workers is polled by the first ones.
        for (std::uint16_t queue = static_cast<std::uint16_t>(settings_.index); queue < port.receive_queues();
             queue = static_cast<std::uint16_t>(queue + settings_.count)) {
            const std::uint16_t count = port.receive(queue, frames);
            if (count == 0) continue;
            any = true;
            counters_.packets_in += count;
            if (tap_ != nullptr) [[unlikely]]
                tap_->take(interface, queue, drivers::PcapngFile::Direction::in, std::span(frames, count));
            for (std::uint16_t i = 0; i < count; ++i) {
                rte_prefetch0(rte_pktmbuf_mtod(frames[i], void*));
                frames[i]->port = interface;
            }
            std::size_t ours = count;
            if (settings_.count > 1) {
                ours = 0;
                for (std::uint16_t i = 0; i < count; ++i)
                    if (steer(frames[i])) frames[ours++] = frames[i];
            }
            take_frames({frames, ours}, now);
        }
    }
    if (settings_.count > 1) {
        const unsigned count = crossbar_.take_received(settings_.index, frames);
        counters_.steered_in += count;
        any |= count > 0;
        take_frames({frames, count}, now);
    }
    return any;
}

void Worker::take_frames(std::span<rte_mbuf* const> frames, Time now) {
    std::array<tcp::Stack::Arriving, kBurst> segments;
    std::size_t count = 0;
    for (rte_mbuf* const frame : frames) {
        const network::Received received = network_->receive(frame, frame->port, now);
        switch (received.kind) {
            case network::Received::Kind::tcp:
                segments[count++] = {received.segment, frame};
                break;
            case network::Received::Kind::icmp_error:
                stack_->icmp_error(received.error, now);
                break;
            case network::Received::Kind::taken:
                break;
        }
    }
    stack_->segments_arrive(std::span(segments).first(count), now);
}

/// Gives a frame to the worker that owns its connection. True: that is this one; where the device has done so already, it always is.
bool Worker::steer(rte_mbuf* frame) {
    const unsigned owner = steering::worker_of_frame(frame, settings_.count);
    if (owner == settings_.index) return true;
    const auto pass = [&](unsigned to, rte_mbuf* passed) {
        if (crossbar_.pass_received(settings_.index, to, passed)) {
            ++counters_.steered_away;
            return;
        }
        drops_.count(DropReason::steering_ring_full);
        rte_pktmbuf_free(passed);
    };
    if (owner != steering::kEveryWorker) {
        pass(owner, frame);
        return false;
    }
    for (unsigned to = 0; to < settings_.count; ++to) {
        if (to == settings_.index) continue;
        rte_mbuf* const copy = rte_pktmbuf_copy(frame, settings_.buffers, 0, UINT32_MAX);
        if (copy == nullptr) {
            drops_.count(DropReason::no_buffer);
            continue;
        }
        copy->port = frame->port;
        pass(to, copy);
    }
    return true;
}

bool Worker::transmit() {
    bool any = false;
    for (std::uint16_t interface = 0; interface < settings_.ports.size(); ++interface) {
        const std::span<rte_mbuf*> frames = network_->to_transmit(interface);
        if (frames.empty() && backlog_[interface].empty()) continue;
        any |= !frames.empty();
        const std::uint16_t queues = settings_.ports[interface]->transmit_queues();
        if (settings_.index < queues) {
            send_burst(interface, frames);
        } else {
            for (rte_mbuf* const frame : frames) {
                frame->port = interface;
                if (crossbar_.pass_transmit(settings_.index, settings_.index % queues, frame)) continue;
                drops_.count(DropReason::transmit_ring_full);
                rte_pktmbuf_free(frame);
            }
        }
        network_->taken(interface);
    }
    if (settings_.count > 1) {
        rte_mbuf* frames[kBurst];
        const unsigned count = crossbar_.take_transmit(settings_.index, frames);
        for (unsigned i = 0; i < count; ++i) send_burst(frames[i]->port, std::span(&frames[i], 1));
        any |= count > 0;
    }
    return any;
}

/// Sends what waits and then `frames`; what the device does not take waits, up to a bound.
void Worker::send_burst(std::uint16_t interface, std::span<rte_mbuf*> frames) {
    drivers::Port& port = *settings_.ports[interface];
    const auto queue = static_cast<std::uint16_t>(settings_.index);
    Backlog& waiting = backlog_[interface];
    if (tap_ != nullptr) [[unlikely]]   // what waits was shown when it came
        tap_->take(interface, queue, drivers::PcapngFile::Direction::out, frames);
    while (!waiting.empty()) {
        const std::span<rte_mbuf*> next = waiting.next(kBurst);
        const std::uint16_t sent = port.transmit(queue, next);
        counters_.packets_out += sent;
        waiting.taken(sent);
        if (sent < next.size()) break;
    }
    std::size_t sent = 0;
    while (waiting.empty() && sent < frames.size()) {
        const std::uint16_t taken = port.transmit(queue, frames.subspan(sent));
        counters_.packets_out += taken;
        sent += taken;
        if (taken == 0) break;
    }
    for (; sent < frames.size(); ++sent) {
        if (waiting.push(frames[sent])) continue;
        drops_.count(DropReason::transmit_ring_full);
        rte_pktmbuf_free(frames[sent]);
    }
}

void Worker::attach(std::unique_ptr<flow::Lanes> lanes, Time now) {
    engine_->attach(lanes.get(), now);
    lanes_ = std::move(lanes);
    lanes_broken_.store(false, std::memory_order_relaxed);
}

/// Takes the task, unless its caller has withdrawn it this moment, and runs it.
void Worker::run_task(Time now) {
    in_task_.store(true, std::memory_order_relaxed);
    if (const auto* const task = task_.exchange(nullptr, std::memory_order_acq_rel)) (*task)(*this, now);
    in_task_.store(false, std::memory_order_release);
}

bool Worker::call(const std::function<void(Worker&, Time)>& task, std::chrono::milliseconds patience) {
    task_.store(&task, std::memory_order_release);
    const auto until = std::chrono::steady_clock::now() + patience;
    // in_task_ was set before the task was taken: who sees it taken sees that it runs, or that it is done.
    while (task_.load(std::memory_order_acquire) != nullptr || in_task_.load(std::memory_order_acquire)) {
        if (std::chrono::steady_clock::now() > until) {
            if (task_.exchange(nullptr, std::memory_order_acq_rel) != nullptr) return false;
            daemon::log(daemon::Level::error, "worker_hangs", {{"worker", settings_.index}, {"why", "it does not come back from what the main thread asked of it"}});
            _exit(exit_code::kSoftware);
        }
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
}

}  // namespace sallyport
