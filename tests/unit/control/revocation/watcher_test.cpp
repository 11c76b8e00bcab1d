#include "control/revocation/watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "control/revocation/own_answers.h"
#include "tests/unit/control/revocation/answers.h"
#include "tests/unit/control/revocation/responder.h"

namespace sallyport::revocation {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::shared_ptr<X509> shared(const Identity& identity) {
    return {openssl::share(identity.certificate.get()).release(), X509_free};
}

std::shared_ptr<const certificates::CertificateChain> chain_of(const Identity& identity, int days = 30) {
    auto chain = std::make_shared<certificates::CertificateChain>();
    chain->leaf = openssl::share(identity.certificate.get());
    chain->intermediates.push_back(openssl::share(world().ca.certificate.get()));
    chain->not_before = kNow;
    chain->not_after = kNow + std::chrono::days(days);
    return chain;
}

configuration::CrlSource at_url(const std::string& url) {
    configuration::CrlSource source{};
    source.url = url;
    return source;
}

/// An own certificate whose OCSP responder and a client CA whose CRL is `responder`.
class WatcherTest : public testing::Test {
 protected:
    WatcherTest() {
        configuration.state_directory = directory.path();
        configuration.public_roots = directory.path() / "none";
        configuration.revocation.timeout_ms = 1000;
        configuration.revocation.max_octets = 64 << 10;
        configuration.services.emplace_back();
        configuration.services[0].name = "web";
        configuration.pools.emplace_back();
        configuration.pools[0].name = "backends";
        configuration.pools[0].tls.emplace();
        configuration.pools[0].tls->anchors.push_back(shared(world().ca));
    }
    void own_with_ocsp() {
        identity = with_extension(test::make_leaf({"own.example"}, world().ca), NID_info_access,
                                  "OCSP;URI:" + responder.url("/ocsp"));
        own(identity);
    }
    void own(const Identity& certificate, int days = 30) {
        chain = chain_of(certificate, days);
        configuration::CertificateFiles files{};
        files.certificate = "own.pem";
        files.chain = chain;
        configuration.services[0].certificates.push_back(files);
    }
    [[nodiscard]] Octets answer(const AnswerOptions& options = {}) const {
        return make_answer(identity, world().ca, world().ca, options);
    }
    [[nodiscard]] std::unique_ptr<Watcher> watcher(Clock::time_point now = kNow) const {
        return std::make_unique<Watcher>(configuration, make_fetch(configuration.revocation), now);
    }
    /// Asks once; nothing may be believed. Why not.
    std::string refused() {
        const auto one = watcher();
        one->turn(kNow);
        EXPECT_EQ(one->staple(*chain), nullptr);
        EXPECT_FALSE(one->revoked(*chain));
        EXPECT_EQ(one->own().at(0).standing, Standing::unknown);
        EXPECT_EQ(one->own().at(0).failed, 1u);
        return one->own().at(0).why;
    }

    test::TemporaryDirectory directory;
    Responder responder;
    configuration::Configuration configuration;
    Identity identity;
    std::shared_ptr<const certificates::CertificateChain> chain;
};

TEST_F(WatcherTest, Good_IsStapled) {
    own_with_ocsp();
    const Octets good = answer();
    responder.serves(good);
    const auto one = watcher();
    EXPECT_EQ(one->staple(*chain), nullptr);
    int changes = 0;
    one->on_change([&] { ++changes; });
    one->turn(kNow);
    ASSERT_NE(one->staple(*chain), nullptr) << one->own().at(0).why;
    EXPECT_EQ(*one->staple(*chain), good);
    EXPECT_EQ(one->own().at(0).rule, Rule::staple);
    EXPECT_EQ(changes, 1);
    // Another object of the same certificate, as after a configuration was read again.
    EXPECT_NE(one->staple(*chain_of(identity)), nullptr);
    EXPECT_EQ(one->staple(*chain_of(world().leaf)), nullptr);
}

TEST_F(WatcherTest, Revoked_IsNotStapledAndTold) {
    own_with_ocsp();
    responder.serves(answer());
    const auto one = watcher();
    one->turn(kNow);
    responder.serves(answer({.status = V_OCSP_CERTSTATUS_REVOKED}));
    one->turn(kNow + 20h);
    EXPECT_TRUE(one->revoked(*chain));
    EXPECT_EQ(one->staple(*chain), nullptr);
    EXPECT_THAT(one->own().at(0).why, HasSubstr("keyCompromise"));
    // A restart does not forget it, and the good answer from before does not take it back.
    responder.answers({});
    EXPECT_TRUE(watcher(kNow + 21h)->revoked(*chain));
}

TEST_F(WatcherTest, LyingAnswers_AreRefused) {
    own_with_ocsp();
    responder.serves(answer({.status = V_OCSP_CERTSTATUS_UNKNOWN}));
    EXPECT_THAT(refused(), HasSubstr("does not know"));
    responder.serves(answer({.this_update = -3h, .next_update = -1h}));
    EXPECT_THAT(refused(), HasSubstr("stale"));
    responder.serves(answer({.this_update = 1h}));
    EXPECT_THAT(refused(), HasSubstr("not valid before"));
    responder.serves(make_answer(identity, world().ca, world().other_ca));
    EXPECT_THAT(refused(), HasSubstr("signed neither by"));
    responder.serves(make_answer(world().leaf, world().ca, world().ca));
    EXPECT_THAT(refused(), HasSubstr("another certificate"));
    Octets garbage(500, std::byte{0x30});
    responder.serves(garbage);
    EXPECT_THAT(refused(), HasSubstr("http://127.0.0.1"));
}

TEST_F(WatcherTest, LyingHttp_IsRefused) {
    own_with_ocsp();
    const std::string good = Responder::ok(answer());
    const std::string body = good.substr(good.find("\r\n\r\n") + 4);
    const auto says = [&](const std::string& octets) {
        responder.answers([octets](const std::string&) { return octets; });
    };
    // A verified answer would count with any status; an error page does not.
    says("HTTP/1.0 500 Internal Server Error\r\n\r\n<html>");
    EXPECT_THAT(refused(), HasSubstr("missing asn1 encoding"));
    // To the same server, where a good answer would be.
    responder.answers([&](const std::string& path) {
        return path == "/good" ? good : "HTTP/1.0 302 Found\r\nLocation: " + responder.url("/good") + "\r\n\r\n";
    });
    const int before = responder.asked();
    EXPECT_THAT(refused(), HasSubstr("redirect"));
    EXPECT_EQ(responder.asked(), before + 1);
    says("HTTP/1.0 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body.substr(0, 100));
    EXPECT_THAT(refused(), HasSubstr("http://127.0.0.1"));
    says("");
    EXPECT_THAT(refused(), HasSubstr("http://127.0.0.1"));
    says("SSH-2.0-server\r\n");
    EXPECT_THAT(refused(), HasSubstr("http://127.0.0.1"));
    // 200 KiB in DER, where 64 KiB may come.
    says("HTTP/1.0 200 OK\r\n\r\n" + std::string("\x30\x83\x03\x20\x00", 5) + std::string(200 << 10, 'x'));
    EXPECT_THAT(refused(), HasSubstr("max resp len"));
}

TEST_F(WatcherTest, SlowAnswer_IsGivenUp) {
    own_with_ocsp();
    responder.answers([](const std::string&) { return std::string("HTTP/1.0 200 OK\r\n\r\n\x30\x82\x10\x00", 23); });
    responder.drips(true);
    EXPECT_THAT(refused(), HasSubstr("http://127.0.0.1"));
}

TEST_F(WatcherTest, Restart_KeepsStapleWithoutResponder) {
    own_with_ocsp();
    responder.serves(answer());
    watcher()->turn(kNow);
    responder.answers({});
    const int asked = responder.asked();
    EXPECT_NE(watcher(kNow + 1h)->staple(*chain), nullptr);
    EXPECT_EQ(watcher(kNow + 25h)->staple(*chain), nullptr);
    EXPECT_EQ(responder.asked(), asked);

    // What somebody else has written there is verified like all else.
    for (const auto& file : std::filesystem::directory_iterator(directory.path() / "revocation")) {
        const Octets forged = make_answer(identity, world().ca, world().other_ca);
        std::ofstream(file.path(), std::ios::binary).write(reinterpret_cast<const char*>(forged.data()),
                                                           static_cast<std::streamsize>(forged.size()));
    }
    EXPECT_EQ(watcher(kNow + 1h)->staple(*chain), nullptr);
}

TEST_F(WatcherTest, Store_ForgetsWhatTheConfigurationNoLongerHas) {
    own_with_ocsp();
    responder.serves(answer());
    watcher()->turn(kNow);
    const auto files = [&] { return std::distance(std::filesystem::directory_iterator(directory.path() / "revocation"), {}); };
    EXPECT_EQ(files(), 1);
    watcher()->start();
    EXPECT_EQ(files(), 1);
    configuration.services[0].certificates.clear();
    watcher().reset();
    EXPECT_EQ(files(), 1) << "a configuration that is refused after this was made must not have cost the running one its files";
    watcher()->start();
    EXPECT_EQ(files(), 0);
}

TEST_F(WatcherTest, Stopped_WritesAndTellsNothing_AndWhatIsKnownStays) {
    own_with_ocsp();
    responder.serves(answer());
    auto one = watcher();
    bool told = false;
    one->on_change([&] { told = true; });
    one->stop();
    one->turn(kNow);   // as of a fetch that was under way
    EXPECT_FALSE(told);
    EXPECT_TRUE(std::filesystem::is_empty(directory.path() / "revocation"));
    const auto answers = one->answers();
    one.reset();
    EXPECT_NE(answers->staple(*chain), nullptr);
    EXPECT_FALSE(answers->revoked(*chain));
}

TEST_F(WatcherTest, HugeOcspAnswer_IsNotEvenRead) {
    own_with_ocsp();
    Watcher one(configuration, [](const std::string&, std::span<const std::byte>, const std::string&) { return Octets(1 << 20, std::byte{0x30}); }, kNow);
    one.turn(kNow);
    EXPECT_THAT(one.own().at(0).why, HasSubstr("longer than 65536 octets"));
}

TEST_F(WatcherTest, HugeOcspAnswer_IsRefusedWhateverCrlsMayHave) {
    own_with_ocsp();
    configuration.revocation.max_octets = 16 << 20;
    responder.answers([](const std::string&) { return "HTTP/1.0 200 OK\r\n\r\n" + std::string("\x30\x83\x01\x20\x00", 5) + std::string(72 << 10, 'x'); });
    EXPECT_THAT(refused(), HasSubstr("max resp len"));
}

TEST_F(WatcherTest, HostThatAnswersNonsense_IsLeftAlone) {
    for (const char* name : {"a.example", "b.example", "c.example", "d.example"})
        own(with_extension(test::make_leaf({name}, world().ca), NID_info_access, "OCSP;URI:" + responder.url("/ocsp")));
    responder.serves(make_answer(world().leaf, world().ca, world().ca));   // verified, and about another certificate
    const auto one = watcher();
    one->turn(kNow);
    EXPECT_EQ(responder.asked(), 3);
    EXPECT_THAT(one->own().at(3).why, HasSubstr("failed again and again"));
}

TEST_F(WatcherTest, SameCrl_IsNoChange) {
    configuration.pools[0].tls->crl.push_back(at_url(responder.url("/pool")));
    responder.serves(make_crl(world().ca, world().ca));
    const auto one = watcher();
    int changes = 0;
    one->on_change([&] { ++changes; });
    one->turn(kNow);
    EXPECT_EQ(changes, 1);
    one->turn(kNow + 2h);
    EXPECT_EQ(responder.asked(), 2);
    EXPECT_EQ(changes, 1);
    responder.serves(make_crl(world().ca, world().ca, {.revoked = {&world().leaf}, .number = 2}));
    one->turn(kNow + 4h);
    EXPECT_EQ(changes, 2);
}

TEST_F(WatcherTest, Staple_RefreshedAtHalfItsLife) {
    own_with_ocsp();
    responder.serves(answer({.this_update = 0h, .next_update = 100h}));
    const auto one = watcher();
    one->turn(kNow);
    const auto due = one->own().at(0).next_attempt;
    EXPECT_GE(due, kNow + 44h);   // ten per cent of jitter about 50 hours
    EXPECT_LE(due, kNow + 56h);
    one->turn(kNow + 43h);
    EXPECT_EQ(responder.asked(), 1);
    one->turn(kNow + 56h);
    EXPECT_EQ(responder.asked(), 2);
    // Nothing new came in time: what is stale is not stapled.
    responder.answers({});
    one->turn(kNow + 101h);
    EXPECT_EQ(one->staple(*chain), nullptr);
    EXPECT_THAT(one->own().at(0).why, HasSubstr("stale"));
}

TEST_F(WatcherTest, Failures_BackOffToAnHour) {
    own_with_ocsp();
    const auto one = watcher();
    Clock::time_point now = kNow;
    Clock::duration wait{};
    for (int i = 0; i < 40; ++i) {
        one->turn(now);
        const auto next = one->own().at(0).next_attempt;
        ASSERT_GT(next, now);
        wait = next - now;
        if (i == 0) {
            EXPECT_GE(wait, 27s);
            EXPECT_LE(wait, 33s);
        }
        EXPECT_LE(wait, 66min);
        now = next;
    }
    EXPECT_GE(wait, 9min);
}

TEST_F(WatcherTest, Rules_OfCertificates) {
    own(test::make_leaf({"short.example"}, world().ca), 7);
    own(test::make_leaf({"none.example"}, world().ca));
    const auto one = watcher();
    one->turn(kNow);
    ASSERT_EQ(one->own().size(), 2u);
    EXPECT_EQ(one->own()[0].rule, Rule::short_lived);
    EXPECT_EQ(one->own()[0].standing, Standing::good);
    EXPECT_EQ(one->own()[1].rule, Rule::none);
    EXPECT_EQ(responder.asked(), 0);
}

TEST_F(WatcherTest, OwnCertificateInCrl_IsRevoked) {
    const Identity by_crl = with_extension(test::make_leaf({"crl.example"}, world().ca), NID_crl_distribution_points,
                                           "URI:" + responder.url("/crl"));
    own(by_crl);
    responder.serves(make_crl(world().ca, world().ca));
    const auto one = watcher();
    one->turn(kNow);
    EXPECT_EQ(one->own().at(0).standing, Standing::good) << one->own().at(0).why;
    responder.serves(make_crl(world().ca, world().ca, {.revoked = {&by_crl}, .number = 2}));
    one->turn(kNow + 2h);
    EXPECT_TRUE(one->revoked(*chain));
    responder.answers({});
    EXPECT_TRUE(watcher(kNow + 3h)->revoked(*chain));
}

TEST_F(WatcherTest, CrlsOfPoolAndService_ArePolled) {
    configuration.pools[0].tls->crl.push_back(at_url(responder.url("/pool")));
    auto& auth = configuration.services[0].client_auth;
    auth.anchors.push_back(shared(world().other_ca));
    auth.crl.push_back(at_url(responder.url("/service")));
    responder.answers([&](const std::string& path) {
        return Responder::ok(path == "/pool" ? make_crl(world().ca, world().ca, {.revoked = {&world().revoked}})
                                             : make_crl(world().other_ca, world().other_ca));
    });
    const auto one = watcher();
    EXPECT_TRUE(one->of_pool(0)->empty());
    one->turn(kNow);
    EXPECT_EQ(one->of_pool(0)->check(world().revoked.certificate.get(), world().ca.certificate.get(), kNow).standing,
              Standing::revoked);
    EXPECT_EQ(one->of_pool(0)->check(world().leaf.certificate.get(), world().ca.certificate.get(), kNow).standing,
              Standing::good);
    EXPECT_FALSE(one->of_service(0)->empty());
    EXPECT_EQ(one->of_service(0)->check(world().leaf.certificate.get(), world().ca.certificate.get(), kNow).standing,
              Standing::unknown);
    EXPECT_EQ(responder.asked(), 2);
    one->turn(kNow + 53min);
    EXPECT_EQ(responder.asked(), 2);
    one->turn(kNow + 67min);   // crl_poll_s
    EXPECT_EQ(responder.asked(), 4);
    responder.answers({});
    EXPECT_FALSE(watcher(kNow + 2h)->of_pool(0)->empty());
}

TEST_F(WatcherTest, StaleCrl_BacksOffAndLeavesOthersAlone) {
    const auto other = test::make_ca("Third CA");
    configuration.pools[0].tls->anchors.push_back(shared(other));
    configuration.pools[0].tls->crl = {at_url(responder.url("/stale")), at_url(responder.url("/fresh"))};
    responder.answers([&](const std::string& path) {
        return Responder::ok(path == "/stale"
                                 ? make_crl(world().ca, world().ca,
                                            {.revoked = {&world().revoked}, .this_update = -48h, .next_update = -24h})
                                 : make_crl(other, other));
    });
    const auto one = watcher();
    one->turn(kNow);
    EXPECT_THAT(one->crls().at(0).why, HasSubstr("stale"));
    EXPECT_THAT(one->crls().at(1).why, IsEmpty());
    EXPECT_GE(one->crls().at(1).next_attempt, kNow + 50min);
    EXPECT_EQ(one->of_pool(0)->check(world().revoked.certificate.get(), world().ca.certificate.get(), kNow).standing,
              Standing::revoked);
    const auto first = one->crls().at(0).next_attempt;
    one->turn(first);
    EXPECT_GE(one->crls().at(0).next_attempt - first, 50s);
}

TEST_F(WatcherTest, CrlFile_IsReadAgainWhenChanged) {
    const auto write = [&](const Octets& crl) {
        return directory.write("pool.crl", std::string(reinterpret_cast<const char*>(crl.data()), crl.size()));
    };
    configuration.pools[0].tls->crl.emplace_back();
    configuration.pools[0].tls->crl[0].file = write(make_crl(world().ca, world().ca));
    const auto one = watcher();
    const auto standing = [&] {
        return one->of_pool(0)->check(world().revoked.certificate.get(), world().ca.certificate.get(), kNow).standing;
    };
    EXPECT_EQ(standing(), Standing::good);
    write(make_crl(world().ca, world().ca, {.revoked = {&world().revoked}, .number = 2}));
    one->turn(kNow + 31s);
    EXPECT_EQ(standing(), Standing::revoked);
    write({});
    one->turn(kNow + 62s);
    EXPECT_THAT(one->crls().at(0).why, HasSubstr("not a CRL"));
    EXPECT_EQ(standing(), Standing::revoked);
}

TEST_F(WatcherTest, Thread_FetchesAndStops) {
    own_with_ocsp();
    responder.serves(answer());
    const auto one = watcher();
    std::atomic<bool> changed = false;
    one->on_change([&] {
        changed = true;
        changed.notify_all();
    });
    one->start();
    changed.wait(false);
    EXPECT_NE(one->staple(*chain), nullptr);
}

}  // namespace
}  // namespace sallyport::revocation
