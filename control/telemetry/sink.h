#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/channel/shared_memory.h"
#include "control/telemetry/flow_record.h"

/// Where records go: each place has a bounded queue and a thread of its own, so that none waits for another and nobody for any of them.
namespace sallyport::telemetry {

/// A record on its way.
struct Entry {
    std::string kind = "flow";              ///< "flow", "alarm", "audit": MSGID of syslog
    int severity = 6;                       ///< RFC 5424 6.2.1
    std::chrono::system_clock::time_point time{};
    std::shared_ptr<const FlowRecord> flow{};   ///< nullptr: `text` is the record
    std::string text{};                         ///< one line of JSON

    [[nodiscard]] std::string json() const { return flow ? to_json(*flow) : text; }
};

/// What a place has taken and what it has not, over all its lives. Any thread.
struct SinkCounts {
    std::atomic<std::uint64_t> written{0};
    std::atomic<std::uint64_t> shed{0};     ///< the queue was full
    std::atomic<std::uint64_t> lost{0};     ///< taken from the queue, and could not be written
};

class Sink {
 public:
    virtual ~Sink() = default;
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;

    /// Queues it, or counts it as shed. Never waits but for a lock that is held for the time of a push. Any thread.
    void offer(Entry entry);
    [[nodiscard]] std::size_t waiting() const;
    /// Why records cannot be written now; empty: they can. Any thread.
    [[nodiscard]] std::string trouble() const;

    /// Ends the thread: what is queued may be written for `grace`, the rest is counted as lost. Every derived class calls it when it goes.
    void stop(std::chrono::milliseconds grace) noexcept;

 protected:
    using Clock = std::chrono::steady_clock;
    /// `counts` may outlive the sink.
    Sink(std::shared_ptr<SinkCounts> counts, std::size_t queue);

    /// The derived class's thread, begun at the end of its constructor: runs until ending() is true.
    virtual void run() = 0;
    void start(const char* thread_name);
    /// Waits until there is something in the queue, the thread is to end, or the time is over. With `fd`, until that is readable too.
    void wait(Clock::time_point until, int fd = -1);
    [[nodiscard]] std::vector<Entry> take(std::size_t most);
    /// To be stopped, and there is nothing left to do or no time left to do it.
    [[nodiscard]] bool ending() const;
    [[nodiscard]] bool stopping() const noexcept { return stopping_.load(); }
    /// Until when what is begun may go on: the end of grace, else never.
    [[nodiscard]] Clock::time_point deadline() const;
    void set_trouble(std::string why);
    [[nodiscard]] SinkCounts& counts() noexcept { return *counts_; }
    [[nodiscard]] int wake_fd() const noexcept { return wake_.get(); }

 private:
    std::shared_ptr<SinkCounts> counts_;
    const std::size_t limit_;
    mutable std::mutex mutex_;
    std::deque<Entry> queue_;
    std::string trouble_;
    Clock::time_point deadline_ = Clock::time_point::max();
    std::atomic<bool> stopping_{false};
    channel::Descriptor wake_;
    std::thread thread_;
};

}  // namespace sallyport::telemetry
