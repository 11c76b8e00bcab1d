#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

/// What texts for people are made of: tables, and lines of "name  value". Pure functions and values.
namespace sallyport::cli {

/// How many columns of a terminal the text takes: its code points (wide characters are not told apart). Colours (CSI ... m) take none.
[[nodiscard]] std::size_t width(std::string_view text);

/// The parts with `separator` between them.
[[nodiscard]] std::string joined(const std::vector<std::string>& parts, std::string_view separator = ", ");

/// A table. A heading that begins with '>' is of a column of numbers, which stand to the right.
class Table {
 public:
    explicit Table(std::initializer_list<std::string_view> headings);
    explicit Table(const std::vector<std::string>& headings);

    /// One cell a column; an empty one is shown as "-", control characters are escaped.
    void row(std::vector<std::string> cells);
    [[nodiscard]] bool empty() const { return rows_.size() == 1; }

    /// A heading line and the rows, two spaces between columns; each ends with LF.
    [[nodiscard]] std::string text() const;

 private:
    void heading(std::string_view heading);
    std::vector<bool> right_;
    std::vector<std::vector<std::string>> rows_;
};

/// "name  value" lines; an empty value leaves its line out.
class Fields {
 public:
    void add(std::string_view name, std::string_view value);
    [[nodiscard]] const std::string& text() const { return text_; }

 private:
    std::string text_;
};

}  // namespace sallyport::cli
