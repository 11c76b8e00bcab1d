#include "control/revocation/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sallyport::revocation {

namespace {

class Descriptor {
 public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] int get() const { return number_; }

 private:
    int number_;
};

std::string failed(const char* what, const std::filesystem::path& file) {
    return std::string(what) + " " + file.string() + ": " + std::strerror(errno);
}

}  // namespace

std::expected<std::vector<std::byte>, std::string> read_file(const std::filesystem::path& file, std::size_t most) {
    const Descriptor descriptor(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (descriptor.get() < 0) return std::unexpected(failed("cannot open", file));
    std::vector<std::byte> octets;
    std::vector<std::byte> piece(65536);
    while (true) {
        const ssize_t length = read(descriptor.get(), piece.data(), piece.size());
        if (length < 0 && errno == EINTR) continue;
        if (length < 0) return std::unexpected(failed("cannot read", file));
        if (length == 0) return octets;
        octets.insert(octets.end(), piece.begin(), piece.begin() + length);
        if (octets.size() > most) return std::unexpected(file.string() + " is longer than " + std::to_string(most) + " octets");
    }
}

Store::Store(const std::filesystem::path& state_directory, std::size_t most)
    : directory_(state_directory / "revocation"), most_(most) {
    std::error_code ignored;  // save() says what is wrong
    if (std::filesystem::create_directories(directory_, ignored)) chmod(directory_.c_str(), 0700);
}

std::optional<std::vector<std::byte>> Store::load(const std::string& name) const {
    auto octets = read_file(directory_ / name, most_);
    if (!octets || octets->empty()) return std::nullopt;
    return std::move(*octets);
}

std::string Store::save(const std::string& name, std::span<const std::byte> octets) const {
    const std::filesystem::path file = directory_ / name;
    const std::filesystem::path beside = directory_ / ("." + name + ".new");
    {
        const Descriptor descriptor(open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (descriptor.get() < 0) return failed("cannot write", beside);
        for (auto rest = octets; !rest.empty();) {
            const ssize_t length = write(descriptor.get(), rest.data(), rest.size());
            if (length < 0 && errno == EINTR) continue;
            if (length < 0) return failed("cannot write", beside);
            rest = rest.subspan(static_cast<std::size_t>(length));
        }
        if (fsync(descriptor.get()) != 0) return failed("cannot sync", beside);
    }
    if (rename(beside.c_str(), file.c_str()) != 0) return failed("cannot rename to", file);
    return "";
}

void Store::keep_only(const std::set<std::string>& names) const {
    std::error_code error;
    std::vector<std::filesystem::path> old;
    for (std::filesystem::directory_iterator entry(directory_, error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        const bool ours = name.starts_with("ocsp-") || name.starts_with("crl-") || name.starts_with(".ocsp-") ||
                          name.starts_with(".crl-");
        if (ours && !names.contains(name)) old.push_back(entry->path());
    }
    for (const auto& file : old) std::filesystem::remove(file, error);
}

}  // namespace sallyport::revocation
