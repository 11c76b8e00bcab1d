#include "tests/bench/generator/message.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "crypto/format.h"

namespace sallyport::generator {
namespace {

constexpr std::string_view kEndOfHead = "\r\n\r\n", kPrefix = "/octets/";
constexpr std::size_t kMostPadding = 256;   ///< octets that a head is filled up with before a request gets a body; more than Content-Length takes

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) { return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y); });
}

/// A whole number with nothing behind it.
template <typename Number>
bool parse_number(std::string_view text, Number& number, int base = 10) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    return error == std::errc{} && end == text.data() + text.size();
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

const char* parse_request_line(std::string_view line, Head& head) {
    const std::size_t path_at = line.find(' ');
    const std::size_t path_end = line.rfind(' ');
    if (path_at == std::string_view::npos || path_end == path_at || line.substr(path_end + 1) != "HTTP/1.1") return "not a request line of HTTP/1.1";
    std::string_view path = line.substr(path_at + 1, path_end - path_at - 1);
    path = path.substr(0, path.find('?'));
    if (!path.starts_with(kPrefix)) return "a request that is not for /octets/LENGTH/START";
    path.remove_prefix(kPrefix.size());
    const std::size_t slash = path.find('/');
    if (slash == std::string_view::npos || !parse_number(path.substr(0, slash), head.answer_length) || !parse_number(path.substr(slash + 1), head.start, 16) ||
        head.start >= Pattern::kPeriod)
        return "a request that is not for /octets/LENGTH/START";
    return nullptr;
}

const char* parse_status_line(std::string_view line, Head& head) {
    if (line.size() < 12 || !line.starts_with("HTTP/1.") || !parse_number(line.substr(9, 3), head.status) || head.status < 200)
        return "not a status line of HTTP/1.1 with a final status";
    return nullptr;
}

}  // namespace

std::expected<Head, const char*> parse_head(std::string_view text) {
    Head head;
    std::size_t end = text.find("\r\n");
    if (end == std::string_view::npos) return std::unexpected("a head without a line");
    const std::string_view first = text.substr(0, end);
    if (const char* error = first.starts_with("HTTP/") ? parse_status_line(first, head) : parse_request_line(first, head)) return std::unexpected(error);
    bool length_known = false;
    for (text.remove_prefix(end + 2); (end = text.find("\r\n")) != std::string_view::npos && end > 0; text.remove_prefix(end + 2)) {
        const std::string_view line = text.substr(0, end);
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) return std::unexpected("a header line without a colon");
        const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
        if (equal_ignoring_case(name, "content-length")) {
            if (!parse_number(value, head.content_length)) return std::unexpected("a Content-Length that is no number");
            length_known = true;
        } else if (equal_ignoring_case(name, "transfer-encoding")) {
            return std::unexpected("a Transfer-Encoding: have the server tell a Content-Length");
        } else if (equal_ignoring_case(name, "connection")) {
            head.close = equal_ignoring_case(value, "close");
        }
    }
    if (head.status != 0 && !length_known && head.status != 204 && head.status != 304) return std::unexpected("an answer without Content-Length");
    return head;
}

std::expected<RequestText, std::string> RequestText::make(const std::string& host, std::uint64_t size, std::uint64_t answer_length, const std::string& path) {
    RequestText request;
    const std::string target = path.empty() ? sallyport::format("{}{:010}/00000000", kPrefix, answer_length) : path;
    const auto text = [&](std::string_view method, const std::string& to, const std::string& more) {
        return sallyport::format("{} {} HTTP/1.1\r\nHost: {}\r\n{}\r\n", method, to, host, more);
    };
    request.text_ = text("GET", target, "");
    if (path.empty()) request.start_at_ = request.text_.find(kPrefix) + target.size() - 8;
    const std::size_t least = request.text_.size();
    if (least + kMostPadding > kLongestRequestHead) return std::unexpected(sallyport::format("host and path are too long: a request's head would have more than {} octets", kLongestRequestHead));
    if (size == 0 || size == least) return request;
    if (size < least) return std::unexpected(sallyport::format("a request has {} octets at least", least));
    if (size - least <= kMostPadding) {
        request.text_ = text("GET", target + '?' + std::string(size - least - 1, '-'), "");
        return request;
    }
    const auto with_body = [&](std::uint64_t body) { return text("POST", target, sallyport::format("Content-Length: {:010}\r\n", body)); };
    request.body_ = size - with_body(0).size();
    request.text_ = with_body(request.body_);
    if (path.empty()) ++request.start_at_;   // POST is longer than GET
    return request;
}

void RequestText::write(std::uint32_t start, std::span<char> to) const noexcept {
    std::memcpy(to.data(), text_.data(), text_.size());
    if (start_at_ == std::string::npos) return;
    constexpr char kDigits[] = "0123456789abcdef";
    for (int i = 7; i >= 0; --i, start >>= 4) to[start_at_ + static_cast<std::size_t>(i)] = kDigits[start & 15];
}

std::size_t write_answer_head(std::uint64_t content_length, std::span<char> to) noexcept {
    constexpr std::string_view kBefore = "HTTP/1.1 200 OK\r\nContent-Length: ";
    char* at = std::ranges::copy(kBefore, to.data()).out;
    at = std::to_chars(at, to.data() + to.size() - kEndOfHead.size(), content_length).ptr;
    at = std::ranges::copy(kEndOfHead, at).out;
    return static_cast<std::size_t>(at - to.data());
}

void Incoming::expect_body(std::uint64_t length, bool compare, std::uint32_t start) noexcept {
    in_body_ = true;
    body_left_ = length;
    compare_ = compare;
    position_ = start;
}

Incoming::Step Incoming::take(std::span<const std::byte>& octets, const Pattern& pattern, std::uint64_t& mismatched) {
    if (!in_body_) {
        if (octets.empty()) return Step::more;
        std::string_view text(reinterpret_cast<const char*>(octets.data()), octets.size());
        std::size_t taken = text.size();
        if (partial_ == nullptr) {
            const std::size_t end = text.find(kEndOfHead);
            if (end == std::string_view::npos) {
                partial_ = std::make_unique<std::string>(text);
                octets = {};
                return Step::more;
            }
            taken = end + kEndOfHead.size();
            text = text.substr(0, taken);
        } else {
            const std::size_t before = partial_->size();
            partial_->append(text);
            const std::size_t end = partial_->find(kEndOfHead, before > 3 ? before - 3 : 0);
            if (end == std::string::npos) {
                octets = {};
                error_ = "a head that does not end";
                return partial_->size() > kLongestHead ? Step::malformed : Step::more;
            }
            taken = end + kEndOfHead.size() - before;
            text = std::string_view(*partial_).substr(0, end + kEndOfHead.size());
        }
        octets = octets.subspan(taken);
        const auto head = parse_head(text);
        partial_.reset();
        if (!head) {
            error_ = head.error();
            return Step::malformed;
        }
        head_ = *head;
        return Step::head;
    }
    while (body_left_ > 0 && !octets.empty()) {
        const auto length = static_cast<std::size_t>(std::min({body_left_, std::uint64_t{octets.size()}, std::uint64_t{Pattern::kLongest}}));
        if (compare_) {
            const auto expected = pattern.at(position_, length);
            if (std::memcmp(octets.data(), expected.data(), length) != 0)
                for (std::size_t i = 0; i < length; ++i) mismatched += octets[i] != expected[i] ? 1u : 0u;
            position_ = Pattern::position(position_, length);
        }
        octets = octets.subspan(length);
        body_left_ -= length;
    }
    if (body_left_ > 0) return Step::more;
    in_body_ = false;
    return Step::done;
}

}  // namespace sallyport::generator
