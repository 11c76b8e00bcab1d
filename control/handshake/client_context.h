#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"

namespace sallyport::handshake {

/// What the handshakes with one pool's members share: an SSL_CTX that trusts the pool's anchors and nothing else, and the
/// sessions that can be resumed. They belong to this object: another configuration makes another one, so that a session never
/// outlives the anchors and the name that its certificate was verified with. Any thread.
class ClientContext {
 public:
    static constexpr std::size_t kSessionsPerIdentity = 16;   ///< TLS 1.3 tickets are used once: some for flows that begin together
    static constexpr std::size_t kIdentities = 1024;

    /// Throws std::runtime_error saying what could not be loaded or what libssl refused. The pool has TLS.
    ClientContext(const configuration::Configuration& configuration, const configuration::Pool& pool);

    [[nodiscard]] SSL_CTX* get() const { return context_.get(); }
    [[nodiscard]] const std::string& server_name() const { return server_name_; }
    [[nodiscard]] bool name_is_address() const { return name_is_address_; }
    [[nodiscard]] bool speaks(std::uint16_t version) const { return version == TLS1_3_VERSION ? tls13_ : tls12_; }

    /// Keeps a session; the oldest of its identity goes when there are too many.
    void keep(const std::string& identity, openssl::Session session);
    /// The newest session that is still good, or nullptr. One of TLS 1.3 is given out once (RFC 8446 C.4).
    [[nodiscard]] openssl::Session take(const std::string& identity);
    [[nodiscard]] std::size_t sessions() const;

 private:
    openssl::Context context_;
    std::string server_name_;
    bool name_is_address_ = false;
    bool tls12_ = false;
    bool tls13_ = false;
    mutable std::mutex mutex_;
    std::map<std::string, std::deque<openssl::Session>, std::less<>> sessions_;   ///< newest last
};

}  // namespace sallyport::handshake
