#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"
#include "crypto/secret.h"

namespace sallyport::handshake {

/// The keys that session tickets are sealed with (RFC 5077 4, RFC 8446 4.6.1): AES-256-CBC and HMAC-SHA256.
/// A new key each kPeriod; the kOldKeys before it still open tickets, older ones are wiped. Keys are never stored or shared.
/// Any thread.
class TicketKeys {
 public:
    using Clock = std::function<std::chrono::steady_clock::time_point()>;
    static constexpr std::chrono::hours kPeriod{1};
    static constexpr std::size_t kOldKeys = 2;
    /// How long a ticket says that it lives: every ticket can be opened for at least kOldKeys periods.
    static constexpr std::chrono::seconds kTicketLifetime = kOldKeys * kPeriod;

    /// Throws std::runtime_error when libcrypto has no random octets, AES or HMAC.
    explicit TicketKeys(Clock clock = [] { return std::chrono::steady_clock::now(); });

    /// Makes a new key and wipes old ones when it is time. Called at each use; a timer should call it too, so that an idle
    /// appliance does not keep old keys.
    void rotate();

    /// What libssl's ticket callback does (SSL_CTX_set_tlsext_ticket_key_evp_cb): 1 ready, 2 ready and the ticket is to be
    /// renewed, 0 no such key (a full handshake follows), -1 the library failed.
    [[nodiscard]] int seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac);
    [[nodiscard]] int open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac);

    [[nodiscard]] std::size_t count() const;

 private:
    struct Key {
        std::array<unsigned char, 16> name{};
        crypto::Secret<32> cipher;
        crypto::Secret<32> mac;
        std::chrono::steady_clock::time_point made;
    };
    [[nodiscard]] Key make() const;
    void rotate_locked();
    [[nodiscard]] static bool set_mac(EVP_MAC_CTX* mac, const Key& key);

    Clock clock_;
    CipherPtr cipher_;
    mutable std::mutex mutex_;
    std::vector<Key> keys_;   ///< newest first
};

}  // namespace sallyport::handshake
