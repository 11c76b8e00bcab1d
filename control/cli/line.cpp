#include "control/cli/line.h"

namespace sallyport::cli {

namespace {

bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

}  // namespace

Line split(std::string_view text) {
    Line line;
    std::size_t i = 0;
    while (i < text.size()) {
        if (is_blank(text[i])) {
            ++i;
            continue;
        }
        Word word{.at = i};
        if (text[i] == '|') {
            word.text = "|";
            word.end = ++i;
            word.bar = true;
            line.words.push_back(std::move(word));
            continue;
        }
        char quote = 0;
        std::size_t opened = 0;
        for (; i < text.size(); ++i) {
            const char c = text[i];
            if (quote == 0 && (is_blank(c) || c == '|')) break;
            if (c == '\\' && quote != '\'') {
                if (i + 1 < text.size()) word.text += text[++i];
                word.quoted = true;
            } else if (quote == 0 && (c == '"' || c == '\'')) {
                quote = c;
                opened = i;
                word.quoted = true;
            } else if (c == quote) {
                quote = 0;
            } else {
                word.text += c;
            }
        }
        word.end = i;
        if (quote != 0) line.open_quote = opened;
        line.open_word = i == text.size();
        line.words.push_back(std::move(word));
    }
    if (!text.empty() && is_blank(text.back()) && !line.open_quote) line.open_word = false;
    return line;
}

Line from_arguments(const std::vector<std::string>& arguments) {
    Line line;
    std::size_t at = 0;
    for (const std::string& argument : arguments) {
        const bool bar = argument == "|";
        const std::size_t length = bar ? 1 : in_quotes(argument).size();
        line.words.push_back({.text = argument, .at = at, .end = at + length, .quoted = argument.empty(), .bar = bar});
        at += length + 1;
    }
    return line;
}

std::string in_quotes(std::string_view word) {
    bool plain = !word.empty();
    for (const char c : word)
        if (is_blank(c) || c == '"' || c == '\'' || c == '\\' || c == '|') plain = false;
    if (plain) return std::string(word);
    std::string text = "\"";
    for (const char c : word) {
        if (c == '"' || c == '\\') text += '\\';
        text += c;
    }
    return text + '"';
}

std::string text_of(const std::vector<Word>& words) {
    std::string text;
    for (const Word& word : words) {
        if (!text.empty()) text += ' ';
        text += word.bar ? "|" : in_quotes(word.text);
    }
    return text;
}

}  // namespace sallyport::cli
