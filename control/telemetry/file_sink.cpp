#include "control/telemetry/file_sink.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace sallyport::telemetry {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBatch = 256;
constexpr auto kLook = 1s;
constexpr auto kSync = 5s;

std::filesystem::path numbered(const std::filesystem::path& file, std::uint32_t number) { return file.string() + "." + std::to_string(number); }

}  // namespace

FileSink::FileSink(std::shared_ptr<SinkCounts> counts, Settings settings) : Sink(std::move(counts), settings.queue), settings_(std::move(settings)) {
    start("flow-log-file");
}

bool FileSink::open() {
    const auto now = Clock::now();
    if (file_.valid() && now < next_look_) return true;
    next_look_ = now + kLook;
    struct stat there{}, ours{};
    const bool same = file_.valid() && stat(settings_.file.c_str(), &there) == 0 && fstat(file_.get(), &ours) == 0 && there.st_ino == ours.st_ino &&
                      there.st_dev == ours.st_dev;
    if (same) return true;
    file_ = channel::Descriptor(::open(settings_.file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640));
    if (!file_.valid() || fstat(file_.get(), &ours) != 0 || !S_ISREG(ours.st_mode)) {
        set_trouble(settings_.file.string() + " cannot be opened: " + (file_.valid() ? "it is no regular file" : std::strerror(errno)));
        file_.reset();
        return false;
    }
    size_ = static_cast<std::uint64_t>(ours.st_size);
    return true;
}

void FileSink::rotate() {
    (void)fdatasync(file_.get());
    file_.reset();
    std::error_code ignored;
    for (std::uint32_t number = settings_.files; number > 1; --number)
        std::filesystem::rename(numbered(settings_.file, number - 1), numbered(settings_.file, number), ignored);
    std::error_code error;
    std::filesystem::rename(settings_.file, numbered(settings_.file, 1), error);
    if (error) set_trouble(settings_.file.string() + " cannot be rotated: " + error.message());
}

std::size_t FileSink::write_all(std::string_view text) const {
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t written = ::write(file_.get(), text.data() + done, text.size() - done);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) break;
        done += static_cast<std::size_t>(written);
    }
    return done;
}

void FileSink::run() {
    while (!ending()) {
        wait(std::min(Clock::now() + 60s, next_sync_));
        if (Clock::now() >= next_sync_) {
            next_sync_ = Clock::time_point::max();
            if (file_.valid()) (void)fdatasync(file_.get());
        }
        const std::vector<Entry> entries = take(kBatch);
        if (entries.empty()) continue;
        if (!open()) {
            counts().lost += entries.size();
            continue;
        }
        std::string text;
        std::vector<std::size_t> ends;   // of each record in `text`
        for (const Entry& entry : entries) {
            text += entry.json();
            text += '\n';
            ends.push_back(text.size());
        }
        const std::size_t done = write_all(text);
        const auto whole = static_cast<std::uint64_t>(std::ranges::count_if(ends, [&](std::size_t end) { return end <= done; }));
        counts().written += whole;
        counts().lost += ends.size() - whole;
        size_ += done;
        if (done < text.size()) {
            set_trouble(settings_.file.string() + " cannot be written: " + std::strerror(errno));
            // A line that was begun would run into the next one.
            if (const std::size_t begun = done - (whole == 0 ? 0 : ends[whole - 1]); begun != 0 && ftruncate(file_.get(), static_cast<off_t>(size_ - begun)) == 0)
                size_ -= begun;
            continue;
        }
        set_trouble("");
        if (next_sync_ == Clock::time_point::max()) next_sync_ = Clock::now() + kSync;
        if (size_ >= settings_.max_octets) rotate();
    }
    if (file_.valid()) (void)fdatasync(file_.get());
}

}  // namespace sallyport::telemetry
