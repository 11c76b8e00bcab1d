#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "drivers/port.h"

struct rte_mempool;

/// DPDK's environment abstraction layer (EAL) and packet buffers.
namespace sallyport::drivers {

/// Address space without hugepages. The kernel backs what is touched, so room costs nothing; what is too small cannot grow.
constexpr std::uint32_t kDefaultMemoryMb = 1024;

struct EnvironmentSettings {
    std::vector<unsigned> cores;              ///< one worker each, in order; may repeat a core
    unsigned main_core = 0;                   ///< of the main thread (not a worker)
    bool hugepages = true;                    ///< false: --no-huge
    std::string file_prefix = "sallyport";    ///< of the EAL's files; needed by memif
    std::vector<PortSettings> ports;          ///< decides on --in-memory, allow lists and --vdev
    std::vector<std::string> extra;           ///< raw arguments, last
    std::uint32_t memory_mb = 0;              ///< with --no-huge: -m; 0: kDefaultMemoryMb
};

/// The EAL's command line for these settings, argv[0] included. Pure; no EAL call. `free_hugepages` is the number of free 2 MB pages:
/// with 0 it falls back to --no-huge. Worker i is lcore i + 1, the main thread lcore 0; lcores may share a core.
/// EAL refuses --in-memory together with --no-huge; there --no-shconf keeps files from being shared. memif needs the shared files.
[[nodiscard]] std::vector<std::string> eal_arguments(const EnvironmentSettings& settings, std::uint64_t free_hugepages);
[[nodiscard]] std::uint64_t free_hugepages();

/// rte_eal_init, once a process, with the EAL's log sent to `log_line` (called from any thread). Worker i of the settings is lcore
/// `worker_lcore(i)`. The error says which argument EAL did not like, as far as it tells. Must run as root; files and sockets are made
/// here, so privileges can be dropped after the ports are open.
[[nodiscard]] std::expected<void, std::string> start_environment(const EnvironmentSettings& settings,
                                                                 void (*log_line)(int level, const char* line));
/// The EAL's command line as it was given to rte_eal_init; empty before. After start_environment() has returned: any thread.
[[nodiscard]] const std::string& environment_line();
[[nodiscard]] unsigned worker_lcore(unsigned worker);
void stop_environment();   ///< rte_eal_cleanup

/// Private area of each packet buffer (rte_mbuf_to_priv): TCP's state of the segment that the buffer holds. One cache line.
constexpr std::uint16_t kBufferPrivateSize = 64;

/// A pool of packet buffers with `data_room` octets after 128 of headroom; mempool ops `stack` (last in, first out), a per-core cache.
/// Size them as small as the work allows: a pool larger than the cache costs ten times (see README of this folder).
[[nodiscard]] std::expected<rte_mempool*, std::string> make_buffer_pool(const std::string& name, std::uint32_t count,
                                                                        std::uint16_t data_room, int numa_node);
void free_buffer_pool(rte_mempool* pool);

/// Of buffers that hold several segments for a device that cuts them: eleven of an MTU of 1500. Cards take 16,383 octets a descriptor at most.
constexpr std::uint16_t kLargeDataRoom = 16128;
/// How many of them go with a pool of `buffers` ordinary ones: half of their octets, 1,024 at most.
[[nodiscard]] std::uint32_t large_buffers_for(std::uint32_t buffers);

/// Octets of data room (headroom not counted) that a port's frames need, so that each fits in one buffer. A pool serves several ports with
/// the largest of their figures.
[[nodiscard]] std::uint16_t data_room_for(const PortSettings& port);

/// Buffers for one worker: receive rings of its queues, bursts, and what flows may hold. `receive_descriptors` and
/// `transmit_descriptors` are sums over the worker's queues (see ring_buffers()). Flows share kBuffersPerFlow each; one flow at full
/// windows needs far more than its share and many need none, so the sum bounds memory: see buffers_for_connections().
constexpr std::uint32_t kBuffersPerFlow = 4;
[[nodiscard]] std::uint32_t buffers_for_worker(std::uint32_t receive_descriptors, std::uint32_t transmit_descriptors,
                                               std::uint32_t flows);

/// Of the `buffers` of a pool, what connections may hold at most: without those in the device's rings, in bursts and in the core's cache, so
/// that segments which bring no payload, and the next ones in, always find a buffer. A quarter at least, where somebody has asked for a pool
/// that is smaller than its rings.
[[nodiscard]] std::uint32_t buffers_for_connections(std::uint32_t buffers, std::uint32_t descriptors);

}  // namespace sallyport::drivers
