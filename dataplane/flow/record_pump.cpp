#include <algorithm>
#include <cstring>

#include "crypto/piece_cursor.h"
#include "dataplane/flow/alert.h"
#include "dataplane/flow/flow_engine.h"

/// Moves records from leg to leg: opened where they lie in the receive queue, sealed straight into the other leg's transmit buffers.
/// Works in rounds over the active flows: a few records a direction are queued for opening, all are opened in one batch, all are
/// sealed in one batch, until nothing moves.
namespace sallyport::flow {

using crypto::AeadBatch;
using crypto::ContentType;
using crypto::OpenResult;
using crypto::WritePiece;

namespace {

/// Rounds a turn, so that flows with much to move cannot keep the worker from its packets.
constexpr int kRounds = 8;
/// Octets kept free in a leg's send buffer for alerts, KeyUpdate, and what our records may be longer than the peer's, beyond those that
/// are being moved.
constexpr std::uint32_t kControlRoom = 192;

/// Records that may be sealed before the key has to be changed.
std::uint64_t records_left(const crypto::RecordProtection& protection) {
    if (protection.aead() == crypto::Aead::chacha20_poly1305) return OpenedRecords::kMost;
    return crypto::kAesGcmRecordLimit - std::min(crypto::kAesGcmRecordLimit, protection.sequence());
}

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
        openings_used_ = 0;
        sealings_.clear();
        round_.clear();
        // Flows for which there is no room in this round stay at the front of the list, those that moved join its end.
        const std::size_t waiting = active_.size();
        std::size_t taken = 0;
        while (taken < waiting && openings_used_ + 2 * OpenedRecords::kMost <= openings_.size() && round_.size() < kMostFlowsARound) {
            constexpr std::size_t kAhead = 3;   // flows between a prefetch and its use: some hundred nanoseconds
            if (taken + kAhead < waiting) prefetch(table_.at(active_[taken + kAhead].index() - 1));
            Flow* const flow = table_.find(active_[taken++]);
            if (flow == nullptr || !flow->active) continue;
            flow->active = false;
            if (flow->ending) continue;
            round_.push_back(flow);
            queue_open(*flow, Side::client, now);
            if (!flow->ending) queue_open(*flow, Side::backend, now);
        }
        active_.erase(active_.begin(), active_.begin() + static_cast<std::ptrdiff_t>(taken));
        batch_.flush();
        for (std::size_t i = 0; i < openings_used_; ++i) take_opened(i, now);
        for (Flow* const flow : round_) {
            settle(*flow, Side::client, now);
            settle(*flow, Side::backend, now);
            for (const Side from : {Side::client, Side::backend})
                if (!flow->ending && queue_forward(*flow, from, now)) activate(*flow);
        }
        batch_.flush();
        for (const Sealing& sealing : sealings_) {
            Leg& from = sealing.flow->legs[index_of(sealing.from)];
            sealing.flow->legs[index_of(other(sealing.from))].connection->append();
            for (std::uint8_t i = 0; i < sealing.records; ++i) from.opened.pop();
            consume(from, sealing.consume);
        }
        for (Flow* const flow : round_)
            for (const Side side : {Side::client, Side::backend}) {
                settle(*flow, side, now);
                const Leg& from = flow->legs[index_of(side)];
                if (!flow->ending && (pass_on_end(*flow, side, now) || (from.unread && from.opened.empty())) && !flow->ending) activate(*flow);
            }
    }
    return true;
}

/// Queues the next whole records of a leg for opening, as many as the other leg has room for.
void FlowEngine::queue_open(Flow& flow, Side side, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    Leg& to = flow.legs[index_of(other(side))];
    leg.unread = false;   // also where nothing will be read any more
    if (leg.phase != LegPhase::open || leg.plain || leg.read_done || to.phase != LegPhase::open) return;
    leg.unread = !leg.opened.empty();
    if (leg.unread) return;
    const std::uint32_t space = to.connection->send_space();
    // One at a time while control's own object counts them too.
    const std::size_t most = leg.takes_tickets ? 1 : OpenedRecords::kMost;
    std::uint32_t at = 0;
    for (std::size_t n = 0; n < most; ++n) {
        std::array<std::byte, crypto::kRecordHeaderLength> octets{};
        if (copy_from(leg, at, octets) != octets.size()) return;
        if (crypto::key_exhausted(leg.read)) {   // not one record more under this key; pass_on_end() ends the flow
            leg.unread = n > 0;
            return;
        }
        const auto header = parse_header(octets, leg.read);
        if (!header) {
            leg.unread = n > 0;   // those before it come first
            if (n == 0) fail_record(flow, side, header.error(), by_side(side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
            return;
        }
        const std::uint32_t length = crypto::kRecordHeaderLength + header->length;
        if (leg.connection->readable() - at < length) return;
        // What comes out is not longer than what goes in, but for the other leg's overhead.
        if (space < at + length + kControlRoom) return;
        const std::size_t pieces = leg.connection->peek(at + crypto::kRecordHeaderLength, header->length, source_pieces_);
        SALLYPORT_CHECK(pieces != 0);   // there is a piece for every octet
        Opening& opening = openings_[openings_used_];
        opening = {&flow, side, static_cast<std::uint16_t>(length), 0, {}};
        if (leg.takes_tickets && length <= kMaxTicketRecord) {
            (void)copy_from(leg, at, std::span(ticket_records_[openings_used_]).first(length));
            opening.ticket_length = static_cast<std::uint16_t>(length);
            (void)leg.connection->peek(at + crypto::kRecordHeaderLength, header->length, source_pieces_);
        }
        const std::span<const WritePiece> fragment = std::span(source_pieces_).first(pieces);
        if (!batch_.open(leg.read, *header, fragment, &opening.result, AeadBatch::After::application_data)) {
            if (n > 0) {   // a flush between them would hide from the later ones what the earlier ones were
                leg.unread = true;
                return;
            }
            batch_.flush();
            SALLYPORT_CHECK(batch_.open(leg.read, *header, fragment, &opening.result, AeadBatch::After::application_data));
        }
        ++openings_used_;
        at += length;
    }
    leg.unread = true;
}

/// As crypto's, with an alert for an error.
std::expected<crypto::RecordHeader, std::uint8_t> FlowEngine::parse_header(
    const std::array<std::byte, crypto::kRecordHeaderLength>& octets, const crypto::RecordProtection& protection) {
    const auto header = crypto::parse_record_header(octets, protection);
    if (header) {
        // An unprotected change_cipher_spec, which after the handshake nobody may send (RFC 8446 5).
        if (protection.version() == crypto::Version::tls13 && header->type == ContentType::change_cipher_spec)
            return std::unexpected(alert::kUnexpectedMessage);
        return *header;
    }
    switch (header.error()) {
        case crypto::RecordError::record_overflow:
            return std::unexpected(alert::kRecordOverflow);
        case crypto::RecordError::too_short:   // it cannot hold a tag
            return std::unexpected(protection.version() == crypto::Version::tls13 ? alert::kBadRecordMac : alert::kDecodeError);
        case crypto::RecordError::bad_header:
            return std::unexpected(octets[1] != std::byte{3} ? alert::kProtocolVersion : alert::kUnexpectedMessage);
    }
    return std::unexpected(alert::kUnexpectedMessage);
}

void FlowEngine::take_opened(std::size_t i, Time now) {
    const Opening& opening = openings_[i];
    Flow& flow = *opening.flow;
    if (flow.ending) return;
    Leg& leg = flow.legs[index_of(opening.side)];
    if (opening.result.status == OpenResult::Status::pending) {   // behind one that was not application data
        leg.unread = true;
        return;
    }
    ++counters_.records_opened;
    const OpenedRecord record{opening.record_length,
                              static_cast<std::uint16_t>(crypto::kRecordHeaderLength + opening.result.content_offset),
                              static_cast<std::uint16_t>(opening.result.content_length), opening.result.type, opening.result.status};
    leg.opened.push(record);
    if (leg.takes_tickets) pass_ticket(flow, record, std::span(ticket_records_[i]).first(opening.ticket_length));
    if (!record.forwardable()) return;   // settle() does
    if (leg.handshake_left > 0) {        // RFC 8446 5.1: handshake messages are not interleaved with others
        fail_record(flow, opening.side, alert::kUnexpectedMessage,
                    by_side(opening.side, EndReason::client_protocol_error, EndReason::backend_protocol_error), now);
        return;
    }
    flow.last_activity = now;
    leg.empty_records = 0;
    leg.key_update_debt -= std::min<std::uint32_t>(leg.key_update_debt, record.content_length);
    leg.octets_in += record.content_length;
}

/// What a leg has ready for the other one, at most kMost pieces of it: the opened records at its front, or plain octets.
std::size_t FlowEngine::find_chunks(const Leg& from, std::uint32_t space, Chunks& chunks) {
    std::size_t count = 0;
    std::uint32_t at = 0;
    if (from.plain) {
        const std::uint32_t each = static_cast<std::uint32_t>(crypto::kMaxPlaintextLength);
        std::uint32_t left = from.connection->readable();
        for (; count < chunks.size() && left > 0 && space > kControlRoom; ++count) {
            const std::uint32_t length = std::min({left, each, space - kControlRoom});
            chunks[count] = {at, length, at + length};
            at += length;
            left -= length;
            space -= std::min(space, length + 32);   // more than any record adds to its content
        }
        return count;
    }
    for (; count < from.opened.size() && from.opened[count].forwardable(); ++count) {
        const OpenedRecord& record = from.opened[count];
        chunks[count] = {at + record.content_offset, record.content_length, at + record.record_length};
        at += record.record_length;
    }
    return count;
}

void FlowEngine::queue_seal(crypto::RecordProtection& protection, ContentType type, std::span<const crypto::ReadPiece> content,
                            std::span<const WritePiece> record, AeadBatch::OctetBehind behind) {
    if (batch_.seal(protection, type, content, record, behind)) return;
    batch_.flush();
    SALLYPORT_CHECK(batch_.seal(protection, type, content, record, behind));   // an empty batch takes any one record
}

/// Queues what a leg has ready for the other one. True when the flow is to be looked at again without an event.
bool FlowEngine::queue_forward(Flow& flow, Side from_side, Time now) {
    Leg& from = flow.legs[index_of(from_side)];
    Leg& to = flow.legs[index_of(other(from_side))];
    if (from.phase != LegPhase::open || to.phase != LegPhase::open || to.write_done) return false;
    Chunks chunks;
    std::size_t count = find_chunks(from, to.connection->send_space(), chunks);
    if (count == 0) return false;
    // Where there is no buffer: as soon as octets are acknowledged TCP tells. Where none are under way, nothing but trying helps.
    if (!write_key_ready(to)) return to.connection->outstanding() == 0;
    if (!to.plain) count = static_cast<std::size_t>(std::min<std::uint64_t>(count, records_left(to.write)));
    std::size_t targets = 0;
    for (; count > 0; count /= 2) {
        std::uint32_t out = 0;
        for (const Chunk& chunk : std::span(chunks).first(count))
            out += to.plain ? chunk.length : static_cast<std::uint32_t>(to.write.sealed_length(chunk.length));
        targets = to.connection->reserve(out, target_pieces_);
        if (targets != 0) break;
    }
    if (count == 0) {
        drops_.count(DropReason::no_buffer);
        return to.connection->outstanding() == 0;
    }
    crypto::PieceCursor target{std::span<const WritePiece>(target_pieces_).first(targets)};
    std::uint64_t octets = 0;
    for (const Chunk& chunk : std::span(chunks).first(count)) {
        octets += chunk.length;
        if (to.plain)
            copy_chunk(from, chunk, target);
        else
            seal_chunk(from, to, chunk, target);
    }
    sealings_.push_back({&flow, from_side, static_cast<std::uint8_t>(from.plain ? 0 : count), chunks[count - 1].end});
    if (!to.plain) counters_.records_sealed += count;
    if (from.plain) {
        from.octets_in += octets;
        flow.last_activity = now;
    }
    to.octets_out += octets;
    if (from_side == Side::client) {
        counters_.octets_to_backend += octets;
        if (to.plain) counters_.clear_octets_to_backend += octets;
        // A client's leg is never plain (on_handoff refuses it); what is counted is that nothing has got around that.
        if (from.plain || from.suite == 0) counters_.clear_octets_from_client += octets;
    } else {
        counters_.octets_to_client += octets;
    }
    return from.plain ? from.connection->readable() > chunks[count - 1].end : count < from.opened.size();
}

template <typename Cursor>
void FlowEngine::copy_chunk(Leg& from, const Chunk& chunk, Cursor& target) {
    const std::size_t sources = from.connection->peek(chunk.offset, chunk.length, source_pieces_);
    SALLYPORT_CHECK(sources != 0);
    for (const WritePiece& source : std::span(source_pieces_).first(sources))
        for (std::uint32_t done = 0; done < source.length;) {
            const WritePiece part = target.take(source.length - done);
            std::memcpy(part.data, source.data + done, part.length);
            done += part.length;
        }
}

template <typename Cursor>
void FlowEngine::seal_chunk(Leg& from, Leg& to, const Chunk& chunk, Cursor& target) {
    // Behind the content of an opened record there is its padding, type or tag: an octet that is ours, if it lies in the same piece.
    const std::uint32_t behind = from.plain ? 0 : 1;
    std::size_t sources = from.connection->peek(chunk.offset, chunk.length + behind, source_pieces_);
    SALLYPORT_CHECK(sources != 0);
    auto octet_behind = AeadBatch::OctetBehind::untouched;
    if (behind != 0 && --source_pieces_[sources - 1].length > 0)
        octet_behind = AeadBatch::OctetBehind::free;
    else if (behind != 0)
        --sources;
    for (std::size_t i = 0; i < sources; ++i) content_pieces_[i] = {source_pieces_[i].data, source_pieces_[i].length};
    std::size_t records = 0;
    for (auto left = static_cast<std::uint32_t>(to.write.sealed_length(chunk.length)); left > 0;) {
        record_pieces_[records] = target.take(left);
        left -= record_pieces_[records++].length;
    }
    queue_seal(to.write, ContentType::application_data, std::span(content_pieces_).first(sources),
               std::span(record_pieces_).first(records), octet_behind);
}

/// Whether what is readable of a leg can never become a record: FIN has come, and it is less than the next record.
bool FlowEngine::ends_within_record(Leg& leg) {
    if (leg.plain || leg.connection->readable() == 0 || !fin_received(*leg.connection)) return false;
    std::array<std::byte, crypto::kRecordHeaderLength> header{};
    if (copy_from(leg, 0, header) != header.size()) return true;
    const std::uint32_t length = std::to_integer<std::uint32_t>(header[3]) << 8 | std::to_integer<std::uint32_t>(header[4]);
    return leg.connection->readable() < crypto::kRecordHeaderLength + length;
}

/// Carries the end of one leg's stream over to the other, once all before it has been passed on. True when the flow is to be looked at
/// again without an event.
bool FlowEngine::pass_on_end(Flow& flow, Side from_side, Time now) {
    Leg& from = flow.legs[index_of(from_side)];
    Leg& to = flow.legs[index_of(other(from_side))];
    if (from.phase != LegPhase::open || to.phase != LegPhase::open) return false;
    bool again = false;
    // Keys are cared for even when there is no data to send.
    if (!from.write_done && !write_key_ready(from)) again = from.connection->outstanding() == 0;
    if (!from.plain && from.read.version() == crypto::Version::tls12 && (crypto::key_exhausted(from.write) || crypto::key_exhausted(from.read))) {
        end(flow, EndReason::key_limit, now);
        return false;
    }
    if (!from.opened.empty()) return again;
    // The peer was asked for a new key in time, and goes on with the old one (RFC 8446 5.5, 4.6.3).
    if (!from.plain && !from.read_done && crypto::key_exhausted(from.read)) {
        fail_record(flow, from_side, alert::kUnexpectedMessage, EndReason::key_limit, now);
        return false;
    }
    if (from.close_notify_received) {
        consume(from, from.connection->readable());   // after close_notify: ignored (RFC 8446 6.1)
    } else if (!from.read_done && from.connection->peer_finished()) {
        from.read_done = true;
    } else if (!from.read_done && ends_within_record(from)) {
        consume(from, from.connection->readable());
        from.read_done = true;
    }
    if (!from.read_done) return again;
    if (!to.write_done) {
        const bool orderly = from.plain || from.close_notify_received;
        if (!orderly && to.plain) {   // in plain text only a reset tells a truncation from an end
            abort_leg(flow, other(from_side));
            close_in_order(flow, from_side, alert::kInternalError);
            end(flow, by_side(from_side, EndReason::client_truncated, EndReason::backend_truncated), now);
            return false;
        }
        if (!to.plain && orderly) {
            const std::byte close_notify[2] = {std::byte{alert::level_of(alert::kCloseNotify)}, std::byte{alert::kCloseNotify}};
            if (!seal_now(to, ContentType::alert, close_notify)) return again || to.connection->outstanding() == 0;
            ++counters_.alerts_sent;
        }
        // A TCP end without close_notify is passed on as just that, so that a truncation stays visible (RFC 8446 6.1).
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
        return false;
    }
    return again;
}

}  // namespace sallyport::flow
