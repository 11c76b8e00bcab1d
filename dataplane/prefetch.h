#pragma once

#include <cstddef>
#include <cstdint>

namespace sallyport {

/// Fetches the cache lines that hold the octets from `from` up to `to`, for reading and writing. What lies there need not live any more.
inline void prefetch_lines(const void* from, const void* to) noexcept {
    constexpr std::uintptr_t kLine = 64;
    for (auto at = reinterpret_cast<std::uintptr_t>(from) & ~(kLine - 1); at < reinterpret_cast<std::uintptr_t>(to); at += kLine)
        __builtin_prefetch(reinterpret_cast<const void*>(at), 1);
}

}  // namespace sallyport
