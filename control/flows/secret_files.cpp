#include "control/flows/secret_files.h"

#include <strings.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

namespace sallyport::flows {

namespace {

bool same_name(std::string_view a, std::string_view b) { return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0; }

}  // namespace

void SecretFiles::begin(std::uint64_t capture, channel::Descriptor file, std::uint64_t offset, std::uint32_t room, Selection selection,
                        Clock::time_point until) {
    const std::lock_guard lock(mutex_);
    File entry;
    entry.capture = capture;
    entry.file = std::move(file);
    entry.offset = offset;
    entry.left = room;
    entry.selection = std::move(selection);
    entry.since = Clock::now();
    entry.until = until;
    files_.push_back(std::move(entry));
    wanted_ = true;
}

void SecretFiles::end(std::uint64_t capture) {
    const std::lock_guard lock(mutex_);
    std::erase_if(files_, [&](const File& file) { return file.capture == capture; });
    wanted_ = !files_.empty();
}

void SecretFiles::write(const Flow& flow, std::string_view lines) {
    const std::lock_guard lock(mutex_);
    const Clock::time_point now = Clock::now();
    const auto count = static_cast<std::uint64_t>(std::ranges::count(lines, '\n'));
    for (File& file : files_) {
        if (flow.begun < file.since || now >= file.until) continue;
        const Selection& wants = file.selection;
        if ((!wants.service.empty() && wants.service != flow.service) || (!wants.server_name.empty() && !same_name(wants.server_name, flow.server_name)) ||
            (wants.client && !wants.client->contains(flow.client)))
            continue;
        // What is left of the line of comment that they are written over stays a comment: see PcapngFile::reserve_secrets().
        char comment = '#';
        const std::array<iovec, 2> octets{iovec{const_cast<char*>(lines.data()), lines.size()}, iovec{&comment, 1}};
        const std::size_t length = lines.size() + 1;
        if (length > file.left || pwritev(file.file.get(), octets.data(), octets.size(), static_cast<off_t>(file.offset)) != static_cast<ssize_t>(length)) {
            file.counts.dropped += count;
            continue;
        }
        file.offset += lines.size();
        file.left -= static_cast<std::uint32_t>(lines.size());
        file.counts.lines += count;
    }
}

SecretFiles::Counts SecretFiles::counts(std::uint64_t capture) const {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(files_, capture, &File::capture);
    return found == files_.end() ? Counts{} : found->counts;
}

}  // namespace sallyport::flows
