#include "control/management/command_table.h"

#include <algorithm>

#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::management {

namespace {

/// Optimal string alignment distance: how many insertions, deletions, replacements and swaps of neighbours lead from a
/// to b.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::vector<std::size_t>> distance(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) {
        for (std::size_t j = 0; j <= b.size(); ++j) {
            std::size_t& here = distance[i][j];
            if (i == 0 || j == 0) {
                here = i + j;
                continue;
            }
            here = std::min(
                {distance[i - 1][j] + 1, distance[i][j - 1] + 1, distance[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                here = std::min(here, distance[i - 2][j - 2] + 1);
        }
    }
    return distance[a.size()][b.size()];
}

std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) {
        if (!text.empty()) text += ", ";
        text += sallyport::format("\"{}\"", name);
    }
    return text;
}

Error forbidden(Role needed, const Peer& peer) {
    return {"forbidden",
            sallyport::format("needs the role {}; {}", name_of(needed),
                              peer.role == Role::none ? sallyport::format("{} has none: it is in no group that management.readers, "
                                                                          "operators or administrators names",
                                                                          peer.user)
                                                      : sallyport::format("you are {}", name_of(peer.role)))};
}

/// A client's word in a message: bounded.
std::string shortened(std::string_view word) {
    return std::string(word.substr(0, 64));
}

}  // namespace

std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& names) {
    constexpr std::size_t kLongest = 64;  // bounds the work: no name is as long
    constexpr std::size_t kMost = 3;
    if (given.empty() || given.size() > kLongest) return {};
    std::vector<std::pair<std::size_t, std::string>> found;
    for (const std::string& name : names) {
        const std::size_t distance = name.starts_with(given) ? 0 : edit_distance(given, name);
        if (distance * 3 <= std::max(given.size(), name.size())) found.emplace_back(distance, name);
    }
    std::ranges::stable_sort(found, {}, &std::pair<std::size_t, std::string>::first);
    std::vector<std::string> result;
    for (auto& [distance, name] : found)
        if (result.size() < kMost) result.push_back(std::move(name));
    return result;
}

CommandTable::CommandTable() {
    add("help", "lists the commands", {}, [this](const Request&, const Peer&) -> Result {
        nlohmann::json list = nlohmann::json::array();
        for (const auto& [name, command] : commands_) {
            nlohmann::json arguments = nlohmann::json::array();
            for (const Argument& argument : command.arguments)
                arguments.push_back({{"name", argument.name}, {"help", argument.help}});
            list.push_back({{"name", name},
                            {"help", command.help},
                            {"arguments", std::move(arguments)},
                            {"role", name_of(command.access.least)}});
        }
        return list;
    });
}

void CommandTable::add(std::string name, std::string help, std::vector<Argument> arguments, Handler handler,
                       Access access) {
    const bool added =
        commands_.emplace(std::move(name), Command{std::move(help), std::move(arguments), std::move(handler), access})
            .second;
    SALLYPORT_CHECK(added);
}

Result CommandTable::handle(const Request& request, const Peer& peer) const {
    const std::string name = request.name();
    const auto found = commands_.find(name);
    if (peer.role == Role::none) return refuse(request, peer, {});
    if (found == commands_.end()) {
        const auto near = nearest(name, names());
        const std::string advice = near.empty() ? "\"help\" lists the commands" : "did you mean " + listed(near) + "?";
        return std::unexpected(
            Error{"unknown_command", sallyport::format("unknown command \"{}\"; {}", shortened(name), advice)});
    }
    const Command& command = found->second;
    Access access = command.access;
    if (access.least_with != nullptr) access.least = std::max(access.least, access.least_with(request.arguments));
    if (peer.role < access.least) return refuse(request, peer, access);
    for (const auto& [given, value] : request.arguments.items()) {
        if (std::ranges::contains(command.arguments, given, &Argument::name)) continue;
        std::vector<std::string> known;
        for (const Argument& argument : command.arguments) known.push_back(argument.name);
        return std::unexpected(
            Error{"unknown_argument", sallyport::format("\"{}\" has no argument \"{}\"; {}", name, shortened(given),
                                                        known.empty() ? "it takes none" : "it takes " + listed(known))});
    }
    if (!access.audited || !audit_.before) return command.handler(request, peer);
    if (auto may = audit_.before(request, peer, access); !may) return std::unexpected(std::move(may.error()));
    try {
        Result result = command.handler(request, peer);
        audit_.after(request, peer, access, result);
        return result;
    } catch (const std::exception& error) {
        audit_.after(request, peer, access, std::unexpected(Error{"internal", error.what()}));
        throw;
    }
}

Result CommandTable::refuse(const Request& request, const Peer& peer, const Access& access) const {
    Result refusal = std::unexpected(forbidden(access.least, peer));
    if (audit_.after) audit_.after(request, peer, access, refusal);
    return refusal;
}

Result CommandTable::run(const Request& request, const Peer& peer) const {
    const auto found = commands_.find(request.name());
    if (found == commands_.end()) return std::unexpected(Error{"unknown_command", request.name()});
    return found->second.handler(request, peer);
}

std::vector<std::string> CommandTable::names() const {
    std::vector<std::string> names;
    for (const auto& [name, command] : commands_) names.push_back(name);
    return names;
}

}  // namespace sallyport::management
