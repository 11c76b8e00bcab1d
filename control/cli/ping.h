#pragma once

#include "control/cli/grammar.h"
#include "control/cli/link.h"
#include "control/cli/output.h"

namespace sallyport::cli {

/// `ping ADDRESS`: starts it in the dataplane, prints each probe's outcome as it comes, and a summary. Through a pipe, or as JSON, it is printed
/// at the end. The exit code is kFailure when no reply came. Ctrl-C ends the watching.
int ping(Link& link, const Output& output, const Parsed& parsed);

/// Probes of a `ping read` from number `from` on that are no longer awaited, a line each; `shown` counts up.
[[nodiscard]] std::string probe_lines(const nlohmann::json& result, std::size_t& shown);
/// "3 sent, 2 received, 1 lost; round trip 0.31 / 0.40 / 0.52 ms (least, mean, most)"
[[nodiscard]] std::string ping_summary(const nlohmann::json& result);

}  // namespace sallyport::cli
