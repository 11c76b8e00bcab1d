#include "dataplane/pings.h"

#include <algorithm>

#include "crypto/format.h"

namespace sallyport {

using nlohmann::json;
using What = network::EchoHeard::What;

namespace {

/// RFC 792 and RFC 1812 5.2.7.1; RFC 4443 3.1.
std::string unreachable_text(bool ipv4, std::uint8_t code) {
    if (ipv4) switch (code) {
            case 0: return "network unreachable";
            case 1: return "host unreachable";
            case 2: return "protocol unreachable";
            case 3: return "port unreachable";
            case 9:
            case 10:
            case 13: return "prohibited by a filter";
            default: return sallyport::format("destination unreachable (code {})", code);
        }
    switch (code) {
        case 0: return "no route to the destination";
        case 1:
        case 5: return "prohibited by a filter";
        case 3: return "address unreachable";
        case 4: return "port unreachable";
        default: return sallyport::format("destination unreachable (code {})", code);
    }
}

std::string text_of(const network::EchoHeard& echo) {
    switch (echo.what) {
        case What::reply: return {};
        case What::packet_too_big: return "the packet was too big for the path";
        case What::unreachable: return unreachable_text(echo.to.is_v4(), echo.code);
        case What::time_exceeded: return "the packet's hop limit ran out on the way";
        case What::parameter_problem: return "a router could not read the packet";
    }
    return {};
}

}  // namespace

bool Pings::Ping::done() const noexcept {
    return probes.size() >= settings.count && std::ranges::none_of(probes, [](const Probe& probe) { return probe.outcome == Outcome::waiting; });
}

std::expected<std::uint64_t, std::string> Pings::start(const Settings& settings, std::uint16_t identifier, Time now) {
    if (pings_.size() >= kMost) {
        const auto ended = std::ranges::find_if(pings_, &Ping::done);
        if (ended == pings_.end()) return std::unexpected(sallyport::format("{} pings run already", kMost));
        pings_.erase(ended);
    }
    Ping ping;
    ping.id = next_id_++;
    ping.settings = settings;
    ping.settings.count = std::clamp(settings.count, 1u, kMostProbes);
    ping.identifier = identifier;
    ping.next = now;
    ping.probes.reserve(ping.settings.count);
    pings_.push_back(std::move(ping));
    return pings_.back().id;
}

std::vector<Pings::Due> Pings::due(Time now) {
    std::vector<Due> result;
    for (Ping& ping : pings_) {
        if (ping.probes.size() >= ping.settings.count || now < ping.next) continue;
        result.push_back({ping.id, ping.settings.to, ping.identifier, static_cast<std::uint16_t>(ping.probes.size()), ping.settings.octets});
        ping.probes.emplace_back().sent = now;
        ping.next = std::max(ping.next + ping.settings.interval, now);
    }
    return result;
}

Pings::Probe* Pings::find(std::uint64_t id, std::uint16_t sequence) noexcept {
    const auto ping = std::ranges::find(pings_, id, &Ping::id);
    if (ping == pings_.end() || sequence >= ping->probes.size() || ping->probes[sequence].outcome != Outcome::waiting) return nullptr;
    return &ping->probes[sequence];
}

void Pings::not_sent(const Due& probe, std::string why) {
    if (Probe* const found = find(probe.ping, probe.sequence)) {
        found->outcome = Outcome::error;
        found->why = std::move(why);
    }
}

void Pings::heard(const network::EchoHeard& echo) {
    for (Ping& ping : pings_) {
        if (ping.identifier != echo.identifier || ping.settings.to != echo.to) continue;
        Probe* const probe = find(ping.id, echo.sequence);
        if (probe == nullptr) continue;
        probe->outcome = echo.what == What::reply ? Outcome::reply : Outcome::error;
        probe->round_trip = echo.at - probe->sent;
        probe->why = text_of(echo);
        probe->from = echo.from;
        return;
    }
}

std::vector<Pings::Due> Pings::overdue(Time now) const {
    std::vector<Due> result;
    for (const Ping& ping : pings_)
        for (std::size_t i = 0; i < ping.probes.size(); ++i)
            if (ping.probes[i].outcome == Outcome::waiting && now >= ping.probes[i].sent + ping.settings.patience)
                result.push_back({ping.id, ping.settings.to, ping.identifier, static_cast<std::uint16_t>(i), ping.settings.octets});
    return result;
}

void Pings::timed_out(const Due& probe, std::string why) {
    if (Probe* const found = find(probe.ping, probe.sequence)) {
        found->outcome = Outcome::timeout;
        found->why = std::move(why);
    }
}

std::expected<json, std::string> Pings::read(std::uint64_t id) const {
    constexpr const char* kNames[] = {"waiting", "reply", "timeout", "error"};   // of Outcome
    const auto ping = std::ranges::find(pings_, id, &Ping::id);
    if (ping == pings_.end()) return std::unexpected(sallyport::format("there is no ping {}", id));
    json probes = json::array();
    std::uint64_t received = 0;
    for (std::size_t i = 0; i < ping->probes.size(); ++i) {
        const Probe& probe = ping->probes[i];
        const bool reply = probe.outcome == Outcome::reply;
        if (reply) ++received;
        probes.push_back({{"sequence", i},
                          {"outcome", kNames[static_cast<std::size_t>(probe.outcome)]},
                          {"round_trip_us", reply ? std::chrono::duration_cast<std::chrono::microseconds>(probe.round_trip).count() : 0},
                          {"why", probe.why},
                          {"from", probe.from.is_unspecified() ? std::string() : probe.from.to_string()}});
    }
    return json{{"id", ping->id}, {"address", ping->settings.to.to_string()}, {"done", ping->done()}, {"sent", ping->probes.size()}, {"received", received}, {"octets", ping->settings.octets}, {"count", ping->settings.count}, {"probes", std::move(probes)}};
}

bool Pings::running() const noexcept { return !std::ranges::all_of(pings_, &Ping::done); }

}  // namespace sallyport
