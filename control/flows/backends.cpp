#include "control/flows/handshake_worker.h"

#include <algorithm>

#include "control/flows/proxy_protocol.h"
#include "crypto/secret.h"

/// The backends' legs: members in turn until one will do, the handshake with it, the hand-off.
namespace sallyport::flows {

using channel::EndHow;
using channel::EndReason;
using channel::FlowId;
using channel::Leg;
using channel::MessageType;
using handshake::Step;

handshake::Failure HandshakeWorker::plain_text_refused() {
    handshake::Failure failure;
    failure.reason = EndReason::backend_handshake_failed;
    failure.violation = policy::Violation::backend_plain_text;
    failure.text = policy::text(policy::Violation::backend_plain_text).sentence;
    return failure;
}

Pool& HandshakeWorker::pool_of(const Session& session) {
    return *session.runtime->pools[session.pool];
}

/// Starts the backend's leg once it is known which pool and protocol; at the latest when the client's handshake is done.
void HandshakeWorker::begin_backend(Session& session) {
    if (!session.opening || session.opening->backend_wanted) return;
    session.opening->backend_wanted = true;
    try_member(session);
}

void HandshakeWorker::try_member(Session& session) {
    Pool& pool = pool_of(session);
    Opening& opening = *session.opening;
    const std::optional<std::uint32_t> member = session.attempt < kMaxAttempts ? pool.choose(session.tried()) : std::nullopt;
    if (!member) {
        if (opening.backend_failure == EndReason::none) opening.backend_failure = EndReason::backend_none;   // no member of the pool is up
        give_up_backend(session);
        return;
    }
    opening.backend_failure = EndReason::none;
    session.members[session.attempt++] = *member;
    session.member = member;
    opening.backend_began = Clock::now();
    session.backend_negotiated.reset();
    opening.backend_next = 0;
    session.backend.reset();
    channel::OpenBackend request{};
    request.remote = pool.settings().members[*member].address;
    request.attempt = session.attempt;
    request.speaks_first = pool.context() ? 1 : 0;
    request.connect_timeout_ms = pool.settings().connect_timeout_ms;
    request.pool = pool.id();
    request.member = pool.member_id(*member);
    (void)send(session.lane, MessageType::open_backend, session.id, request);
}

void HandshakeWorker::on_backend_opened(Session& session) {
    Pool& pool = pool_of(session);
    if (!pool.context()) {
        if (!pool.may_be_plain(std::chrono::system_clock::now())) {
            on_backend_lost(session, EndReason::backend_handshake_failed, plain_text_refused());
            return;
        }
        channel::Handoff handoff{};
        handoff.protection = channel::Protection::plain;
        session.backend_done = true;
        hand_off_backend(session, handoff);
        settle(session);
        return;
    }
    const std::string& alpn = session.negotiated ? session.negotiated->alpn
                              : session.server   ? session.server->negotiated().alpn
                                                 : std::string();
    session.backend = std::make_unique<handshake::ClientHandshake>(pool.context(), alpn,
                                                                   pool.settings().members[*session.member].address.to_string());
    if (session.opening->secrets_since) session.backend->keep_key_log();
    std::vector<std::byte> output;
    const Step step = session.backend->start(output);
    send_octets(session.lane, session.id, Leg::backend, session.attempt, 0, output);
    if (step == Step::failed) {
        const handshake::Failure failure = session.backend->failure();
        on_backend_lost(session, failure.reason == EndReason::none ? EndReason::backend_handshake_failed : failure.reason, failure);
    }
}

void HandshakeWorker::on_backend_octets(Session& session, const channel::StreamOctets& where, std::span<const std::byte> octets) {
    if (where.attempt != session.attempt || !session.backend || session.backend_done || where.offset != session.opening->backend_next) return;
    session.opening->backend_next += octets.size();
    in_batch(session.id, [this, &session, kept = std::vector(octets.begin(), octets.end())] { work_on_backend(session, kept); });
}

void HandshakeWorker::work_on_backend(Session& session, std::span<const std::byte> octets) {
    std::vector<std::byte> output;
    const std::uint64_t before = session.backend->consumed();
    const Step step = session.backend->feed(octets, output);
    write_secrets(session, session.backend->key_log());
    answer_backend(session.lane, session.id, session.attempt, before, session.backend->consumed(), output);
    switch (step) {
        case Step::more:
            return;
        case Step::failed: {
            const handshake::Failure failure = session.backend->failure();
            on_backend_lost(session, failure.reason == EndReason::none ? EndReason::backend_handshake_failed : failure.reason, failure);
            return;
        }
        case Step::done:
            finish_backend(session);
            return;
    }
}

void HandshakeWorker::finish_backend(Session& session) {
    handshake::Handed handed = session.backend->take_handed();
    session.backend_negotiated = negotiations_.share(std::move(handed.negotiated));
    // The handshake may have begun before the last change of anchors and CRLs.
    if (const auto objection = object_to_backend(session, current(session))) {
        handshake::Failure failure;
        failure.text = objection->why;
        failure.violation = objection->violation;
        failure.peer_subject = objection->subject;
        crypto::wipe(&handed.handoff, sizeof handed.handoff);
        on_backend_lost(session, EndReason::backend_unverified, failure);
        return;
    }
    session.backend_done = true;
    session.backend_took = Clock::now() - session.opening->backend_began;
    handed.handoff.protection = channel::Protection::tls;
    const bool tickets = session.backend_negotiated->version == 0x0304;
    handed.handoff.expect_tickets = tickets ? 1 : 0;
    if (tickets)
        await_tickets(session.id);
    else
        session.backend.reset();
    const Pool& pool = pool_of(session);
    if (pool.settings().proxy_protocol && !session.client_done)
        session.opening->held_handoff = handed.handoff;   // the PROXY header tells of the client's handshake
    else
        hand_off_backend(session, handed.handoff);
    crypto::wipe(&handed.handoff, sizeof handed.handoff);
    settle(session);
}

/// A member that sends no application data, because its client asks for nothing, would keep libssl's object, ten times all else that a flow takes,
/// for as long as the flow rests. Tickets come at once as a rule: who came last waits for them, and who has waited longest gives up.
void HandshakeWorker::await_tickets(FlowId id) {
    constexpr std::size_t kMostAwaiting = 256;
    awaiting_tickets_.push_back(id);
    if (awaiting_tickets_.size() <= kMostAwaiting) return;
    const auto found = sessions_.find(awaiting_tickets_.front().value);
    awaiting_tickets_.pop_front();
    if (found != sessions_.end() && found->second.backend_done) found->second.backend.reset();
}

void HandshakeWorker::hand_off_backend(Session& session, channel::Handoff handoff) {
    const Pool& pool = pool_of(session);
    handoff.leg = Leg::backend;
    handoff.attempt = session.attempt;
    std::vector<std::byte> first;
    if (pool.settings().proxy_protocol && session.negotiated)
        first = proxy_header(session.client, session.local, *session.negotiated, text_of(session.id),
                             session.runtime->services[session.service]->settings.client_auth.forward);
    (void)send(session.lane, MessageType::handoff, session.id, handoff, first);
    crypto::wipe(&handoff, sizeof handoff);
}

/// This attempt has failed: the next member, or the end.
void HandshakeWorker::on_backend_lost(Session& session, EndReason reason, const handshake::Failure& failure) {
    if (session.backend_done) return;   // lost after the hand-off: the dataplane ends the flow
    Pool& pool = pool_of(session);
    session.opening->backend_failure = reason;
    const handshake::Failure kept = failure;   // it may be that of the handshake that goes now
    session.backend.reset();
    session.backend_negotiated.reset();
    if (session.member) {
        const configuration::Member& member = pool.settings().members[*session.member];
        ++pool.member(*session.member).failures;
        pool.member(*session.member).set_why(kept.text);
        record_backend_failure(session, member, kept, reason);
    }
    leave_member(session);
    end_leg(session.lane, session.id, Leg::backend, session.attempt, EndHow::retry_backend, reason);
    try_member(session);
}

/// No member will do. The client learns it by an orderly close, once its handshake is done: before that nothing of ours would reach it
/// protected.
void HandshakeWorker::give_up_backend(Session& session) {
    if (!session.client_done || session.ended) return;
    session.ended = true;
    end_leg(session.lane, session.id, Leg::client, 0, EndHow::close, session.opening->backend_failure);
}

void HandshakeWorker::leave_member(Session& session) {
    if (!session.member) return;
    pool_of(session).leave(*session.member);
    session.member.reset();
}

void HandshakeWorker::record_backend_failure(const Session& session, const configuration::Member& member, const handshake::Failure& failure,
                                             EndReason reason) {
    Service& service = *session.runtime->services[session.service];
    if (failure.violation) service.state.count(*failure.violation);
    const auto now = FailureLog::Clock::now();
    if (!session.runtime->failures->wants(now)) return;
    FailedHandshake failed;
    failed.leg = Leg::backend;
    failed.flow = text_of(session.id);
    failed.source = session.client.to_string();
    failed.service = service.settings.name;
    failed.pool = pool_of(session).settings().name;
    failed.member = member.name;
    failed.address = member.address.to_string();
    failed.failure = &failure;
    failed.reason = reason;
    session.runtime->failures->add(failed, now);
}

}  // namespace sallyport::flows
