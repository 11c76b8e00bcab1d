#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/revocation/fetch.h"
#include "control/revocation/watcher.h"
#include "tests/unit/control/revocation/answers.h"

namespace sallyport::revocation {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

X509* ca() { return world().ca.certificate.get(); }
X509* leaf() { return world().leaf.certificate.get(); }

TEST(CrlSet, Complete_TellsRevokedFromGood) {
    CrlSet set;
    EXPECT_EQ(set.check(leaf(), ca(), kNow).standing, Standing::unknown);
    ASSERT_THAT(set.add(make_crl(world().ca, world().ca, {.revoked = {&world().revoked}}), ca(), kNow), IsEmpty());
    EXPECT_EQ(set.check(leaf(), ca(), kNow).standing, Standing::good);
    EXPECT_EQ(set.check(world().revoked.certificate.get(), ca(), kNow).standing, Standing::revoked);
}

TEST(CrlSet, NextUpdatePassed_UnknownButListedStaysRevoked) {
    CrlSet set;
    ASSERT_THAT(set.add(make_crl(world().ca, world().ca, {.revoked = {&world().revoked}}), ca(), kNow), IsEmpty());
    EXPECT_EQ(set.check(leaf(), ca(), kNow + 48h).standing, Standing::unknown);
    EXPECT_EQ(set.check(world().revoked.certificate.get(), ca(), kNow + 48h).standing, Standing::revoked);
}

TEST(CrlSet, Refuses_WithReason) {
    CrlSet set;
    const auto refused = [&](const Octets& crl) { return set.add(crl, ca(), kNow); };
    EXPECT_THAT(refused(make_crl(world().ca, world().other_ca)), HasSubstr("signature"));
    EXPECT_THAT(refused(make_crl(world().other_ca, world().other_ca)), HasSubstr("another issuer"));
    EXPECT_THAT(refused(make_crl(world().ca, world().ca, {.digest = EVP_sha1()})), HasSubstr("too weak"));
    EXPECT_THAT(refused(make_crl(world().ca, world().ca, {.this_update = 1h})), HasSubstr("not valid before"));
    EXPECT_THAT(refused(make_crl(world().ca, world().ca, {.critical_extension = NID_delta_crl})), HasSubstr("delta"));
    EXPECT_THAT(refused(make_crl(world().ca, world().ca, {.critical_extension = NID_invalidity_date})), HasSubstr("critical"));
    Octets cut = make_crl(world().ca, world().ca);
    cut.pop_back();
    EXPECT_THAT(refused(cut), HasSubstr("not a CRL"));
    EXPECT_TRUE(set.empty());
}

TEST(CrlSet, Older_NeverReplacesNewer) {
    CrlSet set;
    ASSERT_THAT(set.add(make_crl(world().ca, world().ca, {.revoked = {&world().leaf}, .number = 5}), ca(), kNow), IsEmpty());
    EXPECT_THAT(set.add(make_crl(world().ca, world().ca, {.number = 4}), ca(), kNow), HasSubstr("lower"));
    EXPECT_THAT(set.add(make_crl(world().ca, world().ca, {.this_update = -5h, .number = 6}), ca(), kNow), HasSubstr("older"));
    EXPECT_EQ(set.check(leaf(), ca(), kNow).standing, Standing::revoked);
}

TEST(CrlSet, HundredThousandEntries_EachIsFound) {
    const Crl crl(X509_CRL_new());
    X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(ca()));
    X509_CRL_set1_lastUpdate(crl.get(), at(-1h).get());
    X509_CRL_set1_nextUpdate(crl.get(), at(24h).get());
    constexpr long kEntries = 100'000;
    const auto serial = [](long i) { return 1'000'000 + (i * 7919 % kEntries) * 2; };   // out of order, every second number
    const openssl::Owner<ASN1_INTEGER, ASN1_INTEGER_free> number(ASN1_INTEGER_new());
    const Time revoked_at = at(-2h);
    for (long i = 0; i < kEntries; ++i) {
        X509_REVOKED* entry = X509_REVOKED_new();
        ASN1_INTEGER_set(number.get(), serial(i));
        X509_REVOKED_set_serialNumber(entry, number.get());
        X509_REVOKED_set_revocationDate(entry, revoked_at.get());
        X509_CRL_add0_revoked(crl.get(), entry);
    }
    X509_CRL_sign(crl.get(), world().ca.key.get(), EVP_sha256());
    CrlSet set;
    ASSERT_THAT(set.add(der<X509_CRL>(crl.get(), i2d_X509_CRL), ca(), kNow), IsEmpty());

    const openssl::Certificate certificate(X509_dup(leaf()));
    const auto standing = [&](long of) {
        ASN1_INTEGER_set(number.get(), of);
        X509_set_serialNumber(certificate.get(), number.get());
        return set.check(certificate.get(), ca(), kNow).standing;
    };
    for (long i = 0; i < kEntries; i += 97) {
        ASSERT_EQ(standing(serial(i)), Standing::revoked) << serial(i);
        ASSERT_EQ(standing(serial(i) + 1), Standing::good) << serial(i) + 1;
    }
}

Standing ocsp(const Octets& answer, Clock::time_point now = kNow) { return check_ocsp(answer, leaf(), ca(), now).standing; }

TEST(Ocsp, IssuerOrDelegate_IsBelieved) {
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().ca)), Standing::good);
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().responder)), Standing::good);
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().ca, {.status = V_OCSP_CERTSTATUS_REVOKED})), Standing::revoked);
}

TEST(Ocsp, Liars_AreUnknown) {
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().no_responder)), Standing::unknown);
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().other_ca)), Standing::unknown);
    EXPECT_EQ(ocsp(make_answer(world().revoked, world().ca, world().ca)), Standing::unknown);
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().ca, {.status = V_OCSP_CERTSTATUS_UNKNOWN})), Standing::unknown);
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().ca, {.this_update = 1h})), Standing::unknown);
    EXPECT_EQ(ocsp(make_answer(world().leaf, world().ca, world().ca, {.this_update = -2h, .next_update = -1h})), Standing::unknown);
    EXPECT_EQ(ocsp({}), Standing::unknown);
}

TEST(Ocsp, NoNextUpdate_FreshForFourDays) {
    const Octets answer = make_answer(world().leaf, world().ca, world().ca, {.has_next_update = false});
    EXPECT_EQ(ocsp(answer, kNow + 94h), Standing::good);
    EXPECT_EQ(ocsp(answer, kNow + 96h), Standing::unknown);
}

TEST(Fetch, Url_OnlyPlainHttpWithoutUser) {
    EXPECT_THAT(check_url("http://ocsp.example/path?query"), IsEmpty());
    for (const char* url : {"https://a.example/", "ftp://a.example/", "http://user@a.example/", "http:///", "http://a.example/\r\nX: y", ""})
        EXPECT_THAT(check_url(url), testing::Not(IsEmpty())) << url;
}

}  // namespace
}  // namespace sallyport::revocation
