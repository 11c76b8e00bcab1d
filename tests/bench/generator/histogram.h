#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

namespace sallyport::generator {

/// A log-linear histogram with the buckets of HdrHistogram (hdrhistogram.org): values are counted exactly where they are small, and to `digits`
/// significant decimal digits everywhere else, so that a percentile is that exact however far out it lies. One thread. Memory is taken once:
/// 8 octets a bucket, 270 KB for an hour in nanoseconds with three digits, of which only what is hit is touched.
class Histogram {
 public:
    /// Values from 0 to `highest`; 1 to 5 digits.
    explicit Histogram(std::uint64_t highest = 3'600'000'000'000, unsigned digits = 3);

    /// A value above `highest` counts as `highest`, and in saturated().
    void record(std::uint64_t value, std::uint64_t times = 1) noexcept;
    /// Adds what the other holds; both were made alike.
    void add(const Histogram& other) noexcept;
    void clear() noexcept;

    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] std::uint64_t saturated() const noexcept { return saturated_; }
    [[nodiscard]] std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }   ///< exact
    [[nodiscard]] std::uint64_t max() const noexcept { return max_; }                     ///< exact
    [[nodiscard]] double mean() const noexcept;                                           ///< of the buckets' middles
    [[nodiscard]] double deviation() const noexcept;
    /// The least value, to `digits` digits and rounded up, that `percent` of 100 of all recorded values do not exceed. 0 when there are none.
    [[nodiscard]] std::uint64_t percentile(double percent) const noexcept;

    /// Largest and smallest value that share a bucket with this one.
    [[nodiscard]] std::uint64_t highest_equivalent(std::uint64_t value) const noexcept;
    [[nodiscard]] std::uint64_t lowest_equivalent(std::uint64_t value) const noexcept;

    /// The percentile distribution as HdrHistogram prints it, which its plotters read. Values are divided by `unit`.
    void print(std::ostream& out, double unit = 1000.0, unsigned ticks_per_half = 5) const;

 private:
    [[nodiscard]] std::size_t index_of(std::uint64_t value) const noexcept;
    [[nodiscard]] std::uint64_t value_at(std::size_t index) const noexcept;   ///< the lowest of its bucket
    [[nodiscard]] std::uint64_t width_at(std::size_t index) const noexcept;

    std::uint64_t highest_;
    unsigned half_magnitude_;        ///< log2 of half the sub-buckets of a bucket
    std::vector<std::uint64_t> counts_;
    std::uint64_t count_ = 0, saturated_ = 0, min_ = UINT64_MAX, max_ = 0;
};

}  // namespace sallyport::generator
