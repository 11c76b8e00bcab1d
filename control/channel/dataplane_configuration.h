#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/channel/address.h"

/// What control tells the dataplane to run: the part of the configuration that packets need, already checked. Sent
/// as JSON over the channel's UNIX socket when the two attach (see attachment.h), and again when it changes.
namespace sallyport::channel {

/// What the numbers below may be. The configuration's schema and the reader of the JSON keep to the same ranges.
struct Range {
    std::int64_t least, most;
};
namespace limits {
constexpr Range kCore{0, 1023};                        // of glibc's cpu_set_t
constexpr Range kWorkers{1, 128};
constexpr Range kHandshakeWorkers{1, 64};
constexpr std::size_t kLanes = 1024;                  // workers by handshake workers; each lane has 4 MiB of memory
constexpr Range kMaxFlows{1, 16 << 20};
constexpr Range kBuffers{0, 8 << 20};
constexpr Range kBufferOctets{32768, 64 << 20};        // a record of 2^14 + 256 octets fits twice, nearly; far below a window of 2^30
constexpr Range kUserTimeoutS{10, 3600};               // RFC 9293 3.8.3 recommends 100 s at least
constexpr Range kKeepaliveS{0, 86400};
constexpr Range kHopLimit{1, 255};
constexpr Range kDscp{0, 63};
constexpr Range kControlAwayMs{0, 600000};
constexpr Range kMtu{576, 9600};                       // RFC 791: what every host must take, to jumbo frames
constexpr Range kVlan{0, 4094};                        // IEEE 802.1Q: 4095 is reserved
constexpr Range kQueues{0, 256};
constexpr Range kDescriptors{0, 32768};
constexpr Range kIdleTimeoutS{1, 604800};
constexpr Range kHandshakeTimeoutMs{100, 600000};
}  // namespace limits

struct RouteConfiguration {
    IpPrefix to;         ///< 0.0.0.0/0 or ::/0 for the default route
    IpAddress via;
};

struct PortConfiguration {
    std::string name;
    std::string profile;           ///< pci, af_xdp, af_packet, memif, virtio_user, tap
    std::string device;            ///< PCI address, kernel interface, path of the socket of memif and virtio_user, or name of the TAP interface
    std::uint16_t mtu = 1500;      ///< octets of an IP packet
    std::uint16_t vlan = 0;        ///< 802.1Q id that the port's traffic carries; 0: untagged
    std::uint16_t queues = 0;      ///< 0: one a worker, or as many as the device has
    std::uint16_t descriptors = 0; ///< of a receive or transmit ring; 0: the profile's default
    std::string mac;               ///< empty: the device's own
    bool memif_server = false;     ///< memif: which side makes the socket
    std::vector<IpPrefix> addresses;
    std::vector<RouteConfiguration> routes;
};

struct TcpConfiguration {
    std::string ecn = "accept";            ///< off, accept, request
    bool pacing = true;
    bool nagle = false;
    std::uint32_t user_timeout_s = 100;
    bool user_timeout_option = false;
    std::uint32_t keepalive_s = 120;       ///< 0: none
    std::uint8_t hop_limit = 64;
    std::uint8_t dscp = 0;                 ///< of what is sent (RFC 2474 3)
};

struct ListenConfiguration {
    SocketAddress address;
    std::uint32_t service = 0;     ///< index into services
};

struct ServiceConfiguration {
    std::string name;
    std::uint32_t idle_timeout_s = 3600;
    std::uint32_t handshake_timeout_ms = 10000;
    bool redirect = false;         ///< plain HTTP that is only ever answered by control: no TLS, no backend
};

struct DataplaneConfiguration {
    std::uint32_t generation = 0;
    std::vector<std::uint32_t> cores;          ///< one worker on each
    std::uint32_t handshake_workers = 1;       ///< lanes of each worker
    std::vector<std::string> eal_arguments;    ///< raw extra ones
    bool hugepages = true;                     ///< false: --no-huge
    std::uint32_t max_flows = 65536;           ///< of all workers together
    std::uint32_t buffers = 0;                 ///< packet buffers a worker; 0: from max_flows and the rings
    std::uint32_t receive_buffer = 4194304;    ///< octets a leg, the most that is advertised
    std::uint32_t send_buffer = 4194304;       ///< octets a leg, at most
    TcpConfiguration tcp;
    std::uint32_t control_away_ms = 5000;      ///< how long a new connection waits for control
    std::vector<PortConfiguration> ports;
    std::vector<ServiceConfiguration> services;
    std::vector<ListenConfiguration> listens;
};

[[nodiscard]] std::string to_json(const DataplaneConfiguration& configuration);
/// Throws std::runtime_error naming the member that is missing, unknown, of the wrong type or out of range, such as
/// "ports[0].mtu is 100, not from 576 to 9600".
[[nodiscard]] DataplaneConfiguration dataplane_configuration_from_json(const std::string& text);

}  // namespace sallyport::channel
