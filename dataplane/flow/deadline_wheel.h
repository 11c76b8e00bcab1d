#pragma once

#include <array>
#include <cstdint>

#include "dataplane/flow/flow_table.h"

namespace sallyport::flow {

/// Deadlines of flows, to a tenth of a second: a wheel of 1024 slots. A deadline beyond its horizon (102 s) is parked in the last slot
/// and looked at again when that comes. Moving a deadline later costs nothing: the flow is looked at when its old slot
/// comes and put off then (lazy), which suits idle timeouts that every record moves.
class DeadlineWheel {
 public:
    static constexpr Duration kTick = 100ms;
    static constexpr std::uint32_t kSlots = 1024;

    explicit DeadlineWheel(FlowTable& table) noexcept : table_(table) { heads_.fill(0); }

    /// Sets flow.deadline.
    void set(Flow& flow, Time deadline) noexcept {
        const bool later = flow.wheel_slot != kNoSlot && deadline >= flow.deadline;
        flow.deadline = deadline;
        if (later) return;
        remove(flow);
        insert(flow);
    }
    void remove(Flow& flow) noexcept {
        if (flow.wheel_slot == kNoSlot) return;
        if (flow.wheel_previous != 0)
            table_.at(flow.wheel_previous - 1).wheel_next = flow.wheel_next;
        else
            heads_[flow.wheel_slot] = flow.wheel_next;
        if (flow.wheel_next != 0) table_.at(flow.wheel_next - 1).wheel_previous = flow.wheel_previous;
        flow.wheel_slot = kNoSlot;
        flow.wheel_next = flow.wheel_previous = 0;
    }
    /// Calls `expired(Flow&)` for each flow whose deadline has passed; it has been taken off the wheel before.
    template <typename Expired>
    void advance(Time now, Expired expired) noexcept {
        const std::uint64_t tick = tick_of(now);
        if (tick > tick_ + kSlots) tick_ = tick - kSlots;   // a long pause: each slot once is enough
        while (tick_ < tick) {
            ++tick_;
            const std::uint32_t& head = heads_[tick_ % kSlots];
            while (head != 0) {   // taken one by one: `expired` may end other flows of this slot; insert() never fills it
                Flow& flow = table_.at(head - 1);
                remove(flow);
                if (flow.deadline <= now)
                    expired(flow);
                else
                    insert(flow);
            }
        }
    }

 private:
    static constexpr std::uint16_t kNoSlot = 0xffff;
    [[nodiscard]] static std::uint64_t tick_of(Time time) noexcept {
        return static_cast<std::uint64_t>(time.time_since_epoch() / kTick);
    }
    void insert(Flow& flow) noexcept {
        std::uint64_t tick = tick_of(flow.deadline) + 1;
        if (tick <= tick_) tick = tick_ + 1;
        if (tick > tick_ + kSlots - 1) tick = tick_ + kSlots - 1;
        flow.wheel_slot = static_cast<std::uint16_t>(tick % kSlots);
        const std::uint32_t self = flow.id.index();   // position in the table, plus one
        flow.wheel_previous = 0;
        flow.wheel_next = heads_[flow.wheel_slot];
        if (flow.wheel_next != 0) table_.at(flow.wheel_next - 1).wheel_previous = self;
        heads_[flow.wheel_slot] = self;
    }

    FlowTable& table_;
    std::array<std::uint32_t, kSlots> heads_;
    std::uint64_t tick_ = 0;
};

}  // namespace sallyport::flow
