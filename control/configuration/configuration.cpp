#include "control/configuration/configuration.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "control/certificates/certificate_chain.h"
#include "control/configuration/ports.h"
#include "control/configuration/reader.h"
#include "control/policy/catalogue.h"

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
    Builder(const fs::path& file, Problems& problems)
        : directory_(fs::absolute(file).parent_path()), problems_(problems) {
        configuration_.file = file;
    }

    Configuration build(Value& root) {
        Value& level = root["policy"];
        if (level.good && level["level"].good) configuration_.policy_level = static_cast<int>(level["level"].integer);
        dataplane(root["dataplane"]);
        control(root);
        Ports ports(root["ports"], directory_, problems_);
        for (Value& item : root["pools"].items) pool(item, ports);
        for (Value& item : root["services"].items) service(item, ports, root["pools"].good);
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
    }

    void control(Value& root) {
        Value& management = root["management"];
        Value& group = root["control"];
        Value& log = root["log"];
        if (log.good) configuration_.logging.level = log["level"].text;
        if (management.good) configuration_.management_socket = socket(management["socket"]);
        if (!group.good) return;
        configuration_.handshake_workers = configuration_.dataplane.handshake_workers =
            static_cast<std::uint32_t>(group["handshake_workers"].integer);
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

    fs::path socket(Value& value) {
        const fs::path path = resolve(value);
        if (value.good && path.string().size() > 107)
            problems_.add(value, "is too long for a UNIX socket", "a path of at most 107 octets");
        return path;
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
        pool.place = value.place;
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
            if (configuration_.policy_level > 1)
                problems_.add(tls,
                              "is missing: connections to the members would be plain text, which the policy forbids "
                              "from level 2 on",
                              "tls: { trust = [ \"ca.pem\" ]; server_name = \"NAME\"; }, or policy level 1",
                              "9.2.2 (12.3.1), 9.3.1 (12.3.3)");
            if (pool.proxy_protocol)
                problems_.add(value["proxy_protocol"], "would tell of clients in plain text",
                              "proxy_protocol in pools with tls only");
        } else if (tls.good) {
            pool.tls = backend_tls(tls);
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

    BackendTls backend_tls(Value& value) {
        BackendTls tls;
        for (Value& item : value["trust"].items) {
            if (!item.good) continue;
            tls.trust.push_back(resolve(item));
            if (const auto anchors =
                    certificates::load_trust_anchors(tls.trust.back(), configuration_.policy_level, now_);
                !anchors)
                for (const certificates::Problem& problem : anchors.error())
                    problems_.add(item, problem.wrong, problem.right, problem.requirement);
        }
        Value& name = value["server_name"];
        tls.server_name = name.text;
        if (name.good && !IpAddress::parse(name.text) && !is_dns_name(name.text))
            problems_.add(name, "is neither a DNS name nor an address",
                          "the name in the members' certificates, such as \"web.internal\"", "9.2.6 (12.3.2)");
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
        service.place = value.place;
        check_name(value["name"], service_names_, "service", problems_);
        service.name = value["name"].text;
        service.idle_timeout_s = static_cast<std::uint32_t>(value["idle_timeout_s"].integer);
        service.handshake_timeout_ms = static_cast<std::uint32_t>(value["handshake_timeout_ms"].integer);
        service.session_tickets = static_cast<std::uint8_t>(value["session_tickets"].integer);
        service.versions = versions(value["versions"]);
        listen(value["listen"], service, ports);
        alpn(value["alpn"], service);
        certificates(value["certificates"], service);
        pool_of(value["pool"], service, pools_good);
        configuration_.dataplane.services.push_back(
            {service.name, service.idle_timeout_s, service.handshake_timeout_ms});
        configuration_.services.push_back(std::move(service));
    }

    void listen(Value& list, Service& service, const Ports& ports) {
        for (Value& item : list.items) {
            const auto address = parse<SocketAddress>(item, problems_, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT");
            if (!address) continue;
            const auto [found, added] = listens_.emplace(*address, item.place.line);
            if (!added)
                problems_.add(item, "is listened at already, at line " + std::to_string(found->second),
                              "each address and port once; the server name tells certificates apart within a service");
            else if (ports.complete() && !ports.has_address(address->address))
                problems_.add(item, "has an address that no port has", "one of " + ports.addresses());
            service.listen.push_back(*address);
            configuration_.dataplane.listens.push_back(
                {*address, static_cast<std::uint32_t>(configuration_.services.size())});
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

    void certificates(Value& list, Service& service) {
        std::map<std::pair<std::string, std::string>, int> covered;  // family of key and name, to the line
        for (Value& item : list.items) {
            if (!item.good) continue;
            Value& certificate = item["certificate"];
            Value& key = item["key"];
            if (!certificate.good || !key.good) continue;
            CertificateFiles files{resolve(certificate), resolve(key), {}, nullptr, item.place};
            const auto chain =
                certificates::load_certificate_chain(files.certificate, files.key, configuration_.policy_level, now_);
            if (chain) {
                for (const std::string& name : chain->names) {
                    const auto [found, added] = covered.emplace(
                        std::pair(std::string(family_of(chain->key_type)), name), certificate.place.line);
                    if (added) continue;
                    problems_.add(certificate,
                                  "covers " + name + " with a key of the same kind as the certificate at line " +
                                      std::to_string(found->second),
                                  "for each name one certificate of each kind of key");
                    break;
                }
            } else {
                for (const certificates::Problem& problem : chain.error())
                    problems_.add(
                        problem.file == files.certificate && files.certificate != files.key ? certificate : key,
                        problem.wrong, problem.right, problem.requirement);
            }
            service.certificates.push_back(std::move(files));
        }
    }

    void pool_of(Value& value, Service& service, bool pools_good) {
        if (!value.good) return;
        const auto found = std::ranges::find(configuration_.pools, value.text, &Pool::name);
        service.pool = static_cast<std::uint32_t>(found - configuration_.pools.begin());
        // Where a pool could not be read, it may be the one that is missed here.
        if (found != configuration_.pools.end() || !pools_good || !pools_complete_) return;
        std::vector<std::string_view> names;
        for (const Pool& pool : configuration_.pools) names.push_back(pool.name);
        const std::string_view near = nearest(value.text, names);
        problems_.add(value, "there is no pool of this name",
                      near.empty() ? one_of(names) : "probably \"" + std::string(near) + "\"");
    }

    fs::path directory_;
    Problems& problems_;
    Configuration configuration_;
    std::chrono::system_clock::time_point now_ = std::chrono::system_clock::now();
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

std::expected<Configuration, std::vector<Problem>> load(const std::filesystem::path& file) {
    Problems problems;
    std::optional<Value> root = read(file, problems);
    if (root && root->good) {
        Configuration configuration = Builder(file, problems).build(*root);
        if (problems.empty()) return configuration;
    }
    return std::unexpected(std::move(problems).sorted(file.string()));
}

}  // namespace sallyport::configuration
