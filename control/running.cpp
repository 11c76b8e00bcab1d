#include "control/running.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <thread>
#include <utility>

#include "control/channel/dataplane_configuration.h"
#include "control/channel/object_id.h"
#include "control/daemon/logging.h"
#include "control/generation.h"
#include "control/handshake/client_context.h"
#include "control/handshake/ticket_keys.h"
#include "control/policy/catalogue.h"
#include "control/revocation/own_answers.h"
#include "crypto/format.h"

namespace sallyport {

namespace {

using namespace std::chrono_literals;

constexpr auto kJudgement = 10s;   ///< between two looks at the policy's state; a report looks again

/// "one, two or three"
std::string names_of(const auto& objects) {
    std::string text;
    for (const auto& object : objects) text += (text.empty() ? "" : ", ") + object.name;
    return text;
}

/// The flow id that reports show: WW-GGGGGG-IIIIIIII in hexadecimal.
std::optional<channel::FlowId> flow_of(std::string_view text) {
    constexpr std::array<std::pair<std::size_t, std::size_t>, 3> kParts{{{0, 2}, {3, 6}, {10, 8}}};   // begin, length
    if (text.size() != 18 || text[2] != '-' || text[9] != '-') return std::nullopt;
    std::array<std::uint32_t, 3> values{};
    for (std::size_t i = 0; i < kParts.size(); ++i) {
        const char* const begin = text.data() + kParts[i].first;
        const char* const end = begin + kParts[i].second;
        if (std::from_chars(begin, end, values[i], 16).ptr != end) return std::nullopt;
    }
    return channel::FlowId::make(static_cast<std::uint8_t>(values[0]), values[1], values[2]);
}

}  // namespace

Running::Running(configuration::Configuration configuration, Workers& workers) : workers_(workers), loaded_(Clock::now()) {
    if (auto drained = Drained::load(Drained::file(configuration)))
        drained_ = drained->kept_by(configuration);
    else
        daemon::log(daemon::Level::error, "drained_not_read", {{"why", drained.error()}});
    dataplane_ = dataplane_of(configuration, drained_);
    configuration.dataplane.generation = dataplane_.generation;
    Made made = make(std::move(configuration), nullptr);
    save(made);
    for (const auto& pool : made.runtime->pools)
        for (std::uint32_t i = 0; i < pool->size(); ++i)
            pool->member(i).drain = drained_.has(pool->settings().name, pool->settings().members[i].name);
    watcher_ = std::move(made.watcher);
    ech_ = std::move(made.ech);
    runtime_ = std::move(made.runtime);
    judge(loaded_);
}

Running::~Running() = default;

/// Nothing of it holds the watcher, which ends with its configuration while handshakes and flows of that live on.
handshake::ServerMaterials Running::materials_of(const revocation::Watcher& watcher, std::uint32_t service,
                                                 std::shared_ptr<const handshake::EchKeys> ech) {
    handshake::ServerMaterials materials;
    materials.client_crls = watcher.of_service(service);
    materials.staple = [answers = watcher.answers()](const certificates::CertificateChain& chain) { return answers->staple(chain); };
    materials.revoked = [answers = watcher.answers()](const certificates::CertificateChain& chain) { return answers->revoked(chain); };
    materials.ech = std::move(ech);
    return materials;
}

Running::Made Running::make(configuration::Configuration configuration, std::shared_ptr<const flows::Runtime> before) {
    Made made;
    const Clock::time_point now = Clock::now();
    made.watcher = std::make_shared<revocation::Watcher>(configuration, revocation::make_fetch(configuration.revocation));
    for (std::uint32_t i = 0; i < configuration.services.size(); ++i) {
        const configuration::Service& service = configuration.services[i];
        handshake::EchKeys::Prepared prepared;
        if (service.ech) prepared = handshake::EchKeys::prepare(*service.ech, handshake::ech_file(configuration, service), now);
        if (prepared.unsaved) made.unsaved.push_back(i);
        made.ech.push_back(std::move(prepared.keys));
    }
    flows::Materials materials;
    materials.of_service = [&](std::uint32_t service) { return materials_of(*made.watcher, service, made.ech[service]); };
    materials.of_pool = [&](std::uint32_t pool) {
        const auto revoked = [answers = made.watcher->answers()](const certificates::CertificateChain& chain) { return answers->revoked(chain); };
        return handshake::ClientMaterials{made.watcher->of_pool(pool), revoked};
    };
    materials.before = std::move(before);
    made.runtime = std::make_shared<flows::Runtime>(std::move(configuration), materials);
    return made;
}

void Running::save(const Made& made) {
    const configuration::Configuration& configuration = made.runtime->configuration;
    for (const std::uint32_t i : made.unsaved) made.ech[i]->save(handshake::ech_file(configuration, configuration.services[i]));
}

channel::DataplaneConfiguration Running::dataplane_of(const configuration::Configuration& configuration, const Drained& drained) {
    channel::DataplaneConfiguration dataplane = configuration.dataplane;
    std::erase_if(dataplane.listens, [&](const auto& listen) { return drained.services.contains(dataplane.services[listen.service].name); });
    dataplane.generation = generation_of(dataplane);
    return dataplane;
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
    ech_why_.resize(ech_.size());
    for (std::uint32_t i = 0; i < ech_.size(); ++i) {
        const configuration::Service& service = configuration().services[i];
        if (!ech_[i] || now < ech_[i]->next_change(*service.ech)) continue;
        try {
            auto rotated = ech_[i]->rotated(*service.ech, now);
            if (!rotated) continue;
            rotated->save(handshake::ech_file(configuration(), service));
            runtime_->remake_context(i, materials_of(*watcher_, i, rotated));
            ech_[i] = std::move(rotated);
            ech_why_[i].clear();
            daemon::log(daemon::Level::info, "ech_rotated", {{"service", service.name}, {"keys", ech_[i]->count()}, {"dns", ech_[i]->dns_value()}});
        } catch (const std::exception& error) {
            ech_why_[i] = error.what();   // the alarm stands until it works
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
        if (i < ech_why_.size()) ech.why = ech_why_[i];
        state.ech.push_back(std::move(ech));
    }
    for (std::size_t i = 0; i < state.violations.size(); ++i) state.violations[i] = runtime_->violations(static_cast<policy::Violation>(i));
    state.dataplane = dataplane_evidence_;
    const auto add = [](std::vector<std::pair<std::uint16_t, std::uint64_t>>& to, const auto& counts) {
        for (const auto& [id, count] : counts) {
            const auto found = std::ranges::find(to, id, [](const auto& entry) { return entry.first; });
            if (found != to.end())
                found->second += count;
            else
                to.emplace_back(id, count);
        }
    };
    for (const auto& service : runtime_->services) {
        const auto counts = service->state.counts();
        for (const auto& [version, count] : counts.by_version) (version == policy::kTls13 ? state.tls13 : version == policy::kTls12 ? state.tls12 : state.other_versions) += count;
        add(state.by_suite, counts.by_suite);
        add(state.by_group, counts.by_group);
        state.ech_required += service->state.ech_required;
    }
    for (const auto& pool : runtime_->pools) {
        if (!pool->context()) continue;
        for (const auto& pin : pool->context()->pins_seen()) state.pins.push_back({pool->settings().name, pin.subject, pin.not_after});
    }
    state.roots_changed = roots_changed_;
    return state;
}

namespace {

/// One line for each alarm that has come and each that is over, whatever the requirement's state does meanwhile; at most so many at once,
/// and how many more.
void log_alarms(policy::Requirement requirement, policy::State state, const std::vector<std::string>& before, const std::vector<std::string>& now) {
    constexpr std::size_t kMost = 16;
    const auto& text = policy::text(requirement);
    const auto log = [&](const std::vector<std::string>& of, const std::vector<std::string>& without, daemon::Level level, const char* event) {
        const std::set<std::string_view> known(without.begin(), without.end());
        std::vector<std::string_view> news;
        for (const std::string& alarm : of)
            if (!known.contains(alarm)) news.push_back(alarm);
        for (std::size_t i = 0; i < news.size() && i < kMost; ++i)
            daemon::log(level, event,
                        {{"requirement", text.id},
                         {"final_requirement", text.final_id},
                         {"state", policy::name_of(state)},
                         {"alarm", news[i]},
                         {"alarms", now.size()},
                         {"more", i + 1 == kMost ? news.size() - kMost : 0}});
    };
    log(now, before, daemon::Level::warning, "policy_alarm");
    log(before, now, daemon::Level::info, "policy_alarm_over");
}

}  // namespace

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
        log_alarms(modules[i]->requirement, evidence.state, row.evidence.alarms, evidence.alarms);
        row.requirement = modules[i]->requirement;
        row.evidence = std::move(evidence);
    }
}

const std::vector<Running::Row>& Running::policy(Clock::time_point now) {
    judge(now);
    return rows_;
}

std::vector<std::string> Running::fixed_problems(const configuration::Configuration& next) const {
    std::vector<std::string> problems;
    const std::vector<configuration::Fixed>& now = configuration().fixed;
    for (const configuration::Fixed& wanted : next.fixed) {
        const auto is = std::ranges::find(now, wanted.setting, &configuration::Fixed::setting);
        if (is == now.end() || is->value == wanted.value) continue;   // of a port that is not there now: the list of ports differs, and says so
        configuration::Problem problem;
        problem.place = wanted.place;
        problem.setting = wanted.setting;
        problem.value = wanted.value;
        problem.wrong = "cannot change while the appliance runs (it is " + is->value + ")";
        problem.right = "what it is, or this one from the next start of sallyport-control and sallyport-dataplane on: commit at-restart";
        problems.push_back(problem.to_string());
        if (wanted.setting == "ports") return problems;   // settings of other ports would be compared
    }
    return problems;
}

std::expected<void, std::vector<std::string>> Running::change(configuration::Configuration next, const Keep& keep) {
    const std::string file = next.file.string();
    const auto refuse = [&](std::vector<std::string> problems) {
        daemon::log(daemon::Level::error, "change_refused", {{"configuration", file}, {"problems", problems.size()}, {"first", problems.front()}});
        return std::unexpected(std::move(problems));
    };
    if (auto problems = fixed_problems(next); !problems.empty()) return refuse(std::move(problems));
    Drained drained = drained_.kept_by(next);
    channel::DataplaneConfiguration dataplane = dataplane_of(next, drained);
    next.dataplane.generation = dataplane.generation;
    Made made;
    try {
        made = make(std::move(next), runtime_);
    } catch (const std::exception& error) {
        return refuse({sallyport::format("{}: {}", file, error.what())});
    }
    for (auto& worker : workers_) worker->prepare(made.runtime);
    if (reach_.configure) {
        if (auto taken = reach_.configure(dataplane); !taken) {
            drop_prepared();
            return refuse({sallyport::format("{}: {}; nothing has changed", file, taken.error())});
        }
    }
    std::expected<void, std::string> kept;
    try {
        save(made);
        if (keep) kept = keep();
    } catch (const std::exception& error) {
        kept = std::unexpected(error.what());
    }
    if (!kept) {
        if (reach_.configure)
            if (auto back = reach_.configure(dataplane_); !back) daemon::log(daemon::Level::error, "change_not_undone", {{"why", back.error()}});
        drop_prepared();
        return refuse({sallyport::format("{}: cannot be kept: {}; nothing has changed", file, kept.error())});
    }
    // From here on nothing can fail, and the files of the state directory are the new one's. The old watcher's thread may be in the middle of a
    // fetch: who waits for its end must not be us.
    watcher_->stop();
    std::thread([old = std::exchange(watcher_, std::move(made.watcher))]() mutable { old.reset(); }).detach();
    ech_ = std::move(made.ech);
    ech_why_.clear();
    runtime_ = std::move(made.runtime);
    dataplane_ = std::move(dataplane);
    runtime_->take_effect();
    loaded_ = Clock::now();
    roots_changed_ = false;
    if (started_) watch();
    for (auto& worker : workers_) worker->use(runtime_);
    keep_drained(std::move(drained));
    if (const auto level = daemon::parse_level(configuration().logging.level)) daemon::set_log_level(*level);
    judge(loaded_);
    daemon::log(daemon::Level::info, "changed",
                {{"configuration", file}, {"generation", dataplane_.generation}, {"services", configuration().services.size()}, {"pools", configuration().pools.size()}});
    return {};
}

void Running::drop_prepared() {
    for (auto& worker : workers_) worker->prepare(nullptr);
}

/// What a change has left over of it. A file that names more is no harm: who reads it leaves out what is not configured.
void Running::keep_drained(Drained next) {
    if (next == drained_) return;
    drained_ = std::move(next);
    if (auto saved = drained_.save(Drained::file(configuration())); !saved) daemon::log(daemon::Level::error, "drained_not_saved", {{"why", saved.error()}});
}

std::expected<void, std::string> Running::drain(std::string_view pool_name, std::string_view member_name, bool drain) {
    const auto pool = std::ranges::find_if(runtime_->pools, [&](const auto& each) { return each->settings().name == pool_name; });
    if (pool == runtime_->pools.end())
        return std::unexpected(sallyport::format("there is no pool \"{}\"; there are {}", pool_name, names_of(configuration().pools)));
    const auto& members = (*pool)->settings().members;
    const auto meant = [&](const configuration::Member& member) { return member_name.empty() || member.name == member_name; };
    if (std::ranges::none_of(members, meant))
        return std::unexpected(sallyport::format("pool \"{}\" has no member \"{}\"; it has {}", pool_name, member_name, names_of(members)));
    Drained next = drained_;
    std::set<std::string>& names = next.members[std::string(pool_name)];
    for (const auto& member : members)
        if (meant(member)) drain ? static_cast<void>(names.insert(member.name)) : static_cast<void>(names.erase(member.name));
    if (names.empty()) next.members.erase(std::string(pool_name));
    if (next != drained_)
        if (auto saved = next.save(Drained::file(configuration())); !saved) return saved;
    drained_ = std::move(next);
    std::string configured;
    for (std::uint32_t i = 0; i < members.size(); ++i) {
        if (!meant(members[i])) continue;
        (*pool)->member(i).drain = drain;
        if (!drain && members[i].drain)
            configured += sallyport::format("{}{} ({}:{})", configured.empty() ? "" : ", ", members[i].name, members[i].place.file, members[i].place.line);
        daemon::log(daemon::Level::info, drain ? "member_drained" : "member_enabled", {{"pool", std::string(pool_name)}, {"member", members[i].name}});
    }
    if (!configured.empty()) return std::unexpected("drains by the configuration: " + configured + "; take drain = true out there");
    return {};
}

std::expected<void, std::string> Running::drain_service(std::string_view service, bool drain) {
    const auto& services = configuration().dataplane.services;   // redirects among them
    if (std::ranges::find(services, service, &channel::ServiceConfiguration::name) == services.end())
        return std::unexpected(sallyport::format("there is no service and no redirect \"{}\"; there are {}", service, names_of(services)));
    Drained next = drained_;
    drain ? static_cast<void>(next.services.insert(std::string(service))) : static_cast<void>(next.services.erase(std::string(service)));
    if (next == drained_) return {};
    channel::DataplaneConfiguration dataplane = dataplane_of(configuration(), next);
    if (auto saved = next.save(Drained::file(configuration())); !saved) return saved;
    if (reach_.configure) {
        if (auto taken = reach_.configure(dataplane); !taken) {
            if (auto saved = drained_.save(Drained::file(configuration())); !saved) daemon::log(daemon::Level::error, "drained_not_saved", {{"why", saved.error()}});
            return taken;
        }
    }
    drained_ = std::move(next);
    dataplane_ = std::move(dataplane);
    daemon::log(daemon::Level::info, drain ? "service_drained" : "service_enabled", {{"service", std::string(service)}});
    return {};
}

std::expected<std::uint64_t, std::string> Running::end_flows(const FlowFilter& filter) {
    nlohmann::json arguments = nlohmann::json::object();
    if (!filter.service.empty()) {
        const bool redirect = std::ranges::find(configuration().redirects, filter.service, &configuration::Redirect::name) != configuration().redirects.end();
        arguments["service"] = redirect ? channel::redirect_id(filter.service) : channel::service_id(filter.service);
    }
    if (!filter.member.empty() && filter.pool.empty()) return std::unexpected("a member is named without its pool; members of two pools may be called the same");
    if (!filter.pool.empty()) arguments["pool"] = channel::pool_id(filter.pool);
    if (!filter.member.empty()) arguments["member"] = channel::member_id(filter.member);
    if (!filter.client.empty()) {
        if (const auto endpoint = SocketAddress::parse(filter.client)) {
            arguments["client"] = IpPrefix{endpoint->address, static_cast<std::uint8_t>(endpoint->address.is_v4() ? 32 : 128)}.to_string();
            arguments["client_port"] = endpoint->port;
        } else if (const auto address = IpAddress::parse(filter.client)) {
            arguments["client"] = IpPrefix{*address, static_cast<std::uint8_t>(address->is_v4() ? 32 : 128)}.to_string();
        } else if (const auto prefix = IpPrefix::parse(filter.client)) {
            arguments["client"] = prefix->to_string();
        } else {
            return std::unexpected(sallyport::format("'{}' is no address of clients; ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT would be", filter.client));
        }
    }
    if (!filter.flow.empty()) {
        const auto flow = flow_of(filter.flow);
        if (!flow) return std::unexpected(sallyport::format("'{}' is no flow's id; one is written as 00-00000a-0000000b", filter.flow));
        arguments["flow"] = flow->value;
    }
    if (!reach_.ask) return std::unexpected("no dataplane is attached");
    const auto answer = reach_.ask("end_flows", arguments);
    if (!answer) return std::unexpected(answer.error());
    const auto ended = answer->value("ended", std::uint64_t{0});
    daemon::log(daemon::Level::info, "flows_ended", {{"flows", ended}, {"filter", arguments.dump()}});
    return ended;
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
    return change(std::move(*loaded), {});   // it is where a start finds it already
}

}  // namespace sallyport
