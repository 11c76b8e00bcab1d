#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/handshake/server_context.h"
#include "crypto/format.h"
#include "harness.h"

/// Certificates of clients (9.4.5 (12.1.3)): who is let in, what the others are told, and that resumption changes nothing about it.
namespace sallyport::handshake {
namespace {

using namespace test;
using channel::EndReason;
using configuration::ClientAuthMode;
using policy::Violation;
using testing::HasSubstr;

test::Identity client_of(const test::Identity& ca, std::vector<std::string> names = {"client.example"}) {
    return make_identity({.common_name = "a client", .names = std::move(names), .extended_key_usage = "clientAuth"}, &ca);
}

struct World {
    test::Identity server_ca = make_ca("Server CA");
    test::Identity ca = make_ca("Client CA");
    test::Identity other_ca = make_ca("Other client CA");
    test::Identity server = make_leaf({"a.example", "b.example"}, server_ca);
    test::Identity client = client_of(ca, {"client.example", "user@Example.org", "spiffe://example.org/web"});
};

const World& world() {
    static const World all;
    return all;
}

configuration::Service service_with(ClientAuthMode mode, const test::Identity& ca = world().ca) {
    configuration::Service service;
    service.name = "web";
    service.certificates = {loaded(world().server)};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    service.client_auth.mode = mode;
    service.client_auth.anchors = {share(ca.certificate.get())};
    return service;
}

std::shared_ptr<const ServerContext> context_of(const configuration::Service& service, ServerMaterials materials = {}, int level = 1) {
    configuration::Configuration configuration;
    configuration.policy_level = level;
    if (!materials.tickets) materials.tickets = make_ticket_keys({});
    return make_server_context(configuration, service, std::move(materials));
}

openssl::Context peer_with(int version, const test::Identity* identity) { return peer_context({.version = version, .identity = identity}); }

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

void expect_refused(const std::shared_ptr<const ServerContext>& context, const test::Identity* identity, Violation violation, int alert12, int alert13) {
    for (const int version : kVersions) {
        SCOPED_TRACE(sallyport::format("{} {:#x}", policy::text(violation).name, version));
        const auto peer = peer_with(version, identity);
        Peer client(peer.get(), false, "a.example");
        const Served served = serve(context, client);
        EXPECT_EQ(served.step, Step::failed);
        EXPECT_EQ(served.failure.reason, EndReason::client_handshake_refused);
        ASSERT_TRUE(served.failure.violation) << served.failure.text;
        EXPECT_EQ(policy::text(*served.failure.violation).name, policy::text(violation).name);
        const int alert = version == TLS1_2_VERSION ? alert12 : alert13;
        EXPECT_EQ(served.failure.alert, alert) << served.failure.text;
        EXPECT_EQ(client.alert_received(), alert);
        EXPECT_FALSE(served.negotiated.identity);
        EXPECT_TRUE(served.negotiated.peer_subject.empty());
        EXPECT_EQ(served.failure.peer_subject.contains("CN="), identity != nullptr);
    }
}

TEST(MutualTls, VerifiedClient_HasAnIdentity_AlsoWhenResumed) {
    for (const auto mode : {ClientAuthMode::optional, ClientAuthMode::required}) {
        const auto context = context_of(service_with(mode));
        for (const int version : kVersions) {
            SCOPED_TRACE(version);
            const auto peer = peer_with(version, &world().client);
            openssl::Session session;
            for (const bool resumed : {false, true, true}) {
                Peer client(peer.get(), false, "a.example", session.get());
                const Served served = serve(context, client);
                ASSERT_EQ(served.step, Step::done) << served.failure.text;
                EXPECT_EQ(served.negotiated.resumed, resumed);
                ASSERT_TRUE(served.negotiated.identity);
                const auto& identity = *served.negotiated.identity;
                EXPECT_EQ(identity.subject, "CN=a client");
                EXPECT_EQ(identity.common_name, "a client");
                EXPECT_EQ(identity.issuer, "CN=Client CA");
                EXPECT_FALSE(identity.serial.empty());
                EXPECT_THAT(identity.names, testing::ElementsAre("client.example", "user@example.org", "spiffe://example.org/web"));
                ASSERT_EQ(identity.chain.size(), 2U);
                EXPECT_EQ(X509_cmp(identity.chain[0].get(), world().client.certificate.get()), 0);
                EXPECT_EQ(X509_cmp(identity.chain[1].get(), world().ca.certificate.get()), 0);
                EXPECT_GT(identity.certificate.size(), 100U);
                session.reset(SSL_get1_session(client.ssl()));
            }
        }
    }
}

TEST(MutualTls, OffOrNoCertificate_NoIdentity) {
    for (const auto mode : {ClientAuthMode::off, ClientAuthMode::optional}) {
        const auto context = context_of(service_with(mode));
        for (const int version : kVersions) {
            const auto peer = peer_with(version, mode == ClientAuthMode::off ? &world().client : nullptr);
            Peer client(peer.get(), false, "a.example");
            const Served served = serve(context, client);
            ASSERT_EQ(served.step, Step::done) << served.failure.text;
            EXPECT_FALSE(served.negotiated.identity);
        }
    }
}

TEST(MutualTls, NoCertificateWhereRequired_CertificateRequired) {
    expect_refused(context_of(service_with(ClientAuthMode::required)), nullptr, Violation::client_certificate_missing, SSL_AD_HANDSHAKE_FAILURE,
                   SSL_AD_CERTIFICATE_REQUIRED);
}

TEST(MutualTls, CertificateThatCannotBeVerified_IsRefusedEvenWhenOptional) {
    const World& w = world();
    const auto stranger = client_of(w.other_ca);
    const auto self_signed = make_identity({.common_name = "self", .names = {"client.example"}, .extended_key_usage = "clientAuth"});
    const auto expired = make_identity({.common_name = "old", .names = {"client.example"}, .extended_key_usage = "clientAuth", .not_before_days = -9, .not_after_days = -1}, &w.ca);
    const auto early = make_identity({.common_name = "early", .names = {"client.example"}, .extended_key_usage = "clientAuth", .not_before_days = 2}, &w.ca);
    const auto for_servers = make_leaf({"client.example"}, w.ca);
    for (const auto mode : {ClientAuthMode::optional, ClientAuthMode::required}) {
        const auto context = context_of(service_with(mode));
        expect_refused(context, &stranger, Violation::client_certificate_invalid, SSL_AD_UNKNOWN_CA, SSL_AD_UNKNOWN_CA);
        expect_refused(context, &self_signed, Violation::client_certificate_invalid, SSL_AD_UNKNOWN_CA, SSL_AD_UNKNOWN_CA);
        expect_refused(context, &expired, Violation::client_certificate_invalid, SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_EXPIRED);
        expect_refused(context, &early, Violation::client_certificate_invalid, SSL_AD_BAD_CERTIFICATE, SSL_AD_BAD_CERTIFICATE);
        expect_refused(context, &for_servers, Violation::client_certificate_invalid, SSL_AD_UNSUPPORTED_CERTIFICATE, SSL_AD_UNSUPPORTED_CERTIFICATE);
    }
}

TEST(MutualTls, ChainError_NamesDepthAndSubject) {
    const auto stranger = client_of(world().other_ca);
    const auto peer = peer_with(TLS1_3_VERSION, &stranger);
    Peer client(peer.get(), false, "a.example");
    const Served served = serve(context_of(service_with(ClientAuthMode::required)), client);
    EXPECT_THAT(served.failure.chain_error, HasSubstr("depth 0"));
    EXPECT_THAT(served.failure.chain_error, HasSubstr("CN=a client"));
    EXPECT_THAT(served.failure.text, HasSubstr("9.4.5"));
}

TEST(MutualTls, Depth_BoundsIntermediates_AndTheyResume) {
    const auto one = make_ca("One", &world().ca), two = make_ca("Two", &one);
    const auto client_one = client_of(one), client_two = client_of(two);
    auto service = service_with(ClientAuthMode::required);
    service.client_auth.depth = 1;
    const auto context = context_of(service);
    expect_refused(context, &client_two, Violation::client_certificate_invalid, SSL_AD_UNKNOWN_CA, SSL_AD_UNKNOWN_CA);
    for (const int version : kVersions) {
        const auto peer = peer_with(version, &client_one);
        openssl::Session session;
        for (const bool resumed : {false, true}) {
            Peer client(peer.get(), false, "a.example", session.get());
            const Served served = serve(context, client);
            ASSERT_EQ(served.step, Step::done) << served.failure.text;
            EXPECT_EQ(served.negotiated.resumed, resumed);
            ASSERT_TRUE(served.negotiated.identity);
            ASSERT_GE(served.negotiated.identity->chain.size(), 3U);
            EXPECT_EQ(X509_cmp(served.negotiated.identity->chain[1].get(), one.certificate.get()), 0);  // from the ticket
            session.reset(SSL_get1_session(client.ssl()));
        }
    }
}

TEST(MutualTls, IntermediateAsAnchor_IsEnough) {
    const auto one = make_ca("One", &world().ca);
    const auto client_one = client_of(one);
    const auto context = context_of(service_with(ClientAuthMode::required, one));
    const auto peer = peer_with(TLS1_3_VERSION, &client_one);
    Peer client(peer.get(), false, "a.example");
    EXPECT_EQ(serve(context, client).step, Step::done);
    expect_refused(context, &world().client, Violation::client_certificate_invalid, SSL_AD_UNKNOWN_CA, SSL_AD_UNKNOWN_CA);
}

TEST(MutualTls, NamesThatAreLetIn) {
    struct Row {
        std::vector<std::string> list;
        bool in;
    };
    for (const Row& row : {Row{{"client.example"}, true}, {{"*.example"}, true}, {{"x", "Client.Example"}, true}, {{"*.client.example"}, false}, {{"other.example"}, false},
                           {{"user@example.org"}, true}, {{"User@example.org"}, false}, {{"spiffe://example.org/web"}, true}, {{"spiffe://example.org/we"}, false},
                           {{"a client"}, false}, {{"example.org"}, false}}) {
        SCOPED_TRACE(row.list.front());
        auto service = service_with(ClientAuthMode::required);
        service.client_auth.names = row.list;
        const auto context = context_of(service);
        if (!row.in) {
            expect_refused(context, &world().client, Violation::client_name_not_allowed, SSL_AD_ACCESS_DENIED, SSL_AD_ACCESS_DENIED);
            continue;
        }
        const auto peer = peer_with(TLS1_3_VERSION, &world().client);
        Peer client(peer.get(), false, "a.example");
        EXPECT_EQ(serve(context, client).step, Step::done);
    }
}

TEST(MutualTls, ClientIsToldTheCasNames) {
    const auto peer = peer_with(TLS1_3_VERSION, &world().client);
    Peer client(peer.get(), false, "a.example");
    ASSERT_EQ(serve(context_of(service_with(ClientAuthMode::optional)), client).step, Step::done);
    const STACK_OF(X509_NAME)* names = SSL_get0_peer_CA_list(client.ssl());
    ASSERT_EQ(sk_X509_NAME_num(names), 1);
    EXPECT_EQ(openssl::name_text(sk_X509_NAME_value(names, 0)), "CN=Client CA");
}

// Revocation.

std::shared_ptr<revocation::CrlSet> crls_of(const test::Identity& issuer, const std::vector<const X509*>& revoked, int days = 1) {
    auto set = std::make_shared<revocation::CrlSet>();
    EXPECT_EQ(set->add(make_crl(issuer, revoked, days), issuer.certificate.get(), Clock::now()), "");
    return set;
}

TEST(MutualTls, RevokedClient_IsRefusedAtEachLevel) {
    const World& w = world();
    for (const int level : {1, 2, 3})
        expect_refused(context_of(service_with(ClientAuthMode::required), {.client_crls = crls_of(w.ca, {w.client.certificate.get()})}, level), &w.client,
                       Violation::client_revoked, SSL_AD_CERTIFICATE_REVOKED, SSL_AD_CERTIFICATE_REVOKED);
}

TEST(MutualTls, RevocationUnknown_FailsClosedAtLevel3Only) {
    const World& w = world();
    const auto stale = crls_of(w.ca, {}, -1);
    for (const auto& crls : {std::shared_ptr<revocation::CrlSet>(), stale}) {
        expect_refused(context_of(service_with(ClientAuthMode::required), {.client_crls = crls}, 3), &w.client, Violation::client_revocation_unknown,
                       SSL_AD_CERTIFICATE_UNKNOWN, SSL_AD_CERTIFICATE_UNKNOWN);
        const auto peer = peer_with(TLS1_3_VERSION, &w.client);
        Peer client(peer.get(), false, "a.example");
        EXPECT_EQ(serve(context_of(service_with(ClientAuthMode::required), {.client_crls = crls}, 2), client).step, Step::done);
    }
    const auto peer = peer_with(TLS1_3_VERSION, &w.client);
    Peer client(peer.get(), false, "a.example");
    EXPECT_EQ(serve(context_of(service_with(ClientAuthMode::required), {.client_crls = crls_of(w.ca, {})}, 3), client).step, Step::done);
}

TEST(MutualTls, RevocationUnknown_PassesWhileWaived) {
    const World& w = world();
    for (const auto& [object, days, done] : {std::tuple("clients of service web", 1, true), {"clients of service web", -1, false}, {"clients of service other", 1, false},
                                              {"service web", 1, false}}) {   // the last speaks of the service's own certificate
        configuration::Configuration configuration;
        configuration.policy_level = 3;
        configuration.waivers = {{"9.4.3", object, "the CA has no CRL yet", Clock::now() + std::chrono::hours(24 * days), {}}};
        const auto context = make_server_context(configuration, service_with(ClientAuthMode::required), {});
        const auto peer = peer_with(TLS1_3_VERSION, &w.client);
        Peer client(peer.get(), false, "a.example");
        EXPECT_EQ(serve(context, client).step == Step::done, done) << object << days;
    }
}

TEST(MutualTls, RevokedIntermediate_IsRefused) {
    const auto one = make_ca("One", &world().ca);
    const auto client_one = client_of(one);
    expect_refused(context_of(service_with(ClientAuthMode::required), {.client_crls = crls_of(world().ca, {one.certificate.get()})}), &client_one,
                   Violation::client_revoked, SSL_AD_CERTIFICATE_REVOKED, SSL_AD_CERTIFICATE_REVOKED);
}

// Resumption.

TEST(MutualTls, RevokedSinceItsSessionBegan_DoesNotResume) {
    const World& w = world();
    const auto crls = crls_of(w.ca, {});
    const auto context = context_of(service_with(ClientAuthMode::required), {.client_crls = crls}, 3);
    const auto client_identity = client_of(w.ca);
    for (const int version : kVersions) {
        ASSERT_EQ(crls->add(make_crl(w.ca, {}), w.ca.certificate.get(), Clock::now()), "");
        const auto peer = peer_with(version, &client_identity);
        openssl::Session session;
        for (const bool resumed : {false, true}) {
            Peer client(peer.get(), false, "a.example", session.get());
            const Served served = serve(context, client);
            ASSERT_EQ(served.step, Step::done) << served.failure.text;
            EXPECT_EQ(served.negotiated.resumed, resumed);
            session.reset(SSL_get1_session(client.ssl()));
        }
        ASSERT_EQ(crls->add(make_crl(w.ca, {client_identity.certificate.get()}), w.ca.certificate.get(), Clock::now() + std::chrono::seconds(1)), "");
        Peer client(peer.get(), false, "a.example", session.get());
        const Served served = serve(context, client);
        EXPECT_EQ(served.step, Step::failed);
        EXPECT_FALSE(served.negotiated.resumed);
        EXPECT_EQ(served.failure.violation, Violation::client_revoked) << served.failure.text;
        EXPECT_EQ(client.alert_received(), SSL_AD_CERTIFICATE_REVOKED);
    }
}

std::size_t ticket_length(const SSL_SESSION* session) {
    const unsigned char* octets = nullptr;
    std::size_t length = 0;
    SSL_SESSION_get0_ticket(session, &octets, &length);
    return length;
}

TEST(MutualTls, TicketLongerThanARecord_ComesInSeveral) {
    std::vector<std::string> names{"client.example"};
    for (int i = 0; i < 700; ++i) names.push_back(sallyport::format("another-name-of-this-client-{:03}.example", i));
    const auto client = client_of(world().ca, names);
    const auto context = context_of(service_with(ClientAuthMode::required));
    const auto peer = peer_with(TLS1_3_VERSION, &client);
    Peer with_many(peer.get(), false, "a.example");
    const Served served = serve(context, with_many);
    ASSERT_EQ(served.step, Step::done) << served.failure.text;
    EXPECT_EQ(served.handed->handoff.write_sequence, 4U);   // two tickets of over 2^14 octets
    const openssl::Session session(SSL_get1_session(with_many.ssl()));
    EXPECT_GT(ticket_length(session.get()), 1U << 14);
}

TEST(MutualTls, TicketCrossesNeitherServicesNorPolicies) {
    // The trap: a certificate that is good for one service must not open another by way of a ticket, whatever keys they share.
    const World& w = world();
    const auto tickets = make_ticket_keys({});
    const auto first = context_of(service_with(ClientAuthMode::required), {.tickets = tickets});
    auto other_name = service_with(ClientAuthMode::required);
    other_name.name = "other";
    auto other_names = service_with(ClientAuthMode::required);
    other_names.client_auth.names = {"client.example"};
    auto other_crl = service_with(ClientAuthMode::required);
    other_crl.client_auth.crl = {{.file = {}, .url = "http://crl.example/", .place = {}}};
    auto deeper = service_with(ClientAuthMode::required);
    deeper.client_auth.depth = 7;
    auto both_cas = service_with(ClientAuthMode::required);
    both_cas.client_auth.anchors.push_back(share(w.other_ca.certificate.get()));
    struct Row {
        const char* what;
        std::shared_ptr<const ServerContext> context;
        bool done, resumed;
    };
    const std::vector<Row> rows{
        {"the same", first, true, true},
        {"loaded again", context_of(service_with(ClientAuthMode::required), {.tickets = tickets}), true, true},
        {"another service", context_of(other_name, {.tickets = tickets}), true, false},
        {"another CA", context_of(service_with(ClientAuthMode::required, w.other_ca), {.tickets = tickets}), false, false},
        {"a CA more", context_of(both_cas, {.tickets = tickets}), true, false},
        {"other names", context_of(other_names, {.tickets = tickets}), true, false},
        {"other CRLs", context_of(other_crl, {.tickets = tickets}), true, false},
        {"another depth", context_of(deeper, {.tickets = tickets}), true, false},
        {"optional", context_of(service_with(ClientAuthMode::optional), {.tickets = tickets}), true, false},
        {"another level", context_of(service_with(ClientAuthMode::required), {.tickets = tickets}, 2), true, false},
    };
    for (const int version : kVersions) {
        const auto peer = peer_with(version, &w.client);
        Peer begin(peer.get(), false, "a.example");
        ASSERT_EQ(serve(first, begin).step, Step::done);
        const openssl::Session session(SSL_get1_session(begin.ssl()));
        for (const Row& row : rows) {
            SCOPED_TRACE(sallyport::format("{} {:#x}", row.what, version));
            const openssl::Session copy(SSL_SESSION_dup(session.get()));
            Peer client(peer.get(), false, "a.example", copy.get());
            const Served served = serve(row.context, client);
            EXPECT_EQ(served.step == Step::done, row.done) << served.failure.text;
            EXPECT_EQ(served.negotiated.resumed, row.resumed);
            EXPECT_EQ(served.negotiated.identity != nullptr, row.done);
        }
    }
}

TEST(MutualTls, TicketWithoutCertificate_DoesNotResumeWhereOneIsRequired) {
    const auto tickets = make_ticket_keys({});
    const auto off = context_of(service_with(ClientAuthMode::off), {.tickets = tickets}), required = context_of(service_with(ClientAuthMode::required), {.tickets = tickets});
    for (const int version : kVersions) {
        const auto peer = peer_with(version, nullptr);
        Peer begin(peer.get(), false, "a.example");
        ASSERT_EQ(serve(off, begin).step, Step::done);
        const openssl::Session session(SSL_get1_session(begin.ssl()));
        Peer client(peer.get(), false, "a.example", session.get());
        const Served served = serve(required, client);
        EXPECT_EQ(served.step, Step::failed);
        EXPECT_EQ(served.failure.violation, Violation::client_certificate_missing);
    }
}

}  // namespace
}  // namespace sallyport::handshake
