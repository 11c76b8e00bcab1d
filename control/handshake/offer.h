#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/handshake/handshake.h"

/// Reading a ClientHello (RFC 8446 4.1.2) for the brake, for the record of a handshake that fails, and for its fingerprint. Pure functions.
namespace sallyport::handshake {

/// A ClientHello: as the library hands it over, or as it came. Borrows.
struct HelloView {
    std::uint16_t legacy_version = 0;
    std::span<const unsigned char> suites;   ///< cipher_suites without its length
    std::vector<std::pair<std::uint16_t, std::span<const unsigned char>>> extensions{};   ///< in the order in which they came, without lengths
};

/// Takes a ClientHello apart (RFC 8446 4.1.2; from its msg_type on): all of its extensions, also those that no library knows. nullopt when it is
/// malformed. Borrows.
[[nodiscard]] std::optional<HelloView> parse_client_hello(std::span<const unsigned char> message);

/// Whether a value is one of those that mean nothing (GREASE, RFC 8701).
[[nodiscard]] constexpr bool is_grease(std::uint16_t value) { return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff); }

/// What a client offers, without its fingerprint. Extensions that are malformed leave their list empty: refusing them is libssl's. GREASE is left
/// out of every list. Costs the same however long the lists are. Throws only std::bad_alloc.
[[nodiscard]] Offer read_offer(const HelloView& hello);

/// Whether a list is longer than any client has use for: IANA's registries of suites, groups, schemes and extensions all have fewer entries. Such a
/// ClientHello is refused, so that ja4(), which hashes whole lists, has a bound.
[[nodiscard]] bool is_absurd(const HelloView& hello);

/// The JA4 fingerprint of a ClientHello as it came over TCP, as FoxIO publishes its format: what a client *can*, not in which order it says so. Of the
/// whole lists: sorts and hashes them.
[[nodiscard]] std::string ja4(const HelloView& hello);

/// The host_name of a server_name extension (RFC 6066 3) in lower case; nullopt when it is malformed or longer than a DNS name may be.
[[nodiscard]] std::optional<std::string> host_name(std::span<const unsigned char> server_name);

}  // namespace sallyport::handshake
