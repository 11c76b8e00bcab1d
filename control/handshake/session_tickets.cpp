#include "control/handshake/session_tickets.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <span>

#include <openssl/rand.h>

#include "crypto/key_derivation.h"

namespace sallyport::handshake {
namespace {

constexpr unsigned char kNewSessionTicket = 4;           // RFC 8446 4
constexpr std::uint32_t kLongestLifetime = 7 * 86400;    // seconds, RFC 8446 4.6.1
constexpr std::size_t kNonce = 8;                        // octets, as libssl has it; any that are different will do
constexpr std::size_t kLongestTicket = 65535;

/// A session in DER, wiped when it goes.
class Encoded {
 public:
    explicit Encoded(const SSL_SESSION* session) : length_(i2d_SSL_SESSION(session, &octets_)) {}
    Encoded(const Encoded&) = delete;
    Encoded& operator=(const Encoded&) = delete;
    ~Encoded() { OPENSSL_clear_free(octets_, size()); }
    [[nodiscard]] std::span<std::byte> octets() const { return {reinterpret_cast<std::byte*>(octets_), size()}; }

 private:
    [[nodiscard]] std::size_t size() const { return length_ > 0 ? static_cast<std::size_t>(length_) : 0; }
    unsigned char* octets_ = nullptr;
    int length_;
};

void put(std::vector<std::byte>& to, std::uint64_t number, std::size_t octets) {
    for (std::size_t i = octets; i-- > 0;) to.push_back(static_cast<std::byte>(number >> (8 * i)));
}

std::array<std::byte, kNonce> nonce_of(std::uint64_t number) {
    std::array<std::byte, kNonce> nonce{};
    for (std::size_t i = 0; i < kNonce; ++i) nonce[i] = static_cast<std::byte>(number >> (8 * (kNonce - 1 - i)));
    return nonce;
}

}  // namespace

std::optional<std::vector<std::vector<std::byte>>> new_session_tickets(SSL_SESSION* session, const crypto::CipherSuite& suite, const crypto::TrafficSecret& secret, TicketKeys& keys, std::size_t count) {
    const std::size_t length = crypto::hash_length(suite.hash);
    std::vector<std::vector<std::byte>> messages;
    // A ticket is known by what is in it: libssl refuses one with the id of a session of TLS 1.2.
    if (SSL_SESSION_set_time_ex(session, std::time(nullptr)) == 0 || SSL_SESSION_set1_id(session, nullptr, 0) != 1) return std::nullopt;
    const auto lifetime = std::min(static_cast<std::uint32_t>(std::max(0L, SSL_SESSION_get_timeout(session))), kLongestLifetime);

    crypto::TrafficSecret psk, next;
    const auto derive = [&](std::uint64_t number, crypto::TrafficSecret& to) {
        std::array<std::byte, crypto::kMaxHashLength> octets{};
        const auto out = std::span(octets).first(length);
        const auto nonce = nonce_of(number);
        const bool derived = crypto::hkdf_expand_label(suite.hash, secret.octets(), "tls13 ", "resumption", nonce, out);
        if (derived) to.assign(out);
        crypto::wipe(octets.data(), octets.size());
        return derived;
    };
    if (!derive(0, psk) || SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(psk.octets().data()), length) != 1) return std::nullopt;
    const Encoded state(session);
    // Each ticket has a PSK of its own, and nothing else of its own: it is put where the one before lies.
    const auto place = std::ranges::search(state.octets(), psk.octets());
    if (place.size() != length) return std::nullopt;

    for (std::uint64_t number = 0; number < count; ++number) {
        if (number > 0) {
            if (!derive(number, next)) return std::nullopt;
            std::ranges::copy(next.octets(), place.begin());
        }
        std::vector<std::byte> ticket;
        std::uint32_t age_add = 0;
        if (!keys.seal(state.octets(), ticket) || ticket.size() > kLongestTicket || RAND_bytes(reinterpret_cast<unsigned char*>(&age_add), sizeof age_add) != 1) return std::nullopt;
        std::vector<std::byte>& message = messages.emplace_back();
        message.reserve(4 + 4 + 4 + 1 + kNonce + 2 + ticket.size() + 2);
        put(message, kNewSessionTicket, 1);
        put(message, 4 + 4 + 1 + kNonce + 2 + ticket.size() + 2, 3);
        put(message, lifetime, 4);
        put(message, age_add, 4);
        put(message, kNonce, 1);
        put(message, number, kNonce);
        put(message, ticket.size(), 2);
        message.insert(message.end(), ticket.begin(), ticket.end());
        put(message, 0, 2);   // no extensions: early_data is the only one
    }
    return messages;
}

}  // namespace sallyport::handshake
