// What one handshake costs control: microseconds of the appliance's side, and those of libssl alone beside it.
//
//   handshake_bench [ROUNDS [TEXT]]      7 rounds of 400 handshakes a line unless told; only lines with that text, such as "server TLS 1.3 full"
//
// Each line is a kind of handshake, ECDSA P-256 with one intermediate, X25519, AES-128-GCM. The other end is libssl in the same thread, and is not
// counted: the clock runs from the making of the side that is measured over all its steps to its end. 'ours' is ServerHandshake or
// ClientHandshake with all that the policy asks for, to the hand-off of the keys; 'libssl' is an SSL object on memory BIOs with the same lists, tickets and
// verification, nothing read back, and the memory of libcrypto's that control keeps (openssl_memory.h). Handshakes of both take turns; each column is the median of all, then the tenth percentile, which a neighbour on
// the machine disturbs less.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "control/certificates/openssl_memory.h"
#include "control/handshake/key_provider.h"
#include "control/handshake/server_context.h"
#include "control/policy/catalogue.h"
#include "control/revocation/own_answers.h"
#include "crypto/check.h"
#include "crypto/format.h"
#include "tests/certificates.h"
#include "tests/unit/control/handshake/harness.h"

namespace sallyport::handshake {
namespace {

using test::Octets;
using test::Peer;
using Clock = std::chrono::steady_clock;

constexpr int kHandshakes = 400;
constexpr int kBlock = 20;   ///< after so many the other one goes first
constexpr const char* kName = "www.example.org";
constexpr const char* kOpenSslsOwn = "provider=default";   // not our key provider
constexpr const char* kGroups = "X25519:P-256";   // the second is for the signature of TLS 1.2 (RFC 8422 5.1.1)
constexpr const char* kSuite13 = "TLS_AES_128_GCM_SHA256";
constexpr const char* kSuite12 = "ECDHE-ECDSA-AES128-GCM-SHA256";

/// Runs while the side that is measured works.
class StopWatch {
 public:
    template <typename Work>
    auto operator()(Work work) {
        const auto begin = Clock::now();
        if constexpr (std::is_void_v<decltype(work())>) {
            work();
            spent_ += Clock::now() - begin;
        } else {
            auto result = work();
            spent_ += Clock::now() - begin;
            return result;
        }
    }
    [[nodiscard]] double microseconds() const { return std::chrono::duration<double, std::micro>(spent_).count(); }

 private:
    Clock::duration spent_{};
};

/// A side that is measured: takes the other end's octets, appends its own, says when it is done.
class Side {
 public:
    Side() = default;
    virtual ~Side() = default;
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;
    virtual bool feed(std::span<const std::byte> octets, Octets& output) = 0;
    /// What comes after it: a server's tickets.
    virtual void after(std::span<const std::byte> octets) { static_cast<void>(octets); }
};

class OurServer final : public Side {
 public:
    explicit OurServer(const std::shared_ptr<const ServerContext>& context) : handshake_(context, [](const Offer&) { return true; }) {}
    bool feed(std::span<const std::byte> octets, Octets& output) override {
        const Step step = handshake_.feed(octets, output);
        SALLYPORT_CHECK(step != Step::failed);
        if (step == Step::done) handed_ = handshake_.take_handed();
        return step == Step::done;
    }

 private:
    ServerHandshake handshake_;
    Handed handed_;
};

class OurClient final : public Side {
 public:
    explicit OurClient(const std::shared_ptr<ClientContext>& context) : handshake_(context, "", "member") {}
    bool feed(std::span<const std::byte> octets, Octets& output) override {
        const Step step = octets.empty() ? handshake_.start(output) : handshake_.feed(octets, output);
        SALLYPORT_CHECK(step != Step::failed);
        if (step == Step::done) handed_ = handshake_.take_handed();
        return step == Step::done;
    }
    void after(std::span<const std::byte> octets) override {
        for (const auto record : test::records_of(octets)) handshake_.ticket_record(record);
    }

 private:
    ClientHandshake handshake_;
    Handed handed_;
};

/// An SSL object and nothing else.
class Bare final : public Side {
 public:
    Bare(SSL_CTX* context, bool server, SSL_SESSION* session) : ssl_(SSL_new(context)), in_(BIO_new(BIO_s_mem())), out_(BIO_new(BIO_s_mem())) {
        BIO_set_mem_eof_return(in_, -1);
        SSL_set_bio(ssl_.get(), in_, out_);
        server ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
        if (server) return;
        SSL_set_tlsext_host_name(ssl_.get(), kName);
        SSL_set1_dnsname(ssl_.get(), kName);
        if (session != nullptr) SSL_set_session(ssl_.get(), session);
    }
    ~Bare() override { SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); }
    bool feed(std::span<const std::byte> octets, Octets& output) override {
        if (!octets.empty()) BIO_write(in_, octets.data(), static_cast<int>(octets.size()));
        const int result = SSL_do_handshake(ssl_.get());
        SALLYPORT_CHECK(result == 1 || SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ);
        char* data = nullptr;
        const long length = BIO_get_mem_data(out_, &data);
        const auto* begin = reinterpret_cast<const std::byte*>(data);
        output.insert(output.end(), begin, begin + length);
        static_cast<void>(BIO_reset(out_));
        return result == 1;
    }
    void after(std::span<const std::byte> octets) override {
        BIO_write(in_, octets.data(), static_cast<int>(octets.size()));
        char none = 0;
        SALLYPORT_CHECK(SSL_read(ssl_.get(), &none, 1) <= 0);
    }

 private:
    openssl::Connection ssl_;
    BIO* in_;
    BIO* out_;
};

/// What a client's context has been given last.
struct LastSession {
    openssl::Session session;
    void watch(SSL_CTX* context) {
        SSL_CTX_set_app_data(context, this);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, [](SSL* ssl, SSL_SESSION* next) {
            static_cast<LastSession*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)))->session.reset(next);
            return 1;
        });
    }
};

struct Kind {
    const char* name;
    int version;
    bool resumed;
};
constexpr Kind kKinds[] = {
    {"TLS 1.3 full", TLS1_3_VERSION, false}, {"TLS 1.3 PSK-DHE", TLS1_3_VERSION, true}, {"TLS 1.2 full", TLS1_2_VERSION, false}, {"TLS 1.2 ticket", TLS1_2_VERSION, true}};

void show(SSL_CTX* context, const test::Identity& identity) {
    const openssl::Owner<STACK_OF(X509), [](STACK_OF(X509)* stack) { sk_X509_free(stack); }> chain(sk_X509_new_null());
    for (const auto& certificate : identity.chain) sk_X509_push(chain.get(), certificate.get());
    SALLYPORT_CHECK(SSL_CTX_use_cert_and_key(context, identity.certificate.get(), identity.key.get(), chain.get(), 1) == 1);
}

/// One handshake of `side` as the server; its microseconds. Whether it was resumed is checked at the client.
template <typename Make>
double serve(SSL_CTX* clients, LastSession& last, bool resumed, Make make) {
    StopWatch watch;
    Peer client(clients, false, kName, resumed ? last.session.get() : nullptr);
    const bool expected = resumed && last.session;
    Octets to_server = client.feed({});
    std::unique_ptr<Side> side = watch([&] { return make(); });
    for (bool done = false; !done;) {
        Octets to_client;
        done = watch([&] { return side->feed(to_server, to_client); });
        if (client.done())
            client.read(to_client);   // the ticket
        else
            to_server = client.feed(to_client);
    }
    watch([&] { side.reset(); });
    SALLYPORT_CHECK(client.done() && (SSL_session_reused(client.ssl()) == 1) == expected);
    return watch.microseconds();
}

/// The same as the client. `resumed`: how often the server has resumed so far.
template <typename Make>
double connect(SSL_CTX* servers, bool& resumed, Make make) {
    StopWatch watch;
    Peer server(servers, true);
    std::unique_ptr<Side> side = watch([&] { return make(); });
    Octets to_server, to_client, tickets;
    watch([&] { static_cast<void>(side->feed({}, to_server)); });
    for (bool done = false; !done || !server.done();) {
        to_client = server.feed(to_server);
        to_server.clear();
        if (!done && !to_client.empty()) {
            done = watch([&] { return side->feed(to_client, to_server); });
        } else {
            SALLYPORT_CHECK(done && server.done());
            if (SSL_version(server.ssl()) == TLS1_3_VERSION && !to_client.empty()) watch([&] { side->after(to_client); });
        }
    }
    watch([&] { side.reset(); });
    resumed = SSL_session_reused(server.ssl()) == 1;
    return watch.microseconds();
}

class Bench {
 public:
    explicit Bench(int rounds) : rounds_(rounds) { ca_.write(directory_.path(), "ca"); }

    void server(const Kind& kind) {
        configuration::Service service;
        service.name = "bench";
        service.certificates = {test::loaded(leaf_)};
        service.versions = {version_of(kind)};
        service.session_tickets = 1;
        const auto answers = std::make_shared<revocation::OwnAnswers>();
        const auto ours = make_server_context({}, service,
                                              {.tickets = make_ticket_keys({}),
                                               .staple = [answers](const certificates::CertificateChain& chain) { return answers->staple(chain); },
                                               .revoked = [answers](const certificates::CertificateChain& chain) { return answers->revoked(chain); }});
        const openssl::Context bare(SSL_CTX_new_ex(nullptr, kOpenSslsOwn, TLS_server_method()));
        restrict(bare.get(), kind, true);
        SSL_CTX_set_session_cache_mode(bare.get(), SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(bare.get(), 1);
        show(bare.get(), leaf_);
        const test::PeerOptions clients{.version = kind.version, .suites12 = kSuite12, .suites13 = kSuite13, .groups = kGroups};
        const auto clients_of_ours = test::peer_context(clients), clients_of_bare = test::peer_context(clients);
        LastSession last_of_ours, last_of_bare;
        last_of_ours.watch(clients_of_ours.get());
        last_of_bare.watch(clients_of_bare.get());
        compare(
            kind, "server", [&] { return serve(clients_of_ours.get(), last_of_ours, kind.resumed, [&] { return std::make_unique<OurServer>(ours); }); },
            [&] { return serve(clients_of_bare.get(), last_of_bare, kind.resumed, [&] { return std::make_unique<Bare>(bare.get(), true, nullptr); }); });
    }

    void client(const Kind& kind) {
        configuration::Pool pool;
        pool.name = "bench";
        pool.tls.emplace();
        pool.tls->trust = {directory_.path() / "ca.pem"};
        pool.tls->server_name = kName;
        pool.tls->versions = {version_of(kind)};
        const auto ours = make_client_context({}, pool, {});
        const openssl::Context bare(SSL_CTX_new_ex(nullptr, kOpenSslsOwn, TLS_client_method()));
        restrict(bare.get(), kind, false);
        SSL_CTX_set_verify(bare.get(), SSL_VERIFY_PEER, nullptr);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(bare.get()), ca_.certificate.get());
        LastSession last;
        last.watch(bare.get());
        const auto servers = test::peer_context({.server = true, .version = kind.version, .suites12 = kSuite12, .suites13 = kSuite13, .groups = kGroups, .identity = &leaf_, .tickets = kind.resumed ? 1 : 0});
        if (!kind.resumed) SSL_CTX_set_options(servers.get(), SSL_OP_NO_TICKET);
        const auto one = [&](auto make) {
            bool resumed = false;
            const double spent = connect(servers.get(), resumed, make);
            resumed_ += resumed ? 1 : 0;
            return spent;
        };
        compare(
            kind, "client", [&] { return one([&] { return std::make_unique<OurClient>(ours); }); },
            [&] { return one([&] { return std::make_unique<Bare>(bare.get(), false, kind.resumed ? last.session.get() : nullptr); }); });
        // All but the first of each.
        SALLYPORT_CHECK(resumed_ == (kind.resumed ? 2 * (rounds_ + 1) * kHandshakes - 2 : 0));
        resumed_ = 0;
    }

 private:
    static configuration::TlsVersion version_of(const Kind& kind) {
        return kind.version == TLS1_3_VERSION ? configuration::TlsVersion::tls13 : configuration::TlsVersion::tls12;
    }
    static void restrict(SSL_CTX* context, const Kind& kind, bool server) {
        restrict_to_catalogue(context, kind.version == TLS1_2_VERSION, kind.version == TLS1_3_VERSION, server);
    }

    template <typename Ours, typename Theirs>
    void compare(const Kind& kind, const char* side, Ours ours, Theirs theirs) const {
        std::vector<double> of_ours, of_theirs;
        for (int round = 0; round <= rounds_; ++round)
            for (int i = 0; i < kHandshakes; ++i) {
                const bool first = i / kBlock % 2 == 0;
                for (const bool our_turn : {first, !first}) {
                    const double spent = our_turn ? ours() : theirs();
                    if (round > 0) (our_turn ? of_ours : of_theirs).push_back(spent);   // the first round warms up
                }
            }
        std::ranges::sort(of_ours);
        std::ranges::sort(of_theirs);
        const auto at = [](const std::vector<double>& sorted, std::size_t percent) { return sorted[sorted.size() * percent / 100]; };
        const double our_median = at(of_ours, 50), their_median = at(of_theirs, 50), our_least = at(of_ours, 10), their_least = at(of_theirs, 10);
        std::printf("%-7s %-16s %8.1f %8.1f   %8.1f %8.1f   %5.2f %5.2f\n", side, kind.name, our_median, our_least, their_median, their_least,
                    our_median / their_median, our_least / their_least);
        std::fflush(stdout);
    }

    int rounds_;
    int resumed_ = 0;
    const test::TemporaryDirectory directory_;
    const test::Identity ca_ = test::make_ca("Root"), lower_ = test::make_ca("Lower", &ca_), leaf_ = test::make_leaf({kName}, lower_);
};

}  // namespace
}  // namespace sallyport::handshake

int main(int argc, char** argv) {
    using namespace sallyport::handshake;
    sallyport::openssl::keep_freed_memory();
    load_key_provider();
    Bench bench(argc > 1 ? std::max(1, std::atoi(argv[1])) : 7);
    std::printf("side    handshake            ours     10%%     libssl     10%%   ratio  of the 10%%   (microseconds)\n");
    const std::string only = argc > 2 ? argv[2] : "";
    for (const char* side : {"server", "client"})
        for (const Kind& kind : kKinds) {
            if (!sallyport::format("{} {}", side, kind.name).contains(only)) continue;
            side == std::string_view("server") ? bench.server(kind) : bench.client(kind);
        }
    return 0;
}
