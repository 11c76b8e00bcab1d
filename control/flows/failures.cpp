#include "control/flows/failures.h"

#include "control/daemon/logging.h"
#include "control/policy/catalogue.h"
#include "control/policy/requirement.h"
#include "crypto/format.h"

namespace sallyport::flows {

namespace {

constexpr std::string_view kProtected = "protected";

std::string hexadecimal(std::uint16_t id) { return sallyport::format("{:#06x}", id); }

std::string version_name(std::uint16_t id) {
    return id == policy::kTls13 ? "TLS 1.3" : id == policy::kTls12 ? "TLS 1.2" : id == 0x0302 ? "TLS 1.1" : id == 0x0301 ? "TLS 1.0" : hexadecimal(id);
}

template <typename Entry>
std::string name_or_number(const Entry* entry, std::uint16_t id) {
    return entry == nullptr ? hexadecimal(id) : std::string(entry->name);
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) {
        if (!text.empty()) text += ' ';
        text += word;
    }
    return text;
}

/// Ids by name or number, and how many more there were.
template <typename Name>
std::vector<std::string> words(const std::vector<std::uint16_t>& ids, std::size_t beyond, Name name) {
    std::vector<std::string> list;
    for (const std::uint16_t id : ids) list.push_back(name(id));
    if (beyond != 0) list.push_back(sallyport::format("and {} more", beyond));
    return list;
}

/// What a peer may have chosen the length of.
std::string cut(std::string text) {
    constexpr std::size_t kMost = 1024;
    if (text.size() > kMost) text.replace(kMost, std::string::npos, "...");
    return text;
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
    if (what.empty()) return;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) text.replace(at, what.size(), with);
}

}  // namespace

management::FailureView view_of(const FailedHandshake& failed, std::chrono::system_clock::time_point now) {
    management::FailureView view;
    const handshake::Failure& failure = *failed.failure;
    view.time = management::iso8601(now);
    view.side = failed.leg == channel::Leg::client ? "client" : "backend";
    view.flow = failed.flow;
    view.source = failed.source;
    view.service = failed.service;
    view.pool = failed.pool;
    view.member = failed.member;
    view.address = failed.address;
    view.alert = failure.alert;
    view.alert_by = failure.alert < 0 ? "" : failure.alert_received ? "peer" : "us";
    view.reason = channel::name(failed.reason);
    view.text = cut(failure.text);
    view.peer_subject = cut(failure.peer_subject);
    view.chain_error = cut(failure.chain_error);
    if (failed.negotiated != nullptr) view.server_name = failed.negotiated->server_name;
    if (failed.offer != nullptr) {
        if (view.server_name.empty()) view.server_name = failed.offer->server_name;
        const handshake::Offer& offer = *failed.offer;
        view.versions = words(offer.versions, offer.beyond.versions, version_name);
        view.suites = words(offer.suites, offer.beyond.suites, [](std::uint16_t id) { return name_or_number(policy::find_suite(id), id); });
        view.groups = words(offer.groups, offer.beyond.groups, [](std::uint16_t id) { return name_or_number(policy::find_group(id), id); });
        view.signature_schemes = words(offer.signature_schemes, offer.beyond.signature_schemes,
                                       [](std::uint16_t id) { return name_or_number(policy::find_signature_scheme(id), id); });
        view.alpn = offer.alpn;
        if (offer.beyond.alpn != 0) view.alpn.push_back(sallyport::format("and {} more", offer.beyond.alpn));
        view.ja4 = failed.offer->ja4;
    }
    if (failed.negotiated != nullptr && failed.negotiated->ech == handshake::EchOutcome::accepted && !view.server_name.empty()) {
        replace_all(view.text, view.server_name, kProtected);
        if (failed.offer != nullptr) replace_all(view.text, failed.offer->server_name, kProtected);
        view.server_name = kProtected;
    }
    if (failure.violation) {
        const policy::ViolationText& violation = policy::text(*failure.violation);
        const policy::RequirementText& requirement = policy::text(violation.requirement);
        view.violation = violation.name;
        view.requirement = requirement.id;
        view.final_requirement = requirement.final_id;
    }
    return view;
}

bool FailureLog::wants(Clock::time_point now) {
    std::uint64_t suppressed = 0;
    bool wanted = false;
    {
        const std::lock_guard lock(mutex_);
        ++total_;
        if (const auto second = std::chrono::floor<std::chrono::seconds>(now); second != second_) {
            second_ = second;
            logged_ = wanted_ = 0;
            std::swap(suppressed, suppressed_);
        }
        wanted = wanted_ < kKept;
        if (wanted) {
            ++wanted_;
        } else {
            ++suppressed_;
            ++not_logged_;
        }
    }
    if (suppressed != 0) daemon::log(daemon::Level::warning, "handshake_failures_suppressed", {{"count", suppressed}});
    return wanted;
}

void FailureLog::add(const FailedHandshake& failed, Clock::time_point now) {
    management::FailureView view = view_of(failed, now);
    bool log = false;
    {
        const std::lock_guard lock(mutex_);
        log = logged_ < kLoggedASecond;
        ++(log ? logged_ : suppressed_);
        if (!log) ++not_logged_;
        kept_.push_back(view);
        if (kept_.size() > kKept) kept_.pop_front();
    }
    if (!log) return;
    if (failed.leg == channel::Leg::client)
        daemon::log(daemon::Level::info, "client_handshake_failed",
                    {{"flow", view.flow},
                     {"service", view.service},
                     {"client", view.source},
                     {"server_name", view.server_name},
                     {"reason", view.reason},
                     {"violation", view.violation},
                     {"requirement", view.requirement.empty() ? "" : view.requirement + " (" + view.final_requirement + ")"},
                     {"alert", view.alert},
                     {"alert_by", view.alert_by.empty() ? "nobody" : view.alert_by == "peer" ? "client" : "us"},
                     {"versions", joined(view.versions)},
                     {"suites", joined(view.suites)},
                     {"groups", joined(view.groups)},
                     {"signature_schemes", joined(view.signature_schemes)},
                     {"alpn", joined(view.alpn)},
                     {"ja4", view.ja4},
                     {"subject", view.peer_subject},
                     {"chain_error", view.chain_error},
                     {"text", view.text}});
    else
        daemon::log(daemon::Level::info, "backend_failed",
                    {{"flow", view.flow},
                     {"service", view.service},
                     {"pool", view.pool},
                     {"member", view.member},
                     {"address", view.address},
                     {"reason", view.reason},
                     {"violation", view.violation},
                     {"requirement", view.requirement.empty() ? "" : view.requirement + " (" + view.final_requirement + ")"},
                     {"alert", view.alert},
                     {"alert_by", view.alert_by.empty() ? "nobody" : view.alert_by == "peer" ? "backend" : "us"},
                     {"subject", view.peer_subject},
                     {"chain_error", view.chain_error},
                     {"text", view.text}});
}

management::FailuresView FailureLog::recent(std::size_t limit) const {
    const std::lock_guard lock(mutex_);
    management::FailuresView view;
    view.total = total_;
    view.not_logged = not_logged_;
    for (auto each = kept_.rbegin(); each != kept_.rend() && (limit == 0 || view.failures.size() < limit); ++each) view.failures.push_back(*each);
    return view;
}

}  // namespace sallyport::flows
