#pragma once

#include <openssl/ech.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"

namespace sallyport::handshake {

/// The Encrypted ClientHello keys of one service (RFC 9849): the newest is published, in the DNS and as retry configuration; older ones
/// still open for a time. X25519, HKDF-SHA256, AES-128-GCM. Immutable: rotation makes another object, and with it another ServerContext.
/// Any thread. Key material is in libcrypto's objects and in the file, which is its owner's alone.
class EchKeys {
 public:
    using Clock = std::chrono::system_clock;

    struct Key {
        std::uint8_t config_id = 0;
        Clock::time_point made;
        Clock::time_point dies;   ///< when it no longer opens; Clock::time_point::max() for the published one
    };

    /// A first key. Throws std::runtime_error saying what the library refused.
    [[nodiscard]] static std::shared_ptr<const EchKeys> make(const configuration::Ech& settings, Clock::time_point now);
    /// What a file holds (see save). Throws std::runtime_error naming the file and what is wrong: no private key, a mode that lets others
    /// read it, no key at all.
    [[nodiscard]] static std::shared_ptr<const EchKeys> load(const configuration::Ech& settings, const std::filesystem::path& file, Clock::time_point now);
    /// What runs a service: loads the file if it is there, makes keys if it is not, rotates if it is time or if the public name has changed.
    /// Writes nothing: whoever is refused must not have changed what the running service has. Throws as load does.
    struct Prepared {
        std::shared_ptr<const EchKeys> keys;
        bool unsaved = false;   ///< they are not what the file holds: save() before they are published
    };
    [[nodiscard]] static Prepared prepare(const configuration::Ech& settings, const std::filesystem::path& file, Clock::time_point now);

    /// With a new key when the newest is rotate_s old, and without those that are retain_s past their publication; nullptr: nothing is due.
    [[nodiscard]] std::shared_ptr<const EchKeys> rotated(const configuration::Ech& settings, Clock::time_point now) const;
    /// When rotated() has something to do next.
    [[nodiscard]] Clock::time_point next_change(const configuration::Ech& settings) const;

    /// Writes the keys (PEM, mode 0600, newest first) and FILE with extension .dns (mode 0644: `ech="..."`), each whole or not at all.
    /// Throws std::runtime_error.
    void save(const std::filesystem::path& file) const;

    /// The value of the SvcParam "ech" in an HTTPS record (RFC 9848): the ECHConfigList with the published configuration, in base64.
    [[nodiscard]] std::string dns_value() const;
    /// The same in octets.
    [[nodiscard]] const std::vector<std::byte>& config_list() const { return entries_.front().config_list; }
    [[nodiscard]] const std::string& public_name() const { return entries_.front().public_name; }
    /// Newest first.
    [[nodiscard]] std::vector<Key> keys() const;
    [[nodiscard]] std::size_t count() const { return entries_.size(); }
    /// For SSL_CTX_set1_echstore, which copies it. Owned by this object.
    [[nodiscard]] OSSL_ECHSTORE* store() const { return store_.get(); }

    ~EchKeys();
    EchKeys(const EchKeys&) = delete;
    EchKeys& operator=(const EchKeys&) = delete;

 private:
    struct Entry {
        std::string pem;   ///< PRIVATE KEY and ECHCONFIG; wiped with the object
        std::string public_name;
        std::vector<std::byte> config_list;
        std::uint8_t config_id = 0;
        Clock::time_point made;
    };
    EchKeys(std::vector<Entry> entries, std::chrono::seconds retain);
    [[nodiscard]] static Entry generate(const std::string& public_name, const std::vector<Entry>& others, Clock::time_point now);
    [[nodiscard]] static Entry read(std::string pem, Clock::time_point made);
    [[nodiscard]] Clock::time_point dies(std::size_t index) const;

    std::vector<Entry> entries_;   ///< newest first, at least one
    std::chrono::seconds retain_;
    openssl::Owner<OSSL_ECHSTORE, OSSL_ECHSTORE_free> store_;
};

/// Where a service's keys are: STATE/ech/SERVICE.pem.
[[nodiscard]] std::filesystem::path ech_file(const configuration::Configuration& configuration, const configuration::Service& service);

}  // namespace sallyport::handshake
