#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

/// What a fuzzer drew, taken from front to back; zeros behind the end.
class Input {
 public:
    Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
    [[nodiscard]] bool empty() const { return rest_.empty(); }
    std::uint8_t octet() {
        if (rest_.empty()) return 0;
        const std::uint8_t value = rest_.front();
        rest_ = rest_.subspan(1);
        return value;
    }
    std::vector<std::byte> octets(std::size_t most) {
        const auto taken = rest_.first(std::min(most, rest_.size()));
        rest_ = rest_.subspan(taken.size());
        std::vector<std::byte> result(taken.size());
        if (!taken.empty()) std::memcpy(result.data(), taken.data(), taken.size());
        return result;
    }

 private:
    std::span<const std::uint8_t> rest_;
};
