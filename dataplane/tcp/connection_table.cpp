#include "dataplane/tcp/connection_table.h"

#include <sys/mman.h>

#include <algorithm>
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

Region::Region(std::size_t octets)
    : octets_(std::max<std::size_t>(octets, 1)), data_(mmap(nullptr, octets_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (data_ == MAP_FAILED) throw std::bad_alloc();
    static_cast<void>(madvise(data_, octets_, MADV_HUGEPAGE));   // without huge pages it works, too
}

Region::~Region() { munmap(data_, octets_); }

ConnectionTable::ConnectionTable(std::uint32_t max_connections, const KeyedHash& hash)
    : hash_(hash), mask_(std::bit_ceil(std::uint64_t{max_connections} + 1) - 1),
      memory_((mask_ + 1) * sizeof(ControlBlock*)), buckets_(static_cast<ControlBlock**>(memory_.data())) {}

std::uint64_t ConnectionTable::hash(const Tuple& tuple) const noexcept {
    const std::array<std::uint64_t, 5> words = words_of(tuple);
    // Of IPv4 addresses only their last four octets differ (RFC 4291 2.5.5.2), and fewer words are less work. No tuple of IPv6 has as few.
    if (!tuple.local.address.is_v4() || !tuple.remote.address.is_v4()) return hash_(words);
    return hash_(std::array{(words[1] & ~std::uint64_t{0xffffffff}) | words[3] >> 32, words[4]});
}

ControlBlock* ConnectionTable::find(const Tuple& tuple, std::uint32_t hash) const noexcept {
    for (ControlBlock* cb = buckets_[hash & mask_]; cb != nullptr; cb = cb->hash_next)
        if (cb->hash == hash && cb->tuple == tuple) return cb;
    return nullptr;
}

void ConnectionTable::insert(ControlBlock& cb) noexcept {
    cb.hash = static_cast<std::uint32_t>(hash(cb.tuple));
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

}  // namespace sallyport::tcp
