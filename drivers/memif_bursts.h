#pragma once

#include <cstdint>
#include <memory>

struct rte_rcu_qsbr;

namespace sallyport::drivers {

/// The bursts under way on a memif port. When the other process goes, DPDK's driver unmaps, in the interrupt thread, the memory that both shared, whoever
/// reads or writes it just then. The link step has it wait here, between the mark that lets no further burst begin and the unmapping, until every burst of
/// every memif port has ended (`--wrap=memif_free_regions`).
///
/// Made and destroyed by the main thread; a queue has one thread at a time.
class MemifBursts {
 public:
    explicit MemifBursts(std::uint16_t queues);
    ~MemifBursts();
    MemifBursts(const MemifBursts&) = delete;
    MemifBursts& operator=(const MemifBursts&) = delete;

    /// One burst of a queue, as long as this lives. Hot path: a fence.
    class Burst {
     public:
        Burst(MemifBursts& bursts, std::uint16_t queue) noexcept;
        ~Burst();
        Burst(const Burst&) = delete;
        Burst& operator=(const Burst&) = delete;

     private:
        rte_rcu_qsbr* state_;
        std::uint16_t queue_;
    };

    /// Returns when the bursts that were under way at the call have ended. Any thread that has none itself.
    static void wait() noexcept;

 private:
    struct Free {
        void operator()(rte_rcu_qsbr* state) const noexcept;
    };
    std::unique_ptr<rte_rcu_qsbr, Free> state_;
};

}  // namespace sallyport::drivers
