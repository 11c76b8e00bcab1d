#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/handshake/client_context.h"
#include "crypto/format.h"
#include "harness.h"

/// Which backends a pool believes (9.2.6 (12.3.2), 9.3.2 (12.3.4), 9.3.3 (12.3.5), 9.4.3 (12.1.4)), and what the others are refused for.
namespace sallyport::handshake {
namespace {

using namespace test;
using channel::EndReason;
using policy::Violation;
using testing::HasSubstr;

constexpr const char* kName = "backend.example";
constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

struct World {
    test::Identity ca = make_ca("Backend CA"), other_ca = make_ca("Public CA"), client_ca = make_ca("Client CA");
    test::Identity good = make_leaf({kName, "spiffe://example.org/web"}, ca);
    test::Identity self_signed = make_identity({.common_name = "self", .names = {"whatever.example"}});
    test::Identity ours = make_identity({.common_name = "appliance", .names = {"appliance.example"}, .extended_key_usage = "clientAuth"}, &client_ca);
};

const World& world() {
    static const World all;
    return all;
}

std::array<std::uint8_t, 32> pin_of(const test::Identity& identity) {
    std::array<std::uint8_t, 32> pin{};
    unsigned length = 0;
    X509_digest(identity.certificate.get(), EVP_sha256(), pin.data(), &length);
    return pin;
}

configuration::Pool pool() {
    configuration::Pool pool;
    pool.name = "pool";
    pool.tls = configuration::BackendTls{};
    pool.tls->anchors = {share(world().ca.certificate.get())};
    pool.tls->server_name = kName;
    pool.tls->versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    return pool;
}

std::shared_ptr<ClientContext> context_of(const configuration::Pool& pool, ClientMaterials materials = {}, int level = 1) {
    configuration::Configuration configuration;
    configuration.policy_level = level;
    return make_client_context(configuration, pool, std::move(materials));
}

struct Backend {
    openssl::Context context;
    explicit Backend(int version, const test::Identity& identity) : context(peer_context({.server = true, .version = version, .identity = &identity})) {
        SSL_CTX_set_session_id_context(context.get(), reinterpret_cast<const unsigned char*>("peer"), 4);
    }
    void staple(Octets answer) {
        answer_ = std::move(answer);
        SSL_CTX_set_tlsext_status_cb(context.get(), send);
        SSL_CTX_set_tlsext_status_arg(context.get(), &answer_);
    }

 private:
    static int send(SSL* ssl, void* argument) {
        const auto& octets = *static_cast<const Octets*>(argument);
        SSL_set_tlsext_status_ocsp_resp(ssl, static_cast<unsigned char*>(OPENSSL_memdup(octets.data(), octets.size())), static_cast<long>(octets.size()));
        return SSL_TLSEXT_ERR_OK;
    }
    Octets answer_;
};

struct Asked {
    Step step = Step::more;
    Negotiated negotiated;
    Failure failure;
    std::string client_seen;   ///< subject of our certificate, as the backend has it
    int alert = -1;            ///< that the backend received
    bool server_done = false;
};

Asked ask(const std::shared_ptr<ClientContext>& context, Backend& backend) {
    Peer server(backend.context.get(), true);
    ClientHandshake client(context, "", "member");
    Asked asked;
    Octets to_server;
    asked.step = client.start(to_server);
    while (asked.step == Step::more && !to_server.empty()) {
        const Octets to_client = server.feed(to_server);
        to_server.clear();
        asked.step = client.feed(to_client, to_server);
    }
    const Octets after = to_server.empty() ? Octets() : server.feed(to_server);
    asked.server_done = server.done();
    if (asked.step == Step::done)
        for (const auto record : records_of(after)) client.ticket_record(record);
    asked.negotiated = client.negotiated();
    asked.failure = client.failure();
    asked.client_seen = openssl::name_text(SSL_get0_peer_certificate(server.ssl()) != nullptr ? X509_get_subject_name(SSL_get0_peer_certificate(server.ssl())) : nullptr);
    asked.alert = server.alert_received();
    return asked;
}

void expect_refused(const configuration::Pool& pool, const test::Identity& identity, Violation violation, ClientMaterials materials = {}, int level = 1,
                    const Octets& staple = {}) {
    for (const int version : kVersions) {
        SCOPED_TRACE(sallyport::format("{} {:#x}", policy::text(violation).name, version));
        Backend backend(version, identity);
        if (!staple.empty()) backend.staple(staple);
        const Asked asked = ask(context_of(pool, materials, level), backend);
        EXPECT_EQ(asked.step, Step::failed);
        EXPECT_FALSE(asked.server_done);
        ASSERT_TRUE(asked.failure.violation) << asked.failure.text;
        EXPECT_EQ(policy::text(*asked.failure.violation).name, policy::text(violation).name) << asked.failure.text;
        EXPECT_EQ(asked.failure.reason, EndReason::backend_unverified);
        EXPECT_THAT(asked.failure.peer_subject, HasSubstr("CN="));
        EXPECT_EQ(asked.failure.alert, policy::text(violation).alert) << asked.failure.text;
        EXPECT_EQ(asked.alert, asked.failure.alert);
        EXPECT_FALSE(asked.negotiated.identity);
    }
}

void expect_done(const configuration::Pool& pool, const test::Identity& identity, const std::string& anchor, ClientMaterials materials = {}, int level = 1,
                 const Octets& staple = {}) {
    for (const int version : kVersions) {
        SCOPED_TRACE(version);
        Backend backend(version, identity);
        if (!staple.empty()) backend.staple(staple);
        const auto context = context_of(pool, materials, level);
        for (const bool resumed : {false, true}) {
            const Asked asked = ask(context, backend);
            ASSERT_EQ(asked.step, Step::done) << asked.failure.text;
            EXPECT_EQ(asked.negotiated.resumed, resumed);
            EXPECT_EQ(asked.negotiated.anchor, anchor);
            ASSERT_TRUE(asked.negotiated.identity);
            EXPECT_EQ(asked.negotiated.identity->subject, asked.negotiated.peer_subject);
        }
    }
}

TEST(BackendCertificate, Anchor_IsRecorded_AlsoWhenResumed) { expect_done(pool(), world().good, "CN=Backend CA"); }

TEST(BackendCertificate, Pin_IsTakenAsItIs) {
    auto pinned = pool();
    pinned.tls->anchors.clear();
    pinned.tls->pins = {pin_of(world().self_signed)};
    expect_done(pinned, world().self_signed, "pin");          // self-signed, of another name
    expect_refused(pinned, world().good, Violation::backend_not_trusted);
    auto both = pinned;
    both.tls->anchors = pool().tls->anchors;
    expect_done(both, world().self_signed, "pin");
    expect_done(both, world().good, "CN=Backend CA");
    expect_refused(both, make_leaf({"other.example"}, world().ca), Violation::backend_wrong_name);
    expect_done(pinned, world().self_signed, "pin", {}, 3);   // nobody else could revoke it
}

TEST(BackendCertificate, PinsAlone_NeedNoName) {
    auto pinned = pool();
    pinned.tls->anchors.clear();
    pinned.tls->server_name.clear();
    pinned.tls->pins = {pin_of(world().self_signed)};
    expect_done(pinned, world().self_signed, "pin");
    expect_refused(pinned, world().good, Violation::backend_not_trusted);
    pinned.tls->anchors = pool().tls->anchors;   // any certificate under the anchor would do
    EXPECT_THROW(static_cast<void>(context_of(pinned)), std::runtime_error);
}

TEST(BackendCertificate, OurOwnRevoked_IsNotShown) {
    auto mutual = pool();
    mutual.tls->identity = loaded(world().ours);
    bool revoked = false;
    const auto context = context_of(mutual, {.revoked = [&](const certificates::CertificateChain& chain) {
        EXPECT_EQ(X509_cmp(chain.leaf.get(), world().ours.certificate.get()), 0);
        return revoked;
    }});
    for (const int version : kVersions) {
        Backend backend(version, world().good);
        SSL_CTX_set_verify(backend.context.get(), SSL_VERIFY_PEER, [](int, X509_STORE_CTX*) { return 1; });
        revoked = false;
        EXPECT_EQ(ask(context, backend).client_seen, "CN=appliance");
        revoked = true;
        const Asked asked = ask(context, backend);
        EXPECT_EQ(asked.step, Step::failed);
        EXPECT_EQ(asked.failure.violation, Violation::pool_identity_revoked);
        EXPECT_THAT(asked.failure.text, HasSubstr("CN=appliance"));
        EXPECT_EQ(asked.client_seen, "");
        EXPECT_EQ(asked.alert, -1);
    }
}

TEST(BackendCertificate, PinOutOfDate_IsRefused) {
    const auto old = make_identity({.common_name = "old", .names = {kName}, .not_before_days = -9, .not_after_days = -1});
    auto pinned = pool();
    pinned.tls->pins = {pin_of(old)};
    for (const int version : kVersions) {
        Backend backend(version, old);
        const auto context = context_of(pinned);
        EXPECT_TRUE(context->pins_seen().empty());
        const Asked asked = ask(context, backend);
        ASSERT_EQ(context->pins_seen().size(), 1U) << "for the alarm: nobody else knows when a pin ends";
        EXPECT_EQ(context->pins_seen()[0].subject, "CN=old");
        EXPECT_LT(context->pins_seen()[0].not_after, Clock::now());
        EXPECT_EQ(asked.step, Step::failed);
        EXPECT_TRUE(asked.failure.violation == Violation::backend_certificate_invalid) << asked.failure.text;
        EXPECT_THAT(asked.failure.chain_error, HasSubstr("expired"));
        EXPECT_EQ(asked.alert, SSL_AD_CERTIFICATE_EXPIRED);
    }
}

TEST(BackendCertificate, NeitherAnchorsNorPins_Throws) {
    auto none = pool();
    none.tls->anchors.clear();
    EXPECT_THROW(static_cast<void>(context_of(none)), std::runtime_error);
}

TEST(BackendCertificate, RefusedForWhatIsWrongWithIt) {
    const World& w = world();
    expect_refused(pool(), make_leaf({"other.example"}, w.ca), Violation::backend_wrong_name);
    expect_refused(pool(), make_leaf({kName}, w.other_ca), Violation::backend_not_trusted);   // publicly valid, but not internal
    expect_refused(pool(), w.self_signed, Violation::backend_not_trusted);
}

TEST(BackendCertificate, AllowListOfNames) {
    auto listed = pool();
    listed.tls->names = {"spiffe://example.org/web"};
    expect_done(listed, world().good, "CN=Backend CA");
    listed.tls->names = {"spiffe://example.org/other", "*.elsewhere.example"};
    expect_refused(listed, world().good, Violation::backend_name_not_allowed);
}

TEST(BackendCertificate, OurCertificate_IsShown) {
    auto mutual = pool();
    mutual.tls->identity = loaded(world().ours);
    for (const int version : kVersions) {
        Backend backend(version, world().good);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(backend.context.get()), world().client_ca.certificate.get());
        SSL_CTX_set_verify(backend.context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        const Asked with = ask(context_of(mutual), backend);
        EXPECT_EQ(with.step, Step::done) << with.failure.text;
        EXPECT_TRUE(with.server_done);
        EXPECT_EQ(with.client_seen, "CN=appliance");
        EXPECT_FALSE(ask(context_of(pool()), backend).server_done);
    }
}

TEST(BackendCertificate, RevokedByCrlOrStaple) {
    const World& w = world();
    const auto crls = std::make_shared<revocation::CrlSet>();
    ASSERT_EQ(crls->add(make_crl(w.ca, {w.good.certificate.get()}), w.ca.certificate.get(), Clock::now()), "");
    const auto good_staple = make_ocsp(w.ca, w.good.certificate.get());
    for (const int level : {1, 3}) {
        expect_refused(pool(), w.good, Violation::backend_revoked, {.crls = crls}, level);
        expect_refused(pool(), w.good, Violation::backend_revoked, {.crls = crls}, level, good_staple);   // the worse one counts
        expect_refused(pool(), w.good, Violation::backend_revoked, {}, level, make_ocsp(w.ca, w.good.certificate.get(), true));
    }
}

TEST(BackendCertificate, RevocationUnknown_FailsClosedAtLevel3) {
    const World& w = world();
    expect_refused(pool(), w.good, Violation::backend_revocation_unknown, {}, 3);
    expect_refused(pool(), w.good, Violation::backend_revocation_unknown, {}, 3, make_ocsp(w.other_ca, w.good.certificate.get()));
    expect_done(pool(), w.good, "CN=Backend CA", {}, 2);
    expect_done(pool(), w.good, "CN=Backend CA", {}, 3, make_ocsp(w.ca, w.good.certificate.get()));
    const auto crls = std::make_shared<revocation::CrlSet>();
    ASSERT_EQ(crls->add(make_crl(w.ca, {}), w.ca.certificate.get(), Clock::now()), "");
    expect_done(pool(), w.good, "CN=Backend CA", {.crls = crls}, 3);
}

TEST(BackendCertificate, RevokedSinceItsSessionBegan_DoesNotResume) {
    const World& w = world();
    for (const int version : kVersions) {
        const auto crls = std::make_shared<revocation::CrlSet>();
        ASSERT_EQ(crls->add(make_crl(w.ca, {}), w.ca.certificate.get(), Clock::now()), "");
        const auto context = context_of(pool(), {.crls = crls});
        Backend backend(version, w.good);
        EXPECT_FALSE(ask(context, backend).negotiated.resumed);
        EXPECT_TRUE(ask(context, backend).negotiated.resumed);
        ASSERT_EQ(crls->add(make_crl(w.ca, {w.good.certificate.get()}), w.ca.certificate.get(), Clock::now()), "");
        const Asked asked = ask(context, backend);
        EXPECT_EQ(asked.step, Step::failed);
        EXPECT_FALSE(asked.negotiated.resumed);
        EXPECT_TRUE(asked.failure.violation == Violation::backend_revoked) << asked.failure.text;
        EXPECT_EQ(context->sessions(), 0U);
    }
}

TEST(BackendCertificate, OtherRefusalsAndTheirViolations) {
    const auto violation_of = [](PeerOptions options) {
        options.server = true;
        options.identity = &world().good;
        const auto peer = peer_context(options);
        Peer server(peer.get(), true);
        ClientHandshake client(context_of(pool()), "", "member");
        Octets out;
        EXPECT_EQ(client.start(out), Step::more);
        const Octets answer = server.feed(out);
        out.clear();
        EXPECT_EQ(client.feed(answer, out), Step::failed);
        return client.failure().violation ? std::string(policy::text(*client.failure().violation).name) : "none: " + client.failure().text;
    };
    EXPECT_EQ(violation_of({.version = TLS1_1_VERSION}), "backend_version");
    EXPECT_EQ(violation_of({.version = TLS1_3_VERSION, .suites13 = "TLS_AES_128_CCM_SHA256"}), "backend_suite");
    EXPECT_EQ(violation_of({.version = TLS1_3_VERSION, .groups = "ffdhe2048"}), "backend_suite");
    EXPECT_EQ(violation_of({.version = TLS1_2_VERSION, .extended_master_secret = false}), "no_extended_master_secret");
    ClientHandshake client(context_of(pool()), "", "member");
    Octets out;
    ASSERT_EQ(client.start(out), Step::more);
    out.clear();
    EXPECT_EQ(client.feed(octets_of("HTTP/1.1 400 Bad Request\r\n"), out), Step::failed);
    EXPECT_TRUE(client.failure().violation == Violation::backend_not_tls) << client.failure().text;
}

}  // namespace
}  // namespace sallyport::handshake
