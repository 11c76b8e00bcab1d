#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/drop_reason.h"
#include "dataplane/network/network.h"
#include "dataplane/tcp/stack.h"
#include "tests/bench/generator/link.h"

namespace sallyport::generator {

/// One side of the generator below its connections: a link, a network and a TCP stack of its own. It is driven as a worker of the dataplane drives
/// its ports. One thread; time is an argument.
class Side {
 public:
    struct Settings {
        network::Network::Settings network;   ///< one interface; its MAC and offloads are the link's
        tcp::Settings tcp;
        rte_mempool* buffers = nullptr;       ///< for what is sent; borrowed
    };
    Side(Settings settings, std::unique_ptr<Link> link);
    ~Side();

    /// Takes what has come. True when there was something.
    [[nodiscard]] bool receive(Time now);
    /// Timers, and what is to be sent. True when frames left.
    [[nodiscard]] bool send(Time now);

    /// So many frames wait for the link that more work would only be frames dropped.
    [[nodiscard]] bool congested() const noexcept { return backlog_.size() >= kBacklog / 4; }

    [[nodiscard]] tcp::Stack& stack() noexcept { return stack_; }
    [[nodiscard]] network::Network& network() noexcept { return network_; }
    [[nodiscard]] Link& link() noexcept { return *link_; }
    [[nodiscard]] const DropCounters& drops() const noexcept { return drops_; }
    [[nodiscard]] std::uint64_t packets_in() const noexcept { return packets_in_; }
    [[nodiscard]] std::uint64_t packets_out() const noexcept { return packets_out_; }

 private:
    static constexpr unsigned kBurst = 64;
    static constexpr std::size_t kBacklog = 8192;   ///< frames that wait for a full transmit ring

    [[nodiscard]] static Settings with_link(Settings settings, const Link& link);
    void transmit();

    std::unique_ptr<Link> link_;
    DropCounters drops_;
    network::Network network_;
    tcp::Stack stack_;
    std::vector<rte_mbuf*> backlog_;
    Time next_tick_{};
    std::uint64_t packets_in_ = 0, packets_out_ = 0;
};

}  // namespace sallyport::generator
