#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_failures(Appearance& appearance, const Request& request) {
    const auto limit = request.number("limit", 100, 0, flows::FailureLog::kKept);
    if (!limit) return std::unexpected(limit.error());
    return appearance.running.runtime()->failures->recent(*limit);
}

}  // namespace

void add_failure_commands(CommandTable& table, Appearance& appearance) {
    table.add("show failures", "handshakes that failed, newest first", {{"limit", "at most so many (to 1000; 0: all that are kept; otherwise 100)"}},
              [&](const Request& request, const Peer&) { return show_failures(appearance, request); });
}

}  // namespace sallyport::operations
