#pragma once

#include <cstdint>

#include "dataplane/tcp/moment.h"
#include "dataplane/time.h"

namespace sallyport::tcp {

/// CUBIC (RFC 9438) with the slow start of RFC 5681 3.1, left early by HyStart++ (RFC 9406), and the initial window of RFC 6928. Knows
/// nothing of recovery: the caller says when the window is to grow and when there was congestion. Octets.
class Cubic {
 public:
    /// Initial window: min(10 * MSS, max(2 * MSS, 14600)) (RFC 6928 2).
    void start(std::uint32_t mss) noexcept;

    [[nodiscard]] std::uint32_t cwnd() const noexcept { return cwnd_; }
    [[nodiscard]] std::uint32_t ssthresh() const noexcept { return ssthresh_; }
    [[nodiscard]] bool slow_start() const noexcept { return cwnd_ < ssthresh_; }

    /// A segment that was sent once was acknowledged after this time; and what was outstanding when the round began is acknowledged (RFC 9406
    /// 4.2). Only the first slow start listens to them: later ones end at an ssthresh that was learnt.
    void on_rtt(Duration rtt) noexcept;
    void on_round() noexcept;
    /// Slow start goes on at a quarter of its speed because the round trips have grown: "conservative slow start".
    [[nodiscard]] bool conservative() const noexcept { return css_rounds_ > 0; }

    /// `acked` octets were acknowledged outside of fast recovery while the window was in full use.
    void on_ack(std::uint32_t acked, std::uint32_t mss, Duration srtt, Time now) noexcept;
    /// The sender had less to send than the window allowed: the curve does not run meanwhile (RFC 9438 5.8).
    void on_application_limited(Time now) noexcept;
    /// Loss was detected by acknowledgments: new ssthresh (RFC 9438 4.6, 4.7). The window itself is set by the recovery algorithm.
    void on_congestion(std::uint32_t mss) noexcept;
    /// The retransmission timer expired: additionally a window of one segment (RFC 9438 4.8, RFC 5681 3.1). `first` is false when it
    /// expired for the same data before: then ssthresh stays (RFC 5681 equation 4, last paragraph).
    void on_timeout(std::uint32_t mss, bool first) noexcept;
    /// Nothing was sent for longer than an RTO: back to the initial window (RFC 5681 4.1).
    void on_idle(std::uint32_t mss) noexcept;
    void set_cwnd(std::uint32_t octets) noexcept { cwnd_ = octets; }

    /// For the undoing of a reduction that proved spurious (RFC 4015 3.2, RFC 9438 4.9.2).
    struct Window {
        std::uint32_t cwnd = 0, ssthresh = 0;
        float w_max = 0;
    };
    [[nodiscard]] Window window() const noexcept { return {cwnd_, ssthresh_, w_max_}; }
    void restore(const Window& before) noexcept;

    static std::uint32_t initial_window(std::uint32_t mss) noexcept;

 private:
    std::uint32_t cwnd_ = 0;
    std::uint32_t ssthresh_ = UINT32_MAX;
    float w_max_ = 0;       ///< octets, as all of these
    float cwnd_prior_ = 0;
    static constexpr std::uint32_t kNoRtt = UINT32_MAX;
    /// HyStart++: least round trips in microseconds of the round before and of this one, and when conservative slow start began.
    struct Rounds {
        std::uint32_t last = kNoRtt, now = kNoRtt, css_baseline = kNoRtt;
    };
    struct Growth {
        float w_est = 0;
        float k = 0;         ///< seconds
        float fraction = 0;  ///< growth that has not made an octet yet
    };
    /// No ssthresh has been learnt; else the second of the two.
    [[nodiscard]] bool first_slow_start() const noexcept { return ssthresh_ == UINT32_MAX; }
    union {
        Rounds rounds_{};
        Growth growth_;
    };
    std::uint8_t samples_ = 0;
    std::uint8_t css_rounds_ = 0;   ///< 0: not in conservative slow start; else rounds that it has lasted, the one it began in included
    bool epoch_ = false;    ///< a congestion avoidance stage has begun
    FineMoment epoch_start_;
    FineMoment last_ack_;
    bool acked_ = false;    ///< last_ack_ is set
};

}  // namespace sallyport::tcp
