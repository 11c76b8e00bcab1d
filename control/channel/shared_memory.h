#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <utility>

#include "control/channel/ring.h"

namespace sallyport::channel {

/// A file descriptor that closes itself.
class Descriptor {
 public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Descriptor() { reset(); }
    void reset() noexcept;
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }

 private:
    int fd_ = -1;
};

/// The memory of all lanes: for each a ring to control and a ring to the dataplane. A sealed memfd, so that neither side can
/// shrink it under the other. The mapping is left out of core dumps, since keys pass through it.
class SharedMemory {
 public:
    /// Makes it: the dataplane's side.
    [[nodiscard]] static std::expected<SharedMemory, std::string> create(unsigned lanes);
    /// Maps what the other side made: control's side. Checks size and seals.
    [[nodiscard]] static std::expected<SharedMemory, std::string> attach(Descriptor descriptor, unsigned lanes);

    SharedMemory() noexcept = default;
    SharedMemory(SharedMemory&& other) noexcept
        : descriptor_(std::move(other.descriptor_)),
          memory_(std::exchange(other.memory_, nullptr)),
          length_(std::exchange(other.length_, 0)) {}
    SharedMemory& operator=(SharedMemory&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        std::swap(memory_, other.memory_);
        std::swap(length_, other.length_);
        return *this;
    }
    ~SharedMemory();   ///< wipes nothing: the last one to close it frees the pages

    [[nodiscard]] std::byte* ring_to_control(unsigned lane) const noexcept { return memory_ + 2 * lane * kRingMemory; }
    [[nodiscard]] std::byte* ring_to_dataplane(unsigned lane) const noexcept {
        return memory_ + (2 * lane + 1) * kRingMemory;
    }
    [[nodiscard]] const Descriptor& descriptor() const noexcept { return descriptor_; }

 private:
    [[nodiscard]] std::expected<void, std::string> map(unsigned lanes);
    Descriptor descriptor_;
    std::byte* memory_ = nullptr;
    std::size_t length_ = 0;
};

}  // namespace sallyport::channel
