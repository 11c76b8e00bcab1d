#pragma once

#include "control/certificates/openssl.h"
#include "control/configuration/configuration.h"

/// TLS contexts of telemetry's endpoints. Both sides are verified, by private anchors and names; only what the policy's catalogue allows is
/// spoken; nothing is resumed, so that every connection proves its certificate anew.
namespace sallyport::telemetry {

/// Of the metrics' endpoint: TLS 1.3, a client certificate of one of `metrics.anchors` with one of `metrics.names`. `metrics` is copied
/// as far as it is needed. Throws std::runtime_error with libssl's reason.
[[nodiscard]] openssl::Context server_context(const configuration::Metrics& metrics, int policy_level);

/// Of the connection to a syslog receiver: TLS 1.3, and 1.2 below level 3. The name is set by prepare(). Throws likewise.
[[nodiscard]] openssl::Context client_context(const configuration::Syslog& syslog, int policy_level);
/// A connection that will be good only if the receiver's certificate covers the name. nullptr when libssl refuses.
[[nodiscard]] openssl::Connection prepare(SSL_CTX* context, const std::string& server_name);

}  // namespace sallyport::telemetry
