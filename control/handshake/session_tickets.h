#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "control/handshake/libssl.h"
#include "control/handshake/ticket_keys.h"
#include "crypto/cipher_suite.h"
#include "crypto/key_schedule.h"

namespace sallyport::handshake {

/// NewSessionTicket messages (RFC 8446 4.6.1) for a server's handshake of TLS 1.3 that is done, with tickets that libssl takes back (SSL_CTX_set_tlsext_ticket_key_evp_cb) as its own. libssl makes
/// the same, at four encodings and a decoding of the session for each, which are an eighth of a full handshake for two.
///
/// `session` is the handshake's own and is changed: libssl is to have no further use for it; `secret` is its resumption_master_secret (RFC 8446 7.1). The lifetime is the session's timeout, ticket_age_add
/// a random number that the ticket does not know: it serves early data alone (RFC 8446 4.2.10), which is never taken. nullopt: libssl or libcrypto refused. Any thread.
[[nodiscard]] std::optional<std::vector<std::vector<std::byte>>> new_session_tickets(SSL_SESSION* session, const crypto::CipherSuite& suite, const crypto::TrafficSecret& secret, TicketKeys& keys,
                                                                                     std::size_t count);

}  // namespace sallyport::handshake
