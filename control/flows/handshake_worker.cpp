#include "control/flows/handshake_worker.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <format>
#include <future>

#include "control/daemon/logging.h"
#include "control/flows/proxy_protocol.h"
#include "crypto/check.h"
#include "crypto/cipher_suite.h"
#include "crypto/secret.h"

namespace sallyport::flows {

using channel::EndHow;
using channel::EndReason;
using channel::FlowId;
using channel::Leg;
using channel::MessageType;
using handshake::Step;

namespace {

/// Members that are tried for one flow before the client is told.
constexpr std::uint8_t kMaxAttempts = 3;
/// Octets of one message; a flight of a handshake is cut into as many as it takes.
constexpr std::size_t kChunk = 16 * 1024;

std::string flow_text(FlowId id) { return std::format("{:02x}-{:06x}-{:08x}", id.worker(), id.generation(), id.index()); }

std::uint16_t version_of(std::uint16_t suite) {
    const auto* const found = crypto::find_cipher_suite(suite);
    return found == nullptr ? 0 : static_cast<std::uint16_t>(found->version);
}

EndReason reason_of(std::uint8_t value) {
    return value < static_cast<std::uint8_t>(EndReason::count_) ? static_cast<EndReason>(value) : EndReason::none;
}

}  // namespace

HandshakeWorker::HandshakeWorker(unsigned index, unsigned count)
    : index_(index),
      count_(count),
      wake_for_tasks_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      message_(std::make_unique<channel::Message>()) {
    SALLYPORT_CHECK(wake_for_tasks_.valid());
}

HandshakeWorker::~HandshakeWorker() { stop(); }

void HandshakeWorker::start() {
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), std::format("handshake{}", index_).c_str());
        run();
    });
}

void HandshakeWorker::stop() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(wake_for_tasks_.get(), &one, sizeof one);
    thread_.join();
}

/// Runs `task` in the thread and waits for it.
void HandshakeWorker::post(std::function<void()> task) {
    std::promise<void> done;
    {
        const std::lock_guard lock(tasks_mutex_);
        tasks_.push_back([&] {
            task();
            done.set_value();
        });
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(wake_for_tasks_.get(), &one, sizeof one);
    done.get_future().wait();
}

void HandshakeWorker::use(std::shared_ptr<Runtime> runtime) {
    post([&] {
        runtime_ = runtime;
        plan_health();
    });
}

void HandshakeWorker::attach(std::shared_ptr<channel::SharedMemory> memory, std::vector<Lane> lanes, channel::Descriptor wake) {
    post([&] {
        memory_ = memory;
        lanes_ = std::move(lanes);
        wake_ = std::move(wake);
        broken_ = false;
    });
}

void HandshakeWorker::detach() {
    post([&] {
        const std::lock_guard lock(sessions_mutex_);
        for (auto& [id, session] : sessions_) leave_member(*session);
        sessions_.clear();
        checks_.clear();
        check_of_flow_.clear();
        for (Health& health : health_) health.running = false;
        lanes_.clear();
        memory_.reset();
        wake_.reset();
    });
}

std::optional<HandshakeWorker::FlowInfo> HandshakeWorker::info(FlowId flow) {
    const std::lock_guard lock(sessions_mutex_);
    const auto found = sessions_.find(flow.value);
    if (found == sessions_.end()) return std::nullopt;
    const Session& session = *found->second;
    FlowInfo info;
    const Service& service = *session.runtime->services[session.service];
    info.service = service.settings.name;
    if (session.negotiated) {
        info.server_name = session.negotiated->server_name;
        info.alpn = session.negotiated->alpn;
        info.version = session.negotiated->version;
        info.resumed = session.negotiated->resumed;
    }
    Pool& pool = *session.runtime->pools[service.settings.pool];
    info.pool = pool.settings().name;
    if (session.member) info.member = pool.settings().members[*session.member].name;
    info.backend_version = session.backend_version;
    info.backend_suite = session.backend_suite;
    return info;
}

HandshakeWorker::Load HandshakeWorker::load() {
    const std::lock_guard lock(sessions_mutex_);
    Load load;
    load.sessions = sessions_.size();
    for (const auto& [id, session] : sessions_) {
        if (session->server) ++load.handshakes;
        if (session->backend) ++load.backend_contexts;
    }
    return load;
}

void HandshakeWorker::run() {
    while (!stopping_) {
        std::vector<std::function<void()>> tasks;
        {
            const std::lock_guard lock(tasks_mutex_);
            tasks.swap(tasks_);
        }
        for (auto& task : tasks) task();
        bool busy = take_messages();
        const Clock::time_point now = Clock::now();
        if (runtime_ && !lanes_.empty()) run_health(now);
        for (Lane& lane : lanes_) (void)lane.to_dataplane.publish();   // the dataplane polls
        if (busy) continue;
        bool may_sleep = true;
        for (Lane& lane : lanes_) may_sleep &= lane.from_dataplane.sleep();
        if (may_sleep) wait(std::min(now + std::chrono::seconds(1), next_health()));
    }
    // What is left to run must not leave its poster waiting.
    const std::lock_guard lock(tasks_mutex_);
    for (auto& task : tasks_) task();
    tasks_.clear();
}

void HandshakeWorker::wait(Clock::time_point until) {
    pollfd fds[2] = {{wake_for_tasks_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    if (poll(fds, wake_.valid() ? 2 : 1, static_cast<int>(std::max<std::int64_t>(1, timeout.count() + 1))) <= 0) return;
    for (const pollfd& ready : fds) {
        std::uint64_t count = 0;
        if (ready.fd >= 0 && (ready.revents & POLLIN) != 0) {
            [[maybe_unused]] const ssize_t ignored = read(ready.fd, &count, sizeof count);
        }
    }
}

bool HandshakeWorker::take_messages() {
    constexpr int kMessagesATurn = 64;
    bool any = false;
    const std::lock_guard lock(sessions_mutex_);
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
        for (int n = 0; n < kMessagesATurn && lanes_[i].from_dataplane.read(*message_); ++n) {
            on_message(i, *message_);
            any = true;
            // Each answer as soon as it is there: the next handshake may take a while.
            (void)lanes_[i].to_dataplane.publish();
        }
        if (lanes_[i].from_dataplane.broken() || lanes_[i].to_dataplane.broken()) broken_ = true;
    }
    return any;
}

void HandshakeWorker::on_message(std::size_t lane, const channel::Message& message) {
    const FlowId id = message.flow();
    if (message.type() == MessageType::probe_opened) {
        const auto* const opened = message.fixed<channel::ProbeOpened>();
        const auto check = opened == nullptr ? checks_.end() : checks_.find(opened->probe);
        if (check == checks_.end()) {   // its time has run out meanwhile
            if (id.value != 0) end_leg(lane, id, Leg::backend, 1, EndHow::reset, EndReason::probe_done);
            return;
        }
        if (id.value == 0) {
            end_check(check->first, "the dataplane has no flow record free");
            return;
        }
        check->second->flow = id;
        check->second->lane = lane;
        check_of_flow_[id.value] = check->first;
        return;
    }
    if (message.type() == MessageType::flow_opened) {
        if (const auto* const opened = message.fixed<channel::FlowOpened>()) on_flow_opened(lane, id, *opened);
        return;
    }
    if (const auto probe = check_of_flow_.find(id.value); probe != check_of_flow_.end()) {
        if (message.type() == MessageType::flow_ended) {
            const std::uint64_t number = probe->second;
            check_of_flow_.erase(probe);
            if (checks_.contains(number)) end_check(number, "the connection ended");
            return;
        }
        if (const auto check = checks_.find(probe->second); check != checks_.end()) on_check_message(*check->second, message);
        return;
    }
    if (message.type() == MessageType::flow_ended) {
        if (const auto* const ended = message.fixed<channel::FlowEnded>()) on_flow_ended(id, *ended);
        return;
    }
    const auto found = sessions_.find(id.value);
    if (found == sessions_.end()) return;   // of a control before us
    Session& session = *found->second;
    switch (message.type()) {
        case MessageType::stream_octets: {
            const auto* const where = message.fixed<channel::StreamOctets>();
            if (where == nullptr) return;
            const auto octets = message.payload<channel::StreamOctets>();
            if (where->leg == Leg::client)
                on_client_octets(session, where->offset, octets);
            else
                on_backend_octets(session, *where, octets);
            return;
        }
        case MessageType::backend_opened:
            if (const auto* const event = message.fixed<channel::LegEvent>(); event != nullptr && event->attempt == session.attempt)
                on_backend_opened(session);
            return;
        case MessageType::backend_failed:
            if (const auto* const event = message.fixed<channel::LegEvent>(); event != nullptr && event->attempt == session.attempt)
                on_backend_lost(session, reason_of(event->reason), channel::sentence(reason_of(event->reason)));
            return;
        case MessageType::leg_closed: {
            const auto* const event = message.fixed<channel::LegEvent>();
            if (event == nullptr) return;
            if (event->leg == Leg::client) {
                session.client_closed = true;
                if (session.server) {
                    handshake::Failure failure;
                    failure.reason = EndReason::client_handshake_closed;
                    failure.text = "the client closed during the handshake";
                    refuse_client(session, failure);
                }
            } else if (event->attempt == session.attempt && !session.backend_done) {
                on_backend_lost(session, EndReason::backend_lost, "the backend closed during the handshake");
            }
            return;
        }
        case MessageType::ticket_record: {
            const auto* const where = message.fixed<channel::StreamOctets>();
            if (where != nullptr && where->attempt == session.attempt && session.backend && session.backend_done)
                session.backend->ticket_record(message.payload<channel::StreamOctets>());
            return;
        }
        case MessageType::tickets_over:
            if (session.backend_done) session.backend.reset();
            return;
        case MessageType::flow_opened:
        case MessageType::flow_ended:
        case MessageType::probe_opened:
        case MessageType::send_octets:
        case MessageType::open_backend:
        case MessageType::handoff:
        case MessageType::end_leg:
        case MessageType::open_probe:
            return;
    }
}

// ---- the client's leg ----

void HandshakeWorker::on_flow_opened(std::size_t lane, FlowId id, const channel::FlowOpened& opened) {
    if (!runtime_ || opened.service >= runtime_->services.size() || opened.generation != runtime_->configuration.dataplane.generation) {
        end_leg(lane, id, Leg::client, 0, EndHow::reset, EndReason::control_refused);
        return;
    }
    auto session = std::make_unique<Session>();
    session->id = id;
    session->lane = lane;
    session->runtime = runtime_;
    session->service = opened.service;
    session->client = opened.client;
    session->local = opened.local;
    Service& service = *runtime_->services[opened.service];
    session->server = std::make_unique<handshake::ServerHandshake>(service.context);
    ++service.state.flows_now;
    ++service.state.flows_total;
    sessions_[id.value] = std::move(session);
}

void HandshakeWorker::on_client_octets(Session& session, std::uint64_t offset, std::span<const std::byte> octets) {
    if (!session.server || offset != session.client_next) return;   // the rest is the dataplane's
    session.client_next += octets.size();
    output_.clear();
    const Step step = session.server->feed(octets, output_);
    send_octets(session.lane, session.id, Leg::client, 0, session.server->consumed(), output_);
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
    if (session.server->hello_accepted()) begin_backend(session);
}

void HandshakeWorker::on_client_done(Session& session) {
    handshake::Handed handed = session.server->take_handed();
    Service& service = *session.runtime->services[session.service];
    service.state.count_done(handed.negotiated);
    session.negotiated = std::move(handed.negotiated);
    session.server.reset();
    session.client_done = true;
    handed.handoff.leg = Leg::client;
    handed.handoff.attempt = 0;
    handed.handoff.protection = channel::Protection::tls;
    handed.handoff.expect_tickets = 0;
    (void)send(session.lane, MessageType::handoff, session.id, handed.handoff);
    crypto::wipe(&handed.handoff, sizeof handed.handoff);
    begin_backend(session);
    if (session.backend_failure != EndReason::none) {
        give_up_backend(session);
    } else if (session.held_handoff) {
        channel::Handoff held = *session.held_handoff;
        crypto::wipe(&*session.held_handoff, sizeof(channel::Handoff));
        session.held_handoff.reset();
        hand_off_backend(session, held);
        crypto::wipe(&held, sizeof held);
    }
}

void HandshakeWorker::refuse_client(Session& session, const handshake::Failure& failure) {
    Service& service = *session.runtime->services[session.service];
    const EndReason reason = failure.reason == EndReason::none ? EndReason::client_handshake_refused : failure.reason;
    service.state.count_failed(reason);
    const handshake::Negotiated negotiated = session.server ? session.server->negotiated() : handshake::Negotiated{};
    daemon::log(daemon::Level::info, "client_handshake_failed",
                {{"flow", flow_text(session.id)},
                 {"service", service.settings.name},
                 {"client", session.client.to_string()},
                 {"server_name", negotiated.server_name},
                 {"reason", channel::name(reason)},
                 {"alert", failure.alert},
                 {"alert_by", failure.alert < 0 ? "nobody" : failure.alert_received ? "client" : "us"},
                 {"text", failure.text}});
    session.server.reset();
    end_leg(session.lane, session.id, Leg::client, 0, reason == EndReason::client_not_tls ? EndHow::reset : EndHow::close, reason);
}

// ---- the backend's leg ----

/// Starts the backend's leg once it is known which pool and protocol: it overlaps the rest of the client's handshake.
void HandshakeWorker::begin_backend(Session& session) {
    if (session.backend_wanted) return;
    session.backend_wanted = true;
    try_member(session);
}

void HandshakeWorker::try_member(Session& session) {
    Pool& pool = *session.runtime->pools[session.runtime->services[session.service]->settings.pool];
    const std::optional<std::uint32_t> member =
        session.tried.size() < kMaxAttempts ? pool.choose(session.tried) : std::nullopt;
    if (!member) {
        if (session.backend_failure == EndReason::none) {
            session.backend_failure = EndReason::backend_none;
            session.backend_text = "no member of the pool is up";
        }
        give_up_backend(session);
        return;
    }
    session.backend_failure = EndReason::none;
    session.tried.push_back(*member);
    session.member = member;
    ++session.attempt;
    session.backend_done = false;
    session.backend_next = 0;
    session.backend.reset();
    channel::OpenBackend request{};
    request.remote = pool.settings().members[*member].address;
    request.attempt = session.attempt;
    request.connect_timeout_ms = pool.settings().connect_timeout_ms;
    request.pool = session.runtime->services[session.service]->settings.pool;
    request.member = *member;
    (void)send(session.lane, MessageType::open_backend, session.id, request);
}

void HandshakeWorker::on_backend_opened(Session& session) {
    Pool& pool = *session.runtime->pools[session.runtime->services[session.service]->settings.pool];
    if (!pool.context()) {
        channel::Handoff handoff{};
        handoff.protection = channel::Protection::plain;
        session.backend_done = true;
        hand_off_backend(session, handoff);
        return;
    }
    const std::string& alpn = session.negotiated ? session.negotiated->alpn
                              : session.server   ? session.server->negotiated().alpn
                                                 : std::string();
    session.backend = std::make_unique<handshake::ClientHandshake>(pool.context(), alpn,
                                                                   pool.settings().members[*session.member].address.to_string());
    output_.clear();
    const Step step = session.backend->start(output_);
    send_octets(session.lane, session.id, Leg::backend, session.attempt, 0, output_);
    if (step == Step::failed) on_backend_lost(session, session.backend->failure().reason, session.backend->failure().text);
}

void HandshakeWorker::on_backend_octets(Session& session, const channel::StreamOctets& where, std::span<const std::byte> octets) {
    if (where.attempt != session.attempt || !session.backend || session.backend_done || where.offset != session.backend_next) return;
    session.backend_next += octets.size();
    output_.clear();
    const Step step = session.backend->feed(octets, output_);
    send_octets(session.lane, session.id, Leg::backend, session.attempt, session.backend->consumed(), output_);
    switch (step) {
        case Step::more:
            return;
        case Step::failed: {
            const handshake::Failure failure = session.backend->failure();
            on_backend_lost(session, failure.reason == EndReason::none ? EndReason::backend_handshake_failed : failure.reason, failure.text);
            return;
        }
        case Step::done:
            finish_backend(session);
            return;
    }
}

void HandshakeWorker::finish_backend(Session& session) {
    handshake::Handed handed = session.backend->take_handed();
    session.backend_done = true;
    session.backend_suite = handed.handoff.suite;
    session.backend_version = version_of(handed.handoff.suite);
    handed.handoff.protection = channel::Protection::tls;
    const bool tickets = session.backend_version == 0x0304;
    handed.handoff.expect_tickets = tickets ? 1 : 0;
    if (!tickets) session.backend.reset();
    const Pool& pool = *session.runtime->pools[session.runtime->services[session.service]->settings.pool];
    if (pool.settings().proxy_protocol && !session.client_done)
        session.held_handoff = handed.handoff;   // the PROXY header tells of the client's handshake
    else
        hand_off_backend(session, handed.handoff);
    crypto::wipe(&handed.handoff, sizeof handed.handoff);
}

void HandshakeWorker::hand_off_backend(Session& session, channel::Handoff handoff) {
    const Pool& pool = *session.runtime->pools[session.runtime->services[session.service]->settings.pool];
    handoff.leg = Leg::backend;
    handoff.attempt = session.attempt;
    std::vector<std::byte> first;
    if (pool.settings().proxy_protocol && session.negotiated)
        first = proxy_header(session.client, session.local, *session.negotiated, flow_text(session.id));
    (void)send(session.lane, MessageType::handoff, session.id, handoff, first);
    crypto::wipe(&handoff, sizeof handoff);
}

/// This attempt has failed: the next member, or the end.
void HandshakeWorker::on_backend_lost(Session& session, EndReason reason, const std::string& text) {
    if (session.backend_done) return;   // lost after the hand-off: the dataplane ends the flow
    Pool& pool = *session.runtime->pools[session.runtime->services[session.service]->settings.pool];
    session.backend_failure = reason;
    session.backend_text = text;
    session.backend.reset();
    if (session.member) {
        const configuration::Member& member = pool.settings().members[*session.member];
        ++pool.member(*session.member).failures;
        pool.member(*session.member).set_why(text);
        daemon::log(daemon::Level::info, "backend_failed",
                    {{"flow", flow_text(session.id)},
                     {"pool", pool.settings().name},
                     {"member", member.name},
                     {"address", member.address.to_string()},
                     {"reason", channel::name(reason)},
                     {"text", text}});
    }
    leave_member(session);
    end_leg(session.lane, session.id, Leg::backend, session.attempt, EndHow::retry_backend, reason);
    try_member(session);
}

/// No member will do. The client learns it by an orderly close, once its handshake is done: before that nothing of ours would reach it
/// protected.
void HandshakeWorker::give_up_backend(Session& session) {
    if (session.client_done)
        end_leg(session.lane, session.id, Leg::client, 0, EndHow::close, session.backend_failure);
}

void HandshakeWorker::leave_member(Session& session) {
    if (!session.member) return;
    session.runtime->pools[session.runtime->services[session.service]->settings.pool]->leave(*session.member);
    session.member.reset();
}

void HandshakeWorker::on_flow_ended(FlowId id, const channel::FlowEnded& ended) {
    const auto found = sessions_.find(id.value);
    const EndReason reason = reason_of(ended.reason);
    if (found == sessions_.end()) {   // it outlived the control that opened it: counted by adopt()
        if (ended.has_member != 0 && runtime_ && ended.generation == runtime_->configuration.dataplane.generation &&
            ended.pool < runtime_->pools.size())
            runtime_->pools[ended.pool]->leave(ended.member);
        return;
    }
    Session& session = *found->second;
    ServiceState& state = session.runtime->services[session.service]->state;
    if (session.server) state.count_failed(reason);   // it ended before the handshake did
    std::uint64_t now = state.flows_now;
    while (now != 0 && !state.flows_now.compare_exchange_weak(now, now - 1)) {
    }
    daemon::log(daemon::Level::debug, "flow_ended",
                {{"flow", flow_text(id)},
                 {"service", session.runtime->services[session.service]->settings.name},
                 {"client", session.client.to_string()},
                 {"reason", channel::name(reason)},
                 {"client_in", ended.client_octets_in},
                 {"client_out", ended.client_octets_out},
                 {"backend_in", ended.backend_octets_in},
                 {"backend_out", ended.backend_octets_out},
                 {"duration_ns", ended.duration_ns}});
    leave_member(session);
    sessions_.erase(found);
}

// ---- messages ----

bool HandshakeWorker::send(std::size_t lane, MessageType type, FlowId flow, std::span<const std::byte> fixed,
                           std::span<const std::byte> payload) {
    if (lane >= lanes_.size()) return false;
    // The dataplane polls and empties the ring within microseconds; when it does not for a second, it hangs.
    for (int tries = 0; tries < 10'000; ++tries) {
        if (lanes_[lane].to_dataplane.write(type, flow, fixed, payload)) return true;
        if (lanes_[lane].to_dataplane.broken()) break;
        (void)lanes_[lane].to_dataplane.publish();
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    broken_ = true;
    return false;
}

void HandshakeWorker::send_octets(std::size_t lane, FlowId flow, Leg leg, std::uint8_t attempt, std::uint64_t consumed,
                                  std::span<const std::byte> octets) {
    // Without an answer nothing is said of what was consumed either: the dataplane keeps the octets, and a control that is started
    // anew can begin with them.
    while (!octets.empty()) {
        const auto chunk = octets.first(std::min(octets.size(), kChunk));
        (void)send(lane, MessageType::send_octets, flow, channel::SendOctets{leg, attempt, consumed}, chunk);
        octets = octets.subspan(chunk.size());
    }
}

void HandshakeWorker::end_leg(std::size_t lane, FlowId flow, Leg leg, std::uint8_t attempt, EndHow how, EndReason reason) {
    (void)send(lane, MessageType::end_leg, flow, channel::EndLeg{leg, attempt, how, static_cast<std::uint8_t>(reason)});
}

}  // namespace sallyport::flows
