#include "dataplane/tcp/port_allocator.h"

#include <cstring>

namespace sallyport::tcp {

std::uint64_t PortAllocator::hash_of(const IpAddress& local, const SocketAddress& remote) const noexcept {
    std::array<std::uint64_t, 5> words;
    std::memcpy(words.data(), local.octets.data(), 16);
    std::memcpy(words.data() + 2, remote.address.octets.data(), 16);
    words[4] = remote.port;
    return hash_(words);
}

}  // namespace sallyport::tcp
