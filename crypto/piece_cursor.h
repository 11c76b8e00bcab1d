#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "crypto/record_protection.h"

namespace sallyport::crypto {

/// Hands out the octets of a list of pieces from front to back. Borrows the list.
class PieceCursor {
 public:
    explicit PieceCursor(std::span<const WritePiece> pieces) noexcept : pieces_(pieces) {}
    /// The next octets that lie together, at most `limit`. Precondition: there are some.
    [[nodiscard]] WritePiece take(std::uint32_t limit) noexcept {
        const WritePiece& piece = pieces_.front();
        const WritePiece taken{piece.data + used_, std::min(limit, piece.length - used_)};
        used_ += taken.length;
        if (used_ == piece.length) {
            pieces_ = pieces_.subspan(1);
            used_ = 0;
        }
        return taken;
    }

 private:
    std::span<const WritePiece> pieces_;
    std::uint32_t used_ = 0;
};

}  // namespace sallyport::crypto
