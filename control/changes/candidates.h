#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "control/configuration/document.h"

namespace sallyport::changes {

/// Someone's own copy of the configuration, to be edited and committed.
struct Candidate {
    std::string session;   ///< token: 128 random bits in hexadecimal digits
    std::uint32_t uid = 0;
    std::string user, from;
    bool exclusive = false;
    std::uint64_t base = 0;          ///< revision that it began at, or was rebased on
    std::uint64_t rolled_back = 0;   ///< revision that rollback has put into it; 0: none
    std::chrono::system_clock::time_point since;
    configuration::Document document;
};

/// The candidates, each in DIRECTORY/TOKEN: a line of JSON, then the text (directory 0700, files 0600), so that they outlive control. One thread.
class Candidates {
 public:
    static constexpr std::size_t kMost = 32;

    [[nodiscard]] static std::expected<Candidates, std::string> open(const std::filesystem::path& directory);

    /// A new one with its token; it is not kept before save(). The error: there are kMost.
    [[nodiscard]] std::expected<Candidate*, std::string> add(Candidate candidate);
    [[nodiscard]] std::expected<void, std::string> save(const Candidate& candidate);
    void remove(const std::string& session);
    [[nodiscard]] Candidate* find(const std::string& session);
    [[nodiscard]] std::map<std::string, Candidate>& all() noexcept { return candidates_; }
    [[nodiscard]] const std::map<std::string, Candidate>& all() const noexcept { return candidates_; }

 private:
    explicit Candidates(std::filesystem::path directory) : directory_(std::move(directory)) {}
    std::filesystem::path directory_;
    std::map<std::string, Candidate> candidates_;
};

}  // namespace sallyport::changes
