#pragma once

#include <cmath>
#include <cstdint>
#include <random>

#include "dataplane/time.h"

namespace sallyport::generator {

enum class Spacing : std::uint8_t { constant,
                                    poisson };

/// When requests (or connections) of an open loop are due, whatever becomes of those before them: the same for the same seed.
/// What is due is not forgotten when nobody can serve it: it stays the next one, with its time, until next() is called.
class Schedule {
 public:
    /// `rate`: a second, above 0.
    Schedule(double rate, Spacing spacing, std::uint64_t seed, Time begin) : rate_(rate), spacing_(spacing), begin_(begin), due_(begin), random_(seed) { next(); }

    [[nodiscard]] Time due() const noexcept { return due_; }
    void next() {
        // From the beginning, not from the one before: rounding does not add up over millions of them.
        if (spacing_ == Spacing::constant)
            seconds_ = static_cast<double>(++made_) / rate_;
        else
            seconds_ += std::exponential_distribution<double>(rate_)(random_);
        due_ = begin_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds_));
    }

 private:
    double rate_;
    Spacing spacing_;
    Time begin_, due_;
    double seconds_ = 0;
    std::uint64_t made_ = 0;
    std::mt19937_64 random_;
};

/// At most `rate` events a second, without saving up more than a few milliseconds' worth while nobody asks.
class Pace {
 public:
    explicit Pace(double rate) : interval_(rate > 0 ? std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1 / rate)) : Duration{}) {}
    [[nodiscard]] bool take(Time now) noexcept {
        if (interval_ == Duration{}) return true;
        if (now < next_) return false;
        next_ = std::max(next_, now - kMostSaved) + interval_;
        return true;
    }

 private:
    static constexpr Duration kMostSaved = 5ms;
    Duration interval_;
    Time next_{};
};

}  // namespace sallyport::generator
