#pragma once

#include <filesystem>

#include "control/telemetry/sink.h"

namespace sallyport::telemetry {

/// Appends records to a file, a line each. At `max_octets` the file becomes FILE.1, what was FILE.1 becomes FILE.2, and so on to FILE.`files`,
/// which is forgotten. A file that somebody else has moved away is made anew within a second. What has been written is put to the disk
/// every five seconds and when the file is rotated, not line by line. When writing fails (a full disk), the records are lost and counted,
/// and it is tried again with those that come.
class FileSink final : public Sink {
 public:
    struct Settings {
        std::filesystem::path file;
        std::uint64_t max_octets = 100 << 20;
        std::uint32_t files = 5;
        std::size_t queue = 16384;
        bool operator==(const Settings&) const = default;
    };
    FileSink(std::shared_ptr<SinkCounts> counts, Settings settings);
    ~FileSink() override { stop(std::chrono::seconds(1)); }

 private:
    void run() override;
    [[nodiscard]] bool open();
    void rotate();
    /// Octets that were written of `text`; the reason is in errno when that is not all.
    [[nodiscard]] std::size_t write_all(std::string_view text) const;

    const Settings settings_;
    channel::Descriptor file_;
    std::uint64_t size_ = 0;
    Clock::time_point next_look_{}, next_sync_ = Clock::time_point::max();
};

}  // namespace sallyport::telemetry
