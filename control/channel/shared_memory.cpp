#include "control/channel/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sallyport::channel {

namespace {

std::unexpected<std::string> system_error(const char* what) {
    return std::unexpected(std::string(what) + ": " + std::strerror(errno));
}

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

void Descriptor::reset() noexcept {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
}

std::expected<void, std::string> SharedMemory::map(unsigned lanes) {
    length_ = std::size_t{2} * lanes * kRingMemory;
    void* const memory = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_.get(), 0);
    if (memory == MAP_FAILED) return system_error("cannot map the channel's memory");
    memory_ = static_cast<std::byte*>(memory);
    madvise(memory, length_, MADV_DONTDUMP);
    return {};
}

std::expected<SharedMemory, std::string> SharedMemory::create(unsigned lanes) {
    SharedMemory result;
    result.descriptor_ = Descriptor(memfd_create("sallyport-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!result.descriptor_.valid()) return system_error("memfd_create");
    if (ftruncate(result.descriptor_.get(), static_cast<off_t>(std::size_t{2} * lanes * kRingMemory)) != 0)
        return system_error("cannot size the channel's memory");
    if (fcntl(result.descriptor_.get(), F_ADD_SEALS, kSeals) != 0) return system_error("cannot seal the channel's memory");
    if (auto mapped = result.map(lanes); !mapped) return std::unexpected(mapped.error());
    return result;
}

std::expected<SharedMemory, std::string> SharedMemory::attach(Descriptor descriptor, unsigned lanes) {
    SharedMemory result;
    result.descriptor_ = std::move(descriptor);
    struct stat status {};
    if (fstat(result.descriptor_.get(), &status) != 0) return system_error("fstat of the channel's memory");
    if (static_cast<std::size_t>(status.st_size) != std::size_t{2} * lanes * kRingMemory)
        return std::unexpected("the channel's memory has " + std::to_string(status.st_size) + " octets, not those of " +
                               std::to_string(lanes) + " lanes");
    const int seals = fcntl(result.descriptor_.get(), F_GET_SEALS);
    if (seals < 0 || (seals & kSeals) != kSeals) return std::unexpected("the channel's memory is not sealed");
    if (auto mapped = result.map(lanes); !mapped) return std::unexpected(mapped.error());
    return result;
}

SharedMemory::~SharedMemory() {
    if (memory_ != nullptr) munmap(memory_, length_);
}

}  // namespace sallyport::channel
