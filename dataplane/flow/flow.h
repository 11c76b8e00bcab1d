#pragma once

#include <array>
#include <cstdint>

#include "control/channel/messages.h"
#include "crypto/aead_batch.h"
#include "crypto/key_schedule.h"
#include "crypto/record_protection.h"
#include "dataplane/prefetch.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/time.h"

/// A flow: the client's leg and the backend's leg, joined record by record.
namespace sallyport::flow {

using channel::EndReason;

/// A TLS 1.3 peer is asked for a new key so many records before its key reaches the limit of AES-GCM (crypto::kAesGcmRecordLimit); one that
/// has not changed it by then is cut off. More records than can be under way while it gets the request and answers: 2^16 of the smallest
/// fill 1.4 MB, several receive windows.
constexpr std::uint64_t kKeyUpdateAskedAhead = std::uint64_t{1} << 16;

constexpr std::size_t index_of(channel::Leg side) { return static_cast<std::size_t>(side); }
constexpr channel::Leg other(channel::Leg side) {
    return side == channel::Leg::client ? channel::Leg::backend : channel::Leg::client;
}
constexpr EndReason by_side(channel::Leg side, EndReason client, EndReason backend) {
    return side == channel::Leg::client ? client : backend;
}

/// Whether all that the peer will ever send has arrived.
[[nodiscard]] bool fin_received(const tcp::Connection& connection) noexcept;

enum class LegPhase : std::uint8_t {
    none,        ///< no connection: the backend's leg before control asked for it, or after an attempt failed
    connecting,  ///< our SYN is out
    handshake,   ///< TCP is established; control does the TLS handshake through us
    open,        ///< keys are installed (or the leg is plain): records are ours
    lingering,   ///< we have sent our last octet and FIN; what still arrives is discarded until the peer's FIN
};
[[nodiscard]] const char* name(LegPhase phase) noexcept;

/// A record that has been opened in place in the receive queue and not been dealt with yet.
struct OpenedRecord {
    std::uint16_t record_length = 0;    ///< header included; at most 5 + 2^14 + 2048
    std::uint16_t content_offset = 0;   ///< from the start of the record
    std::uint16_t content_length = 0;
    crypto::ContentType type = crypto::ContentType::application_data;
    crypto::OpenResult::Status status = crypto::OpenResult::Status::pending;

    /// Content for the other leg.
    [[nodiscard]] bool forwardable() const noexcept {
        return status == crypto::OpenResult::Status::ok && type == crypto::ContentType::application_data && content_length > 0;
    }
};

/// The opened records of a leg in order, of which the first begins at the first readable octet of the connection.
class OpenedRecords {
 public:
    /// Opened in one round: a key that is expanded once for 8 records adds little to each, and they fill the worker's batch only
    /// by a sixteenth.
    static constexpr std::size_t kMost = 8;

    [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
    [[nodiscard]] std::size_t size() const noexcept { return end_ - begin_; }
    [[nodiscard]] const OpenedRecord& operator[](std::size_t i) const noexcept { return records_[begin_ + i]; }
    /// Precondition: begun empty, and no more than kMost since then.
    void push(const OpenedRecord& record) noexcept { records_[end_++] = record; }
    void pop() noexcept {
        if (++begin_ == end_) begin_ = end_ = 0;
    }
    void clear() noexcept { begin_ = end_ = 0; }

 private:
    std::array<OpenedRecord, kMost> records_;
    std::uint8_t begin_ = 0, end_ = 0;
};

struct Leg {
    tcp::Connection* connection = nullptr;
    LegPhase phase = LegPhase::none;
    bool plain = false;              ///< no TLS on this leg
    bool close_notify_received = false;
    bool read_done = false;          ///< nothing more will be read: close_notify, or FIN after the last record
    bool write_done = false;         ///< close_notify (on TLS) and FIN are in the send buffer
    bool takes_tickets = false;      ///< control still wants NewSessionTicket records
    bool application_data_seen = false;
    bool unread = false;             ///< the pump's last look at it did not go to the end of what is readable
    bool key_update_owed = false;    ///< the peer asked for our KeyUpdate
    bool key_update_asked = false;   ///< we asked the peer for one, and it has not come yet
    std::uint32_t key_update_debt = 0;   ///< octets of application data that KeyUpdates received have not been paid with
    std::uint8_t empty_records = 0;  ///< without application data in them, received since the last one with some
    std::uint32_t handshake_left = 0;    ///< octets of a NewSessionTicket that go on in the next record
    std::uint8_t attempt = 0;
    std::uint16_t suite = 0;
    std::uint16_t group = 0;
    std::uint64_t stream_offset = 0;   ///< octets consumed from the connection; its first readable one has this offset
    std::uint64_t forwarded = 0;       ///< stream offset up to which control has been given the octets
    OpenedRecords opened;
    crypto::RecordProtection read;
    crypto::RecordProtection write;
    std::uint64_t octets_in = 0;         ///< application octets
    std::uint64_t octets_out = 0;
    // What an ordinary record touches ends here.
    crypto::TrafficSecret read_secret;   ///< TLS 1.3 only
    crypto::TrafficSecret write_secret;
};

/// What control has still to be told of a flow; told in this order when its lane has room.
namespace owed {
constexpr std::uint16_t kOpened = 1;
constexpr std::uint16_t kClientOctets = 2;
constexpr std::uint16_t kClientClosed = 4;
constexpr std::uint16_t kBackendOpened = 8;
constexpr std::uint16_t kBackendFailed = 16;
constexpr std::uint16_t kBackendOctets = 32;
constexpr std::uint16_t kBackendClosed = 64;
constexpr std::uint16_t kTicketsOver = 128;
constexpr std::uint16_t kProbeOpened = 256;
constexpr std::uint16_t kEnded = 512;
}  // namespace owed

struct Flow {
    channel::FlowId id;                 ///< 0: this record is free
    std::uint32_t next_free = 0;
    bool ending = false;                ///< end() was called; the legs linger or are gone
    bool known_to_control = false;      ///< control has this flow, so it must hear of its end
    bool waits_for_control = false;
    bool control_answered = false;      ///< octets of control went out on the client's leg: another control cannot take over
    bool is_probe = false;
    bool is_redirect = false;           ///< control answers a plain HTTP request: no TLS, no backend
    bool active = false;                ///< on the pump's list
    bool put_off = false;               ///< its lane was full, or others waited for room in it, when control should have been told something
    bool gone = false;                  ///< will be freed at the end of the turn
    bool has_member = false;
    bool adopted = false;               ///< this control has not seen it opened
    EndReason reason = EndReason::none;
    EndReason backend_event = EndReason::none;   ///< with owed::kBackendFailed and kBackendClosed
    std::uint16_t owed = 0;
    std::uint32_t generation = 0;       ///< of the configuration when it was opened
    std::uint64_t service = 0;          ///< ids of control/channel/object_id.h
    std::uint64_t pool = 0;
    std::uint64_t member = 0;
    std::uint64_t probe = 0;
    std::size_t probe_lane = 0;         ///< a health check's messages go back to the lane that asked for it
    Duration idle_timeout{};            ///< of the service as it is; of one that is gone, as it was
    Duration handshake_timeout{};       ///< of the service as it was when the flow was opened
    Time created{};
    Time last_activity{};
    Time deadline{};
    std::uint32_t wheel_next = 0;       ///< links of the deadline wheel; see there
    std::uint32_t wheel_previous = 0;
    std::uint16_t wheel_slot = 0xffff;
    SocketAddress client, local, backend;   ///< copies, for reports after a leg is gone
    Leg legs[2];                        ///< by channel::Leg

    [[nodiscard]] Leg& client_leg() noexcept { return legs[0]; }
    [[nodiscard]] Leg& backend_leg() noexcept { return legs[1]; }
};

/// Fetches what an ordinary record touches into the cache.
inline void prefetch(const Flow& flow) noexcept {
    prefetch_lines(&flow, &flow.wheel_next);
    for (const Leg& leg : flow.legs) prefetch_lines(&leg, &leg.read_secret);
}

}  // namespace sallyport::flow
