#include "dataplane/captures.h"

#include <algorithm>
#include <utility>

#include "crypto/format.h"

namespace sallyport {

using drivers::Capture;
using nlohmann::json;

namespace {
constexpr std::size_t kKept = 32;   ///< reports of captures that have ended
}

Captures::Captures(std::vector<drivers::CapturedPort> ports, unsigned workers, rte_mempool* pool,
                   std::function<bool(unsigned, const drivers::CaptureTap*)> show)
    : ports_(std::move(ports)), workers_(workers), pool_(pool), show_(std::move(show)) {}

Captures::~Captures() { end_all(Capture::End::stopped); }

/// Every worker gets a tap of the captures that run now; the taps before go when none has them any more.
bool Captures::show_taps() {
    std::vector<std::unique_ptr<drivers::CaptureTap>> next;
    for (unsigned w = 0; w < workers_; ++w) {
        std::vector<drivers::CaptureLane*> lanes;
        for (Running& each : running_) lanes.push_back(each.capture->lane(w));
        next.push_back(lanes.empty() ? nullptr : std::make_unique<drivers::CaptureTap>(std::move(lanes)));
    }
    bool all = true;
    for (unsigned w = 0; w < workers_; ++w) all = show_(w, next[w].get()) && all;
    // A worker that hangs may still use its old one: the process is about to end, and until then nothing may go.
    if (!all)
        for (auto& tap : taps_) static_cast<void>(tap.release());
    taps_ = std::move(next);
    return all;
}

std::expected<json, std::string> Captures::start(const json& arguments, const channel::Descriptor& file, Now now) {
    if (running_.size() >= kMost) return std::unexpected(sallyport::format("{} captures run already; stop one first", kMost));
    Capture::Settings settings;
    const auto id = arguments.at("id").get<std::uint64_t>();
    settings.filter = arguments.value("filter", std::string());
    settings.comment = arguments.value("comment", std::string());
    settings.snap = std::clamp(arguments.at("snap").get<std::uint32_t>(), 64u, 65535u);
    settings.packets = arguments.at("packets").get<std::uint64_t>();
    settings.octets = arguments.at("octets").get<std::uint64_t>();
    settings.duration = std::chrono::seconds(std::min<std::uint64_t>(arguments.at("seconds").get<std::uint64_t>(), 86400));
    settings.secrets_room = std::min<std::uint32_t>(arguments.value("secrets_room", 0u), 64u << 20);
    if (const auto names = arguments.value("ports", std::vector<std::string>()); !names.empty()) {
        settings.interfaces.assign(ports_.size(), false);
        for (const std::string& name : names) {
            const auto found = std::ranges::find(ports_, name, &drivers::CapturedPort::name);
            if (found == ports_.end()) return std::unexpected("there is no port '" + name + "'");
            settings.interfaces[static_cast<std::size_t>(found - ports_.begin())] = true;
        }
    }
    auto capture = Capture::open(settings, file, ports_, workers_, pool_, now);
    if (!capture) return std::unexpected(capture.error());
    const auto room = (*capture)->secrets();
    running_.push_back({id, std::move(*capture)});
    if (!show_taps()) return std::unexpected("a worker hangs");
    return json{{"secrets_at", room.offset}, {"secrets_room", room.octets}};
}

json Captures::view(std::uint64_t id, const Capture& capture) {
    const Capture::Counts counts = capture.counts();
    return {{"id", id},
            {"state", capture.end() == Capture::End::running ? "running" : "ended"},
            {"end", capture.end() == Capture::End::running ? "" : drivers::name(capture.end())},
            {"seen", counts.seen},
            {"packets", counts.written},
            {"dropped", counts.dropped},
            {"octets", counts.octets},
            {"error", capture.error()}};
}

json Captures::end(std::size_t index, Capture::End why) {
    Running ending = std::move(running_[index]);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
    const bool unseen = show_taps();
    ending.capture->finish(why);
    json report = view(ending.id, *ending.capture);
    ended_.push_back(report);
    if (ended_.size() > kKept) ended_.pop_front();
    if (!unseen) static_cast<void>(ending.capture.release());
    return report;
}

std::expected<json, std::string> Captures::stop(std::uint64_t id) {
    const auto found = std::ranges::find(running_, id, &Running::id);
    if (found != running_.end()) return end(static_cast<std::size_t>(found - running_.begin()), Capture::End::stopped);
    const auto ended = std::ranges::find_if(ended_, [&](const json& each) { return each["id"] == id; });
    if (ended != ended_.end()) return *ended;
    return std::unexpected(sallyport::format("no capture {} runs", id));
}

json Captures::report() const {
    json result = json::array();
    for (const json& each : ended_) result.push_back(each);
    for (const Running& each : running_) result.push_back(view(each.id, *each.capture));
    return result;
}

void Captures::turn(Now now) {
    for (std::size_t i = 0; i < running_.size();) {
        static_cast<void>(running_[i].capture->turn(now));
        const Capture::End why = running_[i].capture->end();
        if (why == Capture::End::running)
            ++i;
        else
            ended_by_themselves_.push_back(end(i, why));
    }
}

void Captures::control_lost() {
    end_all(Capture::End::control_lost);
    ended_.clear();
    ended_by_themselves_.clear();
}

void Captures::end_all(Capture::End why) {
    while (!running_.empty()) static_cast<void>(end(running_.size() - 1, why));
}

}  // namespace sallyport
