#include <openssl/crypto.h>
#include <unistd.h>
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_version(Appearance& appearance) {
    management::VersionView view;
    view.version = SALLYPORT_VERSION;
    view.openssl = OpenSSL_version(OPENSSL_VERSION);
    view.started = management::iso8601(appearance.started);
    view.uptime_ns = static_cast<std::uint64_t>(
        std::chrono::nanoseconds(std::chrono::steady_clock::now() - appearance.started_steady).count());
    view.control_pid = getpid();
    view.dataplane_attached = appearance.link.attached();
    view.dataplane_pid = appearance.link.pid();
    if (view.dataplane_attached) {
        view.dataplane_attached_at = management::iso8601(appearance.link.attached_at());
        if (const auto answer = appearance.link.ask("version")) {
            view.dpdk = answer->value("dpdk", "");
            view.ipsec_mb = answer->value("ipsec_mb", "");
            view.eal = answer->value("eal", "");
        }
    }
    view.configuration = appearance.running.runtime()->configuration.file.string();
    view.generation = appearance.running.dataplane().generation;
    view.configuration_loaded = management::iso8601(appearance.running.loaded());
    view.policy_level = appearance.running.runtime()->configuration.policy_level;
    return view;
}

}  // namespace

void add_version_commands(CommandTable& table, Appearance& appearance) {
    table.add("show version", "programs, libraries, configuration", {},
              [&](const Request&, const Peer&) { return show_version(appearance); });
}

}  // namespace sallyport::operations
