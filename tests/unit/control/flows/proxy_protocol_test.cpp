#include "control/flows/proxy_protocol.h"

#include <gtest/gtest.h>

#include <map>

namespace sallyport::flows {
namespace {

using Octets = std::vector<std::byte>;

unsigned at(std::span<const std::byte> octets, std::size_t i) { return std::to_integer<unsigned>(octets[i]); }

std::map<unsigned, Octets> tlvs(std::span<const std::byte> octets) {
    std::map<unsigned, Octets> result;
    while (octets.size() >= 3) {
        const std::size_t length = at(octets, 1) << 8 | at(octets, 2);
        EXPECT_LE(3 + length, octets.size());
        const auto value = octets.subspan(3, length);
        result[at(octets, 0)] = Octets(value.begin(), value.end());
        octets = octets.subspan(3 + length);
    }
    EXPECT_TRUE(octets.empty());
    return result;
}
std::string text(const Octets& octets) { return {reinterpret_cast<const char*>(octets.data()), octets.size()}; }

struct ProxyHeader : testing::Test {
    const SocketAddress client = SocketAddress::parse("192.0.2.7:1234").value(), local = SocketAddress::parse("192.0.2.10:443").value();
    handshake::Negotiated negotiated;
    const std::shared_ptr<handshake::Identity> identity = std::make_shared<handshake::Identity>();
    void SetUp() override {
        negotiated.version = 0x0304;
        negotiated.suite = 0x1301;
        identity->common_name = "alice";
        identity->certificate = Octets(900, std::byte{0x30});
        negotiated.identity = identity;
    }
    /// The TLVs of the TLS TLV, with its first five octets under 0.
    std::map<unsigned, Octets> tls(bool forward) {
        const auto header = proxy_header(client, local, negotiated, "id", forward);
        EXPECT_LE(header.size(), kMaxProxyHeader);
        EXPECT_EQ(at(header, 14) << 8 | at(header, 15), header.size() - 16);
        const auto outer = tlvs(std::span(header).subspan(16 + 12));
        const Octets& value = outer.at(0x20);
        auto result = tlvs(std::span(value).subspan(5));
        result[0] = Octets(value.begin(), value.begin() + 5);
        return result;
    }
    static unsigned flags(const std::map<unsigned, Octets>& tls) { return at(tls.at(0), 0); }
    static unsigned verify(const std::map<unsigned, Octets>& tls) {
        return at(tls.at(0), 1) << 24 | at(tls.at(0), 2) << 16 | at(tls.at(0), 3) << 8 | at(tls.at(0), 4);
    }
};

TEST_F(ProxyHeader, Identity_IsForwardedWhenAskedFor) {
    const auto found = tls(true);
    EXPECT_EQ(flags(found), 0x07u);
    EXPECT_EQ(verify(found), 0u);
    EXPECT_EQ(text(found.at(0x22)), "alice");
    EXPECT_EQ(found.at(0x28), Octets(900, std::byte{0x30}));
}

TEST_F(ProxyHeader, OwnCertificate_ItsKeyAndSignature) {
    negotiated.own_key = "EC256";
    negotiated.own_signature = "ecdsa-with-SHA256";
    EXPECT_EQ(text(tls(false).at(0x24)), "ecdsa-with-SHA256");
    EXPECT_EQ(text(tls(false).at(0x25)), "EC256");
    negotiated.own_key = negotiated.own_signature = "";   // resumed: none was shown
    EXPECT_FALSE(tls(false).contains(0x24));
    EXPECT_FALSE(tls(false).contains(0x25));
}

TEST_F(ProxyHeader, Identity_NotAskedForOrNotThere_NoWordOfIt) {
    for (const bool forward : {false, true}) {
        if (forward) negotiated.identity.reset();
        const auto found = tls(forward);
        EXPECT_EQ(flags(found), 0x01u);
        EXPECT_NE(verify(found), 0u);
        EXPECT_FALSE(found.contains(0x22));
        EXPECT_FALSE(found.contains(0x28));
    }
}

TEST_F(ProxyHeader, Resumed_CertificateOfTheSessionOnly) {
    negotiated.resumed = true;
    EXPECT_EQ(flags(tls(true)), 0x05u);
}

TEST_F(ProxyHeader, CertificateTooLong_IsLeftOut) {
    identity->certificate.resize(20'000);
    const auto found = tls(true);
    EXPECT_FALSE(found.contains(0x28));
    EXPECT_EQ(text(found.at(0x22)), "alice");
    EXPECT_EQ(verify(found), 0u);
    // The longest that fits, to the octet.
    identity->certificate.clear();
    const std::size_t others = proxy_header(client, local, negotiated, "id", true).size() + 3;
    identity->certificate.resize(kMaxProxyHeader - others);
    EXPECT_EQ(proxy_header(client, local, negotiated, "id", true).size(), kMaxProxyHeader);
    identity->certificate.resize(kMaxProxyHeader - others + 1);
    EXPECT_FALSE(tls(true).contains(0x28));
}

}  // namespace
}  // namespace sallyport::flows
