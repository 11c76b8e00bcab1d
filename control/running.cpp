#include "control/running.h"

#include <algorithm>
#include <format>
#include <thread>
#include <utility>

#include "control/channel/dataplane_configuration.h"
#include "control/daemon/logging.h"
#include "control/generation.h"
#include "control/handshake/ticket_keys.h"

namespace sallyport {

namespace {

using namespace std::chrono_literals;

constexpr auto kJudgement = 10s;   ///< between two looks at the policy's state; a report looks again

/// What only a start of control or of the dataplane can change, as text to compare.
std::string fixed_part(const configuration::Configuration& configuration) {
    return channel::to_json(configuration.dataplane) + configuration.channel_socket.string() + "\n" +
           configuration.management_socket.string() + "\n" + configuration.user + "\n" +
           std::to_string(configuration.handshake_workers) + "\n" + configuration.state_directory.string();
}

}  // namespace

Running::Running(configuration::Configuration configuration, Workers& workers) : workers_(workers), loaded_(Clock::now()) {
    Made made = make(std::move(configuration), nullptr);
    watcher_ = std::move(made.watcher);
    ech_ = std::move(made.ech);
    runtime_ = std::move(made.runtime);
    judge(loaded_);
}

Running::~Running() = default;

handshake::ServerMaterials Running::materials_of(const std::shared_ptr<revocation::Watcher>& watcher, std::uint32_t service,
                                                 std::shared_ptr<const handshake::EchKeys> ech) {
    handshake::ServerMaterials materials;
    materials.client_crls = watcher->of_service(service);
    materials.staple = [watcher](const certificates::CertificateChain& chain) { return watcher->staple(chain); };
    materials.revoked = [watcher](const certificates::CertificateChain& chain) { return watcher->revoked(chain); };
    materials.ech = std::move(ech);
    return materials;
}

Running::Made Running::make(configuration::Configuration configuration, std::shared_ptr<const flows::Runtime> before) {
    Made made;
    const Clock::time_point now = Clock::now();
    made.watcher = std::make_shared<revocation::Watcher>(configuration, revocation::make_fetch(configuration.revocation));
    for (const configuration::Service& service : configuration.services)
        made.ech.push_back(service.ech ? handshake::EchKeys::keep(*service.ech, handshake::ech_file(configuration, service), now) : nullptr);
    flows::Materials materials;
    materials.of_service = [&](std::uint32_t service) { return materials_of(made.watcher, service, made.ech[service]); };
    materials.of_pool = [&](std::uint32_t pool) { return handshake::ClientMaterials{made.watcher->of_pool(pool)}; };
    materials.before = std::move(before);
    made.runtime = std::make_shared<flows::Runtime>(std::move(configuration), materials);
    return made;
}

void Running::watch() {
    watcher_->on_change([changed = revocation_changed_] { *changed = true; });
    watcher_->start();
}

void Running::start() {
    started_ = true;
    watch();
}

void Running::refresh_revocation() { watcher_->refresh(); }

void Running::turn(Clock::time_point now) {
    if (revocation_changed_->exchange(false)) {
        for (auto& worker : workers_) worker->recheck(runtime_);
        next_judgement_ = now;
    }
    if (now >= next_minute_) {
        next_minute_ = now + 1min;
        runtime_->rotate_tickets();
        const auto roots = certificates::PublicRoots::load(configuration().public_roots);
        roots_changed_ = configuration().roots != nullptr && roots->digest() != configuration().roots->digest();
    }
    rotate_ech(now);
    if (now >= next_judgement_) judge(now);
}

void Running::rotate_ech(Clock::time_point now) {
    for (std::uint32_t i = 0; i < ech_.size(); ++i) {
        const configuration::Service& service = configuration().services[i];
        if (!ech_[i] || now < ech_[i]->next_change(*service.ech)) continue;
        try {
            auto rotated = ech_[i]->rotated(*service.ech, now);
            if (!rotated) continue;
            rotated->save(handshake::ech_file(configuration(), service));
            runtime_->remake_context(i, materials_of(watcher_, i, rotated));
            ech_[i] = std::move(rotated);
            daemon::log(daemon::Level::info, "ech_rotated", {{"service", service.name}, {"keys", ech_[i]->count()}, {"dns", ech_[i]->dns_value()}});
        } catch (const std::exception& error) {
            // Each turn would say so; the report's alarm stands until it works.
            if (now >= next_judgement_) daemon::log(daemon::Level::error, "ech_not_rotated", {{"service", service.name}, {"why", error.what()}});
        }
    }
}

policy::RunState Running::run_state(Clock::time_point now) const {
    policy::RunState state;
    state.now = now;
    state.certificates = policy::running_certificates(configuration());
    state.staples = watcher_->own();
    state.crls = watcher_->crls();
    if (std::ranges::any_of(configuration().services, [](const auto& service) { return service.session_tickets > 0; }))
        state.ticket_key_age = runtime_->tickets->age();
    for (std::size_t i = 0; i < ech_.size(); ++i) {
        if (!ech_[i]) continue;
        policy::RunningEch ech;
        ech.service = configuration().services[i].name;
        ech.keys = ech_[i]->count();
        ech.age = std::chrono::duration_cast<std::chrono::seconds>(now - ech_[i]->keys().front().made);
        const auto& counts = runtime_->services[i]->state.ech;
        const auto count = [&](handshake::EchOutcome outcome) { return counts[static_cast<std::size_t>(outcome)].load(); };
        ech.accepted = count(handshake::EchOutcome::accepted);
        ech.grease = count(handshake::EchOutcome::grease);
        ech.rejected = count(handshake::EchOutcome::rejected);
        state.ech.push_back(std::move(ech));
    }
    for (std::size_t i = 0; i < state.violations.size(); ++i) state.violations[i] = runtime_->violations(static_cast<policy::Violation>(i));
    state.clear_octets = clear_octets_;
    for (const auto& service : runtime_->services)
        for (const auto& [version, count] : service->state.counts().by_version) (version == 0x0304 ? state.tls13 : state.tls12) += count;
    state.roots_changed = roots_changed_;
    return state;
}

void Running::judge(Clock::time_point now) {
    next_judgement_ = now + kJudgement;
    const policy::RunState state = run_state(now);
    const auto modules = policy::requirements();
    const bool first = rows_.empty();
    if (first) rows_.resize(modules.size());
    for (std::size_t i = 0; i < modules.size(); ++i) {
        policy::Evidence evidence = policy::evaluate(*modules[i], configuration(), state);
        Row& row = rows_[i];
        const bool changed = first || row.evidence.state != evidence.state;
        if (changed) row.since = now;
        const bool bad = evidence.state == policy::State::alarm || evidence.state == policy::State::violated;
        const bool was_bad = !first && (row.evidence.state == policy::State::alarm || row.evidence.state == policy::State::violated);
        const auto& text = policy::text(modules[i]->requirement);
        if (changed && (bad || was_bad))
            daemon::log(bad ? daemon::Level::warning : daemon::Level::info, bad ? "policy_alarm" : "policy_alarm_over",
                        {{"requirement", text.id},
                         {"final_requirement", text.final_id},
                         {"state", policy::name_of(evidence.state)},
                         {"alarm", evidence.alarms.empty() ? evidence.evidence : evidence.alarms.front()},
                         {"alarms", evidence.alarms.size()}});
        row.requirement = modules[i]->requirement;
        row.evidence = std::move(evidence);
    }
}

const std::vector<Running::Row>& Running::policy(Clock::time_point now) {
    judge(now);
    return rows_;
}

std::expected<void, std::vector<std::string>> Running::reload() {
    const auto refuse = [this](std::vector<std::string> problems) {
        daemon::log(daemon::Level::error, "reload_refused",
                    {{"configuration", configuration().file.string()}, {"problems", problems.size()}, {"first", problems.front()}});
        return std::unexpected(std::move(problems));
    };
    // Nobody is there to ask for a passphrase: files have them, or a start.
    auto loaded = configuration::load(configuration().file, {.check = policy::check_load, .ask = {}});
    if (!loaded) {
        std::vector<std::string> problems;
        for (const auto& problem : loaded.error()) problems.push_back(problem.to_string());
        return refuse(std::move(problems));
    }
    loaded->dataplane.generation = generation_of(*loaded);
    if (fixed_part(*loaded) != fixed_part(configuration()))
        return refuse({std::format("{}: changes ports, cores, sockets, the user, handshake workers, the state directory, listeners, pools' members or their order, "
                                   "which a reload cannot; restart sallyport-control and sallyport-dataplane",
                                   configuration().file.string())});
    Made made;
    try {
        made = make(std::move(*loaded), runtime_);
    } catch (const std::exception& error) {
        return refuse({std::format("{}: {}", configuration().file.string(), error.what())});
    }
    // The old watcher's thread may be in the middle of a fetch: who waits for it must not be us.
    std::thread([old = std::exchange(watcher_, std::move(made.watcher))]() mutable { old.reset(); }).detach();
    ech_ = std::move(made.ech);
    runtime_ = std::move(made.runtime);
    loaded_ = Clock::now();
    roots_changed_ = false;
    if (started_) watch();
    for (auto& worker : workers_) {
        worker->use(runtime_);
        worker->recheck(runtime_);
    }
    if (const auto level = daemon::parse_level(configuration().logging.level)) daemon::set_log_level(*level);
    judge(loaded_);
    daemon::log(daemon::Level::info, "reloaded",
                {{"configuration", configuration().file.string()}, {"services", configuration().services.size()}, {"pools", configuration().pools.size()}});
    return {};
}

}  // namespace sallyport
