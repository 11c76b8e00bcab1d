#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "control/certificates/public_roots.h"
#include "control/handshake/handshake.h"
#include "control/management/views_operations.h"

/// What a client would see of a service, found out without the network: libssl as the client against a handshake of the service's own
/// context, in memory.
namespace sallyport::operations {

struct TestedService {
    std::shared_ptr<const handshake::ServerContext> context;
    std::vector<std::string> alpn;                   ///< that the client offers
    std::shared_ptr<const handshake::EchKeys> ech;   ///< nullptr: the client knows of none
    std::shared_ptr<const certificates::PublicRoots> roots;
    bool client_certificate_required = false;        ///< the client has none: what it sees before it is refused is told
    std::size_t tickets = 0;                         ///< that a handshake of TLS 1.3 should bring
    bool staple_expected = false;
};

/// One handshake for each version that the service speaks with each kind of key that it has for `server_name`, TLS 1.3 with ECH if there is
/// any. `view.problems` says what a client would complain of. Milliseconds of work for each; any thread.
[[nodiscard]] management::ServiceTestView test_handshakes(const TestedService& service, const std::string& server_name,
                                                          std::chrono::system_clock::time_point now);

}  // namespace sallyport::operations
