#include "control/flows/runtime.h"

#include <algorithm>
#include <numeric>

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

}  // namespace

Pool::Pool(const configuration::Configuration& configuration, std::uint32_t index, handshake::ClientMaterials materials,
           const Pool* before)
    : settings_(configuration.pools[index]), crls_(materials.crls), schedule_(schedule_of(settings_.members)) {
    if (settings_.tls) context_ = handshake::make_client_context(configuration, settings_, std::move(materials));
    for (std::uint32_t i = 0; i < settings_.members.size(); ++i) {
        members_.push_back(before != nullptr && i < before->size() ? before->members_[i] : std::make_shared<MemberState>());
        members_.back()->drain = settings_.members[i].drain;
        if (!settings_.health) members_.back()->up = true;   // nobody would find out
    }
}

std::optional<std::uint32_t> Pool::choose(std::span<const std::uint32_t> tried) {
    const auto usable = [&](std::uint32_t member) {
        return members_[member]->up && !members_[member]->drain && settings_.members[member].weight != 0 &&
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
        brake->configure(configuration.brake);
        failures = before->failures;
        for (std::size_t i = 0; i < violations_of_checks.size(); ++i) violations_of_checks[i] = before->violations_of_checks[i].load();
    } else {
        brake = Brake::make(configuration.brake);
        failures = std::make_shared<FailureLog>();
    }
    const bool same_tickets = before != nullptr && before->configuration.tickets.period_s == configuration.tickets.period_s &&
                              before->configuration.tickets.secret == configuration.tickets.secret && configuration.tickets.secret.empty();
    tickets = same_tickets ? before->tickets : handshake::make_ticket_keys(configuration.tickets);
    for (std::uint32_t i = 0; i < configuration.services.size(); ++i) {
        services.push_back(before != nullptr && i < before->services.size() ? std::make_unique<Service>(before->services[i]->kept)
                                                                            : std::make_unique<Service>());
        services.back()->settings = configuration.services[i];
        handshake::ServerMaterials own = materials.of_service ? materials.of_service(i) : handshake::ServerMaterials{};
        if (!own.tickets) own.tickets = tickets;
        services.back()->client_crls = own.client_crls;
        services.back()->keys = signing_keys(configuration.services[i]);
        services.back()->context = handshake::make_server_context(configuration, configuration.services[i], i, std::move(own));
    }
    for (std::size_t i = 0; i < configuration.redirects.size(); ++i) {
        if (before != nullptr && i < before->redirects.size()) {
            redirects.push_back(before->redirects[i]);   // name and place are the same, and the rest is the dataplane's
            continue;
        }
        redirects.push_back(std::make_shared<Redirect>());
        redirects.back()->settings = configuration.redirects[i];
    }
    for (std::uint32_t i = 0; i < configuration.pools.size(); ++i)
        pools.push_back(std::make_unique<Pool>(configuration, i, materials.of_pool ? materials.of_pool(i) : handshake::ClientMaterials{},
                                               before != nullptr && i < before->pools.size() ? before->pools[i].get() : nullptr));
}

void Runtime::remake_context(std::uint32_t service, handshake::ServerMaterials materials) {
    if (!materials.tickets) materials.tickets = tickets;
    services[service]->context = handshake::make_server_context(configuration, configuration.services[service], service, std::move(materials));
}

std::uint64_t Runtime::violations(policy::Violation violation) const noexcept {
    const auto index = static_cast<std::size_t>(violation);
    std::uint64_t sum = violations_of_checks[index];
    for (const auto& service : services) sum += service->state.violations[index];
    return sum;
}

void Runtime::rotate_tickets() { tickets->rotate(); }

}  // namespace sallyport::flows
