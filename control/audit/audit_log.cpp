#include "control/audit/audit_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "control/daemon/logging.h"
#include "crypto/format.h"

namespace sallyport::audit {

namespace fs = std::filesystem;
using management::Peer;
using management::Request;
using management::Role;
using nlohmann::json;

namespace {

constexpr std::size_t kMaxText = 200;         // octets of one argument
constexpr std::size_t kMaxArguments = 4096;   // of all
constexpr std::size_t kMaxCommand = 256;
constexpr std::uint64_t kReserve = 64 << 10;  // room for what one command appends, several times over
constexpr std::uint64_t kHeadEvery = 100;     // entries between two heads in the log
constexpr std::size_t kMaxUsersRemembered = 4096;
constexpr auto kLongestLook = std::chrono::hours(1);     // an entry for all repetitions of that time
constexpr auto kSilence = std::chrono::minutes(1);       // after which a process has looked its last

/// Names of arguments that are never kept, whatever they hold.
constexpr std::array<std::string_view, 7> kSecret{"session", "token", "secret", "password", "passphrase", "key", "private_key"};

std::string shortened(std::string_view text) {
    return sallyport::format("{} octets, sha256 {}", text.size(), digest(text));
}

json kept(const json& value, int depth) {
    if (value.is_string() && value.get_ref<const std::string&>().size() > kMaxText) return shortened(value.get_ref<const std::string&>());
    if (value.is_structured() && depth > 4) return "nested too deep to be kept";
    if (value.is_object()) {
        json object = json::object();
        for (const auto& [name, member] : value.items())
            object[name.substr(0, 64)] = std::ranges::contains(kSecret, name) ? json("not kept") : kept(member, depth + 1);
        return object;
    }
    if (!value.is_array()) return value;
    json array = json::array();
    for (const json& item : value) array.push_back(kept(item, depth + 1));
    return array;
}

/// Outcome of a command that came to a result: some say by `done` that it was refused all the same.
std::string_view outcome_of(const management::Result& result) {
    if (!result) return result.error().code;
    const auto done = result->is_object() ? result->find("done") : result->end();
    return done != result->end() && done->is_boolean() && !done->get<bool>() ? "not_done" : "ok";
}

std::unexpected<std::string> failed(const fs::path& path, const char* what) {
    return std::unexpected(sallyport::format("audit log {} {}: {}", path.string(), what, std::strerror(errno)));
}

}  // namespace

json kept_arguments(const json& arguments) {
    json result = kept(arguments, 0);
    const std::string text = result.dump(-1, ' ', false, json::error_handler_t::replace);
    if (text.size() <= kMaxArguments) return result;
    return {{"not kept", shortened(text)}};
}

std::expected<std::unique_ptr<AuditLog>, std::string> AuditLog::open(Settings settings) {
    std::unique_ptr<AuditLog> log(new AuditLog(std::move(settings)));
    if (auto begun = log->begin(); !begun) return std::unexpected(begun.error());
    return log;
}

AuditLog::~AuditLog() {
    if (file_.valid()) settle_looking(true);
    if (file_.valid()) keep_head();
}

std::expected<void, std::string> AuditLog::begin() {
    std::error_code error;
    fs::create_directories(settings_.directory, error);
    const std::string broken = look_at_the_end();
    const bool make = !fs::exists(settings_.directory / kCurrentFile, error);
    if (auto opened = open_current(make); !opened) return opened;
    if (!broken.empty()) new_chain(broken);
    // A line that a crash cut short: whole lines only are ours.
    if (const std::uint64_t size = size_; size > 0 && broken.empty()) {
        std::string tail(std::min<std::uint64_t>(size, kMaxLine), '\0');
        if (pread(file_.get(), tail.data(), tail.size(), static_cast<off_t>(size - tail.size())) != static_cast<ssize_t>(tail.size()))
            return failed(settings_.directory / kCurrentFile, "cannot be read");
        const std::size_t end = tail.rfind('\n');
        const std::uint64_t whole = end == std::string::npos ? size - tail.size() : size - tail.size() + end + 1;
        if (whole != size) {
            if (ftruncate(file_.get(), static_cast<off_t>(whole)) != 0) return failed(settings_.directory / kCurrentFile, "cannot be mended");
            size_ = whole;
            note("recovered", {{"octets_of_an_unfinished_entry", size - whole}});
        }
    }
    return {};
}

std::string AuditLog::look_at_the_end() {
    const auto noted = noted_head(settings_.directory);
    const auto files = files_of(settings_.directory);
    // The current file and the end of the one before it, which it must follow.
    std::string why, line;
    bool first = true;
    std::string noted_digest;
    for (std::size_t i = files.size() > 1 ? files.size() - 2 : 0; i < files.size(); ++i) {
        std::ifstream stream(files[i], std::ios::binary);
        if (!stream) return sallyport::format("{} cannot be read: {}", files[i].string(), std::strerror(errno));
        while (std::getline(stream, line) && !stream.eof()) {
            const auto link = read_link(line);
            if (link && link->event == "chain_begins") why.clear();  // what was wrong before has been said then
            if (!why.empty()) {  // only so that no number is given twice
                if (link) head_.number = std::max(head_.number, link->number);
                continue;
            }
            if (!link) {
                why = sallyport::format("{}: what follows entry {} is none", files[i].string(), head_.number);
                continue;
            }
            const bool fits = first || link->event == "chain_begins" || (link->number == head_.number + 1 && link->previous == head_.digest);
            if (!fits) {
                why = sallyport::format("{}: entry {} does not follow entry {}", files[i].string(), link->number, head_.number);
                head_.number = std::max(head_.number, link->number);
                continue;
            }
            first = false;
            head_ = {link->number, digest(line)};
            if (noted && noted->number == head_.number) noted_digest = head_.digest;
        }
    }
    if (!why.empty() || !noted || noted->number == 0) return why;
    if (noted->number > head_.number) {
        why = sallyport::format("the log ends at entry {}, and it had {} already", head_.number, noted->number);
        head_.number = noted->number;  // no number twice
        return why;
    }
    if (!noted_digest.empty() && noted_digest != noted->digest) return sallyport::format("entry {} is not the one that was written", noted->number);
    return {};
}

std::expected<void, std::string> AuditLog::open_current(bool make) {
    const fs::path path = settings_.directory / kCurrentFile;
    channel::Descriptor file(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT | O_EXCL : 0), 0600));
    if (!file.valid()) return failed(path, "cannot be opened");
    struct stat status{};
    if (fstat(file.get(), &status) != 0) return failed(path, "cannot be looked at");
    if (!S_ISREG(status.st_mode)) return std::unexpected(sallyport::format("audit log {} is no file", path.string()));
    file_ = std::move(file);
    size_ = static_cast<std::uint64_t>(status.st_size);
    if (make) {
        const channel::Descriptor directory(::open(settings_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (directory.valid()) (void)fsync(directory.get());
    }
    return {};
}

void AuditLog::new_chain(const std::string& why) {
    daemon::log(daemon::Level::error, "audit_broken", {{"why", why}, {"last", head_.number}});
    if (settings_.on_broken) settings_.on_broken(why);
    // Whatever the old file ends with: the new chain has one of its own.
    if (size_ > 0)
        if (auto rotated = rotate(); !rotated) daemon::log(daemon::Level::error, "audit_not_written", {{"why", rotated.error()}});
    head_.digest = kNoDigest;
    append_own("chain_begins", {{"why", why}}, "ok");   // before anything else: it is what the others follow
}

std::expected<void, std::string> AuditLog::rotate() {
    const fs::path current = settings_.directory / kCurrentFile;
    const auto files = files_of(settings_.directory);
    std::uint64_t next = 1;
    for (const fs::path& file : files)
        if (file.filename() != kCurrentFile) next = std::stoull(file.stem().string().substr(6)) + 1;
    const fs::path full = settings_.directory / sallyport::format("audit-{:06}.log", next);
    (void)ftruncate(file_.get(), static_cast<off_t>(size_));  // gives back what reserve() has taken beyond the end
    (void)fdatasync(file_.get());
    std::error_code error;
    if (fs::exists(current, error)) {
        if (fs::exists(full, error) || rename(current.c_str(), full.c_str()) != 0) return failed(current, "cannot be put aside");
    }
    return open_current(true);
}

void AuditLog::remove_oldest() {
    auto files = files_of(settings_.directory);
    while (files.size() > settings_.kept_files + 1) {
        Head last;
        std::ifstream stream(files.front(), std::ios::binary);
        for (std::string line; std::getline(stream, line) && !stream.eof();)
            if (const auto link = read_link(line)) last = {link->number, digest(line)};
        Entry entry{.event = "file_removed", .uid = geteuid(), .user = management::user_name(geteuid()), .role = "control", .pid = getpid()};
        entry.arguments = {{"file", files.front().filename().string()}, {"head", last.to_string()}};
        entry.outcome = "ok";
        if (!write(std::move(entry), true)) return;
        std::error_code error;
        if (!fs::remove(files.front(), error)) return;
        files.erase(files.begin());
    }
}

std::expected<void, std::string> AuditLog::append(const Entry& entry, bool durable) {
    struct stat status{};
    if (fstat(file_.get(), &status) != 0 || status.st_nlink == 0 || static_cast<std::uint64_t>(status.st_size) != size_) {
        const bool gone = status.st_nlink == 0;
        size_ = static_cast<std::uint64_t>(status.st_size);
        std::error_code error;
        if (gone && !fs::exists(settings_.directory / kCurrentFile, error)) {
            if (auto opened = open_current(true); !opened) {
                ++lost_;
                ++lost_untold_;
                return opened;
            }
        }
        new_chain(gone ? "the file was taken away while it was written" : "somebody else wrote to the file, or cut it");
    }
    if (size_ >= settings_.file_octets) {
        if (auto rotated = rotate(); !rotated) {
            ++lost_;
            ++lost_untold_;
            return rotated;
        }
        remove_oldest();
    }
    return write(entry, durable);
}

std::expected<void, std::string> AuditLog::write(Entry entry, bool durable) {
    if (lost_untold_ > 0) entry.arguments["entries_lost_before"] = lost_untold_;
    nlohmann::ordered_json object;
    object["number"] = head_.number + 1;
    object["time"] = sallyport::format("{:%FT%TZ}", std::chrono::floor<std::chrono::milliseconds>(settings_.now()));
    object["event"] = entry.event;
    object["uid"] = entry.uid;
    object["user"] = entry.user;
    object["role"] = entry.role;
    object["pid"] = entry.pid;
    if (!entry.from.empty()) object["from"] = {{"said_by_client", entry.from}};
    if (!entry.command.empty()) object["command"] = entry.command.substr(0, kMaxCommand);
    if (!entry.arguments.empty()) object["arguments"] = kept_arguments(entry.arguments);
    object["outcome"] = entry.outcome.substr(0, 64);
    object["previous"] = head_.digest;
    std::string line = object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
    std::size_t done = 0;
    while (done < line.size()) {
        const ssize_t n = ::write(file_.get(), line.data() + done, line.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<std::size_t>(n);
    }
    if (done < line.size()) {
        const int reason = errno != 0 ? errno : EIO;
        if (done > 0 && ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) size_ += done;
        ++lost_;
        ++lost_untold_;
        return std::unexpected(sallyport::format("audit log {}: {}", (settings_.directory / kCurrentFile).string(), std::strerror(reason)));
    }
    size_ += line.size();
    line.pop_back();
    head_ = {head_.number + 1, digest(line)};
    ++written_;
    lost_untold_ = 0;
    if (settings_.on_written) settings_.on_written(line);
    if (durable && fdatasync(file_.get()) != 0) return failed(settings_.directory / kCurrentFile, "is not on the disk");
    if (head_.number % kHeadEvery == 0) keep_head();
    return {};
}

void AuditLog::keep_head() {
    daemon::log(daemon::Level::info, "audit_head", {{"number", head_.number}, {"sha256", head_.digest}});
    // Never ahead of what is on the disk: that would look like a log that was cut.
    if (fdatasync(file_.get()) != 0) return;
    const fs::path path = settings_.directory / kHeadFile, fresh = path.string() + ".new";
    const channel::Descriptor file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    const std::string text = head_.to_string() + "\n";
    if (!file.valid() || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || fdatasync(file.get()) != 0) return;
    (void)rename(fresh.c_str(), path.c_str());
}

std::expected<void, std::string> AuditLog::reserve() {
    // Blocks beyond the end of the file, so that its length stays that of its lines. Where a file system cannot, the entry before the
    // command has shown at least that there was room just now.
    if (fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size_), kReserve) == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return {};
    return failed(settings_.directory / kCurrentFile, "has no room");
}

void AuditLog::note(std::string event, json arguments, std::string outcome) {
    settle_looking(true);
    append_own(std::move(event), std::move(arguments), std::move(outcome));
}

void AuditLog::append_own(std::string event, json arguments, std::string outcome) {
    const Entry entry{.event = std::move(event),
                      .uid = geteuid(),
                      .user = management::user_name(geteuid()),
                      .role = "control",
                      .pid = getpid(),
                      .from = {},
                      .command = {},
                      .arguments = std::move(arguments),
                      .outcome = std::move(outcome)};
    if (auto written = append(entry, true); !written) daemon::log(daemon::Level::error, "audit_not_written", {{"why", written.error()}});
}

namespace {

Entry entry_of(const Request& request, const Peer& peer, std::string event, std::string_view outcome) {
    return {.event = std::move(event),
            .uid = peer.uid,
            .user = peer.user,
            .role = std::string(management::name_of(peer.role)),
            .pid = peer.pid,
            .from = peer.from,
            .command = request.name(),
            .arguments = request.arguments,
            .outcome = std::string(outcome)};
}

}  // namespace

management::CommandTable::Audit AuditLog::hooks() {
    return {
        .before = [this](const Request& request, const Peer& peer, const management::Access& access) -> std::expected<void, management::Error> {
            if (access.least != Role::administrator || !access.changes) return {};
            auto room = reserve();
            if (!room) {
                ++lost_;
                ++lost_untold_;
            }
            if (room) room = append(entry_of(request, peer, "begun", "begun"), true);
            if (room) return {};
            daemon::log(daemon::Level::error, "audit_not_written", {{"why", room.error()}, {"command", request.name()}, {"user", peer.user}});
            return std::unexpected(
                management::Error{"not_audited", sallyport::format("{}; nothing was done, since what is done must stand in the audit log", room.error())});
        },
        .after = [this](const Request& request, const Peer& peer, const management::Access& access,
                        const management::Result& result) { after(request, peer, access, outcome_of(result)); }};
}

bool AuditLog::repeats(const Entry& entry) {
    const auto now = settings_.now();
    const std::string what = digest(sallyport::format("{} {} {}", entry.uid, entry.command, entry.arguments.dump(-1, ' ', false, json::error_handler_t::replace)));
    if (looking_.size() >= kMaxUsersRemembered && !looking_.contains(entry.pid)) settle_looking(true);
    Looking& looking = looking_[entry.pid];
    if (looking.what == what && now - looking.written < kLongestLook) {
        ++looking.again;
        looking.last = now;
        return true;
    }
    Looking fresh{.what = what, .entry = entry, .written = now, .last = now};
    fresh.entry.arguments = kept_arguments(entry.arguments);   // a request may hold a megabyte
    tell_repetitions(std::exchange(looking, std::move(fresh)));
    return false;
}

void AuditLog::tell_repetitions(Looking looking) {
    if (looking.again == 0) return;
    Entry entry = std::move(looking.entry);
    entry.event = "repeated";
    entry.arguments = {{"arguments", std::move(entry.arguments)}, {"times", looking.again}};
    if (auto written = append(entry, false); !written)
        daemon::log(daemon::Level::error, "audit_not_written", {{"why", written.error()}, {"command", entry.command}, {"user", entry.user}});
}

void AuditLog::settle_looking(bool all) {
    const auto now = settings_.now();
    // Taken out first: what is written may find the log broken, and that has its own entry, before which all of this is told.
    std::vector<Looking> over;
    std::erase_if(looking_, [&](auto& each) {
        if (!all && now - each.second.last < kSilence) return false;
        over.push_back(std::move(each.second));
        return true;
    });
    for (Looking& looking : over) tell_repetitions(std::move(looking));
}

void AuditLog::after(const Request& request, const Peer& peer, const management::Access& access, std::string_view outcome) {
    const bool refused = outcome == "forbidden";
    Entry entry = entry_of(request, peer, refused ? "refused" : "command", outcome);
    if (refused) {
        const auto now = settings_.now();
        if (refusals_.size() >= kMaxUsersRemembered && !refusals_.contains(peer.uid)) refusals_.clear();
        Refusals& refusals = refusals_[peer.uid];
        if (now - refusals.last >= std::chrono::seconds(1)) refusals.tokens = std::max(refusals.tokens, 1u);
        if (refusals.tokens == 0) {
            ++refusals.left_out;
            return;
        }
        --refusals.tokens;
        refusals.last = now;
        if (const std::uint64_t left_out = std::exchange(refusals.left_out, 0); left_out > 0) entry.arguments["refusals_left_out_before"] = left_out;
    }
    settle_looking(false);
    if (access.least == Role::read_only && outcome == "ok") {
        if (repeats(entry)) return;
    } else if (const auto before = looking_.find(peer.pid); before != looking_.end()) {
        auto taken = looking_.extract(before);   // in the order in which they came
        tell_repetitions(std::move(taken.mapped()));
    }
    if (auto written = append(entry, access.least >= Role::operator_); !written) {
        looking_.erase(peer.pid);   // the next look has to stand there
        daemon::log(daemon::Level::error, "audit_not_written", {{"why", written.error()}, {"command", entry.command}, {"user", peer.user}});
    }
}

}  // namespace sallyport::audit
