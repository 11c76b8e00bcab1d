#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/cli/grammar.h"
#include "control/cli/link.h"
#include "control/cli/output.h"

namespace sallyport::cli {

/// Configuration mode: a candidate that control keeps for us, and the place in it where paths begin. Control does the work; files are read and
/// written here, as the calling user. Complaints and results go to the output; what returns int returns an exit code.
class ConfigurationMode {
 public:
    /// Opens a candidate, or takes up the one that was left; nullopt with the exit code set when control refuses.
    [[nodiscard]] static std::optional<ConfigurationMode> open(Link& link, const Output& output, const std::string& kind, int& exit_code);

    /// Carries out a command of configuration mode that is neither call, run, help nor leave.
    int carry_out(const Parsed& parsed);

    /// Goes up to where the last `edit` came from (`outright`: not so), or leaves: true. Asks when there are changes; then the person may stay.
    /// `away`: nobody can be asked any more, so that the candidate is kept.
    [[nodiscard]] bool leave(bool outright, bool away = false);

    /// `commit and-quit` was done.
    [[nodiscard]] bool finished() const { return finished_; }
    [[nodiscard]] const std::string& session() const { return session_; }
    [[nodiscard]] const std::vector<std::string>& at() const { return at_; }

 private:
    ConfigurationMode(Link& link, const Output& output, std::string session) : link_(&link), output_(&output), session_(std::move(session)) {}

    [[nodiscard]] std::vector<std::string> whole(const nlohmann::json& path) const;
    /// Asks; a failure is complained of and leaves its exit code.
    [[nodiscard]] std::optional<nlohmann::json> ask(const char* command, nlohmann::json arguments, int& exit_code, double patience_s = 0) const;
    int change(const char* command, const Parsed& parsed);
    int edit(const Parsed& parsed);
    int up(const Parsed& parsed);
    int show(const Parsed& parsed);
    int compare(const nlohmann::json& with, const Pipes& pipes);
    int load(const Parsed& parsed);
    int save(const Parsed& parsed);
    int validate(const Parsed& parsed);
    int commit(const Parsed& parsed);
    int rollback(const Parsed& parsed);
    int update(const Parsed& parsed);
    int problems(const nlohmann::json& result, const Pipes& pipes, std::string_view when_none) const;

    Link* link_;
    const Output* output_;
    std::string session_;
    std::vector<std::string> at_;
    std::vector<std::vector<std::string>> came_from_;   ///< where each edit was done
    bool finished_ = false;
};

}  // namespace sallyport::cli
