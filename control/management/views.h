#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "control/management/view_json.h"

/// What `sallyport show ...` shows, as values: control fills them in, the management socket carries them as JSON, the
/// CLI prints that JSON or a table made from it (render.h). The member names are the JSON names: they are an interface
/// that scripts rely on, so members are added and never renamed.
///
/// Octets are octets of TLS plaintext unless the comment says otherwise; `_ns` nanoseconds, `_us` microseconds; `time`
/// strings are ISO 8601 with zone (iso8601()), empty for never; other strings are empty for none. Counters count from
/// the start of the process that keeps them. Reading JSON: a missing member keeps its default, so that a newer CLI
/// understands an older control; a member of the wrong type throws nlohmann::json::exception.
namespace sallyport::management {

/// "2026-11-03T14:05:09Z", UTC, whole seconds.
[[nodiscard]] std::string iso8601(std::chrono::system_clock::time_point time);

/// `show version`
struct VersionView {
    std::string version;          ///< of Sallyport
    std::string openssl;          ///< as the library calls itself
    std::string dpdk;             ///< empty while no dataplane is attached
    std::string ipsec_mb;         ///< likewise; with the instruction set it chose, such as "2.0.0 AVX2"
    std::string started;          ///< time: control's start
    std::uint64_t uptime_ns = 0;  ///< of control
    std::int64_t control_pid = 0;
    std::int64_t dataplane_pid = 0;  ///< 0: not attached
    bool dataplane_attached = false;
    std::string dataplane_attached_at;  ///< time
    std::string configuration;          ///< file
    std::uint32_t generation = 0;       ///< of the running configuration
    std::string configuration_loaded;   ///< time
    int policy_level = 0;
    std::string eal;  ///< arguments of DPDK's environment abstraction layer; empty while no dataplane is attached
};
SALLYPORT_VIEW_JSON(VersionView, version, openssl, dpdk, ipsec_mb, started, uptime_ns, control_pid, dataplane_pid,
                    dataplane_attached, dataplane_attached_at, configuration, generation, configuration_loaded,
                    policy_level, eal)

struct OffloadView {
    std::string name;
    bool wanted = false, got = false;
};
SALLYPORT_VIEW_JSON(OffloadView, name, wanted, got)

/// `show ports`: array
struct PortView {
    std::string name, profile, driver, device;
    std::string mac;         ///< "02:00:00:00:00:01"
    bool link = false;       ///< up
    std::uint32_t mbps = 0;  ///< megabit a second; 0: the device does not say
    std::uint16_t mtu = 0;
    std::uint16_t receive_queues = 0, transmit_queues = 0;
    int numa_node = -1;                  ///< -1: any
    std::vector<std::string> addresses;  ///< with prefix length
    std::uint64_t packets_in = 0, packets_out = 0;
    std::uint64_t octets_in = 0, octets_out = 0;  ///< of frames
    std::uint64_t missed = 0;                     ///< dropped by the device: no free descriptor
    std::uint64_t errors_in = 0, errors_out = 0;
    std::uint64_t no_buffer = 0;  ///< dropped: no packet buffer free
    std::vector<OffloadView> offloads;
};
SALLYPORT_VIEW_JSON(PortView, name, profile, driver, device, mac, link, mbps, mtu, receive_queues, transmit_queues,
                    numa_node, addresses, packets_in, packets_out, octets_in, octets_out, missed, errors_in, errors_out,
                    no_buffer, offloads)

struct CertificateView {
    std::vector<std::string> names;  ///< DNS names and addresses of the SAN
    std::string subject, issuer;
    std::string not_before, not_after;  ///< time
    std::string key;                    ///< kind and size, such as "RSA 3072", "ECDSA P-256"
};
SALLYPORT_VIEW_JSON(CertificateView, names, subject, issuer, not_before, not_after, key)

/// How often something was negotiated, such as a suite.
struct CountView {
    std::string name;
    std::uint64_t count = 0;
};
SALLYPORT_VIEW_JSON(CountView, name, count)

/// `show services`: array
struct ServiceView {
    std::string name;
    std::vector<std::string> listen;  ///< socket addresses
    std::string pool;
    std::vector<std::string> alpn, versions;
    std::vector<CertificateView> certificates;
    std::uint64_t flows_now = 0, flows_total = 0;
    std::uint64_t handshakes_done = 0, handshakes_failed = 0, resumed = 0;
    std::vector<CountView> by_version, by_suite, by_group;  ///< of the handshakes done
    std::vector<CountView> by_failure;                      ///< of the failed, by EndReason's name
    std::vector<CountView> by_violation;                    ///< of the policy, by counter; clients and backends
    std::vector<CountView> by_ech;                          ///< of the handshakes done: none, grease, accepted, rejected
};
SALLYPORT_VIEW_JSON(ServiceView, name, listen, pool, alpn, versions, certificates, flows_now, flows_total,
                    handshakes_done, handshakes_failed, resumed, by_version, by_suite, by_group, by_failure,
                    by_violation, by_ech)

/// A handshake that failed, of a client or of a pool's member.
struct FailureView {
    std::string time;                   ///< time
    std::string side;                   ///< "client" or "backend"
    std::string flow;                   ///< as in the log; empty: a health check
    std::string source;                 ///< socket address of the client; empty: a health check
    std::string service;
    std::string pool, member, address;  ///< of a backend
    std::string server_name;            ///< asked for; "protected" when it came by Encrypted ClientHello
    std::vector<std::string> versions, suites, groups, signature_schemes, alpn;  ///< offered by the client; IANA's names, else 0x1234
    std::string ja4;
    int alert = -1;                     ///< RFC 8446 6; -1: none
    std::string alert_by;               ///< "us", "peer", or empty: there was none
    std::string reason;                 ///< EndReason's name
    std::string text;                   ///< for a person
    std::string violation;              ///< of the policy, by its counter's name; empty: none
    std::string requirement;            ///< "9.4.1"
    std::string final_requirement;      ///< "12.1.2"
    std::string peer_subject;           ///< of the other side's certificate
    std::string chain_error;
};
SALLYPORT_VIEW_JSON(FailureView, time, side, flow, source, service, pool, member, address, server_name, versions,
                    suites, groups, signature_schemes, alpn, ja4, alert, alert_by, reason, text, violation, requirement,
                    final_requirement, peer_subject, chain_error)

/// `show failures`, arguments {"limit": N}
struct FailuresView {
    std::vector<FailureView> failures;  ///< newest first
    std::uint64_t total = 0;            ///< since control was started, those that are no longer kept included
    std::uint64_t not_logged = 0;       ///< left out of the log, which takes 200 a second; those beyond 1,000 a second are not in `failures` either
};
SALLYPORT_VIEW_JSON(FailuresView, failures, total, not_logged)

struct MemberView {
    std::string name, address;
    std::string state;  ///< "up", "down", "drain"
    std::string why;    ///< what made it so, for a person; empty when up
    std::uint32_t weight = 1;
    std::uint64_t flows_now = 0, flows_total = 0;
    std::uint64_t failures = 0;  ///< connections and handshakes that failed, health checks included
    std::string last_check;      ///< time
};
SALLYPORT_VIEW_JSON(MemberView, name, address, state, why, weight, flows_now, flows_total, failures, last_check)

/// `show pools`: array
struct PoolView {
    std::string name;
    bool tls = false;
    std::string server_name;  ///< that members' certificates must cover
    std::string balance;      ///< "round_robin", "least_connections"
    bool proxy_protocol = false;
    std::vector<MemberView> members;
};
SALLYPORT_VIEW_JSON(PoolView, name, tls, server_name, balance, proxy_protocol, members)

/// One TCP connection of a flow.
struct TcpView {
    std::string state;                                     ///< RFC 9293 spelling; empty: there is none
    std::uint64_t srtt_us = 0, rttvar_us = 0, rto_us = 0;  ///< 0: not measured yet
    std::uint32_t cwnd = 0, ssthresh = 0, snd_wnd = 0, rcv_wnd = 0, in_flight = 0;  ///< octets
    std::uint64_t octets_sent = 0, octets_received = 0;                             ///< of the TCP payload
    std::uint64_t segments_retransmitted = 0, timeouts = 0;
    std::uint16_t mss = 0;
    bool sack = false, timestamps = false, window_scaling = false, ecn = false;
};
SALLYPORT_VIEW_JSON(TcpView, state, srtt_us, rttvar_us, rto_us, cwnd, ssthresh, snd_wnd, rcv_wnd, in_flight,
                    octets_sent, octets_received, segments_retransmitted, timeouts, mss, sack, timestamps,
                    window_scaling, ecn)

struct FlowView {
    std::string id;  ///< as in the log
    std::string service;
    std::string client, local;          ///< socket addresses of the client's leg: the peer's, ours
    std::string state;                  ///< of the flow
    std::string version, suite, group;  ///< of the client's leg: "TLS 1.3", IANA's names
    std::string server_name, alpn;
    std::string client_identity;        ///< subject of the client's verified certificate
    bool resumed = false;
    std::string pool, member, member_address;
    std::string anchor;                 ///< subject of the anchor that the member's certificate led to, or "pin"
    bool backend_tls = false;
    std::string backend_version, backend_suite;     ///< empty: not yet, or plain text (see backend_tls)
    std::uint64_t client_in = 0, client_out = 0;    ///< octets from and to the client
    std::uint64_t backend_in = 0, backend_out = 0;  ///< octets from and to the backend
    std::uint64_t age_ns = 0;
    std::uint32_t worker = 0;
    TcpView client_tcp, backend_tcp;
};
SALLYPORT_VIEW_JSON(FlowView, id, service, client, local, state, version, suite, group, server_name, alpn,
                    client_identity, resumed, pool, member, member_address, anchor, backend_tls, backend_version,
                    backend_suite, client_in, client_out, backend_in, backend_out, age_ns, worker, client_tcp,
                    backend_tcp)

/// `show flows`, arguments {"limit": N}
struct FlowsView {
    std::vector<FlowView> flows;  ///< at most `limit`
    std::uint64_t total = 0;      ///< flows that there are
};
SALLYPORT_VIEW_JSON(FlowsView, flows, total)

/// `show policy`: array, in the order of the requirements
struct PolicyView {
    std::string id;        ///< of the draft, "9.4.3"
    std::string final_id;  ///< in ASVS 5.0.0, "12.1.4"
    int level = 0;         ///< from which it is enforced
    std::string title;
    std::string state;     ///< "ok", "violated", "alarm", "waived", "not applicable"
    std::string evidence;
    std::string since;     ///< time: of the state
    std::vector<std::string> alarms;   ///< what is wrong now, one each
};
SALLYPORT_VIEW_JSON(PolicyView, id, final_id, level, title, state, evidence, since, alarms)

struct EchKeyView {
    std::uint32_t config_id = 0;
    std::string made, dies;   ///< time; dies is empty for the published one
};
SALLYPORT_VIEW_JSON(EchKeyView, config_id, made, dies)

/// `show ech`: array, a row for each service that has it
struct EchView {
    std::string service, public_name;
    std::string config_list;   ///< ECHConfigList in base64 (RFC 9849 4): what clients take
    std::string dns;           ///< SvcParam for the HTTPS record (RFC 9848): ech="..."
    std::string dns_file;      ///< where it is written to at each rotation
    std::vector<EchKeyView> keys;   ///< newest, which is the published one, first
    std::uint64_t accepted = 0, grease = 0, rejected = 0;
};
SALLYPORT_VIEW_JSON(EchView, service, public_name, config_list, dns, dns_file, keys, accepted, grease, rejected)

/// An own certificate and what answers for its not having been revoked (9.4.3).
struct OwnRevocationView {
    std::string subject, file;
    std::string rule;       ///< "staple", "short_lived", "crl", "none"
    std::string standing;   ///< "good", "revoked", "unknown"
    std::string why, url;
    std::string this_update, next_update, last_attempt, next_attempt;   ///< time
    std::uint64_t fetched = 0, failed = 0;
};
SALLYPORT_VIEW_JSON(OwnRevocationView, subject, file, rule, standing, why, url, this_update, next_update, last_attempt,
                    next_attempt, fetched, failed)

struct CrlView {
    std::string domain, source, why;
    std::string next_update, last_attempt, next_attempt;   ///< time
    std::uint64_t fetched = 0, failed = 0;
};
SALLYPORT_VIEW_JSON(CrlView, domain, source, why, next_update, last_attempt, next_attempt, fetched, failed)

/// `show revocation`
struct RevocationView {
    std::vector<OwnRevocationView> own;
    std::vector<CrlView> crls;
};
SALLYPORT_VIEW_JSON(RevocationView, own, crls)

/// `report policy`: files that were written
struct ReportView {
    std::string report, signature, public_key;
};
SALLYPORT_VIEW_JSON(ReportView, report, signature, public_key)

/// `reload`
struct ReloadView {
    bool done = false;
    std::vector<std::string> problems;   ///< why not, FILE:LINE first; the running configuration is untouched
};
SALLYPORT_VIEW_JSON(ReloadView, done, problems)

/// `show counters`: array
struct CounterView {
    std::string name;      ///< stable, such as tcp_bad_checksum
    std::string group;     ///< "drops", "tcp", "records", "flows ended", ...: a heading of the table
    std::string sentence;  ///< what it counts, for a person
    std::uint64_t value = 0;
    std::string since;     ///< time: of the `clear counters` from which it counts; empty: the start of its process, or no counter that grows
};
SALLYPORT_VIEW_JSON(CounterView, name, group, sentence, value, since)

/// `show workers`: array
struct WorkerView {
    std::uint32_t index = 0, core = 0;
    double busy_share = 0;  ///< 0 to 1: cycles of loops that found work, of all cycles, since the last sample
    std::uint64_t cycles_busy = 0, cycles_total = 0;  ///< TSC cycles since start
    std::uint64_t tsc_hz = 0;                         ///< cycles a second
    std::uint64_t iterations = 0;                     ///< of the loop
    std::uint64_t interrupted = 0;                    ///< of those that found work: the kernel gave the core to another thread meanwhile
    std::uint64_t packets_in = 0, packets_out = 0;
    double cycles_per_packet = 0;  ///< busy cycles a packet, in and out together
    double cycles_per_octet = 0;   ///< busy cycles an octet of plaintext
    std::uint64_t flows = 0, connections = 0, half_open = 0;
    std::uint64_t buffers_held = 0;              ///< packet buffers that connections hold
    std::uint64_t pool_free = 0, pool_size = 0;  ///< packet buffers
    double lane_to_control_used = 0;             ///< 0 to 1: the fullest lane
    double lane_to_dataplane_used = 0;           ///< likewise
    std::uint64_t records_opened = 0, records_sealed = 0, records_failed = 0;
    std::uint64_t retransmitted = 0, timeouts = 0;
    std::string sampled;  ///< time at which these figures were read
};
SALLYPORT_VIEW_JSON(WorkerView, index, core, busy_share, cycles_busy, cycles_total, tsc_hz, iterations, interrupted,
                    packets_in, packets_out, cycles_per_packet, cycles_per_octet, flows, connections, half_open,
                    buffers_held, pool_free, pool_size, lane_to_control_used, lane_to_dataplane_used, records_opened,
                    records_sealed, records_failed, retransmitted, timeouts, sampled)

/// `show neighbours`: array
struct NeighbourView {
    std::string address, mac;  ///< mac empty: not resolved
    std::string port;
    std::string state;  ///< RFC 4861 7.3.2: REACHABLE, ...
    std::uint32_t worker = 0;
};
SALLYPORT_VIEW_JSON(NeighbourView, address, mac, port, state, worker)

}  // namespace sallyport::management
