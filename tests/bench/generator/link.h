#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "drivers/port.h"

struct rte_mbuf;
struct rte_mempool;

namespace sallyport::generator {

/// Frames from one side of the process straight to the other, without a device: what a pair of memif ports would do, copy included. One thread.
class Loopback {
 public:
    /// Frames towards each of the two ends are copied into buffers of that end's pool.
    Loopback(rte_mempool* first, rte_mempool* second) : ends_{End{first, {}}, End{second, {}}} {}
    ~Loopback();
    Loopback(const Loopback&) = delete;
    Loopback& operator=(const Loopback&) = delete;

    [[nodiscard]] std::uint16_t receive(unsigned end, std::span<rte_mbuf*> frames) noexcept;
    /// Returns how many were taken, from the front; the rest stays the caller's.
    [[nodiscard]] std::uint16_t transmit(unsigned from, std::span<rte_mbuf*> frames) noexcept;

 private:
    static constexpr std::size_t kMostWaiting = 1024;
    struct End {
        rte_mempool* pool;
        std::vector<rte_mbuf*> waiting;
    };
    std::array<End, 2> ends_;
};

/// Where a side's frames come from and go to: a port, or an end of a loopback. One of both, for the life of the program.
class Link {
 public:
    explicit Link(std::unique_ptr<drivers::Port> port) : port_(std::move(port)) {}
    Link(Loopback& loopback, unsigned end, std::array<std::uint8_t, 6> mac) : loopback_(&loopback), end_(end), mac_(mac) {}

    [[nodiscard]] std::uint16_t receive(std::span<rte_mbuf*> frames) noexcept { return port_ ? port_->receive(0, frames) : loopback_->receive(end_, frames); }
    [[nodiscard]] std::uint16_t transmit(std::span<rte_mbuf*> frames) noexcept { return port_ ? port_->transmit(0, frames) : loopback_->transmit(end_, frames); }
    /// See drivers::Port::reclaim().
    void reclaim() noexcept {
        if (port_) port_->reclaim(0);
    }
    [[nodiscard]] std::array<std::uint8_t, 6> mac() const noexcept { return port_ ? port_->mac() : mac_; }
    [[nodiscard]] bool transmit_checksum() const noexcept { return port_ ? port_->transmit_checksum() : true; }
    [[nodiscard]] bool transmit_ipv4_checksum() const noexcept { return port_ ? port_->transmit_ipv4_checksum() : true; }
    [[nodiscard]] std::uint16_t segmentation_buffers() const noexcept { return port_ ? port_->segmentation_buffers() : std::uint16_t{0}; }
    [[nodiscard]] bool cut_by_kernel() const noexcept { return port_ && port_->cut_by_kernel(); }
    [[nodiscard]] bool receive_checksum() const noexcept { return port_ ? port_->receive_checksum() : true; }
    [[nodiscard]] bool is_up() const { return port_ ? port_->status().link_up : true; }
    [[nodiscard]] const drivers::Port* port() const noexcept { return port_.get(); }

 private:
    std::unique_ptr<drivers::Port> port_;
    Loopback* loopback_ = nullptr;
    unsigned end_ = 0;
    std::array<std::uint8_t, 6> mac_{};
};

}  // namespace sallyport::generator
