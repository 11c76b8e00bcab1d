#pragma once

#include <memory>
#include <string>

#include "control/configuration/configuration.h"
#include "control/telemetry/metrics.h"

namespace sallyport::telemetry {

/// HTTPS for Prometheus: GET /metrics, and nothing else, for clients that have shown a certificate. A thread of its own, which owns the
/// sockets; the values come from the main thread, which is asked when somebody wants them and those at hand are older than a second.
/// At most 32 connections; a handshake or a request that takes longer than five seconds, a request with a head of more than 8 KB or with a
/// body, and a connection that rests for two minutes are ended.
class MetricsServer {
 public:
    /// Throws std::runtime_error: TLS could not be made ready, or the address cannot be listened at.
    MetricsServer(const configuration::Metrics& settings, int policy_level);
    ~MetricsServer();
    MetricsServer(const MetricsServer&) = delete;
    MetricsServer& operator=(const MetricsServer&) = delete;

    /// Readable when somebody waits for values; wanted() then is true, once. Main thread.
    [[nodiscard]] int fd() const noexcept;
    [[nodiscard]] bool wanted();
    /// Answers those who wait, and those who come within a second.
    void publish(std::shared_ptr<const Figures> figures);

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::telemetry
