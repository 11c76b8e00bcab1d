#include "control/configuration/schema.h"

#include <array>

#include "control/channel/dataplane_configuration.h"

namespace sallyport::configuration {

namespace {

using std::string_view;
namespace limits = channel::limits;

constexpr std::uint32_t kMaxName = 63;     // a DNS label; fits every log line and metric
constexpr std::uint32_t kMaxPath = 4095;   // PATH_MAX without the zero
constexpr std::uint32_t kMaxSocket = 107;  // sun_path without the zero, unix(7)

constexpr std::array<string_view, 5> kProfiles{"pci", "af_xdp", "af_packet", "memif", "tap"};
constexpr std::array<string_view, 2> kMemifRoles{"client", "server"};
constexpr std::array<string_view, 2> kBalances{"round_robin", "least_connections"};
constexpr std::array<string_view, 2> kVersions{"1.3", "1.2"};
constexpr std::array<string_view, 5> kLogLevels{"trace", "debug", "info", "warning", "error"};

constexpr std::array kPolicy{
    Setting{.name = "level", .kind = Kind::integer, .fallback = "2", .least = 1, .most = 3,
            .documentation = "level of OWASP's chapter V9 'Secure Communication' that is enforced, with those below it"},
};

constexpr std::array kDataplane{
    Setting{.name = "cores", .kind = Kind::integers, .fallback = "[ 0 ]", .least = limits::kCore.least, .most = limits::kCore.most, .least_items = limits::kWorkers.least, .most_items = limits::kWorkers.most,
            .documentation = "processor cores; each runs one worker, which polls all the time"},
    Setting{.name = "hugepages", .kind = Kind::boolean, .fallback = "true",
            .documentation = "packet memory in 2 MB pages; false: in ordinary pages, which is slower"},
    Setting{.name = "max_flows", .kind = Kind::integer, .fallback = "65536", .least = limits::kMaxFlows.least, .most = limits::kMaxFlows.most,
            .documentation = "flows of all workers together; what exceeds them is refused and counted"},
    Setting{.name = "buffers", .kind = Kind::integer, .fallback = "0", .least = limits::kBuffers.least, .most = limits::kBuffers.most,
            .documentation = "packet buffers of each worker; 0: computed from max_flows and the rings of the ports"},
    Setting{.name = "receive_buffer", .kind = Kind::integer, .fallback = "262144", .least = limits::kBufferOctets.least, .most = limits::kBufferOctets.most,
            .documentation = "octets received and not yet passed on, each leg: the largest TCP window that is advertised"},
    Setting{.name = "send_buffer", .kind = Kind::integer, .fallback = "262144", .least = limits::kBufferOctets.least, .most = limits::kBufferOctets.most,
            .documentation = "octets sent and not yet acknowledged, each leg"},
    Setting{.name = "control_away_ms", .kind = Kind::integer, .fallback = "5000", .least = limits::kControlAwayMs.least, .most = limits::kControlAwayMs.most,
            .documentation = "milliseconds that a new connection waits while the control process is away"},
    Setting{.name = "eal_arguments", .kind = Kind::texts, .fallback = "[ ]", .most_items = 64,
            .documentation = "further arguments for DPDK's environment abstraction layer, as they are"},
};

constexpr std::array kRoute{
    Setting{.name = "to", .kind = Kind::text, .least_items = 1, .documentation = "destination as PREFIX/LENGTH; \"0.0.0.0/0\" or \"::/0\" is the default route"},
    Setting{.name = "via", .kind = Kind::text, .least_items = 1, .documentation = "address of the gateway, inside a prefix of this port"},
};

constexpr std::array kPort{
    Setting{.name = "name", .kind = Kind::text, .least_items = 1, .most_items = 31, .documentation = "what to call it"},
    Setting{.name = "profile", .kind = Kind::text, .choices = kProfiles,
            .documentation = "how the device is driven: pci (any card that DPDK knows), af_xdp or af_packet (an interface of the kernel), memif (shared memory), tap"},
    Setting{.name = "device", .kind = Kind::text, .least_items = 1, .most_items = kMaxPath,
            .documentation = "pci: address, such as \"0000:03:00.0\"; af_xdp, af_packet, tap: name of the interface; memif: path of the socket"},
    Setting{.name = "mtu", .kind = Kind::integer, .fallback = "1500", .least = limits::kMtu.least, .most = limits::kMtu.most, .documentation = "octets of the largest IP packet; IPv6 needs 1280"},
    Setting{.name = "vlan", .kind = Kind::integer, .fallback = "0", .least = limits::kVlan.least, .most = limits::kVlan.most, .documentation = "802.1Q id that all frames carry; 0: no tag"},
    Setting{.name = "queues", .kind = Kind::integer, .fallback = "0", .least = limits::kQueues.least, .most = limits::kQueues.most, .documentation = "pairs of receive and transmit queues; 0: one a worker, or as many as the device has"},
    Setting{.name = "descriptors", .kind = Kind::integer, .fallback = "0", .least = limits::kDescriptors.least, .most = limits::kDescriptors.most, .documentation = "length of each ring, a power of two from 64; 0: what suits the profile"},
    Setting{.name = "mac", .kind = Kind::text, .fallback = "\"\"", .most_items = 17, .documentation = "MAC address, such as \"02:00:00:00:00:01\"; empty: the device's own"},
    Setting{.name = "memif_role", .kind = Kind::text, .fallback = "\"client\"", .choices = kMemifRoles, .documentation = "memif: which side makes the socket"},
    Setting{.name = "addresses", .kind = Kind::texts, .least_items = 1, .most_items = 1024, .documentation = "addresses of the appliance as ADDRESS/LENGTH, IPv4 and IPv6"},
    Setting{.name = "routes", .kind = Kind::groups, .fallback = "( )", .members = kRoute, .documentation = "ways to what lies behind gateways"},
};

constexpr std::array kTls{
    Setting{.name = "trust", .kind = Kind::texts, .least_items = 1, .most_items = 64, .requirement = "9.2.6 (12.3.2)",
            .documentation = "PEM files of the certification authorities that may have signed the members' certificates"},
    Setting{.name = "server_name", .kind = Kind::text, .least_items = 1, .most_items = 253, .requirement = "9.2.6 (12.3.2)",
            .documentation = "name that the members' certificates must cover; sent as server name indication"},
    Setting{.name = "versions", .kind = Kind::texts, .fallback = "[ \"1.3\", \"1.2\" ]", .least_items = 1, .most_items = 2, .choices = kVersions,
            .requirement = "9.4.2 (12.1.1)", .documentation = "versions of TLS; at level 3 the default is 1.3 alone"},
};

constexpr std::array kMember{
    Setting{.name = "name", .kind = Kind::text, .optional = true, .least_items = 1, .most_items = kMaxName, .documentation = "what to call it; left out: its address"},
    Setting{.name = "address", .kind = Kind::text, .least_items = 1, .documentation = "ADDRESS:PORT or [IPV6-ADDRESS]:PORT"},
    Setting{.name = "weight", .kind = Kind::integer, .fallback = "1", .least = 1, .most = 256, .documentation = "share of the flows, in proportion to the other members'"},
    Setting{.name = "drain", .kind = Kind::boolean, .fallback = "false", .documentation = "true: gets no new flows, keeps those it has"},
};

constexpr std::array kHealth{
    Setting{.name = "interval_ms", .kind = Kind::integer, .fallback = "5000", .least = 100, .most = 3600000, .documentation = "milliseconds from one check to the next"},
    Setting{.name = "timeout_ms", .kind = Kind::integer, .fallback = "2000", .least = 10, .most = 600000, .documentation = "milliseconds that a check may take, at most the interval"},
    Setting{.name = "rise", .kind = Kind::integer, .fallback = "2", .least = 1, .most = 100, .documentation = "checks in a row that must succeed before the member is up"},
    Setting{.name = "fall", .kind = Kind::integer, .fallback = "3", .least = 1, .most = 100, .documentation = "checks in a row that must fail before the member is down"},
};

constexpr std::array kPool{
    Setting{.name = "name", .kind = Kind::text, .least_items = 1, .most_items = kMaxName, .documentation = "what services call it"},
    Setting{.name = "members", .kind = Kind::groups, .least_items = 1, .members = kMember, .documentation = "the servers"},
    Setting{.name = "balance", .kind = Kind::text, .fallback = "\"round_robin\"", .choices = kBalances, .documentation = "how a member is chosen for a flow"},
    Setting{.name = "tls", .kind = Kind::group, .optional = true, .members = kTls,
            .documentation = "TLS towards the members, who are always verified; left out: plain text, at level 1 only"},
    Setting{.name = "health", .kind = Kind::group, .optional = true, .members = kHealth, .documentation = "connect to the members now and then, through TLS where there is TLS; left out: no checks"},
    Setting{.name = "proxy_protocol", .kind = Kind::boolean, .fallback = "false", .documentation = "begin each connection with a PROXY protocol v2 header; needs tls"},
    Setting{.name = "connect_timeout_ms", .kind = Kind::integer, .fallback = "3000", .least = 10, .most = 600000, .documentation = "milliseconds until TCP and TLS of a member must stand"},
};

constexpr std::array kCertificate{
    Setting{.name = "certificate", .kind = Kind::text, .least_items = 1, .most_items = kMaxPath, .documentation = "PEM file: the server's certificate first, then its chain"},
    Setting{.name = "key", .kind = Kind::text, .least_items = 1, .most_items = kMaxPath, .documentation = "PEM file of the private key, not encrypted, of mode 0600"},
};

constexpr std::array kService{
    Setting{.name = "name", .kind = Kind::text, .least_items = 1, .most_items = kMaxName, .documentation = "what to call it"},
    Setting{.name = "listen", .kind = Kind::texts, .least_items = 1, .documentation = "ADDRESS:PORT or [IPV6-ADDRESS]:PORT, with addresses of the ports"},
    Setting{.name = "certificates", .kind = Kind::groups, .least_items = 1, .members = kCertificate, .requirement = "9.1.1 (12.2.1)",
            .documentation = "certificates with their keys; the client's server name and abilities choose among them"},
    Setting{.name = "alpn", .kind = Kind::texts, .fallback = "[ ]", .most_items = 16, .documentation = "application protocols, such as \"h2\", in order of preference; empty: ALPN is not spoken"},
    Setting{.name = "versions", .kind = Kind::texts, .fallback = "[ \"1.3\", \"1.2\" ]", .least_items = 1, .most_items = 2, .choices = kVersions,
            .requirement = "9.4.2 (12.1.1)", .documentation = "versions of TLS; at level 3 the default is 1.3 alone"},
    Setting{.name = "session_tickets", .kind = Kind::integer, .fallback = "2", .least = 0, .most = 8, .documentation = "tickets for resumption after each handshake of TLS 1.3; 0: no resumption at all"},
    Setting{.name = "idle_timeout_s", .kind = Kind::integer, .fallback = "3600", .least = limits::kIdleTimeoutS.least, .most = limits::kIdleTimeoutS.most, .documentation = "seconds without an octet either way until a flow is ended"},
    Setting{.name = "handshake_timeout_ms", .kind = Kind::integer, .fallback = "10000", .least = limits::kHandshakeTimeoutMs.least, .most = limits::kHandshakeTimeoutMs.most, .documentation = "milliseconds until the client's handshake must be done"},
    Setting{.name = "pool", .kind = Kind::text, .least_items = 1, .documentation = "name of the pool behind it"},
};

constexpr std::array kManagement{
    Setting{.name = "socket", .kind = Kind::text, .fallback = "\"/run/sallyport/control.sock\"", .least_items = 1, .most_items = kMaxSocket, .documentation = "UNIX socket for the sallyport command"},
};

constexpr std::array kControl{
    Setting{.name = "handshake_workers", .kind = Kind::integer, .fallback = "1", .least = limits::kHandshakeWorkers.least, .most = limits::kHandshakeWorkers.most, .documentation = "threads that do handshakes"},
    Setting{.name = "channel_socket", .kind = Kind::text, .fallback = "\"/run/sallyport/channel.sock\"", .least_items = 1, .most_items = kMaxSocket,
            .documentation = "UNIX socket at which the dataplane attaches to control"},
    Setting{.name = "user", .kind = Kind::text, .fallback = "\"sallyport\"", .least_items = 1, .most_items = 32, .documentation = "user that both processes become; not root"},
};

constexpr std::array kLog{
    Setting{.name = "level", .kind = Kind::text, .fallback = "\"info\"", .choices = kLogLevels, .documentation = "the least that is logged"},
};

constexpr std::array kRoot{
    Setting{.name = "policy", .kind = Kind::group, .fallback = "{ }", .members = kPolicy, .documentation = "what is demanded of every connection"},
    Setting{.name = "dataplane", .kind = Kind::group, .fallback = "{ }", .members = kDataplane, .documentation = "cores and memory of the process that touches packets"},
    Setting{.name = "ports", .kind = Kind::groups, .least_items = 1, .most_items = 64, .members = kPort, .documentation = "network devices and the appliance's addresses on them"},
    Setting{.name = "pools", .kind = Kind::groups, .least_items = 1, .members = kPool, .documentation = "servers behind services"},
    Setting{.name = "services", .kind = Kind::groups, .least_items = 1, .members = kService, .documentation = "what clients reach; always TLS"},
    Setting{.name = "management", .kind = Kind::group, .fallback = "{ }", .members = kManagement, .documentation = "how the appliance is managed"},
    Setting{.name = "control", .kind = Kind::group, .fallback = "{ }", .members = kControl, .documentation = "the process that does handshakes"},
    Setting{.name = "log", .kind = Kind::group, .fallback = "{ }", .members = kLog, .documentation = "what is logged"},
};

constexpr Setting kSchema{.name = "", .kind = Kind::group, .fallback = "{ }", .members = kRoot, .documentation = "a configuration of Sallyport"};

}  // namespace

const Setting& schema() noexcept { return kSchema; }

}  // namespace sallyport::configuration
