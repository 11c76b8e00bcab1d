#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

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

/// Memory for objects of one type up to a bound, reused last in, first out; nothing is given back before the end. What lives then is not
/// destroyed.
template <typename T>
class ObjectPool {
 public:
    explicit ObjectPool(std::uint32_t max) : max_(max), memory_(std::size_t{max} * sizeof(Cell)), cells_(static_cast<Cell*>(memory_.data())) {}
    ObjectPool(const ObjectPool&) = delete;
    ObjectPool& operator=(const ObjectPool&) = delete;

    /// Null at the bound.
    template <typename... Arguments>
    [[nodiscard]] T* make(Arguments&&... arguments) {
        if (live_ >= max_) return nullptr;
        if (free_ == nullptr) {
            free_ = &cells_[touched_++];
            free_->next = nullptr;
        }
        Cell* const cell = free_;
        free_ = cell->next;
        ++live_;
        return new (cell->memory) T(std::forward<Arguments>(arguments)...);
    }
    void destroy(T* object) noexcept {
        object->~T();
        auto* const cell = reinterpret_cast<Cell*>(object);
        cell->next = free_;
        free_ = cell;
        --live_;
    }
    [[nodiscard]] std::uint32_t live() const noexcept { return live_; }
    /// Objects of the pool, by their place in its memory.
    [[nodiscard]] T* at(std::uint32_t place) const noexcept { return reinterpret_cast<T*>(&cells_[place]); }
    [[nodiscard]] std::uint32_t place_of(const T& object) const noexcept { return static_cast<std::uint32_t>(reinterpret_cast<const Cell*>(&object) - cells_); }

 private:
    union Cell {
        Cell* next;
        alignas(T) std::byte memory[sizeof(T)];
    };
    std::uint32_t max_, live_ = 0;
    std::uint32_t touched_ = 0;   ///< cells from here on were never used
    Region memory_;
    Cell* cells_;
    Cell* free_ = nullptr;
};

}  // namespace sallyport::tcp
