#include <charconv>

#include "control/management/views_operations.h"
#include "control/operations/helpers.h"
#include "control/operations/subjects.h"
#include "crypto/format.h"

namespace sallyport::operations {

namespace {

constexpr std::uint64_t kMostFlows = 100'000;

flows::HandshakeWorker& worker_of(Appearance& appearance, channel::FlowId id) {
    return *appearance.workers[id.index() % appearance.workers.size()];
}

/// What the dataplane says of a flow, with what control knows of it.
management::FlowView view_of(Appearance& appearance, const json& reported) {
    auto flow = reported.get<management::FlowView>();
    const auto suite = reported.value("client_suite", std::uint16_t{0});
    flow.version = version_name(version_of_suite(suite));
    flow.suite = suite_name(suite);
    flow.group = suite == 0 ? "" : group_name(reported.value("client_group", std::uint16_t{0}));
    const auto backend_suite = reported.value("backend_suite_id", std::uint16_t{0});
    flow.backend_version = version_name(version_of_suite(backend_suite));
    flow.backend_suite = suite_name(backend_suite);
    const channel::FlowId id{reported.value("flow", std::uint64_t{0})};
    // Control's handshake worker of this flow knows the rest, unless it was started after the flow.
    if (const auto info = worker_of(appearance, id).info(id)) {
        flow.service = info->service;
        flow.server_name = info->server_name;
        flow.alpn = info->alpn;
        flow.resumed = info->resumed;
        flow.pool = info->pool;
        flow.member = info->member;
        flow.client_identity = info->client_identity;
        flow.anchor = info->anchor;
        return flow;
    }
    const flows::Runtime& runtime = *appearance.running.runtime();
    const auto service = runtime.find_service(reported.value("service_id", std::uint64_t{0}));
    if (service && *service < runtime.services.size())
        flow.service = runtime.services[*service]->settings.name;
    else if (service)
        flow.service = runtime.redirects[*service - runtime.services.size()]->settings.name;
    const auto pool = reported.value("has_member", false) ? runtime.find_pool(reported.value("pool_id", std::uint64_t{0})) : std::nullopt;
    if (!pool) return flow;
    flow.pool = runtime.pools[*pool]->settings().name;
    if (const auto member = runtime.pools[*pool]->find_member(reported.value("member_id", std::uint64_t{0})))
        flow.member = runtime.pools[*pool]->settings().members[*member].name;
    return flow;
}

/// Which clients are meant: ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT; empty: all.
class Clients {
 public:
    [[nodiscard]] static std::expected<Clients, Error> parse(const std::string& text) {
        Clients clients;
        if (text.empty()) return clients;
        if (const auto endpoint = SocketAddress::parse(text)) {
            clients.endpoint_ = *endpoint;
        } else if (const auto address = IpAddress::parse(text)) {
            clients.prefix_ = IpPrefix{*address, static_cast<std::uint8_t>(address->is_v4() ? 32 : 128)};
        } else if (const auto prefix = IpPrefix::parse(text)) {
            clients.prefix_ = *prefix;
        } else {
            return bad_argument(sallyport::format("client is '{}'; ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT would be right", text.substr(0, 64)));
        }
        return clients;
    }
    [[nodiscard]] bool any() const noexcept { return !endpoint_ && !prefix_; }
    [[nodiscard]] bool contains(const std::string& client) const {
        if (any()) return true;
        const auto address = SocketAddress::parse(client);
        if (!address) return false;
        return endpoint_ ? *address == *endpoint_ : prefix_->contains(address->address);
    }

 private:
    std::optional<SocketAddress> endpoint_;
    std::optional<IpPrefix> prefix_;
};

Result show_flows(Appearance& appearance, const Request& request) {
    const auto limit = request.number("limit", 1000, 0, kMostFlows);
    if (!limit) return std::unexpected(limit.error());
    const auto age = request.number("min_age_s", 0, 0, 1'000'000'000);
    if (!age) return std::unexpected(age.error());
    std::string words[5];
    constexpr const char* kNames[] = {"service", "pool", "member", "client", "state"};
    for (std::size_t i = 0; i < std::size(kNames); ++i) {
        auto text = request.text(kNames[i]);
        if (!text) return std::unexpected(text.error());
        words[i] = std::move(*text);
    }
    const auto& [service, pool, member, client, state] = words;
    const auto clients = Clients::parse(client);
    if (!clients) return std::unexpected(clients.error());
    const bool filtered = *age > 0 || std::ranges::any_of(words, [](const std::string& word) { return !word.empty(); });
    const std::uint64_t most = *limit == 0 ? kMostFlows : *limit;
    auto answer = ask(appearance.link, "flows", {{"limit", filtered ? kMostFlows : most}});
    if (!answer) return answer;
    management::FlowsView view;
    view.total = filtered ? 0 : answer->value("total", std::uint64_t{0});
    const auto meant = [](const std::string& wanted, const std::string& is) { return wanted.empty() || wanted == is; };
    for (const json& each : answer->at("flows")) {
        // What the dataplane itself knows first: it is cheaper.
        if (each.value("age_ns", std::uint64_t{0}) < *age * 1'000'000'000 || !meant(state, each.value("state", "")) ||
            !clients->contains(each.value("client", "")))
            continue;
        auto flow = view_of(appearance, each);
        if (!meant(service, flow.service) || !meant(pool, flow.pool) || !meant(member, flow.member)) continue;
        if (filtered) ++view.total;
        if (view.flows.size() < most) view.flows.push_back(std::move(flow));
    }
    return view;
}

/// As the log and reports write it: worker, generation and index in hexadecimal.
std::optional<channel::FlowId> flow_id(std::string_view text) {
    if (text.size() != 18 || text[2] != '-' || text[9] != '-') return std::nullopt;
    const auto number = [](std::string_view part) -> std::optional<std::uint32_t> {
        std::uint32_t value = 0;
        const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value, 16);
        if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
        return value;
    };
    const auto worker = number(text.substr(0, 2)), generation = number(text.substr(3, 6)), index = number(text.substr(10));
    if (!worker || !generation || !index) return std::nullopt;
    return channel::FlowId::make(static_cast<std::uint8_t>(*worker), *generation, *index);
}

Result show_flow(Appearance& appearance, const Request& request) {
    const auto text = request.text("id");
    if (!text) return std::unexpected(text.error());
    const auto id = flow_id(*text);
    if (!id) return bad_argument("id must be a flow's, such as 00-00000a-0000000b: show flows and the log have them");
    auto reported = ask(appearance.link, "flow", {{"flow", id->value}});
    if (!reported) return reported;
    if (reported->is_null()) return std::unexpected(Error{"no_flow", sallyport::format("there is no flow {} now", *text)});
    management::FlowDetailView view;
    view.flow = view_of(appearance, *reported);
    view.backend_group = view.flow.backend_suite.empty() ? "" : group_name(reported->value("backend_group_id", std::uint16_t{0}));
    view.began = management::iso8601(std::chrono::system_clock::now() -
                                     std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(view.flow.age_ns)));
    if (const auto info = worker_of(appearance, *id).info(*id)) {
        view.negotiated_known = info->negotiated;
        view.signature_scheme = info->signature_scheme;
        view.extended_master_secret = info->extended_master_secret;
        if (info->negotiated) view.ech = kEchOutcomes[static_cast<std::size_t>(info->ech)];
        view.backend_subject = info->backend_subject;
        view.client_issuer = info->client_issuer;
        view.client_serial = info->client_serial;
        view.client_names = info->client_names;
    }
    return view;
}

Result clear_flows(Appearance& appearance, const Request& request) {
    Running::FlowFilter filter;
    const std::pair<const char*, std::string*> members[] = {
        {"service", &filter.service}, {"pool", &filter.pool}, {"member", &filter.member}, {"client", &filter.client}, {"flow", &filter.flow}};
    bool any = true;
    for (const auto& [name, to] : members) {
        auto text = request.text(name);
        if (!text) return std::unexpected(text.error());
        *to = std::move(*text);
        any = any && to->empty();
    }
    const auto all = request.flag("all", false);
    if (!all) return std::unexpected(all.error());
    if (any && !*all) return bad_argument("names no flows: give service, pool, member, client or flow, or all: true");
    const auto ended = appearance.running.end_flows(filter);
    if (!ended) return std::unexpected(Error{"not_cleared", ended.error()});
    return management::EndedView{*ended};
}

}  // namespace

void add_flow_commands(CommandTable& table, Appearance& appearance) {
    const std::vector<CommandTable::Argument> which{{"service", "only of this service"},
                                                    {"pool", "only to this pool"},
                                                    {"member", "only to this member"},
                                                    {"client", "only from ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT"}};
    auto shown = which;
    shown.push_back({"state", "only in this state, such as open"});
    shown.push_back({"min_age_s", "only those that are so many seconds old"});
    shown.push_back({"limit", "at most so many (to 100000; 0: all that; otherwise 1000)"});
    table.add("show flows", "flows now: both legs, what was negotiated, octets", shown,
              [&](const Request& request, const Peer&) { return show_flows(appearance, request); });
    table.add("show flow", "one flow in detail: what was negotiated on both legs, TCP, identities", {{"id", "of the flow"}},
              [&](const Request& request, const Peer&) { return show_flow(appearance, request); });
    auto ended = which;
    ended.push_back({"flow", "this one alone, by its id"});
    ended.push_back({"all", "true: every flow"});
    table.add("clear flows", "end flows in order", ended, [&](const Request& request, const Peer&) { return clear_flows(appearance, request); }, kOperator);
}

}  // namespace sallyport::operations
