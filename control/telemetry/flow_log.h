#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/telemetry/alarms.h"
#include "control/telemetry/file_sink.h"
#include "control/telemetry/sink.h"

namespace sallyport::telemetry {

/// The record of each flow's end, to every place that the configuration names: a file, the journal, a syslog receiver. Whoever adds a
/// record never waits for any of them. Any thread, but for configure().
class FlowLog {
 public:
    FlowLog() = default;
    ~FlowLog();
    FlowLog(const FlowLog&) = delete;
    FlowLog& operator=(const FlowLog&) = delete;

    /// Changes to other places. What is queued at one that goes is still written, in the background, for a second at most. Main thread.
    void configure(const configuration::FlowLog& settings, int policy_level);

    /// Whether anybody wants records: who makes them may ask first.
    [[nodiscard]] bool on() const noexcept { return on_.load(std::memory_order_relaxed); }
    void add(FlowRecord record);
    /// An alarm that was raised or cleared: for the syslog receiver, since file and journal of flows are flows' alone.
    void add(const Alarm& alarm);
    /// A line of the audit log, as it stands there: for the syslog receiver too, so that a copy is where the appliance cannot alter it.
    void add_audit(std::string line);

    /// A place as it stands.
    struct Status {
        std::string sink;            ///< "file", "journal", "syslog"
        bool on = false;             ///< it is configured
        std::uint64_t written = 0, shed = 0, lost = 0;   ///< since the start
        std::size_t waiting = 0;
        std::string trouble;         ///< why records cannot be written now; empty: they can
    };
    /// All three.
    [[nodiscard]] std::vector<Status> status() const;

 private:
    void retire(std::unique_ptr<Sink> sink);

    std::atomic<bool> on_{false};
    mutable std::mutex mutex_;       ///< held while the sinks are offered a record: a push each
    std::unique_ptr<Sink> file_, journal_, syslog_;
    std::optional<FileSink::Settings> file_settings_;
    std::optional<std::size_t> journal_queue_;
    std::string syslog_trouble_;     ///< why there is no sink for it
    std::shared_ptr<SinkCounts> file_counts_ = std::make_shared<SinkCounts>(), journal_counts_ = std::make_shared<SinkCounts>(),
                                syslog_counts_ = std::make_shared<SinkCounts>();
    struct Retiring {
        std::shared_ptr<std::atomic<bool>> done;
        std::jthread thread;
    };
    std::vector<Retiring> retiring_;   ///< sinks of configurations before that still write
};

}  // namespace sallyport::telemetry
