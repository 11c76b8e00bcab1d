#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "control/channel/address.h"
#include "control/channel/dataplane_configuration.h"

/// The configuration: libconfig text, read into values that cannot be wrong.
namespace sallyport::configuration {

/// Where a setting stands, for messages.
struct Place {
    std::string file;
    int line = 0;
};

/// One thing wrong with a configuration. Printed as `FILE:LINE: NAME = VALUE: WHAT IS WRONG; WHAT WOULD BE RIGHT`.
struct Problem {
    Place place;
    std::string setting;   ///< dotted path, such as services.[0].listen.[1]
    std::string value;     ///< as written; empty when the setting is missing. Never key material.
    std::string wrong;
    std::string right;
    std::string requirement;   ///< policy requirement that it violates, such as "9.4.2 (12.1.1)"; else empty
    [[nodiscard]] std::string to_string() const;
};

enum class TlsVersion : std::uint8_t { tls12, tls13 };

struct CertificateFiles {
    std::filesystem::path certificate;   ///< PEM: leaf first, then its chain
    std::filesystem::path key;           ///< PEM
    Place place;
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
    std::uint8_t session_tickets = 2;       ///< TLS 1.3 tickets a handshake (num_tickets); 0: none at all
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
    std::vector<std::filesystem::path> trust;   ///< PEM files of trust anchors, at least one
    std::string server_name;                    ///< SNI and the name that the certificate must cover
    std::vector<TlsVersion> versions;
};

enum class Balance : std::uint8_t { round_robin, least_connections };

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

struct Logging {
    std::string level = "info";             ///< trace, debug, info, warning, error
};

struct Configuration {
    std::filesystem::path file;
    int policy_level = 2;                   ///< of OWASP V9, 1 to 3
    channel::DataplaneConfiguration dataplane;   ///< ports, cores, memory; services and listens filled in from the below
    std::vector<Service> services;
    std::vector<Pool> pools;
    std::uint32_t handshake_workers = 1;
    std::filesystem::path management_socket = "/run/sallyport/control.sock";
    std::filesystem::path channel_socket = "/run/sallyport/channel.sock";
    std::string user = "sallyport";         ///< both processes change to it; "root" is refused
    Logging logging;
};

/// Reads and checks a file. Reports every problem that it finds, not just the first, sorted by line.
/// Certificates, keys and trust anchors are read and checked too (they match, are in date, cover a name, are strong enough
/// for the policy level), so that what loads also runs.
[[nodiscard]] std::expected<Configuration, std::vector<Problem>> load(const std::filesystem::path& file);

}  // namespace sallyport::configuration
