#include "tests/bench/generator/tls_context.h"

#include <gtest/gtest.h>

#include "tests/bench/generator/tls_handshake.h"
#include "tests/certificates.h"

namespace sallyport::generator {
namespace {

using test::Identity;
using Step = Handshake::Step;

constexpr const char* kName = "www.example";

/// A client that trusts one CA, and servers with whatever certificate.
class Chains : public testing::Test {
 protected:
    Chains() { ca_.write(directory_.path(), "ca"); }
    std::unique_ptr<TlsContext> client(const std::string& trust) const {
        TlsOptions options;
        options.trust = trust;
        options.server_name = kName;
        return *TlsContext::make_client(options);
    }
    std::string trusted() const { return directory_.path() / "ca.pem"; }
    std::unique_ptr<TlsContext> server(const Identity& identity, const std::string& name) const {
        identity.write(directory_.path(), name);
        TlsOptions options;
        options.certificate = directory_.path() / (name + ".pem");
        options.key = directory_.path() / (name + ".key");
        return *TlsContext::make_server(options);
    }
    /// A handshake to its end: what the client says of it, empty when it is done.
    static std::string refused(TlsContext& client, TlsContext& server) {
        Handshake ours(client, nullptr), theirs(server, nullptr);
        std::vector<std::byte> to_server, to_client;
        Step step = ours.start(to_server);
        for (int flight = 0; flight < 8 && step == Step::more; ++flight) {
            std::span<const std::byte> stream = to_server;
            while (!stream.empty() && theirs.feed(stream, to_client) == Step::more && !stream.empty()) {}
            to_server.clear();
            stream = to_client;
            while (!stream.empty() && step == Step::more) step = ours.feed(stream, to_server);
            to_client.clear();
        }
        return step == Step::done ? "" : ours.text();
    }

    const test::TemporaryDirectory directory_;
    const Identity ca_ = test::make_ca("CA"), other_ = test::make_ca("Other"), good_ = test::make_leaf({kName}, ca_);
};

TEST_F(Chains, OfAnotherCa_IsRefusedAlsoWhenOneWasVerified) {
    const auto client = this->client(trusted());
    const auto good = server(good_, "good"), foreign = server(test::make_leaf({kName}, other_), "foreign"), renamed = server(test::make_leaf({"else.example"}, ca_), "renamed");
    for (int again = 0; again < 2; ++again) {
        EXPECT_EQ(refused(*client, *good), "");
        EXPECT_EQ(refused(*client, *good), "") << "the same once more";
        EXPECT_EQ(refused(*client, *foreign), "unable to get local issuer certificate");
        EXPECT_EQ(refused(*client, *renamed), "hostname mismatch");
    }
}

TEST_F(Chains, NoneTrusted_NoneIsLookedAt) {
    const auto client = this->client("");
    EXPECT_EQ(refused(*client, *server(test::make_leaf({"else.example"}, other_), "foreign")), "");
}

}  // namespace
}  // namespace sallyport::generator
