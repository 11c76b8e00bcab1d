#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "control/channel/address.h"
#include "control/handshake/handshake.h"

namespace sallyport::flows {

/// A PROXY protocol version 2 header: addresses of the client's connection, and TLVs for ALPN (0x01), server name (AUTHORITY, 0x02),
/// unique id (0x05), and TLS (0x20 with version 0x21, cipher 0x23, group 0x26, signature scheme 0x27; the client's certificate is
/// not among them). It is clear text: only for a leg that is protected.
[[nodiscard]] std::vector<std::byte> proxy_header(const SocketAddress& client, const SocketAddress& local,
                                                  const handshake::Negotiated& negotiated, const std::string& unique_id);

}  // namespace sallyport::flows
