#include "control/telemetry/alarms.h"

#include <algorithm>

#include "control/daemon/logging.h"

namespace sallyport::telemetry {

std::string_view name(Severity severity) noexcept {
    switch (severity) {
        case Severity::warning:
            return "warning";
        case Severity::error:
            return "error";
        case Severity::critical:
            return "critical";
    }
    return "";
}

void Alarms::tell(const Alarm& alarm) const {
    if (alarm.cleared == Clock::time_point{})
        daemon::log(alarm.severity == Severity::warning ? daemon::Level::warning : daemon::Level::error, "alarm_raised",
                    {{"number", alarm.number}, {"kind", alarm.kind}, {"object", alarm.object}, {"severity", name(alarm.severity)}, {"text", alarm.text}});
    else
        daemon::log(daemon::Level::info, "alarm_cleared",
                    {{"number", alarm.number},
                     {"kind", alarm.kind},
                     {"object", alarm.object},
                     {"after_s", std::chrono::duration_cast<std::chrono::seconds>(alarm.cleared - alarm.raised).count()}});
    if (call_ != nullptr) call_(argument_, alarm);
}

void Alarms::raise(std::string kind, std::string object, Severity severity, std::string text, Clock::time_point now) {
    Alarm told;
    {
        const std::lock_guard lock(mutex_);
        const auto [found, fresh] = active_.try_emplace(Key(kind, object));
        Alarm& alarm = found->second;
        alarm.severity = severity;
        alarm.text = std::move(text);
        if (!fresh) return;
        alarm.kind = std::move(kind);
        alarm.object = std::move(object);
        alarm.raised = now;
        alarm.number = ++raised_;
        told = alarm;
    }
    tell(told);
}

void Alarms::clear(std::string kind, std::string object, Clock::time_point now) {
    Alarm told;
    {
        const std::lock_guard lock(mutex_);
        const auto found = active_.find(Key(std::move(kind), std::move(object)));
        if (found == active_.end()) return;
        told = std::move(found->second);
        active_.erase(found);
        told.cleared = now;
        recent_.push_front(told);
        if (recent_.size() > kRecent) recent_.pop_back();
    }
    tell(told);
}

void Alarms::settle(std::string_view kind, std::span<const Condition> conditions, Clock::time_point now) {
    std::vector<std::string> over;
    {
        const std::lock_guard lock(mutex_);
        for (auto each = active_.lower_bound(Key(kind, "")); each != active_.end() && each->first.first == kind; ++each)
            if (!std::ranges::contains(conditions, each->first.second, &Condition::object)) over.push_back(each->first.second);
    }
    for (std::string& object : over) clear(std::string(kind), std::move(object), now);
    for (const Condition& condition : conditions) raise(std::string(kind), condition.object, condition.severity, condition.text, now);
}

std::vector<Alarm> Alarms::active() const {
    std::vector<Alarm> result;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [key, alarm] : active_) result.push_back(alarm);
    }
    std::ranges::sort(result, {}, &Alarm::number);
    return result;
}

std::vector<Alarm> Alarms::recent() const {
    const std::lock_guard lock(mutex_);
    return {recent_.begin(), recent_.end()};
}

}  // namespace sallyport::telemetry
