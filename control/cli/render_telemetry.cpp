#include "control/cli/render_telemetry.h"

#include <algorithm>
#include <vector>

#include "control/cli/render.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using management::AlarmView;

/// Sentences stand last, so that only they are ever wider than a terminal.
std::string table_of(const std::vector<AlarmView>& alarms, bool cleared) {
    std::vector<std::vector<std::string>> rows{{"raised"}};
    if (cleared) rows[0].emplace_back("cleared");
    for (const char* heading : {"severity", "kind", "object", "what"}) rows[0].emplace_back(heading);
    for (const AlarmView& alarm : alarms) {
        auto& row = rows.emplace_back();
        row.push_back(alarm.raised);
        if (cleared) row.push_back(alarm.cleared);
        row.insert(row.end(), {alarm.severity, alarm.kind, alarm.object, alarm.text});
        for (std::string& cell : row) cell = cell.empty() ? "-" : printable(cell);
    }
    std::vector<std::size_t> widths(rows[0].size());
    for (const auto& row : rows)
        for (std::size_t i = 0; i + 1 < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    std::string text;
    for (const auto& row : rows) {
        for (std::size_t i = 0; i + 1 < row.size(); ++i) text += sallyport::format("{:<{}}  ", row[i], widths[i]);
        text += row.back() + '\n';
    }
    return text;
}

}  // namespace

std::string render_text(const management::AlarmsView& alarms) {
    std::string text = alarms.active.empty() ? "There are no alarms.\n" : table_of(alarms.active, false);
    if (!alarms.recent.empty()) text += "\nCleared:\n" + table_of(alarms.recent, true);
    return text;
}

}  // namespace sallyport::cli
