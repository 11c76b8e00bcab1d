#include "control/cli/grammar.h"

#include <algorithm>
#include <charconv>

#include "control/management/command_table.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using nlohmann::json;

std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

Fault unknown(const Word& word, std::string_view what, const std::vector<std::string>& possible) {
    const auto near = management::nearest(word.text, possible);
    if (!near.empty()) return {word.at, sallyport::format("unknown {} \"{}\"; did you mean \"{}\"?", what, word.text, near.front())};
    constexpr std::size_t kFew = 12;
    if (possible.empty()) return {word.at, sallyport::format("unknown {} \"{}\"; nothing more can stand here", what, word.text)};
    if (possible.size() <= kFew) return {word.at, sallyport::format("unknown {} \"{}\"; one of {}", what, word.text, listed(possible))};
    return {word.at, sallyport::format("unknown {} \"{}\"; ? lists what can stand here", what, word.text)};
}

/// Reads a line word by word: down the tree, then through the arguments of the command that it leads to.
class Reader {
 public:
    explicit Reader(Mode mode) : node_(&tree(mode)) {}

    /// Takes the next word.
    [[nodiscard]] std::optional<Fault> take(const Word& word) {
        if (!word.quoted && word.text == "--json") {
            json_ = true;
            return {};
        }
        if (awaits_ != nullptr && takes_bare(word)) awaits_ = nullptr;
        if (awaits_ != nullptr) return value(*std::exchange(awaits_, nullptr), word);
        if (!arguments_begun_) {
            const auto down = descend(word);
            if (!down) return down.error();
            if (*down) return {};
        }
        if (node_->command == nullptr) return unknown(word, word.text.starts_with("--") ? "option" : "word", child_names());
        return argument(word);
    }

    /// What is missing at the end of the line, if something is.
    [[nodiscard]] std::optional<Fault> finish(std::size_t end) {
        if (awaits_ != nullptr && awaits_->bare) {
            arguments_[awaits_->name()] = *awaits_->bare;
            awaits_ = nullptr;
        }
        if (awaits_ != nullptr) return Fault{end, sallyport::format("{} needs a value: {}", awaits_->word, awaits_->help)};
        if (node_->command == nullptr) return Fault{end, sallyport::format("what? one of {}", listed(child_names()))};
        for (const Argument& each : node_->command->arguments) {
            const bool needed = each.place == Place::required || (each.place == Place::rest && each.least > 0);
            if (needed && !given(each)) return Fault{end, sallyport::format("<{}> is missing: {}; write: {}", each.word, each.help, usage(*node_->command))};
            if (each.otherwise && !given(each)) arguments_[each.name()] = *each.otherwise;
        }
        return {};
    }

    /// Whether the line could end here.
    [[nodiscard]] bool complete() const {
        if (awaits_ != nullptr && !awaits_->bare) return false;
        return node_->command != nullptr && std::ranges::all_of(node_->command->arguments, [&](const Argument& each) {
                   return (each.place != Place::required && (each.place != Place::rest || each.least == 0)) || given(each);
               });
    }

    [[nodiscard]] const Node& node() const { return *node_; }
    [[nodiscard]] bool arguments_begun() const { return arguments_begun_; }
    [[nodiscard]] bool options_possible() const { return node_->command != nullptr && rest_.empty(); }
    [[nodiscard]] const Argument* awaits() const { return awaits_; }
    [[nodiscard]] bool given(const Argument& argument) const { return std::ranges::contains(given_, &argument); }
    [[nodiscard]] const json& arguments() const { return arguments_; }
    [[nodiscard]] const std::vector<Word>& rest() const { return rest_; }
    [[nodiscard]] bool json_wanted() const { return json_; }

    /// The argument without keyword that would be next.
    [[nodiscard]] const Argument* next_place() const {
        if (node_->command == nullptr) return nullptr;
        for (const Argument& each : node_->command->arguments) {
            if (each.place == Place::rest) return &each;
            if ((each.place == Place::required || each.place == Place::optional) && !given(each)) return &each;
        }
        return nullptr;
    }

 private:
    [[nodiscard]] std::vector<std::string> child_names() const {
        std::vector<std::string> names;
        for (const Node& child : node_->children) names.push_back(child.word);
        return names;
    }

    /// Goes down to the child that the word names, if there is one.
    [[nodiscard]] std::expected<bool, Fault> descend(const Word& word) {
        if (word.quoted) return false;
        if (const Node* const child = node_->child(word.text)) {
            node_ = child;
            return true;
        }
        // Where an argument could stand as well, only whole words go down: the others are the argument.
        if (word.text.empty() || next_place() != nullptr) return false;
        const Node* found = nullptr;
        std::vector<std::string> possible;
        for (const Node& child : node_->children) {
            if (!child.word.starts_with(word.text)) continue;
            possible.push_back(child.word);
            found = &child;
        }
        if (possible.size() > 1) return std::unexpected(Fault{word.at, sallyport::format("\"{}\" is ambiguous: {}", word.text, listed(possible))});
        if (found == nullptr) return false;
        node_ = found;
        return true;
    }

    /// A keyword whose value may be left out, followed by something that is no value.
    [[nodiscard]] bool takes_bare(const Word& word) {
        if (!awaits_->bare) return false;
        if (!word.text.empty() && std::ranges::all_of(word.text, [](char c) { return c >= '0' && c <= '9'; })) return false;
        arguments_[awaits_->name()] = *awaits_->bare;
        return true;
    }

    [[nodiscard]] std::optional<Fault> argument(const Word& word) {
        arguments_begun_ = true;
        const Argument* const place = next_place();
        const bool free = rest_.empty() && !word.quoted;
        if (free && word.text.size() > 2 && word.text.starts_with("--")) return option(word);
        if (place != nullptr && (place->place == Place::required || !rest_.empty())) return value(*place, word);
        if (free) {
            const auto found = keyword(word, word.text);
            if (!found) return found.error();
            if (*found != nullptr) return begin(**found);
        }
        if (place != nullptr) return value(*place, word);
        return unknown(word, "word", keywords());
    }

    [[nodiscard]] std::optional<Fault> option(const Word& word) {
        const std::size_t equals = word.text.find('=');
        const std::string name = word.text.substr(2, equals == std::string::npos ? equals : equals - 2);
        const Argument* found = nullptr;
        std::vector<std::string> possible{"--json"};
        for (const Argument& each : node_->command->arguments) {
            if (each.place == Place::rest || given(each)) continue;
            possible.push_back(sallyport::format("--{}", each.word));
            if (name == each.word) found = &each;
        }
        if (found == nullptr) return unknown(word, "option", possible);
        if (equals == std::string::npos) return begin(*found);
        if (found->place == Place::flag) return Fault{word.at, sallyport::format("--{} takes no value", name)};
        Word after = word;
        after.text = word.text.substr(equals + 1);
        after.at = word.at + equals + 1;
        return value(*found, after);
    }

    /// The keyword that the word is, or abbreviates; nullptr: none.
    [[nodiscard]] std::expected<const Argument*, Fault> keyword(const Word& word, std::string_view text) const {
        std::vector<const Argument*> found;
        std::vector<std::string> names;
        for (const Argument& each : node_->command->arguments) {
            if ((each.place != Place::named && each.place != Place::flag) || given(each)) continue;
            if (text == each.word) return &each;
            if (text.empty() || !std::string_view(each.word).starts_with(text)) continue;
            found.push_back(&each);
            names.emplace_back(each.word);
        }
        if (found.size() > 1) return std::unexpected(Fault{word.at, sallyport::format("\"{}\" is ambiguous: {}", word.text, listed(names))});
        return found.empty() ? nullptr : found.front();
    }

    [[nodiscard]] std::vector<std::string> keywords() const {
        std::vector<std::string> names;
        for (const Argument& each : node_->command->arguments)
            if ((each.place == Place::named || each.place == Place::flag) && !given(each)) names.emplace_back(each.word);
        if (!arguments_begun_ || given_.empty())
            for (const Node& child : node_->children) names.push_back(child.word);
        return names;
    }

    [[nodiscard]] std::optional<Fault> begin(const Argument& argument) {
        if (argument.place == Place::flag) {
            arguments_[argument.name()] = true;
            given_.push_back(&argument);
            return {};
        }
        given_.push_back(&argument);
        awaits_ = &argument;
        return {};
    }

    [[nodiscard]] std::optional<Fault> value(const Argument& argument, const Word& word) {
        if (!given(argument)) given_.push_back(&argument);
        if (argument.place == Place::rest) {
            rest_.push_back(word);
            arguments_[argument.name()].push_back(word.text);
            return {};
        }
        if (argument.kind == Kind::number) {
            std::int64_t number = 0;
            const char* const end = word.text.data() + word.text.size();
            const auto [parsed, error] = std::from_chars(word.text.data(), end, number);
            if (error != std::errc{} || parsed != end || number < argument.least || number > argument.most)
                return Fault{word.at, sallyport::format("{}{} must be a number from {} to {}, not \"{}\"",
                                                        argument.place == Place::named ? "--" : "", argument.word, argument.least, argument.most, word.text)};
            arguments_[argument.name()] = number;
            return {};
        }
        if (argument.source != Source::choices) {
            arguments_[argument.name()] = word.text;
            return {};
        }
        std::vector<std::string> possible, fitting;
        for (const char* const choice : argument.choices) {
            possible.emplace_back(choice);
            if (word.text == choice) fitting.assign(1, choice);
            else if (!word.text.empty() && std::string_view(choice).starts_with(word.text)) fitting.emplace_back(choice);
        }
        if (fitting.empty()) return unknown(word, argument.word, possible);
        if (fitting.size() > 1 && !std::ranges::contains(possible, word.text))
            return Fault{word.at, sallyport::format("\"{}\" is ambiguous: {}", word.text, listed(fitting))};
        arguments_[argument.name()] = fitting.front();
        return {};
    }

    const Node* node_;
    bool arguments_begun_ = false;
    std::vector<const Argument*> given_;
    const Argument* awaits_ = nullptr;   ///< its keyword was read, its value was not
    json arguments_ = json::object();
    std::vector<Word> rest_;
    bool json_ = false;
};

std::size_t end_of(const Line& line) {
    return line.words.empty() ? 0 : line.words.back().end;
}

constexpr const char* kEnter = "<enter>";

/// Candidates whose beginning `partial` is; what stands for something always. In the middle of a word the line does not end.
void keep_fitting(std::vector<Candidate>& candidates, std::string_view partial) {
    std::erase_if(candidates, [&](const Candidate& each) {
        return each.literal ? !each.word.starts_with(partial) : each.word == kEnter && !partial.empty();
    });
}

void add_enter(std::vector<Candidate>& candidates) {
    candidates.push_back({kEnter, "do it", false});
    candidates.push_back({"|", "send the result through a filter"});
}

std::vector<Candidate> values(const Argument& argument, const Reader& reader, std::string_view partial, Names& names) {
    std::vector<std::string> path;
    for (const Word& word : reader.rest()) path.push_back(word.text);
    std::vector<Candidate> found;
    if (argument.source == Source::choices) {
        for (const char* const choice : argument.choices) found.push_back({choice, argument.help});
        return found;
    }
    if (argument.source != Source::nowhere) found = names.of(argument.source, reader.arguments(), path, partial);
    // The names are proposals, but for a path: there they are all that can stand.
    if (argument.place == Place::rest && !found.empty()) return found;
    found.push_back({argument.kind == Kind::number ? std::string("<number>") : sallyport::format("<{}>", argument.word), argument.help, false});
    return found;
}

std::vector<Candidate> words_of_help(Mode mode, const std::vector<Word>& before) {
    const Node* node = &tree(mode);
    for (const Word& word : before)
        if ((node = node->child(word.text)) == nullptr) return {};
    std::vector<Candidate> found;
    for (const Node& child : node->children) found.push_back({child.word, child.help});
    if (!before.empty()) add_enter(found);
    return found;
}

std::vector<Candidate> after_bar(std::span<const Word> words, std::string_view partial, Names& names) {
    std::vector<Candidate> found;
    if (words.empty()) {
        for (const PipeWord& each : pipe_words()) found.push_back({each.word, each.help});
        return found;
    }
    const PipeWord* stage = nullptr;
    for (const PipeWord& each : pipe_words())
        if (std::string_view(each.word).starts_with(words[0].text)) stage = &each;
    if (stage == nullptr) return found;
    const bool needs_more = *stage->argument != 0 && *stage->argument != '[' && words.size() == 1;
    if (!needs_more) {
        if (stage->kind == PipeKind::compare && words.size() == 1) found.push_back({"rollback", "with a revision"});
        if (stage->kind == PipeKind::compare && words.size() == 2) return names.of(Source::revisions, json::object(), {}, partial);
        add_enter(found);
    } else if (stage->kind == PipeKind::save) {
        found = names.of(Source::files, json::object(), {}, partial);
        found.push_back({"<file>", "path of the file", false});
    } else if (stage->kind == PipeKind::display_set) {
        found = {{"set", "as set commands"}, {"json", "as JSON"}};
    } else {
        found.push_back({stage->argument, stage->help, false});
    }
    return found;
}

std::vector<Candidate> after(const Reader& reader, Mode mode, std::string_view partial, Names& names) {
    if (reader.awaits() != nullptr) {
        auto found = values(*reader.awaits(), reader, partial, names);
        if (reader.awaits()->bare && reader.complete()) add_enter(found);
        return found;
    }
    std::vector<Candidate> found;
    if (!reader.arguments_begun())
        for (const Node& child : reader.node().children) found.push_back({child.word, child.help});
    const Command* const command = reader.node().command;
    if (command == nullptr) return found;
    if (const Argument* const place = reader.next_place()) {
        if (place->source == Source::commands && command->action == Action::help) {
            auto words = words_of_help(mode, reader.rest());
            std::ranges::move(words, std::back_inserter(found));
            if (!reader.rest().empty()) return found;
        } else {
            auto more = values(*place, reader, partial, names);
            std::ranges::move(more, std::back_inserter(found));
        }
        if (place->place == Place::required) return found;
    }
    if (reader.options_possible()) {
        const bool dashes = partial.starts_with("--");
        for (const Argument& each : command->arguments)
            if ((each.place == Place::named || each.place == Place::flag) && !reader.given(each))
                found.push_back({sallyport::format("{}{}", dashes ? "--" : "", each.word), each.help});
        if (dashes) found.push_back({"--json", "the result as JSON"});
    }
    if (reader.complete()) add_enter(found);
    return found;
}

}  // namespace

json Parsed::request() const {
    json request = arguments;
    for (const Argument& each : command->arguments)
        if (each.local) request.erase(each.name());
    return request;
}

std::expected<Parsed, Fault> parse(Mode mode, const Line& line) {
    if (line.open_quote) return std::unexpected(Fault{*line.open_quote, "this quote is not closed"});
    Reader reader(mode);
    const auto bar = std::ranges::find_if(line.words, &Word::bar);
    for (auto word = line.words.begin(); word != bar; ++word)
        if (auto fault = reader.take(*word)) return std::unexpected(std::move(*fault));
    const std::size_t end = bar == line.words.end() ? end_of(line) : bar->at;
    if (auto fault = reader.finish(end)) return std::unexpected(std::move(*fault));
    auto pipes = parse_pipes(std::span(bar, line.words.end()), end_of(line));
    if (!pipes) return std::unexpected(Fault{pipes.error().at, std::move(pipes.error().text)});
    pipes->json = pipes->json || reader.json_wanted();
    return Parsed{.command = reader.node().command, .arguments = reader.arguments(), .rest = reader.rest(), .pipes = std::move(*pipes)};
}

Completion complete(Mode mode, std::string_view text, Names& names) {
    Line line = split(text);
    Completion completion{.at = text.size(), .partial = {}, .candidates = {}, .fault = {}};
    if (line.open_word && !line.words.empty() && !line.words.back().bar) {
        completion.at = line.words.back().at;
        completion.partial = line.words.back().text;
        line.words.pop_back();
    }
    const auto last_bar = std::ranges::find_last_if(line.words, &Word::bar);
    const auto bar = std::ranges::find_if(line.words, &Word::bar);
    Reader reader(mode);
    for (auto word = line.words.begin(); word != bar; ++word) {
        if ((completion.fault = reader.take(*word))) return completion;
        // The rest of the line is a line of its own.
        if (reader.node().command != nullptr && reader.node().command->action == Action::run && bar == line.words.end()) {
            const std::size_t begin = word->end;
            completion = complete(Mode::operational, text.substr(begin), names);
            completion.at += begin;
            if (completion.fault) completion.fault->at += begin;
            return completion;
        }
    }
    if (bar == line.words.end()) {
        completion.candidates = after(reader, mode, completion.partial, names);
    } else {
        const std::span<const Word> stage(last_bar.begin() + 1, line.words.end());
        completion.candidates = after_bar(stage, completion.partial, names);
    }
    keep_fitting(completion.candidates, completion.partial);
    return completion;
}

}  // namespace sallyport::cli
