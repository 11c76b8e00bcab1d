#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/cli/line.h"

/// What stands behind the bars of a line: `show flows | match www | count`. Pure functions.
namespace sallyport::cli {

enum class PipeKind : std::uint8_t {
    match,     ///< lines that a regular expression (POSIX, extended; capitals as they are) fits
    except,    ///< the others
    count,     ///< how many lines
    last,      ///< the last N
    no_more,   ///< without pager
    json,      ///< the result as JSON instead of text
    save,      ///< to a file, not to the screen
    compare,   ///< of a configuration: what is changed
    display_set,   ///< of a configuration: as set commands
};

struct Pipe {
    PipeKind kind;
    std::string text{};          ///< regular expression or file
    std::uint64_t number = 0;    ///< of last; of compare: revision
    bool has_number = false;
};

struct Pipes {
    std::vector<Pipe> stages;
    bool json = false;       ///< the result is wanted as JSON
    bool no_more = false;
    std::optional<std::string> save;
    std::optional<Pipe> compare;
    bool as_set = false;
};

/// How a kind is written, for parser and help.
struct PipeWord {
    PipeKind kind;
    const char* word;
    const char* argument;    ///< what it takes: "<regex>"; empty: nothing; in brackets: may be left out
    const char* help;
};
[[nodiscard]] std::span<const PipeWord> pipe_words();

struct PipeFault {
    std::size_t at;
    std::string text;
};

/// `words` begins with a bar. `end`: of the line, for what is missing.
[[nodiscard]] std::expected<Pipes, PipeFault> parse_pipes(std::span<const Word> words, std::size_t end);

/// The text as it leaves the stages that filter lines.
[[nodiscard]] std::string filtered(std::string text, const Pipes& pipes);

}  // namespace sallyport::cli
