#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/channel/shared_memory.h"
#include "drivers/capture_filter.h"
#include "drivers/pcapng.h"

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

/// Packet capture. A worker that finds a tap copies the frames that match into a ring of its own; the main thread writes them to a file. Where a
/// ring or the pool of copies is full, the frame is counted as dropped and nobody waits.
namespace sallyport::drivers {

/// Buffers for the copies of all captures, `count` of them, made while the process still may. Their pool is a lock-free stack: the main
/// thread, which may be put to sleep in the middle of giving a buffer back, must not hold up a worker.
[[nodiscard]] std::expected<rte_mempool*, std::string> make_capture_pool(const std::string& name, std::uint32_t count, std::uint16_t largest_mtu);
constexpr std::uint32_t kCaptureBuffers = 4096;

/// A port as captures see it.
struct CapturedPort {
    std::string name;
    std::uint16_t id = 0;   ///< ethdev's
    std::uint16_t vlan = 0;
};

/// One worker's part of one capture: what it takes, and the ring to the main thread. Made and destroyed by the main thread while no worker sees
/// it.
class CaptureLane {
 public:
    static constexpr std::uint32_t kRing = 4096;   ///< frames that may wait to be written, one less

    /// `filters[i]` is that of interface i; nullopt: the interface is not captured.
    CaptureLane(std::vector<CapturedPort> ports, std::vector<std::optional<CaptureFilter>> filters, std::uint32_t snap, rte_mempool* pool);
    ~CaptureLane();
    CaptureLane(const CaptureLane&) = delete;
    CaptureLane& operator=(const CaptureLane&) = delete;

    /// The worker's.
    void take(std::uint16_t interface, std::uint16_t queue, PcapngFile::Direction direction, std::span<rte_mbuf* const> frames) noexcept;

    /// The main thread's: takes out what waits, at most copies.size(); returns how many.
    [[nodiscard]] std::size_t drain(std::span<rte_mbuf*> copies) noexcept;
    /// Frames of an interface that matched, and of them those that did not fit.
    struct Counts {
        std::uint64_t seen = 0, dropped = 0;
    };
    [[nodiscard]] Counts counts(std::uint16_t interface) const noexcept;

 private:
    struct Seen {   // written by the worker alone, read by the main thread
        std::atomic<std::uint64_t> seen{0}, dropped{0};
    };
    [[nodiscard]] bool matches(const CaptureFilter& filter, const rte_mbuf* frame, PcapngFile::Direction direction) noexcept;

    std::vector<CapturedPort> ports_;
    std::vector<std::optional<CaptureFilter>> filters_;
    std::uint32_t snap_;
    rte_mempool* pool_;
    std::unique_ptr<Seen[]> counts_;
    std::unique_ptr<std::byte[]> ring_memory_;
    rte_ring* ring_;                                  ///< one producer, one consumer; lies in ring_memory_
    std::array<std::byte, 16 * 1024> scratch_;        ///< a frame in several buffers, or whose tag the device took off, in one piece
};

/// What a worker sees of the captures that run. Immutable while a worker has it.
class CaptureTap {
 public:
    explicit CaptureTap(std::vector<CaptureLane*> lanes) : lanes_(std::move(lanes)) {}
    void take(std::uint16_t interface, std::uint16_t queue, PcapngFile::Direction direction, std::span<rte_mbuf* const> frames) const noexcept {
        for (CaptureLane* const lane : lanes_) lane->take(interface, queue, direction, frames);
    }

 private:
    std::vector<CaptureLane*> lanes_;
};

/// One capture that runs. Main thread.
class Capture {
 public:
    struct Settings {
        std::vector<bool> interfaces;      ///< which are captured; empty: all
        std::string filter;
        std::string comment;
        std::uint32_t snap = 65535;        ///< octets of a frame that are kept
        std::uint64_t packets = 0;         ///< written at most
        std::uint64_t octets = 0;          ///< of the file, at most
        std::chrono::seconds duration{};
        std::uint32_t secrets_room = 0;    ///< octets of key log to leave room for; 0: none
    };
    enum class End : std::uint8_t { running,
                                    stopped,
                                    packets,
                                    octets,
                                    time,
                                    write_failed,
                                    control_lost };

    /// Begins the file. Errors: the filter's, the file's.
    [[nodiscard]] static std::expected<std::unique_ptr<Capture>, std::string> open(const Settings& settings, const channel::Descriptor& file,
                                                                                   const std::vector<CapturedPort>& ports, unsigned workers,
                                                                                   rte_mempool* pool, std::chrono::steady_clock::time_point now);
    ~Capture();

    [[nodiscard]] CaptureLane* lane(unsigned worker) noexcept { return lanes_[worker].get(); }
    [[nodiscard]] PcapngFile::Room secrets() const noexcept { return secrets_; }

    /// Writes what waits, in the order of time over all workers, and looks at the limits. Returns how many frames it took.
    std::size_t turn(std::chrono::steady_clock::time_point now);
    /// Why it has ended; running: it has not.
    [[nodiscard]] End end() const noexcept { return end_; }
    /// Writes what is left and the statistics. Once, when no worker has a lane of it any more.
    void finish(End why);

    struct Counts {
        std::uint64_t seen = 0, written = 0, dropped = 0, octets = 0;
    };
    [[nodiscard]] Counts counts() const noexcept;
    [[nodiscard]] const std::string& error() const noexcept { return error_; }   ///< of the file, after write_failed

 private:
    Capture(Settings settings, PcapngFile file, std::vector<CapturedPort> ports) : settings_(std::move(settings)), file_(std::move(file)), ports_(std::move(ports)) {}
    std::size_t drain();

    Settings settings_;
    PcapngFile file_;
    std::vector<CapturedPort> ports_;
    std::vector<std::unique_ptr<CaptureLane>> lanes_;   ///< by worker
    PcapngFile::Room secrets_{};
    std::chrono::steady_clock::time_point until_{};
    std::uint64_t written_ = 0;
    End end_ = End::running;
    std::string error_;
    std::vector<rte_mbuf*> batch_;
};

[[nodiscard]] const char* name(Capture::End end) noexcept;

}  // namespace sallyport::drivers
