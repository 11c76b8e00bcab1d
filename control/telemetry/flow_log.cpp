#include "control/telemetry/flow_log.h"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "control/daemon/logging.h"
#include "control/telemetry/journal_sink.h"
#include "control/telemetry/syslog_sink.h"
#include "control/telemetry/tls.h"

namespace sallyport::telemetry {

namespace {

std::string to_json(const Alarm& alarm) {
    const bool over = alarm.cleared != Alarms::Clock::time_point{};
    nlohmann::ordered_json json{{"kind", "alarm"},
                                {"alarm", alarm.kind},
                                {"object", alarm.object},
                                {"number", alarm.number},
                                {"state", over ? "cleared" : "raised"},
                                {"severity", name(alarm.severity)},
                                {"raised", iso8601_ms(alarm.raised)}};
    if (over) json["cleared"] = iso8601_ms(alarm.cleared);
    json["text"] = alarm.text;
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// RFC 5424 6.2.1; what is over is a notice.
int syslog_severity(const Alarm& alarm) {
    if (alarm.cleared != Alarms::Clock::time_point{}) return 5;
    switch (alarm.severity) {
        case Severity::warning:
            return 4;
        case Severity::error:
            return 3;
        case Severity::critical:
            return 2;
    }
    return 4;
}

}  // namespace

FlowLog::~FlowLog() {
    on_ = false;
    std::vector<std::jthread> ends;   // at once, not one after the other
    for (std::unique_ptr<Sink>* sink : {&file_, &journal_, &syslog_})
        if (*sink) ends.emplace_back([sink] { sink->reset(); });
}

void FlowLog::retire(std::unique_ptr<Sink> sink) {
    if (!sink) return;
    std::erase_if(retiring_, [](const Retiring& each) { return each.done->load(); });
    auto done = std::make_shared<std::atomic<bool>>(false);
    retiring_.push_back({done, std::jthread([old = std::move(sink), done]() mutable {
                             old.reset();
                             *done = true;
                         })});
}

void FlowLog::configure(const configuration::FlowLog& settings, int policy_level) {
    std::optional<FileSink::Settings> file;
    if (!settings.file.empty()) file = FileSink::Settings{settings.file, settings.max_octets, settings.files, settings.queue};
    std::optional<std::size_t> journal;
    if (settings.journal) journal = settings.queue;
    std::unique_ptr<Sink> new_syslog;
    std::string trouble;
    if (settings.syslog) {   // always anew: certificates and anchors may have changed in their files
        try {
            new_syslog = std::make_unique<SyslogSink>(syslog_counts_, SyslogSink::Settings{settings.syslog->address, settings.syslog->server_name, settings.queue},
                                                      client_context(*settings.syslog, policy_level));
        } catch (const std::runtime_error& error) {
            trouble = error.what();
            daemon::log(daemon::Level::error, "syslog_not_made", {{"why", trouble}});
        }
    }
    std::unique_ptr<Sink> new_file, new_journal;
    const bool other_file = file != file_settings_, other_journal = journal != journal_queue_;
    if (other_file && file) new_file = std::make_unique<FileSink>(file_counts_, *file);
    if (other_journal && journal) new_journal = std::make_unique<JournalSink>(journal_counts_, *journal);
    {
        const std::lock_guard lock(mutex_);
        if (other_file) std::swap(file_, new_file);
        if (other_journal) std::swap(journal_, new_journal);
        std::swap(syslog_, new_syslog);
        syslog_trouble_ = std::move(trouble);
        on_ = file_ || journal_ || syslog_;
    }
    file_settings_ = std::move(file);
    journal_queue_ = journal;
    retire(std::move(new_file));   // the old ones now
    retire(std::move(new_journal));
    retire(std::move(new_syslog));
}

void FlowLog::add(FlowRecord record) {
    Entry entry;
    entry.time = record.ended;
    entry.flow = std::make_shared<const FlowRecord>(std::move(record));
    const std::lock_guard lock(mutex_);
    for (Sink* sink : {file_.get(), journal_.get(), syslog_.get()})
        if (sink != nullptr) sink->offer(entry);
}

void FlowLog::add(const Alarm& alarm) {
    const bool over = alarm.cleared != Alarms::Clock::time_point{};
    const std::lock_guard lock(mutex_);
    if (syslog_) syslog_->offer({.kind = "alarm", .severity = syslog_severity(alarm), .time = over ? alarm.cleared : alarm.raised, .text = to_json(alarm)});
}

void FlowLog::add_audit(std::string line) {
    constexpr int kNotice = 5;   // RFC 5424 6.2.1
    const std::lock_guard lock(mutex_);
    if (syslog_) syslog_->offer({.kind = "audit", .severity = kNotice, .time = std::chrono::system_clock::now(), .flow = {}, .text = std::move(line)});
}

std::vector<FlowLog::Status> FlowLog::status() const {
    std::vector<Status> result;
    const std::lock_guard lock(mutex_);
    const auto put = [&](const char* name, const std::unique_ptr<Sink>& sink, const SinkCounts& counts) {
        result.push_back({name, sink != nullptr, counts.written, counts.shed, counts.lost, sink ? sink->waiting() : 0, sink ? sink->trouble() : std::string()});
    };
    put("file", file_, *file_counts_);
    put("journal", journal_, *journal_counts_);
    put("syslog", syslog_, *syslog_counts_);
    if (!syslog_trouble_.empty()) result.back().trouble = syslog_trouble_;
    return result;
}

}  // namespace sallyport::telemetry
