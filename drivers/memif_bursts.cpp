#include "drivers/memif_bursts.h"

#include <rte_rcu_qsbr.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "crypto/check.h"

extern "C" {
struct rte_eth_dev;
void __real_memif_free_regions(rte_eth_dev* device);   // the driver's
void __wrap_memif_free_regions(rte_eth_dev* device);   // what it calls

void __wrap_memif_free_regions(rte_eth_dev* device) {
    sallyport::drivers::MemifBursts::wait();
    __real_memif_free_regions(device);
}
}

namespace sallyport::drivers {
namespace {

struct Ports {
    std::mutex mutex;
    std::vector<rte_rcu_qsbr*> states;
};
Ports& ports() {
    static Ports the_ports;
    return the_ports;
}

}  // namespace

MemifBursts::MemifBursts(std::uint16_t queues) {
    const std::size_t octets = rte_rcu_qsbr_get_memsize(queues);
    state_.reset(static_cast<rte_rcu_qsbr*>(std::aligned_alloc(RTE_CACHE_LINE_SIZE, octets)));
    SALLYPORT_CHECK(state_ != nullptr && rte_rcu_qsbr_init(state_.get(), queues) == 0);
    for (unsigned queue = 0; queue < queues; ++queue) SALLYPORT_CHECK(rte_rcu_qsbr_thread_register(state_.get(), queue) == 0);
    const std::lock_guard lock(ports().mutex);
    ports().states.push_back(state_.get());
}

MemifBursts::~MemifBursts() {
    const std::lock_guard lock(ports().mutex);
    std::erase(ports().states, state_.get());
}

void MemifBursts::Free::operator()(rte_rcu_qsbr* state) const noexcept {
    std::free(state);
}

MemifBursts::Burst::Burst(MemifBursts& bursts, std::uint16_t queue) noexcept : state_(bursts.state_.get()), queue_(queue) {
    rte_rcu_qsbr_thread_online(state_, queue_);
}

MemifBursts::Burst::~Burst() {
    rte_rcu_qsbr_thread_offline(state_, queue_);
}

void MemifBursts::wait() noexcept {
    const std::lock_guard lock(ports().mutex);
    for (rte_rcu_qsbr* state : ports().states) {
        const std::uint64_t token = rte_rcu_qsbr_start(state);
        // A worker that shares this core must come to its turn.
        while (rte_rcu_qsbr_check(state, token, false) == 0) std::this_thread::yield();
    }
}

}  // namespace sallyport::drivers
