#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "control/channel/address.h"
#include "control/handshake/handshake.h"

namespace sallyport::flows {

/// A PROXY protocol version 2 header: addresses of the client's connection, and TLVs for ALPN (0x01), server name (AUTHORITY, 0x02),
/// unique id (0x05), and TLS (0x20 with version 0x21, cipher 0x23, group 0x26, signature scheme 0x27). With `forward_identity`, and where there
/// is a verified identity, also of the client's certificate: common name 0x22, the certificate in DER 0x28 (left out where the
/// header would not fit a record), the flags CERT_CONN (not on a resumed session, in which none was sent) and CERT_SESS, and "verify" 0;
/// otherwise "verify" is not 0. It is clear text: only for a leg that is protected. At most kMaxProxyHeader octets.
[[nodiscard]] std::vector<std::byte> proxy_header(const SocketAddress& client, const SocketAddress& local,
                                                  const handshake::Negotiated& negotiated, const std::string& unique_id,
                                                  bool forward_identity = false);

/// The dataplane sends it as one record (RFC 8446 5.1: 2^14), and it has to fit a message too.
constexpr std::size_t kMaxProxyHeader = std::size_t{1} << 14;
static_assert(kMaxProxyHeader <= channel::kMaxPayload);

}  // namespace sallyport::flows
