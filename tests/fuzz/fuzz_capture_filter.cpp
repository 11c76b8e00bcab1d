// A capture's filter and a frame: two octets (whether the port has a VLAN, the length of the filter), the filter's text, the frame.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "crypto/check.h"
#include "drivers/capture_filter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using sallyport::drivers::CaptureFilter;
    if (size < 2) return 0;
    const std::uint16_t vlan = (data[0] & 1) != 0 ? 7 : 0;
    const std::size_t length = std::min<std::size_t>(data[1] | (data[0] & 0x0eu) << 7, size - 2);
    const std::string text(reinterpret_cast<const char*>(data + 2), length);
    // A vector of its own, so that a read beyond its end is seen.
    std::vector<std::byte> frame(size - 2 - length);
    std::copy_n(reinterpret_cast<const std::byte*>(data + 2 + length), frame.size(), frame.begin());
    const auto filter = CaptureFilter::compile(text, vlan);
    if (!filter) {
        SALLYPORT_CHECK(!filter.error().empty());
        return 0;
    }
    SALLYPORT_CHECK(filter->instructions() <= CaptureFilter::kMaxInstructions);
    static_cast<void>(filter->matches(frame, static_cast<std::uint32_t>(frame.size())));
    static_cast<void>(filter->matches(frame, static_cast<std::uint32_t>(frame.size() + 1000)));
    return 0;
}
