#include "control/configuration/configuration.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "control/certificates/certificate_chain.h"
#include "control/configuration/ports.h"
#include "control/configuration/reader.h"
#include "control/policy/catalogue.h"
#include "control/policy/requirement.h"

namespace sallyport::configuration {

namespace {

namespace fs = std::filesystem;

/// RFC 1123 2.1 and RFC 1035 2.3.4, with "_", which is in use.
bool is_dns_name(std::string_view name) {
    if (name.empty() || name.size() > 253) return false;
    while (true) {
        const auto dot = name.find('.');
        const std::string_view label = name.substr(0, dot);
        const bool plain = std::ranges::all_of(
            label, [](unsigned char c) { return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '_'); });
        if (label.empty() || label.size() > 63 || !plain || label.front() == '-' || label.back() == '-') return false;
        if (dot == std::string_view::npos)
            return !std::ranges::all_of(label, [](unsigned char c) { return std::isdigit(c) != 0; });
        name.remove_prefix(dot + 1);
    }
}

/// "ECDSA" of "ECDSA P-256".
std::string_view family_of(std::string_view key_type) {
    return key_type.substr(0, key_type.find_first_of(" -"));
}

/// Makes the configuration from what was read, and checks what no single setting can tell.
class Builder {
 public:
    Builder(const fs::path& file, Problems& problems, const LoadOptions& options)
        : directory_(fs::absolute(file).parent_path()), problems_(problems), options_(options), now_(options.now) {
        configuration_.file = file;
    }

    Configuration build(Value& root) {
        Value& level = root["policy"];
        if (level.good && level["level"].good) configuration_.policy_level = static_cast<int>(level["level"].integer);
        dataplane(root["dataplane"]);
        control(root);
        settings(root);
        loader_.emplace(certificates::Loader::Settings{.policy_level = configuration_.policy_level,
                                                       .now = now_,
                                                       .owners = {user_id()},
                                                       .ask = options_.ask,
                                                       .roots = configuration_.roots.get()});
        Ports ports(root["ports"], directory_, configuration_.dataplane.cores.size(), problems_);
        for (Value& item : root["pools"].items) pool(item, ports);
        for (Value& item : root["services"].items) service(item, ports, root["pools"].good);
        for (Value& item : root["redirects"].items) redirect(item, ports);
        fixed(root);
        if (root["telemetry"].good) metrics(root["telemetry"]["metrics"], ports);
        flow_log(root["flow_log"], ports);
        if (level.good) waivers(level["waivers"]);
        configuration_.dataplane.ports = std::move(ports.configurations());
        return std::move(configuration_);
    }

 private:
    void dataplane(Value& value) {
        if (!value.good) return;
        channel::DataplaneConfiguration& to = configuration_.dataplane;
        for (const Value& core : value["cores"].items) to.cores.push_back(static_cast<std::uint32_t>(core.integer));
        for (const Value& argument : value["eal_arguments"].items) to.eal_arguments.push_back(argument.text);
        to.hugepages = value["hugepages"].boolean;
        const auto number = [&value](const char* name) { return static_cast<std::uint32_t>(value[name].integer); };
        to.max_flows = number("max_flows");
        to.buffers = number("buffers");
        to.receive_buffer = number("receive_buffer");
        to.send_buffer = number("send_buffer");
        to.control_away_ms = number("control_away_ms");
        if (Value& tcp = value["tcp"]; tcp.good) {
            to.tcp = {.ecn = tcp["ecn"].text,
                      .pacing = tcp["pacing"].boolean,
                      .nagle = tcp["nagle"].boolean,
                      .user_timeout_s = static_cast<std::uint32_t>(tcp["user_timeout_s"].integer),
                      .user_timeout_option = tcp["user_timeout_option"].boolean,
                      .keepalive_s = static_cast<std::uint32_t>(tcp["keepalive_s"].integer),
                      .hop_limit = static_cast<std::uint8_t>(tcp["hop_limit"].integer),
                      .dscp = static_cast<std::uint8_t>(tcp["dscp"].integer)};
        }
    }

    void control(Value& root) {
        Value& management = root["management"];
        Value& group = root["control"];
        Value& log = root["log"];
        if (log.good) configuration_.logging.level = log["level"].text;
        if (management.good) {
            configuration_.management_socket = socket(management["socket"]);
            access(management);
        }
        if (!group.good) return;
        configuration_.handshake_workers = configuration_.dataplane.handshake_workers =
            static_cast<std::uint32_t>(group["handshake_workers"].integer);
        const std::size_t workers = configuration_.dataplane.cores.size(), most = channel::limits::kLanes;
        if (Value& handshakes = group["handshake_workers"]; handshakes.good && workers * configuration_.handshake_workers > most)
            problems_.add(handshakes, "is too many for the " + std::to_string(workers) + " cores of the dataplane: each pair of them has a lane, and there are " + std::to_string(most) + " at most",
                          std::to_string(most / workers) + " or less, or fewer cores");
        configuration_.channel_socket = socket(group["channel_socket"]);
        if (management.good && group["channel_socket"].good &&
            configuration_.channel_socket == configuration_.management_socket)
            problems_.add(group["channel_socket"], "is the management socket too", "a path of its own");
        Value& user = group["user"];
        if (!user.good) return;
        configuration_.user = user.text;
        const bool plain = std::ranges::all_of(user.text, [](unsigned char c) {
            return c < 0x80 && (std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.');
        });
        const bool number = std::ranges::all_of(user.text, [](unsigned char c) { return std::isdigit(c) != 0; });
        if (user.text == "root")
            problems_.add(user, "is the superuser: the processes would keep every privilege",
                          "a user of their own, such as \"sallyport\"");
        else if (!plain || number || user.text.front() == '-')
            problems_.add(user, "is not the name of a user", "a name as in /etc/passwd");
    }

    void access(Value& management) {
        ManagementAccess& to = configuration_.access;
        to.administrators = management["administrators"].text;
        to.operators = management["operators"].text;
        to.readers = management["readers"].text;
        to.groups.administrators = group_id(management["administrators"]);
        to.groups.operators = group_id(management["operators"]);
        to.groups.readers = group_id(management["readers"]);
    }

    /// A group that is named by default need not be there: then only root has what it would give.
    std::optional<std::uint32_t> group_id(Value& value) {
        if (!value.good) return std::nullopt;
        std::uint32_t number = 0;
        const char* const end = value.text.data() + value.text.size();
        const auto [parsed, error] = std::from_chars(value.text.data(), end, number);
        const bool is_number = parsed == end && error == std::errc{};
        if (is_number && number != 0) return number;
        if (is_number || value.text == "root") {
            problems_.add(value, "is the superuser's group, in which services are that must not manage the appliance", "a group of its own");
            return std::nullopt;
        }
        struct group entry{};
        struct group* found = nullptr;
        std::vector<char> buffer(65536);
        if (getgrnam_r(value.text.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->gr_gid;
        if (value.present) problems_.add(value, "there is no such group", "the name or number of one; groupadd --system makes it");
        return std::nullopt;
    }

    fs::path socket(Value& value) {
        const fs::path path = resolve(value);
        if (value.good && path.string().size() > 107)
            problems_.add(value, "is too long for a UNIX socket", "a path of at most 107 octets");
        return path;
    }

    /// What a running appliance cannot change. A port is its place in the list for the dataplane, so the list's names are among it.
    void fixed(const Value& root) {
        const auto settings_of = [this](const Value& group, std::initializer_list<std::string_view> names) {
            if (!group.good || group.members.empty()) return;
            for (const std::string_view name : names) {
                const Value& value = group[name];
                configuration_.fixed.push_back({value.path, text_of(value), {value.place.file, value.place.line, value.path}});
            }
        };
        settings_of(root["dataplane"], {"cores", "eal_arguments", "hugepages", "max_flows", "buffers", "receive_buffer", "send_buffer"});
        if (root["dataplane"].good)
            settings_of(root["dataplane"]["tcp"], {"ecn", "pacing", "nagle", "user_timeout_s", "user_timeout_option", "keepalive_s", "hop_limit", "dscp"});
        settings_of(root["control"], {"handshake_workers", "channel_socket", "user", "state_directory"});
        settings_of(root["management"], {"socket"});
        const Value& ports = root["ports"];
        std::string names;
        for (const Value& port : ports.items)
            if (!port.members.empty()) names += (names.empty() ? "" : ", ") + port["name"].text;
        configuration_.fixed.push_back({ports.path, names, {ports.place.file, ports.place.line, ports.path}});
        for (const Value& port : ports.items)
            settings_of(port, {"profile", "device", "mtu", "vlan", "queues", "descriptors", "mac", "memif_role"});
    }

    static std::string text_of(const Value& value) {
        switch (value.setting->kind) {
            case Kind::boolean:
                return value.boolean ? "true" : "false";
            case Kind::integer:
                return std::to_string(value.integer);
            case Kind::text:
                return in_quotes(value.text);
            case Kind::integers:
            case Kind::texts: {
                std::string text;
                for (const Value& item : value.items)
                    text += (text.empty() ? "" : ", ") + (value.setting->kind == Kind::integers ? std::to_string(item.integer) : in_quotes(item.text));
                return text.empty() ? "[ ]" : "[ " + text + " ]";
            }
            case Kind::group:
            case Kind::groups:
                break;
        }
        return "";
    }

    std::optional<std::uint32_t> user_id() const {
        const passwd* const entry = getpwnam(configuration_.user.c_str());
        return entry != nullptr ? std::optional<std::uint32_t>(entry->pw_uid) : std::nullopt;
    }

    /// Groups of plain settings.
    void settings(Value& root) {
        const auto number = [](Value& group, const char* name) { return static_cast<std::uint32_t>(group[name].integer); };
        Value& certificates = root["certificates"];
        if (certificates.good) {
            configuration_.public_roots = resolve(certificates["public_roots"]);
            configuration_.expiry_alarm_days = number(certificates, "expiry_alarm_days");
        }
        configuration_.roots = certificates::PublicRoots::load(configuration_.public_roots);
        if (root["control"].good) configuration_.state_directory = resolve(root["control"]["state_directory"]);
        if (Value& group = root["revocation"]; group.good)
            configuration_.revocation = {number(group, "timeout_ms"), number(group, "max_octets"), number(group, "crl_poll_s")};
        if (Value& group = root["tickets"]; group.good) {
            configuration_.tickets.period_s = number(group, "period_s");
            if (Value& secret = group["secret"]; !secret.absent && secret.good) {
                configuration_.tickets.secret = resolve(secret);
                if (const auto read = certificates::check_secret(configuration_.tickets.secret, 32, {user_id()}); !read)
                    problems_.add(secret, read.error().wrong, read.error().right, "9.4.1 (12.1.2)");
            }
        }
        configuration_.capture.directory = configuration_.state_directory / "captures";
        if (Value& group = root["capture"]; group.good) {
            if (Value& directory = group["directory"]; !directory.absent && directory.good) configuration_.capture.directory = resolve(directory);
            configuration_.capture.max_octets = static_cast<std::uint64_t>(group["max_octets"].integer);
            configuration_.capture.secrets = group["secrets"].boolean;
        }
        if (Value& group = root["brake"]; group.good) {
            configuration_.brake = {number(group, "connections"), number(group, "connections_per_source"), number(group, "handshakes"),
                                    number(group, "handshakes_per_source"), number(group, "cost_per_second"), number(group, "burst")};
            for (const std::string all : {"connections", "handshakes"}) {
                Value& source = group[all + "_per_source"];
                if (!source.good || !group[all].good || source.integer <= group[all].integer) continue;
                source.written = std::to_string(source.integer);
                problems_.add(source, "is more than " + all + " = " + std::to_string(group[all].integer) + ", so that one source could take all",
                              "less than " + all);
            }
        }
    }

    /// ADDRESS:PORT of the kernel's network, where management happens: the ports' addresses are not the kernel's.
    std::optional<SocketAddress> management_address(Value& value, const Ports& ports) {
        if (!value.good) return std::nullopt;
        for (const char* clear : {"udp:", "tcp:", "udp://", "tcp://", "http:", "syslog:"})
            if (value.text.starts_with(clear)) {
                problems_.add(value, "asks for a clear connection, and there is none: what leaves the appliance is encrypted",
                              "ADDRESS:PORT of an endpoint that speaks TLS", "9.2.2 (12.3.1)");
                return std::nullopt;
            }
        const auto address = parse<SocketAddress>(value, problems_, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT");
        if (!address) return std::nullopt;
        if (address->address.is_unspecified())
            problems_.add(value, "is the unspecified address", "an address of the management network");
        else if (ports.complete() && ports.has_address(address->address))
            problems_.add(value, "is an address of a port, which the kernel does not have", "an address of the management network");
        return value.good ? address : std::nullopt;
    }

    void metrics(Value& value, const Ports& ports) {
        if (value.absent || !value.good) return;
        Metrics metrics;
        metrics.place = place_of(value);
        Value& at = value["listen"];
        if (const auto address = management_address(at, ports)) {
            metrics.listen = *address;
            if (address->port < 1024) problems_.add(at, "has a port that takes a privilege which control does not keep", "a port from 1024, such as 9464");
        }
        metrics.identity = files(value, "", certificates::Purpose::server);
        anchors(value["clients"], metrics.clients, metrics.anchors);
        metrics.names = texts(value["names"]);
        configuration_.metrics = std::move(metrics);
    }

    void flow_log(Value& value, const Ports& ports) {
        if (!value.good) return;
        FlowLog& to = configuration_.flow_log;
        if (Value& file = value["file"]; !file.absent && file.good) {
            to.file = resolve(file);
            std::error_code error;
            if (!fs::is_directory(to.file.parent_path(), error))
                problems_.add(file, "is in no directory that exists", "a file in a directory that control.user may write");
            else if (fs::exists(to.file, error) && !fs::is_regular_file(to.file, error))
                problems_.add(file, "is not a regular file", "a file of its own");
        }
        to.max_octets = static_cast<std::uint64_t>(value["max_octets"].integer);
        to.files = static_cast<std::uint32_t>(value["files"].integer);
        to.journal = value["journal"].boolean;
        to.queue = static_cast<std::uint32_t>(value["queue"].integer);
        Value& syslog = value["syslog"];
        if (syslog.absent || !syslog.good) return;
        Syslog receiver;
        receiver.place = place_of(syslog);
        if (const auto address = management_address(syslog["address"], ports)) receiver.address = *address;
        Value& name = syslog["server_name"];
        receiver.server_name = name.text;
        if (name.good && !IpAddress::parse(name.text) && !is_dns_name(name.text))
            problems_.add(name, "is neither a DNS name nor an address", "the name in the receiver's certificate, such as \"log.internal\"", "9.2.6 (12.3.2)");
        anchors(syslog["trust"], receiver.trust, receiver.anchors);
        if (Value& identity = syslog["identity"]; !identity.absent && identity.good) receiver.identity = files(identity, "", certificates::Purpose::client);
        to.syslog = std::move(receiver);
    }

    static Place place_of(const Value& value) { return {value.place.file, value.place.line, value.path}; }

    /// A problem that a waiver for `object` could suspend: the value may still be used.
    void add(const Value& value, const certificates::Problem& problem, const std::string& object) {
        problems_.add({value.place, value.path, value.written, problem.wrong, problem.right, problem.requirement,
                       problem.fatal ? "" : object});
    }

    /// "YYYY-MM-DD", to the end of that day.
    static std::optional<std::chrono::system_clock::time_point> end_of_day(const std::string& text) {
        std::array<int, 3> parts{};
        constexpr std::array<std::size_t, 3> kAt{0, 5, 8}, kLength{4, 2, 2};
        if (text.size() != 10 || text[4] != '-' || text[7] != '-') return std::nullopt;
        for (std::size_t i = 0; i < 3; ++i) {
            const char* begin = text.data() + kAt[i];
            const auto [end, error] = std::from_chars(begin, begin + kLength[i], parts[i]);
            if (error != std::errc() || end != begin + kLength[i] || parts[i] < 0) return std::nullopt;
        }
        const std::chrono::year_month_day day{std::chrono::year(parts[0]), std::chrono::month(static_cast<unsigned>(parts[1])),
                                              std::chrono::day(static_cast<unsigned>(parts[2]))};
        if (!day.ok()) return std::nullopt;
        return std::chrono::sys_days(day) + std::chrono::days(1) - std::chrono::seconds(1);
    }

    void waivers(Value& list) {
        std::set<std::pair<std::string, std::string>> seen;
        for (Value& item : list.items) {
            if (!item.good) continue;
            Value &requirement = item["requirement"], &object = item["object"], &reason = item["reason"], &until = item["until"];
            if (!requirement.good || !object.good || !reason.good || !until.good) continue;
            std::vector<std::string_view> ids;
            for (std::size_t i = 0; i < static_cast<std::size_t>(policy::Requirement::count_); ++i)
                ids.push_back(policy::text(static_cast<policy::Requirement>(i)).id);
            if (!std::ranges::contains(ids, requirement.text))
                problems_.add(requirement, "is no requirement of the policy", one_of(ids));
            else if (requirement.text == "9.1.1")
                problems_.add(requirement, "cannot be waived: an external service speaks TLS, always", "no waiver for 9.1.1", "9.1.1 (12.2.1)");
            const auto names = [&object](std::string_view kind, const auto& known, auto name) {
                return object.text.starts_with(kind) && std::ranges::contains(known, object.text.substr(kind.size()), name);
            };
            const bool exists = names("service ", configuration_.services, &Service::name) || names("clients of service ", configuration_.services, &Service::name) ||
                                names("pool ", configuration_.pools, &Pool::name);
            if (!exists)
                problems_.add(object, "is no service and no pool of this configuration", "\"service NAME\", \"clients of service NAME\" or \"pool NAME\"");
            if (std::ranges::all_of(reason.text, [](unsigned char c) { return c == ' '; }))
                problems_.add(reason, "says nothing", "why the requirement cannot be kept yet, for the auditor");
            const auto end = end_of_day(until.text);
            if (!end)
                problems_.add(until, "is no date", "YYYY-MM-DD");
            else if (*end < now_)
                problems_.add(until, "has passed: the waiver no longer helps", "the mend, and no waiver; or a new decision with a new date");
            else if (*end > now_ + std::chrono::days(367))
                problems_.add(until, "is more than a year away", "a day within a year from now");
            if (!seen.emplace(requirement.text, object.text).second)
                problems_.add(requirement, "is waived for this object already", "one waiver for each requirement and object");
            if (requirement.good && object.good && reason.good && until.good)
                configuration_.waivers.push_back({requirement.text, object.text, reason.text, *end, place_of(item)});
        }
    }

    /// http URLs and files; what is neither is said.
    std::vector<CrlSource> crl(Value& list) {
        std::vector<CrlSource> sources;
        for (Value& item : list.items) {
            if (!item.good) continue;
            CrlSource source{.file = {}, .url = {}, .place = place_of(item)};
            if (item.text.starts_with("http://")) {
                source.url = item.text;
            } else if (item.text.contains("://")) {
                problems_.add(item, "is no URL that CRLs are fetched from", "\"http://HOST/PATH\" (a CRL is signed data), or a file");
                continue;
            } else {
                source.file = resolve(item);
                std::error_code error;
                if (!fs::is_regular_file(source.file, error)) {
                    problems_.add(item, error ? "cannot be read: " + error.message() : "is not a regular file", "a CRL, PEM or DER, or an http URL");
                    continue;
                }
            }
            sources.push_back(std::move(source));
        }
        return sources;
    }

    /// Anchors of all files of a list, once each.
    void anchors(Value& list, std::vector<fs::path>& files, std::vector<std::shared_ptr<X509>>& to) {
        for (Value& item : list.items) {
            if (!item.good) continue;
            files.push_back(resolve(item));
            auto loaded = certificates::load_trust_anchors(files.back(), configuration_.policy_level, now_);
            if (loaded) {
                for (openssl::Certificate& anchor : *loaded) to.emplace_back(std::move(anchor));
                continue;
            }
            for (const certificates::Problem& problem : loaded.error())
                problems_.add(item, problem.wrong, problem.right, problem.requirement);
        }
    }

    /// Reads a { certificate; key; passphrase; } and tells of its problems. The chain is nullptr where there is none.
    CertificateFiles files(Value& item, const std::string& object, certificates::Purpose purpose) {
        Value &certificate = item["certificate"], &key = item["key"], &passphrase = item["passphrase"];
        CertificateFiles files{.certificate = {}, .key = {}, .passphrase = {}, .chain = nullptr, .place = place_of(item)};
        if (!certificate.good || (!key.absent && !key.good) || (!passphrase.absent && !passphrase.good)) return files;
        files.certificate = resolve(certificate);
        if (!key.absent) files.key = resolve(key);
        if (!passphrase.absent) files.passphrase = resolve(passphrase);
        certificates::Loaded loaded = loader_->load({files.certificate, files.key, files.passphrase}, purpose);
        for (const certificates::Problem& problem : loaded.problems)
            add(key.absent || (problem.file == files.certificate && files.certificate != files.key) ? certificate : key, problem, object);
        if (loaded.chain) files.chain = std::make_shared<const certificates::CertificateChain>(std::move(*loaded.chain));
        return files;
    }

    static int hexadecimal(char c) {
        if (c >= '0' && c <= '9') return c - '0';
        const int low = c | 0x20;
        return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
    }

    void pins(Value& list, BackendTls& tls) {
        for (Value& item : list.items) {
            if (!item.good) continue;
            std::string digits;
            if (item.text.starts_with("sha256:"))
                std::ranges::copy_if(item.text.substr(7), std::back_inserter(digits), [](char c) { return c != ':'; });
            const bool good = digits.size() == 64 && std::ranges::all_of(digits, [](char c) { return hexadecimal(c) >= 0; });
            if (!good) {
                problems_.add(item, "is no SHA-256 of a certificate",
                              "\"sha256:\" and 64 hexadecimal digits, as openssl x509 -fingerprint -sha256 shows", "9.2.6 (12.3.2)");
                continue;
            }
            auto& pin = tls.pins.emplace_back();
            for (std::size_t i = 0; i < pin.size(); ++i)
                pin[i] = static_cast<std::uint8_t>(hexadecimal(digits[2 * i]) << 4 | hexadecimal(digits[2 * i + 1]));
        }
    }

    static std::vector<std::string> texts(const Value& list) {
        std::vector<std::string> result;
        for (const Value& item : list.items)
            if (item.good) result.push_back(item.text);
        return result;
    }

    void client_auth(Value& value, Service& service) {
        if (value.absent || !value.good) return;
        ClientAuth& to = service.client_auth;
        to.place = place_of(value);
        Value& mode = value["mode"];
        to.mode = mode.text == "off" ? ClientAuthMode::off : mode.text == "optional" ? ClientAuthMode::optional
                                                                                     : ClientAuthMode::required;
        anchors(value["trust"], to.trust, to.anchors);
        to.crl = crl(value["crl"]);
        to.names = texts(value["names"]);
        to.depth = static_cast<std::uint32_t>(value["depth"].integer);
        to.forward = value["forward"].boolean;
    }

    void ech(Value& value, Service& service) {
        if (value.absent || !value.good) return;
        Value& name = value["public_name"];
        if (name.good && !is_dns_name(name.text))
            problems_.add(name, "is not a DNS name (RFC 9849 4)", "the name that observers may see, such as \"public.example.org\"", "9.4.4 (12.1.5)");
        const auto number = [&value](const char* setting) { return static_cast<std::uint32_t>(value[setting].integer); };
        service.ech = Ech{name.good ? name.text : "", number("rotate_s"), number("retain_s"), place_of(value)};
        Value& retain = value["retain_s"];
        if (retain.good && value["rotate_s"].good && retain.integer < value["rotate_s"].integer) {
            retain.written = std::to_string(retain.integer);
            problems_.add(retain, "is shorter than rotate_s = " + std::to_string(value["rotate_s"].integer), "at least rotate_s: caches of the DNS keep the key that long");
        }
    }

    /// Every *.pem of a directory, in order of names. The problems of a file name it.
    void certificate_directory(Value& value, Service& service) {
        if (value.absent || !value.good) return;
        const fs::path directory = resolve(value);
        std::error_code error;
        std::vector<fs::path> found;
        for (fs::directory_iterator entry(directory, error); !error && entry != fs::directory_iterator(); entry.increment(error))
            if (entry->path().extension() == ".pem") found.push_back(entry->path());
        if (error) return problems_.add(value, "cannot be read: " + error.message(), "a directory of PEM files");
        if (found.empty()) return problems_.add(value, "has no *.pem in it", "PEM files with certificate, chain and key each");
        std::ranges::sort(found);
        for (const fs::path& file : found) {
            certificates::Loaded loaded = loader_->load({.certificate = file}, certificates::Purpose::server);
            for (certificates::Problem& problem : loaded.problems) {
                problem.wrong = file.filename().string() + ": " + problem.wrong;
                add(value, problem, "service " + service.name);
            }
            CertificateFiles files{.certificate = file, .key = {}, .passphrase = {}, .chain = nullptr, .place = place_of(value)};
            if (loaded.chain) files.chain = std::make_shared<const certificates::CertificateChain>(std::move(*loaded.chain));
            service.certificates.push_back(std::move(files));
        }
    }

    /// For the dataplane a service of its own, numbered after the others.
    void redirect(Value& value, const Ports& ports) {
        if (!value.good) return;
        Redirect redirect;
        redirect.place = place_of(value);
        check_name(value["name"], service_names_, "service", problems_);
        redirect.name = value["name"].text;
        redirect.timeout_ms = static_cast<std::uint32_t>(value["timeout_ms"].integer);
        listen(value["listen"], redirect.listen, ports, static_cast<std::uint32_t>(configuration_.dataplane.services.size()));
        // It never has a flow to a backend: the time for the handshake is the time for the request.
        configuration_.dataplane.services.push_back({redirect.name, (redirect.timeout_ms + 999) / 1000, redirect.timeout_ms, true});
        configuration_.redirects.push_back(std::move(redirect));
    }

    fs::path resolve(const Value& value) const { return (directory_ / value.text).lexically_normal(); }

    /// Newest first. At level 3 the default is 1.3 alone: 1.2 is there when a line asks for it (9.4.2).
    std::vector<TlsVersion> versions(Value& value) {
        std::set<std::string> seen;
        for (Value& item : value.items)
            if (item.good && !seen.insert(item.text).second) problems_.add(item, "is there twice", "each version once");
        std::vector<TlsVersion> result;
        if (seen.contains("1.3")) result.push_back(TlsVersion::tls13);
        if (seen.contains("1.2") &&
            policy::is_allowed_version(policy::kTls12, configuration_.policy_level, value.present))
            result.push_back(TlsVersion::tls12);
        return result;
    }

    void pool(Value& value, const Ports& ports) {
        if (!value.good) {
            pools_complete_ = false;
            return;
        }
        Pool pool;
        pool.place = place_of(value);
        Value& name = value["name"];
        check_name(name, pool_names_, "pool", problems_);
        pools_complete_ = pools_complete_ && name.good;
        pool.name = name.text;
        pool.balance = value["balance"].text == "least_connections" ? Balance::least_connections : Balance::round_robin;
        pool.proxy_protocol = value["proxy_protocol"].boolean;
        pool.connect_timeout_ms = static_cast<std::uint32_t>(value["connect_timeout_ms"].integer);
        members(value["members"], pool, ports);
        Value& tls = value["tls"];
        if (tls.absent) {
            if (pool.proxy_protocol)
                problems_.add(value["proxy_protocol"], "would tell of clients in plain text",
                              "proxy_protocol in pools with tls only");
        } else if (tls.good) {
            pool.tls = backend_tls(tls, "pool " + pool.name);
        }
        health(value["health"], pool);
        configuration_.pools.push_back(std::move(pool));
    }

    void members(Value& list, Pool& pool, const Ports& ports) {
        std::map<std::string, int> names;
        std::map<SocketAddress, int> addresses;
        for (Value& item : list.items) {
            if (!item.good) continue;
            Member member;
            member.place = item.place;
            member.weight = static_cast<std::uint32_t>(item["weight"].integer);
            member.drain = item["drain"].boolean;
            Value& address = item["address"];
            if (const auto parsed = parse<SocketAddress>(address, problems_, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT")) {
                member.address = *parsed;
                member_address(address, *parsed, addresses, ports);
            }
            Value& name = item["name"];
            if (name.absent) {
                name.text = member.address.to_string();
                name.good = address.good;
                name.written = address.written;
            }
            check_name(name, names, "member", problems_);
            member.name = name.text;
            pool.members.push_back(std::move(member));
        }
    }

    void member_address(Value& value, const SocketAddress& address, std::map<SocketAddress, int>& seen,
                        const Ports& ports) {
        if (!check_unicast(value, address.address, problems_)) return;
        const auto [found, added] = seen.emplace(address, value.place.line);
        if (!added)
            problems_.add(value, "is the address of another member too, at line " + std::to_string(found->second),
                          "each server once; weight gives it a larger share");
        else if (ports.has_address(address.address))
            problems_.add(value, "is an address of the appliance itself", "the address of a server");
        else if (ports.complete() && !ports.reaches(address.address))
            problems_.add(value, "cannot be reached: it is in no prefix of a port, and no route leads there",
                          "a route in the port that its network lies behind");
    }

    BackendTls backend_tls(Value& value, const std::string& object) {
        BackendTls tls;
        tls.place = place_of(value);
        anchors(value["trust"], tls.trust, tls.anchors);
        Value& name = value["server_name"];
        tls.server_name = name.text;
        if (!name.absent && name.good && !IpAddress::parse(name.text) && !is_dns_name(name.text))
            problems_.add(name, "is neither a DNS name nor an address",
                          "the name in the members' certificates, such as \"web.internal\"", "9.2.6 (12.3.2)");
        pins(value["pins"], tls);
        tls.names = texts(value["names"]);
        tls.crl = crl(value["crl"]);
        if (Value& identity = value["identity"]; !identity.absent && identity.good)
            tls.identity = files(identity, object, certificates::Purpose::client);
        tls.versions = versions(value["versions"]);
        return tls;
    }

    void health(Value& value, Pool& pool) {
        if (value.absent || !value.good) return;
        const auto number = [&value](const char* name) { return static_cast<std::uint32_t>(value[name].integer); };
        pool.health = HealthCheck{number("interval_ms"), number("timeout_ms"), number("rise"), number("fall")};
        Value& timeout = value["timeout_ms"];
        if (timeout.good && value["interval_ms"].good && pool.health->timeout_ms > pool.health->interval_ms) {
            // Shown even where it is the default that does not fit.
            timeout.written = std::to_string(timeout.integer);
            problems_.add(timeout, "is longer than interval_ms = " + std::to_string(pool.health->interval_ms),
                          "at most the interval");
        }
    }

    void service(Value& value, const Ports& ports, bool pools_good) {
        if (!value.good) return;
        Service service;
        service.place = place_of(value);
        check_name(value["name"], service_names_, "service", problems_);
        service.name = value["name"].text;
        service.idle_timeout_s = static_cast<std::uint32_t>(value["idle_timeout_s"].integer);
        service.handshake_timeout_ms = static_cast<std::uint32_t>(value["handshake_timeout_ms"].integer);
        service.session_tickets = static_cast<std::uint8_t>(value["session_tickets"].integer);
        service.versions = versions(value["versions"]);
        listen(value["listen"], service.listen, ports, static_cast<std::uint32_t>(configuration_.services.size()));
        alpn(value["alpn"], service);
        certificates(value, service);
        client_auth(value["client_auth"], service);
        ech(value["ech"], service);
        pool_of(value["pool"], service, pools_good);
        configuration_.dataplane.services.push_back(
            {service.name, service.idle_timeout_s, service.handshake_timeout_ms});
        configuration_.services.push_back(std::move(service));
    }

    void listen(Value& list, std::vector<SocketAddress>& to, const Ports& ports, std::uint32_t number) {
        for (Value& item : list.items) {
            const auto address = parse<SocketAddress>(item, problems_, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT");
            if (!address) continue;
            const auto [found, added] = listens_.emplace(*address, item.place.line);
            if (!added)
                problems_.add(item, "is listened at already, at line " + std::to_string(found->second),
                              "each address and port once; the server name tells certificates apart within a service");
            else if (ports.complete() && !ports.has_address(address->address))
                problems_.add(item, "has an address that no port has", "one of " + ports.addresses());
            to.push_back(*address);
            configuration_.dataplane.listens.push_back({*address, number});
        }
    }

    void alpn(Value& list, Service& service) {
        for (Value& item : list.items) {
            if (!item.good) continue;
            if (item.text.size() > 255)
                problems_.add(item, "is longer than 255 octets (RFC 7301 3.1)",
                              "the identification sequence of a protocol, such as \"h2\"");
            else if (std::ranges::contains(service.alpn, item.text))
                problems_.add(item, "is there twice", "each protocol once");
            service.alpn.push_back(item.text);
        }
    }

    void certificates(Value& value, Service& service) {
        Value& list = value["certificates"];
        Value& directory = value["certificate_directory"];
        if (list.good && list.items.empty() && directory.absent)
            return problems_.add(list, list.present ? "is empty" : "is missing",
                                 std::string(list.present ? "at least one: " : "") + list.setting->documentation, list.setting->requirement);
        const std::string object = "service " + service.name;
        for (Value& item : list.items)
            if (item.good) service.certificates.push_back(files(item, object, certificates::Purpose::server));
        certificate_directory(directory, service);
        // One map for all names, so that ten thousand certificates take no longer than they must.
        std::map<std::pair<std::string, std::string>, const CertificateFiles*> covered;  // family of key and name
        for (const CertificateFiles& files : service.certificates) {
            if (!files.chain) continue;
            for (const std::string& name : files.chain->names) {
                const auto [found, added] = covered.emplace(std::pair(std::string(family_of(files.chain->key_type)), name), &files);
                if (added) continue;
                const bool in_directory = files.key.empty() && files.place.setting == directory.path;
                const CertificateFiles& first = *found->second;
                const std::string where = first.place.line == files.place.line && first.certificate != files.certificate
                                              ? "in " + first.certificate.filename().string()
                                              : "at line " + std::to_string(first.place.line);
                problems_.add({files.place, files.place.setting + (in_directory ? "" : ".certificate"),
                               in_quotes(written_path(files.certificate)),
                               "covers " + name + " with a key of the same kind as the certificate " + where,
                               "for each name one certificate of each kind of key", ""});
                break;
            }
        }
    }

    /// As it was written, as far as that can be told from what it became.
    std::string written_path(const fs::path& path) const {
        const fs::path relative = path.lexically_relative(directory_);
        return relative.empty() || relative.native().starts_with("..") ? path.string() : relative.string();
    }

    void pool_of(Value& value, Service& service, bool pools_good) {
        if (!value.good) return;
        const auto found = std::ranges::find(configuration_.pools, value.text, &Pool::name);
        service.pool = static_cast<std::uint32_t>(found - configuration_.pools.begin());
        // Where a pool could not be read, it may be the one that is missed here.
        if (found != configuration_.pools.end() || !pools_good || !pools_complete_) return;
        std::vector<std::string_view> names;
        for (const Pool& pool : configuration_.pools) names.push_back(pool.name);
        if (names.empty()) return problems_.add(value, "there is no pool of this name", "a pool of this name in pools, where there is none yet");
        const std::string_view near = nearest(value.text, names);
        problems_.add(value, "there is no pool of this name",
                      near.empty() ? one_of(names) : "probably \"" + std::string(near) + "\"");
    }

    fs::path directory_;
    Problems& problems_;
    const LoadOptions& options_;
    Configuration configuration_;
    std::chrono::system_clock::time_point now_;
    std::optional<certificates::Loader> loader_;
    std::map<std::string, int> pool_names_, service_names_;
    std::map<SocketAddress, int> listens_;
    bool pools_complete_ = true;
};

}  // namespace

std::string Problem::to_string() const {
    std::string text = place.file;
    if (place.line > 0) text += ":" + std::to_string(place.line);
    text += ": ";
    if (!setting.empty()) text += setting + (value.empty() ? "" : " = " + value) + ": ";
    text += wrong + "; " + right;
    if (!requirement.empty()) text += " [" + requirement + "]";
    return text;
}

bool waives_unknown_revocation(const Configuration& configuration, const Waiver& waiver) {
    if (configuration.policy_level < 3 || waiver.requirement != policy::text(policy::Requirement::r9_4_3).id) return false;
    return std::ranges::any_of(configuration.pools, [&](const Pool& pool) { return pool.tls && waiver.object == "pool " + pool.name; }) ||
           std::ranges::any_of(configuration.services, [&](const Service& service) {
               return service.client_auth.mode != ClientAuthMode::off && waiver.object == "clients of service " + service.name;
           });
}

std::expected<Configuration, std::vector<Problem>> load(const std::filesystem::path& file, const LoadOptions& options) {
    Problems problems;
    std::optional<Value> root = read(file, problems, options.text);
    if (root && root->good) {
        Configuration configuration = Builder(file, problems, options).build(*root);
        const bool level_known = (*root)["policy"].good && (*root)["policy"]["level"].good;
        if (options.check && level_known) {
            std::vector<Problem> found;
            options.check(configuration, found);
            for (Problem& problem : found) problems.add_once(std::move(problem));
        }
        configuration.waived = problems.waive(configuration.waivers);
        // Only of what is otherwise in order: a certificate that cannot be read violates nothing.
        if (options.check && level_known && problems.empty()) {
            for (const Waiver& waiver : configuration.waivers) {
                const bool used = std::ranges::any_of(configuration.waived, [&](const Waived& waived) {
                    return waived.waiver.requirement == waiver.requirement && waived.waiver.object == waiver.object;
                });
                if (!used && !waives_unknown_revocation(configuration, waiver))
                    problems.add({waiver.place, waiver.place.setting, in_quotes(waiver.requirement + ", " + waiver.object),
                                  "has no effect: the object violates nothing that a waiver of this requirement suspends", "no waiver", ""});
            }
        }
        if (problems.empty()) return configuration;
    }
    return std::unexpected(std::move(problems).sorted(file.string()));
}

}  // namespace sallyport::configuration
