#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"

namespace sallyport::policy {

namespace {

/// Plain HTTP has a listener of its own, and nothing else has one there: what a browser sends to port 80 must not meet a service, nor
/// may a redirect take the place of one. No waiver: the problems name no object.
void load(const Configuration& configuration, Problems& problems) {
    constexpr std::uint16_t kHttp = 80, kHttps = 443;
    const auto check = [&](const auto& listener, std::uint16_t port, const char* wrong, const char* right) {
        for (std::size_t i = 0; i < listener.listen.size(); ++i)
            if (listener.listen[i].port == port)
                problems.push_back(problem_at(listener.place, "listen", "\"" + listener.listen[i].to_string() + "\"", wrong, right,
                                              Requirement::r9_1_1, ""));
    };
    for (const auto& service : configuration.services)
        check(service, kHttp, "is where clients speak plain HTTP", "another port; a redirect at port 80 answers 308 to https");
    for (const auto& redirect : configuration.redirects)
        check(redirect, kHttps, "is where clients speak TLS: a redirect there could only answer in plain text", "port 80, and a service at port 443");
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    std::string evidence = count_of(configuration.services.size(), "service") + ", all TLS; " + count_of(configuration.redirects.size(), "redirect") + " of plain HTTP; ";
    if (run.dataplane) {
        const DataplaneEvidence& dataplane = *run.dataplane;
        if (dataplane.clear_octets > 0) alarms.push_back(count_of(dataplane.clear_octets, "octet") + " of clients forwarded without their TLS having been ended");
        for (const std::string& listener : dataplane.others) alarms.push_back("the dataplane listens at " + listener + ", which is neither a service nor a redirect");
        evidence += "the dataplane listens at " + count_of(dataplane.tls.size(), "address") + " for TLS, at " + std::to_string(dataplane.redirects.size()) +
                    " for redirects, at " + std::to_string(dataplane.others.size()) + " for anything else; " +
                    count_of(dataplane.clear_octets, "octet") + " forwarded in the clear; ";
    } else {
        evidence += "the dataplane is not there to be asked for its listeners and counts, and serves nobody new; ";
    }
    return conclude(evidence + refused_text(run, Requirement::r9_1_1), std::move(alarms), State::violated);
}

}  // namespace

const RequirementModule modules::r9_1_1{Requirement::r9_1_1, load, run};

}  // namespace sallyport::policy
