#include "control/policy/report_file.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <system_error>

#include "crypto/format.h"

namespace sallyport::policy {

namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype([](EVP_PKEY* key) { EVP_PKEY_free(key); })>;
using Digest = std::unique_ptr<EVP_MD_CTX, decltype([](EVP_MD_CTX* context) { EVP_MD_CTX_free(context); })>;
using Bio = std::unique_ptr<BIO, decltype([](BIO* bio) { BIO_free_all(bio); })>;

/// Writes a file beside its place and moves it there. Empty: done.
std::string write_file(const std::filesystem::path& path, std::span<const char> octets, mode_t mode) {
    const std::string part = path.string() + ".part";
    const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (file < 0) return sallyport::format("{}: cannot be written: {}", part, std::strerror(errno));
    bool good = true;
    for (std::size_t done = 0; good && done < octets.size();) {
        const ssize_t written = write(file, octets.data() + done, octets.size() - done);
        good = written > 0;
        if (good) done += static_cast<std::size_t>(written);
    }
    good = good && fsync(file) == 0;
    const int why = errno;
    close(file);
    if (good && rename(part.c_str(), path.c_str()) == 0) return {};
    const std::string text = std::strerror(good ? errno : why);
    unlink(part.c_str());
    return sallyport::format("{}: cannot be written: {}", path.string(), text);
}

std::string pem_of(EVP_PKEY* key, bool with_private) {
    const Bio bio(BIO_new(with_private ? BIO_s_secmem() : BIO_s_mem()));
    if (!bio) return {};
    const int done = with_private ? PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr)
                                  : PEM_write_bio_PUBKEY(bio.get(), key);
    char* data = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &data);
    return done == 1 && length > 0 ? std::string(data, static_cast<std::size_t>(length)) : std::string();
}

std::expected<Key, std::string> read_or_make_key(const std::filesystem::path& directory) {
    const std::filesystem::path file = directory / "report.key";
    const auto public_file = directory / "report.pub";
    Key key;
    if (std::filesystem::exists(file)) {
        const Bio bio(BIO_new_file(file.c_str(), "r"));
        if (bio) key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
        if (!key || EVP_PKEY_is_a(key.get(), "ED25519") != 1)
            return std::unexpected(sallyport::format("{}: is no Ed25519 key that can be read; remove it and the next report makes a new one", file.string()));
        if (std::filesystem::exists(public_file)) return key;
    } else {
        key.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
        if (!key) return std::unexpected("libcrypto made no Ed25519 key for reports");
        std::string text = pem_of(key.get(), true);
        const std::string error = text.empty() ? "the report's key could not be encoded" : write_file(file, text, 0600);
        OPENSSL_cleanse(text.data(), text.size());
        if (!error.empty()) return std::unexpected(error);
    }
    const std::string text = pem_of(key.get(), false);
    if (const std::string error = write_file(public_file, text, 0644); !error.empty()) return std::unexpected(error);
    return key;
}

}  // namespace

std::expected<ReportFiles, std::string> write_signed_report(const std::filesystem::path& directory, std::string_view text,
                                                            std::chrono::system_clock::time_point now) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return std::unexpected(sallyport::format("{}: cannot be made: {}", directory.string(), error.message()));
    const auto key = read_or_make_key(directory);
    if (!key) return std::unexpected(key.error());
    std::array<unsigned char, 64> signature{};
    std::size_t length = signature.size();
    const Digest context(EVP_MD_CTX_new());
    if (!context || EVP_DigestSignInit_ex(context.get(), nullptr, nullptr, nullptr, nullptr, key->get(), nullptr) != 1 ||
        EVP_DigestSign(context.get(), signature.data(), &length, reinterpret_cast<const unsigned char*>(text.data()), text.size()) != 1 ||
        length != signature.size())
        return std::unexpected("libcrypto did not sign the report");
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    std::tm parts{};
    std::array<char, 32> stamp{};
    gmtime_r(&seconds, &parts);
    std::strftime(stamp.data(), stamp.size(), "%Y%m%dT%H%M%SZ", &parts);
    ReportFiles files{directory / sallyport::format("policy-{}.json", stamp.data()), {}, directory / "report.pub"};
    files.signature = files.report.string() + ".sig";
    // The signature first: a report that is there can always be checked.
    if (auto wrong = write_file(files.signature, {reinterpret_cast<const char*>(signature.data()), length}, 0644); !wrong.empty())
        return std::unexpected(wrong);
    if (auto wrong = write_file(files.report, text, 0644); !wrong.empty()) return std::unexpected(wrong);
    return files;
}

}  // namespace sallyport::policy
