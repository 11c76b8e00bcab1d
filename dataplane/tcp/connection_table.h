#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/tcp/control_block.h"
#include "dataplane/tcp/keyed_hash.h"
#include "dataplane/tcp/object_pool.h"

namespace sallyport::tcp {

using ControlBlockPool = ObjectPool<ControlBlock>;

/// Connections by 4-tuple: open addressing with linear probing, sized at construction for three quarters of its slots at most. A slot has the whole hash, so that
/// a look-up reads no control block but the one that it is for, as good as always: with many connections each is a miss in every cache. The hash is keyed, so that
/// nobody can choose addresses and ports that come to lie together.
class ConnectionTable {
 public:
    /// All connections are of `blocks`, which outlives the table.
    ConnectionTable(std::uint32_t max_connections, const KeyedHash& hash, const ControlBlockPool& blocks);

    [[nodiscard]] std::uint64_t hash(const Tuple& tuple) const noexcept;
    [[nodiscard]] ControlBlock* find(const Tuple& tuple) const noexcept { return find(tuple, static_cast<std::uint32_t>(hash(tuple))); }
    /// `hash`: of `tuple`, its lower half; more slots than 2^32 there never are.
    [[nodiscard]] ControlBlock* find(const Tuple& tuple, std::uint32_t hash) const noexcept;
    /// The steps before find(), each some hundred nanoseconds before the next, which so need not wait for memory.
    void prefetch_slot(std::uint32_t hash) const noexcept { __builtin_prefetch(&slots_[hash & mask_]); }
    /// Returns the connection that find() will look at first, nullptr where there is none: good until a connection goes.
    [[nodiscard]] const ControlBlock* prefetch_first(std::uint32_t hash) const noexcept {
        for (std::uint64_t at = hash & mask_; slots_[at].place != kFree; at = (at + 1) & mask_)
            if (slots_[at].hash == hash) {
                const ControlBlock* const cb = at_place(slots_[at].place);
                prefetch(*cb);
                return cb;
            }
        return nullptr;
    }
    /// The tuple is not in the table.
    void insert(ControlBlock& cb) noexcept;
    /// No effect when it is not in the table.
    void remove(ControlBlock& cb) noexcept;
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
    /// visit(cb) may remove `cb`, and no other.
    template <typename Visit>
    void for_each(Visit&& visit) {
        // From a free slot on, so that what a removal moves has not been visited.
        std::uint64_t begin = 0;
        while (slots_[begin].place != kFree) ++begin;
        for (std::uint64_t left = mask_, at = begin; left > 0;) {
            const std::uint64_t next = (at + 1) & mask_;
            const std::uint32_t place = slots_[next].place;
            if (place != kFree) {
                visit(*at_place(place));
                if (slots_[next].place != kFree && slots_[next].place != place) continue;   // another has moved there
            }
            at = next;
            --left;
        }
    }

 private:
    static constexpr std::uint32_t kFree = 0;
    struct Slot {
        std::uint32_t hash;
        std::uint32_t place;   ///< of the connection in the pool, and one more; or kFree
    };

    [[nodiscard]] ControlBlock* at_place(std::uint32_t place) const noexcept { return blocks_.at(place - 1); }

    KeyedHash hash_;
    const ControlBlockPool& blocks_;
    std::uint64_t mask_;
    Region memory_;
    Slot* slots_;
    std::uint32_t size_ = 0;
};

/// Words of a tuple for KeyedHash: addresses, ports.
[[nodiscard]] std::array<std::uint64_t, 5> words_of(const Tuple& tuple) noexcept;

}  // namespace sallyport::tcp
