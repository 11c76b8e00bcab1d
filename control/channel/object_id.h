#pragma once

#include <cstdint>
#include <string_view>

namespace sallyport::channel {

/// Names a service, redirect, pool or member over the channel by what its administrator calls it, so that a flow means the same whatever
/// configuration it was opened under, and whichever control comes to know of it: positions in a configuration change, names say what is
/// meant. Never 0, which is none. FNV-1a: ten thousand names have a pair alike once in 10^11 configurations.
[[nodiscard]] constexpr std::uint64_t object_id(std::string_view kind, std::string_view name) noexcept {
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&](std::string_view text) {
        for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    };
    add(kind);
    hash = (hash ^ 0xff) * 0x100000001b3;   // no octet of a name: where the kind ends
    add(name);
    return hash == 0 ? 1 : hash;
}

[[nodiscard]] constexpr std::uint64_t service_id(std::string_view name) noexcept { return object_id("service", name); }
[[nodiscard]] constexpr std::uint64_t redirect_id(std::string_view name) noexcept { return object_id("redirect", name); }
[[nodiscard]] constexpr std::uint64_t pool_id(std::string_view name) noexcept { return object_id("pool", name); }
/// Within its pool.
[[nodiscard]] constexpr std::uint64_t member_id(std::string_view name) noexcept { return object_id("member", name); }

}  // namespace sallyport::channel
