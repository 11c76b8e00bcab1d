#include "control/flows/runtime.h"

#include <algorithm>
#include <numeric>

#include "control/handshake/ticket_keys.h"

namespace sallyport::flows {

namespace {

template <typename Key>
void count(std::vector<std::pair<Key, std::uint64_t>>& counts, Key key) {
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

Pool::Pool(const configuration::Configuration& configuration, std::uint32_t index)
    : settings_(configuration.pools[index]), schedule_(schedule_of(settings_.members)) {
    if (settings_.tls) context_ = handshake::make_client_context(configuration, settings_, {});
    for (const auto& member : settings_.members) {
        members_.push_back(std::make_unique<MemberState>());
        members_.back()->drain = member.drain;
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
    if (member >= size()) return;
    std::uint64_t now = members_[member]->flows_now;
    while (now != 0 && !members_[member]->flows_now.compare_exchange_weak(now, now - 1)) {
    }
}

void Pool::adopt(std::uint32_t member, std::uint64_t flows) noexcept {
    if (member >= size()) return;
    members_[member]->flows_now += flows;
    members_[member]->flows_total += flows;
}

void ServiceState::count_done(const handshake::Negotiated& negotiated) {
    ++handshakes_done;
    if (negotiated.resumed) ++resumed;
    const std::lock_guard lock(mutex_);
    count(counts_.by_version, negotiated.version);
    count(counts_.by_suite, negotiated.suite);
    count(counts_.by_group, negotiated.group);
}

void ServiceState::count_failed(channel::EndReason reason) {
    ++handshakes_failed;
    const std::lock_guard lock(mutex_);
    count(counts_.by_failure, reason);
}

ServiceState::Counts ServiceState::counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
}

Runtime::Runtime(configuration::Configuration loaded) : configuration(std::move(loaded)) {
    tickets = handshake::make_ticket_keys(configuration.tickets);
    for (std::uint32_t i = 0; i < configuration.services.size(); ++i) {
        services.push_back(std::make_unique<Service>());
        services.back()->settings = configuration.services[i];
        services.back()->context = handshake::make_server_context(configuration, configuration.services[i], i, {.tickets = tickets});
    }
    for (std::uint32_t i = 0; i < configuration.pools.size(); ++i) pools.push_back(std::make_unique<Pool>(configuration, i));
}

void Runtime::rotate_tickets() { tickets->rotate(); }

}  // namespace sallyport::flows
