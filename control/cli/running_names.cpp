#include "control/cli/running_names.h"

#include <format>

#include "control/cli/help.h"

namespace sallyport::cli {

namespace {

using nlohmann::json;

std::string text_at(const json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end()) return {};
    return found->is_string() ? found->get<std::string>() : found->is_number() ? found->dump() : std::string();
}

json part_of(const json& object, const char* name) {
    return object.is_object() && object.contains(name) ? object[name] : json();
}

/// A candidate of each object: its `name`, and what tells it from the others.
std::vector<Candidate> named(const json& list, const char* name, std::initializer_list<const char*> about) {
    std::vector<Candidate> found;
    if (!list.is_array()) return found;
    for (const json& each : list) {
        if (!each.is_object()) continue;
        Candidate candidate{text_at(each, name), {}};
        for (const char* const detail : about)
            if (const std::string text = text_at(each, detail); !text.empty()) candidate.help += (candidate.help.empty() ? "" : ", ") + text;
        if (!candidate.word.empty()) found.push_back(std::move(candidate));
    }
    return found;
}

}  // namespace

json RunningNames::ask(const char* command, json arguments) {
    auto result = link_.glance(words_of(command), std::move(arguments));
    if (result) return std::move(*result);
    why_ = result.error().text;
    return nullptr;
}

std::vector<Candidate> RunningNames::of_kind(const char* kind, const std::string& pool) {
    json arguments{{"kind", kind}};
    if (!pool.empty()) arguments["pool"] = pool;
    return named(ask("show names", std::move(arguments)), "name", {"help"});
}

std::vector<Candidate> RunningNames::in_configuration(std::vector<std::string> path, const std::string& session) {
    json arguments{{"path", std::move(path)}};
    if (!session.empty()) arguments["session"] = session;
    const json list = ask("configuration complete", std::move(arguments));
    std::vector<Candidate> found;
    if (!list.is_array()) return found;
    for (const json& each : list) {
        if (!each.is_object()) continue;
        Candidate candidate{text_at(each, "word"), text_at(each, "help")};
        const std::string kind = text_at(each, "kind");
        candidate.literal = kind != "new" && kind != "placeholder";   // else it stands for a word of the user's
        if (!candidate.word.empty()) found.push_back(std::move(candidate));
    }
    return found;
}

std::vector<Candidate> RunningNames::of(Source source, const json& arguments, const std::vector<std::string>& path, std::string_view partial) {
    why_.clear();
    switch (source) {
        case Source::services:
            return of_kind("services");
        case Source::pools:
            return of_kind("pools");
        case Source::members:
            return of_kind("members", text_at(arguments, "pool"));
        case Source::ports:
            return of_kind("ports");
        case Source::flows:
            return of_kind("flows");
        case Source::captures:
            return named(part_of(ask("capture names"), "captures"), "name", {"help"});
        case Source::capture_files:
            return named(part_of(ask("capture names"), "files"), "name", {"help"});
        case Source::revisions: {
            constexpr int kMost = 50;
            return named(ask("configuration history", {{"limit", kMost}}), "number", {"time", "user", "comment"});
        }
        case Source::candidate: {
            std::vector<std::string> whole = at_;
            whole.insert(whole.end(), path.begin(), path.end());
            return in_configuration(std::move(whole), session_);
        }
        case Source::running:
            return in_configuration(path, {});
        case Source::files: {
            std::vector<Candidate> found;
            for (std::string& file : files_like(caller_, partial)) found.push_back({std::move(file), {}});
            return found;
        }
        case Source::settings:
            return settings_below(path);
        case Source::nowhere:
        case Source::choices:
        case Source::commands:
            return {};   // the grammar's own
    }
    return {};
}

}  // namespace sallyport::cli
