#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sallyport::telemetry {

enum class Severity : std::uint8_t {
    warning,    ///< something will go wrong unless somebody acts
    error,      ///< something does not work
    critical,   ///< flows are lost or refused, or the policy is violated
};
/// "warning", "error", "critical".
[[nodiscard]] std::string_view name(Severity severity) noexcept;

/// Something that is wrong, from when it was seen to when it was seen to be over.
struct Alarm {
    std::string kind;     ///< a word of a fixed set, such as member_down: a label of the metric
    std::string object;   ///< what it is about, such as "pool web member web1"; empty: the appliance
    Severity severity = Severity::warning;
    std::string text;     ///< one sentence for a person: as it was said last
    std::chrono::system_clock::time_point raised{}, cleared{};   ///< cleared: of recent ones; else the epoch
    std::uint64_t number = 0;   ///< counts the alarms raised since the start, from 1: names this one in the log
};

/// What is wrong now, and what was. Each alarm is named by kind and object; raising one that is there already renews its text and its
/// severity and says nothing. A raise and a clear leave one line each in the log: alarm_raised, alarm_cleared. Any thread; a lock, held
/// for some hundred instructions.
class Alarms {
 public:
    using Clock = std::chrono::system_clock;
    /// Cleared alarms that are remembered; older ones are forgotten.
    static constexpr std::size_t kRecent = 200;

    void raise(std::string kind, std::string object, Severity severity, std::string text, Clock::time_point now = Clock::now());
    /// Does nothing when there is none.
    void clear(std::string kind, std::string object, Clock::time_point now = Clock::now());

    /// One condition of a kind.
    struct Condition {
        std::string object;
        Severity severity = Severity::warning;
        std::string text;
    };
    /// Of this kind exactly these are there: raises what is new and clears the rest. For who looks at the whole state now and then, so
    /// that the alarm of an object which is no more (a member that was taken out) goes too.
    void settle(std::string_view kind, std::span<const Condition> conditions, Clock::time_point now = Clock::now());

    /// Those that are there, oldest first.
    [[nodiscard]] std::vector<Alarm> active() const;
    /// Those that were cleared, newest first.
    [[nodiscard]] std::vector<Alarm> recent() const;

    /// Called at each raise (cleared is the epoch) and clear, after the lock has been left, by the thread that raises. Once, at the start.
    void on_change(void (*call)(void* argument, const Alarm& alarm), void* argument) noexcept {
        call_ = call;
        argument_ = argument;
    }

 private:
    using Key = std::pair<std::string, std::string>;
    void tell(const Alarm& alarm) const;

    mutable std::mutex mutex_;
    std::map<Key, Alarm> active_;
    std::deque<Alarm> recent_;   ///< newest first
    std::uint64_t raised_ = 0;
    void (*call_)(void*, const Alarm&) = nullptr;
    void* argument_ = nullptr;
};

}  // namespace sallyport::telemetry
