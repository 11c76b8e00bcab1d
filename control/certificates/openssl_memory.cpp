#include "control/certificates/openssl_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "crypto/sanitizers.h"

namespace sallyport::openssl {
namespace {

// A block's size is not written down: malloc knows it (malloc_usable_size(3)), and a block that was allocated before, or by somebody else, is as good as one of ours.

constexpr std::size_t kStep = 16, kLeast = 24;   ///< glibc's, so that no small block has room that is not used
constexpr std::size_t kSmallKinds = 64;          ///< up to 24 + 63 * 16 octets
constexpr std::size_t kMostSmall = kLeast + (kSmallKinds - 1) * kStep;
/// Of libssl's record layer, buffers of messages, and records.
constexpr std::array<std::size_t, 6> kLarge{1544, 2568, 4456, 8712, 16936, 20488};
constexpr std::size_t kKinds = kSmallKinds + kLarge.size();
constexpr std::size_t kMostOctets = 64 << 10, kMostLargeBlocks = 16;

constexpr std::size_t size_of(std::size_t kind) noexcept { return kind < kSmallKinds ? kLeast + kind * kStep : kLarge[kind - kSmallKinds]; }
constexpr std::size_t most_of(std::size_t kind) noexcept { return std::max(kMostOctets / size_of(kind), kMostLargeBlocks); }

/// The smallest kind that has room for so much; kKinds: none has.
std::size_t kind_for(std::size_t length) noexcept {
    if (length <= kMostSmall) return length <= kLeast ? 0 : (length - kLeast + kStep - 1) / kStep;
    return kSmallKinds + static_cast<std::size_t>(std::ranges::lower_bound(kLarge, length) - kLarge.begin());
}

/// The largest kind that a block of this size serves as. Between two kinds a block is as good as the smaller one; beyond the largest it is nobody's.
std::size_t kind_of(std::size_t size) noexcept {
    if (size < kLeast) return kKinds;
    if (size < kLarge.front()) return std::min((size - kLeast) / kStep, kSmallKinds - 1);
    if (size >= kLarge.back() + 2 * kStep) return kKinds;
    return kSmallKinds + static_cast<std::size_t>(std::ranges::upper_bound(kLarge, size) - kLarge.begin()) - 1;
}

struct Block {
    Block* next;
};

/// What this thread keeps. It has no destructor, so that it can be used until the thread's very end; Ending empties it.
struct Kept {
    struct Kind {
        Block* first = nullptr;
        std::size_t room = 0;   ///< for so many blocks more; none before the thread has begun and after it has ended
    };
    std::array<Kind, kKinds> kinds{};
    bool begun = false;
};
constinit thread_local Kept kept;

struct Ending {
    Ending() noexcept {
        for (std::size_t kind = 0; kind < kKinds; ++kind) kept.kinds[kind].room = most_of(kind);
        kept.begun = true;
    }
    ~Ending() {
        give_freed_memory_back();
        for (Kept::Kind& kind : kept.kinds) kind.room = 0;
    }
    Ending(const Ending&) = delete;
    Ending& operator=(const Ending&) = delete;
};

void begin() noexcept { thread_local const Ending ending; }

void* allocate(std::size_t length, const char*, int) noexcept {
    if (length == 0) return nullptr;
    const std::size_t number = kind_for(length);
    if (number == kKinds) return std::malloc(length);
    Kept::Kind& kind = kept.kinds[number];
    Block* const block = kind.first;
    if (block == nullptr) return std::malloc(size_of(number));
    kind.first = block->next;
    ++kind.room;
    return block;
}

void release(void* memory, const char*, int) noexcept {
    if (memory == nullptr) return;
    const std::size_t number = kind_of(malloc_usable_size(memory));
    if (number == kKinds) return std::free(memory);
    Kept::Kind& kind = kept.kinds[number];
    if (kind.room == 0) {
        if (kept.begun) return std::free(memory);
        begin();
    }
    auto* const block = static_cast<Block*>(memory);
    block->next = kind.first;
    kind.first = block;
    --kind.room;
}

void* reallocate(void* memory, std::size_t length, const char* file, int line) noexcept {
    if (memory == nullptr) return allocate(length, file, line);
    if (length == 0) {
        release(memory, file, line);
        return nullptr;
    }
    const std::size_t size = malloc_usable_size(memory);
    if (kind_of(size) == kKinds && kind_for(length) == kKinds) return std::realloc(memory, length);
    if (length <= size && length > size / 2) return memory;
    void* const other = allocate(length, file, line);
    if (other == nullptr) return nullptr;
    std::memcpy(other, memory, std::min(size, length));
    release(memory, file, line);
    return other;
}

}  // namespace

bool keep_freed_memory() {
    if (SALLYPORT_ASAN || SALLYPORT_TSAN) return false;
    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1) throw std::logic_error("OpenSSL has allocated before it was told how to");
    return true;
}

void give_freed_memory_back() noexcept {
    for (Kept::Kind& kind : kept.kinds)
        while (kind.first != nullptr) {
            std::free(std::exchange(kind.first, kind.first->next));
            ++kind.room;
        }
}

}  // namespace sallyport::openssl
