#pragma once

#include <unistd.h>

#include <cstdint>
#include <vector>

#include "control/channel/ring.h"

namespace sallyport::flow {

/// One worker's end of the channel: a lane to each handshake worker of control. Made anew for each attachment; the worker
/// is given it between two loop iterations. A flow keeps to one lane.
class Lanes {
 public:
    struct Lane {
        channel::RingProducer to_control;
        channel::RingConsumer from_control;
        int wake = -1;   ///< eventfd of the handshake worker; borrowed
    };
    explicit Lanes(std::vector<Lane> lanes) : lanes_(std::move(lanes)) {}

    [[nodiscard]] std::size_t size() const noexcept { return lanes_.size(); }
    [[nodiscard]] std::size_t number_of(channel::FlowId flow) const noexcept { return flow.index() % lanes_.size(); }
    [[nodiscard]] Lane& of(channel::FlowId flow) noexcept { return lanes_[number_of(flow)]; }
    [[nodiscard]] Lane& at(std::size_t index) noexcept { return lanes_[index]; }

    /// Makes what was written visible and wakes handshake workers that sleep (the only system call, and only then).
    void publish() noexcept {
        for (Lane& lane : lanes_) {
            if (!lane.to_control.publish()) continue;
            const std::uint64_t one = 1;
            [[maybe_unused]] const ssize_t ignored = write(lane.wake, &one, sizeof one);
        }
    }
    [[nodiscard]] bool broken() const noexcept {
        for (const Lane& lane : lanes_)
            if (lane.to_control.broken() || lane.from_control.broken()) return true;
        return false;
    }

 private:
    std::vector<Lane> lanes_;
};

}  // namespace sallyport::flow
