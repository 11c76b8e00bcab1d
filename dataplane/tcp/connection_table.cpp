#include "dataplane/tcp/connection_table.h"

#include <bit>
#include <cstring>
#include <new>

namespace sallyport::tcp {

std::array<std::uint64_t, 5> words_of(const Tuple& tuple) noexcept {
    std::array<std::uint64_t, 5> words;
    std::memcpy(words.data(), tuple.local.address.octets.data(), 16);
    std::memcpy(words.data() + 2, tuple.remote.address.octets.data(), 16);
    words[4] = std::uint64_t{tuple.local.port} << 16 | tuple.remote.port;
    return words;
}

ConnectionTable::ConnectionTable(std::uint32_t max_connections, const KeyedHash& hash)
    : hash_(hash), mask_(std::bit_ceil(std::uint64_t{max_connections} + 1) - 1),
      buckets_(std::make_unique<ControlBlock*[]>(mask_ + 1)) {}

std::uint64_t ConnectionTable::hash(const Tuple& tuple) const noexcept { return hash_(words_of(tuple)); }

ControlBlock* ConnectionTable::find(const Tuple& tuple) const noexcept {
    const std::uint64_t wanted = hash(tuple);
    for (ControlBlock* cb = buckets_[wanted & mask_]; cb != nullptr; cb = cb->hash_next)
        if (cb->hash == wanted && cb->tuple == tuple) return cb;
    return nullptr;
}

void ConnectionTable::insert(ControlBlock& cb) noexcept {
    cb.hash = hash(cb.tuple);
    ControlBlock*& bucket = buckets_[cb.hash & mask_];
    cb.hash_next = bucket;
    bucket = &cb;
    cb.listed = true;
    ++size_;
}

void ConnectionTable::remove(ControlBlock& cb) noexcept {
    if (!cb.listed) return;
    ControlBlock** at = &buckets_[cb.hash & mask_];
    while (*at != &cb) at = &(*at)->hash_next;
    *at = cb.hash_next;
    cb.hash_next = nullptr;
    cb.listed = false;
    --size_;
}

union ControlBlockPool::Cell {
    Cell* next;
    alignas(ControlBlock) std::byte memory[sizeof(ControlBlock)];
};

struct ControlBlockPool::Chunk {
    static constexpr std::size_t kCells = 256;
    Cell cells[kCells];
};

ControlBlockPool::ControlBlockPool(std::uint32_t max) : max_(max) {
    chunks_.reserve((max + Chunk::kCells - 1) / Chunk::kCells);
}
ControlBlockPool::~ControlBlockPool() = default;

ControlBlock* ControlBlockPool::make(Core& core) {
    if (live_ >= max_) return nullptr;
    if (free_ == nullptr) {
        chunks_.push_back(std::unique_ptr<Chunk>(new Chunk));
        for (Cell& cell : chunks_.back()->cells) {
            cell.next = free_;
            free_ = &cell;
        }
    }
    Cell* cell = free_;
    free_ = cell->next;
    ++live_;
    return new (cell->memory) ControlBlock(core);
}

void ControlBlockPool::destroy(ControlBlock* cb) noexcept {
    cb->~ControlBlock();
    auto* cell = reinterpret_cast<Cell*>(cb);
    cell->next = free_;
    free_ = cell;
    --live_;
}

}  // namespace sallyport::tcp
