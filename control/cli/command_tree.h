#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/management/role.h"

/// Every command of the CLI, in one table: its words, arguments, help, where completions come from, who may use it, and how its result
/// becomes text. One-shot use, the interactive shell, completion and help are all made from it. Constant: any thread.
namespace sallyport::cli {

enum class Mode : std::uint8_t { operational, configuration };

/// Who may use a command: control decides, the table says it in the help.
using management::Role;

/// Where the values of an argument are known from, for completion.
enum class Source : std::uint8_t {
    nowhere,              ///< a text of the user's own
    choices,              ///< Argument::choices
    services,             ///< names in the running configuration, asked from control
    pools,
    members,              ///< of the pool that the argument `pool` names, else of all
    ports,
    flows,                ///< ids of flows
    captures,             ///< ids of captures
    capture_files,        ///< names of their files
    revisions,            ///< numbers of revisions of the configuration
    candidate,            ///< words of a path in the candidate configuration, from control
    running,              ///< words of a path in the running configuration, from control
    commands,             ///< words of a command
    settings,             ///< names in the schema of the configuration
    files,
};

/// How an argument is written. `limit 5`, `--limit 5` and `--limit=5` are the same for all but rest.
enum class Place : std::uint8_t {
    named,      ///< keyword and value, in any order
    flag,       ///< keyword alone
    required,   ///< the value alone, in the order of the table
    optional,   ///< likewise; may be left out
    rest,       ///< all words that are left; none is fine unless Argument::least is 1
};

enum class Kind : std::uint8_t { text, number };

struct Argument {
    const char* word;              ///< keyword; with '-' as '_' it is the name in the request
    const char* help;
    Place place = Place::named;
    Kind kind = Kind::text;
    Source source = Source::nowhere;
    std::vector<const char*> choices{};
    std::int64_t least = 0, most = 4'294'967'295;   ///< of a number
    std::optional<std::int64_t> otherwise{};        ///< number that is sent when the argument is left out
    std::optional<std::int64_t> bare{};             ///< number that the keyword alone stands for
    bool local = false;                             ///< for the CLI: control is not told

    [[nodiscard]] std::string name() const;   ///< in the request
};

/// Who carries a command out: most are control's, and the CLI prints the answer. The others are parts of the CLI.
enum class Action : std::uint8_t {
    call,
    show_configuration,
    monitor,
    ping,
    fetch,                ///< a file of control, in parts: to stdout, or by `| save`
    help,
    help_setting,
    configure,
    leave,
    set,
    delete_,
    edit,
    up,
    top,
    show_candidate,
    compare,
    load,
    save,
    validate,
    commit,
    rollback,
    update,
    run,
};

/// What colours mean in the text of a result.
enum class Paint : std::uint8_t { none, states, difference };

struct Command {
    const char* words;                 ///< with one space between
    const char* help;
    std::vector<Argument> arguments{};
    Role least = Role::read_only;
    Action action = Action::call;
    const char* asks = nullptr;        ///< the management command; nullptr: the same words
    std::string (*text)(const nlohmann::json& result, const nlohmann::json& arguments) = nullptr;   ///< nullptr: render_any(). Throws json::exception
    bool (*done)(const nlohmann::json& result) = nullptr;   ///< whether the answer means that it was done; nullptr: an answer does
    Paint paint = Paint::states;
    double patience_s = 0;             ///< how long the answer may take when that is longer than usual
};

[[nodiscard]] std::span<const Command> commands(Mode mode);

/// The commands of a mode as a tree of words.
struct Node {
    std::string word, help;
    std::vector<Node> children;         ///< in the order of the table
    const Command* command = nullptr;   ///< that ends here; there may be children too

    [[nodiscard]] const Node* child(std::string_view whole_word) const;
};
[[nodiscard]] const Node& tree(Mode mode);

/// "show flows [<id>] [limit <number>]": how the command is written.
[[nodiscard]] std::string usage(const Command& command);

}  // namespace sallyport::cli
