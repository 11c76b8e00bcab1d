#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/tcp/control_block.h"
#include "dataplane/tcp/object_pool.h"
#include "dataplane/time.h"

namespace sallyport::tcp {

/// Wakes connections that have put off an ACK (RFC 9293 3.8.6.3). All of them wait equally long, so they come due in the order in which they came: a
/// ring does for what would cost the timer wheel two moves for each ACK, with neighbours in its lists that have nothing to do with it and are in no
/// cache when there are many. A connection is in the ring once at most and stays until its place comes up, whatever becomes of the ACK meanwhile.
class DelayedAcks {
 public:
    static constexpr std::uint32_t kMostPlaces = 1u << 17;   ///< what three million segments a second take up in 40 ms
    static constexpr std::size_t kMostAtOnce = 256;          ///< of one advance(), as TimerWheel has a bound

    explicit DelayedAcks(std::uint32_t max_connections);

    /// The connection is woken at `at`, which is no earlier than that of any before. False: there is no place, it has to be woken otherwise.
    [[nodiscard]] bool push(ControlBlock& cb, Time at) noexcept;
    /// It is over: nobody is woken at its place.
    void remove(ControlBlock& cb) noexcept;
    /// When advance() has something to do; max() for never.
    [[nodiscard]] Time next() const noexcept { return head_ == tail_ ? Time::max() : places_[head_ & mask_].at; }

    /// Calls wake(cb) for each whose time has come, at most kMostAtOnce. It may push and remove.
    template <typename Wake>
    void advance(Time now, Wake&& wake) noexcept {
        for (std::size_t left = kMostAtOnce; left > 0 && head_ != tail_ && places_[head_ & mask_].at <= now; --left) {
            if (tail_ - head_ > kAhead)
                if (const ControlBlock* soon = places_[(head_ + kAhead) & mask_].cb) {   // most have been told of with an answer meanwhile, and need no more than this
                    __builtin_prefetch(&soon->ack_place, 1);
                    __builtin_prefetch(&soon->deadlines, 1);
                }
            ControlBlock* const cb = places_[head_++ & mask_].cb;
            if (cb == nullptr) continue;
            cb->ack_place = kNoPlace;
            wake(*cb);
        }
    }

 private:
    static constexpr std::uint32_t kAhead = 8;   ///< places between a prefetch and its use: some hundred nanoseconds

    struct Place {
        ControlBlock* cb;
        Time at;
    };
    std::uint32_t mask_;
    Region memory_;
    Place* places_;
    std::uint32_t head_ = 0, tail_ = 0;   ///< they count on; masked they are places
};

}  // namespace sallyport::tcp
