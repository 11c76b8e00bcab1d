#include "drivers/environment.h"

#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <mutex>

#include "crypto/format.h"
#include "drivers/port_profile.h"

namespace sallyport::drivers {
namespace {

// The EAL's log, cut into lines. It writes from any thread, each write under the lock of the stream that this stands
// behind.
struct LogSink {
    void (*log_line)(int, const char*) = nullptr;
    std::string partial;
    std::mutex mutex;    // of `errors`
    std::string errors;  // of the start, for its error message
    bool collecting = false;
};
LogSink& sink() {
    static LogSink the_sink;
    return the_sink;
}

ssize_t write_log(void*, const char* text, std::size_t length) {
    LogSink& to = sink();
    const int level = rte_log_cur_msg_loglevel();
    to.partial.append(text, length);
    for (std::size_t end; (end = to.partial.find('\n')) != std::string::npos;) {
        const std::string line = to.partial.substr(0, end);
        to.partial.erase(0, end + 1);
        if (line.empty()) continue;
        if (to.log_line != nullptr) to.log_line(level, line.c_str());
        const std::lock_guard lock(to.mutex);
        if (to.collecting && level <= static_cast<int>(RTE_LOG_ERR))
            to.errors += (to.errors.empty() ? "" : "; ") + line;
    }
    return static_cast<ssize_t>(length);
}

std::string lcore_map(const EnvironmentSettings& settings) {
    std::string map = sallyport::format("0@{}", settings.main_core);
    for (std::size_t i = 0; i < settings.cores.size(); ++i) map += sallyport::format(",{}@{}", i + 1, settings.cores[i]);
    return map;
}

}  // namespace

std::vector<std::string> eal_arguments(const EnvironmentSettings& settings, std::uint64_t free_pages) {
    std::vector<std::string> arguments = {"sallyport-dataplane", "--lcores", lcore_map(settings), "--main-lcore", "0"};
    const auto add = [&](std::initializer_list<std::string> more) { arguments.insert(arguments.end(), more); };

    const bool memif = std::ranges::contains(settings.ports, Profile::memif, &PortSettings::profile);
    const bool hugepages = settings.hugepages && free_pages > 0;
    add({"--file-prefix", settings.file_prefix});
    if (!hugepages)
        add({"--no-huge", "-m", std::to_string(settings.memory_mb == 0 ? kDefaultMemoryMb : settings.memory_mb)});
    if (!memif) add({hugepages ? "--in-memory" : "--no-shconf"});
    // The switch maps our memory by files, of which there may be eight.
    if (std::ranges::contains(settings.ports, Profile::virtio_user, &PortSettings::profile)) add({"--single-file-segments"});

    bool any_pci = false;
    for (const PortSettings& port : settings.ports)
        if (port.profile == Profile::pci) {
            add({"-a", port.device});
            any_pci = true;
        }
    if (!any_pci) add({"--no-pci"});
    arguments.insert(arguments.end(), settings.extra.begin(), settings.extra.end());
    return arguments;
}

std::uint64_t free_hugepages() {
    std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    std::uint64_t pages = 0;
    return file >> pages ? pages : 0;
}

namespace {

std::string& line_of_environment() {
    static std::string line;
    return line;
}

}  // namespace

const std::string& environment_line() {
    return line_of_environment();
}

std::expected<void, std::string> start_environment(const EnvironmentSettings& settings,
                                                   void (*log_line)(int, const char*)) {
    static std::atomic<bool> started = false;
    if (started.exchange(true))
        return std::unexpected(std::string("DPDK's environment was started before; it can be started once a process"));
    if (settings.cores.size() + 1 > RTE_MAX_LCORE)
        return std::unexpected(
            sallyport::format("{} workers are too many: DPDK takes {}", settings.cores.size(), RTE_MAX_LCORE - 1));

    LogSink& to = sink();
    to.log_line = log_line;
    to.collecting = true;
    if (FILE* stream =
            fopencookie(nullptr, "w", {.read = nullptr, .write = write_log, .seek = nullptr, .close = nullptr});
        stream != nullptr)
        rte_openlog_stream(stream);

    static std::vector<std::string> arguments;  // the EAL keeps pointers into its arguments
    arguments = eal_arguments(settings, free_hugepages());
    std::string& line = line_of_environment();
    for (const std::string& argument : arguments) line += (line.empty() ? "" : " ") + argument;
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int result = rte_eal_init(static_cast<int>(arguments.size()), argv.data());

    const std::lock_guard lock(to.mutex);
    to.collecting = false;
    if (result >= 0) return {};
    return std::unexpected(sallyport::format("DPDK's environment did not start: {}{}{} (its arguments: {})",
                                             rte_strerror(rte_errno), to.errors.empty() ? "" : ": ", to.errors, line));
}

unsigned worker_lcore(unsigned worker) {
    return worker + 1;
}

void stop_environment() {
    rte_eal_cleanup();
}

std::expected<rte_mempool*, std::string> make_buffer_pool(const std::string& name, std::uint32_t count,
                                                          std::uint16_t data_room, int numa_node) {
    // A cache holds up to one and a half of its size, and every lcore may have one: an eighth of the pool leaves the
    // rest usable.
    const std::uint32_t cache = std::min<std::uint32_t>(256, count / 8);
    const std::uint32_t room = data_room + RTE_PKTMBUF_HEADROOM;
    if (room > UINT16_MAX)
        return std::unexpected(sallyport::format("buffer pool {}: {} octets a buffer are too many, {} are possible", name,
                                                 data_room, UINT16_MAX - RTE_PKTMBUF_HEADROOM));
    rte_mempool* pool = rte_pktmbuf_pool_create_by_ops(name.c_str(), count, cache, kBufferPrivateSize,
                                                       static_cast<std::uint16_t>(room), numa_node, "stack");
    if (pool != nullptr) return pool;
    const std::uint64_t megabytes =
        std::uint64_t{count} * (room + kBufferPrivateSize + 2 * sizeof(rte_mbuf)) / 1048576 + 1;
    return std::unexpected(
        sallyport::format("buffer pool {} of {} buffers was not made: {}. It needs about {} MB: reserve hugepages "
                          "(scripts/hugepages), or give more memory without them",
                          name, count, rte_strerror(rte_errno), megabytes));
}

void free_buffer_pool(rte_mempool* pool) {
    rte_mempool_free(pool);
}

std::uint32_t large_buffers_for(std::uint32_t buffers) {
    return std::clamp(buffers / 16, 16u, 1024u);
}

std::uint16_t data_room_for(const PortSettings& port) {
    // AF_XDP keeps 256 octets before the frame for its own use (XDP_PACKET_HEADROOM). 2048 is the least that all
    // profiles like.
    constexpr std::uint32_t kXdpHeadroom = 256, kVlanTag = 4, kLine = RTE_CACHE_LINE_SIZE;
    const std::uint32_t frame = port.mtu + RTE_ETHER_HDR_LEN + kVlanTag + RTE_ETHER_CRC_LEN +
                                (port.profile == Profile::af_xdp ? kXdpHeadroom : 0);
    const std::uint32_t room = std::max<std::uint32_t>(2048, (frame + kLine - 1) / kLine * kLine);
    return static_cast<std::uint16_t>(std::min<std::uint32_t>(room, UINT16_MAX - RTE_PKTMBUF_HEADROOM));
}

namespace {
constexpr std::uint32_t kBursts = 8 * 64;      // bursts in the worker's hands: input, AEAD batch, output
constexpr std::uint32_t kCache = 256 * 3 / 2;  // what the core's cache may hold back
}  // namespace

std::uint32_t buffers_for_worker(std::uint32_t receive_descriptors, std::uint32_t transmit_descriptors,
                                 std::uint32_t flows) {
    constexpr std::uint32_t kFewFlows =
        4096;  // some flows at full windows: 256 KB are 180 segments, each way, on two legs
    const std::uint64_t count = std::uint64_t{receive_descriptors} + transmit_descriptors + kBursts + kCache +
                                std::max<std::uint64_t>(std::uint64_t{flows} * kBuffersPerFlow, kFewFlows);
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(count, UINT32_MAX));
}

std::uint32_t buffers_for_connections(std::uint32_t buffers, std::uint32_t descriptors) {
    const std::uint64_t others = std::uint64_t{descriptors} + kBursts + kCache;
    // A sixteenth more is what connections that hold nothing may still take, see tcp/memory.cpp.
    const std::uint64_t left = buffers > others ? (buffers - others) / 17 * 16 : 0;
    return static_cast<std::uint32_t>(std::max<std::uint64_t>(left, std::max(1u, buffers / 4)));
}

}  // namespace sallyport::drivers
