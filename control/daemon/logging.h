#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/format.h"

/// Logs: one line an event, to stderr. A line is the event's name, then key=value fields:
///   2026-11-03T14:05:09.123Z info sallyport-control flow_ended flow=00-000001-00000007 reason=finished text="both
///   sides closed"
/// Where stderr is the journal (JOURNAL_STREAM, systemd.exec(5)) time and program are left out, since the journal has
/// them, and the level is sd-daemon(3)'s prefix, such as <6>. Values that are not plain words are quoted, and control
/// characters and invalid UTF-8 escaped, so that nothing a peer sends can break a line or forge another. What is logged
/// through spdlog's own functions by the default logger gets the same treatment. start_logging() once by main, before
/// threads; the rest from any thread but a dataplane worker's loop.
namespace sallyport::daemon {

enum class Level : std::uint8_t { trace, debug, info, warning, error };

/// `level`: trace, debug, info, warning, error. The error names those.
[[nodiscard]] std::expected<Level, std::string> parse_level(std::string_view level);

/// Installs spdlog's default logger. `program` is what a line begins with.
void start_logging(const std::string& program, Level level);
void set_log_level(Level level);

/// True when `fd` is the stream that JOURNAL_STREAM (of the form DEVICE:INODE) names.
[[nodiscard]] bool is_journal(int fd, const char* journal_stream);

/// One field. The value is turned into text at once.
struct Field {
    std::string_view key;
    std::string value;
    Field(std::string_view k, std::string_view v) : key(k), value(v) {}
    Field(std::string_view k, const char* v) : key(k), value(v) {}
    Field(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
    Field(std::string_view k, bool v) : key(k), value(v ? "yes" : "no") {}
    template <typename T>
        requires(std::is_arithmetic_v<T>)
    Field(std::string_view k, T v) : key(k), value(sallyport::format("{}", v)) {}
};

/// Whether log() would write a line of this level: asked before fields are made whose texts are worked out for each flow.
[[nodiscard]] bool logs(Level level) noexcept;
/// `event`: a word that names what happened, such as flow_ended; it stays the same from release to release.
void log(Level level, std::string_view event, std::initializer_list<Field> fields = {});

/// A line that was logged, as it is kept for `show log`.
struct LogLine {
    std::chrono::system_clock::time_point time;
    Level level = Level::info;
    std::string text;  ///< event and fields, escaped
};
/// Lines that are kept at most: the newest ones that were logged since start_logging().
constexpr std::size_t kKeptLines = 2000;
/// The last `limit` of them that are at least as grave as `least` and hold `match` (empty: any), oldest first. Any thread.
[[nodiscard]] std::vector<LogLine> kept_lines(std::size_t limit, Level least = Level::trace, std::string_view match = {});
/// "trace", "debug", "info", "warning", "error"
[[nodiscard]] const char* level_name(Level level) noexcept;
/// "2026-11-03T14:05:09.123Z", as in a line.
[[nodiscard]] std::string time_of_line(std::chrono::system_clock::time_point time);

/// As a field's value stands in a line.
[[nodiscard]] std::string field_text(std::string_view value);
/// Escapes what would break a line: control characters as \n, \t or \xNN, octets that are not UTF-8 as \xNN.
[[nodiscard]] std::string one_line(std::string_view text);

}  // namespace sallyport::daemon
