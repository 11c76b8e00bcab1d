#pragma once

#include <chrono>
#include <expected>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "control/channel/dataplane_configuration.h"
#include "control/channel/shared_memory.h"
#include "dataplane/captures.h"
#include "dataplane/pings.h"
#include "dataplane/worker.h"

namespace sallyport {

/// What the dataplane process runs: ports, buffer pools and workers, made from the first configuration that control sends; later ones
/// may change services, listeners, timers, and the ports' addresses and routes, not devices, cores and memory. Main thread only.
class Appliance {
 public:
    /// Starts the EAL, opens the ports, starts the workers. The error names what is wrong and what would be right.
    [[nodiscard]] static std::expected<std::unique_ptr<Appliance>, std::string> start(
        const channel::DataplaneConfiguration& configuration, const std::string& file_prefix);
    ~Appliance();   ///< stops the workers, closes the ports; ends the process when a worker hangs

    /// Swaps in what is served and where. Flows go on, also those of services and listeners that are gone; those on an address of ours that is
    /// gone are reset (EndReason::address_removed): nothing more could reach them. The error tells what cannot change without a restart; then
    /// nothing has changed.
    [[nodiscard]] std::expected<void, std::string> apply(const channel::DataplaneConfiguration& configuration);

    /// Joins every worker to control over `memory`, whose lanes are workers() x handshake workers; returns the flows of each service and
    /// member that outlived another control, for this one to count. An empty `memory` detaches.
    [[nodiscard]] std::expected<nlohmann::json, std::string> attach(channel::SharedMemory memory,
                                                                    std::vector<channel::Descriptor> wakes);

    /// Ends all flows in order and waits for them, at most `patience`: each as soon as it rests, after a third of the time as it is.
    void end_flows(std::chrono::milliseconds patience);

    /// Looks at the links; call it some ten times a second.
    void tick();
    /// A worker has found its lanes spoilt by control.
    [[nodiscard]] bool lanes_broken() const;

    /// Answers: the reports "ports", "workers", "process", "flows", "flow", "log", "counters", "neighbours", "listeners", "version"; "end_flows" ends those that its
    /// arguments mean (service, pool, member, flow: ids; client: prefix; client_port; all optional); and what diagnostics.cpp does: "capture start" (with the
    /// file), "capture stop", "captures", "ping start", "ping read". The error is for a person.
    [[nodiscard]] std::expected<nlohmann::json, std::string> answer(const std::string& what, const nlohmann::json& arguments,
                                                                    const std::vector<channel::Descriptor>& descriptors = {});

    /// Writes captures, sends pings, publishes telemetry; after that it wants to be called again within patience().
    void turn();
    [[nodiscard]] std::chrono::milliseconds patience() const noexcept;
    /// Control has gone: what it alone could stop ends.
    void control_lost() { captures_->control_lost(); }
    /// Reports of captures that have ended by themselves since the last call.
    [[nodiscard]] std::vector<nlohmann::json> take_ended_captures() { return captures_->take_ended(); }

    [[nodiscard]] const channel::DataplaneConfiguration& configuration() const noexcept { return configuration_; }
    [[nodiscard]] unsigned workers() const noexcept { return static_cast<unsigned>(workers_.size()); }
    [[nodiscard]] bool uses(const std::string& profile) const;
    /// False when a worker hangs.
    [[nodiscard]] bool alive();

 private:
    Appliance() = default;
    void make_large_pools(unsigned workers, std::uint32_t count);
    void start_workers(unsigned workers);
    /// A worker hangs: its thread cannot be joined, and what it may use cannot be freed.
    [[noreturn]] static void end_process();
    [[nodiscard]] static std::shared_ptr<const flow::ServiceTable> service_table(const channel::DataplaneConfiguration& configuration);
    [[nodiscard]] bool on_every_worker(const std::function<void(Worker&, Time)>& task);

    [[nodiscard]] std::expected<nlohmann::json, std::string> end_matching(const nlohmann::json& filter);
    // diagnostics.cpp
    void start_diagnostics(rte_mempool* capture_pool);
    [[nodiscard]] std::expected<nlohmann::json, std::string> diagnose(const std::string& what, const nlohmann::json& arguments,
                                                                      const std::vector<channel::Descriptor>& descriptors);
    [[nodiscard]] std::expected<nlohmann::json, std::string> start_capture(nlohmann::json arguments, const std::vector<channel::Descriptor>& descriptors);
    [[nodiscard]] std::expected<std::string, std::string> filter_of_flow(channel::FlowId id);
    [[nodiscard]] std::expected<nlohmann::json, std::string> start_ping(const nlohmann::json& arguments);
    void run_pings();
    void publish_telemetry();

    nlohmann::json ports_report() const;
    /// busy_share is counted from the last report with `sample`.
    nlohmann::json workers_report(bool sample);
    nlohmann::json flows_report(std::size_t limit);
    nlohmann::json flow_report(channel::FlowId id);   ///< null: there is none
    nlohmann::json counters_report();
    nlohmann::json neighbours_report();
    nlohmann::json listeners_report() const;

    channel::DataplaneConfiguration configuration_;
    std::shared_ptr<const flow::ServiceTable> services_;
    std::uint32_t connection_buffers_ = 0;       ///< of each pool that connections may hold
    std::vector<rte_mempool*> receive_pools_;    ///< one a worker
    std::vector<rte_mempool*> transmit_pools_;
    std::vector<rte_mempool*> large_pools_;      ///< for devices that cut segments; empty without one
    rte_mempool* capture_pool_ = nullptr;
    std::vector<std::unique_ptr<drivers::Port>> ports_;
    std::unique_ptr<TscClock> clock_;
    std::unique_ptr<steering::Crossbar> crossbar_;
    std::vector<std::unique_ptr<Worker>> workers_;
    channel::SharedMemory memory_;
    std::vector<channel::Descriptor> wakes_;
    struct Sample {
        std::uint64_t total = 0, busy = 0;
    };
    std::vector<Sample> samples_;   ///< of the last workers report with `sample`
    bool hung_ = false;
    std::unique_ptr<Captures> captures_;
    Pings pings_;
    bool listening_ = false;   ///< worker 0 keeps what it hears of pings
    std::chrono::steady_clock::time_point next_publication_{};
};

}  // namespace sallyport
