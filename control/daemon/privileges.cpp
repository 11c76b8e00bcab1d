#include <cap-ng.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "control/daemon/sandbox.h"
#include "crypto/format.h"

namespace sallyport::daemon {

namespace {

struct User {
    uid_t uid;
    gid_t gid;
};

std::expected<User, std::string> find_user(const std::string& name) {
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> buffer(16384);
    const int error = getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error != 0)
        return std::unexpected(sallyport::format("user \"{}\" cannot be looked up: {}", name, std::strerror(error)));
    if (found == nullptr)
        return std::unexpected(sallyport::format(
            "there is no user \"{}\"; make it with systemd-sysusers, or name another in the configuration", name));
    if (entry.pw_uid == 0)
        return std::unexpected(sallyport::format("user \"{}\" is the superuser; name one without privileges", name));
    if (entry.pw_gid == 0)
        return std::unexpected(
            sallyport::format("user \"{}\" is in the superuser's group; name one without privileges", name));
    return User{entry.pw_uid, entry.pw_gid};
}

/// What the kernel says of one thread (proc_pid_status(5)).
struct ThreadCredentials {
    std::string uids, gids, groups;  ///< as printed: real, effective, saved, file system
    std::uint64_t permitted = 0, ambient = 0;
};

std::expected<ThreadCredentials, std::string> read_credentials(const std::filesystem::path& status) {
    std::ifstream file(status);
    if (!file) return std::unexpected(sallyport::format("{} cannot be read", status.string()));
    ThreadCredentials credentials;
    const auto hexadecimal = [](std::string_view text) {
        std::uint64_t value = ~std::uint64_t{0};
        std::from_chars(text.data(), text.data() + text.size(), value, 16);
        return value;
    };
    for (std::string line; std::getline(file, line);) {
        const auto colon = line.find(":\t");
        if (colon == std::string::npos) continue;
        const std::string key = line.substr(0, colon), value = line.substr(colon + 2);
        if (key == "Uid") credentials.uids = value;
        if (key == "Gid") credentials.gids = value;
        if (key == "Groups") credentials.groups = ' ' + value;
        if (key == "CapPrm") credentials.permitted = hexadecimal(value);
        if (key == "CapAmb") credentials.ambient = hexadecimal(value);
    }
    return credentials;
}

/// Reads back what every thread of ours has now. Capabilities are a matter of each thread alone: one that an ill-timed
/// start left privileged would undo all of this.
std::expected<void, std::string> verify(const User& user, std::uint64_t kept) {
    const std::string uids = sallyport::format("{0}\t{0}\t{0}\t{0}", user.uid);
    const std::string gids = sallyport::format("{0}\t{0}\t{0}\t{0}", user.gid);
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
        const auto credentials = read_credentials(thread.path() / "status");
        if (!credentials) {
            if (!std::filesystem::exists(thread.path())) continue;  // it has ended meanwhile
            return std::unexpected(credentials.error());
        }
        const std::string id = thread.path().filename();
        if (credentials->uids != uids || credentials->gids != gids)
            return std::unexpected(sallyport::format("thread {} still has another user or group", id));
        if (credentials->groups.contains(" 0 "))
            return std::unexpected(sallyport::format("thread {} is still in the superuser's group", id));
        if ((credentials->permitted & ~kept) != 0 || (credentials->ambient & ~kept) != 0)
            return std::unexpected(sallyport::format("thread {} still has capabilities {:#x}", id, credentials->permitted));
    }
    return {};
}

}  // namespace

std::expected<void, std::string> drop_privileges(const std::string& user_name,
                                                 std::span<const std::string_view> keep_capabilities) {
    const auto user = find_user(user_name);
    if (!user) return std::unexpected(user.error());

    std::uint64_t kept = 0;
    capng_get_caps_process();
    std::vector<unsigned> capabilities;
    for (const std::string_view name : keep_capabilities) {
        const int capability = capng_name_to_capability(std::string(name).c_str());
        if (capability < 0) return std::unexpected(sallyport::format("there is no capability \"{}\"", name));
        if (!capng_have_capability(CAPNG_PERMITTED, static_cast<unsigned>(capability)))
            return std::unexpected(
                sallyport::format("the process does not have the capability \"{}\"; start it as root, or with "
                                  "AmbientCapabilities=CAP_{} in its unit",
                                  name, name));
        capabilities.push_back(static_cast<unsigned>(capability));
        kept |= std::uint64_t{1} << capability;
    }

    const bool same_user = getuid() == user->uid && geteuid() == user->uid;
    if (!same_user && geteuid() != 0)
        return std::unexpected(
            sallyport::format("runs as user id {} and cannot change to \"{}\"; start it as root or as \"{}\"", geteuid(),
                              user_name, user_name));

    capng_clear(CAPNG_SELECT_ALL);
    for (const unsigned capability : capabilities)
        capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), capability);
    if (!same_user) {
        // setresuid() of the C library changes all threads; those that are not this one lose every capability by it.
        const int result = capng_change_id(static_cast<int>(user->uid), static_cast<int>(user->gid),
                                           static_cast<capng_flags_t>(CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING));
        if (result != 0)
            return std::unexpected(sallyport::format("cannot change to user \"{}\" (capng_change_id: {}, {})", user_name,
                                                     result, std::strerror(errno)));
    } else if (capng_apply(CAPNG_SELECT_CAPS) != 0) {
        return std::unexpected(sallyport::format("cannot give up capabilities: {}", std::strerror(errno)));
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return std::unexpected(sallyport::format("cannot clear ambient capabilities: {}", std::strerror(errno)));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return std::unexpected(sallyport::format("cannot set no_new_privs: {}", std::strerror(errno)));
    const rlimit none{.rlim_cur = 0, .rlim_max = 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return std::unexpected(sallyport::format("cannot forbid core files: {}", std::strerror(errno)));
    // The change of user has made it 0 already; the leak check of a sanitizer must attach to its own process.
    if (prctl(PR_SET_DUMPABLE, kSanitizerBuild ? 1 : 0, 0, 0, 0) != 0)
        return std::unexpected(sallyport::format("cannot make the process undumpable: {}", std::strerror(errno)));
    if (setresuid(static_cast<uid_t>(-1), 0, static_cast<uid_t>(-1)) == 0)
        return std::unexpected(std::string("could become the superuser again: privileges were not dropped"));
    return verify(*user, kept);
}

}  // namespace sallyport::daemon
