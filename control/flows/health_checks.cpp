#include <algorithm>

#include "control/daemon/logging.h"
#include "control/flows/handshake_worker.h"

/// Health checks: a connection to the member through the dataplane and, for a TLS pool, a handshake with the same verification that
/// flows get. Each handshake worker checks its share of the members.
namespace sallyport::flows {

using channel::EndHow;
using channel::EndReason;
using channel::Leg;
using channel::MessageType;
using handshake::Step;

/// Members that are the same as `before`, at the same address, go on where they are: a change begins no check anew, and what runs counts.
void HandshakeWorker::plan_health(const Runtime* before) {
    std::unordered_map<const MemberState*, Health> known;
    for (const Health& health : health_) known.emplace(&before->pools[health.pool]->member(health.member), health);
    health_.clear();
    const Clock::time_point now = Clock::now();
    for (std::uint32_t at = 0; at < runtime_->pools.size(); ++at) {
        Pool& pool = *runtime_->pools[at];
        if (!pool.settings().health) continue;
        for (std::uint32_t member = 0; member < pool.size(); ++member) {
            // By name, so that each worker keeps its members whatever comes and goes beside them.
            if ((pool.id() ^ pool.member_id(member)) % count_ != index_) continue;
            Health health{at, member, 0, 0, now, false};
            if (const auto old = known.find(&pool.member(member)); old != known.end()) {
                const Pool& there = *before->pools[old->second.pool];
                if (there.settings().members[old->second.member].address == pool.settings().members[member].address) {
                    health = old->second;
                    health.pool = at;
                    health.member = member;
                    health.next = std::min(health.next, now + std::chrono::milliseconds(pool.settings().health->interval_ms));
                }
            }
            health_.push_back(health);
        }
    }
}

HandshakeWorker::Clock::time_point HandshakeWorker::next_health() const {
    auto next = Clock::time_point::max();
    if (lanes_.empty() || broken_) return next;
    for (const Health& health : health_)
        if (!health.running) next = std::min(next, health.next);
    for (const auto& [probe, check] : checks_) next = std::min(next, check->deadline);
    return next;
}

void HandshakeWorker::run_health(Clock::time_point now) {
    const std::lock_guard lock(sessions_mutex_);
    std::vector<std::uint64_t> late;
    for (const auto& [probe, check] : checks_)
        if (check->deadline <= now) late.push_back(probe);
    for (const std::uint64_t probe : late) end_check(probe, "no answer in time");
    for (Health& health : health_)
        if (!health.running && health.next <= now) begin_check(health, now);
}

void HandshakeWorker::begin_check(Health& health, Clock::time_point now) {
    Pool& pool = *runtime_->pools[health.pool];
    const configuration::HealthCheck& settings = *pool.settings().health;
    health.running = true;
    health.next = now + std::chrono::milliseconds(settings.interval_ms);
    auto check = std::make_unique<Check>();
    check->pool = health.pool;
    check->member = health.member;
    check->probe = next_probe_++;
    check->lane = check->probe % lanes_.size();
    check->runtime = runtime_;
    check->deadline = now + std::chrono::milliseconds(settings.timeout_ms);
    channel::OpenProbe request{};
    request.probe = check->probe;
    request.remote = pool.settings().members[health.member].address;
    request.connect_timeout_ms = settings.timeout_ms;
    const std::uint64_t probe = check->probe;
    const std::size_t lane = check->lane;
    checks_[probe] = std::move(check);
    (void)send(lane, MessageType::open_probe, channel::FlowId{}, request);
}

void HandshakeWorker::on_check_message(Check& check, const channel::Message& message) {
    Pool& pool = *check.runtime->pools[check.pool];
    switch (message.type()) {
        case MessageType::backend_opened: {
            if (!pool.context() && !pool.may_be_plain(std::chrono::system_clock::now())) {
                fail_check(check, plain_text_refused());
                return;
            }
            if (!pool.context()) {
                end_check(check.probe, "");
                return;
            }
            check.handshake = std::make_unique<handshake::ClientHandshake>(
                pool.context(), "", pool.settings().members[check.member].address.to_string());
            std::vector<std::byte> output;
            const Step step = check.handshake->start(output);
            send_octets(check.lane, check.flow, Leg::backend, 1, 0, output);
            if (step == Step::failed) fail_check(check, check.handshake->failure());
            return;
        }
        case MessageType::stream_octets: {
            const auto* const where = message.fixed<channel::StreamOctets>();
            if (where == nullptr || !check.handshake || where->offset != check.next) return;
            const auto octets = message.payload<channel::StreamOctets>();
            check.next += octets.size();
            std::vector<std::byte> output;
            const std::uint64_t before = check.handshake->consumed();
            const Step step = check.handshake->feed(octets, output);
            answer_backend(check.lane, check.flow, 1, before, check.handshake->consumed(), output);
            if (step == Step::failed)
                fail_check(check, check.handshake->failure());
            else if (step == Step::done)
                end_check(check.probe, "");
            return;
        }
        case MessageType::backend_failed:
        case MessageType::leg_closed: {
            const auto* const event = message.fixed<channel::LegEvent>();
            const auto reason = event != nullptr && event->reason < static_cast<std::uint8_t>(EndReason::count_)
                                    ? static_cast<EndReason>(event->reason)
                                    : EndReason::backend_lost;
            end_check(check.probe, reason == EndReason::backend_refused ? "connection refused" : reason == EndReason::backend_unreachable ? "no answer"
                                                                                                                                          : "connection lost");
            return;
        }
        case MessageType::flow_opened:
        case MessageType::flow_ended:
        case MessageType::ticket_record:
        case MessageType::tickets_over:
        case MessageType::probe_opened:
        case MessageType::send_octets:
        case MessageType::open_backend:
        case MessageType::handoff:
        case MessageType::end_leg:
        case MessageType::open_probe:
            return;
    }
}

/// The handshake of a check has failed: recorded as those of flows are.
void HandshakeWorker::fail_check(Check& check, const handshake::Failure& why) {
    const handshake::Failure failure = why;   // that of the handshake, which goes with the check
    const Pool& pool = *check.runtime->pools[check.pool];
    const configuration::Member& member = pool.settings().members[check.member];
    if (failure.violation) ++check.runtime->violations_of_checks[static_cast<std::size_t>(*failure.violation)];
    if (const auto now = FailureLog::Clock::now(); check.runtime->failures->wants(now)) {
        FailedHandshake failed;
        failed.leg = Leg::backend;
        failed.pool = pool.settings().name;
        failed.member = member.name;
        failed.address = member.address.to_string();
        failed.failure = &failure;
        failed.reason = failure.reason == EndReason::none ? EndReason::backend_handshake_failed : failure.reason;
        check.runtime->failures->add(failed, now);
    }
    end_check(check.probe, failure.text);
}

/// `failure`: empty when the member is well.
void HandshakeWorker::end_check(std::uint64_t probe, const std::string& failure) {
    const auto found = checks_.find(probe);
    if (found == checks_.end()) return;
    const std::unique_ptr<Check> check = std::move(found->second);
    checks_.erase(found);
    // Its check_of_flow_ entry goes with flow_ended.
    if (check->flow.value != 0) end_leg(check->lane, check->flow, Leg::backend, 1, EndHow::close, EndReason::probe_done);
    // It may have begun under another configuration: the same member at the same address is meant, wherever it stands now.
    const MemberState& checked = check->runtime->pools[check->pool]->member(check->member);
    const SocketAddress address = check->runtime->pools[check->pool]->settings().members[check->member].address;
    const auto health = std::ranges::find_if(health_, [&](const Health& each) {
        const Pool& pool = *runtime_->pools[each.pool];
        return &pool.member(each.member) == &checked && pool.settings().members[each.member].address == address;
    });
    if (health == health_.end()) return;
    health->running = false;
    Pool& pool = *runtime_->pools[health->pool];
    MemberState& member = pool.member(health->member);
    const configuration::HealthCheck& settings = *pool.settings().health;
    member.last_check = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    if (failure.empty()) {
        health->bad = 0;
        if (++health->good >= settings.rise && !member.up) {
            member.up = true;
            member.set_why("");
            daemon::log(daemon::Level::info, "member_up", {{"pool", pool.settings().name}, {"member", pool.settings().members[health->member].name}});
        }
        if (member.up) member.set_why("");
        return;
    }
    health->good = 0;
    ++member.failures;
    member.set_why(failure);
    if (++health->bad < settings.fall || !member.up) return;
    member.up = false;
    daemon::log(daemon::Level::warning, "member_down",
                {{"pool", pool.settings().name}, {"member", pool.settings().members[health->member].name}, {"why", failure}});
}

}  // namespace sallyport::flows
