#include <filesystem>
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"

namespace sallyport::operations {

namespace {

Result show_ech(Appearance& appearance) {
    std::vector<management::EchView> views;
    const flows::Runtime& runtime = *appearance.running.runtime();
    for (std::size_t i = 0; i < runtime.services.size(); ++i) {
        const auto& keys = appearance.running.ech()[i];
        if (!keys) continue;
        const auto file = handshake::ech_file(runtime.configuration, runtime.configuration.services[i]);
        management::EchView view;
        view.service = runtime.services[i]->settings.name;
        view.public_name = keys->public_name();
        view.config_list = keys->dns_value();
        view.dns = "ech=\"" + view.config_list + "\"";
        view.dns_file = std::filesystem::path(file).replace_extension(".dns").string();
        for (const auto& key : keys->keys())
            view.keys.push_back({key.config_id, management::iso8601(key.made),
                                 key.dies == std::chrono::system_clock::time_point::max() ? std::string() : management::iso8601(key.dies)});
        const auto& counts = runtime.services[i]->state.ech;
        view.grease = counts[static_cast<std::size_t>(handshake::EchOutcome::grease)];
        view.accepted = counts[static_cast<std::size_t>(handshake::EchOutcome::accepted)];
        view.rejected = counts[static_cast<std::size_t>(handshake::EchOutcome::rejected)];
        views.push_back(std::move(view));
    }
    return views;
}

}  // namespace

void add_ech_commands(CommandTable& table, Appearance& appearance) {
    table.add("show ech", "Encrypted ClientHello: keys, what to publish in the DNS, outcomes", {},
              [&](const Request&, const Peer&) { return show_ech(appearance); });
}

}  // namespace sallyport::operations
