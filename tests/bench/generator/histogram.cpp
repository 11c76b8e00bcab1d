#include "tests/bench/generator/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <ostream>

#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::generator {

Histogram::Histogram(std::uint64_t highest, unsigned digits) : highest_(highest) {
    SALLYPORT_CHECK(digits >= 1 && digits <= 5 && highest >= 2);
    // A bucket must tell 10^digits values apart in its upper half, where a step is largest against the value.
    std::uint64_t distinct = 2;
    for (unsigned i = 0; i < digits; ++i) distinct *= 10;
    half_magnitude_ = static_cast<unsigned>(std::bit_width(distinct - 1)) - 1;
    counts_.resize(index_of(highest) + 1);
}

// The first 2^(half_magnitude + 1) values have an entry each; from there on every doubling of the value has half as many.
std::size_t Histogram::index_of(std::uint64_t value) const noexcept {
    const std::uint64_t mask = (std::uint64_t{2} << half_magnitude_) - 1;
    const unsigned bucket = static_cast<unsigned>(std::bit_width(value | mask)) - (half_magnitude_ + 1);
    return (static_cast<std::size_t>(bucket) << half_magnitude_) + static_cast<std::size_t>(value >> bucket);
}

std::uint64_t Histogram::width_at(std::size_t index) const noexcept {
    const std::size_t halves = index >> half_magnitude_;
    return std::uint64_t{1} << (halves <= 1 ? 0 : halves - 1);
}

std::uint64_t Histogram::value_at(std::size_t index) const noexcept {
    const std::size_t halves = index >> half_magnitude_;
    if (halves <= 1) return index;
    const std::uint64_t half = std::uint64_t{1} << half_magnitude_;
    return ((index & (half - 1)) + half) << (halves - 1);
}

void Histogram::record(std::uint64_t value, std::uint64_t times) noexcept {
    if (value > highest_) {
        value = highest_;
        saturated_ += times;
    }
    counts_[index_of(value)] += times;
    count_ += times;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
}

void Histogram::add(const Histogram& other) noexcept {
    SALLYPORT_CHECK(counts_.size() == other.counts_.size() && half_magnitude_ == other.half_magnitude_);
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    saturated_ += other.saturated_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
}

void Histogram::clear() noexcept {
    std::ranges::fill(counts_, 0);
    count_ = saturated_ = max_ = 0;
    min_ = UINT64_MAX;
}

double Histogram::mean() const noexcept {
    if (count_ == 0) return 0;
    double sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i)
        if (counts_[i] != 0) sum += static_cast<double>(counts_[i]) * (static_cast<double>(value_at(i)) + static_cast<double>(width_at(i) - 1) / 2);
    return sum / static_cast<double>(count_);
}

double Histogram::deviation() const noexcept {
    if (count_ == 0) return 0;
    const double middle = mean();
    double sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        if (counts_[i] == 0) continue;
        const double difference = static_cast<double>(value_at(i)) + static_cast<double>(width_at(i) - 1) / 2 - middle;
        sum += static_cast<double>(counts_[i]) * difference * difference;
    }
    return std::sqrt(sum / static_cast<double>(count_));
}

std::uint64_t Histogram::percentile(double percent) const noexcept {
    if (count_ == 0) return 0;
    // What lies a rounding error above a whole number means that number.
    const double exact = std::clamp(percent, 0.0, 100.0) / 100.0 * static_cast<double>(count_);
    const auto wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(exact - exact * 1e-12)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        seen += counts_[i];
        if (seen >= wanted) return std::min(value_at(i) + width_at(i) - 1, max_);
    }
    return max_;
}

std::uint64_t Histogram::lowest_equivalent(std::uint64_t value) const noexcept { return value_at(index_of(value)); }

std::uint64_t Histogram::highest_equivalent(std::uint64_t value) const noexcept {
    const std::size_t index = index_of(value);
    return value_at(index) + width_at(index) - 1;
}

void Histogram::print(std::ostream& out, double unit, unsigned ticks_per_half) const {
    out << sallyport::format("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    std::uint64_t seen = 0;
    double next = 0;
    for (std::size_t i = 0; i < counts_.size() && seen < count_; ++i) {
        if (counts_[i] == 0) continue;
        seen += counts_[i];
        const double percent = 100.0 * static_cast<double>(seen) / static_cast<double>(count_);
        const double value = static_cast<double>(std::min(value_at(i) + width_at(i) - 1, max_)) / unit;
        if (seen == count_) {
            out << sallyport::format("{:12.3f} {:2.12f} {:10}\n", value, 1.0, seen);
            break;
        }
        if (percent < next) continue;
        out << sallyport::format("{:12.3f} {:2.12f} {:10} {:14.2f}\n", value, percent / 100, seen, 1 / (1 - percent / 100));
        // So many lines for each halving of what is left to 100 %.
        while (next <= percent) {
            const double halvings = std::floor(std::log2(100.0 / (100.0 - next))) + 1;
            next += 100.0 / (ticks_per_half * std::exp2(halvings));
        }
    }
    out << sallyport::format("#[Mean    = {:12.3f}, StdDeviation   = {:12.3f}]\n", mean() / unit, deviation() / unit);
    out << sallyport::format("#[Max     = {:12.3f}, Total count    = {:12}]\n", static_cast<double>(max_) / unit, count_);
    out << sallyport::format("#[Buckets = {:12}, SubBuckets     = {:12}]\n", (counts_.size() >> half_magnitude_), std::uint64_t{2} << half_magnitude_);
}

}  // namespace sallyport::generator
