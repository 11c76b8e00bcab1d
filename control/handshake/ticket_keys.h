#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"
#include "crypto/secret.h"

namespace sallyport::handshake {

/// The keys that session tickets are sealed with (RFC 5077 4, RFC 8446 4.6.1): AES-256-CBC and HMAC-SHA256.
/// A new key each period; the kOldKeys before it still open tickets, older ones are wiped. Keys are never stored.
/// Random, or derived for each period from a secret and the clock, so that appliances with the same secret, period and time agree.
/// Any thread.
class TicketKeys {
 public:
    using Clock = std::function<std::chrono::system_clock::time_point()>;
    using Secret = crypto::Secret<64>;
    static constexpr std::size_t kOldKeys = 2;
    /// How far another appliance's clock may be ahead: its key for the period that begins so soon opens here already.
    static constexpr std::chrono::minutes kSkew{5};

    struct Settings {
        std::chrono::seconds period{3600};
        Secret secret{};   ///< empty: random keys
    };

    /// Throws std::runtime_error when libcrypto has no random octets, AES, HMAC or HKDF.
    explicit TicketKeys(Settings settings, Clock clock = [] { return std::chrono::system_clock::now(); });

    /// Makes a new key and wipes old ones when it is time. Called at each use; a timer should call it too, so that an idle
    /// appliance does not keep old keys.
    void rotate();

    /// What libssl's ticket callback does (SSL_CTX_set_tlsext_ticket_key_evp_cb): 1 ready, 2 ready and the ticket is to be
    /// renewed, 0 no such key (a full handshake follows), -1 the library failed.
    [[nodiscard]] int seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac);
    [[nodiscard]] int open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac);

    /// A ticket with `state` in it, such as libssl makes with seal() and open() takes: key name, IV, ciphertext, MAC (RFC 5077 4). False: the library failed.
    [[nodiscard]] bool seal(std::span<const std::byte> state, std::vector<std::byte>& ticket);

    [[nodiscard]] std::size_t count() const;
    /// Of the key that seals now.
    [[nodiscard]] std::chrono::seconds age() const;
    [[nodiscard]] std::chrono::seconds period() const { return settings_.period; }
    /// How long a ticket says that it lives: every ticket can be opened for at least kOldKeys periods.
    [[nodiscard]] std::chrono::seconds ticket_lifetime() const { return kOldKeys * settings_.period; }

 private:
    struct Key {
        std::array<unsigned char, 16> name{};
        crypto::Secret<32> cipher;
        crypto::Secret<32> mac;
        std::chrono::system_clock::time_point made;   ///< beginning of its period
    };
    [[nodiscard]] Key make(std::chrono::system_clock::time_point made) const;
    [[nodiscard]] Key derive(std::int64_t period) const;
    void rotate_locked();
    void rotate_derived(std::chrono::system_clock::time_point now);
    /// The key to seal with: the newest whose period has begun.
    [[nodiscard]] const Key& current(std::chrono::system_clock::time_point now) const;
    [[nodiscard]] static bool set_mac(EVP_MAC_CTX* mac, const Key& key);

    Settings settings_;
    Clock clock_;
    CipherPtr cipher_;
    mutable std::mutex mutex_;
    std::vector<Key> keys_;   ///< newest first
};

}  // namespace sallyport::handshake
