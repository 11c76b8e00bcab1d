#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/management/protocol.h"

namespace sallyport::management {

/// The process at the other end of the socket (SO_PEERCRED): as the kernel saw it at connect().
struct Peer {
    std::uint32_t uid = 0, gid = 0;
    std::int32_t pid = 0;
};

/// What a request comes to. Runs in the server's thread; what it throws (std::exception) is answered as code internal.
using Handler = std::function<Result(const Request&, const Peer&)>;

/// The commands that control knows, by name. Filled before the server starts, then constant.
/// The command `help` is there from the start: it answers an array of {"name", "help", "arguments"}.
class CommandTable {
 public:
    struct Argument {
        std::string name;
        std::string help;
    };

    CommandTable();
    CommandTable(const CommandTable&) = delete;
    CommandTable& operator=(const CommandTable&) = delete;

    /// `name`: words with one space between, such as "show flows". A name can be added once (else SALLYPORT_CHECK stops
    /// us). A request with an argument that is not listed is refused before the handler sees it.
    void add(std::string name, std::string help, std::vector<Argument> arguments, Handler handler);

    /// Finds the command and runs it. unknown_command names the nearest ones; unknown_argument those that there are.
    [[nodiscard]] Result handle(const Request& request, const Peer& peer) const;

    [[nodiscard]] std::vector<std::string> names() const;

 private:
    struct Command {
        std::string help;
        std::vector<Argument> arguments;
        Handler handler;
    };
    std::map<std::string, Command, std::less<>> commands_;
};

/// Those of `names` that `given` was probably meant to be: at most three, nearest first, ties in the order of `names`.
/// Near is an edit distance (insert, delete, replace, swap neighbours) of at most a third of the longer one's length,
/// or `given` being the beginning of it.
[[nodiscard]] std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& names);

}  // namespace sallyport::management
