#include "control/cli/render_changes.h"

#include <algorithm>
#include <array>

#include "control/cli/render.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using namespace sallyport::management;

/// Columns are as wide as their widest cell (in octets: these cells are names, numbers and times).
std::string table(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) line += sallyport::format("{}{:<{}}", i > 0 ? "  " : "", row[i], widths[i]);
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + '\n';
    }
    return text;
}

std::string cell(const std::string& text) { return text.empty() ? "-" : printable(text); }

std::string lines(const std::vector<std::string>& list) {
    std::string text;
    for (const std::string& line : list) text += printable(line) + '\n';
    return text;
}

/// printable(), line by line and with tabs.
std::string printable_text(const std::string& text) {
    std::string result;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find_first_of("\n\t", at), text.size());
        result += printable(text.substr(at, end - at));
        if (end < text.size()) result += text[end];
        at = end + 1;
    }
    return result;
}

}  // namespace

std::string render_text(const OpenedView& opened) {
    std::string text = opened.resumed ? sallyport::format("Your {} candidate is resumed{}.\n", opened.kind, opened.changed ? "; it has changes that are not committed" : "")
                                      : sallyport::format("A {} candidate from revision {}.\n", opened.kind, opened.base);
    if (opened.head != opened.base) text += sallyport::format("Revision {} was committed since it began at {}; `update` takes that in.\n", opened.head, opened.base);
    for (const CandidateView& other : opened.others)
        text += sallyport::format("{}{} edits too, since {}{}.\n", printable(other.user), other.from.empty() ? "" : " (" + printable(other.from) + ")", other.since,
                                  other.kind == "exclusive" ? ", exclusively" : "");
    if (!opened.confirm_until.empty()) text += sallyport::format("A commit waits to be confirmed until {}.\n", opened.confirm_until);
    return text;
}

std::string render_text(const TextView& text) { return printable_text(text.text); }

std::string render_text(const ProblemsView& problems) { return problems.problems.empty() ? "good\n" : lines(problems.problems); }

std::string render_text(const CommitView& commit) {
    std::string text = lines(commit.problems);
    if (!commit.problems.empty()) return text + sallyport::format("Not committed: {}. Nothing has changed.\n", commit.problems.size() == 1 ? "1 problem" : sallyport::format("{} problems", commit.problems.size()));
    if (commit.done) text += sallyport::format("Revision {}{}\n", commit.revision, commit.note.empty() ? " runs." : ": " + printable(commit.note) + ".");
    else if (!commit.note.empty()) text += sallyport::format("The candidate {}.\n", printable(commit.note));
    if (!commit.confirm_until.empty()) text += sallyport::format("It is taken back at {} unless it is confirmed.\n", commit.confirm_until);
    return text;
}

std::string render_text(const UpdateView& update) {
    if (update.conflicts.empty()) return sallyport::format("The candidate is based on revision {}.\n", update.base);
    std::vector<std::vector<std::string>> rows{{"SETTING", "WAS", "RUNNING", "YOURS (KEPT)"}};
    for (const ConflictView& each : update.conflicts) rows.push_back({cell(each.path), cell(each.base), cell(each.running), cell(each.candidate)});
    return table(rows) + sallyport::format("The candidate is based on revision {}; a commit would overwrite these.\n", update.base);
}

std::string render_text(std::span<const RevisionView> revisions) {
    if (revisions.empty()) return "There are no revisions.\n";
    std::vector<std::vector<std::string>> rows{{"REVISION", "TIME", "USER", "FROM", "HOW", "STATE", "COMMENT"}};
    for (const RevisionView& each : revisions) {
        const std::string state = !each.confirm_until.empty() ? "until " + each.confirm_until : each.running ? "runs" : each.confirmed ? "" : "not confirmed";
        rows.push_back({std::to_string(each.number), each.time, cell(each.user), cell(each.from), cell(each.how), cell(state), printable(each.comment)});
    }
    return table(rows);
}

std::string coloured_difference(const std::string& text) {
    std::string result;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        const char* const colour = line.starts_with("+++") || line.starts_with("---") ? "\x1b[1m"
                                   : line.starts_with('+')                            ? "\x1b[32m"
                                   : line.starts_with('-')                            ? "\x1b[31m"
                                   : line.starts_with("@@")                           ? "\x1b[36m"
                                                                                      : "";
        result += colour[0] == '\0' ? line : colour + line + "\x1b[0m";
        if (end < text.size()) result += '\n';
        at = end + 1;
    }
    return result;
}

}  // namespace sallyport::cli
