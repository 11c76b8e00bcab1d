#pragma once

#include <cstdint>
#include <span>
#include <vector>

struct rte_mbuf;
struct rte_ring;

namespace sallyport::steering {

/// Rings that carry frames between workers, one for each ordered pair (single producer, single consumer): received frames of a
/// device that does not spread flows itself, to the worker that owns the connection; and frames to transmit, to a worker that has a
/// transmit queue of the device. A frame's rte_mbuf::port tells the interface. With one worker there is nothing in it.
class Crossbar {
 public:
    static constexpr unsigned kRingFrames = 1024;

    /// After the EAL has started; main thread. Stops the process when there is no memory for the rings.
    explicit Crossbar(unsigned workers);
    ~Crossbar();   ///< frees frames that are still in it
    Crossbar(const Crossbar&) = delete;
    Crossbar& operator=(const Crossbar&) = delete;

    /// False when the ring is full: the frame stays the caller's. Thread of worker `from`.
    [[nodiscard]] bool pass_received(unsigned from, unsigned to, rte_mbuf* frame) noexcept;
    [[nodiscard]] bool pass_transmit(unsigned from, unsigned to, rte_mbuf* frame) noexcept;
    /// Frames for worker `to`, of all others; returns how many. Thread of worker `to`.
    [[nodiscard]] unsigned take_received(unsigned to, std::span<rte_mbuf*> frames) noexcept;
    [[nodiscard]] unsigned take_transmit(unsigned to, std::span<rte_mbuf*> frames) noexcept;

 private:
    [[nodiscard]] rte_ring* ring(const std::vector<rte_ring*>& rings, unsigned from, unsigned to) const noexcept {
        return rings[from * workers_ + to];
    }
    [[nodiscard]] unsigned take(const std::vector<rte_ring*>& rings, unsigned to, std::span<rte_mbuf*> frames) noexcept;

    unsigned workers_;
    std::vector<rte_ring*> received_;
    std::vector<rte_ring*> transmit_;
};

}  // namespace sallyport::steering
