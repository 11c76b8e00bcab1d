#include "control/changes/history.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "control/changes/durable_file.h"
#include "crypto/format.h"

namespace sallyport::changes {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::array<const char*, 5> kHow{"commit", "rollback", "confirmed-rollback", "file", "boot"};
constexpr std::string_view kStaged = ".json.new";

std::string to_text(const Revision& revision) {
    const json object = {{"number", revision.number},
                         {"time", std::chrono::duration_cast<std::chrono::seconds>(revision.time.time_since_epoch()).count()},
                         {"user", revision.user},
                         {"uid", revision.uid},
                         {"from", revision.from},
                         {"comment", revision.comment},
                         {"digest", revision.digest},
                         {"how", name_of(revision.how)},
                         {"confirmed", revision.confirmed}};
    return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<Revision> from_text(const std::string& text) {
    try {
        const json object = json::parse(text);
        Revision revision;
        revision.number = object.at("number").get<std::uint64_t>();
        revision.time = std::chrono::system_clock::time_point(std::chrono::seconds(object.at("time").get<std::int64_t>()));
        revision.user = object.at("user").get<std::string>();
        revision.uid = object.at("uid").get<std::uint32_t>();
        revision.from = object.at("from").get<std::string>();
        revision.comment = object.at("comment").get<std::string>();
        revision.digest = object.at("digest").get<std::string>();
        revision.confirmed = object.at("confirmed").get<bool>();
        const auto how = std::ranges::find(kHow, object.at("how").get<std::string>());
        if (how == kHow.end()) return std::nullopt;
        revision.how = static_cast<How>(how - kHow.begin());
        return revision;
    } catch (const json::exception&) {
        return std::nullopt;
    }
}

/// Of "000012.conf".
std::optional<std::uint64_t> number_of(std::string_view name) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end == name.data() + name.size() || *end != '.' || number == 0) return std::nullopt;
    return number;
}

}  // namespace

const char* name_of(How how) { return kHow[static_cast<std::size_t>(how)]; }

fs::path History::path(std::uint64_t number, const char* ending) const { return directory_ / sallyport::format("{:06}{}", number, ending); }

std::expected<History, std::string> History::open(const fs::path& directory) {
    History history(directory);
    auto opened = open_directory(directory);
    if (!opened) return std::unexpected(opened.error());
    std::error_code error;
    for (fs::directory_iterator& entry = *opened; !error && entry != fs::directory_iterator(); entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        const auto number = number_of(name);
        if (!number) continue;
        history.next_ = std::max(history.next_, *number + 1);  // also behind broken ones
        const bool staged = name.ends_with(kStaged);
        if (!staged && !name.ends_with(".json")) continue;
        const auto text = read_text(entry->path());
        auto revision = text ? from_text(*text) : std::nullopt;
        if (!revision || revision->number != *number) continue;
        if (staged) history.staged_.push_back(std::move(*revision));
        else history.revisions_.emplace(*number, std::move(*revision));
    }
    return history;
}

std::expected<void, std::string> History::recover(const std::string& digest_of_file) {
    for (const Revision& revision : std::exchange(staged_, {})) {
        const Revision* const last = latest();
        const bool already = last != nullptr && last->digest == digest_of_file;
        const auto written = read_text(path(revision.number, ".conf"));
        if (!already && revision.digest == digest_of_file && written && digest_of(*written) == digest_of_file) {
            if (auto done = finish(revision); !done) return done;
        } else {
            drop(revision);
        }
    }
    return {};
}

std::expected<void, std::string> History::stage(Revision& revision, const std::string& text) {
    revision.number = next_;
    revision.digest = digest_of(text);
    if (auto written = write_durably(path(revision.number, ".conf"), text, 0600); !written) return written;
    return write_beside(path(revision.number, kStaged.data()), to_text(revision), 0600);
}

std::expected<void, std::string> History::finish(const Revision& revision) {
    if (auto renamed = rename_durably(path(revision.number, kStaged.data()), path(revision.number, ".json")); !renamed) return renamed;
    revisions_.insert_or_assign(revision.number, revision);
    next_ = std::max(next_, revision.number + 1);
    return {};
}

void History::drop(const Revision& staged) {
    std::error_code ignored;  // what stays is not taken for a revision
    fs::remove(path(staged.number, kStaged.data()), ignored);
    fs::remove(path(staged.number, ".conf"), ignored);
}

std::expected<void, std::string> History::confirm(std::uint64_t number) {
    const auto found = revisions_.find(number);
    if (found == revisions_.end() || found->second.confirmed) return {};
    Revision confirmed = found->second;
    confirmed.confirmed = true;
    if (auto written = write_durably(path(number, ".json"), to_text(confirmed), 0600); !written) return written;
    found->second = std::move(confirmed);
    return {};
}

void History::prune(const std::set<std::uint64_t>& used) {
    std::size_t above = revisions_.size() > kKept ? revisions_.size() - kKept : 0;
    for (auto each = revisions_.begin(); above > 0 && each != revisions_.end();) {
        if (used.contains(each->first)) {
            ++each;
            continue;
        }
        std::error_code ignored;
        fs::remove(path(each->first, ".json"), ignored);
        fs::remove(path(each->first, ".conf"), ignored);
        each = revisions_.erase(each);
        --above;
    }
}

const Revision* History::find(std::uint64_t number) const {
    const auto found = revisions_.find(number);
    return found == revisions_.end() ? nullptr : &found->second;
}

const Revision* History::latest() const { return revisions_.empty() ? nullptr : &revisions_.rbegin()->second; }

std::expected<std::string, std::string> History::text(std::uint64_t number) const {
    const Revision* const revision = find(number);
    if (revision == nullptr) {
        if (revisions_.empty()) return std::unexpected(sallyport::format("there is no revision {}", number));
        return std::unexpected(sallyport::format("there is no revision {}; {} to {}", number, revisions_.begin()->first, latest()->number));
    }
    auto text = read_text(path(number, ".conf"));
    if (!text) return text;
    if (digest_of(*text) != revision->digest) return std::unexpected(sallyport::format("{}: is not what was committed: its SHA-256 is another", path(number, ".conf").string()));
    return text;
}

}  // namespace sallyport::changes
