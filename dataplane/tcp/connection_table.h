#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/tcp/control_block.h"
#include "dataplane/tcp/keyed_hash.h"

namespace sallyport::tcp {

/// Zeroed memory of fixed size that takes pages only where it is touched, huge ones where the kernel has them: with a million connections
/// nearly every access is to another page, and 4 KB of them would cost a walk through the page table each time.
class Region {
 public:
    explicit Region(std::size_t octets);
    ~Region();
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
    [[nodiscard]] void* data() const noexcept { return data_; }

 private:
    std::size_t octets_;
    void* data_;
};

/// Connections by 4-tuple: hash table with chains through the control blocks, sized at construction. The hash is keyed, so that nobody
/// can choose addresses and ports that share a chain.
class ConnectionTable {
 public:
    ConnectionTable(std::uint32_t max_connections, const KeyedHash& hash);

    [[nodiscard]] std::uint64_t hash(const Tuple& tuple) const noexcept;
    [[nodiscard]] ControlBlock* find(const Tuple& tuple) const noexcept;
    /// The tuple is not in the table.
    void insert(ControlBlock& cb) noexcept;
    /// No effect when it is not in the table.
    void remove(ControlBlock& cb) noexcept;
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
    template <typename Visit>
    void for_each(Visit&& visit) {
        for (std::size_t i = 0; i <= mask_; ++i)
            for (ControlBlock* cb = buckets_[i]; cb != nullptr;) {
                ControlBlock* next = cb->hash_next;
                visit(*cb);
                cb = next;
            }
    }

 private:
    KeyedHash hash_;
    std::uint64_t mask_;
    Region memory_;
    ControlBlock** buckets_;
    std::uint32_t size_ = 0;
};

/// Words of a tuple for KeyedHash: addresses, ports.
[[nodiscard]] std::array<std::uint64_t, 5> words_of(const Tuple& tuple) noexcept;

/// Memory for control blocks up to a bound, reused last in, first out; nothing is given back before the end.
class ControlBlockPool {
 public:
    explicit ControlBlockPool(std::uint32_t max);
    ControlBlockPool(const ControlBlockPool&) = delete;
    ControlBlockPool& operator=(const ControlBlockPool&) = delete;

    /// Null at the bound.
    [[nodiscard]] ControlBlock* make(Core& core);
    void destroy(ControlBlock* cb) noexcept;
    [[nodiscard]] std::uint32_t live() const noexcept { return live_; }

 private:
    union Cell;
    std::uint32_t max_, live_ = 0;
    std::uint32_t touched_ = 0;   ///< cells from here on were never used
    Region memory_;
    Cell* cells_;
    Cell* free_ = nullptr;
};

}  // namespace sallyport::tcp
