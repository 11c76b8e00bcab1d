#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/configuration/schema.h"

/// A configuration as text that can be changed in places: comments, order, white space and @include lines stay as they
/// are. Every octet of the text that an edit does not concern is there afterwards.
namespace sallyport::configuration {

/// Why words name nothing that can be read or written. `code` is bad_path or bad_value; `text` says what is wrong and
/// what would be right, in one line.
struct WordError {
    std::string code;
    std::string text;
};

/// What can come next after some words.
struct Completion {
    std::string word;  ///< in capitals where kind is "new" or "placeholder": what it stands for
    std::string help;
    std::string kind;  ///< setting, group, list, element, value, new or placeholder
};

/// A parsed libconfig text with edits by path. Takes what libconfig 1.7 takes and refuses what it refuses, but for:
/// groups nested deeper than kMaxNesting; and an @include stands for whole settings, whole items or one value (libconfig
/// would let it open a bracket that the including file closes). Included files are not read: what they set is not here.
///
/// A path is words: names of the schema, and for an element of a list of groups its key: the setting that the schema
/// makes its key (see key_of()), or its position as "[0]". What stands in the file twice under one key can be reached
/// by position alone. Paths lead nowhere that the schema does not know; unknown settings stay in the text untouched.
///
/// A value, copied at will. One thread at a time.
class Document {
 public:
    enum class Type : std::uint8_t { boolean, integer, integer64, floating, text, group, array, list, included };

    /// A setting or an item, with where it stands in the text. Offsets in octets.
    struct Node {
        Type type = Type::group;
        std::string name;       ///< of a setting; empty for items
        std::size_t begin = 0;  ///< of the name, or of an item's value
        std::size_t value_begin = 0, value_end = 0;
        std::size_t end = 0;    ///< behind the terminator of a setting; of an item value_end
        std::size_t comma = 0;  ///< of an item: where the comma after it stands; 0: there is none
        int line = 0;           ///< of `begin`
        bool boolean = false;
        bool terminated = false;  ///< of a setting: with ; or ,
        bool includes = false;    ///< of a group, array or list: an @include stands directly in it
        bool hexadecimal = false;
        std::int64_t integer = 0;
        double floating = 0;
        std::string text;
        std::vector<Node> children;
        [[nodiscard]] const Node* find(std::string_view child) const;
    };

    static constexpr std::size_t kMaxNesting = 1000;

    Document() : Document(std::string(), Node{}) {}
    /// The problem has the line; `file` is its place's.
    [[nodiscard]] static std::expected<Document, Problem> parse(std::string text, const std::string& file = "");

    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    [[nodiscard]] const Node& root() const noexcept { return root_; }

    /// Writes a setting: the words of its path, then its value; for an array values that are added to it if they are not
    /// in it (none: an empty array). A path that ends at a group or element makes it if it is not there. What is
    /// missing on the way is made. New settings follow the last one of their group, in its manner.
    [[nodiscard]] std::expected<void, WordError> set(std::span<const std::string> words);
    /// Takes out a setting, an element, or, with values behind an array's path, these. A comment on a removed line goes
    /// with it; comments on lines of their own stay. bad_path where nothing is there.
    [[nodiscard]] std::expected<void, WordError> remove(std::span<const std::string> words);

    /// The text of what the words name; the whole text without words. Empty when it is not written.
    [[nodiscard]] std::expected<std::string, WordError> show(std::span<const std::string> words) const;
    /// The same as lines of `set ...` that would make it.
    [[nodiscard]] std::expected<std::string, WordError> show_set(std::span<const std::string> words) const;
    [[nodiscard]] std::expected<std::vector<Completion>, WordError> complete(std::span<const std::string> words) const;

    /// What is written, by path: groups and elements by their presence, arrays as a whole. In the order of the text.
    struct Entry {
        std::vector<std::string> path;
        bool container = false;           ///< group or element
        bool array = false;
        std::vector<std::string> values;  ///< one, or those of an array
        bool operator==(const Entry&) const = default;
    };
    [[nodiscard]] std::vector<Entry> entries() const;
    /// What is written and not among entries(): what the schema does not know or has with another type. "LINE: PATH: why", for a person.
    [[nodiscard]] std::vector<std::string> strangers() const;

 private:
    Document(std::string text, Node root) : text_(std::move(text)), root_(std::move(root)) {}
    friend class Editor;

    std::string text_;
    Node root_;  ///< a group; its span is the whole text, `end` where settings can be added
};

/// The settings of a list's element by which a path names it: all of `keys` where the schema gives several, else the
/// first that is written of `name` and the first text setting.
[[nodiscard]] std::vector<const Setting*> key_of(const Setting& list);

/// A word as it must be typed: in double quotes where it has blanks or signs that mean something to a command line.
[[nodiscard]] std::string quoted_word(std::string_view word);
/// Words of a line, as quoted_word() writes them. The error says what is wrong with the quotes.
[[nodiscard]] std::expected<std::vector<std::string>, std::string> split_words(std::string_view line);

}  // namespace sallyport::configuration
