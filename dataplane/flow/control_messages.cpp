#include <algorithm>

#include "dataplane/flow/alert.h"
#include "dataplane/flow/flow_engine.h"

/// Control's messages and ours to it. Control is trusted with the keys, not with our memory: every value is checked.
namespace sallyport::flow {

using channel::MessageType;

namespace {

constexpr std::size_t kMessagesATurn = 256;
/// Octets in one message: even one octet a buffer fits the list of pieces.
constexpr std::uint32_t kForwardChunk = 4096;
/// For the TLS handshake of a health check, connecting included; control has a shorter one.
constexpr Duration kProbeTimeout = 10s;
/// No connection gets to such a sequence number; one that is spoilt could make it wrap.
constexpr std::uint64_t kMaxSequence = std::uint64_t{1} << 48;

bool valid(channel::Leg side) { return side == channel::Leg::client || side == channel::Leg::backend; }

EndReason checked_reason(std::uint8_t value) {
    return value < static_cast<std::uint8_t>(EndReason::count_) ? static_cast<EndReason>(value) : EndReason::control_refused;
}

}  // namespace

bool FlowEngine::take_messages(Time now) {
    if (lanes_ == nullptr) return false;
    bool any = false;
    for (std::size_t i = 0; i < lanes_->size(); ++i)
        for (std::size_t n = 0; n < kMessagesATurn && lanes_->at(i).from_control.read(*message_); ++n) {
            on_message(*message_, i, now);
            any = true;
        }
    return any;
}

void FlowEngine::count_bad_message() { drops_.count(DropReason::channel_bad_message); }

void FlowEngine::on_message(const channel::Message& message, std::size_t lane, Time now) {
    if (message.type() == MessageType::open_probe) {
        if (const auto* const request = message.fixed<channel::OpenProbe>())
            on_open_probe(*request, lane, now);
        else
            count_bad_message();
        return;
    }
    Flow* const flow = table_.find(message.flow());
    if (flow == nullptr || flow->ending) {
        drops_.count(DropReason::channel_stale_flow);
        return;
    }
    switch (message.type()) {
        case MessageType::send_octets:
            on_send_octets(*flow, message, now);
            return;
        case MessageType::open_backend:
            if (const auto* const request = message.fixed<channel::OpenBackend>())
                on_open_backend(*flow, *request, now);
            else
                count_bad_message();
            return;
        case MessageType::handoff:
            on_handoff(*flow, message, now);
            return;
        case MessageType::end_leg:
            if (const auto* const request = message.fixed<channel::EndLeg>(); request != nullptr && valid(request->leg))
                on_end_leg(*flow, *request, now);
            else
                count_bad_message();
            return;
        case MessageType::open_probe:
        case MessageType::flow_opened:
        case MessageType::stream_octets:
        case MessageType::backend_opened:
        case MessageType::backend_failed:
        case MessageType::leg_closed:
        case MessageType::flow_ended:
        case MessageType::ticket_record:
        case MessageType::tickets_over:
        case MessageType::probe_opened:
            break;
    }
    count_bad_message();
}

/// Drops the octets that control has consumed. False when the offset cannot be.
bool FlowEngine::consume_to(Leg& leg, std::uint64_t offset) {
    if (offset < leg.stream_offset) return true;   // an older message of the same handshake
    if (offset > leg.forwarded) return false;
    consume(leg, static_cast<std::uint32_t>(offset - leg.stream_offset));
    return true;
}

void FlowEngine::on_send_octets(Flow& flow, const channel::Message& message, Time now) {
    const auto* const request = message.fixed<channel::SendOctets>();
    if (request == nullptr || !valid(request->leg)) return count_bad_message();
    Leg& leg = flow.legs[index_of(request->leg)];
    if (request->leg == Side::backend && request->attempt != leg.attempt) return;   // of an attempt that has failed since
    if (leg.phase != LegPhase::handshake) return;   // the leg was lost meanwhile; its event is on the way
    if (!consume_to(leg, request->consumed)) return count_bad_message();
    const auto octets = message.payload<channel::SendOctets>();
    if (octets.empty()) return;
    if (request->leg == Side::client) flow.control_answered = true;
    if (leg.connection->send(octets)) return;
    drops_.count(DropReason::no_buffer);
    abort_leg(flow, Side::client);
    abort_leg(flow, Side::backend);
    end(flow, EndReason::out_of_memory, now);
}

void FlowEngine::on_open_backend(Flow& flow, const channel::OpenBackend& request, Time now) {
    Leg& leg = flow.backend_leg();
    if (leg.phase != LegPhase::none || request.remote.port == 0 || flow.is_redirect) return count_bad_message();
    leg = Leg();
    leg.attempt = request.attempt;
    flow.backend = request.remote;
    flow.pool = request.pool;
    flow.member = request.member;
    flow.has_member = true;
    const Duration timeout = std::chrono::milliseconds(std::clamp<std::uint32_t>(request.connect_timeout_ms, 10, 120'000));
    const auto connection = stack_.connect(request.remote, (std::uint64_t{flow.id.index()} << 1) | 1, timeout, now);
    if (!connection) {
        flow.backend_event =
            connection.error() == tcp::Stack::ConnectError::no_route ? EndReason::backend_unreachable : EndReason::out_of_memory;
        owe(flow, owed::kBackendFailed);
        return;
    }
    leg.connection = *connection;
    leg.phase = LegPhase::connecting;
    leg.connection->set_receive_limit(std::min(kHandshakeReceiveLimit, settings_.receive_buffer));
    if (request.speaks_first == 1) leg.connection->speak_first();
}

std::size_t FlowEngine::lane_number(const Flow& flow) const noexcept { return flow.is_probe ? flow.probe_lane : lanes_->number_of(flow.id); }

channel::RingProducer& FlowEngine::lane_of(const Flow& flow) noexcept {
    return lanes_->at(lane_number(flow)).to_control;
}

void FlowEngine::on_open_probe(const channel::OpenProbe& request, std::size_t lane, Time now) {
    Flow* const flow = table_.allocate();
    if (flow == nullptr) {
        drops_.count(DropReason::no_flow);
        // Lost when the lane is full: then control's own time-out ends the check.
        (void)lanes_->at(lane).to_control.write(MessageType::probe_opened, channel::FlowId{}, channel::ProbeOpened{request.probe});
        return;
    }
    ++counters_.probes;
    flow->is_probe = true;
    flow->known_to_control = true;
    flow->probe = request.probe;
    flow->probe_lane = lane;
    flow->handshake_timeout = kProbeTimeout;
    flow->created = flow->last_activity = now;
    owe(*flow, owed::kProbeOpened);
    on_open_backend(*flow, channel::OpenBackend{request.remote, 1, 0, request.connect_timeout_ms, 0, 0}, now);
    flow->has_member = false;
    arm(*flow, now);
}

void FlowEngine::on_handoff(Flow& flow, const channel::Message& message, Time now) {
    const auto* const handoff = message.fixed<channel::Handoff>();
    if (handoff == nullptr || !valid(handoff->leg) || flow.is_redirect) return count_bad_message();
    Leg& leg = flow.legs[index_of(handoff->leg)];
    if (handoff->leg == Side::backend && handoff->attempt != leg.attempt) return;
    if (leg.phase != LegPhase::handshake) return;
    const bool plain = handoff->protection == channel::Protection::plain;
    const crypto::CipherSuite* const suite = crypto::find_cipher_suite(handoff->suite);
    if (plain ? handoff->leg == Side::client : (handoff->protection != channel::Protection::tls || suite == nullptr))
        return count_bad_message();   // a client's leg is never plain
    const auto first = message.payload<channel::Handoff>();
    if (first.size() > (handoff->leg == Side::client ? 0 : crypto::kMaxPlaintextLength)) return count_bad_message();
    if (handoff->read_sequence > kMaxSequence || handoff->write_sequence > kMaxSequence) return count_bad_message();
    if (!consume_to(leg, handoff->consumed)) return count_bad_message();
    leg.plain = plain;
    if (!plain) {
        leg.suite = handoff->suite;
        leg.group = handoff->group;
        const std::size_t key = crypto::key_length(suite->aead);
        const std::size_t iv =
            suite->version == crypto::Version::tls12 && suite->aead != crypto::Aead::chacha20_poly1305 ? 4 : 12;
        crypto::TrafficKey read, write;
        read.key.assign(std::span(handoff->read_key).first(key));
        read.iv.assign(std::span(handoff->read_iv).first(iv));
        write.key.assign(std::span(handoff->write_key).first(key));
        write.iv.assign(std::span(handoff->write_iv).first(iv));
        leg.read.install(*suite, read, handoff->read_sequence, 0);
        leg.write.install(*suite, write, handoff->write_sequence, handoff->explicit_nonce);
        if (suite->version == crypto::Version::tls13) {
            const std::size_t hash = crypto::hash_length(suite->hash);
            leg.read_secret.assign(std::span(handoff->read_secret).first(hash));
            leg.write_secret.assign(std::span(handoff->write_secret).first(hash));
        }
        leg.takes_tickets =
            handoff->leg == Side::backend && handoff->expect_tickets == 1 && suite->version == crypto::Version::tls13;
    }
    leg.phase = LegPhase::open;
    if (handoff->leg == Side::client) {
        flow.control_answered = true;
        // After the client's Finished there are only session tickets, for its next connection: they leave with the first answer. (In 1.2 it waits for ours.)
        if (suite->version == crypto::Version::tls13) leg.connection->hold_back();
    }
    flow.owed &= static_cast<std::uint16_t>(
        ~(handoff->leg == Side::client ? owed::kClientOctets | owed::kClientClosed : owed::kBackendOctets | owed::kBackendClosed));
    leg.connection->set_receive_limit(settings_.receive_buffer);
    if (!first.empty()) {
        const bool sent = plain ? leg.connection->send(first) : seal_now(leg, crypto::ContentType::application_data, first);
        if (!sent) {
            fail_record(flow, Side::backend, alert::kInternalError, EndReason::out_of_memory, now);
            return;
        }
    }
    if (flow.client_leg().phase == LegPhase::open && flow.backend_leg().phase == LegPhase::open) {
        flow.last_activity = now;
        wheel_.remove(flow);
        arm(flow, now);
    }
    activate(flow);
}

/// Also of a flow whose legs have both been handed off: control ends it when a certificate that it was opened with is no longer good.
void FlowEngine::on_end_leg(Flow& flow, const channel::EndLeg& request, Time now) {
    if (request.leg == Side::backend && request.attempt != flow.backend_leg().attempt) return;
    const EndReason reason = checked_reason(request.reason);
    switch (request.how) {
        case channel::EndHow::retry_backend:
            if (flow.backend_leg().phase == LegPhase::open) return count_bad_message();   // what it has been sent cannot be sent again
            release_leg(flow, Side::backend);   // what control has sent before (an alert) and FIN still go out; the leg is free for the next attempt
            flow.owed &= static_cast<std::uint16_t>(~(owed::kBackendOpened | owed::kBackendOctets | owed::kBackendClosed | owed::kBackendFailed));
            return;
        case channel::EndHow::reset:
            abort_leg(flow, Side::client);
            abort_leg(flow, Side::backend);
            end(flow, reason, now);
            return;
        case channel::EndHow::close:
            end(flow, reason, now);
            return;
    }
    count_bad_message();
}

// ---- to control ----

void FlowEngine::owe(Flow& flow, std::uint16_t what) {
    if (lanes_ == nullptr || !flow.known_to_control) return;
    flow.owed |= what;
    if (!flow.put_off) tell(flow);
}

/// Forwards octets of a handshake that control has not been given yet. False when the lane is full.
bool FlowEngine::tell_octets(Flow& flow, Side side) {
    Leg& leg = flow.legs[index_of(side)];
    if (leg.connection == nullptr || leg.phase != LegPhase::handshake) return true;
    const std::uint64_t end_offset = leg.stream_offset + leg.connection->readable();
    while (leg.forwarded < end_offset) {
        const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(end_offset - leg.forwarded, kForwardChunk));
        std::array<std::byte, kForwardChunk> octets;
        if (copy_from(leg, static_cast<std::uint32_t>(leg.forwarded - leg.stream_offset), std::span(octets).first(length)) != length)
            return true;
        if (!lane_of(flow).write(MessageType::stream_octets, flow.id,
                                 channel::StreamOctets{side, leg.attempt, leg.forwarded},
                                 std::span(octets).first(length)))
            return false;
        leg.forwarded += length;
    }
    return true;
}

/// Tells control what it is owed, now or, where the lane is full or others wait for it to be emptied, after them.
void FlowEngine::tell(Flow& flow) {
    if (lanes_ == nullptr) return;
    auto& others = put_off_[lane_number(flow)];
    if (others.empty() && write_owed(flow)) return;
    drops_.count(DropReason::channel_full);   // once, however often it is tried again
    flow.put_off = true;
    others.push_back(flow.id);
}

/// Who waited longest is told first, and nobody behind one for whom there is no room: a control that falls behind costs a turn one try a lane, not one for each that waits.
void FlowEngine::tell_late() {
    for (auto& waiting : put_off_)
        while (!waiting.empty()) {
            Flow* const flow = table_.find(waiting.front());
            if (flow != nullptr && flow->put_off) {
                ++counters_.told_late;
                flow->put_off = false;   // what is written may be the last of it
                if (!write_owed(*flow)) {
                    flow->put_off = true;
                    break;
                }
            }
            waiting.pop_front();
        }
}

/// Writes the messages that are owed, in order, as far as the lane has room. True when nothing is owed any more.
bool FlowEngine::write_owed(Flow& flow) {
    channel::RingProducer& lane = lane_of(flow);
    const Leg& client = flow.client_leg();
    const Leg& backend = flow.backend_leg();
    const auto write_one = [&](std::uint16_t what) -> bool {
        switch (what) {
            case owed::kProbeOpened:
                return lane.write(MessageType::probe_opened, flow.id, channel::ProbeOpened{flow.probe});
            case owed::kOpened:
                return lane.write(MessageType::flow_opened, flow.id,
                                  channel::FlowOpened{flow.client, flow.local, flow.service});
            case owed::kClientOctets:
                return tell_octets(flow, Side::client);
            case owed::kClientClosed:
                return lane.write(MessageType::leg_closed, flow.id, channel::LegEvent{Side::client, client.attempt, static_cast<std::uint8_t>(EndReason::client_handshake_closed)});
            case owed::kBackendOpened:
                return lane.write(MessageType::backend_opened, flow.id, channel::LegEvent{Side::backend, backend.attempt, 0});
            case owed::kBackendFailed:
                return lane.write(MessageType::backend_failed, flow.id, channel::LegEvent{Side::backend, backend.attempt, static_cast<std::uint8_t>(flow.backend_event)});
            case owed::kBackendOctets:
                return tell_octets(flow, Side::backend);
            case owed::kBackendClosed:
                return lane.write(MessageType::leg_closed, flow.id, channel::LegEvent{Side::backend, backend.attempt, static_cast<std::uint8_t>(flow.backend_event)});
            case owed::kTicketsOver:
                return lane.write(MessageType::tickets_over, flow.id, channel::LegEvent{Side::backend, backend.attempt, 0});
            case owed::kEnded:
                return lane.write(MessageType::flow_ended, flow.id,
                                  channel::FlowEnded{static_cast<std::uint8_t>(flow.reason),
                                                     static_cast<std::uint8_t>(flow.has_member ? 1 : 0),
                                                     static_cast<std::uint8_t>(flow.adopted ? 1 : 0), flow.service,
                                                     flow.pool, flow.member, client.octets_in, client.octets_out,
                                                     backend.octets_in, backend.octets_out,
                                                     static_cast<std::uint64_t>((flow.last_activity - flow.created).count())});
            default:
                return true;
        }
    };
    constexpr std::uint16_t kOrder[] = {owed::kProbeOpened, owed::kOpened, owed::kClientOctets, owed::kClientClosed,
                                        owed::kBackendOpened, owed::kBackendFailed, owed::kBackendOctets, owed::kBackendClosed,
                                        owed::kTicketsOver, owed::kEnded};
    for (const std::uint16_t what : kOrder) {
        if ((flow.owed & what) == 0) continue;
        if (!write_one(what)) return false;
        flow.owed &= static_cast<std::uint16_t>(~what);
        if (what == owed::kEnded) {
            flow.known_to_control = false;
            finish_if_gone(flow);
        }
    }
    return true;
}

}  // namespace sallyport::flow
