#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result all_counters(Appearance& appearance) {
    auto answer = ask(appearance.link, "counters");
    if (!answer) return answer;
    std::size_t sessions = 0, handshakes = 0, contexts = 0;
    handshake::OperationBatch::Counts key_operations;
    for (const auto& worker : appearance.workers) {
        const auto load = worker->load();
        sessions += load.sessions;
        handshakes += load.handshakes;
        contexts += load.backend_contexts;
        key_operations.operations += load.key_operations.operations;
        key_operations.calls += load.key_operations.calls;
        key_operations.unmade += load.key_operations.unmade;
    }
    const auto add = [&](const char* name, const char* sentence, std::uint64_t value) {
        answer->push_back(management::CounterView{name, "control", sentence, value, ""});
    };
    add("control_sessions", "flows that control knows now", sessions);
    add("control_handshakes", "of them with a client's handshake that is not done", handshakes);
    add("control_backend_handshakes", "of them with a backend's TLS context alive", contexts);
    add("key_operations", "key agreements, and signatures of several handshakes made together", key_operations.operations);
    add("key_operation_calls", "calls of a library that they took: the fewer, the more handshakes shared one", key_operations.calls);
    add("key_operations_repeated", "of them, signatures that came out wrong, or not at all, and were made again by OpenSSL: more than a few speak of a faulty processor", key_operations.unmade);
    const flows::Runtime& runtime = *appearance.running.runtime();
    add("connections_without_handshake", "connections of clients whose handshake is not finished, begun or not", runtime.brake->connected());
    add("handshakes_under_way", "handshakes begun and not finished", runtime.brake->started());
    add("braked_by_source", "handshakes refused: their source had too many under way or had spent its budget", runtime.brake->braked_by_source());
    add("braked_by_total", "handshakes refused: too many were under way in all", runtime.brake->braked_by_total());
    add("brake_unplaced", "handshakes of sources for which the brake's table had no place", runtime.brake->unplaced());
    std::uint64_t redirected = 0, refused = 0;
    for (const auto& redirect : runtime.redirects) {
        redirected += redirect->redirected;
        refused += redirect->refused;
    }
    add("redirects_answered", "plain HTTP requests answered with 308 to https", redirected);
    add("redirects_refused", "what came to a redirect and was no request, or took too long", refused);
    add("audit_entries", "entries written to the audit log", appearance.audit.written());
    add("audit_lost", "entries of the audit log that could not be written", appearance.audit.lost());
    for (std::size_t v = 0; v < static_cast<std::size_t>(policy::Violation::count_); ++v) {
        const auto violation = static_cast<policy::Violation>(v);
        const auto& text = policy::text(violation);
        answer->push_back(management::CounterView{"policy_" + std::string(text.name), "policy",
                                                  std::string(text.sentence) + " [" + std::string(policy::text(text.requirement).both) + "]",
                                                  runtime.violations(violation), ""});
    }
    return answer;
}

Result clear_counters(Appearance& appearance) {
    auto counters = all_counters(appearance);
    if (!counters) return counters;
    appearance.counters_cleared_at.clear();
    for (const json& counter : *counters) appearance.counters_cleared_at[counter.value("name", "")] = counter.value("value", std::uint64_t{0});
    appearance.counters_cleared = std::chrono::system_clock::now();
    return json::object();
}

/// What stands for now and does not grow.
bool is_gauge(const std::string& name) {
    return name == "control_sessions" || name == "control_handshakes" || name == "control_backend_handshakes" || name == "handshakes_under_way" || name == "connections_without_handshake";
}

Result show_counters(Appearance& appearance, const Request& request) {
    const auto absolute = request.flag("absolute", false);
    if (!absolute) return std::unexpected(absolute.error());
    auto counters = all_counters(appearance);
    if (!counters || *absolute || appearance.counters_cleared == std::chrono::system_clock::time_point{}) return counters;
    const std::string since = management::iso8601(appearance.counters_cleared);
    for (json& counter : *counters) {
        const std::string name = counter.value("name", "");
        const auto cleared = appearance.counters_cleared_at.find(name);
        const auto value = counter.value("value", std::uint64_t{0});
        // Below what it was: its process was started anew, and all of it came after.
        if (is_gauge(name) || cleared == appearance.counters_cleared_at.end() || value < cleared->second) continue;
        counter["value"] = value - cleared->second;
        counter["since"] = since;
    }
    return counters;
}

}  // namespace

void add_counter_commands(CommandTable& table, Appearance& appearance) {
    table.add("show counters", "every counter with its sentence", {{"absolute", "true: since the start of the processes, whatever was cleared"}},
              [&](const Request& request, const Peer&) { return show_counters(appearance, request); });
    table.add("clear counters", "let show counters count from now; telemetry goes on as it did", {},
              [&](const Request&, const Peer&) { return clear_counters(appearance); }, kOperator);
}

}  // namespace sallyport::operations
