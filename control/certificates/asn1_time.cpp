#include "control/certificates/asn1_time.h"

#include <algorithm>
#include <array>
#include <ctime>

namespace sallyport::certificates {

std::optional<std::chrono::system_clock::time_point> time_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
    constexpr std::time_t kEarliest = 0, kLatest = 9'000'000'000;
    return std::chrono::system_clock::from_time_t(std::clamp<std::time_t>(timegm(&parts), kEarliest, kLatest));
}

std::string time_text(std::chrono::system_clock::time_point time) {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
    std::tm parts{};
    std::array<char, 32> text{};
    if (gmtime_r(&seconds, &parts) == nullptr ||
        std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        return "?";
    return text.data();
}

}  // namespace sallyport::certificates
