
#include "control/handshake/server_context.h"
#include "control/management/command_table.h"
#include "control/operations/client_view.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"
#include "control/revocation/own_certificate.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

/// The name that a client would ask for: the first that the certificates cover, with a label where it is a wildcard.
std::string name_of(const configuration::Service& service) {
    for (const auto& files : service.certificates)
        for (const std::string& name : files.chain->names) return name.starts_with("*.") ? "sallyport-test" + name.substr(1) : name;
    return {};
}

Result test_service(Appearance& appearance, const Request& request) {
    const auto name = request.text("name"), server_name = request.text("server_name");
    if (!name) return std::unexpected(name.error());
    if (!server_name) return std::unexpected(server_name.error());
    if (server_name->size() > 253) return bad_argument("server_name has at most 253 octets");
    const flows::Runtime& runtime = *appearance.running.runtime();
    for (std::size_t i = 0; i < runtime.services.size(); ++i) {
        const flows::Service& service = *runtime.services[i];
        if (service.settings.name != *name) continue;
        TestedService tested;
        tested.context = service.context.load();
        tested.alpn = service.settings.alpn;
        tested.ech = appearance.running.ech()[i];
        tested.roots = runtime.configuration.roots;
        tested.client_certificate_required = service.settings.client_auth.mode == configuration::ClientAuthMode::required;
        tested.tickets = service.settings.session_tickets;
        for (const auto& files : service.settings.certificates)
            tested.staple_expected = tested.staple_expected || revocation::decide(*files.chain).rule == revocation::Rule::staple;
        tested.staple_expected = tested.staple_expected && runtime.configuration.policy_level >= 2;
        return test_handshakes(tested, server_name->empty() ? name_of(service.settings) : *server_name, std::chrono::system_clock::now());
    }
    std::vector<std::string> names;
    for (const auto& service : runtime.services) names.push_back(service->settings.name);
    const auto near = management::nearest(*name, names);
    return std::unexpected(Error{"no_service", near.empty() ? sallyport::format("there is no service \"{}\"", name->substr(0, 64))
                                                            : sallyport::format("there is no service \"{}\"; did you mean \"{}\"?", name->substr(0, 64), near.front())});
}

}  // namespace

void add_service_test_commands(CommandTable& table, Appearance& appearance) {
    table.add("test service", "make handshakes with a service inside control, and tell what a client would see",
              {{"name", "of the service"}, {"server_name", "that the client asks for; otherwise the first of its certificates"}},
              [&](const Request& request, const Peer&) { return test_service(appearance, request); }, kOperator);
}

}  // namespace sallyport::operations
