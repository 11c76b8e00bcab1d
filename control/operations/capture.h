#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "control/configuration/configuration.h"
#include "control/flows/secret_files.h"
#include "control/management/command_table.h"
#include "control/management/views_capture.h"

/// Packet captures and pings: control checks what is asked, opens the files and keeps the secrets; the dataplane captures and pings.
namespace sallyport::operations {

/// The dataplane, as this sees it.
struct Dataplane {
    std::function<std::expected<nlohmann::json, std::string>(const std::string& what, const nlohmann::json& arguments, std::span<const int> descriptors)> ask;
    std::function<bool()> attached;
};

/// The captures that this control has started, and the files in the directory of captures. Main thread.
class Captures {
 public:
    /// `settings` are those of the configuration that runs now; `secrets` outlives this.
    Captures(Dataplane dataplane, std::function<const configuration::Capture&()> settings, flows::SecretFiles& secrets);
    ~Captures();
    Captures(const Captures&) = delete;
    Captures& operator=(const Captures&) = delete;

    /// Error codes: bad_argument; forbidden_by_configuration (secrets); no_room (capture.max_octets); exists (the file); not_started (the dataplane
    /// or the file system refuses). After an error no file is left.
    [[nodiscard]] management::Result start(const management::Request& request, const management::Peer& peer);
    [[nodiscard]] management::Result stop(const management::Request& request, const management::Peer& peer);
    [[nodiscard]] management::Result show();
    /// {"captures", "files"}: a NameView of each.
    [[nodiscard]] management::Result names() const;
    [[nodiscard]] management::Result read(const management::Request& request) const;
    [[nodiscard]] management::Result remove(const management::Request& request, const management::Peer& peer);

    /// The dataplane says that one has come to its limit.
    void ended(const nlohmann::json& report);
    /// Looks whether the dataplane is still there, and ends captures with secrets when the configuration allows none any more; once a turn.
    void turn();

    static constexpr std::uint64_t kDefaultOctets = 16 << 20, kDefaultPackets = 100'000, kDefaultSeconds = 60;
    static constexpr std::uint64_t kMostSeconds = 3600, kMostPackets = 100'000'000, kLeastOctets = 64 << 10;
    static constexpr std::size_t kChunk = 1 << 20;   ///< octets of a file in one answer

 private:
    [[nodiscard]] management::CaptureView* find(std::uint64_t id);
    void take(management::CaptureView& view, const nlohmann::json& report);
    void end(management::CaptureView& view, const std::string& why);
    void forbid(management::CaptureView& view);
    [[nodiscard]] std::uint64_t octets_taken(std::vector<management::CaptureFileView>* files) const;

    Dataplane dataplane_;
    std::function<const configuration::Capture&()> settings_;
    flows::SecretFiles& secrets_;
    std::deque<management::CaptureView> captures_;   ///< oldest first; those that run, and the last that have ended
    std::uint64_t next_id_ = 1;
};

/// A plain file name that a capture may have: letters, digits, '-', '_' and '.', not first, at most 100 octets.
[[nodiscard]] bool is_capture_name(std::string_view name);

/// Adds `capture start|stop|read|delete|names`, `show captures`, `ping start|read`. Both are borrowed for the table's life. Operators capture and
/// ping; secrets are for administrators. Everything is audited but what is asked again and again.
void add_capture_commands(management::CommandTable& table, Captures& captures, const Dataplane& dataplane);

}  // namespace sallyport::operations
