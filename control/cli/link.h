#pragma once

#include <chrono>
#include <expected>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "control/management/client.h"

namespace sallyport::cli {

/// The way to control: a connection that is kept as long as it is good, and made anew when it is not. A shell that stands open for days does not
/// mind that control was restarted meanwhile. No command is ever sent twice.
class Link {
 public:
    /// `from`: what is said of the caller.
    Link(std::string socket, std::chrono::milliseconds timeout, std::string from)
        : socket_(std::move(socket)), timeout_(timeout), from_(std::move(from)) {}

    /// Asks and waits, longer than usual when `patience` is longer. Ctrl-C ends the wait (broken, "interrupted").
    [[nodiscard]] std::expected<nlohmann::json, management::CallError> call(std::vector<std::string> command, nlohmann::json arguments,
                                                                            std::chrono::milliseconds patience = {});
    /// For completion: waits a moment only.
    [[nodiscard]] std::expected<nlohmann::json, management::CallError> glance(std::vector<std::string> command, nlohmann::json arguments);

 private:
    [[nodiscard]] std::expected<nlohmann::json, management::CallError> ask(std::vector<std::string> command, nlohmann::json arguments,
                                                                           std::chrono::milliseconds timeout);
    std::string socket_;
    std::chrono::milliseconds timeout_;
    std::string from_;
    std::optional<management::Client> client_;
};

/// Of sysexits: what a failed call makes the program end with.
[[nodiscard]] int exit_code_of(const management::CallError& error);

/// "show flows" as words.
[[nodiscard]] std::vector<std::string> words_of(std::string_view name);

}  // namespace sallyport::cli
