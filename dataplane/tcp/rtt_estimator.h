#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "dataplane/time.h"

namespace sallyport::tcp {

constexpr Duration kInitialRto = 1s;    ///< RFC 6298 2.1
/// RFC 6298 2.4 has a minimum of 1 s. Ours, as Linux's, is what the timeout is longer than the smoothed round trip at least: delayed ACKs come within 40 to 200 ms,
/// and with many samples a round trip the variance tells of the last few only, so that it is next to nothing however long the path is (RFC 7323 appendix G).
constexpr Duration kLeastVariance = 200ms;
constexpr Duration kMaximumRto = 60s;   ///< RFC 6298 2.5

/// Smoothed round-trip time and retransmission timeout (RFC 6298).
class RttEstimator {
 public:
    /// A measurement of a segment that was sent once (Karn's algorithm) or told apart by its timestamp (RFC 7323 4).
    void sample(Duration rtt) noexcept {
        const auto measured = static_cast<std::int64_t>(units(std::clamp<Duration>(rtt, 1us, 2 * kMaximumRto)));
        minimum_ = static_cast<std::uint32_t>(minimum_ == 0 ? measured : std::min<std::int64_t>(minimum_, measured));
        if (srtt_ == 0) {  // 2.2
            srtt_ = static_cast<std::uint32_t>(measured);
            rttvar_ = static_cast<std::uint32_t>(measured / 2);
        } else {  // 2.3
            const std::int64_t srtt = srtt_, rttvar = rttvar_, error = std::abs(measured - srtt);
            rttvar_ = static_cast<std::uint32_t>(rttvar + (error - rttvar) / 4);
            srtt_ = static_cast<std::uint32_t>(srtt + (measured - srtt) / 8);
        }
        rto_ = units(std::min(srtt() + std::max(kLeastVariance, 4 * rttvar()), kMaximumRto));
    }
    /// The timeout after `backoffs` expiries in a row (5.5).
    [[nodiscard]] Duration rto(unsigned backoffs = 0) const noexcept {
        return std::min(duration(rto_) * (std::int64_t{1} << std::min(backoffs, 10u)), kMaximumRto);
    }
    [[nodiscard]] Duration srtt() const noexcept { return duration(srtt_); }       ///< zero: not measured yet
    [[nodiscard]] Duration rttvar() const noexcept { return duration(rttvar_); }
    [[nodiscard]] Duration minimum() const noexcept { return duration(minimum_); } ///< the least sample so far; zero: none

 private:
    // Of 64 ns: four octets hold four minutes.
    static constexpr std::uint32_t units(Duration duration) noexcept { return static_cast<std::uint32_t>(duration.count() / 64); }
    static constexpr Duration duration(std::uint32_t units) noexcept { return Duration{std::int64_t{units} * 64}; }
    std::uint32_t srtt_ = 0, rttvar_ = 0, rto_ = units(kInitialRto), minimum_ = 0;
};

}  // namespace sallyport::tcp
