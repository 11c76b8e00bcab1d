#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "control/channel/address.h"
#include "drivers/port.h"
#include "tests/bench/generator/schedule.h"
#include "tests/bench/generator/tls_context.h"

namespace CLI {
class App;
}

namespace sallyport::generator {

enum class Mode : std::uint8_t {
    kept,    ///< connections are opened once, and used for requests
    close,   ///< a connection for each request, or for so many
    idle,    ///< connections are opened and held, and each answers one request at the end
};

/// One side: a port, addresses, and TLS or none.
struct SideOptions {
    std::optional<drivers::PortSettings> port;   ///< without one there is no such side, unless both are joined by --loopback
    std::uint16_t vlan = 0;
    std::vector<IpPrefix> addresses;
    std::optional<IpAddress> gateway_v4, gateway_v6;
    bool plain = false;
    TlsOptions tls;
};

struct Options {
    SideOptions clients, backends;
    bool loopback = false;                      ///< no ports: clients speak to the backends over a wire within the process
    std::vector<SocketAddress> targets;         ///< empty: the backends themselves
    std::vector<SocketAddress> listen;          ///< of the backends
    std::vector<IpPrefix> sources;              ///< further addresses of clients

    Mode mode = Mode::kept;
    std::uint32_t connections = 16;
    std::uint32_t active = 0;                   ///< of them, in a closed loop of mode kept, that are used; 0: all
    std::uint32_t requests_per_connection = 1;  ///< mode close; 0: closed as soon as it is open
    std::string host = "www.example.com";       ///< of requests, and SNI
    std::string path;                           ///< of other servers
    std::uint64_t request_size = 0, answer_size = 1024;
    std::uint32_t record_size = 16384;
    std::uint64_t key_update_every = 0;         ///< records; 0: as seldom as may be
    std::uint32_t compare_every = 1;
    double open_rate = 0, rate = 0, probe_rate = 10000;   ///< a second; open_rate 0: no limit
    std::uint32_t opening_at_once = 0;
    Spacing spacing = Spacing::poisson;
    double resume_percent = 0;
    std::uint64_t seed = 1;
    std::uint64_t answers = 0;                  ///< end the window once so many have come in all; 0: no such bound
    double settle = 0;                          ///< seconds before the first connection
    double warm_up = 1, duration = 10, drain = 5, timeout = 10;   ///< seconds
    double slice = 0;                                             ///< seconds; 0: latencies of the whole alone
    double course = 0;                                            ///< seconds between two of Result::course; 0: none
    static constexpr double kMostMarks = 100'000;

    unsigned core = 0;
    bool hugepages = true;
    std::uint32_t memory_mb = 0, buffers = 0;
    std::uint32_t receive_buffer = 262144, send_buffer = 262144;
    std::uint32_t backend_connections = 0;      ///< 0: as the clients need, with some room
    std::string file_prefix = "sallyport_generator";

    std::string json_file, percentiles_file;
    double most_failures = 0;                   ///< percent of connections and requests together
    bool quiet = false;

    [[nodiscard]] bool has_clients() const noexcept { return loopback || clients.port.has_value(); }
    [[nodiscard]] bool has_backends() const noexcept { return loopback || backends.port.has_value(); }
};

/// Reads a port as it is written on the command line: PROFILE:DEVICE[,NAME=VALUE...], such as "memif:/run/a.sock,role=server,mtu=9000".
[[nodiscard]] std::expected<drivers::PortSettings, std::string> parse_port(const std::string& text, std::uint16_t& vlan);

/// Parses the command line. The error is a message and an exit code: 0 when there was nothing to do but print (--help, --version).
struct UsageError {
    std::string text;
    int exit_code;
};
[[nodiscard]] std::expected<Options, UsageError> parse_options(int argc, const char* const* argv);

}  // namespace sallyport::generator
