#pragma once

#include <cstdint>

namespace sallyport {

/// Whether a loop that polls is busy all the time, judged now and then by its cycles since the time before. It has less to do for the same once that is known, so it
/// counts as saturated until it is busy for much less.
class Saturation {
 public:
    /// Cycles so far: those of turns that found work, and all. Returns whether the loop is saturated.
    bool judge(std::uint64_t busy, std::uint64_t total) noexcept {
        if (total > total_) saturated_ = (busy - busy_) * 100 > (total - total_) * (saturated_ ? kLeast : kBegins);
        busy_ = busy;
        total_ = total;
        return saturated_;
    }

 private:
    static constexpr unsigned kBegins = 90, kLeast = 40;   // percent
    std::uint64_t busy_ = 0, total_ = 0;
    bool saturated_ = false;
};

}  // namespace sallyport
