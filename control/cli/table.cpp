#include "control/cli/table.h"

#include <algorithm>

#include "control/cli/render.h"
#include "crypto/format.h"

namespace sallyport::cli {

std::size_t width(std::string_view text) {
    std::size_t columns = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\x1b' && i + 1 < text.size() && text[i + 1] == '[') {
            const std::size_t end = text.find('m', i);
            if (end == std::string_view::npos) return columns;
            i = end;
            continue;
        }
        if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) ++columns;
    }
    return columns;
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
    std::string text;
    for (const std::string& part : parts) {
        if (!text.empty()) text += separator;
        text += part;
    }
    return text;
}

Table::Table(std::initializer_list<std::string_view> headings) : rows_(1) {
    for (const std::string_view each : headings) heading(each);
}

Table::Table(const std::vector<std::string>& headings) : rows_(1) {
    for (const std::string& each : headings) heading(each);
}

void Table::heading(std::string_view heading) {
    right_.push_back(heading.starts_with('>'));
    if (right_.back()) heading.remove_prefix(1);
    rows_.front().emplace_back(heading);
}

void Table::row(std::vector<std::string> cells) {
    for (std::string& cell : cells) cell = cell.empty() ? "-" : printable(cell);
    rows_.push_back(std::move(cells));
}

std::string Table::text() const {
    std::vector<std::size_t> widths(right_.size());
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    std::string text;
    for (const auto& row : rows_) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string padding(widths[i] - width(row[i]), ' ');
            if (i > 0) line += "  ";
            line += right_[i] ? padding + row[i] : row[i] + padding;
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + '\n';
    }
    return text;
}

void Fields::add(std::string_view name, std::string_view value) {
    if (!value.empty()) text_ += sallyport::format("{:<18}{}\n", name, printable(value));
}

}  // namespace sallyport::cli
