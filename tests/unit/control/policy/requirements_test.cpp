#include "control/policy/requirements/requirements.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "crypto/format.h"
#include "tests/certificates.h"

namespace sallyport::policy {
namespace {

using configuration::Configuration;
using configuration::Problem;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

/// A public root, a private one, and certificates of both, in one directory.
struct World {
    test::TemporaryDirectory directory;
    test::Identity public_root = test::make_ca("Public Root"), private_root = test::make_ca("Private Root");

    World() {
        using test::CertificateOptions;
        const auto& here = directory.path();
        std::filesystem::create_directories(here / "roots");
        std::filesystem::create_directories(here / "empty");
        public_root.write(here / "roots", "public");
        public_root.write(here, "public");
        private_root.write(here, "ca");
        const auto leaf = [&](const char* name, CertificateOptions options, const test::Identity& issuer) {
            if (options.names.empty()) options.names = {"www.example.org", "public.example.org"};
            test::make_identity(options, &issuer).write(here, name);
        };
        const std::pair<int, std::string> ocsp{NID_info_access, "OCSP;URI:http://ocsp.example/"};
        const std::pair<int, std::string> crl{NID_crl_distribution_points, "URI:http://crl.example/a.crl"};
        const std::pair<int, std::string> must_staple{NID_tlsfeature, "status_request"};
        leaf("good", {.extensions = {ocsp}}, public_root);
        leaf("by_crl", {.extensions = {crl}}, public_root);
        leaf("short", {.not_before_days = -1, .not_after_days = 5}, public_root);
        leaf("unrevocable", {}, public_root);
        leaf("must_staple", {.extensions = {crl, must_staple}}, public_root);
        leaf("internal", {.extensions = {ocsp}}, private_root);
        leaf("long", {.not_before_days = -1, .not_after_days = 500, .extensions = {ocsp}}, public_root);
        leaf("rsa2048", {.key = test::Key::rsa2048, .extensions = {ocsp}}, public_root);
        leaf("p521", {.key = test::Key::p521, .extensions = {ocsp}}, public_root);
        leaf("single", {.names = {"public.example.org"}, .extensions = {ocsp}}, public_root);
        leaf("client", {.names = {"appliance.internal"}, .extended_key_usage = "clientAuth"}, private_root);
    }
};

const World& world() {
    static const World made;
    return made;
}

/// A configuration that keeps every requirement at each level; a test changes one part.
struct Parts {
    int level = 2;
    std::string certificate = "good";
    std::string tls = "tls: { trust = [ \"ca.pem\" ]; server_name = \"web.internal\"; identity: { certificate = \"client.pem\"; key = \"client.key\"; }; };";
    std::string pool = "";
    std::string service = "ech: { public_name = \"public.example.org\"; };";
    std::string listen = "192.0.2.1:443";
    std::string waivers = "";
    std::string roots = "roots";
    std::string more = "";
};

std::expected<Configuration, std::vector<Problem>> load(const Parts& parts) {
    const std::string text = "policy = { level = " + std::to_string(parts.level) + "; waivers = ( " + parts.waivers + " ); };\n" +
                             "certificates = { public_roots = \"" + parts.roots + "\"; };\n" +
                             "ports = ( { name = \"outside\"; profile = \"af_packet\"; device = \"veth0\"; addresses = [ \"192.0.2.1/24\" ]; } );\n" +
                             "pools = ( { name = \"web\"; " + parts.tls + " " + parts.pool + " members = ( { address = \"192.0.2.10:443\"; } ); } );\n" +
                             "services = ( { name = \"www\"; listen = [ \"" + parts.listen + "\" ]; pool = \"web\"; certificates = ( { certificate = \"" +
                             parts.certificate + ".pem\"; key = \"" + parts.certificate + ".key\"; } ); " + parts.service + " } );\n" + parts.more + "\n";
    return configuration::load(world().directory.write("test.conf", text), {.check = check_load});
}

std::string problems(const Parts& parts) {
    const auto loaded = load(parts);
    std::string all;
    if (loaded) return all;
    for (const Problem& problem : loaded.error()) all += problem.to_string() + "\n";
    const std::string directory = world().directory.path().string() + "/";
    for (auto at = all.find(directory); at != std::string::npos; at = all.find(directory)) all.erase(at, directory.size());
    return all;
}

struct Bad {
    Requirement requirement;
    Parts parts;
    std::string message;
};

const std::vector<Bad>& table() {
    static const std::string ech = Parts{}.service;
    static const std::string trust = "trust = [ \"ca.pem\" ]; ";
    static const std::vector<Bad> bad{
        {Requirement::r9_1_1, {.listen = "192.0.2.1:80"},
         "services.[0].listen = \"192.0.2.1:80\": is where clients speak plain HTTP; another port; a redirect at port 80 answers 308 to https [9.1.1 (12.2.1)]"},
        {Requirement::r9_1_1, {.listen = "192.0.2.1:8443", .more = "redirects = ( { name = \"r\"; listen = [ \"192.0.2.1:443\" ]; } );"},
         "redirects.[0].listen = \"192.0.2.1:443\": is where clients speak TLS: a redirect there could only answer in plain text; port 80, and a service at port "
         "443 [9.1.1 (12.2.1)]"},
        {Requirement::r9_1_4, {.certificate = "internal"},
         "services.[0].certificates.[0].certificate = \"internal.pem\": does not lead to a public root of roots: unable to get local issuer certificate; a "
         "certificate of a public authority, with its chain [9.1.4 (12.2.2)]"},
        {Requirement::r9_1_4, {.certificate = "long"}, "certificate = \"long.pem\": is valid for 502 days; at most "},
        {Requirement::r9_1_4, {.roots = "empty"},
         "certificates.public_roots = \"empty\": has no PEM file with a certification authority in it; a directory with the public roots, such as that of Debian's "
         "ca-certificates [9.1.4 (12.2.2)]"},
        {Requirement::r9_2_2, {.tls = ""},
         "pools.[0].tls: is missing: connections to the members would be plain text, which the policy forbids from level 2 on; tls: { trust = [ \"ca.pem\" ]; "
         "server_name = \"NAME\"; }, or policy level 1 [9.2.2 (12.3.1)]"},
        {Requirement::r9_2_2, {.level = 3, .tls = ""}, "[9.2.2 (12.3.1)]"},
        {Requirement::r9_2_6, {.level = 1, .tls = "tls: { server_name = \"a.internal\"; };"},
         "pools.[0].tls.trust: is missing or empty, and there are no pins: no member could be verified; trust = [ \"ca.pem\" ] with server_name, or pins [9.2.6 "
         "(12.3.2)]"},
        {Requirement::r9_2_6, {.level = 1, .tls = "tls: { trust = [ \"ca.pem\" ]; };"},
         "pools.[0].tls.server_name: is missing: any certificate of the authorities would do; server_name = \"NAME\", or pins and no trust [9.2.6 "
         "(12.3.2)]"},
        {Requirement::r9_2_6, {.level = 1, .tls = "tls: { trust = [ \"ca.pem\" ]; pins = [ \"sha256:" + std::string(64, 'a') + "\" ]; };"},
         "pools.[0].tls.server_name: is missing: any certificate of the authorities would do; "},
        {Requirement::r9_3_1, {.tls = ""}, "pools.[0].tls: is missing: an internal service would be spoken to without TLS; "},
        {Requirement::r9_3_1, {.level = 3, .tls = ""}, "[9.3.1 (12.3.3)]"},
        {Requirement::r9_3_2, {.tls = "tls: { trust = [ \"public.pem\" ]; server_name = \"a.internal\"; };"},
         "pools.[0].tls.trust: has a public root in it (CN=Public Root); files with internal certification authorities only, or pins [9.3.2 (12.3.4)]"},
        {Requirement::r9_3_2, {.tls = "tls: { trust = [ \"roots/public.pem\" ]; server_name = \"a.internal\"; };"},
         "pools.[0].tls.trust: names roots/public.pem, which is of the system's store; "},
        {Requirement::r9_3_3, {.level = 3, .tls = "tls: { trust = [ \"ca.pem\" ]; server_name = \"a.internal\"; };"},
         "pools.[0].tls.identity: is missing: at level 3 we prove to the members who we are; identity: { certificate = \"FILE\"; key = \"FILE\"; } with "
         "extendedKeyUsage clientAuth [9.3.3 (12.3.5)]"},
        {Requirement::r9_3_3,
         {.tls = "tls: { trust = [ \"ca.pem\" ]; server_name = \"a.internal\"; identity: { certificate = \"internal.pem\"; key = \"internal.key\"; }; };"},
         "pools.[0].tls.identity.certificate = \"internal.pem\": the certificate is not for clients: its extendedKeyUsage lacks clientAuth; a certificate with "
         "extendedKeyUsage clientAuth [9.3.3 (12.3.5)]"},
        {Requirement::r9_4_1, {.certificate = "rsa2048"},
         "services.[0].certificates.[0].certificate = \"rsa2048.pem\": the certificate has the key type RSA 2048; ECDSA P-256 or P-384, or RSA from 3072 bits, at "
         "level 2 [9.4.1 (12.1.2)]"},
        {Requirement::r9_4_1, {.level = 3, .certificate = "p521"}, "the certificate has the key type ECDSA P-521; ECDSA P-256 or P-384 at level 3 [9.4.1 (12.1.2)]"},
        {Requirement::r9_4_2, {.service = ech + " versions = [ \"1.1\" ];"},
         "services.[0].versions.[0] = \"1.1\": is not known; one of 1.3 or 1.2 [9.4.2 (12.1.1)]"},
        {Requirement::r9_4_2, {.service = ech + " versions = [ ];"}, "services.[0].versions = [ ]: is empty; "},
        {Requirement::r9_4_3, {.certificate = "unrevocable"},
         "services.[0].certificates.[0].certificate = \"unrevocable.pem\": could not be revoked: it names no OCSP responder and no CRL, and is valid for more than 7 "
         "days; a certificate with an http OCSP or CRL URL, or one valid for at most 7 days [9.4.3 (12.1.4)]"},
        {Requirement::r9_4_3, {.certificate = "must_staple"},
         "certificate = \"must_staple.pem\": demands a staple (RFC 7633) and names no OCSP responder to get one from; "},
        {Requirement::r9_4_4, {.level = 3, .service = ""},
         "services.[0].ech: is missing: the server name would be sent in the clear, which the policy forbids at level 3; ech: { public_name = \"NAME\"; } [9.4.4 "
         "(12.1.5)]"},
        {Requirement::r9_4_4, {.service = "ech: { public_name = \"other.example.org\"; };"},
         "services.[0].ech.public_name = \"other.example.org\": is covered by no certificate of the service; a name of one of its certificates [9.4.4 (12.1.5)]"},
        {Requirement::r9_4_4, {.certificate = "single"},
         "services.[0].ech.public_name = \"public.example.org\": is the only name that the service has: nothing would be hidden; "},
        {Requirement::r9_4_5, {.service = ech + " client_auth: { };"}, "services.[0].client_auth.trust: is missing or empty: no client could be verified; "},
        {Requirement::r9_4_5, {.service = ech + " client_auth: { trust = [ \"public.pem\" ]; };"},
         "services.[0].client_auth.trust: has a public root in it (CN=Public Root): whoever can buy a certificate would be a client; "},
        {Requirement::r9_4_5, {.service = ech + " client_auth: { trust = [ \"ca.pem\" ]; forward = true; };"},
         "services.[0].client_auth.forward = true: needs a pool with tls and proxy_protocol, and \"web\" has no proxy_protocol; "},
        {Requirement::r9_4_5, {.service = ech + " client_auth: { mode = \"off\"; forward = true; };"},
         "services.[0].client_auth.forward = true: would forward identities that nobody has verified; "},
        {Requirement::r9_3_2,
         {.more = "flow_log = { syslog: { address = \"203.0.113.2:6514\"; server_name = \"log.internal\"; trust = [ \"public.pem\" ]; }; };"},
         "flow_log.syslog.trust: has a public root in it (CN=Public Root); files with internal certification authorities only [9.3.2 (12.3.4)]"},
        {Requirement::r9_4_5,
         {.more = "telemetry = { metrics: { listen = \"203.0.113.1:9464\"; certificate = \"internal.pem\"; key = \"internal.key\"; clients = [ \"public.pem\" ]; }; };"},
         "telemetry.metrics.clients: has a public root in it (CN=Public Root): whoever can buy a certificate could read the metrics; "},
    };
    return bad;
}

TEST(Requirements, GoodConfiguration_IsLoadedAtEachLevel) {
    for (int level = 1; level <= 3; ++level) EXPECT_EQ(problems({.level = level}), "") << level;
    EXPECT_EQ(problems({.certificate = "by_crl"}), "");
    EXPECT_EQ(problems({.certificate = "short"}), "");
    EXPECT_EQ(problems({.level = 1, .certificate = "unrevocable", .tls = ""}), "");
    EXPECT_EQ(problems({.tls = "tls: { pins = [ \"sha256:" + std::string(64, 'a') + "\" ]; };"}), "") << "a pin needs no name";
}

TEST(Requirements, BadConfiguration_IsRefusedWithItsMessage) {
    for (const Bad& bad : table()) EXPECT_THAT(problems(bad.parts), HasSubstr(bad.message)) << text(bad.requirement).both;
}

TEST(Requirements, EachHasItsModuleAndTwoBadConfigurations) {
    ASSERT_EQ(requirements().size(), static_cast<std::size_t>(Requirement::count_));
    for (std::size_t i = 0; i < requirements().size(); ++i) {
        const auto requirement = static_cast<Requirement>(i);
        EXPECT_EQ(requirements()[i]->requirement, requirement);
        EXPECT_GE(std::ranges::count(table(), requirement, &Bad::requirement), 2) << text(requirement).both;
        for (const Bad& bad : table()) {
            if (bad.requirement != requirement) continue;
            EXPECT_THAT(problems(bad.parts), HasSubstr(std::string(text(requirement).both)));
        }
    }
}

TEST(Requirements, WhatTheReaderSays_IsNotSaidTwice) {
    const std::string found = problems({.certificate = "rsa2048"});
    EXPECT_EQ(std::ranges::count(found, '\n'), 1) << found;
}

/// Certificates of a directory: each file has certificate, chain and key.
TEST(CertificateDirectory, IsLoadedWholeAndItsDoublesAreFound) {
    constexpr int kFiles = 50;
    const auto directory = world().directory.path() / "many";
    std::filesystem::create_directories(directory);
    const test::Identity issuer = test::make_ca("Issuer", &world().public_root);
    const auto write = [&](const std::string& file, const std::string& name) {
        const test::Identity made = test::make_identity({.names = {name}, .extensions = {{NID_info_access, "OCSP;URI:http://ocsp.example/"}}}, &issuer);
        world().directory.write("many/" + file, made.certificate_pem() + made.key_pem(), 0600);
    };
    for (int i = 0; i < kFiles; ++i) write(std::to_string(i) + ".pem", "n" + std::to_string(i) + ".example.org");
    const Parts parts{.service = Parts{}.service + " certificate_directory = \"many\";"};
    const auto loaded = load(parts);
    ASSERT_TRUE(loaded) << problems(parts);
    const auto& certificates = loaded->services[0].certificates;
    ASSERT_EQ(certificates.size(), kFiles + 1u);
    // Intermediates that files have in common are one object.
    EXPECT_EQ(certificates[1].chain->issuer.get(), certificates.back().chain->issuer.get());
    write("x.pem", "n7.example.org");
    EXPECT_THAT(problems(parts), HasSubstr("services.[0].certificate_directory = \"many/x.pem\": covers n7.example.org with a key of the same kind as the "
                                           "certificate in 7.pem; for each name one certificate of each kind of key"));
}

std::string date_in(std::chrono::days days) {
    const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now() + days));
    return sallyport::format("{:%F}", day);
}

std::string waiver(const std::string& requirement, const std::string& object, const std::string& until) {
    return "{ requirement = \"" + requirement + "\"; object = \"" + object + "\"; reason = \"the auditor knows\"; until = \"" + until + "\"; }";
}

TEST(Waiver, SuspendsItsRequirementForItsObjectAlone) {
    const std::string until = date_in(std::chrono::days(30));
    const auto loaded = load({.certificate = "unrevocable", .waivers = waiver("9.4.3", "service www", until)});
    ASSERT_TRUE(loaded) << problems({.certificate = "unrevocable", .waivers = waiver("9.4.3", "service www", until)});
    ASSERT_EQ(loaded->waived.size(), 1u);
    EXPECT_EQ(loaded->waived[0].waiver.reason, "the auditor knows");
    EXPECT_THAT(problems({.certificate = "unrevocable", .waivers = waiver("9.4.3", "pool web", until)}), HasSubstr("[9.4.3"));
    EXPECT_THAT(problems({.certificate = "unrevocable", .waivers = waiver("9.1.4", "service www", until)}), HasSubstr("[9.4.3"));
}

TEST(Waiver, BadOnes_AreRefused) {
    const std::string soon = date_in(std::chrono::days(30));
    EXPECT_THAT(problems({.waivers = waiver("9.1.1", "service www", soon)}), HasSubstr("cannot be waived: an external service speaks TLS, always"));
    EXPECT_THAT(problems({.waivers = waiver("9.9.9", "service www", soon)}), HasSubstr("is no requirement of the policy"));
    EXPECT_THAT(problems({.waivers = waiver("9.4.3", "service nobody", soon)}), HasSubstr("is no service and no pool of this configuration"));
    EXPECT_THAT(problems({.waivers = waiver("9.4.3", "service www", date_in(-std::chrono::days(1)))}), HasSubstr("has passed: the waiver no longer helps"));
    EXPECT_THAT(problems({.waivers = waiver("9.4.3", "service www", date_in(std::chrono::days(400)))}), HasSubstr("is more than a year away"));
    EXPECT_THAT(problems({.waivers = waiver("9.4.3", "service www", "2026-02-30")}), HasSubstr("is no date"));
}

TEST(Waiver, WithoutEffect_IsRefused) {
    const std::string soon = date_in(std::chrono::days(30));
    EXPECT_THAT(problems({.waivers = waiver("9.4.3", "service www", soon)}), HasSubstr("policy.waivers.[0] = \"9.4.3, service www\": has no effect: "));
    EXPECT_THAT(problems({.waivers = waiver("9.4.3", "pool web", soon)}), HasSubstr("has no effect")) << "at level 2 what is not known passes anyway";
    EXPECT_THAT(problems({.level = 3, .waivers = waiver("9.4.3", "clients of service www", soon)}), HasSubstr("has no effect")) << "it asks for no certificates";
    EXPECT_EQ(problems({.level = 3, .waivers = waiver("9.4.3", "pool web", soon)}), "");
}

TEST(Waiver, OfFlows_IsInTheReport) {
    const std::string clients = Parts{}.service + " client_auth: { trust = [ \"ca.pem\" ]; };";
    const std::string soon = date_in(std::chrono::days(30));
    for (const std::string object : {"pool web", "clients of service www"}) {
        const auto loaded = load({.level = 3, .service = clients, .waivers = waiver("9.4.3", object, soon)});
        ASSERT_TRUE(loaded) << problems({.level = 3, .service = clients, .waivers = waiver("9.4.3", object, soon)});
        RunState run{.now = std::chrono::system_clock::now()};
        const Evidence now = evaluate(modules::r9_4_3, *loaded, run);
        EXPECT_EQ(now.state, State::waived);
        EXPECT_THAT(now.evidence, HasSubstr("waived until " + soon + ", " + object + ": "));
        EXPECT_THAT(now.evidence, HasSubstr("the auditor knows"));
        run.now += std::chrono::days(32);
        EXPECT_EQ(evaluate(modules::r9_4_3, *loaded, run).state, State::ok) << "flows are held to it again";
    }
}

TEST(Waiver, OfTheOwnCertificate_LetsNoUnknownClientIn) {
    const std::string clients = Parts{}.service + " client_auth: { trust = [ \"ca.pem\" ]; };";
    const auto loaded = load({.level = 3, .certificate = "unrevocable", .service = clients, .waivers = waiver("9.4.3", "service www", date_in(std::chrono::days(30)))});
    ASSERT_TRUE(loaded);
    for (const auto& each : loaded->waivers) EXPECT_FALSE(configuration::waives_unknown_revocation(*loaded, each));
}

TEST(Waiver, CannotHelpWhereNothingCouldBeVerified) {
    EXPECT_THAT(problems({.tls = "tls: { trust = [ \"ca.pem\" ]; };", .waivers = waiver("9.2.6", "pool web", date_in(std::chrono::days(9)))}), HasSubstr("[9.2.6"));
}

TEST(Waiver, ThatEndsWhileItRuns_IsAViolation) {
    const auto loaded = load({.certificate = "unrevocable", .waivers = waiver("9.4.3", "service www", date_in(std::chrono::days(3)))});
    ASSERT_TRUE(loaded);
    RunState run{.now = std::chrono::system_clock::now()};
    EXPECT_EQ(evaluate(modules::r9_4_3, *loaded, run).state, State::waived);
    run.now += std::chrono::days(5);
    const Evidence after = evaluate(modules::r9_4_3, *loaded, run);
    EXPECT_EQ(after.state, State::violated);
    ASSERT_EQ(after.alarms.size(), 1u);
    EXPECT_THAT(after.alarms[0], HasSubstr("the waiver ended on"));
}

TEST(Waiver, ForPlainText_EndsWhileItRuns) {
    const std::string until = date_in(std::chrono::days(3));
    const auto loaded = load({.tls = "", .waivers = waiver("9.2.2", "pool web", until) + ", " + waiver("9.3.1", "pool web", until)});
    ASSERT_TRUE(loaded);
    for (const RequirementModule* module : {&modules::r9_2_2, &modules::r9_3_1}) {
        RunState run{.now = std::chrono::system_clock::now()};
        EXPECT_EQ(evaluate(*module, *loaded, run).state, State::waived);
        run.now += std::chrono::days(5);
        const Evidence after = evaluate(*module, *loaded, run);
        EXPECT_EQ(after.state, State::violated);
        ASSERT_FALSE(after.alarms.empty());
        EXPECT_THAT(after.alarms.back(), HasSubstr("the waiver ended on"));
    }
}

TEST(LongestValidity, FollowsTheDateOfIssue) {
    using std::chrono::days;
    using std::chrono::sys_days;
    EXPECT_EQ(longest_validity(sys_days(2026y / 3 / 14) + 86399s), days(398));
    EXPECT_EQ(longest_validity(sys_days(2026y / 3 / 15)), days(200));
    EXPECT_EQ(longest_validity(sys_days(2027y / 3 / 15) - 1s), days(200));
    EXPECT_EQ(longest_validity(sys_days(2027y / 3 / 15)), days(100));
    EXPECT_EQ(longest_validity(sys_days(2029y / 3 / 15) - 1s), days(100));
    EXPECT_EQ(longest_validity(sys_days(2029y / 3 / 15)), days(47));
}

class Running : public testing::Test {
 protected:
    Running() {
        auto loaded = load({.level = 3});
        if (!loaded) throw std::runtime_error(problems({.level = 3}));
        configuration_ = std::move(*loaded);
        run_.now = std::chrono::system_clock::now();
        run_.certificates = running_certificates(configuration_);
        run_.ech = {{.service = "www", .keys = 2}};
    }
    Configuration configuration_;
    RunState run_;
};

TEST_F(Running, Good_IsOkWithEvidence) {
    for (const RequirementModule* module : requirements()) {
        const Evidence found = evaluate(*module, configuration_, run_);
        EXPECT_EQ(found.state, module->requirement == Requirement::r9_4_5 ? State::not_applicable : State::ok) << text(module->requirement).both;
        EXPECT_FALSE(found.evidence.empty());
        EXPECT_THAT(found.alarms, IsEmpty());
    }
    configuration_.policy_level = 1;
    EXPECT_EQ(evaluate(modules::r9_4_4, configuration_, run_).state, State::not_applicable);
}

TEST_F(Running, ClearOctets_AreAViolation) {
    run_.dataplane.emplace();
    run_.dataplane->tls = {"192.0.2.1:443"};
    const Evidence good = evaluate(modules::r9_1_1, configuration_, run_);
    EXPECT_EQ(good.state, State::ok);
    EXPECT_THAT(good.evidence, HasSubstr("listens at 1 address for TLS, at 0 for redirects, at 0 for anything else; 0 octets forwarded in the clear"));
    run_.dataplane->clear_octets = 1;
    EXPECT_EQ(evaluate(modules::r9_1_1, configuration_, run_).state, State::violated);
}

TEST_F(Running, ListenerThatIsNeitherServiceNorRedirect_IsAViolation) {
    run_.dataplane.emplace();
    run_.dataplane->others = {"192.0.2.1:8080"};
    const Evidence found = evaluate(modules::r9_1_1, configuration_, run_);
    EXPECT_EQ(found.state, State::violated);
    EXPECT_THAT(found.alarms.at(0), HasSubstr("192.0.2.1:8080"));
}

TEST_F(Running, Connections_AreAMatrixToWhichOthersAdd) {
    EXPECT_THAT(evaluate(modules::r9_2_2, configuration_, run_).evidence, HasSubstr("clients to service www: TLS; us to pool web: mutual TLS; "));
    run_.connections = {{"us", "the log host", "TLS"}};
    EXPECT_THAT(evaluate(modules::r9_2_2, configuration_, run_).evidence, HasSubstr("us to the log host: TLS; "));
    run_.connections.push_back({"us", "a collector", "plain text", false});
    EXPECT_EQ(evaluate(modules::r9_2_2, configuration_, run_).state, State::violated);
    run_.connections.clear();
    configuration_.pools[0].tls.reset();   // as if something had got around the load check
    EXPECT_EQ(evaluate(modules::r9_2_2, configuration_, run_).state, State::violated);
}

TEST_F(Running, SuiteOutsideTheCatalogue_IsAViolation) {
    run_.by_suite = {{0x1302, 3}};
    run_.by_group = {{0x11ec, 3}, {0, 1}};
    const Evidence good = evaluate(modules::r9_4_1, configuration_, run_);
    EXPECT_EQ(good.state, State::ok);
    EXPECT_THAT(good.evidence, HasSubstr("by suite: TLS_AES_256_GCM_SHA384 3; by group: X25519MLKEM768 3, none 1; "));
    run_.by_suite.emplace_back(0x002f, 1);
    EXPECT_EQ(evaluate(modules::r9_4_1, configuration_, run_).state, State::violated);
}

TEST_F(Running, VersionThatIsNeither12Nor13_IsAViolation) {
    run_.tls12 = 1;
    run_.tls13 = 3;
    EXPECT_THAT(evaluate(modules::r9_4_2, configuration_, run_).evidence, HasSubstr("used by 1 of 4 handshakes"));
    run_.other_versions = 1;
    EXPECT_EQ(evaluate(modules::r9_4_2, configuration_, run_).state, State::violated);
}

TEST_F(Running, ClientsCrlThatIsStale_RaisesTheAlarm) {
    configuration_.services[0].client_auth.mode = configuration::ClientAuthMode::required;
    run_.crls = {{.domain = "service www", .source = "clients.crl", .next_update = run_.now + 1h}};
    EXPECT_EQ(evaluate(modules::r9_4_5, configuration_, run_).state, State::ok);
    run_.crls[0].next_update = run_.now - 1h;
    EXPECT_EQ(evaluate(modules::r9_4_5, configuration_, run_).state, State::alarm);
}

TEST_F(Running, PinnedCertificateThatEnds_RaisesTheAlarm) {
    run_.pins = {{"web", "CN=pinned", run_.now + std::chrono::days(20)}};
    EXPECT_EQ(evaluate(modules::r9_3_2, configuration_, run_).state, State::ok);
    run_.pins[0].not_after = run_.now + std::chrono::days(3);
    EXPECT_EQ(evaluate(modules::r9_3_2, configuration_, run_).state, State::alarm);
    run_.pins[0].not_after = run_.now - std::chrono::days(1);
    EXPECT_EQ(evaluate(modules::r9_3_2, configuration_, run_).state, State::violated);
}

TEST_F(Running, CertificatesThatEnd_RaiseTheAlarm) {
    run_.now += std::chrono::days(20);   // they have 30
    EXPECT_EQ(evaluate(modules::r9_1_4, configuration_, run_).state, State::alarm);
    EXPECT_EQ(evaluate(modules::r9_3_3, configuration_, run_).state, State::alarm);
    EXPECT_EQ(evaluate(modules::r9_3_2, configuration_, run_).state, State::alarm);
    run_.now += std::chrono::days(11);
    EXPECT_EQ(evaluate(modules::r9_1_4, configuration_, run_).state, State::violated);
    EXPECT_EQ(evaluate(modules::r9_3_2, configuration_, run_).state, State::violated);
}

TEST_F(Running, Staples_RevokedOrStale_AreViolations) {
    revocation::OwnStatus own;
    own.subject = "CN=a";
    own.rule = revocation::Rule::staple;
    own.standing = revocation::Standing::good;
    own.next_update = run_.now + 1h;
    run_.staples = {own};
    EXPECT_EQ(evaluate(modules::r9_4_3, configuration_, run_).state, State::ok);
    run_.staples[0].next_update = run_.now - 1h;
    EXPECT_EQ(evaluate(modules::r9_4_3, configuration_, run_).state, State::alarm);   // nobody has tried yet
    run_.staples[0].last_attempt = run_.now;
    EXPECT_EQ(evaluate(modules::r9_4_3, configuration_, run_).state, State::violated);
    run_.staples[0].last_attempt = {};
    run_.staples[0].must_staple = true;
    EXPECT_EQ(evaluate(modules::r9_4_3, configuration_, run_).state, State::violated) << "clients refuse it already";
    EXPECT_THAT(evaluate(modules::r9_4_3, configuration_, run_).alarms.at(0), HasSubstr("demands one (RFC 7633)"));
    run_.staples[0].standing = revocation::Standing::revoked;
    EXPECT_THAT(evaluate(modules::r9_4_3, configuration_, run_).alarms.at(0), HasSubstr("has been revoked"));
}

TEST_F(Running, EchAndTicketKeysThatDoNotRotate_RaiseTheAlarm) {
    run_.ech[0].why = "the disk is full";
    EXPECT_THAT(evaluate(modules::r9_4_4, configuration_, run_).alarms.at(0), HasSubstr("could not be rotated: the disk is full"));
    run_.ech[0].age = std::chrono::hours(48);
    EXPECT_EQ(evaluate(modules::r9_4_4, configuration_, run_).state, State::alarm);
    run_.ech.clear();
    EXPECT_EQ(evaluate(modules::r9_4_4, configuration_, run_).state, State::violated);
    run_.ticket_key_age = std::chrono::hours(3);
    EXPECT_EQ(evaluate(modules::r9_3_3, configuration_, run_).state, State::alarm);
}

}  // namespace
}  // namespace sallyport::policy
