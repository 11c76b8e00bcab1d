#include "control/flows/handshake_worker.h"

#include "control/daemon/logging.h"
#include "control/flows/identity_check.h"
#include "control/handshake/key_log.h"
#include "crypto/secret.h"

/// The clients' legs: from the first octet to the hand-off, and what a failure leaves behind.
namespace sallyport::flows {

using channel::EndHow;
using channel::EndReason;
using channel::FlowId;
using channel::Leg;
using channel::MessageType;
using handshake::Step;

void HandshakeWorker::on_flow_opened(std::size_t lane, FlowId id, const channel::FlowOpened& opened) {
    // A dataplane in order never names two flows the same; what we know of the first must not be lost, or its counts would stay.
    if (sessions_.contains(id.value) || redirects_.contains(id.value) || check_of_flow_.contains(id.value)) return;
    // The dataplane may be ahead of us by a configuration that we have prepared, or behind by one that we have left. What the flow's service is
    // called decides, not where it stands.
    const std::shared_ptr<Runtime>* runtime = nullptr;
    std::optional<std::uint32_t> number;
    for (const auto* each : {&runtime_, &prepared_}) {
        if (!*each || number) continue;
        number = (*each)->find_service(opened.service);
        runtime = each;
    }
    if (!number) {
        end_leg(lane, id, Leg::client, 0, EndHow::reset, runtime_ ? EndReason::service_removed : EndReason::control_refused);
        return;
    }
    const std::size_t services = (*runtime)->services.size();
    if (*number >= services) {
        on_redirect_opened(lane, id, *runtime, *number - static_cast<std::uint32_t>(services), opened.client);
        return;
    }
    const Clock::time_point now = Clock::now();
    Service& service = *(*runtime)->services[*number];
    auto connected = (*runtime)->brake->connect(opened.client.address, now);
    if (!connected) {
        service.state.count_failed(EndReason::client_braked);
        end_leg(lane, id, Leg::client, 0, EndHow::reset, EndReason::client_braked);
        return;
    }
    Session& session = sessions_[id.value];
    session.opening = std::make_unique<Opening>();
    session.opening->connected = std::move(*connected);
    session.id = id;
    session.lane = static_cast<std::uint16_t>(lane);
    session.runtime = *runtime;
    session.service = *number;
    session.began = now;
    session.client = opened.client;
    session.local = opened.local;
    session.pool = service.settings.pool;
    if (secrets_ != nullptr && secrets_->wanted()) session.opening->secrets_since = SecretFiles::Clock::now();
    ++service.state.flows_now;
    ++service.state.flows_total;
    ++opened_since_trim_;
}

/// The client has spoken: from here on its handshake takes memory and time, of which one that connects and goes has had none.
void HandshakeWorker::begin_handshake(Session& session) {
    Opening& opening = *session.opening;
    opening.begun = true;
    // The session outlives its handshake, and does not move.
    session.server = std::make_unique<handshake::ServerHandshake>(session.runtime->services[session.service]->context.load(),
                                                                  [this, &session](const handshake::Offer& offer) { return admit(session, offer); });
    if (opening.secrets_since) session.server->keep_key_log();
    in_batch(session.id, [this, &session, octets = std::exchange(opening.first_octets, {})] { work_on_client(session, octets); });
}

/// What a leg's handshake has brought to its key log goes to the captures that want it; wherever there is no log nothing is done.
void HandshakeWorker::write_secrets(const Session& session, handshake::KeyLog* log) {
    if (log == nullptr || log->lines().empty()) return;
    const std::string server_name = session.negotiated ? session.negotiated->server_name
                                    : session.server   ? session.server->negotiated().server_name
                                                       : std::string();
    secrets_->write({*session.opening->secrets_since, session.runtime->services[session.service]->settings.name, server_name, session.client.address}, log->lines());
    log->clear();
}

/// Asked when the ClientHello has been read and nothing costly has been done.
bool HandshakeWorker::admit(Session& session, const handshake::Offer& offer) {
    if (session.opening->started.counted()) return true;   // a second ClientHello (RFC 8446 4.1.4) is the same handshake
    const std::uint32_t full = full_cost(offer, session.runtime->services[session.service]->keys);
    auto started = session.runtime->brake->start(session.client.address, offer.resumes, full, Clock::now());
    if (!started) return false;
    session.opening->started = std::move(*started);
    return true;
}

void HandshakeWorker::on_client_octets(Session& session, std::uint64_t offset, std::span<const std::byte> octets) {
    if (!session.client_shakes_hands() || offset != session.opening->client_next) return;   // the rest is the dataplane's
    Opening& opening = *session.opening;
    opening.client_next += octets.size();
    if (opening.begun) return in_batch(session.id, [this, &session, kept = std::vector(octets.begin(), octets.end())] { work_on_client(session, kept); });
    if (opening.first_octets.empty()) newcomers_.push_back(session.id);
    opening.first_octets.insert(opening.first_octets.end(), octets.begin(), octets.end());
}

void HandshakeWorker::work_on_client(Session& session, std::span<const std::byte> octets) {
    std::vector<std::byte> output;
    const Step step = session.server->feed(octets, output);
    write_secrets(session, session.server->key_log());
    send_octets(session.lane, session.id, Leg::client, 0, session.server->consumed(), output);
    switch (step) {
        case Step::more:
            break;
        case Step::failed:
            refuse_client(session, session.server->failure());
            return;
        case Step::done:
            on_client_done(session);
            return;
    }
    // The backend's leg overlaps the rest of the client's handshake while there is little to do; otherwise only a Finished, which takes a
    // client as much work as us, makes us open one.
    if (session.server->hello_accepted() && session.server->negotiated().ech != handshake::EchOutcome::rejected &&
        session.runtime->brake->relaxed())
        begin_backend(session);
}

void HandshakeWorker::on_client_done(Session& session) {
    Service& service = *session.runtime->services[session.service];
    if (session.server->offer().early_data) service.state.count(policy::Violation::early_data);   // skipped, and the handshake went on
    handshake::Handed handed = session.server->take_handed();
    service.state.count_done(handed.negotiated);
    session.client_took = Clock::now() - session.began;
    session.opening->started.finish(handed.negotiated.resumed, Clock::now());
    session.opening->connected.release();
    session.negotiated = negotiations_.share(std::move(handed.negotiated));
    session.server.reset();
    session.client_done = true;
    // CAs or CRLs may have changed since the handshake began, or since the backend's was done.
    if (const auto objection = no_longer_good(session, current(session))) {
        crypto::wipe(&handed.handoff, sizeof handed.handoff);
        end_no_longer_good(session, *objection);
        return;
    }
    handed.handoff.leg = Leg::client;
    handed.handoff.attempt = 0;
    handed.handoff.protection = channel::Protection::tls;
    handed.handoff.expect_tickets = 0;
    (void)send(session.lane, MessageType::handoff, session.id, handed.handoff);
    crypto::wipe(&handed.handoff, sizeof handed.handoff);
    if (session.negotiated->ech == handshake::EchOutcome::rejected) {
        // The client has its retry configurations (RFC 9849 6.1.6). The handshake was one with the public name, which serves nobody.
        end_leg(session.lane, session.id, Leg::client, 0, EndHow::close, EndReason::ech_rejected);
        return;
    }
    if (session.negotiated->identity)
        daemon::log(daemon::Level::info, "client_identity",
                    {{"flow", text_of(session.id)},
                     {"service", service.settings.name},
                     {"client", session.client.to_string()},
                     {"subject", session.negotiated->identity->subject},
                     {"issuer", session.negotiated->identity->issuer},
                     {"serial", session.negotiated->identity->serial},
                     {"resumed", session.negotiated->resumed}});
    begin_backend(session);
    if (session.opening->backend_failure != EndReason::none) {
        give_up_backend(session);
    } else if (auto& waits = session.opening->held_handoff) {
        channel::Handoff held = *waits;
        crypto::wipe(&*waits, sizeof(channel::Handoff));
        waits.reset();
        hand_off_backend(session, held);
        crypto::wipe(&held, sizeof held);
    }
    settle(session);
}

/// Counts a client's handshake that failed and leaves its record. The handshake's object is still there, if the client has spoken.
void HandshakeWorker::record_client_failure(Session& session, const handshake::Failure& failure, EndReason reason) {
    Service& service = *session.runtime->services[session.service];
    service.state.count_failed(reason);
    std::optional<policy::Violation> violation = failure.violation;
    if (!violation && reason == EndReason::client_not_tls) violation = policy::Violation::plain_text;
    if (violation) service.state.count(*violation);
    if (session.server && session.server->offer().early_data) service.state.count(policy::Violation::early_data);
    if (const auto now = FailureLog::Clock::now(); session.runtime->failures->wants(now)) {
        const handshake::Offer offer = session.server ? session.server->offer_with_fingerprint() : handshake::Offer{};
        const handshake::Negotiated nothing;
        handshake::Failure told = failure;
        told.violation = violation;
        if (told.text.empty()) told.text = channel::sentence(reason);
        FailedHandshake failed;
        failed.leg = Leg::client;
        failed.flow = text_of(session.id);
        failed.source = session.client.to_string();
        failed.service = service.settings.name;
        failed.offer = &offer;
        failed.negotiated = session.server ? &session.server->negotiated() : &nothing;
        failed.failure = &told;
        failed.reason = reason;
        session.runtime->failures->add(failed, now);
    }
    if (session.opening->started.counted()) session.opening->started.finish(false, Clock::now());
    session.opening->connected.release();
}

void HandshakeWorker::refuse_client(Session& session, const handshake::Failure& failure) {
    const EndReason reason = failure.reason == EndReason::none ? EndReason::client_handshake_refused : failure.reason;
    record_client_failure(session, failure, reason);
    // It got retry configurations, and ends the handshake itself (RFC 9849 6.1.6).
    if (reason == EndReason::ech_rejected)
        session.runtime->services[session.service]->state.count_rejected_ech();
    if (constexpr int kEchRequired = 121; failure.alert_received && failure.alert == kEchRequired)
        ++session.runtime->services[session.service]->state.ech_required;
    session.opening->begun = true;
    session.server.reset();
    end_leg(session.lane, session.id, Leg::client, 0, reason == EndReason::client_not_tls ? EndHow::reset : EndHow::close, reason);
}

void HandshakeWorker::on_flow_ended(FlowId id, const channel::FlowEnded& ended) {
    if (on_redirect_ended(id, ended)) return;
    const auto found = sessions_.find(id.value);
    const EndReason reason = reason_of(ended.reason);
    if (found == sessions_.end()) {   // it outlived the control that opened it: counted by adopt()
        if (ended.adopted != 0 && runtime_)
            runtime_->leave_adopted(ended.service, ended.has_member != 0 ? ended.pool : 0, ended.has_member != 0 ? ended.member : 0);
        record_adopted_flow(id, ended);
        return;
    }
    Session& session = found->second;
    ServiceState& state = session.runtime->services[session.service]->state;
    if (session.client_shakes_hands()) {   // it ended before the handshake did
        handshake::Failure failure;
        failure.reason = reason;
        record_client_failure(session, failure, reason);
    }
    state.leave();
    if (daemon::logs(daemon::Level::debug))
        daemon::log(daemon::Level::debug, "flow_ended",
                    {{"flow", text_of(id)},
                     {"service", session.runtime->services[session.service]->settings.name},
                     {"client", session.client.to_string()},
                     {"reason", channel::name(reason)},
                     {"client_in", ended.client_octets_in},
                     {"client_out", ended.client_octets_out},
                     {"backend_in", ended.backend_octets_in},
                     {"backend_out", ended.backend_octets_out},
                     {"duration_ns", ended.duration_ns}});
    record_flow(id, session, ended, channel::name(reason), channel::sentence(reason));
    leave_member(session);
    sessions_.erase(found);
}

/// Why a flow whose certificates were good when they were verified would not be let in by `runtime`, in which services and pools are found
/// by name, since the flow may be of a configuration before; what is no longer there is asked about where it was. nullopt: it would.
std::optional<HandshakeWorker::Objection> HandshakeWorker::object_to_client(const Session& session, const Runtime& runtime) {
    if (!session.negotiated || !session.negotiated->identity) return std::nullopt;
    const handshake::Identity& identity = *session.negotiated->identity;
    const Service& began = *session.runtime->services[session.service];
    const Service* service = &began;
    if (const auto at = runtime.find_service(began.id); at && *at < runtime.services.size()) service = runtime.services[*at].get();
    const configuration::ClientAuth &asked = began.settings.client_auth, &asks = service->settings.client_auth;
    const auto object = [&](policy::Violation violation, std::string why) { return Objection{violation, identity.subject, std::move(why)}; };
    if (auto why = revoked(identity, service->client_crls.get(), revocation::Clock::now())) return object(policy::Violation::client_revoked, *why);
    if (asks.mode == configuration::ClientAuthMode::off) return std::nullopt;   // a service that asks for no certificate any more objects to none
    if (!same_anchors(asked.anchors, asks.anchors))
        if (auto why = untrusted(identity, asks.anchors, X509_PURPOSE_SSL_CLIENT)) return object(policy::Violation::client_certificate_invalid, *why);
    if (auto why = not_named(identity, asked.names, asks.names)) return object(policy::Violation::client_name_not_allowed, *why);
    return std::nullopt;
}

/// Likewise its member's.
std::optional<HandshakeWorker::Objection> HandshakeWorker::object_to_backend(const Session& session, const Runtime& runtime) {
    const handshake::Negotiated* const negotiated = session.backend_negotiated.get();
    if (negotiated == nullptr || !negotiated->identity || negotiated->anchor == "pin") return std::nullopt;   // a pin speaks for itself: the next handshake asks it
    const handshake::Identity& identity = *negotiated->identity;
    const Pool* const before = &pool_of(session);
    const Pool* pool = before;
    if (const auto at = runtime.find_pool(before->id())) pool = runtime.pools[*at].get();
    const auto &trusted = before->settings().tls, &trusts = pool->settings().tls;
    if (!trusted || !trusts) return std::nullopt;
    const auto object = [&](policy::Violation violation, std::string why) { return Objection{violation, identity.subject, std::move(why)}; };
    if (auto why = revoked(identity, pool->crls().get(), revocation::Clock::now())) return object(policy::Violation::backend_revoked, *why);
    if (!same_anchors(trusted->anchors, trusts->anchors))
        if (auto why = untrusted(identity, trusts->anchors, X509_PURPOSE_SSL_SERVER)) return object(policy::Violation::backend_not_trusted, *why);
    if (auto why = not_named(identity, trusted->names, trusts->names)) return object(policy::Violation::backend_name_not_allowed, *why);
    return std::nullopt;
}

/// What a session whose handshake is done is held to: the runtime now, or the one that comes, if it began under that.
const Runtime& HandshakeWorker::current(const Session& session) const { return session.runtime == prepared_ ? *prepared_ : *runtime_; }

std::optional<HandshakeWorker::Objection> HandshakeWorker::no_longer_good(const Session& session, const Runtime& runtime) {
    auto objection = object_to_client(session, runtime);
    return objection ? objection : object_to_backend(session, runtime);
}

/// Counts, logs and ends. Either leg's end is the flow's; the client's needs no attempt's number.
void HandshakeWorker::end_no_longer_good(Session& session, const Objection& objection) {
    Service& service = *session.runtime->services[session.service];
    session.ended = true;
    service.state.count(objection.violation);
    const std::string_view violation = policy::text(objection.violation).name;
    daemon::log(daemon::Level::warning, "flow_identity_revoked",
                {{"flow", text_of(session.id)},
                 {"service", service.settings.name},
                 {"client", session.client.to_string()},
                 {"subject", objection.subject},
                 {"whose", violation.starts_with("client") ? "client" : "backend"},
                 {"violation", violation},
                 {"why", objection.why}});
    end_leg(session.lane, session.id, Leg::client, 0, EndHow::close, EndReason::identity_revoked);
}

/// A handshake that is under way is asked when it is done. A flow that outlives the control that did its handshakes has no session, hence no
/// certificate here to ask about: it ends at its own time, or with the dataplane.
void HandshakeWorker::recheck(std::shared_ptr<Runtime> runtime) {
    post([&] {
        const std::lock_guard lock(sessions_mutex_);
        for (auto& [id, session] : sessions_) end_if_untrusted(session, *runtime);
    });
}

void HandshakeWorker::end_if_untrusted(Session& session, const Runtime& runtime) {
    if (!session.client_done || session.ended) return;
    if (const auto objection = no_longer_good(session, runtime)) end_no_longer_good(session, *objection);
}

}  // namespace sallyport::flows
