#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    const auto& roots = configuration.roots;
    if (!roots) return;
    if (!roots->why().empty()) {
        problems.push_back({{configuration.file.string(), 0}, "certificates.public_roots", "\"" + configuration.public_roots.string() + "\"", roots->why(),
                            "a directory with the public roots, such as that of Debian's ca-certificates", std::string(text(Requirement::r9_1_4).both)});
        return;
    }
    for (const auto& service : configuration.services) {
        const std::string object = "service " + service.name;
        for (const auto& files : service.certificates) {
            if (!files.chain) continue;
            const auto& chain = *files.chain;
            // Of its dates the reader has told; asked here at a time inside of them, so that one mistake gives one message.
            const auto inside = std::clamp(std::chrono::system_clock::now(), chain.not_before, std::max(chain.not_before, chain.not_after));
            if (const std::string why = roots->verify(chain.leaf.get(), chain.intermediates, inside); !why.empty())
                problems.push_back(certificate_problem(files, "does not lead to a public root of " + configuration.public_roots.string() + ": " + why,
                                                       "a certificate of a public authority, with its chain", Requirement::r9_1_4, object));
            // RFC 5280 4.1.2.5: both ends belong to the period, hence the second.
            const auto validity = chain.not_after - chain.not_before + std::chrono::seconds(1);
            const std::chrono::days longest = longest_validity(chain.not_before);
            if (validity > longest)
                problems.push_back(certificate_problem(
                    files, "is valid for " + std::to_string(std::chrono::ceil<std::chrono::days>(validity).count()) + " days",
                    "at most " + std::to_string(longest.count()) + " days for a certificate of its date of issue (CA/Browser Forum)", Requirement::r9_1_4, object));
        }
    }
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    std::string first;
    const bool ended = check_expiry(configuration, run, "service ", alarms, first);
    if (run.roots_changed) alarms.push_back(configuration.public_roots.string() + " has changed since it was loaded");
    std::size_t certificates = 0;
    for (const auto& service : configuration.services) certificates += service.certificates.size();
    std::string evidence = count_of(certificates, "certificate") + " checked against " +
                           count_of(configuration.roots ? configuration.roots->size() : std::size_t{0}, "public root");
    if (!first.empty()) evidence += "; " + first;
    return conclude(evidence + "; " + refused_text(run, Requirement::r9_1_4), std::move(alarms), ended ? State::violated : State::alarm);
}

}  // namespace

std::chrono::days longest_validity(std::chrono::system_clock::time_point not_before) noexcept {
    using namespace std::chrono_literals;
    using std::chrono::days;
    using std::chrono::sys_days;
    if (not_before < sys_days(2026y / 3 / 15)) return days(398);
    if (not_before < sys_days(2027y / 3 / 15)) return days(200);
    if (not_before < sys_days(2029y / 3 / 15)) return days(100);
    return days(47);
}

namespace {

}  // namespace

const RequirementModule modules::r9_1_4{Requirement::r9_1_4, load, run};

}  // namespace sallyport::policy
