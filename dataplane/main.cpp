#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "control/daemon/exit_code.h"
#include "control/daemon/logging.h"
#include "control/daemon/notify.h"
#include "control/daemon/sandbox.h"
#include "control/daemon/signals.h"
#include "dataplane/control_link.h"
#include "drivers/environment.h"

using namespace sallyport;

namespace {

/// Gives up what starting needed. AF_XDP keeps the right to take its program off the interface again.
std::expected<void, std::string> lock_down(const Appliance& appliance, const std::string& user) {
    const bool xdp = appliance.uses("af_xdp");
    if (!user.empty()) {
        constexpr std::string_view kForXdp[] = {"net_admin", "net_raw", "bpf"};
        const auto keep = xdp ? std::span<const std::string_view>(kForXdp) : std::span<const std::string_view>();
        if (auto dropped = daemon::drop_privileges(user, keep); !dropped) return dropped;
    }
    return daemon::apply_seccomp(xdp ? daemon::Profile::dataplane_xdp : daemon::Profile::dataplane);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Sallyport's dataplane: takes the ports and moves the packets. It gets its configuration from sallyport-control.",
                 "sallyport-dataplane");
    std::string channel_path = "/run/sallyport/channel.sock", level_text = "info", file_prefix = "sallyport";
    bool stay_root = false;
    app.add_option("--channel", channel_path, "UNIX socket of sallyport-control")->capture_default_str();
    app.add_option("--file-prefix", file_prefix, "of the EAL's files; two dataplanes on one machine need different ones")->capture_default_str();
    app.add_option("--log-level", level_text, "trace, debug, info, warning or error")->capture_default_str();
    app.add_flag("--stay-root", stay_root, "keep user and privileges (for debugging only; said in the log)");
    app.set_version_flag("--version", std::string("sallyport-dataplane ") + SALLYPORT_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_code::kOk : exit_code::kUsage;
    }
    const auto level = daemon::parse_level(level_text);
    if (!level) {
        std::fprintf(stderr, "--log-level: %s\n", level.error().c_str());
        return exit_code::kUsage;
    }
    daemon::start_logging("sallyport-dataplane", *level);
    daemon::StopSignals signals;
    daemon::Watchdog watchdog;
    ControlLink link(channel_path, file_prefix);
    bool locked_down = false;
    auto next_tick = std::chrono::steady_clock::now();
    while (true) {
        if (auto turned = link.turn(); !turned) {
            daemon::log(daemon::Level::error, "cannot_start", {{"why", turned.error()}});
            link.stop();
            return exit_code::kUnavailable;
        }
        if (link.appliance() != nullptr && !locked_down) {
            locked_down = true;
            if (stay_root) {
                daemon::log(daemon::Level::warning, "stays_root", {{"why", "--stay-root"}});
            } else if (auto done = lock_down(*link.appliance(), link.user()); !done) {
                daemon::log(daemon::Level::error, "cannot_drop_privileges", {{"why", done.error()}});
                return exit_code::kOsError;
            }
            daemon::notify_ready("running");
            daemon::log(daemon::Level::info, "running", {{"workers", link.appliance()->workers()}});
        }
        while (const auto signal = signals.take()) {
            if (!daemon::StopSignals::is_stop(*signal)) continue;
            daemon::notify_stopping("ending flows");
            if (link.appliance() != nullptr) {
                link.appliance()->end_flows(std::chrono::seconds(3));
                link.stop();
                drivers::stop_environment();
            }
            daemon::log(daemon::Level::info, "stopped");
            return exit_code::kOk;
        }
        if (link.appliance() != nullptr) link.appliance()->turn();
        const auto now = std::chrono::steady_clock::now();
        if (now >= next_tick && link.appliance() != nullptr) {
            next_tick = now + std::chrono::milliseconds(100);
            link.appliance()->tick();
            if (!link.appliance()->alive()) {
                daemon::log(daemon::Level::error, "worker_hangs");
                _exit(exit_code::kSoftware);   // its threads cannot be joined
            }
        }
        watchdog.tick(now);
        pollfd fds[2] = {{signals.fd(), POLLIN, 0},
                         {link.fd(), static_cast<short>(POLLIN | (link.wants_to_write() ? POLLOUT : 0)), 0}};
        const auto patience = link.appliance() != nullptr ? link.appliance()->patience() : std::chrono::milliseconds(100);
        (void)poll(fds, link.fd() >= 0 ? 2 : 1, static_cast<int>(std::min<std::int64_t>(patience.count(), link.fd() >= 0 ? 100 : 50)));
    }
}
