#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/flow/flow.h"

namespace sallyport::flow {

/// The flow records of one worker: a mapping that the kernel fills in as records are first used, left out of core dumps (it holds
/// keys). A record is used again last in, first out. Owning worker only; never allocates after construction.
class FlowTable {
 public:
    FlowTable(std::uint8_t worker, std::uint32_t capacity);
    ~FlowTable();
    FlowTable(const FlowTable&) = delete;
    FlowTable& operator=(const FlowTable&) = delete;

    /// A fresh record with a new id, or nullptr when all are in use.
    [[nodiscard]] Flow* allocate() noexcept;
    /// Wipes the record's keys and frees it.
    void free(Flow& flow) noexcept;
    /// The flow of this id, or nullptr when it has ended or never was.
    [[nodiscard]] Flow* find(channel::FlowId id) noexcept;
    /// The record at `index`, in use or not. Precondition: index < used_up_to().
    [[nodiscard]] Flow& at(std::uint32_t index) noexcept { return flows_[index]; }
    /// Records at and above this index have never been used.
    [[nodiscard]] std::uint32_t used_up_to() const noexcept { return used_up_to_; }
    [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }

 private:
    static constexpr std::uint32_t kNone = ~0u;
    Flow* flows_ = nullptr;
    std::uint32_t capacity_;
    std::uint32_t used_up_to_ = 0;
    std::uint32_t in_use_ = 0;
    std::uint32_t first_free_ = kNone;
    std::uint32_t generation_ = 0;
    std::uint8_t worker_;
};

}  // namespace sallyport::flow
