#include "dataplane/flow/flow_table.h"

#include <sys/mman.h>

#include <new>

#include "crypto/check.h"

namespace sallyport::flow {

FlowTable::FlowTable(std::uint8_t worker, std::uint32_t capacity) : capacity_(capacity), worker_(worker) {
    void* const memory = mmap(nullptr, std::size_t{capacity} * sizeof(Flow), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SALLYPORT_CHECK(memory != MAP_FAILED);
    madvise(memory, std::size_t{capacity} * sizeof(Flow), MADV_DONTDUMP);
    madvise(memory, std::size_t{capacity} * sizeof(Flow), MADV_HUGEPAGE);   // as tcp::Region; without huge pages it works, too
    flows_ = static_cast<Flow*>(memory);
}

FlowTable::~FlowTable() {
    for (std::uint32_t i = 0; i < used_up_to_; ++i) flows_[i].~Flow();
    munmap(flows_, std::size_t{capacity_} * sizeof(Flow));
}

Flow* FlowTable::allocate() noexcept {
    std::uint32_t index = first_free_;
    if (index != kNone) {
        first_free_ = flows_[index].next_free;
    } else {
        if (used_up_to_ == capacity_) return nullptr;
        index = used_up_to_++;
        new (&flows_[index]) Flow();
    }
    // The generation counts over all records, so that an id comes again only after 2^24 flows of one record's worth.
    generation_ = (generation_ + 1) & 0xff'ffff;
    flows_[index].id = channel::FlowId::make(worker_, generation_, index + 1);
    ++in_use_;
    return &flows_[index];
}

void FlowTable::free(Flow& flow) noexcept {
    const auto index = static_cast<std::uint32_t>(&flow - flows_);
    SALLYPORT_CHECK(flow.id.value != 0 && !flow.active && !flow.put_off && flow.wheel_slot == 0xffff);
    flow.~Flow();   // wipes
    new (&flow) Flow();
    flow.next_free = first_free_;
    first_free_ = index;
    --in_use_;
}

Flow* FlowTable::find(channel::FlowId id) noexcept {
    const std::uint32_t position = id.index();
    if (position == 0 || position > used_up_to_) return nullptr;
    Flow& flow = flows_[position - 1];
    return flow.id == id ? &flow : nullptr;
}

}  // namespace sallyport::flow
