#include "control/operations/helpers.h"

#include "control/policy/catalogue.h"

namespace sallyport::operations {

Result ask(DataplaneLink& link, const char* what, const json& arguments) {
    auto answer = link.ask(what, arguments);
    if (!answer) return std::unexpected(Error{"dataplane_away", answer.error()});
    return std::move(*answer);
}

std::string time_text(std::chrono::system_clock::time_point time) {
    return time == std::chrono::system_clock::time_point{} ? std::string() : management::iso8601(time);
}

std::string version_name(std::uint16_t version) {
    return version == policy::kTls13 ? "TLS 1.3" : version == policy::kTls12 ? "TLS 1.2" : "";
}

std::string suite_name(std::uint16_t id) {
    const auto* const suite = policy::find_suite(id);
    return suite == nullptr ? "" : std::string(suite->name);
}

std::string group_name(std::uint16_t id) {
    const auto* const group = policy::find_group(id);
    return group == nullptr ? "none" : std::string(group->name);
}

std::uint16_t version_of_suite(std::uint16_t id) {
    const auto* const suite = policy::find_suite(id);
    return suite == nullptr ? std::uint16_t{0} : suite->version;
}

std::int64_t days_left(std::chrono::system_clock::time_point until, std::chrono::system_clock::time_point now) {
    return std::chrono::floor<std::chrono::days>(until - now).count();
}

}  // namespace sallyport::operations
