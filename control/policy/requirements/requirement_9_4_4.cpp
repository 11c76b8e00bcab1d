#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    for (const auto& service : configuration.services) {
        const std::string object = "service " + service.name;
        if (!service.ech) {
            if (applies(configuration, Requirement::r9_4_4))
                problems.push_back(problem_at(service.place, "ech", "", "is missing: the server name would be sent in the clear, which the policy forbids at level 3",
                                              "ech: { public_name = \"NAME\"; }", Requirement::r9_4_4, object));
            continue;
        }
        const std::string& name = service.ech->public_name;
        const bool complete = !service.certificates.empty() && std::ranges::none_of(service.certificates, [](const auto& files) { return files.chain == nullptr; });
        if (name.empty() || !complete) continue;
        // RFC 9849 6.1.6: a client that is refused verifies the certificate for the public name before it believes the retry configs.
        if (std::ranges::none_of(service.certificates, [&](const auto& files) { return files.chain->covers(name); })) {
            problems.push_back(problem_at(service.ech->place, "public_name", "\"" + name + "\"", "is covered by no certificate of the service",
                                          "a name of one of its certificates", Requirement::r9_4_4, ""));
            continue;
        }
        const bool others = std::ranges::any_of(service.certificates, [&](const auto& files) {
            return std::ranges::any_of(files.chain->names, [&](const std::string& other) { return !certificates::name_covers(name, other); });
        });
        if (!others)
            problems.push_back(problem_at(service.ech->place, "public_name", "\"" + name + "\"", "is the only name that the service has: nothing would be hidden",
                                          "a public name that is no tenant's", Requirement::r9_4_4, object));
    }
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    bool violated = false;
    std::uint64_t with_ech = 0, accepted = 0, grease = 0, rejected = 0;
    for (const auto& service : configuration.services) {
        if (!service.ech) continue;
        ++with_ech;
        const auto found = std::ranges::find(run.ech, service.name, &RunningEch::service);
        if (found == run.ech.end() || found->keys == 0) {
            violated = true;
            alarms.push_back("service " + service.name + " has no ECH key");
            continue;
        }
        accepted += found->accepted;
        grease += found->grease;
        rejected += found->rejected;
        if (!found->why.empty()) alarms.push_back("service " + service.name + ": the ECH keys could not be rotated: " + found->why);
        // Late by half a period: rotation does not happen.
        if (found->age > std::chrono::seconds(service.ech->rotate_s + service.ech->rotate_s / 2 + 60))
            alarms.push_back("service " + service.name + ": the published ECH key has not been rotated for more than one and a half of its periods");
    }
    return conclude("ECH for " + std::to_string(with_ech) + " of " + count_of(configuration.services.size(), "service") + "; ClientHellos: " + std::to_string(accepted) +
                        " accepted, " + std::to_string(grease) + " GREASE, " + std::to_string(rejected) + " rejected, of which " +
                        std::to_string(run.ech_required) + " said ech_required (121)",
                    std::move(alarms), violated ? State::violated : State::alarm);
}

}  // namespace

const RequirementModule modules::r9_4_4{Requirement::r9_4_4, load, run};

}  // namespace sallyport::policy
