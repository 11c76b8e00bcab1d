#include "control/operations/capture.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <utility>

#include "control/channel/messages.h"
#include "control/daemon/logging.h"
#include "control/management/views.h"
#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "crypto/format.h"

namespace sallyport::operations {

using management::CaptureFileView;
using management::CaptureView;
namespace {

constexpr std::string_view kSuffix = ".pcapng", kSecretsSuffix = "-secrets.pcapng";
constexpr std::size_t kKept = 32;                 ///< captures that are remembered
constexpr std::uint32_t kLeastSecretsRoom = 16 << 10, kMostSecretsRoom = 1 << 20;

std::unexpected<Error> bad(std::string text) { return bad_argument(std::move(text)); }

/// Secrets open what clients and members said: administrators alone have them written, and read or delete a file that may hold them.
Role least_to_start(const json& arguments) {
    const auto secrets = arguments.find("secrets");
    return secrets == arguments.end() || *secrets == json(false) ? Role::operator_ : Role::administrator;
}
Role least_for_file(const json& arguments) {
    const auto file = arguments.find("file");
    const bool secrets = file != arguments.end() && file->is_string() && file->get_ref<const std::string&>().ends_with(kSecretsSuffix);
    return secrets ? Role::administrator : Role::operator_;
}

std::expected<std::string, Error> text_argument(const Request& request, const char* name, std::size_t most) {
    const auto found = request.arguments.find(name);
    if (found == request.arguments.end()) return std::string();
    if (!found->is_string()) return bad(sallyport::format("argument {} is not a string", name));
    auto text = found->get<std::string>();
    if (text.size() > most) return bad(sallyport::format("argument {} has {} octets; {} are possible", name, text.size(), most));
    const auto control = [](char c) { return std::iscntrl(static_cast<unsigned char>(c)) != 0; };
    if (std::ranges::any_of(text, control)) return bad(sallyport::format("argument {} has a control character", name));
    return text;
}

std::expected<bool, Error> flag_argument(const Request& request, const char* name) {
    const auto found = request.arguments.find(name);
    if (found == request.arguments.end()) return false;
    if (!found->is_boolean()) return bad(sallyport::format("argument {} is neither true nor false", name));
    return found->get<bool>();
}

/// "00-000001-00000002", as `show flows` has it; 0: it is not one.
std::uint64_t flow_of(const std::string& text) {
    if (text.size() != 18 || text[2] != '-' || text[9] != '-') return 0;
    std::uint64_t parts[3];
    constexpr std::size_t kAt[] = {0, 3, 10}, kLength[] = {2, 6, 8};
    for (std::size_t i = 0; i < 3; ++i) {
        const char* const from = text.data() + kAt[i];
        if (std::from_chars(from, from + kLength[i], parts[i], 16).ptr != from + kLength[i]) return 0;
    }
    return channel::FlowId::make(static_cast<std::uint8_t>(parts[0]), static_cast<std::uint32_t>(parts[1]), static_cast<std::uint32_t>(parts[2])).value;
}

std::string base64(std::span<const unsigned char> octets) {
    std::string text((octets.size() + 2) / 3 * 4 + 1, '\0');
    text.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), octets.data(), static_cast<int>(octets.size()))));
    return text;
}

std::string system_text(const std::filesystem::path& path) { return path.string() + ": " + std::strerror(errno); }

std::string now_text() { return management::iso8601(std::chrono::system_clock::now()); }

/// An existing file of the directory, which nothing but a plain file may be.
std::expected<channel::Descriptor, Error> open_file(const std::filesystem::path& directory, const std::string& name, int flags) {
    if (!is_capture_name(name)) return bad("argument file is no plain file name: letters, digits, '-', '_' and '.', not first");
    if (!name.ends_with(kSuffix)) return bad("argument file is no file of a capture: they end with .pcapng");
    channel::Descriptor file(::open((directory / name).c_str(), flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    struct stat status{};
    if (!file.valid() || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return std::unexpected(Error{"no_such_file", "there is no file of a capture named '" + name + "'; `show captures` lists them"});
    return file;
}

}  // namespace

bool is_capture_name(std::string_view name) {
    const auto fits = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.'; };
    return !name.empty() && name.size() <= 100 && name.front() != '.' && name.front() != '-' && std::ranges::all_of(name, fits);
}

Captures::Captures(Dataplane dataplane, std::function<const configuration::Capture&()> settings, flows::SecretFiles& secrets)
    : dataplane_(std::move(dataplane)), settings_(std::move(settings)), secrets_(secrets) {}

Captures::~Captures() {
    for (const CaptureView& view : captures_) secrets_.end(view.id);
}

CaptureView* Captures::find(std::uint64_t id) {
    const auto found = std::ranges::find(captures_, id, &CaptureView::id);
    return found == captures_.end() ? nullptr : &*found;
}

/// Octets of the files, and what those that are being written may still take; the files themselves, if asked for.
std::uint64_t Captures::octets_taken(std::vector<CaptureFileView>* files) const {
    std::uint64_t sum = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(settings_().directory, error)) {
        struct stat status{};
        if (lstat(entry.path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
        const std::string name = entry.path().filename().string();
        const auto size = static_cast<std::uint64_t>(status.st_size);
        const auto writes = std::ranges::find_if(captures_, [&](const CaptureView& view) { return view.state == "running" && view.file == name; });
        sum += writes == captures_.end() ? size : std::max(size, writes->limit_octets);
        if (files != nullptr && is_capture_name(name) && name.ends_with(kSuffix))
            files->push_back({name, size, management::iso8601(std::chrono::system_clock::from_time_t(status.st_mtime)), name.ends_with(kSecretsSuffix)});
    }
    if (files != nullptr) std::ranges::sort(*files, {}, &CaptureFileView::file);
    return sum;
}

Result Captures::start(const Request& request, const Peer& peer) {
    const configuration::Capture& settings = settings_();
    const auto octets = request.number("octets", std::min(kDefaultOctets, settings.max_octets), kLeastOctets, settings.max_octets);
    const auto packets = request.number("packets", kDefaultPackets, 1, kMostPackets);
    const auto seconds = request.number("seconds", kDefaultSeconds, 1, kMostSeconds);
    const auto snap = request.number("snap", 65535, 64, 65535);
    for (const auto* const number : {&octets, &packets, &seconds, &snap})
        if (!*number) return std::unexpected(number->error());
    const auto port = text_argument(request, "port", 63), flow = text_argument(request, "flow", 32), filter = text_argument(request, "filter", 1024),
               name = text_argument(request, "file", 80), comment = text_argument(request, "comment", 256), service = text_argument(request, "service", 63),
               client = text_argument(request, "client", 64), server_name = text_argument(request, "server_name", 253);
    for (const auto* const text : {&port, &flow, &filter, &name, &comment, &service, &client, &server_name})
        if (!*text) return std::unexpected(text->error());
    const auto secrets = flag_argument(request, "secrets");
    if (!secrets) return std::unexpected(secrets.error());

    const std::uint64_t flow_id = flow->empty() ? 0 : flow_of(*flow);
    if (!flow->empty() && flow_id == 0) return bad("argument flow is no flow's id, such as 00-000001-00000002");
    flows::SecretFiles::Selection selection{*service, *server_name, std::nullopt};
    if (!client->empty()) {
        const bool prefix = client->find('/') != std::string::npos;
        const auto parsed = IpPrefix::parse(prefix ? *client : *client + (client->find(':') == std::string::npos ? "/32" : "/128"));
        if (!parsed) return bad("argument client: " + parsed.error());
        selection.client = *parsed;
    }
    if (*secrets && !settings.secrets)
        return std::unexpected(Error{"forbidden_by_configuration", "the configuration does not allow TLS secrets in captures: capture.secrets is false"});
    if (*secrets && flow_id != 0) return bad("the secrets of a flow that has begun are gone; capture by filter, and begin before the flow does");
    if (!*secrets && (!service->empty() || !client->empty() || !server_name->empty()))
        return bad("arguments service, client and server_name choose whose secrets are written: they need secrets = true; packets are chosen by filter");

    CaptureView view;
    view.id = next_id_++;
    const std::string base = name->empty()              ? sallyport::format("{:%Y%m%dT%H%M%SZ}-{}", std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()), view.id)
                             : name->ends_with(kSuffix) ? name->substr(0, name->size() - kSuffix.size())
                                                        : *name;
    // A file that holds secrets says so wherever it goes.
    view.file = base + std::string(*secrets && !base.ends_with("-secrets") ? kSecretsSuffix : kSuffix);
    if (!is_capture_name(view.file)) return bad("argument file is no plain file name: letters, digits, '-', '_' and '.', not first");
    std::error_code ignored;
    if (std::filesystem::create_directories(settings.directory, ignored)) std::filesystem::permissions(settings.directory, std::filesystem::perms::owner_all, ignored);
    if (const std::uint64_t taken = octets_taken(nullptr); taken + *octets > settings.max_octets)
        return std::unexpected(Error{"no_room", sallyport::format("the files of captures take {} octets of {} (capture.max_octets), and this one may take {}; delete some "
                                                                  "(`show captures`, `capture delete`), or give it fewer octets",
                                                                  taken, settings.max_octets, *octets)});
    const std::filesystem::path path = settings.directory / view.file;
    channel::Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid())
        return std::unexpected(errno == EEXIST ? Error{"exists", "there is a file '" + view.file + "' already"} : Error{"not_started", system_text(path)});

    const auto room = *secrets ? static_cast<std::uint32_t>(std::clamp<std::uint64_t>(*octets / 4, kLeastSecretsRoom, kMostSecretsRoom)) : 0u;
    const json arguments = {{"id", view.id}, {"ports", port->empty() ? json::array() : json::array({*port})}, {"flow", flow_id}, {"filter", *filter}, {"comment", *comment}, {"snap", *snap}, {"packets", *packets}, {"octets", *octets}, {"seconds", *seconds}, {"secrets_room", room}};
    const int descriptor = file.get();
    const auto until = flows::SecretFiles::Clock::now() + std::chrono::seconds(*seconds);
    const auto started = dataplane_.ask("capture start", arguments, {&descriptor, 1});
    if (!started) {
        ::unlink(path.c_str());
        // One that answers late may have begun it all the same; what it is asked next reaches it next.
        if (dataplane_.attached()) (void)dataplane_.ask("capture stop", {{"id", view.id}}, {});
        return std::unexpected(Error{dataplane_.attached() ? "not_started" : "away", started.error()});
    }
    view.state = "running";
    view.started = now_text();
    view.port = *port;
    view.flow = *flow;
    view.filter = started->value("filter", *filter);
    view.comment = *comment;
    view.limit_packets = *packets;
    view.limit_octets = *octets;
    view.limit_seconds = *seconds;
    view.snap = static_cast<std::uint32_t>(*snap);
    view.secrets = *secrets;
    view.secrets_service = *service;
    view.secrets_client = *client;
    view.secrets_server_name = *server_name;
    if (*secrets)
        secrets_.begin(view.id, std::move(file), started->at("secrets_at").get<std::uint64_t>(), started->at("secrets_room").get<std::uint32_t>(),
                       std::move(selection), until);
    daemon::log(*secrets ? daemon::Level::warning : daemon::Level::info, *secrets ? "capture_with_secrets" : "capture_started",
                {{"capture", view.id},
                 {"file", path.string()},
                 {"uid", peer.uid},
                 {"pid", peer.pid},
                 {"port", view.port},
                 {"filter", view.filter},
                 {"octets", *octets},
                 {"packets", *packets},
                 {"seconds", *seconds},
                 {"service", *service},
                 {"client", *client},
                 {"server_name", *server_name},
                 {"comment", *comment}});
    captures_.push_back(view);
    while (captures_.size() > kKept && captures_.front().state != "running") captures_.pop_front();
    return view;
}

void Captures::take(CaptureView& view, const json& report) {
    view.seen = report.value("seen", view.seen);
    view.packets = report.value("packets", view.packets);
    view.dropped = report.value("dropped", view.dropped);
    view.octets = report.value("octets", view.octets);
    view.error = report.value("error", view.error);
    if (view.state == "running" && view.secrets) {
        const auto counts = secrets_.counts(view.id);
        view.secrets_lines = counts.lines;
        view.secrets_dropped = counts.dropped;
    }
    if (view.state == "running" && report.value("state", std::string()) == "ended") end(view, report.value("end", std::string()));
}

void Captures::end(CaptureView& view, const std::string& why) {
    if (view.secrets) {
        const auto counts = secrets_.counts(view.id);
        view.secrets_lines = counts.lines;
        view.secrets_dropped = counts.dropped;
        secrets_.end(view.id);
    }
    view.state = "ended";
    view.end = why;
    view.ended = now_text();
    daemon::log(daemon::Level::info, "capture_ended",
                {{"capture", view.id}, {"file", view.file}, {"why", why}, {"packets", view.packets}, {"dropped", view.dropped}, {"octets", view.octets}, {"secrets_lines", view.secrets_lines}, {"error", view.error}});
}

void Captures::ended(const json& report) {
    if (CaptureView* const view = find(report.value("id", std::uint64_t{0}))) take(*view, report);
}

void Captures::turn() {
    const bool attached = dataplane_.attached(), allowed = settings_().secrets;
    for (CaptureView& view : captures_) {
        if (view.state != "running") continue;
        if (!attached) end(view, "dataplane_lost");
        else if (view.secrets && !allowed) forbid(view);
    }
}

/// The configuration allows no secrets any more: none is written from here on, and the capture ends.
void Captures::forbid(CaptureView& view) {
    end(view, "forbidden");
    if (const auto stopped = dataplane_.ask("capture stop", {{"id", view.id}}, {})) take(view, *stopped);
}

Result Captures::stop(const Request& request, const Peer& peer) {
    const auto id = request.number("id", 0, 0, UINT64_MAX / 2);
    if (!id) return std::unexpected(id.error());
    CaptureView* const view = find(*id);
    if (view == nullptr) return bad(sallyport::format("there is no capture {}; `show captures` lists them", *id));
    if (view->state != "running") return *view;
    daemon::log(daemon::Level::info, "capture_stopped", {{"capture", view->id}, {"uid", peer.uid}, {"pid", peer.pid}});
    const auto stopped = dataplane_.ask("capture stop", {{"id", *id}}, {});
    if (!stopped) return std::unexpected(Error{"away", stopped.error()});
    take(*view, *stopped);
    return *view;
}

Result Captures::show() {
    management::CapturesView view;
    const configuration::Capture& settings = settings_();
    const bool running = std::ranges::any_of(captures_, [](const CaptureView& each) { return each.state == "running"; });
    if (running)
        if (const auto reports = dataplane_.ask("captures", json::object(), {}))
            for (const json& report : *reports)
                if (CaptureView* const each = find(report.value("id", std::uint64_t{0}))) take(*each, report);
    view.captures.assign(captures_.begin(), captures_.end());
    view.directory = settings.directory.string();
    view.octets = octets_taken(&view.files);
    view.max_octets = settings.max_octets;
    view.secrets_allowed = settings.secrets;
    return view;
}

Result Captures::names() const {
    management::CapturesView view;
    (void)octets_taken(&view.files);
    json names = {{"captures", json::array()}, {"files", json::array()}};
    for (const CaptureView& each : captures_) names["captures"].push_back(management::NameView{std::to_string(each.id), each.state + ", " + each.file});
    for (const CaptureFileView& each : view.files) names["files"].push_back(management::NameView{each.file, each.modified});
    return names;
}

Result Captures::read(const Request& request) const {
    const auto name = text_argument(request, "file", 100);
    if (!name) return std::unexpected(name.error());
    const auto offset = request.number("offset", 0, 0, UINT64_MAX / 4);
    if (!offset) return std::unexpected(offset.error());
    const auto file = open_file(settings_().directory, *name, O_RDONLY);
    if (!file) return std::unexpected(file.error());
    struct stat status{};
    std::vector<unsigned char> octets(kChunk);
    std::size_t length = 0;
    while (length < octets.size()) {
        const ssize_t got = pread(file->get(), octets.data() + length, octets.size() - length, static_cast<off_t>(*offset + length));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::unexpected(Error{"not_read", system_text(*name)});
        if (got == 0) break;
        length += static_cast<std::size_t>(got);
    }
    if (fstat(file->get(), &status) != 0) return std::unexpected(Error{"not_read", system_text(*name)});
    management::CaptureChunkView view;
    view.file = *name;
    view.offset = *offset;
    view.size = static_cast<std::uint64_t>(status.st_size);
    view.data = base64(std::span(octets).first(length));
    view.last = *offset + length >= view.size;
    return view;
}

Result Captures::remove(const Request& request, const Peer& peer) {
    const auto name = text_argument(request, "file", 100);
    if (!name) return std::unexpected(name.error());
    if (const auto file = open_file(settings_().directory, *name, O_RDONLY); !file) return std::unexpected(file.error());
    if (std::ranges::any_of(captures_, [&](const CaptureView& view) { return view.state == "running" && view.file == *name; }))
        return bad("the capture of that file runs; stop it first");
    const std::filesystem::path path = settings_().directory / *name;
    if (::unlink(path.c_str()) != 0) return std::unexpected(Error{"not_deleted", system_text(path)});
    daemon::log(daemon::Level::info, "capture_deleted", {{"file", path.string()}, {"uid", peer.uid}, {"pid", peer.pid}});
    return json::object();
}

namespace {

Result start_ping(const Request& request, const Dataplane& dataplane) {
    const auto address = text_argument(request, "address", 64);
    if (!address) return std::unexpected(address.error());
    if (address->empty()) return bad("argument address is missing");
    const auto parsed = IpAddress::parse(*address);
    if (!parsed) return bad("argument address: " + parsed.error());
    const auto count = request.number("count", 5, 1, 1000), interval = request.number("interval_ms", 1000, 10, 60'000),
               timeout = request.number("timeout_ms", 1000, 10, 60'000), size = request.number("size", 56, 0, 9000);
    for (const auto* const number : {&count, &interval, &timeout, &size})
        if (!*number) return std::unexpected(number->error());
    const auto started = dataplane.ask("ping start", {{"address", *address}, {"count", *count}, {"interval_ms", *interval}, {"timeout_ms", *timeout}, {"size", *size}}, {});
    if (!started) return std::unexpected(Error{"not_started", started.error()});
    management::PingView view;
    view.id = started->at("id").get<std::uint64_t>();
    view.address = *address;
    view.octets = static_cast<std::uint32_t>(*size);
    view.count = static_cast<std::uint32_t>(*count);
    return view;
}

Result read_ping(const Request& request, const Dataplane& dataplane) {
    const auto id = request.number("id", 0, 0, UINT64_MAX / 2);
    if (!id) return std::unexpected(id.error());
    const auto answer = dataplane.ask("ping read", {{"id", *id}}, {});
    if (!answer) return std::unexpected(Error{"no_such_ping", answer.error()});
    return answer->get<management::PingView>();
}

}  // namespace

void add_capture_commands(management::CommandTable& table, Captures& captures, const Dataplane& dataplane) {
    table.add("capture start", "capture packets into a file (pcapng)",
              {{"port", "the port; all of them without it"},
               {"flow", "a flow's id: both of its legs"},
               {"filter", "in libpcap's language, numbers only; of untagged frames, also on ports with a VLAN"},
               {"octets", "of the file at most (65536 to capture.max_octets; otherwise 16777216)"},
               {"packets", "at most (to 100000000; otherwise 100000)"},
               {"seconds", "at most (to 3600; otherwise 60)"},
               {"snap", "octets of each frame that are kept (64 to 65535; otherwise all)"},
               {"file", "its name, no path; otherwise one of the time"},
               {"comment", "for the file and the log"},
               {"secrets", "true: with the TLS secrets of flows that begin meanwhile, if capture.secrets allows it"},
               {"service", "with secrets: of this service alone"},
               {"client", "with secrets: of this client's address or prefix alone"},
               {"server_name", "with secrets: of this server name alone"}},
              [&](const Request& request, const Peer& peer) { return captures.start(request, peer); }, {.least = Role::operator_, .least_with = least_to_start});
    table.add("capture stop", "end a capture", {{"id", "its number"}}, [&](const Request& request, const Peer& peer) { return captures.stop(request, peer); }, kOperator);
    table.add("capture read", "a part of a capture's file, in base64", {{"file", "its name"}, {"offset", "of the first octet (otherwise 0)"}},
              [&](const Request& request, const Peer&) { return captures.read(request); },
              {.least = Role::operator_, .changes = false, .least_with = least_for_file});
    table.add("capture delete", "delete the file of a capture", {{"file", "its name"}},
              [&](const Request& request, const Peer& peer) { return captures.remove(request, peer); },
              {.least = Role::operator_, .least_with = least_for_file});
    table.add("show captures", "packet captures and their files", {}, [&](const Request&, const Peer&) { return captures.show(); });
    table.add("capture names", "captures and files, for completion", {}, [&](const Request&, const Peer&) { return captures.names(); }, kPolled);
    table.add("ping start", "send ICMP echo requests from the appliance's ports", {{"address", "IPv4 or IPv6"}, {"count", "requests (to 1000; otherwise 5)"}, {"interval_ms", "between two (10 to 60000; otherwise 1000)"}, {"timeout_ms", "for each reply (10 to 60000; otherwise 1000)"}, {"size", "octets of data (to 9000; otherwise 56)"}}, [&](const Request& request, const Peer&) { return start_ping(request, dataplane); }, kOperator);
    table.add("ping read", "what came of a ping so far", {{"id", "its number"}},
              [&](const Request& request, const Peer&) { return read_ping(request, dataplane); }, {.least = Role::operator_, .audited = false});
}

}  // namespace sallyport::operations
