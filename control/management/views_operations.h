#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/management/view_json.h"
#include "control/management/views.h"

/// What the operational commands show beyond views.h, by the same rules.
namespace sallyport::management {

/// `show certificates`: array
struct InstalledCertificateView {
    std::string used_by;              ///< "service NAME", "pool NAME"
    std::string role;                 ///< "server", "identity" (ours towards members), "client CA", "member CA"
    std::vector<std::string> names;
    std::string subject, issuer, serial, key;
    std::string sha256;               ///< of the whole certificate, hexadecimal
    std::string not_before, not_after;  ///< time
    std::int64_t days_left = 0;       ///< negative: it has run out
    std::string file;
    std::string staple;               ///< of a server: "good until TIME", "none: WHY", "not needed: short-lived", "revoked", ...; else empty
    bool must_staple = false;
};
SALLYPORT_VIEW_JSON(InstalledCertificateView, used_by, role, names, subject, issuer, serial, key, sha256, not_before,
                    not_after, days_left, file, staple, must_staple)

/// What was negotiated on one side, counted since control was started.
struct TlsCountsView {
    std::string name;  ///< of a service; "all" for the sum
    std::uint64_t handshakes_done = 0, handshakes_failed = 0, resumed = 0;
    double resumed_share = 0;  ///< 0 to 1, of those done
    std::vector<CountView> by_version, by_suite, by_group;
};
SALLYPORT_VIEW_JSON(TlsCountsView, name, handshakes_done, handshakes_failed, resumed, resumed_share, by_version,
                    by_suite, by_group)

/// Backend legs of a pool, of the flows that are open now.
struct BackendTlsView {
    std::string pool;
    bool tls = false;
    std::uint64_t flows = 0;
    std::vector<CountView> by_version, by_suite;
};
SALLYPORT_VIEW_JSON(BackendTlsView, pool, tls, flows, by_version, by_suite)

/// `show tls`
struct TlsView {
    TlsCountsView all;
    std::vector<TlsCountsView> services;
    std::vector<BackendTlsView> backends;
    std::uint64_t backend_flows_seen = 0;  ///< that the figures of `backends` are made of
};
SALLYPORT_VIEW_JSON(TlsView, all, services, backends, backend_flows_seen)

/// `show sessions`: array; connections to the management socket
struct SessionView {
    std::string user, role, from;
    std::uint32_t uid = 0;
    std::int32_t pid = 0;
    std::string since;              ///< time
    std::uint64_t idle_ms = 0;
    std::uint64_t commands = 0;
    std::string last_command;
    bool this_one = false;
};
SALLYPORT_VIEW_JSON(SessionView, user, role, from, uid, pid, since, idle_ms, commands, last_command, this_one)

struct LogLineView {
    std::string time;     ///< with milliseconds
    std::string level;    ///< "warning"
    std::string process;  ///< "control", "dataplane"
    std::string text;     ///< event and fields, as in the log
};
SALLYPORT_VIEW_JSON(LogLineView, time, level, process, text)

/// `show log`, arguments {"limit", "match", "level"}
struct LogView {
    std::vector<LogLineView> lines;  ///< oldest first
    std::string dataplane;           ///< why its lines are missing; empty: they are there
};
SALLYPORT_VIEW_JSON(LogView, lines, dataplane)

/// `show flow`, arguments {"id"}
struct FlowDetailView {
    FlowView flow;
    bool negotiated_known = false;  ///< false: control was started after the flow
    std::string signature_scheme;   ///< of the client's handshake
    bool extended_master_secret = false;
    std::string ech;                ///< "none", "grease", "accepted", "rejected"
    std::string backend_group;
    std::string backend_subject;    ///< of the member's verified certificate
    std::string client_issuer, client_serial;  ///< of the client's certificate
    std::vector<std::string> client_names;
    std::string began;              ///< time
};
SALLYPORT_VIEW_JSON(FlowDetailView, flow, negotiated_known, signature_scheme, extended_master_secret, ech,
                    backend_group, backend_subject, client_issuer, client_serial, client_names, began)

/// What grows, to make rates of: differences over the difference of monotonic_ns.
struct PortTotalsView {
    std::string name;
    bool link = false;
    std::uint64_t packets_in = 0, packets_out = 0, octets_in = 0, octets_out = 0, dropped = 0;
};
SALLYPORT_VIEW_JSON(PortTotalsView, name, link, packets_in, packets_out, octets_in, octets_out, dropped)
struct WorkerTotalsView {
    std::uint32_t index = 0, core = 0;
    std::uint64_t cycles_busy = 0, cycles_total = 0, packets_in = 0, packets_out = 0, flows = 0, records_opened = 0, records_sealed = 0, retransmitted = 0;
};
SALLYPORT_VIEW_JSON(WorkerTotalsView, index, core, cycles_busy, cycles_total, packets_in, packets_out, flows,
                    records_opened, records_sealed, retransmitted)
struct ServiceTotalsView {
    std::string name;
    std::uint64_t flows_now = 0, flows_total = 0, handshakes_done = 0, handshakes_failed = 0, resumed = 0;
};
SALLYPORT_VIEW_JSON(ServiceTotalsView, name, flows_now, flows_total, handshakes_done, handshakes_failed, resumed)
/// `show rates`
struct RatesView {
    std::string time;
    std::uint64_t monotonic_ns = 0;
    bool dataplane = false;          ///< false: it is away, and its figures are 0
    std::int64_t dataplane_pid = 0;  ///< another one: its figures began anew
    std::uint64_t flows_now = 0, flows_opened = 0, handshakes_done = 0, handshakes_failed = 0, resumed = 0;
    std::uint64_t octets_to_backend = 0, octets_to_client = 0, drops = 0;
    std::vector<PortTotalsView> ports;
    std::vector<WorkerTotalsView> workers;
    std::vector<ServiceTotalsView> services;
};
SALLYPORT_VIEW_JSON(RatesView, time, monotonic_ns, dataplane, dataplane_pid, flows_now, flows_opened, handshakes_done,
                    handshakes_failed, resumed, octets_to_backend, octets_to_client, drops, ports, workers, services)

/// `show names`: array
struct NameView {
    std::string name, help;
};
SALLYPORT_VIEW_JSON(NameView, name, help)

/// `clear flows`
struct EndedView {
    std::uint64_t ended = 0;
};
SALLYPORT_VIEW_JSON(EndedView, ended)

/// `show audit`: entries as they stand in the file, oldest first
struct AuditEntriesView {
    std::vector<nlohmann::json> entries;
    std::uint64_t lost = 0;  ///< that could not be written since control was started
};
SALLYPORT_VIEW_JSON(AuditEntriesView, entries, lost)

/// `audit verify`
struct AuditVerificationView {
    bool ok = false;
    std::uint64_t entries = 0, files = 0, first = 0, last = 0;
    std::string head;            ///< "NUMBER:SHA-256" of the last entry that fits
    std::uint64_t broken = 0;    ///< number of the first entry that does not fit or is missing; 0: none
    std::string broken_file, why;
};
SALLYPORT_VIEW_JSON(AuditVerificationView, ok, entries, files, first, last, head, broken, broken_file, why)

struct SeenCertificateView {
    std::string subject, issuer, not_after;
};
SALLYPORT_VIEW_JSON(SeenCertificateView, subject, issuer, not_after)
/// One handshake of `test service`.
struct TestedHandshakeView {
    std::string offered;        ///< "TLS 1.3, ECDSA"
    bool done = false;
    std::string why;            ///< not done: what the client saw
    std::string version, suite, group, signature_scheme, alpn;
    std::vector<SeenCertificateView> chain;  ///< as sent, leaf first
    bool trusted = false;       ///< chain to a public root, for a server, in date
    std::string trust_error;
    bool name_covered = false;
    std::string staple;         ///< "good until TIME", "revoked", "none"
    std::uint64_t tickets = 0;
    bool resumed = false;       ///< a second handshake with such a ticket was a short one
    std::string ech;            ///< "accepted", "rejected", "not offered"
};
SALLYPORT_VIEW_JSON(TestedHandshakeView, offered, done, why, version, suite, group, signature_scheme, alpn, chain,
                    trusted, trust_error, name_covered, staple, tickets, resumed, ech)
/// `test service`, arguments {"name", "server_name"}
struct ServiceTestView {
    std::string service, server_name;
    std::string how;  ///< what was tested, and what was not
    bool good = false;
    std::vector<std::string> problems;
    std::vector<TestedHandshakeView> handshakes;
};
SALLYPORT_VIEW_JSON(ServiceTestView, service, server_name, how, good, problems, handshakes)

/// `support bundle`
struct BundleView {
    std::string file;    ///< its name, for `support read`
    std::string path;
    std::uint64_t octets = 0;
    std::string sha256;
    std::vector<std::string> members;
};
SALLYPORT_VIEW_JSON(BundleView, file, path, octets, sha256, members)
/// `support read`, arguments {"file", "offset"}
struct BundlePartView {
    std::string data;        ///< base64
    std::uint64_t next = 0;  ///< offset of what follows
    bool last = false;
};
SALLYPORT_VIEW_JSON(BundlePartView, data, next, last)

}  // namespace sallyport::management
