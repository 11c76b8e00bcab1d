#include "control/flows/runtime.h"

#include <algorithm>
#include <numeric>

#include "control/channel/object_id.h"
#include "control/handshake/ticket_keys.h"

namespace sallyport::flows {

namespace {

template <typename Key>
void count_in(std::vector<std::pair<Key, std::uint64_t>>& counts, Key key) {
    const auto found = std::ranges::find(counts, key, &std::pair<Key, std::uint64_t>::first);
    if (found != counts.end())
        ++found->second;
    else
        counts.emplace_back(key, 1);
}

/// Members as often as their weight (divided by the common divisor), each round taking one of every member that has turns left.
std::vector<std::uint32_t> schedule_of(const std::vector<configuration::Member>& members) {
    std::vector<std::uint32_t> left;
    for (const auto& member : members) left.push_back(member.weight);
    const std::uint32_t divisor = std::max(1u, std::accumulate(left.begin(), left.end(), 0u, std::gcd<std::uint32_t, std::uint32_t>));
    for (auto& turns : left) turns /= divisor;
    std::vector<std::uint32_t> schedule;
    for (bool any = true; any;) {
        any = false;
        for (std::uint32_t i = 0; i < left.size(); ++i) {
            if (left[i] == 0) continue;
            --left[i];
            schedule.push_back(i);
            any = true;
        }
    }
    return schedule;
}

/// Until when a pool may be spoken to in plain text.
std::chrono::system_clock::time_point plain_until(const configuration::Configuration& configuration, const configuration::Pool& pool) {
    using Time = std::chrono::system_clock::time_point;
    Time until = Time::max();
    for (const policy::Requirement requirement : {policy::Requirement::r9_2_2, policy::Requirement::r9_3_1}) {
        const policy::RequirementText& text = policy::text(requirement);
        if (configuration.policy_level < text.level) continue;
        const auto waiver = std::ranges::find_if(configuration.waivers, [&](const configuration::Waiver& each) {
            return each.requirement == text.id && each.object == "pool " + pool.name;
        });
        until = std::min(until, waiver == configuration.waivers.end() ? Time::min() : waiver->until);
    }
    return until;
}

}  // namespace

Pool::Pool(const configuration::Configuration& configuration, std::uint32_t index, handshake::ClientMaterials materials,
           const Pool* before)
    : settings_(configuration.pools[index]), id_(channel::pool_id(settings_.name)), plain_until_(plain_until(configuration, settings_)), crls_(materials.crls),
      schedule_(schedule_of(settings_.members)) {
    if (settings_.tls) context_ = handshake::make_client_context(configuration, settings_, std::move(materials));
    for (const configuration::Member& member : settings_.members) {
        member_ids_.push_back(channel::member_id(member.name));
        const auto old = before != nullptr ? before->find_member(member_ids_.back()) : std::nullopt;
        members_.push_back(old ? before->members_[*old] : std::make_shared<MemberState>());
        moved_.push_back(old && before->settings_.members[*old].address != member.address);
    }
    if (before != nullptr) next_ = before->next_.load();   // else each change would begin with the first member again
}

void Pool::take_effect() {
    for (std::uint32_t i = 0; i < size(); ++i) {
        if (settings_.health && !moved_[i]) continue;
        members_[i]->up = true;
        members_[i]->set_why("");
    }
}

std::optional<std::uint32_t> Pool::find_member(std::uint64_t id) const noexcept {
    const auto found = std::ranges::find(member_ids_, id);
    if (found == member_ids_.end()) return std::nullopt;
    return static_cast<std::uint32_t>(found - member_ids_.begin());
}

std::optional<std::uint32_t> Pool::choose(std::span<const std::uint32_t> tried) {
    const auto usable = [&](std::uint32_t member) {
        return members_[member]->up && !drains(member) && settings_.members[member].weight != 0 &&
               std::ranges::find(tried, member) == tried.end();
    };
    std::optional<std::uint32_t> chosen;
    if (settings_.balance == configuration::Balance::least_connections) {
        const std::uint64_t start = next_.fetch_add(1, std::memory_order_relaxed);   // ties go round
        for (std::uint32_t i = 0; i < size(); ++i) {
            const auto member = static_cast<std::uint32_t>((start + i) % size());
            if (!usable(member)) continue;
            // flows/weight compared without division
            if (!chosen || members_[member]->flows_now * settings_.members[*chosen].weight <
                               members_[*chosen]->flows_now * settings_.members[member].weight)
                chosen = member;
        }
    } else {
        for (std::size_t i = 0; i < schedule_.size() && !chosen; ++i) {
            const std::uint32_t member = schedule_[next_.fetch_add(1, std::memory_order_relaxed) % schedule_.size()];
            if (usable(member)) chosen = member;
        }
        for (std::uint32_t member = 0; member < size() && !chosen; ++member)   // other threads took the turns
            if (usable(member)) chosen = member;
    }
    if (chosen) {
        ++members_[*chosen]->flows_now;
        ++members_[*chosen]->flows_total;
    }
    return chosen;
}

void Pool::leave(std::uint32_t member) noexcept {
    if (member < size()) take_one(members_[member]->flows_now);
}

void Pool::adopt(std::uint32_t member, std::uint64_t flows) noexcept {
    if (member >= size()) return;
    members_[member]->flows_now += flows;
    members_[member]->flows_total += flows;
}

void ServiceState::count_done(const handshake::Negotiated& negotiated) {
    ++handshakes_done;
    if (negotiated.resumed) ++resumed;
    ++ech[static_cast<std::size_t>(negotiated.ech)];
    if (negotiated.ech == handshake::EchOutcome::rejected) count(policy::Violation::ech_rejected);
    const std::lock_guard lock(mutex_);
    count_in(counts_.by_version, negotiated.version);
    count_in(counts_.by_suite, negotiated.suite);
    count_in(counts_.by_group, negotiated.group);
    count_in(counts_.by_kind, Kind{negotiated.version, negotiated.suite, negotiated.group, negotiated.resumed});
}

void ServiceState::count_failed(channel::EndReason reason) {
    ++handshakes_failed;
    const std::lock_guard lock(mutex_);
    count_in(counts_.by_failure, reason);
}

ServiceState::Counts ServiceState::counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
}

Runtime::Runtime(configuration::Configuration loaded, const Materials& materials)
    : configuration(std::move(loaded)) {
    const Runtime* const before = materials.before.get();
    if (before != nullptr) {
        brake = before->brake;
        failures = before->failures;
        for (std::size_t i = 0; i < violations_of_checks.size(); ++i) violations_of_checks[i] = before->violations_of_checks[i].load();
        violations_of_removed = before->violations_of_removed;
    } else {
        brake = Brake::make(configuration.brake);
        failures = std::make_shared<FailureLog>();
    }
    const bool same_tickets = before != nullptr && before->configuration.tickets.period_s == configuration.tickets.period_s &&
                              before->configuration.tickets.secret == configuration.tickets.secret && configuration.tickets.secret.empty();
    tickets = same_tickets ? before->tickets : handshake::make_ticket_keys(configuration.tickets);
    for (std::uint32_t i = 0; i < configuration.services.size(); ++i) {
        const std::uint64_t id = channel::service_id(configuration.services[i].name);
        const auto old = before != nullptr ? before->find_service(id) : std::nullopt;
        services.push_back(old ? std::make_unique<Service>(before->services[*old]->kept) : std::make_unique<Service>());
        service_by_id_.emplace(id, i);
        services.back()->id = id;
        services.back()->settings = configuration.services[i];
        handshake::ServerMaterials own = materials.of_service ? materials.of_service(i) : handshake::ServerMaterials{};
        if (!own.tickets) own.tickets = tickets;
        services.back()->client_crls = own.client_crls;
        services.back()->keys = signing_keys(configuration.services[i]);
        services.back()->context = handshake::make_server_context(configuration, configuration.services[i], std::move(own));
    }
    for (std::uint32_t i = 0; i < configuration.redirects.size(); ++i) {
        const std::uint64_t id = channel::redirect_id(configuration.redirects[i].name);
        const auto old = before != nullptr ? before->find_service(id) : std::nullopt;
        redirects.push_back(old ? std::make_shared<Redirect>(before->redirects[*old - before->services.size()]->kept) : std::make_shared<Redirect>());
        service_by_id_.emplace(id, static_cast<std::uint32_t>(services.size()) + i);
        redirects.back()->settings = configuration.redirects[i];
    }
    for (std::uint32_t i = 0; i < configuration.pools.size(); ++i) {
        const std::uint64_t id = channel::pool_id(configuration.pools[i].name);
        const auto old = before != nullptr ? before->find_pool(id) : std::nullopt;
        pools.push_back(std::make_unique<Pool>(configuration, i, materials.of_pool ? materials.of_pool(i) : handshake::ClientMaterials{},
                                               old ? before->pools[*old].get() : nullptr));
        pool_by_id_.emplace(id, i);
    }
    if (before == nullptr) return;
    for (const auto& service : before->services) {   // a total must not fall because a service has gone
        if (find_service(service->id)) continue;
        for (std::size_t i = 0; i < violations_of_removed.size(); ++i) violations_of_removed[i] += service->state.violations[i];
    }
}

void Runtime::take_effect() {
    brake->configure(configuration.brake);
    for (const auto& pool : pools) pool->take_effect();
}

std::optional<std::uint32_t> Runtime::find_service(std::uint64_t id) const noexcept {
    const auto found = service_by_id_.find(id);
    return found == service_by_id_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::uint32_t> Runtime::find_pool(std::uint64_t id) const noexcept {
    const auto found = pool_by_id_.find(id);
    return found == pool_by_id_.end() ? std::nullopt : std::optional(found->second);
}

void Runtime::adopt(std::uint64_t service, std::uint64_t pool, std::uint64_t member, std::uint64_t flows) noexcept {
    if (const auto at = find_service(service); at && *at < services.size()) {
        services[*at]->state.flows_now += flows;
        services[*at]->state.flows_total += flows;
    }
    if (const auto at = find_pool(pool))
        if (const auto position = pools[*at]->find_member(member)) pools[*at]->adopt(*position, flows);
}

void Runtime::leave_adopted(std::uint64_t service, std::uint64_t pool, std::uint64_t member) noexcept {
    if (const auto at = find_service(service); at && *at < services.size()) services[*at]->state.leave();
    if (const auto at = find_pool(pool))
        if (const auto position = pools[*at]->find_member(member)) pools[*at]->leave(*position);
}

void Runtime::remake_context(std::uint32_t service, handshake::ServerMaterials materials) {
    if (!materials.tickets) materials.tickets = tickets;
    services[service]->context = handshake::make_server_context(configuration, configuration.services[service], std::move(materials));
}

std::uint64_t Runtime::violations(policy::Violation violation) const noexcept {
    const auto index = static_cast<std::size_t>(violation);
    std::uint64_t sum = violations_of_checks[index] + violations_of_removed[index];
    for (const auto& service : services) sum += service->state.violations[index];
    return sum;
}

void Runtime::rotate_tickets() { tickets->rotate(); }

}  // namespace sallyport::flows
