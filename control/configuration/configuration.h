#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/certificates/certificate_chain.h"
#include "control/certificates/passphrase.h"
#include "control/certificates/public_roots.h"
#include "control/channel/address.h"
#include "control/channel/dataplane_configuration.h"
#include "control/management/role.h"

/// The configuration: libconfig text, read into values that cannot be wrong.
namespace sallyport::configuration {

/// Where a setting stands, for messages.
struct Place {
    std::string file;
    int line = 0;
    std::string setting{};   ///< dotted path, such as services.[0]; empty for what is no setting
};

/// One thing wrong with a configuration. Printed as `FILE:LINE: NAME = VALUE: WHAT IS WRONG; WHAT WOULD BE RIGHT`.
struct Problem {
    Place place;
    std::string setting;   ///< dotted path, such as services.[0].listen.[1]
    std::string value;     ///< as written; empty when the setting is missing. Never key material.
    std::string wrong;
    std::string right;
    std::string requirement;   ///< policy requirement that it violates, such as "9.4.2 (12.1.1)"; else empty
    std::string object{};      ///< "service NAME" or "pool NAME": what a waiver would name; empty: no waiver can help
    [[nodiscard]] std::string to_string() const;
};

enum class TlsVersion : std::uint8_t { tls12,
                                       tls13 };

/// A certificate with its key, and what was loaded from them.
struct CertificateFiles {
    std::filesystem::path certificate;   ///< PEM: leaf first, then its chain; or PKCS#12 with key and chain
    std::filesystem::path key;           ///< PEM; empty: in the same file
    std::filesystem::path passphrase;    ///< file with the passphrase of an encrypted key; empty: not encrypted, or asked for
    std::shared_ptr<const certificates::CertificateChain> chain;   ///< loaded and checked; never null after load()
    Place place;
};

/// What a requirement of the policy is suspended for, until when. There is none for a plain-text external service (9.1.1).
struct Waiver {
    std::string requirement;             ///< draft id, such as "9.4.3"
    std::string object;                  ///< "service NAME", "clients of service NAME" (of 9.4.3: what is not known of their certificates) or "pool NAME"
    std::string reason;
    std::chrono::system_clock::time_point until;   ///< end of the day that is written, UTC
    Place place;
};

/// A violation that a waiver suspends: kept, so that every report shows it.
struct Waived {
    Problem problem;
    Waiver waiver;
};

/// Where a list of revoked certificates comes from: a file, or an http URL that is polled (signed data: the one exception of 9.2.2).
struct CrlSource {
    std::filesystem::path file;          ///< DER or PEM; empty: url
    std::string url;
    Place place;
};

enum class ClientAuthMode : std::uint8_t { off,
                                           optional,
                                           required };

/// Certificates of clients (9.4.5 (12.1.3)). Identities are used and forwarded only after they have been verified.
struct ClientAuth {
    ClientAuthMode mode = ClientAuthMode::off;
    std::vector<std::filesystem::path> trust;              ///< PEM files of private CAs, at least one
    std::vector<std::shared_ptr<X509>> anchors;   ///< what was loaded from them
    std::vector<CrlSource> crl;
    std::vector<std::string> names;      ///< SANs (DNS, mail, URI) that are let in, wildcards as in certificates; empty: all that the CAs signed
    std::uint32_t depth = 3;             ///< intermediates at most
    bool forward = false;                ///< tell the backend by PROXY v2 TLVs (0x22, 0x28)
    Place place{};
};

/// Encrypted Client Hello (RFC 9849). Keys are made, rotated and kept by control in the state directory.
struct Ech {
    std::string public_name;             ///< a certificate of the service covers it; no tenant is served under it
    std::uint32_t rotate_s = 86400;
    std::uint32_t retain_s = 259200;     ///< how long a key still opens after it is no longer published
    Place place{};
};

struct Service {
    std::string name;
    std::vector<SocketAddress> listen;
    std::vector<CertificateFiles> certificates;
    std::vector<std::string> alpn;          ///< in order of preference; empty: no ALPN
    std::vector<TlsVersion> versions;       ///< newest first
    std::uint32_t pool = 0;                 ///< index into pools
    std::uint32_t idle_timeout_s = 3600;
    std::uint32_t handshake_timeout_ms = 10000;
    std::uint8_t session_tickets = 2;       ///< TLS 1.3 tickets a handshake (session_tickets.h); 0: none at all
    ClientAuth client_auth;
    std::optional<Ech> ech;
    Place place;
};

struct Member {
    std::string name;                       ///< defaults to its address
    SocketAddress address;
    std::uint32_t weight = 1;
    bool drain = false;                     ///< gets no new flows
    Place place;
};

/// TLS towards the members of a pool. There is no way to switch verification off.
struct BackendTls {
    std::vector<std::filesystem::path> trust;   ///< PEM files of trust anchors; may be empty where there are pins
    std::vector<std::shared_ptr<X509>> anchors;   ///< what was loaded from them
    std::vector<std::array<std::uint8_t, 32>> pins;    ///< SHA-256 of whole certificates (DER) that are taken as they are, if in date
    std::string server_name;                    ///< SNI and the name that the certificate must cover
    std::vector<std::string> names;             ///< allow list of SANs (9.3.3 (12.3.5)): one at least must be there; empty: server_name alone decides
    std::optional<CertificateFiles> identity;   ///< our own client certificate for this pool
    std::vector<CrlSource> crl;
    std::vector<TlsVersion> versions;
    Place place{};
};

enum class Balance : std::uint8_t { round_robin,
                                    least_connections };

struct HealthCheck {
    std::uint32_t interval_ms = 5000;
    std::uint32_t timeout_ms = 2000;
    std::uint32_t rise = 2;
    std::uint32_t fall = 3;
};

struct Pool {
    std::string name;
    std::vector<Member> members;
    Balance balance = Balance::round_robin;
    std::optional<BackendTls> tls;          ///< nullopt: plain text, at level 1 only
    std::optional<HealthCheck> health;
    bool proxy_protocol = false;            ///< PROXY protocol v2 header first (needs tls)
    std::uint32_t connect_timeout_ms = 3000;
    Place place;
};

/// A listener for plain HTTP that answers 308 to the same host and path over https, and nothing else (9.1.1 (12.2.1)).
struct Redirect {
    std::string name;
    std::vector<SocketAddress> listen;
    std::uint32_t timeout_ms = 5000;        ///< until the request's head must be there
    Place place;
};

/// How OCSP answers and CRLs are fetched.
struct Revocation {
    std::uint32_t timeout_ms = 5000;
    std::uint32_t max_octets = 16 << 20;    ///< of one answer
    std::uint32_t crl_poll_s = 3600;        ///< at least so often; earlier when nextUpdate is nearer
};

struct Tickets {
    std::uint32_t period_s = 3600;          ///< a new key each period; the two before it still open
    std::filesystem::path secret;           ///< file of 32 octets or more, mode 0600: keys derived from it and the clock; empty: random ones
};

/// What handshakes may cost before established flows would pay for them. Costs in units of one resumed handshake.
struct Brake {
    std::uint32_t connections = 32768;      ///< without a finished handshake (or a redirect's request), in all
    std::uint32_t connections_per_source = 1024;   ///< of one IPv4 address or IPv6 /64
    std::uint32_t handshakes = 8192;        ///< started and not finished, in all
    std::uint32_t handshakes_per_source = 256;   ///< of one IPv4 address or IPv6 /64
    std::uint32_t cost_per_second = 2000;   ///< of one source
    std::uint32_t burst = 8000;             ///< that a source may spend at once
};

/// Packet captures. Their files hold what clients and members sent, and with `secrets` what opens it.
struct Capture {
    std::filesystem::path directory;        ///< never empty after load(): "captures" in the state directory by default
    std::uint64_t max_octets = std::uint64_t{1} << 30;   ///< of all files in it, and of those that are being written
    bool secrets = false;                   ///< whether a capture may hold TLS secrets
};

/// A setting that holds from one start to the next, as it is written or by default: what a change is refused for that has another.
struct Fixed {
    std::string setting;                    ///< dotted path
    std::string value;                      ///< as text, the default where none is written; to compare and to show
    Place place{};
};

/// Who may do what on the management socket: a group for each role, by name or number. The numbers were looked up when the configuration
/// was loaded.
struct ManagementAccess {
    std::string administrators = "sallyport-admin", operators = "sallyport-operator", readers = "sallyport-read";
    management::RoleGroups groups;
};

struct Logging {
    std::string level = "info";             ///< trace, debug, info, warning, error
};

/// Where Prometheus reads the metrics: HTTPS on an address of the kernel's network, for clients with a certificate alone.
struct Metrics {
    SocketAddress listen;
    CertificateFiles identity;                             ///< what the endpoint shows
    std::vector<std::filesystem::path> clients;            ///< PEM files of the private CAs of those who may read
    std::vector<std::shared_ptr<X509>> anchors;            ///< what was loaded from them
    std::vector<std::string> names;                        ///< SANs that may read; empty: all that the CAs signed
    Place place{};
};

/// A receiver of log records by syslog over TLS (RFC 5425). There is no plain one (9.2.2 (12.3.1)).
struct Syslog {
    SocketAddress address;
    std::string server_name;                               ///< that its certificate must cover
    std::vector<std::filesystem::path> trust;
    std::vector<std::shared_ptr<X509>> anchors;            ///< what was loaded from them
    std::optional<CertificateFiles> identity;              ///< our own client certificate
    Place place{};
};

/// A record of each flow when it ends. Without a sink nothing is recorded.
struct FlowLog {
    std::filesystem::path file;                            ///< JSON lines; empty: none
    std::uint64_t max_octets = 100 << 20;                  ///< of the file, then it is rotated
    std::uint32_t files = 5;                               ///< rotated ones that are kept
    bool journal = false;
    std::optional<Syslog> syslog;
    std::uint32_t queue = 16384;                           ///< records that a sink may be behind; what comes then is shed and counted
    [[nodiscard]] bool on() const noexcept { return !file.empty() || journal || syslog; }
};

struct Configuration {
    std::filesystem::path file;
    int policy_level = 2;                   ///< of OWASP V9, 1 to 3
    std::vector<Waiver> waivers;
    std::vector<Waived> waived;             ///< what would have refused the configuration without its waiver
    std::filesystem::path public_roots = "/etc/ssl/certs";   ///< directory of PEM files: what 'publicly trusted' means (9.1.4)
    std::shared_ptr<const certificates::PublicRoots> roots;  ///< what was found there; never null after load(), may be empty
    std::uint32_t expiry_alarm_days = 14;
    std::filesystem::path state_directory = "/var/lib/sallyport";   ///< staples, CRLs, ECH keys, the report's key; mode 0700, the user's
    channel::DataplaneConfiguration dataplane;   ///< ports, cores, memory; services and listens filled in from the below
    std::vector<Service> services;
    std::vector<Pool> pools;
    std::vector<Redirect> redirects;        ///< for the dataplane they are services too, numbered after the others
    Revocation revocation;
    Tickets tickets;
    Brake brake;
    Capture capture;
    std::uint32_t handshake_workers = 1;
    std::filesystem::path management_socket = "/run/sallyport/control.sock";
    ManagementAccess access;
    std::filesystem::path channel_socket = "/run/sallyport/channel.sock";
    std::string user = "sallyport";         ///< both processes change to it; "root" is refused
    Logging logging;
    std::vector<Fixed> fixed;               ///< sockets, user, threads, cores, memory, ports' devices; in the order of the schema
    std::optional<Metrics> metrics;
    FlowLog flow_log;
};

/// Checks a configuration as a whole; policy::check_load() is the one of the policy. May be called with a configuration of which
/// parts could not be read (a chain may be null, a list empty): it says nothing of what is not there.
using Check = std::function<void(const Configuration&, std::vector<Problem>&)>;

struct LoadOptions {
    std::optional<std::string> text{}; ///< read as if it stood in the file, which need not be there; paths and @include start from its directory
    Check check{};                     ///< empty: only what the reader itself can tell
    certificates::Ask ask{};           ///< for passphrases that no file has; empty: nobody is there to ask
    std::chrono::system_clock::time_point now = std::chrono::system_clock::now();
};

/// Whether a waiver of 9.4.3 suspends what flows are held to at level 3: that nobody is let in of whom it is not known whether his certificate
/// has been revoked. It names the members of a pool ("pool NAME") or the clients of a service ("clients of service NAME"); of the service's own
/// certificates it says nothing.
[[nodiscard]] bool waives_unknown_revocation(const Configuration& configuration, const Waiver& waiver);

/// Reads and checks a file. Reports every problem that it finds, not just the first, sorted by line; those of `check` among them.
/// Certificates, keys and trust anchors are read and checked too (they match, are in date, cover a name, are strong enough
/// for the policy level), so that what loads also runs. A violation that a valid waiver names is kept in `waived` instead; a waiver that suspends
/// nothing is a problem, where `check` tells of violations at all.
[[nodiscard]] std::expected<Configuration, std::vector<Problem>> load(const std::filesystem::path& file,
                                                                      const LoadOptions& options = {});

}  // namespace sallyport::configuration
