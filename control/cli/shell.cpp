#include "control/cli/shell.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "control/cli/editor.h"
#include "control/cli/interrupt.h"
#include "control/cli/render.h"
#include "control/cli/table.h"
#include "control/cli/terminal.h"
#include "control/daemon/exit_code.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

std::string history_file(const Caller& caller) {
    return caller.home.empty() ? std::string() : (caller.home / ".local/state/sallyport/history").string();
}

std::string prompt_of(const Session& session) {
    const Caller& caller = session.output().caller();
    const std::string text = sallyport::format("{}@{}{}", printable(caller.user), printable(caller.host), session.mode() == Mode::configuration ? '#' : '>');
    return session.output().colours() ? sallyport::format("{}{}{} ", colour::kBold, text, colour::kOff) : text + ' ';
}

std::string head_of(const Session& session) {
    if (session.mode() == Mode::operational) return {};
    std::string text = "[edit";
    for (const std::string& word : session.at()) text += ' ' + printable(in_quotes(word));
    return "\n" + text + "]\n";
}

/// Under the line as it was typed: a caret at the fault, then what is wrong. `offset`: columns of the prompt.
void show_fault(const Session& session, const Fault& fault, const std::string& line, std::size_t offset) {
    const std::size_t columns = terminal_size().columns;
    const std::size_t at = width(std::string_view(line).substr(0, std::min(fault.at, line.size())));
    // Where the line took more than a row, or holds tabs, the place is shown in a copy of it.
    if (offset + width(line) >= columns || line.contains('\t')) {
        offset = 0;
        std::cerr << printable(line) << '\n';
    }
    std::cerr << std::string(offset + at, ' ') << "^\n";
    session.output().complain(fault.text);
}

bool is_comment(const std::string& line) {
    const std::size_t begin = line.find_first_not_of(" \t\r");
    return begin == std::string::npos || line[begin] == '#';
}

/// Octet by octet: what comes behind is left to those who read from stdin as well (load ... terminal).
std::optional<std::string> line_of_input() {
    std::string line;
    char octet = 0;
    for (;;) {
        const ssize_t n = read(STDIN_FILENO, &octet, 1);
        if (n < 0 && errno == EINTR && interrupted() == 0) continue;
        if (n <= 0) return line.empty() ? std::nullopt : std::optional(line);
        if (octet == '\n') return line;
        line += octet;
    }
}

}  // namespace

int run_shell(Session& session) {
    Editor editor(history_file(session.output().caller()));
    editor.complete_with([&](std::string_view text) {
        Completion completion = complete(session.mode(), text, session.names());
        if (const std::string& why = session.names().why(); !why.empty()) completion.candidates.push_back({"(no names)", why, false});
        return completion;
    });
    while (!session.over()) {
        editor.head(head_of(session));
        const std::string prompt = prompt_of(session);
        forget_interrupt();
        auto line = editor.read(prompt);
        if (!line) {
            // Ctrl-D is exit; where nobody is there any more to be asked, it is the end.
            if (isatty(STDIN_FILENO) == 0 || session.mode() == Mode::operational) break;
            line = "exit";
        } else if (is_comment(*line)) {
            continue;
        } else {
            editor.remember(*line);
        }
        const auto done = session.carry_out(split(*line));
        if (!done) show_fault(session, done.error(), *line, width(prompt));
    }
    session.hang_up();
    return exit_code::kOk;
}

int run_line(Session& session, const Line& line, std::string_view text) {
    const auto done = session.carry_out(line);
    if (done) return *done;
    const std::size_t at = width(text.substr(0, std::min(done.error().at, text.size())));
    session.output().complain(done.error().text);
    std::cerr << "    " << printable(text) << "\n    " << std::string(at, ' ') << "^\n";
    return exit_code::kUsage;
}

int run_script(Session& session) {
    int code = exit_code::kOk;
    while (!session.over() && code == exit_code::kOk) {
        const auto line = line_of_input();
        if (!line) break;
        if (!is_comment(*line)) code = run_line(session, split(*line), *line);
        if (interrupted() != 0) break;
    }
    session.hang_up();
    return code;
}

}  // namespace sallyport::cli
