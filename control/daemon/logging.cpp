#include "control/daemon/logging.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>

#include "crypto/format.h"

namespace sallyport::daemon {

namespace {

/// Length of the UTF-8 sequence that `text` begins with (RFC 3629 4), or 0 when it is none.
std::size_t utf8_length(std::string_view text) {
    const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = octet(0);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xc2 ? 0
                               : first < 0xe0 ? 2
                               : first < 0xf0 ? 3
                               : first < 0xf5 ? 4
                                              : 0;
    if (length == 0 || length > text.size()) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((octet(i) & 0xc0) != 0x80) return 0;
    if ((first == 0xe0 && octet(1) < 0xa0) || (first == 0xed && octet(1) > 0x9f) ||  // overlong, surrogate
        (first == 0xf0 && octet(1) < 0x90) || (first == 0xf4 && octet(1) > 0x8f))
        return 0;
    return length;
}

/// Escapes what is not printable, and what is in `also` with a backslash.
void append_escaped(std::string& out, std::string_view text, std::string_view also) {
    while (!text.empty()) {
        const unsigned char first = static_cast<unsigned char>(text[0]);
        const std::size_t length = utf8_length(text);
        // U+0080 to U+009F are control characters too: terminals act on U+009B as on ESC [.
        const bool c1 = length == 2 && first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0;
        if (length == 0 || c1 || first < 0x20 || first == 0x7f) {
            const std::size_t octets = c1 ? 2 : 1;
            for (std::size_t i = 0; i < octets; ++i) {
                if (text[i] == '\n')
                    out += "\\n";
                else if (text[i] == '\t')
                    out += "\\t";
                else
                    out += sallyport::format("\\x{:02x}", static_cast<unsigned char>(text[i]));
            }
            text.remove_prefix(octets);
            continue;
        }
        if (also.contains(text[0])) out += '\\';
        out += text.substr(0, length);
        text.remove_prefix(length);
    }
}

const char* word(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::trace:
            return "trace";
        case spdlog::level::debug:
            return "debug";
        case spdlog::level::info:
            return "info";
        case spdlog::level::warn:
            return "warning";
        case spdlog::level::err:
            return "error";
        case spdlog::level::critical:
            return "critical";
        case spdlog::level::off:
        case spdlog::level::n_levels:
            break;
    }
    return "off";
}

/// sd-daemon(3): the level of syslog(3) in angle brackets.
const char* journal_prefix(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::trace:
        case spdlog::level::debug:
            return "<7>";
        case spdlog::level::info:
            return "<6>";
        case spdlog::level::warn:
            return "<4>";
        case spdlog::level::err:
            return "<3>";
        case spdlog::level::critical:
            return "<2>";
        case spdlog::level::off:
        case spdlog::level::n_levels:
            break;
    }
    return "<6>";
}

class LineFormatter final : public spdlog::formatter {
 public:
    LineFormatter(std::string program, bool journal) : program_(std::move(program)), journal_(journal) {}

    void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
        std::string line;
        if (journal_)
            line = journal_prefix(message.level);
        else
            line = sallyport::format("{} {} {} ", time_of_line(message.time), word(message.level), program_);
        line += one_line({message.payload.data(), message.payload.size()});
        line += '\n';
        out.append(line.data(), line.data() + line.size());
    }
    [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
        return std::make_unique<LineFormatter>(program_, journal_);
    }

 private:
    std::string program_;
    bool journal_;
};

Level from_spdlog(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::trace:
            return Level::trace;
        case spdlog::level::debug:
            return Level::debug;
        case spdlog::level::info:
            return Level::info;
        case spdlog::level::warn:
            return Level::warning;
        case spdlog::level::err:
        case spdlog::level::critical:
        case spdlog::level::off:
        case spdlog::level::n_levels:
            break;
    }
    return Level::error;
}

/// Keeps the newest lines.
class Ring final : public spdlog::sinks::base_sink<std::mutex> {
 public:
    [[nodiscard]] std::vector<LogLine> last(std::size_t limit, Level least, std::string_view match) {
        std::vector<LogLine> found;
        const std::lock_guard lock(mutex_);
        for (auto line = lines_.rbegin(); line != lines_.rend() && found.size() < limit; ++line)
            if (line->level >= least && line->text.contains(match)) found.push_back(*line);
        std::ranges::reverse(found);
        return found;
    }

 private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        if (lines_.size() >= kKeptLines) lines_.pop_front();
        lines_.push_back({message.time, from_spdlog(message.level), one_line({message.payload.data(), message.payload.size()})});
    }
    void flush_() override {}

    std::deque<LogLine> lines_;
};

std::shared_ptr<Ring>& ring() {
    static std::shared_ptr<Ring> made = std::make_shared<Ring>();
    return made;
}

spdlog::level::level_enum to_spdlog(Level level) {
    switch (level) {
        case Level::trace:
            return spdlog::level::trace;
        case Level::debug:
            return spdlog::level::debug;
        case Level::info:
            return spdlog::level::info;
        case Level::warning:
            return spdlog::level::warn;
        case Level::error:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

}  // namespace

std::expected<Level, std::string> parse_level(std::string_view level) {
    if (level == "trace") return Level::trace;
    if (level == "debug") return Level::debug;
    if (level == "info") return Level::info;
    if (level == "warning") return Level::warning;
    if (level == "error") return Level::error;
    return std::unexpected(
        sallyport::format("log level {} is none of trace, debug, info, warning, error", field_text(level)));
}

bool is_journal(int fd, const char* journal_stream) {
    if (journal_stream == nullptr) return false;
    struct stat status{};
    if (fstat(fd, &status) != 0) return false;
    return sallyport::format("{}:{}", status.st_dev, status.st_ino) == journal_stream;
}

void start_logging(const std::string& program, Level level) {
    const spdlog::sink_ptr sinks[] = {std::make_shared<spdlog::sinks::stderr_sink_mt>(), ring()};
    auto logger = std::make_shared<spdlog::logger>(program, std::begin(sinks), std::end(sinks));
    logger->set_formatter(
        std::make_unique<LineFormatter>(program, is_journal(STDERR_FILENO, std::getenv("JOURNAL_STREAM"))));
    logger->set_level(to_spdlog(level));
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
}

void set_log_level(Level level) {
    spdlog::default_logger_raw()->set_level(to_spdlog(level));
}

bool logs(Level level) noexcept { return spdlog::default_logger_raw()->should_log(to_spdlog(level)); }

void log(Level level, std::string_view event, std::initializer_list<Field> fields) {
    auto* logger = spdlog::default_logger_raw();
    if (!logs(level)) return;
    std::string line(event);
    for (const Field& field : fields) {
        line += ' ';
        line += field.key;
        line += '=';
        line += field_text(field.value);
    }
    logger->log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

std::vector<LogLine> kept_lines(std::size_t limit, Level least, std::string_view match) {
    return ring()->last(limit, least, match);
}

const char* level_name(Level level) noexcept {
    return word(to_spdlog(level));
}

std::string time_of_line(std::chrono::system_clock::time_point time) {
    return sallyport::format("{:%FT%TZ}", std::chrono::floor<std::chrono::milliseconds>(time));
}

std::string field_text(std::string_view value) {
    const bool plain = !value.empty() && std::ranges::all_of(value, [](char c) {
        return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
    });
    if (plain) return std::string(value);
    std::string out = "\"";
    append_escaped(out, value, "\"\\");
    out += '"';
    return out;
}

std::string one_line(std::string_view text) {
    std::string out;
    append_escaped(out, text, "");
    return out;
}

}  // namespace sallyport::daemon
