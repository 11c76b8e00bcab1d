#pragma once

#include <cstdint>

namespace sallyport::drivers {

/// What the kernel tells of a frame, and is told, ahead of it (Virtio 1.1, 5.1.6, in the machine's byte order; linux/virtio_net.h, which is not C++).
struct VirtioHeader {
    static constexpr std::uint8_t kNeedsChecksum = 1, kChecksumValid = 2;           ///< of `flags`
    static constexpr std::uint8_t kWhole = 0, kTcp4 = 1, kTcp6 = 4, kEcn = 0x80;    ///< of `segmentation`; kEcn: the first segment has CWR
    std::uint8_t flags = 0;
    std::uint8_t segmentation = kWhole;
    std::uint16_t header_length = 0;     ///< octets before the payload that is cut
    std::uint16_t segment_size = 0;      ///< octets of payload in each segment but the last
    std::uint16_t checksum_start = 0;    ///< from where on octets are summed up, and where from there the sum belongs
    std::uint16_t checksum_offset = 0;
};
static_assert(sizeof(VirtioHeader) == 10);

}  // namespace sallyport::drivers
