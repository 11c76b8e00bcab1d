#include "crypto/secret.h"

#include <cstring>

namespace sallyport::crypto {

void wipe(void* memory, std::size_t length) noexcept {
    if (length == 0) return;
    std::memset(memory, 0, length);
    // The memory may be read by what the compiler can't see: so the stores above stay.
    asm volatile("" : : "r"(memory) : "memory");
}

}  // namespace sallyport::crypto
