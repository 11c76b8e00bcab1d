#include "control/cli/editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "control/channel/shared_memory.h"
#include "control/cli/render.h"
#include "control/cli/table.h"
#include "control/cli/terminal.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

constexpr int kKept = 1000;   // lines of history

/// libedit counts what stands between two of these in a prompt as without width.
constexpr char kPromptEscape = '\1';

std::string escaped_prompt(const std::string& prompt) {
    std::string out;
    for (std::size_t i = 0; i < prompt.size(); ++i) {
        if (prompt[i] != '\x1b') {
            out += prompt[i];
            continue;
        }
        const std::size_t end = std::min(prompt.find('m', i), prompt.size() - 1);
        out += kPromptEscape + prompt.substr(i, end + 1 - i) + kPromptEscape;
        i = end;
    }
    return out;
}

}  // namespace

struct Editor::State {
    EditLine* line = nullptr;
    History* history = nullptr;
    std::string prompt, head, file;
    std::function<Completion(std::string_view)> complete;

    [[nodiscard]] std::string before_cursor() const {
        const LineInfo* const info = el_line(line);
        return {info->buffer, static_cast<std::size_t>(info->cursor - info->buffer)};
    }

    /// Rows from the one with the cursor to the last of the line, so that what is printed does not overwrite it.
    [[nodiscard]] std::size_t rows_below() const {
        const LineInfo* const info = el_line(line);
        const std::size_t columns = std::max<std::size_t>(terminal_size().columns, 1);
        const std::size_t begin = width(prompt);
        const auto row = [&](const char* until) { return (begin + width({info->buffer, static_cast<std::size_t>(until - info->buffer)})) / columns; };
        return row(info->lastchar) - row(info->cursor);
    }

    void print_below(const std::string& text) const {
        std::string out(rows_below() + 1, '\n');
        out.insert(0, "\r");
        out += text + head;
        std::fwrite(out.data(), 1, out.size(), stdout);
        std::fflush(stdout);
        el_set(line, EL_REFRESH);
    }

    void list(const Completion& completion) const {
        print_below(completion.fault ? printable(completion.fault->text) + '\n'
                                     : completion.candidates.empty() ? "nothing can stand here\n" : candidate_list(completion, terminal_size().columns));
    }

    static State& of(EditLine* editor) {
        void* data = nullptr;
        el_get(editor, EL_CLIENTDATA, &data);
        return *static_cast<State*>(data);
    }

    static char* prompt_of(EditLine* editor) {
        return of(editor).prompt_escaped.data();
    }
    std::string prompt_escaped;

    static unsigned char on_tab(EditLine* editor, int) {
        const State& state = of(editor);
        const std::string before = state.before_cursor();
        const Completion completion = state.complete(before);
        const Insertion insert = insertion(completion, before);
        if (insert.text.empty() || before.ends_with(insert.text)) {
            if (insert.text.empty()) state.list(completion);
            return CC_NORM;
        }
        // el_deletestr() counts characters.
        if (insert.remove > 0) el_deletestr(editor, static_cast<int>(width(std::string_view(before).substr(before.size() - insert.remove))));
        el_insertstr(editor, insert.text.c_str());
        return CC_REFRESH;
    }

    static unsigned char on_question(EditLine* editor, int) {
        const State& state = of(editor);
        const std::string before = state.before_cursor();
        if (split(before).open_quote) {
            el_insertstr(editor, "?");
            return CC_REFRESH;
        }
        state.list(state.complete(before));
        return CC_NORM;
    }

    static unsigned char on_interrupt(EditLine* editor, int) {
        const State& state = of(editor);
        const std::size_t below = state.rows_below();
        const LineInfoW* const info = el_wline(editor);
        const auto behind = static_cast<int>(info->lastchar - info->cursor);
        const auto all = static_cast<int>(info->lastchar - info->buffer);
        if (behind > 0) el_cursor(editor, behind);
        if (all > 0) el_deletestr(editor, all);
        const std::string out = "^C" + std::string(below + 1, '\n') + state.head;
        std::fwrite(out.data(), 1, out.size(), stdout);
        std::fflush(stdout);
        el_set(editor, EL_REFRESH);
        return CC_NORM;
    }

    void load_history() {
        std::vector<std::string> lines;
        std::ifstream in(file);
        for (std::string each; std::getline(in, each);)
            if (!each.empty()) lines.push_back(std::move(each));
        in.close();
        // Several shells append to it at the same time; it is cut down here only, when it has become long.
        if (lines.size() > 2 * kKept) {
            lines.erase(lines.begin(), lines.end() - kKept);
            const std::string shorter = file + ".new";
            const channel::Descriptor out(open(shorter.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
            std::string text;
            for (const std::string& each : lines) text += each + '\n';
            if (out.valid() && write(out.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) std::rename(shorter.c_str(), file.c_str());
        }
        HistEvent event;
        for (const std::string& each : lines) ::history(history, &event, H_ENTER, each.c_str());
    }
};

Editor::Editor(const std::string& history) : state_(std::make_unique<State>()) {
    State& state = *state_;
    state.file = history;
    state.line = el_init("sallyport", stdin, stdout, stderr);
    if (state.line == nullptr) return;
    EditLine* const line = state.line;
    el_set(line, EL_CLIENTDATA, &state);
    el_set(line, EL_PROMPT_ESC, &State::prompt_of, kPromptEscape);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_SIGNAL, 1);
    // Ctrl-C and its like are keys while a line is written.
    el_set(line, EL_SETTY, "-d", "-isig", nullptr);
    el_set(line, EL_ADDFN, "sallyport-complete", "complete the word", &State::on_tab);
    el_set(line, EL_ADDFN, "sallyport-help", "list what can come next", &State::on_question);
    el_set(line, EL_ADDFN, "sallyport-clear", "clear the line", &State::on_interrupt);
    const auto bind = [&](const char* key, const char* function) { el_set(line, EL_BIND, key, function, nullptr); };
    // Characters from U+0080 to U+00FF are keys with Meta to libedit; here they are letters. And Meta-x would take libedit's own commands,
    // one of which leads to an editor that can start programs.
    for (int c = 0x80; c <= 0xff; ++c) bind(sallyport::format("\\{:o}", c).c_str(), "ed-insert");
    bind("\\ex", "ed-unassigned");
    bind("\\eX", "ed-unassigned");
    bind("^I", "sallyport-complete");
    bind("?", "sallyport-help");
    bind("^C", "sallyport-clear");
    bind("^R", "em-inc-search-prev");
    bind("^W", "ed-delete-prev-word");
    bind("\\e[1;5C", "em-next-word");
    bind("\\e[1;5D", "ed-prev-word");
    state.history = history_init();
    HistEvent event;
    ::history(state.history, &event, H_SETSIZE, kKept);
    ::history(state.history, &event, H_SETUNIQUE, 1);
    el_set(line, EL_HIST, ::history, state.history);
    if (history.empty()) return;
    std::error_code error;
    const std::filesystem::path directory = std::filesystem::path(history).parent_path();
    const mode_t before = umask(0077);
    std::filesystem::create_directories(directory, error);
    umask(before);
    state.load_history();
}

Editor::~Editor() {
    if (state_->line != nullptr) el_end(state_->line);
    if (state_->history != nullptr) history_end(state_->history);
}

void Editor::complete_with(std::function<Completion(std::string_view)> complete) {
    state_->complete = std::move(complete);
}

void Editor::head(std::string text) {
    state_->head = std::move(text);
}

std::optional<std::string> Editor::read(const std::string& prompt) {
    State& state = *state_;
    if (state.line == nullptr) return std::nullopt;
    state.prompt = prompt;
    state.prompt_escaped = escaped_prompt(prompt);
    std::fwrite(state.head.data(), 1, state.head.size(), stdout);
    std::fflush(stdout);
    for (;;) {
        int count = 0;
        errno = 0;
        const char* const text = el_gets(state.line, &count);
        if (text == nullptr && count < 0 && errno == EINTR) continue;
        if (text == nullptr || count <= 0) {
            std::fputc('\n', stdout);
            std::fflush(stdout);
            return std::nullopt;
        }
        std::string line(text, static_cast<std::size_t>(count));
        while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
        return line;
    }
}

void Editor::remember(const std::string& line) {
    State& state = *state_;
    if (state.history == nullptr || line.find_first_not_of(" \t") == std::string::npos) return;
    HistEvent event;
    ::history(state.history, &event, H_ENTER, line.c_str());
    if (state.file.empty()) return;
    const channel::Descriptor out(open(state.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
    const std::string text = line + '\n';
    if (out.valid() && write(out.get(), text.data(), text.size()) < 0) return;   // a full disk costs the history only
}

std::string candidate_list(const Completion& completion, std::size_t columns) {
    constexpr std::size_t kMost = 200, kWidest = 32;
    std::size_t widest = 0;
    for (const Candidate& each : completion.candidates) widest = std::max(widest, std::min(width(each.word), kWidest));
    std::string text;
    for (std::size_t i = 0; i < completion.candidates.size() && i < kMost; ++i) {
        const Candidate& each = completion.candidates[i];
        std::string line = "  " + printable(each.word);
        const std::size_t used = width(each.word);
        if (!each.help.empty()) line += std::string(used < widest ? widest - used : 0, ' ') + "  " + printable(each.help);
        // A line each: what is longer than the terminal is cut at its end.
        while (columns > 1 && width(line) >= columns) {
            while ((static_cast<unsigned char>(line.back()) & 0xc0) == 0x80) line.pop_back();
            line.pop_back();
        }
        text += line + '\n';
    }
    if (completion.candidates.size() > kMost) text += sallyport::format("  ... and {} more\n", completion.candidates.size() - kMost);
    return text;
}

Insertion insertion(const Completion& completion, std::string_view before_cursor) {
    std::vector<std::string> words;
    for (const Candidate& each : completion.candidates)
        if (each.literal) words.push_back(each.word);
    // Where something of the user's own can stand, an empty word is not completed: a single name is only a proposal.
    const bool open = std::ranges::any_of(completion.candidates, [](const Candidate& each) { return !each.literal && each.word != "<enter>"; });
    if (words.empty() || completion.fault || (open && completion.partial.empty())) return {};
    std::string common = words.front();
    for (const std::string& word : words) common.resize(static_cast<std::size_t>(std::ranges::mismatch(common, word).in1 - common.begin()));
    while (!common.empty() && (static_cast<unsigned char>(common.back()) & 0xc0) == 0x80 && words.size() > 1) common.pop_back();
    if (words.size() > 1 && common.size() <= completion.partial.size()) return {};
    if (words == std::vector<std::string>{"|"}) return {};
    Insertion insert{before_cursor.size() - completion.at, in_quotes(common)};
    if (words.size() > 1 || common.ends_with('/')) {
        if (insert.text.ends_with('"') && insert.text.size() > 1) insert.text.pop_back();   // the word goes on
    } else {
        insert.text += ' ';
    }
    return insert;
}

}  // namespace sallyport::cli
