#include "dataplane/tcp/cubic.h"

#include <algorithm>
#include <cmath>

namespace sallyport::tcp {

namespace {
constexpr float kC = 0.4f;       // segments per second cubed (RFC 9438 5.1)
constexpr float kBeta = 0.7f;    // RFC 9438 4.6
constexpr float kAlpha = 3 * (1 - kBeta) / (1 + kBeta);  // RFC 9438 4.3
constexpr std::uint32_t kLargest = 1u << 30;  // the largest window that RFC 7323 can express

// RFC 9406 4.3
constexpr std::uint32_t kLeastRttGrowth = 4000, kMostRttGrowth = 16000;   // microseconds
constexpr std::uint32_t kRttDivisor = 8;
constexpr std::uint8_t kSamples = 8;
constexpr std::uint32_t kCssDivisor = 4;
constexpr std::uint8_t kCssRounds = 5;

float seconds(Duration duration) noexcept { return std::chrono::duration<float>(duration).count(); }
}  // namespace

std::uint32_t Cubic::initial_window(std::uint32_t mss) noexcept {
    return std::min(10 * mss, std::max(2 * mss, 14600u));
}

void Cubic::start(std::uint32_t mss) noexcept {
    *this = Cubic{};
    cwnd_ = initial_window(mss);
}

void Cubic::on_rtt(Duration rtt) noexcept {
    if (!first_slow_start()) return;
    const auto microseconds = static_cast<std::uint32_t>(std::clamp<std::int64_t>(rtt / 1us, 1, kNoRtt - 1));
    rounds_.now = std::min(rounds_.now, microseconds);
    if (samples_ < kSamples) ++samples_;
    if (samples_ < kSamples || rounds_.last == kNoRtt) return;
    if (css_rounds_ > 0) {
        // The growth was of the moment: on as before.
        if (rounds_.now < rounds_.css_baseline) css_rounds_ = 0;
    } else if (rounds_.now >= rounds_.last + std::clamp(rounds_.last / kRttDivisor, kLeastRttGrowth, kMostRttGrowth)) {
        rounds_.css_baseline = rounds_.now;
        css_rounds_ = 1;
    }
}

void Cubic::on_round() noexcept {
    if (!first_slow_start()) return;
    rounds_.last = rounds_.now;
    rounds_.now = kNoRtt;
    samples_ = 0;
    if (css_rounds_ > 0 && ++css_rounds_ > kCssRounds) {
        ssthresh_ = cwnd_;   // congestion avoidance from here on
        growth_ = Growth{};
        css_rounds_ = 0;
    }
}

void Cubic::on_ack(std::uint32_t acked, std::uint32_t mss, Duration srtt, Time now) noexcept {
    last_ack_ = now;
    acked_ = true;
    if (slow_start()) {
        const std::uint32_t growth = std::min(conservative() ? acked / kCssDivisor : acked, ssthresh_ - cwnd_);
        cwnd_ = std::min(cwnd_ + growth, kLargest);
        if (slow_start()) return;
        acked -= growth;
        if (acked == 0) return;
    }
    const auto cwnd = static_cast<float>(cwnd_);
    const auto segment = static_cast<float>(mss);
    if (!epoch_) {
        epoch_ = true;
        epoch_start_ = now;
        growth_.w_est = cwnd;
        if (cwnd_prior_ == 0) cwnd_prior_ = cwnd;
        if (w_max_ < cwnd) w_max_ = cwnd;  // RFC 9438 4.8 and 4.10: no reduction before, K = 0
        growth_.k = std::cbrt((w_max_ - cwnd) / segment / kC);  // equation 2
    }
    // 4.3: what a Reno sender would have; alpha becomes 1 where it has caught up with the window before the reduction.
    growth_.w_est += (growth_.w_est >= cwnd_prior_ ? 1.0f : kAlpha) * segment * static_cast<float>(acked) / cwnd;
    const auto w_cubic = [&](float t) {  // equation 1
        const float x = t - growth_.k;
        return kC * x * x * x * segment + w_max_;
    };
    const float t = seconds(epoch_start_.ago(now));
    if (w_cubic(t) < growth_.w_est) {
        cwnd_ = std::clamp(static_cast<std::uint32_t>(growth_.w_est), cwnd_, kLargest);
        return;
    }
    const float target = std::clamp(w_cubic(t + seconds(srtt)), cwnd, 1.5f * cwnd);  // 4.2
    growth_.fraction += (target - cwnd) * static_cast<float>(acked) / cwnd;  // 4.4, 4.5
    const float whole = std::floor(growth_.fraction);
    growth_.fraction -= whole;
    cwnd_ = std::min(cwnd_ + static_cast<std::uint32_t>(whole), kLargest);
}

void Cubic::on_application_limited(Time now) noexcept {
    if (epoch_ && acked_) epoch_start_.delay(last_ack_, now);
    last_ack_ = now;
    acked_ = true;
}

void Cubic::on_congestion(std::uint32_t mss) noexcept {
    const auto cwnd = static_cast<float>(cwnd_);
    cwnd_prior_ = cwnd;
    w_max_ = cwnd < w_max_ ? cwnd * (1 + kBeta) / 2 : cwnd;  // 4.7, fast convergence
    ssthresh_ = std::max(static_cast<std::uint32_t>(cwnd * kBeta), 2 * mss);
    css_rounds_ = 0;   // a later slow start is an ordinary one
    epoch_ = false;
    growth_ = Growth{};
}

void Cubic::on_timeout(std::uint32_t mss, bool first) noexcept {
    if (first) on_congestion(mss);
    epoch_ = false;
    cwnd_ = mss;
}

void Cubic::on_idle(std::uint32_t mss) noexcept {
    if (cwnd_ <= initial_window(mss)) return;
    // What was learnt about the path is kept in ssthresh (RFC 7661 has the same idea).
    ssthresh_ = std::max(ssthresh_, static_cast<std::uint32_t>(static_cast<float>(cwnd_) * 0.75f));
    cwnd_ = initial_window(mss);
    epoch_ = false;
}

void Cubic::restore(const Window& before) noexcept {
    cwnd_ = std::max(cwnd_, before.cwnd);
    ssthresh_ = std::max(ssthresh_, before.ssthresh);
    w_max_ = before.w_max;
    epoch_ = false;
    if (first_slow_start()) rounds_ = Rounds{};
}

}  // namespace sallyport::tcp
