// How connections begin: active OPEN (RFC 9293 3.10.1), a SYN to a listener, SYN cookies, the options of SYN segments.

#include <algorithm>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {

// A smaller MSS option is raised to this: a peer may not make us cut its stream into octets (88 is Linux's least, too).
constexpr std::uint16_t kLeastPeerMss = 88;

std::uint16_t default_mss(const IpAddress& remote) noexcept { return remote.is_v4() ? 536 : 1220; }  // RFC 9293 3.7.1

std::uint16_t peer_mss_of(const wire::TcpOptions& options, const IpAddress& remote) noexcept {
    return std::max(options.mss.value_or(default_mss(remote)), kLeastPeerMss);
}

}  // namespace

SeqNum Core::initial_sequence_number(const Tuple& tuple, Time now) const noexcept {
    // RFC 6528 3: ISN = M + F(tuple, secret), M ticks every 4 microseconds.
    const auto m = static_cast<std::uint32_t>(now.time_since_epoch() / Duration{4us});
    return SeqNum(m + static_cast<std::uint32_t>(table_.hash(tuple) >> 32));
}

std::uint32_t Core::timestamp_offset(const Tuple& tuple) const noexcept {
    // Of the tuple alone, so that a later connection of the same ports goes on where the earlier one was (RFC 6191 wants that).
    return settings_.timestamp_base + static_cast<std::uint32_t>(timestamp_hash_(words_of(tuple)));
}

std::uint16_t Core::mss_for(const network::Path& path, const IpAddress& remote) const noexcept {
    const std::uint32_t headers = (remote.is_v4() ? 20u : 40u) + wire::kTcpHeaderLength;  // RFC 6691: no options taken off
    return static_cast<std::uint16_t>(std::clamp<std::uint32_t>(path.mtu, headers + 64, 65535) - headers);
}

void Core::update_mss(ControlBlock& cb) noexcept {
    std::uint32_t mss = std::min({std::uint32_t{cb.peer_mss}, std::uint32_t{mss_for(cb.path, cb.tuple.remote.address)}, max_payload_});
    if (cb.timestamps) mss -= 12;
    cb.snd_mss = static_cast<std::uint16_t>(mss);
}

void Core::suspect_black_hole(ControlBlock& cb) noexcept {
    const std::uint32_t least = cb.tuple.remote.address.is_v4() ? kBlackHoleMtu4 : kMinimumMtu6;
    const std::uint16_t before = cb.snd_mss;
    if (cb.path.mtu <= least) return;
    const std::uint16_t mtu = cb.path.mtu;
    cb.path.mtu = static_cast<std::uint16_t>(least);
    update_mss(cb);
    if (cb.snd_mss == before || send_segment(cb.transfer->send_buffer.front()).length <= cb.snd_mss) {   // what is lost is not long
        cb.path.mtu = mtu;
        update_mss(cb);
        return;
    }
    if (cb.unproven_mtu == 0) cb.unproven_mtu = mtu;
    cb.mtu_lowered = now_;
    ++counters.black_holes;
}

void Core::trust_path_again(ControlBlock& cb, Time now) noexcept {
    if (cb.mtu_lowered.ago(now) < kRaiseMtu) return;
    cb.path.mtu = std::max(cb.path.mtu, cb.unproven_mtu);
    cb.unproven_mtu = 0;
    update_mss(cb);
}

ControlBlock* Core::make_connection(const Tuple& tuple, const network::Path& path, Time now) {
    ControlBlock* cb = blocks_.make(*this);
    if (cb == nullptr) {
        // A TIME-WAIT whose user has gone is worth less than a new connection.
        ControlBlock* oldest = time_wait_.front();
        while (oldest != nullptr && !oldest->released) oldest = oldest->waiting.next;
        if (oldest == nullptr) return nullptr;
        destroy(*oldest);
        cb = blocks_.make(*this);
    }
    cb->tuple = tuple;
    cb->path = path;
    cb->ts_offset = timestamp_offset(tuple);
    cb->receive_limit = settings_.receive_buffer;
    cb->receive_space = std::min(settings_.initial_buffer, settings_.receive_buffer);
    cb->measured_at = now;
    cb->user_timeout_ms = static_cast<std::uint32_t>(settings_.user_timeout / Duration{1ms});
    cb->nagle = settings_.nagle;
    cb->our_mss = mss_for(path, tuple.remote.address);
    cb->last_received = now;
    cb->last_progress = now;
    cb->peer_mss = default_mss(tuple.remote.address);
    update_mss(*cb);
    return cb;
}

void Core::take_syn_options(ControlBlock& cb, const wire::TcpOptions& options) {
    cb.peer_mss = peer_mss_of(options, cb.tuple.remote.address);
    cb.window_scaling = options.window_scale.has_value();
    cb.snd_wnd_shift = options.window_scale.value_or(0);
    cb.rcv_wnd_shift = cb.window_scaling ? rcv_wnd_shift_ : 0;
    cb.sack_permitted = options.sack_permitted;
    cb.timestamps = options.timestamps.has_value();
    if (cb.timestamps) cb.ts_recent = options.timestamps->value;
    cb.rcv_mss = std::min<std::uint16_t>(default_mss(cb.tuple.remote.address), cb.our_mss);
    cb.measured_from = cb.rcv_nxt;
    take_user_timeout(cb, options);
    update_mss(cb);
}

void Core::take_user_timeout(ControlBlock& cb, const wire::TcpOptions& options) noexcept {
    if (!settings_.user_timeout_option || !options.user_timeout || options.user_timeout->seconds() == 0) return;
    // "USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT))", ours being the lower limit
    const Duration theirs = std::chrono::seconds(options.user_timeout->seconds());
    const Duration timeout = std::min(std::max(settings_.most_user_timeout, settings_.user_timeout), std::max(settings_.user_timeout, theirs));
    cb.user_timeout_ms = static_cast<std::uint32_t>(timeout / Duration{1ms});
}

void Core::open_passive(Arrival& arrival) {
    const Tuple tuple = arrival.tuple();
    const auto path = network_.route(tuple.remote.address, arrival.now);
    if (!path) {
        count(path.error());
        return;
    }
    if (half_open >= settings_.max_half_open) {
        send_cookie(arrival, *path);
        return;
    }
    ControlBlock* cb = make_connection(tuple, *path, arrival.now);
    if (cb == nullptr) {
        count(DropReason::tcp_connection_limit);
        return;
    }
    cb->passive = true;
    cb->irs = arrival.seq;
    cb->rcv_nxt = cb->rcv_adv = cb->last_ack_sent = cb->irs + 1;
    take_syn_options(*cb, arrival.options);
    // An ECN-setup SYN (RFC 3168 6.1.1)
    cb->ecn = settings_.ecn != Ecn::off && arrival.has(wire::kEce) && arrival.has(wire::kCwr);
    cb->iss = initial_sequence_number(tuple, arrival.now);
    if (arrival.used && cb->iss.before(*arrival.used + kIssAboveUsed)) cb->iss = *arrival.used + kIssAboveUsed;  // RFC 9293 3.6.1, (1)
    cb->snd_una = cb->iss;
    cb->snd_nxt = cb->iss + 1;
    set_state(*cb, State::syn_received);
    table_.insert(*cb);
    arm(*cb, Timer::linger, arrival.now + settings_.syn_timeout);
    cb->syn_due = true;
    mark_dirty(*cb);
}

void Core::send_cookie(const Arrival& arrival, const network::Path& path) {
    const Tuple tuple = arrival.tuple();
    const SeqNum iss = cookie_.make(tuple, arrival.seq, peer_mss_of(arrival.options, tuple.remote.address), arrival.now);
    wire::TcpOptions options;
    options.mss = mss_for(path, tuple.remote.address);
    bool ecn = false;
    if (arrival.options.timestamps) {
        const auto clock = static_cast<std::uint32_t>(arrival.now.time_since_epoch() / Duration{1ms}) + timestamp_offset(tuple);
        ecn = settings_.ecn != Ecn::off && arrival.has(wire::kEce) && arrival.has(wire::kCwr);
        options.timestamps = {SynCookie::encode_options(clock, arrival.options, ecn), arrival.options.timestamps->value};
        options.sack_permitted = arrival.options.sack_permitted;
        if (arrival.options.window_scale) options.window_scale = rcv_wnd_shift_;
    }
    last_cookie_ = arrival.now;
    ++counters.cookies_sent;
    answer(arrival, path, iss, arrival.seq + 1, static_cast<std::uint8_t>(wire::kSyn | wire::kAck | (ecn ? wire::kEce : 0)),
           static_cast<std::uint16_t>(std::min(settings_.receive_buffer, 65535u)), options);
}

std::optional<ControlBlock*> Core::accept_cookie(const Arrival& arrival) {
    // Without cookies on their way there is nothing to check (and nothing to guess).
    if (last_cookie_ == Time::min() || arrival.now - last_cookie_ > 128s) return std::nullopt;
    if (arrival.has(wire::kSyn)) return std::nullopt;
    const Tuple tuple = arrival.tuple();
    const SeqNum irs = arrival.seq - 1, iss = arrival.ack - 1;
    const auto mss = cookie_.check(tuple, irs, iss, arrival.now);
    if (!mss) {
        // No reset: this may be the second segment of a peer whose first one, with the ACK that completes the cookie, was lost. It
        // will come again.
        count(DropReason::tcp_bad_cookie);
        return nullptr;
    }
    const auto path = network_.route(tuple.remote.address, arrival.now);
    ControlBlock* cb = path ? make_connection(tuple, *path, arrival.now) : nullptr;
    if (cb == nullptr) {
        count(DropReason::tcp_connection_limit);  // the peer's retransmissions try again
        return nullptr;
    }
    ++counters.cookies_accepted;
    wire::TcpOptions syn;
    bool ecn = false;
    syn.mss = *mss;
    if (arrival.options.timestamps) {
        const auto offered = SynCookie::decode_options(arrival.options.timestamps->echo);
        syn.timestamps = arrival.options.timestamps;
        syn.window_scale = offered.window_scale;
        syn.sack_permitted = offered.sack_permitted;
        ecn = offered.ecn && settings_.ecn != Ecn::off;
    }
    cb->passive = true;
    cb->irs = irs;
    cb->rcv_nxt = cb->last_ack_sent = irs + 1;
    cb->rcv_adv = cb->rcv_nxt + std::min(settings_.receive_buffer, 65535u);
    take_syn_options(*cb, syn);
    cb->ecn = ecn;
    cb->iss = iss;
    cb->snd_una = iss;
    cb->snd_nxt = iss + 1;
    set_state(*cb, State::syn_received);
    table_.insert(*cb);
    return cb;
}

std::expected<Connection*, Stack::ConnectError> Core::connect(const SocketAddress& remote, std::uint64_t user, Duration timeout,
                                                              Time now, const IpAddress& from) {
    now_ = now;
    const auto path = network_.route(remote.address, now, network::Network::Use::open);
    if (!path) return std::unexpected(Stack::ConnectError::no_route);
    const IpAddress source = from.is_unspecified() ? path->source : from;

    ControlBlock* earlier = nullptr;  // in TIME-WAIT with the chosen ports
    Tuple tuple{{source, 0}, remote};
    tuple.local.port = ports_.choose(source, remote, [&](std::uint16_t port) {
        tuple.local.port = port;
        if (port_filter != nullptr && !port_filter(port_filter_context, tuple.local, remote)) return false;
        earlier = table_.find(tuple);
        if (earlier == nullptr) return true;
        // Timestamps tell segments of the two connections apart (RFC 6191, RFC 7323 appendix B.2); a second lets its clock move on.
        return earlier->current == State::time_wait && earlier->released && earlier->timestamps &&
               earlier->deadlines.at(static_cast<std::size_t>(Timer::linger), now) - 2 * settings_.msl + 1s <= now;
    });
    if (tuple.local.port == 0) {
        count(DropReason::no_port);
        return std::unexpected(Stack::ConnectError::no_port);
    }
    SeqNum iss = initial_sequence_number(tuple, now);
    if (earlier != nullptr) {
        const SeqNum least = earlier->snd_nxt + kIssAboveUsed;  // above anything that the earlier connection sent
        if (iss.before(least)) iss = least;
        destroy(*earlier);
    }
    ControlBlock* cb = make_connection(tuple, *path, now);
    if (cb == nullptr) return std::unexpected(Stack::ConnectError::no_memory);
    cb->user = user;
    cb->user_knows = true;
    cb->iss = cb->snd_una = iss;
    cb->snd_nxt = iss + 1;
    // Room for timestamps, which we offer: segments that are filled before the answer comes need not be cut again.
    cb->timestamps = true;
    cb->ecn = settings_.ecn == Ecn::request;
    cb->peer_mss = cb->our_mss;
    update_mss(*cb);
    set_state(*cb, State::syn_sent);
    table_.insert(*cb);
    arm(*cb, Timer::linger, now + timeout);
    cb->syn_due = true;
    mark_dirty(*cb);
    return cb;
}

void Core::establish(ControlBlock& cb, const Arrival& arrival) {
    set_state(cb, State::established);
    disarm(cb, Timer::linger);
    disarm(cb, Timer::retransmit);
    cb.retransmit_timer = RetransmitTimer::none;
    cb.backoff = 0;
    cb.syn_due = false;
    cb.cubic.start(cb.snd_mss);
    // A SYN or SYN,ACK was lost: begin with one segment (RFC 5681 3.1).
    if (cb.syn_transmissions > 1) cb.cubic.set_cwnd(cb.snd_mss);
    cb.recovery_point = cb.snd_una;
    if (cb.engaged()) cb.transfer->begin(cb.snd_una);
    cb.last_progress = arrival.now;
    cb.last_sent = arrival.now;
    arm(cb, Timer::keepalive, arrival.now + settings_.keepalive_idle);
    cb.user_knows = true;
    raise(cb, event::kEstablished);
    if (cb.closing) set_state(cb, State::fin_wait_1);
    if (cb.released) arm(cb, Timer::linger, arrival.now + user_timeout(cb));
    mark_dirty(cb);
}

}  // namespace sallyport::tcp
