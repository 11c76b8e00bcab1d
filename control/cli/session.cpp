#include "control/cli/session.h"

#include "control/cli/fetch.h"
#include "control/cli/help.h"
#include "control/cli/monitor.h"
#include "control/cli/ping.h"
#include "control/cli/render_any.h"
#include "control/daemon/exit_code.h"
#include "control/management/command_table.h"
#include "crypto/format.h"

namespace sallyport::cli {

using nlohmann::json;

namespace {

std::vector<std::string> rest_texts(const Parsed& parsed) {
    std::vector<std::string> texts;
    for (const Word& word : parsed.rest) texts.push_back(word.text);
    return texts;
}

bool is_of_configurations(const Pipes& pipes) {
    return pipes.compare || pipes.as_set;
}

}  // namespace

Session::Session(Link link, Output output) : link_(std::move(link)), output_(std::move(output)), names_(link_, output_.caller()) {}

std::expected<int, Fault> Session::carry_out(const Line& line) {
    auto parsed = parse(mode(), line);
    if (!parsed) return std::unexpected(std::move(parsed.error()));
    auto done = carry_out(std::move(*parsed));
    if (configuration_) names_.edit(configuration_->session(), configuration_->at());
    return done;
}

std::expected<int, Fault> Session::carry_out(Parsed parsed) {
    const Action action = parsed.command->action;
    if (is_of_configurations(parsed.pipes) && action != Action::show_candidate && action != Action::show_configuration && action != Action::run)
        return std::unexpected(Fault{0, "compare and display are for configurations"});
    switch (action) {
        case Action::call:
            return call(parsed);
        case Action::show_configuration:
            if (parsed.pipes.compare) return std::unexpected(Fault{0, "compare is for a candidate: in configuration mode, \"show | compare\""});
            return show_configuration(parsed);
        case Action::monitor:
            return monitor(link_, output_, parsed);
        case Action::ping:
            return ping(link_, output_, parsed);
        case Action::fetch:
            return fetch(link_, output_, parsed);
        case Action::help:
            return help(parsed);
        case Action::help_setting:
            return help_setting(parsed);
        case Action::configure:
            return configure(parsed);
        case Action::leave:
            return leave(std::string_view(parsed.command->words).contains(' '));
        case Action::run: {
            auto inner = parse(Mode::operational, Line{.words = parsed.rest, .open_quote = {}});
            if (!inner) return std::unexpected(std::move(inner.error()));
            if (inner->command->action == Action::configure || inner->command->action == Action::leave)
                return std::unexpected(Fault{parsed.rest.front().at, "run is for commands that look or act, not to change the mode"});
            parsed.pipes.json = parsed.pipes.json || inner->pipes.json;
            inner->pipes = std::move(parsed.pipes);
            return carry_out(std::move(*inner));
        }
        case Action::set:
        case Action::delete_:
        case Action::edit:
        case Action::up:
        case Action::top:
        case Action::show_candidate:
        case Action::compare:
        case Action::load:
        case Action::save:
        case Action::validate:
        case Action::commit:
        case Action::rollback:
        case Action::update: {
            const int code = configuration_->carry_out(parsed);
            if (configuration_->finished()) leave(true);
            return code;
        }
    }
    return exit_code::kSoftware;
}

int Session::call(const Parsed& parsed) {
    const Command& command = *parsed.command;
    const auto patience = std::chrono::milliseconds(static_cast<std::int64_t>(command.patience_s * 1000));
    const auto result = link_.call(words_of(command.asks == nullptr ? command.words : command.asks), parsed.request(), patience);
    if (!result) {
        output_.complain(result.error().text);
        return exit_code_of(result.error());
    }
    try {
        const std::string text = parsed.pipes.json          ? result->dump(2) + '\n'
                                 : command.text != nullptr ? command.text(*result, parsed.arguments)
                                                           : render_any(*result);
        const int written = output_.show(text, command.paint, parsed.pipes);
        if (written != exit_code::kOk) return written;
        return command.done == nullptr || command.done(*result) ? exit_code::kOk : exit_code::kFailure;
    } catch (const json::exception& error) {
        output_.complain(sallyport::format("control's answer is not what this version expects: {}", error.what()));
        return exit_code::kProtocol;
    }
}

int Session::show_configuration(const Parsed& parsed) {
    json arguments{{"source", "running"}, {"path", rest_texts(parsed)}, {"format", parsed.pipes.as_set ? "set" : "text"}};
    if (parsed.arguments.contains("number")) {
        arguments["source"] = "revision";
        arguments["number"] = parsed.arguments["number"];
    }
    const auto result = link_.call({"configuration", "show"}, std::move(arguments));
    if (!result) {
        output_.complain(result.error().text);
        return exit_code_of(result.error());
    }
    if (parsed.pipes.json) return output_.show(result->dump(2) + '\n', Paint::none, parsed.pipes);
    const auto text = result->find("text");
    return output_.show(text != result->end() && text->is_string() ? printable_lines(text->get<std::string>()) : render_any(*result), Paint::none, parsed.pipes);
}

std::expected<int, Fault> Session::help(const Parsed& parsed) {
    const std::string text = help_text(mode(), rest_texts(parsed));
    if (text.empty()) return std::unexpected(Fault{parsed.rest.front().at, sallyport::format("there is no command \"{}\"", text_of(parsed.rest))});
    return output_.show(text, Paint::none, parsed.pipes);
}

std::expected<int, Fault> Session::help_setting(const Parsed& parsed) {
    const std::string text = setting_text(rest_texts(parsed));
    if (text.empty()) return std::unexpected(Fault{parsed.rest.front().at, sallyport::format("there is no setting \"{}\"", text_of(parsed.rest))});
    return output_.show(text, Paint::none, parsed.pipes);
}

int Session::configure(const Parsed& parsed) {
    int code = exit_code::kOk;
    configuration_ = ConfigurationMode::open(link_, output_, parsed.arguments.value("kind", "private"), code);
    return code;
}

int Session::leave(bool outright) {
    if (!configuration_) over_ = true;
    else if (configuration_->leave(outright)) {
        configuration_.reset();
        output_.remark("Leaving configuration mode.");
    }
    return exit_code::kOk;
}

void Session::hang_up() {
    if (configuration_) static_cast<void>(configuration_->leave(true, true));
    configuration_.reset();
    over_ = true;
}

}  // namespace sallyport::cli
