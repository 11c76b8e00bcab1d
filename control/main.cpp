#include <poll.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "control/audit/audit_log.h"
#include "control/certificates/openssl_memory.h"
#include "control/certificates/passphrase.h"
#include "control/certificates/request.h"
#include "control/changes/commands.h"
#include "control/changes/durable_file.h"
#include "control/channel/attachment.h"
#include "control/configuration/configuration.h"
#include "control/daemon/exit_code.h"
#include "control/daemon/logging.h"
#include "control/daemon/notify.h"
#include "control/daemon/sandbox.h"
#include "control/daemon/signals.h"
#include "control/dataplane_link.h"
#include "control/handshake/key_provider.h"
#include "control/management/server.h"
#include "control/operations/capture.h"
#include "control/operations/operations.h"
#include "control/policy/requirements/requirements.h"
#include "control/running.h"
#include "control/telemetry/watch/telemetry.h"
#include "crypto/public_key/multi_buffer.h"

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

/// A directory that the user we change to owns; one that is there already stays as it is.
void make_directory(const std::filesystem::path& directory, const Owner& owner, mode_t mode) {
    std::error_code ignored;
    if (!std::filesystem::create_directories(directory, ignored)) return;
    if (chmod(directory.c_str(), mode) != 0 || (geteuid() == 0 && chown(directory.c_str(), owner.uid, owner.gid) != 0))
        daemon::log(daemon::Level::warning, "chown_failed", {{"directory", directory.string()}});
}

/// The state directory, and what an earlier run has left in it, belong to the user that we change to, and nobody else looks into it.
std::expected<void, std::string> give_state_directory(const std::filesystem::path& directory, const Owner& owner) {
    namespace fs = std::filesystem;
    make_directory(directory, owner, 0700);
    std::error_code error;
    if (!fs::is_directory(directory, error)) return std::unexpected(directory.string() + " is no directory and cannot be made: it keeps OCSP answers, CRLs and ECH keys");
    if (geteuid() != 0) return {};
    const auto give = [&](const fs::path& path) { return lchown(path.c_str(), owner.uid, owner.gid) == 0; };
    bool good = give(directory) && chmod(directory.c_str(), 0700) == 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory, error)) good = give(entry.path()) && good;
    if (!good || error) return std::unexpected(directory.string() + " cannot be given to the user: " + (error ? error.message() : std::string(std::strerror(errno))));
    return {};
}

/// Prints what was found. Nothing to verify is not success: a log that was removed must not look well.
int verify_audit(const std::string& directory, const std::string& known) {
    std::vector<audit::Head> heads;
    if (!known.empty()) {
        const auto head = audit::Head::parse(known);
        if (!head) {
            std::fprintf(stderr, "--head %s: must be NUMBER:SHA-256, as in audit_head\n", known.c_str());
            return exit_code::kUsage;
        }
        heads.push_back(*head);
    }
    if (const auto head = audit::noted_head(directory)) heads.push_back(*head);
    const auto found = audit::verify(directory, heads);
    if (!found) {
        std::fprintf(stderr, "%s\n", found.error().c_str());
        return exit_code::kOsError;
    }
    std::printf("%llu entries in %llu files, from %llu to %llu\n", static_cast<unsigned long long>(found->entries),
                static_cast<unsigned long long>(found->files), static_cast<unsigned long long>(found->first),
                static_cast<unsigned long long>(found->head.number));
    if (found->ok && found->entries > 0) {
        std::printf("whole; the head is %s\n", found->head.to_string().c_str());
        return exit_code::kOk;
    }
    std::printf("BROKEN: %s\n", found->ok ? "there is no entry" : (found->broken_file + ": " + found->why).c_str());
    return exit_code::kFailure;
}

using Loaded = std::expected<configuration::Configuration, std::vector<std::string>>;

/// Checks a text as if it stood in the configuration file. Nobody is there to ask for a passphrase.
Loaded load_text(const std::filesystem::path& file, const std::string& text) {
    auto loaded = configuration::load(file, {.text = text, .check = policy::check_load, .ask = {}});
    if (loaded) return std::move(*loaded);
    std::vector<std::string> problems;
    for (const auto& problem : loaded.error()) problems.push_back(problem.to_string());
    return std::unexpected(std::move(problems));
}

/// Where the state directory is, for a configuration that may not load.
std::filesystem::path state_directory_of(const std::filesystem::path& file) {
    const auto text = changes::read_text(file);
    const auto document = text ? configuration::Document::parse(*text) : configuration::Document();
    const auto* const control = document ? document->root().find("control") : nullptr;
    const auto* const directory = control != nullptr ? control->find("state_directory") : nullptr;
    if (directory == nullptr || directory->text.empty()) return configuration::Configuration{}.state_directory;
    return std::filesystem::absolute(file).parent_path() / directory->text;
}

void note_taken_back(audit::AuditLog& audit_log, std::uint64_t revision, const std::string& why) {
    audit_log.note("configuration", {{"by", "a commit that was not confirmed"}, {"revision", revision}, {"why", why}});
}

/// Candidates, commits and history. Without them (the state directory is full, say) the appliance runs, and reload works.
std::unique_ptr<changes::Engine> open_changes(const std::filesystem::path& file, Running& running, telemetry::Alarms& alarms, audit::AuditLog& audit_log) {
    changes::Engine::Outside outside;
    outside.load = [file](const std::string& text) { return load_text(file, text); };
    outside.change = [&running](configuration::Configuration next, const changes::Engine::Keep& keep) { return running.change(std::move(next), keep); };
    outside.fixed = [&running](const configuration::Configuration& next) { return running.fixed_problems(next); };
    outside.unconfirmed = [&alarms](const std::optional<std::string>& text) {
        if (text)
            alarms.raise("commit_unconfirmed", "", telemetry::Severity::warning, *text);
        else
            alarms.clear("commit_unconfirmed", "");
    };
    outside.taken_back = [&audit_log](std::uint64_t revision, const std::string& why) { note_taken_back(audit_log, revision, why); };
    auto opened = changes::Engine::open({file, running.configuration().state_directory}, std::move(outside));
    if (opened) return std::move(*opened);
    daemon::log(daemon::Level::error, "no_configuration_mode", {{"why", opened.error()}});
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    openssl::keep_freed_memory();
    CLI::App app("Sallyport's control plane: keys, certificates, handshakes, policy, management.", "sallyport-control");
    std::string file = "/etc/sallyport/sallyport.conf";
    bool check = false, stay_root = false;
    app.add_option("--config", file, "configuration file")->capture_default_str();
    app.add_flag("--check", check, "check the configuration, print every problem, and exit");
    app.add_flag("--stay-root", stay_root, "keep user and privileges (for debugging only; said in the log)");
    app.set_version_flag("--version", std::string("sallyport-control ") + SALLYPORT_VERSION);
    CLI::App* const key_command = app.add_subcommand("new-key", "make a private key, in a new file of mode 0600");
    std::string key_type, key_file, out;
    std::vector<std::string> names;
    bool must_staple = false;
    key_command->add_option("--type", key_type, "ecdsa-p256, ecdsa-p384, rsa-3072 or rsa-4096")->required();
    key_command->add_option("--out", out, "file to make; never overwritten")->required();
    CLI::App* const request_command = app.add_subcommand("csr", "make a certification request (PKCS #10) for a key");
    request_command->add_option("--key", key_file, "PEM file of the private key")->required();
    request_command->add_option("--name", names, "DNS name or address that the certificate is to cover; once for each")->required();
    request_command->add_flag("--must-staple", must_staple, "ask for a certificate that is not to be accepted without an OCSP staple (RFC 7633)");
    request_command->add_option("--out", out, "file to make; never overwritten")->required();
    CLI::App* const audit_command = app.add_subcommand("verify-audit", "check that no entry of the audit log was altered, taken out or cut off; control need not run");
    std::string state = "/var/lib/sallyport", head;
    audit_command->add_option("--state", state, "state directory, with the audit log in it")->capture_default_str();
    audit_command->add_option("--head", head, "NUMBER:SHA-256 of an entry that must be there, as the process's log or a signed report has it");
    app.require_subcommand(0, 1);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_code::kOk : exit_code::kUsage;
    }
    if (audit_command->parsed()) return verify_audit(state, head);
    if (key_command->parsed() || request_command->parsed()) {
        const auto made = key_command->parsed()
                              ? certificates::new_key(key_type, out)
                              : certificates::new_request(key_file, {.ask = certificates::ask_person}, names, must_staple, out);
        if (made) return exit_code::kOk;
        std::fprintf(stderr, "%s\n", made.error().c_str());
        return exit_code::kUsage;
    }
    // A commit that nobody has confirmed while control was away is taken back before anything runs.
    std::expected<std::uint64_t, std::string> taken_back = 0;
    if (!check)
        taken_back = changes::Engine::recover({file, state_directory_of(file)}, std::chrono::system_clock::now(), [&](const std::string& text) { return load_text(file, text); });
    auto loaded = configuration::load(file, {.check = policy::check_load, .ask = certificates::ask_person});
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
    if (!taken_back) daemon::log(daemon::Level::error, "configuration_not_rolled_back", {{"why", taken_back.error()}});
    else if (*taken_back != 0) daemon::log(daemon::Level::warning, "configuration_rolled_back", {{"revision", *taken_back}, {"why", "the one before was not confirmed in time"}});
    daemon::StopSignals signals;
    daemon::Watchdog watchdog;

    const auto fail = [](int code, const std::string& why) {
        daemon::log(daemon::Level::error, "cannot_start", {{"why", why}});
        return code;
    };
    try {
        handshake::load_key_provider();
        daemon::log(daemon::Level::info, "key_operations", {{"x25519", "lib25519"}, {"signatures_together", crypto::multi_buffer() != nullptr ? "Crypto Multi-Buffer" : "no"}, {"why", crypto::why_no_multi_buffer()}});
    } catch (const std::exception& error) {
        return fail(exit_code::kOsError, error.what());
    }
    const std::string user = loaded->user;
    const bool change_user = !stay_root && geteuid() == 0;
    Owner owner{geteuid(), getegid()};
    if (change_user) {
        const auto found = owner_of(user);
        if (!found) return fail(exit_code::kOsError, found.error());
        owner = *found;
    }
    const configuration::Configuration& settings = *loaded;
    make_directory(settings.channel_socket.parent_path(), owner, 0755);
    make_directory(settings.management_socket.parent_path(), owner, 0755);
    if (auto made = give_state_directory(settings.state_directory, owner); !made) return fail(exit_code::kOsError, made.error());
    auto listener = channel::listen_at(settings.channel_socket.string(), owner.uid, owner.gid);
    if (!listener) return fail(exit_code::kUnavailable, listener.error());

    flows::SecretFiles secrets;   // outlives the workers, which write them
    telemetry::Alarms alarms;
    telemetry::FlowLog flow_log;
    alarms.on_change([](void* log, const telemetry::Alarm& alarm) { static_cast<telemetry::FlowLog*>(log)->add(alarm); }, &flow_log);
    std::vector<std::unique_ptr<flows::HandshakeWorker>> workers;
    management::CommandTable commands;
    management::Server::Settings server_settings;
    if (change_user) {
        server_settings.owner = owner.uid;
        server_settings.group = owner.gid;
    }
    std::unique_ptr<Running> running;
    server_settings.role_of = [&](const management::Peer& peer) {
        return running->configuration().access.groups.role_of(peer.uid, peer.gid, peer.groups);
    };
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
    // As the user that we are from now on: what is kept in the state directory is that user's.
    try {
        running = std::make_unique<Running>(std::move(*loaded), workers);
    } catch (const std::exception& error) {
        return fail(exit_code::kConfiguration, error.what());
    }
    DataplaneLink link(std::move(*listener), *running, workers);
    telemetry::Telemetry watch(alarms, flow_log, *running, link);
    auto audit_log = audit::AuditLog::open({.directory = running->configuration().state_directory,
                                            .on_broken = [&](const std::string& why) { alarms.raise("audit_broken", "", telemetry::Severity::critical, why + "; audit verify shows what, and ends this alarm"); },
                                            .on_written = [&](const std::string& line) { flow_log.add_audit(line); }});
    if (!audit_log) return fail(exit_code::kOsError, audit_log.error());
    if (taken_back && *taken_back != 0) note_taken_back(**audit_log, *taken_back, "its time ended while control was away");
    commands.audit_by((*audit_log)->hooks());
    watch.watch(**audit_log);
    running->reach({.configure = [&link](const channel::DataplaneConfiguration& configuration) { return link.configure(configuration); },
                    .ask = [&link](const std::string& what, const nlohmann::json& arguments) { return link.ask(what, arguments); }});
    Appearance appearance{link, *running, workers, **server, **audit_log, std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
    const std::unique_ptr<changes::Engine> changes = open_changes(file, *running, alarms, **audit_log);
    const auto reload = [&](const changes::Who& who) { return changes ? changes->reload(who) : running->reload(); };
    appearance.reload = [&](const management::Peer& peer) { return reload(changes::who_of(peer)); };
    appearance.audit_verified = [&] { alarms.clear("audit_broken", ""); };
    add_operations(commands, appearance);
    if (changes) changes::add_change_commands(commands, *changes);
    const operations::Dataplane dataplane{
        [&](const std::string& what, const nlohmann::json& arguments, std::span<const int> descriptors) { return link.ask(what, arguments, descriptors); },
        [&] { return link.attached(); }};
    operations::Captures captures(dataplane, [&]() -> const configuration::Capture& { return running->configuration().capture; }, secrets);
    link.on_capture_ended([&](const nlohmann::json& report) { captures.ended(report); });
    operations::add_capture_commands(commands, captures, dataplane);
    telemetry::add_telemetry_commands(commands, alarms);
    const unsigned worker_count = running->configuration().handshake_workers;
    for (unsigned i = 0; i < worker_count; ++i) {
        workers.push_back(std::make_unique<flows::HandshakeWorker>(i, worker_count, &secrets));
        workers.back()->log_flows_to(flow_log);
        workers.back()->start();
        workers.back()->use(running->runtime());
    }
    running->start();
    daemon::log(daemon::Level::info, "running",
                {{"configuration", running->configuration().file.string()},
                 {"services", running->configuration().services.size()},
                 {"pools", running->configuration().pools.size()}});
    (*audit_log)->note("control_started", {{"version", SALLYPORT_VERSION}, {"configuration", running->configuration().file.string()}});
    daemon::notify_ready("running");
    while (true) {
        watch_policy(appearance, std::chrono::steady_clock::now());
        running->turn(std::chrono::system_clock::now());
        if (changes) changes->turn();
        link.turn();
        captures.turn();
        watch.turn(std::chrono::system_clock::now());
        (*server)->poll(std::chrono::milliseconds(0));
        while (const auto signal = signals.take()) {
            if (*signal == daemon::kReloadSignal) {
                (*audit_log)->note("configuration", {{"by", "SIGHUP"}}, "begun");
                const bool done = reload({0, "root", "signal"}).has_value();   // the log says why not
                (*audit_log)->note("configuration", {{"by", "SIGHUP"}}, done ? "ok" : "not_done");
            }
            if (!daemon::StopSignals::is_stop(*signal)) continue;
            daemon::notify_stopping("stopping");
            for (auto& worker : workers) worker->stop();
            (*audit_log)->note("control_stopped", {});
            daemon::log(daemon::Level::info, "stopped");
            return exit_code::kOk;
        }
        watchdog.tick(std::chrono::steady_clock::now());
        // poll() passes over what is negative: no dataplane, no endpoint.
        pollfd fds[5] = {{signals.fd(), POLLIN, 0},
                         {(*server)->fd(), POLLIN, 0},
                         {link.listener_fd(), POLLIN, 0},
                         {link.fd(), static_cast<short>(POLLIN | (link.wants_to_write() ? POLLOUT : 0)), 0},
                         {watch.fd(), POLLIN, 0}};
        (void)poll(fds, 5, 250);
    }
}
