#include "control/cli/configuration_mode.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "control/cli/interrupt.h"
#include "control/cli/table.h"
#include "control/daemon/exit_code.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using nlohmann::json;

constexpr double kCommitPatience = 120;

std::vector<std::string> texts(const json& object, const char* name) {
    std::vector<std::string> found;
    if (object.contains(name) && object[name].is_array())
        for (const json& each : object[name]) found.push_back(each.is_string() ? each.get<std::string>() : each.dump());
    return found;
}

std::string text_at(const json& object, const char* name) {
    return object.is_object() && object.contains(name) && object[name].is_string() ? object[name].get<std::string>() : std::string();
}

/// What is typed or piped in until Ctrl-D, which a pipe may write as the octet 4 on a line.
std::string rest_of_input() {
    std::string text;
    char octet = 0;
    for (;;) {
        const ssize_t n = read(STDIN_FILENO, &octet, 1);   // octet by octet: nothing of what comes behind is taken away
        if (n < 0 && errno == EINTR) return interrupted() != 0 ? std::string() : text;
        constexpr char kEndOfTransmission = 4;
        if (n <= 0 || octet == kEndOfTransmission || text.size() > kLongestFile) return text;
        text += octet;
    }
}

}  // namespace

std::optional<ConfigurationMode> ConfigurationMode::open(Link& link, const Output& output, const std::string& kind, int& exit_code) {
    const auto opened = link.call({"configuration", "open"}, {{"kind", kind}});
    if (!opened) {
        output.complain(opened.error().text);
        exit_code = exit_code_of(opened.error());
        return std::nullopt;
    }
    exit_code = exit_code::kOk;
    const std::string session = text_at(*opened, "session");
    if (session.empty()) {
        output.complain("control's answer is not what this version expects: there is no session");
        exit_code = exit_code::kProtocol;
        return std::nullopt;
    }
    output.remark(sallyport::format("Entering configuration mode ({}).", text_at(*opened, "kind").empty() ? kind : text_at(*opened, "kind")));
    if (opened->value("resumed", false)) output.remark("Your candidate from before is taken up again: \"show | compare\" tells what is changed in it.");
    if (opened->value("resumed", false) && opened->contains("head") && opened->value("base", 0) != opened->value("head", 0))
        output.remark("Others have committed since it was begun: \"update\" takes that in.");
    if (const std::string until = text_at(*opened, "confirm_until"); !until.empty())
        output.remark(sallyport::format("A commit waits to be confirmed until {}.", until));
    if (opened->contains("others") && (*opened)["others"].is_array())
        for (const json& other : (*opened)["others"])
            output.remark(sallyport::format("{} edits too ({}, since {}{}{}).", text_at(other, "user"), text_at(other, "kind"), text_at(other, "since"),
                                            text_at(other, "from").empty() ? "" : ", from ", text_at(other, "from")));
    return ConfigurationMode(link, output, session);
}

std::vector<std::string> ConfigurationMode::whole(const json& path) const {
    std::vector<std::string> words = at_;
    if (path.is_array())
        for (const json& word : path) words.push_back(word.get<std::string>());
    return words;
}

std::optional<json> ConfigurationMode::ask(const char* command, json arguments, int& exit_code, double patience_s) const {
    auto result = link_->call(words_of(command), std::move(arguments), std::chrono::milliseconds(static_cast<std::int64_t>(patience_s * 1000)));
    if (result) return std::move(*result);
    output_->complain(result.error().text);
    exit_code = exit_code_of(result.error());
    return std::nullopt;
}

int ConfigurationMode::carry_out(const Parsed& parsed) {
    switch (parsed.command->action) {
        case Action::set:
            return change("configuration set", parsed);
        case Action::delete_:
            return change("configuration delete", parsed);
        case Action::edit:
            return edit(parsed);
        case Action::up:
            return up(parsed);
        case Action::top:
            came_from_.clear();
            at_.clear();
            return exit_code::kOk;
        case Action::show_candidate:
            return show(parsed);
        case Action::compare:
            return compare(parsed.arguments.contains("rollback") ? parsed.arguments["rollback"] : json("running"), parsed.pipes);
        case Action::load:
            return load(parsed);
        case Action::save:
            return save(parsed);
        case Action::validate:
            return validate(parsed);
        case Action::commit:
            return commit(parsed);
        case Action::rollback:
            return rollback(parsed);
        case Action::update:
            return update(parsed);
        case Action::call:
        case Action::show_configuration:
        case Action::monitor:
        case Action::ping:
        case Action::fetch:
        case Action::help:
        case Action::help_setting:
        case Action::configure:
        case Action::leave:
        case Action::run:
            return exit_code::kSoftware;   // the session's
    }
    return exit_code::kSoftware;
}

int ConfigurationMode::change(const char* command, const Parsed& parsed) {
    int code = exit_code::kOk;
    static_cast<void>(ask(command, {{"session", session_}, {"path", whole(parsed.arguments["path"])}}, code));
    return code;
}

int ConfigurationMode::edit(const Parsed& parsed) {
    std::vector<std::string> to = whole(parsed.arguments["path"]);
    int code = exit_code::kOk;
    // It must be there, or be an element that set would make: control tells.
    if (!ask("configuration show", {{"session", session_}, {"source", "candidate"}, {"path", to}}, code)) return code;
    came_from_.push_back(std::exchange(at_, std::move(to)));
    return code;
}

int ConfigurationMode::up(const Parsed& parsed) {
    const auto levels = static_cast<std::size_t>(parsed.arguments.value("levels", 1));
    at_.resize(at_.size() - std::min(levels, at_.size()));
    return exit_code::kOk;
}

int ConfigurationMode::show(const Parsed& parsed) {
    if (parsed.pipes.compare) return compare(parsed.pipes.compare->has_number ? json(parsed.pipes.compare->number) : json("running"), parsed.pipes);
    int code = exit_code::kOk;
    const auto path = parsed.arguments.contains("path") ? whole(parsed.arguments["path"]) : at_;
    const auto shown = ask("configuration show", {{"session", session_}, {"source", "candidate"}, {"path", path}, {"format", parsed.pipes.as_set ? "set" : "text"}}, code);
    if (!shown) return code;
    return output_->show(parsed.pipes.json ? shown->dump(2) + '\n' : printable_lines(text_at(*shown, "text")), Paint::none, parsed.pipes);
}

int ConfigurationMode::compare(const json& with, const Pipes& pipes) {
    int code = exit_code::kOk;
    const auto compared = ask("configuration compare", {{"session", session_}, {"with", with}}, code);
    if (!compared) return code;
    return output_->show(pipes.json ? compared->dump(2) + '\n' : printable_lines(text_at(*compared, "text")), Paint::difference, pipes);
}

/// Problems as complaints; without any, `when_none` is the result.
int ConfigurationMode::problems(const json& result, const Pipes& pipes, std::string_view when_none) const {
    const auto found = texts(result, "problems");
    if (pipes.json) {
        const int written = output_->show(result.dump(2) + '\n', Paint::none, pipes);
        return written != exit_code::kOk || found.empty() ? written : exit_code::kConfiguration;
    }
    if (found.empty()) return output_->show(std::string(when_none), Paint::none, pipes);
    output_->complain(joined(found, "\n"));
    return exit_code::kConfiguration;
}

int ConfigurationMode::load(const Parsed& parsed) {
    const std::string how = words_of(parsed.command->words).back();   // merge, override, set
    const std::string file = parsed.arguments["file"];
    std::string text;
    if (file == "terminal") {
        output_->remark("[Type the configuration; Ctrl-D on a line of its own ends it, Ctrl-C gives it up]");
        text = rest_of_input();
        if (interrupted() != 0) return exit_code::kFailure;
        if (text.size() > kLongestFile) {
            output_->complain(sallyport::format("it has more than {} octets", kLongestFile));
            return exit_code::kFailure;
        }
    } else {
        auto read = read_file(output_->caller(), file);
        if (!read) {
            output_->complain(read.error());
            return exit_code::kOsError;
        }
        text = std::move(*read);
    }
    int code = exit_code::kOk;
    const auto loaded = ask("configuration load", {{"session", session_}, {"text", text}, {"how", how}}, code);
    return loaded ? problems(*loaded, parsed.pipes, "load complete\n") : code;
}

int ConfigurationMode::save(const Parsed& parsed) {
    int code = exit_code::kOk;
    const auto shown = ask("configuration show", {{"session", session_}, {"source", "candidate"}, {"path", at_}, {"format", "text"}}, code);
    if (!shown) return code;
    const std::string file = parsed.arguments["file"], text = text_at(*shown, "text");
    if (const auto written = write_file(output_->caller(), file, text); !written) {
        output_->complain(written.error());
        return exit_code::kOsError;
    }
    return output_->show(sallyport::format("{} octets written to {}\n", text.size(), file), Paint::none, parsed.pipes);
}

int ConfigurationMode::validate(const Parsed& parsed) {
    int code = exit_code::kOk;
    const auto result = ask("configuration validate", {{"session", session_}}, code, kCommitPatience);
    return result ? problems(*result, parsed.pipes, "configuration check succeeds\n") : code;
}

int ConfigurationMode::commit(const Parsed& parsed) {
    const bool check = parsed.arguments.value("check", false);
    int code = exit_code::kOk;
    const auto result = ask("configuration commit",
                            {{"session", session_},
                             {"comment", parsed.arguments.value("comment", "")},
                             {"confirmed_minutes", parsed.arguments.value("confirmed", 0)},
                             {"check", check},
                             {"at_restart", parsed.arguments.value("at_restart", false)}},
                            code, kCommitPatience);
    if (!result) return code;
    if (!texts(*result, "problems").empty()) return problems(*result, parsed.pipes, "");
    std::string text = check ? "configuration check succeeds\n" : "commit complete";
    if (!check) {
        if (result->contains("revision") && (*result)["revision"].is_number()) text += sallyport::format(": revision {}", (*result)["revision"].dump());
        text += '\n';
    }
    if (const std::string until = text_at(*result, "confirm_until"); !until.empty())
        text += sallyport::format("It is taken back at {} unless it is confirmed: \"confirm\", or another commit.\n", until);
    if (const std::string note = text_at(*result, "note"); !note.empty()) text += note + '\n';
    const bool done = check || result->value("done", true);
    if (!done) text.replace(0, std::string_view("commit complete").size(), "nothing was committed");
    code = output_->show(parsed.pipes.json ? result->dump(2) + '\n' : text, Paint::none, parsed.pipes);
    if (code == exit_code::kOk && !done) code = exit_code::kFailure;
    finished_ = code == exit_code::kOk && !check && parsed.arguments.value("and_quit", false);
    return code;
}

int ConfigurationMode::rollback(const Parsed& parsed) {
    int code = exit_code::kOk;
    if (!ask("configuration rollback", {{"session", session_}, {"number", parsed.arguments["number"]}}, code)) return code;
    return output_->show("The candidate is that revision now; \"show | compare\" tells the difference, \"commit\" makes it run.\n", Paint::none, parsed.pipes);
}

int ConfigurationMode::update(const Parsed& parsed) {
    int code = exit_code::kOk;
    const auto result = ask("configuration update", {{"session", session_}}, code);
    if (!result) return code;
    std::vector<std::string> conflicts;
    if (result->contains("conflicts") && (*result)["conflicts"].is_array())
        for (const json& each : (*result)["conflicts"])
            conflicts.push_back(sallyport::format("{}: was {}, is {} now, and {} in your candidate", text_at(each, "path"), text_at(each, "base"), text_at(each, "running"), text_at(each, "candidate")));
    if (parsed.pipes.json) return output_->show(result->dump(2) + '\n', Paint::none, parsed.pipes);
    if (conflicts.empty()) return output_->show("The candidate holds what the running configuration holds, with your changes.\n", Paint::none, parsed.pipes);
    output_->complain("these were changed by others too; look at them, set them right, and commit:\n" + joined(conflicts, "\n"));
    return exit_code::kFailure;
}

bool ConfigurationMode::leave(bool outright, bool away) {
    if (!outright && !came_from_.empty()) {
        at_ = std::move(came_from_.back());
        came_from_.pop_back();
        return false;
    }
    if (!outright && !at_.empty()) {
        at_.clear();
        return false;
    }
    const auto closed = link_->call({"configuration", "close"}, {{"session", session_}, {"discard", false}});
    if (closed) return true;
    if (closed.error().code != "has_changes") {
        output_->complain(closed.error().text);
        output_->remark("Leaving all the same: control keeps the candidate, and \"configure\" takes it up again.");
        return true;
    }
    const char answer = away ? 'k' : output_->ask("There are changes that are not committed: [d]iscard them, [k]eep them for later, or [s]tay?", 'k');
    if (answer == 'd') {
        int code = exit_code::kOk;
        return ask("configuration close", {{"session", session_}, {"discard", true}}, code).has_value();
    }
    if (answer != 'k') return false;
    if (output_->paged()) output_->remark("They are kept: \"configure\" takes them up again.");
    else output_->complain("changes are left that were not committed; they are kept, and \"configure\" takes them up again");
    return true;
}

}  // namespace sallyport::cli
