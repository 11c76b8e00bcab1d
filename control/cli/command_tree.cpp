#include "control/cli/command_tree.h"

#include <algorithm>

#include "control/cli/render.h"
#include "control/cli/render_capture.h"
#include "control/cli/render_changes.h"
#include "control/cli/render_operations.h"
#include "control/cli/render_telemetry.h"
#include "control/management/views.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using namespace sallyport::management;
using nlohmann::json;

template <typename View>
std::string list_text(const json& result, const json&) {
    return render_text(result.get<std::vector<View>>());
}
template <typename View>
std::string view_text(const json& result, const json&) {
    return render_text(result.get<View>());
}

std::string counters_text(const json& result, const json& arguments) {
    return render_text(result.get<std::vector<CounterView>>(), arguments.value("all", false));
}

std::string fetched_text(const json&, const json&) {
    return "being fetched\n";
}

std::string deleted_text(const json&, const json&) {
    return "deleted\n";
}

/// Several handshakes, one after another.
constexpr double kTest = 60;
/// A bundle collects files; a commit waits for both processes.
constexpr double kLong = 120;

Argument limit(std::optional<std::int64_t> otherwise, const char* help = "most to show; 0: all") {
    return {.word = "limit", .help = help, .kind = Kind::number, .otherwise = otherwise};
}
Argument service(const char* help, Place place = Place::named) {
    return {.word = "service", .help = help, .place = place, .source = Source::services};
}
Argument pool(const char* help, Place place = Place::named) {
    return {.word = "pool", .help = help, .place = place, .source = Source::pools};
}
Argument member(const char* help) {
    return {.word = "member", .help = help, .source = Source::members};
}
Argument path(Source source, const char* help, std::int64_t least = 0) {
    return {.word = "path", .help = help, .place = Place::rest, .source = source, .least = least};
}
Argument capture_file(const char* help) {
    return {.word = "file", .help = help, .place = Place::required, .source = Source::capture_files};
}
std::vector<Argument> monitored() {
    return {{.word = "count", .help = "tables to print, then end; without it the screen is refreshed until q", .kind = Kind::number, .least = 1, .local = true},
            {.word = "interval", .help = "seconds between two looks", .kind = Kind::number, .least = 1, .most = 3600, .otherwise = 2, .local = true}};
}

const std::vector<Command>& operational_commands() {
    static const std::vector<Command> table{
        {.words = "show version", .help = "versions, processes and the running configuration", .text = view_text<VersionView>},
        {.words = "show ports", .help = "network ports: link, packets, offloads", .text = list_text<PortView>},
        {.words = "show services", .help = "services: listeners, certificates, handshakes", .text = list_text<ServiceView>},
        {.words = "show pools", .help = "pools and the health of their members", .text = list_text<PoolView>},
        {.words = "show flows",
         .help = "flows: what was negotiated on both legs, octets, age",
         .arguments = {limit(100), service("only those of this service"), pool("only those to this pool"), member("only those to this member"),
                       {.word = "client", .help = "only those of this client: ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT"},
                       {.word = "state", .help = "only those in this state, such as open"},
                       {.word = "min-age-s", .help = "only those that are so many seconds old", .kind = Kind::number}},
         .text = view_text<FlowsView>},
        {.words = "show flow",
         .help = "one flow in detail: both legs' TLS and TCP",
         .arguments = {{.word = "id", .help = "as in the log and in show flows", .place = Place::required, .source = Source::flows}}, .text = view_text<FlowDetailView>},
        {.words = "show counters",
         .help = "what was counted, by group",
         .arguments = {{.word = "all", .help = "those that are 0 too", .place = Place::flag, .local = true}},
         .text = counters_text},
        {.words = "show workers", .help = "the dataplane's workers: load, buffers, records", .text = list_text<WorkerView>},
        {.words = "show alarms", .help = "what is wrong now, and what was", .text = view_text<AlarmsView>},
        {.words = "show policy", .help = "the policy, requirement by requirement: state and evidence", .text = list_text<PolicyView>},
        {.words = "show ech", .help = "Encrypted ClientHello: keys, what to publish in the DNS, outcomes", .text = list_text<EchView>},
        {.words = "show revocation", .help = "own certificates and CRLs: what answers for them", .text = view_text<RevocationView>},
        {.words = "show ocsp", .help = "the same as show revocation", .asks = "show revocation", .text = view_text<RevocationView>},
        {.words = "show failures", .help = "handshakes that failed, newest first", .arguments = {limit(100)}, .text = view_text<FailuresView>},
        {.words = "show neighbours", .help = "neighbour tables (ARP, neighbour discovery)", .text = list_text<NeighbourView>},
        {.words = "show certificates", .help = "own certificates: names, issuer, days left", .text = list_text<InstalledCertificateView>},
        {.words = "show tls", .help = "versions, suites, groups and resumption, by service", .text = view_text<TlsView>},
        {.words = "show log",
         .help = "control's log, newest last",
         .arguments = {limit({}, "most lines to show"),
                       {.word = "match", .help = "only lines in which this stands"},
                       {.word = "level", .help = "only lines of this level and above", .source = Source::choices, .choices = {"trace", "debug", "info", "warning", "error"}}}, .text = view_text<LogView>},
        {.words = "show sessions", .help = "who works with the appliance now", .text = list_text<SessionView>},
        {.words = "show audit", .help = "who did what, newest last", .arguments = {limit({})}, .least = Role::administrator, .text = view_text<AuditEntriesView>},
        {.words = "show configuration",
         .help = "the running configuration, or a part of it",
         .arguments = {path(Source::running, "names of settings and elements, such as: services www")},
         .action = Action::show_configuration,
         .paint = Paint::none},
        {.words = "show configuration history",
         .help = "revisions: who, when, why",
         .arguments = {limit({})},
         .asks = "configuration history", .text = list_text<RevisionView>},
        {.words = "show configuration revision",
         .help = "an earlier configuration",
         .arguments = {{.word = "number", .help = "of the revision", .place = Place::required, .kind = Kind::number, .source = Source::revisions},
                       path(Source::nowhere, "names of settings and elements, such as: services www")},
         .action = Action::show_configuration,
         .paint = Paint::none},
        {.words = "monitor ports", .help = "packets and octets a second", .arguments = monitored(), .action = Action::monitor, .asks = "show ports"},
        {.words = "monitor services", .help = "flows and handshakes a second", .arguments = monitored(), .action = Action::monitor, .asks = "show services"},
        {.words = "monitor pools", .help = "flows and failures a second, by member", .arguments = monitored(), .action = Action::monitor, .asks = "show pools"},
        {.words = "monitor workers", .help = "load, packets and records a second", .arguments = monitored(), .action = Action::monitor, .asks = "show workers"},
        {.words = "monitor flows", .help = "octets a second of the busiest flows", .arguments = monitored(), .action = Action::monitor, .asks = "show flows"},
        {.words = "clear counters", .help = "show counters from 0 on; what telemetry exports goes on", .least = Role::operator_},
        {.words = "clear flows",
         .help = "end flows: of a service, pool, member or client, or one",
         .arguments = {service("those of this service"), pool("those to this pool"), member("those to this member"),
                       {.word = "client", .help = "those of this client: ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT"},
                       {.word = "flow", .help = "this one", .source = Source::flows},
                       {.word = "all", .help = "every flow", .place = Place::flag}},
         .least = Role::operator_, .text = view_text<EndedView>},
        {.words = "drain service",
         .help = "take no new flows for a service; those that are open go on",
         .arguments = {service("name of the service", Place::required)},
         .least = Role::operator_,
         .asks = "drain"},
        {.words = "drain pool",
         .help = "give no new flows to a pool or one member; those that are open go on",
         .arguments = {pool("name of the pool", Place::required), member("only this one")},
         .least = Role::operator_,
         .asks = "drain"},
        {.words = "enable service",
         .help = "end a drain of a service",
         .arguments = {service("name of the service", Place::required)},
         .least = Role::operator_,
         .asks = "enable"},
        {.words = "enable pool",
         .help = "end a drain of a pool or of one member",
         .arguments = {pool("name of the pool", Place::required), member("only this one")},
         .least = Role::operator_,
         .asks = "enable"},
        {.words = "test service",
         .help = "a handshake of our own: what a client would see",
         .arguments = {{.word = "name", .help = "of the service", .place = Place::required, .source = Source::services},
                       {.word = "server-name", .help = "that the client asks for; otherwise the first of the service's certificates"}},
         .least = Role::operator_,
         .text = view_text<ServiceTestView>, .patience_s = kTest},
        {.words = "show captures", .help = "packet captures and their files", .text = view_text<CapturesView>},
        {.words = "capture start",
         .help = "write packets into a file (pcapng) until a limit or capture stop; all ports without port and flow",
         .arguments = {{.word = "port", .help = "of this port alone", .source = Source::ports},
                       {.word = "flow", .help = "of both legs of this flow alone", .source = Source::flows},
                       {.word = "filter", .help = "of packets like this alone, in libpcap's language, without names: filter \"tcp port 443\""},
                       {.word = "octets", .help = "largest file; otherwise 16777216", .kind = Kind::number, .least = 65536, .most = std::int64_t{1} << 40},
                       {.word = "packets", .help = "most packets; otherwise 100000", .kind = Kind::number, .least = 1, .most = 100'000'000},
                       {.word = "seconds", .help = "longest time; otherwise 60", .kind = Kind::number, .least = 1, .most = 3600},
                       {.word = "snap", .help = "octets of each packet to keep; otherwise all", .kind = Kind::number, .least = 64, .most = 65535},
                       {.word = "file", .help = "name of the file, no path; otherwise the time"},
                       {.word = "comment", .help = "why; the file and the log keep it"},
                       {.word = "secrets",
                        .help = "with the TLS secrets of flows that begin meanwhile, where capture.secrets allows it; administrators only",
                        .place = Place::flag},
                       service("with secrets: those of this service's flows alone"),
                       {.word = "client", .help = "with secrets: those of this client alone: ADDRESS or ADDRESS/LENGTH"},
                       {.word = "server-name", .help = "with secrets: those of flows to this name alone"}},
         .least = Role::operator_,
         .text = view_text<CaptureView>},
        {.words = "capture stop",
         .help = "end a capture; its file stays",
         .arguments = {{.word = "id", .help = "number of the capture", .place = Place::required, .kind = Kind::number, .source = Source::captures}},
         .least = Role::operator_,
         .text = view_text<CaptureView>},
        {.words = "capture read",
         .help = "the file of a capture: ssh BOX capture read FILE > FILE, or | save",
         .arguments = {capture_file("name, as show captures says it")},
         .least = Role::operator_,
         .action = Action::fetch},
        {.words = "capture delete",
         .help = "delete the file of a capture",
         .arguments = {capture_file("name, as show captures says it")},
         .least = Role::operator_,
         .text = deleted_text},
        {.words = "ping",
         .help = "ask an address for an echo, from the dataplane's own addresses",
         .arguments = {{.word = "address", .help = "IPv4 or IPv6 address", .place = Place::required},
                       {.word = "count", .help = "requests; otherwise 5", .kind = Kind::number, .least = 1, .most = 1000},
                       {.word = "interval-ms", .help = "between two requests; otherwise 1000", .kind = Kind::number, .least = 10, .most = 60000},
                       {.word = "timeout-ms", .help = "to wait for each reply; otherwise 1000", .kind = Kind::number, .least = 10, .most = 60000},
                       {.word = "size", .help = "octets of data; otherwise 56", .kind = Kind::number, .most = 9000}},
         .least = Role::operator_,
         .action = Action::ping},
        {.words = "support bundle", .help = "everything that a supporter asks for, without secrets, in one file", .least = Role::administrator, .text = view_text<BundleView>, .patience_s = kLong},
        {.words = "support read",
         .help = "the file of a bundle: ssh BOX support read FILE > FILE, or | save",
         .arguments = {{.word = "file", .help = "name, as support bundle said it", .place = Place::required}},
         .least = Role::administrator,
         .action = Action::fetch},
        {.words = "audit verify", .help = "check the chain of hashes of the audit log", .least = Role::administrator, .text = view_text<AuditVerificationView>, .patience_s = kLong},
        {.words = "report policy", .help = "write the policy's table to a dated file with a signature", .least = Role::operator_, .text = view_text<ReportView>},
        {.words = "refresh revocation", .help = "fetch OCSP answers and CRLs now", .least = Role::operator_, .text = fetched_text},
        {.words = "reload",
         .help = "read the configuration file again and change to it",
         .least = Role::administrator,
         .text = view_text<ReloadView>,
         .done = [](const json& result) { return result.get<ReloadView>().done; },
         .patience_s = kLong},
        {.words = "confirm",
         .help = "keep a configuration that was committed for a time only",
         .least = Role::administrator,
         .asks = "configuration confirm",
         .patience_s = kLong},
        {.words = "configure",
         .help = "change the configuration",
         .arguments = {{.word = "kind", .help = "private: others may edit too; exclusive: nobody else may commit", .place = Place::optional,
                        .source = Source::choices, .choices = {"private", "exclusive"}}},
         .least = Role::administrator,
         .action = Action::configure},
        {.words = "help",
         .help = "commands and how they are written",
         .arguments = {{.word = "command", .help = "of which command; none: of all", .place = Place::rest, .source = Source::commands}},
         .action = Action::help,
         .paint = Paint::none},
        {.words = "help setting",
         .help = "what a setting of the configuration means, its default and its bounds",
         .arguments = {{.word = "path", .help = "such as: services idle_timeout_s; none: all", .place = Place::rest, .source = Source::settings}},
         .action = Action::help_setting,
         .paint = Paint::none},
        {.words = "exit", .help = "leave", .action = Action::leave},
        {.words = "quit", .help = "leave", .action = Action::leave},
    };
    return table;
}

const std::vector<Command>& configuration_commands() {
    static constexpr const char* kPath = "names of settings and elements, such as: services www";
    static const std::vector<Command> table{
        {.words = "set",
         .help = "give a setting a value, or make an element",
         .arguments = {path(Source::candidate, "setting and value, such as: services www idle_timeout_s 600", 1)},
         .least = Role::administrator,
         .action = Action::set},
        {.words = "delete",
         .help = "take out a setting, an element, or a value of a list",
         .arguments = {path(Source::candidate, "of what, such as: services www idle_timeout_s", 1)},
         .least = Role::administrator,
         .action = Action::delete_},
        {.words = "edit",
         .help = "go to a part of the configuration; paths begin there",
         .arguments = {path(Source::candidate, kPath, 1)},
         .least = Role::administrator,
         .action = Action::edit},
        {.words = "up",
         .help = "go up a level",
         .arguments = {{.word = "levels", .help = "how many", .place = Place::optional, .kind = Kind::number, .least = 1, .most = 100}},
         .least = Role::administrator,
         .action = Action::up},
        {.words = "top", .help = "go to the whole configuration", .least = Role::administrator, .action = Action::top},
        {.words = "show",
         .help = "the candidate, from here on; \"| compare\": what is changed",
         .arguments = {path(Source::candidate, kPath)},
         .action = Action::show_candidate,
         .paint = Paint::none},
        {.words = "compare",
         .help = "what differs from the running configuration or from a revision",
         .arguments = {{.word = "rollback", .help = "compare with this revision", .kind = Kind::number, .source = Source::revisions}},
         .action = Action::compare,
         .paint = Paint::difference},
        {.words = "load merge",
         .help = "add what a file says to the candidate",
         .arguments = {{.word = "file", .help = "path of the file; terminal: type it, Ctrl-D ends it", .place = Place::required, .source = Source::files}},
         .least = Role::administrator,
         .action = Action::load},
        {.words = "load override",
         .help = "put a file in the candidate's place",
         .arguments = {{.word = "file", .help = "path of the file; terminal: type it, Ctrl-D ends it", .place = Place::required, .source = Source::files}},
         .least = Role::administrator,
         .action = Action::load},
        {.words = "load set",
         .help = "carry out a file of set and delete lines",
         .arguments = {{.word = "file", .help = "path of the file; terminal: type it, Ctrl-D ends it", .place = Place::required, .source = Source::files}},
         .least = Role::administrator,
         .action = Action::load},
        {.words = "save",
         .help = "write the candidate, from here on, to a file",
         .arguments = {{.word = "file", .help = "path of the file", .place = Place::required, .source = Source::files}},
         .action = Action::save},
        {.words = "validate", .help = "check the candidate and change nothing", .action = Action::validate, .patience_s = kLong},
        {.words = "commit",
         .help = "make the candidate the running configuration",
         .arguments = {{.word = "check", .help = "only check it", .place = Place::flag},
                       {.word = "confirmed", .help = "minutes after which it is taken back unless it is confirmed", .kind = Kind::number, .least = 1, .most = 10080, .bare = 10},
                       {.word = "comment", .help = "why; the history keeps it"},
                       {.word = "at-restart", .help = "store it, also what only a restart can change", .place = Place::flag},
                       {.word = "and-quit", .help = "leave configuration mode when it is done", .place = Place::flag}},
         .least = Role::administrator,
         .action = Action::commit,
         .patience_s = kLong},
        {.words = "confirm",
         .help = "keep a configuration that was committed for a time only",
         .least = Role::administrator,
         .asks = "configuration confirm",
         .patience_s = kLong},
        {.words = "rollback",
         .help = "put an earlier configuration into the candidate",
         .arguments = {{.word = "number", .help = "of the revision", .place = Place::required, .kind = Kind::number, .source = Source::revisions}},
         .least = Role::administrator,
         .action = Action::rollback},
        {.words = "update",
         .help = "bring what others have committed into the candidate",
         .least = Role::administrator,
         .action = Action::update},
        {.words = "run",
         .help = "an operational command, such as: run show services",
         .arguments = {{.word = "command", .help = "the command", .place = Place::rest, .source = Source::commands, .least = 1}},
         .action = Action::run},
        {.words = "help",
         .help = "commands and how they are written",
         .arguments = {{.word = "command", .help = "of which command; none: of all", .place = Place::rest, .source = Source::commands}},
         .action = Action::help,
         .paint = Paint::none},
        {.words = "help setting",
         .help = "what a setting of the configuration means, its default and its bounds",
         .arguments = {{.word = "path", .help = "such as: services idle_timeout_s; none: all", .place = Place::rest, .source = Source::settings}},
         .action = Action::help_setting,
         .paint = Paint::none},
        {.words = "exit", .help = "leave the level that edit went to, then configuration mode", .action = Action::leave},
        {.words = "exit configuration-mode", .help = "leave configuration mode from any level", .action = Action::leave},
        {.words = "quit", .help = "the same as exit", .action = Action::leave},
    };
    return table;
}

/// Words that are only the beginning of commands.
constexpr std::pair<const char*, const char*> kBeginnings[] = {
    {"show", "show what is going on"},
    {"monitor", "rates, on a screen that is refreshed"},
    {"clear", "counters, or flows"},
    {"drain", "take no new flows"},
    {"enable", "end a drain"},
    {"test", "try a service as a client would"},
    {"capture", "write packets to a file"},
    {"support", "for those who are asked for help"},
    {"audit", "the log of commands"},
    {"report", "for auditors"},
    {"refresh", "fetch anew"},
    {"load", "read a configuration file into the candidate"},
};

const char* help_of_beginning(std::string_view word) {
    for (const auto& [beginning, help] : kBeginnings)
        if (word == beginning) return help;
    return "";
}

Node make_tree(Mode mode) {
    Node root;
    for (const Command& command : commands(mode)) {
        Node* node = &root;
        for (std::string_view rest = command.words; !rest.empty();) {
            const std::size_t end = std::min(rest.find(' '), rest.size());
            const std::string word(rest.substr(0, end));
            rest.remove_prefix(std::min(end + 1, rest.size()));
            auto found = std::ranges::find(node->children, word, &Node::word);
            if (found == node->children.end())
                found = node->children.insert(found, Node{.word = word, .help = help_of_beginning(word), .children = {}});
            node = &*found;
        }
        node->command = &command;
        node->help = command.help;
    }
    return root;
}

const char* placeholder(const Argument& argument) {
    return argument.kind == Kind::number ? "number" : argument.word;
}

}  // namespace

std::string Argument::name() const {
    std::string name = word;
    std::ranges::replace(name, '-', '_');
    return name;
}

std::span<const Command> commands(Mode mode) {
    return mode == Mode::operational ? operational_commands() : configuration_commands();
}

const Node* Node::child(std::string_view whole_word) const {
    const auto found = std::ranges::find(children, whole_word, &Node::word);
    return found == children.end() ? nullptr : &*found;
}

const Node& tree(Mode mode) {
    static const Node operational = make_tree(Mode::operational);
    static const Node configuration = make_tree(Mode::configuration);
    return mode == Mode::operational ? operational : configuration;
}

std::string usage(const Command& command) {
    std::string text = command.words;
    for (const Argument& argument : command.arguments) {
        switch (argument.place) {
            case Place::named:
                text += argument.bare ? sallyport::format(" [{} [<{}>]]", argument.word, placeholder(argument))
                                      : sallyport::format(" [{} <{}>]", argument.word, placeholder(argument));
                break;
            case Place::flag:
                text += sallyport::format(" [{}]", argument.word);
                break;
            case Place::required:
                text += sallyport::format(" <{}>", argument.word);
                break;
            case Place::optional:
                text += sallyport::format(" [<{}>]", argument.word);
                break;
            case Place::rest:
                text += argument.least > 0 ? sallyport::format(" <{}...>", argument.word) : sallyport::format(" [<{}...>]", argument.word);
                break;
        }
    }
    return text;
}

}  // namespace sallyport::cli
