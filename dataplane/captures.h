#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/channel/shared_memory.h"
#include "drivers/capture.h"

struct rte_mempool;

namespace sallyport {

/// The captures that run, at most kMost at a time, and the last that have ended. What it asks for and answers is JSON, as control sends it
/// (see ControlLink); control checks what a person may ask, this what could harm the process. Main thread.
class Captures {
 public:
    static constexpr std::size_t kMost = 4;
    using Now = std::chrono::steady_clock::time_point;

    /// `show` gives worker `w` the tap between two of its iterations; false: it hangs. `pool` is borrowed.
    Captures(std::vector<drivers::CapturedPort> ports, unsigned workers, rte_mempool* pool,
             std::function<bool(unsigned w, const drivers::CaptureTap*)> show);
    ~Captures();

    /// {"id", "ports": [names; none: all], "filter", "comment", "snap", "packets", "octets", "seconds", "secrets_room"} with the file, empty and open
    /// for writing. Answers {"secrets_at", "secrets_room"}. The error is for a person.
    [[nodiscard]] std::expected<nlohmann::json, std::string> start(const nlohmann::json& arguments, const channel::Descriptor& file, Now now);
    [[nodiscard]] std::expected<nlohmann::json, std::string> stop(std::uint64_t id);
    /// All, as {"id", "state": running|ended, "end": why, "seen", "packets", "dropped", "octets", "error"}; the oldest first.
    [[nodiscard]] nlohmann::json report() const;

    /// Writes what the workers have copied and ends what has reached a limit. Often while anything runs.
    void turn(Now now);
    /// Control has gone: who would stop them has gone too, and its successor begins its numbers anew.
    void control_lost();
    [[nodiscard]] bool running() const noexcept { return !running_.empty(); }
    /// Reports of captures that ended by themselves, each once.
    [[nodiscard]] std::vector<nlohmann::json> take_ended() { return std::exchange(ended_by_themselves_, {}); }

 private:
    struct Running {
        std::uint64_t id = 0;
        std::unique_ptr<drivers::Capture> capture;
    };
    void end_all(drivers::Capture::End why);
    [[nodiscard]] bool show_taps();
    nlohmann::json end(std::size_t index, drivers::Capture::End why);
    [[nodiscard]] static nlohmann::json view(std::uint64_t id, const drivers::Capture& capture);

    std::vector<drivers::CapturedPort> ports_;
    unsigned workers_;
    rte_mempool* pool_;
    std::function<bool(unsigned, const drivers::CaptureTap*)> show_;
    std::vector<Running> running_;
    std::vector<std::unique_ptr<drivers::CaptureTap>> taps_;   ///< by worker; empty: none
    std::deque<nlohmann::json> ended_;                         ///< the last ones
    std::vector<nlohmann::json> ended_by_themselves_;
};

}  // namespace sallyport
