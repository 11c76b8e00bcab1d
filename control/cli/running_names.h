#pragma once

#include <string>
#include <vector>

#include "control/cli/caller.h"
#include "control/cli/grammar.h"
#include "control/cli/link.h"

namespace sallyport::cli {

/// Names from what runs: asked from control at each Tab, with a short wait. When control is away there are none, and why() says it.
class RunningNames final : public Names {
 public:
    RunningNames(Link& link, Caller caller) : link_(link), caller_(std::move(caller)) {}

    [[nodiscard]] std::vector<Candidate> of(Source source, const nlohmann::json& arguments, const std::vector<std::string>& path,
                                            std::string_view partial) override;

    /// Paths of Source::candidate belong to this session and begin at this place.
    void edit(std::string session, std::vector<std::string> at) {
        session_ = std::move(session);
        at_ = std::move(at);
    }

    /// Why the last names could not be had; empty: they could.
    [[nodiscard]] const std::string& why() const { return why_; }

 private:
    [[nodiscard]] nlohmann::json ask(const char* command, nlohmann::json arguments = nlohmann::json::object());
    [[nodiscard]] std::vector<Candidate> of_kind(const char* kind, const std::string& pool = {});
    [[nodiscard]] std::vector<Candidate> in_configuration(std::vector<std::string> path, const std::string& session);

    Link& link_;
    Caller caller_;
    std::string session_;
    std::vector<std::string> at_;
    std::string why_;
};

}  // namespace sallyport::cli
