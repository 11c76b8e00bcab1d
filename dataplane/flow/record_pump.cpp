#include <algorithm>
#include <cstring>

#include "dataplane/flow/flow_engine.h"

/// Moves records from leg to leg: opened where they lie in the receive queue, sealed straight into the other leg's transmit buffers.
/// Works in rounds over all active flows: one record a direction is queued for opening, all are opened in one batch, all are
/// sealed in one batch, until nothing moves.
namespace sallyport::flow {

using crypto::ContentType;
using crypto::OpenResult;
using crypto::ReadPiece;
using crypto::WritePiece;

namespace {

constexpr std::size_t index_of(channel::Leg side) { return static_cast<std::size_t>(side); }
constexpr channel::Leg other(channel::Leg side) {
    return side == channel::Leg::client ? channel::Leg::backend : channel::Leg::client;
}
constexpr EndReason by_side(channel::Leg side, EndReason client, EndReason backend) {
    return side == channel::Leg::client ? client : backend;
}

/// Whether all that the peer will ever send has arrived.
bool fin_received(const tcp::Connection& connection) {
    switch (connection.state()) {
        case tcp::State::close_wait:
        case tcp::State::closing:
        case tcp::State::last_ack:
        case tcp::State::time_wait:
        case tcp::State::closed:
            return true;
        case tcp::State::listen:
        case tcp::State::syn_sent:
        case tcp::State::syn_received:
        case tcp::State::established:
        case tcp::State::fin_wait_1:
        case tcp::State::fin_wait_2:
            return false;
    }
    return false;
}

/// Rounds a turn, so that a flow with much to move cannot keep the worker from its packets.
constexpr int kRounds = 8;
/// Octets kept free in a leg's send buffer for alerts and KeyUpdate, beyond the record that is being moved.
constexpr std::uint32_t kControlRoom = 128;
/// A KeyUpdate costs us a key derivation, so it has to be paid for with data: so many octets each, with credit for 32 (as many in a
/// row as OpenSSL takes).
constexpr std::uint32_t kOctetsAKeyUpdate = 512;
constexpr std::uint32_t kKeyUpdateCredit = 32 * kOctetsAKeyUpdate;
/// Records without content in a row.
constexpr std::uint8_t kMaxEmptyRecords = 32;

// Alerts (RFC 8446 6).
constexpr std::uint8_t kCloseNotify = 0;
constexpr std::uint8_t kUnexpectedMessage = 10;
constexpr std::uint8_t kBadRecordMac = 20;
constexpr std::uint8_t kRecordOverflow = 22;
constexpr std::uint8_t kDecodeError = 50;
constexpr std::uint8_t kProtocolVersion = 70;
constexpr std::uint8_t kInternalError = 80;
constexpr std::uint8_t kUserCanceled = 90;
constexpr std::uint8_t kNoRenegotiation = 100;

// Handshake types (RFC 8446 4).
constexpr std::byte kHelloRequest{0};
constexpr std::byte kNewSessionTicket{4};
constexpr std::byte kKeyUpdate{24};

}  // namespace

std::size_t FlowEngine::copy_from(Leg& leg, std::uint32_t offset, std::span<std::byte> to) {
    const auto length = static_cast<std::uint32_t>(to.size());
    if (leg.connection->readable() < offset + length) return 0;
    const std::size_t count = leg.connection->peek(offset, length, source_pieces_);
    std::size_t copied = 0;
    for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(to.data() + copied, source_pieces_[i].data, source_pieces_[i].length);
        copied += source_pieces_[i].length;
    }
    return copied;
}

void FlowEngine::consume(Leg& leg, std::uint32_t length) {
    if (length == 0) return;
    leg.connection->consume(length);
    leg.stream_offset += length;
}

bool FlowEngine::pump(Time now) {
    if (active_.empty()) return false;
    for (int round = 0; round < kRounds && !active_.empty(); ++round) {
        round_.swap(active_);
        active_.clear();
        openings_used_ = 0;
        sealings_.clear();
        for (Flow* const flow : round_) {
            flow->active = false;
            if (flow->ending) continue;
            bool moved = queue_open(*flow, Side::client, now);
            if (!flow->ending) moved |= queue_open(*flow, Side::backend, now);
            if (moved) activate(*flow);
        }
        batch_.flush();
        for (std::size_t i = 0; i < openings_used_; ++i) on_opened(openings_[i], now);
        for (Flow* const flow : round_) {
            bool moved = false;
            for (const Side from : {Side::client, Side::backend})
                if (!flow->ending) moved |= queue_forward(*flow, from, now);
            if (moved && !flow->ending) activate(*flow);
        }
        batch_.flush();
        for (const Sealing& sealing : sealings_) {
            Leg& from = sealing.flow->legs[index_of(sealing.from)];
            Leg& to = sealing.flow->legs[index_of(other(sealing.from))];
            to.connection->append();
            consume(from, sealing.consume);
            from.opened = {};
            ++counters_.records_sealed;
        }
        for (Flow* const flow : round_)
            for (const Side from : {Side::client, Side::backend})
                if (!flow->ending && pass_on_end(*flow, from, now) && !flow->ending) activate(*flow);
        round_.clear();
    }
    return true;
}

/// Queues the next whole record of a leg for opening. True when one was queued.
bool FlowEngine::queue_open(Flow& flow, Side side, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    Leg& to = flow.legs[index_of(other(side))];
    if (leg.phase != LegPhase::open || leg.plain || leg.read_done || leg.opened.record_length != 0) return false;
    if (to.phase != LegPhase::open) return false;
    std::array<std::byte, crypto::kRecordHeaderLength> header{};
    if (copy_from(leg, 0, header) != header.size()) return false;
    const auto parsed = crypto::parse_record_header(header, leg.read);
    if (!parsed) {
        const bool overflow = parsed.error() == crypto::RecordError::record_overflow;
        const bool version = parsed.error() == crypto::RecordError::bad_header && header[1] != std::byte{3};
        fail_record(flow, side, overflow ? kRecordOverflow : version ? kProtocolVersion : parsed.error() == crypto::RecordError::too_short ? kDecodeError : kUnexpectedMessage,
                    by_side(side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
        return false;
    }
    const std::uint32_t record_length = crypto::kRecordHeaderLength + parsed->length;
    if (leg.connection->readable() < record_length) return false;
    // What comes out is not longer than what goes in, but for the other leg's overhead.
    if (to.connection->send_space() < record_length + kControlRoom) return false;
    if (openings_used_ == openings_.size()) return true;   // next round
    const std::size_t pieces = leg.connection->peek(crypto::kRecordHeaderLength, parsed->length, source_pieces_);
    if (pieces == 0) {
        fail_record(flow, side, kInternalError, EndReason::out_of_memory, now);
        return false;
    }
    Opening& opening = openings_[openings_used_];
    opening.flow = &flow;
    opening.side = side;
    opening.result = {};
    opening.record_length = record_length;
    opening.ticket_length = 0;
    if (leg.takes_tickets && !leg.application_data_seen && record_length <= opening.ticket.size()) {
        std::memcpy(opening.ticket.data(), header.data(), header.size());
        std::size_t at = header.size();
        for (std::size_t i = 0; i < pieces; ++i) {
            std::memcpy(opening.ticket.data() + at, source_pieces_[i].data, source_pieces_[i].length);
            at += source_pieces_[i].length;
        }
        opening.ticket_length = record_length;
    }
    if (!batch_.open(leg.read, *parsed, std::span(source_pieces_).first(pieces), &opening.result)) return true;
    ++openings_used_;
    return true;
}

void FlowEngine::on_opened(Opening& opening, Time now) {
    Flow& flow = *opening.flow;
    if (flow.ending) return;
    Leg& leg = flow.legs[index_of(opening.side)];
    ++counters_.records_opened;
    switch (opening.result.status) {
        case OpenResult::Status::pending:
        case OpenResult::Status::bad_record_mac:
            fail_record(flow, opening.side, kBadRecordMac,
                        by_side(opening.side, EndReason::client_bad_record, EndReason::backend_bad_record), now);
            return;
        case OpenResult::Status::no_content_type:
            fail_record(flow, opening.side, kUnexpectedMessage,
                        by_side(opening.side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
            return;
        case OpenResult::Status::plaintext_overflow:
            fail_record(flow, opening.side, kRecordOverflow,
                        by_side(opening.side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
            return;
        case OpenResult::Status::ok:
            break;
    }
    flow.last_activity = now;
    const std::uint32_t content_offset = crypto::kRecordHeaderLength + opening.result.content_offset;
    switch (opening.result.type) {
        case ContentType::application_data:
            if (leg.takes_tickets) {
                leg.takes_tickets = false;
                owe(flow, owed::kTicketsOver);
            }
            leg.application_data_seen = true;
            if (opening.result.content_length == 0) {   // legal (RFC 8446 5.4), useless, and free to send for an attacker
                consume(leg, opening.record_length);
                if (++leg.empty_records > kMaxEmptyRecords)
                    fail_record(flow, opening.side, kUnexpectedMessage,
                                by_side(opening.side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
                return;
            }
            leg.empty_records = 0;
            leg.key_update_debt -= std::min(leg.key_update_debt, opening.result.content_length);
            leg.octets_in += opening.result.content_length;
            leg.opened = {opening.record_length, content_offset, opening.result.content_length};
            return;
        case ContentType::alert:
            on_alert(flow, opening.side, content_offset, opening.result.content_length, now);
            if (!flow.ending) consume(leg, opening.record_length);
            return;
        case ContentType::handshake:
            on_handshake_record(opening, now);
            if (!flow.ending) consume(leg, opening.record_length);
            return;
        case ContentType::change_cipher_spec:
            break;
    }
    fail_record(flow, opening.side, kUnexpectedMessage,
                by_side(opening.side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
}

void FlowEngine::on_alert(Flow& flow, Side side, std::uint32_t offset, std::uint32_t length, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    ++counters_.alerts_received;
    std::array<std::byte, 2> alert{};
    if (length != alert.size() || copy_from(leg, offset, alert) != alert.size()) {
        fail_record(flow, side, kDecodeError,
                    by_side(side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
        return;
    }
    const auto description = std::to_integer<std::uint8_t>(alert[1]);
    if (description == kCloseNotify) {
        leg.close_notify_received = leg.read_done = true;
        return;
    }
    if (description == kUserCanceled) return;   // close_notify follows (RFC 8446 6.1)
    const bool warning = alert[0] == std::byte{1} && leg.read.version() == crypto::Version::tls12;
    if (warning && description == kNoRenegotiation) return;
    // Any other alert is fatal on TLS 1.3 (RFC 8446 6). The other leg must not see an orderly end.
    close_in_order(flow, other(side), kInternalError);
    leg.connection->close();
    leg.write_done = true;
    linger(flow, side);
    end(flow, by_side(side, EndReason::client_alert, EndReason::backend_alert), now);
}

/// After the handshake: KeyUpdate (RFC 8446 4.6.3) and, from a backend, NewSessionTicket (4.6.1). On TLS 1.2 anything
/// here is renegotiation, which the policy does not have.
void FlowEngine::on_handshake_record(Opening& opening, Time now) {
    Flow& flow = *opening.flow;
    Leg& leg = flow.legs[index_of(opening.side)];
    const EndReason broken = by_side(opening.side, EndReason::client_protocol_error, EndReason::backend_protocol_error);
    const std::uint32_t at = crypto::kRecordHeaderLength + opening.result.content_offset;
    const std::uint32_t length = opening.result.content_length;
    std::array<std::byte, 5> message{};
    const std::size_t known = std::min<std::size_t>(length, message.size());
    if (known < 4 || copy_from(leg, at, std::span(message).first(known)) != known) {
        fail_record(flow, opening.side, kUnexpectedMessage, broken, now);
        return;
    }
    if (leg.read.version() == crypto::Version::tls12) {
        if (opening.side == Side::backend && message[0] == kHelloRequest && length == 4) return;   // may be ignored (RFC 5246 7.4.1.1)
        fail_record(flow, opening.side, kNoRenegotiation, broken, now);
        return;
    }
    if (message[0] == kKeyUpdate) {
        const bool well_formed = length == 5 && message[1] == std::byte{0} && message[2] == std::byte{0} &&
                                 message[3] == std::byte{1} && message[4] <= std::byte{1};
        if (!well_formed) {
            fail_record(flow, opening.side, kUnexpectedMessage, broken, now);
            return;
        }
        on_key_update(flow, opening.side, message[4] == std::byte{1}, now);
        return;
    }
    if (message[0] == kNewSessionTicket && opening.side == Side::backend) {
        if (opening.ticket_length == 0 || lanes_ == nullptr || !leg.takes_tickets) return;   // not wanted: we resume without it
        const bool passed =
            lane_of(flow).write(channel::MessageType::ticket_record, flow.id,
                                                 channel::StreamOctets{Side::backend, leg.attempt, leg.stream_offset},
                                                 std::span(opening.ticket).first(opening.ticket_length));
        if (passed) {
            ++counters_.tickets_passed;
        } else {   // control's records would no longer be in sequence: it gets none of the later ones either
            leg.takes_tickets = false;
            owe(flow, owed::kTicketsOver);
        }
        return;
    }
    fail_record(flow, opening.side, kUnexpectedMessage, broken, now);
}

void FlowEngine::on_key_update(Flow& flow, Side side, bool requested, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    ++counters_.key_updates_received;
    leg.key_update_debt += kOctetsAKeyUpdate;
    if (leg.key_update_debt > kKeyUpdateCredit) {
        fail_record(flow, side, kUnexpectedMessage, EndReason::key_update_flood, now);
        return;
    }
    const crypto::CipherSuite* const suite = crypto::find_cipher_suite(leg.suite);
    const auto secret = crypto::next_traffic_secret(*suite, leg.read_secret);
    const auto key = secret ? crypto::derive_traffic_key(*suite, *secret) : std::unexpected(secret.error());
    if (!key) {
        fail_record(flow, side, kInternalError, EndReason::out_of_memory, now);
        return;
    }
    leg.read_secret = *secret;
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
    const std::span<const WritePiece> record = std::span(target_pieces_).first(pieces);
    if (!batch_.seal(leg.write, type, std::span(&piece, content.empty() ? 0 : 1), record)) {
        batch_.flush();
        SALLYPORT_CHECK(batch_.seal(leg.write, type, std::span(&piece, content.empty() ? 0 : 1), record));
    }
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
    leg.write.install(*suite, *key, 0, 0);
    ++counters_.key_updates_sent;
    return true;
}

/// Before a record is sealed: answers the peer's KeyUpdate and changes a key that has reached its limit (RFC 8446 5.5). False when
/// nothing can be sealed now.
bool FlowEngine::write_key_ready(Leg& leg) {
    if (leg.plain) return true;
    const bool tls13 = leg.write.version() == crypto::Version::tls13;
    const bool ask = tls13 && !leg.key_update_asked && crypto::key_exhausted(leg.read);
    if (crypto::key_exhausted(leg.write) && !tls13) return false;   // pass_on_end() closes
    if (!leg.key_update_owed && !ask && !crypto::key_exhausted(leg.write)) return true;
    if (!send_key_update(leg, ask)) return false;
    leg.key_update_owed = false;
    if (ask) leg.key_update_asked = true;
    return true;
}

/// Queues what a leg has ready for the other one: an opened record, or plain octets. True when something was queued or sent.
bool FlowEngine::queue_forward(Flow& flow, Side from_side, Time now) {
    Leg& from = flow.legs[index_of(from_side)];
    Leg& to = flow.legs[index_of(other(from_side))];
    if (from.phase != LegPhase::open || to.phase != LegPhase::open || to.write_done) return false;
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
    std::uint32_t consumed = 0;
    if (from.plain) {
        const std::uint32_t space = to.connection->send_space();
        if (space <= 2 * kControlRoom) return false;
        length = std::min({from.connection->readable(), static_cast<std::uint32_t>(crypto::kMaxPlaintextLength),
                           space - 2 * kControlRoom});
        consumed = length;
    } else {
        offset = from.opened.content_offset;
        length = from.opened.content_length;
        consumed = from.opened.record_length;
    }
    if (length == 0) return false;
    if (!write_key_ready(to)) return false;
    const std::size_t sources = from.connection->peek(offset, length, source_pieces_);
    if (sources == 0) return false;
    const auto out = to.plain ? length : static_cast<std::uint32_t>(to.write.sealed_length(length));
    const std::size_t targets = to.connection->reserve(out, target_pieces_);
    if (targets == 0) {   // no buffer free: kWritable comes when some have been acknowledged; meanwhile try again each turn
        drops_.count(DropReason::no_buffer);
        return to.connection->outstanding() == 0;
    }
    if (to.plain) {
        std::size_t t = 0;
        std::uint32_t filled = 0;
        for (std::size_t s = 0; s < sources; ++s)
            for (std::uint32_t done = 0; done < source_pieces_[s].length;) {
                const std::uint32_t n = std::min(source_pieces_[s].length - done, target_pieces_[t].length - filled);
                std::memcpy(target_pieces_[t].data + filled, source_pieces_[s].data + done, n);
                done += n;
                filled += n;
                if (filled == target_pieces_[t].length) {
                    ++t;
                    filled = 0;
                }
            }
        to.connection->append();
        consume(from, consumed);
        from.opened = {};
    } else {
        for (std::size_t s = 0; s < sources; ++s) content_pieces_[s] = {source_pieces_[s].data, source_pieces_[s].length};
        if (!batch_.seal(to.write, ContentType::application_data, std::span(content_pieces_).first(sources),
                         std::span(target_pieces_).first(targets))) {
            to.connection->give_back();
            return true;   // the batch is full: next round
        }
        sealings_.push_back({&flow, from_side, consumed, length});
    }
    if (from.plain) {
        from.octets_in += length;
        from.application_data_seen = true;
        flow.last_activity = now;
    }
    to.octets_out += length;
    if (from_side == Side::client) {
        counters_.octets_to_backend += length;
        if (to.plain) counters_.clear_octets_to_backend += length;
    } else {
        counters_.octets_to_client += length;
    }
    return true;
}

/// Carries the end of one leg's stream over to the other, once all before it has been passed on. True when it did.
bool FlowEngine::pass_on_end(Flow& flow, Side from_side, Time now) {
    Leg& from = flow.legs[index_of(from_side)];
    Leg& to = flow.legs[index_of(other(from_side))];
    if (from.phase != LegPhase::open || to.phase != LegPhase::open || from.opened.record_length != 0) return false;
    if (from.key_update_owed && !from.write_done) (void)write_key_ready(from);   // answered even when there is no data
    if (!from.plain && from.write.version() == crypto::Version::tls12 && crypto::key_exhausted(from.write)) {
        end(flow, EndReason::key_limit, now);
        return false;
    }
    if (from.close_notify_received && from.connection->readable() > 0) {
        consume(from, from.connection->readable());   // after close_notify: ignored (RFC 8446 6.1)
    } else if (!from.read_done && from.connection->peer_finished()) {
        from.read_done = true;
    } else if (!from.read_done && !from.plain && fin_received(*from.connection) && from.connection->readable() > 0) {
        // FIN inside a record: what there is can never be opened. Only when no whole record is left.
        std::array<std::byte, crypto::kRecordHeaderLength> header{};
        const bool has_header = copy_from(from, 0, header) == header.size();
        const std::uint32_t need =
            crypto::kRecordHeaderLength + (has_header ? (std::to_integer<std::uint32_t>(header[3]) << 8) + std::to_integer<std::uint32_t>(header[4]) : 0);
        if (!has_header || from.connection->readable() < need) {
            consume(from, from.connection->readable());
            from.read_done = true;
        }
    }
    if (!from.read_done) return false;
    if (!to.write_done) {
        // A TCP end without close_notify is passed on as just that, so that a truncation stays visible (RFC 8446 6.1).
        const bool orderly = from.plain || from.close_notify_received;
        if (!to.plain && orderly) {
            const std::byte close_notify[2] = {std::byte{1}, std::byte{kCloseNotify}};
            if (!seal_now(to, ContentType::alert, close_notify)) return false;
            ++counters_.alerts_sent;
        }
        to.connection->close();
        to.write_done = true;
    }
    if (from.write_done) {   // both directions are done
        const bool client_truncated = !flow.client_leg().plain && !flow.client_leg().close_notify_received;
        const bool backend_truncated = !flow.backend_leg().plain && !flow.backend_leg().close_notify_received;
        end(flow,
            client_truncated    ? EndReason::client_truncated
            : backend_truncated ? EndReason::backend_truncated
                                : EndReason::finished,
            now);
    }
    return true;
}

void FlowEngine::fail_record(Flow& flow, Side side, std::uint8_t alert, EndReason reason, Time now) {
    close_in_order(flow, side, alert);
    close_in_order(flow, other(side), kInternalError);
    end(flow, reason, now);
}

}  // namespace sallyport::flow
