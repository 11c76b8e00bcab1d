// Deadlines: retransmission (RFC 6298), tail loss probe and reordering (RFC 8985), persist (RFC 9293 3.8.6.1), delayed ACK,
// keepalive (3.8.4), TIME-WAIT and other lingering.

#include <algorithm>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

using wire::kAck;

void Core::arm(ControlBlock& cb, Timer timer, Time at) noexcept {
    cb.deadlines.set(static_cast<std::size_t>(timer), at);
    // A later deadline leaves the wheel as it is: the entry fires too early once and is set again.
    if (at < cb.timer_at) wheel_.set(cb, at);
}

void Core::delay_ack(ControlBlock& cb, Time now) noexcept {
    constexpr auto which = static_cast<std::size_t>(Timer::delayed_ack);
    cb.deadlines.set(which, now + kDelayedAck);
    // Its place from an earlier ACK may come up too early: advance() looks at the deadline.
    if (const Time at = cb.deadlines.at(which, now); !delayed_acks_.push(cb, at)) arm(cb, Timer::delayed_ack, at);
}

void Core::disarm(ControlBlock& cb, Timer timer) noexcept { cb.deadlines.clear(static_cast<std::size_t>(timer)); }

bool Core::armed(const ControlBlock& cb, Timer timer) const noexcept {
    return cb.deadlines.armed(static_cast<std::size_t>(timer));
}

void Core::advance(Time now) {
    now_ = now;
    delayed_acks_.advance(now, [&](ControlBlock& cb) {
        if (!armed(cb, Timer::delayed_ack)) return;   // an ACK has left meanwhile
        if (const Time at = cb.deadlines.at(static_cast<std::size_t>(Timer::delayed_ack), now); at > now) {   // and another has been put off since
            arm(cb, Timer::delayed_ack, at);
            return;
        }
        disarm(cb, Timer::delayed_ack);
        cb.ack_now = true;
        mark_dirty(cb);
    });
    wheel_.advance(now, [&](TimerEntry& entry) { fired(static_cast<ControlBlock&>(entry)); },
                   [](const TimerEntry& entry) { prefetch(static_cast<const ControlBlock&>(entry)); });
}

void Core::fired(ControlBlock& cb) {
    const auto due = [&](Timer timer) {
        const auto which = static_cast<std::size_t>(timer);
        if (cb.deadlines.at(which, now_) > now_) return false;
        cb.deadlines.clear(which);
        return true;
    };
    if (due(Timer::linger) && linger_fired(cb) == Verdict::done) return;
    if (due(Timer::retransmit) && retransmit_fired(cb) == Verdict::done) return;
    if (due(Timer::keepalive) && keepalive_fired(cb) == Verdict::done) return;
    if (due(Timer::pace)) mark_dirty(cb);
    if (due(Timer::delayed_ack)) {
        cb.ack_now = true;
        mark_dirty(cb);
    }
    const Time earliest = cb.deadlines.earliest(now_);
    if (earliest < cb.timer_at) wheel_.set(cb, earliest);
}

bool Core::given_up(const ControlBlock& cb) const noexcept { return cb.last_progress.ago(now_) >= user_timeout(cb); }

void Core::schedule_retransmit(ControlBlock& cb, Time now, bool restart) noexcept {
    const rte_mbuf* first = cb.transfer->send_buffer.front();
    if (cb.flight() == 0) {
        if (first == nullptr) {
            cb.retransmit_timer = RetransmitTimer::none;
            disarm(cb, Timer::retransmit);
        } else if (cb.retransmit_timer != RetransmitTimer::persist) {
            // Nothing in flight whose acknowledgment could open the window: probe it.
            cb.retransmit_timer = RetransmitTimer::persist;
            arm(cb, Timer::retransmit, now + cb.rtt.rto(cb.backoff));
        }
        return;
    }
    if (cb.retransmit_timer == RetransmitTimer::reordering && armed(cb, Timer::retransmit)) return;
    if (cb.retransmit_timer == RetransmitTimer::timeout && armed(cb, Timer::retransmit) && !restart) return;

    // RFC 6298 5.3: from the ACK on that moved SND.UNA, also when a probe was to come first and new segments put it off.
    const Time since = restart ? now : std::max(now - cb.last_progress.ago(now), send_segment(cb.transfer->send_buffer.front()).sent_at);
    Time timeout_at = std::max(since + cb.rtt.rto(cb.backoff), now + 1ms);
    timeout_at = std::max(std::min(timeout_at, now + (user_timeout(cb) - cb.last_progress.ago(now))), now + 1ms);
    // RFC 8985 7.2
    const bool probe = cb.sack_permitted && cb.recovery == Recovery::open && !cb.tlp_outstanding && cb.backoff == 0 &&
                       cb.transfer->send_buffer.sacked_octets == 0 && cb.rtt.srtt() > Duration{};
    if (probe) {
        constexpr Duration kWorstDelayedAck = 200ms;
        const Duration pto = 2 * cb.rtt.srtt() + (cb.flight() <= cb.snd_mss ? kWorstDelayedAck : Duration{2ms});
        if (now + pto < timeout_at) {
            cb.retransmit_timer = RetransmitTimer::tail_loss_probe;
            arm(cb, Timer::retransmit, now + pto);
            return;
        }
    }
    cb.retransmit_timer = RetransmitTimer::timeout;
    arm(cb, Timer::retransmit, timeout_at);
}

Verdict Core::retransmit_fired(ControlBlock& cb) {
    const RetransmitTimer which = cb.retransmit_timer;
    cb.retransmit_timer = RetransmitTimer::none;
    switch (which) {
        case RetransmitTimer::none:
            return Verdict::go_on;
        case RetransmitTimer::timeout:
            return cb.synchronized() ? retransmission_timeout(cb) : syn_timeout(cb);
        case RetransmitTimer::tail_loss_probe:
            tail_loss_probe(cb);
            settle(cb);   // a segment may have been cut
            // 7.3: the retransmission timer runs from the probe on; no further probe before an ACK.
            cb.retransmit_timer = RetransmitTimer::timeout;
            arm(cb, Timer::retransmit, now_ + cb.rtt.rto());
            return Verdict::go_on;
        case RetransmitTimer::reordering:
            rack_detect_loss(cb, now_);
            if (cb.transfer->send_buffer.lost_octets > 0 && cb.recovery == Recovery::open) {
                enter_recovery(cb);
                cb.cubic.set_cwnd(cb.in_flight() + cb.snd_mss);
            }
            schedule_retransmit(cb, now_, false);
            mark_dirty(cb);
            return Verdict::go_on;
        case RetransmitTimer::persist:
            return persist_fired(cb);
    }
    return Verdict::go_on;
}

Verdict Core::syn_timeout(ControlBlock& cb) {
    if (cb.backoff < 10) ++cb.backoff;
    ++cb.timeouts;
    ++counters.timeouts;
    cb.syn_due = true;
    mark_dirty(cb);
    return Verdict::go_on;
}

Verdict Core::retransmission_timeout(ControlBlock& cb) {
    if (cb.flight() == 0) {
        mark_dirty(cb);
        return Verdict::go_on;
    }
    // R2 (RFC 9293 3.8.3). What a peer has taken back the window for is not held against it as long as it answers (3.8.6, SHLD-17).
    const bool shut = cb.snd_wnd == 0 && cb.last_received.ago(now_) < user_timeout(cb);
    if (given_up(cb) && !shut) {
        send_reset(cb);
        end(cb, End::timed_out);
        return Verdict::done;
    }
    // Fast retransmission has sent the first segment again after the timer was set. It has a timeout of its own, as in Linux: with a full queue the path takes
    // longer than before.
    if (send_segment(cb.transfer->send_buffer.front()).sent_at + cb.rtt.rto(cb.backoff) > now_) {
        schedule_retransmit(cb, now_, false);
        return Verdict::go_on;
    }
    ++cb.timeouts;
    ++counters.timeouts;
    if (cb.backoff + 1u == kBlackHoleTimeouts) suspect_black_hole(cb);
    const bool first = cb.backoff == 0;
    if (first) cb.transfer->undo_window = cb.cubic.window();
    cb.cubic.on_timeout(cb.snd_mss, first);
    if (cb.backoff < 10) ++cb.backoff;
    cb.recovery = Recovery::loss;
    cb.recovery_point = cb.snd_nxt;
    if (first) cb.undo_possible = false;
    cb.cwr_due = cb.ecn;
    cb.tlp_outstanding = false;
    cb.transfer->reno_sacked = 0;
    cb.transfer->duplicate_acks = 0;
    // RFC 2018 8: the peer may have dropped what it reported, if the first segment is among that.
    cb.transfer->send_buffer.mark_all_lost(send_segment(cb.transfer->send_buffer.front()).sacked);
    mark_dirty(cb);
    return Verdict::go_on;
}

Verdict Core::persist_fired(ControlBlock& cb) {
    if (cb.flight() > 0 || cb.transfer->send_buffer.empty()) {
        mark_dirty(cb);
        return Verdict::go_on;
    }
    if (cb.snd_wnd > 0) {
        send_new(cb, now_, true);
        settle(cb);   // a segment may have been cut
        if (cb.flight() > 0) {
            schedule_retransmit(cb, now_, true);
            return Verdict::go_on;
        }
    }
    if (cb.last_received.ago(now_) >= user_timeout(cb)) {  // a window may stay shut for ever, silence may not
        send_reset(cb);
        end(cb, End::timed_out);
        return Verdict::done;
    }
    // An octet that was acknowledged before, without payload: not acceptable, so it must be answered (RFC 9293 3.10.7.4). Nothing has to
    // be cut from the send buffer for it.
    send_control(cb, cb.snd_una - 1, kAck, now_);
    if (cb.backoff < 10) ++cb.backoff;
    cb.retransmit_timer = RetransmitTimer::persist;
    arm(cb, Timer::retransmit, now_ + std::min(cb.rtt.rto(cb.backoff), kPersistMaximum));
    return Verdict::go_on;
}

Verdict Core::keepalive_fired(ControlBlock& cb) {
    if (!cb.synchronized() || cb.current == State::time_wait || settings_.keepalive_idle == Duration{}) return Verdict::go_on;
    const Time idle_at = now_ + (settings_.keepalive_idle - cb.last_received.ago(now_));
    if (idle_at > now_) {
        arm(cb, Timer::keepalive, idle_at);
        return Verdict::go_on;
    }
    if (!cb.transfer->send_buffer.empty()) {  // the retransmission timer watches
        arm(cb, Timer::keepalive, now_ + settings_.keepalive_idle);
        return Verdict::go_on;
    }
    if (cb.probes >= settings_.keepalive_probes) {
        send_reset(cb);
        end(cb, End::timed_out);
        return Verdict::done;
    }
    ++cb.probes;
    send_control(cb, cb.snd_una - 1, kAck, now_);
    arm(cb, Timer::keepalive, now_ + settings_.keepalive_interval);
    return Verdict::go_on;
}

Verdict Core::linger_fired(ControlBlock& cb) {
    switch (cb.current) {
        case State::syn_sent:
        case State::syn_received:
            end(cb, End::timed_out);
            return Verdict::done;
        case State::time_wait:
            end(cb, End::finished);
            return Verdict::done;
        case State::established:
        case State::fin_wait_1:
        case State::close_wait:
        case State::closing:
        case State::last_ack:
            // Released: its user waits for nothing. It may take as long as the peer keeps acknowledging.
            if (!given_up(cb)) {
                arm(cb, Timer::linger, now_ + (user_timeout(cb) - cb.last_progress.ago(now_)));
                return Verdict::go_on;
            }
            send_reset(cb);
            end(cb, End::timed_out);
            return Verdict::done;
        case State::fin_wait_2:
            end(cb, End::timed_out);
            return Verdict::done;
        case State::closed:
        case State::listen:
            return Verdict::go_on;
    }
    return Verdict::go_on;
}

}  // namespace sallyport::tcp
