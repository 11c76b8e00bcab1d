#include "control/changes/merge.h"

#include <algorithm>
#include <map>
#include <set>

#include "control/changes/difference.h"

namespace sallyport::changes {

namespace {

using configuration::Document;
using Path = std::vector<std::string>;
using Entry = Document::Entry;
/// In the order of maps of vectors what is below a path comes directly after it.
using Entries = std::map<Path, Entry>;

Entries entries_of(const Document& document) {
    Entries entries;
    for (Entry& entry : document.entries()) {
        Path path = entry.path;
        entries.emplace(std::move(path), std::move(entry));
    }
    return entries;
}

bool is_below(const Path& path, const Path& above) { return path.size() >= above.size() && std::equal(above.begin(), above.end(), path.begin()); }

std::vector<Entry> below(const Entries& entries, const Path& path) {
    std::vector<Entry> found;
    for (auto each = entries.lower_bound(path); each != entries.end() && is_below(each->first, path); ++each) found.push_back(each->second);
    return found;
}

const Entry* find(const Entries& entries, const Path& path) {
    const auto found = entries.find(path);
    return found == entries.end() ? nullptr : &found->second;
}

std::string words(const std::vector<std::string>& list) {
    std::string text;
    for (const std::string& word : list) text += (text.empty() ? "" : " ") + configuration::quoted_word(word);
    return text;
}

std::string value_of(const Entry* entry) {
    if (entry == nullptr) return "(none)";
    if (entry->container) return "(there)";
    return entry->array ? "[ " + words(entry->values) + (entry->values.empty() ? "]" : " ]") : words(entry->values);
}

std::vector<std::string> without(const std::vector<std::string>& all, const std::vector<std::string>& these) {
    std::vector<std::string> rest;
    for (const std::string& each : all)
        if (!std::ranges::contains(these, each)) rest.push_back(each);
    return rest;
}

class Merger {
 public:
    Merger(const Document& base, const Document& running, const Document& candidate)
        : base_(entries_of(base)), running_(entries_of(running)), candidate_(entries_of(candidate)), order_(candidate.entries()), merged_{running, {}} {}

    Merged merge() && {
        removals();
        for (const Entry& entry : order_) change(entry);
        return std::move(merged_);
    }

 private:
    void conflict(const Path& path) {
        if (!told_.insert(path).second) return;
        merged_.conflicts.push_back({words(path), value_of(find(base_, path)), value_of(find(running_, path)), value_of(find(candidate_, path))});
    }

    void removals() {
        const Path* removed = nullptr;
        for (const auto& [path, entry] : base_) {
            if (candidate_.contains(path) || (removed != nullptr && is_below(path, *removed))) continue;
            removed = &path;
            if (!running_.contains(path)) continue;
            if (below(base_, path) != below(running_, path)) conflict(path);
            if (!merged_.document.remove(path)) conflict(path);
        }
    }

    /// The group or element that the candidate still changes and that is gone from what runs.
    const Path* lost_container(const Entry& entry) {
        for (const auto& [path, other] : base_)
            if (other.container && is_below(entry.path, path) && !running_.contains(path) && candidate_.contains(path)) return &path;
        return nullptr;
    }

    void write(const Path& path, const std::vector<std::string>& values) {
        Path all = path;
        all.insert(all.end(), values.begin(), values.end());
        if (!merged_.document.set(all)) conflict(path);
    }

    void change(const Entry& entry) {
        const Entry* const before = find(base_, entry.path);
        const Entry* const now = find(running_, entry.path);
        if ((before != nullptr && *before == entry) || (now != nullptr && *now == entry)) return;
        if (const Path* const lost = lost_container(entry)) {
            conflict(*lost);
            for (const Entry& each : order_)
                if (is_below(each.path, *lost)) rewrite(each);
            return;
        }
        const bool moved = before != nullptr ? now == nullptr || *now != *before : now != nullptr;
        if (entry.array && moved && before != nullptr && now != nullptr) {
            const auto added = without(entry.values, before->values), gone = without(before->values, entry.values);
            if (added.empty() && gone.empty()) {   // another order
                conflict(entry.path);
                return rewrite(entry);
            }
            if (const auto still = without(gone, without(gone, now->values)); !still.empty()) {
                Path all = entry.path;
                all.insert(all.end(), still.begin(), still.end());
                if (!merged_.document.remove(all)) conflict(entry.path);
            }
            if (!added.empty()) write(entry.path, added);
            return;
        }
        if (moved && !entry.container) conflict(entry.path);
        rewrite(entry);
    }

    /// Whatever is there now.
    void rewrite(const Entry& entry) {
        if (entry.array) (void)merged_.document.remove(entry.path);
        write(entry.path, entry.values);
    }

    Entries base_, running_, candidate_;
    std::vector<Entry> order_;
    Merged merged_;
    std::set<Path> told_;
};

}  // namespace

Merged merge(const Document& base, const Document& running, const Document& candidate) {
    if (base.text() == running.text()) return {candidate, {}};
    if (base.text() == candidate.text()) return {running, {}};
    Merged merged = Merger(base, running, candidate).merge();
    if (!merged.conflicts.empty()) return merged;
    if (auto text = merged_lines(base.text(), running.text(), candidate.text()))
        if (auto document = Document::parse(std::move(*text)); document && entries_of(*document) == entries_of(merged.document)) merged.document = std::move(*document);
    return merged;
}

}  // namespace sallyport::changes
