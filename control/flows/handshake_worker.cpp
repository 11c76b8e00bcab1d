#include "control/flows/handshake_worker.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <utility>

#include "control/certificates/openssl_memory.h"
#include "crypto/check.h"
#include "crypto/format.h"
#include "crypto/secret.h"

namespace sallyport::flows {

using channel::EndHow;
using channel::EndReason;
using channel::FlowId;
using channel::Leg;
using channel::MessageType;

namespace {

/// Octets of one message; a flight of a handshake is cut into as many as it takes.
constexpr std::size_t kChunk = 16 * 1024;

/// The dataplane is told of this many octets of a backend's flight at a time. With the longest record, of which the last octet has not
/// come, they are less than the smallest receive buffer that can be configured (32 KiB).
constexpr std::uint64_t kTellConsumed = 8 * 1024;

/// How long a full ring is waited for. The dataplane polls and empties it within microseconds; when it does not for so long, it hangs. The
/// main thread waits for us meanwhile (post(), info()): a twentieth of its watchdog's time, once, since after that nothing waits any more.
constexpr auto kPatience = std::chrono::milliseconds(500);

handshake::Failure failure_of(EndReason reason, const char* text) {
    handshake::Failure failure;
    failure.reason = reason;
    failure.text = text;
    return failure;
}

}  // namespace

std::string HandshakeWorker::text_of(FlowId id) { return sallyport::format("{:02x}-{:06x}-{:08x}", id.worker(), id.generation(), id.index()); }

EndReason HandshakeWorker::reason_of(std::uint8_t value) noexcept {
    return value < static_cast<std::uint8_t>(EndReason::count_) ? static_cast<EndReason>(value) : EndReason::none;
}

HandshakeWorker::HandshakeWorker(unsigned index, unsigned count, SecretFiles* secrets)
    : index_(index),
      count_(count),
      secrets_(secrets),
      wake_for_tasks_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      message_(std::make_unique<channel::Message>()) {
    SALLYPORT_CHECK(wake_for_tasks_.valid());
}

HandshakeWorker::~HandshakeWorker() { stop(); }

HandshakeWorker::Opening::~Opening() {
    if (held_handoff) crypto::wipe(&*held_handoff, sizeof(channel::Handoff));
}

void HandshakeWorker::start() {
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), sallyport::format("handshake{}", index_).c_str());
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

void HandshakeWorker::prepare(std::shared_ptr<Runtime> next) {
    post([&] { prepared_ = std::move(next); });
}

void HandshakeWorker::use(std::shared_ptr<Runtime> runtime) {
    post([&] {
        const std::lock_guard lock(sessions_mutex_);
        for (auto& [id, session] : sessions_) end_if_untrusted(session, *runtime);
        const std::shared_ptr<Runtime> before = std::exchange(runtime_, runtime);
        prepared_.reset();
        for (auto& [id, session] : sessions_) move_over(session);
        plan_health(before.get());
    });
}

/// Where its handshakes are done: what only they needed goes, and a configuration that has been left meanwhile is left by it too.
void HandshakeWorker::settle(Session& session) {
    if (!session.client_done || !session.backend_done) return;
    session.opening.reset();
    if (session.runtime == runtime_ || session.runtime == prepared_) return;
    end_if_untrusted(session, *runtime_);
    move_over(session);
}

/// A session whose handshakes are done needs no context any more, only counts and settings to ask about: those of the runtime now.
void HandshakeWorker::move_over(Session& session) const {
    if (!session.client_done || !session.backend_done || !session.member) return;
    const auto service = runtime_->find_service(session.runtime->services[session.service]->id);
    const Pool& pool = pool_of(session);
    const auto at = runtime_->find_pool(pool.id());
    if (!service || !at) return;
    const auto member = runtime_->pools[*at]->find_member(pool.member_id(*session.member));
    if (!member || &runtime_->pools[*at]->member(*member) != &pool.member(*session.member)) return;   // what counts it must be the same
    session.service = *service;
    session.pool = *at;
    session.member = member;
    session.runtime = runtime_;
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
    broken_ = true;   // what waits for room in a ring of the dead need not wait on
    post([&] {
        const std::lock_guard lock(sessions_mutex_);
        for (auto& [id, session] : sessions_) {
            record_flow(FlowId{id}, session, channel::FlowEnded{}, "dataplane_lost", "the dataplane went away, and the flow with it");
            leave_member(session);
            session.runtime->services[session.service]->state.leave();
        }
        sessions_.clear();
        newcomers_.clear();
        awaiting_tickets_.clear();   // another dataplane may count its flows from the same ids
        for (auto& [id, flow] : redirects_) take_one(flow->runtime->redirects[flow->redirect]->flows_now);
        redirects_.clear();
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
    const Session& session = found->second;
    FlowInfo info;
    const Service& service = *session.runtime->services[session.service];
    info.service = service.settings.name;
    if (session.negotiated) {
        info.server_name = session.negotiated->server_name;
        info.alpn = session.negotiated->alpn;
        info.version = session.negotiated->version;
        info.resumed = session.negotiated->resumed;
        info.negotiated = true;
        info.signature_scheme = session.negotiated->signature_scheme;
        info.extended_master_secret = session.negotiated->extended_master_secret;
        info.ech = session.negotiated->ech;
        if (const auto& identity = session.negotiated->identity) {
            info.client_identity = identity->subject;
            info.client_issuer = identity->issuer;
            info.client_serial = identity->serial;
            info.client_names = identity->names;
        }
    }
    if (const auto& negotiated = session.backend_negotiated) {
        info.anchor = negotiated->anchor;
        info.backend_version = negotiated->version;
        info.backend_suite = negotiated->suite;
        if (negotiated->identity) info.backend_subject = negotiated->identity->subject;
    }
    const Pool& pool = pool_of(session);
    info.pool = pool.settings().name;
    if (session.member) info.member = pool.settings().members[*session.member].name;
    return info;
}

HandshakeWorker::Load HandshakeWorker::load() {
    const std::lock_guard lock(sessions_mutex_);
    Load load;
    load.sessions = sessions_.size();
    load.redirects = redirects_.size();
    load.waiting = newcomers_.size();
    load.key_operations = batch_.counts();
    for (const auto& [id, session] : sessions_) {
        if (session.client_shakes_hands()) ++load.handshakes;
        if (session.backend) ++load.backend_contexts;
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
        if (runtime_ && !lanes_.empty() && !broken_) run_health(now);
        for (Lane& lane : lanes_) (void)lane.to_dataplane.publish();   // the dataplane polls
        if (busy) {
            last_busy_ = now;
            give_way();
            continue;
        }
        rest(now);
        bool may_sleep = true;
        if (!broken_)   // else what is there to read stays there
            for (Lane& lane : lanes_) may_sleep &= lane.from_dataplane.sleep();
        if (may_sleep) wait(std::min(now + std::chrono::seconds(1), next_health()));
    }
    // What is left to run must not leave its poster waiting.
    const std::lock_guard lock(tasks_mutex_);
    for (auto& task : tasks_) task();
    tasks_.clear();
}

/// Nothing is to be done. What many handshakes have taken and given back lies about in pieces, which this thread and the C library keep: it is given to the machine once
/// they are over. Costs milliseconds, in which a worker of the dataplane stands still that shares the core: not for the sake of a few.
void HandshakeWorker::rest(Clock::time_point now) {
    constexpr std::uint64_t kMany = 64;   // some megabytes' worth
    if (opened_since_trim_ < kMany || now - last_busy_ < std::chrono::seconds(1)) return;
    opened_since_trim_ = 0;
    openssl::give_freed_memory_back();
    malloc_trim(0);
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
    // For each newcomer that is begun then, as many as the last time: who is under way and who comes share the time, whatever either takes. No longer than a few handshakes' work, since others
    // wait for the mutex, and answers for the end of the batch.
    constexpr std::size_t kMessagesANewcomer = 64, kLookAtClock = 16;
    constexpr auto kLongest = std::chrono::milliseconds(4);
    const std::size_t most = kMessagesANewcomer * std::max<std::size_t>(1, begun_last_turn_);
    const auto until = Clock::now() + kLongest;
    bool any = false, in_time = true;
    const std::lock_guard lock(sessions_mutex_);
    ++turns_;
    for (std::size_t lane = 0; lane < lanes_.size() && !broken_ && in_time; ++lane) {
        const std::size_t i = (turns_ + lane) % lanes_.size();   // another is the first each time, should there be no time for all
        for (std::size_t n = 0; n < most && !broken_ && in_time && lanes_[i].from_dataplane.read(*message_); ++n) {
            on_message(i, *message_);
            any = true;
            // Each answer as soon as it is there: the next handshake may take a while.
            (void)lanes_[i].to_dataplane.publish();
            if (n % kLookAtClock == kLookAtClock - 1) in_time = Clock::now() < until;
        }
        if (lanes_[i].from_dataplane.broken() || lanes_[i].to_dataplane.broken()) broken_ = true;
    }
    // Where there was no time for what has been said, not for many newcomers either: some of them may have gone.
    const std::size_t begun = begin_newcomers(in_time ? handshake::OperationBatch::kMost : 1);
    if (in_time) begun_last_turn_ = begun;
    any = begun > 0 || any;
    finish_batch();
    return any;
}

/// Does a piece of a flow's handshake, up to the first operation with keys that others may share. Nothing else of that flow may be touched before finish_batch().
void HandshakeWorker::in_batch(FlowId flow, std::move_only_function<void()> work) {
    if (batch_.full()) finish_batch();
    batch_.run(flow.value, std::move(work));
}

/// Works out what handshakes wait for, all together, and takes them further, until none waits.
void HandshakeWorker::finish_batch() {
    batch_.finish([this] {
        // Each answer as soon as it is there; and who shares our core waits for one handshake's work, not for that of all.
        for (Lane& lane : lanes_) (void)lane.to_dataplane.publish();
        give_way();
    });
}

/// Where a worker of the dataplane has the same core, its packets must not wait for the end of our time slice: no longer than one handshake's work takes. Nor does it get the core after every
/// small thing that we do: to change over takes as long as some of those.
void HandshakeWorker::give_way() {
    constexpr auto kTurn = std::chrono::microseconds(100);
    const Clock::time_point now = Clock::now();
    if (now - gave_way_ < kTurn) return;
    std::this_thread::yield();
    gave_way_ = Clock::now();
}

/// As many as there are, up to `most`, while they have their operations done together. How many.
std::size_t HandshakeWorker::begin_newcomers(std::size_t most) {
    std::size_t begun = 0;
    for (std::size_t before = batch_.waiting(); begun < most && !batch_.full() && begin_newcomer(); before = batch_.waiting()) {
        ++begun;
        if (batch_.waiting() == before) break;   // it waits for nobody: what has been said meanwhile comes first
    }
    return begun;
}

/// Begins one handshake, so that all that has been said meanwhile is heard before the next: a handshake that is under way goes on, a health check is answered in time, and a client that has
/// gone costs no signature. The first that came is the first to be served; but when more wait than can be served at once, every second is the last that came, for the first have waited so
/// long that they give up: else every client would get its answer too late. The others are still the first, for who has waited longest has shown patience: in a flood whose clients give up
/// sooner than that, its turn comes when they have.
bool HandshakeWorker::begin_newcomer() {
    constexpr std::size_t kTooMany = 64;   // twenty to thirty milliseconds' work
    const auto waiting = [&](FlowId id) -> Session* {
        const auto found = sessions_.find(id.value);
        return found == sessions_.end() || !found->second.client_is_waited_for() ? nullptr : &found->second;
    };
    while (!newcomers_.empty() && waiting(newcomers_.front()) == nullptr) newcomers_.pop_front();
    while (!newcomers_.empty() && !broken_) {
        const bool newest = newcomers_.size() > kTooMany && !newest_was_served_;
        Session* const session = waiting(newest ? newcomers_.back() : newcomers_.front());
        newest ? newcomers_.pop_back() : newcomers_.pop_front();
        if (session == nullptr) continue;
        newest_was_served_ = newest;
        const std::size_t lane = session->lane;
        begin_handshake(*session);
        if (lane < lanes_.size()) (void)lanes_[lane].to_dataplane.publish();
        return true;
    }
    return false;
}

void HandshakeWorker::on_message(std::size_t lane, const channel::Message& message) {
    const FlowId id = message.flow();
    if (batch_.holds(id.value)) finish_batch();
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
    if (const auto redirect = redirects_.find(id.value); redirect != redirects_.end()) {
        on_redirect_message(id, *redirect->second, message);
        return;
    }
    const auto found = sessions_.find(id.value);
    if (found == sessions_.end()) return;   // of a control before us
    Session& session = found->second;
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
                on_backend_lost(session, reason_of(event->reason), failure_of(reason_of(event->reason), channel::sentence(reason_of(event->reason))));
            return;
        case MessageType::leg_closed: {
            const auto* const event = message.fixed<channel::LegEvent>();
            if (event == nullptr) return;
            if (event->leg == Leg::client) {
                if (session.client_shakes_hands())
                    refuse_client(session, failure_of(EndReason::client_handshake_closed, "the client closed during the handshake"));
            } else if (event->attempt == session.attempt && !session.backend_done) {
                on_backend_lost(session, EndReason::backend_lost, failure_of(EndReason::backend_lost, "the backend closed during the handshake"));
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

// ---- messages ----

bool HandshakeWorker::send(std::size_t lane, MessageType type, FlowId flow, std::span<const std::byte> fixed,
                           std::span<const std::byte> payload) {
    if (lane >= lanes_.size()) return false;
    Clock::time_point until{};
    while (!broken_) {   // by this lane or another, or because the main thread gives the dataplane up
        if (lanes_[lane].to_dataplane.write(type, flow, fixed, payload)) return true;
        if (lanes_[lane].to_dataplane.broken()) break;
        (void)lanes_[lane].to_dataplane.publish();
        const Clock::time_point now = Clock::now();
        if (until == Clock::time_point{}) until = now + kPatience;
        if (now >= until) break;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    broken_ = true;
    return false;
}

void HandshakeWorker::send_octets(std::size_t lane, FlowId flow, Leg leg, std::uint8_t attempt, std::uint64_t consumed,
                                  std::span<const std::byte> octets) {
    // Without an answer nothing is said of what was consumed either: the dataplane keeps a client's octets, and a control that is started
    // anew can begin with them.
    while (!octets.empty()) {
        const auto chunk = octets.first(std::min(octets.size(), kChunk));
        (void)send(lane, MessageType::send_octets, flow, channel::SendOctets{leg, attempt, consumed}, chunk);
        octets = octets.subspan(chunk.size());
    }
}

void HandshakeWorker::answer_backend(std::size_t lane, FlowId flow, std::uint8_t attempt, std::uint64_t consumed_before, std::uint64_t consumed,
                                     std::span<const std::byte> octets) {
    // The dataplane keeps what is not consumed, and gives the backend no more window than it keeps: a chain of certificates that is longer
    // than that would never come to its end. No other control could go on with what we consume: without us this leg is over.
    if (octets.empty() && consumed / kTellConsumed != consumed_before / kTellConsumed)
        (void)send(lane, MessageType::send_octets, flow, channel::SendOctets{Leg::backend, attempt, consumed});
    send_octets(lane, flow, Leg::backend, attempt, consumed, octets);
}

void HandshakeWorker::end_leg(std::size_t lane, FlowId flow, Leg leg, std::uint8_t attempt, EndHow how, EndReason reason) {
    (void)send(lane, MessageType::end_leg, flow, channel::EndLeg{leg, attempt, how, static_cast<std::uint8_t>(reason)});
}

}  // namespace sallyport::flows
