#include "control/policy/requirements/requirements.h"

#include <algorithm>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

constexpr std::array kModules{
#define SALLYPORT_X(name, draft, final, level, title) &modules::name,
    SALLYPORT_REQUIREMENTS(SALLYPORT_X)
#undef SALLYPORT_X
};
static_assert(kModules.size() == static_cast<std::size_t>(Requirement::count_));

std::string day_of(std::chrono::system_clock::time_point time) {
    const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(time));
    const auto two = [](unsigned number) { return (number < 10 ? "0" : "") + std::to_string(number); };
    return std::to_string(static_cast<int>(day.year())) + "-" + two(static_cast<unsigned>(day.month())) + "-" + two(static_cast<unsigned>(day.day()));
}

}  // namespace

std::span<const RequirementModule* const> requirements() noexcept {
    return kModules;
}

std::string_view name_of(State state) noexcept {
    switch (state) {
        case State::ok:
            return "ok";
        case State::violated:
            return "violated";
        case State::alarm:
            return "alarm";
        case State::waived:
            return "waived";
        case State::not_applicable:
            return "not applicable";
    }
    return "";
}

void check_load(const Configuration& configuration, Problems& problems) {
    for (const RequirementModule* module : requirements()) module->load(configuration, problems);
}

Evidence evaluate(const RequirementModule& module, const Configuration& configuration, const RunState& run) {
    const RequirementText& about = text(module.requirement);
    if (!applies(configuration, module.requirement))
        return {State::not_applicable,
                "demanded from level " + std::to_string(about.level) + "; this is level " + std::to_string(configuration.policy_level), {}};
    Evidence result = module.run(configuration, run);
    for (const configuration::Waived& waived : configuration.waived) {
        if (waived.waiver.requirement != about.id) continue;
        const std::string what = waived.waiver.object + ": " + waived.problem.wrong + " (" + waived.waiver.reason + ")";
        if (waived.waiver.until < run.now) {
            result.state = State::violated;
            result.alarms.push_back("the waiver ended on " + day_of(waived.waiver.until) + ": " + what);
        } else {
            if (result.state == State::ok) result.state = State::waived;
            result.evidence += "; waived until " + day_of(waived.waiver.until) + ", " + what;
        }
    }
    for (const configuration::Waiver& waiver : configuration.waivers) {
        if (waiver.requirement != about.id || !configuration::waives_unknown_revocation(configuration, waiver)) continue;
        const bool over = waiver.until < run.now;
        if (!over && result.state == State::ok) result.state = State::waived;
        result.evidence += (over ? "; no longer waived since " : "; waived until ") + day_of(waiver.until) + ", " + waiver.object +
                           ": who is not known to be revoked or not is let in (" + waiver.reason + ")";
    }
    return result;
}

std::vector<RunningCertificate> running_certificates(const Configuration& configuration) {
    std::vector<RunningCertificate> result;
    const auto add = [&result](const std::string& object, const configuration::CertificateFiles& files) {
        if (files.chain)
            result.push_back({object, files.chain->subject(), files.certificate.string(), files.chain->key_type, files.chain->not_after});
    };
    for (const auto& service : configuration.services)
        for (const auto& files : service.certificates) add("service " + service.name, files);
    for (const auto& pool : configuration.pools)
        if (pool.tls && pool.tls->identity) add("pool " + pool.name, *pool.tls->identity);
    return result;
}

bool is_system_store(const Configuration& configuration, const std::filesystem::path& file) {
    const auto lies_in = [&file](const std::filesystem::path& directory) {
        const std::filesystem::path relative = file.lexically_relative(directory);
        return !relative.empty() && *relative.begin() != "..";
    };
    // Where Debian, Red Hat and OpenSSL itself keep what the system trusts.
    for (const char* directory : {"/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/ssl", "/etc/pki"})
        if (lies_in(directory)) return true;
    return lies_in(configuration.public_roots);
}

std::string why_not_private(const Configuration& configuration, const std::vector<std::filesystem::path>& files,
                            const std::vector<std::shared_ptr<X509>>& anchors) {
    for (const auto& file : files)
        if (is_system_store(configuration, file)) return "names " + file.string() + ", which is of the system's store";
    if (!configuration.roots) return "";
    for (const auto& anchor : anchors)
        if (configuration.roots->contains(anchor.get()))
            return "has a public root in it (" + openssl::name_text(X509_get_subject_name(anchor.get())) + ")";
    return "";
}

bool check_expiry(const Configuration& configuration, const RunState& run, std::string_view kind, std::vector<std::string>& alarms, std::string& first) {
    bool ended = false;
    const RunningCertificate* soonest = nullptr;
    for (const RunningCertificate& certificate : run.certificates) {
        if (!certificate.object.starts_with(kind)) continue;
        if (soonest == nullptr || certificate.not_after < soonest->not_after) soonest = &certificate;
        const long days = days_left(certificate.not_after, run.now);
        const std::string which = certificate.object + ": the certificate " + certificate.subject + " (" + certificate.file + ")";
        if (certificate.not_after < run.now) {
            ended = true;
            alarms.push_back(which + " has expired");
        } else if (days < static_cast<long>(configuration.expiry_alarm_days)) {
            alarms.push_back(which + " expires in " + std::to_string(days) + (days == 1 ? " day" : " days"));
        }
    }
    if (soonest != nullptr) {
        const long days = days_left(soonest->not_after, run.now);
        first = soonest->subject + " is the first to expire, in " + std::to_string(days) + (days == 1 ? " day" : " days");
    }
    return ended;
}

}  // namespace sallyport::policy
