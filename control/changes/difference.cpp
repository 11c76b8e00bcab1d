#include "control/changes/difference.h"

#include <algorithm>
#include <cstdint>
#include <span>

#include "crypto/format.h"

namespace sallyport::changes {

namespace {

using Lines = std::span<const std::string_view>;

/// The trace of the algorithm takes the square of it.
constexpr std::ptrdiff_t kMostDifferences = 2000;
constexpr std::size_t kContext = 3;

/// Which lines are in both, as (line of a, line of b), in order. nullopt: too many differences.
std::optional<std::vector<std::pair<std::size_t, std::size_t>>> common(Lines a, Lines b) {
    const auto n = static_cast<std::ptrdiff_t>(a.size()), m = static_cast<std::ptrdiff_t>(b.size());
    const std::ptrdiff_t most = std::min(n + m, kMostDifferences);
    std::vector<std::ptrdiff_t> furthest(static_cast<std::size_t>(2 * most + 3), 0);   // x on diagonal k, at k + most + 1
    const auto at = [&](std::vector<std::ptrdiff_t>& v, std::ptrdiff_t k) -> std::ptrdiff_t& { return v[static_cast<std::size_t>(k + most + 1)]; };
    std::vector<std::vector<std::ptrdiff_t>> trace;   // of each d, the diagonals -d to d
    for (std::ptrdiff_t d = 0; d <= most; ++d) {
        std::vector<std::ptrdiff_t> row;
        bool done = false;
        for (std::ptrdiff_t k = -d; k <= d; k += 2) {
            const bool down = k == -d || (k != d && at(furthest, k - 1) < at(furthest, k + 1));
            std::ptrdiff_t x = down ? at(furthest, k + 1) : at(furthest, k - 1) + 1;
            while (x < n && x - k < m && a[static_cast<std::size_t>(x)] == b[static_cast<std::size_t>(x - k)]) ++x;
            at(furthest, k) = x;
            row.push_back(x);
            if (x >= n && x - k >= m) {
                done = true;
                break;
            }
        }
        trace.push_back(std::move(row));
        if (!done) continue;
        // Back along the trace.
        std::vector<std::pair<std::size_t, std::size_t>> pairs;
        std::ptrdiff_t x = n, y = m;
        for (std::ptrdiff_t e = d; e >= 0; --e) {
            const std::ptrdiff_t k = x - y;
            std::ptrdiff_t x_from = 0, y_from = 0;
            if (e > 0) {
                const auto& before = trace[static_cast<std::size_t>(e - 1)];
                const auto x_at = [&](std::ptrdiff_t diagonal) {
                    const std::ptrdiff_t index = (diagonal + e - 1) / 2;
                    const bool there = diagonal >= -(e - 1) && diagonal <= e - 1;
                    return there ? before[static_cast<std::size_t>(index)] : std::ptrdiff_t{-1};
                };
                const bool down = k == -e || (k != e && x_at(k - 1) < x_at(k + 1));
                const std::ptrdiff_t previous = down ? k + 1 : k - 1;
                x_from = x_at(previous);
                y_from = x_from - previous;
                const std::ptrdiff_t x_start = down ? x_from : x_from + 1;
                for (; x > x_start; --x, --y) pairs.emplace_back(static_cast<std::size_t>(x - 1), static_cast<std::size_t>(y - 1));
                x = x_from;
                y = y_from;
            } else {
                for (; x > 0; --x, --y) pairs.emplace_back(static_cast<std::size_t>(x - 1), static_cast<std::size_t>(y - 1));
            }
        }
        std::ranges::reverse(pairs);
        return pairs;
    }
    return std::nullopt;
}

std::string joined(Lines lines) {
    std::string text;
    for (const std::string_view line : lines) text += line;
    return text;
}

}  // namespace

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
        lines.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return lines;
}

std::vector<Difference> differences(const std::vector<std::string_view>& a, const std::vector<std::string_view>& b) {
    std::size_t head = 0, tail = 0;
    while (head < a.size() && head < b.size() && a[head] == b[head]) ++head;
    while (tail < a.size() - head && tail < b.size() - head && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
    const Lines a_middle = Lines(a).subspan(head, a.size() - head - tail), b_middle = Lines(b).subspan(head, b.size() - head - tail);
    if (a_middle.empty() && b_middle.empty()) return {};
    std::vector<Difference> found;
    std::size_t x = 0, y = 0;
    const auto until = [&](std::size_t to_x, std::size_t to_y) {
        if (x < to_x || y < to_y) found.push_back({head + x, head + to_x, head + y, head + to_y});
        x = to_x + 1;
        y = to_y + 1;
    };
    if (const auto pairs = common(a_middle, b_middle))
        for (const auto& [in_a, in_b] : *pairs) until(in_a, in_b);
    until(a_middle.size(), b_middle.size());
    return found;
}

std::string unified(std::string_view a, std::string_view b, std::string_view a_name, std::string_view b_name) {
    const auto a_lines = lines_of(a), b_lines = lines_of(b);
    const auto found = differences(a_lines, b_lines);
    if (found.empty()) return {};
    std::string text = sallyport::format("--- {}\n+++ {}\n", a_name, b_name);
    const auto add = [&](char sign, std::string_view line) {
        text += sign;
        text += line;
        if (!line.ends_with('\n')) text += "\n\\ No newline at end of file\n";
    };
    for (std::size_t first = 0; first < found.size();) {
        std::size_t last = first;
        while (last + 1 < found.size() && found[last + 1].a_begin - found[last].a_end <= 2 * kContext) ++last;
        const std::size_t before = std::min(found[first].a_begin, kContext);
        const std::size_t a_begin = found[first].a_begin - before, b_begin = found[first].b_begin - before;
        const std::size_t a_end = std::min(found[last].a_end + kContext, a_lines.size());
        const std::size_t b_end = found[last].b_end + (a_end - found[last].a_end);
        const auto range = [](std::size_t begin, std::size_t end) {
            const std::size_t count = end - begin;
            const std::size_t line = count == 0 ? begin : begin + 1;   // of nothing: the line before it
            return count == 1 ? sallyport::format("{}", line) : sallyport::format("{},{}", line, count);
        };
        text += sallyport::format("@@ -{} +{} @@\n", range(a_begin, a_end), range(b_begin, b_end));
        std::size_t at = a_begin;
        for (std::size_t i = first; i <= last; ++i) {
            for (; at < found[i].a_begin; ++at) add(' ', a_lines[at]);
            for (; at < found[i].a_end; ++at) add('-', a_lines[at]);
            for (std::size_t y = found[i].b_begin; y < found[i].b_end; ++y) add('+', b_lines[y]);
        }
        for (; at < a_end; ++at) add(' ', a_lines[at]);
        first = last + 1;
    }
    return text;
}

std::optional<std::string> merged_lines(std::string_view base, std::string_view a, std::string_view b) {
    const auto base_lines = lines_of(base), a_lines = lines_of(a), b_lines = lines_of(b);
    const auto of_a = differences(base_lines, a_lines), of_b = differences(base_lines, b_lines);
    std::string text;
    std::size_t at = 0, i = 0, j = 0;
    const auto take = [&](const Difference& difference, const std::vector<std::string_view>& lines) {
        text += joined(Lines(base_lines).subspan(at, difference.a_begin - at));
        text += joined(Lines(lines).subspan(difference.b_begin, difference.b_end - difference.b_begin));
        at = difference.a_end;
    };
    while (i < of_a.size() || j < of_b.size()) {
        if (i < of_a.size() && j < of_b.size() && of_a[i].a_begin <= of_b[j].a_end && of_b[j].a_begin <= of_a[i].a_end) {
            const Difference &x = of_a[i], &y = of_b[j];
            const bool same = x.a_begin == y.a_begin && x.a_end == y.a_end &&
                              std::ranges::equal(Lines(a_lines).subspan(x.b_begin, x.b_end - x.b_begin), Lines(b_lines).subspan(y.b_begin, y.b_end - y.b_begin));
            if (!same) return std::nullopt;
            take(x, a_lines);
            ++i;
            ++j;
        } else if (j >= of_b.size() || (i < of_a.size() && of_a[i].a_begin < of_b[j].a_begin)) {
            take(of_a[i++], a_lines);
        } else {
            take(of_b[j++], b_lines);
        }
    }
    return text + joined(Lines(base_lines).subspan(at));
}

}  // namespace sallyport::changes
