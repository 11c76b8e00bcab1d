#include "control/cli/link.h"

#include <algorithm>
#include <sstream>

#include "control/cli/interrupt.h"
#include "control/daemon/exit_code.h"

namespace sallyport::cli {

using management::CallError;
using nlohmann::json;

std::expected<json, CallError> Link::call(std::vector<std::string> command, json arguments, std::chrono::milliseconds patience) {
    return ask(std::move(command), std::move(arguments), std::max(timeout_, patience));
}

std::expected<json, CallError> Link::glance(std::vector<std::string> command, json arguments) {
    constexpr std::chrono::milliseconds kMoment{2000};
    return ask(std::move(command), std::move(arguments), std::min(timeout_, kMoment));
}

std::expected<json, CallError> Link::ask(std::vector<std::string> command, json arguments, std::chrono::milliseconds timeout) {
    if (!client_ || !client_->usable()) {
        client_.reset();
        auto client = management::Client::connect(socket_, timeout);
        if (!client) return std::unexpected(std::move(client.error()));
        client_.emplace(std::move(*client));
        client_->say_from(from_);
        client_->stop_when(&interrupted());
    }
    client_->wait_at_most(timeout);
    auto result = client_->call(std::move(command), std::move(arguments));
    const bool answered = result || result.error().kind == CallError::Kind::refused || result.error().kind == CallError::Kind::forbidden;
    if (!answered) client_.reset();   // a late answer must not be taken for that of another question
    return result;
}

int exit_code_of(const CallError& error) {
    switch (error.kind) {
        case CallError::Kind::away:
        case CallError::Kind::timed_out:
            return exit_code::kControlAway;
        case CallError::Kind::forbidden:
            return exit_code::kNoPermission;
        case CallError::Kind::broken:
            return exit_code::kProtocol;
        case CallError::Kind::refused:
            return error.code == "forbidden" ? exit_code::kNoPermission : exit_code::kFailure;
    }
    return exit_code::kSoftware;
}

std::vector<std::string> words_of(std::string_view name) {
    std::vector<std::string> words;
    std::istringstream stream{std::string(name)};
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

}  // namespace sallyport::cli
