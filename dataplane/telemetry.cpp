#include "dataplane/telemetry.h"

#include <rte_telemetry.h>

#include <mutex>
#include <string>
#include <utility>

namespace sallyport::telemetry {

using nlohmann::json;

namespace {

/// The library's callbacks have no argument of ours.
struct Published {
    std::mutex mutex;
    Snapshot snapshot;
};
Published& published() {
    static Published the_published;
    return the_published;
}

void add_numbers(rte_tel_data* to, const json& numbers) {
    for (const auto& [name, value] : numbers.items())
        if (value.is_number()) rte_tel_data_add_dict_uint(to, name.c_str(), value.get<std::uint64_t>());
}

/// A container is freed by the library once the answer has been written.
int answer(const json& of, rte_tel_data* to) {
    rte_tel_data_start_dict(to);
    add_numbers(to, of);
    for (const auto& [name, value] : of.items()) {
        if (!value.is_object()) continue;
        rte_tel_data* const inner = rte_tel_data_alloc();
        if (inner == nullptr) return -1;
        rte_tel_data_start_dict(inner);
        add_numbers(inner, value);
        if (rte_tel_data_add_dict_container(to, name.c_str(), inner, 0) != 0) {
            rte_tel_data_free(inner);
            return -1;
        }
    }
    return 0;
}

template <json Snapshot::* part>
int on_command(const char*, const char*, rte_tel_data* to) {
    const std::lock_guard lock(published().mutex);
    return answer(published().snapshot.*part, to);
}

}  // namespace

bool register_commands() {
    return rte_telemetry_register_cmd("/sallyport/workers", &on_command<&Snapshot::workers>, "Load, packets and records of each worker. No parameters") == 0 &&
           rte_telemetry_register_cmd("/sallyport/ports", &on_command<&Snapshot::ports>, "Packets, octets, drops and link of each port, by its configured name. No parameters") == 0 &&
           rte_telemetry_register_cmd("/sallyport/flows", &on_command<&Snapshot::flows>, "Flows now, opened and ended, and octets passed on. No parameters") == 0 &&
           rte_telemetry_register_cmd("/sallyport/drops", &on_command<&Snapshot::drops>, "Packets dropped, by reason. No parameters") == 0;
}

void publish(Snapshot snapshot) {
    const std::lock_guard lock(published().mutex);
    std::swap(published().snapshot, snapshot);
}

}  // namespace sallyport::telemetry
