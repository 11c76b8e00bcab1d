#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "control/handshake/key_log.h"
#include "control/handshake/server_context.h"
#include "control/policy/catalogue.h"
#include "crypto/format.h"
#include "harness.h"

namespace sallyport::handshake {
namespace {

using namespace test;
using channel::EndReason;
using testing::HasSubstr;

/// Certificates that all tests use: made once, since RSA keys take long.
struct Files {
    TemporaryDirectory directory;
    test::Identity ca = make_ca("Test CA");
    std::vector<configuration::CertificateFiles> add(const std::string& name, const test::Identity& identity) const {
        identity.write(directory.path(), name);
        configuration::CertificateFiles made;
        made.certificate = directory.path() / (name + ".pem");
        made.key = directory.path() / (name + ".key");
        return {made};
    }
    configuration::CertificateFiles rsa = add("rsa", make_leaf({"a.example", "*.wild.example"}, ca, Key::rsa2048)).front();
    configuration::CertificateFiles ecdsa = add("ecdsa", make_leaf({"a.example", "*.wild.example"}, ca, Key::p256)).front();
    configuration::CertificateFiles other = add("other", make_leaf({"b.example", "x.wild.example"}, ca, Key::p256)).front();
    configuration::CertificateFiles p384 = add("p384", make_leaf({"p384.example"}, ca, Key::p384)).front();
    configuration::CertificateFiles ed25519 = add("ed25519", make_leaf({"ed25519.example"}, ca, Key::ed25519)).front();
};

const Files& files() {
    static const Files all;
    return all;
}

configuration::Configuration basic_configuration() {
    configuration::Configuration configuration;
    configuration.policy_level = 1;
    return configuration;
}

configuration::Service basic_service() {
    configuration::Service service;
    service.name = "web";
    service.certificates = {files().rsa, files().ecdsa};
    service.alpn = {"h2", "http/1.1"};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    return service;
}

std::shared_ptr<const ServerContext> context_of(const configuration::Service& service, std::shared_ptr<TicketKeys> tickets = make_ticket_keys({})) {
    return make_server_context(basic_configuration(), service, {.tickets = std::move(tickets)});
}

struct Result {
    Step step = Step::more;
    std::optional<Handed> handed;
    Failure failure;
    Negotiated negotiated;
    std::uint64_t consumed = 0;
    Octets client_stream;        ///< all that the client wrote until then
    Octets last_output;          ///< of the last feed
    Octets all_output;
    bool hello_accepted = false;
};

/// Runs a handshake to its end. `early`: application data that the client sends together with its last flight.
Result shake(const std::shared_ptr<const ServerContext>& context, Peer& client, std::string_view early = {}, bool octet_by_octet = false) {
    ServerHandshake server(context);
    Result result;
    Octets to_server = client.feed({});
    while (result.step == Step::more && !to_server.empty()) {
        result.client_stream.insert(result.client_stream.end(), to_server.begin(), to_server.end());
        Octets to_client;
        if (octet_by_octet) {
            for (std::size_t i = 0; i < to_server.size() && result.step == Step::more; ++i)
                result.step = server.feed(std::span(to_server).subspan(i, 1), to_client);
        } else {
            result.step = server.feed(to_server, to_client);
        }
        result.last_output = to_client;
        result.all_output.insert(result.all_output.end(), to_client.begin(), to_client.end());
        if (client.done()) {
            client.read(to_client);
            break;
        }
        to_server = client.feed(to_client);
        if (client.done() && !early.empty()) {
            const Octets data = client.write(early);
            to_server.insert(to_server.end(), data.begin(), data.end());
        }
    }
    result.consumed = server.consumed();
    result.hello_accepted = server.hello_accepted();
    result.negotiated = server.negotiated();
    result.failure = server.failure();
    if (result.step == Step::done) result.handed = server.take_handed();
    return result;
}

/// After a handshake, both ways, several records.
void expect_data_flows(const Result& result, Peer& client, std::string_view early = {}) {
    ASSERT_TRUE(result.handed);
    RecordLayer records(result.handed->handoff);
    const auto rest = std::span(result.client_stream).subspan(result.consumed);
    EXPECT_EQ(records.open(rest), std::optional<std::string>(early));
    for (const std::string_view text : {"hello", "", "a second record"}) {
        if (!text.empty()) {
            EXPECT_EQ(records.open(client.write(text)), std::optional<std::string>(text));
        }
        EXPECT_EQ(client.read(records.seal(text)), std::optional<std::string>(text));
    }
}

Peer make_client(SSL_CTX* context, const char* name = "a.example", SSL_SESSION* session = nullptr) {
    return Peer(context, false, name, session);
}

openssl::Session session_of(Peer& client) { return openssl::Session(SSL_get1_session(client.ssl())); }

TEST(ServerHandshake, EverySuiteVersionKeyAndGroup_DataFlowsBothWays) {
    const auto context = context_of(basic_service());
    struct Row { int version; std::string suite; bool ecdsa; };
    std::vector<Row> rows;
    for (const bool ecdsa : {false, true})
        for (const char* suite : {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}) rows.push_back({TLS1_3_VERSION, suite, ecdsa});
    for (const char* cipher : {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"})
        for (const bool ecdsa : {false, true}) rows.push_back({TLS1_2_VERSION, sallyport::format("ECDHE-{}-{}", ecdsa ? "ECDSA" : "RSA", cipher), ecdsa});
    for (const Row& row : rows) {
        for (const std::string group : {"X25519MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384"}) {
            if (row.version == TLS1_2_VERSION && group.contains("MLKEM")) continue;
            for (const bool retry : {false, true}) {
                if (retry && row.version == TLS1_2_VERSION) continue;
                SCOPED_TRACE(sallyport::format("{:#x} {} {} {} retry {}", row.version, row.suite, row.ecdsa ? "ECDSA" : "RSA", group, retry));
                PeerOptions options{.version = row.version, .alpn = "http/1.1"};
                (row.version == TLS1_3_VERSION ? options.suites13 : options.suites12) = row.suite;
                options.groups = (retry ? "P-521:" : "") + group;  // the key share is of the first one, which the server does not take
                const bool curve_too = row.ecdsa && row.version == TLS1_2_VERSION && group != "P-256";
                if (curve_too) options.groups += ":P-256";  // TLS 1.2 wants the certificate's curve among the groups
                options.schemes = row.ecdsa ? "ecdsa_secp256r1_sha256" : "rsa_pss_rsae_sha256";
                const auto peer = peer_context(options);
                // Full, then resumed, with and without data in the flight of the client's Finished.
                openssl::Session session;
                for (const bool resumed : {false, true, true}) {
                    const std::string early = resumed || row.version == TLS1_3_VERSION ? "early" : "";
                    Peer client = make_client(peer.get(), "a.example", resumed ? session.get() : nullptr);
                    const Result result = shake(context, client, early);
                    ASSERT_EQ(result.step, Step::done) << result.failure.text;
                    EXPECT_EQ(result.negotiated.resumed, resumed);
                    EXPECT_EQ(result.negotiated.version, row.version);
                    EXPECT_EQ(result.negotiated.alpn, "http/1.1");
                    EXPECT_EQ(result.negotiated.server_name, "a.example");
                    EXPECT_EQ(result.negotiated.signature_scheme, resumed ? "" : options.schemes);
                    EXPECT_TRUE(result.negotiated.extended_master_secret);
                    const bool key_exchange = row.version == TLS1_3_VERSION || !resumed;
                    const policy::Group* expected = policy::find_group(curve_too && group == "P-384" ? "P-256" : group);
                    EXPECT_EQ(result.negotiated.group, key_exchange ? expected->id : 0);
                    EXPECT_EQ(result.handed->handoff.read_sequence, row.version == TLS1_3_VERSION ? 0U : 1U);
                    EXPECT_EQ(result.handed->handoff.write_sequence, row.version == TLS1_2_VERSION || resumed ? 1U : 2U);
                    expect_data_flows(result, client, early);
                    session = session_of(client);
                }
            }
        }
    }
}

TEST(ServerHandshake, EveryKeyType_Signs) {
    auto service = basic_service();
    service.certificates = {files().rsa, files().p384, files().ed25519};
    const auto context = context_of(service);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
        for (const auto& [name, scheme] : {std::pair{"p384.example", "ecdsa_secp384r1_sha384"}, {"ed25519.example", "ed25519"}, {"a.example", "rsa_pss_rsae_sha256"}}) {
            const auto peer = peer_context({.version = version});
            Peer client = make_client(peer.get(), name);
            const Result result = shake(context, client);
            ASSERT_EQ(result.step, Step::done) << name << ": " << result.failure.text;
            // On TLS 1.2 ecdsa_secp256r1_sha256 means SHA-256 with any curve (RFC 8446 4.2.3).
            EXPECT_EQ(result.negotiated.signature_scheme.substr(0, 5), std::string_view(scheme).substr(0, 5));
            if (version == TLS1_3_VERSION) {
                EXPECT_EQ(result.negotiated.signature_scheme, scheme);
            }
            expect_data_flows(result, client);
        }
}

TEST(ServerHandshake, ExplicitNonce_GoesOnAfterThatOfFinished) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_2_VERSION, .suites12 = "ECDHE-ECDSA-AES128-GCM-SHA256"});
    openssl::Session session;
    for (const bool resumed : {false, true}) {
        Peer client = make_client(peer.get(), "a.example", session.get());
        const Result result = shake(context, client);
        ASSERT_EQ(result.step, Step::done) << result.failure.text;
        ASSERT_EQ(result.negotiated.resumed, resumed);
        const auto finished = records_of(result.all_output).back();
        ASSERT_EQ(finished[0], std::byte{22});
        std::uint64_t nonce = 0;
        for (std::size_t i = 5; i < 13; ++i) nonce = nonce << 8 | std::to_integer<std::uint64_t>(finished[i]);
        EXPECT_EQ(result.handed->handoff.explicit_nonce, nonce + 1);
        session = session_of(client);
    }
}

TEST(ServerHandshake, OctetByOctet_SameOutcome) {
    const auto context = context_of(basic_service());
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer client = make_client(peer.get());
        const std::string_view early = version == TLS1_3_VERSION ? "early" : "";
        const Result result = shake(context, client, early, true);
        ASSERT_EQ(result.step, Step::done) << result.failure.text;
        expect_data_flows(result, client, early);
    }
}

TEST(ServerHandshake, SplitAtEveryOctet_ConsumedIsExact) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_3_VERSION, .groups = "X25519"});
    std::size_t length = 2;
    for (std::size_t split = 1; split < length; ++split) {
        Peer client = make_client(peer.get());
        ServerHandshake server(context);
        Octets stream = client.feed({}), to_client;
        std::size_t fed = 0;
        Step step = Step::more;
        const auto feed_to = [&](std::size_t end) {
            if (end > fed && step == Step::more) {
                step = server.feed(std::span(stream).subspan(fed, end - fed), to_client);
                fed = end;
            }
        };
        feed_to(std::min(split, stream.size()));
        feed_to(stream.size());
        ASSERT_EQ(step, Step::more) << server.failure().text;
        ASSERT_EQ(server.consumed(), stream.size());
        const Octets finished = client.feed(to_client);
        to_client.clear();
        ASSERT_TRUE(client.done());
        stream.insert(stream.end(), finished.begin(), finished.end());
        const std::size_t end_of_finished = stream.size();
        const Octets data = client.write("data");
        stream.insert(stream.end(), data.begin(), data.end());
        length = stream.size();
        feed_to(std::max(fed, split));
        feed_to(stream.size());
        ASSERT_EQ(step, Step::done) << "split at " << split << ": " << server.failure().text;
        ASSERT_EQ(server.consumed(), end_of_finished) << "split at " << split;
        RecordLayer records(server.take_handed().handoff);
        ASSERT_EQ(records.open(std::span(stream).subspan(end_of_finished)), std::optional<std::string>("data"));
    }
}

TEST(ServerHandshake, ClientHelloInManyRecords_IsAccepted) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_3_VERSION, .groups = "X25519MLKEM768"});
    Peer client = make_client(peer.get());
    const Octets hello = client.feed({});
    Octets split;
    for (std::size_t at = 5; at < hello.size(); at += 100) {
        const std::size_t length = std::min<std::size_t>(100, hello.size() - at);
        for (const std::size_t octet : {std::size_t{22}, std::size_t{3}, std::size_t{1}, std::size_t{0}, length}) split.push_back(static_cast<std::byte>(octet));
        split.insert(split.end(), hello.begin() + static_cast<std::ptrdiff_t>(at), hello.begin() + static_cast<std::ptrdiff_t>(at + length));
    }
    ServerHandshake server(context);
    Octets output;
    EXPECT_EQ(server.feed(split, output), Step::more) << server.failure().text;
    EXPECT_TRUE(server.hello_accepted());
    EXPECT_EQ(server.consumed(), split.size());
}

TEST(ServerHandshake, HelloAccepted_WithTheFlight_NotWithHelloRetryRequest) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_3_VERSION, .groups = "P-521:X25519", .alpn = "h2"});
    Peer client = make_client(peer.get());
    ServerHandshake server(context);
    Octets output;
    EXPECT_EQ(server.feed(client.feed({}), output), Step::more);
    EXPECT_FALSE(server.hello_accepted());
    const Octets second = client.feed(output);
    output.clear();
    EXPECT_EQ(server.feed(second, output), Step::more);
    EXPECT_TRUE(server.hello_accepted());
    EXPECT_EQ(server.negotiated().alpn, "h2");
    EXPECT_EQ(server.negotiated().server_name, "a.example");
    EXPECT_EQ(server.negotiated().group, 0x001d);
}

TEST(ServerHandshake, ChaCha20First_IsPrioritised) {
    const auto context = context_of(basic_service());
    const auto suite = [&](const char* order) {
        const auto peer = peer_context({.version = TLS1_3_VERSION, .suites13 = order});
        Peer client = make_client(peer.get());
        return shake(context, client).negotiated.suite;
    };
    EXPECT_EQ(suite("TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"), 0x1302);
    EXPECT_EQ(suite("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"), 0x1303);
    EXPECT_EQ(suite("TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"), 0x1303);
}

// Names.

std::string subject_name(Peer& client) {
    const X509* certificate = SSL_get0_peer_certificate(client.ssl());
    std::string names;
    openssl::GeneralNames all(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    const ASN1_STRING* first = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(all.get(), 0), nullptr));
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(first)), static_cast<std::size_t>(ASN1_STRING_length(first))};
}

TEST(ServerHandshake, ServerName_ChoosesTheCertificateSet) {
    auto service = basic_service();
    service.certificates = {files().rsa, files().ecdsa, files().other};
    const auto context = context_of(service);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        for (const auto& [name, expected] : {std::pair<const char*, const char*>{"a.example", "a.example"}, {"B.Example", "b.example"}, {"y.wild.example", "a.example"},
                                             {"x.wild.example", "b.example"}, {nullptr, "a.example"}}) {
            Peer client = make_client(peer.get(), name);
            const Result result = shake(context, client);
            ASSERT_EQ(result.step, Step::done) << result.failure.text;
            EXPECT_EQ(subject_name(client), expected);
            expect_data_flows(result, client);
        }
    }
}

TEST(ServerHandshake, UnknownServerName_UnrecognizedName) {
    const auto context = context_of(basic_service());
    for (const char* name : {"c.example", "wild.example", "x.y.wild.example", "a.example.evil", "example"}) {
        const auto peer = peer_context({});
        Peer client = make_client(peer.get(), name);
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.reason, EndReason::client_handshake_refused);
        EXPECT_EQ(result.failure.alert, SSL_AD_UNRECOGNIZED_NAME);
        EXPECT_FALSE(result.failure.alert_received);
        EXPECT_THAT(result.failure.text, HasSubstr(sallyport::format("no certificate for server name \"{}\"", name)));
        EXPECT_THAT(result.failure.text, HasSubstr("alert unrecognized_name (112) sent to the client"));
        EXPECT_EQ(client.alert_received(), SSL_AD_UNRECOGNIZED_NAME);
        EXPECT_FALSE(result.hello_accepted);
    }
}

TEST(ServerContext, NameFindsItsCertificates_ExactBeforeWildcard) {
    auto service = basic_service();
    service.certificates = {files().rsa, files().ecdsa, files().other};
    const auto context = context_of(service);
    const auto first_names = [&](const char* name) {
        std::vector<std::string> names;
        for (const auto* each : context->find(name)) names.push_back(each->chain->names.front());
        return names;
    };
    using testing::ElementsAre;
    EXPECT_THAT(first_names("a.example"), ElementsAre("a.example", "a.example"));
    EXPECT_THAT(first_names("y.wild.example"), ElementsAre("a.example", "a.example"));
    EXPECT_THAT(first_names("x.wild.example"), ElementsAre("b.example"));   // the RSA certificate covers it by its wildcard only, and stays out
    EXPECT_THAT(first_names("b.example"), ElementsAre("b.example"));
    EXPECT_THAT(first_names(""), ElementsAre("a.example", "a.example"));
    EXPECT_THAT(first_names("z.example"), ElementsAre());
    EXPECT_THAT(first_names(".wild.example"), ElementsAre());
}

// ALPN.

TEST(ServerHandshake, Alpn_ServersPreference) {
    const auto context = context_of(basic_service());
    for (const auto& [offer, expected] : {std::pair{"http/1.1,h2", "h2"}, {"foo,http/1.1", "http/1.1"}, {"", ""}}) {
        const auto peer = peer_context({.alpn = offer});
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::done) << result.failure.text;
        EXPECT_EQ(result.negotiated.alpn, expected);
    }
}

TEST(ServerHandshake, AlpnWithoutOverlap_NoApplicationProtocol) {
    const auto context = context_of(basic_service());
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version, .alpn = "foo,bar"});
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.alert, SSL_AD_NO_APPLICATION_PROTOCOL);
        EXPECT_EQ(client.alert_received(), SSL_AD_NO_APPLICATION_PROTOCOL);
        EXPECT_EQ(result.failure.reason, EndReason::client_handshake_refused);
    }
}

TEST(ServerHandshake, ServiceWithoutAlpn_IgnoresTheOffer) {
    auto service = basic_service();
    service.alpn.clear();
    const auto context = context_of(service);
    const auto peer = peer_context({.alpn = "foo"});
    Peer client = make_client(peer.get());
    const Result result = shake(context, client);
    EXPECT_EQ(result.step, Step::done) << result.failure.text;
    EXPECT_EQ(result.negotiated.alpn, "");
}

// What the catalogue does not have.

using policy::Violation;

struct Refused {
    const char* what;
    PeerOptions options;
    Violation violation;   ///< its alert is the policy's
};

TEST(ServerHandshake, OutsideTheCatalogue_Refused) {
    const auto context = context_of(basic_service());
    const std::vector<Refused> rows{
        {"TLS 1.1", {.version = TLS1_1_VERSION}, Violation::client_version},
        {"TLS 1.0", {.version = TLS1_VERSION}, Violation::client_version},
        {"RSA key transport", {.version = TLS1_2_VERSION, .suites12 = "AES128-GCM-SHA256:AES256-SHA"}, Violation::client_suite},
        {"CBC", {.version = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384"}, Violation::client_suite},
        {"DHE", {.version = TLS1_2_VERSION, .suites12 = "DHE-RSA-AES128-GCM-SHA256"}, Violation::client_suite},
        {"CCM on 1.2", {.version = TLS1_2_VERSION, .suites12 = "ECDHE-ECDSA-AES128-CCM"}, Violation::client_suite},
        {"CCM on 1.3", {.version = TLS1_3_VERSION, .suites13 = "TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256"}, Violation::client_suite},
        {"ffdhe2048", {.version = TLS1_3_VERSION, .groups = "ffdhe2048"}, Violation::client_group},
        {"X448", {.version = TLS1_3_VERSION, .groups = "X448"}, Violation::client_group},
        {"P-521", {.version = TLS1_3_VERSION, .groups = "P-521"}, Violation::client_group},
        {"SecP256r1MLKEM768", {.version = TLS1_3_VERSION, .groups = "SecP256r1MLKEM768"}, Violation::client_group},
        {"P-521 on 1.2", {.version = TLS1_2_VERSION, .groups = "P-521"}, Violation::client_group},
        {"PKCS#1 v1.5 on 1.2", {.version = TLS1_2_VERSION, .schemes = "rsa_pkcs1_sha256:rsa_pkcs1_sha384"}, Violation::client_signature_scheme},
        {"SHA-1 on 1.2", {.version = TLS1_2_VERSION, .schemes = "ecdsa_sha1:rsa_pkcs1_sha1"}, Violation::client_signature_scheme},
        {"ECDSA with SHA-224", {.version = TLS1_2_VERSION, .schemes = "ECDSA+SHA224"}, Violation::client_signature_scheme},
        {"no extended master secret", {.version = TLS1_2_VERSION, .extended_master_secret = false}, Violation::no_extended_master_secret},
    };
    for (const Refused& row : rows) {
        SCOPED_TRACE(row.what);
        const auto peer = peer_context(row.options);
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_FALSE(result.hello_accepted);
        EXPECT_EQ(result.failure.reason, EndReason::client_handshake_refused);
        const int alert = policy::text(row.violation).alert;
        EXPECT_EQ(result.failure.alert, alert) << result.failure.text;
        EXPECT_TRUE(result.failure.violation == row.violation) << (result.failure.violation ? policy::text(*result.failure.violation).name : "none");
        EXPECT_FALSE(result.failure.alert_received);
        EXPECT_THAT(result.failure.text, HasSubstr("sent to the client"));
        EXPECT_EQ(client.alert_received(), alert);
    }
}

TEST(ServerHandshake, LibraryLessStrictThanTheCatalogue_ReadBackRefusesBeforeTheFlight) {
    struct Row {
        const char* what;
        PeerOptions options;
        std::function<void(SSL_CTX*)> loosen;
    };
    const std::vector<Row> rows{
        {"suite", {.version = TLS1_2_VERSION, .suites12 = "ECDHE-ECDSA-AES128-SHA256"}, [](SSL_CTX* c) { SSL_CTX_set_cipher_list(c, "ALL"); }},
        {"suite", {.version = TLS1_3_VERSION, .suites13 = "TLS_AES_128_CCM_SHA256"}, [](SSL_CTX* c) { SSL_CTX_set_ciphersuites(c, "TLS_AES_128_CCM_SHA256"); }},
        {"group", {.version = TLS1_3_VERSION, .groups = "P-521"}, [](SSL_CTX* c) { SSL_CTX_set1_groups_list(c, "P-521"); }},
        {"group", {.version = TLS1_2_VERSION, .groups = "P-521:P-256"}, [](SSL_CTX* c) { SSL_CTX_set1_groups_list(c, "P-521:P-256"); }},
        {"signature scheme", {.version = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-AES128-GCM-SHA256", .schemes = "rsa_pkcs1_sha256"},
         [](SSL_CTX* c) { SSL_CTX_set1_sigalgs_list(c, "rsa_pkcs1_sha256"); }},
        {"version", {.version = TLS1_1_VERSION, .suites12 = "ALL:@SECLEVEL=0"},
         [](SSL_CTX* c) {
             SSL_CTX_set_security_level(c, 0);
             SSL_CTX_set_min_proto_version(c, TLS1_VERSION);
             SSL_CTX_set_cipher_list(c, "ALL:@SECLEVEL=0");
             SSL_CTX_set1_sigalgs_list(c, "RSA+SHA1:ECDSA+SHA1");
         }},
        {"extended_master_secret", {.version = TLS1_2_VERSION}, [](SSL_CTX* c) { SSL_CTX_set_options(c, SSL_OP_NO_EXTENDED_MASTER_SECRET); }},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.what);
        const auto context = context_of(basic_service());
        row.loosen(context->get());
        const auto peer = peer_context(row.options);
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.reason, EndReason::client_handshake_refused);
        EXPECT_THAT(result.failure.text, HasSubstr(row.what));
        EXPECT_THAT(result.failure.text, HasSubstr("12.1."));
        EXPECT_EQ(result.all_output.size(), 7U);  // the alert in place of the flight
        EXPECT_EQ(client.alert_received(), result.failure.alert);
    }
}

TEST(ServerHandshake, EarlyData_IsSkippedAndNotAccepted) {
    // A ticket of another server that allows early data.
    const test::Identity leaf = make_leaf({"a.example"}, files().ca);
    const auto elsewhere = peer_context({.server = true, .version = TLS1_3_VERSION, .identity = &leaf});
    SSL_CTX_set_max_early_data(elsewhere.get(), 16384);
    const auto peer = peer_context({.version = TLS1_3_VERSION});
    openssl::Session session;
    {
        Peer server(elsewhere.get(), true);
        Peer client = make_client(peer.get());
        const Octets tickets = server.feed(client.feed(server.feed(client.feed({}))));
        ASSERT_TRUE(client.read(tickets));
        session = session_of(client);
    }
    ASSERT_GT(SSL_SESSION_get_max_early_data(session.get()), 0U);
    Peer client = make_client(peer.get(), "a.example", session.get());
    const Octets early = client.write_early("early data, to be skipped");
    ServerHandshake server(context_of(basic_service()));
    Octets output;
    ASSERT_EQ(server.feed(early, output), Step::more) << server.failure().text;
    Octets finished = client.feed(output);
    output.clear();
    ASSERT_EQ(server.feed(finished, output), Step::done) << server.failure().text;
    EXPECT_FALSE(server.negotiated().resumed);
    EXPECT_EQ(SSL_get_early_data_status(client.ssl()), SSL_EARLY_DATA_REJECTED);
    RecordLayer records(server.take_handed().handoff);
    EXPECT_EQ(records.open(client.write("data")), std::optional<std::string>("data"));
}

TEST(ServerHandshake, VersionThatTheServiceDoesNotSpeak_ProtocolVersion) {
    auto service = basic_service();
    for (const bool only13 : {true, false}) {
        service.versions = {only13 ? configuration::TlsVersion::tls13 : configuration::TlsVersion::tls12};
        const auto context = context_of(service);
        const auto peer = peer_context({.version = only13 ? TLS1_2_VERSION : TLS1_3_VERSION});
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.alert, SSL_AD_PROTOCOL_VERSION) << result.failure.text;
    }
}

TEST(ServerHandshake, NoExtendedMasterSecretMatters_OnlyWhenTls12IsChosen) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.extended_master_secret = false});
    Peer client = make_client(peer.get());
    EXPECT_EQ(shake(context, client).step, Step::done);
}

TEST(ServerHandshake, OctetsBehindFinishedInItsFlight_OnTls12_AreNotConsumed) {
    // A renegotiation attempt: what follows Finished is the dataplane's to refuse.
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_2_VERSION});
    Peer client = make_client(peer.get());
    const Result result = shake(context, client);
    ASSERT_EQ(result.step, Step::done);
    SSL_renegotiate(client.ssl());
    const Octets hello = client.feed({});
    ASSERT_FALSE(hello.empty());
    EXPECT_EQ(hello[0], std::byte{22});  // a protected handshake record, for the dataplane
    EXPECT_EQ(result.consumed, result.client_stream.size());
}

// What the policy's list says of other refusals.

TEST(ServerHandshake, Violations_ByTheList) {
    const auto context = context_of(basic_service());
    const auto violation_of = [&](const PeerOptions& options, const char* name, long mode = 0) {
        const auto peer = peer_context(options);
        Peer client = make_client(peer.get(), name);
        if (mode != 0) SSL_set_mode(client.ssl(), mode);
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        if (!result.failure.violation) return std::string("none: ") + result.failure.text;
        EXPECT_EQ(result.failure.alert, policy::text(*result.failure.violation).alert);
        EXPECT_EQ(client.alert_received(), result.failure.alert);
        EXPECT_FALSE(result.hello_accepted);
        return std::string(policy::text(*result.failure.violation).name);
    };
    EXPECT_EQ(violation_of({}, "unknown.example"), "unknown_name");
    EXPECT_EQ(violation_of({.alpn = "foo"}, "a.example"), "no_application_protocol");
    EXPECT_EQ(violation_of({.version = TLS1_2_VERSION}, "a.example", SSL_MODE_SEND_FALLBACK_SCSV), "downgrade");
}

TEST(ServerHandshake, PlainText_IsAViolationWithoutAlert) {
    ServerHandshake server(context_of(basic_service()));
    Octets output;
    ASSERT_EQ(server.feed(octets_of("GET / HTTP/1.1\r\n"), output), Step::failed);
    EXPECT_TRUE(server.failure().violation == Violation::plain_text);
    EXPECT_TRUE(output.empty());
}

TEST(ServerHandshake, Tls13WithCompression_IllegalParameter) {
    const auto peer = peer_context({.version = TLS1_3_VERSION});
    Peer client = make_client(peer.get());
    Octets hello = client.feed({});
    // Record and message header, version, random, session id, suites; then one compression method, of which we make another.
    std::size_t at = 5 + 4 + 2 + 32;
    at += 1 + std::to_integer<std::size_t>(hello[at]);
    at += 2 + (std::to_integer<std::size_t>(hello[at]) << 8 | std::to_integer<std::size_t>(hello[at + 1]));
    ASSERT_EQ(hello[at], std::byte{1});
    hello[at + 1] = std::byte{1};
    ServerHandshake server(context_of(basic_service()));
    Octets output;
    EXPECT_EQ(server.feed(hello, output), Step::failed);
    EXPECT_TRUE(server.failure().violation == Violation::compression) << server.failure().text;
    EXPECT_EQ(server.failure().alert, SSL_AD_ILLEGAL_PARAMETER);
}

// The brake.

TEST(ServerHandshake, Admit_IsAskedOnceBeforeAnythingIsSent) {
    const auto context = context_of(basic_service());
    for (const std::string groups : {"", "P-521:X25519"}) {   // with HelloRetryRequest too
        int asked = 0;
        const auto peer = peer_context({.version = TLS1_3_VERSION, .groups = groups, .alpn = "h2"});
        Peer client = make_client(peer.get());
        const Served served = serve(context, client, [&](const Offer& offer) {
            ++asked;
            EXPECT_EQ(offer.server_name, "a.example");
            EXPECT_THAT(offer.alpn, testing::ElementsAre("h2"));
            EXPECT_FALSE(offer.resumes);
            EXPECT_EQ(offer.ja4, "") << "hashed before the brake had its say";
            return true;
        });
        EXPECT_EQ(served.step, Step::done) << served.failure.text;
        EXPECT_EQ(asked, 1);
        EXPECT_THAT(served.offer.ja4, testing::StartsWith("t13d"));
    }
}

TEST(ServerHandshake, NotAdmitted_EndsWithoutAnAlert) {
    const auto context = context_of(basic_service());
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer client = make_client(peer.get());
        const Served served = serve(context, client, [](const Offer&) { return false; });
        EXPECT_EQ(served.step, Step::failed);
        EXPECT_EQ(served.failure.reason, EndReason::client_braked);
        EXPECT_EQ(served.failure.alert, -1);
        EXPECT_FALSE(served.failure.violation);
        EXPECT_TRUE(served.output.empty());
        EXPECT_EQ(served.offer.server_name, "a.example");
    }
}

/// A ClientHello with so many suites, in as many records as it takes.
Octets hello_with_suites(std::size_t count) {
    std::string body("\x03\x03", 2);
    body += std::string(32, 'r') + std::string(1, '\0');
    body += {static_cast<char>(2 * count >> 8), static_cast<char>(2 * count)};
    for (std::size_t i = 0; i < count; ++i) body += {'\x12', static_cast<char>(i)};
    body += std::string("\x01\0\0\0", 4);   // no compression, no extensions
    std::string message("\x01", 1);
    for (int i = 2; i >= 0; --i) message += static_cast<char>(body.size() >> (8 * i));
    message += body;
    Octets records;
    for (std::string_view rest = message; !rest.empty();) {
        const std::string_view piece = rest.substr(0, 16384);
        for (const std::size_t octet : {std::size_t{22}, std::size_t{3}, std::size_t{1}, piece.size() >> 8, piece.size() & 0xff}) records.push_back(static_cast<std::byte>(octet));
        const auto octets = octets_of(piece);
        records.insert(records.end(), octets.begin(), octets.end());
        rest.remove_prefix(piece.size());
    }
    return records;
}

TEST(ServerHandshake, AbsurdLists_AreRefusedBeforeTheBrakeAndLeaveLittle) {
    bool asked = false;
    ServerHandshake server(context_of(basic_service()), [&asked](const Offer&) { return asked = true; });
    Octets output;
    EXPECT_EQ(server.feed(hello_with_suites(30'000), output), Step::failed);
    EXPECT_FALSE(asked);
    EXPECT_EQ(server.failure().alert, SSL_AD_ILLEGAL_PARAMETER) << server.failure().text;
    EXPECT_EQ(server.offer().suites.size(), Offer::kMostValues);
    EXPECT_EQ(server.offer().beyond.suites, 30'000 - Offer::kMostValues);
    EXPECT_EQ(server.offer_with_fingerprint().ja4, "");
}

TEST(ServerHandshake, NothingIsMade_BeforeTheFirstWholeRecord) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({});
    Peer client = make_client(peer.get());
    const Octets hello = client.feed({});
    ServerHandshake server(context);
    Octets output;
    for (std::size_t i = 0; i + 1 < hello.size(); ++i) {
        ASSERT_EQ(server.feed(std::span(hello).subspan(i, 1), output), Step::more);
        ASSERT_FALSE(server.begun()) << i;
        ASSERT_EQ(server.consumed(), i + 1);
        ASSERT_TRUE(output.empty());
    }
    EXPECT_EQ(server.feed(std::span(hello).last(1), output), Step::more);
    EXPECT_TRUE(server.begun());
    EXPECT_EQ(server.consumed(), hello.size());
    EXPECT_FALSE(output.empty());
}

TEST(ServerHandshake, KeyLog_IsThereFromTheFirstRecordOn_WhereItWasAskedFor) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_3_VERSION});
    for (const bool wanted : {true, false}) {
        Peer client = make_client(peer.get());
        const Octets hello = client.feed({});
        ServerHandshake server(context);
        if (wanted) server.keep_key_log();
        Octets output;
        ASSERT_EQ(server.feed(std::span(hello).first(3), output), Step::more);
        EXPECT_EQ(server.key_log(), nullptr);
        ASSERT_EQ(server.feed(std::span(hello).subspan(3), output), Step::more);
        ASSERT_EQ(server.key_log() != nullptr, wanted);
        if (wanted) {
            EXPECT_THAT(std::string(server.key_log()->lines()), HasSubstr("CLIENT_HANDSHAKE_TRAFFIC_SECRET "));
        }
    }
}

TEST(ServerHandshake, Admit_KnowsWhatResumes) {
    const auto context = context_of(basic_service());
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer first = make_client(peer.get());
        ASSERT_EQ(serve(context, first).step, Step::done);
        const auto session = session_of(first);
        Peer second = make_client(peer.get(), "a.example", session.get());
        bool resumes = false;
        const Served served = serve(context, second, [&](const Offer& offer) {
            resumes = offer.resumes;
            return true;
        });
        EXPECT_TRUE(resumes);
        EXPECT_TRUE(served.negotiated.resumed);
    }
}

// Stapling, and certificates that are no longer good.

TEST(ServerHandshake, Staple_IsThatOfTheCertificateChosen) {
    auto service = basic_service();
    std::map<bool, Octets> answers;   // by: of the ECDSA certificate
    const auto staple = [&answers](const certificates::CertificateChain& chain) -> std::shared_ptr<const std::vector<std::byte>> {
        answers[chain.ecdsa] = make_ocsp(files().ca, chain.leaf.get());
        return std::make_shared<Octets>(answers[chain.ecdsa]);
    };
    const auto context = make_server_context(basic_configuration(), service, {.staple = staple});
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
        for (const bool ecdsa : {false, true})
            for (const bool asked : {false, true}) {
                const auto peer = peer_context({.version = version, .schemes = ecdsa ? "ecdsa_secp256r1_sha256" : "rsa_pss_rsae_sha256"});
                if (asked) SSL_CTX_set_tlsext_status_type(peer.get(), TLSEXT_STATUSTYPE_ocsp);
                Peer client = make_client(peer.get());
                ASSERT_EQ(serve(context, client).step, Step::done);
                const unsigned char* answer = nullptr;
                const long length = SSL_get_tlsext_status_ocsp_resp(client.ssl(), &answer);
                const auto* begin = reinterpret_cast<const std::byte*>(answer);
                const Octets got = length > 0 ? Octets(begin, begin + length) : Octets();
                EXPECT_EQ(got.empty(), !asked);
                EXPECT_TRUE(got == (asked ? answers.at(ecdsa) : Octets()));
            }
}

TEST(ServerHandshake, RevokedCertificate_IsNotServed) {
    bool rsa = false, ecdsa = false;
    const auto context = make_server_context(basic_configuration(), basic_service(),
                                             {.revoked = [&](const certificates::CertificateChain& chain) { return chain.ecdsa ? ecdsa : rsa; }});
    const auto peer = peer_context({});
    const auto key_type = [&] {
        Peer client = make_client(peer.get());
        const Served served = serve(context, client);
        if (served.step == Step::failed) {
            EXPECT_TRUE(served.failure.violation == Violation::unknown_name);
            EXPECT_EQ(client.alert_received(), SSL_AD_UNRECOGNIZED_NAME);
            EXPECT_THAT(served.failure.text, HasSubstr("revoked"));
            return std::string("none");
        }
        return std::string(served.negotiated.signature_scheme.substr(0, 3));
    };
    EXPECT_EQ(key_type(), "ecd");
    ecdsa = true;
    EXPECT_EQ(key_type(), "rsa");
    rsa = true;
    EXPECT_EQ(key_type(), "none");
}

TEST(ServerContext, TenThousandNames_OneContext_EachFindsItsOwn) {
    // Certificates of one key: what is tested is the finding.
    const test::Identity ca = make_ca("CA"), leaf = make_leaf({"x.example"}, ca);
    configuration::Service service = basic_service();
    service.certificates.clear();
    for (int i = 0; i < 10000; ++i) {
        auto chain = std::make_shared<certificates::CertificateChain>();
        chain->leaf = openssl::share(leaf.certificate.get());
        chain->key = openssl::share(leaf.key.get());
        chain->names = {sallyport::format("n{}.example", i), sallyport::format("*.w{}.example", i)};
        configuration::CertificateFiles files;
        files.chain = std::move(chain);
        service.certificates.push_back(std::move(files));
    }
    const auto context = context_of(service);
    for (const int i : {0, 1, 4711, 9999}) {
        for (const std::string& name : {sallyport::format("n{}.example", i), sallyport::format("any.w{}.example", i)}) {
            const auto set = context->find(name);
            ASSERT_EQ(set.size(), 1U);
            EXPECT_EQ(set.front()->chain, service.certificates[static_cast<std::size_t>(i)].chain);
            const auto peer = peer_context({});
            Peer client = make_client(peer.get(), name.c_str());
            EXPECT_EQ(serve(context, client).step, Step::done);
        }
    }
}

// Sessions.

TEST(ServerHandshake, TicketOfAnotherService_DoesNotResume) {
    const auto tickets = make_ticket_keys({});
    auto service_b = basic_service();
    service_b.name = "other";
    const auto a = context_of(basic_service(), tickets);
    const auto b = context_of(service_b, tickets);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer first = make_client(peer.get());
        const Result full = shake(a, first);
        ASSERT_EQ(full.step, Step::done);
        expect_data_flows(full, first);
        const auto session = session_of(first);
        for (const auto& [context, resumes] : {std::pair{a, true}, {b, false}, {a, true}}) {
            const openssl::Session copy(SSL_SESSION_dup(session.get()));
            Peer client = make_client(peer.get(), "a.example", copy.get());
            const Result result = shake(context, client);
            ASSERT_EQ(result.step, Step::done) << result.failure.text;
            EXPECT_EQ(result.negotiated.resumed, resumes);
        }
    }
}

TEST(ServerHandshake, TicketUnderAnotherNameOrPolicy_DoesNotResume) {
    const auto tickets = make_ticket_keys({});
    auto changed = basic_service();
    changed.alpn = {"http/1.1"};
    const auto context = context_of(basic_service(), tickets);
    const auto same = context_of(basic_service(), tickets);
    const auto policy = context_of(changed, tickets);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer first = make_client(peer.get());
        const Result full = shake(context, first);
        expect_data_flows(full, first);
        const auto session = session_of(first);
        const auto resumes = [&](const std::shared_ptr<const ServerContext>& with, const char* name) {
            const openssl::Session copy(SSL_SESSION_dup(session.get()));
            Peer client = make_client(peer.get(), name, copy.get());
            const Result result = shake(with, client);
            EXPECT_EQ(result.step, Step::done) << result.failure.text;
            return result.negotiated.resumed;
        };
        EXPECT_TRUE(resumes(context, "a.example"));
        EXPECT_TRUE(resumes(same, "a.example"));  // a reload that changes nothing
        EXPECT_FALSE(resumes(context, "y.wild.example"));
        EXPECT_FALSE(resumes(policy, "a.example"));
    }
}

TEST(ServerHandshake, NumberOfTickets_IsTheConfigured) {
    for (const std::uint8_t count : {0, 1, 4}) {
        auto service = basic_service();
        service.session_tickets = count;
        const auto context = context_of(service);
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
            const auto peer = peer_context({.version = version});
            Peer client = make_client(peer.get());
            const Result result = shake(context, client);
            ASSERT_EQ(result.step, Step::done);
            EXPECT_EQ(result.handed->handoff.write_sequence, version == TLS1_3_VERSION ? count : 1);
            expect_data_flows(result, client);
            const auto session = session_of(client);
            EXPECT_EQ(SSL_SESSION_has_ticket(session.get()), count > 0 ? 1 : 0);
            Peer again = make_client(peer.get(), "a.example", session.get());
            const Result second = shake(context, again);
            ASSERT_EQ(second.step, Step::done);
            EXPECT_EQ(second.negotiated.resumed, count > 0);
        }
    }
}

/// All sessions that a client is given, in order.
std::vector<openssl::Session>* given = nullptr;
void keep_what_is_given(SSL_CTX* client, std::vector<openssl::Session>& sessions) {
    given = &sessions;
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client, [](SSL*, SSL_SESSION* session) {
        given->emplace_back(session);
        return 1;
    });
}

std::string ticket_of(const SSL_SESSION* session) {
    const unsigned char* octets = nullptr;
    std::size_t length = 0;
    SSL_SESSION_get0_ticket(session, &octets, &length);
    return {reinterpret_cast<const char*>(octets), length};
}

TEST(ServerHandshake, TicketsOfOneHandshake_AllResumeAndEachBringsAnother) {
    auto service = basic_service();
    service.session_tickets = 3;
    const auto tickets = make_ticket_keys({});
    const auto context = context_of(service, tickets);
    for (const char* suite : {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}) {
        const auto peer = peer_context({.version = TLS1_3_VERSION, .suites13 = suite, .alpn = "h2"});
        std::vector<openssl::Session> first, later, last;
        keep_what_is_given(peer.get(), first);
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        ASSERT_EQ(result.step, Step::done);
        ASSERT_EQ(first.size(), 3U) << suite;
        keep_what_is_given(peer.get(), later);
        std::set<std::string> seen;
        for (const auto& session : first) {
            EXPECT_TRUE(seen.insert(ticket_of(session.get())).second);
            EXPECT_EQ(SSL_SESSION_get_ticket_lifetime_hint(session.get()), static_cast<unsigned long>(tickets->ticket_lifetime().count()));
            EXPECT_EQ(SSL_SESSION_get_max_early_data(session.get()), 0U);
            Peer again = make_client(peer.get(), "a.example", session.get());
            const Result resumed = shake(context, again);
            ASSERT_EQ(resumed.step, Step::done) << suite << ": " << resumed.failure.text;
            EXPECT_TRUE(resumed.negotiated.resumed);
            EXPECT_EQ(resumed.negotiated.alpn, "h2");
            EXPECT_EQ(resumed.handed->handoff.write_sequence, 1U);
            expect_data_flows(resumed, again);
        }
        ASSERT_EQ(later.size(), 3U);
        keep_what_is_given(peer.get(), last);
        for (const auto& session : later) {   // and so on
            EXPECT_TRUE(seen.insert(ticket_of(session.get())).second);
            Peer again = make_client(peer.get(), "a.example", session.get());
            EXPECT_TRUE(shake(context, again).negotiated.resumed);
        }
        EXPECT_EQ(last.size(), 3U);
    }
}

TEST(ServerHandshake, TicketsOfHandshakesSideBySide_HaveTheirOwnSecrets) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_3_VERSION});
    std::vector<openssl::Session> sessions;
    keep_what_is_given(peer.get(), sessions);
    Peer one = make_client(peer.get()), other = make_client(peer.get());
    ServerHandshake for_one(context), for_other(context);
    Octets to_one, to_other;
    ASSERT_EQ(for_one.feed(one.feed({}), to_one), Step::more);
    ASSERT_EQ(for_other.feed(other.feed({}), to_other), Step::more);
    const Octets last_of_one = one.feed(to_one), last_of_other = other.feed(to_other);
    to_one.clear();
    to_other.clear();
    ASSERT_EQ(for_other.feed(last_of_other, to_other), Step::done);
    ASSERT_EQ(for_one.feed(last_of_one, to_one), Step::done);
    one.read(to_one);
    other.read(to_other);
    std::vector<openssl::Session> later;
    keep_what_is_given(peer.get(), later);
    ASSERT_EQ(sessions.size(), 4U);
    for (const auto& session : sessions) {
        Peer again = make_client(peer.get(), "a.example", session.get());
        EXPECT_TRUE(shake(context, again).negotiated.resumed);
    }
}

TEST(ServerHandshake, TicketOfADestroyedKey_DoesNotResume) {
    std::chrono::system_clock::time_point now{};
    constexpr std::chrono::hours kPeriod{1};
    const auto tickets = std::make_shared<TicketKeys>(TicketKeys::Settings{.period = kPeriod}, [&now] { return now; });
    const auto context = context_of(basic_service(), tickets);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer first = make_client(peer.get());
        expect_data_flows(shake(context, first), first);
        const auto session = session_of(first);
        const auto resumes = [&] {
            const openssl::Session copy(SSL_SESSION_dup(session.get()));
            Peer client = make_client(peer.get(), "a.example", copy.get());
            const Result result = shake(context, client);
            EXPECT_EQ(result.step, Step::done) << result.failure.text;
            return result.negotiated.resumed;
        };
        now += 2 * kPeriod;
        EXPECT_TRUE(resumes());
        now += kPeriod;
        EXPECT_FALSE(resumes());
    }
}

// What is no TLS.

TEST(ServerHandshake, FirstOctetsNoTls_FailsSilently) {
    const auto context = context_of(basic_service());
    for (const std::string_view text : {std::string_view("GET / HTTP/1.1\r\n\r\n"), std::string_view("SSH-2.0-x\r\n"), std::string_view("\0\0\0\0\0\0", 6), std::string_view("\x16\x02\x01\x00\x05", 5),
                                        std::string_view("\x17\x03\x03\x00\x20", 5), std::string_view("\x15\x03\x01\x00\x02\x02\x28", 7), std::string_view("\x16\x03\x01\x00\x00", 5),
                                        std::string_view("\x16\x03\x01\x40\x01", 5), std::string_view("\x80\x2e\x01\x03\x01", 5), std::string_view("G")}) {
        for (const bool each : {false, true}) {
            ServerHandshake server(context);
            Octets output;
            Step step = Step::more;
            for (std::size_t at = 0; at < text.size() && step == Step::more; at += each ? 1 : text.size()) step = server.feed(octets_of(text).subspan(at, each ? 1 : text.size()), output);
            EXPECT_EQ(step, Step::failed);
            EXPECT_EQ(server.failure().reason, EndReason::client_not_tls);
            EXPECT_EQ(server.failure().alert, -1);
            EXPECT_TRUE(output.empty());
        }
    }
}

TEST(ServerHandshake, RecordTooLongAfterTheHello_RecordOverflow) {
    const auto context = context_of(basic_service());
    const auto peer = peer_context({.version = TLS1_3_VERSION});
    Peer client = make_client(peer.get());
    ServerHandshake server(context);
    Octets output;
    ASSERT_EQ(server.feed(client.feed({}), output), Step::more);
    client.feed(output);
    output.clear();
    EXPECT_EQ(server.feed(octets_of(std::string_view("\x17\x03\x03\x48\x01", 5)), output), Step::failed);
    EXPECT_EQ(server.failure().alert, SSL_AD_RECORD_OVERFLOW) << server.failure().text;
    client.read(output);
    EXPECT_EQ(client.alert_received(), SSL_AD_RECORD_OVERFLOW);
}

TEST(ServerHandshake, EndlessHandshake_IsCutOff) {
    const auto context = context_of(basic_service());
    ServerHandshake server(context);
    // Fragments of a ClientHello that says it has 2^17 octets.
    Octets record{std::byte{22}, std::byte{3}, std::byte{1}, std::byte{0x40}, std::byte{0}};
    record.resize(5 + 0x4000);
    record[5] = std::byte{1};
    record[6] = std::byte{1};
    Step step = Step::more;
    Octets output;
    std::size_t fed = 0;
    while (step == Step::more && fed < 1'000'000) {
        step = server.feed(record, output);
        fed += record.size();
    }
    EXPECT_EQ(step, Step::failed);
    EXPECT_LE(fed, 100'000U);
    EXPECT_EQ(server.failure().reason, EndReason::client_handshake_refused);
    EXPECT_FALSE(output.empty());
}

TEST(ServerHandshake, ClientsAlert_IsReported) {
    const auto context = context_of(basic_service());
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        SSL_CTX_set_verify(peer.get(), SSL_VERIFY_PEER, nullptr);  // trusts nobody
        Peer client = make_client(peer.get());
        const Result result = shake(context, client);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.reason, EndReason::client_alert);
        EXPECT_EQ(result.failure.alert, SSL_AD_UNKNOWN_CA);
        EXPECT_TRUE(result.failure.alert_received);
        EXPECT_EQ(result.failure.text, "the client sent alert unknown_ca (48)");
    }
}

TEST(ServerHandshake, CorruptFinished_FailsWithAnAlert) {
    const auto context = context_of(basic_service());
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer client = make_client(peer.get());
        ServerHandshake server(context);
        Octets output;
        ASSERT_EQ(server.feed(client.feed({}), output), Step::more);
        Octets last = client.feed(output);
        last.back() ^= std::byte{1};
        output.clear();
        EXPECT_EQ(server.feed(last, output), Step::failed);
        EXPECT_EQ(server.failure().alert, SSL_AD_BAD_RECORD_MAC);
        EXPECT_FALSE(output.empty());
    }
}

TEST(ServerHandshake, MutatedInput_NeverCrashesNorCompletesWithoutAnswer) {
    const auto context = context_of(basic_service());
    std::mt19937 random(20261124);
    const auto pick = [&](std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random); };
    for (int round = 0; round < 1500; ++round) {
        const auto peer = peer_context({.version = round % 2 == 0 ? TLS1_2_VERSION : TLS1_3_VERSION, .groups = "X25519"});
        Peer client = make_client(peer.get());
        ServerHandshake server(context);
        Octets output;
        Octets flight = client.feed({});
        const int mutated_flight = static_cast<int>(pick(2));
        Step step = Step::more;
        for (int i = 0; i < 2 && step == Step::more; ++i) {
            if (i == mutated_flight) {
                switch (pick(4)) {
                    case 0: flight[pick(flight.size())] = static_cast<std::byte>(pick(256)); break;
                    case 1: flight.resize(pick(flight.size())); break;
                    case 2: flight.insert(flight.begin() + static_cast<std::ptrdiff_t>(pick(flight.size())), static_cast<std::byte>(pick(256))); break;
                    default: for (int n = 0; n < 20; ++n) flight[pick(flight.size())] = static_cast<std::byte>(pick(256));
                }
            }
            if (flight.empty()) break;
            step = server.feed(flight, output);
            if (step == Step::more) flight = client.feed(output);
            output.clear();
            if (flight.empty()) break;
        }
        EXPECT_EQ(server.failure().reason != EndReason::none, step == Step::failed);
        EXPECT_EQ(!server.failure().text.empty(), step == Step::failed);
    }
}

TEST(ServerContext, BrokenCertificate_Throws) {
    auto service = basic_service();
    service.certificates.front().key = files().ecdsa.key;
    EXPECT_THROW(static_cast<void>(context_of(service)), std::runtime_error);
    service.certificates.clear();
    EXPECT_THROW(static_cast<void>(context_of(service)), std::runtime_error);
}

// Ticket keys.

TEST(TicketKeys, Rotation_KeepsTwoOldOnes) {
    std::chrono::system_clock::time_point now{};
    constexpr std::chrono::minutes kPeriod{7};
    TicketKeys keys({.period = kPeriod}, [&now] { return now; });
    EXPECT_EQ(keys.count(), 1U);
    for (const std::size_t expected : {2U, 3U, 3U, 3U}) {
        now += kPeriod - std::chrono::seconds(1);
        const std::size_t before = keys.count();
        keys.rotate();
        EXPECT_EQ(keys.count(), before);
        now += std::chrono::seconds(1);
        keys.rotate();
        EXPECT_EQ(keys.count(), expected);
    }
    now += 2 * kPeriod;  // one period passed unused
    keys.rotate();
    EXPECT_EQ(keys.count(), 2U);
    now += 100 * kPeriod;
    keys.rotate();
    EXPECT_EQ(keys.count(), 1U);
}

TicketKeys::Settings derived(std::string_view secret, std::chrono::seconds period = std::chrono::minutes(10)) {
    TicketKeys::Settings settings{.period = period};
    settings.secret.assign(octets_of(secret));
    return settings;
}

/// Whether a ticket that `sealer` seals can be opened by `opener`: 1 and 2 as libssl's callback has them.
int opened(TicketKeys& sealer, TicketKeys& opener) {
    std::array<unsigned char, 16> name{}, iv{};
    const openssl::Owner<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> sealing(EVP_CIPHER_CTX_new()), opening(EVP_CIPHER_CTX_new());
    const openssl::Owner<EVP_MAC, EVP_MAC_free> hmac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
    const openssl::Owner<EVP_MAC_CTX, EVP_MAC_CTX_free> mac(EVP_MAC_CTX_new(hmac.get())), other(EVP_MAC_CTX_new(hmac.get()));
    EXPECT_EQ(sealer.seal(name.data(), iv.data(), sealing.get(), mac.get()), 1);
    const int result = opener.open(name.data(), iv.data(), opening.get(), other.get());
    if (result <= 0) return result;
    std::array<unsigned char, 32> sealed{}, plain{};
    int length = 0, more = 0;
    EXPECT_EQ(EVP_EncryptUpdate(sealing.get(), sealed.data(), &length, reinterpret_cast<const unsigned char*>("0123456789abcdef"), 16), 1);
    EXPECT_EQ(EVP_EncryptFinal_ex(sealing.get(), sealed.data() + length, &more), 1);
    EXPECT_EQ(EVP_DecryptUpdate(opening.get(), plain.data(), &length, sealed.data(), 32), 1);
    EXPECT_EQ(EVP_DecryptFinal_ex(opening.get(), plain.data() + length, &more), 1);
    return result;
}

TEST(TicketKeys, DerivedFromTheSameSecret_Agree) {
    const std::string secret(32, 's'), other(32, 't');
    auto now_a = std::chrono::system_clock::time_point(std::chrono::hours(500000)), now_b = now_a;
    TicketKeys a(derived(secret), [&] { return now_a; }), b(derived(secret), [&] { return now_b; }), stranger(derived(other), [&] { return now_b; }),
        longer(derived(secret, std::chrono::minutes(20)), [&] { return now_b; });
    EXPECT_EQ(opened(a, b), 1);
    EXPECT_EQ(opened(b, a), 1);
    EXPECT_EQ(opened(a, stranger), 0);
    EXPECT_EQ(opened(a, longer), 0);
    // One of them is ahead by less than the skew, at the edge of a period.
    now_a += std::chrono::minutes(11);
    now_b += std::chrono::minutes(8);
    EXPECT_EQ(opened(a, b), 2);   // opens, and is to be renewed under the key of now
    EXPECT_EQ(opened(b, a), 2);
    // Two periods are remembered, a third is not.
    now_a = now_b + std::chrono::minutes(20);
    EXPECT_EQ(opened(b, a), 2);
    now_a = now_b + std::chrono::minutes(30);
    EXPECT_EQ(opened(b, a), 0);
    EXPECT_LE(a.count(), TicketKeys::kOldKeys + 2);
}

TEST(TicketKeys, DerivedKeys_OpenAfterARestart) {
    auto now = std::chrono::system_clock::time_point(std::chrono::hours(500000));
    TicketKeys before(derived(std::string(40, 'x')), [&] { return now; });
    now += std::chrono::minutes(15);
    TicketKeys after(derived(std::string(40, 'x')), [&] { return now; });
    auto then = now - std::chrono::minutes(15);
    TicketKeys old(derived(std::string(40, 'x')), [&] { return then; });
    EXPECT_EQ(opened(old, after), 2);
}

TEST(TicketKeys, SecretFile_MustBeLongAndPrivate) {
    const TemporaryDirectory directory;
    const auto make = [&](std::size_t length, unsigned mode) {
        static_cast<void>(make_ticket_keys({.period_s = 60, .secret = directory.write("secret", std::string(length, 'k'), mode)}));
    };
    EXPECT_NO_THROW(make(32, 0600));
    EXPECT_THROW(make(31, 0600), std::runtime_error);
    std::filesystem::remove(directory.path() / "secret");
    EXPECT_THROW(make(32, 0644), std::runtime_error);
    EXPECT_THROW(static_cast<void>(make_ticket_keys({.period_s = 60, .secret = directory.path() / "none"})), std::runtime_error);
}

}  // namespace
}  // namespace sallyport::handshake
