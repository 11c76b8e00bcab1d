#pragma once

#include <prometheus/metric_family.h>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

/// The metrics that there are: the one list that the scrape, the table in README.md and the tests are made of. Names and labels are an
/// interface: they are added to, never renamed. Units are Prometheus's base units: seconds, bytes (of 8 bits, octets elsewhere), ratios.
namespace sallyport::telemetry {

/// Name of the value, kind (counter: ends in _total), name of the metric, its labels, what it is.
#define SALLYPORT_METRICS(X)                                                                                                                                  \
    X(build_info, gauge, "sallyport_build_info", "version,openssl,dpdk", "always 1; dpdk is empty while no dataplane is attached")                            \
    X(start_time, gauge, "sallyport_start_time_seconds", "", "when control was started, since the epoch")                                                     \
    X(configuration_loaded, gauge, "sallyport_configuration_loaded_timestamp_seconds", "", "when the running configuration was loaded, since the epoch")      \
    X(dataplane_attached, gauge, "sallyport_dataplane_attached", "", "1: a dataplane is attached")                                                            \
    X(dataplane_answers, gauge, "sallyport_dataplane_answers", "", "1: it answered; else the metrics of port, worker, TCP and packets are missing")           \
    X(alarm, gauge, "sallyport_alarm", "kind,object,severity", "1 for each alarm that is raised")                                                             \
    X(alarms, gauge, "sallyport_alarms_raised", "severity", "alarms that are raised now")                                                                     \
    X(policy_level, gauge, "sallyport_policy_level", "", "level of OWASP V9 that is enforced")                                                                \
    X(policy_state, gauge, "sallyport_policy_requirement_state", "requirement,final_requirement,state", "1 for the state that a requirement is in")           \
    X(policy_violations, counter, "sallyport_policy_violations_total", "requirement,final_requirement,violation", "flows and health checks that violated it") \
    X(flows_open, gauge, "sallyport_service_flows_open", "service", "flows now")                                                                              \
    X(flows_opened, counter, "sallyport_service_flows_opened_total", "service", "flows that clients opened")                                                  \
    X(handshakes, counter, "sallyport_handshakes_total", "service,version,suite,group,resumed", "clients' handshakes that were done")                         \
    X(handshake_failures, counter, "sallyport_handshake_failures_total", "service,reason", "clients' handshakes that were not")                               \
    X(ech_handshakes, counter, "sallyport_ech_handshakes_total", "service,outcome", "handshakes by what became of Encrypted ClientHello")                     \
    X(handshakes_under_way, gauge, "sallyport_handshakes_under_way", "", "begun and not finished: what the brake limits")                                     \
    X(braked, counter, "sallyport_handshakes_braked_total", "limit", "refused by the brake: of their source, or of all")                                      \
    X(brake_unplaced, counter, "sallyport_brake_unplaced_total", "", "handshakes of sources for which the brake's table had no place")                        \
    X(redirects, counter, "sallyport_redirects_total", "redirect,result", "plain HTTP requests: redirected to https, or refused")                             \
    X(pool_members, gauge, "sallyport_pool_members", "pool", "members of a pool")                                                                             \
    X(pool_members_up, gauge, "sallyport_pool_members_up", "pool", "of them up and not drained")                                                              \
    X(member_up, gauge, "sallyport_member_up", "pool,member", "1: up")                                                                                        \
    X(member_draining, gauge, "sallyport_member_draining", "pool,member", "1: it gets no new flows")                                                          \
    X(member_flows_open, gauge, "sallyport_member_flows_open", "pool,member", "flows now")                                                                    \
    X(member_flows_opened, counter, "sallyport_member_flows_opened_total", "pool,member", "flows that it was chosen for")                                     \
    X(member_failures, counter, "sallyport_member_failures_total", "pool,member", "connections, handshakes and health checks that failed")                    \
    X(certificate_not_after, gauge, "sallyport_certificate_not_after_timestamp_seconds", "owner,name,serial", "end of an own certificate, since the epoch")   \
    X(staple_age, gauge, "sallyport_staple_age_seconds", "file", "age of the OCSP answer that is stapled")                                                    \
    X(staple_next_update, gauge, "sallyport_staple_next_update_timestamp_seconds", "file", "until when that answer is good, since the epoch")                 \
    X(revocation_fetches, counter, "sallyport_revocation_fetches_total", "source,result", "OCSP answers and CRLs that were fetched, or not")                  \
    X(crl_next_update, gauge, "sallyport_crl_next_update_timestamp_seconds", "domain,source", "when a CRL is due to be followed by another, since the epoch") \
    X(ech_key_age, gauge, "sallyport_ech_key_age_seconds", "service", "age of the ECH key that is published")                                                 \
    X(ticket_key_age, gauge, "sallyport_ticket_key_age_seconds", "", "age of the key that encrypts session tickets")                                          \
    X(passed, counter, "sallyport_passed_bytes_total", "from_leg,to_leg", "application data that was passed on, by the leg that it came from and went to")    \
    X(flow_ends, counter, "sallyport_flow_ends_total", "reason", "flows that ended, health checks among them")                                                \
    X(records, counter, "sallyport_tls_records_total", "result", "TLS records opened, sealed, and failed to authenticate")                                    \
    X(key_updates, counter, "sallyport_tls_key_updates_total", "direction", "KeyUpdate messages")                                                             \
    X(tcp_connections, counter, "sallyport_tcp_connections_total", "direction", "TCP connections accepted from clients (in) and made to members (out)")       \
    X(tcp_segments, counter, "sallyport_tcp_segments_total", "direction", "segments")                                                                         \
    X(tcp_retransmitted, counter, "sallyport_tcp_retransmitted_segments_total", "", "segments sent again")                                                    \
    X(tcp_timeouts, counter, "sallyport_tcp_retransmission_timeouts_total", "", "retransmission time-outs")                                                   \
    X(tcp_resets, counter, "sallyport_tcp_resets_total", "direction", "RST segments")                                                                         \
    X(syn_cookies, counter, "sallyport_tcp_syn_cookies_total", "result", "SYN cookies sent, and connections made from one")                                   \
    X(drops, counter, "sallyport_packets_dropped_total", "reason", "packets that were dropped")                                                               \
    X(port_up, gauge, "sallyport_port_up", "port", "1: it has a link")                                                                                        \
    X(port_speed, gauge, "sallyport_port_speed_bytes_per_second", "port", "of the link; missing where the device does not say")                               \
    X(port_packets, counter, "sallyport_port_packets_total", "port,direction", "packets")                                                                     \
    X(port_bytes, counter, "sallyport_port_bytes_total", "port,direction", "of frames")                                                                       \
    X(port_errors, counter, "sallyport_port_errors_total", "port,direction", "packets with errors")                                                           \
    X(port_missed, counter, "sallyport_port_missed_packets_total", "port", "dropped by the device: no descriptor was free")                                   \
    X(port_no_buffer, counter, "sallyport_port_no_buffer_total", "port", "packets dropped: no buffer was free")                                               \
    X(worker_busy, counter, "sallyport_worker_busy_seconds_total", "worker", "time in turns that found work")                                                 \
    X(worker_total, counter, "sallyport_worker_seconds_total", "worker", "time in all turns: busy by this is the load")                                       \
    X(worker_interrupted, counter, "sallyport_worker_interrupted_total", "worker", "turns with work in which the kernel ran something else on the core")      \
    X(worker_packets, counter, "sallyport_worker_packets_total", "worker,direction", "packets")                                                               \
    X(worker_flows, gauge, "sallyport_worker_flows_open", "worker", "flows now")                                                                              \
    X(worker_connections, gauge, "sallyport_worker_connections_open", "worker", "TCP connections now")                                                        \
    X(worker_half_open, gauge, "sallyport_worker_connections_half_open", "worker", "of them in SYN-RECEIVED")                                                 \
    X(worker_buffers, gauge, "sallyport_worker_buffers", "worker", "packet buffers")                                                                          \
    X(worker_buffers_free, gauge, "sallyport_worker_buffers_free", "worker", "of them free")                                                                  \
    X(worker_lane_used, gauge, "sallyport_worker_lane_used_ratio", "worker", "how full the fullest ring to control is, 0 to 1")                               \
    X(flow_log_records, counter, "sallyport_flow_log_records_total", "sink", "records that were written")                                                     \
    X(flow_log_shed, counter, "sallyport_flow_log_shed_total", "sink,reason", "records that were not: the queue was full, or writing failed (lost)")          \
    X(flow_log_waiting, gauge, "sallyport_flow_log_waiting", "sink", "records in the queue")                                                                  \
    X(flow_log_up, gauge, "sallyport_flow_log_up", "sink", "1: records can be written")                                                                       \
    X(log_suppressed, counter, "sallyport_log_suppressed_total", "", "failed handshakes that were left out of the log, which takes 200 a second")             \
    X(audit_entries, counter, "sallyport_audit_entries_total", "result", "entries of the audit log: written, and lost since they could not be")               \
    X(process_memory, gauge, "sallyport_process_resident_memory_bytes", "process", "resident memory of control and dataplane")                                \
    X(process_cpu, counter, "sallyport_process_cpu_seconds_total", "process", "user and system time")

enum class Metric : std::uint8_t {
#define SALLYPORT_X(value, kind, name, labels, help) value,
    SALLYPORT_METRICS(SALLYPORT_X)
#undef SALLYPORT_X
        count_
};

/// The values of one moment. One thread at a time.
class Figures {
 public:
    Figures();
    /// `labels`: the values of the metric's labels, in their order, as many as it has (else SALLYPORT_CHECK stops us).
    void add(Metric metric, double value, std::initializer_list<std::string_view> labels = {});
    void add(Metric metric, std::uint64_t value, std::initializer_list<std::string_view> labels = {}) { add(metric, static_cast<double>(value), labels); }
    [[nodiscard]] const std::vector<prometheus::MetricFamily>& families() const noexcept { return families_; }

 private:
    std::vector<prometheus::MetricFamily> families_;   ///< one for each of Metric
};

/// Prometheus's text format 0.0.4.
[[nodiscard]] std::string prometheus_text(const Figures& figures);
/// OpenMetrics 1.0.0: the same, where the family of a counter is named without its _total, and the end is marked.
[[nodiscard]] std::string openmetrics_text(const Figures& figures);

/// The table of README.md: a line of Markdown for each metric.
[[nodiscard]] std::string metrics_table();

}  // namespace sallyport::telemetry
