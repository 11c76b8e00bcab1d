#include "control/cli/pipes.h"

#include <regex.h>

#include <array>
#include <charconv>
#include <memory>

#include "control/management/command_table.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

constexpr std::array kWords{
    PipeWord{PipeKind::match, "match", "<regex>", "only lines that the regular expression fits"},
    PipeWord{PipeKind::except, "except", "<regex>", "only lines that it does not fit"},
    PipeWord{PipeKind::count, "count", "", "how many lines"},
    PipeWord{PipeKind::last, "last", "<number>", "only the last lines"},
    PipeWord{PipeKind::no_more, "no-more", "", "all at once, without pager"},
    PipeWord{PipeKind::json, "json", "", "the result as JSON"},
    PipeWord{PipeKind::save, "save", "<file>", "into a file"},
    PipeWord{PipeKind::compare, "compare", "[rollback <number>]", "of a candidate: what is changed"},
    PipeWord{PipeKind::display_set, "display", "set", "of a configuration: as set commands"},
};

class Regex {
 public:
    explicit Regex(const std::string& text) : error_(regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB)) {}
    Regex(const Regex&) = delete;
    Regex& operator=(const Regex&) = delete;
    ~Regex() {
        if (error_ == 0) regfree(&compiled_);
    }
    [[nodiscard]] std::string problem() const {
        if (error_ == 0) return {};
        std::array<char, 256> text{};
        regerror(error_, &compiled_, text.data(), text.size());
        return text.data();
    }
    [[nodiscard]] bool fits(const std::string& line) const { return regexec(&compiled_, line.c_str(), 0, nullptr, 0) == 0; }

 private:
    regex_t compiled_{};
    int error_;
};

std::expected<std::uint64_t, PipeFault> number(const Word& word) {
    std::uint64_t value = 0;
    const char* const end = word.text.data() + word.text.size();
    const auto [parsed, error] = std::from_chars(word.text.data(), end, value);
    if (error != std::errc{} || parsed != end) return std::unexpected(PipeFault{word.at, sallyport::format("\"{}\" is not a number", word.text)});
    return value;
}

std::expected<PipeKind, PipeFault> kind_of(const Word& word) {
    const PipeWord* found = nullptr;
    std::string possible;
    for (const PipeWord& each : kWords) {
        const std::string_view name = each.word;
        if (name == word.text) return each.kind;
        if (!name.starts_with(word.text)) continue;
        possible += sallyport::format("{}{}", possible.empty() ? "" : ", ", name);
        if (found != nullptr) found = &kWords.front() + kWords.size();   // more than one
        else found = &each;
    }
    if (found == &kWords.front() + kWords.size())
        return std::unexpected(PipeFault{word.at, sallyport::format("\"{}\" is ambiguous: {}", word.text, possible)});
    if (found != nullptr) return found->kind;
    std::vector<std::string> names;
    for (const PipeWord& each : kWords) names.emplace_back(each.word);
    const auto near = management::nearest(word.text, names);
    return std::unexpected(PipeFault{word.at, near.empty() ? sallyport::format("unknown pipe \"{}\"; \"| ?\" lists them", word.text)
                                                           : sallyport::format("unknown pipe \"{}\"; did you mean \"{}\"?", word.text, near.front())});
}

/// One stage: `words` is what stands behind its bar.
std::expected<Pipe, PipeFault> parse_pipe(std::span<const Word> words, std::size_t end) {
    if (words.empty()) return std::unexpected(PipeFault{end, "say what the result goes through; \"| ?\" lists it"});
    const auto kind = kind_of(words[0]);
    if (!kind) return std::unexpected(kind.error());
    Pipe pipe{.kind = *kind};
    std::size_t used = 1;
    const auto missing = [&](std::string_view what) { return std::unexpected(PipeFault{end, sallyport::format("{} needs {}", words[0].text, what)}); };
    switch (*kind) {
        case PipeKind::match:
        case PipeKind::except: {
            if (words.size() < 2) return missing("a regular expression");
            pipe.text = words[used++].text;
            if (const std::string problem = Regex(pipe.text).problem(); !problem.empty())
                return std::unexpected(PipeFault{words[1].at, sallyport::format("\"{}\" is not a regular expression: {}", pipe.text, problem)});
            break;
        }
        case PipeKind::save:
            if (words.size() < 2) return missing("the path of a file");
            pipe.text = words[used++].text;
            break;
        case PipeKind::last: {
            if (words.size() < 2) return missing("a number of lines");
            const auto value = number(words[used++]);
            if (!value) return std::unexpected(value.error());
            pipe.number = *value;
            break;
        }
        case PipeKind::compare: {
            if (words.size() > used && words[used].text == "rollback") {
                ++used;
                if (words.size() == used) return missing("the number of a revision");
            }
            if (words.size() > used) {
                const auto value = number(words[used++]);
                if (!value) return std::unexpected(value.error());
                pipe.number = *value;
                pipe.has_number = true;
            }
            break;
        }
        case PipeKind::display_set:
            if (words.size() < 2) return missing("\"set\" or \"json\"");
            if (words[used].text == "json") pipe.kind = PipeKind::json;
            else if (words[used].text != "set") return std::unexpected(PipeFault{words[used].at, "display takes \"set\" or \"json\""});
            ++used;
            break;
        case PipeKind::count:
        case PipeKind::no_more:
        case PipeKind::json:
            break;
    }
    if (used < words.size()) return std::unexpected(PipeFault{words[used].at, sallyport::format("\"{}\" takes no more words", words[0].text)});
    return pipe;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

}  // namespace

std::span<const PipeWord> pipe_words() {
    return kWords;
}

std::expected<Pipes, PipeFault> parse_pipes(std::span<const Word> words, std::size_t end) {
    Pipes pipes;
    while (!words.empty()) {
        const std::size_t bar = words.front().at;
        words = words.subspan(1);
        std::size_t length = 0;
        while (length < words.size() && !words[length].bar) ++length;
        auto pipe = parse_pipe(words.first(length), length < words.size() ? words[length].at : end);
        if (!pipe) return std::unexpected(pipe.error());
        words = words.subspan(length);
        if (pipes.save) return std::unexpected(PipeFault{bar, "nothing can come behind save"});
        switch (pipe->kind) {
            case PipeKind::json:
                pipes.json = true;
                break;
            case PipeKind::no_more:
                pipes.no_more = true;
                break;
            case PipeKind::save:
                pipes.save = pipe->text;
                break;
            case PipeKind::compare:
                pipes.compare = *pipe;
                break;
            case PipeKind::display_set:
                pipes.as_set = true;
                break;
            case PipeKind::match:
            case PipeKind::except:
            case PipeKind::count:
            case PipeKind::last:
                pipes.stages.push_back(std::move(*pipe));
                break;
        }
    }
    return pipes;
}

std::string filtered(std::string text, const Pipes& pipes) {
    if (pipes.stages.empty()) return text;
    std::vector<std::string> lines = lines_of(text);
    for (const Pipe& pipe : pipes.stages) {
        switch (pipe.kind) {
            case PipeKind::match:
            case PipeKind::except: {
                const Regex regex(pipe.text);
                std::erase_if(lines, [&](const std::string& line) { return regex.fits(line) != (pipe.kind == PipeKind::match); });
                break;
            }
            case PipeKind::count:
                lines = {sallyport::format("Count: {} line{}", lines.size(), lines.size() == 1 ? "" : "s")};
                break;
            case PipeKind::last:
                if (pipe.number < lines.size()) lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(pipe.number));
                break;
            case PipeKind::json:
            case PipeKind::no_more:
            case PipeKind::save:
            case PipeKind::compare:
            case PipeKind::display_set:
                break;   // not of lines
        }
    }
    text.clear();
    for (const std::string& line : lines) text += line + '\n';
    return text;
}

}  // namespace sallyport::cli
