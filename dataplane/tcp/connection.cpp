// What a user may do with a connection: RFC 9293 3.10.2 to 3.10.5, and the accessors of stack.h.

#include <algorithm>
#include <cstring>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {
ControlBlock& block(Connection& connection) noexcept { return static_cast<ControlBlock&>(connection); }
const ControlBlock& block(const Connection& connection) noexcept { return static_cast<const ControlBlock&>(connection); }
}  // namespace

const SocketAddress& Connection::local() const noexcept { return block(*this).tuple.local; }
const SocketAddress& Connection::remote() const noexcept { return block(*this).tuple.remote; }
State Connection::state() const noexcept { return block(*this).current; }
End Connection::end() const noexcept { return block(*this).ended; }

std::uint32_t Connection::readable() const noexcept { return block(*this).receive_queue.octets(); }
std::size_t Connection::peek(std::uint32_t offset, std::uint32_t length, std::span<WritePiece> pieces) noexcept {
    return block(*this).receive_queue.peek(offset, length, pieces);
}
void Connection::consume(std::uint32_t length) noexcept { block(*this).core->consume(block(*this), length); }
void Connection::set_receive_limit(std::uint32_t octets) noexcept { block(*this).core->set_receive_limit(block(*this), octets); }
void Connection::speak_first() noexcept { block(*this).speaks_first = true; }
bool Connection::peer_finished() const noexcept {
    return block(*this).peer_fin_taken && block(*this).receive_queue.octets() == 0;
}

std::uint32_t Connection::send_space() noexcept { return block(*this).core->send_space(block(*this)); }
std::uint32_t Connection::buffers_held() const noexcept { return block(*this).received_held + block(*this).sent_held; }
std::uint32_t Connection::outstanding() const noexcept { return block(*this).transfer->send_buffer.octets(); }
std::size_t Connection::reserve(std::uint32_t length, std::span<WritePiece> pieces) noexcept {
    return length > send_space() ? 0 : block(*this).core->reserve(block(*this), length, pieces);
}
void Connection::append() noexcept { block(*this).core->append(block(*this)); }
void Connection::give_back() noexcept { block(*this).core->give_back(block(*this)); }
bool Connection::send(std::span<const std::byte> octets) noexcept {
    if (octets.empty()) return true;
    if (octets.size() > send_space()) return false;
    std::array<WritePiece, kMaxSendSegments> pieces;
    const std::size_t count = reserve(static_cast<std::uint32_t>(octets.size()), pieces);
    if (count == 0) return false;
    const std::byte* from = octets.data();
    for (const WritePiece& piece : std::span(pieces).first(count)) {
        std::memcpy(piece.data, from, piece.length);
        from += piece.length;
    }
    append();
    return true;
}
void Connection::hold_back() noexcept { block(*this).core->hold_back(block(*this)); }
void Connection::set_nagle(bool on) noexcept { block(*this).core->set_nagle(block(*this), on); }
void Connection::close() noexcept { block(*this).core->close(block(*this)); }
void Connection::abort() noexcept { block(*this).core->abort(block(*this)); }
void Connection::release() noexcept { block(*this).core->release(block(*this)); }
std::uint16_t Connection::mss() const noexcept { return block(*this).snd_mss; }

Connection::Status Connection::status() const noexcept {
    const ControlBlock& cb = block(*this);
    return {.state = cb.current,
            .srtt = cb.rtt.srtt(),
            .rttvar = cb.rtt.rttvar(),
            .rto = cb.rtt.rto(cb.backoff),
            .cwnd = cb.cubic.cwnd(),
            .ssthresh = cb.cubic.ssthresh(),
            .snd_wnd = cb.snd_wnd,
            .rcv_wnd = cb.rcv_wnd(),
            .in_flight = cb.in_flight(),
            .octets_sent = cb.octets_sent,
            .octets_received = cb.octets_received,
            .segments_retransmitted = cb.retransmissions,
            .timeouts = cb.timeouts,
            .mss = cb.snd_mss,
            .sack = cb.sack_permitted,
            .timestamps = cb.timestamps,
            .window_scaling = cb.window_scaling,
            .ecn = cb.ecn};
}

// ---- Core's side ----

std::uint32_t Core::send_space(ControlBlock& cb) noexcept {
    if (cb.closing || cb.released || cb.current == State::closed || cb.current == State::time_wait) return 0;
    // Tiny segments hold a whole buffer each, so their number is bounded too.
    if (cb.transfer->send_buffer.segments() >= max_send_segments_) return 0;
    const std::uint32_t held = cb.transfer->send_buffer.octets();
    const auto up_to = [held](std::uint32_t limit) { return limit > held ? limit - held : 0; };
    switch (transmit_pressure()) {
        case Pressure::none: {
            // What has arrived behind a gap is no longer under way: without new segments after it, a retransmission that is lost as well would be found out by a timeout only.
            const std::uint32_t window = 2 * cb.cubic.cwnd() + cb.transfer->send_buffer.sacked_octets;
            return up_to(std::min({settings_.send_buffer, std::max(settings_.initial_buffer, window), transmit_share(), cached_share(cb, sent_held_)}));
        }
        case Pressure::some: return up_to(std::min(settings_.send_buffer, kShareUnderPressure));
        case Pressure::full: break;
    }
    starved_.push_back(cb);
    return 0;
}

std::size_t Core::reserve(ControlBlock& cb, std::uint32_t length, std::span<WritePiece> pieces) noexcept {
    const Cutting cutting{.mss = cb.snd_mss,
                          .most = most_to_cut(cb),
                          .pool = pool_,
                          .large = settings_.large_buffers,
                          .weight = large_weight_};
    const std::size_t count = engage(cb).send_buffer.reserve(length, cutting, pieces);
    if (count == 0) settle(cb);
    return count;
}

void Core::give_back(ControlBlock& cb) noexcept {
    if (!cb.engaged()) return;
    cb.transfer->send_buffer.give_back();
    settle(cb);
}

void Core::append(ControlBlock& cb) noexcept {
    if (cb.current == State::closed) {  // ended between reserve() and append()
        give_back(cb);
        return;
    }
    if (cb.transfer->send_buffer.empty()) cb.last_progress = now_;
    cb.held_back = false;
    cb.transfer->send_buffer.append(cb.stream_end());
    settle(cb);
    mark_dirty(cb);
}

void Core::consume(ControlBlock& cb, std::uint32_t length) noexcept {
    cb.receive_queue.consume(length);
    settle(cb);
    tune_receive_space(cb);
    if (!cb.synchronized() || cb.peer_fin_taken) return;
    // Tell the peer when the window has grown enough to matter (RFC 9293 3.8.6.2.2; RFC 1122 4.2.3.3). To who has more than a quarter of it left, and a first flight's
    // room (RFC 6928), it does not: that one learns it from the ACK of what it sends next (Linux waits until half of it is left).
    const SeqNum edge = window_edge(cb);
    if (edge.after(cb.rcv_adv) && edge - cb.rcv_adv >= std::min(cb.receive_bound() / 2, 2u * cb.our_mss) &&
        cb.rcv_wnd() <= std::max((edge - cb.rcv_nxt) / 4, Cubic::initial_window(cb.our_mss))) {
        cb.ack_now = true;
        mark_dirty(cb);
    }
}

void Core::tune_receive_space(ControlBlock& cb) noexcept {
    if (cb.receive_space >= settings_.receive_buffer || cb.rtt.srtt() == Duration{}) return;
    if (cb.measured_at.ago(now_) + FineMoment::kCount < std::max(cb.rtt.srtt(), 2 * FineMoment::kCount)) return;
    const SeqNum consumed = cb.rcv_nxt - cb.receive_queue.octets();
    if (consumed - cb.measured_from > cb.receive_space / 4 && receive_pressure() == Pressure::none)
        cb.receive_space = std::min(2 * cb.receive_space, settings_.receive_buffer);
    cb.measured_from = consumed;
    cb.measured_at = now_;
}

void Core::set_receive_limit(ControlBlock& cb, std::uint32_t octets) noexcept {
    cb.receive_limit = std::min(octets, settings_.receive_buffer);
    // Nothing was consumed, so nobody waits for a window but who has less than a first flight left (RFC 6928): all others learn it from the next segment, an ACK at the latest.
    if (cb.rcv_wnd() < Cubic::initial_window(cb.our_mss)) consume(cb, 0);
}

void Core::hold_back(ControlBlock& cb) noexcept {
    if (cb.transfer->send_buffer.unsent() == nullptr) return;
    cb.held_back = true;
    if (!cb.ack_now && !armed(cb, Timer::delayed_ack)) delay_ack(cb, now_);
}

void Core::set_nagle(ControlBlock& cb, bool on) noexcept {
    cb.nagle = on;
    mark_dirty(cb);   // on: several in one buffer that waited to leave whole no longer do
}

void Core::close(ControlBlock& cb) noexcept {  // RFC 9293 3.10.4
    if (cb.closing) return;
    switch (cb.current) {
        case State::closed:
        case State::listen:
        case State::fin_wait_1:
        case State::fin_wait_2:
        case State::closing:
        case State::last_ack:
        case State::time_wait:
            return;
        case State::syn_sent:
            if (cb.transfer->send_buffer.empty()) {
                end(cb, End::aborted);
                return;
            }
            cb.closing = true;  // what was appended before is still delivered
            return;
        case State::syn_received:
            cb.closing = true;  // "queue this until all preceding SENDs have been segmentized": establish() goes on with it
            return;
        case State::established:
            cb.closing = true;
            set_state(cb, State::fin_wait_1);
            break;
        case State::close_wait:
            cb.closing = true;
            set_state(cb, State::last_ack);
            break;
    }
    if (cb.transfer->send_buffer.empty()) cb.last_progress = now_;
    mark_dirty(cb);
}

/// Tells a peer that has, or may have, the connection that it is over (RFC 9293 3.10.5).
void Core::reset_peer(ControlBlock& cb) noexcept {
    if ((cb.synchronized() && cb.current != State::time_wait) || cb.current == State::syn_received) send_reset(cb);
}

void Core::abort(ControlBlock& cb) noexcept {  // RFC 9293 3.10.5
    if (cb.current == State::closed) return;
    reset_peer(cb);
    cb.receive_queue.clear();
    detach(cb);
    ended_.push_back(cb);
    if (cb.ended == End::none) cb.ended = End::aborted;
}

void Core::release(ControlBlock& cb) noexcept {
    cb.released = true;
    ready_.remove(cb);
    cb.events = 0;
    cb.receive_queue.clear();
    if (cb.engaged()) cb.transfer->reassembly.clear();
    settle(cb);
    if (cb.current == State::closed) {
        destroy(cb);
        return;
    }
    if (cb.current == State::time_wait) return;
    if (cb.current == State::syn_sent && !cb.closing) {
        destroy(cb);
        return;
    }
    close(cb);
    orphans_.push_back(cb);
    // Nobody waits for it any more, so it may not stay for ever: see linger_fired().
    arm(cb, Timer::linger, now_ + (cb.current == State::fin_wait_2 ? 2 * settings_.msl : user_timeout(cb)));
}

}  // namespace sallyport::tcp
