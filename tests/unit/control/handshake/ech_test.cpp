#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <openssl/ech.h>
#include <sys/stat.h>

#include <fstream>
#include <set>
#include <sstream>

#include "control/handshake/ech_keys.h"
#include "control/handshake/server_context.h"
#include "crypto/format.h"
#include "harness.h"

/// Encrypted ClientHello (RFC 9849): keys that rotate, and what becomes of each kind of client.
namespace sallyport::handshake {
namespace {

using namespace test;
using namespace std::chrono_literals;
using channel::EndReason;
using policy::Violation;
using testing::HasSubstr;

constexpr const char* kPublic = "public.example";
const auto kNow = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());

configuration::Ech settings() { return {.public_name = kPublic, .rotate_s = 100, .retain_s = 250}; }

struct World {
    test::Identity ca = make_ca("CA");
    test::Identity tenant = make_leaf({"a.example"}, ca);
    test::Identity tenant_b = make_leaf({"b.example"}, ca);
    test::Identity front = make_leaf({kPublic}, ca);
    test::Identity client = make_identity({.common_name = "client", .names = {"c.example"}, .extended_key_usage = "clientAuth"}, &ca);
};

const World& world() {
    static const World all;
    return all;
}

std::shared_ptr<const ServerContext> context_of(std::shared_ptr<const EchKeys> keys, bool client_auth = false) {
    configuration::Configuration configuration;
    configuration.policy_level = 1;
    configuration::Service service;
    service.name = "web";
    service.certificates = {loaded(world().tenant), loaded(world().tenant_b), loaded(world().front)};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    service.alpn = {"h2"};
    service.ech = settings();
    if (client_auth) {
        service.client_auth.mode = configuration::ClientAuthMode::required;
        service.client_auth.anchors = {share(world().ca.certificate.get())};
    }
    return make_server_context(configuration, service, {.tickets = make_ticket_keys({}), .ech = std::move(keys)});
}

/// A client that trusts our CA and offers ECH with these configurations.
struct EchClient {
    openssl::Context context;
    std::unique_ptr<Peer> peer;
    EchClient(const std::vector<std::byte>& configs, const char* inner, const std::string& groups = "", const test::Identity* identity = nullptr)
        : context(peer_context({.version = TLS1_3_VERSION, .groups = groups, .alpn = "h2", .identity = identity})) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), world().ca.certificate.get());
        SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
        peer = std::make_unique<Peer>(context.get(), false, inner);
        SSL_set1_dnsname(peer->ssl(), inner);
        if (configs.empty()) return;
        EXPECT_EQ(SSL_set1_ech_config_list(peer->ssl(), reinterpret_cast<const std::uint8_t*>(configs.data()), configs.size()), 1);
    }
    int status() {
        char *inner = nullptr, *outer = nullptr;
        const int status = SSL_ech_get1_status(peer->ssl(), &inner, &outer);
        OPENSSL_free(inner);
        OPENSSL_free(outer);
        return status;
    }
    std::vector<std::byte> retry_configs() {
        unsigned char* octets = nullptr;
        std::size_t length = 0;
        if (SSL_ech_get1_retry_config(peer->ssl(), &octets, &length) != 1 || octets == nullptr) return {};
        const auto* begin = reinterpret_cast<const std::byte*>(octets);
        std::vector<std::byte> list(begin, begin + length);
        OPENSSL_free(octets);
        return list;
    }
};

TEST(Ech, Accepted_TheInnerNameChoosesTheCertificate) {
    const auto keys = EchKeys::make(settings(), kNow);
    const auto context = context_of(keys);
    for (const char* name : {"a.example", "b.example"}) {
        EchClient client(keys->config_list(), name);
        const Served served = serve(context, *client.peer);
        ASSERT_EQ(served.step, Step::done) << served.failure.text;
        EXPECT_EQ(served.negotiated.ech, EchOutcome::accepted);
        EXPECT_EQ(served.negotiated.server_name, name);
        EXPECT_EQ(served.offer.server_name, name);
        EXPECT_TRUE(served.hello_accepted);
        EXPECT_EQ(client.status(), SSL_ECH_STATUS_SUCCESS);
        RecordLayer records(served.handed->handoff);
        EXPECT_EQ(records.open(client.peer->write("data")), std::optional<std::string>("data"));
    }
}

TEST(Ech, BrakedOrRefused_TheInnerNameIsKnownForOne) {
    // What a record is made of must say that the name came encrypted, whatever ended the handshake.
    const auto keys = EchKeys::make(settings(), kNow);
    EchClient client(keys->config_list(), "a.example");
    const Served served = serve(context_of(keys), *client.peer, [](const Offer&) { return false; });
    ASSERT_EQ(served.failure.reason, EndReason::client_braked);
    EXPECT_EQ(served.negotiated.ech, EchOutcome::accepted);
    EXPECT_EQ(served.negotiated.server_name, "a.example");
    EXPECT_EQ(served.offer.server_name, "a.example");
}

TEST(Ech, AcceptedAfterHelloRetryRequest) {
    const auto keys = EchKeys::make(settings(), kNow);
    EchClient client(keys->config_list(), "b.example", "P-521:X25519");  // its key share is for a group that is not taken
    const Served served = serve(context_of(keys), *client.peer);
    ASSERT_EQ(served.step, Step::done) << served.failure.text;
    EXPECT_EQ(served.feeds, 3U);
    EXPECT_EQ(served.negotiated.ech, EchOutcome::accepted);
    EXPECT_EQ(served.negotiated.server_name, "b.example");
    EXPECT_EQ(client.status(), SSL_ECH_STATUS_SUCCESS);
}

TEST(Ech, AcceptedAndResumed) {
    const auto keys = EchKeys::make(settings(), kNow);
    const auto context = context_of(keys);
    EchClient first(keys->config_list(), "a.example");
    ASSERT_EQ(serve(context, *first.peer).step, Step::done);
    const openssl::Session session(SSL_get1_session(first.peer->ssl()));
    EchClient second(keys->config_list(), "a.example");
    SSL_set_session(second.peer->ssl(), session.get());
    const Served served = serve(context, *second.peer);
    ASSERT_EQ(served.step, Step::done) << served.failure.text;
    EXPECT_TRUE(served.negotiated.resumed);
    EXPECT_EQ(served.negotiated.ech, EchOutcome::accepted);
}

TEST(Ech, NotOffered_None) {
    const auto context = context_of(EchKeys::make(settings(), kNow));
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer client(peer.get(), false, "a.example");
        const Served served = serve(context, client);
        ASSERT_EQ(served.step, Step::done) << served.failure.text;
        EXPECT_EQ(served.negotiated.ech, EchOutcome::none);
    }
}

TEST(Ech, Grease_IsServedAsIfItWereNot) {
    for (const bool keys : {true, false}) {
        const auto context = context_of(keys ? EchKeys::make(settings(), kNow) : nullptr);
        for (const std::string groups : {"", "P-521:X25519"}) {
            EchClient client({}, "a.example", groups);
            SSL_set_options(client.peer->ssl(), SSL_OP_ECH_GREASE);
            const Served served = serve(context, *client.peer);
            ASSERT_EQ(served.step, Step::done) << served.failure.text;
            EXPECT_EQ(served.negotiated.ech, EchOutcome::grease);
            EXPECT_EQ(served.negotiated.server_name, "a.example");
            RecordLayer records(served.handed->handoff);
            EXPECT_EQ(records.open(client.peer->write("data")), std::optional<std::string>("data"));
        }
    }
}

TEST(Ech, ConfigurationThatIsNotOurs_RejectedWithRetryConfigurations) {
    const auto keys = EchKeys::make(settings(), kNow), foreign = EchKeys::make(settings(), kNow);
    for (const bool client_auth : {false, true}) {
        const auto context = context_of(keys, client_auth);
        for (const std::string groups : {"", "P-521:X25519"}) {
            EchClient client(foreign->config_list(), "a.example", groups);
            const Served served = serve(context, *client.peer);
            EXPECT_EQ(served.negotiated.ech, EchOutcome::rejected);
            EXPECT_FALSE(served.hello_accepted);
            EXPECT_EQ(served.negotiated.server_name, kPublic);
            EXPECT_FALSE(served.negotiated.identity);
            // Either the handshake was finished, or the client has said ech_required in it.
            if (served.step == Step::failed) {
                EXPECT_EQ(served.failure.reason, EndReason::ech_rejected) << served.failure.text;
                EXPECT_EQ(served.failure.violation, Violation::ech_rejected);
                EXPECT_TRUE(served.failure.alert_received);
                EXPECT_EQ(served.failure.alert, groups.empty() ? SSL_AD_ECH_REQUIRED : SSL_AD_ILLEGAL_PARAMETER);
            }
            // libssl 4.0.3 as client and server at both ends gives up with illegal_parameter after a HelloRetryRequest; nothing is served all the same.
            if (!groups.empty()) continue;
            EXPECT_EQ(client.retry_configs(), keys->config_list());
            // With them it is accepted.
            EchClient again(client.retry_configs(), "a.example", groups, client_auth ? &world().client : nullptr);
            const Served second = serve(context, *again.peer);
            ASSERT_EQ(second.step, Step::done) << second.failure.text;
            EXPECT_EQ(second.negotiated.ech, EchOutcome::accepted);
            EXPECT_EQ(second.negotiated.identity != nullptr, client_auth);
        }
    }
}

TEST(Ech, PublicName_ServesNobody) {
    const auto context = context_of(EchKeys::make(settings(), kNow));
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto peer = peer_context({.version = version});
        Peer client(peer.get(), false, kPublic);
        const Served served = serve(context, client);
        EXPECT_EQ(served.step, Step::failed);
        EXPECT_EQ(served.failure.violation, Violation::unknown_name);
        EXPECT_EQ(client.alert_received(), SSL_AD_UNRECOGNIZED_NAME);
    }
}

TEST(Ech, UnknownInnerName_IsRefusedWithoutBeingTold) {
    const auto keys = EchKeys::make(settings(), kNow);
    EchClient client(keys->config_list(), "secret.example");
    const Served served = serve(context_of(keys), *client.peer);
    EXPECT_EQ(served.step, Step::failed);
    EXPECT_EQ(served.failure.violation, Violation::unknown_name);
    EXPECT_THAT(served.failure.text, testing::Not(HasSubstr("secret")));
}

TEST(Ech, OldKeyStillOpens_NewestIsHandedOut) {
    const auto first = EchKeys::make(settings(), kNow);
    const auto second = first->rotated(settings(), kNow + 100s);
    ASSERT_TRUE(second);
    const auto context = context_of(second);
    EchClient client(first->config_list(), "a.example");
    const Served served = serve(context, *client.peer);
    ASSERT_EQ(served.step, Step::done) << served.failure.text;
    EXPECT_EQ(served.negotiated.ech, EchOutcome::accepted);
    EchClient stranger(EchKeys::make(settings(), kNow)->config_list(), "a.example");
    EXPECT_EQ(serve(context, *stranger.peer).negotiated.ech, EchOutcome::rejected);
    EXPECT_EQ(stranger.retry_configs(), second->config_list());   // and not the old one
    // When it has died it no longer opens.
    const auto third = second->rotated(settings(), kNow + 100s + 250s);
    ASSERT_TRUE(third);
    EchClient late(first->config_list(), "a.example");
    EXPECT_EQ(serve(context_of(third), *late.peer).negotiated.ech, EchOutcome::rejected);
}

TEST(Ech, PublicNameWithoutCertificate_IsRefusedWhenTheContextIsMade) {
    auto other = settings();
    other.public_name = "elsewhere.example";
    EXPECT_THROW(static_cast<void>(context_of(EchKeys::make(other, kNow))), std::runtime_error);
}

// Keys.

TEST(EchKeys, RotationAndRetention) {
    std::shared_ptr<const EchKeys> keys = EchKeys::make(settings(), kNow);
    EXPECT_EQ(keys->count(), 1U);
    EXPECT_EQ(keys->next_change(settings()), kNow + 100s);
    EXPECT_FALSE(keys->rotated(settings(), kNow + 99s));
    for (int round = 1; round <= 8; ++round) {
        const auto now = kNow + round * 100s;
        const auto next = keys->rotated(settings(), now);
        ASSERT_TRUE(next);
        // Published for 100 s and kept for 250 s more: the newest, two behind it and one that has 50 s left.
        EXPECT_EQ(next->count(), std::min<std::size_t>(static_cast<std::size_t>(round) + 1, 4));
        std::set<std::uint8_t> ids;
        for (const auto& key : next->keys()) ids.insert(key.config_id);
        EXPECT_EQ(ids.size(), next->count());
        EXPECT_EQ(next->keys().front().made, now);
        EXPECT_EQ(next->keys().front().dies, EchKeys::Clock::time_point::max());
        int live = 0;
        EXPECT_EQ(OSSL_ECHSTORE_num_keys(next->store(), &live), 1);
        EXPECT_EQ(static_cast<std::size_t>(live), next->count());
        keys = next;
    }
    const auto later = keys->rotated(settings(), kNow + 100000s);
    ASSERT_TRUE(later);
    EXPECT_EQ(later->count(), 2U);   // what was published until now is kept, however late the rotation came
}

TEST(EchKeys, SavedAndLoadedAgain) {
    const TemporaryDirectory directory;
    const auto file = directory.path() / "ech" / "web.pem";
    const auto keep = [&](std::chrono::system_clock::time_point now) {
        const auto [keys, unsaved] = EchKeys::prepare(settings(), file, now);
        if (unsaved) keys->save(file);
        return keys;
    };
    (void)EchKeys::prepare(settings(), file, kNow);
    EXPECT_FALSE(std::filesystem::exists(file)) << "nothing is written before somebody says so";
    const auto first = keep(kNow);
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    ASSERT_EQ(::stat(file.parent_path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
    const auto same = keep(kNow + 50s);
    EXPECT_EQ(same->config_list(), first->config_list());
    const auto rotated = keep(kNow + 100s);
    EXPECT_NE(rotated->config_list(), first->config_list());
    const auto loaded = EchKeys::load(settings(), file, kNow + 101s);
    ASSERT_EQ(loaded->count(), 2U);
    EXPECT_EQ(loaded->config_list(), rotated->config_list());
    EXPECT_EQ(loaded->keys()[1].config_id, first->keys()[0].config_id);
    EXPECT_EQ(loaded->keys()[1].dies, kNow + 100s + 250s);
    EXPECT_EQ(loaded->public_name(), kPublic);
    std::ostringstream dns;
    dns << std::ifstream(directory.path() / "ech" / "web.dns").rdbuf();
    EXPECT_EQ(dns.str(), sallyport::format("ech=\"{}\"\n", rotated->dns_value()));
    // An old one that came from the file opens.
    EchClient client(first->config_list(), "a.example");
    EXPECT_EQ(serve(context_of(loaded), *client.peer).negotiated.ech, EchOutcome::accepted);
}

TEST(EchKeys, AnotherPublicName_RotatesAtOnce) {
    const auto keys = EchKeys::make(settings(), kNow);
    auto other = settings();
    other.public_name = "Other.Example";
    const auto next = keys->rotated(other, kNow + 1s);
    ASSERT_TRUE(next);
    EXPECT_EQ(next->public_name(), "other.example");
    EXPECT_EQ(next->count(), 2U);
}

TEST(EchKeys, DnsValue_IsAnECHConfigListInBase64) {
    const auto keys = EchKeys::make(settings(), kNow);
    const auto& list = keys->config_list();
    ASSERT_GT(list.size(), 8U);
    EXPECT_EQ(std::to_integer<std::size_t>(list[0]) << 8 | std::to_integer<std::size_t>(list[1]), list.size() - 2);   // RFC 9849 4
    EXPECT_EQ(list[2], std::byte{0xfe});
    EXPECT_EQ(list[3], std::byte{0x0d});
    EXPECT_EQ(std::to_integer<int>(list[6]), keys->keys().front().config_id);
    EXPECT_EQ(std::to_integer<int>(list[7]) << 8 | std::to_integer<int>(list[8]), OSSL_HPKE_KEM_ID_X25519);
    Octets decoded(keys->dns_value().size());
    const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()), reinterpret_cast<const unsigned char*>(keys->dns_value().data()), static_cast<int>(keys->dns_value().size()));
    ASSERT_GE(length, static_cast<int>(list.size()));
    decoded.resize(list.size());
    EXPECT_EQ(decoded, list);
}

TEST(EchKeys, FileWithoutPrivateKey_OrOpenToOthers_OrEmpty_IsRefused) {
    const TemporaryDirectory directory;
    const auto file = directory.path() / "web.pem";
    EchKeys::make(settings(), kNow)->save(file);
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    const std::string whole = text.str();
    const auto error_of = [&](const std::string& content, unsigned mode) {
        try {
            static_cast<void>(EchKeys::load(settings(), directory.write("other.pem", content, mode), kNow));
        } catch (const std::runtime_error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    EXPECT_EQ(error_of(whole, 0600), "");
    EXPECT_THAT(error_of(whole, 0640), HasSubstr("mode 0600"));
    EXPECT_THAT(error_of("", 0600), HasSubstr("holds no key"));
    const auto begin = whole.find("-----BEGIN PRIVATE KEY"), end = whole.find("-----BEGIN ECHCONFIG");
    ASSERT_NE(begin, std::string::npos);
    ASSERT_NE(end, std::string::npos);
    EXPECT_NE(error_of(whole.substr(0, begin) + whole.substr(end), 0600), "");
    EXPECT_THAT(error_of("made: soon\n" + whole.substr(begin), 0600), HasSubstr("seconds"));
    EXPECT_NE(error_of("made: 1\nnothing\n", 0600), "");
}

}  // namespace
}  // namespace sallyport::handshake
