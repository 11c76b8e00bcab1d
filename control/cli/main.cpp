/// `sallyport`: asks control over its management socket and prints the answer. With words it does one thing; without, it is a shell. Results go to
/// stdout, everything else to stderr. As a login shell (sshd: "-sallyport", or "sallyport -c LINE") it leads nowhere else.

#include <CLI/CLI.hpp>
#include <clocale>
#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include "control/cli/interrupt.h"
#include "control/cli/shell.h"
#include "control/cli/terminal.h"
#include "control/daemon/exit_code.h"

namespace {

using namespace sallyport;

struct Options {
    std::string socket = "/run/sallyport/control.sock";
    double timeout_s = 10;
    std::vector<std::string> words;
};

/// An exit code when there is nothing more to do.
std::optional<int> read_options(Options& options, int argc, char** argv) {
    CLI::App app{"Shows what the Sallyport appliance does, and tells it what to do. Without a command it is a shell; \"sallyport help\" lists the commands."};
    app.allow_extras();
    app.add_option("--socket", options.socket, "control's management socket")->capture_default_str();
    app.add_option("--timeout", options.timeout_s, "seconds to wait for control")->check(CLI::Range(0.001, 86400.0))->capture_default_str();
    app.set_version_flag("--version", "sallyport " SALLYPORT_VERSION);
    app.footer("--json, with any command that shows something: the answer as JSON\n\nshow version, ports, services, pools, flows, ... | match REGEX and the like: see \"sallyport help\"");
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {   // --help, --version
        return app.exit(success);
    } catch (const CLI::ParseError& error) {
        std::cerr << "sallyport: " << error.what() << "\nsallyport help lists the commands.\n";
        return exit_code::kUsage;
    }
    options.words = app.remaining();
    return std::nullopt;
}

/// What sshd runs a login shell with: a line, or nothing. "ssh BOX sallyport show flows" is the same as "ssh BOX show flows".
std::string line_of_login_shell(int argc, char** argv) {
    std::string_view line = argc >= 3 && std::string_view(argv[1]) == "-c" ? argv[2] : "";
    constexpr std::string_view kName = "sallyport";
    if (line == kName) return {};
    if (line.starts_with(kName) && line[kName.size()] == ' ') line.remove_prefix(kName.size() + 1);
    return std::string(line);
}

int run(const Options& options, bool login_shell, const std::string& line) {
    const bool shell = login_shell ? line.empty() : options.words.empty();
    const bool in_front = shell && cli::is_interactive();
    cli::Caller caller = cli::this_caller(login_shell);
    cli::Link link(options.socket, std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1000)), caller.from);
    cli::Session session(std::move(link), cli::Output(std::move(caller), in_front, cli::wants_colour()));
    if (shell) {
        cli::take_interrupts();
        return in_front ? cli::run_shell(session) : cli::run_script(session);
    }
    cli::Line words = login_shell ? cli::split(line) : cli::from_arguments(options.words);
    const int code = cli::run_line(session, words, login_shell ? line : cli::text_of(words.words));
    if (session.mode() == cli::Mode::operational) return code;
    session.hang_up();
    session.output().complain("configuration mode is of the shell: start it without a command");
    return exit_code::kUsage;
}

}  // namespace

int main(int argc, char** argv) {
    // Only how characters are made of octets: texts for programs stay as they are everywhere.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    const bool given_line = argc >= 2 && std::string_view(argv[1]) == "-c";
    const bool login_shell = given_line || (argc >= 1 && argv[0][0] == '-');
    Options options;
    if (!login_shell) {
        if (const auto over = read_options(options, argc, argv)) return *over;
        return run(options, false, {});
    }
    std::signal(SIGTSTP, SIG_IGN);   // there is nothing to go back to
    return run(options, true, line_of_login_shell(argc, argv));
}
