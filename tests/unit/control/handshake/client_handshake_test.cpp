#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "control/handshake/client_context.h"
#include "control/handshake/server_context.h"
#include "control/policy/catalogue.h"
#include "crypto/format.h"
#include "harness.h"

namespace sallyport::handshake {
namespace {

using namespace test;
using channel::EndReason;
using testing::HasSubstr;

constexpr const char* kName = "backend.example";

struct Anchors {
    TemporaryDirectory directory;
    test::Identity ca = make_ca("Backend CA", nullptr, Key::rsa2048);   // signs with PKCS#1 v1.5, as most internal CAs do
    test::Identity other_ca = make_ca("Other CA");
    test::Identity intermediate = make_ca("Backend intermediate", &ca);
    test::Identity rsa = make_leaf({kName}, ca, Key::rsa2048);
    test::Identity ecdsa = make_leaf({kName}, ca);
    std::filesystem::path ca_file = directory.write("ca.pem", ca.certificate_pem());
    std::filesystem::path intermediate_file = directory.write("intermediate.pem", make_pem(intermediate));

    static std::string make_pem(const test::Identity& identity) {
        const std::string pem = identity.certificate_pem();
        return pem.substr(0, pem.find("-----BEGIN", 1));
    }
};

const Anchors& anchors() {
    static const Anchors all;
    return all;
}

configuration::Pool basic_pool() {
    configuration::Pool pool;
    pool.name = "pool";
    pool.tls = configuration::BackendTls{};
    pool.tls->trust = {anchors().ca_file};
    pool.tls->server_name = kName;
    pool.tls->versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    return pool;
}

std::shared_ptr<ClientContext> context_of(const configuration::Pool& pool = basic_pool()) {
    configuration::Configuration configuration;
    configuration.policy_level = 1;
    return make_client_context(configuration, pool, {});
}

struct Result {
    Step step = Step::more;
    std::optional<Handed> handed;
    Failure failure;
    Negotiated negotiated;
    std::uint64_t consumed = 0;
    Octets server_stream;        ///< all that the server wrote until the client was done
    Octets after;                ///< what the server answered to the client's last flight (tickets)
    std::unique_ptr<ClientHandshake> client;
};

/// Runs a handshake to its end. `early`: data that the server sends together with its last flight (TLS 1.2).
Result shake(const std::shared_ptr<ClientContext>& context, Peer& server, std::string_view alpn = {}, std::string_view early = {},
             bool octet_by_octet = false, std::string_view identity = "member") {
    Result result;
    result.client = std::make_unique<ClientHandshake>(context, alpn, identity);
    Octets to_server;
    result.step = result.client->start(to_server);
    while (result.step == Step::more && !to_server.empty()) {
        Octets to_client = server.feed(to_server);
        if (server.done() && !early.empty()) {
            const Octets data = server.write(early);
            to_client.insert(to_client.end(), data.begin(), data.end());
        }
        result.server_stream.insert(result.server_stream.end(), to_client.begin(), to_client.end());
        to_server.clear();
        if (octet_by_octet) {
            for (std::size_t i = 0; i < to_client.size() && result.step == Step::more; ++i)
                result.step = result.client->feed(std::span(to_client).subspan(i, 1), to_server);
        } else {
            result.step = result.client->feed(to_client, to_server);
        }
    }
    result.consumed = result.client->consumed();
    result.negotiated = result.client->negotiated();
    result.failure = result.client->failure();
    if (!to_server.empty()) result.after = server.feed(to_server);
    if (result.step == Step::done) result.handed = result.client->take_handed();
    return result;
}

/// What the dataplane does: opens what follows, passes ticket records on, then data both ways.
void expect_data_flows(const Result& result, Peer& server, std::string_view early = {}) {
    ASSERT_TRUE(result.handed);
    ASSERT_TRUE(server.done());
    RecordLayer records(result.handed->handoff);
    EXPECT_EQ(records.open(std::span(result.server_stream).subspan(result.consumed)), std::optional<std::string>(early));
    if (result.negotiated.version == TLS1_3_VERSION) {
        EXPECT_EQ(records.open(result.after), std::optional<std::string>(""));  // NewSessionTickets under the application key
        for (const auto ticket : records_of(result.after)) result.client->ticket_record(ticket);
    }
    for (const std::string_view text : {"hello", "a second record"}) {
        EXPECT_EQ(records.open(server.write(text)), std::optional<std::string>(text));
        EXPECT_EQ(server.read(records.seal(text)), std::optional<std::string>(text));
    }
}

openssl::Context server_context(PeerOptions options, const test::Identity& identity = anchors().ecdsa) {
    options.server = true;
    options.identity = &identity;
    auto context = peer_context(options);
    SSL_CTX_set_session_id_context(context.get(), reinterpret_cast<const unsigned char*>("peer"), 4);
    return context;
}

TEST(ClientHandshake, EverySuiteVersionKeyAndGroup_DataFlowsBothWays) {
    const auto context = context_of();
    for (const bool ecdsa : {false, true})
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
            for (const policy::Suite& suite : policy::kSuites)
                for (const policy::Group& group : policy::kGroups) {
                    const bool signs_ecdsa = suite.name.contains("ECDSA");
                    if (suite.version != version || group.oldest_version > version || (version == TLS1_2_VERSION && signs_ecdsa != ecdsa)) continue;
                    SCOPED_TRACE(sallyport::format("{} {} {}", suite.name, group.name, ecdsa ? "ECDSA" : "RSA"));
                    PeerOptions options{.version = version, .groups = std::string(group.openssl_name)};
                    if (version == TLS1_2_VERSION && ecdsa && group.openssl_name != "P-256") options.groups += ":P-256";
                    (version == TLS1_3_VERSION ? options.suites13 : options.suites12) = suite.openssl_name;
                    const auto peer = server_context(options, ecdsa ? anchors().ecdsa : anchors().rsa);
                    for (const bool resumed : {false, true, true}) {
                        // On a full TLS 1.2 handshake the server is done last and may write at once.
                        const std::string early = version == TLS1_2_VERSION && !resumed ? "early" : "";
                        Peer server(peer.get(), true);
                        const Result result = shake(context, server, "", early, false, suite.name);
                        ASSERT_EQ(result.step, Step::done) << result.failure.text;
                        EXPECT_EQ(result.negotiated.resumed, resumed);
                        EXPECT_EQ(result.negotiated.suite, suite.id);
                        EXPECT_EQ(result.negotiated.version, version);
                        EXPECT_EQ(result.negotiated.server_name, kName);
                        EXPECT_THAT(result.negotiated.peer_subject, HasSubstr("CN"));
                        EXPECT_EQ(result.negotiated.signature_scheme.empty(), resumed);
                        const bool key_exchange = version == TLS1_3_VERSION || !resumed;
                        if (!key_exchange) {
                            EXPECT_EQ(result.negotiated.group, 0);
                        } else if (options.groups == group.openssl_name) {
                            EXPECT_EQ(result.negotiated.group, group.id);
                        }
                        expect_data_flows(result, server, early);
                    }
                    while (context->take(std::string(suite.name)) != nullptr && version == TLS1_3_VERSION) {}
                    if (version == TLS1_2_VERSION) break;  // its sessions stay; other groups would resume them
                }
}

TEST(ClientHandshake, OctetByOctet_SameOutcome) {
    const auto context = context_of();
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = server_context({.version = version});
        Peer server(peer.get(), true);
        const std::string_view early = version == TLS1_2_VERSION ? "early" : "";
        const Result result = shake(context, server, "", early, true, std::to_string(version));
        ASSERT_EQ(result.step, Step::done) << result.failure.text;
        expect_data_flows(result, server, early);
    }
}

TEST(ClientHandshake, ClientHello_SaysWhatCertificatesMaySignWith) {
    const auto peer = server_context({});
    static bool asked;
    asked = false;
    SSL_CTX_set_client_hello_cb(peer.get(), [](SSL* ssl, int*, void*) {
        const unsigned char* data = nullptr;
        std::size_t length = 0;
        asked = SSL_client_hello_get0_ext(ssl, 50, &data, &length) == 1 && length == 2 + 2 * (policy::kSignatureSchemes.size() + 3);
        return SSL_CLIENT_HELLO_SUCCESS;
    }, nullptr);
    Peer server(peer.get(), true);
    EXPECT_EQ(shake(context_of(), server).step, Step::done);
    EXPECT_TRUE(asked);
}

TEST(ClientHandshake, ServerName_IsSentForNamesOnly) {
    for (const std::string name : {"backend.example", "192.0.2.7", "2001:db8::7"}) {
        auto pool = basic_pool();
        pool.tls->server_name = name;
        const test::Identity leaf = make_leaf({name}, anchors().ca);
        const auto peer = server_context({}, leaf);
        Peer server(peer.get(), true);
        const Result result = shake(context_of(pool), server);
        ASSERT_EQ(result.step, Step::done) << result.failure.text;
        const char* sent = SSL_get_servername(server.ssl(), TLSEXT_NAMETYPE_host_name);
        EXPECT_EQ(std::string(sent != nullptr ? sent : ""), name == kName ? name : "");
    }
}

// Verification.

void expect_unverified(const test::Identity& identity, const std::string& why, const configuration::Pool& pool = basic_pool()) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        SCOPED_TRACE(sallyport::format("{} {:#x}", why, version));
        const auto peer = server_context({.version = version}, identity);
        Peer server(peer.get(), true);
        const Result result = shake(context_of(pool), server);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.reason, EndReason::backend_unverified);
        EXPECT_THAT(result.failure.text, HasSubstr(why));
        EXPECT_THAT(result.failure.text, HasSubstr("depth"));
        EXPECT_THAT(result.failure.text, HasSubstr("sent to the backend"));
        EXPECT_FALSE(server.done());
        EXPECT_GE(server.alert_received(), 0);
    }
}

TEST(ClientHandshake, UnverifiableBackend_IsRefusedWithTheReason) {
    const Anchors& a = anchors();
    expect_unverified(make_leaf({"other.example"}, a.ca), "hostname mismatch");
    expect_unverified(make_leaf({"*.ckend.example", "b*.example", "*.example.com"}, a.ca), "hostname mismatch");
    expect_unverified(make_leaf({kName}, a.other_ca), "unable to get local issuer certificate");
    expect_unverified(make_identity({.common_name = kName, .names = {kName}}), "self-signed certificate");
    expect_unverified(make_identity({.common_name = "old", .names = {kName}, .not_before_days = -9, .not_after_days = -2}, &a.ca), "certificate has expired");
    expect_unverified(make_identity({.common_name = "early", .names = {kName}, .not_before_days = 2}, &a.ca), "certificate is not yet valid");
    expect_unverified(make_identity({.common_name = "client", .names = {kName}, .extended_key_usage = "clientAuth"}, &a.ca), "purpose");
    expect_unverified(make_identity({.common_name = kName, .names = {"x.example"}}, &a.ca), "hostname mismatch");   // the subject is no name
    expect_unverified(make_identity({.key = Key::rsa1024, .common_name = "weak", .names = {kName}}, &a.ca), "key too weak");
    expect_unverified(make_identity({.common_name = kName, .names = {}}, &a.ca), "hostname mismatch");
    auto pool = basic_pool();
    pool.tls->server_name = "backend.example.org";
    expect_unverified(make_leaf({"b*.example.org"}, a.ca), "hostname mismatch", pool);   // RFC 9525 6.3: the whole label or nothing
    expect_unverified(make_leaf({"*.org"}, a.ca), "hostname mismatch", pool);
    pool.tls->server_name = "192.0.2.7";
    expect_unverified(make_leaf({"192.0.2.8"}, a.ca), "IP address mismatch", pool);
}

TEST(ClientHandshake, CertificateSignedWithSha1_IsRefused) {
    // A backend that reads signature_algorithms_cert does not even send it.
    const auto leaf = make_identity({.common_name = "sha1", .names = {kName}, .digest = "SHA1"}, &anchors().ca);
    const auto peer = server_context({}, leaf);
    Peer server(peer.get(), true);
    EXPECT_EQ(shake(context_of(), server).step, Step::failed);
    EXPECT_FALSE(server.done());
}

TEST(ClientHandshake, SubjectInTheText_IsTheLeafs) {
    const auto leaf = make_identity({.common_name = "who-am-i", .names = {"other.example"}}, &anchors().ca);
    const auto peer = server_context({}, leaf);
    Peer server(peer.get(), true);
    const Result result = shake(context_of(), server);
    EXPECT_THAT(result.failure.text, HasSubstr("who-am-i"));
    EXPECT_THAT(result.failure.text, HasSubstr("depth 0"));
    EXPECT_THAT(result.failure.text, HasSubstr(kName));
}

TEST(ClientHandshake, IntermediateAsAnchor_IsEnough) {
    auto pool = basic_pool();
    pool.tls->trust = {anchors().intermediate_file};
    const test::Identity leaf = make_leaf({kName}, anchors().intermediate);
    const auto peer = server_context({}, leaf);
    Peer server(peer.get(), true);
    EXPECT_EQ(shake(context_of(pool), server).step, Step::done);
    // And what its issuer signed beside it is not trusted.
    expect_unverified(anchors().ecdsa, "issuer", pool);
}

// ALPN.

TEST(ClientHandshake, Alpn_MustBeAgreed_ButForHttp11) {
    struct Row { const char* offer; const char* chosen; bool done; };
    for (const Row& row : {Row{"h2", "h2", true}, {"h2", "", false}, {"http/1.1", "http/1.1", true}, {"http/1.1", "", true}, {"", "", true}, {"foo", "", false}, {"h2", "http/1.1", false}}) {
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
            SCOPED_TRACE(sallyport::format("{} {} {:#x}", row.offer, row.chosen, version));
            const auto peer = server_context({.version = version, .alpn = row.chosen});
            Peer server(peer.get(), true);
            const Result result = shake(context_of(), server, row.offer);
            EXPECT_EQ(result.step, row.done ? Step::done : Step::failed) << result.failure.text;
            if (row.done) {
                EXPECT_EQ(result.negotiated.alpn, row.chosen);
                expect_data_flows(result, server);
            } else {
                EXPECT_EQ(result.failure.reason, EndReason::backend_handshake_failed);
                EXPECT_FALSE(server.done());
            }
        }
    }
}

// The catalogue.

TEST(ClientHandshake, BackendOutsideTheCatalogue_Fails) {
    struct Row { const char* what; PeerOptions options; };
    const std::vector<Row> rows{
        {"TLS 1.1", {.version = TLS1_1_VERSION}},
        {"RSA key transport", {.version = TLS1_2_VERSION, .suites12 = "AES128-GCM-SHA256"}},
        {"CBC", {.version = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-AES128-SHA"}},
        {"CCM on 1.3", {.version = TLS1_3_VERSION, .suites13 = "TLS_AES_128_CCM_SHA256"}},
        {"ffdhe2048", {.version = TLS1_3_VERSION, .groups = "ffdhe2048"}},
        {"P-521", {.version = TLS1_2_VERSION, .groups = "P-521"}},
        {"PKCS#1 v1.5", {.version = TLS1_2_VERSION, .schemes = "rsa_pkcs1_sha256"}},
        {"no extended master secret", {.version = TLS1_2_VERSION, .extended_master_secret = false}},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.what);
        const auto peer = server_context(row.options, anchors().rsa);
        Peer server(peer.get(), true);
        const Result result = shake(context_of(), server);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_EQ(result.failure.reason, EndReason::backend_handshake_failed);
        EXPECT_GE(result.failure.alert, 0) << result.failure.text;
        EXPECT_FALSE(server.done());
    }
}

TEST(ClientHandshake, NoExtendedMasterSecret_AlertBeforeFinished) {
    const auto peer = server_context({.version = TLS1_2_VERSION, .extended_master_secret = false});
    Peer server(peer.get(), true);
    const Result result = shake(context_of(), server);
    EXPECT_EQ(result.step, Step::failed);
    EXPECT_THAT(result.failure.text, HasSubstr("extended_master_secret"));
    EXPECT_EQ(server.alert_received(), SSL_AD_HANDSHAKE_FAILURE);
}

TEST(ClientHandshake, LibraryLessStrictThanTheCatalogue_ReadBackRefuses) {
    struct Row {
        const char* what;
        PeerOptions options;
        std::function<void(SSL_CTX*)> loosen;
    };
    const std::vector<Row> rows{
        {"suite", {.version = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-AES128-SHA"}, [](SSL_CTX* c) { SSL_CTX_set_cipher_list(c, "ALL"); }},
        {"suite", {.version = TLS1_3_VERSION, .suites13 = "TLS_AES_128_CCM_SHA256"}, [](SSL_CTX* c) { SSL_CTX_set_ciphersuites(c, "TLS_AES_128_CCM_SHA256"); }},
        {"group", {.version = TLS1_3_VERSION, .groups = "P-521"}, [](SSL_CTX* c) { SSL_CTX_set1_groups_list(c, "P-521"); }},
        {"signature scheme", {.version = TLS1_2_VERSION, .schemes = "rsa_pkcs1_sha256"}, [](SSL_CTX* c) { SSL_CTX_set1_sigalgs_list(c, "rsa_pkcs1_sha256"); }},
        {"certificate", {}, [](SSL_CTX* c) { SSL_CTX_set_cert_verify_callback(c, [](X509_STORE_CTX* s, void*) { X509_STORE_CTX_set_error(s, X509_V_ERR_CERT_REVOKED); return 1; }, nullptr); }},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.what);
        const auto context = context_of();
        row.loosen(context->get());
        const auto peer = server_context(row.options, anchors().rsa);
        Peer server(peer.get(), true);
        const Result result = shake(context, server);
        EXPECT_EQ(result.step, Step::failed);
        EXPECT_THAT(result.failure.text, HasSubstr(row.what));
        EXPECT_EQ(result.failure.reason, row.what == std::string_view("certificate") ? EndReason::backend_unverified : EndReason::backend_handshake_failed);
        EXPECT_FALSE(server.done());
    }
}

TEST(ClientHandshake, NotTls_FailsAtOnce) {
    const auto context = context_of();
    for (const std::string_view text : {std::string_view("220 smtp.example ESMTP\r\n"), std::string_view("HTTP/1.1 400 Bad Request\r\n"), std::string_view("\x16\x02\x00\x00\x10", 5),
                                        std::string_view("\x16\x03\x03\xff\xff", 5), std::string_view("x")}) {
        ClientHandshake client(context, "", "member");
        Octets output;
        ASSERT_EQ(client.start(output), Step::more);
        output.clear();
        EXPECT_EQ(client.feed(octets_of(text), output), Step::failed);
        EXPECT_EQ(client.failure().reason, EndReason::backend_handshake_failed);
        EXPECT_FALSE(client.failure().text.empty());
    }
}

TEST(ClientHandshake, BackendsAlert_IsReported) {
    const auto peer = server_context({});
    SSL_CTX_set_client_hello_cb(peer.get(), [](SSL*, int* alert, void*) {
        *alert = SSL_AD_ACCESS_DENIED;
        return SSL_CLIENT_HELLO_ERROR;
    }, nullptr);
    Peer server(peer.get(), true);
    const Result result = shake(context_of(), server);
    EXPECT_EQ(result.failure.reason, EndReason::backend_handshake_failed);
    EXPECT_TRUE(result.failure.alert_received);
    EXPECT_EQ(result.failure.text, "the backend sent alert access_denied (49)");
}

// Sessions.

TEST(ClientHandshake, Tls13Tickets_AreUsedOnce) {
    const auto context = context_of();
    const auto peer = server_context({.version = TLS1_3_VERSION, .tickets = 3});
    {
        Peer server(peer.get(), true);
        expect_data_flows(shake(context, server), server);
    }
    EXPECT_EQ(context->sessions(), 3U);
    for (const std::size_t left : {2U, 1U, 0U}) {
        Peer server(peer.get(), true);
        const Result result = shake(context, server);  // its tickets are not passed on
        EXPECT_TRUE(result.negotiated.resumed);
        EXPECT_EQ(context->sessions(), left);
    }
    Peer server(peer.get(), true);
    EXPECT_FALSE(shake(context, server).negotiated.resumed);
}

/// Groups of the ClientHello's key shares, and its supported_groups as they came.
struct Shares {
    std::vector<std::uint16_t> shares;
    std::string groups;
    bool operator==(const Shares&) const = default;
};
std::vector<Shares> seen_hellos;   ///< of the contexts that look()

void look(SSL_CTX* context) {
    seen_hellos.clear();
    SSL_CTX_set_client_hello_cb(context, [](SSL* ssl, int*, void*) {
        Shares seen;
        const unsigned char* data = nullptr;
        std::size_t length = 0;
        if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_groups, &data, &length) == 1) seen.groups.assign(data, data + length);
        if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_key_share, &data, &length) == 1)
            for (std::size_t at = 2; at + 4 <= length; at += 4U + static_cast<std::size_t>(data[at + 2] << 8 | data[at + 3]))
                seen.shares.push_back(static_cast<std::uint16_t>(data[at] << 8 | data[at + 1]));
        seen_hellos.push_back(std::move(seen));
        return SSL_CLIENT_HELLO_SUCCESS;
    }, nullptr);
}

TEST(ClientHandshake, Resumed_OneKeyShareOfTheGroupAgreedTo_UntilItMayHaveLearnedABetterOne) {
    constexpr std::uint16_t kHybrid = 0x11ec, kX25519 = 0x001d, kP384 = 0x0018;
    using Groups = std::vector<std::uint16_t>;
    for (const auto& [name, id] : {std::pair("X25519", kX25519), std::pair("X25519MLKEM768", kHybrid)}) {
        SCOPED_TRACE(name);
        const auto context = context_of();
        const auto peer = server_context({.version = TLS1_3_VERSION, .groups = name, .tickets = 1});
        const auto once = [&](bool resumed, std::uint16_t group) {
            look(peer.get());
            Peer server(peer.get(), true);
            const Result result = shake(context, server);
            ASSERT_EQ(result.step, Step::done) << result.failure.text;
            EXPECT_EQ(result.negotiated.resumed, resumed);
            EXPECT_EQ(result.negotiated.group, group);
            expect_data_flows(result, server);
        };
        once(false, id);
        const Shares first = seen_hellos.front();
        EXPECT_EQ(first.shares, (Groups{kHybrid, kX25519}));
        for (int i = 0; i < 2; ++i) {
            once(true, id);
            ASSERT_EQ(seen_hellos.size(), 1U);
            EXPECT_EQ(seen_hellos.front().shares, Groups{id});
            EXPECT_EQ(seen_hellos.front().groups, first.groups) << "all are still offered";
        }
        // Its tickets go on for ever; what it was once seen to agree to does not.
        auto kept = context->take("member");
        ASSERT_TRUE(kept);
        EXPECT_LE(kept->group_learned, std::chrono::system_clock::now());
        kept->group_learned -= ClientContext::kGroupHolds;
        context->keep("member", std::move(*kept));
        once(true, id);
        EXPECT_EQ(seen_hellos.front(), first);
        once(true, id);
        EXPECT_EQ(seen_hellos.front().shares, Groups{id});
        // It has changed its mind: it asks for another one.
        ASSERT_EQ(SSL_CTX_set1_groups_list(peer.get(), "P-384"), 1);
        once(true, kP384);
        ASSERT_EQ(seen_hellos.size(), 2U) << "a HelloRetryRequest between";
        EXPECT_EQ(seen_hellos.back().shares, Groups{kP384});
        once(true, kP384);
        EXPECT_EQ(seen_hellos.front().shares, Groups{kP384});
    }
}

TEST(ClientHandshake, IdentityOfAMember_IsSharedByItsSessions) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto context = context_of();
        const auto peer = server_context({.version = version, .tickets = 1});
        std::shared_ptr<const Identity> first;
        for (const bool resumed : {false, true, true}) {
            Peer server(peer.get(), true);
            const Result result = shake(context, server);
            ASSERT_EQ(result.step, Step::done) << result.failure.text;
            ASSERT_EQ(result.negotiated.resumed, resumed);
            ASSERT_NE(result.negotiated.identity, nullptr);
            if (!first) first = result.negotiated.identity;
            EXPECT_EQ(result.negotiated.identity, first);
            EXPECT_EQ(result.negotiated.peer_subject, first->subject);
            expect_data_flows(result, server);
        }
    }
}

TEST(ClientHandshake, Sessions_BelongToIdentityAndContext) {
    const auto context = context_of();
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = server_context({.version = version});
        const auto resumed = [&](const std::shared_ptr<ClientContext>& with, std::string_view identity) {
            Peer server(peer.get(), true);
            const Result result = shake(with, server, "", "", false, identity);
            EXPECT_EQ(result.step, Step::done) << result.failure.text;
            expect_data_flows(result, server);
            return result.negotiated.resumed;
        };
        const std::string a = sallyport::format("a{}", version), b = sallyport::format("b{}", version);
        EXPECT_FALSE(resumed(context, a));
        EXPECT_TRUE(resumed(context, a));
        EXPECT_FALSE(resumed(context, b));
        EXPECT_FALSE(resumed(context_of(), a));
        EXPECT_TRUE(resumed(context, a));
    }
}

TEST(ClientHandshake, SessionsAreBounded) {
    const auto context = context_of();
    const auto peer = server_context({.version = TLS1_3_VERSION, .tickets = 40});
    Peer server(peer.get(), true);
    expect_data_flows(shake(context, server), server);
    EXPECT_EQ(context->sessions(), ClientContext::kSessionsPerIdentity);
}

TEST(ClientHandshake, TicketRecordOfSomethingElse_IsIgnored) {
    const auto context = context_of();
    const auto peer = server_context({.version = TLS1_3_VERSION});
    Peer server(peer.get(), true);
    const Result result = shake(context, server);
    ASSERT_EQ(result.step, Step::done);
    Octets garbage(100, std::byte{23});
    result.client->ticket_record(garbage);
    for (const auto ticket : records_of(result.after)) result.client->ticket_record(ticket);  // the SSL object is gone
    EXPECT_EQ(context->sessions(), 0U);
}

TEST(ClientHandshake, MutatedServerFlight_NeverCrashes) {
    const auto context = context_of();
    std::mt19937 random(7);
    const auto pick = [&](std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random); };
    const openssl::Context peers[] = {server_context({.version = TLS1_2_VERSION}), server_context({.version = TLS1_3_VERSION})};
    for (std::size_t round = 0; round < 600; ++round) {
        Peer server(peers[round % 2].get(), true);
        ClientHandshake client(context, "", std::to_string(round));
        Octets output;
        ASSERT_EQ(client.start(output), Step::more);
        Octets flight = server.feed(output);
        switch (pick(3)) {
            case 0: flight[pick(flight.size())] ^= static_cast<std::byte>(1 + pick(255)); break;
            case 1: flight.resize(pick(flight.size())); break;
            default: flight.insert(flight.begin() + static_cast<std::ptrdiff_t>(pick(flight.size())), static_cast<std::byte>(pick(256)));
        }
        output.clear();
        const Step step = client.feed(flight, output);
        EXPECT_EQ(!client.failure().text.empty(), step == Step::failed);
    }
}

// Both of ours.

TEST(Handshake, ServerAndClient_OnSeveralThreads) {
    const Anchors& a = anchors();
    TemporaryDirectory directory;
    a.ecdsa.write(directory.path(), "leaf");
    configuration::Configuration configuration;
    configuration.policy_level = 1;
    configuration::Service service;
    service.name = "service";
    service.certificates.resize(1);
    service.certificates.front().certificate = directory.path() / "leaf.pem";
    service.certificates.front().key = directory.path() / "leaf.key";
    service.alpn = {"h2"};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    const auto server_side = make_server_context(configuration, service, {.tickets = make_ticket_keys({})});
    const auto client_side = context_of();
    const auto work = [&] {
        for (int round = 0; round < 20; ++round) {
            ServerHandshake server(server_side);
            ClientHandshake client(client_side, "h2", "member");
            Octets to_server, to_client;
            Step client_step = client.start(to_server), server_step = Step::more;
            while (server_step == Step::more) {
                server_step = server.feed(to_server, to_client);
                to_server.clear();
                if (client_step == Step::more) {
                    std::uint64_t before = client.consumed();
                    client_step = client.feed(to_client, to_server);
                    to_client.erase(to_client.begin(), to_client.begin() + static_cast<std::ptrdiff_t>(client.consumed() - before));
                }
                if (client_step == Step::failed || to_server.empty()) break;
            }
            ASSERT_EQ(client_step, Step::done) << client.failure().text;
            ASSERT_EQ(server_step, Step::done) << server.failure().text;
            RecordLayer server_records(server.take_handed().handoff), client_records(client.take_handed().handoff);
            ASSERT_EQ(client_records.open(to_client), std::optional<std::string>(""));
            for (const auto ticket : records_of(to_client)) client.ticket_record(ticket);
            ASSERT_EQ(client_records.open(server_records.seal("x")), std::optional<std::string>("x"));
            ASSERT_EQ(server_records.open(client_records.seal("y")), std::optional<std::string>("y"));
        }
    };
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(work);
}

}  // namespace
}  // namespace sallyport::handshake
