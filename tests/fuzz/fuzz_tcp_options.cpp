// Whatever parse_tcp_options() accepts must survive being written and parsed again.
#include <array>
#include <cstddef>
#include <cstdint>

#include "crypto/check.h"
#include "dataplane/wire/tcp_options.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sallyport::wire;
    const auto options = parse_tcp_options({reinterpret_cast<const std::byte*>(data), size});
    if (!options) return 0;
    std::array<std::byte, kTcpOptionsLengthMax> out;
    const std::size_t length = write_tcp_options(*options, out);
    SALLYPORT_CHECK(length % 4 == 0 && length <= out.size());
    const auto again = parse_tcp_options({out.data(), length});
    SALLYPORT_CHECK(again.has_value());
    // Of two SACK options the second counts: what it leaves in the blocks behind its own is not compared.
    SALLYPORT_CHECK(again->mss == options->mss && again->window_scale == options->window_scale &&
                    again->sack_permitted == options->sack_permitted && again->timestamps == options->timestamps);
    SALLYPORT_CHECK(again->sack_count == options->sack_count || tcp_options_length(*options) > out.size());
    for (std::size_t i = 0; i < again->sack_count; ++i) SALLYPORT_CHECK(again->sack_blocks[i] == options->sack_blocks[i]);
    return 0;
}
