#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/management/view_json.h"

/// What packet captures and pings answer; see views.h for how views are kept.
namespace sallyport::management {

/// A capture that runs, or has ended since the dataplane was started. Answer of `capture start` and `capture stop`.
struct CaptureView {
    std::uint64_t id = 0;
    std::string file;                   ///< name, without its directory
    std::string state;                  ///< running, ended
    std::string end;                    ///< stopped, packets, octets, time, forbidden (no secrets any more), write_failed, control_lost, dataplane_lost; empty while it runs
    std::string error;                  ///< with write_failed: the system's words
    std::string started, ended;         ///< time
    std::string port;                   ///< empty: all
    std::string flow;                   ///< id; empty: none
    std::string filter;                 ///< as it is used: that of the flow and the one given
    std::string comment;
    std::uint64_t limit_packets = 0, limit_octets = 0, limit_seconds = 0;
    std::uint32_t snap = 0;             ///< octets of a frame that are kept
    std::uint64_t seen = 0;             ///< frames that matched
    std::uint64_t packets = 0;          ///< of them written
    std::uint64_t dropped = 0;          ///< of them dropped: no buffer or no place in the ring
    std::uint64_t octets = 0;           ///< of the file
    bool secrets = false;
    std::string secrets_service, secrets_client, secrets_server_name;   ///< whose; empty: everyone's
    std::uint64_t secrets_lines = 0;     ///< of secrets written: four a leg with TLS 1.3, one with 1.2
    std::uint64_t secrets_dropped = 0;  ///< lines of secrets that found no room
};
SALLYPORT_VIEW_JSON(CaptureView, id, file, state, end, error, started, ended, port, flow, filter, comment,
                    limit_packets, limit_octets, limit_seconds, snap, seen, packets, dropped, octets, secrets,
                    secrets_service, secrets_client, secrets_server_name, secrets_lines, secrets_dropped)

struct CaptureFileView {
    std::string file;
    std::uint64_t octets = 0;
    std::string modified;   ///< time
    bool secrets = false;   ///< by its name
};
SALLYPORT_VIEW_JSON(CaptureFileView, file, octets, modified, secrets)

/// `show captures`
struct CapturesView {
    std::vector<CaptureView> captures;
    std::vector<CaptureFileView> files;
    std::string directory;
    std::uint64_t octets = 0, max_octets = 0;   ///< of all files, and what they may have
    bool secrets_allowed = false;
};
SALLYPORT_VIEW_JSON(CapturesView, captures, files, directory, octets, max_octets, secrets_allowed)

/// `capture read`: a part of a file
struct CaptureChunkView {
    std::string file;
    std::uint64_t offset = 0;   ///< of the first octet of data
    std::uint64_t size = 0;     ///< of the whole file now
    std::string data;           ///< base64 (RFC 4648 4)
    bool last = false;          ///< nothing follows
};
SALLYPORT_VIEW_JSON(CaptureChunkView, file, offset, size, data, last)

struct ProbeView {
    std::uint32_t sequence = 0;
    std::string outcome;               ///< waiting, reply, timeout, error
    std::uint64_t round_trip_us = 0;   ///< with reply
    std::string why;                   ///< with timeout and error
    std::string from;                  ///< who answered, with reply and where ICMP told the error
};
SALLYPORT_VIEW_JSON(ProbeView, sequence, outcome, round_trip_us, why, from)

/// `ping start` (id alone) and `ping read`
struct PingView {
    std::uint64_t id = 0;
    std::string address;
    std::uint32_t octets = 0;          ///< of data in each request
    std::uint32_t count = 0;           ///< requests to send in all
    std::uint32_t sent = 0, received = 0;
    bool done = false;
    std::vector<ProbeView> probes;     ///< sent so far
};
SALLYPORT_VIEW_JSON(PingView, id, address, octets, count, sent, received, done, probes)

}  // namespace sallyport::management
