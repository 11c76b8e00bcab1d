#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "control/channel/address.h"

namespace sallyport::generator {

/// Every host address of some prefixes, by number: without the first and the last of an IPv4 prefix that has others, which are its network and
/// broadcast addresses. Of a prefix longer than 2^24 addresses that many are used.
class AddressRange {
 public:
    void add(const IpPrefix& prefix) {
        const unsigned host_bits = (prefix.address.is_v4() ? 32u : 128u) - prefix.length;
        const std::uint32_t all = std::uint32_t{1} << std::min(host_bits, 24u);
        const bool reserved = prefix.address.is_v4() && host_bits >= 2;
        Part part{prefix.address, reserved ? 1u : 0u, reserved ? all - 2 : all};
        // The host part is filled in: it begins as noughts.
        for (unsigned bit = 128 - host_bits; bit < 128; ++bit) part.network.octets[bit / 8] &= static_cast<std::uint8_t>(~(0x80u >> bit % 8));
        parts_.push_back(part);
        size_ += part.count;
    }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    /// i < size().
    [[nodiscard]] IpAddress at(std::uint64_t i) const noexcept {
        std::size_t part = 0;
        for (; i >= parts_[part].count; ++part) i -= parts_[part].count;
        IpAddress address = parts_[part].network;
        auto host = static_cast<std::uint32_t>(i) + parts_[part].first;
        for (std::size_t octet = 16; host > 0; host >>= 8) address.octets[--octet] |= static_cast<std::uint8_t>(host);
        return address;
    }

 private:
    struct Part {
        IpAddress network;
        std::uint32_t first, count;
    };
    std::vector<Part> parts_;
    std::uint64_t size_ = 0;
};

}  // namespace sallyport::generator
