#include "tests/unit/dataplane/sharing/recorder.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>

#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::test {
namespace {

constexpr std::size_t kPlaces = std::size_t{1} << 22;   // twice the lines of 128 MiB
thread_local Recorder* recording = nullptr;

std::string name_of(const void* address) {
    Dl_info info{};
    if (address == nullptr) return "nobody";
    if (dladdr(address, &info) == 0 || info.dli_sname == nullptr) return sallyport::format("{}", address);
    int status = 0;
    char* const plain = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    std::string name = plain != nullptr ? plain : info.dli_sname;
    std::free(plain);
    return sallyport::format("{}+{:#x}", name, static_cast<std::size_t>(static_cast<const char*>(address) - static_cast<const char*>(info.dli_saddr)));
}

}  // namespace

Recorder::Recorder() : mask_(kPlaces - 1) {
    void* const memory = mmap(nullptr, kPlaces * sizeof(Touched), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SALLYPORT_CHECK(memory != MAP_FAILED);
    table_ = static_cast<Touched*>(memory);
}

Recorder::~Recorder() { munmap(table_, kPlaces * sizeof(Touched)); }

void Recorder::on() { recording = this; }
void Recorder::off() { recording = nullptr; }

void Recorder::note(std::uintptr_t address, std::size_t size, bool write, const void* code) noexcept {
    if (size == 0) return;
    for (std::uintptr_t line = address / kLine; line <= (address + size - 1) / kLine; ++line) {
        std::size_t at = (line * 0x9e3779b97f4a7c15) >> 40 & mask_;
        while (table_[at].line != line && table_[at].line != 0) at = (at + 1) & mask_;
        if (table_[at].line == 0) {
            SALLYPORT_CHECK(++used_ < kPlaces / 2);
            table_[at].line = line;
        }
        const void*& first = write ? table_[at].writer : table_[at].reader;
        if (first == nullptr) first = code;
    }
}

std::vector<Touched> Recorder::touched() const {
    std::vector<Touched> all;
    std::copy_if(table_, table_ + kPlaces, std::back_inserter(all), [](const Touched& each) { return each.line != 0; });
    std::ranges::sort(all, {}, &Touched::line);
    return all;
}

std::vector<Shared> shared_lines(const Recorder& one, const Recorder& other) {
    std::map<std::uintptr_t, Touched> first;
    for (const Touched& each : one.touched()) first[each.line] = each;
    std::vector<Shared> shared;
    for (const Touched& b : other.touched()) {
        const auto found = first.find(b.line);
        if (found == first.end()) continue;
        const Touched& a = found->second;
        if (a.writer == nullptr && b.writer == nullptr) continue;
        shared.push_back({b.line, sallyport::format("line {:#x} ({}): written by {} and {}, read by {} and {}", b.line * kLine, name_of(reinterpret_cast<const void*>(b.line * kLine)), name_of(a.writer),
                                                    name_of(b.writer), name_of(a.reader), name_of(b.reader))});
    }
    return shared;
}

}  // namespace sallyport::test

// ---- what the compiler calls ----

using sallyport::test::recording;

#define CODE __builtin_return_address(0)
#define NOTE(address, size, write) \
    if (auto* const recorder = recording) recorder->note(reinterpret_cast<std::uintptr_t>(address), size, write, CODE)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void** at, void*) { NOTE(at, sizeof(void*), true); }
void __tsan_vptr_read(void** at) { NOTE(at, sizeof(void*), false); }
void __tsan_read_range(void* at, std::size_t size) { NOTE(at, size, false); }
void __tsan_write_range(void* at, std::size_t size) { NOTE(at, size, true); }

#define ACCESS(size)                                                   \
    void __tsan_read##size(void* at) { NOTE(at, size, false); }        \
    void __tsan_write##size(void* at) { NOTE(at, size, true); }        \
    void __tsan_unaligned_read##size(void* at) { NOTE(at, size, false); } \
    void __tsan_unaligned_write##size(void* at) { NOTE(at, size, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

// The order is the strongest, whatever was asked for: the recorder is not there to find races.
#define ATOMIC(bits, type)                                                                                                     \
    type __tsan_atomic##bits##_load(const volatile type* at, int) {                                                            \
        NOTE(at, sizeof(type), false);                                                                                         \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                                          \
    }                                                                                                                          \
    void __tsan_atomic##bits##_store(volatile type* at, type value, int) {                                                     \
        NOTE(at, sizeof(type), true);                                                                                          \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                                                         \
    }                                                                                                                          \
    type __tsan_atomic##bits##_exchange(volatile type* at, type value, int) {                                                  \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                                               \
    }                                                                                                                          \
    type __tsan_atomic##bits##_fetch_add(volatile type* at, type value, int) {                                                 \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                                                                \
    }                                                                                                                          \
    type __tsan_atomic##bits##_fetch_sub(volatile type* at, type value, int) {                                                 \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST);                                                                \
    }                                                                                                                          \
    type __tsan_atomic##bits##_fetch_and(volatile type* at, type value, int) {                                                 \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_fetch_and(at, value, __ATOMIC_SEQ_CST);                                                                \
    }                                                                                                                          \
    type __tsan_atomic##bits##_fetch_or(volatile type* at, type value, int) {                                                  \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST);                                                                 \
    }                                                                                                                          \
    type __tsan_atomic##bits##_fetch_xor(volatile type* at, type value, int) {                                                 \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_fetch_xor(at, value, __ATOMIC_SEQ_CST);                                                                \
    }                                                                                                                          \
    bool __tsan_atomic##bits##_compare_exchange_strong(volatile type* at, type* expected, type value, int, int) {              \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                    \
    }                                                                                                                          \
    bool __tsan_atomic##bits##_compare_exchange_weak(volatile type* at, type* expected, type value, int, int) {                \
        NOTE(at, sizeof(type), true);                                                                                          \
        return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                    \
    }
ATOMIC(8, std::uint8_t)
ATOMIC(16, std::uint16_t)
ATOMIC(32, std::uint32_t)
ATOMIC(64, std::uint64_t)
void __tsan_atomic_thread_fence(int) { std::atomic_thread_fence(std::memory_order_seq_cst); }
void __tsan_atomic_signal_fence(int) {}

void* __real_memcpy(void* to, const void* from, std::size_t size);
void* __real_memmove(void* to, const void* from, std::size_t size);
void* __real_memset(void* to, int octet, std::size_t size);
void* __wrap_memcpy(void* to, const void* from, std::size_t size) {
    NOTE(to, size, true);
    NOTE(from, size, false);
    return __real_memcpy(to, from, size);
}
void* __wrap_memmove(void* to, const void* from, std::size_t size) {
    NOTE(to, size, true);
    NOTE(from, size, false);
    return __real_memmove(to, from, size);
}
void* __wrap_memset(void* to, int octet, std::size_t size) {
    NOTE(to, size, true);
    return __real_memset(to, octet, size);
}

}  // extern "C"
