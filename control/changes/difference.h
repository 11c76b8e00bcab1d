#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Differences of texts by lines. Pure functions.
namespace sallyport::changes {

/// Lines [a_begin, a_end) of one text became [b_begin, b_end) of the other.
struct Difference {
    std::size_t a_begin = 0, a_end = 0, b_begin = 0, b_end = 0;
    bool operator==(const Difference&) const = default;
};

/// Lines with their ends; the last may lack it.
[[nodiscard]] std::vector<std::string_view> lines_of(std::string_view text);

/// In order; the fewest lines (Myers, An O(ND) Difference Algorithm, 1986). Texts that have thousands of differences are told apart as a whole
/// between their first and last difference.
[[nodiscard]] std::vector<Difference> differences(const std::vector<std::string_view>& a, const std::vector<std::string_view>& b);

/// As diff -u, three lines around each; empty when the texts are the same.
[[nodiscard]] std::string unified(std::string_view a, std::string_view b, std::string_view a_name, std::string_view b_name);

/// What both made of `base`; nullopt where they changed the same or neighbouring lines in different ways.
[[nodiscard]] std::optional<std::string> merged_lines(std::string_view base, std::string_view a, std::string_view b);

}  // namespace sallyport::changes
