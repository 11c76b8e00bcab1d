
#include "control/daemon/logging.h"
#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

/// Both processes' last lines. Each keeps its own in memory; the dataplane is asked for its.
Result show_log(Appearance& appearance, const Request& request) {
    const auto limit = request.number("limit", 100, 1, daemon::kKeptLines);
    if (!limit) return std::unexpected(limit.error());
    const auto match = request.text("match"), level = request.text("level");
    if (!match) return std::unexpected(match.error());
    constexpr std::size_t kLongestMatch = 256;
    if (match->size() > kLongestMatch) return bad_argument(sallyport::format("match is longer than {} octets", kLongestMatch));
    if (!level) return std::unexpected(level.error());
    const auto least = daemon::parse_level(level->empty() ? "trace" : *level);
    if (!least) return bad_argument(least.error());

    management::LogView view;
    for (const auto& line : daemon::kept_lines(*limit, *least, *match))
        view.lines.push_back({daemon::time_of_line(line.time), daemon::level_name(line.level), "control", line.text});
    const auto answer = appearance.link.ask("log", {{"limit", *limit}, {"level", daemon::level_name(*least)}, {"match", *match}});
    if (!answer) {
        view.dataplane = answer.error();
    } else {
        for (const json& line : *answer) view.lines.push_back({line.value("time", ""), line.value("level", ""), "dataplane", line.value("text", "")});
    }
    // Text of one length and form: it sorts as the times do.
    std::ranges::stable_sort(view.lines, {}, &management::LogLineView::time);
    if (view.lines.size() > *limit) view.lines.erase(view.lines.begin(), view.lines.end() - static_cast<std::ptrdiff_t>(*limit));
    return view;
}

}  // namespace

void add_log_commands(CommandTable& table, Appearance& appearance) {
    table.add("show log", "the last lines of both processes' logs",
              {{"limit", "so many (to 2000; otherwise 100)"}, {"match", "only lines that hold this"}, {"level", "only from this level on: trace, debug, info, warning, error"}},
              [&](const Request& request, const Peer&) { return show_log(appearance, request); });
}

}  // namespace sallyport::operations
