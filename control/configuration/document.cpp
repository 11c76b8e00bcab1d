#include "control/configuration/document.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <utility>

#include "control/channel/address.h"
#include "control/configuration/document_parser.h"
#include "control/configuration/reader.h"
#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::configuration {

namespace {

using Node = Document::Node;
using Type = Document::Type;
using Words = std::span<const std::string>;

std::string joined(Words words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : " ") + quoted_word(word);
    return text;
}

std::unexpected<WordError> bad_path(std::string text) { return std::unexpected(WordError{"bad_path", std::move(text)}); }
std::unexpected<WordError> bad_value(std::string text) { return std::unexpected(WordError{"bad_value", std::move(text)}); }

bool is_array(const Setting& setting) { return setting.kind == Kind::integers || setting.kind == Kind::texts; }
bool is_leaf(const Setting& setting) { return setting.kind != Kind::group && setting.kind != Kind::groups; }

const Setting* member_of(const Setting& group, std::string_view name) {
    const auto found = std::ranges::find(group.members, name, &Setting::name);
    return found == group.members.end() ? nullptr : &*found;
}

std::vector<std::string_view> names_of(const Setting& group) {
    std::vector<std::string_view> names;
    for (const Setting& member : group.members) names.push_back(member.name);
    return names;
}

const char* type_name(Type type) {
    switch (type) {
        case Type::boolean:
            return "a boolean";
        case Type::integer:
        case Type::integer64:
            return "an integer";
        case Type::floating:
            return "a number with a fraction";
        case Type::text:
            return "a string";
        case Type::group:
            return "a group";
        case Type::array:
            return "an array";
        case Type::list:
            return "a list";
        case Type::included:
            return "taken in by @include";
    }
    return "";
}

bool has_type_of(const Node& node, const Setting& setting) {
    switch (setting.kind) {
        case Kind::boolean:
            return node.type == Type::boolean;
        case Kind::integer:
            return node.type == Type::integer || node.type == Type::integer64;
        case Kind::text:
            return node.type == Type::text;
        case Kind::integers:
        case Kind::texts:
            return node.type == Type::array || node.type == Type::list;
        case Kind::group:
            return node.type == Type::group;
        case Kind::groups:
            return node.type == Type::list;
    }
    return false;
}

/// As a word of a path.
std::string word_of(const Node& node) {
    switch (node.type) {
        case Type::boolean:
            return node.boolean ? "true" : "false";
        case Type::integer:
        case Type::integer64:
            return std::to_string(node.integer);
        case Type::floating:
            return sallyport::format("{}", node.floating);
        case Type::text:
            return node.text;
        case Type::group:
        case Type::array:
        case Type::list:
        case Type::included:
            break;
    }
    return "";
}

/// In libconfig's quotes.
std::string string_literal(std::string_view text) {
    std::string literal = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') literal += '\\';
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) literal += sallyport::format("\\x{:02x}", static_cast<unsigned char>(c));
        else literal += c;
    }
    return literal + "\"";
}

std::string range_of(const Setting& setting) { return sallyport::format("{} to {}", setting.least, setting.most); }

std::string with_default(const Setting& setting) {
    std::string help = setting.documentation;
    if (setting.kind == Kind::integer || setting.kind == Kind::integers) help += "; " + range_of(setting);
    if (is_leaf(setting) && setting.fallback[0] != '\0') help += sallyport::format(" (default {})", setting.fallback);
    return help;
}

/// A word as the setting's value in libconfig's spelling, by the rules of the reader.
std::expected<std::string, WordError> literal_of(const Setting& setting, const std::string& word, Words path) {
    const std::string what = sallyport::format("{} = {}", joined(path), in_quotes(word));
    switch (setting.kind) {
        case Kind::boolean:
            if (word == "true" || word == "false") return word;
            return bad_value(what + ": is no boolean; true or false");
        case Kind::integer:
        case Kind::integers: {
            std::int64_t value = 0;
            const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
            if (error == std::errc::invalid_argument || end != word.data() + word.size())
                return bad_value(what + ": is no decimal number; " + range_of(setting));
            if (error != std::errc{} || value < setting.least || value > setting.most)
                return bad_value(what + (value < setting.least ? ": is too small; " : ": is too large; ") + range_of(setting));
            return std::to_string(value);
        }
        case Kind::text:
        case Kind::texts: {
            const std::size_t least = setting.kind == Kind::texts ? 1 : setting.least_items;
            const std::size_t most = setting.kind == Kind::texts ? 4095 : setting.most_items;
            if (!setting.choices.empty() && !std::ranges::contains(setting.choices, word)) {
                const std::vector<std::string_view> choices(setting.choices.begin(), setting.choices.end());
                const std::string_view near = nearest(word, choices);
                return bad_value(what + ": is not known" + (near.empty() ? "" : sallyport::format(" (is \"{}\" meant?)", near)) + "; " + one_of(choices));
            }
            if (word.size() < least) return bad_value(what + ": is empty; " + setting.documentation);
            if (word.size() > most) return bad_value(sallyport::format("{}: is longer than {} octets; {}", joined(path), most, setting.documentation));
            if (std::ranges::any_of(word, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
                return bad_value(what + ": has control characters in it; text without them");
            return string_literal(word);
        }
        case Kind::group:
        case Kind::groups:
            break;
    }
    return bad_path(joined(path) + " is no setting with a value");
}

/// "[3]" as 3.
std::optional<std::size_t> position_of(std::string_view word) {
    if (word.size() < 3 || word.front() != '[' || word.back() != ']') return std::nullopt;
    std::size_t position = 0;
    const auto [end, error] = std::from_chars(word.data() + 1, word.data() + word.size() - 1, position);
    if (error != std::errc{} || end != word.data() + word.size() - 1) return std::nullopt;
    return position;
}

/// What a written element is called in paths: its key, or its place where it has none or shares it.
std::vector<std::string> plain_key(const Setting& list, const Node& element) {
    std::vector<std::string> words;
    const auto text_of = [&](const Setting* setting) -> const Node* {
        const Node* const node = element.find(setting->name);
        return node != nullptr && node->type == Type::text ? node : nullptr;
    };
    const auto keys = key_of(list);
    if (!list.keys.empty()) {
        for (const Setting* key : keys) {
            const Node* const node = text_of(key);
            if (node == nullptr) return {};
            words.push_back(node->text);
        }
        return words;
    }
    for (const Setting* key : keys)
        if (const Node* const node = text_of(key)) return {node->text};
    return {};
}

std::vector<std::vector<std::string>> keys_of_elements(const Setting& list, const Node& node) {
    std::vector<std::vector<std::string>> keys;
    for (const Node& element : node.children) keys.push_back(plain_key(list, element));
    std::vector<std::vector<std::string>> sorted = keys;
    std::ranges::sort(sorted);
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const auto [first, last] = std::ranges::equal_range(sorted, keys[i]);
        // A key that looks like a position would be taken for one.
        if (keys[i].empty() || last - first > 1 || position_of(keys[i].front())) keys[i] = {sallyport::format("[{}]", i)};
    }
    return keys;
}

/// A step down from the root: a member of a group, or an element of a list.
struct Step {
    const Setting* setting = nullptr;
    bool element = false;
    const Node* node = nullptr;        ///< nullptr: not written
    std::vector<std::string> key{};    ///< of an element that is to be made: its words
    std::size_t index = 0;             ///< of the node among its siblings
};

struct Walk {
    std::vector<Step> steps;  ///< the first is the root
    Words values;             ///< behind an array's or a value's path
    [[nodiscard]] const Step& last() const { return steps.back(); }
};

std::string element_list(const Setting& list, const Node* node) {
    std::string text;
    std::size_t count = 0;
    if (node != nullptr)
        for (const auto& key : keys_of_elements(list, *node)) {
            if (++count > 8) return text + ", ...";
            text += (text.empty() ? "" : ", ") + joined(key);
        }
    return text.empty() ? "there are none" : "there are " + text;
}

std::expected<Step, WordError> element_step(const Step& list, Words words, std::size_t& used) {
    const Words rest = words.subspan(used);
    const Words path = words.first(used);
    Step step{.setting = list.setting, .element = true};
    const auto found = [&](std::size_t index) {
        step.node = &list.node->children[index];
        step.index = index;
    };
    if (const auto position = position_of(rest[0])) {
        ++used;
        const std::size_t count = list.node != nullptr ? list.node->children.size() : 0;
        if (*position >= count) return bad_path(sallyport::format("{} has {} elements, counted from [0]", joined(path), count));
        found(*position);
    } else {
        const auto keys = key_of(*list.setting);
        const std::size_t length = list.setting->keys.empty() ? 1 : keys.size();
        if (rest.size() < length)
            return bad_path(sallyport::format("{} names its elements by {} and {}", joined(path), keys[0]->name, keys[1]->name));
        step.key.assign(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(length));
        used += length;
        std::size_t matches = 0;
        for (std::size_t i = 0; list.node != nullptr && i < list.node->children.size(); ++i) {
            if (plain_key(*list.setting, list.node->children[i]) != step.key) continue;
            ++matches;
            found(i);
        }
        if (matches > 1) return bad_path(sallyport::format("{} {} is there {} times; name one by its place, such as [{}]", joined(path), joined(step.key), matches, step.index));
        // A member that has a name can be found by its address too.
        for (std::size_t i = 0; matches == 0 && length == 1 && keys.size() > 1 && list.node != nullptr && i < list.node->children.size(); ++i) {
            const Node* const other = list.node->children[i].find(keys[1]->name);
            if (other == nullptr || other->type != Type::text || other->text != step.key[0]) continue;
            found(i);
            break;
        }
    }
    if (step.node != nullptr && step.node->type != Type::group)
        return bad_path(sallyport::format("{} is {} at line {}; a group: {{ ... }}", joined(words.first(used)), type_name(step.node->type), step.node->line));
    return step;
}

std::expected<Walk, WordError> walk(const Node& root, Words words) {
    Walk walk;
    walk.steps.push_back({.setting = &schema(), .node = &root});
    std::size_t used = 0;
    while (used < words.size()) {
        const Step& at = walk.last();
        if (at.setting->kind == Kind::groups && !at.element) {
            auto step = element_step(at, words, used);
            if (!step) return std::unexpected(std::move(step.error()));
            walk.steps.push_back(std::move(*step));
            continue;
        }
        if (is_leaf(*at.setting)) {
            walk.values = words.subspan(used);
            break;
        }
        const Setting* const member = member_of(*at.setting, words[used]);
        if (member == nullptr) {
            const auto names = names_of(*at.setting);
            const std::string_view near = nearest(words[used], names);
            return bad_path(sallyport::format("{}: there is no such setting; {}", joined(words.first(used + 1)),
                                              near.empty() ? one_of(names) : "probably " + std::string(near)));
        }
        Step step{.setting = member, .node = at.node != nullptr ? at.node->find(member->name) : nullptr};
        if (step.node != nullptr) step.index = static_cast<std::size_t>(step.node - at.node->children.data());
        ++used;
        if (step.node != nullptr && !is_leaf(*member) && !has_type_of(*step.node, *member))
            return bad_path(sallyport::format("{} is {} at line {}; delete it first", joined(words.first(used)), type_name(step.node->type), step.node->line));
        walk.steps.push_back(std::move(step));
    }
    return walk;
}

/// Adds the lines of `set` that make a node of `setting` (of an element: of the list's setting).
void set_lines(const Setting& setting, bool element, const Node& node, std::vector<std::string>& path, std::vector<Document::Entry>& to) {
    if (setting.kind == Kind::groups && !element) {
        if (node.type != Type::list) return;
        const auto keys = keys_of_elements(setting, node);
        for (std::size_t i = 0; i < keys.size(); ++i) {
            if (node.children[i].type != Type::group) continue;
            path.insert(path.end(), keys[i].begin(), keys[i].end());
            set_lines(setting, true, node.children[i], path, to);
            path.resize(path.size() - keys[i].size());
        }
        return;
    }
    if (!is_leaf(setting)) {
        if (node.type != Type::group) return;
        if (!path.empty()) to.push_back({.path = path, .container = true, .array = false, .values = {}});
        for (const Node& child : node.children) {
            const Setting* const member = member_of(setting, child.name);
            if (member == nullptr) continue;
            path.emplace_back(member->name);
            set_lines(*member, false, child, path, to);
            path.pop_back();
        }
        return;
    }
    if (!has_type_of(node, setting)) return;
    Document::Entry entry{.path = path, .container = false, .array = is_array(setting), .values = {}};
    if (!entry.array) {
        entry.values.push_back(word_of(node));
    } else {
        for (const Node& item : node.children) entry.values.push_back(word_of(item));
    }
    to.push_back(std::move(entry));
}

void find_strangers(const Setting& setting, bool element, const Node& node, const std::string& path, std::vector<std::string>& to) {
    const bool list = setting.kind == Kind::groups && !element;
    if (element ? node.type != Type::group : !has_type_of(node, setting)) {
        to.push_back(sallyport::format("{}: {}: is {}", node.line, path, type_name(node.type)));
    } else if (list) {
        for (std::size_t i = 0; i < node.children.size(); ++i) find_strangers(setting, true, node.children[i], sallyport::format("{}.[{}]", path, i), to);
    } else if (!is_leaf(setting)) {
        for (const Node& child : node.children) {
            const std::string name = path.empty() ? child.name : path + "." + child.name;
            if (const Setting* const member = member_of(setting, child.name)) find_strangers(*member, false, child, name, to);
            else to.push_back(sallyport::format("{}: {}: there is no such setting; {}", child.line, name, one_of(names_of(setting))));
        }
    } else if (is_array(setting)) {
        const auto wrong = [&](const Node& item) { return setting.kind == Kind::texts ? item.type != Type::text : item.type != Type::integer && item.type != Type::integer64; };
        for (const Node& item : node.children)
            if (wrong(item)) to.push_back(sallyport::format("{}: {}: holds {}", item.line, path, type_name(item.type)));
    }
}

/// Lists of groups that are too large for a line: their elements are written with a line for each setting.
bool is_large(const Setting& list) { return list.members.size() > 4; }

}  // namespace

/// One edit of a document's text, octet by octet; the tree is parsed anew afterwards.
class Editor {
 public:
    explicit Editor(Document& document) : document_(document), text_(document.text_) {}

    std::expected<void, WordError> set(Words words) {
        auto walked = walk(document_.root_, words);
        if (!walked) return std::unexpected(std::move(walked.error()));
        const Step& last = walked->last();
        if (words.empty()) return bad_path("set what? " + one_of(names_of(schema())));
        const Words path = words.first(words.size() - walked->values.size());
        if (last.setting->kind == Kind::groups && !last.element)
            return bad_path(joined(words) + ": which one? " + element_list(*last.setting, last.node));
        std::vector<std::string> literals;
        if (is_leaf(*last.setting)) {
            if (!is_array(*last.setting) && walked->values.size() != 1)
                return bad_value(sallyport::format("{}: {}; {}", joined(path), walked->values.empty() ? "a value is missing" : "more than one value is given",
                                                   with_default(*last.setting)));
            for (const std::string& value : walked->values) {
                auto literal = literal_of(*last.setting, value, path);
                if (!literal) return std::unexpected(std::move(literal.error()));
                if (!std::ranges::contains(literals, *literal)) literals.push_back(std::move(*literal));
            }
        }
        if (last.node == nullptr) return make(*walked, literals, words);
        if (!is_leaf(*last.setting)) return {};  // the group is there
        if (!is_array(*last.setting)) {
            if (!(has_type_of(*last.node, *last.setting) && !last.node->hexadecimal && word_of(*last.node) == walked->values[0]))
                replace(last.node->value_begin, last.node->value_end - last.node->value_begin, literals[0]);
            return finish(words);
        }
        if (!has_type_of(*last.node, *last.setting))
            return bad_path(sallyport::format("{} is {} at line {}; delete it first", joined(path), type_name(last.node->type), last.node->line));
        return add_items(words, walked->values, literals);
    }

    std::expected<void, WordError> remove(Words words) {
        if (words.empty()) return bad_path("delete what? " + one_of(names_of(schema())));
        auto walked = walk(document_.root_, words);
        if (!walked) return std::unexpected(std::move(walked.error()));
        const Step& last = walked->last();
        if (last.node == nullptr) {
            const Step& parent = walked->steps[walked->steps.size() - 2];
            return bad_path(joined(words) + " is not there" +
                            (last.element && parent.node != nullptr ? "; " + element_list(*last.setting, parent.node) : std::string()));
        }
        if (walked->values.empty()) {
            const Step& parent = walked->steps[walked->steps.size() - 2];
            if (last.element) erase_item(*parent.node, last.index);
            else erase_setting(*last.node);
            return finish(words);
        }
        const Words path = words.first(words.size() - walked->values.size());
        if (!is_array(*last.setting)) {
            if (walked->values.size() > 1 || word_of(*last.node) != walked->values[0])
                return bad_value(sallyport::format("{} is {}, not {}", joined(path), quoted_word(word_of(*last.node)), joined(walked->values)));
            erase_setting(*last.node);
            return finish(words);
        }
        for (const std::string& value : walked->values) {
            const auto again = walk(document_.root_, path);
            SALLYPORT_CHECK(again && again->last().node != nullptr);
            const Node& array = *again->last().node;
            const auto found = std::ranges::find_if(array.children, [&](const Node& item) { return word_of(item) == value; });
            if (found == array.children.end()) return bad_value(sallyport::format("{} has no {}", joined(path), quoted_word(value)));
            erase_item(array, static_cast<std::size_t>(found - array.children.begin()));
            if (auto done = finish(words); !done) return done;
        }
        return {};
    }

 private:
    void replace(std::size_t at, std::size_t length, std::string_view with) { text_.replace(at, length, with); }

    /// Parses the text as it is now; else the document stays what it was.
    std::expected<void, WordError> finish(Words words) {
        auto parsed = parse_document(text_, "");
        if (!parsed) {
            text_ = document_.text_;
            return bad_value(joined(words) + " cannot be written into this text: " + parsed.error().wrong);
        }
        document_.text_ = text_;
        document_.root_ = std::move(*parsed);
        return {};
    }

    [[nodiscard]] std::size_t line_start(std::size_t at) const {
        const auto found = at == 0 ? std::string::npos : text_.rfind('\n', at - 1);
        return found == std::string::npos ? 0 : found + 1;
    }
    [[nodiscard]] std::string indentation(std::size_t at) const {
        const std::size_t start = line_start(at);
        const std::size_t end = std::min(text_.find_first_not_of(" \t", start), text_.size());
        return text_.substr(start, std::min(end, at) - start);
    }
    [[nodiscard]] bool begins_line(std::size_t at) const {
        return text_.find_first_not_of(" \t", line_start(at)) == at;
    }
    /// Behind a comment that ends the line; `at` where there is none.
    [[nodiscard]] std::size_t behind_comment(std::size_t at) const {
        const std::size_t from = text_.find_first_not_of(" \t", at);
        if (from == std::string::npos) return at;
        const std::string_view rest = std::string_view(text_).substr(from);
        std::size_t end = at;
        if (rest.starts_with('#') || rest.starts_with("//")) {
            end = std::min(text_.find('\n', from), text_.size());
            if (end > from && text_[end - 1] == '\r') --end;
        } else if (rest.starts_with("/*")) {
            const auto close = text_.find("*/", from + 2);
            if (close == std::string::npos || text_.substr(from, close - from).contains('\n')) return at;
            const auto next = text_.find_first_not_of(" \t\r", close + 2);
            if (next == std::string::npos || text_[next] == '\n') end = close + 2;
        }
        return end;
    }
    [[nodiscard]] std::string newline() const { return text_.contains("\r\n") ? "\r\n" : "\n"; }

    /// One step of indentation, as the file has it.
    [[nodiscard]] std::string unit() const {
        for (const Node& setting : document_.root_.children) {
            if (setting.children.empty() || !begins_line(setting.children.front().begin)) continue;
            const std::string outer = indentation(setting.begin), inner = indentation(setting.children.front().begin);
            if (inner.size() > outer.size() && inner.starts_with(outer)) return inner.substr(outer.size());
        }
        return "    ";
    }

    /// A member's text as its siblings are written: "name = " or "name: ".
    [[nodiscard]] std::string named(const Setting& setting, const Node* group) const {
        std::string between = " = ";
        if (group != nullptr)
            for (const Node& sibling : group->children) {
                const bool alike = (sibling.type == Type::group) == (setting.kind == Kind::group);
                const std::size_t name_end = sibling.begin + sibling.name.size();
                const std::string written = text_.substr(name_end, sibling.value_begin - name_end);
                if (alike && written.size() <= 3 && written.find_first_not_of(" =:") == std::string::npos) between = written;
            }
        return std::string(setting.name) + between;
    }

    // --- what is not there yet

    /// The settings that give a new element its key.
    static std::vector<std::string> key_settings(const Step& step) {
        const auto keys = key_of(*step.setting);
        std::vector<std::string> settings;
        if (step.setting->keys.empty()) {
            // Without a name a member is called by its address; so an address is taken for one.
            const bool second = keys.size() > 1 && SocketAddress::parse(step.key[0]).has_value();
            settings.push_back(sallyport::format("{} = {};", keys[second ? 1 : 0]->name, string_literal(step.key[0])));
        } else {
            for (std::size_t i = 0; i < keys.size(); ++i) settings.push_back(sallyport::format("{} = {};", keys[i]->name, string_literal(step.key[i])));
        }
        return settings;
    }

    /// `lines`: with a line for each setting; `indent`: of the line that the text begins on.
    [[nodiscard]] std::string value_text(std::span<const Step> steps, const std::vector<std::string>& literals, const std::string& indent, bool lines) const {
        const Step& step = steps.front();
        const std::span<const Step> rest = steps.subspan(1);
        if (step.element) {
            std::vector<std::string> settings = key_settings(step);
            const bool is_key = !rest.empty() && std::ranges::any_of(settings, [&](const std::string& s) { return s.starts_with(std::string(rest.front().setting->name) + " ="); });
            if (!rest.empty() && !is_key)
                settings.push_back(std::string(rest.front().setting->name) + " = " + value_text(rest, literals, indent + unit(), false) + ";");
            std::string text = "{";
            for (const std::string& setting : settings) text += (lines ? newline() + indent + unit() : " ") + setting;
            return text + (lines ? newline() + indent : " ") + "}";
        }
        if (step.setting->kind == Kind::groups) {
            if (rest.empty()) return "( )";
            const bool large = is_large(*step.setting);
            if (indent.empty()) return "(" + newline() + unit() + value_text(rest, literals, unit(), large) + newline() + ")";
            return "( " + value_text(rest, literals, indent, false) + " )";
        }
        if (step.setting->kind == Kind::group) {
            if (rest.empty()) return "{ }";
            return "{ " + std::string(rest.front().setting->name) + " = " + value_text(rest, literals, indent + unit(), false) + "; }";
        }
        if (!is_array(*step.setting)) return literals.at(0);
        std::string text = "[";
        for (const std::string& literal : literals) text += (text.size() > 1 ? ", " : " ") + literal;
        return text + " ]";
    }

    std::expected<void, WordError> make(const Walk& walked, const std::vector<std::string>& literals, Words words) {
        const auto missing = std::ranges::find_if(walked.steps, [](const Step& step) { return step.node == nullptr; });
        const std::size_t first = static_cast<std::size_t>(missing - walked.steps.begin());
        const std::span<const Step> steps = std::span(walked.steps).subspan(first);
        const Node& parent = *walked.steps[first - 1].node;
        if (steps.front().element) {
            for (const std::string& word : steps.front().key)
                if (auto good = literal_of(*key_of(*steps.front().setting)[0], word, words.first(1)); !good && word.empty())
                    return bad_path(joined(words) + ": an element cannot be called \"\"");
            add_element(parent, steps, literals);
        } else {
            add_setting(parent, steps, literals);
        }
        if (auto done = finish(words); !done) return done;
        // The key's own setting may have been asked for with another value than the key.
        const auto again = walk(document_.root_, words);
        if (again && again->last().node != nullptr && is_leaf(*again->last().setting) && !is_array(*again->last().setting) &&
            word_of(*again->last().node) != again->values[0])
            return set(words);
        return {};
    }

    void add_setting(const Node& group, std::span<const Step> steps, const std::vector<std::string>& literals) {
        const bool is_root = &group == &document_.root_;
        const std::string name = named(*steps.front().setting, &group);
        const auto setting_at = [&](const std::string& indent) { return name + value_text(steps, literals, indent, false) + ";"; };
        if (!group.children.empty()) {
            const Node& last = group.children.back();
            const bool line = is_root || begins_line(last.begin);
            if (line) {
                const std::size_t at = behind_comment(last.end);
                const std::string indent = is_root ? std::string() : indentation(last.begin);
                replace(at, 0, newline() + indent + setting_at(indent));
            } else {
                replace(last.end, 0, " " + setting_at(indentation(last.begin) + unit()));
            }
            if (!last.terminated) replace(last.value_end, 0, ";");
            return;
        }
        if (is_root) {
            const bool fresh_line = group.end == 0 || text_[group.end - 1] == '\n';
            replace(group.end, 0, (fresh_line ? "" : newline()) + setting_at("") + newline());
            return;
        }
        add_first(group, [&](const std::string& indent) { return setting_at(indent); });
    }

    /// Into a group, list or array that has nothing in it but comments.
    void add_first(const Node& node, const std::function<std::string(const std::string& indent)>& text_at) {
        const std::size_t open = node.value_begin + 1, close = node.value_end - 1;
        const std::string inside = text_.substr(open, close - open);
        if (inside.find_first_not_of(" \t") == std::string::npos) return replace(open, inside.size(), " " + text_at(indentation(node.begin) + unit()) + " ");
        if (inside.contains('\n') && begins_line(close)) {
            const std::size_t comment = text_.find_first_not_of(" \t\r\n", open);
            const std::string indent = comment < close && begins_line(comment) ? indentation(comment) : indentation(close) + unit();
            return replace(line_start(close), 0, indent + text_at(indent) + newline());
        }
        replace(close, 0, " " + text_at(indentation(node.begin) + unit()) + " ");
    }

    void add_element(const Node& list, std::span<const Step> steps, const std::vector<std::string>& literals) {
        const auto element = [&](const std::string& indent, bool lines) { return value_text(steps, literals, indent, lines); };
        if (list.children.empty()) {
            const bool lines = is_large(*steps.front().setting) && text_.substr(list.value_begin, list.value_end - list.value_begin).contains('\n');
            return add_first(list, [&](const std::string& indent) { return element(indent, lines); });
        }
        const Node& last = list.children.back();
        const bool lines = !last.children.empty() && begins_line(last.children.front().begin);
        add_last(list, [&](const std::string& indent, bool line) { return element(indent, line && lines); });
    }

    /// Behind the last item.
    void add_last(const Node& list, const std::function<std::string(const std::string& indent, bool line)>& text_at) {
        const Node& last = list.children.back();
        const std::size_t end = last.comma != 0 ? last.comma + 1 : last.value_end;
        if (begins_line(last.begin)) {
            const std::string indent = indentation(last.begin);
            replace(behind_comment(end), 0, newline() + indent + text_at(indent, true));
        } else {
            replace(end, 0, " " + text_at(indentation(last.begin), false));
        }
        if (last.comma == 0) replace(last.value_end, 0, ",");
    }

    std::expected<void, WordError> add_items(Words words, Words values, const std::vector<std::string>& literals) {
        const Words path = words.first(words.size() - values.size());
        for (const std::string& literal : literals) {
            const auto again = walk(document_.root_, path);
            SALLYPORT_CHECK(again && again->last().node != nullptr);
            const Node& array = *again->last().node;
            const auto parsed = parse_document("x=" + literal, "");
            SALLYPORT_CHECK(parsed.has_value());
            if (std::ranges::any_of(array.children, [&](const Node& item) { return word_of(item) == word_of(parsed->children[0]); })) continue;
            if (array.children.size() >= again->last().setting->most_items)
                return bad_value(sallyport::format("{} has {} items already, the most that there can be", joined(path), array.children.size()));
            if (array.children.empty()) add_first(array, [&](const std::string&) { return literal; });
            else add_last(array, [&](const std::string&, bool) { return literal; });
            if (auto done = finish(words); !done) return done;
        }
        return {};
    }

    // --- taking out

    /// Takes out [begin, end): with its lines where nothing else stands on them, else with the blanks before it.
    void erase(std::size_t begin, std::size_t end) {
        if (begins_line(begin)) {
            const std::size_t behind = behind_comment(end);
            const std::size_t next = text_.find_first_not_of(" \t\r", behind);
            if (next == std::string::npos) return replace(line_start(begin), text_.size() - line_start(begin), "");
            if (text_[next] == '\n') return replace(line_start(begin), next + 1 - line_start(begin), "");
            const std::size_t other = text_.find_first_not_of(" \t", end);
            return replace(begin, other - begin, "");
        }
        std::size_t from = begin;
        while (from > 0 && (text_[from - 1] == ' ' || text_[from - 1] == '\t')) --from;
        // What is left and right of the gap must not become one word.
        constexpr std::string_view kApart = " \t\r\n;,{}[]()";
        const bool apart = end >= text_.size() || kApart.contains(text_[end]) || from == 0 || (from == begin && kApart.contains(text_[from - 1]));
        if (!apart && from < begin) ++from;
        replace(from, end - from, apart || from < begin || kApart.contains(text_[from - 1]) ? "" : " ");
    }

    void erase_setting(const Node& setting) { erase(setting.begin, setting.end); }

    void erase_item(const Node& list, std::size_t index) {
        const Node& item = list.children[index];
        const bool last = index + 1 == list.children.size();
        std::size_t end = item.value_end;
        if (item.comma != 0) {
            const std::string between = text_.substr(item.value_end, item.comma - item.value_end);
            if (between.find_first_not_of(" \t\r\n") == std::string::npos) {
                end = item.comma + 1;
            } else {
                replace(item.comma, 1, "");  // a comment stands between them
            }
        }
        erase(item.begin, end);
        if (last && item.comma == 0 && index > 0 && list.children[index - 1].comma != 0 && !list.includes)
            replace(list.children[index - 1].comma, 1, "");
    }

    Document& document_;
    std::string text_;
};

const Node* Document::Node::find(std::string_view child) const {
    if (type != Type::group) return nullptr;
    const auto found = std::ranges::find(children, child, &Node::name);
    return found == children.end() ? nullptr : &*found;
}

std::expected<Document, Problem> Document::parse(std::string text, const std::string& file) {
    auto root = parse_document(text, file);
    if (!root) return std::unexpected(std::move(root.error()));
    return Document(std::move(text), std::move(*root));
}

std::expected<void, WordError> Document::set(Words words) {
    Document copy = *this;  // several items may be added: all or none
    auto done = Editor(copy).set(words);
    if (done) *this = std::move(copy);
    return done;
}

std::expected<void, WordError> Document::remove(Words words) {
    Document copy = *this;
    auto done = Editor(copy).remove(words);
    if (done) *this = std::move(copy);
    return done;
}

std::expected<std::string, WordError> Document::show(Words words) const {
    const auto walked = walk(root_, words);
    if (!walked) return std::unexpected(walked.error());
    if (words.empty()) return text_;
    const Step& last = walked->last();
    if (!walked->values.empty()) return bad_path(joined(words) + ": the path ends before " + quoted_word(walked->values[0]));
    if (last.node == nullptr) return std::string();
    // From the beginning of its line, so that its lines stand as they do in the file.
    const std::size_t start = last.node->begin == 0 ? std::string::npos : text_.rfind('\n', last.node->begin - 1);
    const std::size_t line = start == std::string::npos ? 0 : start + 1;
    const bool alone = text_.find_first_not_of(" \t", line) == last.node->begin;
    return text_.substr(alone ? line : last.node->begin, last.node->end - (alone ? line : last.node->begin)) + "\n";
}

std::expected<std::string, WordError> Document::show_set(Words words) const {
    const auto walked = walk(root_, words);
    if (!walked) return std::unexpected(walked.error());
    const Step& last = walked->last();
    if (!walked->values.empty()) return bad_path(joined(words) + ": the path ends before " + quoted_word(walked->values[0]));
    if (last.node == nullptr) return std::string();
    std::vector<std::string> path(words.begin(), words.end());
    std::vector<Entry> found;
    set_lines(*last.setting, last.element, *last.node, path, found);
    std::string text;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const Entry& entry = found[i];
        // What has something in it is made by that.
        if (entry.container && i + 1 < found.size() && found[i + 1].path.size() > entry.path.size() && std::equal(entry.path.begin(), entry.path.end(), found[i + 1].path.begin()))
            continue;
        if (entry.container || entry.values.empty()) text += "set " + joined(entry.path) + "\n";
        for (const std::string& value : entry.values) text += "set " + joined(entry.path) + " " + quoted_word(value) + "\n";
    }
    return text;
}

std::vector<Document::Entry> Document::entries() const {
    std::vector<Entry> found;
    std::vector<std::string> path;
    set_lines(schema(), false, root_, path, found);
    return found;
}

std::vector<std::string> Document::strangers() const {
    std::vector<std::string> found;
    find_strangers(schema(), false, root_, "", found);
    return found;
}

std::expected<std::vector<Completion>, WordError> Document::complete(Words words) const {
    // The first word of an element that is named by two.
    const auto pending = [&]() -> std::optional<std::vector<Completion>> {
        if (words.empty()) return std::nullopt;
        const auto before = walk(root_, words.first(words.size() - 1));
        if (!before || before->last().setting->kind != Kind::groups || before->last().element || before->last().setting->keys.size() < 2 || position_of(words.back()))
            return std::nullopt;
        const Setting& list = *before->last().setting;
        std::vector<Completion> found;
        if (before->last().node != nullptr)
            for (const auto& key : keys_of_elements(list, *before->last().node))
                if (key.size() == 2 && key[0] == words.back()) found.push_back({key[1], key_of(list)[1]->documentation, "element"});
        found.push_back({"OBJECT", key_of(list)[1]->documentation, "new"});
        return found;
    };
    if (auto found = pending()) return *found;
    const auto walked = walk(root_, words);
    if (!walked) return std::unexpected(walked.error());
    const Step& last = walked->last();
    const Setting& setting = *last.setting;
    std::vector<Completion> found;
    const auto upper = [](std::string_view name) {
        std::string word(name);
        for (char& c : word) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
        return word;
    };
    if (setting.kind == Kind::groups && !last.element) {
        if (last.node != nullptr)
            for (const auto& key : keys_of_elements(setting, *last.node)) found.push_back({key[0], "", "element"});
        const auto same = [](const Completion& a, const Completion& b) { return a.word == b.word; };
        found.erase(std::ranges::unique(found, same).begin(), found.end());
        found.push_back({upper(key_of(setting)[0]->name), std::string("a new one: ") + key_of(setting)[0]->documentation, "new"});
        return found;
    }
    if (!is_leaf(setting)) {
        for (const Setting& member : setting.members)
            found.push_back({std::string(member.name), with_default(member),
                             is_leaf(member) ? "setting" : member.kind == Kind::group ? "group" : "list"});
        return found;
    }
    if (!is_array(setting) && !walked->values.empty()) return found;
    const auto offer = [&](std::string word, std::string help, const char* kind) {
        if (!std::ranges::contains(walked->values, word)) found.push_back({std::move(word), std::move(help), kind});
    };
    for (const std::string_view choice : setting.choices) offer(std::string(choice), "", "value");
    if (setting.kind == Kind::boolean) {
        offer("true", "", "value");
        offer("false", "", "value");
    }
    // What is written stands first among the values of an array: it can be deleted.
    if (is_array(setting) && last.node != nullptr && setting.choices.empty())
        for (const Node& item : last.node->children) offer(word_of(item), "is there", "value");
    if (setting.name == "pool" && setting.kind == Kind::text)
        if (const Node* const pools = root_.find("pools"); pools != nullptr && pools->type == Type::list)
            for (const auto& key : keys_of_elements(*member_of(schema(), "pools"), *pools)) offer(key[0], "", "value");
    if (setting.choices.empty() && setting.kind != Kind::boolean) offer(upper(setting.name), with_default(setting), "placeholder");
    return found;
}

std::vector<const Setting*> key_of(const Setting& list) {
    std::vector<const Setting*> keys;
    for (const std::string_view name : list.keys) keys.push_back(member_of(list, name));
    if (!keys.empty()) return keys;
    if (const Setting* const name = member_of(list, "name")) {
        keys.push_back(name);
        if (!name->optional) return keys;
    }
    for (const Setting& member : list.members) {
        if (member.kind != Kind::text || member.name == "name") continue;
        keys.push_back(&member);
        break;
    }
    return keys;
}

std::string quoted_word(std::string_view word) {
    const bool plain = !word.empty() && word.find_first_of(" \t\"'\\#;|?{}()") == std::string_view::npos &&
                       std::ranges::none_of(word, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (plain) return std::string(word);
    std::string quoted = "\"";
    for (const char c : word) {
        if (c == '"' || c == '\\') quoted += '\\';
        quoted += c;
    }
    return quoted + "\"";
}

std::expected<std::vector<std::string>, std::string> split_words(std::string_view line) {
    std::vector<std::string> words;
    std::size_t at = 0;
    while (true) {
        at = line.find_first_not_of(" \t\r\n", at);
        if (at == std::string_view::npos) return words;
        std::string word;
        bool quoted = false;
        for (; at < line.size(); ++at) {
            const char c = line[at];
            if (!quoted && (c == ' ' || c == '\t' || c == '\r' || c == '\n')) break;
            if (c == '"') {
                quoted = !quoted;
            } else if (c == '\\' && quoted) {
                if (++at >= line.size()) return std::unexpected("a \\ at the end of the line; \\\\ or \\\"");
                word += line[at];
            } else {
                word += c;
            }
        }
        if (quoted) return std::unexpected("a \" that nothing closes");
        words.push_back(std::move(word));
    }
}

}  // namespace sallyport::configuration
