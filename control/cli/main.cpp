/// `sallyport`: asks control over its management socket and prints the answer. Results go to stdout, everything else to
/// stderr.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "control/cli/render.h"
#include "control/cli/render_telemetry.h"
#include "control/daemon/exit_code.h"
#include "control/management/client.h"
#include "control/management/command_table.h"
#include "control/management/views.h"

namespace {

using namespace sallyport;
using nlohmann::json;

struct Options {
    std::string socket = "/run/sallyport/control.sock";
    bool as_json = false;
    double timeout_s = 10;
    std::uint64_t limit = 100;
    bool all = false;
};

/// Something that can be shown: its name, the help's sentence, and how its result becomes text.
struct Shown {
    const char* name;
    const char* help;
    std::string (*text)(const json& result, const Options& options);
};

template <typename View>
std::string list_text(const json& result, const Options&) {
    return cli::render_text(result.get<std::vector<View>>());
}
template <typename View>
std::string view_text(const json& result, const Options&) {
    return cli::render_text(result.get<View>());
}

constexpr Shown kShown[] = {
    {"version", "versions, processes and the running configuration", view_text<management::VersionView>},
    {"ports", "network ports: link, packets, offloads", list_text<management::PortView>},
    {"services", "services: listeners, certificates, handshakes", list_text<management::ServiceView>},
    {"pools", "pools and the health of their members", list_text<management::PoolView>},
    {"flows", "flows: what was negotiated on both legs, octets, age", view_text<management::FlowsView>},
    {"counters", "what was counted, by group",
     [](const json& result, const Options& options) {
         return cli::render_text(result.get<std::vector<management::CounterView>>(), options.all);
     }},
    {"workers", "the dataplane's workers: load, buffers, records", list_text<management::WorkerView>},
    {"alarms", "what is wrong now, and what was", view_text<management::AlarmsView>},
    {"policy", "the policy, requirement by requirement: state and evidence", list_text<management::PolicyView>},
    {"ech", "Encrypted ClientHello: keys, what to publish in the DNS, outcomes", list_text<management::EchView>},
    {"revocation", "own certificates and CRLs: what answers for them", view_text<management::RevocationView>},
    {"failures", "handshakes that failed, newest first", view_text<management::FailuresView>},
    {"neighbours", "neighbour tables (ARP, neighbour discovery)", list_text<management::NeighbourView>},
};

int exit_code_of(management::CallError::Kind kind) {
    switch (kind) {
        case management::CallError::Kind::away:
        case management::CallError::Kind::timed_out:
            return exit_code::kControlAway;
        case management::CallError::Kind::forbidden:
            return exit_code::kNoPermission;
        case management::CallError::Kind::broken:
            return exit_code::kProtocol;
        case management::CallError::Kind::refused:
            return exit_code::kFailure;
    }
    return exit_code::kSoftware;
}

/// Something that control is told to do.
struct Told {
    const char* verb;
    const char* what;   ///< nullptr: the verb alone
    const char* help;
    std::string (*text)(const json& result);
    bool (*good)(const json& result);   ///< nullptr: an answer is enough
};

constexpr Told kTold[] = {
    {"report", "policy", "write the policy's table to a dated file with a signature",
     [](const json& result) { return cli::render_text(result.get<management::ReportView>()); }, nullptr},
    {"refresh", "revocation", "fetch OCSP answers and CRLs now", [](const json&) { return std::string("being fetched\n"); }, nullptr},
    {"reload", nullptr, "read the configuration file again and change to it",
     [](const json& result) { return cli::render_text(result.get<management::ReloadView>()); },
     [](const json& result) { return result.get<management::ReloadView>().done; }},
};

/// Asks, and prints the answer: the text, or JSON. `good`: whether an answer means that it was done; empty: always.
template <typename Text>
int ask(const Options& options, const std::vector<std::string>& command, json arguments, Text text, bool (*good)(const json&) = nullptr) {
    const auto timeout = std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1000));
    const auto fail = [](const management::CallError& error) {
        std::cerr << "sallyport: " << cli::printable(error.text) << '\n';
        return exit_code_of(error.kind);
    };
    auto client = management::Client::connect(options.socket, timeout);
    if (!client) return fail(client.error());
    const auto result = client->call(command, std::move(arguments));
    if (!result) return fail(result.error());
    try {
        std::cout << (options.as_json ? result->dump(2) + '\n' : text(*result)) << std::flush;
    } catch (const json::exception& error) {
        std::cerr << "sallyport: control's answer is not what this version expects: " << error.what() << '\n';
        return exit_code::kProtocol;
    }
    if (!std::cout) {
        std::cerr << "sallyport: the output could not be written\n";
        return exit_code::kOsError;
    }
    return good == nullptr || good(*result) ? exit_code::kOk : exit_code::kFailure;
}

int show(const Shown& shown, const Options& options) {
    json arguments = json::object();
    const std::string_view name = shown.name;
    if (name == "flows" || name == "failures") arguments["limit"] = options.limit;
    return ask(options, {"show", shown.name}, std::move(arguments), [&](const json& result) { return shown.text(result, options); });
}

int tell(const Told& told, const Options& options) {
    std::vector<std::string> command{told.verb};
    if (told.what != nullptr) command.emplace_back(told.what);
    return ask(options, command, json::object(), told.text, told.good);
}

/// The parser's complaint, with the nearest names where a word was unknown.
std::string complaint(const CLI::ParseError& error, int argc, char** argv) {
    std::string text = error.what();
    std::vector<std::string> names{"show"};
    for (const Shown& shown : kShown) names.emplace_back(shown.name);
    for (const Told& told : kTold) {
        names.emplace_back(told.verb);
        if (told.what != nullptr) names.emplace_back(told.what);
    }
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word.starts_with('-') || std::ranges::contains(names, word)) continue;
        const auto near = management::nearest(word, names);
        if (!near.empty())
            return "unknown word \"" + cli::printable(word) + "\"; did you mean \"" + near.front() + "\"?";
    }
    return cli::printable(text);
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{"Shows what the Sallyport appliance does, and tells it what to do."};
    app.require_subcommand(1);
    app.fallthrough();
    app.add_option("--socket", options.socket, "control's management socket")->capture_default_str();
    app.add_flag("--json", options.as_json, "print the answer as JSON");
    app.add_option("--timeout", options.timeout_s, "seconds to wait for control")
        ->check(CLI::Range(0.001, 86400.0))
        ->capture_default_str();
    app.set_version_flag("--version", "sallyport " SALLYPORT_VERSION);
    CLI::App* const show_command = app.add_subcommand("show", "show what is going on");
    show_command->require_subcommand(1);
    show_command->fallthrough();
    const Shown* chosen = nullptr;
    for (const Shown& shown : kShown) {
        CLI::App* const command = show_command->add_subcommand(shown.name, shown.help);
        command->fallthrough();
        command->callback([&chosen, &shown] { chosen = &shown; });
        if (std::string_view(shown.name) == "flows" || std::string_view(shown.name) == "failures")
            command->add_option("--limit", options.limit, "most to show; 0: all")->capture_default_str();
        if (std::string_view(shown.name) == "counters")
            command->add_flag("--all", options.all, "show counters that are 0 too");
    }
    const Told* order = nullptr;
    for (const Told& told : kTold) {
        CLI::App* command = app.add_subcommand(told.verb, told.help);
        command->fallthrough();
        if (told.what != nullptr) {
            command->require_subcommand(1);
            command = command->add_subcommand(told.what, told.help);
            command->fallthrough();
        }
        command->callback([&order, &told] { order = &told; });
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {  // --help, --version
        return app.exit(success);
    } catch (const CLI::ParseError& error) {
        std::cerr << "sallyport: " << complaint(error, argc, argv) << "\nsallyport --help lists the commands.\n";
        return exit_code::kUsage;
    }
    return order != nullptr ? tell(*order, options) : show(*chosen, options);
}
