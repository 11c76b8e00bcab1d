#include "dataplane/tcp/stack.h"

#include <algorithm>

#include "crypto/check.h"
#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

const char* name(State state) noexcept {
    switch (state) {
        case State::closed: return "CLOSED";
        case State::listen: return "LISTEN";
        case State::syn_sent: return "SYN-SENT";
        case State::syn_received: return "SYN-RECEIVED";
        case State::established: return "ESTABLISHED";
        case State::fin_wait_1: return "FIN-WAIT-1";
        case State::fin_wait_2: return "FIN-WAIT-2";
        case State::close_wait: return "CLOSE-WAIT";
        case State::closing: return "CLOSING";
        case State::last_ack: return "LAST-ACK";
        case State::time_wait: return "TIME-WAIT";
    }
    return "unknown";
}

namespace {

KeyedHash hash_with(const Settings& settings, std::size_t which) noexcept {
    return KeyedHash(std::span<const std::uint8_t, 16>(settings.secret.data() + 16 * which, 16));
}

/// The least shift that lets the window field tell all of the buffer (RFC 7323 2.3).
std::uint8_t shift_for(std::uint32_t receive_buffer) noexcept {
    std::uint8_t shift = 0;
    while (shift < wire::kWindowScaleMax && receive_buffer >> shift > 0xffff) ++shift;
    return shift;
}

}  // namespace

Core::Core(const Settings& settings, rte_mempool* transmit_buffers, network::Network& network, DropCounters& drops)
    : settings_(settings), pool_(transmit_buffers), network_(network), drops_(drops), hash_(hash_with(settings, 0)),
      table_hash_(hash_with(settings, 1)), timestamp_hash_(settings.timestamp_secret),
      blocks_(settings.max_connections), table_(settings.max_connections, table_hash_, blocks_), transfers_(settings.max_connections),
      delayed_acks_(settings.max_connections),
      ports_(settings.port_low, settings.port_high, hash_), cookie_(hash_),
      max_send_segments_(std::max(kMaxSendSegments, settings.send_buffer / 1024)),
      max_payload_(std::uint32_t{rte_pktmbuf_data_room_size(transmit_buffers)} - RTE_PKTMBUF_HEADROOM),
      large_payload_(settings.large_buffers == nullptr ? 0 : std::uint32_t{rte_pktmbuf_data_room_size(settings.large_buffers)} - RTE_PKTMBUF_HEADROOM),
      large_weight_(static_cast<std::uint8_t>(std::clamp(large_payload_ / max_payload_, 1u, 255u))),
      rcv_wnd_shift_(shift_for(settings.receive_buffer)) {
    SALLYPORT_CHECK(settings.port_low > 0 && settings.port_low <= settings.port_high);
}

Core::~Core() {
    // What connections hold goes back to the pools, also of those that nobody released.
    table_.for_each([&](ControlBlock& cb) { destroy(cb); });
    while (ControlBlock* cb = ended_.front()) destroy(*cb);
}

void Core::listen(const SocketAddress& local) {
    const auto at = std::ranges::lower_bound(listeners_, local);
    if (at == listeners_.end() || *at != local) listeners_.insert(at, local);
}

void Core::unlisten(const SocketAddress& local) {
    std::erase(listeners_, local);
    drop_half_open_without_listener();
}

void Core::listen_at(std::vector<SocketAddress> all) {
    std::ranges::sort(all);
    const bool some_gone = !std::ranges::includes(all, listeners_);
    listeners_ = std::move(all);
    if (some_gone) drop_half_open_without_listener();
}

void Core::drop_half_open_without_listener() {
    if (half_open == 0) return;
    table_.for_each([&](ControlBlock& cb) {
        if (cb.current == State::syn_received && cb.passive && !listening(cb.tuple.local)) end(cb, End::aborted);
    });
}

bool Core::listening(const SocketAddress& local) const noexcept {
    const IpAddress any = local.address.is_v4() ? IpAddress::from_v4({0, 0, 0, 0}) : IpAddress{};
    return std::ranges::binary_search(listeners_, local) || std::ranges::binary_search(listeners_, SocketAddress{any, local.port});
}

Stack::Ready Core::next_ready() noexcept {
    ControlBlock* cb = ready_.pop_front();
    if (cb == nullptr) return {};
    const std::uint8_t events = cb->events;
    cb->events = 0;
    return {cb, events};
}

Time Core::next_timer() const noexcept { return std::min(wheel_.next(), delayed_acks_.next()); }

void Core::set_state(ControlBlock& cb, State state) noexcept {
    if (cb.current == State::syn_received) --half_open;
    if (cb.current == State::time_wait) time_wait_.remove(cb);
    cb.current = state;
    if (state == State::syn_received) ++half_open;
    if (state == State::time_wait) {
        orphans_.remove(cb);
        time_wait_.push_back(cb);
    }
}

void Core::raise(ControlBlock& cb, std::uint8_t events) noexcept {
    if (!cb.user_knows || cb.released) return;
    cb.events |= events;
    ready_.push_back(cb);
}


Transfer* Transfer::none() noexcept {
    static constinit const Transfer kNone;
    return const_cast<Transfer*>(&kNone);   // never changed: see Core::engage()
}

Transfer& Core::engage(ControlBlock& cb) noexcept {
    if (cb.transfer == Transfer::none()) cb.transfer = transfers_.make(cb.snd_una);   // there are as many as connections
    return *cb.transfer;
}

void Core::disengage(ControlBlock& cb) noexcept {
    if (cb.transfer == Transfer::none()) return;
    cb.transfer->send_buffer.clear();
    cb.transfer->reassembly.clear();
    transfers_.destroy(cb.transfer);
    cb.transfer = Transfer::none();
}

void Core::detach(ControlBlock& cb) noexcept {
    set_state(cb, State::closed);
    table_.remove(cb);
    wheel_.clear(cb);
    delayed_acks_.remove(cb);
    cb.deadlines.clear();
    cb.retransmit_timer = RetransmitTimer::none;
    dirty_.remove(cb);
    starved_.remove(cb);
    orphans_.remove(cb);
    disengage(cb);
    settle(cb);
}

void Core::destroy(ControlBlock& cb) noexcept {
    if (cb.current == State::closed) ended_.remove(cb);
    detach(cb);
    ready_.remove(cb);
    cb.receive_queue.clear();
    settle(cb);
    blocks_.destroy(&cb);
    ++destroyed_;
}

void Core::end(ControlBlock& cb, End reason) noexcept {
    if (cb.released || !cb.user_knows) {
        destroy(cb);
        return;
    }
    const bool told = cb.ended != End::none;  // TIME-WAIT has told it already
    detach(cb);
    ended_.push_back(cb);
    if (told) return;
    cb.ended = reason;
    if (reason != End::aborted) raise(cb, event::kEnded);
}

void Core::abort_all() noexcept {
    table_.for_each([this](ControlBlock& cb) {
        if (cb.current == State::time_wait) return;
        reset_peer(cb);
        end(cb, End::aborted);
    });
}

void Core::enter_time_wait(ControlBlock& cb, Time now) noexcept {
    set_state(cb, State::time_wait);
    disengage(cb);
    settle(cb);
    disarm(cb, Timer::retransmit);
    disarm(cb, Timer::keepalive);
    cb.retransmit_timer = RetransmitTimer::none;
    arm(cb, Timer::linger, now + 2 * settings_.msl);
    cb.ended = End::finished;
    raise(cb, event::kEnded);
}

// ---- the face ----

Stack::Stack(const Settings& settings, rte_mempool* transmit_buffers, network::Network& network, DropCounters& drops)
    : impl_(std::make_unique<Impl>(settings, transmit_buffers, network, drops)) {}
Stack::~Stack() = default;

void Stack::listen(const SocketAddress& local) { impl_->listen(local); }
void Stack::unlisten(const SocketAddress& local) { impl_->unlisten(local); }
void Stack::listen_at(std::vector<SocketAddress> all) { impl_->listen_at(std::move(all)); }
void Stack::segment_arrives(const wire::Segment& segment, rte_mbuf* payload, Time now) {
    impl_->segment_arrives(segment, payload, now);
}
void Stack::segments_arrive(std::span<const Arriving> burst, Time now) { impl_->segments_arrive(burst, now); }
void Stack::icmp_error(const network::Received::IcmpError& error, Time now) { impl_->icmp_error(error, now); }
void Stack::set_fetch(Fetch fetch, void* context) noexcept {
    impl_->fetch = fetch;
    impl_->fetch_context = context;
}
void Stack::set_port_filter(PortFilter filter, void* context) noexcept {
    impl_->port_filter = filter;
    impl_->port_filter_context = context;
}
std::expected<Connection*, Stack::ConnectError> Stack::connect(const SocketAddress& remote, std::uint64_t user, Duration timeout,
                                                               Time now, const IpAddress& from) {
    return impl_->connect(remote, user, timeout, now, from);
}
Stack::Ready Stack::next_ready() noexcept { return impl_->next_ready(); }
void Stack::prefetch(const Connection& connection) noexcept { tcp::prefetch(static_cast<const ControlBlock&>(connection)); }
void Stack::output(Time now) { impl_->output(now); }
void Stack::set_saturated(bool saturated) noexcept { impl_->saturated = saturated; }
void Stack::advance(Time now) { impl_->advance(now); }
Time Stack::next_timer() const noexcept { return impl_->next_timer(); }
const Stack::Counters& Stack::counters() const noexcept { return impl_->counters; }
std::uint32_t Stack::connections() const noexcept { return impl_->connections(); }
std::uint32_t Stack::half_open() const noexcept { return impl_->half_open; }
std::uint64_t Stack::buffers_held() const noexcept { return impl_->buffers_held(); }
bool Stack::shed_orphan() noexcept { return impl_->shed_orphan(); }
void Stack::abort_all() noexcept { impl_->abort_all(); }
Pressure Stack::pressure() const noexcept { return impl_->pressure(); }

}  // namespace sallyport::tcp
