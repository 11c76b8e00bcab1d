#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control/cli/grammar.h"

namespace sallyport::cli {

/// Reads lines from a terminal with editing (libedit, Emacs' keys), history, and help: Tab completes, ? lists what can come next (in quotes it
/// is a ?), Ctrl-R searches the history, Ctrl-C clears the line. None of libedit's own commands can be reached, since one of them starts an
/// editor and with it a shell.
class Editor {
 public:
    /// `history`: file that keeps lines from one time to the next, mode 0600; empty: none.
    explicit Editor(const std::string& history);
    Editor(const Editor&) = delete;
    Editor& operator=(const Editor&) = delete;
    ~Editor();

    /// What can stand behind the text before the cursor.
    void complete_with(std::function<Completion(std::string_view)> complete);
    /// Printed above the prompt, also when it is drawn again after a list; empty: nothing.
    void head(std::string text);

    /// The next line without its end; nullopt at the end of input (Ctrl-D on an empty line, or a terminal that went away). `prompt` may hold
    /// colours (CSI ... m).
    [[nodiscard]] std::optional<std::string> read(const std::string& prompt);

    /// Keeps a line.
    void remember(const std::string& line);

    struct State;

 private:
    std::unique_ptr<State> state_;
};

/// What Tab and ? print: a line for each candidate.
[[nodiscard]] std::string candidate_list(const Completion& completion, std::size_t columns);

/// What Tab adds to the line: the words' common beginning beyond `partial` for several, the whole word and a blank for a single one (no blank
/// behind a directory). With it, how many octets of the line before the cursor are replaced.
struct Insertion {
    std::size_t remove = 0;
    std::string text;
};
[[nodiscard]] Insertion insertion(const Completion& completion, std::string_view before_cursor);

}  // namespace sallyport::cli
