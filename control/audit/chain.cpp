#include "control/audit/chain.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "crypto/format.h"

namespace sallyport::audit {

namespace fs = std::filesystem;
using nlohmann::json;

std::string digest(std::string_view line) {
    std::array<unsigned char, 32> octets{};
    std::size_t length = 0;
    if (EVP_Q_digest(nullptr, "SHA256", nullptr, line.data(), line.size(), octets.data(), &length) != 1) return kNoDigest;
    std::string text;
    for (const unsigned char octet : octets) text += sallyport::format("{:02x}", octet);
    return text;
}

std::string Head::to_string() const {
    return sallyport::format("{}:{}", number, digest);
}

std::optional<Head> Head::parse(std::string_view text) {
    Head head;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, head.number);
    if (error != std::errc{} || rest == end || *rest != ':') return std::nullopt;
    head.digest = std::string(rest + 1, end);
    const bool good = head.digest.size() == kNoDigest.size() && head.digest.find_first_not_of("0123456789abcdef") == std::string::npos;
    return good ? std::optional(head) : std::nullopt;
}

std::optional<Head> noted_head(const fs::path& directory) {
    std::ifstream stream(directory / kHeadFile);
    std::string text;
    return std::getline(stream, text) ? Head::parse(text) : std::nullopt;
}

std::optional<Link> read_link(std::string_view line) {
    const json object = json::parse(line, nullptr, false);
    if (!object.is_object()) return std::nullopt;
    const auto number = object.find("number"), previous = object.find("previous"), event = object.find("event");
    if (number == object.end() || !number->is_number_unsigned() || previous == object.end() || !previous->is_string() ||
        event == object.end() || !event->is_string())
        return std::nullopt;
    return Link{number->get<std::uint64_t>(), previous->get<std::string>(), event->get<std::string>()};
}

std::vector<fs::path> files_of(const fs::path& directory) {
    std::map<std::uint64_t, fs::path> numbered;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error)) {
        const std::string name = entry.path().filename();
        if (!name.starts_with("audit-") || !name.ends_with(".log")) continue;
        std::uint64_t number = 0;
        const char* const end = name.data() + name.size() - 4;
        const auto [rest, wrong] = std::from_chars(name.data() + 6, end, number);
        if (wrong == std::errc{} && rest == end) numbered[number] = entry.path();
    }
    std::vector<fs::path> files;
    for (auto& [number, path] : numbered) files.push_back(std::move(path));
    if (const fs::path current = directory / kCurrentFile; fs::exists(current, error)) files.push_back(current);
    return files;
}

namespace {

/// Follows a chain from line to line.
class Walk {
 public:
    explicit Walk(const std::vector<Head>& known) {
        for (const Head& head : known) known_.emplace(head.number, head.digest);
        if (const auto none = known_.find(0); none != known_.end()) known_.erase(none);
    }

    /// False when the line does not fit.
    bool take(std::string_view line, const std::string& file) {
        const auto link = read_link(line);
        if (!link) return broken(file, result.head.number + 1, "is not an entry of the log");
        if (result.entries == 0) {
            result.first = link->number;
            first_previous_ = link->previous;
        }
        const bool begins = link->previous == kNoDigest;
        if (begins && (result.entries > 0 || link->number != 1))
            return broken(file, link->number, "begins a new chain: the one before it was broken or gone when control started");
        if (result.entries > 0 && link->number != result.head.number + 1)
            return broken(file, result.head.number + 1, sallyport::format("is missing: entry {} stands in its place", link->number));
        if (result.entries > 0 && link->previous != result.head.digest)
            return broken(file, link->number, "does not follow the entry before it: that one, or more, was altered");
        result.head = {link->number, digest(line)};
        ++result.entries;
        if (link->event == "file_removed") note_removal(line);
        const auto known = known_.find(link->number);
        if (known == known_.end()) return true;
        if (known->second != result.head.digest) return broken(file, link->number, "is not the entry that was there when its digest was recorded");
        known_.erase(known);
        return true;
    }

    /// After the last line.
    void end(const std::string& last_file) {
        if (!result.ok) return;
        if (!known_.empty() && known_.rbegin()->first > result.head.number)
            broken(last_file, result.head.number + 1, sallyport::format("is missing: the log went on to entry {} at least", known_.rbegin()->first));
        else if (result.entries > 0 && result.first != 1 && !std::ranges::contains(removed_, Head{result.first - 1, first_previous_}))
            broken(last_file, result.first - 1, "is missing, with those before it, and no entry says that their file was removed");
    }

    bool broken(const std::string& file, std::uint64_t number, std::string why) {
        result.ok = false;
        result.broken = number;
        result.broken_file = file;
        result.why = sallyport::format("entry {} {}", number, why);
        return false;
    }

    Verification result;

 private:
    void note_removal(std::string_view line) {
        const json object = json::parse(line, nullptr, false);
        const auto arguments = object.find("arguments");
        if (arguments == object.end() || !arguments->is_object()) return;
        const auto head = arguments->find("head");
        if (head == arguments->end() || !head->is_string()) return;
        if (const auto parsed = Head::parse(head->get_ref<const std::string&>())) removed_.push_back(*parsed);
    }

    std::map<std::uint64_t, std::string> known_;
    std::string first_previous_;
    std::vector<Head> removed_;  ///< of files that gave way
};

}  // namespace

std::expected<Verification, std::string> verify(const fs::path& directory, const std::vector<Head>& known) {
    Walk walk(known);
    const auto files = files_of(directory);
    std::string last_file = (directory / kCurrentFile).string();
    for (const fs::path& file : files) {
        std::ifstream stream(file, std::ios::binary);
        if (!stream) return std::unexpected(sallyport::format("{} cannot be read: {}", file.string(), std::strerror(errno)));
        ++walk.result.files;
        std::string line;
        while (walk.result.ok && std::getline(stream, line)) {
            if (stream.eof()) {  // no LF
                if (file.filename() != kCurrentFile) walk.broken(file.string(), walk.result.head.number + 1, "is not whole");
                break;
            }
            walk.take(line, file.string());
        }
        if (!walk.result.ok) break;
    }
    walk.end(last_file);
    walk.result.files = files.size();
    return walk.result;
}

std::vector<std::string> last_lines(const fs::path& directory, std::size_t limit, std::size_t octets) {
    std::vector<std::string> lines;  // newest first
    const auto files = files_of(directory);
    for (auto file = files.rbegin(); file != files.rend() && lines.size() < limit && octets > 0; ++file) {
        std::ifstream stream(*file, std::ios::binary | std::ios::ate);
        const auto size = static_cast<std::size_t>(std::max<std::streamoff>(stream.tellg(), 0));
        const std::size_t part = std::min(size, octets);
        std::string text(part, '\0');
        stream.seekg(static_cast<std::streamoff>(size - part));
        if (!stream.read(text.data(), static_cast<std::streamsize>(part))) continue;
        octets -= part;
        std::size_t end = text.rfind('\n');
        while (end != std::string::npos && lines.size() < limit) {
            const std::size_t before = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
            if (before == std::string::npos && part < size) break;  // its beginning was not read
            const std::size_t begin = before == std::string::npos ? 0 : before + 1;
            lines.push_back(text.substr(begin, end - begin));
            end = before;
        }
    }
    std::ranges::reverse(lines);
    return lines;
}

}  // namespace sallyport::audit
