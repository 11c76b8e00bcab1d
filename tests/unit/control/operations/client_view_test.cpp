#include "control/operations/client_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/handshake/ech_keys.h"
#include "control/handshake/server_context.h"
#include "tests/certificates.h"

namespace sallyport::operations {
namespace {

using namespace test;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

const auto kNow = std::chrono::system_clock::now();

/// Made once, since RSA keys take long.
struct World {
    TemporaryDirectory directory;
    test::Identity ca = make_ca("Test CA");
    std::shared_ptr<const certificates::PublicRoots> roots;
    World() {
        std::filesystem::create_directory(directory.path() / "roots");
        ca.write(directory.path() / "roots", "ca");
        roots = certificates::PublicRoots::load(directory.path() / "roots");
    }
    configuration::CertificateFiles load(const std::string& name, const test::Identity& identity) const {
        identity.write(directory.path(), name);
        auto chain = certificates::load_certificate_chain(directory.path() / (name + ".pem"), directory.path() / (name + ".key"), 1, kNow);
        EXPECT_TRUE(chain);
        configuration::CertificateFiles files;
        files.chain = std::make_shared<certificates::CertificateChain>(std::move(*chain));
        return files;
    }
    configuration::CertificateFiles rsa = load("rsa", make_leaf({"a.example"}, ca, Key::rsa2048));
    configuration::CertificateFiles ecdsa = load("ecdsa", make_leaf({"a.example"}, ca, Key::p256));
    configuration::CertificateFiles front = load("front", make_leaf({"public.example"}, ca, Key::p256));
};

const World& world() {
    static const World all;
    return all;
}

configuration::Service service_of(std::vector<configuration::CertificateFiles> certificates) {
    configuration::Service service;
    service.name = "web";
    service.certificates = std::move(certificates);
    service.alpn = {"h2", "http/1.1"};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    return service;
}

TestedService tested(const configuration::Service& service, std::shared_ptr<const handshake::EchKeys> ech = nullptr) {
    configuration::Configuration configuration;
    configuration.policy_level = 1;
    TestedService result;
    result.context = handshake::make_server_context(configuration, service, {.tickets = handshake::make_ticket_keys({}), .ech = ech});
    result.alpn = service.alpn;
    result.ech = std::move(ech);
    result.roots = world().roots;
    result.tickets = service.session_tickets;
    result.client_certificate_required = service.client_auth.mode == configuration::ClientAuthMode::required;
    return result;
}

TEST(ClientView, EachVersionAndKind_IsShown) {
    const auto view = test_handshakes(tested(service_of({world().rsa, world().ecdsa})), "a.example", kNow);
    EXPECT_TRUE(view.good) << testing::PrintToString(view.problems);
    ASSERT_EQ(view.handshakes.size(), 4u);
    for (const auto& seen : view.handshakes) {
        SCOPED_TRACE(seen.offered);
        EXPECT_TRUE(seen.done) << seen.why;
        EXPECT_EQ(seen.version, seen.offered.substr(0, 7));
        EXPECT_EQ(seen.alpn, "h2");
        EXPECT_TRUE(seen.trusted) << seen.trust_error;
        EXPECT_TRUE(seen.name_covered);
        EXPECT_EQ(seen.staple, "none");
        EXPECT_GT(seen.tickets, 0u);
        EXPECT_TRUE(seen.resumed);
        EXPECT_FALSE(seen.group.empty());
        EXPECT_THAT(seen.signature_scheme, HasSubstr(seen.offered.ends_with("RSA") ? "rsa_pss" : "ecdsa"));
    }
}

TEST(ClientView, OneKindOfKey_IsTestedAlone) {
    const auto view = test_handshakes(tested(service_of({world().ecdsa})), "a.example", kNow);
    EXPECT_EQ(view.handshakes.size(), 2u);
}

TEST(ClientView, NameThatNobodyServes_IsSaid) {
    const auto view = test_handshakes(tested(service_of({world().ecdsa})), "b.example", kNow);
    EXPECT_FALSE(view.good);
    EXPECT_THAT(view.problems, ElementsAre(HasSubstr("unrecognized_name")));
}

TEST(ClientView, ChainThatThePublicDoesNotTrust_IsSaid) {
    auto service = tested(service_of({world().ecdsa}));
    service.roots = certificates::PublicRoots::load(world().directory.path() / "none");
    const auto view = test_handshakes(service, "a.example", kNow);
    EXPECT_FALSE(view.good);
    EXPECT_THAT(view.problems, Contains(HasSubstr("not trusted")));
    EXPECT_TRUE(view.handshakes.front().done);
}

TEST(ClientView, Ech_IsAccepted) {
    const configuration::Ech settings{.public_name = "public.example"};
    auto service = service_of({world().ecdsa, world().front});
    service.ech = settings;
    const auto view = test_handshakes(tested(service, handshake::EchKeys::make(settings, kNow)), "a.example", kNow);
    EXPECT_TRUE(view.good) << testing::PrintToString(view.problems);
    EXPECT_EQ(view.handshakes[0].ech, "accepted");
    EXPECT_EQ(view.handshakes[1].ech, "not offered");  // TLS 1.2
}

TEST(ClientView, ServiceThatRequiresClientCertificates_ShowsWhatComesBefore) {
    auto service = service_of({world().ecdsa});
    service.client_auth.mode = configuration::ClientAuthMode::required;
    X509_up_ref(world().ca.certificate.get());
    service.client_auth.anchors = {std::shared_ptr<X509>(world().ca.certificate.get(), X509_free)};
    const auto view = test_handshakes(tested(service), "a.example", kNow);
    EXPECT_TRUE(view.good) << testing::PrintToString(view.problems);
    EXPECT_THAT(view.how, HasSubstr("requires a client certificate"));
    for (const auto& seen : view.handshakes) {
        EXPECT_FALSE(seen.done);
        EXPECT_FALSE(seen.chain.empty());
    }
}

}  // namespace
}  // namespace sallyport::operations
