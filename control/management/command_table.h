#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/management/protocol.h"
#include "control/management/role.h"

namespace sallyport::management {

/// The process at the other end of the socket (SO_PEERCRED, SO_PEERGROUPS): as the kernel saw it at connect().
struct Peer {
    std::uint32_t uid = 0, gid = 0;
    std::int32_t pid = 0;
    std::vector<std::uint32_t> groups{};  ///< supplementary ones
    Role role = Role::none;               ///< as the configuration that runs now gives it
    std::string user{};                   ///< name of uid
    std::string from{};                   ///< what the client says of itself in this request; empty: nothing
};

/// What a request comes to. Runs in the server's thread; what it throws (std::exception) is answered as code internal.
using Handler = std::function<Result(const Request&, const Peer&)>;

/// The commands that control knows, by name. Filled before the server starts, then constant.
/// The command `help` is there from the start: it answers an array of {"name", "help", "arguments", "role"}.
class CommandTable {
 public:
    struct Argument {
        std::string name;
        std::string help;
    };

    /// Who keeps account of what is asked, and in the end of what was done.
    struct Audit {
        /// Before the command runs; an error is the answer instead.
        std::function<std::expected<void, Error>(const Request&, const Peer&, const Access&)> before;
        /// With what it came to. Also for a peer that was refused the command for its role (code forbidden).
        std::function<void(const Request&, const Peer&, const Access&, const Result&)> after;
    };

    CommandTable();
    CommandTable(const CommandTable&) = delete;
    CommandTable& operator=(const CommandTable&) = delete;

    /// `name`: words with one space between, such as "show flows". A name can be added once (else SALLYPORT_CHECK stops
    /// us). A request with an argument that is not listed, or of a peer whose role is below what `access` asks for,
    /// is refused before the handler sees it.
    void add(std::string name, std::string help, std::vector<Argument> arguments, Handler handler, Access access = {});

    /// Commands that are audited, and refusals of any, are told to `audit` from now on.
    void audit_by(Audit audit) { audit_ = std::move(audit); }

    /// Finds the command and runs it. unknown_command names the nearest ones; unknown_argument those that there are;
    /// forbidden the role that the command needs and the one that the peer has. Who has no role learns nothing else.
    [[nodiscard]] Result handle(const Request& request, const Peer& peer) const;

    /// Runs a command for control itself: no role is asked for, and nothing is told to the audit. What it throws comes through.
    [[nodiscard]] Result run(const Request& request, const Peer& peer) const;

    [[nodiscard]] std::vector<std::string> names() const;

 private:
    struct Command {
        std::string help;
        std::vector<Argument> arguments;
        Handler handler;
        Access access;
    };
    [[nodiscard]] Result refuse(const Request& request, const Peer& peer, const Access& access) const;

    std::map<std::string, Command, std::less<>> commands_;
    Audit audit_;
};

/// Those of `names` that `given` was probably meant to be: at most three, nearest first, ties in the order of `names`.
/// Near is an edit distance (insert, delete, replace, swap neighbours) of at most a third of the longer one's length,
/// or `given` being the beginning of it.
[[nodiscard]] std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& names);

}  // namespace sallyport::management
