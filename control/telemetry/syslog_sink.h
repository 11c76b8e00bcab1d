#pragma once

#include <deque>
#include <string>

#include "control/certificates/openssl.h"
#include "control/channel/address.h"
#include "control/telemetry/sink.h"

namespace sallyport::telemetry {

/// A record as a syslog message (RFC 5424 6): facility local0, application sallyport, MSGID its kind, the JSON as MSG.
/// `host`: as HOSTNAME; what is no printable ASCII in it is left out.
[[nodiscard]] std::string syslog_message(const Entry& entry, std::string_view host, int process);
/// With its length before it (RFC 5425 4.3): what goes into the TLS stream.
[[nodiscard]] std::string syslog_frame(std::string_view message);

/// Sends records to one receiver by syslog over TLS (RFC 5425). Connects at once and again, after one second at first and sixty at last, when
/// the connection ends. A receiver that takes nothing for ten seconds is left. The protocol has no acknowledgement: nothing is sent twice.
/// A record counts as written when the receiver's TCP has acknowledged its last octet; what it had not when the connection broke is counted
/// as lost. What that TCP took and the receiver's program never read is beyond what can be known here. While the receiver is away the queue
/// fills, and what comes then is shed.
class SyslogSink final : public Sink {
 public:
    struct Settings {
        SocketAddress address;
        std::string server_name;
        std::size_t queue = 16384;
    };
    SyslogSink(std::shared_ptr<SinkCounts> counts, Settings settings, openssl::Context context);
    ~SyslogSink() override { stop(std::chrono::seconds(1)); }

 private:
    void run() override;
    /// Empty: connected; else why not.
    [[nodiscard]] std::string connect();
    /// Counts what was under way: as written what has been acknowledged, as lost the rest.
    void disconnect();
    /// Counts those under way that have been acknowledged.
    void settle();
    /// Octets that the receiver's TCP has acknowledged, SYN among them.
    [[nodiscard]] std::uint64_t acknowledged() const;
    void lose(const std::string& why);
    /// Whether `result` of an operation on ssl_ means that it can be tried again, after having waited for the socket. `until`: gives up.
    [[nodiscard]] bool may_try_again(int result, Clock::time_point until);
    /// Whether the receiver has ended the connection. It never says anything else.
    [[nodiscard]] bool closed();

    const Settings settings_;
    openssl::Context context_;
    openssl::Connection ssl_;
    channel::Descriptor socket_;
    Clock::time_point next_try_{};
    unsigned failures_ = 0;
    std::string host_;
    struct UnderWay {
        std::uint64_t end = 0;        ///< octets of the connection up to the end of these records
        std::size_t records = 0;
    };
    std::deque<UnderWay> under_way_;  ///< given to our TCP, not acknowledged
    std::uint64_t acknowledged_at_start_ = 0;   ///< before the first octet of TLS
};

}  // namespace sallyport::telemetry
