#include "control/changes/durable_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "control/channel/shared_memory.h"
#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::changes {

namespace {

using channel::Descriptor;
namespace fs = std::filesystem;

constexpr std::size_t kMaxFile = 64u << 20;  // as the reader of configurations

std::unexpected<std::string> failed(const fs::path& file, const char* what) {
    return std::unexpected(sallyport::format("{}: {}: {}", file.string(), what, std::strerror(errno)));
}

std::expected<void, std::string> sync_directory(const fs::path& directory) {
    const Descriptor descriptor(open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!descriptor.valid() || fsync(descriptor.get()) != 0) return failed(directory, "cannot be synced");
    return {};
}

}  // namespace

std::expected<fs::directory_iterator, std::string> open_directory(const fs::path& directory) {
    std::error_code error;
    if (fs::create_directories(directory, error)) chmod(directory.c_str(), 0700);
    if (error) return std::unexpected(sallyport::format("{}: cannot be made: {}", directory.string(), error.message()));
    fs::directory_iterator entries(directory, error);
    if (error) return std::unexpected(sallyport::format("{}: cannot be read: {}", directory.string(), error.message()));
    return entries;
}

std::expected<std::string, std::string> read_text(const fs::path& file) {
    const Descriptor descriptor(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status{};
    if (!descriptor.valid() || fstat(descriptor.get(), &status) != 0) return failed(file, "cannot be read");
    if (!S_ISREG(status.st_mode)) return std::unexpected(file.string() + ": is not a regular file");
    std::string text;
    std::array<char, 65536> piece;
    while (true) {
        const ssize_t got = read(descriptor.get(), piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return failed(file, "cannot be read");
        if (got == 0) return text;
        text.append(piece.data(), static_cast<std::size_t>(got));
        if (text.size() > kMaxFile) return std::unexpected(sallyport::format("{}: is larger than {} MiB", file.string(), kMaxFile >> 20));
    }
}

std::expected<void, std::string> write_beside(const fs::path& beside, std::string_view text, mode_t mode, const fs::path& like) {
    if (unlink(beside.c_str()) != 0 && errno != ENOENT) return failed(beside, "cannot be replaced");
    struct stat status{};
    const bool alike = !like.empty() && stat(like.c_str(), &status) == 0;
    if (alike) mode = status.st_mode & 07777;
    const Descriptor descriptor(open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!descriptor.valid()) return failed(beside, "cannot be written");
    for (std::string_view rest = text; !rest.empty();) {
        const ssize_t written = write(descriptor.get(), rest.data(), rest.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return failed(beside, "cannot be written");
        rest.remove_prefix(static_cast<std::size_t>(written));
    }
    // Only root may give files away; for others the new file is theirs.
    if (alike && geteuid() == 0 && fchown(descriptor.get(), status.st_uid, status.st_gid) != 0) return failed(beside, "cannot be given to its owner");
    if (fchmod(descriptor.get(), mode) != 0) return failed(beside, "mode cannot be set");
    if (fsync(descriptor.get()) != 0) return failed(beside, "cannot be synced");
    return {};
}

std::expected<void, std::string> rename_durably(const fs::path& from, const fs::path& to) {
    if (rename(from.c_str(), to.c_str()) != 0) return failed(to, "cannot be replaced");
    return sync_directory(to.parent_path());
}

std::expected<void, std::string> write_durably(const fs::path& file, std::string_view text, mode_t mode) {
    const fs::path beside = file.parent_path() / ("." + file.filename().string() + ".new");
    if (auto written = write_beside(beside, text, mode); !written) return written;
    return rename_durably(beside, file);
}

std::expected<void, std::string> remove_durably(const fs::path& file) {
    if (unlink(file.c_str()) != 0) {
        if (errno == ENOENT) return {};
        return failed(file, "cannot be removed");
    }
    return sync_directory(file.parent_path());
}

std::string digest_of(std::string_view text) {
    std::array<unsigned char, 32> digest{};
    std::size_t length = 0;
    SALLYPORT_CHECK(EVP_Q_digest(nullptr, "SHA256", nullptr, text.data(), text.size(), digest.data(), &length) == 1);
    std::string hexadecimal;
    for (const unsigned char octet : digest) hexadecimal += sallyport::format("{:02x}", octet);
    return hexadecimal;
}

}  // namespace sallyport::changes
