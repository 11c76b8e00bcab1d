#include <algorithm>
#include <string>
#include <utility>

#include "control/policy/requirements/helpers.h"
#include "control/revocation/own_certificate.h"

namespace sallyport::policy {

namespace {

void load(const Configuration& configuration, Problems& problems) {
    if (!applies(configuration, Requirement::r9_4_3)) return;
    for (const auto& service : configuration.services)
        for (const auto& files : service.certificates) {
            if (!files.chain) continue;
            const std::string object = "service " + service.name;
            if (revocation::decide(*files.chain).rule != revocation::Rule::none) continue;
            if (files.chain->must_staple)
                problems.push_back(certificate_problem(files, "demands a staple (RFC 7633) and names no OCSP responder to get one from",
                                                       "a certificate with an http OCSP URL in authorityInfoAccess", Requirement::r9_4_3, object));
            else
                problems.push_back(certificate_problem(files, "could not be revoked: it names no OCSP responder and no CRL, and is valid for more than 7 days",
                                                       "a certificate with an http OCSP or CRL URL, or one valid for at most 7 days", Requirement::r9_4_3, object));
        }
}

Evidence run(const Configuration& configuration, const RunState& run) {
    std::vector<std::string> alarms;
    bool violated = false;
    std::uint64_t by_rule[4]{};
    for (const revocation::OwnStatus& own : run.staples) {
        ++by_rule[static_cast<std::size_t>(own.rule)];
        const std::string which = "the certificate " + own.subject + " (" + own.file + ")";
        if (own.standing == revocation::Standing::revoked) {
            violated = true;
            alarms.push_back(which + " has been revoked: " + own.why);
        } else if (own.rule == revocation::Rule::staple || own.rule == revocation::Rule::crl) {
            const char* what = own.rule == revocation::Rule::staple ? "staple" : "CRL";
            const bool stale = own.next_update < run.now;
            if (own.standing != revocation::Standing::good || stale) {
                // Before the first attempt nothing has failed yet; but a certificate that demands a staple is not to be served without one.
                violated = violated || own.must_staple || own.last_attempt != revocation::Clock::time_point{};
                alarms.push_back(which + " has no fresh " + what + (own.must_staple ? " and demands one (RFC 7633): clients refuse it" : "") +
                                 (own.why.empty() ? "" : ": " + own.why));
            }
        }
    }
    for (const revocation::CrlStatus& crl : run.crls) {
        const bool stale = crl.next_update < run.now;
        if (!stale && crl.why.empty()) continue;
        violated = violated || (stale && configuration.policy_level >= 3 && crl.last_attempt != revocation::Clock::time_point{});
        alarms.push_back(crl.domain + ": the CRL " + crl.source + (stale ? " is not fresh" : " could not be refreshed") + (crl.why.empty() ? "" : ": " + crl.why));
    }
    return conclude("own certificates: " + std::to_string(by_rule[0]) + " with staples, " + std::to_string(by_rule[1]) + " short-lived, " + std::to_string(by_rule[2]) +
                        " by CRL; " + count_of(run.crls.size(), "CRL") + " of clients and members; " + refused_text(run, Requirement::r9_4_3),
                    std::move(alarms), violated ? State::violated : State::alarm);
}

}  // namespace

const RequirementModule modules::r9_4_3{Requirement::r9_4_3, load, run};

}  // namespace sallyport::policy
