#pragma once

#include <span>

#include "dataplane/tcp/object_pool.h"
#include "tests/bench/generator/exchange.h"

namespace sallyport::generator {

/// A connection to a backend of ours.
struct BackendEnd : Endpoint {};

/// The backends: they listen, and answer each request with as many octets of the pattern as it names, from where it says.
class Backends : public Exchange<Backends, BackendEnd> {
 public:
    struct Settings {
        std::vector<SocketAddress> listen;
        std::uint32_t most_connections = 65536;
        RecordSettings records;
    };
    Backends(const Settings& settings, Side& side, crypto::AeadBatch& batch, const TscClock& clock, const Pattern& pattern, TlsContext* tls);
    ~Backends();

    /// True when there was something to do.
    bool turn(Time now) { return exchange(now); }
    [[nodiscard]] std::uint32_t connections() const noexcept { return ends_.live(); }

 private:
    friend class Exchange<Backends, BackendEnd>;
    [[nodiscard]] BackendEnd* accept() { return ends_.make(); }
    [[nodiscard]] openssl::Session session_to_offer() { return nullptr; }
    void opened(BackendEnd&) {}
    void octets_arrived(BackendEnd&) {}
    [[nodiscard]] bool head_arrived(BackendEnd& end);
    void message_arrived(BackendEnd& end);
    void write_head(BackendEnd& end, std::span<char> to) { static_cast<void>(write_answer_head(end.out.body, to)); }
    void message_sent(BackendEnd&) {}
    void peer_closed(BackendEnd& end);
    void lost(BackendEnd&) {}
    void vacate(BackendEnd& end) { ends_.destroy(&end); }

    tcp::ObjectPool<BackendEnd> ends_;
};

}  // namespace sallyport::generator
