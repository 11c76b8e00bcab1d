#include "dataplane/tcp/connection_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "crypto/check.h"

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

ConnectionTable::ConnectionTable(std::uint32_t max_connections, const KeyedHash& hash, const ControlBlockPool& blocks)
    : hash_(hash), blocks_(blocks), mask_(std::bit_ceil(std::uint64_t{max_connections} + max_connections / 3 + 2) - 1),
      memory_((mask_ + 1) * sizeof(Slot)), slots_(static_cast<Slot*>(memory_.data())) {}

std::uint64_t ConnectionTable::hash(const Tuple& tuple) const noexcept {
    const std::array<std::uint64_t, 5> words = words_of(tuple);
    // Of IPv4 addresses only their last four octets differ (RFC 4291 2.5.5.2), and fewer words are less work. No tuple of IPv6 has as few.
    if (!tuple.local.address.is_v4() || !tuple.remote.address.is_v4()) return hash_(words);
    return hash_(std::array{(words[1] & ~std::uint64_t{0xffffffff}) | words[3] >> 32, words[4]});
}

ControlBlock* ConnectionTable::find(const Tuple& tuple, std::uint32_t hash) const noexcept {
    for (std::uint64_t at = hash & mask_; slots_[at].place != kFree; at = (at + 1) & mask_)
        if (slots_[at].hash == hash)
            if (ControlBlock* const cb = at_place(slots_[at].place); cb->tuple == tuple) return cb;
    return nullptr;
}

void ConnectionTable::insert(ControlBlock& cb) noexcept {
    SALLYPORT_CHECK(size_ < mask_);   // one slot at least stays free: there every search ends
    cb.hash = static_cast<std::uint32_t>(hash(cb.tuple));
    std::uint64_t at = cb.hash & mask_;
    while (slots_[at].place != kFree) at = (at + 1) & mask_;
    slots_[at] = {cb.hash, blocks_.place_of(cb) + 1};
    cb.listed = true;
    ++size_;
}

void ConnectionTable::remove(ControlBlock& cb) noexcept {
    if (!cb.listed) return;
    const std::uint32_t place = blocks_.place_of(cb) + 1;
    std::uint64_t hole = cb.hash & mask_;
    while (slots_[hole].place != place) hole = (hole + 1) & mask_;
    // What lies behind it, up to the next free slot, moves up where its search would end at the hole (Knuth, The Art of Computer Programming 6.4, algorithm R).
    for (std::uint64_t at = (hole + 1) & mask_; slots_[at].place != kFree; at = (at + 1) & mask_) {
        const std::uint64_t from_home = (at - slots_[at].hash) & mask_, from_hole = (at - hole) & mask_;
        if (from_home < from_hole) continue;
        slots_[hole] = slots_[at];
        hole = at;
    }
    slots_[hole] = {0, kFree};
    cb.listed = false;
    --size_;
}

}  // namespace sallyport::tcp
