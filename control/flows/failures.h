#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "control/handshake/handshake.h"
#include "control/management/views.h"

namespace sallyport::flows {

/// A handshake that failed, as the flows know it; strings are borrowed for the call.
struct FailedHandshake {
    channel::Leg leg = channel::Leg::client;
    std::string flow, source, service;                ///< empty for a health check
    std::string pool, member, address;                ///< of a backend
    const handshake::Offer* offer = nullptr;          ///< the client's
    const handshake::Negotiated* negotiated = nullptr;
    const handshake::Failure* failure = nullptr;      ///< never null
    channel::EndReason reason = channel::EndReason::none;
};

/// The handshakes that failed: each is counted, and leaves one record in the log and one in a ring for `show failures`, up to a bound of each in a second, so that
/// a flood of them costs what counting does. Any thread.
class FailureLog {
 public:
    using Clock = std::chrono::system_clock;
    static constexpr std::size_t kKept = 1000;
    /// Records a second in the log; those beyond are counted, and the count is logged when the next second begins.
    static constexpr std::uint64_t kLoggedASecond = 200;

    /// Counts one more. True: it is to be described to add(). False: there were kKept this second.
    [[nodiscard]] bool wants(Clock::time_point now);
    /// Of one that was wanted, at the same time.
    void add(const FailedHandshake& failed, Clock::time_point now);
    /// The newest `limit`, newest first; 0: all that are kept.
    [[nodiscard]] management::FailuresView recent(std::size_t limit) const;

 private:
    mutable std::mutex mutex_;
    std::deque<management::FailureView> kept_;   ///< oldest first
    std::uint64_t total_ = 0, not_logged_ = 0, suppressed_ = 0, logged_ = 0, wanted_ = 0;   ///< the last three: this second
    std::chrono::sys_seconds second_{};
};

/// The names of a client's offer and failure as reports show them. The server name, and its occurrences in the failure's text, are replaced by
/// "protected" where it came by Encrypted ClientHello: it must not be found in a log that it was hidden from the network for. Of a list that was
/// cut, the last word says how many more there were; long texts of a peer (subjects) are cut, so that a record has a bound: some 20 KB at worst.
[[nodiscard]] management::FailureView view_of(const FailedHandshake& failed, std::chrono::system_clock::time_point now);

}  // namespace sallyport::flows
