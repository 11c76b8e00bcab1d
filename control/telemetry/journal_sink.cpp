#include "control/telemetry/journal_sink.h"

#include <sys/uio.h>
#include <unistd.h>

// The variants that note file and line of the call would say the same of every record.
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include <array>
#include <cstring>
#include <string>

namespace sallyport::telemetry {

JournalSink::JournalSink(std::shared_ptr<SinkCounts> counts, std::size_t queue) : Sink(std::move(counts), queue) { start("flow-log-journal"); }

void JournalSink::run() {
    while (!ending()) {
        wait(Clock::now() + std::chrono::seconds(60));
        for (const Entry& entry : take(64)) {
            // Without a journal the library succeeds and does nothing.
            if (access("/run/systemd/journal/socket", W_OK) != 0) {
                set_trouble(std::string("the journal cannot be reached: ") + std::strerror(errno));
                ++counts().lost;
                continue;
            }
            std::array<std::string, 7> fields{"MESSAGE=" + entry.json(), "PRIORITY=" + std::to_string(entry.severity), "SYSLOG_IDENTIFIER=sallyport-" + entry.kind};
            std::size_t count = 3;
            if (entry.flow) {
                fields[count++] = "SALLYPORT_FLOW=" + entry.flow->id;
                fields[count++] = "SALLYPORT_SERVICE=" + entry.flow->service;
                fields[count++] = "SALLYPORT_CLIENT=" + entry.flow->client.peer;
                fields[count++] = "SALLYPORT_REASON=" + entry.flow->reason;
            }
            std::array<iovec, fields.size()> parts{};
            for (std::size_t i = 0; i < count; ++i) parts[i] = {fields[i].data(), fields[i].size()};
            const int result = sd_journal_sendv(parts.data(), static_cast<int>(count));
            set_trouble(result == 0 ? std::string() : std::string("the journal refuses: ") + std::strerror(-result));
            ++(result == 0 ? counts().written : counts().lost);
        }
    }
}

}  // namespace sallyport::telemetry
