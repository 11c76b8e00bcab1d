#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_revocation(Appearance& appearance) {
    constexpr const char* kRules[] = {"staple", "short_lived", "crl", "none"};     // of revocation::Rule
    constexpr const char* kStandings[] = {"good", "revoked", "unknown"};           // of revocation::Standing
    management::RevocationView view;
    for (const auto& own : appearance.running.watcher().own())
        view.own.push_back({own.subject, own.file, kRules[static_cast<std::size_t>(own.rule)], kStandings[static_cast<std::size_t>(own.standing)], own.why,
                            own.url, time_text(own.this_update), time_text(own.next_update), time_text(own.last_attempt), time_text(own.next_attempt),
                            own.fetched, own.failed});
    for (const auto& crl : appearance.running.watcher().crls())
        view.crls.push_back({crl.domain, crl.source, crl.why, time_text(crl.next_update), time_text(crl.last_attempt), time_text(crl.next_attempt),
                             crl.fetched, crl.failed});
    return view;
}

}  // namespace

void add_revocation_commands(CommandTable& table, Appearance& appearance) {
    table.add("show revocation", "own certificates and CRLs: what answers for them, since when, until when", {},
              [&](const Request&, const Peer&) { return show_revocation(appearance); });
    table.add("show ocsp", "the same by its other name", {}, [&](const Request&, const Peer&) { return show_revocation(appearance); });
    table.add(
        "refresh revocation", "fetch OCSP answers and CRLs now", {},
        [&](const Request&, const Peer&) -> Result {
            appearance.running.refresh_revocation();
            return json::object();
        },
        kOperator);
}

}  // namespace sallyport::operations
