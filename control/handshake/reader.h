#pragma once

#include <cstddef>
#include <span>

namespace sallyport::handshake {

/// Octets of a handshake message, read front to back; every read says whether there was enough. Borrows them.
class Reader {
 public:
    explicit Reader(std::span<const unsigned char> octets) : octets_(octets) {}
    /// A number in network order.
    [[nodiscard]] bool number(std::size_t length, std::size_t& value) {
        if (octets_.size() < length) return false;
        value = 0;
        for (const unsigned char octet : octets_.first(length)) value = value << 8 | octet;
        octets_ = octets_.subspan(length);
        return true;
    }
    [[nodiscard]] bool octets(std::size_t length, std::span<const unsigned char>& value) {
        if (octets_.size() < length) return false;
        value = octets_.first(length);
        octets_ = octets_.subspan(length);
        return true;
    }
    [[nodiscard]] bool at_end() const { return octets_.empty(); }

 private:
    std::span<const unsigned char> octets_;
};

}  // namespace sallyport::handshake
