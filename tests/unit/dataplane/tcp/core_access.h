#pragma once

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

/// What tests may see of a Core beyond what its users see. The friend of Core, Stack and the queues.
struct CoreTestAccess {
    static Core& core(Stack& stack) { return *stack.impl_; }
    static DelayedAcks& delayed_acks(Core& core) { return core.delayed_acks_; }
    static ControlBlock* only(Core& core) {
        ControlBlock* found = nullptr;
        core.table_.for_each([&](ControlBlock& cb) { found = &cb; });
        return found;
    }
    static ControlBlock* find(const Core& core, const Tuple& tuple) { return core.table_.find(tuple); }
    /// Every connection that there is, also those that are over and not release()d yet.
    template <typename Visit>
    static void each(Core& core, Visit&& visit) {
        core.table_.for_each(visit);
        for (ControlBlock* cb = core.ended_.front(); cb != nullptr; cb = cb->waiting.next) visit(*cb);
    }
    static const Settings& settings(const Core& core) { return core.settings_; }
    static SeqNum window_edge(const Core& core, const ControlBlock& cb) { return core.window_edge(cb); }
    static std::uint32_t transfers(const Core& core) { return core.transfers_.live(); }
    static Time now(const Core& core) { return core.now_; }
    static std::uint64_t received_held(const Core& core) { return core.received_held_; }
    static std::uint64_t sent_held(const Core& core) { return core.sent_held_; }
    static std::uint32_t blocks(const Core& core) { return core.blocks_.live(); }
    static bool anything_dirty(const Core& core) { return core.dirty_.front() != nullptr; }
    static bool anyone_starved(const Core& core) { return core.starved_.front() != nullptr; }
    static Pressure transmit_pressure(const Core& core) { return core.transmit_pressure(); }
    static rte_mbuf* first(const ReassemblyQueue& queue) { return queue.head_; }
    static rte_mbuf* last(const ReassemblyQueue& queue) { return queue.tail_; }
    static rte_mbuf* first(const ReceiveQueue& queue) { return queue.head_; }
};

}  // namespace sallyport::tcp
