#include <openssl/evp.h>
#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "control/channel/attachment.h"
#include "control/configuration/configuration.h"
#include "control/daemon/exit_code.h"
#include "control/daemon/logging.h"
#include "control/daemon/notify.h"
#include "control/daemon/sandbox.h"
#include "control/daemon/signals.h"
#include "control/dataplane_link.h"
#include "control/management/server.h"
#include "control/show_commands.h"

using namespace sallyport;

namespace {

struct Owner {
    std::uint32_t uid = 0, gid = 0;
};

std::expected<Owner, std::string> owner_of(const std::string& user) {
    const passwd* const entry = getpwnam(user.c_str());
    if (entry == nullptr) return std::unexpected("there is no user '" + user + "'; make it, or name another in control.user");
    return Owner{entry->pw_uid, entry->pw_gid};
}

/// Names what the dataplane knows of a configuration by position (services, pools, members), so that a control that starts anew knows
/// whether the flows that it finds mean the same. Never 0, which is none.
std::uint32_t generation_of(const configuration::Configuration& configuration) {
    std::string text;
    for (const auto& service : configuration.services) {
        text += "service " + service.name + "\n";
        for (const auto& listen : service.listen) text += listen.to_string() + "\n";
    }
    for (const auto& pool : configuration.pools) {
        text += "pool " + pool.name + "\n";
        for (const auto& member : pool.members) text += member.name + " " + member.address.to_string() + "\n";
    }
    std::array<unsigned char, 32> digest{};
    std::size_t length = 0;
    if (EVP_Q_digest(nullptr, "SHA256", nullptr, text.data(), text.size(), digest.data(), &length) != 1) return 1;
    return 1 | (std::uint32_t{digest[0]} << 24 | std::uint32_t{digest[1]} << 16 | std::uint32_t{digest[2]} << 8 | digest[3]);
}

/// A directory for the sockets, owned by the user that we change to.
void make_directory_of(const std::filesystem::path& socket, const Owner& owner) {
    const auto directory = socket.parent_path();
    std::error_code ignored;
    if (std::filesystem::create_directories(directory, ignored) && geteuid() == 0)
        if (chown(directory.c_str(), owner.uid, owner.gid) != 0)
            daemon::log(daemon::Level::warning, "chown_failed", {{"directory", directory.string()}});
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Sallyport's control plane: keys, certificates, handshakes, policy, management.", "sallyport-control");
    std::string file = "/etc/sallyport/sallyport.conf";
    bool check = false, stay_root = false;
    app.add_option("--config", file, "configuration file")->capture_default_str();
    app.add_flag("--check", check, "check the configuration, print every problem, and exit");
    app.add_flag("--stay-root", stay_root, "keep user and privileges (for debugging only; said in the log)");
    app.set_version_flag("--version", std::string("sallyport-control ") + SALLYPORT_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_code::kOk : exit_code::kUsage;
    }
    auto loaded = configuration::load(file);
    if (!loaded) {
        for (const auto& problem : loaded.error()) std::fprintf(stderr, "%s\n", problem.to_string().c_str());
        return exit_code::kConfiguration;
    }
    if (check) {
        std::printf("%s: good\n", file.c_str());
        return exit_code::kOk;
    }
    const auto level = daemon::parse_level(loaded->logging.level);
    daemon::start_logging("sallyport-control", level ? *level : daemon::Level::info);
    daemon::StopSignals signals;
    daemon::Watchdog watchdog;

    const auto fail = [](int code, const std::string& why) {
        daemon::log(daemon::Level::error, "cannot_start", {{"why", why}});
        return code;
    };
    loaded->dataplane.generation = generation_of(*loaded);
    const std::string user = loaded->user;
    const bool change_user = !stay_root && geteuid() == 0;
    Owner owner{geteuid(), getegid()};
    if (change_user) {
        const auto found = owner_of(user);
        if (!found) return fail(exit_code::kOsError, found.error());
        owner = *found;
    }
    std::shared_ptr<flows::Runtime> runtime;
    try {
        runtime = std::make_shared<flows::Runtime>(std::move(*loaded));
    } catch (const std::exception& error) {
        return fail(exit_code::kConfiguration, error.what());
    }
    const configuration::Configuration& settings = runtime->configuration;
    const auto certificates = certificate_views(settings);
    make_directory_of(settings.channel_socket, owner);
    make_directory_of(settings.management_socket, owner);
    auto listener = channel::listen_at(settings.channel_socket.string(), owner.uid, owner.gid);
    if (!listener) return fail(exit_code::kUnavailable, listener.error());

    std::vector<std::unique_ptr<flows::HandshakeWorker>> workers;
    DataplaneLink link(std::move(*listener), runtime, workers);
    Appearance appearance{link, runtime, workers, std::chrono::system_clock::now(), std::chrono::steady_clock::now(),
                          std::chrono::system_clock::now(), certificates};
    management::CommandTable commands;
    add_show_commands(commands, appearance);
    management::Server::Settings server_settings;
    if (change_user) {
        server_settings.owner = owner.uid;
        server_settings.group = owner.gid;
    }
    auto server = management::Server::open(
        settings.management_socket.string(),
        [&](const management::Request& request, const management::Peer& peer) { return commands.handle(request, peer); }, server_settings);
    if (!server) return fail(exit_code::kUnavailable, server.error());

    if (stay_root) {
        daemon::log(daemon::Level::warning, "stays_root", {{"why", "--stay-root"}});
    } else {
        if (change_user)
            if (auto dropped = daemon::drop_privileges(user); !dropped) return fail(exit_code::kOsError, dropped.error());
        if (auto applied = daemon::apply_seccomp(daemon::Profile::control); !applied) return fail(exit_code::kOsError, applied.error());
    }
    for (unsigned i = 0; i < settings.handshake_workers; ++i) {
        workers.push_back(std::make_unique<flows::HandshakeWorker>(i, settings.handshake_workers));
        workers.back()->start();
        workers.back()->use(runtime);
    }
    daemon::log(daemon::Level::info, "running",
                {{"configuration", settings.file.string()}, {"services", settings.services.size()}, {"pools", settings.pools.size()}});
    daemon::notify_ready("running");
    auto next_rotation = std::chrono::steady_clock::now();
    while (true) {
        if (const auto now = std::chrono::steady_clock::now(); now >= next_rotation) {
            runtime->rotate_tickets();
            next_rotation = now + std::chrono::minutes(1);
        }
        link.turn();
        (*server)->poll(std::chrono::milliseconds(0));
        while (const auto signal = signals.take()) {
            if (!daemon::StopSignals::is_stop(*signal)) continue;
            daemon::notify_stopping("stopping");
            for (auto& worker : workers) worker->stop();
            daemon::log(daemon::Level::info, "stopped");
            return exit_code::kOk;
        }
        watchdog.tick(std::chrono::steady_clock::now());
        pollfd fds[4] = {{signals.fd(), POLLIN, 0},
                         {(*server)->fd(), POLLIN, 0},
                         {link.listener_fd(), POLLIN, 0},
                         {link.fd(), static_cast<short>(POLLIN | (link.wants_to_write() ? POLLOUT : 0)), 0}};
        (void)poll(fds, link.fd() >= 0 ? 4 : 3, 250);
    }
}
