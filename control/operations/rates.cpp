#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_rates(Appearance& appearance) {
    management::RatesView view;
    view.time = management::iso8601(std::chrono::system_clock::now());
    view.dataplane_pid = appearance.link.pid();
    if (const auto ports = appearance.link.ask("ports")) {
        view.dataplane = true;
        for (const json& each : *ports) {
            const auto port = each.get<management::PortView>();
            view.ports.push_back({port.name, port.link, port.packets_in, port.packets_out, port.octets_in, port.octets_out,
                                  port.missed + port.no_buffer + port.errors_in + port.errors_out});
        }
        if (const auto workers = appearance.link.ask("workers", {{"sample", false}}))
            for (const json& each : *workers) {
                const auto worker = each.get<management::WorkerView>();
                view.workers.push_back({worker.index, worker.core, worker.cycles_busy, worker.cycles_total, worker.packets_in, worker.packets_out,
                                        worker.flows, worker.records_opened, worker.records_sealed, worker.retransmitted});
                view.flows_now += worker.flows;
            }
        if (const auto counters = appearance.link.ask("counters"))
            for (const json& each : *counters) {
                const auto counter = each.get<management::CounterView>();
                if (counter.name == "flows_opened") view.flows_opened = counter.value;
                if (counter.name == "octets_to_backend") view.octets_to_backend = counter.value;
                if (counter.name == "octets_to_client") view.octets_to_client = counter.value;
                if (counter.group == "drops") view.drops += counter.value;
            }
    }
    for (const auto& service : appearance.running.runtime()->services) {
        const flows::ServiceState& state = service->state;
        view.services.push_back({service->settings.name, state.flows_now, state.flows_total, state.handshakes_done, state.handshakes_failed, state.resumed});
        view.handshakes_done += state.handshakes_done;
        view.handshakes_failed += state.handshakes_failed;
        view.resumed += state.resumed;
    }
    // Last: what was read is at most this old.
    view.monotonic_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
    return view;
}

}  // namespace

void add_rate_commands(CommandTable& table, Appearance& appearance) {
    table.add("show rates", "totals with a time, to make rates of", {}, [&](const Request&, const Peer&) { return show_rates(appearance); }, kPolled);
}

}  // namespace sallyport::operations
