#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "control/channel/address.h"

/// The messages of the shared-memory channel between dataplane and control: the one place that both read.
///
/// A lane is a pair of rings between one dataplane worker and one handshake worker of control. A message is a
/// MessageHeader, a fixed part by type, and for some types octets that fill the rest (`payload`). Messages are trivially
/// copyable, in host byte order, and each side checks every length and value that it reads from the other.
///
/// A leg's *stream offset* counts the octets that the leg's TCP connection has received in order since it was opened.
/// The dataplane forwards handshake octets to control and keeps them until control says how many it has consumed; when a
/// handshake is done, the first octet that control did not consume begins the first record that the dataplane opens
/// itself. So no ciphertext travels back, and none can be lost or opened twice.
namespace sallyport::channel {

/// Counts incompatible changes of this file.
constexpr std::uint32_t kProtocolVersion = 2;

/// Longest payload of one message: a record and its header fit (RFC 8446 5.2).
constexpr std::uint32_t kMaxPayload = 32 * 1024;

/// Names one flow of one worker; never used again within a process's life (generation). 0 is no flow.
struct FlowId {
    std::uint64_t value = 0;
    auto operator<=>(const FlowId&) const = default;
    [[nodiscard]] static constexpr FlowId make(std::uint8_t worker, std::uint32_t generation, std::uint32_t index) noexcept {
        return {(std::uint64_t{worker} << 56) | (std::uint64_t{generation & 0xff'ffff} << 32) | index};
    }
    [[nodiscard]] constexpr std::uint8_t worker() const noexcept { return static_cast<std::uint8_t>(value >> 56); }
    [[nodiscard]] constexpr std::uint32_t generation() const noexcept { return static_cast<std::uint32_t>(value >> 32) & 0xff'ffff; }
    [[nodiscard]] constexpr std::uint32_t index() const noexcept { return static_cast<std::uint32_t>(value); }
};

enum class Leg : std::uint8_t { client = 0, backend = 1 };

enum class MessageType : std::uint16_t {
    // dataplane to control
    flow_opened = 1,      ///< a client's connection is established: FlowOpened
    stream_octets = 2,    ///< handshake octets of a leg: StreamOctets + payload
    backend_opened = 3,   ///< the connection that open_backend asked for is established: LegEvent
    backend_failed = 4,   ///< it could not be established: LegEvent
    leg_closed = 5,       ///< the peer ended the leg before its handshake was handed off: LegEvent
    flow_ended = 6,       ///< the flow is gone; the last message of this flow: FlowEnded
    ticket_record = 7,    ///< ciphertext of a NewSessionTicket record after the hand-off of a backend's leg: StreamOctets + payload
    tickets_over = 8,     ///< application data has begun on the backend's leg; no more ticket records: LegEvent
    probe_opened = 9,     ///< the flow that open_probe asked for, or 0 for none: ProbeOpened

    // control to dataplane
    send_octets = 32,     ///< handshake octets to transmit on a leg: SendOctets + payload
    open_backend = 33,    ///< connect the backend's leg: OpenBackend
    handoff = 34,         ///< a leg's handshake is done, keys: Handoff + payload (octets to prepend, see there)
    end_leg = 35,         ///< control refuses or gives up: EndLeg
    open_probe = 36,      ///< a flow without a client, for a health check: OpenProbe
};

struct MessageHeader {
    std::uint32_t length;  ///< of the whole message with this header and the payload
    MessageType type;
    std::uint16_t reserved;
    FlowId flow;
};

struct FlowOpened {
    SocketAddress client;
    SocketAddress local;          ///< the service address that the client connected to
    std::uint64_t service;        ///< service_id() or redirect_id(), see object_id.h
};

struct StreamOctets {
    Leg leg;
    std::uint8_t attempt;         ///< of the backend's leg: as in OpenBackend
    std::uint64_t offset;         ///< stream offset of the first octet of the payload
};

struct LegEvent {
    Leg leg;
    std::uint8_t attempt;
    std::uint8_t reason;          ///< EndReason
};

struct FlowEnded {
    std::uint8_t reason;          ///< EndReason
    std::uint8_t has_member;      ///< 1: a backend had been chosen; pool and member name it (of the last OpenBackend)
    std::uint8_t adopted;         ///< 1: it was opened under another control, and this one was told of it when it attached
    std::uint64_t service;        ///< as in FlowOpened
    std::uint64_t pool;           ///< as in OpenBackend
    std::uint64_t member;
    std::uint64_t client_octets_in, client_octets_out;    ///< application octets after decryption, by leg and direction
    std::uint64_t backend_octets_in, backend_octets_out;
    std::uint64_t duration_ns;
};

struct ProbeOpened {
    std::uint64_t probe;          ///< as in OpenProbe; the header's flow is the new flow, or 0 when none could be made
};

struct SendOctets {
    Leg leg;
    std::uint8_t attempt;
    std::uint64_t consumed;       ///< stream offset up to which control has consumed this leg's octets
};

struct OpenBackend {
    SocketAddress remote;
    std::uint8_t attempt;         ///< counts the connections tried for this flow, from 1; older attempts' events are ignored
    std::uint8_t speaks_first;    ///< 1: control sends as soon as the connection is open (a ClientHello)
    std::uint32_t connect_timeout_ms;
    std::uint64_t pool;           ///< pool_id() and member_id(), for the counters, see object_id.h
    std::uint64_t member;
};

enum class Protection : std::uint8_t { plain = 0, tls = 1 };

/// The end of a leg's handshake. The payload, on the backend's leg only, is sent to the backend first of all, as application data
/// inside the leg's protection (a PROXY protocol v2 header).
struct Handoff {
    Leg leg;
    std::uint8_t attempt;
    Protection protection;        ///< plain: only the backend's leg; the key fields are then zero
    std::uint8_t expect_tickets;  ///< backend's TLS 1.3 leg: 1 when control still takes ticket records
    std::uint16_t suite;          ///< wire id; fixes version, AEAD and hash
    std::uint16_t group;          ///< negotiated group, for reports
    std::uint16_t reserved;
    std::uint64_t consumed;       ///< stream offset at which the dataplane takes over reading
    std::uint64_t read_sequence;  ///< records already received under read_key
    std::uint64_t write_sequence; ///< records already sent under write_key (NewSessionTicket counts)
    std::uint64_t explicit_nonce; ///< TLS 1.2 AES-GCM: first explicit nonce to seal with
    std::array<std::byte, 32> read_key, write_key;
    std::array<std::byte, 12> read_iv, write_iv;
    std::array<std::byte, 48> read_secret, write_secret;  ///< TLS 1.3 application_traffic_secret_0, by the suite's hash
};

/// What the dataplane does with a leg that control ends.
enum class EndHow : std::uint8_t {
    close = 0,        ///< what was sent before (an alert) is delivered, then FIN; the flow ends with it
    reset = 1,        ///< RST at once; the flow ends with it
    retry_backend = 2 ///< only this attempt's connection ends; the flow waits for another open_backend
};

struct EndLeg {
    Leg leg;
    std::uint8_t attempt;
    EndHow how;
    std::uint8_t reason;          ///< EndReason
};

struct OpenProbe {
    std::uint64_t probe;          ///< control's own number
    SocketAddress remote;
    std::uint32_t connect_timeout_ms;
};

/// Why a leg or a flow ended. One list: name, sentence.
#define SALLYPORT_END_REASONS(X)                                                                  \
    X(none, "not ended")                                                                          \
    X(finished, "both sides closed in order")                                                     \
    X(client_reset, "the client reset the connection")                                            \
    X(backend_reset, "the backend reset the connection")                                          \
    X(client_timeout, "the client stopped acknowledging")                                         \
    X(backend_timeout, "the backend stopped acknowledging")                                       \
    X(client_truncated, "the client closed TCP without close_notify")                             \
    X(backend_truncated, "the backend closed TCP without close_notify")                           \
    X(client_bad_record, "a record of the client failed authentication")                          \
    X(backend_bad_record, "a record of the backend failed authentication")                        \
    X(client_protocol_error, "the client broke the TLS record protocol")                          \
    X(backend_protocol_error, "the backend broke the TLS record protocol")                        \
    X(client_alert, "the client sent a fatal alert")                                              \
    X(backend_alert, "the backend sent a fatal alert")                                            \
    X(client_not_tls, "the client's first octets were not a TLS record")                          \
    X(client_handshake_refused, "the client's handshake violated the policy or failed")           \
    X(client_handshake_timeout, "the client's handshake took too long")                           \
    X(client_handshake_closed, "the client closed during the handshake")                          \
    X(backend_refused, "no member of the pool accepted a connection")                             \
    X(backend_unreachable, "no member of the pool answered")                                      \
    X(backend_handshake_failed, "the TLS handshake with the backend failed")                      \
    X(backend_unverified, "the backend's certificate could not be verified")                      \
    X(backend_none, "no member of the pool is up")                                                \
    X(backend_lost, "the backend's connection ended during the handshake")                        \
    X(control_lost, "control was away for too long")                                              \
    X(control_refused, "control refused the flow")                                                \
    X(idle_timeout, "nothing was sent for the idle time")                                         \
    X(key_limit, "a key reached its limit and was not changed")                                         \
    X(key_update_flood, "the peer changed keys too often")                                        \
    X(out_of_memory, "no buffer or flow record was free")                                         \
    X(service_removed, "the service was removed from the configuration")                          \
    X(shutdown, "the appliance was stopped")                                                      \
    X(probe_done, "a health check ended")                                                         \
    X(redirected, "a plain HTTP request was answered with a redirect to https")                   \
    X(redirect_refused, "what came to a redirect was no HTTP request, or took too long")          \
    X(client_braked, "the source had started too many handshakes, or too costly ones")            \
    X(ech_rejected, "a client whose Encrypted ClientHello could not be opened got new keys")      \
    X(identity_revoked, "a certificate that the flow was opened with is no longer good")          \
    X(operator_ended, "an operator ended the flow")                                               \
    X(address_removed, "an address of ours that the flow used was taken off its port")

enum class EndReason : std::uint8_t {
#define SALLYPORT_X(name, sentence) name,
    SALLYPORT_END_REASONS(SALLYPORT_X)
#undef SALLYPORT_X
    count_
};

[[nodiscard]] const char* name(EndReason reason) noexcept;
[[nodiscard]] const char* sentence(EndReason reason) noexcept;

static_assert(std::is_trivially_copyable_v<Handoff> && std::is_trivially_copyable_v<OpenBackend>);

}  // namespace sallyport::channel
