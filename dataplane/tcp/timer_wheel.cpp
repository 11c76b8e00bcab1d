#include "dataplane/tcp/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace sallyport::tcp {

namespace {
/// Beyond this an entry fires early and is set again by its owner, which is all that keeps deadlines of decades honest.
constexpr std::uint64_t kFarthest = (std::uint64_t{1} << 40) - 1;
}  // namespace

void TimerWheel::insert(TimerEntry& entry) noexcept {
    constexpr std::uint64_t round_up = (std::uint64_t{1} << kTickShift) - 1;
    const std::uint64_t wanted = (static_cast<std::uint64_t>(entry.timer_at.time_since_epoch().count()) + round_up) >> kTickShift;
    const std::uint64_t tick = std::clamp(wanted, current_, kFarthest);
    // The level is that of the highest digit in which the tick differs from the current one.
    const std::uint64_t differing = tick ^ current_;
    const std::size_t level = differing == 0 ? 0 : static_cast<std::size_t>(63 - std::countl_zero(differing)) / 8;
    const std::size_t digit = (tick >> (8 * level)) & (kSlots - 1);
    const std::size_t slot = level * kSlots + digit;
    entry.timer_slot = static_cast<std::uint16_t>(slot);
    entry.timer_previous = nullptr;
    entry.timer_next = slots_[slot];
    if (entry.timer_next != nullptr) entry.timer_next->timer_previous = &entry;
    slots_[slot] = &entry;
    occupied_[level][digit / 64] |= std::uint64_t{1} << (digit % 64);
}

void TimerWheel::remove(TimerEntry& entry) noexcept {
    if (entry.timer_previous != nullptr)
        entry.timer_previous->timer_next = entry.timer_next;
    else
        slots_[entry.timer_slot] = entry.timer_next;
    if (entry.timer_next != nullptr) entry.timer_next->timer_previous = entry.timer_previous;
    if (slots_[entry.timer_slot] == nullptr) {
        const std::size_t digit = entry.timer_slot % kSlots;
        occupied_[entry.timer_slot / kSlots][digit / 64] &= ~(std::uint64_t{1} << (digit % 64));
    }
}

void TimerWheel::set(TimerEntry& entry, Time at) noexcept {
    clear(entry);
    if (at == Time::max()) return;
    entry.timer_at = std::max(at, Time{});
    insert(entry);
}

void TimerWheel::clear(TimerEntry& entry) noexcept {
    if (entry.timer_at == Time::max()) return;
    remove(entry);
    entry.timer_at = Time::max();
}

std::uint64_t TimerWheel::next_tick() const noexcept {
    // What an earlier advance() has not moved down yet.
    for (std::size_t level = 1; level < kLevels; ++level)
        if (slots_[slot_of(level, current_)] != nullptr) return current_;
    for (std::size_t level = 0; level < kLevels; ++level) {
        const std::uint64_t position = (current_ >> (8 * level)) & (kSlots - 1);
        // Of level 0 the current slot counts too: what was due at once. Upper levels hold only later digits.
        for (std::uint64_t digit = position + (level == 0 ? 0 : 1); digit < kSlots;) {
            const std::uint64_t word = occupied_[level][digit / 64] >> (digit % 64);
            if (word == 0) {
                digit = (digit / 64 + 1) * 64;
                continue;
            }
            digit += static_cast<std::uint64_t>(std::countr_zero(word));
            const std::uint64_t above = current_ >> (8 * (level + 1)) << (8 * (level + 1));
            return above | digit << (8 * level);
        }
    }
    return kNever;
}

Time TimerWheel::next() const noexcept {
    const std::uint64_t tick = next_tick();
    return tick == kNever ? Time::max() : Time{Duration{static_cast<std::int64_t>(tick << kTickShift)}};
}

void TimerWheel::enter(std::uint64_t tick, std::size_t& left) noexcept {
    current_ = tick;
    for (std::size_t level = kLevels - 1; level > 0; --level) {
        const std::size_t slot = slot_of(level, tick);
        for (TimerEntry* entry; left > 0 && (entry = slots_[slot]) != nullptr; --left) {
            remove(*entry);
            insert(*entry);
        }
    }
}

TimerEntry* TimerWheel::take_due() noexcept {
    TimerEntry* entry = slots_[current_ & (kSlots - 1)];
    if (entry != nullptr) clear(*entry);
    return entry;
}

}  // namespace sallyport::tcp
