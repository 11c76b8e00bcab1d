#pragma once

#include "control/telemetry/sink.h"

namespace sallyport::telemetry {

/// Gives records to systemd's journal (sd_journal_sendv(3)): MESSAGE is the JSON, and the fields SALLYPORT_FLOW, SALLYPORT_SERVICE,
/// SALLYPORT_CLIENT and SALLYPORT_REASON are there to select by.
class JournalSink final : public Sink {
 public:
    JournalSink(std::shared_ptr<SinkCounts> counts, std::size_t queue);
    ~JournalSink() override { stop(std::chrono::seconds(1)); }

 private:
    void run() override;
};

}  // namespace sallyport::telemetry
