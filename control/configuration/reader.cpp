#include "control/configuration/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <libconfig.h++>
#include <numeric>
#include <tuple>
#include <utility>

#include "crypto/check.h"

namespace sallyport::configuration {

namespace {

using Parsed = libconfig::Setting;

/// 100,000 members take some 10 MB.
constexpr std::size_t kMaxFile = 64u << 20;

std::int64_t integer_of(const Parsed& parsed) {
    return parsed.getType() == Parsed::TypeInt ? static_cast<int>(parsed) : static_cast<long long>(parsed);
}

const char* type_name(const Parsed& parsed) {
    switch (parsed.getType()) {
        case Parsed::TypeNone:
            return "nothing";
        case Parsed::TypeInt:
        case Parsed::TypeInt64:
            return "an integer";
        case Parsed::TypeFloat:
            return "a number with a fraction";
        case Parsed::TypeString:
            return "a string";
        case Parsed::TypeBoolean:
            return "a boolean";
        case Parsed::TypeGroup:
            return "a group";
        case Parsed::TypeArray:
            return "an array";
        case Parsed::TypeList:
            return "a list";
    }
    return "nothing";
}

std::string written(const Parsed& parsed) {
    switch (parsed.getType()) {
        case Parsed::TypeInt:
        case Parsed::TypeInt64:
            if (parsed.getFormat() == Parsed::FormatHex) return "0x...";
            return std::to_string(integer_of(parsed));
        case Parsed::TypeFloat: {
            std::array<char, 64> text{};
            std::snprintf(text.data(), text.size(), "%g", static_cast<double>(parsed));
            return text.data();
        }
        case Parsed::TypeString:
            return in_quotes(parsed.c_str());
        case Parsed::TypeBoolean:
            return static_cast<bool>(parsed) ? "true" : "false";
        case Parsed::TypeGroup:
            return parsed.getLength() == 0 ? "{ }" : "{ ... }";
        case Parsed::TypeArray:
            return parsed.getLength() == 0 ? "[ ]" : "[ ... ]";
        case Parsed::TypeList:
            return parsed.getLength() == 0 ? "( )" : "( ... )";
        case Parsed::TypeNone:
            break;
    }
    return "";
}

const char* wanted(Kind kind) {
    switch (kind) {
        case Kind::boolean:
            return "true or false";
        case Kind::integer:
            return "an integer";
        case Kind::text:
            return "a string in double quotes";
        case Kind::integers:
            return "an array of integers: [ 1, 2 ]";
        case Kind::texts:
            return "an array of strings: [ \"a\", \"b\" ]";
        case Kind::group:
            return "a group: { ... }";
        case Kind::groups:
            return "a list of groups: ( { ... }, { ... } )";
    }
    return "";
}

bool is_integer(const Parsed& parsed) {
    return parsed.getType() == Parsed::TypeInt || parsed.getType() == Parsed::TypeInt64;
}

std::vector<std::string_view> names_of(const Setting& group) {
    std::vector<std::string_view> names;
    for (const Setting& member : group.members) names.push_back(member.name);
    return names;
}

/// Checks parsed settings by the schema.
class Reader {
 public:
    Reader(std::string file, Problems& problems) : file_(std::move(file)), problems_(problems) {}

    Value group(const Setting& setting, const Parsed& parsed, const std::string& path) {
        Value value = begin(setting, parsed, path);
        if (!parsed.isGroup())
            return wrong_type(std::move(value), parsed, setting.kind == Kind::groups ? Kind::group : setting.kind);
        for (const Setting& member : setting.members) {
            const std::string member_path =
                path.empty() ? std::string(member.name) : path + "." + std::string(member.name);
            const std::string name(member.name);
            value.members.push_back(parsed.exists(name) ? one(member, parsed[name], member_path)
                                                        : missing(member, value, member_path));
        }
        for (int i = 0; i < parsed.getLength(); ++i) unknown(setting, parsed[i], path);
        return value;
    }

 private:
    Place place_of(const Parsed& parsed) const {
        const char* file = parsed.getSourceFile();
        return {file != nullptr ? file : file_, static_cast<int>(parsed.getSourceLine())};
    }

    Value begin(const Setting& setting, const Parsed& parsed, const std::string& path) const {
        Value value;
        value.setting = &setting;
        value.place = place_of(parsed);
        value.path = path;
        value.written = written(parsed);
        value.present = true;
        return value;
    }

    Value wrong_type(Value value, const Parsed& parsed, Kind kind) {
        problems_.add(value, std::string("is ") + type_name(parsed), wanted(kind));
        return value;
    }

    Value one(const Setting& setting, const Parsed& parsed, const std::string& path) {
        switch (setting.kind) {
            case Kind::boolean: {
                Value value = begin(setting, parsed, path);
                if (parsed.getType() != Parsed::TypeBoolean) return wrong_type(std::move(value), parsed, setting.kind);
                value.boolean = static_cast<bool>(parsed);
                return value;
            }
            case Kind::integer:
                return integer(setting, parsed, path);
            case Kind::text:
                return text(setting, parsed, path);
            case Kind::group:
                return group(setting, parsed, path);
            case Kind::integers:
            case Kind::texts:
            case Kind::groups:
                return sequence(setting, parsed, path);
        }
        return {};
    }

    Value integer(const Setting& setting, const Parsed& parsed, const std::string& path) {
        Value value = begin(setting, parsed, path);
        if (!is_integer(parsed)) return wrong_type(std::move(value), parsed, Kind::integer);
        // libconfig cuts a hexadecimal number to 32 bits without a word; so none is taken.
        if (parsed.getFormat() == Parsed::FormatHex) {
            problems_.add(value, "is a hexadecimal number", "a decimal number");
            return value;
        }
        value.integer = integer_of(parsed);
        if (value.integer < setting.least || value.integer > setting.most)
            problems_.add(value, value.integer < setting.least ? "is too small" : "is too large",
                          std::to_string(setting.least) + " to " + std::to_string(setting.most));
        return value;
    }

    Value text(const Setting& setting, const Parsed& parsed, const std::string& path) {
        Value value = begin(setting, parsed, path);
        if (!parsed.isString()) return wrong_type(std::move(value), parsed, Kind::text);
        value.text = parsed.c_str();
        // For the items of an array the bounds are those of the array.
        const bool item = setting.kind == Kind::texts;
        if (!setting.choices.empty()) {
            if (std::ranges::contains(setting.choices, value.text)) return value;
            const std::vector<std::string_view> choices(setting.choices.begin(), setting.choices.end());
            const std::string_view near = nearest(value.text, choices);
            problems_.add(value,
                          near.empty() ? "is not known" : "is not known (is \"" + std::string(near) + "\" meant?)",
                          one_of(choices), setting.requirement);
        } else if (value.text.size() < (item ? 1 : setting.least_items)) {
            problems_.add(value, "is empty", item ? "no empty strings" : setting.documentation, setting.requirement);
        } else if (value.text.size() > (item ? 4095 : setting.most_items)) {
            problems_.add(value, "is longer than " + std::to_string(item ? 4095 : setting.most_items) + " octets",
                          setting.documentation);
        } else if (std::ranges::any_of(value.text, [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
            problems_.add(value, "has control characters in it", "text without them");
        }
        return value;
    }

    Value sequence(const Setting& setting, const Parsed& parsed, const std::string& path) {
        Value value = begin(setting, parsed, path);
        // ( "a", "b" ) is as clear as [ "a", "b" ].
        const bool right_type = setting.kind == Kind::groups ? parsed.isList() : parsed.isList() || parsed.isArray();
        if (!right_type) return wrong_type(std::move(value), parsed, setting.kind);
        const auto length = static_cast<std::uint32_t>(parsed.getLength());
        if (length < setting.least_items) {
            problems_.add(value, "is empty", std::string("at least one: ") + setting.documentation,
                          setting.requirement);
            return value;
        }
        if (length > setting.most_items) {
            problems_.add(value, "has " + std::to_string(length) + " items",
                          "at most " + std::to_string(setting.most_items));
            return value;
        }
        value.items.reserve(length);
        for (int i = 0; i < parsed.getLength(); ++i) {
            const std::string item = path + ".[" + std::to_string(i) + "]";
            switch (setting.kind) {
                case Kind::integers:
                    value.items.push_back(integer(setting, parsed[i], item));
                    break;
                case Kind::texts:
                    value.items.push_back(text(setting, parsed[i], item));
                    break;
                default:
                    value.items.push_back(group(setting, parsed[i], item));
                    break;
            }
        }
        return value;
    }

    /// A setting that was not written: its default, read by the same rules.
    Value missing(const Setting& setting, const Value& parent, const std::string& path) {
        if (setting.fallback[0] != '\0') {
            libconfig::Config config;
            config.readString("x = " + std::string(setting.fallback) + ";");
            Value value = one(setting, config.lookup("x"), path);
            mark_default(value, parent.place);
            return value;
        }
        Value value;
        value.setting = &setting;
        value.place = parent.place;
        value.path = path;
        value.absent = true;
        if (!setting.optional) problems_.add(value, "is missing", setting.documentation, setting.requirement);
        return value;
    }

    static void mark_default(Value& value, const Place& place) {
        value.place = place;
        value.present = false;
        value.written.clear();
        for (Value& item : value.items) mark_default(item, place);
        for (Value& member : value.members) mark_default(member, place);
    }

    void unknown(const Setting& group, const Parsed& parsed, const std::string& path) {
        const std::vector<std::string_view> names = names_of(group);
        const std::string name = parsed.getName() != nullptr ? parsed.getName() : "";
        if (std::ranges::contains(names, name)) return;
        const std::string_view near = nearest(name, names);
        problems_.add({place_of(parsed), path.empty() ? name : path + "." + name, written(parsed),
                       "there is no such setting", near.empty() ? one_of(names) : "probably " + std::string(near), ""});
    }

    std::string file_;
    Problems& problems_;
};

/// libconfig's scanner ends the process when it cannot read what it has opened, so it gets to open regular files only.
class Config : public libconfig::Config {
 public:
    const char** evaluateIncludePath(const char* path, const char** error) override {
        const std::filesystem::path file =
            std::filesystem::path(getIncludeDir() != nullptr ? getIncludeDir() : "") / path;
        struct stat status{};
        *error = nullptr;
        if (stat(file.c_str(), &status) != 0)
            *error = "cannot open include file";
        else if (!S_ISREG(status.st_mode))
            *error = "included file is not a regular file";
        else if (static_cast<std::uint64_t>(status.st_size) > kMaxFile)
            *error = "included file is too large";
        else if (access(file.c_str(), R_OK) != 0)
            *error = "included file may not be read";
        if (*error != nullptr) return nullptr;
        return libconfig::Config::evaluateIncludePath(path, error);
    }
};

/// The text, or a problem where no configuration can have it.
std::optional<std::string> without_zeros(std::string text, const std::filesystem::path& file, Problems& problems) {
    const auto zero = text.find('\0');
    if (zero == std::string::npos) return text;
    const int line =
        1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(zero), '\n'));
    problems.add({{file.string(), line}, "", "", "there is a zero octet in the file", "text", ""});
    return std::nullopt;
}

/// The text of the file, or a problem.
std::optional<std::string> text_of(const std::filesystem::path& file, Problems& problems) {
    const auto refuse = [&](std::string wrong) -> std::optional<std::string> {
        problems.add({{file.string(), 0}, "", "", std::move(wrong), "a configuration file", ""});
        return std::nullopt;
    };
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return refuse(std::string("cannot be read: ") + std::strerror(errno));
    struct Closer {
        int fd;
        ~Closer() { close(fd); }
    } const closer{fd};
    struct stat status{};
    if (fstat(fd, &status) != 0) return refuse(std::string("cannot be read: ") + std::strerror(errno));
    if (S_ISDIR(status.st_mode)) return refuse("is a directory");
    if (!S_ISREG(status.st_mode)) return refuse("is not a regular file");
    if (static_cast<std::uint64_t>(status.st_size) > kMaxFile)
        return refuse("is larger than " + std::to_string(kMaxFile >> 20) + " MiB");
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t have = 0;
    while (have < text.size()) {
        const ssize_t got = ::read(fd, text.data() + have, text.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return refuse(std::string("cannot be read: ") + std::strerror(errno));
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    text.resize(have);
    return without_zeros(std::move(text), file, problems);
}

/// libconfig's words about the syntax, with what to do about it.
std::string mend(const std::string& error) {
    if (error.contains("include"))
        return "@include \"FILE\" with a regular file, its path relative to the configuration file's directory";
    if (error.contains("duplicate")) return "each setting once";
    if (error.contains("mismatched")) return "elements of one type in [ ]";
    return "NAME = VALUE; with { } around groups, [ ] around arrays, ( ) around lists and commas between items; the "
           "mistake may be just before this line";
}

}  // namespace

const Value& Value::operator[](std::string_view name) const {
    const auto found =
        std::ranges::find_if(members, [name](const Value& member) { return member.setting->name == name; });
    SALLYPORT_CHECK(found != members.end());
    return *found;
}

Value& Value::operator[](std::string_view name) {
    return const_cast<Value&>(std::as_const(*this)[name]);
}

void Problems::add(Value& value, std::string wrong, std::string right, std::string requirement) {
    value.good = false;
    problems_.push_back(
        {value.place, value.path, value.written, std::move(wrong), std::move(right), std::move(requirement), ""});
}

void Problems::add_once(Problem problem) {
    const bool said = std::ranges::any_of(problems_, [&problem](const Problem& other) {
        return other.place.line == problem.place.line && other.place.file == problem.place.file &&
               other.requirement == problem.requirement && other.wrong == problem.wrong;
    });
    if (!said) problems_.push_back(std::move(problem));
}

std::vector<Waived> Problems::waive(const std::vector<Waiver>& waivers) {
    std::vector<Waived> waived;
    std::erase_if(problems_, [&](const Problem& problem) {
        if (problem.object.empty() || problem.requirement.empty()) return false;
        const auto found = std::ranges::find_if(waivers, [&problem](const Waiver& waiver) {
            return waiver.object == problem.object && problem.requirement.starts_with(waiver.requirement + " ");
        });
        if (found == waivers.end()) return false;
        waived.push_back({problem, *found});
        return true;
    });
    return waived;
}

std::vector<Problem> Problems::sorted(const std::string& first) && {
    std::ranges::stable_sort(problems_, [&first](const Problem& a, const Problem& b) {
        const bool a_included = a.place.file != first, b_included = b.place.file != first;
        return std::tie(a_included, a.place.file, a.place.line) < std::tie(b_included, b.place.file, b.place.line);
    });
    return std::move(problems_);
}

std::optional<Value> read(const std::filesystem::path& file, Problems& problems, const std::optional<std::string>& given) {
    const std::optional<std::string> text = given ? without_zeros(*given, file, problems) : text_of(file, problems);
    if (!text) return std::nullopt;
    if (text->size() > kMaxFile) {
        problems.add({{file.string(), 0}, "", "", "is larger than " + std::to_string(kMaxFile >> 20) + " MiB", "a configuration file", ""});
        return std::nullopt;
    }
    Config config;
    const std::string directory = file.has_parent_path() ? file.parent_path().string() : ".";
    config.setIncludeDir(directory.c_str());
    try {
        config.readString(*text);
    } catch (const libconfig::ParseException& error) {
        const std::string what = error.getError() != nullptr ? error.getError() : "syntax error";
        problems.add({{error.getFile() != nullptr ? error.getFile() : file.string(), error.getLine()},
                      "",
                      "",
                      what,
                      mend(what),
                      ""});
        return std::nullopt;
    }
    Reader reader(file.string(), problems);
    Value root = reader.group(schema(), config.getRoot(), "");
    return root;
}

std::string_view nearest(std::string_view name, const std::vector<std::string_view>& names) {
    std::string_view best;
    std::size_t least =
        1 + (name.size() + 1) / 3;  // a slip in about every third letter, two letters swapped counting as two
    if (name.size() < 4 || name.size() > 64) return best;  // among very short names every other one is near
    for (const std::string_view candidate : names) {
        // Levenshtein's distance, one row of the table at a time.
        std::vector<std::size_t> row(candidate.size() + 1);
        std::iota(row.begin(), row.end(), std::size_t{0});
        for (std::size_t i = 1; i <= name.size(); ++i) {
            std::size_t diagonal = row[0];
            row[0] = i;
            for (std::size_t j = 1; j <= candidate.size(); ++j) {
                const std::size_t changed = diagonal + (name[i - 1] == candidate[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
            }
        }
        if (row.back() < least) {
            least = row.back();
            best = candidate;
        }
    }
    return best;
}

std::string one_of(const std::vector<std::string_view>& names) {
    std::string text = names.size() > 1 ? "one of " : "";
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i > 0) text += i + 1 == names.size() ? " or " : ", ";
        text += names[i];
    }
    return text;
}

std::string in_quotes(std::string_view text) {
    constexpr std::size_t kMost = 200;
    std::string result = "\"";
    for (const char c : text.substr(0, kMost)) {
        const auto octet = static_cast<unsigned char>(c);
        if (octet < 0x20 || octet == 0x7f) {
            std::array<char, 8> escape{};
            std::snprintf(escape.data(), escape.size(), "\\x%02x", octet);
            result += escape.data();
        } else {
            if (c == '"' || c == '\\') result += '\\';
            result += c;
        }
    }
    return result + (text.size() > kMost ? "...\"" : "\"");
}

}  // namespace sallyport::configuration
