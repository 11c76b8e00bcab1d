#include "control/cli/pager.h"

#include <regex.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "control/cli/table.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

constexpr std::string_view kErase = "\r\x1b[K";   // to the line's beginning, and what stands there away
constexpr int kControlC = 3, kControlD = 4, kBackspace = 8, kEscape = 27, kDelete = 127;

/// The line without colours, to search in.
std::string plain(const std::string& line) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\x1b') i = std::min(line.find('m', i), line.size() - 1);
        else text += line[i];
    }
    return text;
}

}  // namespace

Pager::Pager(std::string_view text, Size size) : size_(size) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        lines_.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

std::size_t Pager::rows_of(const std::string& line) const {
    const std::size_t columns = std::max<std::size_t>(size_.columns, 1);
    return std::max<std::size_t>((width(line) + columns - 1) / columns, 1);
}

bool Pager::fits() const {
    std::size_t rows = 0;
    for (const std::string& line : lines_) rows += rows_of(line);
    return rows < size_.rows;   // the prompt of what comes next takes one
}

std::string Pager::start() {
    if (!fits()) return forward(size_.rows - 1);
    std::string out;
    for (const std::string& line : lines_) out += line + '\n';
    done_ = true;
    return out;
}

/// Shows lines for so many rows, one line at least.
std::string Pager::forward(std::size_t rows) {
    std::string out;
    std::size_t taken = 0;
    if (rows > 1) screens_.push_back(next_);
    while (next_ < lines_.size()) {
        const std::size_t height = rows_of(lines_[next_]);
        if (taken > 0 && taken + height > rows) break;
        out += lines_[next_++] + '\n';
        taken += height;
    }
    if (next_ == lines_.size()) {
        done_ = true;
        return out;
    }
    return out + prompt();
}

std::string Pager::prompt() const {
    if (typing_) return std::string(kErase) + '/' + pattern_;
    const std::string text = sallyport::format("--- {} % --- {}", next_ * 100 / lines_.size(), note_.empty() ? "space: on, q: end, h: keys" : note_);
    return sallyport::format("{}{}{}{}", kErase, colour::kReverse, text.substr(0, size_.columns > 1 ? size_.columns - 1 : 1), colour::kOff);
}

std::string Pager::end() {
    done_ = true;
    return std::string(kErase);
}

std::string Pager::search() {
    typing_ = false;
    regex_t regex;
    if (pattern_.empty() || regcomp(&regex, pattern_.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
        note_ = pattern_.empty() ? "" : "not a regular expression: " + pattern_;
        return prompt();
    }
    std::size_t found = next_;
    while (found < lines_.size() && regexec(&regex, plain(lines_[found]).c_str(), 0, nullptr, 0) != 0) ++found;
    regfree(&regex);
    if (found == lines_.size()) {
        note_ = "not found further on: " + pattern_;
        return prompt();
    }
    note_.clear();
    const std::size_t skipped = found - next_;
    next_ = found;
    return std::string(kErase) + (skipped > 0 ? sallyport::format("... {} lines\n", skipped) : std::string()) + forward(size_.rows - 2);
}

std::string Pager::back() {
    if (screens_.size() > 1) screens_.pop_back();
    next_ = screens_.empty() ? 0 : screens_.back();
    if (!screens_.empty()) screens_.pop_back();
    return std::string(kErase) + forward(size_.rows - 1);
}

std::string Pager::key(int octet) {
    if (octet == kControlC || octet == -1) return end();
    if (typing_) {
        if (octet == '\r' || octet == '\n') return search();
        if (octet == kEscape) typing_ = false;
        else if (octet == kBackspace || octet == kDelete) {
            while (!pattern_.empty() && (static_cast<unsigned char>(pattern_.back()) & 0xc0) == 0x80) pattern_.pop_back();
            if (!pattern_.empty()) pattern_.pop_back();
        } else if (octet >= ' ') pattern_ += static_cast<char>(octet);
        return prompt();
    }
    note_.clear();
    switch (octet) {
        case ' ':
        case 'f':
            return std::string(kErase) + forward(size_.rows - 1);
        case '\r':
        case '\n':
        case 'j':
            return std::string(kErase) + forward(1);
        case 'b':
            return back();
        case 'g':
            next_ = 0;
            screens_.clear();
            return std::string(kErase) + forward(size_.rows - 1);
        case 'G':
            return std::string(kErase) + forward(lines_.size() * size_.rows + 1);
        case '/':
            typing_ = true;
            pattern_.clear();
            return prompt();
        case 'n':
            return search();
        case 'q':
        case 'Q':
        case kControlD:
            return end();
        default:
            note_ = "space: screen, enter: line, b: back, g: begin, G: end, /: search, n: again, q: end";
            return prompt();
    }
}

std::string Pager::resized(Size size) {
    size_ = size;
    return prompt();
}

void page(std::string_view text) {
    Pager pager(text, terminal_size());
    const auto print = [](const std::string& out) {
        std::fwrite(out.data(), 1, out.size(), stdout);
        std::fflush(stdout);
    };
    print(pager.start());
    if (pager.done()) return;
    Keys keys;
    Size size = terminal_size();
    while (!pager.done()) {
        constexpr std::chrono::milliseconds kLook{500};   // how soon a new window size is seen
        const auto key = keys.next(kLook);
        if (key) print(pager.key(*key));
        const Size now = terminal_size();
        if (now.rows == size.rows && now.columns == size.columns) continue;
        size = now;
        if (!pager.done()) print(pager.resized(size));
    }
}

}  // namespace sallyport::cli
