#pragma once

#include <cstdint>
#include <vector>

#include "tests/bench/generator/histogram.h"

namespace sallyport::generator {

/// A percentile of each slice of the time, and the median of them: what stops the machine now and then falls into few slices, and so does not decide, while it decides a percentile of the
/// whole as soon as it takes more of the time than the percentile leaves. One thread.
class Slices {
 public:
    static constexpr std::uint32_t kMost = 1000;   ///< of 30 KB each

    /// `length` in nanoseconds; `count` slices of it, none: nothing is recorded.
    Slices(std::uint64_t length, std::uint32_t count) : length_(length), slices_(count, Histogram(kHighest, kDigits)) {}

    /// A value of the moment `at`, in nanoseconds since the first slice began. One after the last slice is left out.
    void record(std::uint64_t at, std::uint64_t value) noexcept {
        if (slices_.empty()) return;
        if (const std::uint64_t number = at / length_; number < slices_.size()) slices_[number].record(value);
    }
    [[nodiscard]] std::size_t count() const noexcept { return slices_.size(); }
    /// The median of the slices' percentiles, of those slices that have values (of two in the middle the lower); 0 when none has.
    [[nodiscard]] std::uint64_t percentile(double percent) const;

 private:
    static constexpr std::uint64_t kHighest = 60'000'000'000;
    static constexpr unsigned kDigits = 2;

    std::uint64_t length_;
    std::vector<Histogram> slices_;
};

}  // namespace sallyport::generator
