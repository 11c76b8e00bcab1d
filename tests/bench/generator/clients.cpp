#include "tests/bench/generator/clients.h"

#include <new>

namespace sallyport::generator {

namespace {

constexpr Duration kLinger = 2s;            ///< for the peer's FIN after ours
constexpr Duration kConnectAgain = 10ms;    ///< after an address or a port was lacking
constexpr std::uint32_t kStride = 4099;     ///< by which the bodies of a connection's messages move on in the pattern; a prime

}  // namespace

Clients::Clients(Settings settings, Side& side, crypto::AeadBatch& batch, const TscClock& clock, const Pattern& pattern, TlsContext* tls)
    : Exchange(side, batch, clock, pattern, tls, settings.records),
      settings_(std::move(settings)),
      side_(side),
      memory_(std::size_t{settings_.connections} * sizeof(ClientEnd)),
      ends_(static_cast<ClientEnd*>(memory_.data())),
      deadlines_(settings_.connections),
      queue_(settings_.connections),
      open_pace_(settings_.open_rate),
      probe_pace_(settings_.probe_rate),
      close_pace_(kCloseRate),
      random_(settings_.seed),
      first_octet_slices_(static_cast<std::uint64_t>(settings_.slice.count()), settings_.slices),
      last_octet_slices_(first_octet_slices_) {
    vacant_.reserve(settings_.connections);
    for (std::uint32_t i = settings_.connections; i-- > 0;) vacant_.push_back(i);
    for (std::uint32_t i = 0; i < settings_.connections; ++i) new (&ends_[i]) ClientEnd;
    if (tls_ != nullptr) tls_->keep_sessions(settings_.resume_share > 0);
}

Clients::~Clients() {
    for (std::uint32_t i = 0; i < settings_.connections; ++i) ends_[i].~ClientEnd();
}

bool Clients::turn(Time now) {
    bool any = exchange(now);
    if (!side_.congested()) {   // what is due stays due
        any |= open_connections();
        any |= send_due();
    }
    check_deadlines();
    while (closing_ && closing_next_ < settings_.connections && !side_.congested() && close_pace_.take(now)) {
        ClientEnd& end = ends_[closing_next_++];
        if (end.phase == Phase::open && !end.waiting) {
            leave_rest(end);
            close(end);
            set_deadline(end, kLinger);
        }
        any = true;
    }
    return any;
}

void Clients::load(Time now) {
    loading_ = true;
    if (settings_.rate > 0) schedule_.emplace(settings_.rate, settings_.spacing, settings_.seed, now);
}

void Clients::close_all() noexcept {
    holding_ = loading_ = probing_ = false;
    closing_ = true;
}

std::uint64_t Clients::unsent(Time until) {
    std::uint64_t count = 0;
    if (!schedule_) return 0;
    for (Schedule rest = *schedule_; rest.due() < until; rest.next()) ++count;
    return count;
}

// --- connections

bool Clients::open_connections() {
    bool any = false;
    for (int i = 0; i < kMostATurn && !vacant_.empty() && opening_ < settings_.opening_at_once && now_ >= connect_again_; ++i) {
        Time due = now_;
        if (keeps()) {
            if (!holding_) break;
        } else {
            if (!loading_) break;
            if (schedule_) {
                if (schedule_->due() > now_) break;
                due = schedule_->due();
            }
        }
        if (!open_pace_.take(now_) || !connect(due)) break;
        if (!keeps() && schedule_) schedule_->next();
        any = true;
    }
    return any;
}

bool Clients::connect(Time due) {
    const std::uint64_t turn = connects_++;
    ClientEnd& end = ends_[vacant_.back()];
    const IpAddress source = settings_.sources.size() > 0 ? settings_.sources.at(turn % settings_.sources.size()) : IpAddress{};
    const auto made = stack_.connect(settings_.targets[turn % settings_.targets.size()], reinterpret_cast<std::uint64_t>(&end), settings_.timeout, now_, source);
    if (!made) {
        switch (made.error()) {
            case tcp::Stack::ConnectError::no_route: statistics_.fail(Failure::no_route, ""); break;
            case tcp::Stack::ConnectError::no_port: statistics_.fail(Failure::no_port, ""); break;
            case tcp::Stack::ConnectError::no_memory: statistics_.fail(Failure::no_memory, ""); break;
        }
        connect_again_ = now_ + kConnectAgain;
        return false;
    }
    vacant_.pop_back();
    end.tcp = *made;
    end.phase = Phase::connecting;
    end.due = due;
    end.connected = now_;
    end.start = Pattern::position(0, turn * kStride);
    ++in_use_;
    ++opening_;
    if (!keeps()) {
        end.waiting = true;   // for its first answer: opening is part of it
        ++waiting_;
    }
    set_deadline(end, settings_.timeout);
    return true;
}

openssl::Session Clients::session_to_offer() {
    if (settings_.resume_share <= 0 || std::uniform_real_distribution<double>()(random_) >= settings_.resume_share) return nullptr;
    return tls_->take_session();
}

void Clients::opened(ClientEnd& end) {
    --opening_;
    ++ready_;
    end.ready = true;
    const Time ready = clock_.now();
    if (keeps() || measured(end.connected)) setup_.record(static_cast<std::uint64_t>((ready - end.connected).count()));
    if (closing_ || settings_.closes_at_once) {
        not_waiting(end);
        close(end);
        set_deadline(end, kLinger);
    } else if (keeps()) {
        set_deadline(end, Duration{});
        rest(end);
    } else {
        request(end, end.due);
    }
}

void Clients::peer_closed(ClientEnd& end) {
    if (end.waiting) return fail(end, Failure::closed_early);
    leave_rest(end);
    close(end);
    set_deadline(end, kLinger);
}

void Clients::leave_rest(ClientEnd& end) noexcept {
    if (!end.resting) return;
    end.resting = false;
    --resting_;
}

void Clients::not_waiting(ClientEnd& end) noexcept {
    if (!end.waiting) return;
    end.waiting = false;
    --waiting_;
}

void Clients::lost(ClientEnd& end) {
    leave_rest(end);
    not_waiting(end);
}

void Clients::vacate(ClientEnd& end) {
    leave_rest(end);
    not_waiting(end);
    leave(end);
    const bool queued = end.in_queue;
    end.~ClientEnd();
    new (&end) ClientEnd;
    end.in_queue = queued;   // taken off the queue when its turn comes
    vacant_.push_back(number_of(end));
}

void Clients::leave(ClientEnd& end) noexcept {
    deadlines_[number_of(end)] = 0;
    --in_use_;
    if (end.ready)
        --ready_;
    else
        --opening_;
}

// --- requests

void Clients::rest(ClientEnd& end) {
    end.resting = true;
    ++resting_;
    if (end.in_queue) return;
    end.in_queue = true;
    queue_[(queue_first_ + queue_length_++) % queue_.size()] = number_of(end);
}

ClientEnd* Clients::take_resting() {
    while (queue_length_ > 0) {
        ClientEnd& end = ends_[queue_[queue_first_]];
        queue_first_ = (queue_first_ + 1) % queue_.size();
        --queue_length_;
        end.in_queue = false;
        if (!end.resting) continue;   // it has ended meanwhile
        leave_rest(end);
        return &end;
    }
    return nullptr;
}

bool Clients::send_due() {
    bool any = false;
    if (probing_) {
        for (int i = 0; i < kMostATurn && resting_ > 0 && waiting_ < kMostProbes && probe_pace_.take(now_); ++i) {
            ClientEnd& end = *take_resting();
            request(end, now_);
            activate(end);
            any = true;
        }
        return any;
    }
    if (!loading_ || !keeps()) return false;
    for (int i = 0; i < kMostATurn && resting_ > 0 && waiting_ < settings_.active; ++i) {
        if (schedule_ && schedule_->due() > now_) break;
        ClientEnd& end = *take_resting();
        request(end, schedule_ ? schedule_->due() : now_);
        activate(end);
        if (schedule_) schedule_->next();
        any = true;
    }
    return any;
}

void Clients::request(ClientEnd& end, Time due) {
    if (!end.waiting) ++waiting_;
    end.waiting = true;
    end.answer_begun = false;
    end.due = due;
    end.out = {.sent = 0, .body = settings_.request.body_length(), .head = static_cast<std::uint32_t>(settings_.request.head_length()), .start = end.start};
    set_deadline(end, settings_.timeout);
}

void Clients::record(Histogram& whole, Slices& slices, Time due) noexcept {
    if (!measured(due)) return;
    const auto taken = static_cast<std::uint64_t>((moment_ - due).count());
    whole.record(taken);
    slices.record(static_cast<std::uint64_t>((due - from_).count()), taken);
}

void Clients::octets_arrived(ClientEnd& end) {
    if (end.answer_begun || !end.waiting) return;
    end.answer_begun = true;
    record(first_octet_, first_octet_slices_, end.due);
}

bool Clients::head_arrived(ClientEnd& end) {
    const Head& head = end.in.head();
    const char* objection = nullptr;
    if (head.status == 0)
        objection = "a request where an answer was expected";
    else if (!end.waiting || end.out.pending())
        objection = "an answer to a request that was not sent";
    else if (settings_.own_answers && head.content_length != settings_.answer_length)
        objection = "an answer of another length than was asked for";
    if (objection != nullptr) {
        fail(end, Failure::bad_message, objection);
        return false;
    }
    if (head.status / 100 != 2) ++statistics_.counters.bad_status;
    const bool compare = settings_.own_answers && settings_.compare_every != 0 && answers_++ % settings_.compare_every == 0;
    end.in.expect_body(head.content_length, compare, end.out.start);
    return true;
}

void Clients::message_arrived(ClientEnd& end) {
    record(last_octet_, last_octet_slices_, end.due);
    end.start = Pattern::position(end.start, kStride);
    ++end.requests;
    not_waiting(end);
    if (probing_) {
        if (!end.probed) ++probed_;
        end.probed = true;
    }
    const bool enough = !keeps() && end.requests >= settings_.requests_per_connection;
    if (enough || closing_ || end.in.head().close) {
        close(end);
        set_deadline(end, kLinger);
        return;
    }
    if (!keeps() || (loading_ && !schedule_)) {
        request(end, moment_);
        return;
    }
    set_deadline(end, Duration{});
    if (!end.probed) rest(end);
}

// --- time

void Clients::set_deadline(const ClientEnd& end, Duration from_now) noexcept {
    deadlines_[number_of(end)] = from_now == Duration{} ? 0 : static_cast<std::uint32_t>((now_ + from_now).time_since_epoch() / 1ms) + 1;
}

/// Looks at all connections' deadlines about four times a second, a part of them each millisecond.
void Clients::check_deadlines() {
    if (now_ < last_check_ + 1ms) return;
    last_check_ = now_;
    const auto now = static_cast<std::uint32_t>(now_.time_since_epoch() / 1ms);
    for (std::uint32_t left = settings_.connections / 256 + 1; left > 0; --left) {
        if (deadline_next_ >= settings_.connections) deadline_next_ = 0;
        const std::uint32_t number = deadline_next_++;
        if (deadlines_[number] == 0 || deadlines_[number] > now) continue;
        ClientEnd& end = ends_[number];
        deadlines_[number] = 0;
        switch (end.phase) {
            case Phase::connecting: fail(end, Failure::connect_timeout); break;
            case Phase::handshake: fail(end, Failure::handshake_timeout); break;
            case Phase::open: fail(end, Failure::answer_timeout); break;
            case Phase::closing: finish(end); break;
            case Phase::vacant:
            case Phase::ended: break;
        }
    }
}

}  // namespace sallyport::generator
