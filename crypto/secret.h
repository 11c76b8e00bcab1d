#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "crypto/check.h"

namespace sallyport::crypto {

/// Overwrites memory in a way that the compiler may not leave out.
void wipe(void* memory, std::size_t length) noexcept;

/// Up to `Capacity` octets of key material, wiped on destruction and before being overwritten.
template <std::size_t Capacity>
class Secret {
 public:
    Secret() noexcept = default;
    explicit Secret(std::span<const std::byte> octets) noexcept { assign(octets); }
    Secret(const Secret& other) noexcept { assign(other.octets()); }
    Secret& operator=(const Secret& other) noexcept {
        if (this != &other) assign(other.octets());
        return *this;
    }
    ~Secret() { wipe(octets_.data(), octets_.size()); }

    void assign(std::span<const std::byte> octets) noexcept {
        SALLYPORT_CHECK(octets.size() <= Capacity);
        wipe(octets_.data(), octets_.size());
        std::ranges::copy(octets, octets_.begin());
        length_ = static_cast<std::uint8_t>(octets.size());
    }
    void clear() noexcept {
        wipe(octets_.data(), octets_.size());
        length_ = 0;
    }
    [[nodiscard]] std::span<const std::byte> octets() const noexcept { return {octets_.data(), length_}; }
    [[nodiscard]] bool empty() const noexcept { return length_ == 0; }

 private:
    static_assert(Capacity <= 255);
    std::array<std::byte, Capacity> octets_{};
    std::uint8_t length_ = 0;
};

}  // namespace sallyport::crypto
