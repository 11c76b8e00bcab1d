#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "control/cli/terminal.h"

namespace sallyport::cli {

/// Shows a text that is longer than the terminal piece by piece: space a screen, enter a line, b a screen back, g and G the ends, / searches
/// for a regular expression (n again), q ends. Only what has to be printed goes out: no I/O here. Colours take no room.
class Pager {
 public:
    Pager(std::string_view text, Size size);

    /// It fits on the screen: then start() is all of it.
    [[nodiscard]] bool fits() const;

    /// The first screen, and the prompt when there is more.
    [[nodiscard]] std::string start();
    /// What a key (an octet) makes appear. Ctrl-C and the end of input (-1) are q.
    [[nodiscard]] std::string key(int octet);
    /// The window has another size now: the prompt again.
    [[nodiscard]] std::string resized(Size size);
    [[nodiscard]] bool done() const { return done_; }

 private:
    [[nodiscard]] std::size_t rows_of(const std::string& line) const;
    [[nodiscard]] std::string prompt() const;
    std::string forward(std::size_t rows);
    std::string end();
    std::string search();
    std::string back();

    std::vector<std::string> lines_;
    Size size_;
    std::size_t next_ = 0;      ///< first line that was not shown
    std::vector<std::size_t> screens_;   ///< where earlier screens began
    bool typing_ = false;       ///< of the expression to search
    std::string pattern_, note_;
    bool done_ = false;
};

/// Pages the text at the terminal: stdin and stdout.
void page(std::string_view text);

}  // namespace sallyport::cli
