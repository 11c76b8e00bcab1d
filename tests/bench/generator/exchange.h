#pragma once

#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "control/handshake/libssl.h"
#include "control/handshake/operation_batch.h"
#include "crypto/aead_batch.h"
#include "crypto/check.h"
#include "crypto/piece_cursor.h"
#include "dataplane/worker.h"
#include "tests/bench/generator/endpoint.h"
#include "tests/bench/generator/side.h"
#include "tests/bench/generator/statistics.h"

namespace sallyport::generator {

/// How records are made.
struct RecordSettings {
    std::uint32_t size = crypto::kMaxPlaintextLength;   ///< octets of content, at most
    std::uint64_t key_update_every = 0;                 ///< records under one key of TLS 1.3, about; 0: what AES-GCM allows
};

/// Moves messages over the connections of one side: handshakes, records, closing. Works in rounds over the endpoints that have something to do: their
/// records are opened in one batch, their owner looks at the content where it lies and says what is to be sent, and that is sealed in one batch
/// straight into transmit buffers.
///
/// `Owner` derives from this and has, for its own `End` (an Endpoint):
///     End* accept();                          a record for a connection that a peer has opened; nullptr: none
///     openssl::Session session_to_offer();    for a client's handshake; nullptr: a full one
///     void opened(End&);                      ready for messages
///     void octets_arrived(End&);              before each piece of content
///     bool head_arrived(End&);                end.in.head() is known: expect_body(), or fail() and false
///     void message_arrived(End&);
///     void write_head(End&, std::span<char>); the whole head of what is being sent, kLongestRequestHead at most
///     void message_sent(End&);                all of it is in the send buffer
///     void peer_closed(End&);                 in order: close_notify, or FIN where there is no TLS
///     void lost(End&);                        it has failed; after that nothing but vacate()
///     void vacate(End&);                      nobody refers to it any more
/// One thread. Nothing here throws but libssl's allocation of a handshake, which ends the program.
template <typename Owner, typename End>
class Exchange {
 public:
    [[nodiscard]] const Statistics& statistics() const noexcept { return statistics_; }
    [[nodiscard]] bool is_plain() const noexcept { return tls_ == nullptr; }

 protected:
    /// All borrowed. `tls`: nullptr for plain text.
    Exchange(Side& side, crypto::AeadBatch& batch, const TscClock& clock, const Pattern& pattern, TlsContext* tls, const RecordSettings& records)
        : stack_(side.stack()), batch_(batch), clock_(clock), pattern_(pattern), tls_(tls), records_(records), openings_(kMostEndpoints * kMostRecords), heads_(kMostEndpoints), tickets_(tls != nullptr && !tls->is_server() ? kMostEndpoints : 0), source_(kLongestRecord), target_(kLongestRecord) {
        if (tls_ != nullptr)
            for (StepRoom& room : steps_) room.source.resize(kLongestRecord);
    }

    /// One turn: what TCP reports, some handshakes, rounds of records. True when there was something to do.
    bool exchange(Time now) {
        now_ = now;
        bool any = false;
        for (auto ready = stack_.next_ready(); ready.connection != nullptr; ready = stack_.next_ready()) {
            take_event(*ready.connection, ready.events);
            any = true;
        }
        any |= step_handshakes();
        for (int round = 0; round < kRounds && !active_.empty(); ++round) {
            one_round();
            any = true;
        }
        return any;
    }

    /// The endpoint is looked at in the next round.
    void activate(End& end) noexcept {
        if (end.listed) return;
        (end.phase == Phase::handshake ? handshaking_ : active_).push(end);
    }
    void fail(End& end, Failure failure, const std::string& text = {}) {
        statistics_.fail(failure, text);
        drop(end, false);
        owner().lost(end);
    }
    /// Ends it in order, once what is being sent has been sent.
    void close(End& end) noexcept {
        end.close_wanted = true;
        activate(end);
    }

    /// A closing one that waits for nothing more: TCP does the rest.
    void finish(End& end) noexcept {
        ++statistics_.counters.closed;
        if (end.peer_closed_first) ++statistics_.counters.closed_by_peer;
        drop(end, true);
    }

    tcp::Stack& stack_;
    crypto::AeadBatch& batch_;
    const TscClock& clock_;
    const Pattern& pattern_;
    TlsContext* const tls_;
    Statistics statistics_;
    Time now_{};      ///< of the turn
    Time moment_{};   ///< of the round, when its records had been opened

 private:
    static constexpr int kRounds = 8;
    static constexpr std::size_t kMostEndpoints = 64;     ///< a round
    static constexpr std::size_t kMostRecords = 8;        ///< of one endpoint a round, each way
    static constexpr std::size_t kLongestRecord = crypto::kRecordHeaderLength + crypto::kMaxTls12CiphertextLength;
    static constexpr std::size_t kLongestTicketRecord = 4096;
    static constexpr std::uint32_t kControlRoom = 128;    ///< kept free in the send buffer for KeyUpdate and alerts
    static constexpr std::uint64_t kKeyUpdateAhead = 4096;   ///< records before the limit of AES-GCM (crypto::kAesGcmRecordLimit)

    struct Opening {
        End* end;
        std::uint32_t at;        ///< of the record in what is readable
        std::uint32_t length;    ///< header included
        std::uint16_t ticket;    ///< index into tickets_; kNone: the ciphertext was not kept
        crypto::OpenResult result;
    };
    static constexpr std::uint16_t kNone = 0xffff;
    struct Sealing {
        End* end;
        std::uint32_t octets, records;
        bool closes;
    };

    /// What a step of a handshake works with, while others' may be under way.
    struct StepRoom {
        std::vector<std::byte> output;
        std::vector<crypto::WritePiece> source;   ///< a piece for each octet of the longest record
    };

    Owner& owner() noexcept { return static_cast<Owner&>(*this); }

    // --- connections

    void take_event(tcp::Connection& connection, std::uint8_t events) {
        auto* end = reinterpret_cast<End*>(connection.user);
        if (end == nullptr) {
            end = owner().accept();
            if (end == nullptr) {
                statistics_.fail(Failure::no_memory, "");
                connection.abort();
                connection.release();
                return;
            }
            end->tcp = &connection;
            end->phase = Phase::connecting;
            connection.user = reinterpret_cast<std::uint64_t>(end);
        }
        if ((events & tcp::event::kEnded) != 0) return ended(*end);
        if (end->phase == Phase::connecting && (events & tcp::event::kEstablished) != 0) {
            if (tls_ == nullptr)
                open(*end);
            else
                end->phase = Phase::handshake;
        }
        activate(*end);
    }

    void ended(End& end) {
        if (end.phase == Phase::closing) return finish(end);
        const bool connecting = end.phase == Phase::connecting, handshake = end.phase == Phase::handshake;
        switch (end.tcp->end()) {
            case tcp::End::refused: return fail(end, Failure::refused);
            case tcp::End::unreachable: return fail(end, Failure::unreachable);
            case tcp::End::timed_out: return fail(end, connecting ? Failure::connect_timeout : Failure::tcp_timeout);
            case tcp::End::reset: return fail(end, handshake ? Failure::handshake_closed : Failure::reset);
            case tcp::End::none:
            case tcp::End::finished:
            case tcp::End::aborted: return fail(end, handshake ? Failure::handshake_closed : Failure::closed_early);
        }
    }

    /// Lets go of the connection; `orderly`: what is in its send buffer still leaves.
    void drop(End& end, bool orderly) noexcept {
        if (end.tcp != nullptr) {
            end.tcp->user = 0;
            if (!orderly) end.tcp->abort();
            end.tcp->release();
            end.tcp = nullptr;
        }
        end.phase = Phase::ended;
        activate(end);
    }

    void open(End& end) {
        end.phase = Phase::open;
        ++statistics_.counters.opened;
        owner().opened(end);
    }

    // --- handshakes

    /// A few a turn, whose operations with keys are worked out together. Not more, since a step may cost hundreds of microseconds in which nothing else happens: TCP would take the
    /// silence for loss.
    bool step_handshakes() {
        if (handshaking_.empty()) return false;
        const std::uint64_t begin = __rdtsc();
        for (std::size_t stepped = 0; stepped < steps_.size() && !handshaking_.empty();) {
            auto& end = static_cast<End&>(handshaking_.pop());
            if (end.phase != Phase::handshake) {
                active_.push(end);
                continue;
            }
            operations_.run(stepped, [this, &end, &room = steps_[stepped]] { step_handshake(end, room); });
            ++stepped;
        }
        operations_.finish();
        statistics_.counters.handshake_cycles += __rdtsc() - begin;
        return true;
    }

    /// Nothing but `end` and `room` may be counted on to be the same after libssl was called, which other handshakes' steps may run in.
    void step_handshake(End& end, StepRoom& room) {
        using Step = Handshake::Step;
        Step step = Step::more;
        room.output.clear();
        if (end.handshake == nullptr) {
            end.handshake = std::make_unique<Handshake>(*tls_, owner().session_to_offer());
            if (!tls_->is_server()) step = end.handshake->start(room.output);
        }
        while (step == Step::more && end.tcp->readable() > 0) {
            const std::uint32_t length = std::min<std::uint32_t>(end.tcp->readable(), static_cast<std::uint32_t>(room.source.size()));
            const std::size_t pieces = end.tcp->peek(0, length, room.source);
            std::uint32_t consumed = 0;
            for (std::size_t i = 0; i < pieces && step == Step::more; ++i) {
                std::span<const std::byte> octets(room.source[i].data, room.source[i].length);
                step = end.handshake->feed(octets, room.output);
                consumed += room.source[i].length - static_cast<std::uint32_t>(octets.size());
            }
            end.tcp->consume(consumed);
        }
        if (!room.output.empty() && !end.tcp->send(room.output)) return fail(end, Failure::no_buffer, "a handshake's flight");
        if (step == Step::failed) {
            statistics_.fail(end.handshake->failure(), end.handshake->text());
            drop(end, true);   // the alert leaves
            return owner().lost(end);
        }
        if (step == Step::more) {
            if (end.tcp->peer_finished()) fail(end, Failure::handshake_closed);
            return;
        }
        const ConnectionKeys keys = end.handshake->take_keys();
        end.suite = keys.suite;
        end.read = keys.read;
        end.write = keys.write;
        end.read_secret = keys.read_secret;
        end.write_secret = keys.write_secret;
        const Negotiated& negotiated = end.handshake->negotiated();
        ++statistics_.counters.handshakes;
        if (negotiated.resumed) ++statistics_.counters.resumed;
        ++statistics_.negotiated[negotiated];
        if (!end.handshake->waits_for_ticket()) end.handshake.reset();
        open(end);
        activate(end);
    }

    // --- rounds

    void one_round() {
        openings_used_ = heads_used_ = 0;
        sealings_.clear();
        round_used_ = 0;
        while (round_used_ < kMostEndpoints && !active_.empty()) {
            auto& end = static_cast<End&>(active_.pop());
            switch (end.phase) {
                case Phase::vacant:
                case Phase::connecting: break;
                case Phase::handshake: handshaking_.push(end); break;
                case Phase::ended:
                    end.handshake.reset();
                    owner().vacate(end);
                    break;
                case Phase::open:
                case Phase::closing:
                    round_[round_used_] = &end;
                    queue_open(end, static_cast<std::uint16_t>(round_used_++));
                    break;
            }
        }
        const std::span<End*> round(round_.data(), round_used_);
        if (openings_used_ > 0) batch_.flush();
        moment_ = clock_.now();
        for (std::size_t i = 0; i < openings_used_; ++i) take_opened(openings_[i]);
        for (End* const end : round) {
            if (end->phase == Phase::open && tls_ == nullptr) take_plain(*end);
            if (end->phase != Phase::open) continue;
            if (end->consume > 0) end->tcp->consume(end->consume);
            queue_send(*end);
        }
        batch_.flush();
        for (const Sealing& sealing : sealings_) appended(sealing);
        for (End* const end : round) settle(*end);
    }

    [[nodiscard]] bool copy_from(End& end, std::uint32_t at, std::span<std::byte> to) noexcept {
        const auto length = static_cast<std::uint32_t>(to.size());
        if (end.tcp->readable() < at + length) return false;
        const std::size_t pieces = end.tcp->peek(at, length, source_);
        for (std::size_t i = 0, copied = 0; i < pieces; copied += source_[i++].length) std::memcpy(to.data() + copied, source_[i].data, source_[i].length);
        return pieces > 0;
    }

    /// Queues the next whole records for opening.
    void queue_open(End& end, std::uint16_t place) {
        end.consume = 0;
        if (tls_ == nullptr || end.phase != Phase::open || end.close_notify_received) return;
        const std::size_t most = end.handshake != nullptr ? 1 : kMostRecords;   // libssl counts records too
        std::uint32_t at = 0;
        for (std::size_t i = 0; i < most; ++i) {
            std::array<std::byte, crypto::kRecordHeaderLength> octets;
            if (!copy_from(end, at, octets)) return;
            const auto header = crypto::parse_record_header(octets, end.read);
            if (!header || header->type == crypto::ContentType::change_cipher_spec) {
                if (i == 0) fail(end, Failure::bad_record, "a header that no record has here");   // else those before it come first
                return;
            }
            const std::uint32_t length = crypto::kRecordHeaderLength + header->length;
            if (end.tcp->readable() - at < length) return;
            Opening& opening = openings_[openings_used_];
            opening = {&end, at, length, kNone, {}};
            if (end.handshake != nullptr && length <= kLongestTicketRecord && copy_from(end, at, std::span(tickets_[place]).first(length))) opening.ticket = place;
            const std::size_t pieces = end.tcp->peek(at + crypto::kRecordHeaderLength, header->length, source_);
            const auto fragment = std::span<const crypto::WritePiece>(source_).first(pieces);
            if (!batch_.open(end.read, *header, fragment, &opening.result, crypto::AeadBatch::After::application_data)) {
                if (i > 0) return;   // a flush between them would hide from the later ones what the earlier ones were
                batch_.flush();
                SALLYPORT_CHECK(batch_.open(end.read, *header, fragment, &opening.result, crypto::AeadBatch::After::application_data));
            }
            ++openings_used_;
            at += length;
        }
    }

    void take_opened(const Opening& opening) {
        End& end = *opening.end;
        const crypto::OpenResult& result = opening.result;
        if (end.phase != Phase::open || result.status == crypto::OpenResult::Status::pending) return;   // behind one that was not application data
        ++statistics_.counters.records_in;
        end.consume += opening.length;
        if (result.status != crypto::OpenResult::Status::ok) return fail(end, Failure::bad_record, "a record that does not authenticate");
        const std::uint32_t content = opening.at + static_cast<std::uint32_t>(crypto::kRecordHeaderLength) + result.content_offset;
        switch (result.type) {
            case crypto::ContentType::application_data: {
                end.handshake.reset();   // tickets come before data, or not at all
                if (result.content_length == 0) return;
                // Not shared with what deliver() may call.
                const std::size_t pieces = end.tcp->peek(content, result.content_length, content_pieces_);
                for (std::size_t i = 0; i < pieces; ++i)
                    if (!deliver(end, {content_pieces_[i].data, content_pieces_[i].length})) return;
                return;
            }
            case crypto::ContentType::handshake: return take_handshake_messages(end, opening, content);
            case crypto::ContentType::alert: return take_alert(end, content, result.content_length);
            case crypto::ContentType::change_cipher_spec: break;
        }
        fail(end, Failure::bad_record, "a record of a type that TLS does not have here");
    }

    void take_alert(End& end, std::uint32_t content, std::uint32_t length) {
        constexpr std::uint8_t kCloseNotify = 0, kUserCanceled = 90;
        std::array<std::byte, 2> alert;
        if (length != alert.size() || !copy_from(end, content, alert)) return fail(end, Failure::bad_record, "an alert of another length");
        const auto description = std::to_integer<std::uint8_t>(alert[1]);
        if (description == kCloseNotify)
            end.close_notify_received = true;
        else if (description != kUserCanceled)
            fail(end, Failure::alert_received, "alert " + handshake::alert_name(description));
    }

    /// NewSessionTicket and KeyUpdate (RFC 8446 4.6); HelloRequest of TLS 1.2, which may be ignored (RFC 5246 7.4.1.1).
    void take_handshake_messages(End& end, const Opening& opening, std::uint32_t content) {
        constexpr std::uint8_t kHelloRequest = 0, kNewSessionTicket = 4, kKeyUpdate = 24;
        std::vector<std::byte>& octets = messages_;
        octets.resize(opening.result.content_length);
        if (octets.empty() || !copy_from(end, content, octets)) return fail(end, Failure::bad_record, "a handshake record without content");
        std::size_t at = std::min<std::size_t>(end.handshake_left, octets.size());
        end.handshake_left -= static_cast<std::uint32_t>(at);
        bool ticket = at > 0;
        for (; at + 4 <= octets.size();) {
            const auto number = [&](std::size_t offset) { return std::to_integer<std::uint32_t>(octets[at + offset]); };
            const std::uint32_t type = number(0), length = number(1) << 16 | number(2) << 8 | number(3);
            const bool tls13 = end.read.version() == crypto::Version::tls13;
            if (tls13 && type == kNewSessionTicket) {
                ticket = true;
                ++statistics_.counters.tickets;
            } else if (tls13 && type == kKeyUpdate && length == 1 && at + 5 == octets.size()) {
                if (!next_key(end, end.read_secret, end.read)) return;
                end.key_update_owed = end.key_update_owed || number(4) == 1;
                ++statistics_.counters.key_updates_in;
                return;
            } else if (tls13 || type != kHelloRequest) {
                return fail(end, Failure::bad_record, "a handshake message after the handshake");
            }
            at += 4 + length;
        }
        if (at > octets.size())
            end.handshake_left = static_cast<std::uint32_t>(at - octets.size());
        else if (at < octets.size())
            return fail(end, Failure::bad_record, "a handshake message whose header is split");
        if (!ticket || end.handshake == nullptr) return;
        if (opening.ticket != kNone) end.handshake->take_ticket(std::span(tickets_[opening.ticket]).first(opening.length));
        if (opening.ticket == kNone || !end.handshake->waits_for_ticket()) end.handshake.reset();
    }

    [[nodiscard]] bool next_key(End& end, crypto::TrafficSecret& secret, crypto::RecordProtection& protection) {
        const crypto::CipherSuite& suite = *crypto::find_cipher_suite(end.suite);
        const auto next = crypto::next_traffic_secret(suite, secret);
        const auto key = next ? crypto::derive_traffic_key(suite, *next) : std::unexpected(next.error());
        if (!key) {
            fail(end, Failure::bad_record, "the next key could not be derived");
            return false;
        }
        secret = *next;
        protection.install(suite, *key, 0, 0);
        return true;
    }

    void take_plain(End& end) {
        while (end.phase == Phase::open && end.tcp->readable() > 0) {
            const std::uint32_t length = std::min<std::uint32_t>(end.tcp->readable(), static_cast<std::uint32_t>(content_pieces_.size()));
            const std::size_t pieces = end.tcp->peek(0, length, content_pieces_);
            for (std::size_t i = 0; i < pieces; ++i)
                if (!deliver(end, {content_pieces_[i].data, content_pieces_[i].length})) return;
            end.tcp->consume(length);
        }
    }

    /// Content for the owner. False when the endpoint is not open any more.
    [[nodiscard]] bool deliver(End& end, std::span<const std::byte> octets) {
        statistics_.counters.octets_in += octets.size();
        owner().octets_arrived(end);
        while (true) {
            switch (end.in.take(octets, pattern_, statistics_.counters.mismatched_octets)) {
                case Incoming::Step::more: return true;
                case Incoming::Step::head:
                    if (!owner().head_arrived(end)) return false;
                    break;
                case Incoming::Step::done:
                    ++statistics_.counters.messages_in;
                    owner().message_arrived(end);
                    if (end.phase != Phase::open) return false;
                    break;
                case Incoming::Step::malformed: fail(end, Failure::bad_message, end.in.error()); return false;
            }
        }
    }

    // --- sending

    void seal(End& end, crypto::ContentType type, std::span<const crypto::ReadPiece> content, std::span<const crypto::WritePiece> record) {
        if (batch_.seal(end.write, type, content, record)) return;
        batch_.flush();
        SALLYPORT_CHECK(batch_.seal(end.write, type, content, record));
    }

    void queue_send(End& end) {
        if (tls_ != nullptr) {
            const bool tls13 = end.write.version() == crypto::Version::tls13;
            const bool used_up = end.write.sequence() + kKeyUpdateAhead >= crypto::kAesGcmRecordLimit && end.write.aead() != crypto::Aead::chacha20_poly1305;
            if (used_up && !tls13) return fail(end, Failure::bad_record, "the key of TLS 1.2 is used up");
            const bool due = tls13 && records_.key_update_every != 0 && end.write.sequence() >= records_.key_update_every;
            // The answer to a request does not ask for another (RFC 8446 4.6.3).
            if ((end.key_update_owed || used_up || due) && !send_key_update(end, !end.key_update_owed)) return;
        }
        if (end.phase != Phase::open) return;
        if (!end.out.pending()) {
            if (end.close_wanted) queue_close(end);
            return;
        }
        if (tls_ == nullptr)
            send_plain(end);
        else
            queue_records(end);
    }

    /// What lies at `offset` of the message, at most `length` octets of it, in one piece. The head is in `head`, when it is needed.
    [[nodiscard]] crypto::ReadPiece piece_of(const Outgoing& out, std::uint64_t offset, std::uint32_t length, std::span<const char> head) const noexcept {
        if (offset < out.head) return {reinterpret_cast<const std::byte*>(head.data()) + offset, std::min(length, static_cast<std::uint32_t>(out.head - offset))};
        length = std::min(length, Pattern::kLongest);
        return {pattern_.at(Pattern::position(out.start, offset - out.head), length).data(), length};
    }

    [[nodiscard]] std::span<const char> head_of(End& end) {
        if (end.out.sent >= end.out.head) return {};
        std::array<char, kLongestRequestHead>& head = heads_[heads_used_++];
        owner().write_head(end, head);
        return head;
    }

    void queue_records(End& end) {
        const std::uint32_t space = end.tcp->send_space();
        std::array<std::uint32_t, kMostRecords> lengths;
        std::size_t count = 0;
        std::uint32_t sealed = 0;
        for (std::uint64_t left = end.out.left(); count < lengths.size() && left > 0; ++count) {
            const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, records_.size));
            const auto whole = static_cast<std::uint32_t>(end.write.sealed_length(length));
            if (sealed + whole + kControlRoom > space) break;
            lengths[count] = length;
            sealed += whole;
            left -= length;
        }
        std::size_t pieces = 0;
        for (; count > 0; sealed -= static_cast<std::uint32_t>(end.write.sealed_length(lengths[--count])))
            if ((pieces = end.tcp->reserve(sealed, target_)) > 0) break;
        if (count == 0) return wait_for_room(end);
        crypto::PieceCursor target{std::span<const crypto::WritePiece>(target_).first(pieces)};
        const std::span<const char> head = head_of(end);
        std::uint64_t offset = end.out.sent;
        for (const std::uint32_t length : std::span(lengths).first(count)) {
            std::array<crypto::ReadPiece, 3> content;
            std::size_t contents = 0;
            for (std::uint32_t done = 0; done < length; done += content[contents++].length) content[contents] = piece_of(end.out, offset + done, length - done, head);
            record_.clear();
            for (auto left = static_cast<std::uint32_t>(end.write.sealed_length(length)); left > 0; left -= record_.back().length) record_.push_back(target.take(left));
            seal(end, crypto::ContentType::application_data, std::span(content).first(contents), record_);
            offset += length;
        }
        sealings_.push_back({&end, static_cast<std::uint32_t>(offset - end.out.sent), static_cast<std::uint32_t>(count), false});
    }

    void send_plain(End& end) {
        constexpr std::uint32_t kMost = 65536;
        const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>({end.out.left(), end.tcp->send_space(), kMost}));
        const std::size_t pieces = length > 0 ? end.tcp->reserve(length, target_) : 0;
        if (pieces == 0) return wait_for_room(end);
        const std::span<const char> head = head_of(end);
        crypto::PieceCursor target{std::span<const crypto::WritePiece>(target_).first(pieces)};
        for (std::uint32_t done = 0; done < length;) {
            const crypto::ReadPiece from = piece_of(end.out, end.out.sent + done, length - done, head);
            for (std::uint32_t copied = 0; copied < from.length;) {
                const crypto::WritePiece to = target.take(from.length - copied);
                std::memcpy(to.data, from.data + copied, to.length);
                copied += to.length;
            }
            done += from.length;
        }
        sealings_.push_back({&end, length, 0, false});
    }

    /// TCP tells when octets are acknowledged. Where none are under way it is buffers that lack, and nothing but trying again helps.
    void wait_for_room(End& end) noexcept {
        if (end.tcp->outstanding() == 0) activate(end);
    }

    /// False when there is no room for it now. `request`: the peer is asked for one too.
    [[nodiscard]] bool send_key_update(End& end, bool request) {
        const std::array<std::byte, 5> message{std::byte{24}, std::byte{0}, std::byte{0}, std::byte{1}, std::byte{request}};
        const auto length = static_cast<std::uint32_t>(end.write.sealed_length(message.size()));
        const std::size_t pieces = end.tcp->send_space() >= length ? end.tcp->reserve(length, target_) : 0;
        if (pieces == 0) {
            wait_for_room(end);
            return false;
        }
        seal(end, crypto::ContentType::handshake, std::array{crypto::ReadPiece{message.data(), message.size()}}, std::span(target_).first(pieces));
        batch_.flush();
        end.tcp->append();
        end.key_update_owed = false;
        ++statistics_.counters.key_updates_out;
        return next_key(end, end.write_secret, end.write);
    }

    void queue_close(End& end) {
        static constexpr std::array<std::byte, 2> kCloseNotify{std::byte{1}, std::byte{0}};
        if (tls_ == nullptr) return half_close(end);
        const auto length = static_cast<std::uint32_t>(end.write.sealed_length(kCloseNotify.size()));
        const std::size_t pieces = end.tcp->send_space() >= length ? end.tcp->reserve(length, target_) : 0;
        if (pieces == 0) return wait_for_room(end);
        seal(end, crypto::ContentType::alert, std::array{crypto::ReadPiece{kCloseNotify.data(), kCloseNotify.size()}}, std::span(target_).first(pieces));
        sealings_.push_back({&end, 0, 1, true});
    }

    void half_close(End& end) noexcept {
        end.tcp->close();
        end.phase = Phase::closing;
        end.handshake.reset();
    }

    void appended(const Sealing& sealing) {
        End& end = *sealing.end;
        end.tcp->append();
        statistics_.counters.records_out += sealing.records;
        if (sealing.closes) return half_close(end);
        statistics_.counters.octets_out += sealing.octets;
        end.out.sent += sealing.octets;
        if (end.out.pending() || end.close_wanted) activate(end);
        if (end.out.pending()) return;
        ++statistics_.counters.messages_out;
        owner().message_sent(end);
    }

    /// After the round: what the peer has ended.
    void settle(End& end) {
        if (end.phase == Phase::closing) {
            end.tcp->consume(end.tcp->readable());
            if (end.tcp->peer_finished()) finish(end);
            return;
        }
        if (end.phase != Phase::open) return;
        if (end.consume > 0) activate(end);   // more may wait
        if (end.close_wanted) {
            if (!end.out.pending()) activate(end);
            return;
        }
        const tcp::State state = end.tcp->state();
        const bool fin = state == tcp::State::close_wait || state == tcp::State::closing || state == tcp::State::last_ack || state == tcp::State::time_wait;
        if (tls_ != nullptr && fin && !end.close_notify_received && end.consume == 0) return fail(end, Failure::truncated);
        if (!end.close_notify_received && !(tls_ == nullptr && end.tcp->peer_finished())) return;
        end.peer_closed_first = true;
        owner().peer_closed(end);
    }

    const RecordSettings records_;
    EndpointList active_, handshaking_;
    std::array<End*, kMostEndpoints> round_;
    std::size_t round_used_ = 0, openings_used_ = 0, heads_used_ = 0;
    std::vector<Opening> openings_;
    std::vector<Sealing> sealings_;
    std::vector<std::array<char, kLongestRequestHead>> heads_;
    std::vector<std::array<std::byte, kLongestTicketRecord>> tickets_;   ///< ciphertext of records that may hold tickets, by place in the round
    std::vector<crypto::WritePiece> source_, target_;                    ///< a piece for each octet of the longest record, so that any split fits
    std::vector<crypto::WritePiece> content_pieces_ = std::vector<crypto::WritePiece>(kLongestRecord);
    std::vector<crypto::WritePiece> record_;
    std::vector<std::byte> messages_;
    std::array<StepRoom, 4> steps_;   ///< four key agreements cost what two cost (crypto/public_key/x25519.h)
    handshake::OperationBatch operations_;
};

}  // namespace sallyport::generator
