#pragma once

#include <gtest/gtest.h>
#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "drivers/environment.h"

/// DPDK's EAL for unit tests: no huge pages (which rules out --in-memory), no PCI, no files that are shared, no
/// interfaces, one lcore. It can start once a process only, so it starts at the first use and stays until the process
/// ends.
namespace sallyport::test {

inline void start_eal() {
    static const bool started = [] {
        static const char* arguments[] = {"unit", "--no-huge", "--no-pci",       "--no-shconf", "-m",   "512",
                                          "-l",   "0",         "--no-telemetry", "--log-level", "error"};
        if (rte_eal_init(static_cast<int>(std::size(arguments)), const_cast<char**>(arguments)) < 0) {
            std::cerr << "the EAL did not start: " << rte_strerror(rte_errno) << '\n';
            std::abort();
        }
        return true;
    }();
    static_cast<void>(started);
}

/// A pool of packet buffers as the product's (last in, first out; private area; 128 octets of headroom), without
/// per-core cache, so that rte_mempool_avail_count() is exact. Freed with the object; a test that leaks a buffer fails.
class BufferPool {
 public:
    explicit BufferPool(std::uint32_t count = 1023, std::uint16_t data_room = 2048) : count_(count) {
        start_eal();
        static unsigned number = 0;
        const auto name = "test" + std::to_string(number++);
        pool_ = rte_pktmbuf_pool_create_by_ops(name.c_str(), count, 0, drivers::kBufferPrivateSize,
                                               static_cast<std::uint16_t>(data_room + RTE_PKTMBUF_HEADROOM),
                                               SOCKET_ID_ANY, "stack");
        if (pool_ == nullptr) {
            std::cerr << "no test pool: " << rte_strerror(rte_errno) << '\n';
            std::abort();
        }
    }
    ~BufferPool() {
        EXPECT_EQ(in_use(), 0u) << "packet buffers leaked";
        rte_mempool_free(pool_);
    }
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    [[nodiscard]] rte_mempool* get() const { return pool_; }
    [[nodiscard]] std::uint32_t in_use() const { return count_ - rte_mempool_avail_count(pool_); }

 private:
    std::uint32_t count_;
    rte_mempool* pool_;
};

}  // namespace sallyport::test
