#include "control/configuration/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>
#include <vector>

#include "control/configuration/reader.h"
#include "control/configuration/schema.h"
#include "control/policy/requirements/requirements.h"
#include "tests/unit/control/configuration/files.h"

namespace sallyport::configuration {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

/// Made once: keys take a while.
const Files& files() {
    static const Files made;
    return made;
}

/// One problem a line, without what differs from run to run.
std::string text(const std::vector<Problem>& problems) {
    std::string all;
    for (const Problem& problem : problems) all += problem.to_string() + "\n";
    const std::string directory = files().path().string() + "/";
    for (auto at = all.find(directory); at != std::string::npos; at = all.find(directory))
        all.erase(at, directory.size());
    return std::regex_replace(all, std::regex(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC)"), "DATE");
}

std::string contents(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> cases(const char* folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(fs::path(SALLYPORT_CONFIGURATION_TESTS) / folder))
        if (entry.path().extension() == ".conf") names.push_back(entry.path().stem().string());
    std::ranges::sort(names);
    return names;
}

std::string name_of(const testing::TestParamInfo<std::string>& info) {
    return info.param;
}

TEST(Load, Text_IsReadInPlaceOfTheFile) {
    const fs::path place = files().write("not-this.conf", "nonsense");
    const std::string example = contents(SALLYPORT_CONFIGURATION_EXAMPLE);
    const auto loaded = load(place, {.text = example});
    ASSERT_TRUE(loaded) << text(loaded.error());
    EXPECT_EQ(loaded->file, place);
    EXPECT_FALSE(loaded->fixed.empty());
    const auto wrong = load(files().path() / "nowhere.conf", {.text = std::string("policy = {\n level = 9; };\0", 26)});
    ASSERT_FALSE(wrong);
    EXPECT_NE(text(wrong.error()).find("nowhere.conf:2: there is a zero octet"), std::string::npos) << text(wrong.error());
}

Configuration load_text(const std::string& name, const std::string& configuration) {
    const auto loaded = load(files().write(name, configuration));
    if (loaded) return *loaded;
    ADD_FAILURE() << text(loaded.error());
    return {};
}

Configuration load_good(const std::string& name) {
    return load_text(name + ".conf", contents(fs::path(SALLYPORT_CONFIGURATION_TESTS) / "good" / (name + ".conf")));
}

/// The requirements about pools; tests/unit/control/policy has the others, which ask for more than these certificates
/// are.
void check_pools(const Configuration& configuration, std::vector<Problem>& problems) {
    for (const policy::RequirementModule* module :
         {&policy::modules::r9_2_2, &policy::modules::r9_2_6, &policy::modules::r9_3_1})
        module->load(configuration, problems);
}

/// bad/NAME.conf is refused with exactly the messages of bad/NAME.expected. With SALLYPORT_UPDATE set, these are
/// written anew.
class BadConfiguration : public testing::TestWithParam<std::string> {};

TEST_P(BadConfiguration, IsRefusedWithItsMessage) {
    const fs::path folder = fs::path(SALLYPORT_CONFIGURATION_TESTS) / "bad";
    const auto loaded = load(files().place(folder / (GetParam() + ".conf")), {.check = check_pools});
    ASSERT_FALSE(loaded);
    const std::string found = text(loaded.error());
    const fs::path expected = folder / (GetParam() + ".expected");
    if (std::getenv("SALLYPORT_UPDATE") != nullptr) std::ofstream(expected) << found;
    EXPECT_EQ(found, contents(expected));
}

INSTANTIATE_TEST_SUITE_P(Files, BadConfiguration, testing::ValuesIn(cases("bad")), name_of);

class GoodConfiguration : public testing::TestWithParam<std::string> {};

TEST_P(GoodConfiguration, IsLoaded) {
    static_cast<void>(load_good(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Files, GoodConfiguration, testing::ValuesIn(cases("good")), name_of);

TEST(Configuration, Smallest_HasTheDefaultsOfTheHeaders) {
    const Configuration c = load_good("smallest");
    EXPECT_EQ(c.policy_level, Configuration{}.policy_level);
    EXPECT_EQ(c.handshake_workers, Configuration{}.handshake_workers);
    EXPECT_EQ(c.management_socket, Configuration{}.management_socket);
    EXPECT_EQ(c.channel_socket, Configuration{}.channel_socket);
    EXPECT_EQ(c.access.administrators, Configuration{}.access.administrators);
    EXPECT_EQ(c.access.operators, Configuration{}.access.operators);
    EXPECT_EQ(c.access.readers, Configuration{}.access.readers);
    EXPECT_EQ(c.user, Configuration{}.user);
    EXPECT_EQ(c.logging.level, Configuration{}.logging.level);
    const channel::DataplaneConfiguration d;
    EXPECT_THAT(c.dataplane.cores, ElementsAre(0));
    EXPECT_EQ(c.dataplane.handshake_workers, d.handshake_workers);
    EXPECT_EQ(c.dataplane.hugepages, d.hugepages);
    EXPECT_EQ(c.dataplane.max_flows, d.max_flows);
    EXPECT_EQ(c.dataplane.buffers, d.buffers);
    EXPECT_EQ(c.dataplane.receive_buffer, d.receive_buffer);
    EXPECT_EQ(c.dataplane.send_buffer, d.send_buffer);
    EXPECT_EQ(c.dataplane.tcp.ecn, d.tcp.ecn);
    EXPECT_EQ(c.dataplane.tcp.pacing, d.tcp.pacing);
    EXPECT_EQ(c.dataplane.tcp.nagle, d.tcp.nagle);
    EXPECT_EQ(c.dataplane.tcp.user_timeout_s, d.tcp.user_timeout_s);
    EXPECT_EQ(c.dataplane.tcp.user_timeout_option, d.tcp.user_timeout_option);
    EXPECT_EQ(c.dataplane.tcp.keepalive_s, d.tcp.keepalive_s);
    EXPECT_EQ(c.dataplane.tcp.hop_limit, d.tcp.hop_limit);
    EXPECT_EQ(c.dataplane.tcp.dscp, d.tcp.dscp);
    EXPECT_EQ(c.dataplane.control_away_ms, d.control_away_ms);
    ASSERT_EQ(c.dataplane.ports.size(), 1u);
    const channel::PortConfiguration port;
    EXPECT_EQ(c.dataplane.ports[0].mtu, port.mtu);
    EXPECT_EQ(c.dataplane.ports[0].vlan, port.vlan);
    EXPECT_EQ(c.dataplane.ports[0].queues, port.queues);
    EXPECT_EQ(c.dataplane.ports[0].descriptors, port.descriptors);
    EXPECT_EQ(c.dataplane.ports[0].mac, port.mac);
    EXPECT_EQ(c.dataplane.ports[0].memif_server, port.memif_server);
    ASSERT_EQ(c.pools.size(), 1u);
    EXPECT_EQ(c.pools[0].balance, Pool{}.balance);
    EXPECT_EQ(c.pools[0].health.has_value(), false);
    EXPECT_EQ(c.pools[0].proxy_protocol, Pool{}.proxy_protocol);
    EXPECT_EQ(c.pools[0].connect_timeout_ms, Pool{}.connect_timeout_ms);
    EXPECT_THAT(c.pools[0].tls->versions, ElementsAre(TlsVersion::tls13, TlsVersion::tls12));
    ASSERT_EQ(c.pools[0].members.size(), 1u);
    EXPECT_EQ(c.pools[0].members[0].name, "192.0.2.10:443");
    EXPECT_EQ(c.pools[0].members[0].weight, Member{}.weight);
    EXPECT_EQ(c.pools[0].members[0].drain, Member{}.drain);
    ASSERT_EQ(c.services.size(), 1u);
    EXPECT_EQ(c.services[0].idle_timeout_s, Service{}.idle_timeout_s);
    EXPECT_EQ(c.services[0].handshake_timeout_ms, Service{}.handshake_timeout_ms);
    EXPECT_EQ(c.services[0].session_tickets, Service{}.session_tickets);
    EXPECT_THAT(c.services[0].versions, ElementsAre(TlsVersion::tls13, TlsVersion::tls12));
    EXPECT_TRUE(c.services[0].alpn.empty());
    // And a health check that is there but says nothing.
    std::string health = contents(fs::path(SALLYPORT_CONFIGURATION_TESTS) / "good" / "pools.inc");
    health.replace(health.find("members"), 0, "health = { }; ");
    const Configuration h = load_text("health.conf", "@include \"ports.inc\"\n@include \"services.inc\"\n" + health);
    ASSERT_TRUE(h.pools.at(0).health);
    EXPECT_EQ(h.pools[0].health->interval_ms, HealthCheck{}.interval_ms);
    EXPECT_EQ(h.pools[0].health->timeout_ms, HealthCheck{}.timeout_ms);
    EXPECT_EQ(h.pools[0].health->rise, HealthCheck{}.rise);
    EXPECT_EQ(h.pools[0].health->fall, HealthCheck{}.fall);
}

TEST(Configuration, Captures_AreKeptBesideTheStateUnlessALineSaysOtherwise) {
    const Configuration c = load_good("smallest");
    EXPECT_EQ(c.capture.directory, c.state_directory / "captures");
    EXPECT_EQ(c.capture.max_octets, Capture{}.max_octets);
    EXPECT_FALSE(c.capture.secrets);
    const Configuration written = load_good("capture");
    EXPECT_EQ(written.capture.directory, files().path() / "taken");
    EXPECT_EQ(written.capture.max_octets, 100'000'000'000u);
    EXPECT_TRUE(written.capture.secrets);
}

TEST(Configuration, Example_IsLoadedWhole) {
    const auto loaded = load(files().place(SALLYPORT_CONFIGURATION_EXAMPLE));
    ASSERT_TRUE(loaded) << text(loaded.error());
    const Configuration& c = *loaded;
    ASSERT_EQ(c.services.size(), 2u);
    const Service& www = c.services[0];
    EXPECT_EQ(www.name, "www");
    EXPECT_THAT(www.alpn, ElementsAre("h2", "http/1.1"));
    ASSERT_EQ(www.listen.size(), 2u);
    EXPECT_EQ(www.listen[1].to_string(), "[2001:db8:1::10]:443");
    ASSERT_EQ(www.certificates.size(), 2u);
    EXPECT_EQ(www.certificates[0].certificate, files().path() / "certificates/www-ecdsa.pem");
    EXPECT_EQ(www.certificates[0].key, files().path() / "certificates/www-ecdsa.key");
    EXPECT_EQ(c.pools.at(www.pool).name, "web");
    const Pool& web = c.pools[www.pool];
    EXPECT_EQ(web.balance, Balance::least_connections);
    ASSERT_EQ(web.members.size(), 2u);
    EXPECT_EQ(web.members[0].name, "web1");
    EXPECT_EQ(web.members[0].weight, 2u);
    ASSERT_TRUE(web.tls);
    EXPECT_EQ(web.tls->server_name, "web.internal");
    EXPECT_THAT(web.tls->trust, ElementsAre(files().path() / "certificates/internal-ca.pem"));
    ASSERT_TRUE(web.health);
    EXPECT_EQ(web.health->interval_ms, 2000u);
    EXPECT_EQ(c.pools.at(c.services[1].pool).proxy_protocol, true);
    const channel::DataplaneConfiguration& d = c.dataplane;
    ASSERT_EQ(d.ports.size(), 2u);
    EXPECT_EQ(d.ports[0].profile, "af_xdp");
    ASSERT_EQ(d.ports[0].routes.size(), 2u);
    EXPECT_EQ(d.ports[0].routes[0].via.to_string(), "192.0.2.254");
    ASSERT_EQ(d.services.size(), 3u);
    EXPECT_EQ(d.services[1].name, "mail");
    EXPECT_EQ(d.services[2].name, "http");  // a redirect, after the services
    ASSERT_EQ(c.redirects.size(), 1u);
    ASSERT_EQ(d.listens.size(), 5u);
    EXPECT_EQ(d.listens[3].service, 2u);
    EXPECT_EQ(d.listens[2].service, 1u);
    EXPECT_GT(www.place.line, 0);
}

/// The example names every setting of the schema, written or in a comment, so that it serves as the reference.
TEST(Configuration, Example_NamesEverySetting) {
    const std::string example = contents(SALLYPORT_CONFIGURATION_EXAMPLE);
    const auto check = [&example](const auto& self, const Setting& group) -> void {
        for (const Setting& member : group.members) {
            EXPECT_TRUE(std::regex_search(example, std::regex("\\b" + std::string(member.name) + "\\s*[=:]")))
                << member.name;
            self(self, member);
        }
    };
    check(check, schema());
}

TEST(Configuration, ManagementGroups_AreLookedUpByNameOrNumber) {
    const ManagementAccess access = load_good("management_groups").access;
    EXPECT_EQ(access.groups.administrators, 4711u);
    EXPECT_EQ(access.groups.operators, 1u);  // Debian's base-passwd
    EXPECT_EQ(access.groups.readers, 4712u);
}

TEST(Configuration, Level3_LeavesOutTls12UnlessALineAsksForIt) {
    const Configuration silent = load_good("level_3");
    EXPECT_THAT(silent.services.at(0).versions, ElementsAre(TlsVersion::tls13));
    EXPECT_THAT(silent.pools.at(0).tls->versions, ElementsAre(TlsVersion::tls13));
    const Configuration asked = load_good("level_3_with_tls_1_2");
    EXPECT_THAT(asked.services.at(0).versions, ElementsAre(TlsVersion::tls12));
    EXPECT_THAT(asked.pools.at(0).tls->versions, ElementsAre(TlsVersion::tls13, TlsVersion::tls12));
}

TEST(Configuration, Telemetry_IsReadWhole) {
    const Configuration c = load_good("telemetry");
    ASSERT_TRUE(c.metrics);
    EXPECT_EQ(c.metrics->listen.to_string(), "203.0.113.1:9464");
    ASSERT_TRUE(c.metrics->identity.chain);
    EXPECT_EQ(c.metrics->anchors.size(), 1u);
    EXPECT_THAT(c.metrics->names, ElementsAre("prometheus.internal"));
    const FlowLog& log = c.flow_log;
    EXPECT_TRUE(log.on());
    EXPECT_EQ(log.file, files().path() / "flows.jsonl");
    EXPECT_EQ(log.max_octets, 1000000u);
    EXPECT_EQ(log.files, 3u);
    EXPECT_EQ(log.queue, 100u);
    EXPECT_TRUE(log.journal);
    ASSERT_TRUE(log.syslog);
    EXPECT_EQ(log.syslog->address.to_string(), "[2001:db8:9::1]:6514");
    EXPECT_EQ(log.syslog->server_name, "log.internal");
    EXPECT_EQ(log.syslog->anchors.size(), 1u);
    ASSERT_TRUE(log.syslog->identity);
    const Configuration none = load_good("smallest");
    EXPECT_FALSE(none.metrics);
    EXPECT_FALSE(none.flow_log.on());
    EXPECT_EQ(none.flow_log.max_octets, FlowLog{}.max_octets);
    EXPECT_EQ(none.flow_log.files, FlowLog{}.files);
    EXPECT_EQ(none.flow_log.queue, FlowLog{}.queue);
}

TEST(Configuration, RelativePaths_StartAtTheConfiguration) {
    const fs::path file = files().write("relative.conf",
                                        "management = { socket = \"a.sock\"; };\n@include \"ports.inc\"\n@include "
                                        "\"pools.inc\"\n@include \"services.inc\"\n");
    const auto loaded = load(fs::relative(file));
    ASSERT_TRUE(loaded) << text(loaded.error());
    EXPECT_EQ(loaded->management_socket, files().path() / "a.sock");
    EXPECT_EQ(loaded->services[0].certificates[0].key, files().path() / "www.key");
}

TEST(Configuration, FileThatIsNone_IsSaid) {
    EXPECT_EQ(text(load(files().path() / "nowhere.conf").error()),
              "nowhere.conf: cannot be read: No such file or directory; a configuration file\n");
    EXPECT_EQ(text(load(files().path()).error()), files().path().string() + ": is a directory; a configuration file\n");
    const fs::path fifo = files().path() / "fifo.conf";
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_EQ(text(load(fifo).error()), "fifo.conf: is not a regular file; a configuration file\n");
    EXPECT_EQ(text(load(files().write("zero.conf", std::string("a = 1;\n\0b = 2;\n", 15))).error()),
              "zero.conf:2: there is a zero octet in the file; text\n");
}

TEST(Configuration, IncludeOfItself_Ends) {
    EXPECT_EQ(text(load(files().write("self.inc", "@include \"self.inc\"\n")).error()).substr(0, 11), "self.inc:1:");
}

TEST(Configuration, IncludeOfAFifo_DoesNotWait) {
    ASSERT_EQ(mkfifo((files().path() / "fifo.inc").c_str(), 0600), 0);
    const std::string found = text(load(files().write("fifo_include.conf", "@include \"fifo.inc\"\n")).error());
    EXPECT_THAT(found, testing::HasSubstr("included file is not a regular file"));
}

TEST(Configuration, DefaultsOfTheSchema_KeepToTheSchema) {
    Problems problems;
    const auto check = [](const auto& self, const Value& value) -> void {
        EXPECT_TRUE(value.good || value.setting->fallback[0] == '\0') << value.path;
        for (const Value& member : value.members) self(self, member);
    };
    const auto root = read(files().write("defaults.conf",
                                         "ports = ( { } ); pools = ( { tls = { }; health = { }; members = ( { } ); } "
                                         "); services = ( { certificates = ( { } ); } );"),
                           problems);
    ASSERT_TRUE(root);
    check(check, *root);
    for (const char* list : {"ports", "pools", "services"}) check(check, (*root)[list].items.at(0));
}

TEST(Nearest, FindsSlipsOnly) {
    const std::vector<std::string_view> names{"level", "listen", "versions"};
    EXPECT_EQ(nearest("levle", names), "level");
    EXPECT_EQ(nearest("version", names), "versions");
    EXPECT_EQ(nearest("lisen", names), "listen");
    EXPECT_EQ(nearest("certificate", names), "");
    EXPECT_EQ(nearest("", names), "");
    EXPECT_EQ(nearest(std::string(1000, 'x'), names), "");
}

TEST(InQuotes, EscapesControlCharactersAndCuts) {
    EXPECT_EQ(in_quotes("a\"b\\c\n\x7f"), "\"a\\\"b\\\\c\\x0a\\x7f\"");
    EXPECT_EQ(in_quotes(std::string(201, 'x')), "\"" + std::string(200, 'x') + "...\"");
}

}  // namespace
}  // namespace sallyport::configuration
