#include "control/drained.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "control/channel/shared_memory.h"

namespace sallyport {

using nlohmann::json;

namespace {

std::unexpected<std::string> failed(const char* what, const std::filesystem::path& file) {
    return std::unexpected(std::string(what) + " " + file.string() + ": " + std::strerror(errno));
}

}  // namespace

std::expected<Drained, std::string> Drained::load(const std::filesystem::path& file) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) return Drained{};
    std::ifstream in(file);
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (!in) return failed("cannot read", file);
    Drained drained;
    try {
        const json value = json::parse(text);
        drained.services = value.at("services").get<std::set<std::string>>();
        drained.members = value.at("members").get<std::map<std::string, std::set<std::string>>>();
    } catch (const json::exception& wrong) {
        return std::unexpected(file.string() + " is not what we have written: " + wrong.what());
    }
    std::erase_if(drained.members, [](const auto& pool) { return pool.second.empty(); });
    return drained;
}

std::expected<void, std::string> Drained::save(const std::filesystem::path& file) const {
    const std::string text = json{{"services", services}, {"members", members}}.dump(2) + "\n";
    const std::filesystem::path beside = file.string() + ".new";
    {
        const channel::Descriptor descriptor(open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!descriptor.valid()) return failed("cannot write", beside);
        for (std::size_t done = 0; done < text.size();) {
            const ssize_t length = write(descriptor.get(), text.data() + done, text.size() - done);
            if (length < 0 && errno == EINTR) continue;
            if (length < 0) return failed("cannot write", beside);
            done += static_cast<std::size_t>(length);
        }
        if (fsync(descriptor.get()) != 0) return failed("cannot sync", beside);
    }
    if (rename(beside.c_str(), file.c_str()) != 0) return failed("cannot rename to", file);
    const channel::Descriptor directory(open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid() || fsync(directory.get()) != 0) return failed("cannot sync the directory of", file);
    return {};
}

Drained Drained::kept_by(const configuration::Configuration& configuration) const {
    Drained kept;
    for (const auto& service : configuration.services)
        if (services.contains(service.name)) kept.services.insert(service.name);
    for (const auto& redirect : configuration.redirects)
        if (services.contains(redirect.name)) kept.services.insert(redirect.name);
    for (const auto& pool : configuration.pools)
        for (const auto& member : pool.members)
            if (has(pool.name, member.name)) kept.members[pool.name].insert(member.name);
    return kept;
}

bool Drained::has(const std::string& pool, const std::string& member) const {
    const auto found = members.find(pool);
    return found != members.end() && found->second.contains(member);
}

}  // namespace sallyport
