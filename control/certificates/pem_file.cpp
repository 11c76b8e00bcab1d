#include "control/certificates/pem_file.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

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
    [[nodiscard]] std::string_view text() const { return {octets_.data(), octets_.size()}; }
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

/// `owners` of files that are secret; nullptr: this one is not.
std::expected<Contents, FileError> read(const std::filesystem::path& file, const KeyOwners* owners,
                                        const std::string& right) {
    const bool secret = owners != nullptr;
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
    if (secret && status.st_uid != 0 && status.st_uid != geteuid() && (!owners->user || status.st_uid != *owners->user))
        return std::unexpected(FileError{"belongs to the user " + std::to_string(status.st_uid) +
                                             ", who could replace the private key",
                                         "a file of root's or of the user in control.user"});
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

constexpr const char* kCertificatesWanted = "a PEM file with certificates";
constexpr const char* kKeyWanted = "a PEM file with the private key";

/// Finds the passphrase when it is first needed, and says why there was none.
class PassphraseSource {
 public:
    PassphraseSource(const std::filesystem::path& file, const KeyAccess& access) : file_(file), access_(access) {}

    /// nullptr: there is none, see error().
    const Passphrase* get() {
        if (asked_) return error_ ? nullptr : &passphrase_;
        asked_ = true;
        if (!access_.passphrase.empty()) {
            auto contents = read(access_.passphrase, &access_.owners, "a file with the passphrase on one line");
            if (!contents) {
                error_ = FileError{"its passphrase file " + access_.passphrase.string() + " " + contents.error().wrong,
                                   contents.error().right};
                return nullptr;
            }
            std::string_view text = contents->text();
            text = text.substr(0, text.find('\n'));
            if (text.ends_with('\r')) text.remove_suffix(1);
            passphrase_ = Passphrase(std::string(text));
            return &passphrase_;
        }
        auto answer = access_.ask ? access_.ask(file_.string()) : std::unexpected("nobody is there to type its password");
        if (answer) passphrase_ = std::move(*answer);
        else error_ = FileError{"is encrypted, and " + answer.error(),
                                "passphrase = \"FILE\" with the password in a file of mode 0600, or a key without one"};
        return error_ ? nullptr : &passphrase_;
    }
    [[nodiscard]] bool asked() const { return asked_; }
    /// Why an encrypted key could not be opened.
    [[nodiscard]] FileError error(const std::string& reason) const {
        if (error_) return *error_;
        return {"cannot be decrypted: the passphrase is wrong, or the file is damaged: " + reason, "the passphrase that it was encrypted with"};
    }

 private:
    const std::filesystem::path& file_;
    const KeyAccess& access_;
    Passphrase passphrase_;
    std::optional<FileError> error_;
    bool asked_ = false;
};

/// Called by the PEM reader when a key is encrypted.
int give_passphrase(char* buffer, int size, int, void* source) {
    const Passphrase* passphrase = static_cast<PassphraseSource*>(source)->get();
    if (passphrase == nullptr || std::cmp_greater(passphrase->text().size(), size)) return -1;
    std::ranges::copy(passphrase->text(), buffer);
    return static_cast<int>(passphrase->text().size());
}

/// For blocks that have no reason to be encrypted.
int give_none(char*, int, int, void*) {
    return -1;
}

bool is_end_of_pem(unsigned long error) {
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

/// DER begins with a SEQUENCE; PEM is text.
bool is_der(const Contents& contents) {
    return contents.text().starts_with('\x30') && !contents.text().contains("-----BEGIN ");
}

std::expected<std::vector<openssl::Certificate>, FileError> certificates_of(const Contents& contents) {
    const openssl::Bio bio = contents.bio();
    std::vector<openssl::Certificate> certificates;
    ERR_clear_error();
    while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, give_none, nullptr))
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

std::expected<openssl::PrivateKey, FileError> key_of(const Contents& contents, PassphraseSource& source) {
    const openssl::Bio bio = contents.bio();
    ERR_clear_error();
    openssl::PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, give_passphrase, &source));
    const bool at_end = is_end_of_pem(ERR_peek_last_error());
    const std::string reason = openssl::error_queue();
    if (key) return key;
    if (source.asked()) return std::unexpected(source.error(reason));
    if (at_end) return std::unexpected(FileError{"has no private key in it", "PEM: -----BEGIN PRIVATE KEY-----"});
    return std::unexpected(FileError{"has a damaged private key: " + reason, "PEM as it was made"});
}

/// PKCS #12 keeps no order: each is followed by the one that has signed it, as far as there is one.
void put_into_order(std::vector<openssl::Certificate>& certificates) {
    for (std::size_t i = 0; i + 1 < certificates.size(); ++i) {
        const auto issuer = std::find_if(certificates.begin() + static_cast<std::ptrdiff_t>(i) + 1, certificates.end(), [&](const auto& other) {
            return X509_check_issued(other.get(), certificates[i].get()) == X509_V_OK;
        });
        if (issuer == certificates.end()) break;
        std::swap(certificates[i + 1], *issuer);
    }
    ERR_clear_error();
}

struct StackFree {
    void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_pop_free(stack, X509_free); }
};

std::expected<Bundle, FileError> pkcs12(const Contents& contents, PassphraseSource& source) {
    const openssl::Bio bio = contents.bio();
    ERR_clear_error();
    const openssl::Owner<PKCS12, PKCS12_free> file(d2i_PKCS12_bio(bio.get(), nullptr));
    if (!file) {
        ERR_clear_error();
        return std::unexpected(FileError{"is neither PEM nor PKCS #12", "PEM: -----BEGIN CERTIFICATE-----, or PKCS #12"});
    }
    // No password and an empty one are two things there (RFC 7292 B.1).
    const char* passphrase = nullptr;
    if (PKCS12_verify_mac(file.get(), nullptr, 0) != 1) {
        passphrase = "";
        if (PKCS12_verify_mac(file.get(), "", 0) != 1) {
            const Passphrase* given = source.get();
            if (given == nullptr) return std::unexpected(source.error(openssl::error_queue()));
            passphrase = given->text().c_str();
            ERR_clear_error();
            if (PKCS12_verify_mac(file.get(), passphrase, -1) != 1)
                return std::unexpected(source.error(openssl::error_queue()));
        }
    }
    EVP_PKEY* key = nullptr;
    X509* leaf = nullptr;
    STACK_OF(X509)* others = nullptr;
    ERR_clear_error();
    const bool good = PKCS12_parse(file.get(), passphrase, &key, &leaf, &others) == 1;
    Bundle bundle;
    bundle.key.reset(key);
    openssl::Certificate first(leaf);
    const std::unique_ptr<STACK_OF(X509), StackFree> rest(others);
    if (!good)
        return std::unexpected(FileError{"cannot be read: " + openssl::error_queue(),
                                         "PKCS #12 with PBES2 and AES, as openssl pkcs12 -export makes it"});
    if (!bundle.key || !first)
        return std::unexpected(FileError{std::string("has no ") + (bundle.key ? "certificate of the private key" : "private key") + " in it",
                                         "PKCS #12 with both"});
    bundle.certificates.push_back(std::move(first));
    while (sk_X509_num(rest.get()) > 0) bundle.certificates.emplace_back(sk_X509_shift(rest.get()));
    put_into_order(bundle.certificates);
    return bundle;
}

}  // namespace

std::expected<std::vector<openssl::Certificate>, FileError> read_certificates(const std::filesystem::path& file) {
    auto contents = read(file, nullptr, kCertificatesWanted);
    if (!contents) return std::unexpected(contents.error());
    if (is_der(*contents))
        return std::unexpected(FileError{"is not PEM", "PEM: -----BEGIN CERTIFICATE-----; or PKCS #12 with its key in it, and no key beside it"});
    return certificates_of(*contents);
}

std::expected<openssl::PrivateKey, FileError> read_private_key(const std::filesystem::path& file, const KeyAccess& access) {
    auto contents = read(file, &access.owners, kKeyWanted);
    if (!contents) return std::unexpected(contents.error());
    PassphraseSource source(file, access);
    return key_of(*contents, source);
}

std::expected<void, FileError> check_secret(const std::filesystem::path& file, std::size_t least, const KeyOwners& owners) {
    const std::string right = "a file of at least " + std::to_string(least) + " random octets, mode 0600";
    auto contents = read(file, &owners, right);
    if (!contents) return std::unexpected(contents.error());
    if (contents->size() < least) return std::unexpected(FileError{"has " + std::to_string(contents->size()) + " octets", right});
    return {};
}

std::expected<Bundle, FileError> read_bundle(const std::filesystem::path& file, const KeyAccess& access) {
    auto contents = read(file, &access.owners, "a file with certificates and their private key");
    if (!contents) return std::unexpected(contents.error());
    PassphraseSource source(file, access);
    if (is_der(*contents)) return pkcs12(*contents, source);
    auto certificates = certificates_of(*contents);
    if (!certificates) return std::unexpected(certificates.error());
    auto key = key_of(*contents, source);
    if (!key) return std::unexpected(key.error());
    return Bundle{std::move(*certificates), std::move(*key)};
}

}  // namespace sallyport::certificates
