#include <gtest/gtest.h>

#include <set>

#include "control/handshake/server_context.h"
#include "crypto/format.h"
#include "harness.h"

/// A directory of ten thousand certificates, each with a key and a name of its own: counted, not timed.
namespace sallyport::handshake {
namespace {

using namespace test;

constexpr int kCertificates = 10'000;

std::string name(int i) { return sallyport::format("n{}.example.org", i); }

struct Directory {
    TemporaryDirectory directory;
    test::Identity root = make_ca("Root"), lower = make_ca("Lower", &root);

    Directory() {
        std::filesystem::create_directories(directory.path() / "many");
        directory.write("ca.pem", root.certificate_pem());
        for (int i = 0; i < kCertificates; ++i) issue(i);
        directory.write("test.conf",
                        "policy = { level = 1; };\n"
                        "ports = ( { name = \"outside\"; profile = \"af_packet\"; device = \"veth0\"; addresses = [ \"192.0.2.1/24\" ]; } );\n"
                        "pools = ( { name = \"web\"; members = ( { address = \"192.0.2.10:443\"; } ); tls: { trust = [ \"ca.pem\" ]; server_name = \"a.internal\"; }; } );\n"
                        "services = ( { name = \"www\"; listen = [ \"192.0.2.1:443\" ]; pool = \"web\"; certificate_directory = \"many\"; } );\n");
    }
    void issue(int i) const {
        const test::Identity leaf = make_leaf({name(i)}, lower);
        directory.write(sallyport::format("many/{}.pem", i), leaf.certificate_pem() + leaf.key_pem(), 0600);
    }
    [[nodiscard]] configuration::Configuration load() const {
        auto loaded = configuration::load(directory.path() / "test.conf");
        if (loaded) return std::move(*loaded);
        throw std::runtime_error(loaded.error().front().to_string());
    }
};

TEST(ManyCertificates, TenThousand_EachIsFoundByItsName_AndOneIsReplaced) {
    const Directory directory;
    const auto first = directory.load();
    ASSERT_EQ(first.services[0].certificates.size(), static_cast<std::size_t>(kCertificates));
    const auto context = make_server_context(first, first.services[0], {});
    std::set<certificates::Fingerprint> fingerprints;
    std::set<const X509*> issuers;
    for (int i = 0; i < kCertificates; ++i) {
        const auto set = context->find(name(i));
        ASSERT_EQ(set.size(), 1U) << name(i);
        ASSERT_EQ(set[0]->chain->names, std::vector<std::string>{name(i)});
        fingerprints.insert(set[0]->fingerprint);
        issuers.insert(set[0]->chain->issuer.get());
    }
    EXPECT_EQ(fingerprints.size(), static_cast<std::size_t>(kCertificates));
    EXPECT_EQ(issuers.size(), 1U) << "what they have in common is there once";
    EXPECT_TRUE(context->find(name(kCertificates)).empty());

    // The handshakes are of one SSL_CTX, whichever certificate they show.
    const auto peer = peer_context({});
    for (const int i : {0, 1, kCertificates / 2, kCertificates - 1}) {
        Peer client(peer.get(), false, name(i).c_str());
        ASSERT_EQ(serve(context, client).step, Step::done);
        EXPECT_EQ(X509_check_host(SSL_get0_peer_certificate(client.ssl()), name(i).c_str(), 0, 0, nullptr), 1);
    }

    directory.issue(4711);
    const auto second = directory.load();
    const auto after = make_server_context(second, second.services[0], {});
    for (int i = 0; i < kCertificates; ++i)
        ASSERT_EQ(context->find(name(i))[0]->fingerprint == after->find(name(i))[0]->fingerprint, i != 4711) << name(i);
}

}  // namespace
}  // namespace sallyport::handshake
