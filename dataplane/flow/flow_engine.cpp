#include "dataplane/flow/flow_engine.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "dataplane/flow/alert.h"

namespace sallyport::flow {

using tcp::Connection;

namespace {

constexpr std::size_t kMaxRecordPieces = crypto::kRecordHeaderLength + crypto::kMaxTls12CiphertextLength;

/// Connection::user of a leg: the flow's position and the side; never 0, which is a connection nobody knows yet.
std::uint64_t user_of(channel::FlowId id, channel::Leg side) { return (std::uint64_t{id.index()} << 1) | index_of(side); }

EndReason lost_reason(channel::Leg side, tcp::End end) {
    const bool client = side == channel::Leg::client;
    switch (end) {
        case tcp::End::timed_out:
        case tcp::End::unreachable:
            return client ? EndReason::client_timeout : EndReason::backend_timeout;
        case tcp::End::none:
        case tcp::End::finished:
        case tcp::End::reset:
        case tcp::End::refused:
        case tcp::End::aborted:
            return client ? EndReason::client_reset : EndReason::backend_reset;
    }
    return EndReason::client_reset;
}

bool truncated(const Leg& leg) { return leg.read_done && !leg.plain && !leg.close_notify_received && leg.suite != 0; }

/// A leg that ended without close_notify is why the other one fails then: the operator must see the first cause.
EndReason first_cause(const Flow& flow, EndReason reason) {
    switch (reason) {
        case EndReason::client_reset:
        case EndReason::client_alert:
        case EndReason::client_timeout:
            return truncated(flow.legs[1]) ? EndReason::backend_truncated : reason;
        case EndReason::backend_reset:
        case EndReason::backend_alert:
        case EndReason::backend_timeout:
            return truncated(flow.legs[0]) ? EndReason::client_truncated : reason;
        default:
            return reason;
    }
}

}  // namespace

const char* name(LegPhase phase) noexcept {
    switch (phase) {
        case LegPhase::none: return "none";
        case LegPhase::connecting: return "connecting";
        case LegPhase::handshake: return "handshake";
        case LegPhase::open: return "open";
        case LegPhase::lingering: return "closing";
    }
    return "unknown";
}

bool fin_received(const tcp::Connection& connection) noexcept {
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

void ServiceTable::index() {
    std::ranges::sort(listens, {}, &Listen::address);
    by_id.clear();
    for (std::uint32_t i = 0; i < services.size(); ++i) by_id.emplace_back(services[i].id, i);
    std::ranges::sort(by_id);
}

const ServiceTable::Service* ServiceTable::find(std::uint64_t id) const noexcept {
    const auto found = std::ranges::lower_bound(by_id, id, {}, [](const auto& entry) { return entry.first; });
    return found == by_id.end() || found->first != id ? nullptr : &services[found->second];
}

const ServiceTable::Listen* ServiceTable::find_listen(const SocketAddress& local) const noexcept {
    const IpAddress any = local.address.is_v4() ? IpAddress::from_v4({0, 0, 0, 0}) : IpAddress{};
    for (const IpAddress& address : {local.address, any}) {
        const SocketAddress wanted{address, local.port};
        const auto found = std::ranges::lower_bound(listens, wanted, {}, &Listen::address);
        if (found != listens.end() && found->address == wanted) return &*found;
    }
    return nullptr;
}

FlowEngine::FlowEngine(const EngineSettings& settings, tcp::Stack& stack, crypto::AeadBatch& batch, DropCounters& drops)
    : settings_(settings),
      stack_(stack),
      batch_(batch),
      drops_(drops),
      table_(settings.worker, settings.max_flows),
      wheel_(table_),
      message_(std::make_unique<channel::Message>()),
      openings_(crypto::AeadBatch::kMaxRecords),
      ticket_records_(crypto::AeadBatch::kMaxRecords),
      source_pieces_(kMaxRecordPieces),
      target_pieces_(4096),   // the most that may be reserved at once, in segments of 64 octets
      record_pieces_(4096),
      content_pieces_(kMaxRecordPieces) {
    round_.reserve(kMostFlowsARound);
    sealings_.reserve(2 * kMostFlowsARound);
    stack_.set_fetch(&FlowEngine::fetch, this);
}

FlowEngine::~FlowEngine() { stack_.set_fetch(nullptr, nullptr); }

void FlowEngine::serve(const ServiceTable* table) {
    std::vector<SocketAddress> listens;
    if (table != nullptr) {
        listens.reserve(table->listens.size());
        for (const auto& listen : table->listens) listens.push_back(listen.address);
    }
    stack_.listen_at(std::move(listens));
    services_ = table;
    retimed_ = 0;
}

/// Gives flows the idle time-outs of a table that was swapped in: a few records a turn, so that packets never wait for all of them.
void FlowEngine::retime(Time now) {
    constexpr std::uint32_t kRecordsATurn = 256;
    const std::uint32_t end = std::min(table_.used_up_to(), retimed_ + kRecordsATurn);
    for (; retimed_ < end; ++retimed_) {
        Flow& flow = table_.at(retimed_);
        const ServiceTable::Service* const service = flow.id.value == 0 || services_ == nullptr ? nullptr : services_->find(flow.service);
        if (service == nullptr || flow.idle_timeout == service->idle_timeout) continue;
        flow.idle_timeout = service->idle_timeout;
        if (flow.ending || flow.client_leg().phase != LegPhase::open || flow.backend_leg().phase != LegPhase::open) continue;
        wheel_.remove(flow);   // else it would be looked at as late as before
        arm(flow, now);
    }
    if (retimed_ >= table_.used_up_to()) retimed_ = ~0u;
}

void FlowEngine::attach(Lanes* lanes, Time now) {
    if (lanes_ != nullptr && lanes != nullptr) attach(nullptr, now);   // another control, which knows nothing of the first one's handshakes
    lanes_ = lanes;
    put_off_.assign(lanes == nullptr ? 0 : lanes->size(), {});
    for (std::uint32_t i = 0; i < table_.used_up_to(); ++i) {
        Flow& flow = table_.at(i);
        if (flow.id.value == 0) continue;
        flow.put_off = false;
        if (lanes == nullptr) {
            detach(flow, now);
            continue;
        }
        if (flow.ending) continue;
        flow.known_to_control = true;
        flow.adopted = !flow.waits_for_control;
        if (flow.adopted) {
            ++counters_.control_restarts_survived;
            continue;
        }
        flow.waits_for_control = false;
        arm(flow, now);
        const bool closed = fin_received(*flow.client_leg().connection);
        owe(flow, static_cast<std::uint16_t>(owed::kOpened | owed::kClientOctets | (closed ? owed::kClientClosed : 0)));
    }
    reap();
    if (lanes_ != nullptr) lanes_->publish();
}

/// Control is gone, and what it knew of handshakes is lost with it. A flow whose keys we hold goes on untouched; one in which nobody has
/// answered the client yet waits for the next control; any other cannot go on.
void FlowEngine::detach(Flow& flow, Time now) {
    Leg& client = flow.client_leg();
    Leg& backend = flow.backend_leg();
    flow.owed = 0;
    flow.known_to_control = false;
    client.takes_tickets = backend.takes_tickets = false;
    if (flow.ending) {
        finish_if_gone(flow);
        return;
    }
    if (flow.waits_for_control || (client.phase == LegPhase::open && backend.phase == LegPhase::open)) return;
    const bool untouched =
        !flow.is_probe && client.phase == LegPhase::handshake && !flow.control_answered && client.stream_offset == 0;
    if (!untouched) {
        end(flow, EndReason::control_lost, now);
        return;
    }
    abort_leg(flow, Side::backend);
    flow.has_member = false;
    flow.waits_for_control = true;
    client.forwarded = client.stream_offset;
    arm(flow, now);
}

bool FlowEngine::turn(Time now) {
    bool busy = take_messages(now);
    for (auto ready = stack_.next_ready(); ready.connection != nullptr; ready = stack_.next_ready()) {
        on_event(ready, now);
        busy = true;
    }
    tell_late();
    busy |= pump(now);
    if (retimed_ != ~0u) retime(now);
    wheel_.advance(now, [&](Flow& flow) { on_deadline(flow, now); });
    shed(now);
    reap();
    if (lanes_ != nullptr) lanes_->publish();
    return busy;
}

/// First what an event of a flow touches, and where its other connection is, to which the octets will go; then that.
void FlowEngine::fetch(void* engine, std::uint64_t user, bool again) {
    const Flow& flow = static_cast<FlowEngine*>(engine)->table_.at(static_cast<std::uint32_t>(user >> 1) - 1);
    if (!again) {
        __builtin_prefetch(&flow, 1);
        for (const Leg& leg : flow.legs) __builtin_prefetch(&leg, 1);
    } else if (const Leg& to = flow.legs[1 - (user & 1)]; to.connection != nullptr) {
        tcp::Stack::prefetch(*to.connection);
    }
}

void FlowEngine::on_event(tcp::Stack::Ready ready, Time now) {
    Connection& connection = *ready.connection;
    if (connection.user == 0) {
        if ((ready.events & tcp::event::kEnded) != 0) {   // came and went before we looked
            connection.release();
            return;
        }
        if (!on_accepted(connection, now)) return;
    }
    const auto position = static_cast<std::uint32_t>(connection.user >> 1);
    Flow& flow = table_.at(position - 1);
    on_leg_event(flow, static_cast<Side>(connection.user & 1), ready.events, now);
}

/// False when the connection was refused, and is gone.
bool FlowEngine::on_accepted(Connection& connection, Time now) {
    const ServiceTable::Listen* const listen = services_ == nullptr ? nullptr : services_->find_listen(connection.local());
    Flow* const flow = listen == nullptr ? nullptr : table_.allocate();
    if (flow == nullptr) {
        if (listen != nullptr) drops_.count(DropReason::no_flow);
        connection.abort();
        connection.release();
        return false;
    }
    ++counters_.flows_opened;
    connection.user = user_of(flow->id, Side::client);
    connection.set_receive_limit(std::min(kHandshakeReceiveLimit, settings_.receive_buffer));
    const ServiceTable::Service& service = services_->services[listen->service];
    flow->service = service.id;
    flow->generation = services_->generation;
    flow->idle_timeout = service.idle_timeout;
    flow->handshake_timeout = service.handshake_timeout;
    flow->is_redirect = service.redirect;
    flow->created = flow->last_activity = now;
    flow->client = connection.remote();
    flow->local = connection.local();
    flow->client_leg().connection = &connection;
    flow->client_leg().phase = LegPhase::handshake;
    if (lanes_ == nullptr) {
        flow->waits_for_control = true;
    } else {
        flow->known_to_control = true;
        owe(*flow, owed::kOpened);
    }
    arm(*flow, now);
    return true;
}

void FlowEngine::on_leg_event(Flow& flow, Side side, std::uint8_t events, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    if (leg.connection == nullptr) return;
    const tcp::End ended = (events & tcp::event::kEnded) != 0 ? leg.connection->end() : tcp::End::none;
    if (ended != tcp::End::none && ended != tcp::End::finished) {
        on_leg_lost(flow, side, ended, now);
        return;
    }
    switch (leg.phase) {
        case LegPhase::none:
            break;
        case LegPhase::connecting:
            if ((events & tcp::event::kEstablished) == 0) break;
            leg.phase = LegPhase::handshake;
            owe(flow, owed::kBackendOpened);
            [[fallthrough]];
        case LegPhase::handshake: {
            const bool client = side == Side::client;
            std::uint16_t news = 0;
            if ((events & tcp::event::kReadable) != 0) {
                std::byte first{};
                if (client && !flow.is_redirect && leg.stream_offset == 0 && leg.forwarded == 0 &&
                    copy_from(leg, 0, {&first, 1}) == 1 && first != std::byte{22}) {   // 9.1.1: the first octets must be a TLS handshake record (RFC 8446 5.1)
                    abort_leg(flow, side);
                    end(flow, EndReason::client_not_tls, now);
                    return;
                }
                news |= client ? owed::kClientOctets : owed::kBackendOctets;
            }
            if ((events & tcp::event::kPeerClosed) != 0) {
                // Without a word: nothing can come of it. Control hears of the end alone, and our FIN goes with the acknowledgement of the client's.
                if (client && !flow.is_redirect && flow.known_to_control && leg.stream_offset == 0 && leg.connection->readable() == 0) {
                    end(flow, EndReason::client_handshake_closed, now);
                    return;
                }
                news |= client ? owed::kClientClosed : owed::kBackendClosed;
            }
            if ((news & owed::kBackendClosed) != 0) flow.backend_event = EndReason::backend_lost;
            if (news != 0) owe(flow, news);
            break;
        }
        case LegPhase::open:
            if ((events & tcp::event::kWritable) != 0) flow.last_activity = now;   // a slow reader is not idle
            activate(flow);
            break;
        case LegPhase::lingering:
            discard(flow, side);
            if (ended == tcp::End::finished) release_leg(flow, side);
            finish_if_gone(flow);
            break;
    }
}

void FlowEngine::on_leg_lost(Flow& flow, Side side, tcp::End ended, Time now) {
    Leg& leg = flow.legs[index_of(side)];
    const LegPhase phase = leg.phase;
    release_leg(flow, side);
    if (flow.ending) {
        finish_if_gone(flow);
        return;
    }
    if (side == Side::backend && phase == LegPhase::connecting) {
        flow.backend_event = ended == tcp::End::refused || ended == tcp::End::reset ? EndReason::backend_refused
                                                                                    : EndReason::backend_unreachable;
        owe(flow, owed::kBackendFailed);
        return;
    }
    if (side == Side::backend && phase == LegPhase::handshake) {
        flow.backend_event = EndReason::backend_lost;
        owe(flow, owed::kBackendClosed);
        return;
    }
    // A reset is carried over as a reset: it is no orderly end, and must not look like one.
    abort_leg(flow, other(side));
    end(flow, lost_reason(side, ended), now);
}

void FlowEngine::arm(Flow& flow, Time now) {
    if (flow.ending) {
        wheel_.remove(flow);
        wheel_.set(flow, now + settings_.linger);
    } else if (flow.waits_for_control) {
        wheel_.remove(flow);
        wheel_.set(flow, now + settings_.control_away);
    } else if (flow.client_leg().phase == LegPhase::open && flow.backend_leg().phase == LegPhase::open) {
        wheel_.set(flow, flow.last_activity + flow.idle_timeout);
    } else {
        wheel_.remove(flow);
        wheel_.set(flow, now + flow.handshake_timeout);
    }
}

void FlowEngine::on_deadline(Flow& flow, Time now) {
    if (flow.ending) {
        release_leg(flow, Side::client);
        release_leg(flow, Side::backend);
        finish_if_gone(flow);
        return;
    }
    if (flow.waits_for_control) {
        drops_.count(DropReason::control_away);
        abort_leg(flow, Side::client);
        end(flow, EndReason::control_lost, now);
        return;
    }
    if (flow.client_leg().phase == LegPhase::open && flow.backend_leg().phase == LegPhase::open) {
        arm(flow, now);
        if (flow.deadline <= now) end(flow, EndReason::idle_timeout, now);
        return;
    }
    if (flow.is_redirect) {
        end(flow, EndReason::redirect_refused, now);
        return;
    }
    const bool backend_is_late = flow.is_probe || flow.client_leg().phase == LegPhase::open;
    end(flow, backend_is_late ? EndReason::backend_unreachable : EndReason::client_handshake_timeout, now);
}

void FlowEngine::end(Flow& flow, EndReason reason, Time now) {
    if (!flow.ending) {
        flow.ending = true;
        reason = first_cause(flow, reason);
        flow.reason = reason;
        flow.last_activity = now;
        ++counters_.flows_ended;
        ++counters_.ended_by[static_cast<std::size_t>(reason)];
    }
    const bool short_ends[] = {cut_short(flow, Side::client, flow.reason), cut_short(flow, Side::backend, flow.reason)};
    for (const Side side : {Side::client, Side::backend}) {
        Leg& leg = flow.legs[index_of(side)];
        if (leg.connection == nullptr) continue;
        if (leg.phase == LegPhase::connecting)
            abort_leg(flow, side);
        else
            close_in_order(flow, side, short_ends[index_of(side)] ? alert::kInternalError : alert::kCloseNotify);
    }
    arm(flow, now);
    finish_if_gone(flow);
}

/// Whether a close_notify on this leg would be a lie: the other leg has sent what this one has not been given, or we end the flow of our own
/// accord while the other leg's stream goes on. close_notify says that no more will come from where the stream comes from, and the
/// application may take what it has for all there is (RFC 8446 6.1, truncation); where that is not so we close with an error alert, the only
/// other thing that may come before our FIN. Whoever can hold up the other leg's packets brings an idle time-out about, so it is never taken
/// for an end; a shutdown is nobody's attack, and a flow that rests then (all that came has been delivered and acknowledged) ends in order.
bool FlowEngine::cut_short(Flow& flow, Side side, EndReason reason) {
    const Leg& from = flow.legs[index_of(other(side))];
    if (from.phase != LegPhase::open || from.read_done) return false;
    if (from.connection->readable() > 0 || reason == EndReason::idle_timeout || reason == EndReason::operator_ended) return true;
    const Leg& to = flow.legs[index_of(side)];
    return reason == EndReason::shutdown && to.connection != nullptr && to.connection->outstanding() > 0;
}

/// Nothing that the batch has borrowed may go before it is done with it.
void FlowEngine::quiesce() {
    if (batch_.queued() > 0) batch_.flush();
}

void FlowEngine::abort_leg(Flow& flow, Side side) {
    Leg& leg = flow.legs[index_of(side)];
    if (leg.connection == nullptr) return;
    quiesce();
    leg.connection->abort();
    release_leg(flow, side);
}

/// Ends our side of a leg: the alert (on an open TLS leg), FIN, and from then on what arrives is discarded.
void FlowEngine::close_in_order(Flow& flow, Side side, std::uint8_t description) {
    Leg& leg = flow.legs[index_of(side)];
    if (leg.connection == nullptr || leg.phase == LegPhase::lingering) return;
    if (!leg.write_done) {
        if (leg.phase == LegPhase::open && !leg.plain) {
            const std::byte content[2] = {std::byte{alert::level_of(description)}, std::byte{description}};
            if (!seal_now(leg, crypto::ContentType::alert, content)) {
                abort_leg(flow, side);   // no room even for an alert: the peer must not take the end for an orderly one
                return;
            }
            ++counters_.alerts_sent;
        } else if (leg.phase == LegPhase::open && description != alert::kCloseNotify) {
            abort_leg(flow, side);   // in plain text only a reset says that something went wrong
            return;
        }
        leg.connection->close();
        leg.write_done = true;
    }
    linger(flow, side);
}

void FlowEngine::wipe_keys(Leg& leg) {
    batch_.forget(leg.read);
    batch_.forget(leg.write);
    leg.read.clear();
    leg.write.clear();
    leg.read_secret.clear();
    leg.write_secret.clear();
}

void FlowEngine::linger(Flow& flow, Side side) {
    Leg& leg = flow.legs[index_of(side)];
    quiesce();
    leg.phase = LegPhase::lingering;
    leg.opened.clear();
    wipe_keys(leg);
    discard(flow, side);
}

void FlowEngine::discard(Flow& flow, Side side) {
    Leg& leg = flow.legs[index_of(side)];
    if (leg.connection->readable() > 0) leg.connection->consume(leg.connection->readable());
    if (leg.connection->peer_finished()) release_leg(flow, side);
}

void FlowEngine::release_leg(Flow& flow, Side side) {
    Leg& leg = flow.legs[index_of(side)];
    if (leg.connection == nullptr) return;
    quiesce();
    leg.connection->release();
    leg.connection = nullptr;
    leg.phase = LegPhase::none;
    leg.opened.clear();
    wipe_keys(leg);
}

void FlowEngine::finish_if_gone(Flow& flow) {
    if (!flow.ending || flow.client_leg().connection != nullptr || flow.backend_leg().connection != nullptr) return;
    if (flow.known_to_control && lanes_ != nullptr) {
        owe(flow, owed::kEnded);
        return;
    }
    flow.owed = 0;
    if (!flow.gone) gone_.push_back(&flow);
    flow.gone = true;
}

void FlowEngine::reap() {
    for (Flow* const flow : gone_) {
        wheel_.remove(*flow);
        flow->active = flow->put_off = false;   // its id on the lists finds nothing any more
        table_.free(*flow);
    }
    gone_.clear();
}

/// While connections hold all the packet buffers that they may, resets what no flow waits for any more, then ends the flow that holds most of them, one a pass over the table, which goes in
/// portions; one that has not moved for a while counts for more if it holds much, since the others will give theirs back by themselves.
void FlowEngine::shed(Time now) {
    constexpr std::uint32_t kPortion = 256;
    constexpr Duration kStuck = 2s;
    constexpr std::uint32_t kStuckWeighs = 4;
    if (stack_.pressure() != tcp::Pressure::full) {
        shedding_ = {};
        return;
    }
    if (stack_.shed_orphan()) return;
    const std::uint32_t until = std::min(table_.used_up_to(), shedding_.next + kPortion);
    for (; shedding_.next < until; ++shedding_.next) {
        const Flow& flow = table_.at(shedding_.next);
        if (flow.id.value == 0) continue;
        std::uint32_t held = 0;
        for (const Leg& leg : flow.legs)
            if (leg.connection != nullptr) held += leg.connection->buffers_held();
        if (held == 0) continue;
        ++shedding_.holders;
        shedding_.held += held;
        Shedding::Candidate& candidate = now - flow.last_activity >= kStuck ? shedding_.stuck : shedding_.moving;
        if (held > candidate.held) candidate = {flow.id, held};
    }
    if (shedding_.next < table_.used_up_to()) return;
    // Who makes no progress weighs more, but only with an even share or more of what all hold: a handshake or a request that waits for the
    // buffers of slow readers would else give way to them, who move a little all the time.
    const bool even = std::uint64_t{shedding_.stuck.held} * shedding_.holders >= shedding_.held;
    const bool stuck = shedding_.stuck.held * (even ? kStuckWeighs : 1) > shedding_.moving.held;
    if (Flow* const victim = shedding_.holders > 0 ? table_.find((stuck ? shedding_.stuck : shedding_.moving).flow) : nullptr) {
        abort_leg(*victim, Side::client);
        abort_leg(*victim, Side::backend);
        end(*victim, EndReason::out_of_memory, now);
    }
    shedding_ = {};
}

void FlowEngine::activate(Flow& flow) {
    if (flow.active) return;
    flow.active = true;
    active_.push_back(flow.id);
}

void FlowEngine::end_all(EndReason reason, bool resting_only, Time now) {
    const auto moves = [](const Flow& flow) {
        return std::ranges::any_of(flow.legs, [](const Leg& leg) {
            return leg.phase == LegPhase::open && (leg.connection->readable() > 0 || leg.connection->outstanding() > 0);
        });
    };
    for (std::uint32_t i = 0; i < table_.used_up_to(); ++i) {
        Flow& flow = table_.at(i);
        if (flow.id.value == 0 || flow.ending || (resting_only && moves(flow))) continue;
        end(flow, reason, now);
    }
    reap();
}

std::vector<FlowStatus> FlowEngine::statuses(std::uint32_t& first, std::size_t limit, Time now) {
    std::vector<FlowStatus> result;
    std::uint32_t i = first;
    for (; i < table_.used_up_to() && result.size() < limit; ++i) {
        Flow& flow = table_.at(i);
        if (flow.id.value == 0 || flow.is_probe) continue;   // a health check is no client's flow
        const Leg& client = flow.client_leg();
        const Leg& backend = flow.backend_leg();
        FlowStatus status;
        status.id = flow.id;
        status.service = flow.service;
        status.generation = flow.generation;
        status.pool = flow.pool;
        status.member = flow.member;
        status.has_member = flow.has_member;
        status.ending = flow.ending;
        status.client = flow.client;
        status.local = flow.local;
        status.backend = flow.backend;
        status.client_phase = client.phase;
        status.backend_phase = backend.phase;
        status.client_suite = client.suite;
        status.client_group = client.group;
        status.backend_suite = backend.suite;
        status.backend_group = backend.group;
        status.backend_plain = backend.plain;
        status.client_in = client.octets_in;
        status.client_out = client.octets_out;
        status.backend_in = backend.octets_in;
        status.backend_out = backend.octets_out;
        status.age = now - flow.created;
        if (client.connection != nullptr) {
            status.client_tcp_known = true;
            status.client_tcp = client.connection->status();
        }
        if (backend.connection != nullptr) {
            status.backend_tcp_known = true;
            status.backend_local = backend.connection->local();
            status.backend_tcp = backend.connection->status();
        }
        result.push_back(status);
    }
    first = i < table_.used_up_to() ? i : 0;
    return result;
}

std::vector<FlowEngine::Adopted> FlowEngine::adopted() {
    std::map<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>, std::uint64_t> counts;
    for (std::uint32_t i = 0; i < table_.used_up_to(); ++i) {
        const Flow& flow = table_.at(i);
        if (flow.id.value == 0 || !flow.adopted || flow.ending) continue;
        ++counts[{flow.service, flow.has_member ? flow.pool : 0, flow.has_member ? flow.member : 0}];
    }
    std::vector<Adopted> result;
    for (const auto& [key, flows] : counts) result.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), flows});
    return result;
}

std::uint64_t FlowEngine::end_matching(const Filter& filter, std::uint32_t& first, std::uint32_t limit, Time now) {
    const auto meant = [&](const Flow& flow) {
        return flow.id.value != 0 && !flow.is_probe && !flow.ending && (filter.service == 0 || flow.service == filter.service) &&
               ((filter.pool == 0 && filter.member == 0) || flow.has_member) && (filter.pool == 0 || flow.pool == filter.pool) &&
               (filter.member == 0 || flow.member == filter.member) && (filter.flow.value == 0 || flow.id == filter.flow) &&
               (filter.any_client || filter.client.contains(flow.client.address)) &&
               (filter.client_port == 0 || flow.client.port == filter.client_port);
    };
    std::uint64_t ended = 0;
    std::uint32_t i = first;
    for (; i < table_.used_up_to() && limit > 0; ++i, --limit) {
        if (!meant(table_.at(i))) continue;
        end(table_.at(i), EndReason::operator_ended, now);
        ++ended;
    }
    first = i < table_.used_up_to() ? i : 0;
    reap();
    return ended;
}

void FlowEngine::end_on_addresses(const std::function<bool(const IpAddress&)>& gone, Time now) {
    for (std::uint32_t i = 0; i < table_.used_up_to(); ++i) {
        Flow& flow = table_.at(i);
        if (flow.id.value == 0) continue;
        const bool affected = std::ranges::any_of(
            flow.legs, [&](const Leg& leg) { return leg.connection != nullptr && gone(leg.connection->local().address); });
        if (!affected) continue;
        abort_leg(flow, Side::client);
        abort_leg(flow, Side::backend);
        end(flow, EndReason::address_removed, now);
    }
    reap();
}

}  // namespace sallyport::flow
