#include "control/handshake/ech_keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "crypto/format.h"
#include "crypto/secret.h"

namespace sallyport::handshake {
namespace {

using Clock = EchKeys::Clock;

/// What goes before each key in the file; PEM readers pass over it.
constexpr std::string_view kMade = "made: ";
/// How many octets of name a client pads to (RFC 9849 6.1.3): the most names are shorter.
constexpr std::uint8_t kMaxNameLength = 64;

void require(bool done, std::string_view what) {
    if (!done) throw std::runtime_error(sallyport::format("libssl refuses {}: {}", what, openssl::error_queue()));
}

std::string text_of(BIO* bio) {
    char* data = nullptr;
    const long length = BIO_get_mem_data(bio, &data);
    return length > 0 ? std::string(data, static_cast<std::size_t>(length)) : std::string();
}

/// A memory BIO for secrets: what libcrypto keeps there is wiped.
openssl::Bio secret_bio() {
    openssl::Bio bio(BIO_new(BIO_s_secmem()));
    require(bio != nullptr, "a buffer");
    return bio;
}

std::string folded(std::string name) {
    std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return name;
}

void write_all(int descriptor, std::string_view text, const std::filesystem::path& file) {
    while (!text.empty()) {
        const ssize_t written = ::write(descriptor, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) throw std::runtime_error(sallyport::format("{}: cannot be written: {}", file.string(), std::strerror(errno)));
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

/// A file that is there whole or not at all, whatever happens meanwhile.
void replace_file(const std::filesystem::path& file, std::string_view text, mode_t mode) {
    const std::filesystem::path making = file.string() + ".new";
    ::unlink(making.c_str());  // of an attempt that was cut off
    const int descriptor = ::open(making.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (descriptor < 0) throw std::runtime_error(sallyport::format("{}: cannot be made: {}", making.string(), std::strerror(errno)));
    struct Closer {
        int descriptor;
        ~Closer() { ::close(descriptor); }
    };
    {
        const Closer closer{descriptor};
        write_all(descriptor, text, making);
        if (::fchmod(descriptor, mode) != 0 || ::fsync(descriptor) != 0)
            throw std::runtime_error(sallyport::format("{}: cannot be written: {}", making.string(), std::strerror(errno)));
    }
    if (::rename(making.c_str(), file.c_str()) != 0) throw std::runtime_error(sallyport::format("{}: cannot be replaced: {}", file.string(), std::strerror(errno)));
    if (const int directory = ::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); directory >= 0) {
        const Closer closer{directory};
        ::fsync(directory);
    }
}

/// The text of a file that is its owner's alone; nullopt when there is none.
std::optional<std::string> read_secret_file(const std::filesystem::path& file) {
    constexpr std::size_t kMost = 1 << 20;
    const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT) return std::nullopt;
    if (descriptor < 0) throw std::runtime_error(sallyport::format("{}: cannot be opened: {}", file.string(), std::strerror(errno)));
    struct stat status {};
    const bool stated = ::fstat(descriptor, &status) == 0;
    std::string text;
    const bool closed_to_others = stated && (status.st_mode & 077) == 0;
    if (closed_to_others && S_ISREG(status.st_mode) && static_cast<std::size_t>(status.st_size) <= kMost) {
        text.resize(static_cast<std::size_t>(status.st_size));
        std::size_t at = 0;
        for (ssize_t got = 1; at < text.size() && got > 0; at += static_cast<std::size_t>(std::max<ssize_t>(got, 0)))
            got = ::read(descriptor, text.data() + at, text.size() - at);
        text.resize(at);
    }
    ::close(descriptor);
    if (!closed_to_others) throw std::runtime_error(sallyport::format("{}: others than its owner may read or write the ECH keys; mode 0600", file.string()));
    return text;
}

void wipe(std::string& text) {
    crypto::wipe(text.data(), text.size());
    text.clear();
}

}  // namespace

EchKeys::EchKeys(std::vector<Entry> entries, std::chrono::seconds retain)
    : entries_(std::move(entries)), retain_(retain), store_(OSSL_ECHSTORE_new(nullptr, nullptr)) {
    require(store_ != nullptr, "a store of ECH keys");
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        const openssl::Bio in(BIO_new_mem_buf(entries_[i].pem.data(), static_cast<int>(entries_[i].pem.size())));
        // Only the newest is for retry configurations (RFC 9849 7.1): what is old is not handed out again.
        require(in && OSSL_ECHSTORE_read_pem(store_.get(), in.get(), i == 0 ? OSSL_ECH_FOR_RETRY : OSSL_ECH_NO_RETRY) == 1, "an ECH key");
    }
    // A configuration without its private key loads without an error, and opens nothing.
    int keys = 0;
    require(OSSL_ECHSTORE_num_keys(store_.get(), &keys) == 1, "the number of ECH keys");
    if (static_cast<std::size_t>(keys) != entries_.size())
        throw std::runtime_error(sallyport::format("{} of {} ECH configurations have no private key; each needs its own", entries_.size() - static_cast<std::size_t>(keys), entries_.size()));
}

EchKeys::~EchKeys() {
    for (Entry& entry : entries_) wipe(entry.pem);
}

EchKeys::Entry EchKeys::read(std::string pem, Clock::time_point made) {
    Entry entry;
    entry.made = made;
    const openssl::Bio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    require(in != nullptr, "a buffer");
    char* name = nullptr;
    char* header = nullptr;
    unsigned char* data = nullptr;
    long length = 0;
    bool found = false;
    while (!found && PEM_read_bio(in.get(), &name, &header, &data, &length) == 1) {
        found = std::string_view(name) == "ECHCONFIG";
        const auto* octets = reinterpret_cast<const std::byte*>(data);
        if (found) entry.config_list.assign(octets, octets + length);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, static_cast<std::size_t>(length));
    }
    ERR_clear_error();
    // ECHConfigList: length, then ECHConfig: version, length, config_id ... (RFC 9849 4).
    constexpr std::size_t kConfigId = 2 + 2 + 2;
    if (entry.config_list.size() <= kConfigId) throw std::runtime_error("there is no ECHCONFIG block");
    entry.config_id = std::to_integer<std::uint8_t>(entry.config_list[kConfigId]);
    const openssl::Owner<OSSL_ECHSTORE, OSSL_ECHSTORE_free> store(OSSL_ECHSTORE_new(nullptr, nullptr));
    const openssl::Bio again(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    std::time_t loaded = 0;
    char* public_name = nullptr;
    char* config = nullptr;
    int has_private = 0, for_retry = 0;
    require(store && again && OSSL_ECHSTORE_read_pem(store.get(), again.get(), OSSL_ECH_FOR_RETRY) == 1 &&
                OSSL_ECHSTORE_get1_info(store.get(), 0, &loaded, &public_name, &config, &has_private, &for_retry) == 1,
            "an ECH key");
    entry.public_name = folded(public_name != nullptr ? public_name : "");
    OPENSSL_free(public_name);
    OPENSSL_free(config);
    if (has_private != 1) throw std::runtime_error(sallyport::format("the ECH configuration for {} has no private key; a PRIVATE KEY block before its ECHCONFIG", entry.public_name));
    entry.pem = std::move(pem);
    return entry;
}

EchKeys::Entry EchKeys::generate(const std::string& public_name, const std::vector<Entry>& others, Clock::time_point now) {
    constexpr int kAttempts = 256;  // config ids are octets drawn by libssl; few are in use
    OSSL_HPKE_SUITE suite{};
    suite.kem_id = OSSL_HPKE_KEM_ID_X25519;
    suite.kdf_id = OSSL_HPKE_KDF_ID_HKDF_SHA256;
    suite.aead_id = OSSL_HPKE_AEAD_ID_AES_GCM_128;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const openssl::Owner<OSSL_ECHSTORE, OSSL_ECHSTORE_free> store(OSSL_ECHSTORE_new(nullptr, nullptr));
        require(store && OSSL_ECHSTORE_new_config(store.get(), OSSL_ECH_CURRENT_VERSION, kMaxNameLength, public_name.c_str(), suite) == 1,
                sallyport::format("an ECH key for {}", public_name));
        const openssl::Bio out = secret_bio();
        require(OSSL_ECHSTORE_write_pem(store.get(), 0, out.get()) == 1, "to write an ECH key");
        Entry entry = read(text_of(out.get()), std::chrono::floor<std::chrono::seconds>(now));
        if (std::ranges::none_of(others, [&](const Entry& other) { return other.config_id == entry.config_id; })) return entry;
        wipe(entry.pem);
    }
    throw std::runtime_error(sallyport::format("no free ECH config id was found for {}: {} keys are alive", public_name, others.size()));
}

std::shared_ptr<const EchKeys> EchKeys::make(const configuration::Ech& settings, Clock::time_point now) {
    std::vector<Entry> entries;
    entries.push_back(generate(folded(settings.public_name), entries, now));
    return std::shared_ptr<const EchKeys>(new EchKeys(std::move(entries), std::chrono::seconds(settings.retain_s)));
}

Clock::time_point EchKeys::dies(std::size_t index) const { return index == 0 ? Clock::time_point::max() : entries_[index - 1].made + retain_; }

std::vector<EchKeys::Key> EchKeys::keys() const {
    std::vector<Key> all;
    for (std::size_t i = 0; i < entries_.size(); ++i) all.push_back({entries_[i].config_id, entries_[i].made, dies(i)});
    return all;
}

Clock::time_point EchKeys::next_change(const configuration::Ech& settings) const {
    auto next = entries_.front().made + std::chrono::seconds(settings.rotate_s);
    if (entries_.size() > 1) next = std::min(next, dies(entries_.size() - 1));
    return next;
}

std::shared_ptr<const EchKeys> EchKeys::rotated(const configuration::Ech& settings, Clock::time_point now) const {
    const std::chrono::seconds retain(settings.retain_s);
    const bool due = now - entries_.front().made >= std::chrono::seconds(settings.rotate_s) || public_name() != folded(settings.public_name);
    std::vector<Entry> entries;
    if (due) entries.push_back(generate(folded(settings.public_name), entries_, now));
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        const auto superseded = i > 0 ? entries_[i - 1].made : due ? now : Clock::time_point::max() - retain;
        if (superseded + retain > now) entries.push_back(entries_[i]);
    }
    if (!due && entries.size() == entries_.size()) return nullptr;
    return std::shared_ptr<const EchKeys>(new EchKeys(std::move(entries), retain));
}

std::string EchKeys::dns_value() const {
    const auto& list = config_list();
    std::string text((list.size() + 2) / 3 * 4 + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(list.data()), static_cast<int>(list.size()));
    text.resize(static_cast<std::size_t>(std::max(length, 0)));
    return text;
}

void EchKeys::save(const std::filesystem::path& file) const {
    std::error_code error;
    if (!std::filesystem::exists(file.parent_path(), error)) {
        std::filesystem::create_directories(file.parent_path(), error);
        if (!error) std::filesystem::permissions(file.parent_path(), std::filesystem::perms::owner_all, error);
        if (error) throw std::runtime_error(sallyport::format("{}: cannot be made: {}", file.parent_path().string(), error.message()));
    }
    std::size_t length = 0;
    for (const Entry& entry : entries_) length += entry.pem.size() + 64;
    std::string text;
    text.reserve(length);  // no growth that leaves copies of keys behind
    for (const Entry& entry : entries_) {
        text += sallyport::format("{}{}\n", kMade, std::chrono::duration_cast<std::chrono::seconds>(entry.made.time_since_epoch()).count());
        text += entry.pem;
    }
    struct Wiper {
        std::string& text;
        ~Wiper() { wipe(text); }
    } const wiper{text};
    replace_file(file, text, 0600);
    std::filesystem::path dns = file;
    replace_file(dns.replace_extension(".dns"), sallyport::format("ech=\"{}\"\n", dns_value()), 0644);
}

std::shared_ptr<const EchKeys> EchKeys::load(const configuration::Ech& settings, const std::filesystem::path& file, Clock::time_point now) {
    auto text = read_secret_file(file);
    if (!text) throw std::runtime_error(sallyport::format("{}: there is no such file; the ECH keys, made by this appliance", file.string()));
    struct Wiper {
        std::string& text;
        ~Wiper() { wipe(text); }
    } const wiper{*text};
    std::vector<Entry> entries;
    try {
        for (std::size_t at = text->find(kMade); at != std::string::npos;) {
            const std::size_t line_end = std::min(text->find('\n', at), text->size());
            const std::size_t end = std::min(text->find(kMade, line_end), text->size());
            std::int64_t seconds = 0;
            const auto parsed = std::from_chars(text->data() + at + kMade.size(), text->data() + line_end, seconds);
            if (parsed.ec != std::errc() || parsed.ptr != text->data() + line_end) throw std::runtime_error("a time is no number of seconds");
            entries.push_back(read(text->substr(line_end, end - line_end), Clock::time_point(std::chrono::seconds(seconds))));
            at = end < text->size() ? end : std::string::npos;
        }
        if (entries.empty()) throw std::runtime_error("holds no key");
        std::ranges::stable_sort(entries, std::ranges::greater(), &Entry::made);
        // A clock that was set back must not keep a key alive for ever.
        for (Entry& entry : entries) entry.made = std::min(entry.made, now);
        return std::shared_ptr<const EchKeys>(new EchKeys(std::move(entries), std::chrono::seconds(settings.retain_s)));
    } catch (const std::runtime_error& error) {
        for (Entry& entry : entries) wipe(entry.pem);
        throw std::runtime_error(sallyport::format("{}: {}", file.string(), error.what()));
    }
}

EchKeys::Prepared EchKeys::prepare(const configuration::Ech& settings, const std::filesystem::path& file, Clock::time_point now) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) return {make(settings, now), true};
    auto loaded = load(settings, file, now);
    auto rotated = loaded->rotated(settings, now);
    if (rotated) return {std::move(rotated), true};
    return {std::move(loaded), false};
}

std::filesystem::path ech_file(const configuration::Configuration& configuration, const configuration::Service& service) {
    return configuration.state_directory / "ech" / (service.name + ".pem");
}

}  // namespace sallyport::handshake
