#pragma once

#include <algorithm>

#include "dataplane/time.h"

namespace sallyport::tcp {

constexpr Duration kInitialRto = 1s;    ///< RFC 6298 2.1
constexpr Duration kMinimumRto = 200ms; ///< RFC 6298 2.4 says 1 s; Linux, FreeBSD and we use 200 ms: delayed ACKs come within 40 to 200 ms
constexpr Duration kMaximumRto = 60s;   ///< RFC 6298 2.5

/// Smoothed round-trip time and retransmission timeout (RFC 6298).
class RttEstimator {
 public:
    /// A measurement of a segment that was sent once (Karn's algorithm) or told apart by its timestamp (RFC 7323 4).
    void sample(Duration rtt) noexcept {
        rtt = std::max(rtt, Duration{1000});
        minimum_ = minimum_ == Duration{} ? rtt : std::min(minimum_, rtt);
        if (srtt_ == Duration{}) {  // 2.2
            srtt_ = rtt;
            rttvar_ = rtt / 2;
        } else {  // 2.3
            const Duration error = rtt > srtt_ ? rtt - srtt_ : srtt_ - rtt;
            rttvar_ += (error - rttvar_) / 4;
            srtt_ += (rtt - srtt_) / 8;
        }
        rto_ = std::clamp(srtt_ + std::max(Duration{1ms}, 4 * rttvar_), kMinimumRto, kMaximumRto);
    }
    /// The timeout after `backoffs` expiries in a row (5.5).
    [[nodiscard]] Duration rto(unsigned backoffs = 0) const noexcept {
        return std::min(rto_ * (std::int64_t{1} << std::min(backoffs, 10u)), kMaximumRto);
    }
    [[nodiscard]] Duration srtt() const noexcept { return srtt_; }       ///< zero: not measured yet
    [[nodiscard]] Duration rttvar() const noexcept { return rttvar_; }
    [[nodiscard]] Duration minimum() const noexcept { return minimum_; } ///< the least sample so far; zero: none

 private:
    Duration srtt_{}, rttvar_{}, rto_ = kInitialRto, minimum_{};
};

}  // namespace sallyport::tcp
