#include "control/cli/caller.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "control/channel/shared_memory.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

namespace fs = std::filesystem;
using channel::Descriptor;

std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

/// sshd's "CLIENT PORT SERVER PORT", else the terminal.
std::string where_from() {
    std::istringstream connection(environment("SSH_CONNECTION"));
    std::string address, port;
    if (connection >> address >> port) return sallyport::format("ssh {} port {}", address, port);
    const char* const terminal = isatty(STDIN_FILENO) != 0 ? ttyname(STDIN_FILENO) : nullptr;
    return terminal == nullptr ? std::string() : sallyport::format("tty {}", terminal);
}

/// The path with ~ as the home, and for a restricted caller below it.
std::expected<fs::path, std::string> resolved(const Caller& caller, std::string_view given) {
    fs::path path(given);
    if (given == "~" || given.starts_with("~/")) path = caller.home / fs::path(given.substr(std::min<std::size_t>(2, given.size())));
    if (given.empty()) return std::unexpected("a path is needed");
    if (!caller.restricted) return path;
    if (caller.home.empty()) return std::unexpected("you have no home directory, and files can be nowhere else");
    const auto elsewhere = [&] { return std::unexpected(sallyport::format("{}: files can only be in your home directory, {}", given, caller.home.string())); };
    if (path.is_absolute()) path = path.lexically_relative(caller.home);
    path = path.lexically_normal();
    if (path.empty() || path.is_absolute()) return elsewhere();
    for (const fs::path& part : path) {
        if (part == "..") return elsewhere();
        if (part.string().starts_with('.') && part != ".")
            return std::unexpected(sallyport::format("{}: names that begin with a dot are not for you to read or write", given));
    }
    return path;   // relative to home
}

std::expected<Descriptor, std::string> open_file(const Caller& caller, std::string_view given, int flags) {
    const auto path = resolved(caller, given);
    if (!path) return std::unexpected(path.error());
    constexpr mode_t kMode = 0600;
    const auto failed = [&] { return std::unexpected(sallyport::format("{}: {}", given, std::strerror(errno))); };
    // A named pipe must not hold us up before it is known to be one.
    flags |= O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    Descriptor file;
    if (caller.restricted) {
        const Descriptor home(open(caller.home.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!home.valid()) return std::unexpected(sallyport::format("{}: {}", caller.home.string(), std::strerror(errno)));
        open_how how{};
        how.flags = static_cast<__u64>(flags);
        how.mode = (flags & O_CREAT) != 0 ? kMode : 0;
        how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
        file = Descriptor(static_cast<int>(syscall(SYS_openat2, home.get(), path->c_str(), &how, sizeof how)));
    } else {
        file = Descriptor(open(path->c_str(), flags, kMode));
    }
    if (!file.valid()) return failed();
    struct stat status{};
    if (fstat(file.get(), &status) != 0) return failed();
    if (S_ISDIR(status.st_mode)) return std::unexpected(sallyport::format("{}: is a directory", given));
    if (caller.restricted && !S_ISREG(status.st_mode)) return std::unexpected(sallyport::format("{}: is not an ordinary file", given));
    if ((flags & O_NONBLOCK) != 0) fcntl(file.get(), F_SETFL, fcntl(file.get(), F_GETFL) & ~O_NONBLOCK);
    return file;
}

}  // namespace

Caller this_caller(bool restricted) {
    Caller caller;
    caller.restricted = restricted;
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> buffer(65536);
    if (getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
        caller.user = found->pw_name;
        caller.home = found->pw_dir;
    } else {
        caller.user = sallyport::format("uid {}", geteuid());
    }
    // For a login shell the system's word counts, not the environment's.
    if (const std::string home = environment("HOME"); !restricted && !home.empty()) caller.home = home;
    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) == 0) caller.host = std::string(host.data()).substr(0, std::string_view(host.data()).find('.'));
    caller.from = where_from();
    return caller;
}

std::expected<std::string, std::string> read_file(const Caller& caller, std::string_view path) {
    const auto file = open_file(caller, path, O_RDONLY);
    if (!file) return std::unexpected(file.error());
    std::string text;
    std::array<char, 65536> buffer;
    for (;;) {
        const ssize_t n = read(file->get(), buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return std::unexpected(sallyport::format("{}: {}", path, std::strerror(errno)));
        if (n == 0) return text;
        text.append(buffer.data(), static_cast<std::size_t>(n));
        if (text.size() > kLongestFile) return std::unexpected(sallyport::format("{}: has more than {} octets", path, kLongestFile));
    }
}

std::expected<void, std::string> write_file(const Caller& caller, std::string_view path, std::string_view text) {
    const auto file = open_file(caller, path, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file) return std::unexpected(file.error());
    while (!text.empty()) {
        const ssize_t n = write(file->get(), text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return std::unexpected(sallyport::format("{}: {}", path, std::strerror(errno)));
        text.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
}

std::vector<std::string> files_like(const Caller& caller, std::string_view partial) {
    constexpr std::size_t kMost = 200;
    const std::size_t slash = partial.rfind('/');
    const std::string_view directory = slash == std::string_view::npos ? std::string_view() : partial.substr(0, slash + 1);
    const std::string_view beginning = partial.substr(directory.size());
    const auto path = resolved(caller, directory.empty() ? "." : directory);
    if (!path) return {};
    std::vector<std::string> found;
    std::error_code error;
    fs::directory_iterator entries(caller.restricted ? caller.home / *path : *path, error);
    for (; !error && entries != fs::directory_iterator() && found.size() < kMost; entries.increment(error)) {
        const std::string name = entries->path().filename().string();
        if (!name.starts_with(beginning) || (name.starts_with('.') && (beginning.empty() || caller.restricted))) continue;
        std::error_code ignored;
        found.push_back(std::string(directory) + name + (entries->is_directory(ignored) ? "/" : ""));
    }
    std::ranges::sort(found);
    return found;
}

}  // namespace sallyport::cli
