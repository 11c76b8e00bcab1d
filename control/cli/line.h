#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// A command line as words. Words are separated by blanks; "..." and '...' hold blanks and bars, a backslash in "..." or outside of quotes
/// takes the next character as it is. A bar (|) outside of quotes begins a pipe. Octets, which may be UTF-8. Pure functions.
namespace sallyport::cli {

struct Word {
    std::string text{};      ///< without quotes
    std::size_t at = 0;    ///< where it begins in the line, in octets
    std::size_t end = 0;   ///< where it ends: the octet behind it
    bool quoted = false;   ///< some of it was: it is never taken for a keyword, an option or a bar
    bool bar = false;      ///< it is the bar of a pipe
};

struct Line {
    std::vector<Word> words;
    std::optional<std::size_t> open_quote;   ///< a quote that is not closed: its place. What follows it is the last word
    bool open_word = false;                  ///< the line ends inside a word (there is no blank behind the last one)
};

[[nodiscard]] Line split(std::string_view text);

/// The words of an argument vector, as if they stood in a line with blanks between: "|" by itself is a bar, nothing else is special.
[[nodiscard]] Line from_arguments(const std::vector<std::string>& arguments);

/// The word as it has to be written so that split() gives it back: with quotes where they are needed.
[[nodiscard]] std::string in_quotes(std::string_view word);

/// The words as a line that split() takes apart again, bars as bars.
[[nodiscard]] std::string text_of(const std::vector<Word>& words);

}  // namespace sallyport::cli
