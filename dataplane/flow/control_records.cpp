#include <algorithm>

#include "dataplane/flow/alert.h"
#include "dataplane/flow/flow_engine.h"

/// Records that are not forwarded: alerts, KeyUpdate, NewSessionTicket, and whatever should not have come; and those that we send ourselves.
namespace sallyport::flow {

using crypto::ContentType;
using crypto::OpenResult;
using crypto::ReadPiece;
using crypto::WritePiece;

namespace {

/// A KeyUpdate costs us a key derivation, so it has to be paid for with data: so many octets each, with credit for 32 (as many in a
/// row as OpenSSL takes).
constexpr std::uint32_t kOctetsAKeyUpdate = 512;
constexpr std::uint32_t kKeyUpdateCredit = 32 * kOctetsAKeyUpdate;
/// Records without application data in a row, of any kind: legal, of no use, and free to send for an attacker. More than the KeyUpdates
/// that may come in a row, and than any server sends tickets.
constexpr std::uint8_t kMaxEmptyRecords = 64;

// Handshake types (RFC 8446 4).
constexpr std::byte kHelloRequest{0};
constexpr std::byte kNewSessionTicket{4};
constexpr std::byte kKeyUpdate{24};
constexpr std::uint32_t kHandshakeHeader = 4;   ///< type and length
/// Longest NewSessionTicket (RFC 8446 4.6.1).
constexpr std::uint32_t kMaxTicket = 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534;

/// Whether the peer is to be asked for a new key.
bool nearly_exhausted(const crypto::RecordProtection& protection) {
    return crypto::key_exhausted(protection) || (protection.aead() != crypto::Aead::chacha20_poly1305 &&
                                                 protection.sequence() >= crypto::kAesGcmRecordLimit - kKeyUpdateAskedAhead);
}

constexpr EndReason protocol_error(channel::Leg side) {
    return by_side(side, EndReason::client_protocol_error, EndReason::backend_protocol_error);
}

}  // namespace

/// Deals with what stands at the front of a leg and is not for the other one.
void FlowEngine::settle(Flow& flow, Side side, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    while (!flow.ending && !leg.opened.empty() && !leg.opened[0].forwardable()) {
        const OpenedRecord record = leg.opened[0];
        on_control_record(flow, side, record, now);
        if (flow.ending) return;
        leg.opened.pop();
        consume(leg, record.record_length);
    }
}

void FlowEngine::on_control_record(Flow& flow, Side side, const OpenedRecord& record, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    switch (record.status) {
        case OpenResult::Status::pending:
        case OpenResult::Status::bad_record_mac:
            fail_record(flow, side, alert::kBadRecordMac, by_side(side, EndReason::client_bad_record, EndReason::backend_bad_record), now);
            return;
        case OpenResult::Status::no_content_type:
            fail_record(flow, side, alert::kUnexpectedMessage, protocol_error(side), now);
            return;
        case OpenResult::Status::plaintext_overflow:
            fail_record(flow, side, alert::kRecordOverflow, protocol_error(side), now);
            return;
        case OpenResult::Status::ok:
            break;
    }
    const bool interleaved = leg.handshake_left > 0 && record.type != ContentType::handshake;   // RFC 8446 5.1
    if (interleaved || ++leg.empty_records > kMaxEmptyRecords) {
        fail_record(flow, side, alert::kUnexpectedMessage, protocol_error(side), now);
        return;
    }
    switch (record.type) {
        case ContentType::application_data:   // without content: legal (RFC 8446 5.4)
            return;
        case ContentType::alert:
            on_alert(flow, side, record, now);
            return;
        case ContentType::handshake:
            on_handshake(flow, side, record, now);
            return;
        case ContentType::change_cipher_spec:
            break;
    }
    fail_record(flow, side, alert::kUnexpectedMessage, protocol_error(side), now);
}

void FlowEngine::on_alert(Flow& flow, Side side, const OpenedRecord& record, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    ++counters_.alerts_received;
    std::array<std::byte, 2> octets{};
    if (record.content_length != octets.size() || copy_from(leg, record.content_offset, octets) != octets.size()) {
        fail_record(flow, side, alert::kDecodeError, protocol_error(side), now);
        return;
    }
    const auto description = std::to_integer<std::uint8_t>(octets[1]);
    if (description == alert::kCloseNotify) {
        leg.close_notify_received = leg.read_done = true;
        return;
    }
    if (description == alert::kUserCanceled) return;   // close_notify follows (RFC 8446 6.1)
    const bool warning = octets[0] == std::byte{1} && leg.read.version() == crypto::Version::tls12;
    if (warning && description == alert::kNoRenegotiation) return;
    // Any other alert is fatal on TLS 1.3 (RFC 8446 6). The other leg must not see an orderly end.
    close_in_order(flow, other(side), alert::kInternalError);
    leg.connection->close();
    leg.write_done = true;
    linger(flow, side);
    end(flow, by_side(side, EndReason::client_alert, EndReason::backend_alert), now);
}

/// After the handshake: KeyUpdate (RFC 8446 4.6.3) and, from a backend, NewSessionTicket (4.6.1). On TLS 1.2 anything
/// here is renegotiation, which the policy does not have.
void FlowEngine::on_handshake(Flow& flow, Side side, const OpenedRecord& record, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    std::uint32_t at = record.content_offset;
    std::uint32_t left = record.content_length;
    const auto refuse = [&](std::uint8_t description) { fail_record(flow, side, description, protocol_error(side), now); };
    if (left == 0) return refuse(alert::kUnexpectedMessage);   // "MUST NOT send zero-length fragments" (RFC 8446 5.1)
    if (leg.read.version() == crypto::Version::tls12) {
        std::byte type{};
        (void)copy_from(leg, at, {&type, 1});
        if (side == Side::backend && type == kHelloRequest && left == kHandshakeHeader) return;   // may be ignored (RFC 5246 7.4.1.1)
        ++counters_.renegotiations_refused;
        return refuse(alert::kNoRenegotiation);
    }
    const std::uint32_t continued = std::min(leg.handshake_left, left);
    leg.handshake_left -= continued;
    at += continued;
    left -= continued;
    while (left > 0) {
        std::array<std::byte, kHandshakeHeader> header{};
        if (left < header.size() || copy_from(leg, at, header) != header.size()) return refuse(alert::kUnexpectedMessage);
        const std::uint32_t length = std::to_integer<std::uint32_t>(header[1]) << 16 | std::to_integer<std::uint32_t>(header[2]) << 8 |
                                     std::to_integer<std::uint32_t>(header[3]);
        at += kHandshakeHeader;
        left -= kHandshakeHeader;
        if (header[0] == kKeyUpdate) {
            std::byte request{};
            // Nothing may follow it under the old key (RFC 8446 5.1).
            if (length != 1 || left != 1 || copy_from(leg, at, {&request, 1}) != 1 || request > std::byte{1})
                return refuse(alert::kUnexpectedMessage);
            on_key_update(flow, side, request == std::byte{1}, now);
            return;
        }
        if (header[0] != kNewSessionTicket || side != Side::backend || length > kMaxTicket) return refuse(alert::kUnexpectedMessage);
        const std::uint32_t here = std::min(length, left);
        leg.handshake_left = length - here;
        at += here;
        left -= here;
    }
}

/// Control's SSL object takes the records of a backend in sequence, or not at all: called with each record until tickets are over.
void FlowEngine::pass_ticket(Flow& flow, const OpenedRecord& record, std::span<const std::byte> ciphertext) {
    Leg& leg = flow.backend_leg();
    std::byte type{};
    const bool ticket = record.status == OpenResult::Status::ok && record.type == ContentType::handshake && record.content_length > 0 &&
                        (leg.handshake_left > 0 || (copy_from(leg, record.content_offset, {&type, 1}) == 1 && type == kNewSessionTicket));
    if (ticket && !ciphertext.empty() && lanes_ != nullptr &&
        lane_of(flow).write(channel::MessageType::ticket_record, flow.id,
                            channel::StreamOctets{Side::backend, leg.attempt, leg.stream_offset}, ciphertext)) {
        ++counters_.tickets_passed;
        return;
    }
    leg.takes_tickets = false;
    owe(flow, owed::kTicketsOver);
}

void FlowEngine::on_key_update(Flow& flow, Side side, bool requested, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    ++counters_.key_updates_received;
    leg.key_update_debt += kOctetsAKeyUpdate;
    if (leg.key_update_debt > kKeyUpdateCredit) {
        fail_record(flow, side, alert::kUnexpectedMessage, EndReason::key_update_flood, now);
        return;
    }
    const crypto::CipherSuite* const suite = crypto::find_cipher_suite(leg.suite);
    const auto secret = crypto::next_traffic_secret(*suite, leg.read_secret);
    const auto key = secret ? crypto::derive_traffic_key(*suite, *secret) : std::unexpected(secret.error());
    if (!key) {
        fail_record(flow, side, alert::kInternalError, EndReason::out_of_memory, now);
        return;
    }
    leg.read_secret = *secret;
    batch_.forget(leg.read);
    leg.read.install(*suite, *key, 0, 0);
    leg.key_update_asked = false;
    if (leg.takes_tickets) {   // control's SSL object does not know the new key
        leg.takes_tickets = false;
        owe(flow, owed::kTicketsOver);
    }
    // One answer does for all requests that came before we send (RFC 8446 4.6.3).
    if (requested) leg.key_update_owed = true;
}

bool FlowEngine::seal_now(Leg& leg, ContentType type, std::span<const std::byte> content) {
    const auto length = static_cast<std::uint32_t>(leg.write.sealed_length(content.size()));
    const std::size_t pieces = leg.connection->reserve(length, target_pieces_);
    if (pieces == 0) return false;
    const ReadPiece piece{content.data(), static_cast<std::uint32_t>(content.size())};
    queue_seal(leg.write, type, std::span(&piece, 1), std::span(target_pieces_).first(pieces), crypto::AeadBatch::OctetBehind::untouched);
    batch_.flush();
    leg.connection->append();
    ++counters_.records_sealed;
    return true;
}

bool FlowEngine::send_key_update(Leg& leg, bool request) {
    const crypto::CipherSuite* const suite = crypto::find_cipher_suite(leg.suite);
    const auto secret = crypto::next_traffic_secret(*suite, leg.write_secret);
    const auto key = secret ? crypto::derive_traffic_key(*suite, *secret) : std::unexpected(secret.error());
    const std::byte message[5] = {kKeyUpdate, std::byte{0}, std::byte{0}, std::byte{1}, request ? std::byte{1} : std::byte{0}};
    if (!key || !seal_now(leg, ContentType::handshake, message)) return false;
    leg.write_secret = *secret;
    batch_.forget(leg.write);
    leg.write.install(*suite, *key, 0, 0);
    ++counters_.key_updates_sent;
    return true;
}

/// Before a record is sealed: answers the peer's KeyUpdate, changes a key that has reached its limit, and asks the peer in time to change its
/// own (RFC 8446 5.5). False when nothing may be sealed now.
bool FlowEngine::write_key_ready(Leg& leg) {
    if (leg.plain) return true;
    const bool write_exhausted = crypto::key_exhausted(leg.write);
    if (leg.write.version() != crypto::Version::tls13) return !write_exhausted;   // pass_on_end() closes
    const bool ask = !leg.key_update_asked && nearly_exhausted(leg.read);
    if (!leg.key_update_owed && !ask && !write_exhausted) return true;
    if (!send_key_update(leg, ask)) return false;
    leg.key_update_owed = false;
    if (ask) leg.key_update_asked = true;
    return true;
}

void FlowEngine::fail_record(Flow& flow, Side side, std::uint8_t description, EndReason reason, Time now) {
    close_in_order(flow, side, description);
    close_in_order(flow, other(side), alert::kInternalError);
    end(flow, reason, now);
}

}  // namespace sallyport::flow
