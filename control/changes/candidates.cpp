#include "control/changes/candidates.h"

#include <openssl/rand.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "control/changes/durable_file.h"
#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::changes {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::string new_token() {
    std::array<unsigned char, 16> octets{};
    SALLYPORT_CHECK(RAND_bytes(octets.data(), static_cast<int>(octets.size())) == 1);
    std::string token;
    for (const unsigned char octet : octets) token += sallyport::format("{:02x}", octet);
    return token;
}

bool is_token(std::string_view text) {
    return text.size() == 32 && std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::string to_text(const Candidate& candidate) {
    const json object = {{"uid", candidate.uid},
                         {"user", candidate.user},
                         {"from", candidate.from},
                         {"exclusive", candidate.exclusive},
                         {"base", candidate.base},
                         {"rolled_back", candidate.rolled_back},
                         {"since", std::chrono::duration_cast<std::chrono::seconds>(candidate.since.time_since_epoch()).count()}};
    // The description is one line, the text follows as it is.
    return object.dump(-1, ' ', true, json::error_handler_t::replace) + "\n" + candidate.document.text();
}

std::optional<Candidate> from_text(const std::string& text) {
    const auto line = text.find('\n');
    if (line == std::string::npos) return std::nullopt;
    try {
        const json object = json::parse(text.substr(0, line));
        Candidate candidate;
        candidate.uid = object.at("uid").get<std::uint32_t>();
        candidate.user = object.at("user").get<std::string>();
        candidate.from = object.at("from").get<std::string>();
        candidate.exclusive = object.at("exclusive").get<bool>();
        candidate.base = object.at("base").get<std::uint64_t>();
        candidate.rolled_back = object.at("rolled_back").get<std::uint64_t>();
        candidate.since = std::chrono::system_clock::time_point(std::chrono::seconds(object.at("since").get<std::int64_t>()));
        auto document = configuration::Document::parse(text.substr(line + 1));
        if (!document) return std::nullopt;
        candidate.document = std::move(*document);
        return candidate;
    } catch (const json::exception&) {
        return std::nullopt;
    }
}

}  // namespace

std::expected<Candidates, std::string> Candidates::open(const fs::path& directory) {
    Candidates candidates(directory);
    auto opened = open_directory(directory);
    if (!opened) return std::unexpected(opened.error());
    std::error_code error;
    for (fs::directory_iterator& entry = *opened; !error && entry != fs::directory_iterator(); entry.increment(error)) {
        if (!is_token(entry->path().filename().string())) continue;
        const auto text = read_text(entry->path());
        auto candidate = text ? from_text(*text) : std::nullopt;
        if (!candidate) continue;
        candidate->session = entry->path().filename().string();
        candidates.candidates_.emplace(candidate->session, std::move(*candidate));
    }
    return candidates;
}

std::expected<Candidate*, std::string> Candidates::add(Candidate candidate) {
    if (candidates_.size() >= kMost) return std::unexpected(sallyport::format("there are {} candidates, the most that are kept; close one", kMost));
    candidate.session = new_token();
    const std::string session = candidate.session;
    return &candidates_.emplace(session, std::move(candidate)).first->second;
}

std::expected<void, std::string> Candidates::save(const Candidate& candidate) { return write_durably(directory_ / candidate.session, to_text(candidate), 0600); }

void Candidates::remove(const std::string& session) {
    const auto found = candidates_.find(session);
    if (found == candidates_.end()) return;
    (void)remove_durably(directory_ / session);   // one that stays is there again after a restart, nothing worse
    candidates_.erase(found);
}

Candidate* Candidates::find(const std::string& session) {
    const auto found = candidates_.find(session);
    return found == candidates_.end() ? nullptr : &found->second;
}

}  // namespace sallyport::changes
