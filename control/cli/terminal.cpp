#include "control/cli/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

namespace sallyport::cli {

namespace {

using std::string_view;

constexpr std::array<string_view, 12> kGood{"up", "ok", "good", "yes", "enabled", "running", "accepted", "complete", "attached", "passed", "confirmed", "active"};
constexpr std::array<string_view, 12> kBad{"down", "violated", "alarm", "revoked", "critical", "major", "failed", "error", "away", "expired", "refused", "broken"};
constexpr std::array<string_view, 8> kBetween{"drain", "draining", "waived", "unknown", "warning", "minor", "none", "pending"};

string_view colour_of(string_view cell) {
    if (std::ranges::contains(kGood, cell)) return colour::kGreen;
    if (std::ranges::contains(kBad, cell)) return colour::kRed;
    if (std::ranges::contains(kBetween, cell)) return colour::kYellow;
    return {};
}

void add_painted(std::string& out, string_view text, string_view colour) {
    if (colour.empty()) out += text;
    else out.append(colour).append(text).append(colour::kOff);
}

/// A cell is what stands between two blanks or more.
void add_states(std::string& out, string_view line) {
    while (!line.empty()) {
        const std::size_t begin = std::min(line.find_first_not_of(' '), line.size());
        out += line.substr(0, begin);
        line.remove_prefix(begin);
        const std::size_t end = std::min(line.find("  "), line.size());
        add_painted(out, line.substr(0, end), colour_of(line.substr(0, end)));
        line.remove_prefix(end);
    }
}

void add_difference(std::string& out, string_view line) {
    if (line.starts_with("+++") || line.starts_with("---")) add_painted(out, line, colour::kBold);
    else if (line.starts_with('+')) add_painted(out, line, colour::kGreen);
    else if (line.starts_with('-')) add_painted(out, line, colour::kRed);
    else if (line.starts_with("@@")) add_painted(out, line, colour::kYellow);
    else out += line;
}

}  // namespace

Size terminal_size() {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return {};
    return {.rows = size.ws_row == 0 ? std::size_t{24} : size.ws_row, .columns = size.ws_col == 0 ? std::size_t{80} : size.ws_col};
}

bool is_interactive() {
    return isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
}

bool wants_colour() {
    const char* const no_colour = std::getenv("NO_COLOR");
    const char* const terminal = std::getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == 0) && terminal != nullptr && string_view(terminal) != "dumb";
}

Keys::Keys() {
    if (tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    changed_ = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

Keys::~Keys() {
    if (changed_) tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
}

std::optional<int> Keys::next(std::optional<std::chrono::milliseconds> timeout) {
    pollfd waited{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (poll(&waited, 1, timeout ? static_cast<int>(timeout->count()) : -1) <= 0) return std::nullopt;
    unsigned char octet = 0;
    const ssize_t n = read(STDIN_FILENO, &octet, 1);
    if (n < 0 && errno == EINTR) return std::nullopt;
    return n == 1 ? octet : -1;
}

std::string coloured(string_view text, Paint paint) {
    if (paint == Paint::none) return std::string(text);
    std::string out;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        if (paint == Paint::states) add_states(out, text.substr(0, end));
        else add_difference(out, text.substr(0, end));
        if (end < text.size()) out += '\n';
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

}  // namespace sallyport::cli
