#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/tcp/control_block.h"
#include "dataplane/tcp/keyed_hash.h"
#include "dataplane/tcp/object_pool.h"

namespace sallyport::tcp {

/// Connections by 4-tuple: hash table with chains through the control blocks, sized at construction. The hash is keyed, so that nobody
/// can choose addresses and ports that share a chain.
class ConnectionTable {
 public:
    ConnectionTable(std::uint32_t max_connections, const KeyedHash& hash);

    [[nodiscard]] std::uint64_t hash(const Tuple& tuple) const noexcept;
    [[nodiscard]] ControlBlock* find(const Tuple& tuple) const noexcept { return find(tuple, static_cast<std::uint32_t>(hash(tuple))); }
    /// `hash`: of `tuple`, its lower half; more buckets than 2^32 there never are.
    [[nodiscard]] ControlBlock* find(const Tuple& tuple, std::uint32_t hash) const noexcept;
    /// The steps before find() of many connections, each to be done for all of them before the next, so that what is in no cache comes from memory for
    /// all of them at once.
    void prefetch_bucket(std::uint32_t hash) const noexcept { __builtin_prefetch(&buckets_[hash & mask_]); }
    void prefetch_first(std::uint32_t hash) const noexcept {
        if (const ControlBlock* const cb = buckets_[hash & mask_]) __builtin_prefetch(&cb->hash);
    }
    /// Returns what it has found, perhaps nullptr: good until a connection goes.
    [[nodiscard]] const ControlBlock* prefetch_found(std::uint32_t hash) const noexcept {
        const ControlBlock* cb = buckets_[hash & mask_];
        while (cb != nullptr && cb->hash != hash) cb = cb->hash_next;
        if (cb != nullptr) prefetch(*cb);
        return cb;
    }
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

using ControlBlockPool = ObjectPool<ControlBlock>;

}  // namespace sallyport::tcp
