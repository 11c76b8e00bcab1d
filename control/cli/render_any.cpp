#include "control/cli/render_any.h"

#include <algorithm>
#include <array>

#include "control/cli/output.h"
#include "control/cli/render.h"
#include "control/cli/table.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using nlohmann::json;
using std::string_view;

/// Columns that tell what a row is about, in the order in which they are wanted. JSON objects have lost the order that their view has.
constexpr std::array<string_view, 14> kFirst{"number", "time", "id", "name", "kind", "object", "severity", "user", "role", "service", "pool", "member", "port", "state"};
/// Those that are long come last.
constexpr std::array<string_view, 8> kLast{"command", "arguments", "comment", "text", "why", "reason", "sentence", "evidence"};

std::size_t rank(const std::string& name) {
    if (const auto first = std::ranges::find(kFirst, name); first != kFirst.end()) return static_cast<std::size_t>(first - kFirst.begin());
    if (const auto last = std::ranges::find(kLast, name); last != kLast.end()) return 1000 + static_cast<std::size_t>(last - kLast.begin());
    return 500;
}

std::vector<std::string> in_order(std::vector<std::string> names) {
    std::ranges::sort(names, {}, [](const std::string& name) { return std::pair(rank(name), name); });
    return names;
}

std::string heading(std::string name) {
    for (const string_view unit : {"_ns", "_us", "_ms"})
        if (name.ends_with(unit)) name.erase(name.size() - unit.size());
    std::ranges::replace(name, '_', ' ');
    return name;
}

bool is_octets(string_view name) {
    return name.starts_with("octets") || name.ends_with("octets");
}

std::string value_text(const std::string& name, const json& value);

std::string number_text(const std::string& name, const json& value) {
    if (value.is_number_float()) return sallyport::format("{:g}", value.get<double>());
    if (!value.is_number_unsigned() && value.get<std::int64_t>() < 0) return sallyport::format("{}", value.get<std::int64_t>());
    const auto count = value.get<std::uint64_t>();
    if (name.ends_with("_ns")) return duration(count);
    if (name.ends_with("_us")) return duration(count * 1000);
    if (name.ends_with("_ms")) return duration(count * 1'000'000);
    return is_octets(name) ? octets(count) : sallyport::format("{}", count);
}

/// On one line.
std::string value_text(const std::string& name, const json& value) {
    if (value.is_null()) return {};
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
    if (value.is_number()) return number_text(name, value);
    std::vector<std::string> parts;
    for (const auto& [key, each] : value.items()) {
        const std::string text = value_text(value.is_array() ? name : key, each);
        if (!text.empty()) parts.push_back(value.is_array() ? text : heading(key) + ' ' + text);
    }
    return joined(parts, value.is_array() ? ", " : "; ");
}

bool is_table(const json& value) {
    return value.is_array() && !value.empty() && std::ranges::all_of(value, [](const json& each) { return each.is_object(); });
}

std::string table_text(const json& rows) {
    std::vector<std::string> names;
    for (const json& row : rows)
        for (const auto& [name, value] : row.items()) {
            const bool says = !value.is_null() && value != json("") && value != json::array();
            if (says && !std::ranges::contains(names, name)) names.push_back(name);
        }
    names = in_order(std::move(names));
    std::vector<std::string> headings;
    for (const std::string& name : names) {
        const bool numbers = std::ranges::all_of(rows, [&](const json& row) { return !row.contains(name) || row[name].is_number(); });
        headings.push_back((numbers ? ">" : "") + heading(name));
    }
    Table table(headings);
    for (const json& row : rows) {
        std::vector<std::string> cells;
        for (const std::string& name : names) cells.push_back(row.contains(name) ? value_text(name, row[name]) : std::string());
        table.row(std::move(cells));
    }
    return table.text();
}

std::string indented(const std::string& text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        out += "  " + text.substr(at, end - at) + '\n';
        at = end + 1;
    }
    return out;
}

std::string object_text(const json& object) {
    std::vector<std::string> names;
    for (const auto& [name, value] : object.items()) names.push_back(name);
    names = in_order(std::move(names));
    std::vector<std::pair<std::string, std::string>> fields;
    std::string below;
    for (const std::string& name : names) {
        const json& value = object[name];
        if (value.is_object() ? !value.empty() : is_table(value)) below += '\n' + heading(name) + '\n' + indented(render_any(value));
        else if (std::string text = value_text(name, value); !text.empty()) fields.emplace_back(heading(name), std::move(text));
    }
    std::size_t widest = 0;
    for (const auto& [title, text] : fields) widest = std::max(widest, width(title));
    std::string lines;
    for (const auto& [title, text] : fields)   // texts of several lines keep them
        lines += text.contains('\n') ? title + '\n' + indented(printable_lines(text)) : title + std::string(widest - width(title), ' ') + "  " + printable(text) + '\n';
    return lines + (lines.empty() && !below.empty() ? below.substr(1) : below);
}

}  // namespace

std::string render_any(const json& result) {
    if (result.is_object()) return result.empty() ? "done\n" : object_text(result);
    if (is_table(result)) return table_text(result);
    if (result.is_array() && result.empty()) return "There are none.\n";
    std::string text;
    if (result.is_array())
        for (const json& each : result) text += printable(value_text("", each)) + '\n';
    else if (!result.is_null()) text = printable(value_text("", result)) + '\n';
    return text;
}

}  // namespace sallyport::cli
