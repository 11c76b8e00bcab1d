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

struct EnvironmentSettings {
    std::vector<unsigned> cores;              ///< one worker each, in order; may repeat a core
    unsigned main_core = 0;                   ///< of the main thread (not a worker)
    bool hugepages = true;                    ///< false: --no-huge
    std::string file_prefix = "sallyport";    ///< of the EAL's files; needed by memif
    std::vector<PortSettings> ports;          ///< decides on --in-memory, allow lists and --vdev
    std::vector<std::string> extra;           ///< raw arguments, last
    std::uint32_t memory_mb = 0;              ///< with --no-huge: -m
};

/// The EAL's command line for these settings, argv[0] included. Pure; no EAL call. `free_hugepages` is the number of free 2 MB pages:
/// with 0 it falls back to --no-huge.
[[nodiscard]] std::vector<std::string> eal_arguments(const EnvironmentSettings& settings, std::uint64_t free_hugepages);
[[nodiscard]] std::uint64_t free_hugepages();

/// rte_eal_init, once a process, with the EAL's log sent to `log_line` (called from any thread). Worker i of the settings is lcore
/// `worker_lcore(i)`. The error says which argument EAL did not like, as far as it tells.
[[nodiscard]] std::expected<void, std::string> start_environment(const EnvironmentSettings& settings,
                                                                 void (*log_line)(int level, const char* line));
[[nodiscard]] unsigned worker_lcore(unsigned worker);
void stop_environment();   ///< rte_eal_cleanup

/// Private area of each packet buffer (rte_mbuf_to_priv): TCP's state of the segment that the buffer holds. One cache line.
constexpr std::uint16_t kBufferPrivateSize = 64;

/// A pool of packet buffers with `data_room` octets after 128 of headroom; mempool ops `stack` (last in, first out), a per-core cache.
/// Size them as small as the work allows: a pool larger than the cache costs ten times (see README of this folder).
[[nodiscard]] std::expected<rte_mempool*, std::string> make_buffer_pool(const std::string& name, std::uint32_t count,
                                                                        std::uint16_t data_room, int numa_node);
void free_buffer_pool(rte_mempool* pool);

/// Buffers for one worker: receive rings of its queues, bursts, and what flows may hold.
[[nodiscard]] std::uint32_t buffers_for_worker(std::uint32_t receive_descriptors, std::uint32_t transmit_descriptors,
                                               std::uint32_t flows);

}  // namespace sallyport::drivers
