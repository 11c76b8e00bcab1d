#include "control/daemon/usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

namespace sallyport::daemon {

Usage usage() {
    Usage result;
    std::ifstream memory("/proc/self/statm");   // proc(5): pages in all, pages resident
    std::uint64_t total = 0, resident = 0;
    if (memory >> total >> resident) result.resident_octets = resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    rusage used{};
    if (getrusage(RUSAGE_SELF, &used) == 0)
        result.cpu = std::chrono::seconds(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + std::chrono::microseconds(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    return result;
}

}  // namespace sallyport::daemon
