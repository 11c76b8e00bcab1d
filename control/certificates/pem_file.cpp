#include "control/certificates/pem_file.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace sallyport::certificates {

namespace {

/// Debian's bundle of all public roots has 220 KB; a key has 10 KB.
constexpr std::size_t kMaxFile = 8u << 20;

/// The octets of a file, wiped at the end since they may be a key.
class Contents {
 public:
    Contents() = default;
    explicit Contents(std::size_t length) : octets_(length) {}
    Contents(Contents&&) = default;
    Contents& operator=(Contents&&) = default;
    ~Contents() { OPENSSL_cleanse(octets_.data(), octets_.size()); }
    [[nodiscard]] char* data() { return octets_.data(); }
    [[nodiscard]] std::size_t size() const { return octets_.size(); }
    /// A view: lives as long as this.
    [[nodiscard]] openssl::Bio bio() const {
        return openssl::Bio(BIO_new_mem_buf(octets_.data(), static_cast<int>(octets_.size())));
    }

 private:
    std::vector<char> octets_;
};

class Fd {
 public:
    explicit Fd(int fd) : fd_(fd) {}
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() {
        if (fd_ >= 0) close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }

 private:
    int fd_;
};

std::unexpected<FileError> cannot_be_read(int error, const std::string& right) {
    return std::unexpected(FileError{std::string("cannot be read: ") + std::strerror(error), right});
}

std::expected<Contents, FileError> read(const std::filesystem::path& file, bool secret) {
    const std::string right = secret ? "a PEM file with the private key" : "a PEM file with certificates";
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    const Fd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (fd.get() < 0) return cannot_be_read(errno, right);
    struct stat status{};
    if (fstat(fd.get(), &status) != 0) return cannot_be_read(errno, right);
    if (S_ISDIR(status.st_mode)) return std::unexpected(FileError{"is a directory", right});
    if (!S_ISREG(status.st_mode)) return std::unexpected(FileError{"is not a regular file", right});
    if (secret && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        std::array<char, 8> mode{};
        std::snprintf(mode.data(), mode.size(), "%04o", static_cast<unsigned>(status.st_mode) & 07777u);
        return std::unexpected(FileError{
            std::string("has mode ") + mode.data() + ", so that others than its owner have access to the private key",
            "mode 0600 or 0400"});
    }
    if (status.st_size == 0) return std::unexpected(FileError{"is empty", right});
    if (static_cast<std::uint64_t>(status.st_size) > kMaxFile)
        return std::unexpected(FileError{"is larger than " + std::to_string(kMaxFile >> 20) + " MiB", right});
    Contents contents(static_cast<std::size_t>(status.st_size));
    std::size_t have = 0;
    while (have < contents.size()) {
        const ssize_t got = ::read(fd.get(), contents.data() + have, contents.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cannot_be_read(errno, right);
        if (got == 0)
            return std::unexpected(FileError{"became shorter while it was read", "a file that is not being written"});
        have += static_cast<std::size_t>(got);
    }
    return contents;
}

/// Called by the PEM reader when a key is encrypted. There is nobody to ask.
int note_encryption(char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

bool is_end_of_pem(unsigned long error) {
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

}  // namespace

std::expected<std::vector<openssl::Certificate>, FileError> read_certificates(const std::filesystem::path& file) {
    auto contents = read(file, false);
    if (!contents) return std::unexpected(contents.error());
    const openssl::Bio bio = contents->bio();
    std::vector<openssl::Certificate> certificates;
    bool asked = false;
    ERR_clear_error();
    while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, note_encryption, &asked))
        certificates.emplace_back(certificate);
    const bool at_end = is_end_of_pem(ERR_peek_last_error());
    const std::string reason = openssl::error_queue();
    if (!at_end)
        return std::unexpected(FileError{
            "has a damaged certificate, number " + std::to_string(certificates.size() + 1) + " in the file: " + reason,
            "PEM as its issuer gave it"});
    if (certificates.empty())
        return std::unexpected(FileError{"has no certificate in it", "PEM: -----BEGIN CERTIFICATE-----"});
    return certificates;
}

std::expected<openssl::PrivateKey, FileError> read_private_key(const std::filesystem::path& file) {
    auto contents = read(file, true);
    if (!contents) return std::unexpected(contents.error());
    const openssl::Bio bio = contents->bio();
    bool encrypted = false;
    ERR_clear_error();
    openssl::PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, note_encryption, &encrypted));
    const bool at_end = is_end_of_pem(ERR_peek_last_error());
    const std::string reason = openssl::error_queue();
    if (key) return key;
    if (encrypted)
        return std::unexpected(
            FileError{"is encrypted, and nobody is there to type its password",
                      "a key without password in a file of mode 0600: openssl pkey -in OLD -out NEW"});
    if (at_end) return std::unexpected(FileError{"has no private key in it", "PEM: -----BEGIN PRIVATE KEY-----"});
    return std::unexpected(FileError{"has a damaged private key: " + reason, "PEM as it was made"});
}

}  // namespace sallyport::certificates
