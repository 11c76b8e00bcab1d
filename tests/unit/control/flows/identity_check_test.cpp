#include "control/flows/identity_check.h"

#include <gtest/gtest.h>

#include "control/handshake/peer_certificate.h"
#include "tests/unit/control/revocation/answers.h"

/// An identity under two intermediates, asked again after the world has changed.
namespace sallyport::flows {
namespace {

using handshake::share;
using revocation::kNow;

struct World {
    test::Identity root = test::make_ca("Root"), other = test::make_ca("Other");
    test::Identity upper = test::make_ca("Upper", &root), lower = test::make_ca("Lower", &upper);
    test::Identity leaf = test::make_identity({.common_name = "client", .names = {"c.example"}, .extended_key_usage = "clientAuth"}, &lower);
    [[nodiscard]] handshake::Identity identity() const {
        return handshake::identity_of({share(leaf.certificate.get()), share(lower.certificate.get()), share(upper.certificate.get()), share(root.certificate.get())});
    }
};

const World& world() {
    static const World all;
    return all;
}

std::vector<std::shared_ptr<X509>> anchors(std::initializer_list<const test::Identity*> of) {
    std::vector<std::shared_ptr<X509>> list;
    for (const test::Identity* each : of) list.push_back(share(each->certificate.get()));
    return list;
}

TEST(IdentityCheck, RevokedAnywhereInItsChain_IsFound) {
    const auto identity = world().identity();
    EXPECT_FALSE(revoked(identity, nullptr, kNow));
    struct Case {
        const test::Identity *issuer, *revoked;
    };
    for (const Case& each : {Case{&world().lower, &world().leaf}, Case{&world().upper, &world().lower}, Case{&world().root, &world().upper}}) {
        revocation::CrlSet crls;
        ASSERT_EQ(crls.add(revocation::make_crl(*each.issuer, *each.issuer), each.issuer->certificate.get(), kNow), "");
        EXPECT_FALSE(revoked(identity, &crls, kNow));
        ASSERT_EQ(crls.add(revocation::make_crl(*each.issuer, *each.issuer, {.revoked = {each.revoked}, .number = 2}), each.issuer->certificate.get(), kNow), "");
        EXPECT_TRUE(revoked(identity, &crls, kNow));
    }
}

TEST(IdentityCheck, AnchorsThatChange_AreAskedThroughTheWholeChain) {
    const auto identity = world().identity();
    EXPECT_FALSE(untrusted(identity, anchors({&world().root}), X509_PURPOSE_SSL_CLIENT)) << "two intermediates between";
    EXPECT_FALSE(untrusted(identity, anchors({&world().other, &world().upper}), X509_PURPOSE_SSL_CLIENT));
    EXPECT_TRUE(untrusted(identity, anchors({&world().other}), X509_PURPOSE_SSL_CLIENT));
    EXPECT_TRUE(untrusted(identity, {}, X509_PURPOSE_SSL_CLIENT));
    EXPECT_TRUE(untrusted(identity, anchors({&world().root}), X509_PURPOSE_SSL_SERVER));
    EXPECT_TRUE(same_anchors(anchors({&world().root}), anchors({&world().root})));
    EXPECT_FALSE(same_anchors(anchors({&world().root}), anchors({&world().root, &world().other})));
}

TEST(IdentityCheck, NamesThatChange) {
    const auto identity = world().identity();
    EXPECT_FALSE(not_named(identity, {}, {"c.example"}));
    EXPECT_FALSE(not_named(identity, {"x.example"}, {}));
    EXPECT_TRUE(not_named(identity, {}, {"d.example"}));
}

}  // namespace
}  // namespace sallyport::flows
