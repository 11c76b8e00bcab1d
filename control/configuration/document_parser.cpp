#include "control/configuration/document_parser.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <optional>
#include <set>

namespace sallyport::configuration {

namespace {

using Node = Document::Node;
using Type = Document::Type;

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_name_start(char c) { return is_letter(c) || c == '*'; }
constexpr bool is_name_part(char c) { return is_name_start(c) || is_digit(c) || c == '-' || c == '_'; }

constexpr int hex_value(char c) { return is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10; }

bool equals_without_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) { return (is_letter(x) ? x | 0x20 : x) == y; });
}

struct Token {
    enum class Kind : std::uint8_t {
        end,
        name,
        equals,
        comma,
        semicolon,
        group_start,
        group_end,
        array_start,
        array_end,
        list_start,
        list_end,
        boolean,
        integer,
        integer64,
        floating,
        text,
        include,
        garbage,
    };
    Kind kind = Kind::end;
    std::size_t begin = 0, end = 0;
    int line = 1;
    bool boolean = false, hexadecimal = false;
    std::int64_t integer = 0;
    double floating = 0;
    std::string text;
};

/// What flex makes of libconfig's scanner: the longest match, the earlier rule among equals.
class Scanner {
 public:
    explicit Scanner(std::string_view text) : text_(text), tail_(text.size()) {}

    Token next() {
        skip();
        Token token;
        token.begin = at_;
        token.line = line_;
        if (at_ >= text_.size()) {
            token.end = at_;
            return token;
        }
        const char c = text_[at_];
        if (c == '@' && include(token)) return token;
        if (c == '"') return string(token);
        if (is_name_start(c)) return word(token);
        if (is_digit(c) || c == '+' || c == '-' || c == '.') return number(token);
        token.kind = sign(c);
        token.end = ++at_;
        return token;
    }

    /// Where a comment or string begins that nothing closes; else the end of the text.
    [[nodiscard]] std::size_t tail() const { return tail_; }

 private:
    [[nodiscard]] char peek(std::size_t at) const { return at < text_.size() ? text_[at] : '\0'; }

    void skip() {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '\n') ++line_;
            if (c == '\n' || c == '\r' || c == '\f' || c == ' ' || c == '\t') {
                ++at_;
            } else if (c == '#' || (c == '/' && peek(at_ + 1) == '/')) {
                at_ = std::min(text_.find('\n', at_), text_.size());
            } else if (c == '/' && peek(at_ + 1) == '*') {
                const std::size_t close = text_.find("*/", at_ + 2);
                if (close == std::string_view::npos) tail_ = at_;
                const std::size_t end = close == std::string_view::npos ? text_.size() : close + 2;
                count_lines(end);
                at_ = end;
            } else {
                return;
            }
        }
    }

    void count_lines(std::size_t end) {
        line_ += static_cast<int>(std::ranges::count(text_.substr(at_, end - at_), '\n'));
    }

    static Token::Kind sign(char c) {
        switch (c) {
            case '=':
            case ':':
                return Token::Kind::equals;
            case ',':
                return Token::Kind::comma;
            case ';':
                return Token::Kind::semicolon;
            case '{':
                return Token::Kind::group_start;
            case '}':
                return Token::Kind::group_end;
            case '[':
                return Token::Kind::array_start;
            case ']':
                return Token::Kind::array_end;
            case '(':
                return Token::Kind::list_start;
            case ')':
                return Token::Kind::list_end;
            default:
                return Token::Kind::garbage;
        }
    }

    /// ^[ \t]*@include[ \t]+" up to the closing quote.
    bool include(Token& token) {
        constexpr std::string_view kWord = "@include";
        std::size_t start = at_;
        while (start > 0 && (text_[start - 1] == ' ' || text_[start - 1] == '\t')) --start;
        if ((start > 0 && text_[start - 1] != '\n') || !text_.substr(at_).starts_with(kWord)) return false;
        std::size_t to = at_ + kWord.size();
        if (peek(to) != ' ' && peek(to) != '\t') return false;
        while (peek(to) == ' ' || peek(to) == '\t') ++to;
        if (peek(to) != '"') return false;
        for (++to; to < text_.size() && text_[to] != '"'; ++to)
            if (text_[to] == '\\') ++to;
        if (to >= text_.size()) {
            tail_ = at_;
            to = text_.size() - 1;
        }
        token.kind = Token::Kind::include;
        count_lines(to + 1);
        token.end = at_ = to + 1;
        return true;
    }

    Token string(Token& token) {
        std::size_t to = at_ + 1;
        while (to < text_.size() && text_[to] != '"') {
            if (text_[to] != '\\') {
                token.text += text_[to++];
                continue;
            }
            const char c = peek(to + 1);
            constexpr std::string_view kEscapes = "nrtf\\\"", kMeanings = "\n\r\t\f\\\"";
            if (const auto found = kEscapes.find(c); found != std::string_view::npos && to + 1 < text_.size()) {
                token.text += kMeanings[found];
                to += 2;
            } else if ((c == 'x' || c == 'X') && is_hex(peek(to + 2)) && is_hex(peek(to + 3))) {
                token.text += static_cast<char>(hex_value(text_[to + 2]) * 16 + hex_value(text_[to + 3]));
                to += 4;
            } else {
                token.text += '\\';  // libconfig takes the reverse solidus of an escape that it does not know as itself
                ++to;
            }
        }
        // A string that nothing closes is no token: the text is at its end.
        const bool closed = to < text_.size();
        if (!closed) tail_ = at_;
        token.kind = closed ? Token::Kind::text : Token::Kind::end;
        if (const auto zero = token.text.find('\0'); zero != std::string::npos) token.text.resize(zero);
        count_lines(closed ? to + 1 : to);
        token.end = at_ = closed ? to + 1 : to;
        return token;
    }

    Token word(Token& token) {
        std::size_t to = at_;
        while (to < text_.size() && is_name_part(text_[to])) ++to;
        token.text = text_.substr(at_, to - at_);
        token.kind = Token::Kind::name;
        if (equals_without_case(token.text, "true") || equals_without_case(token.text, "false")) {
            token.kind = Token::Kind::boolean;
            token.boolean = (token.text[0] | 0x20) == 't';
        }
        token.end = at_ = to;
        return token;
    }

    [[nodiscard]] std::size_t digits(std::size_t from) const {
        while (is_digit(peek(from))) ++from;
        return from;
    }
    [[nodiscard]] std::size_t exponent(std::size_t from) const {
        if ((peek(from) | 0x20) != 'e') return from;
        const std::size_t start = from + 1 + (peek(from + 1) == '+' || peek(from + 1) == '-' ? 1 : 0);
        const std::size_t to = digits(start);
        return to > start ? to : from;
    }
    [[nodiscard]] std::size_t suffix(std::size_t from) const {
        if (peek(from) != 'L') return from;
        return from + (peek(from + 1) == 'L' ? 2 : 1);
    }

    Token number(Token& token) {
        const std::size_t start = at_ + (text_[at_] == '+' || text_[at_] == '-' ? 1 : 0);
        const std::size_t whole = digits(start);
        if (text_[at_] == '0' && (peek(at_ + 1) | 0x20) == 'x' && is_hex(peek(at_ + 2))) return hexadecimal(token);
        std::size_t fraction = start;  // the end of a float; `start`: it is none
        if (peek(whole) == '.') fraction = exponent(digits(whole + 1));
        else if (whole > start && exponent(whole) > whole) fraction = exponent(whole);
        if (fraction > start) {
            token.kind = Token::Kind::floating;
            token.floating = std::strtod(std::string(text_.substr(at_, fraction - at_)).c_str(), nullptr);
            token.end = at_ = fraction;
            return token;
        }
        if (whole == start) {  // a sign alone
            token.kind = Token::Kind::garbage;
            token.end = ++at_;
            return token;
        }
        const std::string written(text_.substr(at_, whole - at_));
        char* rest = nullptr;
        errno = 0;
        if (const std::size_t end = suffix(whole); end > whole) {
            token.kind = Token::Kind::integer64;
            token.integer = std::strtoll(written.c_str(), &rest, 10);  // out of range: the nearest, as atoll()
            token.end = at_ = end;
            return token;
        }
        token.integer = std::strtoll(written.c_str(), &rest, 0);  // base 0: a leading zero means octal
        const bool good = *rest == '\0' && errno == 0;
        const bool wide = token.integer < INT_MIN || token.integer > INT_MAX;
        token.kind = !good ? Token::Kind::garbage : wide ? Token::Kind::integer64 : Token::Kind::integer;
        token.end = at_ = whole;
        return token;
    }

    Token hexadecimal(Token& token) {
        std::size_t to = at_ + 2;
        while (is_hex(peek(to))) ++to;
        const std::string written(text_.substr(at_, to - at_));
        token.hexadecimal = true;
        const unsigned long long value = std::strtoull(written.c_str(), nullptr, 16);
        const std::size_t end = suffix(to);
        token.kind = end > to ? Token::Kind::integer64 : Token::Kind::integer;
        // Without L libconfig keeps the lower 32 bits.
        token.integer = end > to ? static_cast<std::int64_t>(value) : static_cast<std::int32_t>(value);
        token.end = at_ = end;
        return token;
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t tail_;
    int line_ = 1;
};

/// libconfig's grammar by recursive descent; a token of look-ahead.
class Parser {
 public:
    Parser(std::string_view text, const std::string& file) : file_(file), scanner_(text), size_(text.size()) { take(); }

    std::expected<Node, Problem> parse() {
        Node root;
        root.type = Type::group;
        root.line = 1;
        settings(root, 0);
        if (!problem_ && token_.kind != Token::Kind::end) refuse("syntax error");
        if (problem_) return std::unexpected(std::move(*problem_));
        root.value_end = size_;
        root.end = scanner_.tail();
        return root;
    }

 private:
    void take() {
        token_end_ = token_.end;
        token_ = scanner_.next();
    }
    [[nodiscard]] bool is(Token::Kind kind) const { return token_.kind == kind; }

    void refuse(std::string wrong) {
        if (problem_) return;
        std::string right =
            "NAME = VALUE; with { } around groups, [ ] around arrays, ( ) around lists and commas between items; the mistake "
            "may be just before this line";
        if (wrong.starts_with("duplicate")) right = "each setting once";
        if (wrong.starts_with("mismatched")) right = "elements of one type in [ ]";
        if (wrong.starts_with("nested")) right = "at most " + std::to_string(Document::kMaxNesting) + " groups and lists in each other";
        problem_ = Problem{{file_, token_.line}, "", "", std::move(wrong), std::move(right), ""};
    }

    void settings(Node& group, std::size_t depth) {
        std::set<std::string, std::less<>> names;
        while (!problem_) {
            if (is(Token::Kind::include)) {
                group.includes = true;
                take();
                continue;
            }
            if (!is(Token::Kind::name)) return;
            if (!names.insert(token_.text).second) return refuse("duplicate setting name");
            Node setting;
            setting.name = token_.text;
            setting.begin = token_.begin;
            setting.line = token_.line;
            take();
            if (!is(Token::Kind::equals)) return refuse("syntax error");
            take();
            value(setting, depth);
            setting.value_end = setting.end = token_end_;
            setting.terminated = is(Token::Kind::semicolon) || is(Token::Kind::comma);
            if (setting.terminated) {
                take();
                setting.end = token_end_;
            }
            if (!problem_) group.children.push_back(std::move(setting));
        }
    }

    void value(Node& node, std::size_t depth) {
        node.value_begin = token_.begin;
        node.boolean = token_.boolean;
        node.integer = token_.integer;
        node.floating = token_.floating;
        node.hexadecimal = token_.hexadecimal;
        switch (token_.kind) {
            case Token::Kind::boolean:
                node.type = Type::boolean;
                return take();
            case Token::Kind::integer:
                node.type = Type::integer;
                return take();
            case Token::Kind::integer64:
                node.type = Type::integer64;
                return take();
            case Token::Kind::floating:
                node.type = Type::floating;
                return take();
            case Token::Kind::text:
                node.type = Type::text;
                for (; is(Token::Kind::text); take()) node.text += token_.text;
                return;
            case Token::Kind::include:
                node.type = Type::included;
                return take();
            case Token::Kind::group_start:
                node.type = Type::group;
                return enclosed(node, depth, Token::Kind::group_end);
            case Token::Kind::array_start:
                node.type = Type::array;
                return enclosed(node, depth, Token::Kind::array_end);
            case Token::Kind::list_start:
                node.type = Type::list;
                return enclosed(node, depth, Token::Kind::list_end);
            case Token::Kind::end:
            case Token::Kind::name:
            case Token::Kind::equals:
            case Token::Kind::comma:
            case Token::Kind::semicolon:
            case Token::Kind::group_end:
            case Token::Kind::array_end:
            case Token::Kind::list_end:
            case Token::Kind::garbage:
                return refuse("syntax error");
        }
    }

    void enclosed(Node& node, std::size_t depth, Token::Kind close) {
        if (depth >= Document::kMaxNesting) return refuse("nested too deep");
        take();
        if (node.type == Type::group) settings(node, depth + 1);
        else items(node, depth + 1, close);
        if (problem_) return;
        if (!is(close)) return refuse("syntax error");
        take();
    }

    void items(Node& node, std::size_t depth, Token::Kind close) {
        bool may_follow = true;  // an item, as the first one or behind a comma or an @include
        while (!problem_ && !is(close)) {
            if (is(Token::Kind::include)) {
                node.includes = true;
                may_follow = true;
                take();
            } else if (is(Token::Kind::comma)) {
                if (node.children.empty() && !node.includes) return refuse("syntax error");
                if (!node.children.empty() && node.children.back().comma == 0) node.children.back().comma = token_.begin;
                may_follow = true;
                take();
            } else {
                if (!may_follow) return refuse("syntax error");
                item(node, depth);
                may_follow = false;
            }
        }
    }

    void item(Node& parent, std::size_t depth) {
        const bool nested = is(Token::Kind::group_start) || is(Token::Kind::array_start) || is(Token::Kind::list_start);
        if (parent.type == Type::array && nested) return refuse("syntax error");
        Node node;
        node.begin = token_.begin;
        node.line = token_.line;
        value(node, depth);
        if (problem_) return;
        node.value_end = node.end = token_end_;
        if (parent.type == Type::array && !parent.children.empty() && parent.children.front().type != node.type)
            return refuse("mismatched element type in array");
        parent.children.push_back(std::move(node));
    }

    const std::string& file_;
    Scanner scanner_;
    std::size_t size_;
    Token token_;
    std::size_t token_end_ = 0;  ///< of the token before
    std::optional<Problem> problem_;
};

}  // namespace

std::expected<Document::Node, Problem> parse_document(std::string_view text, const std::string& file) {
    if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
        const int line = 1 + static_cast<int>(std::ranges::count(text.substr(0, zero), '\n'));
        return std::unexpected(Problem{{file, line}, "", "", "there is a zero octet in the file", "text", ""});
    }
    return Parser(text, file).parse();
}

}  // namespace sallyport::configuration
