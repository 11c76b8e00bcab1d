#include <fstream>

#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_audit(Appearance& appearance, const Request& request) {
    constexpr std::size_t kMostOctets = 32 << 20;
    const auto limit = request.number("limit", 50, 1, 100'000);
    if (!limit) return std::unexpected(limit.error());
    management::AuditEntriesView view;
    for (const std::string& line : audit::last_lines(appearance.audit.directory(), *limit, kMostOctets)) {
        json entry = json::parse(line, nullptr, false);
        view.entries.push_back(entry.is_discarded() ? json{{"unreadable", line}} : std::move(entry));
    }
    view.lost = appearance.audit.lost();
    return view;
}

/// Against what is known beside the log itself: what this process has written last.
Result verify_audit(Appearance& appearance) {
    const auto found = audit::verify(appearance.audit.directory(), {appearance.audit.head()});
    if (!found) return std::unexpected(Error{"unreadable", found.error()});
    appearance.audit_verified();
    management::AuditVerificationView view;
    view.ok = found->ok;
    view.entries = found->entries;
    view.files = found->files;
    view.first = found->first;
    view.last = found->head.number;
    view.head = found->head.to_string();
    view.broken = found->broken;
    view.broken_file = found->broken_file;
    view.why = found->why;
    return view;
}

}  // namespace

void add_audit_commands(CommandTable& table, Appearance& appearance) {
    table.add("show audit", "the last entries of the audit log", {{"limit", "so many (to 100000; otherwise 50)"}},
              [&](const Request& request, const Peer&) { return show_audit(appearance, request); },
              {.least = Role::administrator, .changes = false});
    table.add("audit verify", "check that no entry of the audit log was altered, taken out or cut off", {},
              [&](const Request&, const Peer&) { return verify_audit(appearance); }, {.least = Role::administrator, .changes = false});
}

}  // namespace sallyport::operations
