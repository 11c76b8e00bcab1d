#pragma once

#include <cstddef>
#include <expected>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/cli/command_tree.h"
#include "control/cli/line.h"
#include "control/cli/pipes.h"

/// What a line means by the command tree, and what could come next in it. Pure but for the names that it asks for.
namespace sallyport::cli {

/// What is wrong with a line, and where.
struct Fault {
    std::size_t at = 0;      ///< in octets; the line's end when something is missing
    std::string text;        ///< one line for a person
};

/// A line that was understood.
struct Parsed {
    const Command* command = nullptr;
    nlohmann::json arguments = nlohmann::json::object();   ///< by Argument::name(): strings, numbers, true for a flag, an array for rest
    std::vector<Word> rest{};                              ///< the words of the rest argument as they stand in the line
    Pipes pipes;

    /// Those that control is told.
    [[nodiscard]] nlohmann::json request() const;
};

/// Takes abbreviations that name one possibility only. The line has at least one word.
[[nodiscard]] std::expected<Parsed, Fault> parse(Mode mode, const Line& line);

/// Something that could come next.
struct Candidate {
    std::string word;
    std::string help;
    bool literal = true;   ///< it can be written so; false: it stands for what the user has to say, such as "<number>"
};

/// Where the names of what runs come from.
class Names {
 public:
    Names() = default;
    Names(const Names&) = delete;
    Names& operator=(const Names&) = delete;
    virtual ~Names() = default;

    /// Values for an argument of this source. `arguments`: those that stand before it; `path`: the words before it, of a rest argument;
    /// `partial`: its beginning. Empty also when they cannot be had.
    [[nodiscard]] virtual std::vector<Candidate> of(Source source, const nlohmann::json& arguments, const std::vector<std::string>& path,
                                                    std::string_view partial) = 0;
};

struct Completion {
    std::size_t at = 0;        ///< where the word begins that is being written, in octets; the line's end: a new one
    std::string partial;       ///< of it, without quotes
    std::vector<Candidate> candidates;
    std::optional<Fault> fault;   ///< of what stands before it; then there are no candidates
};

/// What can stand at the end of `text`, which is the line up to the cursor.
[[nodiscard]] Completion complete(Mode mode, std::string_view text, Names& names);

}  // namespace sallyport::cli
