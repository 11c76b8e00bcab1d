#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "control/audit/chain.h"
#include "control/daemon/logging.h"
#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"
#include "control/operations/ustar.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeptBundles = 5;
constexpr std::size_t kPart = 384 << 10;             // octets of one answer, before base64
constexpr std::size_t kMostAuditLines = 2000;
constexpr std::uint64_t kMostFlows = 10'000;
constexpr std::size_t kMostConfiguration = 4 << 20;

fs::path directory_of(const Appearance& appearance) {
    return appearance.running.configuration().state_directory / "bundles";
}

/// What a member holds, unless it looks like a private key: nothing of ours does, so that this only meets what somebody has put where it
/// does not belong, such as a key pasted into the configuration.
std::string without_keys(std::string text) {
    if (!text.contains("PRIVATE KEY")) return text;
    return "left out: it holds what looks like a private key\n";
}

/// Names of settings whose value would be a secret if somebody put it there instead of a file's name. The line stays, without the value.
std::string configuration_text(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) return sallyport::format("{} cannot be read: {}\n", file.string(), std::strerror(errno));
    std::string result;
    for (std::string line; std::getline(stream, line) && result.size() < kMostConfiguration; result += line + '\n') {
        const auto equals = line.find_first_of("=:");
        if (equals == std::string::npos) continue;
        const std::string name = line.substr(0, equals);
        if (name.contains("password") || name.contains("token")) line = name + "= \"(left out)\";";
    }
    return result;
}

std::vector<fs::path> bundles_of(const fs::path& directory) {
    std::vector<fs::path> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error))
        if (entry.path().extension() == ".tar" && entry.path().filename().string().starts_with("sallyport-")) files.push_back(entry.path());
    std::ranges::sort(files);   // their names are times
    return files;
}

std::expected<void, Error> write_file(const fs::path& path, std::string_view octets) {
    const fs::path part = path.string() + ".part";
    const channel::Descriptor file(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    std::size_t done = 0;
    while (file.valid() && done < octets.size()) {
        const ssize_t n = ::write(file.get(), octets.data() + done, octets.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<std::size_t>(n);
    }
    if (file.valid() && done == octets.size() && rename(part.c_str(), path.c_str()) == 0) return {};
    const int reason = errno;
    unlink(part.c_str());
    return std::unexpected(Error{"not_written", sallyport::format("{}: {}", path.string(), std::strerror(reason))});
}

/// Every `show` command's answer, as JSON; what needs an argument is left out. Those of other parts are found by their names too.
void add_shows(Ustar& archive, const CommandTable& table, const Peer& peer) {
    constexpr std::string_view kLeftOut[] = {"show flow", "show names", "show audit", "show log", "show rates"};
    for (const std::string& name : table.names()) {
        if (!name.starts_with("show ") || std::ranges::contains(kLeftOut, name)) continue;
        Request request;
        request.command = {"show", name.substr(5)};
        if (name == "show flows") request.arguments = {{"limit", kMostFlows}};
        std::string text;
        try {
            const Result result = table.run(request, peer);
            text = result ? result->dump(2, ' ', false, json::error_handler_t::replace) : json{{"error", result.error().text}}.dump(2);
        } catch (const std::exception& error) {
            text = json{{"error", error.what()}}.dump(2);
        }
        std::string file = name.substr(5);
        std::ranges::replace(file, ' ', '_');
        archive.add("show/" + file.substr(0, 64) + ".json", without_keys(text + '\n'));
    }
}

Result make_bundle(Appearance& appearance, const CommandTable& table, const Peer& peer) {
    const auto now = std::chrono::system_clock::now();
    Ustar archive(now);
    const configuration::Configuration& configuration = appearance.running.configuration();
    archive.add("README.txt", sallyport::format("Sallyport {} support bundle of {}, made for {}.\nAnswers of show commands, both processes' last log lines, the end "
                                                "of the audit log, and the configuration; no keys, and no tickets' secrets.\n",
                                                SALLYPORT_VERSION, management::iso8601(now), peer.user));
    archive.add("configuration.conf", without_keys(configuration_text(configuration.file)));
    add_shows(archive, table, peer);

    const auto log_of = [&](const json& lines) {
        std::string text;
        for (const json& line : lines) text += sallyport::format("{} {} {}\n", line.value("time", ""), line.value("level", ""), line.value("text", ""));
        return text;
    };
    std::string control_log;
    for (const auto& line : daemon::kept_lines(daemon::kKeptLines))
        control_log += sallyport::format("{} {} {}\n", daemon::time_of_line(line.time), daemon::level_name(line.level), line.text);
    archive.add("log/control.log", without_keys(std::move(control_log)));
    const auto dataplane_log = appearance.link.ask("log", {{"limit", daemon::kKeptLines}});
    archive.add("log/dataplane.log", without_keys(dataplane_log ? log_of(*dataplane_log) : dataplane_log.error() + '\n'));

    std::string entries;
    for (const std::string& line : audit::last_lines(appearance.audit.directory(), kMostAuditLines, 4 << 20)) entries += line + '\n';
    archive.add("audit.log", without_keys(std::move(entries)));

    management::BundleView view;
    view.members = archive.names();
    const std::string octets = std::move(archive).finish();
    view.file = sallyport::format("sallyport-{:%Y%m%dT%H%M%SZ}.tar", std::chrono::floor<std::chrono::seconds>(now));
    view.octets = octets.size();
    view.sha256 = audit::digest(octets);
    const fs::path directory = directory_of(appearance);
    std::error_code error;
    if (fs::create_directories(directory, error)) fs::permissions(directory, fs::perms::owner_all, error);
    view.path = (directory / view.file).string();
    if (auto written = write_file(view.path, octets); !written) return std::unexpected(std::move(written.error()));
    const auto bundles = bundles_of(directory);
    for (std::size_t i = 0; i + kKeptBundles < bundles.size(); ++i) fs::remove(bundles[i], error);
    daemon::log(daemon::Level::info, "support_bundle", {{"file", view.path}, {"octets", view.octets}, {"for", peer.user}});
    return view;
}

Result read_bundle(Appearance& appearance, const Request& request) {
    const auto name = request.text("file");
    if (!name) return std::unexpected(name.error());
    const auto offset = request.number("offset", 0, 0, std::uint64_t{1} << 40);
    if (!offset) return std::unexpected(offset.error());
    const auto bundles = bundles_of(directory_of(appearance));
    // Only what is in the list: a name cannot lead elsewhere.
    const auto found = std::ranges::find_if(bundles, [&](const fs::path& path) { return path.filename() == *name; });
    if (found == bundles.end()) return std::unexpected(Error{"no_bundle", "there is no such bundle; support bundle makes one, and the newest five are kept"});
    std::ifstream stream(*found, std::ios::binary | std::ios::ate);
    const auto size = static_cast<std::uint64_t>(std::max<std::streamoff>(stream.tellg(), 0));
    if (*offset > size) return bad_argument(sallyport::format("offset is beyond the end at {}", size));
    std::string part(std::min<std::uint64_t>(kPart, size - *offset), '\0');
    stream.seekg(static_cast<std::streamoff>(*offset));
    if (!part.empty() && !stream.read(part.data(), static_cast<std::streamsize>(part.size())))
        return std::unexpected(Error{"unreadable", found->string() + " cannot be read"});
    management::BundlePartView view;
    view.data.resize((part.size() + 2) / 3 * 4 + 1);
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(view.data.data()), reinterpret_cast<const unsigned char*>(part.data()),
                                       static_cast<int>(part.size()));
    view.data.resize(static_cast<std::size_t>(std::max(length, 0)));
    view.next = *offset + part.size();
    view.last = view.next == size;
    return view;
}

}  // namespace

void add_support_commands(CommandTable& table, Appearance& appearance) {
    table.add("support bundle", "write what a supporter needs into a file: everything that is shown, logs, configuration; no secrets", {},
              [&](const Request&, const Peer& peer) { return make_bundle(appearance, table, peer); }, kAdministrator);
    // The bundle is what was audited; its parts are many.
    table.add("support read", "a part of a bundle", {{"file", "its name"}, {"offset", "of the part"}},
              [&](const Request& request, const Peer&) { return read_bundle(appearance, request); },
              {.least = Role::administrator, .audited = false, .changes = false});
}

}  // namespace sallyport::operations
